/**
 * Every architecture and variant against Hugging Face transformers in double: logits of every row through the real paged cache, whatever
 * the chunks of the prefill and whatever runs in the same batch, in both kernel families; and greedy continuations token for token.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { withEngine } from "../support/engine.ts";
import { goldenVariants, type GoldenVariant } from "../support/goldens.ts";
import { relativeError, withGpus, withModel } from "../support/llm.ts";

/** max |ours − theirs| ≤ this × max |theirs|. The bar is 2e-4; f32 arithmetic stays far below, and only so are the two kinds of GELU told apart. */
const TOLERANCE = 2e-5;

function check(logits: Float32Array, golden: ArrayLike<number>, what: string): void {
  const error = relativeError(logits, golden);
  assert.ok(error <= TOLERANCE, `${what}: off by ${error}`);
}

const gpu = await Gpu.open();
const otherFamily = gpu.family === "software" ? "gpu" : "software";
gpu.close();

async function checkModel({ folder, vocabSize, prompts, greedy }: GoldenVariant, prefillChunk: number): Promise<void> {
  await withModel(folder, { kv: "f32", prefillChunk, maxSequences: 8, maxModelLen: 256 }, async (llm) => {
    for (const { ids, firstRow, logits } of prompts) {
      check((await llm.logits(ids)).subarray(firstRow * vocabSize), logits, `${ids.length} tokens in chunks of ${prefillChunk}`);
    }
    for (const { prompt, continuation } of greedy) {
      const { ids } = await llm.generate(prompt, { maxNewTokens: continuation.length, ignoreEos: true });
      assert.equal([...ids], [...continuation], `chunks of ${prefillChunk}`);
    }
  });
}

for (const variant of goldenVariants()) {
  const { name, folder, vocabSize, prompts } = variant;

  test(`${name}: logits and greedy text are those of transformers`, async () => {
    await checkModel(variant, 24);
  });

  test(`${name}: so they are in the other kernel family and in one pass`, async () => {
    await withGpus({ family: otherFamily }, async () => { await checkModel(variant, 256); });
  });

  if (prompts.some(({ firstRow }) => firstRow > 0)) continue; // the bundled models' goldens have no rows to start a batch from
  test(`${name}: sequences of different lengths share their passes, prefill and decode alike`, async () => {
    const { ids, logits } = prompts[0]!;
    const rows = (first: number, end: number): Float32Array => logits.subarray(first * vocabSize, end * vocabSize);
    await withEngine({ folder, slots: 9 }, async ({ cache, prefill, decode }) => {
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
