/**
 * The ledger against arithmetic: what weights, cache and logits must take follows from the checkpoint and the options, to the byte. And
 * what is closed is gone: from the ledger, and from the process that loads a model again and again.
 */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM, type LoadOptions, type MemoryReport, type ModelConfig } from "../../index.ts";
import { goldenVariants } from "../support/goldens.ts";
import { folderOf, tensorsOf, withModel, withoutWarmUp } from "../support/llm.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

const OPTIONS = { kv: "f32", maxModelLen: 256, maxSequences: 8, prefillChunk: 24 } as const;
const BYTES = { f32: 4, f16: 2, bf16: 2 } as const;

/** Buffers are made in steps of 16 bytes. */
const buffer = (bytes: number): number => Math.ceil(bytes / 16) * 16;

/** Matrices as they are stored, vectors in f32; and for GPT-NeoX, whose norms are folded into the products behind them, two numbers for each output of those. */
async function weightBytes(folder: string, config: ModelConfig, matrixBytes?: number): Promise<number> {
  const { layers, hiddenSize, intermediateSize } = config;
  let total = 0;
  for (const { shape, data } of (await tensorsOf(folder)).values()) {
    const count = shape.reduce((product, size) => product * size, 1);
    total += shape.length < 2 ? 4 * count : matrixBytes === undefined ? data.byteLength : matrixBytes * count;
  }
  if (config.architecture !== "gpt_neox") return total;
  total += layers * 2 * (3 * hiddenSize + intermediateSize) * 4;
  const summed = config.parallelResidual && 3 * hiddenSize % 64 === 0 && config.outputBias; // both branches end in one product with one bias
  return total - (summed ? layers * hiddenSize * 4 : 0);
}

/** Two pools of entries of `key` and `value` bytes, the tables and lengths of every slot, and a row of 64 words that tells a kernel its layer. */
function kvBytes(llm: LLM, { key, value = key, slots, contiguous = false }: { key: number; value?: number; slots: number; contiguous?: boolean }): number {
  const { layers, kvHeads } = llm.config;
  const { blocksTotal, blockSize } = llm.cacheStats();
  const tableWords = contiguous ? 1 : Math.ceil(llm.maxModelLen / blockSize);
  return buffer(blocksTotal * blockSize * key) + buffer(blocksTotal * blockSize * value) + buffer(slots * layers * kvHeads * tableWords * 4)
    + buffer(slots * layers * kvHeads * 4) + layers * 256;
}

const sum = ({ weights, kv, activations, logits, staging }: Omit<MemoryReport, "peak">): number => weights + kv + activations + logits + staging;

/** Of each architecture, with and without what changes the arithmetic: biases, shared products, tied embeddings. */
const VARIANTS = ["neox-parallel", "neox-no-attention-bias", "neox-sequential-rotary50", "qwen2-mqa", "qwen3-gqa-tied"];
test("the variants are there", () => { assert.is(goldenVariants().filter(({ name }) => VARIANTS.includes(name)).length, VARIANTS.length); });

for (const { name, folder } of goldenVariants().filter(({ name }) => VARIANTS.includes(name))) {
  test(`${name}: weights, cache and logits take what arithmetic says`, async () => {
    await withModel(folder, OPTIONS, async (llm) => {
      const memory = llm.memory();
      assert.is(memory.weights, await weightBytes(folder, llm.config));
      assert.is(memory.kv, kvBytes(llm, { key: 4 * llm.config.headDim, slots: 8 }));
      assert.is(memory.logits, 8 * llm.config.vocabSize * 4);
      assert.is(memory.total, sum(memory));
    });
  });
}

test("formats and sizes of cache and weights", async () => {
  const folder = folderOf("qwen3-gqa-tied");
  // Bytes of a key and a value of 32 dimensions: int8 has a word for the f16 of one group, int4 a word for every group.
  const f32 = 32 * 4, [int8, int4, int4Of8] = [32 + 4, 16 + 4, 16 + 4 * 4];
  const cases: readonly (readonly [LoadOptions, blocks: number | null, key: number, value: number])[] = [
    [{ kv: "f16" }, null, 64, 64], [{ kv: "bf16", kvLayout: { name: "paged", blockSize: 5 } }, null, 64, 64],
    [{ kvLayout: { name: "contiguous", reserve: "max" } }, null, f32, f32],
    [{ kvMemory: 100_000 }, Math.floor(100_000 / (2 * 16 * f32)), f32, f32],
    [{ kvMemory: 300_000, kvLayout: { name: "contiguous", reserve: "max" } }, Math.floor(300_000 / (2 * f32)), f32, f32],
    [{ kv: "int8" }, null, int8, int8], [{ kv: "int4", kvMemory: 100_000 }, Math.floor(100_000 / (16 * 2 * int4)), int4, int4],
    [{ kv: { k: "int8", v: { format: "int4", group: 8 } }, kvMemory: 100_000 }, Math.floor(100_000 / (16 * (int8 + int4Of8))), int8, int4Of8],
    [{ kv: { k: "f32", v: "int4" }, kvMemory: 300_000, kvLayout: { name: "contiguous", reserve: "max" } }, Math.floor(300_000 / (f32 + int4)), f32, int4],
  ];
  for (const [options, blocks, key, value] of cases) {
    await withModel(folder, { ...OPTIONS, ...options }, async (llm) => {
      const { layers, kvHeads, headDim } = llm.config;
      assert.is(headDim, 32, "what the expected numbers of blocks are made with");
      const { blocksTotal, blockSize } = llm.cacheStats();
      assert.is(blocksTotal, blocks ?? layers * kvHeads * 8 * Math.ceil(256 / blockSize), JSON.stringify(options));
      const contiguous = options.kvLayout?.name === "contiguous";
      assert.is(llm.memory().kv, kvBytes(llm, { key, value, slots: 8, contiguous }), JSON.stringify(options));
    });
  }
  for (const weights of ["f32", "f16"] as const) {
    await withModel(folder, { ...OPTIONS, weights }, async (llm) => { assert.is(llm.memory().weights, await weightBytes(folder, llm.config, BYTES[weights])); });
  }
});

test("peaks: highest since they were reset, per category; decoding allocates nothing", async () => {
  await withModel(folderOf("qwen2-mqa"), OPTIONS, async (llm) => {
    const before = llm.memory();
    await llm.logits([1, 2, 3]);
    const after = llm.memory();
    assert.equal({ ...after, peak: null }, { ...before, peak: null }, "what logits took is given back");
    const read = buffer(3 * llm.config.vocabSize * 4);
    assert.is(after.peak.staging, before.staging + read);
    assert.is(after.peak.total, before.total + read);
    llm.resetPeak();
    await llm.generateBatch([[1, 2, 3], [4, 5]], { maxNewTokens: 50, ignoreEos: true });
    const { peak, ...current } = llm.memory();
    assert.equal(peak, current);
    await llm.close();
    const closed = llm.memory();
    assert.equal([closed.weights, closed.kv, closed.activations, closed.logits, closed.staging, closed.total], [0, 0, 0, 0, 0, 0]);
    assert.equal(closed.peak, peak, "peaks outlive close()");
  });
});

test("24 models one after the other: every device is collected, and resident memory stays where it was", async () => {
  const script = fileURLToPath(new URL("../support/load_cycles.ts", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", script, folderOf("qwen2-mqa"), "24"], {
    // glibc gives each thread an arena, and what the shader compiler's threads leave in them would be all there is to see.
    env: { ...process.env, MALLOC_ARENA_MAX: "1" },
  });
  const { rss, alive } = JSON.parse(stdout) as { rss: number[]; alive: number };
  assert.ok(alive <= 2, `${alive} of 24 devices are still held by something`);
  const growth = rss.at(-1)! / Math.max(...rss.slice(4, 10)) - 1;
  assert.ok(growth < 0.2, `grown by ${Math.round(100 * growth)} %: ${rss.map((bytes) => Math.round(bytes / 1e6)).join(" ")} MB`);
});

test.run();
