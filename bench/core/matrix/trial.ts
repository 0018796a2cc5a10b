/**
 * One cell tried on a loaded LLM: a batch of two prompts continued greedily, the same with a press that evicts nothing, a text whose tokens
 * are predicted, and what of all that shows that the techniques were at work. Nothing is judged here (judge.ts does), only measured.
 */

import { DawnlmError } from "../../../engine/errors.ts";
import type { TraceEvent } from "../../../engine/trace.ts";
import type { GenerateOptions, GenerateResult } from "../../../index.ts";
import { kvBlockWords, kvEncodings } from "../../../kernels/kv_formats.ts";
import type { Press } from "../../../models/press.ts";
import type { Model } from "../arms.ts";
import { partsAt } from "../speculation/divergence.ts";
import { kvOf, pressesOf, seesEveryQuery, SIZES, type Cell } from "./axes.ts";
import { keyOf, sameTextAs, type Identity } from "./cells.ts";

/** What the matrix needs of an LLM; tests give a stand-in. */
export type Tried = Pick<
  Model, "config" | "tokenizer" | "environment" | "trace" | "memory" | "cacheStats" | "weightFormats" | "generate" | "generateBatch" | "perplexity"
  | "close"
>;

/** Where a text parts from the one it must repeat. `gap`: how far apart the two tokens' logits were there; null: not among the first 20. */
export interface Parting { readonly why: Identity | "idle press"; readonly prompt: number; readonly token: number; readonly gap: number | null }

/** What shows that the values of a cell were at work. Lists have one element for each prompt. */
export interface Facts {
  /** Matrices held in the format that was asked for, as a share of all their weights. */
  readonly held: number;
  /**
   * Bytes of all KV buffers by the ledger, and what the cache's blocks take in the cell's format; null where a draft has a cache too, or a
   * press has notes beside it.
   */
  readonly kvBytes: readonly [ledger: number, blocks: number] | null;
  readonly blockSize: number;
  /** The most tokens that were reserved at a time, by all sequences in one KV head of one layer. */
  readonly reserved: number;
  /** By the press, and by the same press when it shall evict nothing; null without one. */
  readonly evicted: readonly number[] | null;
  readonly kept: readonly number[] | null;
  readonly idleEvicted: readonly number[] | null;
  /** Null without a draft. */
  readonly drafted: readonly number[] | null;
  readonly accepted: readonly number[] | null;
  /** Prompt tokens out of the prefix cache. */
  readonly cached: readonly number[];
  /** The press must see every query, so `cached` is that of requests without it. */
  readonly cachedWithoutPress: boolean;
}

export type Outcome =
  | {
    readonly state: "ran";
    readonly ids: readonly (readonly number[])[];
    /** Nats per token; null where a draft is loaded, which predicts no text. */
    readonly nll: number | null;
    readonly facts: Facts;
    /** Texts compared, and those that parted. */
    readonly compared: number;
    readonly partings: readonly Parting[];
  }
  /** `steps`: forward passes before the refusal. */
  | { readonly state: "refused"; readonly at: "load" | "request"; readonly type: string; readonly reason: string; readonly steps: number }
  | { readonly state: "failed"; readonly reason: string };

/** Outcomes by keyOf. */
export type Outcomes = ReadonlyMap<string, Outcome>;

/** Texts that every cell reads. */
export interface Texts { readonly prompts: readonly (readonly number[])[]; readonly scored: readonly number[] }

/** No cell takes as long as this, cold shader cache and all. */
export const LONGEST_MS = 300_000;
/** What an LLM may take to stop when it is told to. */
const GRACE_MS = 5000;
const MOST_TOP = 20;

/** Exit code 2: whatever a user asked for that cannot be, ContextLengthError among it. Other errors are not refusals. */
export function refusalOf(error: unknown, at: "load" | "request", steps: number, press: Press | null): Outcome | null {
  if (!(error instanceof DawnlmError) || error.exitCode !== 2) return null;
  // With its parameters a press would make the same reason another one.
  const reason = press === null ? error.message : error.message.replaceAll(` ${press.name}`, "");
  return { state: "refused", at, type: error.name, reason, steps };
}

export function failureOf(error: unknown): Outcome {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return { state: "failed", reason: `${name}: ${message}` };
}

/** Try one cell on an LLM that was loaded for it. An abort of `signal` is thrown on; everything else is an outcome. */
export async function tryCell(llm: Tried, cell: Cell, texts: Texts, outcomes: Outcomes, signal: AbortSignal, longestMs = LONGEST_MS): Promise<Outcome> {
  let steps = 0, acting: Press | null = null;
  const off = llm.trace.on(({ type }: TraceEvent) => { if (type === "prefill" || type === "decode" || type === "speculated") steps++; });
  const late = Promise.withResolvers<never>(), limit = new AbortController(), tooLate = new Error(`no end after ${longestMs / 1000} s`);
  late.promise.catch(() => {}); // nobody may be waiting any more
  const timers = [
    setTimeout(() => { limit.abort(); }, longestMs),
    setTimeout(() => { late.reject(tooLate); }, longestMs + Math.min(GRACE_MS, longestMs)),
  ];
  try {
    const presses = pressesOf(cell.press);
    acting = presses?.acting ?? null;
    return await Promise.race([measure(llm, cell, presses, texts, outcomes, AbortSignal.any([signal, limit.signal])), late.promise]);
  } catch (error) {
    signal.throwIfAborted();
    if (limit.signal.aborted) return failureOf(tooLate);
    return refusalOf(error, "request", steps, acting) ?? failureOf(error);
  } finally {
    for (const timer of timers) clearTimeout(timer);
    off();
  }
}

async function measure(
  llm: Tried, cell: Cell, presses: ReturnType<typeof pressesOf>, { prompts, scored }: Texts, outcomes: Outcomes, signal: AbortSignal,
): Promise<Outcome> {
  const options = (press: Press | null): GenerateOptions => ({ maxNewTokens: SIZES.newTokens, ignoreEos: true, press, signal });
  const run = (press: Press | null): Promise<GenerateResult[]> => llm.generateBatch(prompts, options(press));
  const acting = presses?.acting ?? null, hasPrefix = cell.layout === "paged-prefix";
  let results = await run(acting);
  if (hasPrefix) results = await run(acting); // behind what the first has left
  const hidden = hasPrefix && acting !== null && seesEveryQuery(acting);
  const cachedIn = hidden ? (await run(null), await run(null)) : results;
  const idle = presses === null ? null : await run(presses.idle);
  const nll = cell.draft === "none" ? await nllOf(llm, scored, acting, signal) : null;

  const ids = results.map((result) => result.ids);
  const others = [
    ...sameTextAs(cell).map(({ why, cells }) => ({ why, own: ids, theirs: textOf(cells, outcomes), press: acting })),
    ...(idle === null ? [] : [{
      why: "idle press" as const, own: idle.map((result) => result.ids), theirs: textOf([{ ...cell, press: "none" }], outcomes), press: null,
    }]),
  ];
  const partings: Parting[] = [];
  let compared = 0;
  for (const { why, own, theirs, press } of others) {
    if (theirs === null) continue;
    compared += own.length;
    for (const [prompt, text] of own.entries()) {
      const token = partsAt(text, theirs[prompt]!);
      if (token === null) continue;
      const gap = await gapAt(llm, prompts[prompt]!, token, [text[token], theirs[prompt]![token]], options(press));
      partings.push({ why, prompt, token, gap });
    }
  }
  return { state: "ran", ids, nll, facts: factsOf(llm, cell, { results, idle, cachedIn, hidden }), compared, partings };
}

function textOf(cells: readonly Cell[], outcomes: Outcomes): readonly (readonly number[])[] | null {
  for (const cell of cells) {
    const outcome = outcomes.get(keyOf(cell));
    if (outcome?.state === "ran") return outcome.ids;
  }
  return null;
}

async function nllOf(llm: Tried, ids: readonly number[], press: Press | null, signal: AbortSignal): Promise<number> {
  const { context, continuation, windows } = SIZES;
  const { meanNll } = await llm.perplexity(ids, { protocol: "prefill-continue", context, continuation, maxWindows: windows, press, signal });
  return meanNll;
}

/** How far apart plain decoding finds two tokens behind what both texts have in common. */
async function gapAt(
  llm: Tried, prompt: readonly number[], token: number, rivals: readonly (number | undefined)[], options: GenerateOptions,
): Promise<number | null> {
  const { logprobs } = await llm.generate(prompt, { ...options, maxNewTokens: token + 1, logprobs: MOST_TOP, draft: null });
  const [one, other] = rivals.map((id) => logprobs?.[token]?.top.find((each) => each.id === id)?.logprob);
  return one === undefined || other === undefined ? null : Math.abs(one - other);
}

interface Results {
  readonly results: readonly GenerateResult[];
  readonly idle: readonly GenerateResult[] | null;
  /** Requests in which the prefix cache is looked for, and whether they go without the press that hides it. */
  readonly cachedIn: readonly GenerateResult[];
  readonly hidden: boolean;
}

function factsOf(llm: Tried, { weights, kv, press, draft }: Cell, { results, idle, cachedIn, hidden }: Results): Facts {
  const all = llm.weightFormats(), sum = (formats: typeof all): number => formats.reduce((count, one) => count + one.weights, 0);
  const { blockSize, blocksTotal, peakBlocksUsed } = llm.cacheStats(), { k, v } = kvEncodings(kvOf(kv), llm.config.headDim);
  const each = (value: (result: GenerateResult) => number): number[] => results.map(value);
  return {
    held: sum(all.filter(({ format }) => format === weights)) / sum(all),
    kvBytes: draft === "none" && press === "none" ? [llm.memory().kv, blocksTotal * 4 * (kvBlockWords(k, blockSize) + kvBlockWords(v, blockSize))] : null,
    blockSize, reserved: peakBlocksUsed * blockSize / (llm.config.layers * llm.config.kvHeads),
    evicted: press === "none" ? null : each(({ stats }) => stats.press?.evicted ?? 0),
    kept: press === "none" ? null : each(({ stats }) => stats.press?.kept.flat().reduce((a, b) => a + b, 0) ?? 0),
    idleEvicted: idle === null ? null : idle.map(({ stats }) => stats.press?.evicted ?? 0),
    drafted: draft === "none" ? null : each(({ stats }) => stats.speculation?.drafted ?? 0),
    accepted: draft === "none" ? null : each(({ stats }) => stats.speculation?.accepted ?? 0),
    cached: cachedIn.map(({ stats }) => stats.cachedTokens), cachedWithoutPress: hidden,
  };
}
