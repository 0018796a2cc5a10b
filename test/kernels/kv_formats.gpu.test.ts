/**
 * The number formats of keys and values on the device: the words that an append writes are those of the twin to the bit, for every
 * awkward number and on every kernel family; and a decoded row attends to its own key and value as they are stored.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { append, appendAndAttend, attention, prefillTileRows, type KvView } from "../../kernels/attention.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import type { KvChoice } from "../../kernels/kv_formats.ts";
import { encodeEntry } from "../../kernels/reference/kv.ts";
import { kvInWords, qwenLayout, readPool, testCache, type TestCache } from "../support/cache.ts";
import { dispatch, largest, near, numbers, openFamilies, put, release, take, takeF32, takeU32 } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

/** Heads that formats in groups may stumble over. */
function awkward(headDim: number): Float32Array[] {
  const all = (of: (d: number) => number): Float32Array => Float32Array.from({ length: headDim }, (_, d) => of(d));
  const plain = numbers(headDim, 7);
  return [
    all(() => 0), all(() => -0), all((d) => (d % 2 === 0 ? 0 : -0)), all(() => 1000.3), all(() => -1000.3), all(() => 1e-7),
    plain.with(5, 1e4), plain.with(5, -1e4), plain.map((value) => Math.abs(value)), plain.map((value) => -Math.abs(value) - 3),
    plain.map((value) => value * 1e-6), plain.map((value) => value * 1e-9), plain.map((value) => value * 1e-20), plain.map((value) => value * 2e4),
    // Halfway between codes: scales of 1/2 in int8, and of 1 in int4.
    all((d) => (d % 8 === 0 ? 63.5 : (d % 8 - 4) * 0.75)), all((d) => (d % 8 === 0 ? 15 : d % 8 === 1 ? 0 : d + 0.5 - 8 * Math.floor(d / 8))),
    plain.with(3, 3e38), plain.with(3, 3e38).with(2, -3e38), plain.with(0, 1e6).with(1, -1e6), plain.with(2, 8.4e6),
    ...Array.from({ length: 12 }, (_, seed) => numbers(headDim, 100 + seed, 10 ** (seed % 4 - 2))),
  ];
}
/** Only for values: a key's dimension that turns by nothing would still be multiplied with its partner. */
const broken = (headDim: number): Float32Array[] =>
  [NaN, Infinity, -Infinity].flatMap((value) => [1, headDim - 2].map((d) => numbers(headDim, 5).with(d, value)));

/** Every row a sequence of its own at position 0, where nothing turns. qkv: one head each of queries, keys and values. */
async function stepOf(gpu: Gpu, rows: readonly { readonly k: Float32Array; readonly v: Float32Array }[], heads: number) {
  const headDim = rows[0]!.k.length;
  const shape = { heads, kvHeads: 1, headDim };
  const layout = qwenLayout(shape);
  const values = rows.flatMap(({ k, v }, i) => [...numbers(heads * headDim, i), ...k, ...v]);
  const batchRows = rows.map((_, sequence) => ({ id: 0, position: 0, sequence, offset: 0 }));
  const { words, tiles } = layOutBatch(rows.length, batchRows, 1, []);
  return {
    shape, tiles, batch: { tensor: await put(gpu, [batchWords(rows.length)], words, "u32"), rows: rows.length },
    projection: {
      qkv: await put(gpu, [rows.length, layout.width], values), layout,
      cosSin: await put(gpu, [1, headDim / 2, 2], Array.from({ length: headDim }, (_, i) => 1 - (i % 2))),
    },
    q: await put(gpu, [rows.length, heads * headDim], null),
  };
}

function emptyCache(gpu: Gpu, format: KvChoice, headDim: number, owned: Uint32Array): Promise<TestCache> {
  return testCache(gpu, { format, layers: 1, kvHeads: 1, headDim, blockSize: 16, tableBlocks: 2, owned, lengths: owned, seed: headDim });
}

/** The words of the entry behind those that each sequence has. */
async function newest(gpu: Gpu, { view, twin }: TestCache, side: "k" | "v"): Promise<Uint32Array[]> {
  const words = await takeU32(gpu, view[`${side}Pool`]);
  const of = words.length / view.kPool.shape[0]!;
  return Array.from(twin.lengths, (length, sequence) => {
    const entry = twin.tables[sequence * 2 + Math.floor(length / 16)]! * 16 + length % 16;
    return words.slice(entry * of, (entry + 1) * of);
  });
}

const GROUPED: readonly (readonly [headDim: number, format: KvChoice])[] = [
  [64, { k: "int8", v: "int4" }], [64, { k: "int4", v: "int8" }], [80, { k: "int8", v: "int4" }], [80, { k: { format: "int4", group: 20 }, v: { format: "int8", group: 4 } }],
  [16, { k: "int4", v: "int8" }], [256, { k: "int8", v: { format: "int4", group: 64 } }],
];

for (const gpu of gpus) {
  for (const [headDim, format] of GROUPED) {
    test(`words, ${gpu.family}: head_dim ${headDim}, ${kvInWords(format)} are the twin's to the bit`, async () => {
      const heads = awkward(headDim), plain = heads.at(-1)!;
      const rows = [...heads.map((k, i) => ({ k, v: heads[(i + 5) % heads.length]! })), ...broken(headDim).map((v) => ({ k: plain, v }))];
      const cache = await emptyCache(gpu, format, headDim, Uint32Array.from(rows, (_, i) => i % 19));
      const { projection, q, batch, shape } = await stepOf(gpu, rows, 1);
      await dispatch(gpu, (recorder) => append(recorder, { projection, q, view: cache.view, batch }, shape, 0), { rows: rows.length });
      for (const side of ["k", "v"] as const) {
        (await newest(gpu, cache, side)).forEach((words, i) => {
          const hex = (all: Uint32Array): string => Array.from(all, (word) => word.toString(16).padStart(8, "0")).join(" ");
          assert.is(hex(words), hex(encodeEntry(rows[i]![side], cache.view[side])), `${side} of row ${i}: ${rows[i]![side].slice(0, 8).join(" ")} …`);
        });
      }
      release(gpu, q, batch.tensor, projection.qkv, projection.cosSin, ...cache.tensors);
    });
  }

  for (const format of ["int8", "int4", { k: "int4", v: "int8" }] as const) {
    test(`own entry, ${gpu.family}: with ${kvInWords(format)} decoding gives what append and attention give`, async () => {
      const headDim = 16;
      const rows = Array.from({ length: 8 }, (_, i) => ({ k: numbers(headDim, i), v: numbers(headDim, 50 + i) }));
      const before = Uint32Array.of(0, 0, 1, 2, 7, 15, 16, 30);
      const run = async (decode: boolean): Promise<{ out: Float32Array; k: Uint8Array; v: Uint8Array; view: KvView; values: Float64Array }> => {
        const cache = await emptyCache(gpu, format, headDim, before);
        const { projection, q, batch, shape, tiles } = await stepOf(gpu, rows, 2);
        const out = await put(gpu, [rows.length, 2 * headDim], null);
        await dispatch(gpu, (recorder) => {
          if (decode) appendAndAttend(recorder, { projection, out, view: cache.view, batch }, shape, 0);
          else {
            append(recorder, { projection, q, view: cache.view, batch }, shape, 0);
            attention(recorder, { q, out, view: cache.view, batch }, shape, 0, prefillTileRows(shape));
          }
        }, { rows: rows.length, tiles });
        const { view } = cache;
        const result = { out: await takeF32(gpu, out), k: await take(gpu, view.kPool), v: await take(gpu, view.vPool), view, values: await readPool(gpu, view.vPool, view.v) };
        const tables = cache.twin.tables;
        // Who sees nothing but itself gets its own value, as it is stored.
        for (const row of [0, 1]) {
          const entry = tables[row * 2]! * 16;
          const own = result.values.slice(entry * headDim, (entry + 1) * headDim);
          near(result.out.subarray(row * 2 * headDim, (row * 2 + 1) * headDim), own, {}, `row ${row} alone`);
          assert.ok(own.some((value, d) => value !== rows[row]!.v[d]), "storing has changed it");
        }
        release(gpu, q, out, batch.tensor, projection.qkv, projection.cosSin, ...cache.tensors);
        return result;
      };
      const [fused, apart] = [await run(true), await run(false)];
      assert.ok(Buffer.from(fused.k).equals(Buffer.from(apart.k)) && Buffer.from(fused.v).equals(Buffer.from(apart.v)), "the same words are stored");
      near(fused.out, apart.out, { absolute: 1e-6 * largest(fused.values) }, "decoding against append and attention", 2 * headDim);
    });
  }
}

test.run();
