/**
 * A KV cache for kernel tests, on the device and as its twin: several sequences whose tables are permuted and whose heads may have
 * different lengths, as after an eviction. Entries that no table owns are NaN, so reading one cannot go unseen. And the fused
 * projections that are appended to it, laid out as the models lay them out.
 */

import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { AttentionShape, KvView, QkvLayout } from "../../kernels/attention.ts";
import { kvEncodings, poolShape, type KvChoice, type KvEntryEncoding } from "../../kernels/kv_formats.ts";
import { entryOf, type CacheTwin } from "../../kernels/reference/attention.ts";
import { decodeEntry, encodeEntry } from "../../kernels/reference/kv.ts";
import { near, numbers, put, shuffled, take } from "./gpu.ts";

export interface CachePlan {
  readonly format: KvChoice;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  readonly tableBlocks: number;
  /** Entries each table (sequence, layer, head) owns, filled with numbers. */
  readonly owned: Uint32Array;
  /** Entries each table says it has. */
  readonly lengths: Uint32Array;
  readonly seed: number;
  /** The kernels find entries by the first of each table; `tableBlocks` must be 1. */
  readonly contiguous?: boolean;
}

export interface TestCache { readonly view: KvView & { readonly k: KvEntryEncoding }; readonly twin: CacheTwin; readonly tensors: readonly Tensor[] }

/** A format as a test's name says it. */
export function kvInWords(choice: KvChoice): string {
  if (typeof choice === "string") return choice;
  return "k" in choice ? `${kvInWords(choice.k)} keys and ${kvInWords(choice.v)} values` : `${choice.format} in groups of ${choice.group}`;
}

/** The i-th entry of a table holds the same numbers whatever the layout, so that layouts can be compared. */
export async function testCache(gpu: Gpu, plan: CachePlan): Promise<TestCache> {
  const { format, layers, kvHeads, headDim, blockSize, tableBlocks, owned, lengths, seed, contiguous = false } = plan;
  const count = owned.length;
  const { k, v } = kvEncodings(format, headDim);
  if (k.format === "kivi4") throw new Error("keys of kivi4 are in no entries: test/kernels/kivi.gpu.test.ts has a cache of them");
  const blocks = count * tableBlocks + 3;
  const tables = Uint32Array.from(shuffled(blocks, seed).slice(0, count * tableBlocks));
  const pool = (): Float64Array => new Float64Array(blocks * blockSize * headDim).fill(NaN);
  const twin: CacheTwin = { layers, kvHeads, headDim, blockSize, tableBlocks, tables, lengths, kPool: pool(), vPool: pool() };
  for (let table = 0; table < count; table++) {
    const [keys, values] = [1, 2].map((salt) => numbers(owned[table]! * headDim, seed + 1000 * table + salt));
    for (let i = 0; i < owned[table]!; i++) {
      const at = entryOf(twin, table, i) * headDim;
      twin.kPool.set(keys!.subarray(i * headDim, (i + 1) * headDim), at);
      twin.vPool.set(values!.subarray(i * headDim, (i + 1) * headDim), at);
    }
  }
  const sequences = count / layers / kvHeads;
  const view = {
    k, v, layout: contiguous ? "contiguous" as const : "paged" as const, blockSize, tableBlocks, layers, kvHeads, recentRows: 0,
    kPool: await putPool(gpu, k, twin.kPool, "keys"), vPool: await putPool(gpu, v, twin.vPool, "values"),
    tables: await put(gpu, [sequences, layers, kvHeads, tableBlocks], contiguous ? tables.map((block) => block * blockSize) : tables, "u32", "tables", "kv"),
    lengths: await put(gpu, [sequences, layers, kvHeads], lengths, "u32", "lengths", "kv"),
    layerNumbers: await put(gpu, [layers, 64], new Uint32Array(layers * 64).map((_, i) => Math.floor(i / 64)), "u32", "layers", "kv"),
  };
  return { view, twin, tensors: [view.kPool, view.vPool, view.tables, view.lengths, view.layerNumbers] };
}

/** Store numbers [entries, headDim] in a pool on the device; in `pool` they become what a read gives of them. NaN stays NaN. */
async function putPool(gpu: Gpu, encoding: KvEntryEncoding, pool: Float64Array, label: string): Promise<Tensor> {
  const { headDim } = encoding;
  const { shape, dtype } = poolShape(encoding, pool.length / headDim);
  const words: number[] = [];
  for (let at = 0; at < pool.length; at += headDim) {
    const entry = encodeEntry(pool.subarray(at, at + headDim), encoding);
    pool.set(decodeEntry(entry, encoding), at);
    if (dtype === "u32") words.push(...entry);
  }
  return put(gpu, shape, dtype === "u32" ? words : pool, dtype, label, "kv");
}

/** The numbers that a pool on the device stands for, [entries, headDim]. */
export async function readPool(gpu: Gpu, pool: Tensor, encoding: KvEntryEncoding): Promise<Float64Array> {
  const words = new Uint32Array((await take(gpu, pool)).slice().buffer);
  const { headDim } = encoding;
  const [entries] = pool.shape as readonly [number];
  const of = words.length / entries;
  const numbers = new Float64Array(entries * headDim);
  for (let i = 0; i < entries; i++) numbers.set(decodeEntry(words.subarray(i * of, (i + 1) * of), encoding), i * headDim);
  return numbers;
}

/** GPT-NeoX: query, key and value of a head side by side. */
export function neoxLayout({ heads, headDim }: AttentionShape): QkvLayout {
  const step = 3 * headDim;
  return { width: heads * step, q: { first: 0, step }, k: { first: headDim, step }, v: { first: 2 * headDim, step } };
}

/** Qwen: all queries, all keys, all values. */
export function qwenLayout({ heads, kvHeads, headDim: step }: AttentionShape): QkvLayout {
  const [k, v, width] = [heads * step, (heads + kvHeads) * step, (heads + 2 * kvHeads) * step];
  return { width, q: { first: 0, step }, k: { first: k, step }, v: { first: v, step } };
}

/** cos and sin of position · 10000^(−d / half), as models tabulate them: [positions, half, 2]. */
export function cosSinOf(positions: number, half: number): Float32Array {
  const angles = Array.from({ length: positions * half }, (_, i) => Math.floor(i / half) * 10_000 ** (-(i % half) / half));
  return Float32Array.from(angles.flatMap((angle) => [Math.cos(angle), Math.sin(angle)]));
}

/** A rotation adds two products, which may cancel: for each value a few roundings of the greatest of its head. */
export function rotationTolerance(values: ArrayLike<number>, headDim: number): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const head = Math.floor(i / headDim) * headDim;
    let greatest = 0;
    for (let d = 0; d < headDim; d++) greatest = Math.max(greatest, Math.abs(values[head + d]!));
    return 4 * 2 ** -23 * greatest;
  });
}

/** One step in the last place of a format, relative; and what 16-bit floats cannot resolve near zero. */
const STEP_OF = { f32: 2 ** -22, f16: 2 ** -10, bf16: 2 ** -7 } as const;
const SMALLEST = { f32: 0, f16: 2 ** -14, bf16: 0 } as const;

/** For each number of an entry one step of what it is stored in; in groups, of a scale that may be another by its own last place. */
function stepsOf(entry: Float64Array, encoding: KvEntryEncoding): Float64Array {
  if (!("group" in encoding)) return entry.map((value) => STEP_OF[encoding.format] * Math.abs(value) + SMALLEST[encoding.format]);
  const { format, group, headDim } = encoding;
  const steps = new Float64Array(headDim);
  for (let first = 0; first < headDim; first += group) {
    const members = entry.subarray(first, first + group);
    const [low, high] = [members.reduce((a, b) => Math.min(a, b)), members.reduce((a, b) => Math.max(a, b))];
    steps.fill(1.25 * (format === "int8" ? Math.max(-low, high) / 127 : (high - low) / 15 + 2 ** -10 * Math.abs(low)), first, first + group);
  }
  return steps;
}

/**
 * Check the device's pools against the twin's after an append to both, and give the device's. Entries that the append had no business
 * with (as `before` has them) must be the same bits; keys may miss by the rotation and one step of the format; values are only
 * stored: exactly, but in f16, where WGSL leaves the rounding to the driver, so one step of it.
 */
export async function nearPools(
  gpu: Gpu, { view: { k, v, ...view }, twin: { kPool, vPool, headDim } }: TestCache, before: { readonly kPool: Float64Array; readonly vPool: Float64Array },
): Promise<{ kPool: Float64Array; vPool: Float64Array }> {
  const device = { kPool: await readPool(gpu, view.kPool, k), vPool: await readPool(gpu, view.vPool, v) };
  /** Zero for entries that are as before, else what `allowed` gives for them. */
  const tolerance = (pool: Float64Array, then: Float64Array, allowed: (entry: Float64Array) => Float64Array): Float64Array => {
    const all = new Float64Array(pool.length);
    for (let at = 0; at < pool.length; at += headDim) {
      const entry = pool.subarray(at, at + headDim);
      if (!entry.every((value, d) => Object.is(value, then[at + d]))) all.set(allowed(entry), at);
    }
    return all;
  };
  const keys = tolerance(kPool, before.kPool, (entry) => {
    const rotation = rotationTolerance(entry, headDim);
    return stepsOf(entry, k).map((step, d) => step + rotation[d]!);
  });
  const values = tolerance(vPool, before.vPool, (entry) => (v.format === "f16" ? stepsOf(entry, v) : new Float64Array(headDim)));
  near(device.kPool, kPool, { absolute: keys }, "keys", headDim);
  near(device.vPool, vPool, { absolute: values }, "values", headDim);
  return device;
}
