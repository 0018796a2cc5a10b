/** `node bench/kernels.ts`: every kernel and variant against the roofs of this device, each checked against its scalar twin before it is timed. */

import { Command } from "commander";
import { UsageError } from "../../../engine/errors.ts";
import { Gpu } from "../../../engine/gpu.ts";
import { probe } from "../../../engine/probe.ts";
import { chooseVariant, traitsOf } from "../../../kernels/linear_variants.ts";
import { benchCommand, EXIT_INTERRUPTED, interruptible, runCommand, startCommand, withoutControls } from "../cli.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { once } from "../load/flags.ts";
import { progress, type Progress } from "../load/progress.ts";
import { drawSpec } from "../report/chart.ts";
import type { Ask, KernelDefinition } from "./case.ts";
import { measure } from "./measure.ts";
import { kernelsConfig, type KernelsConfig } from "./options.ts";
import { DEFINITIONS, definitionsOf, select } from "./registry.ts";
import { kernelsJson, kernelsText, listText, roofOf, type GpuEnvironment, type KernelsRun } from "./report.ts";
import { rooflineSpec } from "./roofline.ts";
import { shapedModels } from "./shapes.ts";

/** More than any GPU of today has per die. */
const CACHE_BYTES = 64 << 20;
const REPETITIONS = { quick: 7, full: 15 } as const;
/** Of each of two probes, before and behind: what else the machine did meanwhile must not lower the roof. */
const ROOF_SECONDS = 4;
/** A case was wrong, or did not run. */
const EXIT_INVALID = 5;
const LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize", "maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup", "maxStorageBuffersPerShaderStage"] as const;

const several = (text: string, earlier: string | undefined): string => (earlier === undefined ? text : `${earlier},${text}`);

function program(): Command {
  return benchCommand(new Command("node bench/kernels.ts")
    .description("GB/s and GFLOP/s of every kernel and variant against this device's measured roofs. Each result is first checked against the scalar twin.")
    .option("--kernel <names>", "only these: matvec,attention_decode (default: all)", once)
    .option("--format <formats>", "weight formats: f16,nf4", once)
    .option("--kv <formats>", "formats of the KV cache: f16,int4", once)
    .option("--shape <ROWSxCOLS>", "instead of the shapes of known models: 4096x1024; may be repeated (what it means: --list)", several)
    .option("--rows <counts>", "rows of the batch: 1,8 (what they are: --list)", once)
    .option("--variant <text>", "only variants whose name holds this text: splitK=2", once)
    .option("--quick", "one model, the main formats, the variants in use (the default without --kernel)")
    .option("--no-quick", "everything, however long it takes: on a GPU hours")
    .option("--list", "print the kernels and what their shapes mean, and leave")
    .option("--repetitions <count>", `of every case (default: ${REPETITIONS.full}, of a quick run ${REPETITIONS.quick})`, once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--seed <number>", "of the order of repetitions (default: 0)", once)
    .option("--no-roof", "do not measure the device's own speed (about eight seconds)")
    .option("--json", "print the JSON report instead of the table")
    .option("--output-dir <folder>", "where results go (default: results)", once)
    .option("--no-save", "write no file"));
}

/** Returns the exit code. `definitions`: the kernels there are. */
export async function execute(config: KernelsConfig, definitions: readonly KernelDefinition[] = DEFINITIONS): Promise<number> {
  const folder = config.save ? ResultsFolder.open(config.outputDir, "kernels") : null;
  const bar = progress();
  try {
    const run = await interruptible((signal) => runOf(config, definitions, bar, signal));
    bar.stop();
    const json = kernelsJson(run);
    process.stdout.write(config.json ? `${json}\n` : `${withoutControls(kernelsText(run))}\n`);
    if (folder !== null) await save(folder, run, json);
    const { outcomes, status } = run.measured;
    if (status === "interrupted") return EXIT_INTERRUPTED;
    return outcomes.some((outcome) => outcome.status === "wrong" || outcome.status === "failed") ? EXIT_INVALID : 0;
  } finally {
    bar.stop();
    folder?.release();
  }
}

async function runOf(config: KernelsConfig, definitions: readonly KernelDefinition[], { onStep }: Progress, signal: AbortSignal): Promise<KernelsRun> {
  const began = performance.now(), started = new Date().toISOString();
  const gpu = await Gpu.open({ adapter: config.adapter });
  try {
    const quick = config.quick ?? config.kernels === null;
    const { cases, leftOut } = casesOf(gpu, config, definitions, await askOf(gpu, config, quick));
    onStep("measuring the roof", 0, 1);
    const before = config.roof && !signal.aborted ? await probe(gpu, ROOF_SECONDS) : null;
    const repetitions = config.repetitions ?? REPETITIONS[quick ? "quick" : "full"];
    const measured = await measure(gpu, cases, { repetitions, seed: config.seed, cacheBytes: CACHE_BYTES, signal, onStep });
    const roof = before && [before, await probe(gpu, ROOF_SECONDS)];
    return {
      config, quick, repetitions, cacheBytes: CACHE_BYTES, measured, leftOut, roof, environment: environmentOf(gpu), machine: machine(),
      started, seconds: (performance.now() - began) / 1000,
    };
  } finally {
    gpu.close();
  }
}

async function askOf(gpu: Gpu, { formats, kv, shapes, rows, variant }: KernelsConfig, quick: boolean): Promise<Ask> {
  return {
    formats, kv, shapes, rows, variant, quick, models: await shapedModels(), traits: traitsOf(gpu), software: gpu.adapter.software,
    chosen: (shape, M) => chooseVariant(gpu, shape, M),
  };
}

/** Throws UsageError when nothing is left to measure. */
function casesOf(gpu: Gpu, { kernels, variant }: KernelsConfig, definitions: readonly KernelDefinition[], ask: Ask) {
  const chosen = definitionsOf(kernels, [], definitions), selection = select(chosen, ask, gpu.maxBinding);
  if (selection.cases.length > 0) return selection;
  const names = [...new Set(select(chosen, { ...ask, variant: null, quick: false }, gpu.maxBinding).cases.flatMap((each) => each.variant ?? []))];
  if (variant !== null && names.length > 0) throw new UsageError(`--variant: no variant on this device has "${variant}" in its name; there are: ${names.slice(0, 12).join("; ")}${names.length > 12 ? `; and ${names.length - 12} more` : ""}`);
  throw new UsageError(`nothing is left to measure${selection.leftOut.length > 0 ? `: ${selection.leftOut.join("; ")}` : ": the rows are more than the entries of the shape, or its columns are no heads"}`);
}

function environmentOf({ adapter, family, subgroupSize, device }: Gpu): GpuEnvironment {
  return {
    adapter, kernelFamily: family, subgroupSize, features: [...device.features].sort(),
    limits: Object.fromEntries(LIMITS.map((name) => [name, device.limits[name] as number])),
  };
}

async function save(folder: ResultsFolder, run: KernelsRun, json: string): Promise<void> {
  const { config: { kernels }, measured: { outcomes, clock }, environment: { adapter }, roof, repetitions } = run;
  const name = kernels === null ? "kernels" : `kernels-${kernels.join("+").slice(0, 100)}`;
  const spec = rooflineSpec({
    title: "Roofline of the kernels", outcomes, roof: roof && roofOf(roof),
    subtitle: [
      `${adapter.description || adapter.device}${adapter.software ? " (a software adapter)" : ""}`,
      `Medians of ${repetitions} repetitions by ${clock === "timestamps" ? "GPU timestamps" : "the wall clock"}; every result was checked first.`,
    ],
  });
  const picture = spec && await drawSpec(spec);
  const paths = folder.write([[`${name}.json`, json], ...(picture === null ? [] : [[`${name}.png`, picture.png], [`${name}.svg`, picture.svg]] as const)]);
  process.stderr.write(`Report: ${paths.join(", ")}\n`);
}

/** Returns the exit code. */
export function main(argv: readonly string[], definitions: readonly KernelDefinition[] = DEFINITIONS): Promise<number> {
  return runCommand(program(), argv, async (command) => {
    const config = kernelsConfig(command.opts(), definitions);
    if (!config.list) return execute(config, definitions);
    const problems: string[] = [];
    process.stdout.write(`${listText(definitionsOf(config.kernels, problems, definitions))}\n`);
    return 0;
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
