/** The JSON of the experiments on KV compression: every arm with its samples, what its press did, and its quality. */

import { metricsOf } from "../metrics.ts";
import type { MetricChange } from "../metrics.ts";
import type { Words } from "../lang/en.ts";
import type { Outcome } from "../measure.ts";
import type { PressArmResult, PressOutcome } from "../press/experiment.ts";
import { actedOf, judgePresses, perplexityChange, runningOf, type ArmVerdict } from "../press/verdict.ts";
import { common, wordsOf, type RunInfo, type Status } from "./json.ts";

export interface PressRun extends RunInfo { readonly press: PressOutcome }

/** Where it ran, as the parts that all reports share ask for it. */
export function placeOf({ status, source, environment, maxModelLen, budget, warmUp, yardstick }: PressOutcome): Outcome {
  return { status, source, environment, maxModelLen, budget, warmUp, yardstick, arms: [], skipped: [], order: [], identical: null };
}

/** One arm that did not act makes the run invalid, though the others are spoken of. */
export function pressStatusOf(run: PressRun): Status {
  if (run.press.status !== "complete") return run.press.status;
  const { invalid, arms } = judgePresses(run.press, run.config, wordsOf(run));
  return invalid === null && arms.every((arm) => arm.invalid === null) ? "complete" : "invalid";
}

export function pressJson(run: PressRun): string {
  return JSON.stringify({ ...common(run, placeOf(run.press), wordsOf(run)), status: pressStatusOf(run), ...pressDetail(run) }, null, 2);
}

/** What that holds beside what every report does. */
export function pressDetail(run: PressRun) {
  const words = wordsOf(run), { press, config } = run;
  const { invalid, correctness, control, arms } = judgePresses(press, config, words);
  return {
    order: press.order, places: press.places,
    budgetBytes: press.budget, budgetTokens: press.entries, entryBytes: press.entryBytes, loadTimings: press.loadTimings,
    scored: press.scored,
    arms: arms.map((arm) => armPart(arm, words)), comparison: { invalid, correctness, control: changesPart(control, words) },
  };
}

function armPart({ arm, invalid, changes }: ArmVerdict, words: Words) {
  const { name, kind, press, keep, iterations, peak, held, firstPressMs } = arm, none = { value: null, reason: words.press.missing };
  return {
    arm: name, kind, press, keep, invalid,
    metrics: Object.fromEntries(metricsOf(arm).map(({ key, unit, summary, missing }) => (
      [key, { unit, ...(summary ?? { value: null, reason: words.missing[missing!] }) }]
    ))),
    ...(changes.length > 0 && { changesPercent: changesPart(changes, words) }),
    running: runningOf(arm) ?? none, acted: actedOf(arm) ?? (kind === "press" ? none : null), ttftPressMs: kind === "press"
      ? firstPressMs ?? none : 0,
    memoryPeak: peak ?? none, held, quality: qualityPart(arm, words), iterations,
  };
}

function qualityPart(arm: PressArmResult, words: Words) {
  if (arm.kind !== "press") return null;
  if (arm.quality === null) return { value: null, reason: words.press.missing };
  return { ...arm.quality.quality, changePercent: perplexityChange(arm), press: arm.quality.report };
}

function changesPart(changes: readonly MetricChange[], words: Words) {
  return Object.fromEntries(changes.map(({ metric, change }) => [metric.key, change ?? { value: null, reason: words.missing.noArm }]));
}
