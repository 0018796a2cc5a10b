/**
 * What has got the most attention stays (H2O: Zhang et al. 2023, arXiv 2306.14048), here per query that could give any, as kvpress has it:
 * else the oldest tokens would win by their age.
 */

import { wgsl } from "../../engine/kernel.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress } from "./prefill.ts";

const SHARE = wgsl(new URL("./observed_attention.wgsl", import.meta.url));

/**
 * score = attention summed over all queries so far and the heads of the group, / (heads of the group · (seen − position)). `ratio`: see
 * `observedAttention`, 0 by default.
 */
export function observedAttentionStage({ ratio = 0 }: { readonly ratio?: number | undefined } = {}): PressStage {
  return {
    needs: { attention: true },
    keep: keepOf(ratio),
    newest: () => 0,
    paramCount: 1,
    params: ({ seen }) => Float32Array.of(seen),
    score(recorder, operands) {
      const { shape: { heads, kvHeads }, attention, positions, params, scores } = operands;
      perEntry(recorder, operands, { source: SHARE, consts: { GROUP: heads / kvHeads } }, { attention: attention!, positions: positions!, params, scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function observedAttention({ ratio }: { readonly ratio: number }): Press {
  return prefillPress("observed_attention", ratio, observedAttentionStage({ ratio }));
}
