/**
 * `quantization_config`, in its two roles. A user writes one to say how a model is to be quantized on loading, in the keys of transformers'
 * BitsAndBytesConfig; a key that would have no effect there is refused with the reason, since its writer expects one. A checkpoint has
 * one in its config.json that says how its weights are stored (bitsandbytes, GPTQ, AWQ); transformers writes all keys there, so those
 * that do not bear on the numbers are read over, and those that do and are not understood are refused.
 */

import type { SavedFormat } from "../engine/bitsandbytes_writer.ts";
import { UsageError } from "../engine/errors.ts";
import { nearest } from "../engine/nearest.ts";
import type { StoredQuantization } from "../engine/quantized_checkpoint.ts";
import { BLOCK_SIZE, OUTLIER_THRESHOLD, type WeightFormat } from "../kernels/formats.ts";
import { isObject, show, type Json, type Note } from "./config_fields.ts";

/** How a user wants a model quantized: what LLM.load takes, and what to tell them about it. */
export interface QuantizationChoice {
  readonly weights: WeightFormat;
  /** Weights per block of nf4 and fp4. */
  readonly blockSize: number;
  /** Activations of this size and above are outliers to LLM.int8(); 0 for none. */
  readonly threshold: number;
  /** Modules that stay in floats. */
  readonly skipModules: readonly string[];
  readonly notes: readonly string[];
}

const KEYS = [
  "load_in_8bit", "load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage",
  "llm_int8_threshold", "llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "quant_method",
  "_load_in_8bit", "_load_in_4bit",
] as const;
type Key = (typeof KEYS)[number];

/** Keys that take true and false. */
const FLAGS: readonly Key[] = [
  "load_in_8bit", "load_in_4bit", "_load_in_8bit", "_load_in_4bit", "bnb_4bit_use_double_quant", "llm_int8_enable_fp32_cpu_offload",
  "llm_int8_has_fp16_weight",
];
/** Keys of which only one value has a meaning here, and what the others would ask for. */
const ONE_VALUE: readonly (readonly [Key, unknown, string])[] = [
  ["quant_method", "bitsandbytes", "other methods quantize beforehand: give the folder of a checkpoint that was quantized so"],
  ["bnb_4bit_quant_storage", "uint8", "it only renames the bytes of the codes for distributed training"],
  ["llm_int8_enable_fp32_cpu_offload", false, "no part of a model is kept on the CPU here"],
  ["llm_int8_has_fp16_weight", false, "it keeps the weights in f16 for training; for inference load with weights f16"],
];
const COMPUTE_DTYPES = ["float32", "float16", "bfloat16"];

/**
 * The choice that a user's quantization_config makes. `where` begins every line of a message, which has one for each problem. Throws
 * UsageError. transformers' defaults: fp4 without double quantization, a threshold of 6.
 */
export function parseQuantizationConfig(value: unknown, where: string): QuantizationChoice {
  if (!isObject(value)) {
    throw new UsageError(`${where}: must be a mapping, such as {load_in_4bit: true, bnb_4bit_quant_type: nf4}, got ${show(value)}`);
  }
  const problems: string[] = [];
  const problem = (key: string, text: string): void => { problems.push(`${where}: ${key} ${text}`); };
  const given = Object.fromEntries(Object.entries(value).filter(([, setting]) => setting != null)) as Json;
  for (const key of Object.keys(given)) {
    if (isKey(key)) continue;
    const close = nearest(key, KEYS)[0];
    problem(key, `is not known; ${close === undefined ? `the keys are ${KEYS.slice(0, -2).join(", ")}` : `did you mean ${close}?`}`);
  }
  for (const key of FLAGS) {
    if (given[key] !== undefined && typeof given[key] !== "boolean") problem(key, `must be true or false, got ${show(given[key])}`);
  }
  const eight = given["load_in_8bit"] === true, four = given["load_in_4bit"] === true;
  if (eight && four) problem("load_in_8bit", "and load_in_4bit are both true; set one of them");
  else if (!eight && !four) {
    problem("load_in_8bit", "and load_in_4bit are both missing or false, so nothing would be quantized; set one of them to true");
  }
  for (const key of ["load_in_8bit", "load_in_4bit"]) {
    const [said, meant] = [given[`_${key}`], given[key] ?? false];
    if (typeof said === "boolean" && said !== meant) problem(`_${key}`, `has no effect beside ${key}: ${show(meant)}; leave it out`);
  }
  if (eight !== four) refuseIneffective(given, eight, problem);
  for (const [key, meant, reason] of ONE_VALUE) {
    const setting = given[key];
    const told = (FLAGS.includes(key) && typeof setting !== "boolean") || (eight && key.startsWith("bnb_4bit_"));
    if (setting !== undefined && setting !== meant && !told) problem(key, `${show(setting)} has no effect: ${reason}; leave it out`);
  }
  const choice = eight ? { weights: "llm.int8" as const, notes: [] } : fourBitChoice(given, problem);
  const threshold = given["llm_int8_threshold"] ?? OUTLIER_THRESHOLD;
  if (!(typeof threshold === "number" && threshold >= 0 && threshold < Infinity)) {
    problem("llm_int8_threshold", `must be a number from 0 (no outliers), got ${show(threshold)}`);
  }
  const skipModules = given["llm_int8_skip_modules"] ?? [];
  if (!(Array.isArray(skipModules) && skipModules.every((name) => typeof name === "string" && name !== ""))) {
    problem("llm_int8_skip_modules", `must be a list of names of modules, such as [lm_head], got ${show(skipModules)}`);
  }
  if (problems.length > 0) throw new UsageError(problems.join("\n"));
  return { ...choice, blockSize: BLOCK_SIZE, threshold: threshold as number, skipModules: skipModules as string[] };
}

function isKey(name: string): name is Key {
  return (KEYS as readonly string[]).includes(name);
}

/** Settings of the other width. */
function refuseIneffective(given: Json, eight: boolean, problem: (key: string, text: string) => void): void {
  for (const key of Object.keys(given)) {
    if (eight && key.startsWith("bnb_4bit_") && isKey(key)) {
      problem(key, "has no effect under load_in_8bit: true, it is a setting of 4 bits; leave it out, or set load_in_4bit: true instead");
    }
    if (!eight && key === "llm_int8_threshold") {
      problem(key, "has no effect under load_in_4bit: true, only LLM.int8() looks for outliers; leave it out, "
        + "or set load_in_8bit: true instead");
    }
  }
}

function fourBitChoice(given: Json, problem: (key: string, text: string) => void): { weights: WeightFormat; notes: readonly string[] } {
  const { bnb_4bit_quant_type: type = "fp4", bnb_4bit_compute_dtype: computed = "float32" } = given;
  if (type !== "nf4" && type !== "fp4") problem("bnb_4bit_quant_type", `must be nf4 or fp4, got ${show(type)}`);
  const dtype = typeof computed === "string" ? computed.replace(/^torch\./, "") : "";
  if (!COMPUTE_DTYPES.includes(dtype)) {
    problem("bnb_4bit_compute_dtype", `must be one of ${COMPUTE_DTYPES.join(", ")}, got ${show(computed)}`);
  }
  const notes = dtype === "float32" ? []
    : [`bnb_4bit_compute_dtype ${dtype}: activations and sums are float32 here, which is no less exact`];
  return { weights: `${type as "nf4" | "fp4"}${given["bnb_4bit_use_double_quant"] === true ? "-double" : ""}`, notes };
}

/** How a checkpoint stores its weights. */
export interface CheckpointQuantization {
  readonly stored: StoredQuantization;
  /** `llm_int8_threshold` that goes with weights of 8 bits. */
  readonly threshold: number;
}

/** Keys of GPTQ and AWQ; but for the last two they say how a checkpoint was made or how some other program runs it. */
const COMMON_KEYS = [
  "damp_percent", "damp_auto_increment", "true_sequential", "static_groups", "act_group_aware", "dataset", "tokenizer", "batch_size",
  "model_name_or_path", "model_file_base_name", "model_seqlen", "block_name_to_quantize", "module_name_preceding_first_block",
  "modules_in_block_to_quantize", "pad_token_id", "use_cuda_fp16", "use_exllama", "disable_exllama", "exllama_config", "max_input_length",
  "cache_block_outputs", "backend", "meta", "quantizer", "lm_head", "sym", "modules_to_not_convert", "do_fuse", "fuse_max_seq_len",
  "modules_to_fuse", "mse", "quant_method", "bits", "group_size",
];
const GPTQ_KEYS = ["checkpoint_format", "format", "desc_act", "is_marlin_format", "pack_dtype", "dynamic"];
const AWQ_KEYS = ["w_bit", "q_group_size", "version", "zero_point"];

/** What config.json of a checkpoint says. Problems are noted; the record is then never used. */
export function readCheckpointQuantization(value: unknown, note: Note): CheckpointQuantization | null {
  if (value == null) return null;
  if (!isObject(value)) {
    note("quantization_config", "an object", value);
    return null;
  }
  const inside: Note = (field, expected, found) => { note(`quantization_config.${field}`, expected, found); };
  const { quant_method: method } = value;
  if (method === "gptq" || method === "awq") return { stored: readGrouped(value, method, inside), threshold: OUTLIER_THRESHOLD };
  const ofOld = method === undefined && ("load_in_8bit" in value || "load_in_4bit" in value); // before methods had names
  if (method === "bitsandbytes" || ofOld) return readBitsAndBytes(value, inside);
  inside("quant_method", "bitsandbytes, gptq or awq (take a checkpoint that was quantized so, or the original one)", method);
  return null;
}

function readBitsAndBytes(json: Json, note: Note): CheckpointQuantization {
  for (const key of Object.keys(json)) if (!isKey(key)) note(key, "no such key", json[key]);
  const [eight, four] = [json["load_in_8bit"] ?? false, json["load_in_4bit"] ?? false];
  if (typeof eight !== "boolean" || typeof four !== "boolean" || eight === four) {
    note("load_in_4bit", "true, or load_in_8bit true, and not both", { load_in_8bit: eight, load_in_4bit: four });
  }
  if (json["llm_int8_has_fp16_weight"] === true) note("llm_int8_has_fp16_weight", "false (the weights would not be in codes)", true);
  const threshold = json["llm_int8_threshold"] ?? OUTLIER_THRESHOLD;
  if (!(typeof threshold === "number" && threshold >= 0)) note("llm_int8_threshold", "a number from 0", threshold);
  return { stored: { method: "bitsandbytes", bits: eight === true ? 8 : 4 }, threshold: threshold as number };
}

function readGrouped(json: Json, method: "gptq" | "awq", note: Note): StoredQuantization {
  const gptq = method === "gptq";
  // Each quantity by the names that tools have given it.
  const read = (names: readonly string[], fallback: unknown): readonly [string, unknown] => {
    const name = names.find((one) => json[one] != null) ?? names[0]!;
    return [name, json[name] ?? fallback];
  };
  const expect = (names: readonly string[], fallback: unknown, allowed: readonly unknown[], expected: string): unknown => {
    const [name, value] = read(names, fallback);
    if (!allowed.includes(value)) note(name, expected, value);
    return value;
  };
  expect(gptq ? ["bits"] : ["bits", "w_bit"], undefined, [4], "4 (other widths are not supported)");
  const [sizeName, size] = read(gptq ? ["group_size"] : ["group_size", "q_group_size"], undefined);
  const isSize = typeof size === "number" && Number.isInteger(size) && (size === -1 || (size > 0 && size % 8 === 0));
  if (!isSize) note(sizeName, "-1 (a whole row) or a multiple of 8", size);
  const format = gptq ? expect(["checkpoint_format", "format"], "gptq", ["gptq", "gptq_v2"], '"gptq" or "gptq_v2"') : "";
  const activationOrder = gptq && expect(["desc_act"], false, [true, false], "true or false");
  if (gptq) {
    expect(["is_marlin_format"], false, [false], "false (Marlin's layout is made for one kind of GPU: take the checkpoint without it)");
    expect(["pack_dtype"], "int32", ["int32"], '"int32"');
    const rules = json["dynamic"];
    if (rules != null && !(isObject(rules) && Object.keys(rules).length === 0)) {
      note("dynamic", "nothing (widths that differ between modules are not supported)", rules);
    }
  } else {
    const [name, version] = read(["version"], "gemm");
    if (typeof version !== "string" || version.toLowerCase() !== "gemm") note(name, '"gemm" (other layouts are not supported)', version);
    expect(["zero_point"], true, [true], "true (codes without zeros are not supported)");
  }
  const known = [...COMMON_KEYS, ...(gptq ? GPTQ_KEYS : AWQ_KEYS)];
  for (const key of Object.keys(json)) if (!known.includes(key)) note(key, "no such key (it may change what the codes mean)", json[key]);
  const groupSize = size === -1 ? null : size as number;
  return { method, groupSize, zerosLessOne: format === "gptq", activationOrder: activationOrder === true };
}

/** What transformers writes into config.json of a checkpoint of this format, every key of it. */
export function bitsAndBytesConfig(format: SavedFormat): Json {
  const eight = format === "int8";
  return {
    _load_in_4bit: !eight, _load_in_8bit: eight, bnb_4bit_compute_dtype: "float32", bnb_4bit_quant_storage: "uint8",
    bnb_4bit_quant_type: format.startsWith("nf4") ? "nf4" : "fp4", bnb_4bit_use_double_quant: format.endsWith("-double"),
    llm_int8_enable_fp32_cpu_offload: false, llm_int8_has_fp16_weight: false, llm_int8_skip_modules: null,
    llm_int8_threshold: OUTLIER_THRESHOLD, load_in_4bit: !eight, load_in_8bit: eight, quant_method: "bitsandbytes",
  };
}
