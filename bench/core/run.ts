/**
 * `node bench/run.ts`: run an experiment and write its reports. Flags and a YAML file say what to do (config.ts), the experiment does it
 * (paged_attention.ts), and report/ says what came out. Here they are only put together.
 */

import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError } from "commander";
import { LLM } from "../../index.ts";
import { DawnlmError } from "../../engine/errors.ts";
import { EXIT_INTERRUPTED, guardProcess, interruptible, normaliseArgv, reportFailure, withoutControls } from "./cli.ts";
import { loadConfig, type ConfigRequest, type LoadedConfig } from "./config.ts";
import { machine } from "./environment.ts";
import { ResultsFolder } from "./files.ts";
import { runPagedAttention, type Load } from "./paged_attention.ts";
import { choosePrompts } from "./prompts.ts";
import { armJson, statusOf, type Run } from "./report/json.ts";
import { armMarkdown, comparisonMarkdown } from "./report/markdown.ts";
import { terminalSummary } from "./report/terminal.ts";
import { KEYS, type Key } from "./schema.ts";

const EXIT_FAILED_CELLS = 5;

/** A number where the text is a decimal one; the schema says what was expected where it is not. */
const numeric = (text: string): unknown => (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : text);
const once = (text: string, earlier: string | undefined): string => {
  if (earlier !== undefined) throw new InvalidArgumentError("It was given twice.");
  return text;
};

function program(): Command {
  return new Command("node bench/run.ts")
    .description("Run an experiment and write its reports under results/.")
    .option("--config <file>", "a YAML file, such as config/PagedAttention/pagedattention_small_default.yaml", once)
    .option("--technique <name>", "PagedAttention; with --batch-level it names a default config")
    .option("--batch-level <level>", "small, medium or large (default: medium)")
    .option("--experiment-name <name>", "goes into the names of the reports")
    .option("--method <arms>", "basic, optimized or both")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME")
    .option("--max-tokens <count>", "new tokens per request", numeric)
    .option("--temperature <number>", "0 is greedy", numeric)
    .option("--top-p <number>", "share of probability to sample from", numeric)
    .option("--seed <number>", "of prompts, sampling and the order of arms", numeric)
    .option("--batch-size <count>", "most sequences that run together", numeric)
    .option("--num-prompts <count>", "requests per iteration", numeric)
    .option("--max-model-len <tokens>", "longest prompt and continuation; what the contiguous baseline reserves", numeric)
    .option("--kv-memory <bytes>", "for keys and values together", numeric)
    .option("--test-iterations <count>", "measured iterations", numeric)
    .option("--warmup-iterations <count>", "iterations before them", numeric)
    .option("--device <index...>", "index of the adapter, as `dawnlm doctor` counts", (text: string, all: unknown[] = []) => [...all, numeric(text)])
    .option("--adapter <name>", "auto, software, an index, or part of an adapter's name")
    .option("--output-dir <folder>", "where results go (default: results)")
    .option("--no-save", "write no files")
    .option("--prompts <text...>", "the prompts themselves")
    .option("--prompts-file <file>", "one prompt per line")
    .option("--debug", "show where an error comes from")
    .helpOption("-h, --help", "show this help")
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, "dawnlm: ")); } });
}

function requestOf(flags: Readonly<Record<string, unknown>>): ConfigRequest {
  const values: Partial<Record<Key, unknown>> = {};
  for (const [flag, value] of Object.entries(flags)) {
    const key = flag.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) as Key;
    if (KEYS.includes(key) && key !== "technique" && key !== "batch_level") values[key] = value;
  }
  if (flags["save"] === false) values.save_results = false;
  return {
    config: flags["config"] as string | undefined, technique: flags["technique"] as string | undefined,
    batchLevel: flags["batchLevel"] as string | undefined, flags: values,
  };
}

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

async function execute(loaded: LoadedConfig, load: Load): Promise<number> {
  const { config, file, origins } = loaded;
  const prompts = choosePrompts(config);
  const folder = config.save_results ? ResultsFolder.open(config.output_dir, config.technique) : null;
  const bar = progress();
  try {
    const started = new Date().toISOString();
    bar.onStep(`loading ${config.model}`, 0, 1);
    const loadShown: Load = (model, options) => load(model, {
      ...options, onProgress: ({ stage, label, loaded: done, total }) => { bar.onStep(`${stage}: ${withoutControls(label)}`, done, total); },
    });
    const outcome = await interruptible((signal) => runPagedAttention(config, prompts, loadShown, { signal, onStep: bar.onStep }));
    bar.stop();
    const run: Run = { config, configFile: file, origins, prompts, outcome, machine: machine(), started };
    const finished = outcome.arms.some(({ iterations }) => iterations.length > 0);
    if (!finished) {
      process.stderr.write("dawnlm: interrupted before the first iteration was finished; no report was written\n");
      return EXIT_INTERRUPTED;
    }
    process.stdout.write(`${terminalSummary(run)}\n`);
    if (folder !== null) {
      const files = writeReports(folder, run);
      process.stdout.write(`\nReports:\n${files.map((path) => `  ${path}`).join("\n")}\n`);
    }
    const status = statusOf(run);
    return status === "interrupted" ? EXIT_INTERRUPTED : status === "invalid" ? EXIT_FAILED_CELLS : 0;
  } finally {
    bar.stop();
    folder?.release();
  }
}

function writeReports(folder: ResultsFolder, run: Run): string[] {
  const files = run.outcome.arms.flatMap((arm): [string, string][] => [
    [`${arm.name}_report.md`, armMarkdown(run, arm)], [`${arm.name}_report.json`, armJson(run, arm)],
  ]);
  const comparison = comparisonMarkdown(run);
  if (comparison !== null) files.push([`comparison_experiment_${run.config.batch_level}_${run.config.experiment_name}.md`, comparison]);
  return folder.write(files);
}

/** Returns the exit code. `load` stands in for LLM.load in tests. */
export async function main(argv: readonly string[], load: Load = (model, options) => LLM.load(model, options)): Promise<number> {
  const command = program();
  const debug = argv.includes("--debug");
  try {
    command.parse(normaliseArgv(argv, command), { from: "user" });
    return await execute(loadConfig(requestOf(command.opts())), load);
  } catch (error) {
    if (!(error instanceof DawnlmError) || debug || !error.message.includes("\n")) return reportFailure(error, debug);
    // Several problems, or a list to choose from: a line each.
    process.stderr.write(error.message.split("\n").map((line) => `dawnlm: ${withoutControls(line)}\n`).join(""));
    return error.exitCode;
  }
}

/** The command itself. */
export async function start(): Promise<void> {
  guardProcess();
  process.exitCode = await main(process.argv.slice(2));
}
