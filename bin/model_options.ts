/**
 * The options that `generate` and `chat` share, and their way into the records of the library. Ranges are the library's business
 * (models/generate_options.ts); here text becomes numbers, and nothing is loaded before every option was found good.
 */

import { InvalidArgumentError, Option, type Command } from "commander";
import { UsageError } from "../engine/errors.ts";
import type { LLM } from "../index.ts";
import { WEIGHT_FORMATS } from "../kernels/formats.ts";
import { KV_FORMATS } from "../kernels/kv_formats.ts";
import type { GenerateOptions, KvChoice, KvNumbers, LoadOptions, WeightFormat } from "../models/options.ts";
import { progressBar } from "../bench/core/cli.ts";

export interface ModelFlags {
  readonly model: string;
  readonly revision?: string;
  readonly weights?: "auto" | WeightFormat;
  readonly kv?: KvChoice;
  readonly kvMemory?: number;
  readonly maxModelLen?: number;
  readonly adapter?: string;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly logitBias?: Readonly<Record<string, number>>;
  readonly seed?: number;
  readonly stop: readonly string[];
  readonly ignoreEos?: boolean;
  readonly press?: string;
  readonly ratio?: number;
  readonly draft?: string;
  readonly draftK?: number | "adaptive";
}

export function addModelOptions(command: Command): Command {
  return command
    .option("-m, --model <model>", "a folder, a bundled name, a Hugging Face id owner/name[@revision], or random:NAME", "tiny-neox")
    .option("--revision <revision>", "commit, branch or tag of a Hugging Face model (default: main)")
    .option("-n, --max-tokens <count>", "most tokens to generate (default: 128)", parseNumber)
    .option("--temperature <number>", "0 is greedy; else divide logits by it and sample (default: 0)", parseNumber)
    .option("--top-p <number>", "sample from the likeliest tokens that together have this probability (default: 1)", parseNumber)
    .option("--top-k <count>", "sample from this many likeliest tokens; 0 is all (default: 0)", parseNumber)
    .option("--min-p <number>", "sample from tokens at least this share as likely as the likeliest (default: 0)", parseNumber)
    .option("--repetition-penalty <number>", "divide the logits of tokens in prompt or text (default: 1)", parseNumber)
    .option("--presence-penalty <number>", "subtract from the logits of tokens in the text (default: 0)", parseNumber)
    .option("--frequency-penalty <number>", "subtract for every time the text has the token (default: 0)", parseNumber)
    .option("--logit-bias <id=number>", "add to the logit of a token, -inf forbids it; may be given again", parseBias)
    .option("--seed <number>", "same seed, same text on the same adapter (default: 0)", parseNumber)
    .option("--stop <text>", "end before this text; may be given again", (text: string, all: string[]) => [...all, text], [])
    .option("--ignore-eos", "generate on past the model's end of text")
    .addOption(new Option("--weights <format>", "number format of the weights (default: as stored)")
      .choices(["auto", ...WEIGHT_FORMATS]))
    .option("--kv <format>", "number format of the KV cache: f32, f16, bf16, int8, int4, kivi4; int4:16 in groups of 16; k=int8,v=int4 (default: f16)", parseKv)
    .option("--press <press>", "evict from the KV cache behind the prompt: snapkv, knorm, adakv(snapkv), … (default: keep all)")
    .option("--ratio <share>", "share of the entries that --press evicts, from 0 to below 1 (default: 0.5)", parseNumber)
    .option("--draft <draft>", "draft tokens for the model to verify: a smaller model of the same tokenizer, prompt-lookup, or self:nf4")
    .option("--draft-k <count>", "tokens drafted in a round, 1 to 16, or adaptive (default: 5)", (text) => (text === "adaptive" ? text : parseNumber(text)))
    .option("--kv-memory <bytes>", "memory for keys and values: 512MiB, 1GB, or bytes", parseBytes)
    .option("--max-model-len <tokens>", "longest prompt and continuation together", parseNumber)
    .option("--adapter <name>", "auto, software, an index of `dawnlm doctor`, or part of an adapter's name (default: auto)");
}

/** A decimal number as written; the library checks its range. Throws InvalidArgumentError. */
export function parseNumber(text: string): number {
  if (!/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text)) throw new InvalidArgumentError("Expected a number.");
  return Number(text);
}

/** `int8`, `int4:16` with the dimensions of a group, or `k=int8,v=int4:16`. Throws InvalidArgumentError. */
export function parseKv(text: string): KvChoice {
  const one = (part: string): KvNumbers => {
    const [, name, group] = /^(\w+)(?::(\d+))?$/.exec(part) ?? [];
    const format = KV_FORMATS.find((each) => each === name);
    if (format === undefined) throw new InvalidArgumentError(`Allowed choices are ${KV_FORMATS.join(", ")}, int8:<group>, int4:<group>, or k=<one>,v=<one>.`);
    if (group === undefined) return format;
    if (format !== "int8" && format !== "int4") throw new InvalidArgumentError(`${format} has no groups; int8 and int4 have.`);
    return { format, group: Number(group) };
  };
  const [, k, v] = /^k=([^,=]*),v=([^,=]*)$/.exec(text) ?? [];
  return k === undefined || v === undefined ? one(text) : { k: one(k), v: one(v) };
}

/** `7=-2.5` or `7=-inf`, added to those before it. Throws InvalidArgumentError. */
export function parseBias(text: string, earlier: Readonly<Record<string, number>> = {}): Readonly<Record<string, number>> {
  const [, id, number] = /^(\d+)=(.+)$/.exec(text) ?? [];
  if (id === undefined || number === undefined) throw new InvalidArgumentError("Expected a token id, = and a number, such as 42=-5 or 42=-inf.");
  return { ...earlier, [id]: number === "-inf" ? -Infinity : parseNumber(number) };
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40,
};

/** Bytes from `512MiB`, `1.5 GB` or `1000000`. Throws InvalidArgumentError. */
export function parseBytes(text: string): number {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text) ?? [];
  const factor = UNITS[unit.toLowerCase()];
  if (number === undefined || factor === undefined) {
    throw new InvalidArgumentError("Expected bytes, or a number with KB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024).");
  }
  return Math.floor(Number(number) * factor);
}

/** Everything the flags say, checked. Throws UsageError. */
export async function checkedOptions(flags: ModelFlags & { readonly logprobs?: number }, more: LoadOptions = {}): Promise<{ load: LoadOptions; generate: GenerateOptions }> {
  const { checkLoadOptions, completeGenerateOptions } = await import("../models/generate_options.ts");
  const { weights, kv, kvMemory, maxModelLen, adapter, revision, temperature, topP, topK, minP, seed, stop, ignoreEos } = flags;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = flags;
  const load = { weights, kv, kvMemory, maxModelLen, adapter, revision, ...await techniquesOf(flags), ...more } as LoadOptions;
  const generate = {
    maxNewTokens: flags.maxTokens, temperature, topP, topK, minP, repetitionPenalty, presencePenalty, frequencyPenalty, logitBias, seed, stop, ignoreEos,
    logprobs: flags.logprobs,
  } as GenerateOptions;
  checkLoadOptions(load);
  completeGenerateOptions(generate);
  return { load, generate };
}

/** The press and the draft that the flags name. Throws UsageError. */
async function techniquesOf({ press, ratio, draft, draftK }: ModelFlags): Promise<Pick<LoadOptions, "press" | "draft">> {
  if (ratio !== undefined && press === undefined) throw new UsageError("--ratio has no effect without --press");
  if (draftK !== undefined && draft === undefined) throw new UsageError("--draft-k has no effect without --draft");
  const { parsePress } = await import("../techniques/press/spec.ts"), { draftOptionsOf } = await import("../techniques/speculation/spec.ts");
  return {
    ...(press !== undefined && { press: parsePress(press, ratio ?? 0.5) }),
    ...(draft !== undefined && { draft: draftOptionsOf({ model: draft, ...(draftK !== undefined && { k: draftK }) }) }),
  };
}

/** Load the model with a progress bar. */
export async function loadModel(model: string, options: LoadOptions): Promise<LLM> {
  const { LLM } = await import("../index.ts");
  const bar = progressBar();
  try {
    return await LLM.load(model, { ...options, onProgress: bar.update });
  } finally {
    bar.stop();
  }
}

/** The adapter in words, for the summary of a run. */
export function adapterInWords({ environment: { adapter } }: LLM): string {
  if (adapter.software) return `on the software adapter (a CPU, not a GPU): ${adapter.description}`;
  return `on ${[adapter.vendor, adapter.device, adapter.description].filter((part) => part !== "").join(" ")}`;
}
