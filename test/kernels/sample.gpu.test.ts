/**
 * sample against its twin: the same token for the same seed wherever f32 can tell, the greedy choice exactly, and draws that follow the
 * softmax they claim to follow (χ² over thousands of draws, fixed seeds, so the outcome never changes).
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import * as twin from "../../kernels/reference/sample.ts";
import { NO_TOKEN, packSampling, sample, type SamplingParams } from "../../kernels/sample.ts";
import { dispatch, near, numbers, openFamilies, put, release, takeU32, uniform } from "../support/gpu.ts";

const GREEDY: SamplingParams = { temperature: 0, topP: 1, topK: 0, seed: 0 };

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

interface Drawing {
  readonly logits: Float32Array;
  readonly params: readonly SamplingParams[];
  readonly positions: readonly number[];
  readonly vocab: number;
}

/** Rows a batch has room for: the same in all tests, so that they share pipelines. */
const CAPACITY = 20_000;

/** Draw for each row of logits; `positions` are those of the rows, one before the token drawn. */
async function draw(gpu: Gpu, { logits, params, positions, vocab }: Drawing): Promise<Uint32Array> {
  const count = params.length;
  const rows = positions.map((position, sequence) => ({ id: 0, position, sequence, offset: 0 }));
  const words = layOutBatch(CAPACITY, rows, 1, rows.map((_, i) => i)).words;
  const batch = { tensor: await put(gpu, [batchWords(CAPACITY)], words, "u32"), rows: CAPACITY };
  const tensors = {
    logits: await put(gpu, [count, vocab], logits), sampling: await put(gpu, [count, 4], packSampling(params, count), "u32"),
    sampled: await put(gpu, [1, CAPACITY], new Uint32Array(CAPACITY).fill(123_456), "u32", "sampled"),
  };
  await dispatch(gpu, (recorder) => sample(recorder, { ...tensors, batch }, { feedback: false }), { rows: count });
  const tokens = await takeU32(gpu, tensors.sampled);
  assert.ok(tokens.subarray(count).every((token) => token === 123_456), "samples past the step");
  near(await takeU32(gpu, batch.tensor), words, {}, "the batch, without feedback");
  release(gpu, batch.tensor, ...Object.values(tensors));
  return tokens.subarray(0, count);
}

/** What a χ² of `freedom` degrees exceeds once in ten thousand times (Wilson and Hilferty 1931; 3.719 is that quantile of a normal). */
function chiSquareBound(freedom: number): number {
  return freedom * (1 - 2 / (9 * freedom) + 3.719 * Math.sqrt(2 / (9 * freedom))) ** 3;
}

/** Softmax of logits / temperature over the tokens that top-k, then top-p leave. Written from the definition, by sorting probabilities. */
function softmax(logits: readonly number[], { temperature, topK, topP }: SamplingParams): number[] {
  const order = logits.map((_, token) => token).sort((a, b) => logits[b]! - logits[a]!).slice(0, topK > 0 ? topK : logits.length);
  const weight = (token: number): number => Math.exp((logits[token]! - logits[order[0]!]!) / temperature);
  const mass = order.reduce((sum, token) => sum + weight(token), 0);
  let before = 0;
  const kept = order.filter((token) => {
    const keep = before < topP;
    before += weight(token) / mass;
    return keep;
  });
  const left = kept.reduce((sum, token) => sum + weight(token), 0);
  return logits.map((_, token) => (kept.includes(token) ? weight(token) / left : 0));
}

const TWELVE = [1.5, -0.3, 2.1, 0.4, 0.9, -1.2, 1.1, 0.2, -0.7, 1.9, 0.6, -0.1];
/**
 * The GPU family waits at barriers, and a software adapter takes a hundred times as long to run and seconds to compile it: there it gets
 * fewer draws and vocabularies.
 */
const drawsOf = ({ family, adapter }: Gpu): number => (family === "gpu" && adapter.software ? 2_000 : CAPACITY);
const vocabulariesOf = ({ family, adapter }: Gpu): number[] => (family === "gpu" && adapter.software ? [12, 5003] : [1, 12, 300, 5003]);
const DISTRIBUTIONS: readonly (Omit<SamplingParams, "seed"> & { readonly kept: number })[] = [
  { temperature: 1, topK: 0, topP: 1, kept: 12 }, { temperature: 0.7, topK: 5, topP: 1, kept: 5 },
  { temperature: 1.3, topK: 0, topP: 0.7, kept: 5 }, { temperature: 0.9, topK: 8, topP: 0.8, kept: 5 },
];

function checkDistribution(tokens: Uint32Array, params: SamplingParams, kept: number): void {
  const expected = softmax(TWELVE, params);
  assert.is(expected.filter((p) => p > 0).length, kept);
  const counts = TWELVE.map((_, token) => tokens.reduce((count, drawn) => count + Number(drawn === token), 0));
  assert.is(counts.reduce((a, b) => a + b), tokens.length);
  let chiSquare = 0;
  expected.forEach((p, token) => {
    if (p === 0) assert.is(counts[token], 0, `token ${token} is cut off`);
    else chiSquare += (counts[token]! - p * tokens.length) ** 2 / (p * tokens.length);
  });
  assert.ok(chiSquare < chiSquareBound(kept - 1), `χ² = ${chiSquare} of ${kept - 1} degrees, at most ${chiSquareBound(kept - 1)}`);
}

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

    test(`sample, ${gpu.family}: the twin's token for every temperature, top-k, top-p and seed, vocabulary ${vocab}`, async () => {
      const random = uniform(vocab);
      const params = Array.from({ length: 240 }, (_, i) => ({
        temperature: [0.1, 0.7, 1, 2.5][i % 4]!, topK: [0, 1, 3, 50, 100_000][i % 5]!,
        topP: [1, 0.9, 0.5, 0.01][Math.floor(i / 4) % 4]!, seed: Math.floor(random() * 2 ** 32),
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
    const { temperature, topK, topP } = each;
    test(`sample, ${gpu.family}: ${draws} positions follow the softmax, temperature ${temperature}, top-k ${topK}, top-p ${topP}`, async () => {
      const params = { temperature, topK, topP, seed: 1234 };
      const positions = Array.from({ length: draws }, (_, i) => i);
      const logits = Float32Array.from({ length: draws * 12 }, (_, i) => TWELVE[i % 12]!);
      checkDistribution(await draw(gpu, { logits, params: positions.map(() => params), positions, vocab: 12 }), params, kept);
    });
  }

  test(`sample, ${gpu.family}: ${draws} seeds at one position follow the softmax too`, async () => {
    const params = Array.from({ length: draws }, (_, seed) => ({ temperature: 1, topP: 1, topK: 0, seed }));
    const logits = Float32Array.from({ length: draws * 12 }, (_, i) => TWELVE[i % 12]!);
    checkDistribution(await draw(gpu, { logits, params, positions: params.map(() => 77), vocab: 12 }), params[0]!, 12);
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
      logits: await put(gpu, [4, vocab], logits), sampling: await put(gpu, [4, 4], packSampling(params, 4), "u32"),
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
