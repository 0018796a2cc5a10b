/**
 * quantization_config of a user, whose every key must have an effect, and of a checkpoint, where transformers writes all keys whether
 * they have one or not.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../engine/errors.ts";
import { parseQuantizationConfig, readCheckpointQuantization, type CheckpointQuantization } from "../../models/quantization_config.ts";
import { readConfig } from "../../models/config.ts";
import { QUANTIZED_CHECKPOINTS, quantizedFolder, type QuantizedName } from "../support/quantized.ts";

const plain = { blockSize: 64, threshold: 6, skipModules: [], notes: [] };

const TAKEN: readonly [what: string, config: Record<string, unknown>, choice: object][] = [
  ["8 bits", { load_in_8bit: true }, { ...plain, weights: "llm.int8" }],
  ["8 bits, all spelled out", { quant_method: "bitsandbytes", load_in_8bit: true, load_in_4bit: false, llm_int8_threshold: 4.5, llm_int8_skip_modules: ["down_proj"] },
    { ...plain, weights: "llm.int8", threshold: 4.5, skipModules: ["down_proj"] }],
  ["no outliers", { load_in_8bit: true, llm_int8_threshold: 0 }, { ...plain, weights: "llm.int8", threshold: 0 }],
  ["transformers' default of 4 bits", { load_in_4bit: true }, { ...plain, weights: "fp4" }],
  ["nf4", { load_in_4bit: true, bnb_4bit_quant_type: "nf4", bnb_4bit_use_double_quant: false }, { ...plain, weights: "nf4" }],
  ["double quantization", { load_in_4bit: true, bnb_4bit_quant_type: "nf4", bnb_4bit_use_double_quant: true }, { ...plain, weights: "nf4-double" }],
  ["fp4, doubly", { load_in_4bit: true, bnb_4bit_use_double_quant: true, bnb_4bit_compute_dtype: "float32" }, { ...plain, weights: "fp4-double" }],
  ["modules left out of 4 bits", { load_in_4bit: true, llm_int8_skip_modules: ["lm_head"] }, { ...plain, weights: "fp4", skipModules: ["lm_head"] }],
  ["what is so anyway", { load_in_4bit: true, llm_int8_enable_fp32_cpu_offload: false, llm_int8_has_fp16_weight: false, bnb_4bit_quant_storage: "uint8", _load_in_4bit: true, _load_in_8bit: false },
    { ...plain, weights: "fp4" }],
  ["null is absence", { load_in_8bit: true, bnb_4bit_quant_type: null, llm_int8_skip_modules: null }, { ...plain, weights: "llm.int8" }],
];

for (const [what, config, choice] of TAKEN) test(`taken: ${what}`, () => { assert.equal(parseQuantizationConfig(config, "here"), choice); });

test("a compute dtype is taken, and said to be float32", () => {
  for (const dtype of ["float16", "bfloat16", "torch.bfloat16"]) {
    const { notes } = parseQuantizationConfig({ load_in_4bit: true, bnb_4bit_compute_dtype: dtype }, "here");
    assert.is(notes.length, 1);
    assert.match(notes[0]!, /^bnb_4bit_compute_dtype b?float16: activations and sums are float32/);
  }
});

const EIGHT = "has no effect under load_in_8bit: true";
const REFUSED: readonly [what: string, config: unknown, ...lines: RegExp[]][] = [
  ["settings of nf4 beside 8 bits, each by name",
    { load_in_8bit: true, load_in_4bit: false, bnb_4bit_compute_dtype: "float16", bnb_4bit_use_double_quant: true, bnb_4bit_quant_type: "nf4" },
    new RegExp(`^here: bnb_4bit_compute_dtype ${EIGHT}, it is a setting of 4 bits; leave it out, or set load_in_4bit: true instead$`),
    new RegExp(`^here: bnb_4bit_use_double_quant ${EIGHT}`), new RegExp(`^here: bnb_4bit_quant_type ${EIGHT}`)],
  ["at its default too", { load_in_8bit: true, bnb_4bit_quant_storage: "uint8" }, new RegExp(`bnb_4bit_quant_storage ${EIGHT}`)],
  ["once even if it is wrong besides", { load_in_8bit: true, bnb_4bit_quant_storage: "bfloat16" }, new RegExp(`bnb_4bit_quant_storage ${EIGHT}`)],
  ["a threshold beside 4 bits", { load_in_4bit: true, llm_int8_threshold: 6 }, /llm_int8_threshold has no effect under load_in_4bit: true, only LLM\.int8\(\) looks for outliers/],
  ["both widths", { load_in_8bit: true, load_in_4bit: true, llm_int8_threshold: 6 }, /^here: load_in_8bit and load_in_4bit are both true; set one of them$/],
  ["neither width", { bnb_4bit_quant_type: "nf4" }, /are both missing or false, so nothing would be quantized/],
  ["nothing", {}, /are both missing or false/],
  ["offloading", { load_in_8bit: true, llm_int8_enable_fp32_cpu_offload: true }, /llm_int8_enable_fp32_cpu_offload true has no effect: no part of a model is kept on the CPU/],
  ["16-bit main weights", { load_in_8bit: true, llm_int8_has_fp16_weight: true }, /llm_int8_has_fp16_weight true has no effect: it keeps the weights in f16 for training/],
  ["another storage type", { load_in_4bit: true, bnb_4bit_quant_storage: "bfloat16" }, /bnb_4bit_quant_storage "bfloat16" has no effect: it only renames the bytes/],
  ["another method", { load_in_4bit: true, quant_method: "gptq" }, /quant_method "gptq" has no effect: other methods quantize beforehand/],
  ["a private key that contradicts", { load_in_4bit: true, _load_in_8bit: true }, /_load_in_8bit has no effect beside load_in_8bit: false/],
  ["an unknown key", { load_in_4bit: true, bnb_4bit_quanttype: "nf4" }, /^here: bnb_4bit_quanttype is not known; did you mean bnb_4bit_quant_type\?$/],
  ["a key of something else", { load_in_4bit: true, temperature: 1 }, /^here: temperature is not known/],
  ["text for a flag", { load_in_4bit: "true" }, /load_in_4bit must be true or false, got "true"/, /are both missing or false/],
  ["a number for a flag", { load_in_8bit: true, llm_int8_has_fp16_weight: 1 }, /llm_int8_has_fp16_weight must be true or false, got 1/],
  ["an unknown type", { load_in_4bit: true, bnb_4bit_quant_type: "nf3" }, /bnb_4bit_quant_type must be nf4 or fp4, got "nf3"/],
  ["an unknown dtype", { load_in_4bit: true, bnb_4bit_compute_dtype: "float64" }, /bnb_4bit_compute_dtype must be one of float32, float16, bfloat16, got "float64"/],
  ["a negative threshold", { load_in_8bit: true, llm_int8_threshold: -1 }, /llm_int8_threshold must be a number from 0 \(no outliers\), got -1/],
  ["modules as text", { load_in_8bit: true, llm_int8_skip_modules: "lm_head" }, /llm_int8_skip_modules must be a list of names of modules.* got "lm_head"/],
  ["a list", [1], /^here: must be a mapping.* got \[1\]/],
  ["text", "nf4", /^here: must be a mapping.* got "nf4"/],
];

for (const [what, config, ...lines] of REFUSED) {
  test(`refused: ${what}`, () => {
    try {
      parseQuantizationConfig(config, "here");
    } catch (error) {
      assert.instance(error, UsageError);
      const found = (error as Error).message.split("\n");
      assert.is(found.length, lines.length, found.join("\n"));
      found.forEach((line, i) => { assert.match(line, lines[i]!); });
      return;
    }
    assert.unreachable("was taken");
  });
}

/** What a checkpoint's config is read as, and the problems noted. */
function read(config: unknown): { readonly read: CheckpointQuantization | null; readonly problems: readonly string[] } {
  const problems: string[] = [];
  const found = readCheckpointQuantization(config, (field, expected, value) => { problems.push(`${field}: expected ${expected}, found ${JSON.stringify(value)}`); });
  return { read: found, problems };
}

test("the configs that transformers wrote are read, with all their keys", async () => {
  for (const name of Object.keys(QUANTIZED_CHECKPOINTS) as QuantizedName[]) {
    const { quantization } = await readConfig(quantizedFolder(name));
    const { stored, threshold } = quantization!;
    assert.is(threshold, 6);
    if (name.endsWith("gptq")) assert.equal(stored, { method: "gptq", groupSize: 32, zerosLessOne: true, activationOrder: false });
    else if (name.endsWith("gptq-v2")) assert.equal(stored, { method: "gptq", groupSize: null, zerosLessOne: false, activationOrder: false });
    else if (name.endsWith("awq")) assert.equal(stored, { method: "awq", groupSize: 32, zerosLessOne: false, activationOrder: false });
    else assert.equal(stored, { method: "bitsandbytes", bits: name.endsWith("int8") ? 8 : 4 });
    const { quantization_config: config } = JSON.parse(readFileSync(join(quantizedFolder(name), "config.json"), "utf8")) as Record<string, unknown>;
    assert.equal(read(config).problems, []);
  }
});

test("no quantization_config, no quantization; old ones do not name their method", () => {
  assert.equal(read(undefined), { read: null, problems: [] });
  assert.equal(read(null), { read: null, problems: [] });
  assert.equal(read({ load_in_8bit: true, llm_int8_threshold: 5 }).read, { stored: { method: "bitsandbytes", bits: 8 }, threshold: 5 });
});

test("the other spellings of AWQ and GPTQ", () => {
  const awq = read({ quant_method: "awq", w_bit: 4, q_group_size: 128, version: "GEMM", zero_point: true });
  assert.equal(awq, { read: { stored: { method: "awq", groupSize: 128, zerosLessOne: false, activationOrder: false }, threshold: 6 }, problems: [] });
  const gptq = read({ quant_method: "gptq", bits: 4, group_size: 128, format: "gptq_v2", desc_act: true, meta: { quantizer: ["gptqmodel:2"] }, dynamic: {} });
  assert.equal(gptq, { read: { stored: { method: "gptq", groupSize: 128, zerosLessOne: false, activationOrder: true }, threshold: 6 }, problems: [] });
});

const GPTQ = { quant_method: "gptq", bits: 4, group_size: 128 };
const AWQ = { ...GPTQ, quant_method: "awq" };
const UNREAD: readonly [what: string, config: unknown, problem: RegExp][] = [
  ["text", "nf4", /^quantization_config: expected an object/],
  ["another method", { quant_method: "hqq" }, /^quantization_config\.quant_method: expected bitsandbytes, gptq or awq/],
  ["no method at all", {}, /quant_method: expected/],
  ["neither width", { quant_method: "bitsandbytes" }, /load_in_4bit: expected true, or load_in_8bit true, and not both/],
  ["both widths", { quant_method: "bitsandbytes", load_in_4bit: true, load_in_8bit: true }, /and not both/],
  ["weights not in codes", { load_in_8bit: true, llm_int8_has_fp16_weight: true }, /llm_int8_has_fp16_weight: expected false/],
  ["a key that bitsandbytes has not", { load_in_8bit: true, rotate: true }, /quantization_config\.rotate: expected no such key/],
  ["3 bits", { ...GPTQ, bits: 3 }, /quantization_config\.bits: expected 4 \(other widths are not supported\), found 3/],
  ["no group size", { quant_method: "gptq", bits: 4 }, /group_size: expected -1/],
  ["a group of 20", { ...GPTQ, group_size: 20 }, /group_size: expected -1 \(a whole row\) or a multiple of 8, found 20/],
  ["Marlin", { ...GPTQ, checkpoint_format: "marlin" }, /checkpoint_format: expected "gptq" or "gptq_v2", found "marlin"/],
  ["Marlin of old", { ...GPTQ, is_marlin_format: true }, /is_marlin_format: expected false/],
  ["rules per module", { ...GPTQ, dynamic: { "+:.*down.*": { bits: 8 } } }, /dynamic: expected nothing/],
  ["an order that is no flag", { ...GPTQ, desc_act: 1 }, /desc_act: expected true or false/],
  ["AWQ for another kernel", { ...AWQ, version: "gemv" }, /version: expected "gemm"/],
  ["AWQ without zeros", { ...AWQ, zero_point: false }, /zero_point: expected true/],
  ["a key that may change the codes", { ...GPTQ, rotation: "hadamard" }, /rotation: expected no such key \(it may change what the codes mean\)/],
];

for (const [what, config, problem] of UNREAD) {
  test(`of a checkpoint, refused: ${what}`, () => {
    const { problems } = read(config);
    assert.is(problems.length, 1, problems.join("\n"));
    assert.match(problems[0]!, problem);
  });
}

test.run();
