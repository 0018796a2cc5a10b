/**
 * `node bench/run.ts`: run an experiment and write its reports. Flags (flags.ts) and a YAML file (config.ts) say what to do, an experiment
 * does it, and report/ says what came out. Here they are only put together.
 */

import { SingleBar } from "cli-progress";
import { LLM } from "../../index.ts";
import type { LayoutArm, Load } from "./arms.ts";
import { EXIT_INTERRUPTED, interruptible, oneLine, print, runCommand, startCommand, withoutControls } from "./cli.ts";
import { loadConfig, type LoadedConfig } from "./config.ts";
import { machine } from "./environment.ts";
import { ResultsFolder } from "./files.ts";
import { program, requestOf } from "./flags.ts";
import type { Hooks } from "./measure.ts";
import { runMemoryBenchmark } from "./memory_benchmark.ts";
import { runPagedAttention, runSharedPrefix } from "./paged_attention.ts";
import { choosePrompts } from "./prompts.ts";
import { drawChart } from "./report/chart.ts";
import { armJson, comparisonJson, memoryJson, memoryStatusOf, statusOf, wordsOf, type Run, type RunInfo, type Status } from "./report/json.ts";
import { armMarkdown, comparisonMarkdown } from "./report/markdown.ts";
import { memoryMarkdown } from "./report/memory.ts";
import { knormMarkdown } from "./report/press.ts";
import { capacityMarkdown } from "./report/press_capacity.ts";
import { pressJson, pressStatusOf, type PressRun } from "./report/press_json.ts";
import { drawPress } from "./report/press_pictures.ts";
import { pressSummary } from "./report/press_terminal.ts";
import { specMarkdown } from "./report/spec.ts";
import { specJson, specStatusOf, type SpecRun } from "./report/spec_json.ts";
import { drawSpeculation } from "./report/spec_pictures.ts";
import { specSummary } from "./report/spec_terminal.ts";
import { memorySummary, terminalSummary } from "./report/terminal.ts";
import { weightsArmMarkdown, weightsMarkdown, type ChartNote } from "./report/weights.ts";
import { weightsArmJson, weightsJson, weightsStatusOf, type WeightsRun } from "./report/weights_json.ts";
import { chartInput } from "./report/weights_chart.ts";
import { weightsSummary } from "./report/weights_terminal.ts";
import { runPresses } from "./press/experiment.ts";
import { runSpeculation } from "./speculation/experiment.ts";
import { runWeights } from "./weights/experiment.ts";

const EXIT_FAILED_CELLS = 5;

/** Progress on a terminal; elsewhere a line now and then, so that a log shows life. */
function progress(): { onStep: (label: string, done: number, total: number) => void; stop: () => void } {
  if (process.stderr.isTTY) {
    const bar = new SingleBar({ format: "[{bar}] {percentage}% {label}", stream: process.stderr, clearOnComplete: true, hideCursor: true });
    let shown = false;
    return {
      onStep: (label, done, total) => {
        if (!shown) bar.start(total, done, { label });
        shown = true;
        bar.setTotal(total);
        bar.update(done, { label });
      },
      stop: () => { if (shown) bar.stop(); },
    };
  }
  let last = performance.now();
  return {
    onStep: (label, done, total) => {
      if (performance.now() - last < 5000 || done === total) return;
      last = performance.now();
      process.stderr.write(`${Math.floor((100 * done) / total)} % ${label}\n`);
    },
    stop: () => {},
  };
}

/** What an experiment leaves: text for the terminal, and files with their names. Null when it was stopped before there was anything to tell. */
interface Finished { readonly status: Status; readonly summary: string; readonly json: () => string; readonly files: readonly (readonly [name: string, content: string | Uint8Array])[] }
type Experiment = (info: Omit<RunInfo, "machine">, load: Load, hooks: Hooks) => Promise<Finished | null>;

const measured = ({ arms }: { readonly arms: readonly { readonly iterations: readonly unknown[] }[] }): boolean => arms.some(({ iterations }) => iterations.length > 0);

const layouts: Experiment = async (info, load, hooks) => {
  const outcome = await runPagedAttention(info.config, info.prompts, load, hooks);
  if (!measured(outcome)) return null;
  const run: Run = { ...info, outcome, machine: machine() };
  const { files } = wordsOf(run), { batch_level, experiment_name } = info.config;
  const comparison = comparisonMarkdown(run);
  return {
    status: statusOf(run), summary: terminalSummary(run), json: () => comparisonJson(run),
    files: [
      ...outcome.arms.flatMap((arm): [string, string][] => {
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
    status: statusOf(run), summary: terminalSummary(run), json: () => comparisonJson(run),
    files: [[`${name}.md`, comparisonMarkdown(run)!], [`${name}.json`, comparisonJson(run)]],
  };
};

const memoryBenchmark: Experiment = async (info, load, hooks) => {
  const memory = await runMemoryBenchmark(info.config, load, hooks);
  if (!memory.cells.some(({ outcome }) => measured(outcome))) return null;
  const run = { ...info, memory, prompts: memory.prompts, machine: machine() };
  const name = wordsOf(run).files.memory(info.config.batch_level, info.config.experiment_name);
  return {
    status: memoryStatusOf(run), summary: memorySummary(run), json: () => memoryJson(run),
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
  const told = { status: weightsStatusOf(run), summary: weightsSummary(run), json: () => weightsJson(run) };
  if (technique === "precision") {
    const { note, files: pictures } = save_results ? await chartOf(run) : { note: null, files: [] };
    return { ...told, files: [[`${name}.md`, weightsMarkdown(run, note, `${name}.json`)], [`${name}.json`, told.json()], ...pictures] };
  }
  const sides = weights.arms.filter(({ name: arm }) => arm !== "again").flatMap((arm): [string, string][] => {
    const side = arm.name === "basic" ? files.basic : files.quantized;
    return [[`${side}.md`, weightsArmMarkdown(run, arm)], [`${side}.json`, weightsArmJson(run, arm)]];
  });
  const together = weights.arms.length < 2 ? [] : [[`${name}.md`, weightsMarkdown(run, null, `${name}.json`)], [`${name}.json`, told.json()]] as const;
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
    status: pressStatusOf(run), summary: pressSummary(run), json: () => pressJson(run),
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
    status: specStatusOf(run), summary: specSummary(run), json: () => specJson(run),
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

async function execute({ config, file, origins }: LoadedConfig, load: Load, asJson: boolean): Promise<number> {
  const prompts = choosePrompts(config);
  const folder = config.save_results ? ResultsFolder.open(config.output_dir, config.technique) : null;
  const bar = progress();
  try {
    const started = new Date().toISOString();
    bar.onStep(`loading ${config.model}`, 0, 1);
    const loadShown: Load = (model, options) => load(model, {
      ...options, onProgress: ({ stage, label, loaded: done, total }) => { bar.onStep(`${stage}: ${withoutControls(label)}`, done, total); },
    });
    const experiment = config.technique === "KnormPress" || config.technique === "KVPress" ? presses : config.technique === "spec_decode" ? speculation
      : config.technique !== "PagedAttention" ? numberFormats
      : config.benchmark_memory ? memoryBenchmark : config.shared_prefix !== undefined ? sharedPrefix : layouts;
    const finished = await interruptible((signal) => experiment({ config, configFile: file, origins, prompts, started }, loadShown, { signal, onStep: bar.onStep }));
    bar.stop();
    if (finished === null) {
      process.stderr.write("dawnlm: interrupted before the first iteration was finished; no report was written\n");
      return EXIT_INTERRUPTED;
    }
    await print(`${asJson ? finished.json() : finished.summary}\n`); // first: a full disk must not take it along
    const paths = folder?.write(finished.files) ?? [];
    if (!asJson && folder !== null) process.stdout.write(`\n${wordsOf({ config }).reports}\n${paths.map((path) => `  ${path}`).join("\n")}\n`);
    return finished.status === "interrupted" ? EXIT_INTERRUPTED : finished.status === "invalid" ? EXIT_FAILED_CELLS : 0;
  } finally {
    bar.stop();
    folder?.release();
  }
}

/** Returns the exit code. `load` stands in for LLM.load in tests. */
export function main(argv: readonly string[], load: Load = (model, options) => LLM.load(model, options)): Promise<number> {
  return runCommand(program(), argv, (command) => {
    const flags = command.opts();
    return execute(loadConfig(requestOf(flags)), load, flags["json"] === true);
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
