/**
 * `node bench/profile.ts`: rates of one model at batch 1, its floor, the host's time of a decode step, and with --kernels where the GPU's goes;
 * or the floors of many models.
 */

import { Command } from "commander";
import { LLM } from "../../../index.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { probe, type ProbeResult } from "../../../engine/probe.ts";
import { benchCommand, EXIT_INTERRUPTED, interruptible, oneLine, runCommand, startCommand, withoutControls } from "../cli.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { once } from "../load/flags.ts";
import { progress, type Progress } from "../load/progress.ts";
import { drawSpec } from "../report/chart.ts";
import { floorOf } from "./floors.ts";
import { measureKernels, NOT_REACHED } from "./kernels.ts";
import { kernelsSpec } from "./kernels_chart.ts";
import { measure } from "./measure.ts";
import { floorsTable } from "./models.ts";
import { loadOptionsOf, profileConfig, weightsOf, type ProfileConfig } from "./options.ts";
import { profileJson, profileText, statusOf, type ProfileRun } from "./report.ts";
import { threadClock } from "./thread_clock.ts";

function program(): Command {
  return benchCommand(new Command("node bench/profile.ts")
    .description("Measure prefill and decode of one model at batch 1, their distance from the floor, and the host's time per decoded token.")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME (default: tiny-neox)", once)
    .option("--prompt <tokens>", "tokens of the prompt (default: 512)", once)
    .option("--new <tokens>", "tokens decoded behind it (default: 128)", once)
    .option("--repetitions <count>", "of everything measured (default: 5)", once)
    .option("--concurrency <list>", "also run as many requests at a time: 1,8", once)
    .option("--weights <format>", "auto (as stored, the default), f32, f16, bf16, int8, llm.int8, nf4, fp4, nf4-double or fp4-double", once)
    .option("--kv <format>", "number format of the KV cache (default: f16)", once)
    .option("--kv-memory <bytes>", "memory for keys and values: 512MiB, 1GB, or bytes", once)
    .option("--max-model-len <tokens>", "longest prompt and continuation together", once)
    .option("--prefill-chunk <tokens>", "most prompt tokens in one forward pass", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--seed <number>", "of prompts, order and random weights (default: 0)", once)
    .option("--roof", "measure the adapter's own bandwidth and speed first (about five seconds)")
    .option("--kernels", "also time every kernel of one decode step and one prefill, and draw where their GPU time goes")
    .option("--floors", "print the floors of known models as a Markdown table and leave")
    .option("--output-dir <folder>", "where results go (default: results)", once)
    .option("--no-save", "write no file"));
}

async function execute(config: ProfileConfig): Promise<number> {
  const folder = config.save ? ResultsFolder.open(config.outputDir, "profile") : null;
  const bar = progress();
  try {
    const started = new Date().toISOString();
    const run = await interruptible((signal) => profileOf(config, bar, started, signal));
    bar.stop();
    if (run.profile.prefill === null) {
      process.stderr.write("dawnlm: interrupted before the first repetition was finished; no report was written\n");
      return EXIT_INTERRUPTED;
    }
    process.stdout.write(`${withoutControls(profileText(run))}\n`);
    if (folder !== null) {
      const [path, picture] = folder.write([[`profile-${fileName(config.model)}.json`, profileJson(run)], ...await picturesOf(run)]);
      process.stdout.write(`\nReport: ${path}\n${picture === undefined ? "" : `Kernels: ${picture}\n`}`);
    }
    return statusOf(run) === "interrupted" ? EXIT_INTERRUPTED : 0;
  } finally {
    bar.stop();
    folder?.release();
  }
}

async function profileOf(config: ProfileConfig, { onStep }: Progress, started: string, signal: AbortSignal): Promise<ProfileRun> {
  const roof = config.roof ? await roofOf(config) : null;
  onStep(`loading ${config.model}`, 0, 1);
  const llm = await LLM.load(config.model, {
    ...loadOptionsOf(config), onProgress: ({ stage, label, loaded, total }) => { onStep(`${stage}: ${label}`, loaded, total); },
  });
  try {
    const profile = await measure(llm, config, { clock: await threadClock(), signal, onStep });
    const kernels = !config.kernels ? null
      : profile.status === "interrupted" ? NOT_REACHED : await measureKernels(llm, config, { signal, onStep });
    const weights = weightsOf(config, llm.config);
    // Decoding goes from the prompt's end to `new` tokens behind it: half of them are there on average.
    const floor = floorOf(llm.config, { weights, kv: config.kv, context: config.prompt + Math.floor(config.new / 2), prompt: config.prompt });
    return {
      config, profile, kernels, floor, roof, model: llm.config, source: llm.source, environment: llm.environment, memory: llm.memory(), machine: machine(),
      started,
    };
  } finally {
    await llm.close();
  }
}

async function roofOf({ adapter }: ProfileConfig): Promise<ProbeResult> {
  const gpu = await Gpu.open({ adapter });
  try {
    return await probe(gpu);
  } finally {
    gpu.close();
  }
}

/** None when no kernels were timed. A package that does not draw on this machine is told, and the report is written without. */
async function picturesOf(run: ProfileRun): Promise<(readonly [string, string | Uint8Array])[]> {
  const { kernels, source, environment: { adapter }, config, started } = run;
  if (kernels === null || kernels.phases === null) return [];
  const repetitions = kernels.phases.decode.wall.samples.length, name = `profile-kernels-${fileName(config.model)}`;
  const machine = `${adapter.description}${adapter.software ? " (software adapter: its GPU time is CPU time)" : ""}`;
  const interrupted = statusOf(run) === "interrupted" ? " (INTERRUPTED)" : "";
  const measured = `medians of ${repetitions} repetition${repetitions === 1 ? "" : "s"}${interrupted}, ${started.slice(0, 10)}`;
  try {
    const picture = kernelsSpec({ model: source.id, machine, measured, prompt: config.prompt, phases: kernels.phases });
    const { png, svg, spec } = await drawSpec(picture);
    return [[`${name}.png`, png], [`${name}.svg`, svg], [`${name}.vl.json`, spec]];
  } catch (error) {
    process.stderr.write(`dawnlm: no picture was drawn: ${oneLine(error instanceof Error ? error.message : String(error))}\n`);
    return [];
  }
}

function fileName(model: string): string {
  const name = model.split(/[\\/]/).findLast((part) => part !== "" && part !== "." && part !== "..") ?? "model";
  return name.replace(/[^\w.-]+/g, "-").slice(0, 100);
}

/** Returns the exit code. */
export function main(argv: readonly string[]): Promise<number> {
  return runCommand(program(), argv, async (command) => {
    const given = command.options.map((option) => option.attributeName()).filter((name) => command.getOptionValueSource(name) === "cli");
    const config = profileConfig(command.opts(), given);
    if (!given.includes("floors")) return execute(config);
    process.stdout.write(`${await floorsTable({ context: config.prompt, prompt: config.prompt })}\n`);
    return 0;
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
