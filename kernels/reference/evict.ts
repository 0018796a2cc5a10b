/** Scalar twins of what stands around the selection of entries (kernels/evict.ts), on a cache of plain numbers. */

import type { KvEntryEncoding } from "../kv_formats.ts";
import { entryOf, rope, tableOf, type CacheTwin } from "./attention.ts";
import { stored } from "./kv.ts";

type Numbers = ArrayLike<number>;

/** For each head the indices of kept entries, ascending, and the blocks that take them. */
export interface KeptTwin { readonly order: readonly (readonly number[])[]; readonly fresh: readonly (readonly number[])[] }

/** A head's entries of `pool` [entries, width], a column each: [width, length]. */
export function dense(cache: CacheTwin, pool: Numbers, width: number, slot: number, layer: number, head: number): Float64Array {
  const table = tableOf(cache, slot, layer, head), length = cache.lengths[table]!;
  return new Float64Array(width * length).map((_, at) => pool[entryOf(cache, table, at % length) * width + Math.floor(at / length)]!);
}

/** Where the i-th kept entry of a head goes. */
export function freshEntry({ blockSize }: CacheTwin, { fresh }: KeptTwin, head: number, i: number): number {
  return fresh[head]![Math.floor(i / blockSize)]! * blockSize + (i % blockSize);
}

/** Copy kept entries of pools [entries, width] to their places. */
export function moveKept(
  cache: CacheTwin, kept: KeptTwin, pools: readonly { readonly values: Float64Array; readonly width: number }[], slot: number, layer: number,
): void {
  kept.order.forEach((indices, head) => indices.forEach((index, i) => {
    const from = entryOf(cache, tableOf(cache, slot, layer, head), index), to = freshEntry(cache, kept, head, i);
    for (const { values, width } of pools) values.copyWithin(to * width, from * width, (from + 1) * width);
  }));
}

/** Keys that have moved from index order[i] to i are turned back by as many positions and stored anew. cosSin: [positions, half, 2]. */
export function rerotate(cache: CacheTwin, kept: KeptTwin, { cosSin, half, k }: { cosSin: Numbers; half: number; k: KvEntryEncoding }): void {
  const back = Array.from(cosSin, (value, i) => (i % 2 === 0 ? value : -value)); // an angle turned has the sine turned
  kept.order.forEach((indices, head) => indices.forEach((index, i) => {
    if (index === i) return;
    const at = freshEntry(cache, kept, head, i) * cache.headDim;
    const key = Array.from(cache.kPool.subarray(at, at + cache.headDim));
    cache.kPool.set(stored(rope(key, back, half, index - i), k), at);
  }));
}
