/**
 * Stands in for an LLM that runs presses, in tests of the benchmark: the stand-in of fake_llm.ts for one request, with a report of what a press
 * would have done, and for a batch a server that runs as many sequences at a time as fit once their presses have given entries back. Quality gets worse
 * with the share that is evicted, by as much as the press's name says.
 */

import type { CacheStats, GenerateOptions, GenerateResult } from "../../index.ts";
import type { PressReport } from "../../models/options.ts";
import type { TraceEvent } from "../../engine/trace.ts";
import type { Load, Model } from "../../bench/core/arms.ts";
import { AbortedError } from "../../engine/errors.ts";
import { ENTRY_BYTES, fakeLoad, PREFILL_MS, DECODE_MS, type FakeOptions } from "./fake_llm.ts";

export interface FakePressOptions extends FakeOptions {
  /** No press ever evicts anything, though it says it acts. */
  readonly idle?: boolean;
  /** Only while a text is scored. */
  readonly idleWhenScored?: boolean;
  /** Factors of times, by share kept; of no press 1. */
  readonly slower?: (keep: number) => number;
  /** Changes the tokens of one arm. */
  readonly spoilAt?: number;
}

/** ΔNLL at a share of 1 evicted. */
const LOSS: Readonly<Record<string, number>> = { knorm: 0.4, knorm_steps: 0.2, random: 0.3, snapkv: 0.05, streaming_llm: 0.02 };

interface Named { readonly name: string; readonly ratio?: number; readonly keepRatio?: number; readonly pruneAfter?: number; readonly skipLayers?: readonly number[] }

function namedOf({ press, keepRatio, pruneAfter = 512, skipLayers = [] }: Pick<GenerateOptions, "press" | "keepRatio" | "pruneAfter" | "skipLayers">): Named | null {
  if (keepRatio !== undefined) return { name: "knorm_steps", keepRatio, pruneAfter, skipLayers };
  return press === undefined ? null : press as Named | null;
}

/** What becomes of one layer while `total` tokens are read, `prompt` of them first. */
function act(press: Named, prompt: number, total: number, idle: boolean): PressReport {
  let length = prompt, evicted = 0, events = 0, kept = 0, seen = 0;
  for (let at = prompt; at <= total; at++, length++) {
    const keep = press.keepRatio === undefined ? (at === prompt ? Math.floor(length * (1 - press.ratio!) + 1e-9) : null) : length >= press.pruneAfter! ? Math.ceil(length * press.keepRatio - 1e-9) : null;
    if (keep === null) continue;
    events++;
    if (!idle) {
      evicted += length - keep;
      length = keep;
    }
    [kept, seen] = [length, at];
  }
  return { name: press.name, events, evicted, kept: events === 0 ? [] : [[kept]], seen, freedBytes: evicted * ENTRY_BYTES, ms: events / 4 };
}

export function fakePressLoad(fake: FakePressOptions = {}): Load {
  const load = fakeLoad(fake);
  return async (name, options) => {
    const model = await load(name, options), own = new Set<(event: TraceEvent) => void>();
    const entries = Math.floor((options.kvMemory ?? 4096 * ENTRY_BYTES) / ENTRY_BYTES);
    const keepOf = (press: Named | null): number => (press === null ? 1 : press.keepRatio ?? 1 - press.ratio!);
    const pressed = (result: GenerateResult, press: Named | null, prompt: number): GenerateResult => {
      const factor = fake.slower?.(press === null ? 2 : keepOf(press)) ?? 1, { ttft, total, tpot, itl } = result.timings;
      const ids = press !== null && keepOf(press) === fake.spoilAt ? result.ids.map((id) => id + 1) : result.ids;
      const report = press === null ? {} : { press: act(press, prompt, prompt + ids.length - 1, fake.idle === true) };
      return { ...result, ids, timings: { ttft: ttft * factor, total: total * factor, tpot: tpot === null ? null : tpot * factor, itl: itl.map((gap) => gap * factor) }, stats: { ...result.stats, ...report } };
    };
    const generate = async (prompt: readonly number[], { press, keepRatio, pruneAfter, skipLayers, ...rest }: GenerateOptions): Promise<GenerateResult> => {
      const named = namedOf({ ...(press !== undefined && { press }), ...(keepRatio !== undefined && { keepRatio }), ...(pruneAfter !== undefined && { pruneAfter }), ...(skipLayers !== undefined && { skipLayers }) });
      return pressed(await model.generate(prompt, rest), named, prompt.length);
    };
    const generateBatch = async (prompts: readonly (readonly number[])[], batch: GenerateOptions): Promise<GenerateResult[]> => {
      await Promise.resolve();
      if (batch.signal?.aborted === true) throw new AbortedError();
      const press = namedOf(batch), count = batch.maxNewTokens ?? 1;
      const room = prompts.reduce((most, { length }) => Math.max(most, Math.ceil(length * (fake.idle === true ? 1 : keepOf(press)))), 0) + count;
      const running = Math.max(1, Math.min(prompts.length, Math.floor(entries / room)));
      for (const type of ["prefill", "decode"] as const) {
        const sequences = Array.from({ length: running }, (_, i) => i);
        for (const listener of own) listener(type === "prefill" ? { type, sequences, rows: running } : { type, sequences });
      }
      const { press: _press, ...rest } = batch;
      return Promise.all(prompts.map(async (prompt, i) => {
        const result = await model.generate(prompt, { ...rest, seed: ((batch.seed ?? 0) + i) >>> 0 }), start = Math.floor(i / running) * (PREFILL_MS + DECODE_MS * (count - 1));
        const timings = { ttft: start + PREFILL_MS, total: start + PREFILL_MS + DECODE_MS * (count - 1), tpot: count > 1 ? DECODE_MS : null, itl: Array.from({ length: count - 1 }, () => DECODE_MS) };
        return pressed({ ...result, timings }, press, prompt.length);
      }));
    };
    const divergence: Model["divergence"] = async (_base, ids, { protocol = "decode", context = 1, continuation, press, signal }) => {
      await Promise.resolve();
      if (signal?.aborted === true) throw new AbortedError();
      const named = press as Named, length = context + (continuation ?? 0), windows = Math.floor(ids.length / length), scored = continuation ?? context - 1, tokens = windows * scored;
      const report = act(named, protocol === "decode" ? 1 : context, length - 1, fake.idle === true || fake.idleWhenScored === true);
      const share = report.evicted === 0 ? 0 : 1 - keepOf(named), each = (of: (i: number) => number): Float32Array => Float32Array.from({ length: tokens }, (_, i) => of(i));
      const base = each((i) => 4 + Math.sin(i)), loss = (LOSS[named.name] ?? 0.1) * share;
      return {
        protocol, context, stride: length, tokens, windows, tokensPerWindow: Array.from({ length: windows }, () => scored), press: report, kept: report.kept,
        baseNlls: base, nlls: each((i) => base[i]! + loss * (1 + 0.5 * Math.cos(3 * i))), klds: each(() => loss), sameTop: Uint8Array.from({ length: tokens }, (_, i) => Number(share === 0 || i % 10 > 0)),
        hits: new Uint8Array(tokens), baseHits: new Uint8Array(tokens),
      };
    };
    const on = (listener: (event: TraceEvent) => void): (() => void) => {
      const off = model.trace.on(listener);
      own.add(listener);
      return () => { off(); own.delete(listener); };
    };
    // Of the base alone: its averages are over its own passes, not over those that are told here.
    const cacheStats = (): CacheStats => ({ ...model.cacheStats(), meanLiveTokens: 0, meanReservedTokens: 0, blocksUsed: 8 });
    return { ...model, generate, generateBatch, divergence, trace: { on }, cacheStats };
  };
}
