/**
 * Which entries of a layer a press keeps: those with the highest scores, found on the GPU and never read back. First a threshold
 * (`threshold`), exact to the bit and found by counting alone, so that the result does not depend on how lanes share the work; then the
 * indices of what it keeps, in order (`compact`). A cut says in four words of each head what is kept: entries above the threshold, and
 * of those equal to it the first so many. 0 and −0 are equal, and NaN is below everything, so that a broken score is evicted first.
 */

import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const THRESHOLD = file("./threshold.wgsl");
const HIGHEST = file("./threshold_highest.wgsl");
const MARKED = file("./threshold_marked.wgsl");
const KEPT = file("./kept.wgsl");
const COMPACT = file("./kept_compact.wgsl");
const MARK = file("./kept_mark.wgsl");
const COMMON = [file("./scores.wgsl"), file("./workgroup_sums.wgsl")];

/** Of H KV heads of one layer of one sequence. */
export interface Selection {
  /** f32 [H, columns], columns a multiple of 4. */
  readonly scores: Tensor;
  /** u32 [H] entries of each head, at most `columns`; scores behind them are neither read as scores nor written. */
  readonly lengths: Tensor;
  /**
   * u32 [H, 4]: threshold as an integer in the order of scores (of a positive number its bits + 2³¹, of a negative one its bits inverted, of
   * NaN 0), how many of the entries equal to it are kept (the first by index), entries kept in all, 0.
   */
  readonly cut: Tensor;
}

/**
 * Cut so that the keep[h] highest scores of each head are kept, or with `together` the keep[0] highest of all heads. Of equal scores those
 * of lower heads, and of lower index, go first. As many as there are or more: all. keep: u32 or f32 (whole numbers) [H], together: [1].
 */
export function threshold(
  recorder: Recorder, { keep, ...selection }: Selection & { readonly keep: Tensor }, { together = false }: { together?: boolean } = {},
): void {
  const { H, consts } = shared("threshold", recorder, selection);
  match("threshold", { keep: [keep, together ? 1 : H] });
  if (keep.dtype !== "u32" && keep.dtype !== "f32") throw new Error(`threshold: keep must be u32 or f32, but is ${keep.dtype}`);
  const kernel = { source: THRESHOLD, slots: [HIGHEST, ...COMMON], consts: { ...consts, TOGETHER: together, KEEP_IS_FLOAT: keep.dtype === "f32" } };
  recorder.run(kernel, { ...selection, keep }, together ? 1 : H);
}

/** Cut so that exactly the scores above 0 are kept. */
export function thresholdMarked(recorder: Recorder, { scores, lengths, cut }: Selection): void {
  const { H, consts } = shared("thresholdMarked", recorder, { scores, lengths, cut });
  recorder.run({ source: THRESHOLD, slots: [MARKED, ...COMMON], consts: { ...consts, TOGETHER: false } }, { scores, lengths, cut }, H);
}

/** Scores of entries that the cut keeps become `kept`; those of the others become `others`, or with null stay as they are. */
export function mark(recorder: Recorder, { scores, lengths, cut }: Selection, { kept, others }: { kept: number; others: number | null }): void {
  const { H, consts } = shared("mark", recorder, { scores, lengths, cut });
  const values = { KEPT: f32(kept), MARK_OTHERS: others !== null, OTHERS: f32(others ?? 0) };
  recorder.run({ source: KEPT, slots: [MARK, ...COMMON], consts: { ...consts, ...values } }, { scores, lengths, cut }, H);
}

/** order[h][i]: index of the i-th entry of head h that the cut keeps, ascending; u32 [H, columns], of which the first cut[h][2] are written. */
export function compact(recorder: Recorder, { scores, lengths, cut, order }: Selection & { readonly order: Tensor }): void {
  const { H, columns, consts } = shared("compact", recorder, { scores, lengths, cut });
  match("compact", { order: [order, H, columns] });
  recorder.run({ source: KEPT, slots: [COMPACT, ...COMMON], consts }, { scores, lengths, cut, order }, H);
}

/** Sizes of a selection, checked, and what all kernels of this file are specialised by. */
function shared(
  op: string, { gpu: { family, subgroupSize } }: Recorder, { scores, lengths, cut }: Selection,
): { readonly H: number; readonly columns: number; readonly consts: Consts } {
  const { H, columns } = match(op, { scores: [scores, "H", "columns"], lengths: [lengths, "H"], cut: [cut, "H", 4] });
  if (columns! % 4 !== 0) throw new Error(`${op}: scores have ${columns} columns, which must be a multiple of 4`);
  const consts: Consts = { HEADS: H!, COLUMNS: columns!, SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256 };
  return { H: H!, columns: columns!, consts };
}
