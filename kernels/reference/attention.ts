/**
 * Scalar twins of append, attention, gather and advance (kernels/attention.ts): the cache as plain arrays of numbers, found through
 * the same tables and lengths, with double accumulation. Pools hold the numbers that a read of the stored entries gives (reference/kv.ts).
 */

import type { AttentionShape, QkvLayout } from "../attention.ts";
import type { BatchRow } from "../batch.ts";
import type { KvEntryEncoding } from "../kv_formats.ts";
import { stored } from "./kv.ts";
import { dot } from "./linear.ts";

type Numbers = ArrayLike<number>;
type Row = Pick<BatchRow, "position" | "sequence" | "offset">;

export interface CacheTwin {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly blockSize: number;
  readonly tableBlocks: number;
  /** [sequences, layers, kvHeads, tableBlocks] and [sequences, layers, kvHeads]: entries before this step. */
  readonly tables: Numbers;
  readonly lengths: Numbers;
  /** [entries, headDim] */
  readonly kPool: Float64Array;
  readonly vPool: Float64Array;
}

/** Which table (sequence, layer, head) has. */
export function tableOf({ layers, kvHeads }: CacheTwin, sequence: number, layer: number, head: number): number {
  return (sequence * layers + layer) * kvHeads + head;
}

/** Where in the pools the `index`-th entry of a table lies: block · blockSize + offset, in entries. */
export function entryOf({ tables, tableBlocks, blockSize }: CacheTwin, table: number, index: number): number {
  return tables[table * tableBlocks + Math.floor(index / blockSize)]! * blockSize + (index % blockSize);
}

/**
 * Rotary embedding in the half-split form of GPT-NeoX and Qwen (Su et al. 2021): the first 2·half dimensions rotate in pairs
 * (d, d + half) by the angle of (position, d), the others stay. cosSin: [positions, half, 2] → a new head.
 */
export function rope(head: readonly number[], cosSin: Numbers, half: number, position: number): number[] {
  return head.map((value, d) => {
    if (d >= 2 * half) return value;
    const at = 2 * (position * half + (d % half));
    const pair = d < half ? -head[d + half]! : head[d - half]!;
    return value * cosSin[at]! + pair * cosSin[at + 1]!;
  });
}

/** head / sqrt(mean(head²) + eps) · weight: Qwen3's norm of queries and keys. */
export function headNormed(head: readonly number[], weight: readonly number[], eps: number): number[] {
  const scale = 1 / Math.sqrt(head.reduce((sum, value) => sum + value * value, 0) / head.length + eps);
  return head.map((value, d) => value * scale * weight[d]!);
}

export interface AppendTwin {
  /** [rows, layout.width] */
  readonly qkv: Numbers;
  /** [positions, half, 2] */
  readonly cosSin: Numbers;
  readonly half: number;
  readonly rows: readonly Row[];
  readonly cache: CacheTwin;
  /** How keys and how values are stored. */
  readonly k: KvEntryEncoding;
  readonly v: KvEntryEncoding;
  /** weights: [2, headDim] of queries and keys. */
  readonly headNorm?: { readonly weights: Numbers; readonly eps: number };
}

/** Queries, normed and rotated, [rows, heads · headDim]; keys (normed, rotated) and values go, as they are stored, into the cache. */
export function append(
  { qkv, cosSin, half, rows, cache, k, v, headNorm }: AppendTwin, shape: AttentionShape, layout: QkvLayout, layer: number,
): Float64Array {
  const { heads, kvHeads, headDim } = shape;
  const q = new Float64Array(rows.length * heads * headDim);
  rows.forEach(({ position, sequence, offset }, row) => {
    const cut = ({ first, step }: QkvLayout["q"], head: number): number[] =>
      Array.from({ length: headDim }, (_, d) => qkv[row * layout.width + first + head * step + d]!);
    const turned = (head: number[], which: 0 | 1): number[] => {
      const weight = headNorm && Array.from({ length: headDim }, (_, d) => headNorm.weights[which * headDim + d]!);
      return rope(weight ? headNormed(head, weight, headNorm!.eps) : head, cosSin, half, position);
    };
    for (let head = 0; head < heads; head++) q.set(turned(cut(layout.q, head), 0), (row * heads + head) * headDim);
    for (let head = 0; head < kvHeads; head++) {
      const table = tableOf(cache, sequence, layer, head);
      const entry = entryOf(cache, table, cache.lengths[table]! + offset) * headDim;
      cache.kPool.set(stored(turned(cut(layout.k, head), 1), k), entry);
      cache.vPool.set(stored(cut(layout.v, head), v), entry);
    }
  });
  return q;
}

/**
 * out = softmax(q kᵀ / sqrt(headDim)) v (Vaswani et al. 2017). Query head h reads KV head h / group (Ainslie et al. 2023); a row sees
 * the entries before this step, the rows of its own sequence before it, and itself. q and the result: [rows, heads · headDim].
 */
export function attention(
  { q, rows, cache }: { q: Numbers; rows: readonly Row[]; cache: CacheTwin }, shape: AttentionShape, layer: number,
): Float64Array {
  const { heads, kvHeads, headDim } = shape;
  const out = new Float64Array(rows.length * heads * headDim);
  rows.forEach(({ sequence, offset }, row) => {
    for (let head = 0; head < heads; head++) {
      const table = tableOf(cache, sequence, layer, Math.floor(head / (heads / kvHeads)));
      const at = (row * heads + head) * headDim;
      const entries = Array.from({ length: cache.lengths[table]! + offset + 1 }, (_, index) => entryOf(cache, table, index) * headDim);
      const scores = entries.map((entry) => dot(q, at, cache.kPool, entry, headDim) / Math.sqrt(headDim));
      const best = scores.reduce((a, b) => Math.max(a, b));
      const masses = scores.map((score) => Math.exp(score - best));
      const total = masses.reduce((a, b) => a + b);
      entries.forEach((entry, index) => {
        for (let d = 0; d < headDim; d++) out[at + d]! += (masses[index]! / total) * cache.vPool[entry + d]!;
      });
    }
  });
  return out;
}

/** Entry `target` of both pools becomes entry `source`, for each move [source, target]. */
export function gather({ kPool, vPool, headDim }: CacheTwin, moves: readonly (readonly [source: number, target: number])[]): void {
  for (const [source, target] of moves) {
    for (const pool of [kPool, vPool]) pool.copyWithin(target * headDim, source * headDim, (source + 1) * headDim);
  }
}

/** One entry more in every table of each of the `sequences`. lengths: [sequences, tables]. */
export function advance(lengths: Uint32Array, tables: number, sequences: readonly number[]): void {
  for (const sequence of sequences) for (let table = 0; table < tables; table++) lengths[sequence * tables + table]! += 1;
}
