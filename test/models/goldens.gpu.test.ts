/**
 * Every architecture and variant against Hugging Face transformers in double: logits of every row through the real paged cache, whatever
 * the chunks of the prefill, and greedy continuations token for token.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM } from "../../index.ts";
import { goldenVariants, type GoldenPrompt } from "../support/goldens.ts";

/** max |ours − theirs| ≤ this × max |theirs|. The bar is 2e-4; f32 arithmetic stays far below, and only so are the two kinds of GELU told apart. */
const TOLERANCE = 2e-5;

function worst(logits: Float32Array, { logits: golden }: GoldenPrompt): number {
  const first = logits.length - golden.length; // goldens of the bundled models are their last rows
  let [error, greatest] = [0, 0];
  golden.forEach((value, i) => {
    error = Math.max(error, Math.abs(logits[first + i]! - value));
    greatest = Math.max(greatest, Math.abs(value));
  });
  return error / greatest;
}

for (const { name, folder, prompts, greedy } of goldenVariants()) {
  test(`${name}: logits and greedy text are those of transformers`, async () => {
    for (const prefillChunk of [256, 24]) {
      const llm = await LLM.load(folder, { kv: "f32", prefillChunk, maxSequences: 8 });
      try {
        for (const prompt of prompts) {
          const error = worst(await llm.logits(prompt.ids), prompt);
          assert.ok(error <= TOLERANCE, `${prompt.ids.length} tokens in chunks of ${prefillChunk}: off by ${error}`);
        }
        for (const { prompt, continuation } of greedy) {
          const { ids } = await llm.generate(prompt, { maxNewTokens: continuation.length, ignoreEos: true });
          assert.equal([...ids], [...continuation]);
        }
      } finally {
        await llm.close();
      }
      assert.is(llm.memory().total, 0);
    }
  });
}

test.run();
