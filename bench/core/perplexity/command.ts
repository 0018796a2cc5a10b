/**
 * `node bench/perplexity.ts`: perplexity of one model on a text, its distance from the same model in other formats, or what presses do to it
 * (press_command.ts).
 */

import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import { Command } from "commander";
import { AbortedError } from "../../../engine/errors.ts";
import { LLM } from "../../../index.ts";
import { benchCommand, EXIT_INTERRUPTED, interruptible, runCommand, startCommand, withoutControls } from "../cli.ts";
import { machine } from "../environment.ts";
import { ResultsFolder } from "../files.ts";
import { once } from "../load/flags.ts";
import { progress, type Progress } from "../load/progress.ts";
import { qualityOf } from "../quality.ts";
import { loadOptionsOf, perplexityConfig, perplexityOptionsOf, readText, type PerplexityConfig } from "./options.ts";
import { loadSample } from "../datasets/load.ts";
import { executePresses, library, type PressTools } from "./press_command.ts";
import { asksForPresses, pressConfig } from "./press_options.ts";
import { perplexityJson, perplexityText, type PerplexityRun } from "./report.ts";

const HELP = `
Hyphens and underscores are alike. A file named by --dataset is one document, or several where it begins with a heading of WikiText
(" = Title = " between blank lines), which is how wikitext is parted into articles, too; of pg19 a book is a document, of a parquet file a row
of its column "text". A document is taken as it is stored, and windows are cut from its tokens, beginning with the first; what does not fill
a window of prefill-continue is not scored. --context-limit (default 4096, less where the model allows less) is the longest that the model
sees at once: a window, or the prompt and the new tokens of the speed part.

Without --ppl-apply-press PPL is the plain one, which no press takes part in. With it, each press and no press predict the same tokens:
prefill-continue reads --context tokens, lets the press act once and scores --continuation more; decode goes token by token. Other
protocols are one forward pass per window, which cannot see a press. A press that evicted nothing makes its row INVALID and the exit code 5.`;

function program(): Command {
  return benchCommand(new Command("node bench/perplexity.ts")
    .description("Perplexity of a model on a text by a named protocol; with --base-weights also KL divergence and top-1 agreement with that model, "
      + "with --press what evicting from its KV cache does to both, and to speed.")
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME (default: tiny-neox)", once)
    .option("--weights <format>", "auto, f32, f16, bf16, int8, llm.int8, nf4, nf4-double, fp4 or fp4-double (default: auto, as stored)", once)
    .option("--kv <format>", "number format of the KV cache: f32, f16, bf16, int8 or int4 (default: f16)", once)
    .option("--protocol <name>", "hf-strided, llama.cpp, lm-eval-rolling, decode or prefill-continue (default: hf-strided; under a press prefill-continue)", once)
    .option("--context <tokens>", "tokens of a window, of prefill-continue those before the scored ones (default: 512; with --dataset and no press the limit)", once)
    .option("--stride <tokens>", "of hf-strided: from window to window (default: the context)", once)
    .option("--text <text>", "persuasion, sotu, or a file (default: persuasion)", once)
    .option("--max-windows <count>", "only the first windows of the text (default: all; with --dataset or a press 16)", once)
    .option("--base-weights <format>", "compare with the same model in this format", once)
    .option("--base-kv <format>", "number format of that model's KV cache (default: f32)", once)
    .option("--kv-memory <bytes>", "memory for keys and values: 512MiB, 1GB, or bytes", once)
    .option("--max-model-len <tokens>", "longest window", once)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name", once)
    .option("--json <file>", "write everything, token by token, to this file", once)
    .option("--dataset <name>", "wikitext, pg19, wikitext-sample, pg19-sample (bundled), or a text or parquet file (default: pg19-sample)", once)
    .option("--subset <name>", "of wikitext: wikitext-2-raw-v1 (default), wikitext-2-v1, wikitext-103-raw-v1 or wikitext-103-v1", once)
    .option("--sample-idx <index>", "document of the data set, from 0 (default: 0)", once)
    .option("--press <name>", "no_press (default), all, or a press: knorm, snapkv, ..., nested as in \"adakv(snapkv)\"", once)
    .option("--compression-ratio <ratios>", "share of the cache to evict, or several: 0.25,0.5,0.75 (default: 0.5)", once)
    .option("--ppl-apply-press", "measure perplexity under the press")
    .option("--continuation <tokens>", "of prefill-continue: scored tokens of a window (default: 128)", once)
    .option("--keep-ratio <share>", "knorm after every token: what stays of each layer once it holds --prune-after tokens", once)
    .option("--prune-after <tokens>", "with --keep-ratio (default: 512)", once)
    .option("--skip-layers <layers>", "layers that no press touches, as 0,1 (default: none; with --keep-ratio 0)", once)
    .option("--positions <policy>", "original, rerotate, or cache-length (a common mistake, to measure against)", once)
    .option("--attn-implementation <name>", "eager, sdpa or flash_attention_2, which gives no attention weights", once)
    .option("--context-limit <tokens>", "longest that the model sees at once (default: 4096)", once)
    .option("--max-new-tokens <count>", "of the speed part; 0: no speed part (default: 200)", once)
    .option("--min-new-tokens <count>", "from here on an end of text ends the count (default: as --max-new-tokens)", once)
    .option("--repetitions <count>", "of the speed part, in drawn order (default: 3)", once)
    .option("--speed-only", "no perplexity")
    .option("--speed-decode-only", "tokens per second without the prefill")
    .option("--output-dir <folder>", "where results of presses go, under perplexity (default: results)", once)
    .addHelpText("after", HELP));
}

async function execute(config: PerplexityConfig): Promise<number> {
  const text = config.sample === null ? readText(config) : (await loadSample(config.sample)).text;
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

/** Returns the exit code. `tools` stand in for the model and the presses in tests. */
export function main(argv: readonly string[], tools: PressTools = library): Promise<number> {
  return runCommand(program(), argv, (command) => {
    const flags = command.opts();
    return asksForPresses(flags) ? executePresses(pressConfig(flags), tools) : execute(perplexityConfig(flags));
  });
}

/** The command itself. */
export const start = (): Promise<void> => startCommand(main);
