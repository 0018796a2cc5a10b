/**
 * The experiments by their techniques: which one a config asks for, and what each leaves: its result in the common shape (result.ts), text
 * for the terminal, and the reports under the names that its sources gave them.
 */

import type { LayoutArm, Load } from "./arms.ts";
import { layoutsBody } from "./bodies/layouts.ts";
import { memoryBody } from "./bodies/memory.ts";
import { pressBody } from "./bodies/press.ts";
import { speculationBody } from "./bodies/speculation.ts";
import { weightsBody } from "./bodies/weights.ts";
import { oneLine } from "./cli.ts";
import { combosBody, type CombosRun } from "./combos/body.ts";
import { runCombos } from "./combos/experiment.ts";
import { combosSummary } from "./combos/terminal.ts";
import { machine } from "./environment.ts";
import { runMemoryBenchmark } from "./memory_benchmark.ts";
import { runPagedAttention, runSharedPrefix } from "./paged_attention.ts";
import { runPresses } from "./press/experiment.ts";
import { drawChart } from "./report/chart.ts";
import { armJson, comparisonJson, memoryJson, wordsOf, type Run, type RunInfo } from "./report/json.ts";
import { armMarkdown, comparisonMarkdown } from "./report/markdown.ts";
import { memoryMarkdown } from "./report/memory.ts";
import { knormMarkdown } from "./report/press.ts";
import { capacityMarkdown } from "./report/press_capacity.ts";
import { pressJson, type PressRun } from "./report/press_json.ts";
import { drawPress } from "./report/press_pictures.ts";
import { pressSummary } from "./report/press_terminal.ts";
import { specMarkdown } from "./report/spec.ts";
import { specJson, type SpecRun } from "./report/spec_json.ts";
import { drawSpeculation } from "./report/spec_pictures.ts";
import { specSummary } from "./report/spec_terminal.ts";
import { memorySummary, terminalSummary } from "./report/terminal.ts";
import { weightsArmMarkdown, weightsMarkdown, type ChartNote } from "./report/weights.ts";
import { chartInput } from "./report/weights_chart.ts";
import { weightsArmJson, weightsJson, type WeightsRun } from "./report/weights_json.ts";
import { weightsSummary } from "./report/weights_terminal.ts";
import type { ResultBody } from "./result.ts";
import type { ExperimentConfig } from "./schema.ts";
import { runSpeculation } from "./speculation/experiment.ts";
import type { Hooks } from "./turns.ts";
import { runWeights } from "./weights/experiment.ts";

/** Null when it was stopped before there was anything to tell. */
export interface Finished {
  readonly body: ResultBody;
  readonly summary: string;
  /** Under the names of the sources. */
  readonly files: readonly (readonly [name: string, content: string | Uint8Array])[];
}
export type Experiment = (info: Omit<RunInfo, "machine">, load: Load, hooks: Hooks) => Promise<Finished | null>;

export function experimentOf({ technique, benchmark_memory, shared_prefix }: ExperimentConfig): Experiment {
  if (technique === "combos") return combos;
  if (technique === "KnormPress" || technique === "KVPress") return presses;
  if (technique === "spec_decode") return speculation;
  if (technique !== "PagedAttention") return numberFormats;
  return benchmark_memory ? memoryBenchmark : shared_prefix !== undefined ? sharedPrefix : layouts;
}

const measured = ({ arms }: { readonly arms: readonly { readonly iterations: readonly unknown[] }[] }): boolean => arms.some(({ iterations }) => iterations.length > 0);

const layouts: Experiment = async (info, load, hooks) => {
  const outcome = await runPagedAttention(info.config, info.prompts, load, hooks);
  if (!measured(outcome)) return null;
  const run: Run = { ...info, outcome, machine: machine() };
  const { files } = wordsOf(run), { batch_level, experiment_name } = info.config;
  const comparison = comparisonMarkdown(run);
  return {
    body: layoutsBody(run), summary: terminalSummary(run),
    files: [
      ...outcome.arms.filter(({ name }) => name !== "again").flatMap((arm): [string, string][] => {
        const name = files.arms[arm.name as LayoutArm];
        return [[`${name}.md`, armMarkdown(run, arm)], [`${name}.json`, armJson(run, arm)]];
      }),
      ...(comparison === null ? [] : [[`${files.comparison(batch_level, experiment_name)}.md`, comparison] as const]),
    ],
  };
};

const sharedPrefix: Experiment = async (info, load, hooks) => {
  const { outcome, prompts } = await runSharedPrefix(info.config, load, hooks);
  if (!measured(outcome)) return null;
  const run: Run = { ...info, outcome, prompts, machine: machine() };
  const name = wordsOf(run).files.prefix(info.config.batch_level, info.config.experiment_name);
  return {
    body: layoutsBody(run), summary: terminalSummary(run),
    files: [[`${name}.md`, comparisonMarkdown(run)!], [`${name}.json`, comparisonJson(run)]],
  };
};

const memoryBenchmark: Experiment = async (info, load, hooks) => {
  const memory = await runMemoryBenchmark(info.config, load, hooks);
  if (!memory.cells.some(({ outcome }) => measured(outcome))) return null;
  const run = { ...info, memory, prompts: memory.prompts, machine: machine() };
  const name = wordsOf(run).files.memory(info.config.batch_level, info.config.experiment_name);
  return {
    body: memoryBody(run), summary: memorySummary(run),
    files: [[`${name}.md`, memoryMarkdown(run)], [`${name}.json`, memoryJson(run)]],
  };
};

/** Quantization: a report for either side, and the comparison. Precision: one for all formats, and their chart. */
const numberFormats: Experiment = async (info, load, hooks) => {
  const weights = await runWeights(info.config, info.prompts, load, hooks);
  if (!measured(weights.outcome)) return null;
  const run: WeightsRun = { ...info, weights, machine: machine() };
  const { files } = wordsOf(run).weights, { technique, batch_level, experiment_name, save_results } = info.config;
  const name = technique === "precision" ? files.precision(batch_level, experiment_name) : files.comparison(batch_level, experiment_name);
  const told = { body: weightsBody(run), summary: weightsSummary(run) };
  if (technique === "precision") {
    const { note, files: pictures } = save_results ? await chartOf(run) : { note: null, files: [] };
    return { ...told, files: [[`${name}.md`, weightsMarkdown(run, note, `${name}.json`)], [`${name}.json`, weightsJson(run)], ...pictures] };
  }
  const sides = weights.arms.filter(({ name: arm }) => arm !== "again").flatMap((arm): [string, string][] => {
    const side = arm.name === "basic" ? files.basic : files.quantized;
    return [[`${side}.md`, weightsArmMarkdown(run, arm)], [`${side}.json`, weightsArmJson(run, arm)]];
  });
  const together = weights.arms.length < 2 ? [] : [[`${name}.md`, weightsMarkdown(run, null, `${name}.json`)], [`${name}.json`, weightsJson(run)]] as const;
  return { ...told, files: [...sides, ...together] };
};

/** KV compression: one report for all arms, and their pictures. */
const presses: Experiment = async (info, load, hooks) => {
  const press = await runPresses(info.config, load, hooks);
  if (!press.arms.some(({ iterations }) => iterations.length > 0)) return null;
  const run: PressRun = { ...info, press, prompts: press.prompts, machine: machine() };
  const { files } = wordsOf(run).press, { technique, batch_level, experiment_name, save_results } = info.config, isKnorm = technique === "KnormPress";
  const name = (isKnorm ? files.knorm : files.capacity)(batch_level, experiment_name);
  const { note, files: pictures } = save_results ? await drawPress(run) : { note: null, files: [] };
  return {
    body: pressBody(run), summary: pressSummary(run),
    files: [[`${name}.md`, (isKnorm ? knormMarkdown : capacityMarkdown)(run, note, `${name}.json`)], [`${name}.json`, pressJson(run)], ...pictures],
  };
};

/** Speculative decoding: one report for all drafts, and a picture for each data set. */
const speculation: Experiment = async (info, load, hooks) => {
  const outcome = await runSpeculation(info.config, load, hooks);
  if (!outcome.cells.some(measured)) return null;
  const run: SpecRun = { ...info, speculation: outcome, prompts: outcome.prompts, machine: machine() };
  const name = wordsOf(run).spec.files(info.config.batch_level, info.config.experiment_name);
  const { note, files: pictures } = info.config.save_results ? await drawSpeculation(run) : { note: null, files: [] };
  return {
    body: speculationBody(run), summary: specSummary(run),
    files: [[`${name}.md`, specMarkdown(run, note, `${name}.json`)], [`${name}.json`, specJson(run)], ...pictures],
  };
};

const CHART = "precision_benchmark_2rows";

/** A chart that cannot be drawn is a note in the report: what was measured is not lost for a picture. */
async function chartOf(run: WeightsRun): Promise<{ note: ChartNote; files: [string, string | Uint8Array][] }> {
  try {
    const { png, svg, spec } = await drawChart(chartInput(run));
    return { note: { file: `${CHART}.png` }, files: [[`${CHART}.png`, png], [`${CHART}.svg`, svg], [`${CHART}.vl.json`, spec]] };
  } catch (error) {
    return { note: { reason: oneLine(error instanceof Error ? error.message : String(error)) }, files: [] };
  }
}

/** Free combinations have no source that named their reports: all they have to tell stands in the result and on its page. */
const combos: Experiment = async (info, load, hooks) => {
  const outcome = await runCombos(info.config, load, hooks);
  if (!measured(outcome)) return null;
  const run: CombosRun = { ...info, combos: outcome, prompts: outcome.prompts, machine: machine() };
  const body = combosBody(run);
  return { body, summary: combosSummary(run, body), files: [] };
};
