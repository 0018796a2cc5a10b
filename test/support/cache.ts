/**
 * A KV cache for kernel tests, on the device and as its twin: several sequences whose tables are permuted and whose heads may have
 * different lengths, as after an eviction. Entries that no table owns are NaN, so reading one cannot go unseen.
 */

import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { KvView } from "../../kernels/attention.ts";
import { entryOf, type CacheTwin } from "../../kernels/reference/attention.ts";
import { numbers, put, rounded, shuffled, type FloatFormat } from "./gpu.ts";

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
}

export interface TestCache { readonly view: KvView; readonly twin: CacheTwin; readonly tensors: readonly Tensor[] }

/** The i-th entry of a table holds the same numbers whatever the layout, so that layouts can be compared. */
export async function testCache(gpu: Gpu, { format, layers, kvHeads, headDim, blockSize, tableBlocks, owned, lengths, seed }: CachePlan): Promise<TestCache> {
  const count = owned.length;
  const blocks = count * tableBlocks + 3;
  const tables = Uint32Array.from(shuffled(blocks, seed).slice(0, count * tableBlocks));
  const twin: CacheTwin = {
    layers, kvHeads, headDim, blockSize, tableBlocks, tables, lengths,
    kPool: new Float64Array(blocks * blockSize * headDim).fill(NaN), vPool: new Float64Array(blocks * blockSize * headDim).fill(NaN),
  };
  for (let table = 0; table < count; table++) {
    const [k, v] = [1, 2].map((salt) => numbers(owned[table]! * headDim, seed + 1000 * table + salt).map((value) => rounded(value, format)));
    for (let i = 0; i < owned[table]!; i++) {
      const at = entryOf(twin, table, i) * headDim;
      twin.kPool.set(k!.subarray(i * headDim, (i + 1) * headDim), at);
      twin.vPool.set(v!.subarray(i * headDim, (i + 1) * headDim), at);
    }
  }
  const sequences = count / layers / kvHeads;
  const view: KvView = {
    format, blockSize, tableBlocks, layers, kvHeads,
    kPool: await put(gpu, [blocks * blockSize, headDim], twin.kPool, format, "keys", "kv"),
    vPool: await put(gpu, [blocks * blockSize, headDim], twin.vPool, format, "values", "kv"),
    tables: await put(gpu, [sequences, layers, kvHeads, tableBlocks], tables, "u32", "tables", "kv"),
    lengths: await put(gpu, [sequences, layers, kvHeads], lengths, "u32", "lengths", "kv"),
    layerNumbers: await put(gpu, [layers, 64], Array.from({ length: layers * 64 }, (_, i) => Math.floor(i / 64)), "u32", "layer numbers", "kv"),
  };
  return { view, twin, tensors: [view.kPool, view.vPool, view.tables, view.lengths, view.layerNumbers] };
}
