/**
 * How many tokens to draft next. Either always the same number, or the one that is expected to be fastest for what this request has
 * accepted so far and for what drafting and verifying cost on this adapter. The second cannot lose much: where a long draft does not
 * pay it falls to 1, which keeps telling it whether acceptance has changed.
 */

import type { DraftLength } from "../../models/draft.ts";
import { bestPrediction, longest, type CostModel } from "./cost.ts";

export function fixedLength(k: number): DraftLength {
  return { next: (most) => Math.min(k, most), learn: () => undefined };
}

export interface AdaptiveOptions {
  /** Acceptance that is assumed before anything is known, and for how many verdicts on a token it stands. */
  readonly prior?: { readonly alpha: number; readonly weight: number };
  /** Part of a round's evidence that is left one round later. */
  readonly decay?: number;
  /** Most tokens to draft. Default: as many as were measured. */
  readonly most?: number;
}

/** A middling draft, given up after a few rounds. */
const PRIOR = { alpha: 0.6, weight: 4 };
/** Evidence of the last fifty rounds or so: long enough for an estimate within ± 0.05, short enough to follow a text that changes. */
const DECAY = 0.98;

/**
 * The K in 1 … most with the largest E[tokens] / (K·c + v(K)). The rounds' own times are not used: other sequences of the batch are in
 * them, and the costs were measured apart.
 */
export class AdaptiveLength implements DraftLength {
  readonly #costs: CostModel;
  readonly #prior: { readonly alpha: number; readonly weight: number };
  readonly #decay: number;
  readonly #most: number;
  #accepted = 0;
  #judged = 0;

  constructor(costs: CostModel, { prior = PRIOR, decay = DECAY, most = longest(costs) }: AdaptiveOptions = {}) {
    this.#costs = costs;
    this.#prior = prior;
    this.#decay = decay;
    this.#most = most;
  }

  /**
   * The estimate of α: accepted tokens per token that was judged, the prior among them. Behind the first rejection nothing is judged, so
   * this is the maximum of the likelihood, and does not shrink with K as accepted / drafted does.
   */
  get alpha(): number {
    const { alpha, weight } = this.#prior;
    return (alpha * weight + this.#accepted) / (weight + this.#judged);
  }

  next(most: number): number {
    return bestPrediction(this.alpha, this.#costs, Math.min(most, this.#most)).k;
  }

  learn({ drafted, accepted }: { readonly drafted: number; readonly accepted: number }): void {
    this.#accepted = this.#decay * this.#accepted + accepted;
    this.#judged = this.#decay * this.#judged + Math.min(drafted, accepted + 1);
  }
}
