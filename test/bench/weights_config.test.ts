/**
 * What the configs of quantization and precision may say: names and defaults, keys that would do nothing, and every file under configs/ as
 * it stands.
 */

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadConfig, type ConfigRequest, type LoadedConfig } from "../../bench/core/config.ts";
import { keysOf, TECHNIQUES } from "../../bench/core/schema.ts";
import { UsageError } from "../../engine/errors.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-weights-config-"));
const test = suite("configs of quantization and precision");
test.after(() => { rmSync(folder, { recursive: true }); });

function load(text: string, request: Omit<ConfigRequest, "config" | "flags"> & { flags?: ConfigRequest["flags"] } = {}): LoadedConfig {
  const config = join(folder, "x.yaml");
  writeFileSync(config, text);
  return loadConfig({ flags: {}, ...request, config });
}

function refused(text: string, request = {}): string[] {
  try {
    load(text, request);
  } catch (error) {
    assert.instance(error, UsageError, String((error as Error).stack));
    return (error as Error).message.replaceAll(`${folder}/`, "").split("\n");
  }
  return assert.unreachable("it was accepted") as never;
}

const QUANTIZATION = "experiment_name: x\ntechnique: 量化\nquantization_config: {load_in_4bit: true, bnb_4bit_quant_type: nf4}\n";
const PRECISION = "experiment_name: x\ntechnique: precision\n";

test("a technique by each of its names, in a file and as a flag, with its default files", () => {
  for (const name of ["量化", "quantization", "Quantization"]) {
    assert.is(load(QUANTIZATION.replace("量化", name)).config.technique, "量化");
    for (const batchLevel of ["small", "medium", "large"]) {
      const { config, file } = loadConfig({ technique: name, batchLevel, flags: {} });
      assert.equal([config.technique, config.batch_level, file.replace(`${ROOT}`, "")], ["量化", batchLevel, `configs/量化/量化_${batchLevel}_default.yaml`]);
    }
  }
  const { config } = loadConfig({ technique: "precision", batchLevel: "small", flags: {} });
  assert.equal(config.formats, ["f32", "f16", "bf16"]);
  assert.is(load("experiment_name: x\n", { technique: "precision" }).config.technique, "precision", "a file that names none takes the flag's");
  assert.match(refused(PRECISION, { technique: "quantization" })[0]!, /--technique quantization does not fit this file/);
});

test("every file under configs/ is read, and says nothing that has no effect", () => {
  for (const technique of ["量化", "precision"]) {
    const files = readdirSync(join(ROOT, "configs", technique));
    assert.ok(files.length >= 4, files.join(" "));
    for (const file of files) assert.is(loadConfig({ config: join(ROOT, "configs", technique, file), flags: {} }).config.technique, technique, file);
  }
});

test("the first source's own example, nf4 keys under load_in_8bit, is refused with the reason and what to write", () => {
  const lines = refused(`experiment_name: x
technique: 量化
quantization_config:
  load_in_8bit: true
  load_in_4bit: false
  bnb_4bit_compute_dtype: float16
  bnb_4bit_use_double_quant: true
  bnb_4bit_quant_type: nf4
`);
  assert.ok(lines.every((line) => line.startsWith("x.yaml:4:3  quantization_config: ")), lines.join("\n"));
  assert.match(lines.join("\n"), /bnb_4bit_quant_type/);
  assert.match(lines.join("\n"), /load_in_4bit: true/);
});

test("quantization without a config to quantize to, and a config that method basic would ignore", () => {
  assert.match(refused("experiment_name: x\ntechnique: 量化\n")[0]!, /quantization_config: is missing: say what to quantize to/);
  assert.match(refused(`${QUANTIZATION}method: basic\n`)[0]!, /quantization_config: has no effect on method basic/);
  assert.is(load(QUANTIZATION, { flags: { method: "basic" } }).config.quantization_config, undefined, "the file's gives way to the flag");
  assert.match(refused("experiment_name: x\ntechnique: 量化\nquantization_config: nf4\n")[0]!, /quantization_config: expected a mapping, .+ got "nf4" \(string\)/);
});

test("quantize_to names a format directly, and as a flag takes the place of the file's quantization_config", () => {
  const { config, origins } = load(QUANTIZATION, { flags: { quantize_to: "int8" } });
  assert.equal([config.quantize_to, config.quantization_config, "quantization_config" in origins], ["int8", undefined, false]);
  assert.match(refused(`${QUANTIZATION}quantize_to: fp4\n`)[0]!, /quantize_to: quantization_config and quantize_to both say what to quantize to; keep one/);
  assert.match(refused("experiment_name: x\ntechnique: 量化\nquantize_to: f16\n")[0]!, /quantize_to: expected one of int8, llm\.int8, nf4, nf4-double, fp4, fp4-double, got "f16"/);
});

test("keys of another technique do nothing and are refused, from a file and as a flag", () => {
  assert.match(refused(`${QUANTIZATION}formats: [f32]\n`)[0]!, /^x\.yaml:4:1  formats: has no effect on 量化, which compares a model with its quantized self; take it out$/);
  assert.match(refused(`${PRECISION}weights: f16\n`)[0]!, /weights: has no effect on precision, which loads the same model in each of its formats/);
  assert.match(refused(`${PRECISION}method: both\n`)[0]!, /method: has no effect on precision/);
  assert.match(refused(`${PRECISION}benchmark_memory: true\n`)[0]!, /benchmark_memory: has no effect on precision/);
  assert.match(refused("experiment_name: x\nformats: [f32]\n")[0]!, /formats: has no effect on PagedAttention/);
  assert.match(refused("experiment_name: x\n", { flags: { perplexity_windows: 3 } })[0]!, /^--perplexity-windows: has no effect on PagedAttention/);
});

test("formats: known, each once; windows: within the context", () => {
  assert.match(refused(`${PRECISION}formats: [f32, f8]\n`)[0]!, /formats: expected a list of some of f32, f16, .+, each once, got \["f32","f8"\]/);
  assert.match(refused(`${PRECISION}formats: [f32, f32]\n`)[0]!, /each once/);
  assert.match(refused(`${PRECISION}formats: []\n`)[0]!, /each once/);
  assert.match(refused(`${PRECISION}perplexity_protocol: wikitext\n`)[0]!, /perplexity_protocol: expected one of hf-strided, llama\.cpp, lm-eval-rolling, decode/);
  assert.match(refused(`${PRECISION}perplexity_stride: 600\n`)[0]!, /perplexity_stride: 600 is more than perplexity_context \(512\): tokens between the windows would never be scored/);
  assert.match(refused(`${PRECISION}perplexity_stride: 64\nperplexity_protocol: llama.cpp\n`)[0]!, /perplexity_stride: has no effect on llama\.cpp/);
  assert.match(refused(`${PRECISION}max_model_len: 256\n`)[0]!, /perplexity_context: 512 is more than max_model_len \(256\)/);
  assert.match(refused(`${PRECISION}perplexity_windows: 0\nperplexity_context: 64\n`)[0]!, /perplexity_context: has no effect with perplexity_windows 0/);
  assert.is(load(`${PRECISION}perplexity_context: 64\n`, { flags: { perplexity_windows: 0 } }).config.perplexity_windows, 0);
  assert.match(refused(`${PRECISION}ignore_eos: false\n`)[0]!, /ignore_eos: the arms would write texts of different lengths/);
});

test("every key belongs to a technique", () => {
  const all = new Set(TECHNIQUES.flatMap((technique) => [...keysOf(technique)]));
  for (const key of ["formats", "quantization_config", "benchmark_memory", "block_size", "seed"] as const) assert.ok(all.has(key), key);
  assert.not.ok(keysOf("PagedAttention").includes("formats"));
});

test.run();
