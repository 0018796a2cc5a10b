/**
 * What is captured for presses against its twins: windows of rotated queries, sums of unrotated ones over several steps, and the attention that
 * entries get, in every kind of entry; rows of many sequences at once, each wanting something else, and nothing that was not wanted touched.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder, type Extent } from "../../engine/recorder.ts";
import type { AttentionShape, KvView } from "../../kernels/attention.ts";
import { batchWords, layOutBatch, type Batch, type BatchRow } from "../../kernels/batch.ts";
import { addQueryStats, captureQueries, CONTROL_WORDS, observe, rotateQueries } from "../../kernels/capture.ts";
import type { KvChoice } from "../../kernels/kv_formats.ts";
import { noteWords } from "../../kernels/kv_notes.ts";
import { entryOf } from "../../kernels/reference/attention.ts";
import * as twin from "../../kernels/reference/capture.ts";
import { cosSinOf, kvInWords, neoxLayout, qwenLayout, rotationTolerance, testCache } from "../support/cache.ts";
import { dispatch, largest, near, numbers, openFamilies, put, refill, release, take, takeF32, takeU32 } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const CAPACITY = 64;
const POSITIONS = 128;
const ALL = 0xffff_ffff;

/** Of one step: sequence, position of its first row, rows. */
type Run = readonly [sequence: number, position: number, rows: number];

function rowsOf(runs: readonly Run[]): BatchRow[] {
  return runs.flatMap(([sequence, position, count]) => Array.from({ length: count }, (_, offset) => ({ id: 0, position: position + offset, sequence, offset })));
}

/** Words 0 to 4 of each slot. */
function controlOf(slots: readonly (readonly number[])[]): Uint32Array {
  const words = new Uint32Array(slots.length * CONTROL_WORDS);
  slots.forEach((slot, i) => words.set(slot, i * CONTROL_WORDS));
  return words;
}

/** A batch of so many rows, laid out anew for each step. */
async function batchOf(gpu: Gpu): Promise<Batch & { layOut(rows: readonly BatchRow[], tileRows: number): Extent }> {
  const tensor = await put(gpu, [batchWords(CAPACITY)], null, "u32", "batch");
  return {
    tensor, rows: CAPACITY,
    layOut(rows, tileRows) {
      const { words, tiles } = layOutBatch(CAPACITY, rows, tileRows, []);
      refill(gpu, tensor, words);
      return { rows: rows.length, tiles };
    },
  };
}

interface QueryCase extends AttentionShape { readonly half: number; readonly headNorm?: true }

const QUERY_CASES: readonly QueryCase[] = [
  { heads: 3, kvHeads: 3, headDim: 80, half: 10 },
  { heads: 4, kvHeads: 2, headDim: 16, half: 8, headNorm: true },
];

/** The projection of CAPACITY rows, on the device and for the twin. `common`: what all queries have in common. */
async function projectionOf(gpu: Gpu, { half, headNorm: normed, ...shape }: QueryCase, common = 0) {
  const { heads, kvHeads, headDim } = shape;
  const layout = heads === kvHeads ? neoxLayout(shape) : qwenLayout(shape);
  const qkv = numbers(CAPACITY * layout.width, headDim + heads).map((value) => value + common);
  const [cosSin, weights] = [cosSinOf(POSITIONS, half), normed && numbers(2 * headDim, 9)];
  const headNorm = weights && { weights, eps: 1e-6 };
  const tensors = { qkv: await put(gpu, [CAPACITY, layout.width], qkv), cosSin: await put(gpu, [POSITIONS, half, 2], cosSin) };
  const norm = headNorm && { weights: await put(gpu, [2, headDim], headNorm.weights), eps: headNorm.eps };
  return {
    projection: { ...tensors, layout, headNorm: norm }, tensors: [...Object.values(tensors), ...(norm ? [norm.weights] : [])],
    refillQkv: (values: Float32Array) => refill(gpu, tensors.qkv, values),
    queries: (rows: readonly BatchRow[], rotated: boolean, values = qkv) =>
      twin.queriesOf({ qkv: values, rows, headNorm, ...(rotated && { rotation: { cosSin, half } }) }, shape, layout),
    width: layout.width,
  };
}

for (const gpu of gpus) {
  for (const each of QUERY_CASES) {
    const { heads, headDim } = each;
    test(`queries, ${gpu.family}: rotated in rows and in windows, head_dim ${headDim}`, async () => {
      const [window, width] = [5, heads * headDim];
      // All of one that is longer than two windows; a few in the middle; none; all before the first; the last of a run, each of its own step.
      const control = controlOf([[0, ALL], [33, 4], [0, 0], [70, 10], [61, 1]]);
      const rows = rowsOf([[0, 7, 13], [3, 60, 10], [1, 30, 12], [4, 61, 1], [2, 0, 3]]);
      const { projection, tensors, queries } = await projectionOf(gpu, each);
      const before = numbers(5 * window * width, 3);
      const [out, q] = [await put(gpu, [5, window, width], before), await put(gpu, [CAPACITY, width], null)];
      const [controls, batch] = [await put(gpu, [5, CONTROL_WORDS], control, "u32"), await batchOf(gpu)];
      await dispatch(gpu, (recorder) => {
        captureQueries(recorder, { projection, batch, control: controls, out }, each);
        rotateQueries(recorder, { projection, q, batch }, each);
      }, batch.layOut(rows, 4));

      const [rotated, expected] = [queries(rows, true), Float64Array.from(before)];
      twin.captureQueries(expected, rotated, rows, control, window);
      const rowsChanged = Array.from({ length: 5 * window }, (_, row) =>
        expected.subarray(row * width, (row + 1) * width).some((value, i) => value !== before[row * width + i]));
      assert.equal(rowsChanged.flatMap((changed, row) => (changed ? [row] : [])), [0, 1, 2, 3, 4, 5, 6, 8, 9, 21]);
      const tolerance = rotationTolerance(expected, headDim).map((value, i) => (rowsChanged[Math.floor(i / width)] ? value : 0));
      near(await takeF32(gpu, out), expected, { absolute: tolerance }, "window", width);
      near((await takeF32(gpu, q)).subarray(0, rotated.length), rotated, { absolute: rotationTolerance(rotated, headDim) }, "rows", width);
      release(gpu, out, q, controls, batch.tensor, ...tensors);
    });
  }

  for (const each of [...QUERY_CASES, { heads: 2, kvHeads: 1, headDim: 128, half: 64 }, { heads: 2, kvHeads: 2, headDim: 8, half: 4 }]) {
    const { heads, headDim } = each;
    test(`statistics of queries, ${gpu.family}: head_dim ${headDim}, over three steps`, async () => {
      const words = 2 * headDim + headDim * headDim;
      // From position 4 on; from the first, and ending within a step; beginning in the second step; never; all over again in the last step.
      const control = controlOf([[0, 0, 4, ALL], [0, 0, 0, 21], [0, 0, 40, 50], [0, 0, 9, 9], [0, 0, 11, ALL]]);
      const steps: readonly (readonly Run[])[] = [
        [[1, 0, 20], [0, 0, 21], [2, 30, 10], [3, 8, 5], [4, 9, 8]], [[2, 40, 30], [1, 20, 4], [0, 21, 1]], [[0, 22, 1], [4, 11, 1]],
      ];
      const { projection, tensors, refillQkv, queries, width } = await projectionOf(gpu, each, 30);
      const before = new Float32Array(5 * heads * words).fill(NaN); // what a slot's last sequence left
      const [out, controls, batch] = [await put(gpu, [5, heads, words], before), await put(gpu, [5, CONTROL_WORDS], control, "u32"), await batchOf(gpu)];
      const expected = Float64Array.from(before);
      let greatest = 0;
      for (const [i, step] of steps.entries()) {
        const [rows, qkv] = [rowsOf(step), numbers(CAPACITY * width, 50 + i).map((value) => value + 30)];
        refillQkv(qkv);
        const extent = batch.layOut(rows, 4);
        await dispatch(gpu, (recorder) => addQueryStats(recorder, { projection, batch, control: controls, out }, each), extent);
        const plain = queries(rows, false, qkv);
        greatest = Math.max(greatest, largest(plain));
        twin.addQueryStats(expected, plain, rows, control, each);
      }
      const got = await takeF32(gpu, out);
      const [never, some] = [expected.subarray(3 * heads * words, 4 * heads * words), expected.filter((value) => !Number.isNaN(value))];
      assert.ok(never.every(Number.isNaN) && some.length === 4 * heads * words);
      // A query is off by a few roundings of the greatest, and differences from the shift are at most twice that; then 40 terms are added.
      const tolerance = expected.map((_, i) => {
        const [d, unit] = [i % words, 4 * 2 ** -24];
        if (d < headDim) return "headNorm" in each ? unit * greatest : 0;
        return 40 * unit * greatest * (d < 2 * headDim ? 2 : 4 * greatest);
      });
      near(got, expected, { absolute: tolerance }, "statistics", words);
      // Sums of squares about the shift are far smaller than about zero: what they resolve is that, too.
      const isProduct = (_: number, i: number): boolean => i % words >= 2 * headDim;
      if (!("headNorm" in each)) near(got.filter(isProduct), expected.filter(isProduct), { absolute: 2 ** -18 * largest(some) }, "products");
      release(gpu, out, controls, batch.tensor, ...tensors);
    });
  }
}

interface ObserveCase {
  readonly step: "prefill" | "decode";
  readonly headDim: number;
  readonly group: number;
  readonly format: KvChoice;
  readonly norms: boolean;
  /** Rows that share the reading of a key; 1 when not said. */
  readonly tileRows?: number;
  readonly contiguous?: true;
}

const OBSERVE_CASES: readonly ObserveCase[] = [
  { step: "prefill", headDim: 64, group: 1, format: "f16", norms: true, tileRows: 8 },
  { step: "decode", headDim: 80, group: 2, format: "f32", norms: false },
  { step: "prefill", headDim: 16, group: 7, format: { k: "int4", v: "int8" }, norms: false, tileRows: 2 },
  { step: "decode", headDim: 128, group: 4, format: "int8", norms: true, contiguous: true },
  { step: "prefill", headDim: 8, group: 3, format: "bf16", norms: true, contiguous: true },
];
const KV_HEADS = 2;
const ROOM = 288;
/** Of each sequence: entries before the step, by KV head of layer 1, and rows in it. The third is not observed. */
const BEFORE = {
  // Runs longer than what reads a key together; from an empty cache, off the grid, a single row, a head evicted to few.
  prefill: [[[0, 0], 37], [[13, 200], 6], [[9, 9], 5], [[40, 5], 1], [[63, 31], 9]],
  decode: [[[0, 0], 1], [[254, 47], 1], [[9, 30], 1], [[15, 16], 1], [[270, 3], 1]],
} as const;
const OBSERVED = controlOf([1, 1, 0, 1, 1].map((on) => [0, 0, 0, 0, on]));

for (const gpu of gpus) {
  for (const { step, headDim, group, format, norms, tileRows, contiguous = false } of OBSERVE_CASES) {
    test(`observe, ${gpu.family}: ${step}, head_dim ${headDim}, group ${group}, ${kvInWords(format)}${contiguous ? ", contiguous" : ""}`, async () => {
      const shape = { heads: group * KV_HEADS, kvHeads: KV_HEADS, headDim };
      const runs = BEFORE[step];
      const blockSize = contiguous ? ROOM : 16;
      const cache = await testCache(gpu, {
        format, layers: 2, kvHeads: KV_HEADS, headDim, blockSize, tableBlocks: ROOM / blockSize, contiguous, seed: headDim + group,
        lengths: Uint32Array.from(runs.flatMap(([before]) => [0, 0, ...before])),
        owned: Uint32Array.from(runs.flatMap(([before, rows]) => [0, 0, ...before.map((length) => length + rows)])),
      });
      const rows = rowsOf(runs.map(([before, count], sequence): Run => [sequence, before[0] + 7, count]));
      const queries = numbers(CAPACITY * shape.heads * headDim, headDim, 0.5);
      const q = await put(gpu, [CAPACITY, shape.heads * headDim], queries);
      const stats = await put(gpu, [CAPACITY, shape.heads, 2], null);
      const [control, batch] = [await put(gpu, [5, CONTROL_WORDS], OBSERVED, "u32"), await batchOf(gpu)];
      const words = noteWords({ norms, attention: true });
      const [entries] = cache.view.kPool.shape as readonly [number];
      const had = numbers(entries, 8);
      const before = new Uint32Array(entries * words.words).fill(0x7fc0_0001);
      const floats = new Float32Array(before.buffer);
      for (let entry = 0; entry < entries; entry++) floats[entry * words.words + words.attention!] = had[entry]!;
      const notes = { ...words, tensor: await put(gpu, [entries, words.words], before, "u32") };
      const view: KvView = { ...cache.view, notes };
      const pools = await Promise.all([view.kPool, view.vPool].map((pool) => take(gpu, pool)));
      await dispatch(gpu, (recorder) => observe(recorder, { q, view, batch, control, stats }, shape, 1, tileRows), batch.layOut(rows, tileRows ?? 1));

      const [expected, got] = [Float64Array.from(had), await takeU32(gpu, notes.tensor)];
      twin.observe(expected, { q: queries, rows, cache: cache.twin, control: OBSERVED }, shape, 1);
      const isAttention = (_: number, i: number): boolean => i % words.words === words.attention;
      const device = new Float32Array(got.filter(isAttention).buffer);
      // Scores are f32 sums of up to a few hundred, and a weight is off by that; every row and head of a group adds one.
      const tolerance = expected.map((value, i) => (value === had[i] ? 0 : 2e-5 * (1 + value - had[i]!) + 2 ** -22 * Math.abs(had[i]!)));
      near(device, expected, { absolute: tolerance }, "attention");
      near(got.filter((value, i) => !isAttention(value, i)), before.filter((value, i) => !isAttention(value, i)), {}, "other words");
      for (const [sequence, [lengths, count]] of runs.entries()) {
        for (let head = 0; head < KV_HEADS; head++) {
          const table = (sequence * 2 + 1) * KV_HEADS + head;
          let sum = 0;
          for (let index = 0; index < lengths[head]! + count; index++) {
            const entry = entryOf(cache.twin, table, index);
            sum += device[entry]! - had[entry]!;
          }
          near([sum], [sequence === 2 ? 0 : count * group], { absolute: 1e-3 }, `all the attention of head ${head} of sequence ${sequence}`);
        }
      }
      const after = await Promise.all([view.kPool, view.vPool].map((pool) => take(gpu, pool)));
      after.forEach((pool, i) => assert.ok(Buffer.from(pool).equals(Buffer.from(pools[i]!)), "pools are only read"));
      release(gpu, q, stats, control, batch.tensor, notes.tensor, ...cache.tensors);
    });
  }
}

test("capture: mistakes stop at the launch", async () => {
  const [gpu] = gpus as [Gpu];
  const shape = { heads: 2, kvHeads: 1, headDim: 8 };
  const some = (...shape: number[]) => put(gpu, shape, null, "u32");
  const [control, narrow, batch] = [await some(3, CONTROL_WORDS), await some(3, 4), { tensor: await some(batchWords(8)), rows: 8 }];
  const layout = qwenLayout(shape);
  const projection = { qkv: await some(8, layout.width), layout, cosSin: await some(16, 4, 2) };
  const recorder = new Recorder(gpu);
  const [window, stats] = [await some(3, 5, 16), await some(3, 2, 80)];
  assert.throws(() => captureQueries(recorder, { projection, batch, control: narrow, out: window }, shape), /captureQueries: control must have 8 at axis 1, but has 4/);
  assert.throws(() => addQueryStats(recorder, { projection, batch, control, out: window }, shape), /addQueryStats: out must have 2 at axis 1, but has 5/);
  assert.throws(() => rotateQueries(recorder, { projection, q: stats, batch }, shape), /rotateQueries: q must have shape/);
  const lengths = Uint32Array.of(0);
  const cache = await testCache(gpu, { format: "f32", layers: 1, kvHeads: 1, headDim: 8, blockSize: 16, tableBlocks: 1, owned: lengths, lengths, seed: 1 });
  const operands = { q: await some(8, 16), batch, control, stats: await some(8, 2, 2) };
  assert.throws(() => observe(recorder, { ...operands, view: cache.view }, shape, 0), /observe: the cache has no notes of attention/);
  const normsOnly = { ...noteWords({ norms: true, attention: false }), tensor: await some(64, 1) };
  assert.throws(() => observe(recorder, { ...operands, view: { ...cache.view, notes: normsOnly } }, shape, 0), /observe: the cache has no notes of attention/);
});

test.run();
