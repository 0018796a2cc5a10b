/**
 * What the sampler's tests share: drawing for many rows at once on the GPU, the distribution a draw must follow written from the
 * definitions by sorting probabilities, and the χ² test of one against the other (fixed seeds, so the outcome never changes).
 */

import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import { packSampling, sample, SAMPLING_WORDS, type SamplingParams } from "../../kernels/sample.ts";
import { dispatch, near, put, release, takeU32 } from "./gpu.ts";

/** Rows a batch has room for: the same in all tests, so that they share pipelines. */
export const CAPACITY = 20_000;

/**
 * The GPU family waits at barriers, and a software adapter takes a hundred times as long to run and seconds to compile it: there it gets
 * fewer draws.
 */
export const drawsOf = ({ family, adapter }: Gpu): number => (family === "gpu" && adapter.software ? 2_000 : CAPACITY);

export interface Drawing {
  /** [rows, vocab]. */
  readonly logits: Float32Array;
  readonly params: readonly SamplingParams[];
  /** Those of the rows, one before the token drawn. */
  readonly positions: readonly number[];
  readonly vocab: number;
  /** `counts` and `bias` are [slots, vocab]; row i is of the sequence in slot `slots[i]`. */
  readonly adjust?: { readonly counts: Uint32Array; readonly bias: Float32Array; readonly slots: readonly number[] };
}

/** Draw for each row of logits without feedback: the tokens, and with `adjust` the counts afterwards. */
export async function drawAll(gpu: Gpu, { logits, params, positions, vocab, adjust }: Drawing): Promise<{ tokens: Uint32Array; counts: Uint32Array }> {
  const count = params.length;
  const rows = positions.map((position, row) => ({ id: 0, position, sequence: adjust?.slots[row] ?? row, offset: 0 }));
  const words = layOutBatch(CAPACITY, rows, 1, rows.map((_, i) => i)).words;
  const batch = { tensor: await put(gpu, [batchWords(CAPACITY)], words, "u32"), rows: CAPACITY };
  const tensors = {
    logits: await put(gpu, [count, vocab], logits),
    sampling: await put(gpu, [count, SAMPLING_WORDS], packSampling(params, count), "u32"),
    sampled: await put(gpu, [1, CAPACITY], new Uint32Array(CAPACITY).fill(123_456), "u32", "sampled"),
  };
  const rowsOf = (array: { readonly length: number }): [number, number] => [array.length / vocab, vocab];
  const adjusting = adjust && { counts: await put(gpu, rowsOf(adjust.counts), adjust.counts, "u32", "counts"), bias: await put(gpu, rowsOf(adjust.bias), adjust.bias) };
  await dispatch(gpu, (recorder) => sample(recorder, { ...tensors, batch, adjust: adjusting }, { feedback: false }), { rows: count });
  const tokens = await takeU32(gpu, tensors.sampled);
  assert.ok(tokens.subarray(count).every((token) => token === 123_456), "samples past the step");
  near(await takeU32(gpu, batch.tensor), words, {}, "the batch, without feedback");
  const counts = adjusting === undefined ? new Uint32Array() : await takeU32(gpu, adjusting.counts);
  release(gpu, batch.tensor, ...Object.values(tensors), ...Object.values(adjusting ?? {}));
  return { tokens: tokens.slice(0, count), counts };
}

/** The tokens alone. */
export async function draw(gpu: Gpu, drawing: Drawing): Promise<Uint32Array> {
  return (await drawAll(gpu, drawing)).tokens;
}

/** Softmax of logits / temperature over the tokens that top-k, then top-p, then min-p leave. Meant for logits without ties. */
export function softmax(logits: readonly number[], { temperature, topK, topP, minP = 0 }: SamplingParams): number[] {
  const order = logits.map((_, token) => token).sort((a, b) => logits[b]! - logits[a]!).slice(0, topK > 0 ? topK : logits.length);
  const weight = (token: number): number => Math.exp((logits[token]! - logits[order[0]!]!) / temperature);
  const mass = order.reduce((sum, token) => sum + weight(token), 0);
  let before = 0;
  const kept = order.filter((token) => {
    const keep = before < topP && weight(token) >= minP;
    before += weight(token) / mass;
    return keep;
  });
  const left = kept.reduce((sum, token) => sum + weight(token), 0);
  return logits.map((_, token) => (kept.includes(token) ? weight(token) / left : 0));
}

/** What a χ² of `freedom` degrees exceeds once in ten thousand times (Wilson and Hilferty 1931; 3.719 is that quantile of a normal). */
function chiSquareBound(freedom: number): number {
  return freedom * (1 - 2 / (9 * freedom) + 3.719 * Math.sqrt(2 / (9 * freedom))) ** 3;
}

/** Throw unless the drawn tokens are as frequent as `expected` says; a token of probability 0 may not occur at all. */
export function checkDistribution(tokens: Uint32Array, expected: readonly number[]): void {
  const counts = expected.map((_, token) => tokens.reduce((count, drawn) => count + Number(drawn === token), 0));
  assert.is(counts.reduce((a, b) => a + b), tokens.length);
  let chiSquare = 0;
  expected.forEach((p, token) => {
    if (p === 0) assert.is(counts[token], 0, `token ${token} is cut off`);
    else chiSquare += (counts[token]! - p * tokens.length) ** 2 / (p * tokens.length);
  });
  const bound = chiSquareBound(expected.filter((p) => p > 0).length - 1);
  assert.ok(chiSquare < bound, `χ² = ${chiSquare}, at most ${bound}`);
}
