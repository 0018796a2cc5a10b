/** The JSON of the experiment on speculative decoding: every arm with its samples, what was drafted and accepted, costs and predictions. */

import type { Words } from "../lang/en.ts";
import type { Outcome } from "../measure.ts";
import { metricsOf } from "../metrics.ts";
import type { SpecOutcome } from "../speculation/experiment.ts";
import { judgeSpeculation, type CellVerdict, type SpecArmVerdict } from "../speculation/verdict.ts";
import { common, wordsOf, type RunInfo, type Status } from "./json.ts";

export interface SpecRun extends RunInfo { readonly speculation: SpecOutcome }

/** Where it ran, as the parts that all reports share ask for it. */
export function placeOf({ status, source, environment, maxModelLen, budget, warmUp, yardstick }: SpecOutcome): Outcome {
  return { status, source, environment, maxModelLen, budget, warmUp, yardstick, arms: [], skipped: [], order: [], identical: null };
}

/** One arm that did not speculate, or changed the text, makes the run invalid, though the others are spoken of. */
export function specStatusOf(run: SpecRun): Status {
  if (run.speculation.status !== "complete") return run.speculation.status;
  return judgeSpeculation(run.speculation, run.config, wordsOf(run)).isInvalid ? "invalid" : "complete";
}

export function specJson(run: SpecRun): string {
  return JSON.stringify({ ...common(run, placeOf(run.speculation), wordsOf(run)), status: specStatusOf(run), ...specDetail(run) }, null, 2);
}

/** What that holds beside what every report does. */
export function specDetail(run: SpecRun) {
  const words = wordsOf(run), { speculation, config } = run, { cells, correctness } = judgeSpeculation(speculation, config, words);
  return {
    loading: speculation.loading, order: speculation.order,
    places: speculation.places, budgetBytes: speculation.budget, correctness,
    drafts: speculation.drafts.map((draft) => ({ ...draft, costs: draft.costs ?? { value: null, reason: words.spec.missing } })),
    cells: cells.map((cell) => cellPart(cell, words)),
  };
}

function cellPart({ cell, draft, invalid, arms, control, model, doubt, outlook, fastest, cause }: CellVerdict, words: Words) {
  const none = { value: null, reason: words.spec.missing };
  return {
    dataset: cell.dataset, draft: draft.name, kind: draft.kind, invalid, divergences: cell.divergences, costModel: model ?? none, doubt,
    outlook: outlook ?? none, fastest: fastest?.arm.name ?? none, cause,
    control: { speedUpPercent: control.speedUp ?? none, throughputPercent: control.throughputChange ?? none },
    arms: arms.map((arm) => armPart(arm, words)),
  };
}

function armPart({ arm, invalid, throughput, tpot, throughputChange, speedUp, did }: SpecArmVerdict, words: Words) {
  const none = { value: null, reason: words.spec.missing };
  return {
    arm: arm.name, kind: arm.kind, k: arm.k, invalid, outputTokensPerS: throughput ?? none, tpotMs: tpot ?? none,
    metrics: Object.fromEntries(metricsOf(arm).map(({ key, unit, summary, missing }) =>
      [key, { unit, ...(summary ?? { value: null, reason: words.missing[missing!] }) }])),
    ...(arm.kind !== "none" && { speedUpPercent: speedUp ?? none, throughputPercent: throughputChange ?? none }),
    ...(arm.kind === "drafted" && { speculation: did ?? none }), iterations: arm.iterations,
  };
}
