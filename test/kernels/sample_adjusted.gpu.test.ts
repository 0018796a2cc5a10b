/**
 * The sampler with penalties and biases against its twin: every parameter alone and together, forbidden tokens, the counts it keeps for
 * the steps after it, and rows that have none of it, which must choose as if it were not there.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import * as twin from "../../kernels/reference/sample.ts";
import { IN_PROMPT, NO_TOKEN, packBias, packCounts, packSampling, sample, SAMPLING_WORDS, type SamplingParams } from "../../kernels/sample.ts";
import { dispatch, near, numbers, openFamilies, put, release, shuffled, takeU32, uniform } from "../support/gpu.ts";
import { checkDistribution, draw, drawAll, drawsOf } from "../support/sampling.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const NEUTRAL: SamplingParams = { temperature: 0, topP: 1, topK: 0, seed: 0 };
/** Each penalty alone, with both signs, then together with each other and with the filters. */
const KINDS: readonly Partial<SamplingParams>[] = [
  { repetitionPenalty: 1.3 }, { repetitionPenalty: 0.6 }, { presencePenalty: 1.5 }, { presencePenalty: -2 }, { frequencyPenalty: 0.7 }, { frequencyPenalty: -0.4 },
  { presencePenalty: 0.5, frequencyPenalty: 0.5 }, { repetitionPenalty: 1.2, presencePenalty: -0.3, frequencyPenalty: 0.2 },
  { repetitionPenalty: 5, presencePenalty: 2, frequencyPenalty: 2, minP: 0.05 }, { repetitionPenalty: 1.1, frequencyPenalty: 0.3, topK: 7, topP: 0.9, minP: 0.01 },
];

/** Counts of `rows` slots: some tokens in the prompt, some in the text, some in both. */
function someCounts(rows: number, vocab: number, seed: number): Uint32Array {
  const random = uniform(seed);
  return Uint32Array.from({ length: rows * vocab }, () => (random() < 0.3 ? IN_PROMPT : 0) + (random() < 0.4 ? Math.floor(random() * 9) : 0));
}

/** Biases, a tenth of them −∞, most of the others 0. */
function someBias(rows: number, vocab: number, seed: number): Float32Array {
  const random = uniform(seed);
  return Float32Array.from({ length: rows * vocab }, () => {
    const kind = random();
    return kind < 0.1 ? -Infinity : kind < 0.4 ? 4 * random() - 2 : 0;
  });
}

const row = <T extends Float32Array | Uint32Array>(array: T, index: number, vocab: number): T => array.subarray(index * vocab, (index + 1) * vocab) as T;
const TWELVE = [1.5, -0.3, 2.1, 0.4, 0.9, -1.2, 1.1, 0.2, -0.7, 1.9, 0.6, -0.1];
const vocabulariesOf = ({ family, adapter }: Gpu): number[] => (family === "gpu" && adapter.software ? [12, 5003] : [1, 12, 5003]);

for (const gpu of gpus) {
  for (const vocab of vocabulariesOf(gpu)) {
    test(`sample, adjusted, ${gpu.family}: the twin's token and counts for every penalty and bias, vocabulary ${vocab}`, async () => {
      const random = uniform(vocab + 7);
      const params = [0, 0.7, 1.5].flatMap((temperature) =>
        [...KINDS, {}, {}].map((kind) => ({ ...NEUTRAL, ...kind, temperature, seed: Math.floor(random() * 2 ** 32) })));
      const count = params.length;
      const slots = shuffled(count + 3, 5).slice(0, count);
      const logits = numbers(count * vocab, vocab + 2);
      const counts = someCounts(count + 3, vocab, 3), bias = someBias(count + 3, vocab, 4);
      params.forEach((_, i) => { if (i % 4 === 0) row(bias, slots[i]!, vocab).fill(0); }); // a penalty without a bias
      const positions = params.map(() => Math.floor(random() * 5000));
      const drawn = await drawAll(gpu, { logits, params, positions, vocab, adjust: { counts, bias, slots } });
      const after = counts.slice();
      let unclear = 0;
      params.forEach((each, i) => {
        const adjust = { counts: row(counts, slots[i]!, vocab), bias: row(bias, slots[i]!, vocab) };
        const { token, margin } = twin.sample(row(logits, i, vocab), each, positions[i]! + 1, adjust);
        // Logits are up to 30 in f32 and rounded four times, then divided by the temperature.
        if (margin < 3e-5) unclear++;
        else assert.is(drawn.tokens[i], token, `row ${i}, ${JSON.stringify(each)}, margin ${margin}`);
        if (drawn.tokens[i] !== NO_TOKEN) after[slots[i]! * vocab + drawn.tokens[i]!]!++;
      });
      assert.ok(unclear <= 2, `${unclear} rows too close to call`);
      near(drawn.counts, after, {}, "counts", vocab);
    });
  }

  test(`sample, adjusted, ${gpu.family}: a row without penalties and biases gets the plain sampler's token`, async () => {
    const [vocab, count] = [5003, 48];
    const params = Array.from({ length: count }, (_, seed) => ({
      temperature: [0, 0.5, 1, 2][seed % 4]!, topK: [0, 40, 5000][seed % 3]!, topP: [1, 0.9][seed % 2]!, minP: [0, 0.1][Math.floor(seed / 4) % 2]!, seed,
    }));
    const logits = numbers(count * vocab, 11, 2);
    logits[5 * vocab + 77] = NaN;
    const drawing = { logits, params, positions: params.map((_, i) => i), vocab };
    const adjust = { counts: someCounts(count, vocab, 8), bias: new Float32Array(count * vocab), slots: params.map((_, i) => i) };
    const plain = await draw(gpu, drawing);
    near(await draw(gpu, { ...drawing, adjust }), plain, {}, "tokens");
    assert.is(plain.filter((token) => token === NO_TOKEN).length, 1);
  });

  test(`sample, adjusted, ${gpu.family}: forbidden tokens are never drawn; with all forbidden, or a NaN under a forbidden one, there is no token`, async () => {
    const vocab = 12;
    const allowed = [3, 7, 10];
    const forbidden = TWELVE.map((_, token) => (allowed.includes(token) ? 0 : -Infinity));
    const seeds = Array.from({ length: 300 }, (_, seed) => seed);
    const params: SamplingParams[] = [
      ...seeds.map((seed) => ({ temperature: [0.7, 1, 30][seed % 3]!, topP: [1, 0.99][seed % 2]!, topK: [0, 5, 11][seed % 3]!, seed })),
      NEUTRAL, NEUTRAL, { ...NEUTRAL, temperature: 1, topK: 3, topP: 0.5 }, NEUTRAL, { ...NEUTRAL, temperature: 100, topP: 0.9 },
    ];
    const logits = params.map(() => TWELVE);
    logits[303] = TWELVE.with(0, NaN);
    logits[304] = TWELVE.map((value, token) => (allowed.includes(token) ? -3.4e38 : value));
    const bias = params.map((_, i) => ([301, 302].includes(i) ? TWELVE.map(() => -Infinity) : forbidden));
    const counts = new Uint32Array(params.length * vocab);
    const drawn = await drawAll(gpu, {
      logits: Float32Array.from(logits.flat()), params, positions: params.map(() => 9), vocab,
      adjust: { counts, bias: Float32Array.from(bias.flat()), slots: params.map((_, i) => i) },
    });
    assert.equal([...new Set(drawn.tokens.subarray(0, 300))].sort((a, b) => a - b), allowed);
    assert.equal([...drawn.tokens.subarray(300, 304)], [10, NO_TOKEN, NO_TOKEN, NO_TOKEN]);
    assert.ok(allowed.includes(drawn.tokens[304]!), "the lowest logits there are still come before a forbidden one");
    drawn.tokens.forEach((token, i) => { if (token !== NO_TOKEN) counts[i * vocab + token]!++; });
    near(drawn.counts, counts, {}, "counts", vocab);
  });

  test(`sample, adjusted, ${gpu.family}: penalties and biases at the ends of f32 leave a token`, async () => {
    const logits = [3e38, -3e38, 3.4e38, -3.4e38, 0, 1, 2, 3, -1, -2, -3, 1e-40];
    const kinds: Partial<SamplingParams>[] = [
      { repetitionPenalty: 1e-300 }, { repetitionPenalty: 100 }, { presencePenalty: 2, frequencyPenalty: 2 }, { presencePenalty: -2, frequencyPenalty: -2 },
    ];
    const params = kinds.flatMap((kind) => [0, 1].map((temperature) => ({ ...NEUTRAL, ...kind, temperature })));
    const whole = (values: readonly number[]): number[] => params.flatMap(() => values);
    const tokens = await draw(gpu, {
      logits: Float32Array.from(whole(logits)), params, positions: params.map(() => 1), vocab: 12,
      adjust: {
        counts: Uint32Array.from(whole(logits.map(() => IN_PROMPT + 0x7fff_fff0))), bias: Float32Array.from(whole(logits.map(() => 0))),
        slots: params.map((_, i) => i),
      },
    });
    tokens.forEach((token, i) => assert.ok(token === 0 || token === 2, `${JSON.stringify(params[i])}: ${token}`));
  });

  test(`sample, adjusted, ${gpu.family}: steps in flight count what the steps before them chose`, async () => {
    const [vocab, rows, steps] = [12, 8, 15];
    const params: SamplingParams[] = [
      { ...NEUTRAL, frequencyPenalty: 0.53 }, { ...NEUTRAL, presencePenalty: 1.07 }, { ...NEUTRAL, repetitionPenalty: 2.1, frequencyPenalty: 0.27 },
      { ...NEUTRAL, temperature: 1, frequencyPenalty: 2, repetitionPenalty: 1.5, seed: 4 },
    ];
    const logits = Float32Array.from(params.flatMap(() => TWELVE));
    const prompts = [[2, 2], [], [9], [0, 1]], texts = [[9], [], [2, 2], [4]];
    const biases: Record<number, number>[] = [{ 3: 1 }, { 2: -Infinity }, {}, { 5: 2 }];
    const slots = [4, 0, 2, 1];
    const counts = new Uint32Array(5 * vocab), bias = new Float32Array(5 * vocab);
    params.forEach((_, i) => {
      counts.set(packCounts(vocab, prompts[i]!, texts[i]!), slots[i]! * vocab);
      bias.set(packBias(vocab, biases[i]!), slots[i]! * vocab);
    });
    const batchRows = params.map((_, i) => ({ id: 0, position: 10 * i, sequence: slots[i]!, offset: 0 }));
    const batch = { tensor: await put(gpu, [batchWords(rows)], layOutBatch(rows, batchRows, 1, [0, 1, 2, 3]).words, "u32"), rows };
    const tensors = {
      logits: await put(gpu, [4, vocab], logits), sampling: await put(gpu, [4, SAMPLING_WORDS], packSampling(params, 4), "u32"),
      sampled: await put(gpu, [1, rows], null, "u32", "sampled"),
    };
    const adjust = { counts: await put(gpu, [5, vocab], counts, "u32", "counts"), bias: await put(gpu, [5, vocab], bias) };
    await dispatch(gpu, (recorder) => {
      for (let step = 0; step < steps; step++) sample(recorder, { ...tensors, batch, adjust }, { feedback: true });
    }, { rows: 4 });
    const last = params.map((each, i) => {
      const own = { counts: row(counts, slots[i]!, vocab), bias: row(bias, slots[i]!, vocab) };
      let token = 0;
      for (let step = 0; step < steps; step++) {
        const drawn = twin.sample(TWELVE.map(Math.fround), each, 10 * i + 1 + step, own);
        assert.ok(drawn.margin > 1e-5, `row ${i}, step ${step}: too close to call`);
        own.counts[token = drawn.token]!++;
      }
      return token;
    });
    near(await takeU32(gpu, adjust.counts), counts, {}, "counts", vocab);
    near((await takeU32(gpu, tensors.sampled)).subarray(0, 4), last, {}, "sampled");
    release(gpu, batch.tensor, ...Object.values(tensors), ...Object.values(adjust));
  });

  test(`sample, adjusted, ${gpu.family}: a token does not depend on the rest of the batch, its place in it or its slot`, async () => {
    const [vocab, count] = [12, 40];
    const params = Array.from({ length: count }, (_, seed) => ({ ...KINDS[seed % KINDS.length], temperature: 1.5, topP: 0.95, topK: 0, seed }));
    const logits = numbers(count * vocab, 21, 0.3);
    const counts = someCounts(count, vocab, 22), bias = someBias(count, vocab, 23);
    const one = async (order: readonly number[], slots: readonly number[]): Promise<Uint32Array> => {
      const gather = <T extends Float32Array | Uint32Array>(from: T, into: T, at: (i: number) => number): T => {
        order.forEach((index, i) => into.set(row(from, index, vocab), at(i) * vocab));
        return into;
      };
      return draw(gpu, {
        logits: gather(logits, new Float32Array(order.length * vocab), (i) => i), params: order.map((i) => params[i]!), positions: order.map((i) => i * 3), vocab,
        adjust: {
          slots, counts: gather(counts, new Uint32Array(count * vocab), (i) => slots[i]!),
          bias: gather(bias, new Float32Array(count * vocab), (i) => slots[i]!),
        },
      });
    };
    const all = Array.from({ length: count }, (_, i) => i);
    const together = await one(all, all);
    for (const order of [shuffled(count, 31), shuffled(count, 32).slice(0, 7), [13]]) {
      near(await one(order, shuffled(count, 33).slice(0, order.length)), order.map((i) => together[i]!), {}, "tokens");
    }
    assert.ok(new Set(together).size >= 6);
  });

  test(`sample, adjusted, ${gpu.family}: ${drawsOf(gpu)} seeds follow the twin's distribution under penalties, bias, top-p and min-p`, async () => {
    const params = Array.from({ length: drawsOf(gpu) }, (_, seed) => ({
      temperature: 1.2, topP: 0.97, topK: 0, minP: 0.2, repetitionPenalty: 1.4, presencePenalty: 0.3, frequencyPenalty: 0.2, seed: seed * 7919,
    }));
    const counts = packCounts(12, [2, 5, 9], [2, 2, 9, 4]), bias = packBias(12, { 1: 1.5, 2: 0.5, 6: -Infinity });
    const expected = twin.probabilities(TWELVE, params[0]!, { counts, bias });
    assert.ok(expected.filter((p) => p > 0).length > 5 && expected.filter((p) => p === 0).length > 2);
    const whole = (values: ArrayLike<number>): number[] => params.flatMap(() => Array.from(values));
    const tokens = await draw(gpu, {
      logits: Float32Array.from(whole(TWELVE)), params, positions: params.map(() => 5), vocab: 12,
      adjust: { counts: Uint32Array.from(whole(counts)), bias: Float32Array.from(whole(bias)), slots: params.map((_, i) => i) },
    });
    checkDistribution(tokens, expected);
  });
}

test.run();
