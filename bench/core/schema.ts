/**
 * What a PagedAttention experiment may say: every key with its range and its default. The YAML file and the flags are checked against
 * this one table; a key that would have no effect is refused, because a setting that silently does nothing is how benchmarks lie.
 */

import { z } from "zod";
import { DISTRIBUTIONS } from "./lengths.ts";

const positive = (max: number) => z.int().min(1).max(max);

/**
 * Ranges in words stand beside the checks; they are what an error message says. A name of 50 letters of 4 bytes each still fits, with what
 * comes before and after it, into the 255 bytes that file systems allow.
 */
const FIELDS = {
  experiment_name: [z.string().regex(/^[\p{L}\p{N}][\p{L}\p{N}._-]{0,49}$/u), "a name of letters, digits, '.', '_' and '-', at most 50 long, that begins with a letter or digit"],
  technique: [z.literal("PagedAttention"), "PagedAttention"],
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
  test_iterations: [positive(1000), "a whole number from 1 to 1000"],
  ignore_eos: [z.boolean(), "true or false"],
  weights: [z.enum(["auto", "f32", "f16", "bf16"]), "auto, f32, f16 or bf16"],
  kv: [z.enum(["f32", "f16", "bf16"]), "f32, f16 or bf16"],
  kv_memory: [positive(2 ** 40).optional(), "bytes for keys and values, a whole number"],
  max_model_len: [z.int().min(2).max(2 ** 20).optional(), "a whole number of tokens from 2"],
  block_size: [positive(4096), "a whole number of tokens from 1 to 4096"],
  benchmark_memory: [z.boolean(), "true or false"],
  distributions: [z.array(z.enum(DISTRIBUTIONS)).min(1).refine((names) => new Set(names).size === names.length).optional(), `a list of some of ${DISTRIBUTIONS.join(", ")}, each once`],
  shared_prefix: [z.int().min(1).max(2 ** 20).optional(), "a whole number of tokens from 1"],
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
  seed: 0, batch_size: 4, num_prompts: 10, warmup_iterations: 1, test_iterations: 5, ignore_eos: true, weights: "auto", kv: "f16", block_size: 16,
  benchmark_memory: false, lang: "en", output_dir: "results", save_results: true,
} as const satisfies Partial<ExperimentConfig>;

/** Keys of other techniques, and why they would do nothing here. */
const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  quantization_config: "has no effect on PagedAttention, which compares cache layouts of one unquantized model; take it out",
  press: "has no effect on PagedAttention: no press runs here; take it out",
  draft: "has no effect on PagedAttention: nothing is speculated here; take it out",
};

export interface Problem { readonly key: string; readonly message: string; readonly unknown?: boolean }

/**
 * Everything wrong with `values`: unknown keys, wrong types, impossible values, keys that cancel each other out. `describe` says what a
 * value is in words; default `show`.
 */
export function problemsOf(
  values: Readonly<Record<string, unknown>>, nearest: (name: string, names: readonly string[]) => string[],
  describe: (key: string, value: unknown) => string = (_, value) => show(value),
): Problem[] {
  const meant = (typed: unknown, names: readonly string[]): string => {
    const [close] = typeof typed === "string" ? nearest(typed, names) : [];
    return close === undefined ? "" : `; did you mean ${close}?`;
  };
  const problems: Problem[] = [];
  for (const [key, value] of Object.entries(values)) {
    const field = Object.hasOwn(FIELDS, key) ? FIELDS[key as Key] : undefined;
    if (field === undefined) {
      problems.push({ key, unknown: true, message: Object.hasOwn(WITHOUT_EFFECT, key) ? WITHOUT_EFFECT[key]! : `unknown key${meant(key, KEYS)}` });
    } else if (!field[0].safeParse(value).success) {
      problems.push({ key, message: `expected ${field[1]}, got ${describe(key, value)}${meant(value, choices(field[0]))}` });
    }
  }
  for (const key of KEYS) {
    if (!Object.hasOwn(values, key) && !FIELDS[key][0].safeParse(undefined).success) problems.push({ key, message: `is missing, expected ${FIELDS[key][1]}` });
  }
  const wrong = new Set(problems.map(({ key }) => key));
  return [...problems, ...contradictions(Object.fromEntries(Object.entries(values).filter(([key]) => !wrong.has(key))))];
}

/** The words a field can be. */
function choices(type: z.ZodType): readonly string[] {
  return type instanceof z.ZodEnum ? (type.options as string[]) : type instanceof z.ZodLiteral ? [...type.values].map(String) : [];
}

/** Keys that are good by themselves but not together. */
function contradictions(c: Partial<ExperimentConfig>): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  const more = (a: number | undefined, b: number | undefined): boolean => a !== undefined && b !== undefined && a > b;
  if (c.temperature === 0 && c.top_p !== undefined && c.top_p !== 1) add("top_p", "has no effect at temperature 0 (greedy): set it to 1, or raise temperature");
  if (c.prompts !== undefined && c.prompts_file !== undefined) add("prompts_file", "prompts and prompts_file both say what to run; keep one");
  if (c.device !== undefined && c.adapter !== undefined) add("device", "device and adapter both say where to run; keep one");
  if (more(c.batch_size, c.num_prompts)) add("batch_size", `${c.batch_size} is more than num_prompts (${c.num_prompts}): a batch would never be full`);
  if (more(c.num_prompts, c.prompts?.length)) add("num_prompts", `${c.num_prompts} is more than the ${c.prompts!.length} prompts given`);
  if (more(c.prompts?.length, c.num_prompts)) add("num_prompts", `${c.num_prompts} leaves some of the ${c.prompts!.length} prompts without effect`);
  if (c.max_tokens !== undefined && more(c.max_tokens + 1, c.max_model_len)) {
    add("max_tokens", `${c.max_tokens} leaves no room for a prompt in max_model_len (${c.max_model_len})`);
  }
  if (more(c.block_size, c.max_model_len)) add("block_size", `${c.block_size} is more than max_model_len (${c.max_model_len})`);
  if (c.method === "basic" && c.block_size !== undefined && c.block_size !== DEFAULTS.block_size) add("block_size", "has no effect on method basic, whose cache is contiguous");
  for (const key of ["benchmark_memory", "shared_prefix"] as const) {
    if (c[key] === undefined || c[key] === false) continue;
    const arms = key === "benchmark_memory" ? "compares all three layouts" : "compares paged with and without a prefix cache";
    if (c.method !== undefined && c.method !== "both") add("method", `has no effect with ${key}, which ${arms}; take it out`);
    for (const given of ["prompts", "prompts_file"] as const) {
      if (c[given] !== undefined) add(given, `has no effect with ${key}, which takes its prompts from the bundled texts; take it out`);
    }
  }
  if (c.benchmark_memory === true) {
    if (c.shared_prefix !== undefined) add("shared_prefix", "benchmark_memory and shared_prefix are two experiments; keep one");
    if (c.max_tokens !== undefined && c.max_tokens !== DEFAULTS.max_tokens) add("max_tokens", "has no effect with benchmark_memory, which draws the lengths of its texts; take it out");
    if (c.ignore_eos === false) add("ignore_eos", "benchmark_memory gives every text the length that was drawn for it: set it to true");
  } else if (c.distributions !== undefined) add("distributions", "has no effect without benchmark_memory");
  if (more(c.block_size, c.shared_prefix)) add("shared_prefix", `${c.shared_prefix} is less than block_size (${c.block_size}): only whole blocks are shared`);
  if (c.shared_prefix !== undefined && c.max_tokens !== undefined && more(c.shared_prefix + c.max_tokens + 1, c.max_model_len)) {
    add("shared_prefix", `${c.shared_prefix} and max_tokens (${c.max_tokens}) leave no room for a prompt in max_model_len (${c.max_model_len})`);
  }
  return problems;
}

/** A value as a message shows it: `"sixteen" (string)`; with `written`, the text that stands in the file. */
export function show(value: unknown, written?: string | null): string {
  if (value === undefined) return "nothing";
  const text = typeof value === "number" ? written ?? String(value) : JSON.stringify(value) ?? String(value);
  const type = value === null ? "null" : Array.isArray(value) ? "list" : typeof value === "object" ? "mapping" : typeof value;
  return `${text.length > 60 ? `${text.slice(0, 57)}…` : text} (${type})`;
}
