/** What the last tokens attend to stays, smoothed over neighbours, so that a word is not torn apart (Li et al. 2024, arXiv 2404.14469). */

import { UsageError } from "../../engine/errors.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, prefillPress, requireCount, requireMore } from "./prefill.ts";
import { scoreByWindow } from "./window_attention.ts";

/** Parameters of snapkv beside its ratio. */
export interface SnapKvOptions {
  /** Last tokens, whose queries vote and which always stay, 64 by default. */
  readonly window?: number | undefined;
  /** Entries that a score is averaged over, odd, 5 by default. */
  readonly kernel?: number | undefined;
}

/**
 * score = the mean over the window's queries, `kernel` neighbours and the heads of the group of softmax(q · k / √d); of the window itself 1
 * above the greatest of the layer, rising a little towards the newest, so that fewer entries than the window are its newest. `ratio`: see
 * `snapkv`, 0 by default. `params` throws UsageError when no more than `window` tokens have been read.
 */
export function snapkvStage(
  { ratio = 0, window = 64, kernel = 5 }: SnapKvOptions & { readonly ratio?: number | undefined } = {}, name = "snapkv",
): PressStage {
  requireCount(window, 1, `${name}: window`);
  requireCount(kernel, 1, `${name}: kernel`);
  if (kernel % 2 === 0) throw new UsageError(`${name}: kernel must be odd, so that a score lies in the middle of what it is averaged over, not ${kernel}`);
  return {
    needs: { keys: true, queries: window },
    keep: keepOf(ratio),
    newest: (kept) => Math.min(window, kept),
    paramCount: 0,
    params(state) {
      requireMore(name, window, state);
      return new Float32Array(0);
    },
    score: (recorder, operands) => { scoreByWindow(recorder, operands, { window, kernel, allHeads: false }); },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function snapkv({ ratio, ...options }: SnapKvOptions & { readonly ratio: number }): Press {
  const { window = 64, kernel = 5 } = options;
  return prefillPress("snapkv", ratio, snapkvStage({ ratio, window, kernel }), { parameters: { window, kernel }, moreThan: window });
}
