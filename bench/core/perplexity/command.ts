/** `node bench/perplexity.ts`: perplexity of one model on a text, or its distance from the same model in other formats. */

import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import { Command } from "commander";
import { AbortedError } from "../../../engine/errors.ts";
import { LLM } from "../../../index.ts";
import { EXIT_INTERRUPTED, interruptible, runCommand, startCommand, withoutControls } from "../cli.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { once } from "../load/flags.ts";
import { progress, type Progress } from "../load/progress.ts";
import { qualityOf } from "../quality.ts";
import { loadOptionsOf, perplexityConfig, perplexityOptionsOf, readText, type PerplexityConfig } from "./options.ts";
import { perplexityJson, perplexityText, type PerplexityRun } from "./report.ts";

function program(): Command {
  return new Command("node bench/perplexity.ts")
    .description("Perplexity of a model on a text by a named protocol; with --base-weights also KL divergence and top-1 agreement with that model.")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME (default: tiny-neox)", once)
    .option("--weights <format>", "auto, f32, f16, bf16, int8, llm.int8, nf4, nf4-double, fp4 or fp4-double (default: auto, as stored)", once)
    .option("--kv <format>", "number format of the KV cache: f32, f16, bf16, int8 or int4 (default: f16)", once)
    .option("--protocol <name>", "hf-strided, llama.cpp, lm-eval-rolling or decode (default: hf-strided)", once)
    .option("--context <tokens>", "tokens of a window (default: 512)", once)
    .option("--stride <tokens>", "of hf-strided: from window to window (default: the context)", once)
    .option("--text <text>", "persuasion, sotu, or a file (default: persuasion)", once)
    .option("--max-windows <count>", "only the first windows of the text (default: all)", once)
    .option("--base-weights <format>", "compare with the same model in this format", once)
    .option("--base-kv <format>", "number format of that model's KV cache (default: f32)", once)
    .option("--kv-memory <bytes>", "memory for keys and values: 512MiB, 1GB, or bytes", once)
    .option("--max-model-len <tokens>", "longest window", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--json <file>", "write everything, token by token, to this file", once)
    .option("--debug", "show where an error comes from")
    .helpOption("-h, --help", "show this help")
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => { write(text.replace(/^error: /, "dawnlm: ")); } });
}

async function execute(config: PerplexityConfig): Promise<number> {
  const text = readText(config);
  const folder = config.json === null ? null : ResultsFolder.open(dirname(config.json), ".");
  const bar = progress();
  try {
    const run = await interruptible((signal) => measure(config, text, bar, signal));
    bar.stop();
    process.stdout.write(`${withoutControls(perplexityText(run))}\n`);
    if (folder !== null) {
      const [path] = folder.write([[basename(config.json!), perplexityJson(run)]]);
      process.stdout.write(`\nReport: ${path}\n`);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    bar.stop();
    process.stderr.write("dawnlm: interrupted; nothing was measured to the end\n");
    return EXIT_INTERRUPTED;
  } finally {
    bar.stop();
    folder?.release();
  }
}

async function measure(config: PerplexityConfig, text: string, { onStep }: Progress, signal: AbortSignal): Promise<PerplexityRun> {
  const started = new Date().toISOString();
  const loaded: LLM[] = [];
  const load = async (formats: Pick<PerplexityConfig, "weights" | "kv">): Promise<LLM> => {
    const llm = await LLM.load(config.model, {
      ...loadOptionsOf(config, formats), onProgress: ({ stage, label, loaded: done, total }) => { onStep(`${stage}: ${label}`, done, total); },
    });
    loaded.push(llm);
    return llm;
  };
  try {
    const llm = await load(config), base = config.base === null ? null : await load(config.base);
    const options = { ...perplexityOptionsOf(config), signal, onProgress: (done: number, total: number) => { onStep("windows", done, total); } };
    const from = performance.now();
    const result = base === null ? null : await llm.divergence(base, text, options);
    const perplexity = base === null ? await llm.perplexity(text, options) : null;
    return {
      config, perplexity, divergence: result && { result, quality: qualityOf(result) }, source: llm.source, environment: llm.environment,
      memory: llm.memory(),
      textSha256: createHash("sha256").update(text).digest("hex"), seconds: (performance.now() - from) / 1000, machine: machine(), started,
    };
  } finally {
    for (const llm of loaded) await llm.close();
  }
}

/** Returns the exit code. */
export function main(argv: readonly string[]): Promise<number> {
  return runCommand(program(), argv, (command) => execute(perplexityConfig(command.opts())));
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
