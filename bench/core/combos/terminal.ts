/** A run of combinations in the terminal: what may be said first, then every arm with its figures. */

import Table from "cli-table3";
import { LANGUAGES } from "../lang/words.ts";
import { number, signed } from "../metrics.ts";
import { PLAIN } from "../report/terminal.ts";
import type { ResultBody } from "../result.ts";
import { headlineOf, invalidOf, verdictOf } from "../sentences.ts";
import type { MetricKey } from "../lang/en.ts";
import type { CombosRun } from "./body.ts";

const SHOWN: readonly MetricKey[] = ["output_tokens_per_s", "ttft_ms", "tpot_ms"];

export function combosSummary({ config }: CombosRun, body: ResultBody): string {
  const words = LANGUAGES[config.lang], { adapter } = body.environment, { page: say } = words;
  const head = ["", ...SHOWN.map((key) => `${words.metrics[key]} ${body.arms[0]!.metrics[key]?.unit ?? ""}`.trim()), words.rows.peakTaken, say.qualityColumns.perplexity];
  const rows = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i === 0 ? "left" : "right")) });
  for (const arm of body.arms) {
    const cell = (key: MetricKey): string => {
      const summary = arm.metrics[key]?.summary ?? null, change = arm.differences[key];
      if (summary === null) return words.none;
      return change?.measurable === true && invalidOf(body, arm, words) === null ? `${number(summary.median)} (${signed(change.median)})` : number(summary.median);
    };
    rows.push([arm.name, ...SHOWN.map(cell), arm.facts.find(({ label }) => label === words.combos.facts.kvTaken)?.value ?? words.none, arm.quality?.change == null ? "" : signed(arm.quality.change.percent)]);
  }
  const iterations = Math.max(...body.arms.map(({ metrics }) => metrics.output_tokens_per_s?.samples.length ?? 0));
  return [
    words.summary(body.model.id, adapter.description, adapter.software, config.num_prompts, iterations), rows.toString(),
    ...headlineOf(body, words).map(({ text }) => text), "",
    ...verdictOf(body, words).flatMap(({ arm, sentences }) => [arm, ...sentences.map(({ text }) => `  - ${text}`)]),
    ...body.notes,
  ].join("\n");
}
