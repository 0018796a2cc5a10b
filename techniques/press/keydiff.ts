/** Keys unlike the others stay (Park et al. 2025, arXiv 2504.15364): those least similar to the mean of all keys' directions. */

import { wgsl } from "../../engine/kernel.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress, reducingLanes } from "./prefill.ts";

const file = (name: string) => wgsl(new URL(name, import.meta.url));
const NORMS = file("./keydiff_norms.wgsl");
const ANCHOR = file("./keydiff_anchor.wgsl");
const SCORE = file("./keydiff.wgsl");

/** score = −cos(k, mean of k / ‖k‖ over the head's entries), in [−1, 1]. `ratio`: see `keydiff`, 0 by default. */
export function keydiffStage({ ratio = 0 }: { readonly ratio?: number | undefined } = {}): PressStage {
  return {
    needs: { keys: true },
    keep: keepOf(ratio),
    newest: () => 0,
    paramCount: 0,
    params: () => new Float32Array(0),
    score(recorder, operands) {
      const { shape: { kvHeads, headDim }, columns, lengths, scores, scratch } = operands;
      const keys = operands.keys!;
      const inverse = scratch("keydiff.inverse", [kvHeads, columns], "f32");
      const anchor = scratch("keydiff.anchor", [kvHeads, headDim], "f32");
      const consts = { HEAD_DIM: headDim };
      perEntry(recorder, operands, { source: NORMS, consts }, { keys, inverse });
      recorder.run({ source: ANCHOR, slots: [], consts: { ...consts, COLUMNS: columns, ...reducingLanes(recorder) } }, { lengths, keys, inverse, anchor }, kvHeads, headDim);
      perEntry(recorder, operands, { source: SCORE, consts }, { keys, inverse, anchor, scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function keydiff({ ratio }: { readonly ratio: number }): Press {
  return prefillPress("keydiff", ratio, keydiffStage({ ratio }));
}
