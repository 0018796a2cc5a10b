/** A run of presses as a table in the terminal. */

import Table from "cli-table3";
import { doubtOf } from "../compare.ts";
import { bytes, metricsOf, signed } from "../metrics.ts";
import { actedOf, changeOf, judgePresses, perplexityChange, runningOf, type ArmVerdict } from "../press/verdict.ts";
import { wordsOf } from "./json.ts";
import { numberOr } from "./parts.ts";
import { knormConclusions, labelOf } from "./press.ts";
import { capacityConclusions } from "./press_capacity.ts";
import type { PressRun } from "./press_json.ts";
import { PLAIN } from "./terminal.ts";

const SHOWN: readonly string[] = ["ttft_ms", "tpot_ms", "output_tokens_per_s"];

export function pressSummary(run: PressRun): string {
  const words = wordsOf(run), { press: say } = words, { press, config } = run, { adapter } = press.environment;
  const verdict = judgePresses(press, config, words), isKnorm = config.technique === "KnormPress";
  const metrics = metricsOf(press.arms[0]!).filter(({ key }) => SHOWN.includes(key));
  const of = (one: ArmVerdict, key: string): string => {
    const value = numberOr(metricsOf(one.arm).find((metric) => metric.key === key)!.summary?.median, words), change = changeOf(one, key);
    return change === null ? value : `${value} (${doubtOf(change, words) === null ? "" : "≈ "}${signed(change.median)})`;
  };
  const head = ["", ...(isKnorm ? [] : [say.shortColumns.running]), ...metrics.map(({ key, unit }) => `${words.metrics[key]}, ${unit}`),
    say.shortColumns.kept, say.shortColumns.freed, say.shortColumns.ppl];
  const table = new Table({ ...PLAIN, head, colAligns: head.map((_, i) => (i === 0 ? "left" : "right")) });
  for (const one of verdict.arms) {
    const acted = actedOf(one.arm), moved = perplexityChange(one.arm), running = runningOf(one.arm);
    table.push([
      labelOf(one.arm, run, words), ...(isKnorm ? [] : [numberOr(running?.median, words)]), ...metrics.map(({ key }) => of(one, key)),
      acted === null || acted.events === 0 ? words.none : acted.kept.toFixed(1), acted === null ? words.none : bytes(acted.freedBytes),
      moved === null ? words.none : `${moved.claimed ? "" : "≈ "}${signed(moved.percent)} ± ${moved.error.toFixed(1)}`,
    ]);
  }
  return [
    words.summary(press.source.id, adapter.description, adapter.software, press.prompts.texts.length, press.arms[0]!.iterations.length),
    table.toString(), words.weights.approx,
    ...(isKnorm ? knormConclusions(run, verdict) : capacityConclusions(run, verdict)).map((line) => line.replaceAll("**", "")),
    words.correctness(verdict.correctness), ...(press.source.random ? [words.randomShort] : []),
  ].join("\n");
}
