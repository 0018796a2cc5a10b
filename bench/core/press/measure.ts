/**
 * The measuring of presses: arms take turns in seeded random order within each iteration, after warm-up, on the same prompts with the same
 * seeds, in the same LLM. KnormPress runs its samples one at a time, since only so is a time to first token that of a prompt and not that
 * of a queue; KVPress sends all at once and lets memory decide how many run together.
 */

import { AbortedError } from "../../../engine/errors.ts";
import type { GenerateResult, MemoryBytes } from "../../../index.ts";
import type { PressReport } from "../../../models/options.ts";
import type { Model } from "../arms.ts";
import type { Hooks, Iteration, RequestSample } from "../measure.ts";
import type { CacheMeter, CacheUse } from "../meter.ts";
import type { ExperimentConfig } from "../schema.ts";
import { seeded, shuffled } from "../stats.ts";
import type { PressArm } from "./arms.ts";

export interface PressRequest extends RequestSample { readonly report: PressReport | null }

export interface PressIteration extends Iteration {
  readonly requests: readonly PressRequest[];
  /** The most sequences in one step. */
  readonly running: number;
  readonly cache: CacheUse;
}

export interface Point {
  /** Tokens of the sequence that were read. */
  readonly tokens: number;
  /** Tokens that its blocks had room for, on average over layers and KV heads. */
  readonly held: number;
}

export interface Measured {
  readonly status: "complete" | "interrupted";
  readonly iterations: ReadonlyMap<string, readonly PressIteration[]>;
  /** The highest of any iteration, by the ledger. */
  readonly peak: ReadonlyMap<string, MemoryBytes>;
  /** What the first sample held while it ran alone, in the last iteration; only of samples that run one at a time. */
  readonly held: ReadonlyMap<string, readonly Point[]>;
  /** Milliseconds of press within the time to first token: those of a request for one token. Of samples that run one at a time. */
  readonly firstPressMs: ReadonlyMap<string, number>;
  readonly order: readonly (readonly string[])[];
  /** Texts of each arm, iteration by iteration and prompt by prompt. */
  readonly texts: ReadonlyMap<string, readonly (readonly (readonly number[])[])[]>;
}

export interface Place { readonly llm: Model; readonly meter: CacheMeter }

/** `together`: all prompts at once. Steps of progress go on from `before`. */
export async function measurePresses(
  { llm, meter }: Place, arms: readonly PressArm[], prompts: readonly (readonly number[])[], config: ExperimentConfig, together: boolean,
  { signal, onStep }: Hooks,
): Promise<Measured> {
  const { warmup_iterations: warmups, test_iterations: tests, seed } = config;
  const random = seeded(seed), order: string[][] = [];
  const iterations = new Map<string, PressIteration[]>(arms.map(({ name }) => [name, []]));
  const texts = new Map<string, (readonly (readonly number[])[])[]>(arms.map(({ name }) => [name, []]));
  const peak = new Map<string, MemoryBytes>(), held = new Map<string, readonly Point[]>(), firstPressMs = new Map<string, number>();
  const total = (warmups + tests) * arms.length;
  let done = 0, status: Measured["status"] = "complete";
  meter.take();
  try {
    for (let i = -warmups; i < tests; i++) {
      const turn = shuffled(arms, random);
      if (i >= 0) order.push(turn.map(({ name }) => name));
      for (const arm of turn) {
        onStep(`${i < 0 ? "warm-up" : `iteration ${i + 1} of ${tests}`}, ${arm.name}`, done++, total);
        llm.resetPeak();
        meter.start();
        const started = performance.now();
        let preemptions = 0, results: GenerateResult[];
        try {
          if (together) results = await llm.generateBatch(prompts, optionsOf(arm, config, 0, signal));
          else results = await oneByOne(llm, prompts, arm, config, signal, (points) => { held.set(arm.name, points); });
        } finally {
          preemptions = meter.stop();
        }
        const wallMs = performance.now() - started, cache = meter.take();
        if (i < 0) continue;
        iterations.get(arm.name)!.push({ wallMs, preemptions, requests: results.map(requestOf), running: cache.peakRunning, cache });
        texts.get(arm.name)!.push(results.map(({ ids }) => ids));
        peak.set(arm.name, highest(peak.get(arm.name), llm.memory().peak));
      }
    }
    for (const arm of together ? [] : arms) {
      const { stats: { press } } = await llm.generate(prompts[0]!, optionsOf(arm, { ...config, max_tokens: 1 }, 0, signal));
      if (press !== undefined) firstPressMs.set(arm.name, press.ms);
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    status = "interrupted";
  }
  onStep("done", total, total);
  return { status, iterations, peak, held, firstPressMs, order, texts };
}

/** Prompt `at` is always sampled with seed + at, as it is in a batch. */
function optionsOf({ options }: PressArm, { max_tokens: maxNewTokens, temperature, top_p: topP, seed }: ExperimentConfig, at: number,
  signal: AbortSignal) {
  return { maxNewTokens, temperature, topP, ignoreEos: true, seed: (seed + at) >>> 0, signal, ...options };
}

async function oneByOne(
  llm: Model, prompts: readonly (readonly number[])[], arm: PressArm, config: ExperimentConfig, signal: AbortSignal,
  onHeld: (points: readonly Point[]) => void,
): Promise<GenerateResult[]> {
  const results: GenerateResult[] = [];
  for (const [at, ids] of prompts.entries()) {
    const points = at === 0 ? watch(llm) : null;
    try {
      results.push(await llm.generate(ids, optionsOf(arm, config, at, signal)));
    } finally {
      points?.stop();
    }
    if (points !== null) onHeld(points.seen);
  }
  return results;
}

/** Before every pass: what the cache holds of the only sequence that runs. */
function watch(llm: Model): { readonly seen: readonly Point[]; stop: () => void } {
  const seen: Point[] = [], { layers, kvHeads } = llm.config;
  let tokens = 0;
  const stop = llm.trace.on((event) => {
    if (event.type !== "prefill" && event.type !== "decode") return;
    const { blocksUsed, blockSize } = llm.cacheStats();
    tokens += event.type === "prefill" ? event.rows : 1;
    seen.push({ tokens, held: blocksUsed * blockSize / (layers * kvHeads) });
  });
  return { seen, stop };
}

function requestOf({ ids, promptTokens, timings: { ttft, total, tpot, itl }, stats }: GenerateResult): PressRequest {
  const { cachedTokens, preemptions, press } = stats;
  return { promptTokens, newTokens: ids.length, cachedTokens, preemptions, ttft, latency: total, tpot, itl, report: press ?? null };
}

function highest(before: MemoryBytes | undefined, now: MemoryBytes): MemoryBytes {
  if (before === undefined) return now;
  const most = (key: keyof MemoryBytes): number => Math.max(before[key], now[key]);
  return { weights: most("weights"), kv: most("kv"), activations: most("activations"), logits: most("logits"), staging: most("staging"),
    total: most("total") };
}
