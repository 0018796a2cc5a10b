/**
 * Models with weights in codes: what is quantized while it is loaded computes as the same model does with the numbers that the codes stand
 * for, whatever the checkpoint's floats are; embeddings, heads and vectors stay as they were; memory is what arithmetic says.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { convert } from "../../engine/dtype.ts";
import { LLM, ModelFileError, UsageError, type LoadOptions, type WeightFormat } from "../../index.ts";
import { decode } from "../../kernels/reference/quantize.ts";
import type { QuantizedFormat } from "../../kernels/formats.ts";
import { folderOf, relativeError, withCheckpoint, withModel, withoutWarmUp, type Draft } from "../support/llm.ts";
import { encodedMatrix } from "../support/quantized_weight.ts";
import { rejects } from "../support/rejects.ts";

const OPTIONS = { kv: "f32", maxModelLen: 128, maxSequences: 2, prefillChunk: 64 } as const;
test.after(withoutWarmUp());
const IDS = Array.from({ length: 30 }, (_, i) => (i * 31 + 5) % 96);
/** The products of a layer: everything with two dimensions that is no embedding and no head. */
const isProduct = (name: string, shape: readonly number[]): boolean => shape.length === 2 && !/embed|lm_head/.test(name);

/** Replaces every product by the numbers that its codes stand for, in f32. */
function decodeProducts({ tensors }: Draft, format: QuantizedFormat): void {
  for (const [name, { dtype, shape, data }] of tensors) {
    if (!isProduct(name, shape)) continue;
    const values = convert(data, dtype.toLowerCase() as "f16", "f32");
    const matrix = encodedMatrix(new Float32Array(values.buffer, values.byteOffset, values.byteLength / 4), shape[1]!, format, 64);
    tensors.set(name, { name, dtype: "F32", shape, data: new Uint8Array(Float32Array.from(decode(matrix)).buffer) });
  }
}

async function logitsOf(model: string, weights: "auto" | WeightFormat, check: (llm: LLM) => void = () => {}): Promise<Float32Array> {
  let logits: Float32Array = new Float32Array();
  await withModel(model, { ...OPTIONS, weights }, async (llm) => {
    check(llm);
    logits = await llm.logits(IDS);
  });
  return logits;
}

for (const [model, format] of [["tiny-neox-draft", "nf4-double"], ["tiny-qwen2", "int8"]] as const) {
  test(`${model} quantized to ${format} on loading computes what the decoded numbers do`, async () => {
    const quantized = await logitsOf(folderOf(model), format, (llm) => {
      assert.equal(llm.weightFormats().map((held) => held.format).sort(), [format, "f16"].sort());
      assert.is(llm.weightFormats().reduce((sum, { bytes }) => sum + bytes, 0) < llm.memory().weights, true);
    });
    await withCheckpoint(model, (draft) => { decodeProducts(draft, format); }, async (folder) => {
      const error = relativeError(quantized, await logitsOf(folder, "auto"));
      assert.ok(error < 2e-5, `logits part by ${error}`);
    });
  });
}

test("LLM.int8() of which every activation is an outlier computes what weights in int8 do, and says how many there were", async () => {
  const plain = await logitsOf(folderOf("tiny-neox-draft"), "int8");
  for (const [threshold, all] of [[1e-6, true], [0, false]] as const) {
    await withModel(folderOf("tiny-neox-draft"), { ...OPTIONS, quantizationConfig: { load_in_8bit: true, llm_int8_threshold: threshold } }, async (llm) => {
      assert.equal(llm.weightFormats().map(({ format }) => format).sort(), ["f16", "llm.int8"]);
      const error = relativeError(await llm.logits(IDS), plain);
      const outliers = await llm.outliers();
      // Inputs of each token: both norms of 96 columns, attention has 96 and the feed-forward 384; two layers. Almost none is 0.
      const inputs = 2 * IDS.length * (96 + 96 + 96 + 384);
      if (all) {
        assert.ok(error < 2e-5, `logits part by ${error}`);
        assert.ok(outliers!.elements <= inputs && outliers!.elements > 0.99 * inputs && outliers!.columns === 384, JSON.stringify(outliers));
      } else {
        assert.ok(error > 2e-5 && error < 0.1, `logits part by ${error}`);
        assert.equal(outliers, { elements: 0, columns: 0 });
      }
    });
  }
});

test("weights and quantizationConfig are two ways to say one thing, and keys without effect are refused", async () => {
  const load = (options: LoadOptions): Promise<unknown> => LLM.load(folderOf("tiny-neox-draft"), { ...OPTIONS, ...options });
  await rejects(load({ weights: "nf4", quantizationConfig: { load_in_4bit: true } }), UsageError, /weights "nf4" and quantizationConfig both say/);
  await rejects(load({ quantizationConfig: { load_in_8bit: true, bnb_4bit_quant_type: "nf4" } }), UsageError, /quantizationConfig: bnb_4bit_quant_type/);
  await rejects(load({ quantizationConfig: "nf4" as unknown as Record<string, unknown> }), UsageError, /quantizationConfig must be an object/);
});

test("memory of each format is arithmetic: codes, scales, and what stays in floats", async () => {
  const [products, embeddings, layers] = [1_769_472, 2 * 4096 * 192, 4];
  const expected: Readonly<Record<string, number>> = {
    int8: products + 4 * (layers * (576 + 768 + 2 * 192)), // a scale for each row, two where two matrices stand side by side
    nf4: products / 2 + products / 64 * 4,
    "nf4-double": products / 2 + products / 64 + 4 * products / 64 / 256 + layers * 2 * 1040, // offsets and the map, for each weight
  };
  for (const [format, bytes] of Object.entries(expected)) {
    await withModel("tiny-neox", { ...OPTIONS, weights: format as WeightFormat }, async (llm) => {
      const held = new Map(llm.weightFormats().map((one) => [one.format as string, one]));
      assert.equal([held.get(format)!.weights, held.get(format)!.matrices, held.get("f16")!.bytes], [products, 16, 2 * embeddings]);
      assert.ok(Math.abs(held.get(format)!.bytes - bytes) <= 4 * 2 * layers, `${format}: ${held.get(format)!.bytes} for ${bytes}`);
    });
  }
});

test("weights that are not finite are refused when codes are made of them, by name and number", async () => {
  const name = "model.layers.0.mlp.down_proj.weight";
  await withCheckpoint("tiny-qwen2", ({ tensors }) => {
    const { data } = tensors.get(name)!;
    new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2).fill(0x7e00, 3, 8); // NaN in f16
  }, async (folder) => {
    await rejects(logitsOf(folder, "nf4"), ModelFileError, new RegExp(`NaN or infinite.*: ${name}: 5 values\\.`));
  });
});

test.run();
