/** The result of a run as a table in the terminal. */

import Table from "cli-table3";
import { bytes, cacheUse, compare, doubtOf, metricsOf, sentence, signed } from "../metrics.ts";
import { number } from "./markdown.ts";
import { statusOf, type Run } from "./json.ts";

/** No colours, and no line between the rows. */
const PLAIN = { style: { head: [], border: [] }, chars: { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" } };

export function terminalSummary(run: Run): string {
  const { arms, environment, source } = run.outcome;
  const comparison = compare(run.outcome);
  const rows = new Table({ ...PLAIN, head: ["", "unit", ...arms.map(({ name }) => name), ...(comparison === null ? [] : ["change"])], colAligns: ["left", "left", "right", "right", "right"] });
  const metrics = arms.map(metricsOf);
  metrics[0]!.forEach(({ label, unit }, i) => {
    const change = comparison?.changes[i]?.change;
    rows.push([label, unit, ...metrics.map((of) => number(of[i]!.summary?.median ?? null)),
      ...(comparison === null ? [] : [change == null ? "n/a" : doubtOf(change) ?? signed(change.median)])]);
  });
  const uses = arms.map(cacheUse);
  rows.push(["KV taken at the peak", "", ...uses.map(({ peak }) => bytes(peak)), ...(comparison === null ? [] : [""])]);
  rows.push(["KV waste", "", ...uses.map(({ waste }) => (waste === null ? "n/a" : `${(waste * 100).toFixed(1)} %`)), ...(comparison === null ? [] : [""])]);
  const status = statusOf(run);
  return [
    `${source.id} on ${environment.adapter.description}${environment.adapter.software ? " (software adapter)" : ""}, ${run.prompts.texts.length} prompts, medians over ${arms[0]!.iterations.length} iterations`,
    rows.toString(),
    ...(status === "invalid" ? [`INVALID: ${comparison!.invalid}`] : status === "interrupted" ? ["INTERRUPTED: nothing is concluded from a partial run"] : []),
    ...(comparison !== null && status === "complete" ? [
      sentence(comparison.changes.find(({ metric }) => metric.key === "output_tokens_per_s")!.metric, comparison.changes.find(({ metric }) => metric.key === "output_tokens_per_s")!.change),
      `Engagement: ${comparison.engagement}.`, `Correctness: ${comparison.correctness}.`,
    ] : []),
    ...(source.random ? ["Random weights: the text means nothing."] : []),
  ].join("\n");
}
