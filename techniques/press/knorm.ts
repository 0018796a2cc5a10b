/** Keys of small norm stay (Devoto et al. 2024, arXiv 2406.11430): in trained models they are often those that get most attention. */

import { wgsl } from "../../engine/kernel.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress } from "./prefill.ts";

const NEGATE = wgsl(new URL("./knorm.wgsl", import.meta.url));

/** score = −‖k‖ of the key as it is cached, from the norm noted when it was appended. `ratio`: see `knorm`, 0 by default. */
export function knormStage({ ratio = 0 }: { readonly ratio?: number | undefined } = {}): PressStage {
  return {
    needs: { norms: true },
    keep: keepOf(ratio),
    newest: () => 0,
    paramCount: 0,
    params: () => new Float32Array(0),
    score(recorder, operands) {
      perEntry(recorder, operands, { source: NEGATE }, { norms: operands.norms!, scores: operands.scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function knorm({ ratio }: { readonly ratio: number }): Press {
  return prefillPress("knorm", ratio, knormStage({ ratio }));
}
