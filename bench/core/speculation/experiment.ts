/**
 * The experiment `spec_decode`: throughput and acceptance of speculative decoding against K, per draft, on PG-19 and WikiText, beside what
 * plain decoding does in the same LLM. One LLM per draft, all loaded at the same time where memory allows, so that their arms take turns;
 * else one after the other, which the report says. What it costs to draft and to verify on this adapter is measured first, so that every
 * speed-up stands beside the one that arithmetic predicts.
 */

import { freemem } from "node:os";
import { OutOfMemoryError, UsageError } from "../../../engine/errors.ts";
import type { SpeculationCosts } from "../../../models/draft.ts";
import type { Environment, MemoryBytes, ModelSource } from "../../../index.ts";
import { paged } from "../../../techniques/paged_attention/index.ts";
import { checkRoom, closeArms, loadArms, type Arm, type Load, type Model } from "../arms.ts";
import { promptsOf, stretchesOf, type Stretch } from "../press/samples.ts";
import { NO_JOURNAL } from "../journal.ts";
import type { Prompts } from "../prompts.ts";
import type { ExperimentConfig } from "../schema.ts";
import { seeded, shuffled } from "../stats.ts";
import { specArms, type SpeculativeModel } from "./arms.ts";
import { divergencesOf, type TextDivergence } from "./divergence.ts";
import { measureSpeculation, type Loaded, type SpecArmResult } from "./measure.ts";
import { datasetsOf } from "./samples.ts";
import { warmUpOf, yardsOf, type Hooks, type WarmUp, type Yards } from "../turns.ts";

export interface DraftPart {
  /** As it was asked for. */
  readonly draft: string;
  /** What came of that. */
  readonly name: string;
  readonly kind: "model" | "text" | "self";
  /** Null when the run was stopped before they were measured. */
  readonly costs: SpeculationCosts | null;
  /** Of the ledger, at its highest. */
  readonly memory: MemoryBytes;
  readonly loadTimings: Model["loadTimings"];
}

/** One draft on one data set. */
export interface SpecCell {
  readonly dataset: string;
  readonly draft: string;
  readonly arms: readonly SpecArmResult[];
  /** Of greedy texts, the first of each arm that wrote another text than plain decoding. */
  readonly divergences: readonly TextDivergence[];
}

export interface SpecOutcome {
  readonly status: "complete" | "interrupted";
  readonly drafts: readonly DraftPart[];
  readonly cells: readonly SpecCell[];
  readonly order: readonly (readonly string[])[];
  readonly loading: "together" | "in-turn";
  readonly prompts: Prompts;
  readonly places: readonly (Omit<Stretch, "ids" | "text"> & { readonly dataset: string })[];
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  readonly budget: number;
  readonly warmUp: WarmUp | null;
  readonly yardstick: Yards;
}

export async function runSpeculation(config: ExperimentConfig, load: Load, hooks: Hooks): Promise<SpecOutcome> {
  const together = config.loading === "in-turn" && config.draft.length > 1 ? null : await loadTogether(config, load);
  if (together !== null) {
    try {
      return await runLoaded(together, config.draft, await textsOf(config, together[0]!.llm, hooks), config, hooks, config.seed);
    } finally {
      await closeArms(together);
    }
  }
  const runs: SpecOutcome[] = [];
  let texts: Texts | null = null, kvMemory = config.kv_memory;
  for (const draft of shuffled(config.draft, seeded(config.seed))) {
    const arm = await loadOne(draft, { ...config, ...(kvMemory !== undefined && { kv_memory: kvMemory }) }, load);
    kvMemory ??= arm.poolBytes;
    try {
      texts ??= await textsOf(config, arm.llm, hooks);
      runs.push(await runLoaded([arm], [draft], texts, config, hooks, config.seed + runs.length));
    } finally {
      await closeArms([arm]);
    }
    if (runs.at(-1)!.status === "interrupted") break;
  }
  const cells = runs.flatMap((run) => run.cells), drafts = runs.flatMap((run) => run.drafts);
  return {
    ...runs[0]!, warmUp: warmUpOf(runs.map(({ warmUp }) => warmUp)), yardstick: yardsOf(runs.map(({ yardstick }) => yardstick)),
    status: runs.at(-1)!.status, loading: "in-turn", order: runs.flatMap(({ order }) => order),
    drafts: config.draft.flatMap((draft) => drafts.filter((one) => one.draft === draft)),
    cells: datasetsOf(config.dataset).flatMap((dataset) =>
      config.draft.flatMap((draft) => cells.filter((one) => one.dataset === dataset && one.draft === draft))),
  };
}

/** Null when memory does not hold all, unless the config insists on it. */
async function loadTogether(config: ExperimentConfig, load: Load): Promise<Arm[] | null> {
  const loaded: Arm[] = [];
  let kvMemory = config.kv_memory;
  try {
    for (const [at, draft] of config.draft.entries()) {
      const beside = loaded[0]?.llm;
      // A software adapter takes the memory of the host and does not say when it runs short.
      if (beside !== undefined && config.loading === "auto" && beside.environment.adapter.software
        && (config.draft.length - at) * beside.memory().total > freemem() / 2) {
        throw new OutOfMemoryError("the host has no room for all drafts");
      }
      loaded.push(await loadOne(draft, { ...config, ...(kvMemory !== undefined && { kv_memory: kvMemory }) }, load));
      kvMemory ??= loaded[0]!.poolBytes;
    }
    return loaded;
  } catch (error) {
    await closeArms(loaded);
    if (config.loading === "auto" && loaded.length > 0 && error instanceof OutOfMemoryError) return null;
    throw error;
  }
}

async function loadOne(draft: string, config: ExperimentConfig, load: Load): Promise<Arm> {
  // One at a time runs; one more has room, so that a prompt is admitted while blocks of the one before it are given back.
  const room = { ...config, batch_size: 2 }, options = { weights: config.weights, draft: { model: draft } };
  const plan = { name: "paged", layout: paged(config.block_size), prefixCache: false, isStatic: false, options } as const;
  const { loaded } = await loadArms([plan], room, load);
  const arm = loaded[0]!;
  if (modelOf(arm).draft !== null && typeof modelOf(arm).speculationCosts === "function") return arm;
  await closeArms(loaded);
  throw new UsageError(`draft ${draft}: ${config.model} was loaded without a draft`);
}

/** An LLM that was loaded with a draft. */
function modelOf({ llm }: Pick<Arm, "llm">): SpeculativeModel {
  return llm as SpeculativeModel;
}

interface Texts { readonly jobs: readonly { readonly dataset: string; readonly stretches: readonly Stretch[] }[] }

async function textsOf({ dataset, num_prompts, prompt_tokens }: ExperimentConfig, { tokenizer }: Model, hooks: Hooks): Promise<Texts> {
  const jobs: { dataset: string; stretches: Stretch[] }[] = [];
  for (const name of datasetsOf(dataset)) {
    jobs.push({ dataset: name, stretches: await stretchesOf(name, num_prompts, prompt_tokens, tokenizer, hooks) });
  }
  return { jobs };
}

async function runLoaded(
  loaded: readonly Arm[], drafts: readonly string[], texts: Texts, config: ExperimentConfig, hooks: Hooks, orderSeed: number,
): Promise<SpecOutcome> {
  const { journal = NO_JOURNAL } = hooks, jobs = texts.jobs.map(({ dataset, stretches }) => ({ dataset, prompts: stretches.map(({ ids }) => ids) }));
  checkRoom(jobs.flatMap(({ prompts }) => prompts.map((ids) => ({ ids, newTokens: config.max_tokens }))), loaded, "max_tokens");
  const models: Loaded[] = loaded.map((arm, i) => ({ draft: drafts[i]!, llm: modelOf(arm) })), costs = new Map<string, SpeculationCosts>();
  for (const [done, { draft, llm }] of models.entries()) {
    hooks.onStep(`costs of drafting and verifying, ${draft}`, done, models.length);
    if (!hooks.signal.aborted) costs.set(draft, await journal.step(`costs, ${draft}`, () => llm.speculationCosts()));
  }
  const arms = specArms(config), measured = await measureSpeculation(models, arms, jobs, config, hooks, orderSeed);
  const cells: SpecCell[] = [];
  for (const { dataset, prompts } of jobs) {
    for (const { draft, llm } of models) {
      const results = measured.results(draft, dataset);
      const isCompared = config.temperature === 0 && measured.status === "complete";
      const divergences = isCompared
        ? await journal.step(`divergences, ${dataset}, ${draft}`, () => divergencesOf(llm, results, prompts, config, hooks.signal)) : [];
      cells.push({ dataset, draft, arms: results, divergences });
    }
  }
  const { llm, poolBytes } = loaded[0]!;
  const all = texts.jobs.flatMap(({ dataset, stretches }) => stretches.map((stretch) => ({ dataset, ...stretch })));
  return {
    status: measured.status, loading: "together", order: measured.order, warmUp: measured.warmUp, yardstick: measured.yardstick, cells, prompts: promptsOf(all),
    places: all.map(({ ids: _ids, text: _text, ...place }) => place), source: llm.source, environment: llm.environment,
    maxModelLen: llm.maxModelLen, budget: poolBytes,
    drafts: models.map(({ draft, llm: own }) => ({
      draft, name: own.draft!.name, kind: own.draft!.kind, costs: costs.get(draft) ?? null,
      memory: own.memory().peak, loadTimings: own.loadTimings,
    })),
  };
}
