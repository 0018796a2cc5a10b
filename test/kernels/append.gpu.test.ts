/**
 * append, gather and advance against their twins: what lands in the cache, where, and that nothing else changes. Layouts are those of
 * GPT-NeoX (q, k, v interleaved per head) and Qwen (all q, all k, all v), with full and partial rotation and Qwen3's norm of heads.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import { advance, append, gather, type QkvLayout } from "../../kernels/attention.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import { KV_ENTRY_FORMATS, type KvChoice } from "../../kernels/kv_formats.ts";
import * as twin from "../../kernels/reference/attention.ts";
import { cosSinOf, kvInWords, nearPools, neoxLayout, qwenLayout, readPool, rotationTolerance, testCache, type CachePlan } from "../support/cache.ts";
import {
  dispatch, near, numbers, openFamilies, put, release, shuffled, take, takeF32, takeU32,
} from "../support/gpu.ts";

interface Sizes {
  readonly name: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Pairs of dimensions that rotate. */
  readonly half: number;
  readonly format: KvChoice;
  readonly headNorm?: true;
}

const NEOX: readonly Sizes[] = [
  { name: "25 % of 80 rotate", heads: 3, kvHeads: 3, headDim: 80, half: 10, format: "f16" },
  { name: "all rotate", heads: 2, kvHeads: 2, headDim: 8, half: 4, format: "f32" },
  { name: "25 % of 80 rotate", heads: 2, kvHeads: 2, headDim: 80, half: 10, format: { k: "int8", v: { format: "int4", group: 20 } } },
];
const QWEN: readonly Sizes[] = [
  { name: "group of 7", heads: 7, kvHeads: 1, headDim: 64, half: 32, format: "bf16" },
  { name: "norm of heads", heads: 4, kvHeads: 2, headDim: 16, half: 8, format: "f32", headNorm: true },
  { name: "norm of heads", heads: 4, kvHeads: 2, headDim: 128, half: 64, format: { k: "int4", v: "int8" }, headNorm: true },
  { name: "norm of heads, 16 bits", heads: 4, kvHeads: 2, headDim: 128, half: 64, format: "f16", headNorm: true },
];
const LAYERS = 2;
const LAYER = 1;
/** Of each sequence: entries before the step, by KV head, and rows in it: across a block, after an eviction, at a block's edge. */
const STEPS = [[[0, 0, 0], 18], [[13, 30, 2], 5], [[15, 16, 31], 1]] as const;
/** Position of a sequence's first row in the step: that of the longest head or, once evicted, more. */
const STARTS = [0, 40, 57];

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

function planOf({ kvHeads, headDim, format }: Sizes): CachePlan {
  const lengths = Uint32Array.from(STEPS.flatMap(([before]) => [...Array<number>(kvHeads).fill(0), ...before.slice(0, kvHeads)]));
  return { format, layers: LAYERS, kvHeads, headDim, blockSize: 16, tableBlocks: 3, owned: lengths, lengths, seed: headDim };
}

/** `wider`: columns of qkv behind the projection, which hold something else. */
async function check(gpu: Gpu, sizes: Sizes, layout: QkvLayout, wider: number): Promise<void> {
  const { heads, headDim, half, format, headNorm: normed } = sizes;
  const rows = STEPS.flatMap(([, count], sequence) =>
    Array.from({ length: count }, (_, offset) => ({ id: 0, position: STARTS[sequence]! + offset, sequence, offset })));
  const cache = await testCache(gpu, planOf(sizes));
  const before = { kPool: cache.twin.kPool.slice(), vPool: cache.twin.vPool.slice() };
  const width = layout.width + wider;
  const qkv = numbers(rows.length * layout.width, headDim + heads);
  if (format === "f16") qkv[layout.v.first] = 1e6; // beyond f16: stored as its largest number, not as infinity
  if (format === "bf16") qkv[layout.v.first] = 1 + 2 ** -8; // halfway between two of bf16: the even one
  const [cosSin, headWeights] = [cosSinOf(64, half), normed ? numbers(2 * headDim, 9) : undefined];
  const untouched = numbers(2 * heads * headDim, 4);
  const capacity = rows.length + 2;
  const batch = { tensor: await put(gpu, [batchWords(capacity)], layOutBatch(capacity, rows, 1, []).words, "u32"), rows: capacity };
  const stored = new Float32Array(capacity * width).fill(NaN);
  rows.forEach((_, row) => stored.set(qkv.subarray(row * layout.width, (row + 1) * layout.width), row * width));
  const tensors = {
    qkv: await put(gpu, [capacity, width], stored),
    q: await put(gpu, [capacity, heads * headDim], [...new Float32Array(rows.length * heads * headDim), ...untouched], "f32", "q"),
    cosSin: await put(gpu, [64, half, 2], cosSin),
  };
  const headNorm = headWeights && { weights: await put(gpu, [2, headDim], headWeights), eps: 1e-6 };
  const projection = { qkv: tensors.qkv, layout, cosSin: tensors.cosSin, headNorm };
  const operands = { projection, q: tensors.q, view: cache.view, batch };
  await dispatch(gpu, (recorder) => append(recorder, operands, sizes, LAYER), { rows: rows.length });

  const { k, v } = cache.view;
  const expected = twin.append({
    qkv, cosSin, half, rows, cache: cache.twin, k, v, ...(headWeights && { headNorm: { weights: headWeights, eps: 1e-6 } }),
  }, sizes, layout, LAYER);
  const q = await takeF32(gpu, tensors.q);
  near(q.subarray(0, expected.length), expected, { absolute: rotationTolerance(expected, headDim) }, "q", headDim);
  near(q.subarray(expected.length), untouched, {}, "rows of q past the step");
  await nearPools(gpu, cache, before);
  release(gpu, batch.tensor, ...Object.values(tensors), ...(headNorm ? [headNorm.weights] : []), ...cache.tensors);
}

for (const gpu of gpus) {
  for (const sizes of NEOX) {
    test(`append, ${gpu.family}: GPT-NeoX layout, ${sizes.name}, ${kvInWords(sizes.format)}`, () => check(gpu, sizes, neoxLayout(sizes), 0));
  }
  for (const sizes of QWEN) {
    test(`append, ${gpu.family}: Qwen layout, ${sizes.name}, ${kvInWords(sizes.format)}`, () => check(gpu, sizes, qwenLayout(sizes), 8));
  }

  for (const format of [...KV_ENTRY_FORMATS, { k: { format: "int4", group: 20 }, v: "int8" }] as const) {
    test(`gather, ${gpu.family}: ${kvInWords(format)}, survivors move bit for bit and nothing else does`, async () => {
      const headDim = 80;
      const lengths = Uint32Array.of(40, 17, 33, 5);
      const plan = { format, layers: 1, kvHeads: 2, headDim, blockSize: 16, tableBlocks: 3, owned: lengths, lengths, seed: 3 };
      const cache = await testCache(gpu, plan);
      const source = (table: number, index: number): number => twin.entryOf(cache.twin, table, index);
      // Tables 0 and 1 keep a few of their entries; the targets lie in the last blocks of tables 1 and 3, which own nothing there.
      const moves = [
        [source(0, 0), source(1, 32)], [source(0, 7), source(1, 33)], [source(0, 39), source(1, 34)], [source(1, 16), source(3, 47)],
      ] as const;
      const tensor = await put(gpu, [moves.length, 2], moves.flat(), "u32");
      const old = await take(gpu, cache.view.kPool);
      await dispatch(gpu, (recorder) => gather(recorder, { moves: tensor, view: cache.view }), { rows: moves.length });
      const k = await take(gpu, cache.view.kPool);
      const entryBytes = k.length / (cache.twin.kPool.length / headDim);
      for (const [from, to] of moves) old.copyWithin(to * entryBytes, from * entryBytes, (from + 1) * entryBytes);
      assert.ok(Buffer.from(k).equals(Buffer.from(old)), "keys are the same bytes, moved");
      twin.gather(cache.twin, moves);
      near(await readPool(gpu, cache.view.kPool, cache.view.k), cache.twin.kPool, {}, "keys", headDim);
      near(await readPool(gpu, cache.view.vPool, cache.view.v), cache.twin.vPool, {}, "values", headDim);
      release(gpu, tensor, ...cache.tensors);
    });
  }

  test(`gather, ${gpu.family}: more entries than one dispatch has workgroups`, async () => {
    const [count, headDim] = [70_000, 8];
    const before = numbers(2 * count * headDim, 2);
    const [kPool, vPool] = [await put(gpu, [2 * count, headDim], before), await put(gpu, [2 * count, headDim], before)];
    const targets = shuffled(count, 1);
    const moves = await put(gpu, [count, 2], targets.flatMap((target, source) => [source, count + target]), "u32");
    const empty = Uint32Array.of(0);
    const plan = { format: "f32", layers: 1, kvHeads: 1, headDim, blockSize: 1, tableBlocks: 1, owned: empty, lengths: empty, seed: 1 } as const;
    const cache = await testCache(gpu, plan);
    const view = { ...cache.view, kPool, vPool };
    await dispatch(gpu, (recorder) => gather(recorder, { moves, view }), { rows: count });
    const expected = before.slice();
    targets.forEach((target, source) => expected.copyWithin((count + target) * headDim, source * headDim, (source + 1) * headDim));
    for (const pool of [kPool, vPool]) near(await takeF32(gpu, pool), expected, {}, "pool", headDim);
    release(gpu, kPool, vPool, moves, ...cache.tensors);
  });

  test(`advance, ${gpu.family}: one entry more in every table of the rows' sequences, one step on, all else as it was`, async () => {
    const [layers, kvHeads, sequences] = [5, 3, 6];
    const lengths = Uint32Array.from({ length: sequences * layers * kvHeads }, (_, i) => i * 7);
    const plan = { format: "f32", layers, kvHeads, headDim: 8, blockSize: 16, tableBlocks: 1, lengths, seed: 1 } as const;
    const cache = await testCache(gpu, { ...plan, owned: new Uint32Array(lengths.length) });
    const rows = [4, 0, 5].map((sequence) => ({ id: sequence, position: 3, sequence, offset: 0 }));
    const { words } = layOutBatch(8, rows, 1, []);
    words[0] = 41;
    const batch = { tensor: await put(gpu, [batchWords(8)], words, "u32"), rows: 8 };
    await dispatch(gpu, (recorder) => advance(recorder, { view: cache.view, batch }), { rows: rows.length });
    const expected = lengths.slice();
    twin.advance(expected, layers * kvHeads, [4, 0, 5]);
    near(await takeU32(gpu, cache.view.lengths), expected, {}, "lengths", layers * kvHeads);
    near(await takeU32(gpu, batch.tensor), words.with(0, 42), {}, "batch");
    release(gpu, batch.tensor, ...cache.tensors);
  });
}

test("append: mistakes stop at the launch with the letter and both values", async () => {
  const [gpu] = gpus as [Gpu];
  const sizes = QWEN[1]!;
  const [layout, cache] = [qwenLayout(sizes), await testCache(gpu, planOf(sizes))];
  const batch = { tensor: await put(gpu, [batchWords(8)], new Uint32Array(batchWords(8)), "u32"), rows: 8 };
  const right = { qkv: await put(gpu, [8, layout.width], null), q: await put(gpu, [8, 64], null), cosSin: await put(gpu, [4, 8, 2], null) };
  const fails = (wrong: Partial<typeof right>, message: RegExp): void => {
    const { qkv, q, cosSin } = { ...right, ...wrong };
    assert.throws(() => append(new Recorder(gpu), { projection: { qkv, layout, cosSin }, q, view: cache.view, batch }, sizes, 0), message);
  };
  fails({ qkv: await put(gpu, [8, 64], null) }, /rotate: qkv has 64 columns, but the layout takes 128/);
  fails({ q: await put(gpu, [8, 60], null) }, /append: q must have 64 at axis 1, but has 60/);
  fails({ cosSin: await put(gpu, [4, 16], null) }, /cosSin must have shape \[P, half, 2\], but has \[4, 16\]/);
});

test.run();
