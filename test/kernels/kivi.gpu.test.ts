/**
 * Keys in kivi4 on the device against the twin: a prefill of several blocks of several sequences and a decode step behind it. Every word of
 * the pool of keys is held against what it must be: blocks that a step completes are the twin's to the bit, quantized from the keys as f16
 * that the device had; tails hold the keys of blocks that are not full; all else is as it was. And each row attends to its own block in
 * f16 and to all before as it was quantized, whatever step those came with.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { f16ToNumber, numberToF16 } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { append, appendAndAttend, attention, partialsShape, prefillTileRows, refill, type AttentionShape, type KvView } from "../../kernels/attention.ts";
import { batchWords, layOutBatch, type BatchRow } from "../../kernels/batch.ts";
import { kiviPoolShape, kvBlockWords, kvEncoding, poolShape, recentKeys, REFILL_BLOCK, type KvEntryFormat } from "../../kernels/kv_formats.ts";
import * as twin from "../../kernels/reference/attention.ts";
import { decodeEntry, decodeKeyBlock, encodeEntry, encodeKeyBlock } from "../../kernels/reference/kv.ts";
import { cosSinOf, neoxLayout, qwenLayout, rotationTolerance } from "../support/cache.ts";
import { dispatch, largest, near, numbers, openFamilies, put, release, shuffled, takeF32, takeU32 } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

interface Sizes { readonly headDim: number; readonly group: number; readonly blockSize: number; readonly v: KvEntryFormat; readonly splits?: number }
const CASES: readonly Sizes[] = [
  { headDim: 64, group: 2, blockSize: 16, v: "int4", splits: 3 }, { headDim: 80, group: 1, blockSize: 8, v: "f16" }, { headDim: 128, group: 3, blockSize: 32, v: "int4" },
];

const KV_HEADS = 2, LAYERS = 2, LAYER = 1, ROOM = 160, CAPACITY = 160;
/** Entries before, and rows, of each sequence of the prefill: from nothing, on in a block, to the end of one, over several. */
const STEP = [[0, 21], [13, 7], [40, 7], [31, 17], [16, 33], [60, 67]] as const;

/** A cache as the host knows it. `keys`: of each table, as f16 holds them, [entries, headDim]. */
interface World {
  readonly sizes: Sizes;
  readonly view: KvView;
  readonly cache: twin.CacheTwin & { readonly lengths: Uint32Array };
  readonly keys: number[][][];
  readonly words: Uint32Array;
}

const f16 = (value: number): number => f16ToNumber(numberToF16(value));

/** Channels as they may be: some zero, some all the same, some tiny, most of a size of their own. The first quarter turns, and is plain. */
function channel(value: number, d: number, headDim: number): number {
  if (d < headDim / 4) return value;
  return [0, 1e-7 * value, 3.3, value + 5, value, 0.1 * value, -Math.abs(value), 2 * value][d % 8]!;
}

function placesOf({ view }: World) {
  const { tails, stepTails, all } = recentKeys({ ...view, slots: STEP.length, rows: CAPACITY });
  const { headDim } = view.k;
  const blockWords = kvBlockWords(view.k, view.blockSize);
  return {
    tail: (table: number, index: number) => (table * view.blockSize + index % view.blockSize) * headDim / 2,
    stepTail: (sequence: number, head: number, index: number) => (tails + (sequence * KV_HEADS + head) * view.blockSize + index % view.blockSize) * headDim / 2,
    row: (row: number, head: number) => (tails + stepTails + row * KV_HEADS + head) * headDim / 2,
    rows: [(tails + stepTails) * headDim / 2, all * headDim / 2] as const,
    block: (id: number) => all * headDim / 2 + id * blockWords,
  };
}

function blockOf({ view, cache }: World, table: number, index: number): number {
  return cache.tables[table * view.tableBlocks + Math.floor(index / view.blockSize)]!;
}

/** Where the host's words say that tails and full blocks are; `from`: the first entry that is new. */
function writeKeys(world: World, table: number, from: number): void {
  const { keys, words, view } = world;
  const places = placesOf(world), { blockSize, k: { headDim } } = view;
  const all = keys[table]!;
  for (let first = Math.floor(from / blockSize) * blockSize; first + blockSize <= all.length; first += blockSize) {
    words.set(encodeKeyBlock(all.slice(first, first + blockSize).flat(), headDim), places.block(blockOf(world, table, first)));
  }
  for (let index = Math.max(from, Math.floor(all.length / blockSize) * blockSize); index < all.length; index++) words.set(packed(all[index]!), places.tail(table, index));
}

function packed(key: readonly number[]): Uint32Array {
  return new Uint32Array(Uint16Array.from(key, numberToF16).buffer);
}

function unpacked(words: Uint32Array): number[] {
  return Array.from(new Uint16Array(words.slice().buffer), f16ToNumber);
}

async function worldOf(gpu: Gpu, sizes: Sizes): Promise<World> {
  const { headDim, blockSize } = sizes;
  const tableBlocks = ROOM / blockSize, tables = STEP.length * LAYERS * KV_HEADS;
  const blocks = tables * tableBlocks + 3, recent = recentKeys({ slots: STEP.length, layers: LAYERS, kvHeads: KV_HEADS, blockSize, rows: CAPACITY }).all;
  const v = kvEncoding(sizes.v, headDim), keyPool = kiviPoolShape(headDim, recent, blocks, blockSize), valuePool = poolShape(v, blocks * blockSize);
  const ids = Uint32Array.from(shuffled(blocks, headDim).slice(0, tables * tableBlocks));
  const lengths = Uint32Array.from({ length: tables }, (_, table) => STEP[Math.floor(table / (LAYERS * KV_HEADS))]![0]);
  const pool = (): Float64Array => new Float64Array(blocks * blockSize * headDim).fill(NaN);
  const cache = { layers: LAYERS, kvHeads: KV_HEADS, headDim, blockSize, tableBlocks, tables: ids, lengths, kPool: pool(), vPool: pool() };
  const keys = Array.from(lengths, (length, table) => Array.from({ length }, (_, i) =>
    Array.from(numbers(headDim, 1000 * table + i), (value, d) => f16(channel(value, d, headDim)))));
  const values: number[] = [];
  for (let entry = 0; entry < blocks * blockSize; entry++) {
    const stored = encodeEntry(numbers(headDim, 9 + entry), v);
    cache.vPool.set(decodeEntry(stored, v), entry * headDim);
    values.push(...(v.format === "f16" ? new Uint16Array(stored.buffer) : stored));
  }
  const u32 = (shape: readonly number[], data: ArrayLike<number>, label: string) => put(gpu, shape, data, "u32", label, "kv");
  const words = new Uint32Array(keyPool.shape[0] * 4).fill(0x7e007e00); // NaN, wherever it is read
  const view: KvView = {
    k: { format: "kivi4", headDim }, v, layout: "paged", blockSize, tableBlocks, layers: LAYERS, kvHeads: KV_HEADS, recentRows: CAPACITY,
    kPool: await u32(keyPool.shape, new Uint32Array(words.length), "keys"),
    vPool: await put(gpu, valuePool.shape, v.format === "f16" ? values.map(f16ToNumber) : values, valuePool.dtype, "values", "kv"),
    tables: await u32([STEP.length, LAYERS, KV_HEADS, tableBlocks], ids, "tables"), lengths: await u32([STEP.length, LAYERS, KV_HEADS], lengths, "lengths"),
    layerNumbers: await u32([LAYERS, 64], new Uint32Array(LAYERS * 64).map((_, i) => Math.floor(i / 64)), "layers"),
  };
  const world = { sizes, view, cache, keys, words };
  keys.forEach((_, table) => writeKeys(world, table, 0));
  upload(gpu, view.kPool, words);
  return world;
}

function upload(gpu: Gpu, { buffer, offset }: KvView["kPool"], words: Uint32Array): void {
  gpu.upload(buffer, offset, words);
}

/** Take the device's new keys into the world, and hold every word of its pool against it. */
async function settled(gpu: Gpu, world: World, rows: readonly BatchRow[], phase: "prefill" | "decode"): Promise<void> {
  const { cache, keys, words, view: { blockSize, k: { headDim } } } = world;
  const places = placesOf(world), device = await takeU32(gpu, world.view.kPool);
  rows.forEach(({ sequence, offset }, row) => {
    for (let head = 0; head < KV_HEADS; head++) {
      const table = twin.tableOf(cache, sequence, LAYER, head), before = cache.lengths[table]!;
      const at = phase === "decode" ? places.tail(table, before) : places.row(row, head);
      const key = unpacked(device.slice(at, at + headDim / 2));
      const entry = twin.entryOf(cache, table, before + offset) * headDim;
      const exact = cache.kPool.slice(entry, entry + headDim);
      const tolerance = rotationTolerance(exact, headDim).map((allowed, d) => allowed + 2 ** -10 * Math.abs(exact[d]!) + 2 ** -24);
      near(key, exact, { absolute: tolerance }, `key of row ${row}, head ${head}`);
      if (offset === 0 && phase === "prefill") {
        for (let i = before - before % blockSize; i < before; i++) words.copyWithin(places.stepTail(sequence, head, i), places.tail(table, i), places.tail(table, i) + headDim / 2);
      }
      keys[table]!.push(key);
    }
  });
  for (let table = 0; table < keys.length; table++) writeKeys(world, table, cache.lengths[table]!);
  if (phase === "prefill") words.set(device.subarray(...places.rows), places.rows[0]);
  else {
    // Who completes a block has first put its key into the tail.
    for (const [table, all] of keys.entries()) if (all.length > cache.lengths[table]!) words.set(packed(all.at(-1)!), places.tail(table, all.length - 1));
  }
  const wrong = device.findIndex((word, i) => word !== words[i]);
  assert.is(wrong, -1, `word ${wrong} of the pool is ${device[wrong]?.toString(16)}, not ${words[wrong]?.toString(16)}; rows at ${places.rows}, blocks at ${places.block(0)}`);
}

/** What each row attends to: its own block in f16, all before as decoded. */
function attended({ cache, keys, view: { blockSize, k: { headDim } } }: World, rows: readonly BatchRow[], q: Float64Array, shape: AttentionShape): Float64Array {
  const width = shape.heads * headDim;
  const out = new Float64Array(rows.length * width);
  rows.forEach((row, i) => {
    for (let head = 0; head < KV_HEADS; head++) {
      const table = twin.tableOf(cache, row.sequence, LAYER, head), all = keys[table]!;
      const own = Math.floor((cache.lengths[table]! + row.offset) / blockSize) * blockSize;
      for (let first = 0; first <= own; first += blockSize) {
        const block = all.slice(first, first + blockSize).flat();
        cache.kPool.set(first === own ? block : decodeKeyBlock(encodeKeyBlock(block, headDim), headDim), twin.entryOf(cache, table, first) * headDim);
      }
    }
    out.set(twin.attention({ q: q.subarray(i * width, (i + 1) * width), rows: [row], cache }, shape, LAYER), i * width);
  });
  return out;
}

async function step(gpu: Gpu, world: World, phase: "prefill" | "decode", rows: readonly BatchRow[]): Promise<void> {
  const { view, cache, sizes } = world;
  const { headDim } = view.k;
  const shape = { heads: sizes.group * KV_HEADS, kvHeads: KV_HEADS, headDim };
  const layout = shape.heads === KV_HEADS ? neoxLayout(shape) : qwenLayout(shape);
  const half = headDim / 8, cosSin = cosSinOf(ROOM, half);
  const values = numbers(CAPACITY * layout.width, headDim + rows.length, 0.7).map((value, i) => {
    const at = i % layout.width - layout.k.first, d = at % layout.k.step;
    return at >= 0 && at < KV_HEADS * layout.k.step && d < headDim ? channel(value, d, headDim) : value;
  });
  const tensors = {
    qkv: await put(gpu, [CAPACITY, layout.width], values), cosSin: await put(gpu, [ROOM, half, 2], cosSin),
    q: await put(gpu, [CAPACITY, shape.heads * headDim], null), out: await put(gpu, [CAPACITY, shape.heads * headDim], null),
    partials: await put(gpu, partialsShape(shape, CAPACITY, sizes.splits ?? 1), null),
  };
  const projection = { qkv: tensors.qkv, layout, cosSin: tensors.cosSin };
  const tileRows = phase === "prefill" ? prefillTileRows(shape) : 1;
  const { words, tiles } = layOutBatch(CAPACITY, rows, tileRows, [], view.blockSize);
  const batch = { tensor: await put(gpu, [batchWords(CAPACITY)], words, "u32"), rows: CAPACITY };
  await dispatch(gpu, (recorder) => {
    if (phase === "decode") {
      const splits = sizes.splits === undefined ? null : { count: sizes.splits, keys: 64, partials: tensors.partials };
      appendAndAttend(recorder, { projection, out: tensors.out, view, batch, splits }, shape, LAYER);
    } else {
      append(recorder, { projection, q: tensors.q, view, batch }, shape, LAYER);
      attention(recorder, { q: tensors.q, out: tensors.out, view, batch }, shape, LAYER, tileRows);
    }
  }, { rows: rows.length, tiles });
  const q = twin.append({ qkv: values, cosSin, half, rows, cache, k: { format: "f32", headDim }, v: view.v }, shape, layout, LAYER);
  await settled(gpu, world, rows, phase);
  const out = (await takeF32(gpu, tensors.out)).subarray(0, q.length);
  // f16 values are rounded by the driver.
  const absolute = (view.v.format === "f16" ? 2 ** -10 : 1e-5) * largest(cache.vPool);
  near(out, attended(world, rows, q, shape), { absolute }, phase, shape.heads * headDim);
  release(gpu, batch.tensor, ...Object.values(tensors));
}

/** What is meant for GPUs takes a software adapter seconds to compile: there the last case is left to the other family. */
const casesFor = ({ family, adapter }: Gpu): readonly Sizes[] => (family === "gpu" && adapter.software ? CASES.slice(0, 2) : CASES);

for (const gpu of gpus) {
  for (const sizes of casesFor(gpu)) {
    test(`kivi4, ${gpu.family}: head_dim ${sizes.headDim}, group ${sizes.group}, blocks of ${sizes.blockSize}, ${sizes.v} values: prefill and decode`, async () => {
      const world = await worldOf(gpu, sizes);
      const { cache, view, keys } = world;
      await step(gpu, world, "prefill", STEP.flatMap(([before, rows], sequence) =>
        Array.from({ length: rows }, (_, offset) => ({ id: 0, position: before + offset, sequence, offset }))));
      STEP.forEach(([before, rows], sequence) => {
        for (let head = 0; head < KV_HEADS; head++) cache.lengths[twin.tableOf(cache, sequence, LAYER, head)] = before + rows;
      });
      upload(gpu, view.lengths, cache.lengths);
      await step(gpu, world, "decode", STEP.map(([before, rows], sequence) => ({ id: 0, position: before + rows, sequence, offset: 0 })));

      // Tails anew: of a table from another's, and from a block as it is decoded.
      const [copied, source, refilled] = [1, 3, twin.tableOf(cache, 5, LAYER, 1)];
      const moves = await put(gpu, [2, 2], [copied, source, refilled, REFILL_BLOCK + blockOf(world, refilled, 0)], "u32");
      await dispatch(gpu, (recorder) => refill(recorder, { moves, view }));
      const places = placesOf(world), { headDim } = sizes, words = await takeU32(gpu, view.kPool);
      const tailWords = sizes.blockSize * headDim / 2;
      world.words.copyWithin(places.tail(copied, 0), places.tail(source, 0), places.tail(source, 0) + tailWords);
      near(words.subarray(places.tail(copied, 0), places.tail(copied, 0) + tailWords), world.words.subarray(places.tail(copied, 0), places.tail(copied, 0) + tailWords), {}, "a copied tail");
      const block = decodeKeyBlock(encodeKeyBlock(keys[refilled]!.slice(0, sizes.blockSize).flat(), headDim), headDim);
      const tail = unpacked(words.subarray(places.tail(refilled, 0), places.tail(refilled, 0) + tailWords));
      near(tail, block, { absolute: 2 ** -24, relative: 2 ** -10 }, "a refilled tail", headDim);
      release(gpu, moves, view.kPool, view.vPool, view.tables, view.lengths, view.layerNumbers);
    });
  }
}

test("tiles end where blocks do, so that rows of a tile have one block of their own", () => {
  const rows = [[5, 30], [64, 9]].flatMap(([first, count], sequence) =>
    Array.from({ length: count! }, (_, offset) => ({ id: 0, position: first! + offset, sequence, offset })));
  const { words, tiles } = layOutBatch(40, rows, 8, [], 16);
  const tile = Array.from(words.subarray(words.length - 80, words.length - 80 + tiles), (word) => [word & 0xffffff, word >>> 24]);
  assert.equal(tile, [[0, 8], [8, 3], [11, 8], [19, 8], [27, 3], [30, 8], [38, 1]]);
});

test("a batch of more rows than the cache has room for stops at the launch", async () => {
  const [gpu] = gpus as [Gpu];
  const world = await worldOf(gpu, CASES[1]!);
  const view = { ...world.view, recentRows: 152 };
  const rows = [{ id: 0, position: 0, sequence: 0, offset: 0 }];
  let message = "";
  await step(gpu, { ...world, view }, "prefill", rows).catch((error: Error) => { message = error.message; });
  assert.match(message, /a batch of 160 rows, but the cache has room for the keys of 152/);
});

test.run();
