/**
 * Every architecture and variant against Hugging Face transformers in double: logits of every row through the real paged cache, whatever
 * the chunks of the prefill and whatever runs in the same batch, in both kernel families; and greedy continuations token for token.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, type KernelFamily } from "../../engine/gpu.ts";
import { MAX_MODEL_LEN, withEngine } from "../support/engine.ts";
import { goldenVariants, type GoldenVariant } from "../support/goldens.ts";
import { relativeError, withGpus, withModel, withoutWarmUp } from "../support/llm.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

/** max |ours − theirs| ≤ this × max |theirs|. The bar is 2e-4; f32 arithmetic stays far below, and only so are the two kinds of GELU told apart. */
const TOLERANCE = 2e-5;

function check(logits: Float32Array, golden: ArrayLike<number>, what: string): void {
  const error = relativeError(logits, golden);
  assert.ok(error <= TOLERANCE, `${what}: off by ${error}`);
}

/** Most rows of a pass: a prompt takes several. One number for all tests here, since pipelines are compiled for it. */
const CHUNK = 24;

/** One variant of each architecture: for one pass, and for the other kernel family, a model's pipelines are compiled once more. */
const MORE_WAYS = ["neox-parallel", "qwen3-gqa-tied"];

async function otherFamily(): Promise<KernelFamily> {
  const gpu = await Gpu.open();
  gpu.close();
  return gpu.family === "software" ? "gpu" : "software";
}

async function checkModel({ folder, vocabSize, prompts, greedy }: GoldenVariant, prefillChunk = CHUNK): Promise<void> {
  await withModel(folder, { kv: "f32", prefillChunk, maxSequences: 8, maxModelLen: MAX_MODEL_LEN }, async (llm) => {
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

  if (MORE_WAYS.includes(name)) {
    test(`${name}: so they are when a prompt is one pass`, async () => {
      await checkModel(variant, MAX_MODEL_LEN);
    });
    test(`${name}: so they are in the other kernel family`, async () => {
      await withGpus({ family: await otherFamily() }, async () => { await checkModel(variant); });
    });
  }

  test(`${name}: sequences of different lengths share their passes, prefill and decode alike`, async () => {
    const { ids, firstRow, logits } = prompts[0]!;
    if (firstRow > 0) return; // the bundled models' goldens are the last rows of their prompts
    const rows = (first: number, end: number): Float32Array => logits.subarray(first * vocabSize, end * vocabSize);
    await withEngine({ folder, rows: CHUNK, slots: 9 }, async ({ tables, prefill, decode }) => {
      for (const sequences of [1, 2, 9]) {
        const slots = Array.from({ length: sequences }, () => tables.open(150)!);
        const lengths = slots.map((_, i) => 1 + i % 4);
        const first = await prefill(...slots.map((slot, i) => [slot, ids.slice(0, lengths[i])] as const));
        check(first, lengths.flatMap((length) => [...rows(0, length)]), `prefill of ${sequences}`);
        for (let step = 0; step < 15; step++) { // into the second block
          const next = await decode(...slots.map((slot, i) => [slot, ids[lengths[i]! + step]!] as const));
          check(next, lengths.flatMap((length) => [...rows(length + step, length + step + 1)]), `decode step ${step} of ${sequences}`);
        }
        const last = await prefill(...slots.map((slot, i) => [slot, ids.slice(lengths[i]! + 15, lengths[i]! + 17)] as const));
        check(last, lengths.flatMap((length) => [...rows(length + 15, length + 17)]), `two more rows of ${sequences}`);
        for (const slot of slots) tables.close(slot);
        tables.check();
      }
    });
  });
}

test.run();
