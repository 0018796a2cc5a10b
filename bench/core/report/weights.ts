/** Reports on number formats of the weights, in Markdown: one arm, and all of them with the table of formats and figures. */

import { sentence } from "../compare.ts";
import { CLAIM_ITERATIONS } from "../stats.ts";
import type { Words } from "../lang/en.ts";
import { bytes, metricsOf, number, percent, type Pair } from "../metrics.ts";
import type { ArmQuality, ArmWeights } from "../weights/experiment.ts";
import type { Corpus, Divergence, Estimate } from "../weights/quality.ts";
import { formatOf, judgeRun, nameOf, ratioInWords, resultOf, type WeightsVerdict } from "../weights/verdict.ts";
import { wordsOf } from "./json.ts";
import { changeCell, metricTable } from "./markdown.ts";
import { configuration, document, environment, medianOf, notes, numberOr, orderOf, peakRows, rawSamples, table } from "./parts.ts";
import { weightsStatusOf, type WeightsRun } from "./weights_json.ts";

/** What became of the chart: the file that holds it, or why there is none. Null where none was to be drawn. */
export type ChartNote = { readonly file: string } | { readonly reason: string } | null;

export function weightsArmMarkdown(run: WeightsRun, arm: ArmWeights): string {
  const words = wordsOf(run), { heads, weights: say } = words, { weights: { outcome } } = run;
  const result = resultOf(run.weights, arm.name);
  const title = arm.name === "basic" || arm.name === "again" || arm.name === "quantized" ? say.titles[arm.name] : say.titles.format;
  return document(say.experiment(run.config.experiment_name), [
    ["", [`**${title(formatOf(arm))}**`, ...notes(outcome, weightsStatusOf(run), words)]],
    [heads.metrics, [metricTable(result, words), words.definitions, words.overIterations]],
    [say.heads.weights, [weightsTable([arm], words)]],
    [say.heads.quality, qualitySection(run, [arm], words)],
    [heads.memory, [table(["", nameOf(arm, words)], peakRows([result], words))]],
    [heads.configuration, [configuration(run, [result])]],
    [heads.environment, [environment(run, outcome), words.coldStart(number(result.loadTimings.weightsMs), number(result.loadTimings.pipelinesMs))]],
    [heads.raw, [rawSamples(result, words)]],
  ]);
}

/** All arms: what they save and what that costs. */
export function weightsMarkdown(run: WeightsRun, chart: ChartNote, json: string): string {
  const words = wordsOf(run), { heads, weights: say } = words, { weights, config } = run, { outcome, arms } = weights;
  const verdict = judgeRun(weights, words);
  const pairs = [...(verdict.control === null ? [] : [verdict.control]), ...verdict.pairs];
  const label = (name: string): string => nameOf(arms.find((arm) => arm.name === name)!, words);
  const title = config.technique === "precision" ? say.precision : say.comparison;
  const names = arms.map((arm) => nameOf(arm, words));
  return document(title(config.batch_level, config.experiment_name), [
    ["", [...notes(outcome, weightsStatusOf(run), words), weights.loading === "together" ? say.together : say.inTurn, ...weights.notes.map((note) => `- \`${note}\``)]],
    [heads.verdict, [...conclusions(run, verdict, words), ...verdict.engagement.map((text) => `- ${words.engagement(text)}`), ...outlierNotes(arms, words)]],
    [say.heads.table, [formatTable(run, words), say.tableIs(names[0]!)]],
    [say.heads.chart, chart === null ? [] : ["file" in chart ? say.chartAt(chart.file) : say.noChart(chart.reason)]],
    [heads.metrics, [
      table(["", words.unit, ...names], metricsOf(outcome.arms[0]!).map((metric) =>
        [words.metrics[metric.key], metric.unit, ...outcome.arms.map((arm) => numberOr(medianOf(arm, metric), words))])),
      ...(pairs.length === 0 ? [] : [changeTable(pairs, label, words)]), words.changesAre(CLAIM_ITERATIONS), words.definitions, ...(verdict.correctness === null ? [] : [words.correctness(verdict.correctness)]), say.lossy,
    ]],
    [say.heads.weights, [weightsTable(arms, words)]],
    [say.heads.quality, qualitySection(run, arms, words)],
    [heads.memory, [table(["", ...names], peakRows(outcome.arms, words))]],
    [heads.configuration, [configuration(run, outcome.arms)]],
    [heads.environment, [environment(run, outcome)]],
    [heads.raw, [...outcome.arms.map((arm, i) => `${names[i]}\n\n${rawSamples(arm, words)}`), orderOf(outcome, words), say.fileNote(json)]],
  ]);
}

/** A row for each pair: an experiment may have many arms, and a table no more columns than a screen. */
function changeTable(pairs: readonly Pair[], label: (name: string) => string, words: Words): string {
  const [{ changes: first }] = pairs as readonly [Pair];
  const shown = first.map(({ metric }) => metric.key).filter((key) => CHANGES.includes(key));
  return table(["", ...shown.map((key) => words.metrics[key])], pairs.map(({ from, to, changes }) =>
    [words.against(label(to), label(from)), ...changes.filter(({ metric }) => CHANGES.includes(metric.key)).map((one) => changeCell(one, words))]));
}

/** Sentences about speed, bytes and quality, or why there are none. */
export function conclusions(run: WeightsRun, verdict: WeightsVerdict, words: Words): string[] {
  const { weights: say } = words, { outcome, arms } = run.weights;
  if (verdict.invalid !== null) return [`**${words.invalid}**: ${verdict.invalid}.`];
  if (outcome.status !== "complete") return [`**${words.partial}**: ${words.nothingConcluded}.`];
  const [first] = arms as readonly [ArmWeights];
  return verdict.pairs.flatMap(({ to, changes }) => {
    const arm = arms.find(({ name }) => name === to)!, name = nameOf(arm, words), base = nameOf(first, words);
    return [
      say.againstFirst(name, base), `- ${say.takes(name, bytes(arm.bytes), percent(arm.bytes / first.bytes), base)}`,
      ...changes.filter(({ metric }) => SPOKEN.includes(metric.key)).map((one) => `- ${sentence(one, words)}`), ...ratios(arm, base, words).map((text) => `- ${text}`),
    ];
  });
}

const SPOKEN: readonly string[] = ["ttft_ms", "tpot_ms", "output_tokens_per_s"];
/** The others are made of these; all stand in the JSON. */
const CHANGES: readonly string[] = ["ttft_ms", "tpot_ms", "itl_p50_ms", "latency_ms", "output_tokens_per_s"];

/** The perplexity of an arm over that of the first arm, and over that of f32 where that is another. */
function ratios({ quality, ...arm }: ArmWeights, base: string, words: Words): string[] {
  if (quality === null) return [];
  const name = nameOf({ ...arm, quality }, words), isOther = JSON.stringify(quality.first) !== JSON.stringify(quality.f32);
  return [
    ...(typeof quality.first === "string" ? [] : [ratioInWords(quality.first, name, base, words)]),
    ...(typeof quality.f32 === "string" || !isOther ? [] : [ratioInWords(quality.f32, name, "f32", words)]),
  ];
}

export function outlierNotes(arms: readonly ArmWeights[], words: Words): string[] {
  const { weights: say } = words;
  return arms.flatMap((arm) => (arm.outliers === null ? [] : [
    `- ${words.engagement(arm.outliers.elements === 0 ? say.noOutliers(nameOf(arm, words)) : say.outliers(nameOf(arm, words), arm.outliers.columns, arm.outliers.elements))}`,
  ]));
}

/** The chapter's table: a row for each format. */
export function formatTable(run: WeightsRun, words: Words): string {
  const { weights: say } = words, { arms } = run.weights;
  const { pairs } = judgeRun(run.weights, words);
  const rows = arms.filter(({ name }) => name !== "again").map((arm, i) => {
    const format = formatOf(arm), own = arm.held.filter((one) => one.format === format);
    const weights = own.reduce((sum, one) => sum + one.weights, 0), held = own.reduce((sum, one) => sum + one.bytes, 0);
    const changes = pairs.find(({ to }) => to === arm.name)?.changes;
    const speed = (key: string): string => {
      const change = changes?.find(({ metric }) => metric.key === key)?.change;
      return i === 0 ? "1" : change == null ? words.none : `${change.measurable ? "" : "≈ "}${(100 / (100 + change.median)).toFixed(2)}`;
    };
    const { quality } = arm, f32 = quality === null || typeof quality.f32 === "string" ? null : quality.f32;
    const itself = quality?.f32 === "itself";
    return [
      format, weights === 0 ? words.none : (held / weights).toFixed(4), bytes(arm.bytes), bytes(resultOf(run.weights, arm.name).memory.peak.total),
      quality === null ? words.none : estimate(quality.perplexity, 2),
      f32 === null ? (itself ? "0" : words.none) : estimate({ value: 1e3 * f32.kld.value, standardError: 1e3 * f32.kld.standardError }, 3),
      f32 === null ? (itself ? "100 %" : words.none) : share(f32.topOne), speed("tpot_ms"), speed("ttft_ms"),
    ];
  });
  return table(say.tableColumns, rows);
}

function weightsTable(arms: readonly ArmWeights[], words: Words): string {
  return table(["", ...arms.map((arm) => nameOf(arm, words))], weightsRows(arms, words));
}

/** What each arm holds in which format, and the ledger against arithmetic: a row for each figure and in it a cell for each arm. */
export function weightsRows(arms: readonly ArmWeights[], words: Words): string[][] {
  const { rows: say } = words.weights;
  const formats = [...new Set(arms.flatMap(({ held }) => held.map(({ format }) => format)))];
  const rows = formats.map((format) => [say.held(format), ...arms.map(({ held }) => {
    const one = held.find((other) => other.format === format);
    return one === undefined ? words.none : say.weightsOf(one.matrices, String(one.weights), bytes(one.bytes), one.weights === 0 ? "0" : (one.bytes / one.weights).toFixed(4));
  })]);
  const difference = ({ bytes: is, expectedBytes }: ArmWeights): string => (expectedBytes === null ? words.none : `${((is / expectedBytes - 1) * 100).toFixed(2)} %`);
  const kept = ({ outliers }: ArmWeights): string => (outliers === null ? words.none : say.outlierColumns(outliers.columns, outliers.elements));
  return [
    ...rows, [say.ledger, ...arms.map((arm) => `${bytes(arm.bytes)} (${arm.bytes})`)],
    [say.expected, ...arms.map(({ expectedBytes }) => (expectedBytes === null ? `${words.none} (${words.weights.notKnown})` : `${bytes(expectedBytes)} (${expectedBytes})`))],
    [say.difference, ...arms.map(difference)],
    ...(arms.some(({ outliers }) => outliers !== null) ? [[say.outliers, ...arms.map(kept)]] : []),
  ];
}

function estimate({ value, standardError }: Estimate, digits: number): string {
  return `${value.toFixed(digits)} ± ${standardError.toFixed(digits)}`;
}

function share({ value, standardError }: Estimate): string {
  return `${(100 * value).toFixed(2)} ± ${(100 * standardError).toFixed(2)} %`;
}

/** How the distributions of arms lie to another's, whose name is `name`: a row for each figure and in it a cell for each arm. */
export function divergenceRows(judged: readonly ArmWeights[], key: "first" | "f32", name: string, words: Words): string[][] {
  const { quality: say } = words.weights;
  const row = (label: string, of: (one: Divergence) => string): string[] => [label, ...judged.map(({ quality }) => {
    const one = quality![key];
    return typeof one !== "string" ? of(one) : one === "itself" ? say.isItself : `${words.none} (${say.missing[one]})`;
  })];
  return [
    row(say.ratio(name), ({ ratio }) => estimate(ratio, 4)),
    row(say.kld(name), ({ kld }) => `${kld.value.toExponential(2)} ± ${kld.standardError.toExponential(1)}`),
    row(say.kldSpread(name), ({ kld }) => [kld.median, kld.p99, kld.max].map((value) => value.toExponential(2)).join(", ")),
    row(say.top(name), ({ topOne }) => share(topOne)),
  ];
}

/** Perplexity of each arm, and how its distributions lie to the first arm's and to those of f32. */
function qualitySection({ weights: { arms: all, corpus, outcome } }: WeightsRun, arms: readonly ArmWeights[], words: Words): string[] {
  const { quality: say } = words.weights;
  if (corpus === null) return [outcome.source.random ? say.random : say.none];
  const judged = arms.filter(({ quality }) => quality !== null);
  const row = (label: string, cell: (quality: ArmQuality) => string): string[] => [label, ...judged.map(({ quality }) => cell(quality!))];
  const others = (["first", "f32"] as const).filter((key) => judged.some(({ quality }) => quality![key] !== "itself"));
  const against = others.filter((_, i) => i === 0 || !judged.every(({ quality }) => JSON.stringify(quality!.f32) === JSON.stringify(quality!.first)))
    .flatMap((key) => divergenceRows(judged, key, key === "f32" ? "f32" : nameOf(all[0]!, words), words));
  return [
    table(["", ...judged.map((arm) => nameOf(arm, words))], [
      row(say.perplexity, ({ perplexity }) => estimate(perplexity, 3)), row(say.nll, ({ perplexity }) => perplexity.meanNll.toFixed(5)),
      row(say.scored, ({ perplexity }) => String(perplexity.tokens)), row(say.windows, ({ perplexity }) => String(perplexity.windows)), ...against,
    ]),
    corpusInWords(corpus, words), words.weights.qualityIs,
  ];
}

/** The text that perplexity was measured over, and by which protocol. */
export function corpusInWords({ name, sha256, options: { context, protocol, stride } }: Omit<Corpus, "ids">, { weights: say }: Words): string {
  return say.corpus(name, context, say.protocols[protocol](stride ?? context), sha256.slice(0, 16));
}
