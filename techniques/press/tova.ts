/** What the last token attends to stays, averaged over all heads of a layer (Oren et al. 2024, arXiv 2401.06104). */

import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, prefillPress, requireMore } from "./prefill.ts";
import { scoreByWindow } from "./window_attention.ts";

/**
 * score = the last query's softmax(q · k / √d), averaged over all heads; of the last entry 1 above the greatest. Where heads differ in
 * length, a mean is of those that have the entry. `ratio`: see `tova`, 0 by default. `params` throws UsageError when a single token has
 * been read.
 */
export function tovaStage({ ratio = 0 }: { readonly ratio?: number | undefined } = {}): PressStage {
  return {
    needs: { keys: true, queries: 1 },
    keep: keepOf(ratio),
    newest: (kept) => Math.min(1, kept),
    paramCount: 0,
    params(state) {
      requireMore("tova", 1, state);
      return new Float32Array(0);
    },
    score: (recorder, operands) => { scoreByWindow(recorder, operands, { window: 1, kernel: 1, allHeads: true }); },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function tova({ ratio }: { readonly ratio: number }): Press {
  return prefillPress("tova", ratio, tovaStage({ ratio }), { moreThan: 1 });
}
