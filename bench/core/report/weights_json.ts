/** The JSON of experiments on number formats of the weights: every arm with its samples, what it holds, and its quality. */

import type { Pair } from "../metrics.ts";
import type { Words } from "../lang/en.ts";
import type { ArmWeights, WeightsOutcome } from "../weights/experiment.ts";
import { formatOf, judgeRun, resultOf } from "../weights/verdict.ts";
import { armPart, common, wordsOf, type RunInfo, type Status } from "./json.ts";

export interface WeightsRun extends RunInfo { readonly weights: WeightsOutcome }

export function weightsStatusOf(run: WeightsRun): Status {
  const { status } = run.weights.outcome;
  return status !== "complete" ? status : judgeRun(run.weights, wordsOf(run)).invalid === null ? "complete" : "invalid";
}

function head(run: WeightsRun) {
  return { ...common(run, run.weights.outcome, wordsOf(run)), status: weightsStatusOf(run) };
}

function settings({ weights: { loading, notes, outcome, corpus } }: WeightsRun) {
  return { loading, notes, order: outcome.order, budgetBytes: outcome.budget, perplexityOf: corpus };
}

/** One arm. */
export function weightsArmJson(run: WeightsRun, arm: ArmWeights): string {
  const words = wordsOf(run);
  return JSON.stringify({ ...head(run), ...settings(run), ...weightsPart(run, arm, words) }, null, 2);
}

/** All arms and their comparison. */
export function weightsJson(run: WeightsRun): string {
  return JSON.stringify({ ...head(run), ...weightsDetail(run) }, null, 2);
}

/** What that holds beside what every report does. */
export function weightsDetail(run: WeightsRun) {
  const words = wordsOf(run), { weights } = run;
  const { invalid, engagement, correctness, control, pairs } = judgeRun(weights, words);
  const part = ({ from, to, changes }: Pair) => ({
    from, to, changesPercent: Object.fromEntries(changes.map(({ metric, change }) => [metric.key, change ?? { value: null, reason: words.missing.noArm }])),
  });
  return {
    ...settings(run), arms: weights.arms.map((arm) => weightsPart(run, arm, words)),
    comparison: { invalid, engagement, correctness, texts: weights.outcome.identical, control: control === null ? null : part(control), pairs: pairs.map(part) },
  };
}

function weightsPart({ weights }: WeightsRun, arm: ArmWeights, words: Words) {
  const { held, bytes, expectedBytes, outliers, quality } = arm;
  const divergence = (one: NonNullable<ArmWeights["quality"]>["f32"]) =>
    (typeof one !== "string" ? one : { value: null, reason: one === "itself" ? words.weights.quality.isItself : words.weights.quality.missing[one] });
  return {
    ...armPart(resultOf(weights, arm.name), words), format: formatOf(arm),
    weights: { held, ledgerBytes: bytes, expectedBytes: expectedBytes ?? { value: null, reason: words.weights.notKnown }, ...(outliers !== null && { outliers }) },
    ...(quality !== null && { quality: { perplexity: quality.perplexity, againstFirst: divergence(quality.first), againstF32: divergence(quality.f32) } }),
  };
}
