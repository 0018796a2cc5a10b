/**
 * sample against its twin: the same token for the same seed wherever f32 can tell, the greedy choice exactly, and draws that follow the
 * softmax they claim to follow (χ² over thousands of draws, fixed seeds, so the outcome never changes).
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import * as twin from "../../kernels/reference/sample.ts";
import { NO_TOKEN, packSampling, sample, SAMPLING_WORDS, type SamplingParams } from "../../kernels/sample.ts";
import { dispatch, near, numbers, openFamilies, put, release, takeU32, uniform } from "../support/gpu.ts";
import { checkDistribution, draw, drawsOf, softmax } from "../support/sampling.ts";

const GREEDY: SamplingParams = { temperature: 0, topP: 1, topK: 0, seed: 0 };

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const TWELVE = [1.5, -0.3, 2.1, 0.4, 0.9, -1.2, 1.1, 0.2, -0.7, 1.9, 0.6, -0.1];
/** Fewer where one costs seconds. */
const vocabulariesOf = ({ family, adapter }: Gpu): number[] => (family === "gpu" && adapter.software ? [12, 5003] : [1, 12, 300, 5003]);
const DISTRIBUTIONS: readonly (Omit<SamplingParams, "seed"> & { readonly kept: number })[] = [
  { temperature: 1, topK: 0, topP: 1, kept: 12 }, { temperature: 0.7, topK: 5, topP: 1, kept: 5 },
  { temperature: 1.3, topK: 0, topP: 0.7, kept: 5 }, { temperature: 0.9, topK: 8, topP: 0.8, kept: 5 },
  { temperature: 1.2, topK: 0, topP: 1, minP: 0.3, kept: 5 }, { temperature: 1.1, topK: 9, topP: 0.95, minP: 0.2, kept: 7 },
];

for (const gpu of gpus) {
  const draws = drawsOf(gpu);
  for (const vocab of vocabulariesOf(gpu)) {
    test(`sample, ${gpu.family}: greedy takes the greatest, ties to the lowest index, vocabulary ${vocab}`, async () => {
      const count = 24;
      const logits = numbers(count * vocab, vocab, 3);
      const top = Array.from({ length: count }, (_, row) => [(row * 37) % vocab, (row * 101 + 5) % vocab, vocab - 1]);
      top.forEach((tied, row) => tied.forEach((token) => { logits[row * vocab + token] = 1000 + row; }));
      logits.fill(-2, 0, vocab); // all equal
      const params = Array<SamplingParams>(count).fill(GREEDY);
      const tokens = await draw(gpu, { logits, params, positions: params.map(() => 0), vocab });
      near(tokens, top.map((tied, row) => (row === 0 ? 0 : Math.min(...tied))), {}, "greedy");
    });

    test(`sample, ${gpu.family}: the twin's token for every temperature, top-k, top-p, min-p and seed, vocabulary ${vocab}`, async () => {
      const random = uniform(vocab);
      const params = Array.from({ length: 240 }, (_, i) => ({
        temperature: [0.1, 0.7, 1, 2.5][i % 4]!, topK: [0, 1, 3, 50, 100_000][i % 5]!,
        topP: [1, 0.9, 0.5, 0.01][Math.floor(i / 4) % 4]!, minP: [0, 0.02, 0.4][i % 3]!, seed: Math.floor(random() * 2 ** 32),
      }));
      const positions = params.map(() => Math.floor(random() * 5000));
      const logits = numbers(params.length * vocab, vocab + 1, 2);
      const tokens = await draw(gpu, { logits, params, positions, vocab });
      let unclear = 0;
      params.forEach((each, row) => {
        const { token, margin } = twin.sample(logits.subarray(row * vocab, (row + 1) * vocab), each, positions[row]! + 1);
        // Scores are sums of f32 logarithms of up to about 10, and probabilities sums of thousands: good to 1e-5.
        if (margin < 1e-5) unclear++;
        else assert.is(tokens[row], token, `row ${row}, ${JSON.stringify(each)}, margin ${margin}`);
      });
      assert.ok(unclear <= params.length / 50, `${unclear} rows too close to call`);
    });
  }

  test(`sample, ${gpu.family}: a NaN or an infinity anywhere gives no token, and only to its own row`, async () => {
    const vocab = 5003;
    const bad = [NaN, Infinity, -Infinity];
    const places = [0, 7, 8, 255, 5002];
    const count = bad.length * places.length + 1;
    const logits = numbers(count * vocab, 3);
    bad.forEach((value, i) => places.forEach((place, j) => { logits[(i * places.length + j) * vocab + place] = value; }));
    for (const temperature of [0, 1]) {
      const params = Array.from({ length: count }, (_, seed) => ({ temperature, topP: 0.9, topK: 20, seed }));
      const tokens = await draw(gpu, { logits, params, positions: params.map(() => 5), vocab });
      const good = twin.sample(logits.subarray((count - 1) * vocab), params.at(-1)!, 6);
      near(tokens, [...Array<number>(count - 1).fill(NO_TOKEN), good.token], {}, `temperature ${temperature}`);
    }
  });

  test(`sample, ${gpu.family}: logits at the ends of f32 stay numbers`, async () => {
    const starts = [[3e38, -3e38, 0], [-3e38, -3e38, -3.1e38], [1e-40, 0, -1e-40], [0, -1e38, 88]];
    const rows = starts.map((row) => [...row, ...Array<number>(9).fill(row[1]!)]);
    const params = rows.map((_, seed) => ({ temperature: 0.5, topP: 0.99, topK: 2, seed }));
    const tokens = await draw(gpu, { logits: Float32Array.from(rows.flat()), params, positions: [0, 0, 0, 0], vocab: 12 });
    assert.is(tokens[0], 0);
    assert.ok(tokens[1] !== 2 && tokens[1]! < 12);
    assert.ok(tokens[2]! < 12);
    assert.is(tokens[3], 2);
  });

  for (const { kept, ...each } of DISTRIBUTIONS) {
    test(`sample, ${gpu.family}: ${draws} positions follow the softmax, ${JSON.stringify(each)}`, async () => {
      const params = { ...each, seed: 1234 };
      const positions = Array.from({ length: draws }, (_, i) => i);
      const logits = Float32Array.from({ length: draws * 12 }, (_, i) => TWELVE[i % 12]!);
      const expected = softmax(TWELVE, params);
      assert.is(expected.filter((p) => p > 0).length, kept);
      checkDistribution(await draw(gpu, { logits, params: positions.map(() => params), positions, vocab: 12 }), expected);
    });
  }

  test(`sample, ${gpu.family}: ${draws} seeds at one position follow the softmax too`, async () => {
    const params = Array.from({ length: draws }, (_, seed) => ({ temperature: 1, topP: 1, topK: 0, seed }));
    const logits = Float32Array.from({ length: draws * 12 }, (_, i) => TWELVE[i % 12]!);
    checkDistribution(await draw(gpu, { logits, params, positions: params.map(() => 77), vocab: 12 }), softmax(TWELVE, params[0]!));
  });

  test(`sample, ${gpu.family}: min-p is exact at its edges: 1 keeps what ties with the best, and a token on the edge stays`, async () => {
    const ulp = 2 ** -22; // of numbers from 2 to 4
    const rows = [
      { logits: [0, 3, 3 - ulp, 3, 2, -9, 3, 2.5, 1, 0, 0, 0], minP: 1, kept: [1, 3, 6] },
      { logits: [0, 3, 3, 2, 2 - ulp, 2, -9, 1, 1, 0, 0, 0], minP: Math.exp(-1), kept: [1, 2, 3, 5] },
    ];
    for (const { logits, minP, kept } of rows) {
      const params = Array.from({ length: 400 }, (_, seed) => ({ temperature: 1, topP: 1, topK: 0, minP, seed }));
      const tokens = await draw(gpu, { logits: Float32Array.from(params.flatMap(() => logits)), params, positions: params.map(() => 3), vocab: 12 });
      assert.equal([...new Set(tokens)].sort((a, b) => a - b), kept);
    }
  });

  test(`sample, ${gpu.family}: a draw depends on its logits, seed and position, not on its place in the batch`, async () => {
    const [vocab, count] = [12, 32];
    const one = numbers(vocab, 8, 0.1);
    const params = Array.from({ length: count }, (_, i) => ({ temperature: 1.5, topP: 0.95, topK: 0, seed: i % 4 }));
    const positions = params.map((_, i) => 10 + (i % 8 < 4 ? 0 : 1));
    const logits = Float32Array.from({ length: count * vocab }, (_, i) => one[i % vocab]!);
    const tokens = await draw(gpu, { logits, params, positions, vocab });
    for (let i = 8; i < count; i++) assert.is(tokens[i], tokens[i - 8]);
    assert.ok(new Set(tokens).size >= 4, "eight seeds and positions give several tokens");
  });

  test(`sample, ${gpu.family}: samples name their rows; the ring and the feedback are written where they belong`, async () => {
    const [vocab, rows, ring, step] = [40, 8, 3, 7];
    const batchRows = Array.from({ length: 6 }, (_, i) => ({ id: 20 + i, position: 100 * i, sequence: i, offset: 0 }));
    const samples = [5, 2, 0];
    const words = layOutBatch(rows, batchRows, 1, samples).words;
    words[0] = step;
    const params = samples.map((_, seed) => ({ temperature: 1, topP: 1, topK: 0, seed }));
    const logits = numbers(4 * vocab, 9, 2);
    logits[2 * vocab + 3] = NaN; // the last sample: its row goes on with some token of the vocabulary, and the host is told
    const batch = { tensor: await put(gpu, [batchWords(rows)], words, "u32"), rows };
    const tensors = {
      logits: await put(gpu, [4, vocab], logits), sampling: await put(gpu, [4, SAMPLING_WORDS], packSampling(params, 4), "u32"),
      sampled: await put(gpu, [ring, rows], Array.from({ length: ring * rows }, (_, i) => 1000 + i), "u32", "sampled"),
    };
    await dispatch(gpu, (recorder) => sample(recorder, { ...tensors, batch }, { feedback: true }), { rows: samples.length });
    const tokens = samples.map((row, i) =>
      twin.sample(logits.subarray(i * vocab, (i + 1) * vocab), params[i]!, batchRows[row]!.position + 1).token);
    assert.is(tokens[2], NO_TOKEN);
    const ringWanted = Array.from({ length: ring * rows }, (_, i) => 1000 + i);
    ringWanted.splice((step % ring) * rows, samples.length, ...tokens);
    near(await takeU32(gpu, tensors.sampled), ringWanted, {}, "sampled", rows);
    const went = batchRows.map((row, i) => {
      const sampled = samples.indexOf(i);
      return sampled < 0 ? row : { ...row, id: Math.min(tokens[sampled]!, vocab - 1), position: row.position + 1 };
    });
    near(await takeU32(gpu, batch.tensor), layOutBatch(rows, went, 1, samples).words.with(0, step), {}, "batch");
    release(gpu, batch.tensor, ...Object.values(tensors));
  });
}

test.run();
