/**
 * Every scorer against its twin in double precision, in both families: lengths around subgroups and workgroups, heads of unlike length, a
 * group, partial rotation.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { expectedAttentionStage } from "../../../techniques/press/expected_attention.ts";
import { keydiffStage } from "../../../techniques/press/keydiff.ts";
import { knormStage } from "../../../techniques/press/knorm.ts";
import { lagkvStage } from "../../../techniques/press/lagkv.ts";
import { observedAttentionStage } from "../../../techniques/press/observed_attention.ts";
import { randomStage } from "../../../techniques/press/random.ts";
import * as twin from "../../../techniques/press/reference.ts";
import { snapkvStage } from "../../../techniques/press/snapkv.ts";
import { streamingLlmStage } from "../../../techniques/press/streaming_llm.ts";
import { tovaStage } from "../../../techniques/press/tova.ts";
import type { LayerState, PressStage } from "../../../models/press.ts";
import { near, openFamilies, type Tolerance } from "../../support/gpu.ts";
import { best, makeLayer, scoresOf, type Layer } from "./dense_layer.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const WINDOW = 13;
/** More tokens were read than are left. */
const STATE: Partial<LayerState> = { prompt: 2600, seen: 2600, layer: 3, acted: 2 };

interface Scorer { readonly name: string; readonly stage: PressStage; readonly twin: (layer: Layer) => twin.Scores; readonly tolerance?: Tolerance }

const expected = { futurePositions: 9, sinks: 3, covariance: true, valueNorm: true, epsilon: 0.01 };
const bare = { futurePositions: 1, sinks: 0, covariance: false, valueNorm: false, epsilon: 0 };
const expectedTwin = (options: typeof expected) => (layer: Layer) => twin.expectedAttentionScores(layer, { ...layer, ...options, seen: 2600 });
const lastQuery = (layer: Layer): Layer => ({ ...layer, queries: Array.from(layer.queries).slice(-layer.heads * layer.headDim) });

const SCORERS: readonly Scorer[] = [
  { name: "knorm", stage: knormStage(), twin: (layer) => twin.knormScores(layer, layer.norms), tolerance: {} },
  { name: "random", stage: randomStage({ seed: 0xfedcba98 }), twin: (layer) => twin.randomScores(layer, { seed: 0xfedcba98, layer: 3, acted: 2 }), tolerance: {} },
  { name: "streaming_llm", stage: streamingLlmStage({ sinks: 5 }), twin: (layer) => twin.streamingLlmScores(layer, { sinks: 5 }), tolerance: {} },
  { name: "observed_attention", stage: observedAttentionStage(), twin: (layer) => twin.observedAttentionScores(layer, { ...layer, seen: 2600 }) },
  { name: "keydiff", stage: keydiffStage(), twin: twin.keydiffScores, tolerance: { absolute: 1e-6 } },
  { name: "lagkv", stage: lagkvStage({ sinks: 3, lagSize: 12 }), twin: (layer) => twin.lagkvScores(layer, { sinks: 3, lagSize: 12, crossScoring: false }), tolerance: { absolute: 1e-7 } },
  {
    name: "lagkv, cross scoring", stage: lagkvStage({ sinks: 0, lagSize: 12, crossScoring: true }),
    twin: (layer) => twin.lagkvScores(layer, { sinks: 0, lagSize: 12, crossScoring: true }), tolerance: { relative: 2e-5 },
  },
  { name: "tova", stage: tovaStage(), twin: (layer) => twin.windowScores(lastQuery(layer), { window: 1, kernel: 1, allHeads: true }) },
  { name: "snapkv", stage: snapkvStage({ window: WINDOW, kernel: 5 }), twin: (layer) => twin.windowScores(layer, { window: WINDOW, kernel: 5, allHeads: false }) },
  { name: "expected_attention", stage: expectedAttentionStage(expected), twin: expectedTwin(expected), tolerance: { relative: 3e-5, absolute: 1e-8 } },
  { name: "expected_attention, mean only", stage: expectedAttentionStage(bare), twin: expectedTwin(bare) },
];

/** Without a tolerance of its own a score may be off by 1e-5 of itself, and by 1e-9 where it is as good as nothing. */
const TOLERANCE = { relative: 1e-5, absolute: 1e-9 };

const RAGGED = { heads: 4, kvHeads: 2, headDim: 80, columns: 192, window: WINDOW, frequencies: 8 };
const LONG = { heads: 3, kvHeads: 1, headDim: 20, columns: 2048, window: WINDOW, frequencies: 10 };

for (const gpu of gpus) {
  for (const scorer of SCORERS) {
    test(`${scorer.name}, ${gpu.family}: as its twin has it`, async () => {
      const layers = [
        ...[[1, 2], [63, 64], [65, 192], [14, 13]].map((lengths, i) => makeLayer({ ...RAGGED, lengths }, 10 * i + 1)),
        ...(gpu.family === "gpu" && gpu.adapter.software ? [] : [makeLayer({ ...LONG, lengths: [2048] }, 100)]),
      ];
      for (const layer of layers) {
        const [got, wanted] = [await scoresOf(gpu, scorer.stage, layer, STATE), scorer.twin(layer)];
        wanted.forEach((row, head) => { near(got[head]!, row, scorer.tolerance ?? TOLERANCE, `lengths ${Array.from(layer.lengths).join(", ")}, head ${head}`); });
      }
    });
  }
}

test("scores: fewer entries than are protected are the sinks and the newest", async () => {
  const gpu = gpus[0]!, layer = makeLayer({ ...RAGGED, lengths: [63, 64] }, 11);
  const run = (first: number, count: number): number[] => Array.from({ length: count }, (_, i) => first + i);
  for (const keep of [1, 2, 5, 12]) {
    for (const [stage, sinks] of [[snapkvStage({ window: WINDOW, kernel: 5 }), 0], [lagkvStage({ sinks: 3, lagSize: 12 }), 3], [streamingLlmStage({ sinks: 5 }), 5]] as const) {
      const scores = await scoresOf(gpu, stage, layer, STATE);
      scores.forEach((row, head) => {
        const first = Math.min(keep, sinks), newest = keep - first;
        assert.equal(best(row, keep), [...run(0, first), ...run(row.length - newest, newest)], `head ${head}, ${keep} kept`);
        assert.ok(stage.newest(keep) <= newest);
      });
    }
  }
});

test.run();
