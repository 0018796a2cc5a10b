/**
 * Speculative decoding in the common shape: a group for every draft on every data set, measured against plain decoding in the same LLM.
 * Greedy texts must be those of plain decoding.
 */

import type { Words } from "../lang/en.ts";
import { changesBetween } from "../metrics.ts";
import { wordsOf } from "../report/json.ts";
import { armLabel, armRow, coldStarts, conclusions, introduction } from "../report/spec.ts";
import { specDetail, specStatusOf, type SpecRun } from "../report/spec_json.ts";
import { speculationSpecs } from "../report/spec_pictures.ts";
import type { Proof, ResultArm, ResultBody } from "../result.ts";
import type { SpecArmResult } from "../speculation/measure.ts";
import { judgeSpeculation, throughputOf, tpotOf, type CellVerdict, type SpecArmVerdict } from "../speculation/verdict.ts";
import type { Change } from "../stats.ts";
import {
  bare, captionOf, coldStartOf, differencesIn, factsIn, metricOf, metricsIn, plainNotes, renamed, roleOf, standingNotes, struck, subjectOf,
} from "./parts.ts";

/** The first column of the report's table that is no metric: speed-up, prediction, acceptance. */
const FIRST_FACT = 3;

export function speculationBody(run: SpecRun): ResultBody {
  const words = wordsOf(run), { speculation, config } = run, { yardstick, order, prompts } = speculation;
  const verdict = judgeSpeculation(speculation, config, words), status = specStatusOf(run);
  const names = new Map(verdict.cells.flatMap(({ cell: { dataset, draft, arms } }) =>
    arms.map(({ name }) => [`${dataset}, ${draft}, ${name}`, `${dataset}, ${draft}: ${name}`])));
  const nameOf = (ran: string): string => names.get(ran) ?? ran, warmUp = renamed(speculation.warmUp, nameOf);
  const caption = captionOf(speculation, prompts.texts.length, verdict.cells[0]!.cell.arms[0]!.iterations.length, words);
  return {
    status, order: order.map((turn) => turn.map(nameOf)), warmUp, yardstick, ...subjectOf(run, speculation, words), corpus: null,
    arms: verdict.cells.flatMap((cell) => armsOf(run, cell, words, warmUp)),
    notes: plainNotes([
      // What was stopped, and which cells are invalid, the conclusions say themselves.
      ...standingNotes(speculation, "complete", null, words), ...introduction(run), ...conclusions(run, verdict),
      words.correctness(verdict.correctness), ...coldStarts(run),
    ]),
    pictures: speculationSpecs(run).map(({ name: id, shows: title, spec }) => ({ id, title, caption, spec })), detail: specDetail(run),
  };
}

function armsOf(run: SpecRun, one: CellVerdict, words: Words, warmUp: ResultBody["warmUp"]): ResultArm[] {
  const { cell: { dataset, draft }, arms } = one, group = `${dataset}, ${draft}`, { columns, verdict: say } = words.spec;
  return arms.map((judged, at): ResultArm => {
    const { arm, invalid, did } = judged, role = roleOf(at, arm.kind === "again"), name = `${group}: ${arm.name}`;
    const { counted = null, meanLength = null } = did?.explanation ?? {}, row = armRow(judged, words);
    return {
      name, group, role, settings: arm.kind === "drafted" ? { draft, k: arm.k } : { draft: null },
      invalid: struck(one.invalid, role, arms.length) ?? invalid,
      engagement: counted === null || meanLength === null ? null
        : bare(say.round(armLabel(arm, words), meanLength.toFixed(2), counted.cost.toFixed(2))),
      proof: role === "baseline" ? null : proofOf(run, one, arm, words), quality: null, metrics: metricsOf(arm),
      differences: differencesOf(one, judged), memory: null,
      facts: factsIn(columns.slice(FIRST_FACT).map((label, i) => [label, row[FIRST_FACT + i]]), words),
      coldStart: coldStartOf(one.draft.loadTimings, warmUp, name),
    };
  });
}

/** One request at a time: throughput and time per token are of all requests together, as the verdict has them. */
function metricsOf(arm: SpecArmResult): ResultArm["metrics"] {
  const common = metricsIn(arm), { iterations } = arm;
  return {
    ...common, output_tokens_per_s: metricOf(iterations.map(throughputOf), common.output_tokens_per_s!, "noValue"),
    tpot_ms: metricOf(iterations.map(tpotOf), common.tpot_ms!, "oneToken"),
  };
}

function differencesOf({ arms: [none, again] }: CellVerdict, { arm, throughputChange, speedUp }: SpecArmVerdict): ResultArm["differences"] {
  if (arm === none!.arm) return {};
  const control = changesBetween(none!.arm, again!.arm), common = arm === again!.arm ? control : changesBetween(none!.arm, arm, control);
  const { output_tokens_per_s: _throughput, tpot_ms: _tpot, ...others } = differencesIn(common);
  return {
    ...others, ...(throughputChange !== null && { output_tokens_per_s: throughputChange }),
    ...(speedUp !== null && { tpot_ms: timeOf(speedUp) }),
  };
}

/**
 * A speed-up told as time per token, in percent: 25 % faster is 20 % less time. What may be claimed of the one may be of the other, so the
 * noise floor is that of the side on which the change lies.
 */
export function timeOf({ median, low, high, noise, ...verdict }: Change): Change {
  const time = (more: number): number => -100 * more / (100 + more) || 0; // || 0: no −0
  // No speed is lower than none: a floor of 100 % or more lets no slow-down through, whatever number stands for it.
  const floor = median >= 0 ? -time(noise) : time(-Math.min(noise, 99));
  return { median: time(median), low: time(high), high: time(low), noise: floor || 0, ...verdict };
}

function proofOf(
  { speculation: { status }, config }: SpecRun, { cell: { divergences } }: CellVerdict, { name, texts }: SpecArmResult, words: Words,
): Proof {
  if (config.temperature !== 0) return { kind: "lossless", holds: null, text: words.spec.sampled };
  if (status !== "complete") return { kind: "lossless", holds: null, text: words.notCompared };
  const of = texts.flat().length, differing = divergences.find(({ arm }) => arm === name)?.differing ?? 0;
  return { kind: "lossless", holds: differing === 0, text: words.spec.texts(String(of - differing), String(of)) };
}
