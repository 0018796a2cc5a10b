/**
 * What the last queries attend to, entry by entry: the vote that snapkv, pyramidkv and tova count. The weights themselves are never stored
 * (queries · entries of them would be): one dispatch makes the greatest logit and the sum of every query, the next one adds each entry's
 * weights up.
 */

import { f32, wgsl } from "../../engine/kernel.ts";
import type { Recorder } from "../../engine/recorder.ts";
import { match } from "../../engine/shape.ts";
import type { PressOperands } from "../../models/press.ts";
import { perEntry, protect, reducingLanes } from "./prefill.ts";

const file = (name: string) => wgsl(new URL(name, import.meta.url));
const STATISTICS = file("./window_statistics.wgsl");
const WEIGHTS = file("./window_weights.wgsl");
const POOL = file("./window_pool.wgsl");

export interface WindowOptions {
  /** Queries, of the last so many tokens; the newest so many entries are theirs. */
  readonly window: number;
  /** Entries that a score is averaged over, odd. Beyond the voted entries stand zeros. */
  readonly kernel: number;
  /**
   * Average over all heads of the layer and not only over a group. Then heads should be equally long: index i is one token in all of them.
   */
  readonly allHeads: boolean;
}

/**
 * scores = the mean weight over queries, the heads of the group and `kernel` neighbours, of softmax(q · k / √d) with the causal mask; the
 * window's own entries 1 above the greatest. Needs keys and `window` queries; headDim a multiple of 4.
 */
export function scoreByWindow(recorder: Recorder, operands: PressOperands, { window, kernel, allHeads }: WindowOptions): void {
  const { shape: { heads, kvHeads, headDim }, columns, lengths, scores, scratch } = operands;
  const [keys, queries] = [operands.keys!, operands.queries!];
  match("scoreByWindow", { keys: [keys, kvHeads, headDim, columns], queries: [queries, window, heads * headDim], scores: [scores, kvHeads, columns] });
  if (headDim % 4 !== 0) throw new Error(`scoreByWindow: headDim is ${headDim}, not a multiple of 4`);
  const statistics = scratch("window.statistics", [heads, window, 2], "f32");
  const weights = scratch("window.weights", [kvHeads, columns], "f32");
  const consts = { HEADS: heads, GROUP: heads / kvHeads, HEAD_DIM: headDim, WINDOW: window, SCALE: f32(headDim ** -0.5) };
  recorder.run({ source: STATISTICS, slots: [], consts: { ...consts, COLUMNS: columns, ...reducingLanes(recorder) } },
    { lengths, keys, queries, statistics }, heads, Math.ceil(window / 8));
  perEntry(recorder, operands, { source: WEIGHTS, consts }, { keys, queries, statistics, weights });
  perEntry(recorder, operands, { source: POOL, consts: { WINDOW: window, KERNEL: kernel, HEADS: kvHeads, ALL_HEADS: allHeads } }, { weights, scores });
  protect(recorder, operands, { newest: window });
}
