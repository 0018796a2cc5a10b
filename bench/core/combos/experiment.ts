/**
 * Free combinations: every arm is a set of techniques, and all of them do the same work, with prompts of one length and texts of one length,
 * in turns. What an arm costs in quality is measured before its speed, through the very cache and weights that are then timed; what may not
 * change a text is checked token for token.
 */

import { AbortedError, UsageError } from "../../../engine/errors.ts";
import type { MemoryBytes } from "../../../index.ts";
import type { PressReport } from "../../../models/options.ts";
import type { HeldWeights } from "../../../models/weights.ts";
import { checkRoom, closeArms, loadArm, type Arm, type Load, type Model } from "../arms.ts";
import { NO_JOURNAL } from "../journal.ts";
import { highest, runOnce, type Iteration, type Job, type Sample } from "../measure.ts";
import { together, type CacheUse } from "../meter.ts";
import { promptsOf, stretchesOf } from "../press/samples.ts";
import { described, type Prompts } from "../prompts.ts";
import { qualityOf, type Quality } from "../quality.ts";
import type { ExperimentConfig } from "../schema.ts";
import { partsAt } from "../speculation/divergence.ts";
import type { SpeculativeModel } from "../speculation/arms.ts";
import { takeTurns, type Hooks, type WarmUp, type Yards } from "../turns.ts";
import { comboArms, lossyKey, planOf, type ComboArm } from "./arms.ts";

export interface ComboQuality { readonly quality: Quality; readonly press: PressReport | null }

/** Greedy texts against those that they must equal. */
export interface ComboTexts {
  /** Name of the arm whose texts these must be, or null: its own without a draft. */
  readonly as: string | null;
  readonly same: number;
  readonly of: number;
  readonly firstDifference: { readonly prompt: number; readonly token: number } | null;
}

export interface ComboResult {
  readonly arm: ComboArm;
  readonly iterations: readonly Iteration[];
  readonly texts: readonly (readonly (readonly number[])[])[];
  readonly cache: CacheUse;
  readonly peak: MemoryBytes | null;
  readonly held: readonly HeldWeights[];
  readonly weightBytes: number;
  /** Bytes of one token of one KV head of one layer: by its format, and as the ledger has it (null where a draft's cache is in the ledger too). */
  readonly entryBytes: number;
  readonly heldEntryBytes: number | null;
  readonly draft: SpeculativeModel["draft"];
  readonly quality: ComboQuality | null;
  /** Null where there is nothing that its texts must equal, or they were not looked at. */
  readonly equal: ComboTexts | null;
  readonly loadTimings: Model["loadTimings"];
}

export interface CombosOutcome {
  readonly status: "complete" | "interrupted";
  readonly arms: readonly ComboResult[];
  readonly order: readonly (readonly string[])[];
  readonly warmUp: WarmUp | null;
  readonly yardstick: Yards;
  readonly budget: number;
  readonly prompts: Prompts;
  /** `sha256`: of prompts and windows. */
  readonly scored: { readonly context: number; readonly continuation: number; readonly windows: number; readonly dataset: string; readonly sha256: string } | null;
  readonly source: Model["source"];
  readonly environment: Model["environment"];
  readonly maxModelLen: number;
}

interface Loaded { readonly arm: ComboArm; readonly place: Arm<string> }

export async function runCombos(config: ExperimentConfig, load: Load, hooks: Hooks): Promise<CombosOutcome> {
  const arms = comboArms(config), places = new Map<string, Arm<string>>();
  let budget = config.kv_memory;
  try {
    for (const [done, arm] of arms.entries()) {
      const plan = planOf(arm, config);
      if (places.has(plan.key)) continue;
      hooks.onStep(`loading ${arm.name}`, done, arms.length);
      // To score a window with a press takes a second sequence; where one at a time is asked for, requests come one by one.
      const place = await loadArm(plan, config, load, budget, Math.max(2, config.batch_size), places.size > 0);
      places.set(plan.key, config.batch_size === 1 ? { ...place, batch: 1 } : place);
      budget ??= place.poolBytes;
      if (arm.settings.draft !== undefined && modelOf(place).draft == null) throw new UsageError(`arm ${arm.name}: ${config.model} was loaded without its draft`);
    }
    const loaded = arms.map((arm): Loaded => ({ arm, place: places.get(planOf(arm, config).key)! }));
    return await runLoaded(loaded, budget!, config, hooks);
  } finally {
    await closeArms([...places.values()]);
  }
}

function modelOf({ llm }: Pick<Arm<string>, "llm">): SpeculativeModel {
  return llm as SpeculativeModel;
}

async function runLoaded(loaded: readonly Loaded[], budget: number, config: ExperimentConfig, hooks: Hooks): Promise<CombosOutcome> {
  const { prompt_tokens: context, continuation, num_prompts, perplexity_windows: count, perplexity_text: dataset, max_tokens: newTokens } = config;
  const { llm } = loaded[0]!.place, { journal = NO_JOURNAL } = hooks;
  const wanted = llm.source.random ? 0 : count;
  const stretches = await stretchesOf(dataset, num_prompts + wanted, context + continuation, llm.tokenizer, hooks);
  const corpusSha256 = described(stretches.map(({ text }) => text), { kind: "given" }).sha256;
  journal.same("perplexity_text", corpusSha256);
  const prompts = stretches.slice(0, num_prompts), windows = stretches.slice(num_prompts);
  const jobs = prompts.map(({ ids }): Job => ({ ids: ids.slice(0, context), newTokens }));
  checkRoom(jobs, loaded.map(({ place, arm }) => ({ ...place, name: arm.name })), "max_tokens");
  const scored = wanted === 0 ? null : { context, continuation, windows: wanted, dataset, sha256: corpusSha256 };
  const quality = scored === null ? { found: new Map<string, ComboQuality>(), isStopped: false } : await judge(loaded, windows.flatMap(({ ids }) => ids), scored, config, hooks);
  for (const { place } of loaded) {
    place.llm.resetPeak();
    place.meter.take();
  }
  const taken = await takeTurns<Loaded, Sample>({
    arms: loaded, nameOf: ({ arm }) => arm.name, msOf: ({ iteration: { wallMs } }) => wallMs,
    once: async ({ arm, place }, i) => {
      place.llm.resetPeak();
      return runOnce(place, jobs, config, hooks.signal, i >= 0, arm.request);
    },
  }, config, hooks);
  const samplesOf = ({ arm }: Loaded): readonly Sample[] => taken.samples.get(arm.name)!;
  const equal = config.temperature === 0 && taken.status === "complete" ? await compareTexts(loaded, samplesOf, jobs, config, hooks) : null;
  return {
    status: quality.isStopped || equal?.isStopped === true ? "interrupted" : taken.status, order: taken.order, warmUp: taken.warmUp, yardstick: taken.yardstick, budget, scored,
    prompts: promptsOf(prompts), source: llm.source, environment: llm.environment, maxModelLen: llm.maxModelLen,
    arms: loaded.map((one): ComboResult => {
      const { arm, place } = one, samples = samplesOf(one), [first, ...others] = samples.map(({ peak }) => peak);
      return {
        arm, iterations: samples.map(({ iteration }) => iteration), texts: samples.map(({ tokens }) => tokens), cache: together(samples.map(({ cache }) => cache)),
        peak: first === undefined ? null : highest([first, ...others]), held: place.llm.weightFormats(), weightBytes: place.llm.memory().weights,
        entryBytes: place.entryBytes, heldEntryBytes: modelOf(place).draft == null ? heldEntryBytes(place.llm) : null, draft: modelOf(place).draft ?? null, quality: quality.found.get(arm.name) ?? null, equal: equal?.found.get(arm.name) ?? null,
        loadTimings: place.llm.loadTimings,
      };
    }),
  };
}

/** Whole bytes: what block tables add is a fraction of one. */
function heldEntryBytes(llm: Model): number {
  const { blocksTotal, blockSize } = llm.cacheStats();
  return Math.floor(llm.memory().kv / (blocksTotal * blockSize));
}

/** Every arm with other weights, entries or press than the baseline against the baseline's LLM, over the same windows. */
async function judge(
  loaded: readonly Loaded[], ids: readonly number[], { context, continuation }: { readonly context: number; readonly continuation: number },
  config: ExperimentConfig, { signal, onStep, journal = NO_JOURNAL }: Hooks,
): Promise<{ found: Map<string, ComboQuality>; isStopped: boolean }> {
  const found = new Map<string, ComboQuality>(), base = loaded[0]!.place.llm;
  try {
    for (const [done, { arm, place }] of loaded.entries()) {
      const { press = null } = arm.request;
      if (lossyKey(arm, config) === lossyKey(loaded[0]!.arm, config)) continue;
      onStep(`quality, ${arm.name}`, done, loaded.length);
      found.set(arm.name, await journal.step(`quality, ${arm.name}`, async (): Promise<ComboQuality> => {
        const result = await place.llm.divergence(base, ids, { protocol: "prefill-continue", context, continuation, press, signal });
        return { quality: qualityOf(result), press: result.press ?? null };
      }));
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    return { found, isStopped: true };
  }
  return { found, isStopped: false };
}

/**
 * Texts of arms that must not differ: against those of the first arm with the same weights, entries and press, and where there is none but
 * a draft, against its own without it.
 */
async function compareTexts(
  loaded: readonly Loaded[], samplesOf: (one: Loaded) => readonly Sample[], jobs: readonly Job[], config: ExperimentConfig, { signal, onStep, journal = NO_JOURNAL }: Hooks,
): Promise<{ found: Map<string, ComboTexts>; isStopped: boolean }> {
  const found = new Map<string, ComboTexts>();
  for (const one of loaded) {
    const { arm, place } = one, key = lossyKey(arm, config), first = loaded.find((other) => lossyKey(other.arm, config) === key)!;
    if (first === one && arm.settings.draft === undefined) continue;
    let reference: readonly (readonly number[])[] | null = first === one ? null : samplesOf(first)[0]!.tokens;
    if (reference === null) {
      onStep(`texts without the draft, ${arm.name}`, 0, 1);
      try {
        reference = (await journal.step(`texts without the draft, ${arm.name}`, () => runOnce(place, jobs, config, signal, false, { ...arm.request, draft: null }))).tokens;
      } catch (error) {
        if (!(error instanceof AbortedError)) throw error;
        return { found, isStopped: true };
      }
    }
    const all = samplesOf(one).flatMap(({ tokens }) => tokens.map((ids, prompt) => ({ prompt, token: partsAt(ids, reference[prompt]!) })));
    const differing = all.filter(({ token }) => token !== null), [parted] = differing;
    found.set(arm.name, {
      as: first === one ? null : first.arm.name, same: all.length - differing.length, of: all.length,
      firstDifference: parted === undefined ? null : { prompt: parted.prompt, token: parted.token! },
    });
  }
  return { found, isStopped: false };
}
