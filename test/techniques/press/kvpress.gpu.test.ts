/**
 * What kvpress keeps of a real layer is kept here: layer 1 of the bundled tiny-qwen2 over a passage of Persuasion, for every scorer and
 * ratio of test/fixtures/make_press_goldens.py. What of its keys, values and queries the scorers see stands in test/fixtures/press too.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../../engine/gpu.ts";
import type { LayerState, PressStage } from "../../../models/press.ts";
import { expectedAttentionStage } from "../../../techniques/press/expected_attention.ts";
import { keydiffStage } from "../../../techniques/press/keydiff.ts";
import { knormStage } from "../../../techniques/press/knorm.ts";
import { lagkvStage } from "../../../techniques/press/lagkv.ts";
import { observedAttentionStage } from "../../../techniques/press/observed_attention.ts";
import { pyramidkvStage } from "../../../techniques/press/pyramidkv.ts";
import { snapkvStage } from "../../../techniques/press/snapkv.ts";
import { streamingLlmStage } from "../../../techniques/press/streaming_llm.ts";
import { tovaStage } from "../../../techniques/press/tova.ts";
import { best, scoresOf, type Layer } from "./dense_layer.ts";

// In the family of this adapter: scores.gpu.test.ts holds the other one to the same twins.
const gpu = await Gpu.open();
test.after(() => { gpu.close(); });

const LAYER = 1;
/**
 * Scores that differ by less, of their size, may change places: kvpress computed in double precision, and its layer stands here in single.
 */
const TIE = 1e-5;
const STAGES = {
  knorm: knormStage, streaming_llm: streamingLlmStage, keydiff: keydiffStage, lagkv: lagkvStage, tova: tovaStage, snapkv: snapkvStage,
  pyramidkv: pyramidkvStage, expected_attention: expectedAttentionStage, observed_attention: observedAttentionStage,
} as const;

interface Golden { readonly spec: { readonly name: string; readonly ratio: number }; readonly kept: readonly (readonly (readonly number[])[])[] }

const fixture = (name: string): Buffer => readFileSync(new URL(`../../fixtures/press/${name}`, import.meta.url));
const { ids, cases } = JSON.parse(fixture("kvpress_tiny_qwen2.json").toString()) as { ids: readonly number[]; cases: readonly Golden[] };

function readLayer(): Layer {
  const shapes = JSON.parse(fixture("layer1.json").toString()) as Record<string, readonly number[]>;
  const bytes = fixture("layer1.f32");
  let at = 0;
  const parts = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const part = new Float32Array(bytes.buffer.slice(bytes.byteOffset + at, bytes.byteOffset + at + 4 * count));
    at += 4 * count;
    return [name, part];
  })) as Record<"keys" | "values" | "queries" | "queryStats" | "attention", Float32Array>;
  assert.is(at, bytes.length);
  const [kvHeads, headDim, tokens] = shapes["keys"] as [number, number, number];
  const columns = Math.ceil(tokens / 64) * 64;
  const padded = (values: Float32Array): Float32Array => {
    const all = new Float32Array(values.length / tokens * columns);
    for (let row = 0; row < values.length / tokens; row++) all.set(values.subarray(row * tokens, (row + 1) * tokens), row * columns);
    return all;
  };
  const keys = padded(parts.keys);
  const norms = Float32Array.from({ length: kvHeads * columns }, (_, i) => {
    const first = Math.floor(i / columns) * headDim * columns + i % columns;
    return Math.hypot(...Array.from({ length: headDim }, (_, d) => keys[first + d * columns]!));
  });
  return {
    heads: shapes["queryStats"]![0]!, kvHeads, headDim, columns, lengths: new Array<number>(kvHeads).fill(tokens), keys, values: padded(parts.values),
    queries: parts.queries, queryStats: parts.queryStats, queryCount: tokens - 4, attention: padded(parts.attention), norms,
    positions: Uint32Array.from({ length: kvHeads * columns }, (_, i) => i % columns),
    frequencies: Array.from({ length: headDim / 2 }, (_, i) => 10_000 ** (-2 * i / headDim)),
  };
}

const layer = readLayer();
const state: LayerState = {
  prompt: ids.length, seen: ids.length, length: ids.length, acted: 0, layer: LAYER, layers: cases[0]!.kept.length, kvHeads: layer.kvHeads,
};
/** The statistics of the fixture begin behind 4 sinks. */
const scorers = cases.filter(({ spec }) => spec.name in STAGES && ((spec as { sinks?: number }).sinks ?? 4) === 4);

test("kvpress: there is a golden of every scorer at two ratios", () => {
  for (const name of Object.keys(STAGES)) assert.ok(scorers.filter(({ spec }) => spec.name === name).length >= 2, name);
});

for (const name of Object.keys(STAGES) as (keyof typeof STAGES)[]) {
  test(`${name}: keeps of a real layer what kvpress keeps`, async () => {
    for (const { spec, kept } of scorers.filter((golden) => golden.spec.name === name)) {
      const stage: PressStage = STAGES[name](spec);
      const keep = stage.keep(state);
      const scores = await scoresOf(gpu, stage, layer, state);
      kept[LAYER]!.forEach((theirs, head) => {
        assert.is(keep, theirs.length, JSON.stringify(spec));
        const ours = best(scores[head]!, keep as number), row = scores[head]!;
        const [more, fewer] = [ours.filter((entry) => !theirs.includes(entry)), theirs.filter((entry) => !ours.includes(entry))];
        const cut = Math.min(...ours.map((entry) => row[entry]!));
        const apart = [...more, ...fewer].filter((entry) => Math.abs(row[entry]! - cut) > TIE * Math.abs(cut));
        assert.equal(apart, [], `${JSON.stringify(spec)}, head ${head}: ${more.join()} is kept and not ${fewer.join()}`);
      });
    }
  });
}

test.run();
