/**
 * Position policies as wrappers: what becomes of positions once entries are gone (models/press.ts has the three). To rotate kept keys to 0, 1, 2, …
 * is what StreamingLLM and FINCH do (Xiao et al. 2024, arXiv 2309.17453; Corallo and Papotti 2024, doi 10.1162/tacl_a_00716); a text can then go on
 * beyond the positions that a model knows.
 */

import { UsageError } from "../../engine/errors.ts";
import { POSITION_POLICIES, type PositionPolicy, type Press } from "../../models/press.ts";
import { namesNear, type TraitedPress } from "./traits.ts";

/** `press` with its kept keys rotated to the places they have in the cache. Throws UsageError for a press that leaves tables of different lengths. */
export function rerotate({ press }: { readonly press: Press }): TraitedPress {
  return withPositions(press, "rerotate");
}

/** Throws UsageError for an unknown policy, and for one that moves positions under a press that leaves tables of different lengths. */
export function withPositions(press: TraitedPress, positions: PositionPolicy): TraitedPress {
  if (!POSITION_POLICIES.includes(positions)) {
    throw new UsageError(`unknown position policy ${JSON.stringify(positions)}${namesNear(String(positions), POSITION_POLICIES)}`);
  }
  if (positions === press.positions) return press;
  if (press.positions !== "original") {
    throw new UsageError(`${press.name} has positions ${press.positions} already and cannot have ${positions} as well`);
  }
  if (press.ragged) {
    throw new UsageError(
      `positions ${positions} cannot go with ${press.name}: it leaves heads or layers of different lengths, `
      + "and one position per token serves all layers and heads; use positions original, or a press that keeps equally many entries everywhere "
      + "(no adakv, chunkkv, pyramidkv, per_layer or skipped layers)",
    );
  }
  return { ...press, name: positions === "rerotate" ? `rerotate(${press.name})` : `${press.name} with positions ${positions}`, positions };
}
