/**
 * Scalar twins of what is captured for presses while a model runs (kernels/note.ts, kernels/capture.ts), with double accumulation. Buffers are
 * laid out as the kernels' are; `control` is u32 [slots, 8] as kernels/capture.ts says.
 */

import type { AttentionShape, QkvLayout } from "../attention.ts";
import type { BatchRow } from "../batch.ts";
import { CONTROL_WORDS } from "../capture.ts";
import type { NoteWords } from "../kv_notes.ts";
import { entryOf, headNormed, rope, tableOf, type CacheTwin } from "./attention.ts";
import { dot } from "./linear.ts";

type Numbers = ArrayLike<number>;
type Row = Pick<BatchRow, "position" | "sequence" | "offset">;

/** Note an entry that was appended. notes: u32 [entries, words]; key: [headDim] as a read gives it. */
export function noteAppended(notes: Uint32Array, { words, norm, attention }: NoteWords, entry: number, key: Numbers, position: number): void {
  const floats = new Float32Array(notes.buffer, notes.byteOffset, notes.length);
  if (norm !== null) floats[entry * words + norm] = Math.sqrt(dot(key, 0, key, 0, key.length));
  if (attention !== null) {
    floats[entry * words + attention] = 0;
    notes[entry * words + attention + 1] = position;
  }
}

export interface QueriesTwin {
  /** [rows, layout.width] */
  readonly qkv: Numbers;
  readonly rows: readonly Row[];
  /** weights: [2, headDim] of queries and keys. */
  readonly headNorm?: { readonly weights: Numbers; readonly eps: number } | undefined;
  /** cosSin: [positions, half, 2]; without it queries stay as they were before rotation. */
  readonly rotation?: { readonly cosSin: Numbers; readonly half: number };
}

/** Queries of every row, head-normed where that is given: [rows, heads · headDim]. With `rotation` the twin of `rotateQueries`. */
export function queriesOf({ qkv, rows, headNorm, rotation }: QueriesTwin, { heads, headDim }: AttentionShape, { width, q }: QkvLayout): Float64Array {
  const out = new Float64Array(rows.length * heads * headDim);
  const weights = headNorm && Array.from({ length: headDim }, (_, d) => headNorm.weights[d]!);
  rows.forEach(({ position }, row) => {
    for (let head = 0; head < heads; head++) {
      const plain = Array.from({ length: headDim }, (_, d) => qkv[row * width + q.first + head * q.step + d]!);
      const normed = weights ? headNormed(plain, weights, headNorm!.eps) : plain;
      out.set(rotation ? rope(normed, rotation.cosSin, rotation.half, position) : normed, (row * heads + head) * headDim);
    }
  });
  return out;
}

/** Rows of `out`, [slots, window, width], that the step writes. queries: [rows, width], rotated. */
export function captureQueries(out: Float64Array, queries: Numbers, rows: readonly Row[], control: Numbers, window: number): void {
  const width = queries.length / rows.length;
  rows.forEach(({ position, sequence }, row) => {
    const [first, count] = [0, 1].map((word) => control[sequence * CONTROL_WORDS + word]!) as [number, number];
    if (position < first || position - first >= count) return;
    for (let i = 0; i < width; i++) out[(sequence * window + (position % window)) * width + i] = queries[row * width + i]!;
  });
}

/** What the step's rows add to `out`, [slots, heads, 2·headDim + headDim²]. queries: [rows, heads · headDim], not rotated. */
export function addQueryStats(out: Float64Array, queries: Numbers, rows: readonly Row[], control: Numbers, { heads, headDim }: AttentionShape): void {
  const words = 2 * headDim + headDim * headDim;
  rows.forEach(({ position, sequence }, row) => {
    const [first, end] = [2, 3].map((word) => control[sequence * CONTROL_WORDS + word]!) as [number, number];
    if (position < first || position >= end) return;
    for (let head = 0; head < heads; head++) {
      const [at, stats] = [(row * heads + head) * headDim, out.subarray((sequence * heads + head) * words, (sequence * heads + head + 1) * words)];
      if (position === first) {
        stats.fill(0);
        for (let d = 0; d < headDim; d++) stats[d] = queries[at + d]!;
      }
      const apart = Array.from({ length: headDim }, (_, d) => queries[at + d]! - stats[d]!);
      apart.forEach((a, i) => {
        stats[headDim + i]! += a;
        apart.forEach((b, j) => { stats[2 * headDim + i * headDim + j]! += a * b; });
      });
    }
  });
}

/**
 * Attention that entries get from the step's rows, softmax(q kᵀ / sqrt(headDim)) summed over rows and the query heads of a group, added to
 * `attention`, [entries]. q: [rows, heads · headDim]; of a slot that is not observed (control[4]) nothing is added.
 */
export function observe(
  attention: Float64Array, { q, rows, cache, control }: { q: Numbers; rows: readonly Row[]; cache: CacheTwin; control: Numbers },
  shape: AttentionShape, layer: number,
): void {
  const { heads, kvHeads, headDim } = shape;
  rows.forEach(({ sequence, offset }, row) => {
    if (control[sequence * CONTROL_WORDS + 4] !== 1) return;
    for (let head = 0; head < heads; head++) {
      const table = tableOf(cache, sequence, layer, Math.floor(head / (heads / kvHeads)));
      const entries = Array.from({ length: cache.lengths[table]! + offset + 1 }, (_, index) => entryOf(cache, table, index));
      const scores = entries.map((entry) => dot(q, (row * heads + head) * headDim, cache.kPool, entry * headDim, headDim) / Math.sqrt(headDim));
      const best = scores.reduce((a, b) => Math.max(a, b));
      const masses = scores.map((score) => Math.exp(score - best));
      const total = masses.reduce((a, b) => a + b);
      entries.forEach((entry, index) => { attention[entry]! += masses[index]! / total; });
    }
  });
}
