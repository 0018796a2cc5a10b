/**
 * The rules of the scorers without a GPU: when they act, how many entries they keep and which of them are surely the newest, names,
 * refusals; what pyramidkv's budgets come to.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../../engine/errors.ts";
import type { LayerState, Press } from "../../../models/press.ts";
import { expectedAttention, expectedAttentionStage } from "../../../techniques/press/expected_attention.ts";
import { keydiff } from "../../../techniques/press/keydiff.ts";
import { knorm, knormStage } from "../../../techniques/press/knorm.ts";
import { lagkv } from "../../../techniques/press/lagkv.ts";
import { observedAttention } from "../../../techniques/press/observed_attention.ts";
import { pyramidBudget, pyramidkv } from "../../../techniques/press/pyramidkv.ts";
import { random } from "../../../techniques/press/random.ts";
import { randomScores } from "../../../techniques/press/reference.ts";
import { snapkv, snapkvStage } from "../../../techniques/press/snapkv.ts";
import { streamingLlm } from "../../../techniques/press/streaming_llm.ts";
import { tova, tovaStage } from "../../../techniques/press/tova.ts";

const state = (changes: Partial<LayerState> = {}): LayerState => ({ prompt: 100, seen: 100, length: 100, acted: 0, layer: 0, layers: 4, kvHeads: 2, ...changes });
const MODEL = { heads: 4, kvHeads: 2, headDim: 8, frequencies: [1, 0.1] };

const PRESSES: readonly [press: Press, name: string, newest: (kept: number) => number][] = [
  [knorm({ ratio: 0.9 }), "knorm(0.9)", () => 0],
  [random({ ratio: 0.9, seed: 7 }), "random(0.9, seed 7)", () => 0],
  [streamingLlm({ ratio: 0.9 }), "streaming_llm(0.9, sinks 4)", (kept) => Math.max(0, kept - 4)],
  [keydiff({ ratio: 0.9 }), "keydiff(0.9)", () => 0],
  [lagkv({ ratio: 0.9, lagSize: 8 }), "lagkv(0.9, sinks 4, lagSize 8)", (kept) => Math.max(0, Math.min(8, kept - 4))],
  [lagkv({ ratio: 0.9, sinks: 0, crossScoring: true }), "lagkv(0.9, sinks 0, lagSize 128, cross scoring)", (kept) => Math.min(128, kept)],
  [tova({ ratio: 0.9 }), "tova(0.9)", (kept) => Math.min(1, kept)],
  [snapkv({ ratio: 0.9 }), "snapkv(0.9, window 64, kernel 5)", (kept) => Math.min(64, kept)],
  [pyramidkv({ ratio: 0.9, window: 16, kernel: 3 }), "pyramidkv(0.9, window 16, kernel 3, beta 20)", (kept) => Math.min(16, kept)],
  [expectedAttention({ ratio: 0.9 }), "expected_attention(0.9, futurePositions 512, sinks 4)", () => 0],
  [expectedAttention({ ratio: 0.9, covariance: false, valueNorm: false, epsilon: 0.01 }), "expected_attention(0.9, futurePositions 512, sinks 4, no covariance, no value norm, epsilon 0.01)", () => 0],
  [observedAttention({ ratio: 0.9 }), "observed_attention(0.9)", () => 0],
];

for (const [press, name, newest] of PRESSES) {
  test(`${name}: acts once behind the prompt and says what it keeps`, () => {
    assert.is(press.name, name);
    assert.is(press.positions, "original");
    assert.is(press.stages.length, 1);
    assert.is(press.ragged, name.startsWith("pyramidkv"));
    press.check({ layers: 2, heads: 4, kvHeads: 2, headDim: 8 });
    assert.is(press.next({ prompt: 100, seen: 0, length: 0, acted: 0 }), 100);
    assert.is(press.next({ prompt: 100, seen: 120, length: 120, acted: 0 }), 120);
    assert.is(press.next({ prompt: 100, seen: 100, length: 10, acted: 1 }), null);
    const stage = press.stages[0]!;
    assert.is(stage.keep(state()), 10);
    for (const kept of [0, 1, 3, 4, 5, 12, 13, 64, 65, 1000]) assert.is(stage.newest(kept), newest(kept), `newest of ${kept}`);
    assert.is(stage.params(state({ prompt: 2000, seen: 2000 }), MODEL).length, stage.paramCount);
  });
}

test("scorers: a stage without a ratio keeps everything", () => {
  for (const stage of [knormStage(), snapkvStage(), tovaStage(), expectedAttentionStage()]) assert.is(stage.keep(state({ length: 41 })), 41);
  assert.is(pyramidkv({ ratio: 0 }).stages[0]!.keep(state({ length: 41, layer: 3 })), 41);
});

test("scorers: a window longer than the prompt is refused before anything runs", () => {
  const short = { prompt: 40, seen: 0, length: 0, acted: 0 };
  const refused: [run: () => unknown, message: RegExp][] = [
    [() => snapkv({ ratio: 0.5 }).next(short), /^snapkv needs more than 64 tokens, the prompt has 40: /],
    [() => snapkv({ ratio: 0.5, window: 40 }).next(short), /^snapkv needs more than 40 tokens, the prompt has 40: /],
    [() => pyramidkv({ ratio: 0.5 }).next(short), /^pyramidkv needs more than 64 tokens, the prompt has 40: /],
    [() => tova({ ratio: 0.5 }).next({ ...short, prompt: 1 }), /^tova needs more than 1 tokens, the prompt has 1: /],
    [() => expectedAttention({ ratio: 0.5 }).next({ ...short, prompt: 4 }), /^expected_attention needs more than 4 tokens, the prompt has 4: /],
    [() => snapkvStage().params(state({ prompt: 8, seen: 20, acted: 1 }), MODEL), /^snapkv needs more than 64 tokens, 20 have been read: /],
    [() => snapkv({ ratio: 0.5, kernel: 4 }), /^snapkv: kernel must be odd.*not 4$/],
    [() => pyramidkv({ ratio: 0.5, kernel: 4 }), /^pyramidkv: kernel must be odd.*not 4$/],
    [() => snapkv({ ratio: 0.5, window: 0 }), /^snapkv: window must be an integer of at least 1, not 0$/],
    [() => pyramidkv({ ratio: 0.5, beta: 0.5 }), /^pyramidkv: beta .* at least 1, not 0.5$/],
    [() => lagkv({ ratio: 0.5, lagSize: 1.5 }), /^lagkv: lagSize must be an integer of at least 1, not 1.5$/],
    [() => streamingLlm({ ratio: 0.5, sinks: -1 }), /^streaming_llm: sinks must be an integer of at least 0, not -1$/],
    [() => expectedAttention({ ratio: 0.5, futurePositions: 0 }), /^expected_attention: futurePositions must be an integer of at least 1, not 0$/],
    [() => expectedAttention({ ratio: 0.5, epsilon: NaN }), /^expected_attention: epsilon .*not NaN$/],
    [() => random({ ratio: 0.5, seed: -1 }), /^random: seed must be .*not -1$/],
    [() => knorm({ ratio: 1 }), /^knorm: ratio is the share of entries to evict, at least 0 and below 1, not 1$/],
  ];
  for (const [run, message] of refused) {
    assert.throws(run, (error: unknown) => error instanceof UsageError && message.test(error.message), String(message));
  }
  // What evicts nothing needs nothing.
  assert.is(snapkv({ ratio: 0 }).next(short), 40);
  assert.is(snapkv({ ratio: 0.5, window: 39 }).next(short), 40);
});

test("pyramidkv: budgets are those of kvpress, and their mean is the ratio", () => {
  const { ids, cases } = JSON.parse(readFileSync(new URL("../../fixtures/press/kvpress_tiny_qwen2.json", import.meta.url), "utf8")) as {
    ids: number[]; cases: { spec: { name: string; ratio: number; window?: number; beta?: number }; kept: number[][][] }[];
  };
  const pyramids = cases.filter(({ spec }) => spec.name === "pyramidkv");
  assert.is(pyramids.length, 4);
  for (const { spec, kept } of pyramids) {
    const stage = pyramidkv(spec).stages[0]!;
    assert.equal(kept.map((_, layer) => stage.keep(state({ length: ids.length, layer, layers: kept.length }))), kept.map(([head]) => head!.length), JSON.stringify(spec));
  }
  const budgets = (length: number, layers: number, options: { ratio: number; window: number; beta: number }): number[] => (
    Array.from({ length: layers }, (_, layer) => pyramidBudget({ length, layer, layers }, options)));
  // By hand: n = 100, window 8: 50 on average, from 92 (which beta would have made 95) down to 8.
  assert.equal(budgets(100, 4, { ratio: 0.5, window: 8, beta: 10 }), [92, 64, 36, 8]);
  assert.equal(budgets(100, 4, { ratio: 0.5, window: 8, beta: 2 }), [75, 58, 42, 25]); // 58.33 and 41.67
  assert.equal(budgets(100, 4, { ratio: 0.9, window: 8, beta: 20 }), [10, 10, 10, 10]); // the last layer would keep less than the window
  assert.equal(budgets(10, 2, { ratio: 0.25, window: 2, beta: 1 }), [8, 8]); // 7.5 to the even number, in doubles and here
  assert.equal(budgets(10, 2, { ratio: 0.15, window: 2, beta: 1 }), [8, 8]); // 8.5
  assert.equal(budgets(100, 1, { ratio: 0.5, window: 8, beta: 10 }), [50]);
  assert.equal(budgets(3, 4, { ratio: 0.99, window: 8, beta: 10 }), [1, 1, 1, 1]);
  const many = budgets(1000, 24, { ratio: 0.6, window: 32, beta: 5 });
  assert.is(Math.round(many.reduce((a, b) => a + b) / 24), 400);
});

test("random: uniform, and another choice for another seed, layer, head or act", () => {
  const of = (seed: number, layer: number, acted: number): Float64Array[] => [...randomScores({ lengths: [4000, 4000] }, { seed, layer, acted })];
  const streams = [...of(0, 0, 0), ...of(1, 0, 0), ...of(0, 1, 0), ...of(0, 0, 1)];
  const centred = streams.map((stream) => stream.map((value) => (value - 0.5) * Math.sqrt(12)));
  for (const [i, a] of centred.entries()) {
    assert.ok(Math.abs(a.reduce((sum, value) => sum + value) / 4000) < 4 / Math.sqrt(4000), `mean of stream ${i}`);
    assert.ok(streams[i]!.every((value) => value >= 0 && value < 1));
    for (const [j, b] of centred.entries()) {
      const correlation = a.reduce((sum, value, k) => sum + value * b[k]!, 0) / 4000;
      if (i !== j) assert.ok(Math.abs(correlation) < 5 / Math.sqrt(4000), `streams ${i} and ${j}: ${correlation}`);
    }
  }
});

test.run();
