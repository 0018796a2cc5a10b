/**
 * The experiments that compare number formats of the weights. Each arm is loaded, judged (perplexity, and its distributions against the
 * first arm's and against the model in f32), and timed: all arms in turns within an iteration while memory holds them all, else one after
 * the other, which the report says, since then a machine that warms up or is busy for a while favours some of them.
 */

import { freemem } from "node:os";
import { AbortedError, OutOfMemoryError } from "../../../engine/errors.ts";
import type { WeightFormat } from "../../../index.ts";
import type { Outliers } from "../../../models/runner.ts";
import type { HeldWeights } from "../../../models/weights.ts";
import { checkRoom, closeArms, loadArms, type Arm, type ArmName, type ArmPlan, type Arms, type Load, type Model } from "../arms.ts";
import { measure, type Identical, type Outcome } from "../measure.ts";
import { jobsOf } from "../paged_attention.ts";
import { NO_JOURNAL } from "../journal.ts";
import type { Prompts } from "../prompts.ts";
import type { ExperimentConfig } from "../schema.ts";
import { seeded, shuffled } from "../stats.ts";
import { askedFormat, quantizationNotes, reference, weightArms } from "./arms.ts";
import { expectedWeightBytes } from "./expected.ts";
import { corpusOf, divergenceOf, perplexityOf, type Corpus, type Divergence, type Perplexity } from "./quality.ts";
import { warmUpOf, yardsOf, type Hooks } from "../turns.ts";

/** Why a divergence is not known. */
export type NoDivergence = "itself" | "noRoom" | "notMeasured";

export interface ArmQuality {
  readonly perplexity: Perplexity;
  /** Against the first arm, and against the model in f32. */
  readonly first: Divergence | NoDivergence;
  readonly f32: Divergence | NoDivergence;
}

/** What an arm's weights are, beside what was timed. */
export interface ArmWeights {
  readonly name: ArmName;
  /** The format that was asked for; null where the checkpoint decides. */
  readonly asked: WeightFormat | null;
  readonly held: readonly HeldWeights[];
  /** Bytes of all weights as the ledger counts them, and by arithmetic; null where the model does not tell enough. */
  readonly bytes: number;
  readonly expectedBytes: number | null;
  /** Of LLM.int8(), over everything the arm computed, quality and warm-up too; null of other formats. */
  readonly outliers: Outliers | null;
  readonly quality: ArmQuality | null;
}

export interface WeightsOutcome {
  readonly outcome: Outcome;
  /** In the order of outcome.arms. */
  readonly arms: readonly ArmWeights[];
  readonly loading: "together" | "in-turn";
  /** Null when no quality was measured: it was not asked for, or the weights are random. */
  readonly corpus: Omit<Corpus, "ids"> | null;
  /** What quantization_config asks for and is done otherwise here. */
  readonly notes: readonly string[];
}

export async function runWeights(config: ExperimentConfig, { texts }: Pick<Prompts, "texts">, load: Load, hooks: Hooks): Promise<WeightsOutcome> {
  const plans = weightArms(config);
  const arms = config.loading === "in-turn" ? null : await loadTogether(plans, config, load);
  if (arms === null) return await inTurn(plans, config, texts, load, hooks);
  try {
    const run = await runLoaded(arms, plans, config, texts, load, hooks, true);
    return { ...run, loading: "together", notes: quantizationNotes(config) };
  } finally {
    await closeArms(arms.loaded);
  }
}

/** Null when memory does not hold all arms, unless the config insists on it. */
async function loadTogether([first, ...others]: readonly ArmPlan[], config: ExperimentConfig, load: Load): Promise<Arms | null> {
  const one = await loadArms([first!], config, load);
  const { llm } = one.loaded[0]!;
  const isOptional = config.loading === "auto";
  try {
    // A software adapter takes the memory of the host and does not say when it runs short.
    if (isOptional && llm.environment.adapter.software && others.length * llm.memory().total > freemem() / 2) throw new OutOfMemoryError("the host has no room for all arms");
    const more = others.length === 0 ? { loaded: [] } : await loadArms(others, { ...config, kv_memory: one.budget }, load);
    return { loaded: [...one.loaded, ...more.loaded], skipped: [], budget: one.budget };
  } catch (error) {
    await closeArms(one.loaded);
    if (isOptional && error instanceof OutOfMemoryError) return null;
    throw error;
  }
}

type Run = Omit<WeightsOutcome, "loading" | "notes">;

/** Judge and time the arms that are loaded. `plans`: of all arms, also of those that are not. */
async function runLoaded(
  arms: Arms, plans: readonly ArmPlan[], config: ExperimentConfig, texts: readonly string[], load: Load, hooks: Hooks, isComplete: boolean,
): Promise<Run> {
  const { loaded } = arms, { llm } = loaded[0]!;
  const jobs = await jobsOf(texts, config, loaded);
  checkRoom(jobs, loaded, "max_tokens");
  const corpus = config.perplexity_windows === 0 || llm.source.random ? null : await corpusOf(config, llm.tokenizer);
  const quality = new Map<ArmName, ArmQuality>();
  if (corpus !== null) {
    await judge(arms, plans, corpus, config, load, hooks, quality).catch((error: unknown) => {
      if (!(error instanceof AbortedError)) throw error;
    });
  }
  for (const arm of loaded) arm.llm.resetPeak();
  const control = isComplete && plans.some(({ name }) => name === "again") ? [plans[0]!.name, "again" as const] : [];
  const outcome = await measure(arms, () => ({ set: 0, jobs }), config, hooks, isComplete ? "" : `${loaded[0]!.name}: `, control);
  const weights: ArmWeights[] = [];
  for (const arm of loaded) {
    const plan = plans.find(({ name }) => name === arm.name)!;
    weights.push({
      name: arm.name, asked: askedFormat(plan), held: arm.llm.weightFormats(), bytes: arm.llm.memory().weights,
      expectedBytes: expectedWeightBytes(arm.llm, plan.options), outliers: await arm.llm.outliers(), quality: quality.get(arm.name) ?? null,
    });
  }
  const { ids: _ids, ...told } = corpus ?? { ids: [] };
  return { outcome, arms: weights, corpus: corpus === null ? null : told as Omit<Corpus, "ids"> };
}

/** Into `quality`: perplexity of every loaded arm, and its divergence from the first arm and from f32, which are loaded beside it where they are not among them. */
async function judge(
  { loaded, budget }: Arms, plans: readonly ArmPlan[], corpus: Corpus, config: ExperimentConfig, load: Load, { signal, onStep, journal = NO_JOURNAL }: Hooks, quality: Map<ArmName, ArmQuality>,
): Promise<void> {
  const isF32 = ({ llm }: Arm): boolean => llm.weightFormats().every(({ format }) => format === "f32");
  const first = plans[0]!;
  let done = 0;
  const total = 3 * loaded.length; // at most: where the first arm is the one in f32 there is one comparison less
  for (const arm of loaded) {
    onStep(`perplexity, ${arm.name}`, done++, total);
    quality.set(arm.name, { perplexity: await journal.step(`perplexity, ${arm.name}`, () => perplexityOf(arm.llm, corpus, signal)), first: "notMeasured", f32: "notMeasured" });
  }
  const compare = async (key: "first" | "f32", model: Model, isItself: (arm: Arm) => boolean): Promise<void> => {
    for (const arm of loaded) {
      onStep(`divergence, ${arm.name}`, Math.min(done++, total - 1), total);
      if (arm.name === "again") continue;
      quality.set(arm.name, { ...quality.get(arm.name)!, [key]: isItself(arm) ? "itself"
        : await journal.step(`divergence from ${key}, ${arm.name}`, () => divergenceOf(model, arm.llm, corpus, signal)) });
    }
  };
  const isBeside = loaded.some((arm) => arm.name !== "again" && arm.name !== first.name), needsF32 = loaded.some((arm) => !isF32(arm) && arm.name !== "again");
  if (plans.length > 1 && isBeside) await withModel(loaded.find(({ name }) => name === first.name), first, "first", ({ name }) => name === first.name);
  else for (const [name, one] of quality) if (name === first.name) quality.set(name, { ...one, first: "itself" });
  const f32 = needsF32 ? loaded.find(isF32) : loaded[0];
  if (f32 !== undefined && f32.name === first.name) for (const [name, one] of quality) quality.set(name, { ...one, f32: one.first });
  else await withModel(f32, reference(config), "f32", isF32);

  async function withModel(there: Arm | undefined, plan: ArmPlan, key: "first" | "f32", isItself: (arm: Arm) => boolean): Promise<void> {
    if (there !== undefined) return await compare(key, there.llm, isItself);
    let beside: Arms;
    try {
      beside = await loadArms([plan], { ...config, kv_memory: budget }, load);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      for (const [name, one] of quality) quality.set(name, { ...one, [key]: "noRoom" });
      return;
    }
    try {
      await compare(key, beside.loaded[0]!.llm, isItself);
    } finally {
      await closeArms(beside.loaded);
    }
  }
}

/** One arm after the other, in an order drawn by seed: load, judge, time, close. */
async function inTurn(plans: readonly ArmPlan[], config: ExperimentConfig, texts: readonly string[], load: Load, hooks: Hooks): Promise<WeightsOutcome> {
  const runs: Run[] = [];
  const order = shuffled(plans, seeded(config.seed));
  let budget = config.kv_memory;
  for (const plan of order) {
    const arms = await loadArms([plan], { ...config, ...(budget !== undefined && { kv_memory: budget }) }, load);
    budget ??= arms.budget;
    try {
      runs.push(await runLoaded(arms, plans, config, texts, load, hooks, false));
    } finally {
      await closeArms(arms.loaded);
    }
    if (runs.at(-1)!.outcome.status === "interrupted") break;
  }
  const byPlan = <T extends { readonly name: ArmName }>(all: readonly T[]): T[] => plans.flatMap(({ name }) => all.filter((one) => one.name === name));
  const first = runs[0]!, last = runs.at(-1)!;
  return {
    loading: "in-turn", notes: quantizationNotes(config), corpus: first.corpus, arms: byPlan(runs.flatMap(({ arms }) => arms)),
    outcome: {
      ...first.outcome, status: last.outcome.status, warmUp: warmUpOf(runs.map(({ outcome }) => outcome.warmUp)), yardstick: yardsOf(runs.map(({ outcome }) => outcome.yardstick)), arms: byPlan(runs.flatMap(({ outcome }) => outcome.arms)),
      order: [runs.map(({ outcome }) => outcome.arms[0]!.name)], identical: null satisfies Identical | null,
    },
  };
}

/** The format that holds most weights. */
export function mainFormat(held: readonly HeldWeights[]): string | null {
  return held.reduce<HeldWeights | null>((most, one) => (most === null || one.weights > most.weights ? one : most), null)?.format ?? null;
}
