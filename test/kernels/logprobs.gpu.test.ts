/** logprobs against its twin: log-probabilities, ranks and the likeliest tokens, for samples that want different numbers of them. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import { LOGPROB_WORDS, logprobs, MAX_LOGPROBS, unpackLogprobs } from "../../kernels/logprobs.ts";
import * as twin from "../../kernels/reference/logprobs.ts";
import { NO_TOKEN, packSampling, sample, SAMPLING_WORDS } from "../../kernels/sample.ts";
import { dispatch, near, numbers, openFamilies, put, release, takeU32 } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const vocabulariesOf = ({ family, adapter }: Gpu): number[] => (family === "gpu" && adapter.software ? [12, 5003] : [1, 12, 5003]);
const [ROWS, RING, STEP] = [32, 3, 7];
const UNTOUCHED = 77;

/** Sample greedily or at temperature 3, then take the log-probabilities, in one pass. */
async function run(gpu: Gpu, logits: Float32Array, wanted: readonly (number | null)[], temperature: number): Promise<{ tokens: Uint32Array; words: Uint32Array }> {
  const count = wanted.length;
  const rows = wanted.map((_, i) => ({ id: 0, position: i, sequence: i, offset: 0 }));
  const words = layOutBatch(ROWS, rows, 1, rows.map((_, i) => i)).words.with(0, STEP);
  const batch = { tensor: await put(gpu, [batchWords(ROWS)], words, "u32"), rows: ROWS };
  const params = wanted.map((each, seed) => ({ temperature, topP: 1, topK: 0, seed, logprobs: each }));
  const tensors = {
    logits: await put(gpu, [count, logits.length / count], logits), sampling: await put(gpu, [count, SAMPLING_WORDS], packSampling(params, count), "u32"),
    sampled: await put(gpu, [RING, ROWS], null, "u32", "sampled"),
  };
  const out = await put(gpu, [RING, ROWS, LOGPROB_WORDS], new Uint32Array(RING * ROWS * LOGPROB_WORDS).fill(UNTOUCHED), "u32", "out");
  await dispatch(gpu, (recorder) => {
    sample(recorder, { ...tensors, batch }, { feedback: true });
    logprobs(recorder, { ...tensors, out, batch });
  }, { rows: count });
  const first = (STEP % RING) * ROWS;
  const result = { tokens: (await takeU32(gpu, tensors.sampled)).slice(first, first + count), words: await takeU32(gpu, out) };
  const written = result.words.slice(first * LOGPROB_WORDS, (first + count) * LOGPROB_WORDS);
  const outside = result.words.fill(UNTOUCHED, first * LOGPROB_WORDS, (first + count) * LOGPROB_WORDS);
  assert.ok(outside.every((word) => word === UNTOUCHED), "another step's or sample's words were written");
  release(gpu, batch.tensor, out, ...Object.values(tensors));
  return { tokens: result.tokens, words: written };
}

for (const gpu of gpus) {
  for (const vocab of vocabulariesOf(gpu)) {
    test(`logprobs, ${gpu.family}: as the twin has them, vocabulary ${vocab}`, async () => {
      const wanted = [0, 1, 2, 5, MAX_LOGPROBS, null, 19, 3, MAX_LOGPROBS, 20, 7, 4, 20];
      const logits = numbers(wanted.length * vocab, vocab, 2);
      const of = (row: number): Float32Array => logits.subarray(row * vocab, (row + 1) * vocab);
      of(6).fill(-4); // all tie
      of(7).forEach((value, i, all) => { all[i] = value + 5000; }); // exp would overflow
      of(8).forEach((value, i, all) => { all[i] = Math.round(value); }); // many ties
      of(9).fill(-1e30).fill(10, vocab - 1); // probability 1, and log-probabilities without a digit in common
      of(11)[vocab - 1] = NaN; // no token
      for (const temperature of [0, 3]) {
        const { tokens, words } = await run(gpu, logits, wanted, temperature);
        wanted.forEach((top, i) => {
          const own = words.subarray(i * LOGPROB_WORDS, (i + 1) * LOGPROB_WORDS);
          const used = top === null || i === 11 ? 0 : 2 + 2 * top;
          assert.ok(own.subarray(used).every((word) => word === UNTOUCHED), `sample ${i}: past what it asked for`);
          if (used === 0) return assert.is(tokens[i] === NO_TOKEN, i === 11);
          const got = unpackLogprobs(words, i * LOGPROB_WORDS, top!), expected = twin.logprobs(of(i), tokens[i]!, top!);
          const tolerance = { absolute: i === 7 ? 6e-4 : 2e-5, relative: 1e-6 }; // differences of logits near 5000 are good to 5e-4
          near([got.logprob, ...got.top.map(({ logprob }) => logprob)], [expected.logprob, ...expected.top.map(({ logprob }) => logprob)], tolerance, `sample ${i}`);
          assert.equal(got.top.map(({ id }) => id), expected.top.map(({ id }) => id), `sample ${i}`);
          assert.is(got.rank, expected.rank, `rank of sample ${i}`);
          if (temperature === 0) assert.is(got.rank, 0);
        });
        if (temperature > 0 && vocab > 1) assert.ok(wanted.some((top, i) => top !== null && i !== 11 && unpackLogprobs(words, i * LOGPROB_WORDS, 0).rank > 0));
      }
    });
  }
}

test.run();
