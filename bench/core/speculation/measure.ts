/**
 * The measuring of speculation: every arm of every loaded LLM takes its turn in seeded random order within an iteration, after warm-up, on
 * the same prompts with the same seeds. Prompts run one at a time, as the measured costs do, and every text has the same number of new
 * tokens.
 */

import { AbortedError } from "../../../engine/errors.ts";
import type { GenerateOptions, GenerateResult } from "../../../index.ts";
import type { SpeculationStats } from "../../../models/draft.ts";
import type { Hooks, Iteration, RequestSample } from "../measure.ts";
import type { ExperimentConfig } from "../schema.ts";
import { seeded, shuffled } from "../stats.ts";
import type { SpecArm, SpeculativeModel } from "./arms.ts";

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
}

export async function measureSpeculation(
  loaded: readonly Loaded[], arms: readonly SpecArm[], jobs: readonly Job[], config: ExperimentConfig, { signal, onStep }: Hooks,
  orderSeed = config.seed,
): Promise<Measured> {
  const { warmup_iterations: warmups, test_iterations: tests } = config;
  const random = seeded(orderSeed), order: string[][] = [];
  const all = jobs.flatMap((job) => loaded.flatMap(({ draft, llm }) =>
    arms.map((arm) => ({ job, draft, llm, arm, iterations: [] as SpecIteration[], texts: [] as (readonly number[])[][] }))));
  const total = (warmups + tests) * all.length;
  let done = 0, status: Measured["status"] = "complete";
  try {
    for (let i = -warmups; i < tests; i++) {
      const turn = shuffled(all, random);
      if (i >= 0) order.push(turn.map(({ job, draft, arm }) => `${job.dataset}, ${draft}, ${arm.name}`));
      for (const { job, draft, llm, arm, iterations, texts } of turn) {
        onStep(`${i < 0 ? "warm-up" : `iteration ${i + 1} of ${tests}`}, ${job.dataset}, ${draft}, ${arm.name}`, done++, total);
        const started = performance.now(), results: GenerateResult[] = [];
        for (const [at, ids] of job.prompts.entries()) results.push(await llm.generate(ids, optionsOf(arm, config, at, signal)));
        const wallMs = performance.now() - started;
        if (i < 0) continue;
        const preemptions = results.reduce((sum, { stats }) => sum + stats.preemptions, 0);
        iterations.push({ wallMs, preemptions, requests: results.map(requestOf) });
        texts.push(results.map(({ ids }) => ids));
      }
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    status = "interrupted";
  }
  onStep("done", total, total);
  const results = (draft: string, dataset: string): SpecArmResult[] =>
    all.filter((one) => one.draft === draft && one.job.dataset === dataset)
      .map(({ arm, iterations, texts }) => ({ ...arm, iterations, texts }));
  return { status, results, order };
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
