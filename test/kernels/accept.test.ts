/** The twin of accept by hand: greedy and certain cases, its law over seeds, and the number of tokens that a known α promises. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { accept, law } from "../../kernels/reference/accept.ts";
import { sample } from "../../kernels/reference/sample.ts";
import { IN_PROMPT, NO_TOKEN, packCounts, type SamplingParams } from "../../kernels/sample.ts";
import { near } from "../support/gpu.ts";
import { checkDistribution } from "../support/sampling.ts";
import { expectedTokens } from "./accept_case.ts";

const GREEDY: SamplingParams = { temperature: 0, topP: 1, topK: 0, seed: 3 };
const DRAWN: SamplingParams = { ...GREEDY, temperature: 1 };
const rows = [[0, 2, 1, 2], [5, 0, 0, 1], [0, 0, 1, 0]];

test("greedy accepts while equal to the likeliest, ties to the lowest id", () => {
  const verdict = (drafted: number[]) => accept({ rows, draftRows: null, drafted, position: 7, params: GREEDY });
  assert.equal(verdict([1, 0]), { accepted: 2, ids: [1, 0, 2], margin: Infinity });
  assert.equal(verdict([3, 0]), { accepted: 0, ids: [1], margin: Infinity });
  assert.equal(verdict([1, 3]), { accepted: 1, ids: [1, 0], margin: Infinity });
  assert.equal(verdict([]), { accepted: 0, ids: [1], margin: Infinity });
});

test("a drafted token counts as text in the rows behind it", () => {
  const adjust = { counts: packCounts(4, [2], []), bias: new Float32Array(4) };
  assert.is(adjust.counts[2], IN_PROMPT);
  const params = { ...GREEDY, presencePenalty: 3 };
  const same = [[0, 2, 1, 1.5], [0, 2, 1, 1.5], [0, 2, 1, 1.5]];
  assert.equal(accept({ rows: same, draftRows: null, drafted: [1, 3], position: 0, params, adjust }).ids, [1, 3, 2]);
  assert.equal(accept({ rows: same, draftRows: null, drafted: [1, 1], position: 0, params, adjust }).ids, [1, 3]);
});

test("p above q everywhere it is drafted accepts; equal laws accept; outside the target's top-k rejects and draws inside", () => {
  for (let seed = 0; seed < 200; seed++) {
    const params = { ...DRAWN, seed };
    const equal = accept({ rows, draftRows: rows, drafted: [3, 1], position: seed, params });
    assert.equal(equal.ids.slice(0, 2), [3, 1]);
    assert.is(equal.ids[2], sample(rows[2]!, params, seed + 3).token);
    const outside = accept({ rows, draftRows: null, drafted: [2], position: seed, params: { ...params, topK: 2 } });
    assert.is(outside.accepted, 0);
    assert.ok([1, 3].includes(outside.ids[0]!));
  }
});

test("rows that are not finite: no token from the target, a draw from p behind a broken draft", () => {
  for (const params of [GREEDY, DRAWN]) {
    const broken = accept({ rows: [rows[0]!, [0, NaN, 0, 0], rows[2]!], draftRows: rows, drafted: [1, 0], position: 0, params });
    assert.equal(broken.ids.at(-1), NO_TOKEN);
    assert.is(broken.ids.length, 2);
  }
  const draftless = accept({ rows, draftRows: [[0, 0, Infinity, 0]], drafted: [1], position: 0, params: DRAWN });
  assert.is(draftless.accepted, 0);
  assert.is(accept({ rows, draftRows: null, drafted: [NO_TOKEN], position: 0, params: DRAWN }).accepted, 0);
});

test("4,000 seeds: whatever is drafted, and whether as certain or from q, the first token follows p", () => {
  const params = { temperature: 0.8, topP: 0.95, topK: 4 };
  const target = [1, 0.2, -0.5, 0.7, -1], draft = [-0.2, 1.4, 0, 0.7, 0.3];
  const expected = law(target, { ...params, seed: 0 })!.probabilities;
  for (const draftRows of [[draft], null]) {
    const tokens = Uint32Array.from({ length: 4000 }, (_, seed) => {
      const d = draftRows === null ? 3 : sample(draft, { ...params, seed: (seed ^ 0x5bd1e995) >>> 0 }, 6).token;
      return accept({ rows: [target, target], draftRows, drafted: [d], position: 5, params: { ...params, seed } }).ids[0]!;
    });
    checkDistribution(tokens, expected);
  }
});

test("tokens of a round for a known α, as published and as the twin gives them", () => {
  const published = [[0.5, 3, 1.875], [0.6, 5, 2.3834], [0.7, 5, 2.9412], [0.8, 5, 3.6893], [0.8, 10, 4.5705], [0.9, 10, 6.8619]] as const;
  for (const [alpha, k, tokens] of published) near([expectedTokens(alpha, k)], [tokens], { absolute: 6e-5 }, `α = ${alpha}, K = ${k}`);
  const logits = [0.8, 0.05, 0.05, 0.05, 0.05].map(Math.log);
  let tokens = 0;
  for (let seed = 0; seed < 3000; seed++) {
    tokens += accept({ rows: Array<number[]>(6).fill(logits), draftRows: null, drafted: [0, 0, 0, 0, 0], position: 1, params: { ...DRAWN, seed } }).ids.length;
  }
  assert.ok(Math.abs(tokens / 3000 - 3.6893) < 0.12, `${tokens / 3000} tokens a round`); // the spread of one round is about 2
});

test.run();
