/** A run over number formats of the weights as a table in the terminal. */

import Table from "cli-table3";
import { doubtOf } from "../compare.ts";
import { bytes, metricsOf, signed } from "../metrics.ts";
import type { ArmWeights } from "../weights/experiment.ts";
import { judgeRun, nameOf, resultOf } from "../weights/verdict.ts";
import { wordsOf } from "./json.ts";
import { medianOf, numberOr } from "./parts.ts";
import { PLAIN } from "./terminal.ts";
import { conclusions, outlierNotes } from "./weights.ts";
import type { WeightsRun } from "./weights_json.ts";

const SHOWN: readonly string[] = ["ttft_ms", "tpot_ms", "latency_ms", "output_tokens_per_s"];

export function weightsSummary(run: WeightsRun): string {
  const words = wordsOf(run), { weights: say } = words, { arms, outcome, loading, corpus } = run.weights;
  const { adapter } = outcome.environment;
  const verdict = judgeRun(run.weights, words);
  const pairs = [...(verdict.control === null ? [] : [verdict.control]), ...verdict.pairs];
  const of = (arm: ArmWeights, key: string): string => {
    const change = pairs.find(({ to }) => to === arm.name)?.changes.find(({ metric }) => metric.key === key)?.change;
    const value = numberOr(medianOf(resultOf(run.weights, arm.name), { key: key as Parameters<typeof medianOf>[1]["key"] }), words);
    return change == null ? value : `${value} (${doubtOf(change, words) === null ? "" : "≈ "}${signed(change.median)})`;
  };
  const metrics = metricsOf(outcome.arms[0]!).filter(({ key }) => SHOWN.includes(key));
  const head = ["", ...metrics.map(({ key, unit }) => `${words.metrics[key]}, ${unit}`), say.weightsShort, words.rows.peak(words.rows.categories.total), say.ppl, say.kldShort];
  const table = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i === 0 ? "left" : "right")) });
  for (const arm of arms) {
    const f32 = arm.quality?.f32;
    table.push([
      nameOf(arm, words), ...metrics.map(({ key }) => of(arm, key)), bytes(arm.bytes), bytes(resultOf(run.weights, arm.name).memory.peak.total),
      arm.quality === null ? words.none : `${arm.quality.perplexity.value.toFixed(2)} ± ${arm.quality.perplexity.standardError.toFixed(2)}`,
      f32 === undefined || typeof f32 === "string" ? (f32 === "itself" ? "0" : words.none) : `${f32.kld.value.toExponential(2)} ± ${f32.kld.standardError.toExponential(1)}`,
    ]);
  }
  return [
    words.summary(outcome.source.id, adapter.description, adapter.software, run.config.num_prompts, outcome.arms[0]!.iterations.length),
    table.toString(), ...(pairs.length > 0 ? [say.approx] : []), ...conclusions(run, verdict, words).map((line) => line.replaceAll("**", "")),
    ...outlierNotes(arms, words), ...(loading === "in-turn" ? [say.inTurn] : []),
    ...(corpus === null ? [outcome.source.random ? say.quality.random : say.quality.none] : []), ...(outcome.source.random ? [words.randomShort] : []),
  ].join("\n");
}
