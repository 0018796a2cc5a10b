/**
 * attention (for prefill tiles) and appendAndAttend (for decode rows) against their twins: every KV format, head size and group,
 * sequences of different lengths in one batch, heads of different lengths, permuted blocks; paged = contiguous, bit for bit; and long rows
 * split among workgroups, whatever stands beside them.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { appendAndAttend, attention, decodeSplits, partialsShape, prefillTileRows, type AttentionShape } from "../../kernels/attention.ts";
import { batchWords, layOutBatch, type Batch, type BatchRow } from "../../kernels/batch.ts";
import type { KvChoice } from "../../kernels/kv_formats.ts";
import * as twin from "../../kernels/reference/attention.ts";
import { cosSinOf, kvInWords, nearPools, neoxLayout, qwenLayout, testCache, type TestCache } from "../support/cache.ts";
import { dispatch, largest, near, numbers, openFamilies, put, release, takeF32 } from "../support/gpu.ts";

/** Every head size, group and format in both kinds of step, and the pairs that models have. Not all pairs: some compile for seconds. */
const CASES: readonly Sizes[] = [
  { step: "decode", headDim: 8, group: 1, format: "f32", contiguous: true }, { step: "decode", headDim: 16, group: 7, format: "bf16", headNorm: true },
  { step: "decode", headDim: 64, group: 2, format: "f16" }, { step: "decode", headDim: 48, group: 4, format: "bf16", headNorm: true },
  { step: "decode", headDim: 80, group: 1, format: "f16" }, { step: "decode", headDim: 128, group: 7, format: "f16" },
  { step: "long", headDim: 16, group: 2, format: "f32", splits: 3 }, { step: "long", headDim: 64, group: 7, format: "f16", splits: 5, contiguous: true },
  { step: "long", headDim: 8, group: 1, format: "bf16", headNorm: true, splits: 2 }, { step: "vast", headDim: 32, group: 8, format: "bf16", splits: 6 },
  { step: "prefill", headDim: 32, group: 4, format: "bf16" }, { step: "prefill", headDim: 16, group: 2, format: "f32", contiguous: true },
  { step: "prefill", headDim: 64, group: 1, format: "f16" }, { step: "prefill", headDim: 64, group: 7, format: "f32" },
  { step: "prefill", headDim: 80, group: 1, format: "bf16" }, { step: "prefill", headDim: 128, group: 2, format: "bf16" },
  { step: "prefill", headDim: 48, group: 8, format: "f16" },
  { step: "decode", headDim: 80, group: 1, format: { k: { format: "int8", group: 20 }, v: "int4" } }, { step: "decode", headDim: 64, group: 7, format: "int8", headNorm: true },
  { step: "long", headDim: 16, group: 2, format: "int4", splits: 3, contiguous: true }, { step: "decode", headDim: 128, group: 2, format: { k: "int4", v: "f16" } },
  { step: "prefill", headDim: 64, group: 7, format: "int8", contiguous: true }, { step: "prefill", headDim: 80, group: 1, format: "int4" },
  { step: "prefill", headDim: 16, group: 2, format: "int8" }, { step: "prefill", headDim: 64, group: 2, format: { k: { format: "int8", group: 4 }, v: { format: "int4", group: 4 } } },
];
const KV_HEADS = 2;

/** Of each sequence: entries before the step, by KV head of layer 1, and rows in the step. */
const STEPS = {
  // Rows see 1, 15, 16, 17 and 255 entries, some heads fewer.
  decode: [[[0, 0], 1], [[14, 3], 1], [[15, 15], 1], [[16, 20], 1], [[254, 47], 1]],
  // Around the ends of splits of 64 keys; the second head is short where the first is long.
  long: [[[62, 63], 1], [[64, 0], 1], [[126, 127], 1], [[128, 5], 1], [[255, 191], 1], [[0, 1], 1], [[254, 200], 1]],
  // Thousands of keys beside short rows and a head that was evicted to few; and the same first row without the others.
  vast: [[[4096, 255], 1], [[16, 511], 1], [[300, 64], 1]],
  alone: [[[4096, 255], 1]],
  // From an empty cache across blocks; on from a cache, off the grid of tiles; a single row; one row more than a tile.
  prefill: [[[0, 0], 21], [[13, 30], 7], [[40, 5], 1], [[31, 31], 5]],
} as const;

interface Sizes {
  readonly step: keyof typeof STEPS;
  readonly headDim: number;
  readonly group: number;
  readonly format: KvChoice;
  readonly headNorm?: true;
  readonly contiguous?: true;
  readonly splits?: number;
}

/** Entries that a table has room for. */
function roomOf(step: keyof typeof STEPS): number {
  return step === "vast" || step === "alone" ? 4112 : 256;
}

/** Rows of the buffers, and the layer attended to. */
const CAPACITY = 40;
const LAYER = 1;

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

function rowsOf(step: keyof typeof STEPS): BatchRow[] {
  return STEPS[step].flatMap(([before, rows], sequence) =>
    Array.from({ length: rows }, (_, offset) => ({ id: 0, position: Math.max(...before) + offset, sequence, offset })));
}

interface Outcome { readonly out: Float32Array; readonly expected: Float64Array; readonly greatestValue: number }

async function batchOf(gpu: Gpu, rows: readonly BatchRow[], tileRows: number): Promise<{ batch: Batch; tiles: number }> {
  const { words, tiles } = layOutBatch(CAPACITY, rows, tileRows, []);
  return { batch: { tensor: await put(gpu, [batchWords(CAPACITY)], words, "u32"), rows: CAPACITY }, tiles };
}

/** The cache before the step, of blocks of `blockSize`, contiguous when one holds a whole table; `room`: the entries of the step hold numbers too, as if appended. */
function cacheOf(gpu: Gpu, { headDim, group, format, step }: Sizes, blockSize: number, room: boolean): Promise<TestCache> {
  const perLayer = STEPS[step].map(([before, rows]) => ({ before, rows: room ? rows : 0 }));
  return testCache(gpu, {
    format, layers: 2, kvHeads: KV_HEADS, headDim, blockSize, tableBlocks: Math.ceil(roomOf(step) / blockSize), contiguous: blockSize === roomOf(step), seed: headDim + group,
    lengths: Uint32Array.from(perLayer.flatMap(({ before }) => [0, 0, ...before])),
    owned: Uint32Array.from(perLayer.flatMap(({ before, rows }) => [0, 0, ...before.map((length) => length + rows)])),
  });
}

/** Run one step over a cache of blocks of `blockSize`: what the device and the twin made of it. */
async function run(gpu: Gpu, sizes: Sizes, blockSize: number): Promise<Outcome> {
  const { headDim, group, step } = sizes;
  const rows = rowsOf(step);
  const shape = { heads: group * KV_HEADS, kvHeads: KV_HEADS, headDim };
  const width = shape.heads * headDim;
  const columns = width + (step === "prefill" ? 0 : 4); // rows of out may hold more than attention's
  const untouched = numbers(CAPACITY * columns, 5);
  const out = await put(gpu, [CAPACITY, columns], untouched, "f32", "out");
  const { q, cache } = await (step === "prefill" ? prefill : decode)(gpu, sizes, shape, rows, blockSize, out);
  const got = await takeF32(gpu, out);
  const ours = (_: number, i: number): boolean => i < rows.length * columns && i % columns < width;
  const others = (value: number, i: number): boolean => !ours(value, i);
  near(got.filter(others), untouched.filter(others), {}, "rows past the step, and columns beside attention's");
  release(gpu, out);
  return { out: got.filter(ours), expected: twin.attention({ q, rows, cache }, shape, LAYER), greatestValue: largest(cache.vPool) };
}

type Attended = Promise<{ q: ArrayLike<number>; cache: twin.CacheTwin }>;

async function prefill(gpu: Gpu, sizes: Sizes, shape: AttentionShape, rows: readonly BatchRow[], blockSize: number, out: Tensor): Attended {
  const cache = await cacheOf(gpu, sizes, blockSize, true);
  const values = numbers(CAPACITY * shape.heads * shape.headDim, shape.heads + shape.headDim, 0.7);
  const q = await put(gpu, [CAPACITY, shape.heads * shape.headDim], values);
  const tileRows = prefillTileRows(shape);
  const { batch, tiles } = await batchOf(gpu, rows, tileRows);
  const operands = { q, out, view: cache.view, batch };
  await dispatch(gpu, (recorder) => attention(recorder, operands, shape, LAYER, tileRows), { rows: rows.length, tiles });
  await gpu.sync();
  release(gpu, q, batch.tensor, ...cache.tensors);
  return { q: values, cache: cache.twin };
}

async function decode(gpu: Gpu, sizes: Sizes, shape: AttentionShape, rows: readonly BatchRow[], blockSize: number, out: Tensor): Attended {
  const cache = await cacheOf(gpu, sizes, blockSize, false);
  const before = { kPool: cache.twin.kPool.slice(), vPool: cache.twin.vPool.slice() };
  const { headDim, heads, kvHeads } = shape;
  const layout = heads === kvHeads ? neoxLayout(shape) : qwenLayout(shape);
  const half = headDim === 80 ? 10 : headDim / 2;
  const [values, cosSin] = [numbers(CAPACITY * layout.width, heads + headDim, 0.7), cosSinOf(roomOf(sizes.step), half)];
  const weights = sizes.headNorm && numbers(2 * headDim, 9);
  const tensors = { qkv: await put(gpu, [CAPACITY, layout.width], values), cosSin: await put(gpu, [roomOf(sizes.step), half, 2], cosSin) };
  const headNorm = weights && { weights: await put(gpu, [2, headDim], weights), eps: 1e-6 };
  const { batch, tiles } = await batchOf(gpu, rows, 1);
  const partials = sizes.splits === undefined ? null : await put(gpu, partialsShape(shape, CAPACITY, sizes.splits), null);
  const splits = partials && { count: sizes.splits!, keys: 64, partials };
  const operands = { projection: { ...tensors, layout, headNorm }, out, view: cache.view, batch, splits };
  await dispatch(gpu, (recorder) => appendAndAttend(recorder, operands, shape, LAYER), { rows: rows.length, tiles });
  const { k, v } = cache.view;
  const appended = { qkv: values, cosSin, half, rows, cache: cache.twin, k, v, ...(weights && { headNorm: { weights, eps: 1e-6 } }) };
  const q = twin.append(appended, shape, layout, LAYER);
  // Attend to what the device stored: a key that f32 rounds the other way is no fault of attention's.
  const stored = { ...cache.twin, ...await nearPools(gpu, cache, before) };
  release(gpu, batch.tensor, ...(partials ? [partials] : []), ...Object.values(tensors), ...(headNorm ? [headNorm.weights] : []), ...cache.tensors);
  return { q, cache: stored };
}

/** What is meant for GPUs takes a software adapter three seconds each to compile: every second case there, of every kind some. */
const casesFor = ({ family, adapter }: Gpu): readonly Sizes[] => (family === "gpu" && adapter.software ? CASES.filter((_, i) => i % 2 === 1) : CASES);

for (const gpu of gpus) {
  for (const sizes of casesFor(gpu)) {
    const { headDim, group, format, step, contiguous } = sizes;
    const name = `${step}, head_dim ${headDim}, group ${group}, ${kvInWords(format)}${contiguous ? ", paged = contiguous" : ""}`;
    test(`attention, ${gpu.family}: ${name}`, async () => {
      const { out, expected, greatestValue } = await run(gpu, sizes, 16);
      // Weights are off by the error of a score (f32 sums of products up to a few hundred), and they weigh values up to the greatest.
      near(out, expected, { absolute: 1e-5 * greatestValue }, "attention", group * KV_HEADS * headDim);
      if (step === "long") await shortRowsAreWhole(gpu, sizes, out);
      if (step === "vast") {
        const alone = (await run(gpu, { ...sizes, step: "alone" }, 16)).out;
        near(out.subarray(0, alone.length), alone, {}, "a row in company against the same row alone", group * KV_HEADS * headDim);
      }
      if (contiguous) near((await run(gpu, sizes, roomOf(step))).out, out, {}, "contiguous against paged", group * KV_HEADS * headDim);
    });
  }
}

/** Short rows beside long ones have the bits that the kernel without splits gives them. */
async function shortRowsAreWhole(gpu: Gpu, { splits: _, ...whole }: Sizes, out: Float32Array): Promise<void> {
  const width = whole.group * KV_HEADS * whole.headDim;
  const unsplit = (await run(gpu, whole, 16)).out;
  const short = STEPS.long.flatMap(([before], row) => (Math.max(...before) < 64 ? [row] : []));
  assert.ok(short.length > 0);
  for (const row of short) near(out.subarray(row * width, (row + 1) * width), unsplit.subarray(row * width, (row + 1) * width), {}, `row ${row}`, width);
}

test("how often rows are split: enough workgroups for the device, no split without keys, and never where heads suffice", () => {
  const splits = (family: "software" | "gpu", kvHeads: number, maxModelLen: number) => decodeSplits({ family } as Gpu, { heads: kvHeads, kvHeads, headDim: 64 }, maxModelLen).count;
  assert.equal([splits("software", 1, 4096), splits("software", 2, 4096), splits("software", 6, 4096), splits("software", 1, 600)], [4, 2, 1, 2]);
  assert.equal([splits("gpu", 8, 32_768), splits("gpu", 8, 1024), splits("gpu", 300, 4096), splits("gpu", 2, 256)], [33, 4, 1, 1]);
});

test("attention: mistakes stop at the launch", async () => {
  const [gpu] = gpus as [Gpu];
  const [owned, lengths] = [Uint32Array.of(1), Uint32Array.of(0)];
  const cache = await testCache(gpu, { format: "f32", layers: 1, kvHeads: 1, headDim: 8, blockSize: 16, tableBlocks: 1, owned, lengths, seed: 1 });
  const batch = { tensor: await put(gpu, [batchWords(8)], new Uint32Array(batchWords(8)), "u32"), rows: 8 };
  const [q, wide, narrow] = [await put(gpu, [8, 16], null), await put(gpu, [8, 24], null), await put(gpu, [8, 12], null)];
  const launch = (q: Tensor, out: Tensor) => (): void =>
    attention(new Recorder(gpu), { q, out, view: cache.view, batch }, { heads: 2, kvHeads: 1, headDim: 8 }, 0, 1);
  assert.throws(launch(wide, q), /attention: q must have 16 at axis 1, but has 24/);
  assert.throws(launch(q, narrow), /attention: out has 12 columns for 2 heads of 8/);
});

test.run();
