/** The result of a run as a table in the terminal. */

import Table from "cli-table3";
import { compare, doubtOf, preemptionNotes, sentence, type Comparison } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import { bytes, hitRate, memoryUse, metricsOf, signed } from "../metrics.ts";
import { memoryIntro, memoryLines, rowsOf } from "./memory.ts";
import { headline, tableCost } from "./markdown.ts";
import { statusOf, wordsOf, type MemoryRun, type Run } from "./json.ts";
import { medianOf, numberOr, percentOr } from "./parts.ts";

/** No colours, and no line between the rows. */
export const PLAIN = { style: { head: [], border: [] }, chars: { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" } };

export function terminalSummary(run: Run): string {
  const { arms, environment, source } = run.outcome;
  const words = wordsOf(run), { adapter } = environment;
  const comparison = compare(run.outcome, words);
  const pairs = comparison?.pairs ?? [];
  const status = statusOf(run);
  return [
    words.summary(source.id, adapter.description, adapter.software, run.config.num_prompts, arms[0]!.iterations.length),
    metricTable(run, pairs, words),
    ...(status === "invalid" ? [`${words.invalid}: ${comparison!.invalid}`] : status === "interrupted" ? [`${words.interrupted}: ${words.nothingConcluded}`] : []),
    ...(comparison !== null && status === "complete" ? conclusions(run, comparison, words) : []),
    ...preemptionNotes(arms, words), ...(source.random ? [words.randomShort] : []),
  ].join("\n");
}

function metricTable({ outcome: { arms } }: Run, pairs: Comparison["pairs"], words: Words): string {
  const head = ["", words.unit, ...arms.map(({ name }) => words.arms[name]), ...pairs.map(({ from, to }) => words.against(words.arms[to], words.arms[from]))];
  const rows = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i < 2 ? "left" : "right")) });
  metricsOf(arms[0]!).forEach((metric, i) => {
    const changes = pairs.map(({ changes: of }) => of[i]!.change);
    rows.push([
      words.metrics[metric.key], metric.unit, ...arms.map((arm) => numberOr(medianOf(arm, metric), words)),
      ...changes.map((change) => (change === null ? words.none : doubtOf(change, words) ?? signed(change.median))),
    ]);
  });
  const uses = arms.map(memoryUse), blank = pairs.map(() => "");
  rows.push([words.kvTaken, "", ...uses.map(({ peak }) => bytes(peak)), ...blank]);
  rows.push([words.kvWaste, "", ...uses.map(({ waste }) => percentOr(waste, words)), ...blank]);
  rows.push([words.preemptions, "", ...arms.map(({ cache }) => String(cache.preemptions)), ...blank]);
  if (arms.some(({ name }) => name === "paged-prefix")) rows.push([words.hitRate, "", ...arms.map((arm) => percentOr(hitRate(arm), words)), ...blank]);
  else rows.push([words.fits, "", ...arms.map(({ fits }) => String(fits)), ...blank]);
  return rows.toString();
}

function conclusions({ outcome }: Run, comparison: Comparison, words: Words): string[] {
  const key = (name: string) => comparison.pairs.filter(({ from }) => from !== "contiguous-exact").flatMap(({ changes }) => changes.filter(({ metric }) => metric.key === name));
  return [
    ...headline(outcome, words), ...tableCost(comparison, words), ...[...key("output_tokens_per_s"), ...key("ttft_ms")].map((one) => sentence(one, words)),
    words.engagement(comparison.engagement), words.correctness(comparison.correctness),
  ];
}

/** Columns of rowsOf() that a terminal has room for. */
const NARROW = [0, 1, 2, 3, 5, 6, 8, 9, 10];

export function memorySummary(run: MemoryRun): string {
  const words = wordsOf(run), { environment, source } = run.memory.cells[0]!.outcome;
  const head = words.memory.columnsShort;
  const rows = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i < 2 ? "left" : "right")) });
  for (const row of rowsOf(run.memory.cells, words)) rows.push(NARROW.map((i) => row[i]!));
  return [
    words.summary(source.id, environment.adapter.description, environment.adapter.software, run.config.num_prompts, run.config.test_iterations),
    ...memoryIntro(run), rows.toString(), ...memoryLines(run), ...(source.random ? [words.randomShort] : []),
  ].join("\n");
}
