/**
 * What may be concluded from arms that differ in their weights: whether each holds what it was asked for, whether two equal arms wrote the
 * same, and which differences stand out. A difference of speed counts when the iterations agree on it and it is larger than what the
 * two equal arms may differ by; one of perplexity when it is more than two standard errors of the paired difference.
 */

import type { ArmName } from "../arms.ts";
import { gateSmaller, gateWeights } from "../gates.ts";
import type { Words } from "../lang/en.ts";
import { bytes, pairOf, type Pair } from "../metrics.ts";
import type { ArmResult } from "../measure.ts";
import { CLAIM_ERRORS } from "../stats.ts";
import { mainFormat, type ArmWeights, type WeightsOutcome } from "./experiment.ts";
import type { Divergence } from "./quality.ts";

export interface WeightsVerdict {
  /** Why nothing can be concluded from these runs. */
  readonly invalid: string | null;
  /** A sentence for each arm: what it holds. */
  readonly engagement: readonly string[];
  /** About the texts of the two equal arms; null without them. */
  readonly correctness: string | null;
  /** The first arm again, against itself; null without it. */
  readonly control: Pair | null;
  /** Every other arm against the first. */
  readonly pairs: readonly Pair[];
}

/** `f32`, `nf4`, or for the first arm of an experiment on the checkpoint's own format what that turned out to be. */
export function formatOf({ held, asked }: ArmWeights): string {
  return asked ?? mainFormat(held) ?? "?";
}

export function judgeRun({ outcome, arms, loading }: WeightsOutcome, words: Words): WeightsVerdict {
  const { weights: say } = words;
  const [first, ...others] = outcome.arms;
  const again = others.find(({ name }) => name === "again");
  const control = first !== undefined && again !== undefined ? pairOf(first, again) : null;
  const heldBy = ({ held }: ArmWeights): string => held.map((one) => say.heldAs(one.format, one.matrices, bytes(one.bytes))).join(say.and);
  const engagement = arms.map((arm) => say.holds(say.label(arm.name, formatOf(arm)), heldBy(arm)));
  const { identical } = outcome;
  const differs = identical !== null && identical.required && identical.same < identical.of;
  const correctness = again === undefined ? null : loading === "in-turn" ? say.textsInTurn : identical === null ? say.textsNotCompared : say.controlTexts(identical.same, identical.of);
  return {
    invalid: notEngaged(arms, words) ?? (differs ? say.controlDiffers(identical.of - identical.same, identical.of) : null),
    engagement, correctness, control, pairs: first === undefined ? [] : others.filter((arm) => arm !== again).map((arm) => pairOf(first, arm, control ?? undefined)),
  };
}

/** The first arm that does not hold what it was asked for, in words; null when all do. */
function notEngaged(arms: readonly ArmWeights[], words: Words): string | null {
  const basic = arms.find(({ name }) => name === "basic");
  for (const { name, asked, held, bytes: own } of arms) {
    if (asked === null) continue;
    const label = words.weights.label(name, asked);
    const closed = gateWeights(held, asked, label, words)
      ?? (basic === undefined || name !== "quantized" ? null : gateSmaller(asked, own, basic.bytes, label, words));
    if (closed !== null) return closed;
  }
  return null;
}

/** A perplexity over another, in percent more, ± one standard error; `claimed` when it is more than CLAIM_ERRORS of them. */
export function perplexityChange({ ratio: { value, standardError } }: Divergence): {
  readonly percent: number; readonly error: number; readonly claimed: boolean } {
  return { percent: 100 * (value - 1), error: 100 * standardError, claimed: Math.abs(value - 1) > CLAIM_ERRORS * standardError };
}

/** How a perplexity lies to another: with its ratio and what may be said of it. */
export function ratioInWords(divergence: Divergence, to: string, from: string, { weights: say }: Words): string {
  const { ratio: { value, standardError } } = divergence;
  const verdict = !perplexityChange(divergence).claimed ? "same" : value > 1 ? "higher" : "lower";
  return say.ratio(to, from, `${value.toFixed(4)} ± ${standardError.toFixed(4)}`, say.ratioIs[verdict]);
}

export function nameOf(arm: ArmWeights, { weights: say }: Words): string {
  return say.label(arm.name, formatOf(arm));
}

export function resultOf({ outcome }: WeightsOutcome, name: ArmName): ArmResult {
  return outcome.arms.find((arm) => arm.name === name)!;
}
