/**
 * The waist of speculative decoding (techniques/speculation has the mathematics, models/speculator.ts runs the rounds). A draft proposes tokens,
 * the target scores them all in one forward, and what it does not accept is rolled back. A draft is another model, or a function of the text.
 */

/** Proposes at most `k` tokens to follow `tokens`; on the host, without a distribution: each stands for certainty. */
export interface TextDraft {
  readonly name: string;
  propose(tokens: readonly number[], k: number): readonly number[];
}

/** What decides how many tokens are drafted next. One per request; told what came of every round. */
export interface DraftLength {
  /** At least 1, at most `most`. */
  next(most: number): number;
  /** `ms`: wall time of the round, all sequences of the batch together. */
  learn(round: { readonly drafted: number; readonly accepted: number; readonly ms: number }): void;
}

/** What speculation did for one request. */
export interface SpeculationStats {
  readonly draft: string;
  /** Verified rounds, tokens drafted in them, and how many of those the target accepted. */
  readonly rounds: number;
  readonly drafted: number;
  readonly accepted: number;
  /** [i]: rounds that drafted an i-th token, and in which it was accepted; from 0. */
  readonly draftedAt: readonly number[];
  readonly acceptedAt: readonly number[];
  /** Tokens of rounds: accepted + 1 each, less what was cut off at the end. */
  readonly tokens: number;
  /** Wall time of drafting and of verifying, of the rounds that this request was in; the batch shares them. */
  readonly draftMs: number;
  readonly verifyMs: number;
  /** Time of the host alone: between the arrival of a verdict and the submission of what follows. */
  readonly hostMs: number;
}
