/**
 * The measuring of speculation: every arm of every loaded LLM takes its turn (turns.ts) on the same prompts with the same seeds. Prompts run one at a time, as the measured costs do, and every text has the same number of new
 * tokens.
 */

import type { GenerateOptions, GenerateResult } from "../../../index.ts";
import type { SpeculationStats } from "../../../models/draft.ts";
import type { Iteration, RequestSample } from "../measure.ts";
import type { ExperimentConfig } from "../schema.ts";
import type { SpecArm, SpeculativeModel } from "./arms.ts";
import { takeTurns, type Hooks, type WarmUp, type Yards } from "../turns.ts";

export interface SpecRequest extends RequestSample { readonly speculation: SpeculationStats | null }

export interface SpecIteration extends Iteration { readonly requests: readonly SpecRequest[] }

/** The prompts of one data set, as tokens. */
export interface Job { readonly dataset: string; readonly prompts: readonly (readonly number[])[] }

/** One arm of one draft on one data set. */
export interface SpecArmResult extends SpecArm {
  readonly iterations: readonly SpecIteration[];
  /** [iteration][prompt]: the new tokens. */
  readonly texts: readonly (readonly (readonly number[])[])[];
}

export interface Loaded { readonly draft: string; readonly llm: SpeculativeModel }

export interface Measured {
  readonly status: "complete" | "interrupted";
  /** The arms of a draft on a data set. */
  readonly results: (draft: string, dataset: string) => readonly SpecArmResult[];
  /** `data set, draft, arm` as they ran in each iteration. */
  readonly order: readonly (readonly string[])[];
  readonly warmUp: WarmUp;
  readonly yardstick: Yards;
}

interface Sample { readonly iteration: SpecIteration; readonly texts: readonly (readonly number[])[] }

export async function measureSpeculation(
  loaded: readonly Loaded[], arms: readonly SpecArm[], jobs: readonly Job[], config: ExperimentConfig, hooks: Hooks, orderSeed = config.seed,
): Promise<Measured> {
  const all = jobs.flatMap((job) => loaded.flatMap(({ draft, llm }) => arms.map((arm) => ({ job, draft, llm, arm }))));
  const nameOf = ({ job, draft, arm }: (typeof all)[number]): string => `${job.dataset}, ${draft}, ${arm.name}`;
  const { status, samples, order, warmUp, yardstick } = await takeTurns<(typeof all)[number], Sample>({
    // One draft after the other: each has iterations of its own.
    label: loaded.length < config.draft.length ? `${loaded[0]!.draft}: ` : "",
    arms: all, nameOf, msOf: ({ iteration: { wallMs } }) => wallMs,
    once: async ({ job, llm, arm }) => {
      const started = performance.now(), results: GenerateResult[] = [];
      for (const [at, ids] of job.prompts.entries()) results.push(await llm.generate(ids, optionsOf(arm, config, at, hooks.signal)));
      const wallMs = performance.now() - started, preemptions = results.reduce((sum, { stats }) => sum + stats.preemptions, 0);
      return { iteration: { wallMs, preemptions, requests: results.map(requestOf) }, texts: results.map(({ ids }) => ids) };
    },
  }, { ...config, seed: orderSeed }, hooks);
  const results = (draft: string, dataset: string): SpecArmResult[] =>
    all.filter((one) => one.draft === draft && one.job.dataset === dataset).map((one) => {
      const own = samples.get(nameOf(one))!;
      return { ...one.arm, iterations: own.map(({ iteration }) => iteration), texts: own.map(({ texts }) => texts) };
    });
  return { status, results, order, warmUp, yardstick };
}

/** Prompt `at` is always sampled with seed + at. */
export function optionsOf(
  { k }: Pick<SpecArm, "k">, { max_tokens: maxNewTokens, temperature, top_p: topP, seed }: ExperimentConfig, at: number,
  signal: AbortSignal,
): GenerateOptions {
  return { maxNewTokens, temperature, topP, ignoreEos: true, seed: (seed + at) >>> 0, signal, draft: k === null ? null : { k } };
}

function requestOf({ ids, promptTokens, timings: { ttft, total, tpot, itl }, stats }: GenerateResult): SpecRequest {
  const { cachedTokens, preemptions, speculation = null } = stats;
  return { promptTokens, newTokens: ids.length, cachedTokens, preemptions, ttft, latency: total, tpot, itl, speculation };
}
