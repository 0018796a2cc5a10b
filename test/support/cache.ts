/**
 * A KV cache for kernel tests, on the device and as its twin: several sequences whose tables are permuted and whose heads may have
 * different lengths, as after an eviction. Entries that no table owns are NaN, so reading one cannot go unseen. And the fused
 * projections that are appended to it, laid out as the models lay them out.
 */

import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { AttentionShape, KvView, QkvLayout } from "../../kernels/attention.ts";
import { entryOf, type CacheTwin } from "../../kernels/reference/attention.ts";
import { decoded, near, numbers, put, rounded, shuffled, take, type FloatFormat } from "./gpu.ts";

export interface CachePlan {
  readonly format: FloatFormat;
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

export interface TestCache { readonly view: KvView; readonly twin: CacheTwin; readonly tensors: readonly Tensor[] }

/** The i-th entry of a table holds the same numbers whatever the layout, so that layouts can be compared. */
export async function testCache(gpu: Gpu, plan: CachePlan): Promise<TestCache> {
  const { format, layers, kvHeads, headDim, blockSize, tableBlocks, owned, lengths, seed, contiguous = false } = plan;
  const count = owned.length;
  const blocks = count * tableBlocks + 3;
  const tables = Uint32Array.from(shuffled(blocks, seed).slice(0, count * tableBlocks));
  const twin: CacheTwin = {
    layers, kvHeads, headDim, blockSize, tableBlocks, tables, lengths,
    kPool: new Float64Array(blocks * blockSize * headDim).fill(NaN), vPool: new Float64Array(blocks * blockSize * headDim).fill(NaN),
  };
  for (let table = 0; table < count; table++) {
    const [k, v] = [1, 2].map((salt) =>
      numbers(owned[table]! * headDim, seed + 1000 * table + salt).map((value) => rounded(value, format)));
    for (let i = 0; i < owned[table]!; i++) {
      const at = entryOf(twin, table, i) * headDim;
      twin.kPool.set(k!.subarray(i * headDim, (i + 1) * headDim), at);
      twin.vPool.set(v!.subarray(i * headDim, (i + 1) * headDim), at);
    }
  }
  const sequences = count / layers / kvHeads;
  const view: KvView = {
    format, layout: contiguous ? "contiguous" : "paged", blockSize, tableBlocks, layers, kvHeads,
    kPool: await put(gpu, [blocks * blockSize, headDim], twin.kPool, format, "keys", "kv"),
    vPool: await put(gpu, [blocks * blockSize, headDim], twin.vPool, format, "values", "kv"),
    tables: await put(gpu, [sequences, layers, kvHeads, tableBlocks], contiguous ? tables.map((block) => block * blockSize) : tables, "u32", "tables", "kv"),
    lengths: await put(gpu, [sequences, layers, kvHeads], lengths, "u32", "lengths", "kv"),
    layerNumbers: await put(gpu, [layers, 64], new Uint32Array(layers * 64).map((_, i) => Math.floor(i / 64)), "u32", "layers", "kv"),
  };
  return { view, twin, tensors: [view.kPool, view.vPool, view.tables, view.lengths, view.layerNumbers] };
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

/**
 * Check the device's pools against the twin's after an append to both, and give the device's. Entries that the append had no business
 * with (as `before` has them) must be the same bits; keys may miss by the rotation and one step of the format; values are only
 * rounded: exactly in f32 and bf16, while WGSL leaves the rounding to f16 to the driver, so one step of it.
 */
export async function nearPools(
  gpu: Gpu, { view, twin: { kPool, vPool, headDim } }: TestCache, before: { readonly kPool: Float64Array; readonly vPool: Float64Array },
): Promise<{ kPool: Float64Array; vPool: Float64Array }> {
  const { format } = view;
  const device = { kPool: decoded(await take(gpu, view.kPool), format), vPool: decoded(await take(gpu, view.vPool), format) };
  const step = (value: number): number => STEP_OF[format] * Math.abs(value) + SMALLEST[format];
  const rotation = rotationTolerance(kPool, headDim);
  const keyTolerance = kPool.map((value, i) => (Object.is(value, before.kPool[i]) ? 0 : rotation[i]! + step(value)));
  const valueTolerance = vPool.map((value, i) => (Object.is(value, before.vPool[i]) || format !== "f16" ? 0 : step(value)));
  near(device.kPool, kPool, { absolute: keyTolerance }, "keys", headDim);
  near(device.vPool, vPool, { absolute: valueTolerance }, "values", headDim);
  return device;
}
