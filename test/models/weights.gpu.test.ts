/**
 * From a checkpoint's names to the GPU: everything that does not fit is said at once and leaves nothing behind; formats convert, weights
 * larger than a binding are split without a trace, random weights repeat by seed, and broken numbers end the request they strike.
 */

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { convert } from "../../engine/dtype.ts";
import { Gpu } from "../../engine/gpu.ts";
import { SafetensorsFile } from "../../engine/safetensors.ts";
import { writeSafetensors, type TensorData } from "../../engine/safetensors_writer.ts";
import { LLM, ModelFileError, NonFiniteLogitsError, UsageError, type LoadOptions } from "../../index.ts";
import { goldenVariants } from "../support/goldens.ts";
import { rejects } from "../support/rejects.ts";

const variant = (name: string) => goldenVariants().find((golden) => golden.name === name)!;
const IDS = [5, 3, 8, 1, 60, 33];
const SMALL: LoadOptions = { kv: "f32", maxModelLen: 32, maxSequences: 8, prefillChunk: 8 };
const scratch = mkdtempSync(join(tmpdir(), "dawnlm-weights-"));
test.after(() => { rmSync(scratch, { recursive: true, force: true }); });

/** The variant's checkpoint with its tensors changed. */
async function changed(golden: string, change: (tensors: TensorData[]) => TensorData[]): Promise<string> {
  const { folder } = variant(golden);
  const file = await SafetensorsFile.open(join(folder, "model.safetensors"));
  const tensors: TensorData[] = [];
  for (const { name, dtype, shape, byteLength } of file.tensors.values()) tensors.push({ name, dtype, shape, data: (await file.read(name, 0, byteLength)).slice() });
  await file.close();
  const target = mkdtempSync(join(scratch, "model-"));
  copyFileSync(join(folder, "config.json"), join(target, "config.json"));
  await writeSafetensors(join(target, "model.safetensors"), change(tensors));
  return target;
}

/** Gpus opened while `body` runs, changed by `prepare` as they open. */
async function watchingGpus(prepare: (gpu: Gpu) => void, body: (gpus: readonly Gpu[]) => Promise<void>): Promise<void> {
  const { open } = Gpu;
  const gpus: Gpu[] = [];
  Gpu.open = async (options) => {
    const gpu = await open.call(Gpu, options);
    prepare(gpu);
    gpus.push(gpu);
    return gpu;
  };
  try {
    await body(gpus);
  } finally {
    Gpu.open = open;
  }
}

async function logitsOf(model: string, options: LoadOptions = {}): Promise<Float32Array> {
  const llm = await LLM.load(model, { ...SMALL, ...options });
  try {
    return await llm.logits(IDS);
  } finally {
    await llm.close();
  }
}

function difference(a: Float32Array, b: Float32Array): number {
  const greatest = a.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0) / greatest;
}

test("missing, left-over and misshapen tensors are all named, and nothing stays on the GPU", async () => {
  const folder = await changed("qwen2-gqa-tied-f32", (tensors) => [
    ...tensors.filter(({ name }) => name !== "model.layers.1.mlp.up_proj.weight").map((tensor) =>
      (tensor.name === "model.norm.weight" ? { ...tensor, shape: [tensor.shape[0]! / 2], data: tensor.data.subarray(0, tensor.data.length / 2) } : tensor)),
    { name: "model.layers.0.extra.weight", dtype: "F32", shape: [2], data: new Uint8Array(8) },
    { name: "model.layers.0.self_attn.rotary_emb.inv_freq", dtype: "F32", shape: [1], data: new Uint8Array(4) }, // known, and of no use
  ]);
  await watchingGpus(() => {}, async (gpus) => {
    let error: unknown;
    await LLM.load(folder, SMALL).catch((thrown: unknown) => { error = thrown; });
    assert.instance(error, ModelFileError);
    const { message } = error as Error;
    assert.match(message, /3 problems/);
    assert.match(message, /model\.layers\.1\.mlp\.up_proj\.weight: missing, expected shape \[\d+, 64\]/);
    assert.match(message, /model\.norm\.weight: expected shape \[64\], found \[32\]/);
    assert.match(message, /model\.layers\.0\.extra\.weight: not a weight of this architecture/);
    assert.is(gpus[0]!.ledger.report().total, 0);
  });
});

test("a tied checkpoint may carry its head again; integer weights are refused", async () => {
  const twice = await changed("qwen2-gqa-tied-f32", (tensors) => [...tensors, { ...tensors.find(({ name }) => name === "model.embed_tokens.weight")!, name: "lm_head.weight" }]);
  assert.is(difference(await logitsOf(variant("qwen2-gqa-tied-f32").folder), await logitsOf(twice)), 0);
  const integers = await changed("qwen2-gqa-tied-f32", (tensors) => tensors.map((tensor) => (tensor.name === "model.norm.weight" ? { ...tensor, dtype: "I32" as const } : tensor)));
  await rejects(LLM.load(integers, SMALL).catch((error: Error) => { throw Object.assign(error, { message: error.message.replaceAll("\n", " ") }); }), ModelFileError, /model\.norm\.weight: dtype I32 is not supported/);
});

test("formats: converting on load is rounding the checkpoint, and what a format cannot hold is refused", async () => {
  const { folder } = variant("qwen2-gqa-tied-f32");
  const exact = await logitsOf(folder);
  for (const format of ["f16", "bf16"] as const) {
    const rounded = await changed("qwen2-gqa-tied-f32", (tensors) => tensors.map((tensor) => (tensor.shape.length < 2 ? tensor : { ...tensor, data: convert(convert(tensor.data, "f32", format), format, "f32") })));
    const converted = await logitsOf(folder, { weights: format });
    assert.ok(difference(await logitsOf(rounded), converted) < 2e-6, format);
    assert.ok(difference(exact, converted) > 1e-5, `${format} must have rounded something`);
  }
  const large = await changed("qwen2-gqa-tied-f32", (tensors) => tensors.map((tensor) => {
    if (tensor.name !== "model.layers.0.mlp.down_proj.weight") return tensor;
    const data = tensor.data.slice();
    new Float32Array(data.buffer)[3] = 1e6;
    return { ...tensor, data };
  }));
  await rejects(LLM.load(large, { ...SMALL, weights: "f16" }), UsageError, /1 values of model\.layers\.0\.mlp\.down_proj\.weight are beyond the range of f16/);
});

test("weights larger than a binding are split by rows, and nobody can tell", async () => {
  for (const [name, maxBinding] of [["qwen2-gqa-tied-f32", 33_000], ["neox-parallel", 41_000], ["neox-sequential-rotary50", 20_000]] as const) {
    const { folder } = variant(name);
    const whole = await logitsOf(folder);
    const parts: number[] = [];
    await watchingGpus((gpu) => {
      Object.defineProperty(gpu, "maxBinding", { value: maxBinding });
      const { get } = gpu.pipelines;
      gpu.pipelines.get = function counted(kernel) {
        if (typeof kernel.consts["Y_FIRST"] === "number" && kernel.consts["Y_FIRST"] >= 64) parts.push(kernel.consts["Y_FIRST"]);
        return get.call(this, kernel);
      };
    }, async () => {
      assert.ok(difference(whole, await logitsOf(folder)) < 1e-6, name);
    });
    assert.ok(parts.length > 0, `${name}: nothing was split`);
  }
});

test("random weights: the true architecture, repeatable by seed, and never mistaken for a model", async () => {
  const options: LoadOptions = { maxModelLen: 64, maxSequences: 2, prefillChunk: 32 };
  const texts: string[] = [];
  for (const seed of [1, 1, 2]) {
    const llm = await LLM.load("random:pythia-14m", { ...options, seed });
    assert.is(llm.source.random, true);
    assert.is(llm.config.architecture, "gpt_neox");
    const { ids } = await llm.generate("Hello", { maxNewTokens: 8, ignoreEos: true });
    texts.push(ids.join(" "));
    await llm.close();
  }
  assert.is(texts[0], texts[1]);
  assert.is.not(texts[0], texts[2]);
});

test("weights that are not numbers end the request they strike, not the process", async () => {
  const folder = await changed("qwen2-gqa-tied-f32", (tensors) => tensors.map((tensor) => {
    if (tensor.name !== "model.embed_tokens.weight") return tensor;
    const data = tensor.data.slice();
    new Float32Array(data.buffer).fill(NaN, 7 * 64, 8 * 64); // token 7
    return { ...tensor, data };
  }));
  const llm = await LLM.load(folder, SMALL);
  try {
    await rejects(llm.generate([7, 3], { maxNewTokens: 4 }), NonFiniteLogitsError, /not finite numbers after 2 tokens/);
    assert.is(llm.cacheStats().blocksUsed, 0);
  } finally {
    await llm.close();
  }
});

test("the ledger is arithmetic: weights by parameters, cache by blocks, and zero after close", async () => {
  const llm = await LLM.load("tiny-qwen2", { maxModelLen: 256, maxSequences: 4, kvMemory: 1 << 20 });
  const { weights, kv, total } = llm.memory();
  const { hiddenSize: C, layers, heads, kvHeads, headDim: D, intermediateSize: I, vocabSize: V } = llm.config;
  const matrices = V * C + layers * (C * (heads + 2 * kvHeads) * D + C * heads * D + 3 * C * I);
  const vectors = layers * (2 * C + (heads + 2 * kvHeads) * D) + C;
  assert.is(weights, 2 * matrices + 4 * vectors);
  const blocks = llm.cacheStats().blocksTotal;
  assert.is(blocks, Math.floor((1 << 20) / (2 * 16 * D * 2)));
  assert.is(kv, blocks * 2 * 16 * D * 2 + layers * 64 * 4 + 4 * layers * kvHeads * (16 + 1) * 4);
  assert.ok(total > weights + kv);
  await llm.close();
  assert.is(llm.memory().total, 0);
});

test.run();
