/**
 * What an experiment may say: every key with its range, its default and the techniques that look at it. The YAML file and the flags are
 * checked against this one table; a key that would have no effect is refused, because a setting that silently does nothing is how
 * benchmarks lie. What is wrong with a config, problems.ts says.
 */

import { z } from "zod";
import { isFloat, WEIGHT_FORMATS, type FloatFormat, type WeightFormat } from "../../kernels/formats.ts";
import { KV_ENTRY_FORMATS } from "../../kernels/kv_formats.ts";
import { MAX_DRAFTED } from "../../kernels/accept.ts";
import { DATASETS } from "./datasets/load.ts";
import { DISTRIBUTIONS } from "./lengths.ts";
import { draftLengths } from "./speculation/k.ts";

export const TECHNIQUES = ["PagedAttention", "量化", "precision", "KnormPress", "KVPress", "spec_decode", "combos"] as const;
export type Technique = (typeof TECHNIQUES)[number];
/** Every name a technique goes by, in words. */
export const TECHNIQUE_NAMES = "PagedAttention, 量化 (or quantization), precision, KnormPress, KVPress, spec_decode or combos";

/** Where the cache of an arm of `combos` lies (arms.ts). */
export const LAYOUTS = ["contiguous-max", "contiguous-exact", "paged", "paged-prefix"] as const;

/** How perplexity is counted: which tokens are scored with how much before them. */
export const PROTOCOLS = ["hf-strided", "llama.cpp", "lm-eval-rolling", "decode"] as const;

/** What an arm of `combos` may set; what it leaves out is as the config has it for all. */
export const ARM_SETTINGS = z.strictObject({
  weights: z.enum(["auto", ...WEIGHT_FORMATS]).optional(),
  kv: z.enum(KV_ENTRY_FORMATS).optional(),
  layout: z.enum(LAYOUTS).optional(),
  press: z.string().min(1).max(200).optional(),
  ratio: z.number().min(0).lt(1).optional(),
  draft: z.string().min(1).max(500).optional(),
  k: z.union([z.int().min(1).max(MAX_DRAFTED), z.literal("adaptive")]).optional(),
});
export type ArmSettings = z.infer<typeof ARM_SETTINGS>;

/** What a model in floats can be quantized to. */
const QUANTIZED = WEIGHT_FORMATS.filter((format) => !isFloat(format)) as unknown as readonly Exclude<WeightFormat, FloatFormat>[];

const positive = (max: number) => z.int().min(1).max(max);
const isEachOnce = (values: readonly unknown[]): boolean => new Set(values).size === values.length;

/**
 * Ranges in words stand beside the checks; they are what an error message says. A name of 50 letters of 4 bytes each still fits, with what
 * comes before and after it, into the 255 bytes that file systems allow.
 */
export const FIELDS = {
  experiment_name: [z.string().regex(/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,49}$/u), "a name of letters, digits, '.', '_' and '-', at most 50 long, that begins with a letter or digit"],
  technique: [z.enum(TECHNIQUES), TECHNIQUE_NAMES],
  batch_level: [z.enum(["small", "medium", "large"]), "small, medium or large"],
  method: [z.enum(["basic", "optimized", "both"]), "basic, optimized or both"],
  model: [z.string().min(1).max(500), "a folder, a bundled model (tiny-neox, tiny-qwen2), a hub id owner/name, or random:NAME"],
  revision: [z.string().min(1).max(200).optional(), "a commit, branch or tag of a hub model"],
  device: [z.array(z.int().min(0)).length(1).optional(), "a list with one adapter index, such as [0] (one device runs at a time)"],
  adapter: [z.string().min(1).optional(), "auto, software, an index of `dawnlm doctor`, or part of an adapter's name"],
  max_tokens: [positive(65_536), "a whole number from 1 to 65536"],
  temperature: [z.number().min(0).max(100), "a number from 0 to 100"],
  top_p: [z.number().gt(0).max(1), "a number above 0 to 1"],
  seed: [z.int().min(0).max(0xffff_ffff), "a whole number from 0 to 4294967295"],
  batch_size: [positive(1024), "a whole number from 1 to 1024"],
  num_prompts: [positive(10_000), "a whole number from 1 to 10000"],
  warmup_iterations: [z.int().min(0).max(1000), "a whole number from 0 to 1000"],
  warmup_limit: [z.int().min(0).max(1000), "a whole number from 0 to 1000"],
  test_iterations: [positive(1000), "a whole number from 1 to 1000"],
  ignore_eos: [z.boolean(), "true or false"],
  weights: [z.enum(["auto", ...WEIGHT_FORMATS]), `auto, ${WEIGHT_FORMATS.join(", ")}`],
  quantization_config: [z.record(z.string(), z.unknown()).optional(), "a mapping, such as {load_in_4bit: true, bnb_4bit_quant_type: nf4}"],
  quantize_to: [z.enum(QUANTIZED).optional(), `one of ${QUANTIZED.join(", ")}`],
  formats: [z.array(z.enum(WEIGHT_FORMATS)).min(1).refine((names) => new Set(names).size === names.length).readonly(), `a list of some of ${WEIGHT_FORMATS.join(", ")}, each once`],
  loading: [z.enum(["auto", "together", "in-turn"]), "auto, together or in-turn"],
  perplexity_text: [z.string().min(1), "persuasion, sotu, or a text file"],
  perplexity_protocol: [z.enum(PROTOCOLS), `one of ${PROTOCOLS.join(", ")}`],
  perplexity_context: [z.int().min(2).max(2 ** 20), "a whole number of tokens from 2"],
  perplexity_stride: [z.int().min(1).max(2 ** 20).optional(), "a whole number of tokens from 1"],
  perplexity_windows: [z.int().min(0).max(100_000), "a whole number from 0 (no perplexity)"],
  kv: [z.enum(KV_ENTRY_FORMATS), `one of ${KV_ENTRY_FORMATS.join(", ")}`],
  kv_memory: [positive(2 ** 40).optional(), "bytes for keys and values, a whole number"],
  max_model_len: [z.int().min(2).max(2 ** 20).optional(), "a whole number of tokens from 2"],
  block_size: [positive(4096), "a whole number of tokens from 1 to 4096"],
  benchmark_memory: [z.boolean(), "true or false"],
  distributions: [z.array(z.enum(DISTRIBUTIONS)).min(1).refine((names) => new Set(names).size === names.length).optional(), `a list of some of ${DISTRIBUTIONS.join(", ")}, each once`],
  shared_prefix: [z.int().min(1).max(2 ** 20).optional(), "a whole number of tokens from 1"],
  keep_ratios: [z.array(z.number().gt(0).max(1)).min(1).max(32).refine(isEachOnce).readonly(), "a list of shares to keep, each above 0 to 1 and named once, such as [1.0, 0.9]"],
  prune_after: [positive(2 ** 20), "a whole number of tokens from 1"],
  skip_layers: [z.array(z.int().min(0).max(4095)).max(4096).refine(isEachOnce).readonly(), "a list of layers, counted from 0, each once, such as [0] or []"],
  num_wikitext_samples: [z.int().min(0).max(1000), "a whole number from 0 to 1000"],
  num_pg19_samples: [z.int().min(0).max(1000), "a whole number from 0 to 1000"],
  dataset: [
    z.union([z.enum(["bundled", "hub", ...DATASETS]), z.array(z.enum(DATASETS)).min(1).refine(isEachOnce).readonly()]),
    `bundled (texts that come along, offline) or hub (WikiText-2 and PG-19, downloaded once); of spec_decode also some of ${DATASETS.join(", ")}`,
  ],
  prompt_tokens: [positive(2 ** 20), "a whole number of tokens from 1"],
  presses: [z.array(z.string().min(1).max(200)).min(1).max(64).refine(isEachOnce).readonly(), "a list of presses, each once, such as [snapkv, adakv(snapkv)]"],
  ratios: [z.array(z.number().min(0).lt(1)).min(1).max(32).refine(isEachOnce).readonly(), "a list of shares to evict, each from 0 to below 1 and named once, such as [0.5]"],
  continuation: [positive(2 ** 20), "a whole number of tokens from 1"],
  draft: [z.array(z.string().min(1).max(500)).min(1).max(8).refine(isEachOnce).readonly(), "a list of drafts, each once: a model, prompt-lookup, or self: and a format, such as [tiny-neox-draft, self:nf4]"],
  k: [z.union([z.string(), z.int(), z.array(z.int()).readonly()]).refine((k) => draftLengths(k) !== null), `tokens per round, whole numbers from 1 to ${MAX_DRAFTED}, each once: a list or a range, such as [3, 5] or "3-10"`],
  arms: [
    z.record(z.string().regex(/^[\p{L}\p{N}][\p{L}\p{N} .,+_=()-]{0,49}$/u), z.record(z.string(), z.unknown())).refine((arms) => Object.keys(arms).length >= 2 && Object.keys(arms).length <= 32).optional(),
    "a mapping of 2 to 32 names to what each arm sets, the baseline first, such as {none: {}, nf4: {weights: nf4}}",
  ],
  prompts: [z.array(z.string().min(1)).min(1).max(10_000).optional(), "a list of texts"],
  prompts_file: [z.string().min(1).optional(), "a file with one prompt per line"],
  output_dir: [z.string().min(1).refine((path) => !path.split(/[\\/]/).includes("..")), "a folder, written without '..'"],
  save_results: [z.boolean(), "true or false"],
  lang: [z.enum(["en", "zh"]), "en or zh"],
} as const satisfies Record<string, readonly [z.ZodType, string]>;

export type Key = keyof typeof FIELDS;
export const KEYS = Object.keys(FIELDS) as readonly Key[];
export type ExperimentConfig = { readonly [K in Key]: z.infer<(typeof FIELDS)[K][0]> };

export const DEFAULTS = {
  technique: "PagedAttention", batch_level: "medium", method: "both", model: "tiny-neox", max_tokens: 100, temperature: 0.8, top_p: 0.95,
  seed: 0, batch_size: 4, num_prompts: 10, warmup_iterations: 1, warmup_limit: 5, test_iterations: 5, ignore_eos: true, weights: "auto", kv: "f16", block_size: 16,
  formats: ["f32", "f16", "bf16"] as readonly WeightFormat[], loading: "auto", perplexity_text: "persuasion", perplexity_protocol: "hf-strided", perplexity_context: 512,
  perplexity_windows: 16, benchmark_memory: false, keep_ratios: [1, 0.9, 0.8, 0.7] as readonly number[], prune_after: 512, skip_layers: [0] as readonly number[],
  num_wikitext_samples: 3, num_pg19_samples: 2, dataset: "bundled", prompt_tokens: 640, presses: ["snapkv", "streaming_llm", "knorm"] as readonly string[],
  ratios: [0.5] as readonly number[], continuation: 128, draft: ["tiny-neox-draft"] as readonly string[], k: "3-10", lang: "en", output_dir: "results", save_results: true,
} as const satisfies Partial<ExperimentConfig>;

const FORMATS: readonly Technique[] = ["量化", "precision"], PROMPTED: readonly Technique[] = ["PagedAttention", ...FORMATS];
/** Keys that only some techniques look at, and what the others do instead. */
const ONLY: Readonly<Partial<Record<Key, readonly Technique[]>>> = {
  method: ["PagedAttention", "量化"], weights: ["PagedAttention", "量化", "KnormPress", "KVPress", "spec_decode", "combos"], quantization_config: ["量化"], quantize_to: ["量化"], formats: ["precision"], loading: [...FORMATS, "spec_decode"],
  perplexity_text: [...FORMATS, "KVPress", "combos"], perplexity_protocol: FORMATS, perplexity_context: FORMATS, perplexity_stride: FORMATS, perplexity_windows: [...FORMATS, "KVPress", "combos"],
  prompts: PROMPTED, prompts_file: PROMPTED, batch_size: [...PROMPTED, "combos"], num_prompts: [...PROMPTED, "KVPress", "spec_decode", "combos"],
  keep_ratios: ["KnormPress"], prune_after: ["KnormPress"], skip_layers: ["KnormPress"], num_wikitext_samples: ["KnormPress"], num_pg19_samples: ["KnormPress"],
  dataset: ["KnormPress", "spec_decode"], prompt_tokens: ["KnormPress", "KVPress", "spec_decode", "combos"], draft: ["spec_decode"], k: ["spec_decode"], presses: ["KVPress"], ratios: ["KVPress"], continuation: ["KVPress", "combos"], arms: ["combos"],
  benchmark_memory: ["PagedAttention"], distributions: ["PagedAttention"], shared_prefix: ["PagedAttention"],
};

/** The keys that a technique looks at, in the order of a report. */
export function keysOf(technique: Technique): readonly Key[] {
  return KEYS.filter((key) => ONLY[key]?.includes(technique) ?? true);
}

/** Why a key that was given does nothing in this technique. */
const INSTEAD: Readonly<Record<Technique, string>> = {
  PagedAttention: "which compares cache layouts of one unquantized model", 量化: "which compares a model with its quantized self",
  precision: "which loads the same model in each of its formats", KnormPress: "which runs samples of one length, one at a time, at every keep ratio",
  KVPress: "which admits as many sequences as memory holds, under every press and ratio",
  spec_decode: "which runs prompts of one length, one at a time, with every draft and K",
  combos: "which runs arms that set what they need themselves",
};

/** A problem for every one of `given` that the technique does not look at. */
export function withoutEffect(technique: Technique, given: readonly string[]): Problem[] {
  const keys = keysOf(technique);
  return given.filter((key) => KEYS.includes(key as Key) && !keys.includes(key as Key))
    .map((key) => ({ key, unknown: true, message: `has no effect on ${technique}, ${INSTEAD[technique]}; take it out` }));
}

/** `unknown`: the key itself is at fault, not its value. */
export interface Problem { readonly key: string; readonly message: string; readonly unknown?: boolean }

/** A value as a message shows it: `"sixteen" (string)`; with `written`, the text that stands in the file. */
export function show(value: unknown, written?: string | null): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "number" ? written ?? String(value) : JSON.stringify(value) ?? String(value);
  const type = value === null ? "null" : Array.isArray(value) ? "list" : typeof value === "object" ? "mapping" : typeof value;
  return `${text.length > 60 ? `${text.slice(0, 57)}…` : text} (${type})`;
}
