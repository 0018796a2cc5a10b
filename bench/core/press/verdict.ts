/**
 * What may be concluded from a run of presses. An arm counts only if its press evicted something, in every request and in what was scored;
 * no press twice, and the press that keeps everything, must write the same texts. A difference of speed counts when the iterations agree on
 * it and it is larger than what the two equal arms may differ by; one of perplexity when it is more than two standard errors of the paired
 * difference.
 */

import type { PressReport } from "../../../models/options.ts";
import { gatePress } from "../gates.ts";
import type { Words } from "../lang/en.ts";
import { changesBetween, type MetricChange } from "../metrics.ts";
import { CLAIM_ERRORS, quantile, type Change } from "../stats.ts";
import type { ExperimentConfig } from "../schema.ts";
import { CONTROL_PRESS } from "./arms.ts";
import type { PressArmResult, PressOutcome } from "./experiment.ts";

export interface ArmVerdict {
  readonly arm: PressArmResult;
  /** Why nothing can be concluded from this arm. */
  readonly invalid: string | null;
  /** Every metric against no press; empty for no press itself. */
  readonly changes: readonly MetricChange[];
}

export interface PressVerdict {
  /** Why nothing can be concluded from any arm. */
  readonly invalid: string | null;
  readonly correctness: string;
  /** The two equal arms. */
  readonly control: readonly MetricChange[];
  readonly arms: readonly ArmVerdict[];
}

export function judgePresses({ arms }: Pick<PressOutcome, "arms">, config: ExperimentConfig, words: Words): PressVerdict {
  const [none, again] = arms as readonly [PressArmResult, PressArmResult, ...PressArmResult[]];
  const control = changesBetween(none, again);
  const { same, of } = textsOf(arms.filter(({ kind, keep }) => kind !== "press" || keep === 1));
  const { press: say } = words;
  return {
    control, correctness: of === 0 ? words.notCompared : say.texts(same, of),
    invalid: config.temperature === 0 && same < of ? say.textsDiffer(of - same, of) : null,
    arms: arms.map((arm) => ({
      arm, invalid: arm.kind === "press" ? notEngaged(arm, config, words) ?? sameAsRandom(arm, arms, words) : null,
      changes: arm === none ? [] : arm === again ? control : changesBetween(none, arm, control),
    })),
  };
}

export function changeOf({ changes }: Pick<ArmVerdict, "changes">, key: string): Change | null {
  return changes.find(({ metric }) => metric.key === key)?.change ?? null;
}

/** Why a press that should evict cannot be spoken of; null when it can. */
function notEngaged({ keep, iterations, quality }: PressArmResult, config: ExperimentConfig, words: Words): string | null {
  if (keep === 1) return null;
  const pruneAfter = config.technique === "KnormPress" ? config.prune_after : undefined;
  return gatePress(iterations.flatMap(({ requests }) => requests), { pruneAfter, scored: quality === null ? undefined : quality.report }, words);
}

/** A press whose every figure is that of evicting at random has not been asked what to keep, whatever it says it did. */
function sameAsRandom({ press, keep, name, quality }: PressArmResult, arms: readonly PressArmResult[],
  { press: say }: Words): string | null {
  const random = arms.find((arm) => arm.press === CONTROL_PRESS && arm.keep === keep);
  if (keep === 1 || press === CONTROL_PRESS || quality === null || random === undefined || random.quality === null) return null;
  const [own, other] = [quality.quality, random.quality.quality];
  return own.kld.mean === other.kld.mean && own.logRatio.mean === other.logRatio.mean && own.kld.max === other.kld.max
    ? say.sameAsRandom(name, random.name) : null;
}

/** Prompts whose new tokens are the same in every iteration of all these arms. */
function textsOf(arms: readonly PressArmResult[]): { same: number; of: number } {
  const all = arms.flatMap(({ texts }) => texts), [first] = all;
  if (first === undefined || arms.some(({ texts }) => texts.length === 0)) return { same: 0, of: 0 };
  const same = first.filter((ids, prompt) => all.every((texts) => String(texts[prompt]) === String(ids))).length;
  return { same, of: first.length };
}

/** What a press did to a request: medians over all of them. */
export interface Acted {
  readonly events: number;
  readonly evicted: number;
  readonly freedBytes: number;
  readonly ms: number;
  /** Share of the time a request took. */
  readonly share: number;
  /** Entries after its last act, on average over KV heads: of each layer, and of all. */
  readonly layers: readonly number[];
  readonly kept: number;
  /** Of that many tokens. */
  readonly seen: number;
}

/** Null without a report. */
export function actedOf({ iterations }: Pick<PressArmResult, "iterations">): Acted | null {
  const all = iterations.flatMap(({ requests }) => requests).flatMap(({ report, latency }) =>
    (report === null ? [] : [{ ...report, latency }]));
  if (all.length === 0) return null;
  const of = (value: (one: PressReport & { readonly latency: number }) => number): number => quantile(all.map(value), 0.5)!;
  const kept = all.at(-1)!.kept, layers = kept.map(mean);
  return {
    events: of(({ events }) => events), evicted: of(({ evicted }) => evicted), freedBytes: of(({ freedBytes }) => freedBytes),
    ms: of(({ ms }) => ms),
    share: of(({ ms, latency }) => (latency > 0 ? ms / latency : 0)), layers, kept: mean(layers), seen: of(({ seen }) => seen),
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

export interface Running { readonly median: number; readonly low: number; readonly high: number }

/** The most sequences that ran in one step, iteration by iteration. */
export function runningOf({ iterations }: Pick<PressArmResult, "iterations">): Running | null {
  if (iterations.length === 0) return null;
  const values = iterations.map(({ running }) => running);
  return { median: quantile(values, 0.5)!, low: Math.min(...values), high: Math.max(...values) };
}

/**
 * Perplexity under the press over that without, in percent more, with one standard error: the larger of that over tokens and that over
 * windows.
 */
export function perplexityChange({ quality }: Pick<PressArmResult, "quality">): {
  readonly percent: number; readonly error: number; readonly claimed: boolean } | null {
  if (quality === null) return null;
  const { ratio, logRatio } = quality.quality, error = 100 * ratio.value * Math.max(logRatio.error ?? 0, logRatio.errorOverWindows ?? 0);
  const percent = 100 * (ratio.value - 1);
  return { percent, error, claimed: Math.abs(percent) > CLAIM_ERRORS * error };
}
