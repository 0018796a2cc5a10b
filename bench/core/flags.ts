/** The flags of `node bench/run.ts`. Each is a key of the config under another spelling; the schema says what a value may be. */

import { Command, InvalidArgumentError } from "commander";
import { benchCommand } from "./cli.ts";
import type { ConfigRequest } from "./config.ts";
import { KEYS, TECHNIQUE_NAMES, type Key } from "./schema.ts";

/** A number where the text is a decimal one; the schema says what was expected where it is not. */
const numeric = (text: string): unknown => (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : text);
/** A list in one argument: parts between commas that stand in no parentheses. */
function parts(text: string): string[] {
  const found = [""];
  let depth = 0;
  for (const letter of text) {
    depth += letter === "(" ? 1 : letter === ")" ? -1 : 0;
    if (letter === "," && depth === 0) found.push("");
    else found[found.length - 1] += letter;
  }
  return text.trim() === "" ? [] : found.map((part) => part.trim());
}
const numbers = (text: string): unknown => parts(text).map(numeric);
/** A name, or a list where there are commas. */
const listed = (text: string): unknown => (text.includes(",") ? parts(text) : text);
const once = (text: string, earlier: string | undefined): string => {
  if (earlier !== undefined) throw new InvalidArgumentError("It was given twice.");
  return text;
};

export function program(): Command {
  return benchCommand(new Command("node bench/run.ts")
    .description("Run an experiment and write its reports under results/.")
    .option("--config <file>", "a YAML file, such as config/PagedAttention/pagedattention_small_default.yaml", once)
    .option("--technique <name>", `${TECHNIQUE_NAMES}; with --batch-level it names a default config`)
    .option("--batch-level <level>", "small, medium or large (default: medium)")
    .option("--experiment-name <name>", "goes into the names of the reports")
    .option("--method <arms>", "basic, optimized or both (compared); of PagedAttention contiguous-max, paged, or these and contiguous-exact")
    .option("--weights <format>", "number format of the weights: auto (as stored) or a format; of 量化 the basic arm's")
    .option("--kv <format>", "number format of the KV cache (default: f16)")
    .option("--quantize-to <format>", "of 量化: int8, llm.int8, nf4, nf4-double, fp4 or fp4-double, instead of a file's quantization_config")
    .option("--formats <names...>", "of precision: formats to compare, the first one is the baseline (default: f32 f16 bf16)")
    .option("--loading <how>", "of 量化, precision and spec_decode: all arms together, in-turn, or auto (together while memory lasts)")
    .option("--perplexity-text <text>", "persuasion, sotu or a text file")
    .option("--perplexity-protocol <name>", "hf-strided, llama.cpp, lm-eval-rolling or decode (default: hf-strided)")
    .option("--perplexity-context <tokens>", "tokens of a window (default: 512)", numeric)
    .option("--perplexity-stride <tokens>", "of hf-strided: tokens from one window to the next (default: the context)", numeric)
    .option("--perplexity-windows <count>", "windows to score; 0 for none (default: 16)", numeric)
    .option("--benchmark-memory", "what fits a fixed KV budget, over several distributions of lengths, and what the freed memory buys")
    .option("--distributions <name...>", "of --benchmark-memory: sharegpt, alpaca, uniform, constant (default: all)")
    .option("--shared-prefix <tokens>", "what a prefix cache gains when all prompts begin with the same text of this length", numeric)
    .option("--keep-ratios <list>", "of KnormPress: shares of the entries to keep, such as \"1.0,0.9,0.8,0.7\"", numbers)
    .option("--prune-after <tokens>", "of KnormPress: entries from which on a layer is pruned, after every token (default: 512)", numeric)
    .option("--skip-layers <list>", "of KnormPress: layers that are left alone, such as \"0\" (the default), \"0,1,2\" or \"\"", numbers)
    .option("--num-wikitext-samples <count>", "of KnormPress: samples in the manner of WikiText (default: 3)", numeric)
    .option("--num-pg19-samples <count>", "of KnormPress: samples in the manner of PG-19 (default: 2)", numeric)
    .option("--dataset <source>", "of KnormPress and spec_decode: bundled texts (default), or hub: WikiText-2 and PG-19; of spec_decode also by name, such as pg19-sample,wikitext", listed)
    .option("--draft <list>", "of spec_decode: a smaller model of the same tokenizer, prompt-lookup, self:nf4, self:int8, or some of them (default: tiny-neox-draft)", parts)
    .option("--k <list>", "of spec_decode: tokens drafted per round, such as \"3-10\" (the default) or \"4,8\"; adaptive is always among them")
    .option("--prompt-tokens <count>", "of KnormPress, KVPress and spec_decode: tokens of every prompt (default: 640)", numeric)
    .option("--presses <list>", "of KVPress: presses by name, such as \"snapkv,adakv(snapkv)\"; random is always among them", parts)
    .option("--ratios <list>", "of KVPress: shares of the entries to evict, such as \"0.5,0.75\"", numbers)
    .option("--continuation <tokens>", "of KVPress: tokens that are scored behind a compressed prompt (default: 128)", numeric)
    .option("--model <model>", "a folder, a bundled name, a hub id, or random:NAME")
    .option("--max-tokens <count>", "new tokens per request", numeric)
    .option("--temperature <number>", "0 is greedy", numeric)
    .option("--top-p <number>", "share of probability to sample from", numeric)
    .option("--seed <number>", "of prompts, sampling and the order of arms", numeric)
    .option("--batch-size <count>", "most sequences that run together", numeric)
    .option("--num-prompts <count>", "requests per iteration", numeric)
    .option("--max-model-len <tokens>", "longest prompt and continuation; what the contiguous baseline reserves", numeric)
    .option("--block-size <tokens>", "tokens per block of the paged cache", numeric)
    .option("--kv-memory <bytes>", "for keys and values together", numeric)
    .option("--test-iterations <count>", "measured iterations", numeric)
    .option("--warmup-iterations <count>", "fewest iterations before them; 0 for no warm-up", numeric)
    .option("--warmup-limit <count>", "most iterations before them: warm-up goes on until no arm gets faster (default: 5)", numeric)
    .option("--device <index...>", "index of the adapter, as `dawnlm doctor` counts", (text: string, all: unknown[] = []) => [...all, numeric(text)])
    .option("--adapter <name>", "auto, software, an index, or part of an adapter's name")
    .option("--output-dir <folder>", "where results go (default: results)")
    .option("--no-save", "write no files")
    .option("--json", "print the whole result as JSON instead of the table")
    .option("--resume <folder>", "take up a run that ended early: its folder results/TECHNIQUE/runs/RUN", once)
    .option("--replay <result>", "run a result again, the same work from the same seeds, and compare the two", once)
    .option("--schema", "print the JSON Schema of a config, for editors, and leave")
    .option("--lang <language>", "of the reports: en or zh (default: en)")
    .option("--prompts <text...>", "the prompts themselves")
    .option("--prompts-file <file>", "one prompt per line"));
}

export function requestOf(flags: Readonly<Record<string, unknown>>): ConfigRequest {
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
