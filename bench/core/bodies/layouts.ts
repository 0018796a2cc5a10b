/**
 * The layouts of the cache, and a prefix cache, in the common shape. All arms run the same kernels, so texts must be the same: each is
 * lossless or nothing is concluded from it.
 */

import { compare, preemptionNotes, type Comparison } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import type { ArmResult, Outcome } from "../measure.ts";
import { memoryUse, pairOf } from "../metrics.ts";
import { layoutsDetail, statusOf, wordsOf, type Run } from "../report/json.ts";
import { headline, tableCost } from "../report/markdown.ts";
import { cacheRows, percentOr } from "../report/parts.ts";
import type { ResultArm, ResultBody } from "../result.ts";
import {
  coldStartOf, differencesIn, factsIn, metricsIn, plainNotes, roleOf, standingNotes, struck, subjectOf, textsProof, type Row,
} from "./parts.ts";

export function layoutsBody(run: Run): ResultBody {
  const words = wordsOf(run), { outcome, config } = run, { warmUp, yardstick, order } = outcome;
  const comparison = compare(outcome, words), status = statusOf(run), rows = cacheRows(outcome.arms, words);
  const told = comparison === null || status !== "complete" ? [] : [
    ...headline(outcome, words), ...tableCost(comparison, words), ...(config.shared_prefix === undefined ? [words.sameKernels] : []),
  ];
  return {
    status, order, warmUp, yardstick, ...subjectOf(run, outcome, words), corpus: null,
    arms: layoutArmsIn(outcome, comparison, words, { factsOf: (at) => rows.map((row) => [row[0], row[at + 1]]) }),
    notes: plainNotes([
      ...standingNotes(outcome, status, comparison?.invalid ?? null, words), ...told, ...preemptionNotes(outcome.arms, words),
    ]),
    pictures: [], detail: layoutsDetail(run),
  };
}

interface Names {
  /** Names are prefixed with it, where a run has several groups. */
  readonly group?: string;
  /** Of the arm at that place. */
  readonly factsOf: (at: number) => readonly Row[];
}

/** Arms that differ in where the cache lies. */
export function layoutArmsIn(outcome: Outcome, comparison: Comparison | null, words: Words, { group = "", factsOf }: Names): ResultArm[] {
  const { arms, identical, warmUp } = outcome, [base] = arms, again = arms.find(({ name }) => name === "again");
  const control = base === undefined || again === undefined || again === base ? undefined : pairOf(base, again);
  return arms.map((arm, at): ResultArm => {
    const role = roleOf(at, arm === again);
    const judged = comparison?.pairs.find(({ from, to }) => from === base!.name && to === arm.name);
    const { changes } = role === "baseline" ? { changes: [] } : judged ?? (role === "control" ? control! : pairOf(base!, arm, control));
    return {
      name: nameIn(group, arm.name), group, role, settings: settingsOf(arm),
      invalid: struck(comparison?.invalid ?? null, role, arms.length),
      engagement: role === "technique" ? engagementOf(arm, comparison, words) : null,
      proof: role === "baseline" || comparison === null ? null : textsProof(identical, comparison.correctness), quality: null,
      metrics: metricsIn(arm), differences: differencesIn(changes), memory: arm.memory.peak, facts: factsIn(factsOf(at), words),
      coldStart: coldStartOf(arm.loadTimings, warmUp, arm.name),
    };
  });
}

export function nameIn(group: string, name: string): string {
  return group === "" ? name : `${group}: ${name}`;
}

function settingsOf({ name, layout, batch }: ArmResult): ResultArm["settings"] {
  const place = layout.name === "paged" ? { layout: "paged", block_size: layout.blockSize, prefix_cache: name === "paged-prefix" }
    : { layout: "contiguous", reserve: layout.reserve };
  return { ...place, batching: batch === null ? "continuous" : "static" };
}

/** What is judged is paging, and the prefix cache; of another layout what it wasted. */
function engagementOf(arm: ArmResult, comparison: Comparison | null, words: Words): string {
  const isJudged = arm.name === "paged" || arm.name === "paged-prefix";
  if (isJudged && comparison !== null) return comparison.engagement;
  return words.holds(words.arms[arm.name], arm.fits, percentOr(memoryUse(arm).waste, words));
}
