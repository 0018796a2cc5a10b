/** adakv, chunk and chunkkv on the GPU, around a scorer whose scores are given, against scalar references. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { adakv, safeOf } from "../../../techniques/press/adakv.ts";
import { chunk } from "../../../techniques/press/chunk.ts";
import { chunkkv } from "../../../techniques/press/chunkkv.ts";
import { decoding } from "../../../techniques/press/decoding.ts";
import { best, fakePress, fakeScores, layerOf, marked, scoresOf } from "../../support/fake_stage.ts";
import { keydiff } from "../../../techniques/press/keydiff.ts";
import { lagkv } from "../../../techniques/press/lagkv.ts";
import { observedAttention } from "../../../techniques/press/observed_attention.ts";
import { streamingLlm } from "../../../techniques/press/streaming_llm.ts";
import { openFamilies, uniform } from "../../support/gpu.ts";
import { best as bestOf, makeLayer, scoresOf as scoresOfLayer, type Layer } from "./dense_layer.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const HEADS = 3;
const COLUMNS = 128;
const half = (length: number): number => Math.floor(length / 2);
const quarter = (length: number): number => Math.floor(length / 4);

/** Few different values, so that there are ties; heads of different scale, so that budgets differ. */
function norms(lengths: readonly number[], seed: number): number[][] {
  const random = uniform(seed);
  return lengths.map((length, head) => Array.from({ length }, () => Math.floor(random() * 40) / 8 + head * head));
}

/** The reference: each head's best, then the best of all by score, head and index. */
function adakvKept(heads: readonly (readonly number[])[], total: number, safe: number): number[][] {
  const lifted = heads.map((scores) => {
    const sure = new Set(best(scores, safe));
    return scores.map((score, index) => (sure.has(index) ? Infinity : score));
  });
  const all = lifted.flatMap((scores, head) => scores.map((score, index) => ({ score, head, index })));
  // Infinity − Infinity is no order.
  all.sort((a, b) => (a.score === b.score ? a.head - b.head || a.index - b.index : b.score > a.score ? 1 : -1));
  return lifted.map((_, head) => all.slice(0, total).filter((each) => each.head === head).map(({ index }) => index).sort((a, b) => a - b));
}

/** Entries first … end − 1 of every head of a layer, as a layer of their own. */
function part(layer: Layer, first: number, end: number): Layer {
  const columns = 64;
  const cut = <T extends ArrayLike<number>>(whole: T): Float32Array => Float32Array.from({ length: whole.length / layer.columns * columns }, (_, i) => (
    whole[Math.floor(i / columns) * layer.columns + first + i % columns] ?? 0
  ));
  return {
    ...layer, columns, lengths: Array.from(layer.lengths, () => end - first), keys: cut(layer.keys), values: cut(layer.values), norms: cut(layer.norms),
    attention: cut(layer.attention), positions: Uint32Array.from(cut(layer.positions)),
  };
}

for (const gpu of gpus) {
  for (const alpha of [0, 0.2, 1]) {
    test(`adakv, ${gpu.family}: alpha ${alpha} keeps what the reference keeps`, async () => {
      const stage = adakv({ press: fakePress({ keep: quarter }), alpha }).stages[0]!;
      for (const lengths of [[90, 90, 90], [10, 128, 40], [4, 4, 4]]) {
        const given = norms(lengths, 3 * lengths[1]! + lengths[0]!);
        const longest = Math.max(...lengths);
        const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
        assert.equal(kept, adakvKept(given, quarter(longest) * HEADS, Math.max(1, Math.floor(quarter(longest) * alpha))));
        assert.is(stage.keep(layerOf(longest)), "marked");
      }
    });
  }

  test(`adakv, ${gpu.family}: a head's own share outweighs protected entries of others`, async () => {
    const stage = adakv({ press: fakePress({ keep: () => 10 }), alpha: 0.5 }).stages[0]!;
    const given = [new Array<number>(60).fill(3.4e38), new Array<number>(60).fill(1), new Array<number>(60).fill(-1)];
    const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
    assert.equal(kept.map(({ length }) => length), [20, 5, 5]);
  });

  test(`decoding around adakv, ${gpu.family}: the target holds on average over the heads`, async () => {
    const stage = decoding({ press: adakv({ press: fakePress({ keep: half }) }), every: 10, target: 30 }).stages[0]!;
    const given = norms([60, 28, 80], 5);
    const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
    assert.equal(kept, adakvKept(given, 30 * HEADS, 6));
  });

  for (const size of [8, 200]) {
    test(`chunk, ${gpu.family}: chunks of ${size} are scored and cut each for itself`, async () => {
      // The scorer's mean, sign and number of entries all depend on the length it is told: a chunk must look like a whole sequence.
      const stage = chunk({ press: fakePress({ keep: (length) => Math.max(1, half(length)), mean: true, signed: true }), chunk: size }).stages[0]!;
      for (const length of [1, 8, 67, 128]) {
        const given = norms(new Array<number>(HEADS).fill(length), length);
        const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
        const expected = given.map((head) => Array.from({ length: Math.ceil(length / size) }, (_, c) => {
          const part = head.slice(c * size, (c + 1) * size);
          return best(fakeScores(part, { mean: true, negated: part.length % 2 === 1 }), Math.max(1, half(part.length))).map((index) => index + c * size);
        }).flat());
        assert.equal(kept, expected, `${length} entries`);
        assert.is(stage.keep(layerOf(length)), expected[0]!.length);
      }
    });
  }

  test(`chunk, ${gpu.family}: real scorers choose in a chunk what they choose when it stands alone`, async () => {
    const size = 29;
    const layer = makeLayer({ heads: 4, kvHeads: 2, headDim: 16, columns: 128, lengths: [101, 101], window: 1, frequencies: 4 }, 3);
    for (const press of [keydiff({ ratio: 0.5 }), lagkv({ ratio: 0.5, sinks: 2, lagSize: 6 }), streamingLlm({ ratio: 0.5, sinks: 3 }), observedAttention({ ratio: 0.5 })]) {
      const read = { prompt: 150, seen: 150 };
      const kept = (await scoresOfLayer(gpu, chunk({ press, chunk: size }).stages[0]!, layer, read)).map((scores) => marked([...scores]));
      const expected: number[][] = [[], []];
      for (let first = 0; first < 101; first += size) {
        const end = Math.min(101, first + size);
        const scores = await scoresOfLayer(gpu, press.stages[0]!, part(layer, first, end), read);
        scores.forEach((own, head) => expected[head]!.push(...bestOf(own, press.stages[0]!.keep(layerOf(end - first)) as number).map((index) => index + first)));
      }
      assert.equal(kept, expected, press.name);
      if (!press.name.startsWith("streaming_llm")) assert.not.equal(kept[0], kept[1], "heads choose for themselves");
    }
  });

  test(`chunkkv, ${gpu.family}: whole chunks by their mean over heads; a short text is left to the scorer`, async () => {
    const stage = chunkkv({ press: fakePress({ keep: (length) => Math.max(1, half(length)) }), chunk: 20 }).stages[0]!;
    for (const length of [20, 33, 90, 128]) {
      const given = norms(new Array<number>(HEADS).fill(length), length);
      const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
      const chunks = Array.from({ length: Math.ceil(length / 20) }, (_, c) => given.flatMap((head) => head.slice(c * 20, (c + 1) * 20)));
      const means = chunks.map((scores) => scores.reduce((sum, score) => sum + score, 0) / scores.length);
      const stay = new Set(best(means, Math.max(1, half(chunks.length))));
      const expected = Array.from({ length }, (_, index) => index).filter((index) => stay.has(Math.floor(index / 20)));
      assert.equal(kept, given.map(() => expected), `${length} entries`);
    }
    const short = norms([19, 19, 19], 7);
    assert.equal(await scoresOf(gpu, stage, short, COLUMNS), short);
    assert.is(stage.keep(layerOf(19)), 9);
    assert.is(stage.keep(layerOf(20)), 20, "one chunk is all there is");
    assert.is(stage.keep(layerOf(90)), "marked");
  });

  test(`chunkkv, ${gpu.family}: protected scores near the end of f32 do not overflow`, async () => {
    const stage = chunkkv({ press: fakePress({ keep: () => 1 }), chunk: 20 }).stages[0]!;
    const given = Array.from({ length: HEADS }, () => Array.from({ length: 60 }, (_, i) => (i >= 40 ? 3.4e38 : i >= 20 ? 3.3e38 : 5)));
    const kept = (await scoresOf(gpu, stage, given, COLUMNS)).map(marked);
    assert.equal(kept[2], Array.from({ length: 20 }, (_, i) => i + 40));
  });
}

test("safeOf takes alpha as the decimal it is written as", () => {
  assert.is(safeOf(10, 0.3), 3);
  assert.is(safeOf(1000, 0.29), 290);
  assert.is(safeOf(100, 0.57), 57);
  assert.is(safeOf(7, 1), 7);
  assert.is(safeOf(9, 0.2), 1);
  assert.is(safeOf(4, 0.2), 1, "a head is never left empty");
});

test.run();
