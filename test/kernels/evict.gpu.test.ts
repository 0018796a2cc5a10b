/**
 * What stands around the selection of entries, against its twin: dense copies of every format, kept entries that move bit for bit, and
 * keys that are rotated to their new places. Heads differ in length; a layer and a sequence before the one meant must stay as they are.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { gather, type KvView } from "../../kernels/attention.ts";
import { denseEntries, denseLengths, denseNotes, moveKept, rerotate } from "../../kernels/evict.ts";
import type { KvChoice } from "../../kernels/kv_formats.ts";
import { noteWords, type KvNotes } from "../../kernels/kv_notes.ts";
import { entryOf, rope, tableOf } from "../../kernels/reference/attention.ts";
import * as twin from "../../kernels/reference/evict.ts";
import { cosSinOf, kvInWords, nearPools, readPool, testCache, type TestCache } from "../support/cache.ts";
import { dispatch, encoded, near, numbers, openFamilies, put, refill, release, take, takeF32, takeU32, uniform } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const [LAYERS, LAYER, SLOTS, SLOT, BLOCK, TABLE, COLUMNS] = [2, 1, 3, 1, 16, 5, 128];
/** Entries of the heads that are pressed: over several turns of a workgroup, past a block by one, all of a few, none. */
const LENGTHS = [77, 33, 7, 0];
const H = LENGTHS.length;
const ROWS = Math.max(...LENGTHS);
const UNTOUCHED = 0xdeadbeef;

interface Case { readonly format: KvChoice; readonly headDim: number; /** Pairs of dimensions that rotate. */ readonly half: number }

/** Every format; 25 % of 80 dimensions rotate, so that pairs straddle what a lane holds, or 25 % of 64, or all of 128. */
const CASES: readonly Case[] = [
  { format: "f32", headDim: 80, half: 10 },
  { format: "f16", headDim: 64, half: 8 },
  { format: "bf16", headDim: 128, half: 64 },
  { format: "int8", headDim: 80, half: 10 },
  { format: { k: "int4", v: "f16" }, headDim: 64, half: 32 },
  { format: { k: { format: "int4", group: 20 }, v: { format: "int8", group: 20 } }, headDim: 80, half: 20 },
];

interface Eviction {
  readonly cache: TestCache; readonly view: KvView; readonly notes: KvNotes; readonly slot: Tensor;
  readonly order: Tensor; readonly cut: Tensor; readonly fresh: Tensor; readonly kept: twin.KeptTwin;
}

/** A cache of three sequences, the last of which has blocks but no entries: they are the fresh ones. About half of each head is kept. */
async function eviction(gpu: Gpu, { format, headDim }: Case, seed: number): Promise<Eviction> {
  const lengths = new Uint32Array(SLOTS * LAYERS * H).map((_, table) => {
    const [slot, layer] = [Math.floor(table / H / LAYERS), Math.floor(table / H) % LAYERS];
    return slot === SLOT && layer === LAYER ? LENGTHS[table % H]! : slot === 2 ? 0 : 20 + table;
  });
  const cache = await testCache(gpu, { format, layers: LAYERS, kvHeads: H, headDim, blockSize: BLOCK, tableBlocks: TABLE, owned: lengths, lengths, seed });
  const entries = cache.view.kPool.shape[0]!, words = noteWords({ norms: true, attention: true });
  const notes = { ...words, tensor: await put(gpu, [entries, words.words], numbers(entries * words.words, seed).map(Math.abs), "f32", "notes") };
  const random = uniform(seed);
  const order = LENGTHS.map((length, head) => Array.from({ length }, (_, i) => i).filter((i) => head === 2 || i < 2 || random() < 0.5));
  const fresh = LENGTHS.map((_, head) => {
    const table = tableOf(cache.twin, 2, LAYER, head);
    return Array.from({ length: TABLE }, (_, i) => cache.twin.tables[table * TABLE + i]!);
  });
  const indices = new Uint32Array(H * COLUMNS).fill(UNTOUCHED); // behind what is kept: what no kernel may follow
  order.forEach((each, head) => indices.set(each, head * COLUMNS));
  return {
    cache, notes, view: { ...cache.view, notes }, slot: await put(gpu, [1], [SLOT], "u32", "slot"), kept: { order, fresh },
    order: await put(gpu, [H, COLUMNS], indices, "u32", "order"), cut: await put(gpu, [H, 4], order.flatMap((each) => [0, 0, each.length, 0]), "u32", "cut"),
    fresh: await put(gpu, [H, TABLE], fresh.flat(), "u32", "fresh"),
  };
}

function drop(gpu: Gpu, { cache, notes, slot, order, cut, fresh }: Eviction): void {
  release(gpu, ...cache.tensors, notes.tensor, slot, order, cut, fresh);
}

/** What a kernel wrote to out [H, width, COLUMNS] is `expected` of each head [width, length], and the columns behind are untouched. */
function sameColumns(out: Uint32Array, width: number, expected: (head: number) => ArrayLike<number>, what: string): void {
  const floats = new Float32Array(out.buffer);
  LENGTHS.forEach((length, head) => {
    const wanted = expected(head);
    for (let row = 0; row < width; row++) {
      const at = (head * width + row) * COLUMNS;
      near(floats.subarray(at, at + length), Array.from(wanted).slice(row * length, (row + 1) * length), {}, `${what}, head ${head}, row ${row}`);
      assert.ok(out.subarray(at + length, at + COLUMNS).every((word) => word === UNTOUCHED), `${what}, head ${head}: written behind its entries`);
    }
  });
}

const inWords = ({ format, headDim }: Case): string => `${kvInWords(format)}, head_dim ${headDim}`;

for (const gpu of gpus) {
  for (const [seed, sizes] of CASES.entries()) {
    const { headDim, half } = sizes;

    test(`denseEntries, ${gpu.family}: ${inWords(sizes)}`, async () => {
      const evicted = await eviction(gpu, sizes, seed + 1), { cache, view, slot } = evicted;
      for (const which of ["k", "v"] as const) {
        const out = await put(gpu, [H, headDim, COLUMNS], null, "f32", "out");
        await dispatch(gpu, (recorder) => denseEntries(recorder, { view, slot, which, out }, LAYER), { rows: ROWS });
        const pool = which === "k" ? cache.twin.kPool : cache.twin.vPool;
        sameColumns(await takeU32(gpu, out), headDim, (head) => twin.dense(cache.twin, pool, headDim, SLOT, LAYER, head), which);
        release(gpu, out);
      }
      drop(gpu, evicted);
    });

    test(`moveKept and rerotate, ${gpu.family}: ${inWords(sizes)}, ${half} pairs rotate`, async () => {
      const evicted = await eviction(gpu, sizes, seed + 1), { cache, view, notes, slot, order, cut, fresh, kept } = evicted;
      const notesBefore = Float64Array.from(await takeF32(gpu, notes.tensor));
      await dispatch(gpu, (recorder) => moveKept(recorder, { view, slot, order, cut, fresh }, LAYER), { rows: ROWS });
      const pools = [{ values: cache.twin.kPool, width: headDim }, { values: cache.twin.vPool, width: headDim }, { values: notesBefore, width: notes.words }];
      twin.moveKept(cache.twin, kept, pools, SLOT, LAYER);
      near(await readPool(gpu, view.kPool, cache.view.k), cache.twin.kPool, {}, "keys", headDim);
      near(await readPool(gpu, view.vPool, cache.view.v), cache.twin.vPool, {}, "values", headDim);
      near(await takeF32(gpu, notes.tensor), notesBefore, {}, "notes", notes.words);

      const cosSin = cosSinOf(ROWS, half), table = await put(gpu, [ROWS, half, 2], cosSin, "f32", "cosSin");
      const before = { kPool: cache.twin.kPool.slice(), vPool: cache.twin.vPool.slice() };
      await dispatch(gpu, (recorder) => rerotate(recorder, { view, cosSin: table, order, cut, fresh }, LAYER), { rows: ROWS });
      twin.rerotate(cache.twin, kept, { cosSin, half, k: cache.view.k });
      await nearPools(gpu, cache, before);
      near(await takeF32(gpu, notes.tensor), notesBefore, {}, "notes", notes.words);
      release(gpu, table);
      drop(gpu, evicted);
    });
  }

  test(`denseLengths and denseNotes, ${gpu.family}: of the layer and sequence asked for; moveKept without notes`, async () => {
    const evicted = await eviction(gpu, CASES[0]!, 5), { cache, view, notes, slot, order, cut, fresh } = evicted;
    const lengths = await put(gpu, [H], null, "u32", "lengths");
    const outs = { norms: await put(gpu, [H, COLUMNS], null), attention: await put(gpu, [H, COLUMNS], null), positions: await put(gpu, [H, COLUMNS], null, "u32") };
    await dispatch(gpu, (recorder) => {
      denseLengths(recorder, { view, slot, out: lengths }, LAYER);
      denseNotes(recorder, { view, slot, ...outs }, LAYER);
      moveKept(recorder, { view: cache.view, slot, order, cut, fresh }, LAYER);
    }, { rows: ROWS });
    assert.equal([...await takeU32(gpu, lengths)], LENGTHS);
    const all = await takeF32(gpu, notes.tensor);
    for (const [word, out] of [outs.norms, outs.attention, outs.positions].entries()) {
      const noted = (head: number): Float64Array => twin.dense(cache.twin, all, notes.words, SLOT, LAYER, head);
      sameColumns(await takeU32(gpu, out), 1, (head) => noted(head).subarray(word * LENGTHS[head]!, (word + 1) * LENGTHS[head]!), `word ${word}`);
    }
    near(all, numbers(all.length, 5).map(Math.abs), {}, "notes of a cache without");
    release(gpu, lengths, ...Object.values(outs));
    drop(gpu, evicted);
  });

  test(`gather, ${gpu.family}: notes go with their entries`, async () => {
    const evicted = await eviction(gpu, CASES[1]!, 3), { cache, view, notes } = evicted;
    const [source, place] = [entryOf(cache.twin, tableOf(cache.twin, SLOT, LAYER, 0), 20), twin.freshEntry(cache.twin, evicted.kept, 0, 17)];
    const moves = await put(gpu, [1, 2], [source, place], "u32"), expected = await takeF32(gpu, notes.tensor);
    await dispatch(gpu, (recorder) => gather(recorder, { moves, view }));
    expected.copyWithin(place * notes.words, source * notes.words, (source + 1) * notes.words);
    near(await takeF32(gpu, notes.tensor), expected, {}, "notes", notes.words);
    release(gpu, moves);
    drop(gpu, evicted);
  });

  for (const { format, tolerance } of [{ format: "f32", tolerance: 4 * 2 ** -23 }, { format: "f16", tolerance: 1.5 * 2 ** -10 }] as const) {
    test(`rerotate, ${gpu.family}: turning a key by −old and +new is turning it by new, ${format}; what has not moved keeps its bits`, async () => {
      const headDim = 64, half = 32;
      const evicted = await eviction(gpu, { format, headDim, half }, 9), { cache, view, slot, order, cut, fresh, kept } = evicted;
      const cosSin = cosSinOf(ROWS, half), table = await put(gpu, [ROWS, half, 2], cosSin, "f32", "cosSin");
      const plain = (head: number, index: number): number[] => [...numbers(headDim, 1000 * head + index)];
      LENGTHS.forEach((length, head) => {
        const at = tableOf(cache.twin, SLOT, LAYER, head);
        for (let i = 0; i < length; i++) cache.twin.kPool.set(rope(plain(head, i), cosSin, half, i), entryOf(cache.twin, at, i) * headDim);
      });
      refill(gpu, view.kPool, cache.twin.kPool);
      await dispatch(gpu, (recorder) => moveKept(recorder, { view, slot, order, cut, fresh }, LAYER), { rows: ROWS });
      const moved = await take(gpu, view.kPool);
      await dispatch(gpu, (recorder) => rerotate(recorder, { view, cosSin: table, order, cut, fresh }, LAYER), { rows: ROWS });
      const [turned, keys] = [await take(gpu, view.kPool), await readPool(gpu, view.kPool, cache.view.k)];
      const bytes = encoded(new Float32Array(headDim), format).length;
      let still = 0;
      kept.order.forEach((indices, head) => indices.forEach((index, i) => {
        const entry = twin.freshEntry(cache.twin, kept, head, i), key = plain(head, index);
        const greatest = key.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        const absolute = 2 * tolerance * greatest;
        near(keys.subarray(entry * headDim, (entry + 1) * headDim), rope(key, cosSin, half, i), { absolute }, `head ${head}, ${index} to ${i}`);
        if (index !== i) return;
        still++;
        assert.equal(turned.subarray(entry * bytes, (entry + 1) * bytes), moved.subarray(entry * bytes, (entry + 1) * bytes), `head ${head}, entry ${i}`);
      }));
      assert.ok(still >= 2 + 2 + LENGTHS[2]!, "entries that stay where they are");
      release(gpu, table);
      drop(gpu, evicted);
    });
  }

  test(`evict, ${gpu.family}: what does not fit is refused by name`, async () => {
    const evicted = await eviction(gpu, CASES[0]!, 2), { cache, view, slot, order, cut, fresh } = evicted;
    const refused = (record: Parameters<typeof dispatch>[1], message: RegExp): Promise<void> =>
      dispatch(gpu, record).then(() => assert.unreachable("was taken"), (error: Error) => assert.match(error.message, message));
    await refused((recorder) => moveKept(recorder, { view: { ...view, layout: "contiguous" }, slot, order, cut, fresh }, LAYER), /moveKept: a contiguous cache cannot be taken apart/);
    await refused((recorder) => denseNotes(recorder, { view: cache.view, slot, norms: order }, LAYER), /denseNotes: the cache has no notes of norms/);
    const kivi = { ...view, k: { format: "kivi4", headDim: 80 } } as const;
    await refused((recorder) => rerotate(recorder, { view: kivi, cosSin: order, order, cut, fresh }, LAYER), /rerotate: cosSin must have shape/);
    await refused((recorder) => denseEntries(recorder, { view: kivi, slot, which: "k", out: { ...order, shape: [H, 80, COLUMNS] } }, LAYER), /keys of kivi4 lie in blocks/);
    drop(gpu, evicted);
  });
}

test.run();
