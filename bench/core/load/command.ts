/**
 * `node bench/load.ts`: load a model, send it requests as they would come to a server, and report what `vllm bench serve` reports. There
 * is no server between: each arrival calls `generate`, and the LLM batches what runs at the same time.
 */

import { Command } from "commander";
import { LLM } from "../../../index.ts";
import { AbortedError } from "../../../engine/errors.ts";
import type { LoadOptions } from "../../../index.ts";
import { benchCommand, EXIT_INTERRUPTED, interruptible, runCommand, startCommand, withoutControls } from "../cli.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { arrivalTimes } from "./arrivals.ts";
import { drive, realClock, type Clock, type Driven, type Target } from "./drive.ts";
import { once } from "./flags.ts";
import { metricsOf } from "./metrics.ts";
import { loadConfig, loadOptionsOf, type LoadConfig } from "./options.ts";
import { progress, type Progress } from "./progress.ts";
import { loadJson, loadMarkdown, terminalReport, type LoadRun } from "./report.ts";
import { makeWorkload, type Vocabulary, type Workload } from "./workload.ts";

/** What a load test needs of an LLM; tests give a stand-in. */
export type Served = Target & Vocabulary & Pick<LLM, "source" | "environment" | "loadTimings" | "memory" | "cacheStats" | "close">;
export type Load = (model: string, options: LoadOptions) => Promise<Served>;

const EXIT_FAILED_REQUESTS = 5;

function program(): Command {
  return benchCommand(new Command("node bench/load.ts")
    .description("Put a model under load and report TTFT, TPOT, ITL, end-to-end latency and goodput as vllm bench serve defines them.")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME (default: tiny-neox)", once)
    .option("--num-prompts <count>", "requests (default: 32)", once)
    .option("--request-rate <rate>", "arrivals per second; inf sends all at once (default: inf)", once)
    .option("--burstiness <shape>", "shape of the gamma distribution of gaps: 1 is Poisson, less is burstier (default: 1)", once)
    .option("--max-concurrency <count>", "most requests under way; others wait before they are sent (default: any number)", once)
    .option("--input-len <tokens>", "tokens of a random prompt (default: 128); also --random-input-len", once)
    .option("--output-len <tokens>", "new tokens of a request (default: 64); also --random-output-len", once)
    .option("--random-input-len <tokens>", "the same as --input-len", once)
    .option("--random-output-len <tokens>", "the same as --output-len", once)
    .option("--random-range-ratio <ratio>", "draw lengths from len * (1 - ratio) to len * (1 + ratio) (default: 0)", once)
    .option("--random-prefix-len <tokens>", "tokens that all random prompts begin with, beside --input-len (default: 0)", once)
    .option("--prompts-file <file>", "one prompt per line instead of random tokens", once)
    .option("--goodput <slo...>", "count requests that meet all of these, in ms: ttft:200 tpot:50 e2el:2000")
    .option("--percentile-metrics <names>", "of ttft,tpot,itl,e2el (default: all)", once)
    .option("--metric-percentiles <list>", "percentiles to report (default: 50,90,99)", once)
    .option("--seed <number>", "of prompts, lengths, arrivals and sampling (default: 0)", once)
    .option("--temperature <number>", "0 is greedy (default: 0)", once)
    .option("--ignore-eos", "generate on past the model's end of text")
    .option("--num-warmups <count>", "requests before the clock starts (default: 1)", once)
    .option("--weights <format>", "auto (as stored, the default), f32, f16, bf16, int8, llm.int8, nf4, fp4, nf4-double or fp4-double", once)
    .option("--kv <format>", "number format of the KV cache (default: f16)", once)
    .option("--kv-memory <bytes>", "memory for keys and values: 512MiB, 1GB, or bytes", once)
    .option("--kv-layout <name>", "paged, contiguous-max or contiguous-exact (default: paged)", once)
    .option("--block-size <tokens>", "tokens of a block of the paged cache (default: 16)", once)
    .option("--no-prefix-cache", "compute every prompt anew")
    .option("--max-model-len <tokens>", "longest prompt and continuation together", once)
    .option("--max-num-seqs <count>", "most sequences in one step of the engine (default: 16)", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--output-dir <folder>", "where results go (default: results)", once)
    .option("--no-save", "write no files"));
}

async function execute(config: LoadConfig, load: Load, clock: Clock): Promise<number> {
  const folder = config.save ? ResultsFolder.open(config.outputDir, "load") : null;
  const bar = progress();
  try {
    const started = new Date().toISOString();
    const run = await interruptible((signal) => test(config, load, clock, bar, started, signal));
    bar.stop();
    if (run === null || run.driven.samples.length === 0) {
      process.stderr.write("dawnlm: interrupted before the first request was finished; no report was written\n");
      return EXIT_INTERRUPTED;
    }
    process.stdout.write(`${withoutControls(terminalReport(run))}\n`);
    if (folder !== null) {
      const name = fileName(config);
      const files = folder.write([[`${name}.json`, loadJson(run)], [`${name}.md`, loadMarkdown(run)]]);
      process.stdout.write(`\nReports:\n${files.map((path) => `  ${path}`).join("\n")}\n`);
    }
    return run.driven.status === "interrupted" ? EXIT_INTERRUPTED : run.metrics.failed > 0 ? EXIT_FAILED_REQUESTS : 0;
  } finally {
    bar.stop();
    folder?.release();
  }
}

/** Null when it was interrupted before the clock started. */
async function test(config: LoadConfig, load: Load, clock: Clock, { onStep }: Progress, started: string, signal: AbortSignal): Promise<LoadRun | null> {
  onStep(`loading ${config.model}`, 0, 1);
  const llm = await load(config.model, {
    ...loadOptionsOf(config), onProgress: ({ stage, label, loaded, total }) => { onStep(`${stage}: ${label}`, loaded, total); },
  });
  try {
    const workload = await makeWorkload(config, llm);
    const arrivals = arrivalTimes(workload.requests.length, config.requestRate, config.burstiness, config.seed);
    if (!await warmUp(llm, workload, config, signal)) return null;
    const { temperature, ignoreEos, maxConcurrency } = config;
    const sampling = { temperature, ignoreEos };
    const driven: Driven = await drive(llm, workload.requests, { arrivals, maxConcurrency, sampling, clock, signal, onStep });
    return {
      config, workload, arrivals, driven, metrics: metricsOf(driven.samples, config), source: llm.source, maxModelLen: llm.maxModelLen,
      environment: llm.environment, memory: llm.memory(), cache: llm.cacheStats(), loadTimings: llm.loadTimings, machine: machine(), started,
    };
  } finally {
    await llm.close();
  }
}

async function warmUp(llm: Served, { warmups }: Workload, { temperature, ignoreEos }: LoadConfig, signal: AbortSignal): Promise<boolean> {
  try {
    for (const { ids, maxNewTokens, seed } of warmups) await llm.generate(ids, { maxNewTokens, seed, temperature, ignoreEos, signal });
    return !signal.aborted;
  } catch (error) {
    if (error instanceof AbortedError && signal.aborted) return false;
    throw error;
  }
}

/** As vLLM names its results, without the date: the same test again replaces its report. */
function fileName({ model, requestRate, maxConcurrency }: LoadConfig): string {
  const name = model.split(/[\\/]/).findLast((part) => part !== "" && part !== "." && part !== "..") ?? "model";
  const concurrency = maxConcurrency === null ? "" : `-concurrency${maxConcurrency}`;
  return `load-${requestRate ?? "inf"}qps${concurrency}-${name.replace(/[^\w.-]+/g, "-").slice(0, 100)}`;
}

/** Returns the exit code. `load` and `clock` stand in for the real ones in tests. */
export function main(argv: readonly string[], load: Load = (model, options) => LLM.load(model, options), clock: Clock = realClock): Promise<number> {
  return runCommand(program(), argv, (command) => execute(loadConfig(command.opts()), load, clock));
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
