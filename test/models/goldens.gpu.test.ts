/**
 * Every architecture and variant against Hugging Face transformers in double: logits of every row through the real paged cache, whatever
 * the chunks of the prefill and whatever runs in the same batch, in both kernel families; and greedy continuations token for token.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, type KernelFamily } from "../../engine/gpu.ts";
import { MAX_MODEL_LEN, withEngine } from "../support/engine.ts";
import { goldenVariants, type GoldenVariant } from "../support/goldens.ts";
import { relativeError, withGpus, withModel } from "../support/llm.ts";

/** max |ours − theirs| ≤ this × max |theirs|. The bar is 2e-4; f32 arithmetic stays far below, and only so are the two kinds of GELU told apart. */
const TOLERANCE = 2e-5;

function check(logits: Float32Array, golden: ArrayLike<number>, what: string): void {
  const error = relativeError(logits, golden);
  assert.ok(error <= TOLERANCE, `${what}: off by ${error}`);
}

/** In the other family each pipeline is compiled for this test alone, so it takes one variant of each architecture. */
const IN_BOTH_FAMILIES = ["neox-parallel", "neox-sequential-rotary50", "qwen2-gqa-tied-f16", "qwen3-gqa-tied"];

async function otherFamily(): Promise<KernelFamily> {
  const gpu = await Gpu.open();
  gpu.close();
  return gpu.family === "software" ? "gpu" : "software";
}

/** Prompts that take several chunks, and text that is generated behind them. */
async function checkModel({ folder, vocabSize, prompts, greedy }: GoldenVariant): Promise<void> {
  await withModel(folder, { kv: "f32", prefillChunk: 24, maxSequences: 8, maxModelLen: MAX_MODEL_LEN }, async (llm) => {
    for (const { ids, firstRow, logits } of prompts) check((await llm.logits(ids)).subarray(firstRow * vocabSize), logits, `${ids.length} tokens`);
    for (const { prompt, continuation } of greedy) {
      const { ids } = await llm.generate(prompt, { maxNewTokens: continuation.length, ignoreEos: true });
      assert.equal([...ids], [...continuation]);
    }
  });
}

for (const variant of goldenVariants()) {
  const { name, folder, vocabSize, prompts } = variant;

  test(`${name}: logits and greedy text are those of transformers`, async () => {
    await checkModel(variant);
  });

  if (IN_BOTH_FAMILIES.includes(name)) {
    test(`${name}: so they are in the other kernel family`, async () => {
      await withGpus({ family: await otherFamily() }, async () => { await checkModel(variant); });
    });
  }

  test(`${name}: prompts in one pass, and sequences of different lengths that share their passes, prefill and decode alike`, async () => {
    await withEngine({ folder, slots: 9 }, async ({ cache, prefill, decode }) => {
      for (const { ids, firstRow, logits } of prompts) {
        const slot = cache.tables.open()!;
        check((await prefill([slot, ids])).subarray(firstRow * vocabSize), logits, `${ids.length} tokens in one pass`);
        cache.tables.close(slot);
      }
      const { ids, firstRow, logits } = prompts[0]!;
      if (firstRow > 0) return; // the bundled models' goldens are the last rows only
      const rows = (first: number, end: number): Float32Array => logits.subarray(first * vocabSize, end * vocabSize);
      for (const sequences of [1, 2, 9]) {
        const slots = Array.from({ length: sequences }, () => cache.tables.open()!);
        const lengths = slots.map((_, i) => 3 + 4 * i);
        const first = await prefill(...slots.map((slot, i) => [slot, ids.slice(0, lengths[i])] as const));
        check(first, lengths.flatMap((length) => [...rows(0, length)]), `prefill of ${sequences}`);
        for (let step = 0; step < 3; step++) {
          const next = await decode(...slots.map((slot, i) => [slot, ids[lengths[i]! + step]!] as const));
          check(next, lengths.flatMap((length) => [...rows(length + step, length + step + 1)]), `decode step ${step} of ${sequences}`);
        }
        const last = await prefill(...slots.map((slot, i) => [slot, ids.slice(lengths[i]! + 3, lengths[i]! + 5)] as const));
        check(last, lengths.flatMap((length) => [...rows(length + 3, length + 5)]), `two more rows of ${sequences}`);
        for (const slot of slots) cache.tables.close(slot);
        cache.tables.check();
      }
    });
  });
}

test.run();
