/**
 * The measuring of presses: arms take turns (turns.ts) on the same prompts with the same seeds, in the same LLM. KnormPress runs its samples one at a time, since only so is a time to first token that of a prompt and not that
 * of a queue; KVPress sends all at once and lets memory decide how many run together.
 */

import { AbortedError } from "../../../engine/errors.ts";
import type { GenerateResult, MemoryBytes } from "../../../index.ts";
import type { PressReport } from "../../../models/options.ts";
import type { Model } from "../arms.ts";
import { NO_JOURNAL } from "../journal.ts";
import { highest, type Iteration, type RequestSample } from "../measure.ts";
import type { CacheMeter, CacheUse } from "../meter.ts";
import type { ExperimentConfig } from "../schema.ts";
import type { PressArm } from "./arms.ts";
import { takeTurns, type Hooks, type WarmUp, type Yards } from "../turns.ts";

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
  readonly warmUp: WarmUp;
  readonly yardstick: Yards;
}

interface Sample {
  readonly iteration: PressIteration;
  readonly texts: readonly (readonly number[])[];
  readonly peak: MemoryBytes;
  readonly held: readonly Point[];
}

export interface Place { readonly llm: Model; readonly meter: CacheMeter }

/** `together`: all prompts at once. */
export async function measurePresses(
  { llm, meter }: Place, arms: readonly PressArm[], prompts: readonly (readonly number[])[], config: ExperimentConfig, together: boolean,
  hooks: Hooks,
): Promise<Measured> {
  const { signal, journal = NO_JOURNAL } = hooks, names = arms.map(({ name }) => name);
  meter.take();
  const taken = await takeTurns<PressArm, Sample>({
    arms, nameOf: ({ name }) => name, msOf: ({ iteration: { wallMs } }) => wallMs,
    once: async (arm) => {
      let held: readonly Point[] = [], preemptions = 0, results: GenerateResult[];
      llm.resetPeak();
      meter.start();
      const started = performance.now();
      try {
        if (together) results = await llm.generateBatch(prompts, optionsOf(arm, config, 0, signal));
        else results = await oneByOne(llm, prompts, arm, config, signal, (points) => { held = points; });
      } finally {
        preemptions = meter.stop();
      }
      const wallMs = performance.now() - started, cache = meter.take();
      const iteration = { wallMs, preemptions, requests: results.map(requestOf), running: cache.peakRunning, cache };
      return { iteration, texts: results.map(({ ids }) => ids), peak: llm.memory().peak, held };
    },
  }, config, hooks);
  const firstPressMs = new Map<string, number>();
  let { status } = taken;
  try {
    for (const arm of together || status === "interrupted" ? [] : arms) {
      const ms = await journal.step(`press before the first token, ${arm.name}`, async () =>
        (await llm.generate(prompts[0]!, optionsOf(arm, { ...config, max_tokens: 1 }, 0, signal))).stats.press?.ms ?? null);
      if (ms !== null) firstPressMs.set(arm.name, ms);
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    status = "interrupted";
  }
  const of = <T>(value: (samples: readonly [Sample, ...Sample[]]) => T): Map<string, T> => new Map(names.flatMap((name) => {
    const [first, ...others] = taken.samples.get(name)!;
    return first === undefined ? [] : [[name, value([first, ...others])]];
  }));
  const each = <T>(value: (sample: Sample) => T): Map<string, T[]> => new Map(names.map((name) => [name, taken.samples.get(name)!.map(value)]));
  return {
    status, firstPressMs, order: taken.order, warmUp: taken.warmUp, yardstick: taken.yardstick,
    iterations: each(({ iteration }) => iteration), texts: each(({ texts }) => texts), held: of((samples) => samples.at(-1)!.held),
    peak: of((samples) => highest(samples.map(({ peak }) => peak) as [MemoryBytes, ...MemoryBytes[]])),
  };
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
