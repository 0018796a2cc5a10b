/** Reports of the layouts in Markdown: one per arm, and the comparison. Sentences come from the gates of compare.ts, never from a template's hopes. */

import type { LayoutArm } from "../arms.ts";
import { compare, doubtOf, preemptionNotes, rangeOf, ratioSentence, sentence, type Comparison } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import type { ArmResult, Outcome } from "../measure.ts";
import { bytes, memoryUse, metricsOf, number, signed, type Metric, type MetricChange, type Pair } from "../metrics.ts";
import { CLAIM_ITERATIONS } from "../stats.ts";
import { statusOf, wordsOf, type Run } from "./json.ts";
import { configuration, document, environment, medianOf, memoryTable, notes, numberOr, orderOf, percentOr, rawSamples, table } from "./parts.ts";

export function armMarkdown(run: Run, arm: ArmResult): string {
  const words = wordsOf(run), { heads } = words, { outcome } = run;
  return document(words.experiment(run.config.experiment_name), [
    ["", [`**${words.titles[arm.name as LayoutArm]}**`, ...notes(outcome, statusOf(run), words), ...preemptionNotes([arm], words)]],
    [heads.metrics, [
      metricTable(arm, words), words.definitions, words.overIterations,
    ]],
    [heads.memory, [memoryTable([arm], words)]],
    [heads.configuration, [configuration(run, [arm])]],
    [heads.environment, [environment(run, outcome), words.coldStart(number(arm.loadTimings.weightsMs), number(arm.loadTimings.pipelinesMs))]],
    [heads.raw, [rawSamples(arm, words), words.raw.gaps(`${words.files.arms[arm.name as LayoutArm]}.json`)]],
  ]);
}

export function metricTable(arm: ArmResult, words: Words): string {
  return table(["", words.unit, words.median, "p10", "p90", words.min, words.max], metricsOf(arm).map((metric) => metricRow(metric, words)));
}

function metricRow({ key, unit, summary, missing }: Metric, words: Words): string[] {
  if (summary === null) return [words.metrics[key], unit, `${words.none} (${words.missing[missing!]})`, "", "", "", ""];
  return [words.metrics[key], unit, ...[summary.median, summary.p10, summary.p90, summary.min, summary.max].map(number)];
}

/** Null when only one arm ran. */
export function comparisonMarkdown(run: Run): string | null {
  const words = wordsOf(run), { outcome, config } = run, { heads, arms: names } = words;
  const comparison = compare(outcome, words);
  if (comparison === null) return null;
  const { arms } = outcome;
  const title = config.shared_prefix === undefined ? words.comparison : words.prefixExperiment;
  return document(title(config.batch_level, config.experiment_name), [
    ["", [...arms.map(({ name }) => `- ${words.titles[name as LayoutArm | "again"]}`), ...notes(outcome, statusOf(run), words)]],
    [heads.verdict, [...verdict(outcome, comparison, words), words.engagement(comparison.engagement), words.correctness(comparison.correctness), ...preemptionNotes(arms, words)]],
    [heads.metrics, [
      table(["", words.unit, ...arms.map(({ name }) => names[name]), ...comparison.pairs.map(({ from, to }) => words.against(names[to], names[from]))],
        metricsOf(arms[0]!).map((metric, i) => [
          words.metrics[metric.key], metric.unit, ...arms.map((arm) => numberOr(medianOf(arm, metric), words)), ...comparison.pairs.map(({ changes }) => changeCell(changes[i]!, words)),
        ])),
      words.changesAre(CLAIM_ITERATIONS), words.definitions,
    ]],
    [heads.memory, [memoryTable(arms, words), ...(config.shared_prefix === undefined ? [words.sameKernels] : [])]],
    [heads.configuration, [configuration(run, arms)]],
    [heads.environment, [environment(run, outcome)]],
    [heads.raw, [...arms.map((arm) => `${names[arm.name]}\n\n${rawSamples(arm, words)}`), orderOf(outcome, words)]],
  ]);
}

export function changeCell({ metric, change }: MetricChange, words: Words): string {
  if (change === null) return metric.missing === undefined ? words.none : words.missing[metric.missing];
  const doubt = doubtOf(change, words);
  return `${signed(change.median)} (${rangeOf(change, words)})${doubt === null ? "" : `, ${doubt}`}`;
}

function verdict(outcome: Outcome, comparison: Comparison, words: Words): string[] {
  if (comparison.invalid !== null) return [`**${words.invalid}**: ${comparison.invalid}.`];
  if (outcome.status !== "complete") return [`**${words.partial}**: ${words.nothingConcluded}.`];
  return [...headline(outcome, words), ...differences(comparison, words)];
}

/** What fits the budget: the reason for paging. A prefix cache changes nothing about it. */
export function headline({ arms, skipped, budget }: Outcome, words: Words): string[] {
  if (arms.some(({ name }) => name === "paged-prefix")) return [];
  return [
    words.budgetHolds(bytes(budget)), ...skipped.map(({ name, needs, holds }) => `- ${words.skipped(words.arms[name], needs, holds)}`),
    ...arms.filter(({ name }) => name !== "again").map((arm) => `- ${words.holds(words.arms[arm.name], arm.fits, percentOr(memoryUse(arm).waste, words))}`),
  ];
}

/** The metrics that a block table can touch. */
const TABLE_COST = ["tpot_ms", "itl_p50_ms", "output_tokens_per_s"];

export function tableCost({ pairs, equalBatch }: Comparison, words: Words): string[] {
  const cost = pairs.find(({ from }) => from === "contiguous-exact");
  if (cost === undefined) return [];
  if (equalBatch === null) return [words.tableCostUneven];
  return [
    words.tableCost(equalBatch),
    ...cost.changes.filter(({ metric }) => TABLE_COST.includes(metric.key)).map((one) => `- ${ratioSentence(one, words)}`),
  ];
}

function differences(comparison: Comparison, words: Words): string[] {
  const list = (pair: Pair | undefined, intro: string): string[] => (pair === undefined ? [] : [intro, ...pair.changes.map((one) => `- ${sentence(one, words)}`)]);
  const from = (name: string): Pair | undefined => comparison.pairs.find((pair) => pair.from === name);
  return [...tableCost(comparison, words), ...list(from("contiguous-max"), words.together), ...list(from("paged"), words.prefixGain)];
}
