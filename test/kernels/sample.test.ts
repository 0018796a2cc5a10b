/** What the host packs for the sampler, what it unpacks of log-probabilities, and the twin's distribution against the definitions. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { LOGPROB_WORDS, unpackLogprobs } from "../../kernels/logprobs.ts";
import { adjusted, probabilities } from "../../kernels/reference/sample.ts";
import { IN_PROMPT, NO_TOKEN, packBias, packCounts, packSampling, SAMPLING_WORDS } from "../../kernels/sample.ts";
import { near, numbers } from "../support/gpu.ts";
import { softmax } from "../support/sampling.ts";

test("parameters left out are neutral, and min-p is packed as the distance it keeps, without a sign", () => {
  const words = packSampling([
    { temperature: 0.5, topP: 1, topK: 3, seed: 9 },
    { temperature: 1, topP: 1, topK: 0, seed: 0, minP: 1, repetitionPenalty: 1e-300, logprobs: 0 },
  ], 3);
  const floats = new Float32Array(words.buffer);
  assert.is(words.length, 3 * SAMPLING_WORDS);
  assert.equal([...words.subarray(2, 4), ...words.subarray(8, 12)], [3, 9, 0, 0, 0, 0]);
  assert.equal([floats[0], floats[1], ...floats.subarray(4, 8)], [0.5, 1, Math.fround(3.4028234663852886e38), 1, 0, 0]);
  const second = SAMPLING_WORDS;
  assert.is(words[second + 4], 0, "−log 1 is +0 in bits");
  assert.ok(floats[second + 5]! > 0, "a penalty that f32 cannot hold does not become 0");
  assert.is(words[second + 8], 1, "none of the likeliest, but the token itself");
});

test("counts hold prompt and text apart; ids outside the vocabulary are errors", () => {
  assert.equal([...packCounts(5, [1, 1, 3], [3, 4, 3])], [0, IN_PROMPT, 0, IN_PROMPT + 2, 1]);
  assert.equal([...packBias(4, { 0: -Infinity, 2: 1.5 })], [-Infinity, 0, 1.5, 0]);
  for (const id of [5, -1, 0.5]) {
    assert.throws(() => packCounts(5, [id], []), /is not one of a vocabulary of 5/);
    assert.throws(() => packCounts(5, [], [id]), /is not one of a vocabulary of 5/);
    assert.throws(() => packBias(5, { [id]: 1 }), /is not one of a vocabulary of 5/);
  }
});

test("log-probabilities are unpacked from a view with an offset; entries past the vocabulary are left out", () => {
  const buffer = new ArrayBuffer(4 * (3 + 2 * LOGPROB_WORDS));
  const words = new Uint32Array(buffer, 12), floats = new Float32Array(buffer, 12);
  words.fill(NO_TOKEN);
  floats[LOGPROB_WORDS] = -1.5;
  words.set([4, 7], LOGPROB_WORDS + 1);
  floats[LOGPROB_WORDS + 3] = -0.25;
  assert.equal(unpackLogprobs(words, LOGPROB_WORDS, 3), { logprob: -1.5, rank: 4, top: [{ id: 7, logprob: -0.25 }] });
  assert.equal(unpackLogprobs(words, LOGPROB_WORDS, 0).top, []);
});

test("penalties and bias in order: repetition on prompt and text, frequency and presence on the text, then the bias", () => {
  const params = { temperature: 0, topP: 1, topK: 0, seed: 0, repetitionPenalty: 2, presencePenalty: 0.5, frequencyPenalty: 0.25 };
  const counts = [0, IN_PROMPT, 2, IN_PROMPT + 1, IN_PROMPT, 3], bias = [1, 0, 0, 3, -1, -Infinity];
  assert.equal(adjusted([4, 4, 4, -4, -4, 9], params, { counts, bias }), [5, 2, 1, -5.75, -9, -Infinity]);
});

test("the twin's thresholds give the distribution that sorting by probability gives", () => {
  for (let i = 0; i < 60; i++) {
    const logits = [...numbers(40, i, 2)].map((value, token) => value + token * 1e-6); // no ties
    const params = { temperature: [0.5, 1, 2][i % 3]!, topK: [0, 1, 10][i % 4 % 3]!, topP: [1, 0.9, 0.4][i % 5 % 3]!, minP: [0, 0.03, 0.5, 1][i % 4]!, seed: 0 };
    near(probabilities(logits, params), softmax(logits, params), { absolute: 1e-12 }, JSON.stringify(params));
  }
});

test.run();
