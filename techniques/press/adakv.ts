/**
 * AdaKV (Feng et al. 2024, arXiv 2407.11550): the entries of all heads of a layer compete for one budget, so heads whose attention is spread
 * out keep more than heads that look at a few tokens. Each head surely keeps a share of its own. Heads end up with different lengths;
 * since every head has a table of its own, the difference is memory given back and not a mask.
 */

import { UsageError } from "../../engine/errors.ts";
import { wgsl } from "../../engine/kernel.ts";
import type { LayerState, Press, PressStage } from "../../models/press.ts";
import { mark, threshold } from "../../kernels/select.ts";
import { decimalOf } from "./ratio.ts";
import { innerOperands, scorerStage, type TraitedPress } from "./traits.ts";

const COUNTS = wgsl(new URL("./adakv.wgsl", import.meta.url));
/** Above every score, those of protected entries too. */
const HIGHEST = 3.4028234663852886e38;

export interface AdaKvOptions {
  /** The scorer; of n entries that it would keep in each head, n · kvHeads are kept in all heads together. */
  readonly press: Press;
  /** Share of n that every head surely keeps, its best ⌊n · alpha⌋ and at least one; in [0, 1], 0.2 by default. 1 is the scorer itself. */
  readonly alpha?: number | undefined;
}

/** Throws UsageError for a press that is no plain scorer, for a policy that moves positions, and for alpha outside [0, 1]. */
export function adakv({ press, alpha = 0.2 }: AdaKvOptions): TraitedPress {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new UsageError(`adakv: alpha is the share of its budget that a head surely keeps, in [0, 1], not ${String(alpha)}`);
  }
  if (press.positions !== "original") {
    throw new UsageError(
      `adakv cannot wrap ${press.name} with positions ${press.positions}: its heads differ in length, and one position per token serves all heads`,
    );
  }
  const base = scorerStage(press, "adakv");
  return {
    ...press, name: `adakv(${press.name}, alpha ${alpha})`, stages: [adakvStage(base, alpha)], ragged: true,
    traits: { selects: true, unevenHeads: true, ...(!press.ragged && { withKeep: (keep) => adakvStage({ ...base, keep }, alpha) }) },
  };
}

/**
 * What each head keeps surely: ⌊n · alpha⌋, alpha being the decimal that its shortest notation writes; at least 1, where kvpress may leave a head
 * nothing to look at.
 */
export function safeOf(kept: number, alpha: number): number {
  const { numerator, denominator } = decimalOf(alpha);
  return Math.min(kept, Math.max(1, Number(BigInt(kept) * numerator / denominator)));
}

/** `base` scores, then: the best of each head are lifted above all others, the best of all heads together are marked with 1, the others with 0. */
export function adakvStage(base: PressStage, alpha: number): PressStage {
  const numeric = (layer: LayerState): number => {
    const kept = base.keep(layer);
    if (kept === "marked") throw new Error("adakv: its scorer must name a number of entries");
    return Math.min(kept, layer.length);
  };
  return {
    needs: base.needs,
    keep: (layer) => (numeric(layer) >= layer.length ? layer.length : "marked"),
    // A head keeps its best entries, however many: what the scorer says of that many holds.
    newest: (kept) => base.newest(kept),
    paramCount: base.paramCount + 2,
    params(layer, model) {
      const kept = numeric(layer);
      return Float32Array.of(...base.params(layer, model), kept * layer.kvHeads, safeOf(kept, alpha));
    },
    score(recorder, operands) {
      const { shape: { kvHeads }, scores, lengths, params, scratch } = operands;
      base.score(recorder, innerOperands(operands, "adakv", { params: { ...params, shape: [Math.max(1, base.paramCount)] } }));
      const safe = scratch("adakv.safe", [kvHeads], "u32");
      const together = scratch("adakv.together", [1], "u32");
      const selection = { scores, lengths, cut: scratch("adakv.cut", [kvHeads, 4], "u32") };
      recorder.run({ source: COUNTS, slots: [], consts: { HEADS: kvHeads, TOTAL: base.paramCount } }, { params, safe, together }, 1);
      threshold(recorder, { ...selection, keep: safe });
      mark(recorder, selection, { kept: HIGHEST, others: null });
      threshold(recorder, { ...selection, keep: together }, { together: true });
      mark(recorder, selection, { kept: 1, others: 0 });
    },
  };
}
