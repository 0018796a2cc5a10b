/**
 * One LLM for each arm, on the same requests with the same seeds (turns.ts says in which order). All requests of an iteration arrive at
 * once, so waiting for a place counts as time to first token.
 */

import { setMaxListeners } from "node:events";
import type { Environment, GenerateOptions, GenerateResult, KvLayout, MemoryBytes, MemoryReport, ModelSource } from "../../index.ts";
import type { SpeculationStats } from "../../models/draft.ts";
import type { PressReport } from "../../models/options.ts";
import { sequencesThatFit } from "../../techniques/paged_attention/index.ts";
import { entriesOf, type Arm, type ArmName, type Arms, type Model, type Skipped } from "./arms.ts";
import { together, type CacheUse } from "./meter.ts";
import type { ExperimentConfig } from "./schema.ts";
import { takeTurns, type Hooks, type WarmUp, type Yards } from "./turns.ts";

/** One request: its prompt, and how many tokens it asks for. */
export interface Job { readonly ids: readonly number[]; readonly newTokens: number }

/** The requests of an iteration. Iterations with the same `set` have the same requests; all prompts begin with the same `shared` tokens. */
export interface Work { readonly set: number; readonly jobs: readonly Job[]; readonly shared?: number }

export interface RequestSample {
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Prompt tokens that came out of the prefix cache. */
  readonly cachedTokens: number;
  /** Times it was pushed out of the cache and computed again. */
  readonly preemptions: number;
  /** Milliseconds since all requests of the iteration arrived. */
  readonly ttft: number;
  readonly latency: number;
  readonly tpot: number | null;
  readonly itl: readonly number[];
  /** What a press, and a draft, did to it; not there without one. */
  readonly press?: PressReport;
  readonly speculation?: SpeculationStats | null;
}

export interface Iteration { readonly wallMs: number; readonly preemptions: number; readonly requests: readonly RequestSample[] }

export interface ArmResult {
  readonly name: ArmName;
  readonly layout: KvLayout;
  /** Requests in a static batch; null batched continuously. */
  readonly batch: number | null;
  /** Most sequences that were allowed in one step. */
  readonly limit: number;
  readonly iterations: readonly Iteration[];
  readonly memory: MemoryReport;
  readonly cache: CacheUse;
  /** Bytes of one token of one KV head of one layer, keys and values together. */
  readonly entryBytes: number;
  readonly poolBytes: number;
  /** Sequences like those of this run, at their full lengths, that the budget holds at a time. */
  readonly fits: number;
  /** Tokens of the text that all prompts begin with, in whole blocks; 0 without one. */
  readonly sharedTokens: number;
  readonly loadTimings: Model["loadTimings"];
}

export interface Outcome {
  readonly status: "complete" | "interrupted";
  readonly arms: readonly ArmResult[];
  readonly skipped: readonly Skipped[];
  /** Bytes of keys and values that every arm might use. */
  readonly budget: number;
  /** Order in which the arms ran in each iteration. */
  readonly order: readonly (readonly ArmName[])[];
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  /** Whether the arms that must write the same did; null unless each of them ran. */
  readonly identical: Identical | null;
  readonly warmUp: WarmUp | null;
  readonly yardstick: Yards;
}

/** Of several ledgers at their highest, the highest of each category. */
export function highest(peaks: readonly [MemoryBytes, ...MemoryBytes[]]): MemoryBytes {
  return peaks.reduce((before, now) => {
    const most = (key: keyof MemoryBytes): number => Math.max(before[key], now[key]);
    return { weights: most("weights"), kv: most("kv"), activations: most("activations"), logits: most("logits"), staging: most("staging"), total: most("total") };
  });
}

export interface Identical {
  /** Prompts, of all, whose new tokens were the same in every run of every arm. */
  readonly same: number;
  readonly of: number;
  /** Counted from 0; null when there is none. */
  readonly firstDifference: { readonly prompt: number; readonly token: number } | null;
  /** Greedy texts must not depend on where the cache lives: a difference makes the run invalid. */
  readonly required: boolean;
}

/** What one arm did in one iteration. */
export interface Sample { readonly iteration: Iteration; readonly tokens: readonly (readonly number[])[]; readonly cache: CacheUse; readonly peak: MemoryBytes }

/** Warm-up iterations have negative numbers. `label` goes before every step's own. `alike`: the arms that must write the same; without it all. */
export async function measure(
  { loaded, skipped, budget }: Arms, workOf: (iteration: number) => Work, config: ExperimentConfig, hooks: Hooks, label = "",
  alike: readonly ArmName[] = loaded.map(({ name }) => name),
): Promise<Outcome> {
  for (const { meter } of loaded) meter.take();
  const { status, samples, order, warmUp, yardstick } = await takeTurns<Arm, Sample>({
    arms: loaded, nameOf: ({ name }) => name, label, msOf: ({ iteration: { wallMs } }) => wallMs,
    once: (arm, i) => runOnce(arm, workOf(i).jobs, config, hooks.signal, i >= 0),
  }, config, hooks);
  const { llm } = loaded[0]!, first = workOf(0);
  const texts = alike.flatMap((arm) => (samples.get(arm) ?? []).flatMap(({ tokens }, i) =>
    tokens.map((ids, prompt): Text => ({ arm, set: workOf(i).set, prompt, ids }))));
  return {
    status, order: order as readonly (readonly ArmName[])[], skipped, budget, source: llm.source, environment: llm.environment, maxModelLen: llm.maxModelLen, warmUp, yardstick,
    identical: compareTexts(texts, alike, config.temperature === 0),
    arms: loaded.map((arm) => resultOf(arm, samples.get(arm.name)!, first, budget)),
  };
}

function resultOf(arm: Arm, samples: readonly Sample[], { jobs, shared = 0 }: Work, budget: number): ArmResult {
  const { name, layout, batch, limit, llm, entryBytes, poolBytes } = arm;
  const lengths = jobs.map(({ ids, newTokens }) => ids.length + newTokens);
  return {
    name, layout, batch, limit, entryBytes, poolBytes, iterations: samples.map(({ iteration }) => iteration), cache: together(samples.map(({ cache }) => cache)),
    memory: { ...llm.memory(), peak: highest([llm.memory().peak, ...samples.map(({ peak }) => peak)]) },
    fits: sequencesThatFit(layout, lengths, llm.maxModelLen, entriesOf(llm, budget, entryBytes)),
    sharedTokens: layout.name === "paged" ? shared - shared % layout.blockSize : 0, loadTimings: llm.loadTimings,
  };
}

interface Text { readonly arm: ArmName; readonly set: number; readonly prompt: number; readonly ids: readonly number[] }

/** Every text of a prompt against the first; prompts count through the sets of requests, in the order they came. */
function compareTexts(texts: readonly Text[], arms: readonly ArmName[], required: boolean): Identical | null {
  if (arms.length < 2 || arms.some((name) => !texts.some(({ arm }) => arm === name))) return null;
  const prompts = Map.groupBy(texts, ({ set, prompt }) => `${set} ${prompt}`);
  const parted = [...prompts.values()].map(([first, ...others], prompt) => {
    const other = others.find(({ ids }) => ids.length !== first!.ids.length || ids.some((id, k) => id !== first!.ids[k]));
    if (other === undefined) return null;
    const token = first!.ids.findIndex((id, k) => id !== other.ids[k]);
    return { prompt, token: token < 0 ? first!.ids.length : token };
  });
  const differences = parted.filter((difference) => difference !== null);
  return { same: parted.length - differences.length, of: parted.length, firstDifference: differences[0] ?? null, required };
}

/** All jobs through one arm. `request`: what its requests ask for beside what the config says of all. */
export async function runOnce(
  { llm, batch, meter }: Pick<Arm, "llm" | "batch" | "meter">, jobs: readonly Job[], config: ExperimentConfig, signal: AbortSignal, measured: boolean,
  request: Partial<GenerateOptions> = {},
): Promise<Sample> {
  const requests: RequestSample[] = [];
  const tokens: (readonly number[])[] = [];
  const step = batch ?? jobs.length;
  let preemptions = 0;
  if (measured) meter.start();
  const started = performance.now();
  try {
    for (let first = 0; first < jobs.length; first += step) {
      const waited = performance.now() - started;
      // Prompt i is always sampled with seed + i, whatever batch it is in.
      const results = await submit(llm, jobs.slice(first, first + step), config, (config.seed + first) >>> 0, signal, request);
      for (const { ids, promptTokens, timings, stats } of results) {
        requests.push({
          promptTokens, newTokens: ids.length, cachedTokens: stats.cachedTokens, preemptions: stats.preemptions,
          ttft: waited + timings.ttft, latency: waited + timings.total, tpot: timings.tpot, itl: timings.itl,
          ...(stats.press !== undefined && { press: stats.press }), ...(stats.speculation !== undefined && { speculation: stats.speculation }),
        });
        tokens.push(ids);
      }
    }
  } finally {
    if (measured) preemptions = meter.stop();
  }
  return { iteration: { wallMs: performance.now() - started, preemptions, requests }, tokens, cache: meter.take(), peak: llm.memory().peak };
}

/** All jobs at once. Equal lengths are one batch; different ones are requests of their own, which one scheduler runs together all the same. */
async function submit(
  llm: Model, jobs: readonly Job[], config: ExperimentConfig, seed: number, signal: AbortSignal, request: Partial<GenerateOptions>,
): Promise<GenerateResult[]> {
  const { temperature, top_p, ignore_eos } = config;
  const options: GenerateOptions = { temperature, topP: top_p, ignoreEos: ignore_eos, ...request };
  const [{ newTokens }] = jobs as readonly [Job, ...Job[]];
  if (jobs.every((job) => job.newTokens === newTokens)) {
    return llm.generateBatch(jobs.map(({ ids }) => ids), { ...options, maxNewTokens: newTokens, seed, signal });
  }
  const fail = new AbortController();
  const both = AbortSignal.any([signal, fail.signal]);
  setMaxListeners(jobs.length + 1, both);
  const failures: unknown[] = [];
  const settled = await Promise.all(jobs.map(({ ids, newTokens: maxNewTokens }, i) =>
    llm.generate(ids, { ...options, maxNewTokens, seed: (seed + i) >>> 0, signal: both }).catch((error: unknown) => {
      failures.push(error);
      fail.abort(); // the others would run on for nothing
      return null;
    })));
  if (failures.length > 0) throw failures[0];
  return settled.map((result) => result!);
}
