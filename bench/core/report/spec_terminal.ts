/** A run of speculative decoding as a table in the terminal. */

import Table from "cli-table3";
import { percent } from "../metrics.ts";
import { judgeSpeculation } from "../speculation/verdict.ts";
import { wordsOf } from "./json.ts";
import { numberOr } from "./parts.ts";
import { armLabel, cellLabel, conclusions, ratio } from "./spec.ts";
import type { SpecRun } from "./spec_json.ts";
import { PLAIN } from "./terminal.ts";

export function specSummary(run: SpecRun): string {
  const words = wordsOf(run), { spec: say, none } = words, { speculation, config } = run, { adapter } = speculation.environment;
  const { iterations } = speculation.cells[0]!.arms[0]!;
  const verdict = judgeSpeculation(speculation, config, words);
  const head = ["", `${words.metrics.output_tokens_per_s}, tok/s`, `${words.metrics.tpot_ms}, ms`, say.short.speedUp,
    say.short.predicted, say.short.accepted, say.short.alpha];
  const tables = verdict.cells.map((cell) => {
    const table = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i === 0 ? "left" : "right")) });
    for (const { arm, invalid, throughput, tpot, speedUp, did } of cell.arms) {
      const { rate = null, alpha = null } = did?.explanation ?? {}, predicted = did?.predicted ?? null;
      table.push([
        `${armLabel(arm, words)}${invalid === null ? "" : ` ${words.invalid}`}`, numberOr(throughput?.median, words),
        numberOr(tpot?.median, words), speedUp === null ? none : `${speedUp.measurable ? "" : "≈ "}${ratio(speedUp.median)}`,
        predicted === null ? none : predicted.toFixed(2), rate === null ? none : percent(rate),
        alpha === null ? none : percent(alpha.value),
      ]);
    }
    return `${cellLabel(cell, words).replaceAll("`", "")}\n${table.toString()}`;
  });
  return [
    words.summary(speculation.source.id, adapter.description, adapter.software, speculation.prompts.texts.length, iterations.length),
    ...tables, words.weights.approx, ...conclusions(run, verdict).map((line) => line.replaceAll("**", "").replaceAll("`", "")),
    words.correctness(verdict.correctness), ...(speculation.source.random ? [words.randomShort] : []),
  ].join("\n");
}
