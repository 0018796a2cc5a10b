/**
 * The experiments on KV compression. KnormPress: its sources' sweep over keep ratios, pruned after every token; speed, memory and
 * perplexity under the same compression. KVPress: how many sequences a fixed budget of keys and values runs at a time once a press has
 * given blocks back, and what that costs in quality. In both one LLM serves every arm (arms.ts), and an arm counts only if its press
 * evicted something (verdict.ts).
 */

import { AbortedError, UsageError } from "../../../engine/errors.ts";
import type { Environment, MemoryBytes, ModelSource } from "../../../index.ts";
import type { PerplexityOptions, PressReport } from "../../../models/options.ts";
import { paged } from "../../../techniques/paged_attention/index.ts";
import { checkRoom, closeArms, loadArms, type Arm, type Load, type Model } from "../arms.ts";
import { NO_JOURNAL } from "../journal.ts";
import type { Prompts } from "../prompts.ts";
import { qualityOf, type Quality } from "../quality.ts";
import type { ExperimentConfig } from "../schema.ts";
import { pressArms, type PressArm } from "./arms.ts";
import { measurePresses, type Point, type PressIteration } from "./measure.ts";
import { promptsOf, stretchesOf, type Stretch } from "./samples.ts";
import type { Hooks, WarmUp, Yards } from "../turns.ts";

/** How windows are read and which of their tokens are scored. */
export interface Scoring extends Pick<PerplexityOptions,
  "continuation"> { readonly protocol: "decode" | "prefill-continue"; readonly context: number }

/** Predictions under a press against those of the same LLM without, over the same tokens. */
export interface PressQuality { readonly quality: Quality; readonly report: PressReport | null }

export interface PressArmResult extends Pick<PressArm, "name" | "kind" | "press" | "keep"> {
  readonly iterations: readonly PressIteration[];
  /** Highest of any iteration, by the ledger; null before the first was finished. */
  readonly peak: MemoryBytes | null;
  readonly held: readonly Point[];
  readonly texts: readonly (readonly (readonly number[])[])[];
  /** Milliseconds of press before the first token of the first prompt; null where it was not measured. */
  readonly firstPressMs: number | null;
  /** Null of the arms without a press, and where it was not measured. */
  readonly quality: PressQuality | null;
}

export interface PressOutcome {
  readonly status: "complete" | "interrupted";
  readonly arms: readonly PressArmResult[];
  readonly order: readonly (readonly string[])[];
  /** Bytes of the pool, and tokens of one sequence that it holds. */
  readonly budget: number;
  readonly entries: number;
  readonly entryBytes: number;
  readonly promptTokens: number;
  readonly prompts: Prompts;
  readonly places: readonly Omit<Stretch, "ids" | "text">[];
  /** What quality was measured over; null when it was not. */
  readonly scored: { readonly options: Scoring; readonly windows: number; readonly dataset: string; readonly sha256: string } | null;
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  readonly loadTimings: Model["loadTimings"];
  readonly warmUp: WarmUp | null;
  readonly yardstick: Yards;
}

/** What an experiment runs and scores. */
interface Plan {
  readonly prompts: readonly Stretch[];
  readonly windows: readonly Stretch[];
  readonly options: Scoring;
  readonly dataset: string;
}

export async function runPresses(config: ExperimentConfig, load: Load, hooks: Hooks): Promise<PressOutcome> {
  const isKnorm = config.technique === "KnormPress";
  // Quality reads a text with and without a press at the same time, and a press moves what it keeps before it gives the old blocks back.
  const room = { ...config, batch_size: 3 };
  const loaded = await loadArms(
    [{ name: "paged", layout: paged(config.block_size), prefixCache: false, isStatic: false, options: { weights: config.weights } }],
    isKnorm ? room : config, load, { memoryAlone: !isKnorm });
  try {
    const arm = loaded.loaded[0]!, { llm } = arm;
    if (isKnorm) checkLayers(config, llm.config.layers);
    const plan = isKnorm ? await knormPlan(config, llm, hooks) : await capacityPlan(config, llm, hooks);
    checkRoom(plan.prompts.map(({ ids }) => ({ ids: ids.slice(0, config.prompt_tokens), newTokens: config.max_tokens })), loaded.loaded,
      "max_tokens");
    return await runPlan(plan, arm, config, hooks);
  } finally {
    await closeArms(loaded.loaded);
  }
}

function checkLayers({ skip_layers }: ExperimentConfig, layers: number): void {
  const wrong = skip_layers.find((layer) => layer >= layers);
  if (wrong !== undefined) throw new UsageError(`skip_layers: there is no layer ${wrong}; the model has ${layers}, counted from 0`);
  if (skip_layers.length === layers)
    throw new UsageError(`skip_layers: names all ${layers} layers, so nothing could ever be pruned; leave one out`);
}

/** Each sample is a prompt with what follows it: the prompt is continued, and the whole is a window for perplexity. */
async function knormPlan(config: ExperimentConfig, { tokenizer }: Model, hooks: Hooks): Promise<Plan> {
  const { dataset, num_wikitext_samples, num_pg19_samples, prompt_tokens, max_tokens } = config;
  const context = prompt_tokens + max_tokens, suffix = dataset === "hub" ? "" : "-sample";
  const samples = [
    ...await stretchesOf(`wikitext${suffix}`, num_wikitext_samples, context, tokenizer, hooks),
    ...await stretchesOf(`pg19${suffix}`, num_pg19_samples, context, tokenizer, hooks),
  ];
  return { prompts: samples, windows: samples, options: { protocol: "decode", context }, dataset: `wikitext${suffix}, pg19${suffix}` };
}

/** Prompts and windows are different places of one text. */
async function capacityPlan(config: ExperimentConfig, { tokenizer }: Model, hooks: Hooks): Promise<Plan> {
  const { num_prompts, perplexity_windows, perplexity_text: dataset, prompt_tokens: context, continuation } = config;
  const all = await stretchesOf(dataset, num_prompts + perplexity_windows, context + continuation, tokenizer, hooks);
  return { prompts: all.slice(0, num_prompts), windows: all.slice(num_prompts),
    options: { protocol: "prefill-continue", context, continuation }, dataset };
}

async function runPlan({ prompts, windows, options, dataset }: Plan, { llm, meter, poolBytes, entries, entryBytes }: Arm,
  config: ExperimentConfig, hooks: Hooks): Promise<PressOutcome> {
  const arms = pressArms(config), ids = prompts.map((stretch) => stretch.ids.slice(0, config.prompt_tokens));
  const { quality, isStopped } = llm.source.random ? { quality: new Map<string, PressQuality>(), isStopped: false }
    : await judge(llm, arms, windows.flatMap((stretch) => stretch.ids), options, hooks);
  const measured = await measurePresses({ llm, meter }, arms, ids, config, config.technique === "KVPress", hooks);
  return {
    status: isStopped ? "interrupted" : measured.status, order: measured.order, warmUp: measured.warmUp,
    yardstick: measured.yardstick, budget: poolBytes, entries, entryBytes,
    promptTokens: config.prompt_tokens,
    prompts: promptsOf(prompts), places: prompts.map(({ ids: _ids, text: _text, ...place }) => place),
    scored: quality.size === 0 ? null : { options, windows: windows.length, dataset, sha256: promptsOf(windows).sha256 },
    source: llm.source, environment: llm.environment, maxModelLen: llm.maxModelLen, loadTimings: llm.loadTimings,
    arms: arms.map(({ name, kind, press, keep }) => ({
      name, kind, press, keep, iterations: measured.iterations.get(name)!, peak: measured.peak.get(name) ?? null,
      held: measured.held.get(name) ?? [],
      texts: measured.texts.get(name)!, firstPressMs: measured.firstPressMs.get(name) ?? null, quality: quality.get(name) ?? null,
    })),
  };
}

/** Every press over the same windows, each against the same LLM without one. */
async function judge(
  llm: Model, arms: readonly PressArm[], ids: readonly number[], options: Scoring, { signal, onStep, journal = NO_JOURNAL }: Hooks,
): Promise<{ quality: Map<string, PressQuality>; isStopped: boolean }> {
  const quality = new Map<string, PressQuality>(), pressed = arms.filter(({ kind }) => kind === "press");
  try {
    for (const [done, arm] of pressed.entries()) {
      onStep(`quality, ${arm.name}`, done, pressed.length);
      quality.set(arm.name, await journal.step(`quality, ${arm.name}`, async (): Promise<PressQuality> => {
        const result = await llm.divergence(llm, ids, { ...options, signal, press: arm.scored });
        return { quality: qualityOf(result), report: result.press ?? null };
      }));
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    return { quality, isStopped: true };
  }
  return { quality, isStopped: false };
}
