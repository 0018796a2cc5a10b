/**
 * What is wrong with a config: unknown keys, wrong types, impossible values; keys that cancel each other out, and keys that would do
 * nothing beside another. Each message says what was expected and what to do.
 */

import { z } from "zod";
import { UsageError } from "../../engine/errors.ts";
import { parseQuantizationConfig } from "../../models/quantization_config.ts";
import { ofCombos } from "./combos/problems.ts";
import { ofPresses } from "./press/problems.ts";
import { ofSpeculation } from "./speculation/problems.ts";
import { DEFAULTS, FIELDS, KEYS, show, type ExperimentConfig, type Key, type Problem } from "./schema.ts";

/** Keys of techniques that have no experiment here. */
const WITHOUT_EFFECT: Readonly<Record<string, string>> = {
  press: "has no effect here: techniques KnormPress and KVPress run presses by the keys keep_ratios or presses and ratios, and combos by its arms; take it out",
};

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
  const right = Object.fromEntries(Object.entries(values).filter(([key]) => !wrong.has(key)));
  return [...problems, ...contradictions(right, (key) => values[key] !== undefined)];
}

/** The words a field can be. */
function choices(type: z.ZodType): readonly string[] {
  return type instanceof z.ZodEnum ? (type.options as string[]) : type instanceof z.ZodLiteral ? [...type.values].map(String) : [];
}

/** Keys that are good by themselves but not together. `isGiven`: also those whose values are wrong by themselves, which are not in `c`. */
function contradictions(c: Partial<ExperimentConfig>, isGiven: (key: Key) => boolean): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  const more = (a: number | undefined, b: number | undefined): boolean => a !== undefined && b !== undefined && a > b;
  if (c.temperature === 0 && c.top_p !== undefined && c.top_p !== 1) add("top_p", "has no effect at temperature 0 (greedy): set it to 1, or raise temperature");
  if (c.prompts !== undefined && c.prompts_file !== undefined) add("prompts_file", "prompts and prompts_file both say what to run; keep one");
  if (c.device !== undefined && c.adapter !== undefined) add("device", "device and adapter both say where to run; keep one");
  if (more(c.batch_size, c.num_prompts)) add("batch_size", `${c.batch_size} is more than num_prompts (${c.num_prompts}): a batch would never be full`);
  if (more(c.num_prompts, c.prompts?.length)) add("num_prompts", `${c.num_prompts} is more than the ${c.prompts!.length} prompts given`);
  if (more(c.prompts?.length, c.num_prompts)) add("num_prompts", `${c.num_prompts} leaves some of the ${c.prompts!.length} prompts without effect`);
  if (more(c.warmup_iterations, c.warmup_limit)) add("warmup_limit", `${c.warmup_limit} is less than warmup_iterations (${c.warmup_iterations})`);
  if (c.max_tokens !== undefined && more(c.max_tokens + 1, c.max_model_len)) {
    add("max_tokens", `${c.max_tokens} leaves no room for a prompt in max_model_len (${c.max_model_len})`);
  }
  if (more(c.block_size, c.max_model_len)) add("block_size", `${c.block_size} is more than max_model_len (${c.max_model_len})`);
  if (c.technique === "PagedAttention" && c.method === "basic" && c.block_size !== undefined && c.block_size !== DEFAULTS.block_size) add("block_size", "has no effect on method basic, whose cache is contiguous");
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
  if (c.technique === undefined || c.technique === "PagedAttention") return problems;
  if (c.technique === "combos") return [...problems, ...ofCombos(c, isGiven)];
  if (c.technique === "spec_decode") return [...problems, ...ofSpeculation(c)];
  return [...problems, ...(c.technique === "KnormPress" || c.technique === "KVPress" ? ofPresses(c, isGiven) : ofWeights(c, isGiven))];
}

/** Of the experiments that compare number formats of the weights. */
function ofWeights(c: Partial<ExperimentConfig>, isGiven: (key: Key) => boolean): Problem[] {
  const problems: Problem[] = [];
  const add = (key: Key, message: string): void => { problems.push({ key, message }); };
  const { technique, method, quantization_config: asked, quantize_to: format, perplexity_context: context, perplexity_stride: stride } = c;
  if (technique === "量化" && method !== "basic" && !isGiven("quantization_config") && !isGiven("quantize_to")) {
    add("quantization_config", "is missing: say what to quantize to, such as {load_in_4bit: true, bnb_4bit_quant_type: nf4} or {load_in_8bit: true}, or give quantize_to");
  }
  if (asked !== undefined && format !== undefined) add("quantize_to", "quantization_config and quantize_to both say what to quantize to; keep one");
  for (const key of ["quantization_config", "quantize_to"] as const) {
    if (technique === "量化" && method === "basic" && c[key] !== undefined) add(key, "has no effect on method basic, which quantizes nothing");
  }
  if (asked !== undefined) {
    try {
      parseQuantizationConfig(asked, "quantization_config");
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      for (const line of error.message.split("\n")) add("quantization_config", line.replace(/^quantization_config: /, ""));
    }
  }
  if (c.ignore_eos === false) add("ignore_eos", "the arms would write texts of different lengths and so do different work: set it to true");
  if (c.perplexity_windows === 0) {
    for (const key of ["perplexity_text", "perplexity_protocol", "perplexity_context"] as const) {
      if (c[key] !== undefined && c[key] !== DEFAULTS[key]) add(key, "has no effect with perplexity_windows 0: no perplexity is measured");
    }
  }
  if (stride !== undefined && c.perplexity_protocol !== "hf-strided") add("perplexity_stride", `has no effect on ${c.perplexity_protocol}, whose windows do not overlap`);
  if (stride !== undefined && context !== undefined && stride > context) {
    add("perplexity_stride", `${stride} is more than perplexity_context (${context}): tokens between the windows would never be scored`);
  }
  if (c.perplexity_windows !== 0 && context !== undefined && c.max_model_len !== undefined && context > c.max_model_len) {
    add("perplexity_context", `${context} is more than max_model_len (${c.max_model_len})`);
  }
  return problems;
}
