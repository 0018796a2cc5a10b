/** The memory benchmark as Markdown and as tables in the terminal: what fits, what is wasted, and what the paper says about it. */

import { compare, preemptionNotes, sentence } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import type { MemoryCell } from "../memory_benchmark.ts";
import { bytes, memoryUse, number, percent } from "../metrics.ts";
import type { ArmResult } from "../measure.ts";
import { CLAIM_ITERATIONS } from "../stats.ts";
import { memoryStatusOf, statusOf, wordsOf, type MemoryRun } from "./json.ts";
import { configuration, document, environment, medianOf, notes, numberOr, orderOf, percentOr, table } from "./parts.ts";

/** Kwon et al. 2023, figure 2: the useful share of systems before paging, and the waste that the announcement gives for paging. */
const USEFUL_BEFORE = { low: 0.204, high: 0.382 };
const WASTE_AFTER = 0.04;
/** Context of the paper's models, by which lengths scale. */
const PAPER_CONTEXT = 2048;

export function memoryMarkdown(run: MemoryRun): string {
  const words = wordsOf(run), { config, memory: { cells } } = run, { memory: say, heads } = words;
  const { outcome } = cells[0]!;
  const status = memoryStatusOf(run);
  return document(words.memoryExperiment(config.batch_level, config.experiment_name), [
    ["", [intro(run, words), ...skipped(run, words).map((line) => `- ${line}`), ...notes(outcome, status, words)]],
    [heads.results, [...problems(run, words), table(say.columns, rowsOf(cells, words), "numbers"), say.columnsAre, ...limitNotes(run, words)]],
    [heads.claims, status === "interrupted" ? [words.nothingConcluded] : [
      say.claims, table(say.claimColumns, cells.map((cell) => claimRow(cell, words)), "text"), ...cells.map((cell) => why(cell, words)),
    ]],
    [heads.verdict, status === "interrupted" ? [] : [...cells.flatMap((cell) => verdict(run, cell, words)), words.changesAre(CLAIM_ITERATIONS)]],
    [heads.lengths, [table(say.drawnColumns, cells.map((cell) => drawnRow(cell, outcome.maxModelLen, words)), "text"), say.synthetic]],
    [heads.configuration, [configuration(run, cells.flatMap((cell) => cell.outcome.arms))]],
    [heads.environment, [environment(run, outcome)]],
    [heads.raw, [...cells.map((cell) => say.inDistribution(say.distributions[cell.distribution], orderOf(cell.outcome, words))), say.raw]],
  ]);
}

function intro({ memory: { cells, budgetTokens }, config }: MemoryRun, words: Words): string {
  return words.memory.intro(bytes(cells[0]!.outcome.budget), budgetTokens, config.num_prompts);
}

function skipped({ memory: { cells } }: MemoryRun, words: Words): string[] {
  return cells[0]!.outcome.skipped.map(({ name, needs, holds }) => words.skipped(words.arms[name], needs, holds));
}

/** One row for every arm of every distribution. */
export function rowsOf(cells: readonly MemoryCell[], words: Words): string[][] {
  return cells.flatMap(({ distribution, expectedWaste, outcome }) => outcome.arms.map((arm) => {
    const use = memoryUse(arm);
    return [
      words.memory.distributions[distribution], words.arms[arm.name], String(arm.fits), String(arm.cache.peakRunning), number(arm.cache.meanRunning), percent(expectedWaste[arm.name]!),
      percentOr(use.waste, words), percentOr(use.wasteAtPeak, words), String(arm.cache.preemptions),
      numberOr(medianOf(arm, { key: "output_tokens_per_s" }), words), numberOr(medianOf(arm, { key: "ttft_ms" }), words),
    ];
  }));
}

/** Distributions whose run says nothing, and why. */
function problems({ config, memory: { cells } }: MemoryRun, words: Words): string[] {
  return cells.flatMap(({ distribution, outcome }) => {
    const reason = statusOf({ config, outcome }) === "invalid" ? compare(outcome, words)!.invalid : null;
    return reason === null ? [] : [`**${words.invalid}**: ${words.memory.inDistribution(words.memory.distributions[distribution], reason)}.`];
  });
}

/** Where not memory but the number of requests was the limit, and where sequences were preempted. */
function limitNotes({ config, memory: { cells } }: MemoryRun, words: Words): string[] {
  const all = cells.some(({ outcome }) => outcome.arms.some(({ cache }) => cache.peakRunning === config.num_prompts));
  return [
    ...(all ? [words.memory.allRequests(config.num_prompts)] : []),
    ...cells.flatMap(({ distribution, outcome }) => preemptionNotes(outcome.arms, words).map((note) => words.memory.inDistribution(words.memory.distributions[distribution], note))),
  ];
}

function armOf({ outcome }: MemoryCell, name: string): ArmResult | undefined {
  return outcome.arms.find((arm) => arm.name === name);
}

function claimRow(cell: MemoryCell, words: Words): string[] {
  const { memory: say } = words;
  const [max, paged] = [armOf(cell, "contiguous-max"), armOf(cell, "paged")].map((arm) => (arm === undefined ? null : memoryUse(arm).waste));
  const useful = max == null ? null : 1 - max;
  const under = (waste: number | null | undefined): string => (waste == null ? words.none : waste < WASTE_AFTER ? say.holds : say.holdsNot);
  return [
    say.distributions[cell.distribution], percentOr(useful, words),
    useful === null ? words.none : say.claimRange[useful < USEFUL_BEFORE.low ? "below" : useful > USEFUL_BEFORE.high ? "above" : "within"],
    percent(cell.expectedWaste.paged!), under(cell.expectedWaste.paged), percentOr(paged ?? null, words), under(paged),
  ];
}

/** The arithmetic behind the waste of paging. */
function why(cell: MemoryCell, words: Words): string {
  const { layout } = armOf(cell, "paged")!;
  const block = layout.name === "paged" ? layout.blockSize : 1;
  const samples = cell.lengths.flatMap(({ prompt, output }) => Array.from({ length: output }, (_, i) => prompt + i));
  const mean = samples.reduce((sum, tokens) => sum + tokens, 0) / samples.length;
  const empty = samples.reduce((sum, tokens) => sum + Math.ceil(tokens / block) * block - tokens, 0) / samples.length;
  return `- ${words.memory.inDistribution(words.memory.distributions[cell.distribution], words.memory.whyNot(block, number(empty), number(mean)))}`;
}

/** What the freed memory bought: more sequences at a time, and what became of throughput and waiting. */
function verdict({ config }: MemoryRun, cell: MemoryCell, words: Words): string[] {
  const comparison = compare(cell.outcome, words);
  const [max, paged] = [armOf(cell, "contiguous-max"), armOf(cell, "paged")];
  if (comparison === null || max === undefined || paged === undefined || statusOf({ config, outcome: cell.outcome }) !== "complete") return [];
  const name = words.memory.distributions[cell.distribution];
  const gains = comparison.pairs.find(({ from }) => from === "contiguous-max")!.changes.filter(({ metric }) => ["output_tokens_per_s", "ttft_ms", "latency_ms"].includes(metric.key));
  return [
    words.memory.admitted(name, max.cache.peakRunning, paged.cache.peakRunning, number(max.cache.meanRunning), number(paged.cache.meanRunning)), ...gains.map((one) => `- ${sentence(one, words)}`),
    words.memory.inDistribution(name, words.correctness(comparison.correctness)),
  ];
}

function drawnRow({ distribution, lengths }: MemoryCell, maxModelLen: number, { memory: say }: Words): string[] {
  const mean = (of: (one: (typeof lengths)[number]) => number): string => number(lengths.reduce((sum, one) => sum + of(one), 0) / lengths.length);
  return [
    say.distributions[distribution], say.shapes[distribution](String(Number((maxModelLen / PAPER_CONTEXT).toFixed(4)))), mean(({ prompt }) => prompt), mean(({ output }) => output),
    String(lengths.reduce((most, { prompt, output }) => Math.max(most, prompt + output), 0)),
  ];
}

/** What stands below the table in the terminal. */
export function memoryLines(run: MemoryRun): string[] {
  const words = wordsOf(run), status = memoryStatusOf(run), { cells } = run.memory;
  if (status === "interrupted") return [`${words.interrupted}: ${words.nothingConcluded}`];
  const claims = cells.map((cell) => {
    const [name = "", ...values] = claimRow(cell, words);
    const told = values.map((value, i) => `${words.memory.claimColumns[i + 1]}: ${value}`);
    return words.memory.inDistribution(name, told.join("; "));
  });
  return [...problems(run, words), words.memory.claims, ...claims, ...cells.flatMap((cell) => verdict(run, cell, words)), ...limitNotes(run, words)].map((line) => line.replaceAll("**", ""));
}

/** What stands above it. */
export function memoryIntro(run: MemoryRun): string[] {
  const words = wordsOf(run);
  return [intro(run, words), ...skipped(run, words)];
}
