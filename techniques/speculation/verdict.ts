/** Whether speculation helps here, and if not, what is to blame: the conclusion of explain.ts, still without words. */

import { roundCost } from "./cost.ts";
import type { Explanation } from "./explain.ts";

/**
 * - `nothing-drafted`: no round drafted anything (a prompt lookup that found no n-gram).
 * - `acceptance`: at these costs a usable draft could pay, this one is rejected too often.
 * - `draft-cost`, `verify-cost`: only a nearly perfect draft would pay, or none; the dearer of the two.
 * - `length`: another K would help, this one does not.
 * - `noise`: the measured difference is within what two equal runs differ by.
 * - `overhead`: drafts and costs would pay, the clock says otherwise: time that is in neither (host, batch, other work).
 */
export type VerdictCause = "nothing-drafted" | "acceptance" | "draft-cost" | "verify-cost" | "length" | "noise" | "overhead";

export interface Verdict {
  readonly helps: boolean;
  /** Null when it helps. */
  readonly cause: VerdictCause | null;
  readonly numbers: {
    /** Measured, else what the rounds must have gained at the measured costs; null without rounds. */
    readonly speedUp: number | null;
    readonly measured: boolean;
    readonly noise: number;
    readonly k: number;
    readonly alpha: number | null;
    /** From which α it would pay; null: from none. */
    readonly leastAlpha: number | null;
    /** Cost of a draft step, of drafting in a round of K, and of verifying it, in decode steps; null where that was not measured. */
    readonly c: number;
    readonly drafting: number;
    readonly verifying: number | null;
    readonly tokensPerRound: number | null;
    readonly bestK: number | null;
    readonly bestSpeedUp: number | null;
  };
}

/** The most that can be asked of a draft: most pairs of Leviathan et al. 2023 (table 3) stay below. Costs that need more are the problem. */
export const REACHABLE_ALPHA = 0.8;

export function verdictOf(explanation: Explanation): Verdict {
  const { k, alpha, best, counted, measured, costs, meanLength } = explanation;
  const speedUp = measured?.speedUp ?? counted?.speedUp ?? explanation.predicted?.speedUp ?? null;
  const noise = measured?.noise ?? 0;
  const cause = causeOf(explanation, speedUp, noise);
  return {
    helps: cause === null, cause,
    numbers: {
      speedUp, measured: measured !== null, noise, k, alpha: alpha?.value ?? null, leastAlpha: explanation.leastAlpha,
      c: costs.c, drafting: k * costs.c, verifying: costs.v[k] ?? null,
      tokensPerRound: meanLength, bestK: best?.k ?? null, bestSpeedUp: best?.speedUp ?? null,
    },
  };
}

function causeOf(explanation: Explanation, speedUp: number | null, noise: number): VerdictCause | null {
  const { k, best, counted, measured, costs } = explanation;
  if (best === null || speedUp === null) return "nothing-drafted";
  if (speedUp > 1 + noise) return null;
  if (best.speedUp <= 1) {
    if (explanation.leastAlpha !== null && explanation.leastAlpha <= REACHABLE_ALPHA) return "acceptance";
    const drafting = best.k * costs.c;
    return drafting >= roundCost(costs, best.k) - drafting - 1 ? "draft-cost" : "verify-cost";
  }
  // Some K would pay. This one by its own count?
  if ((counted ?? best).speedUp <= 1) return best.k === k ? "acceptance" : "length";
  return measured !== null && measured.speedUp >= 1 - noise ? "noise" : "overhead";
}
