/**
 * The waist of speculative decoding (techniques/speculation has the mathematics, models/speculator.ts runs the rounds). A draft proposes tokens,
 * the target scores them all in one forward, and what it does not accept is rolled back. A draft is another model, or a function of the text.
 */

import { UsageError } from "../engine/errors.ts";
import type { WeightFormat } from "../kernels/formats.ts";

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
  /** At index i, from 0: rounds that drafted an i-th token, and in which it was accepted. */
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

/** As LoadOptions.draft has it: a draft of its own tokens, or of another model's. */
export interface DraftOptions {
  /** A folder, a bundled name or a hub id; `prompt-lookup`; or `self:FORMAT`, the model itself in that weight format. */
  readonly model: string;
  /** Tokens drafted in a round, 1 to 16, or `adaptive`: what measured costs and acceptance make best. Default 5. */
  readonly k?: number | "adaptive";
  /** Format of a draft model's weights; default as stored. */
  readonly weights?: "auto" | WeightFormat;
  /** Of `prompt-lookup`: the longest n-gram that is looked for. Default 3. */
  readonly ngram?: number;
}

/** Medians in milliseconds on this adapter. */
export interface SpeculationCosts {
  /** A decode step of the target and one of the draft, in a row as in generation; 0 of a text draft. */
  readonly decodeMs: number;
  readonly draftMs: number;
  /** At index rows − 1: a verification of so many rows, from its submission to the arrival of the verdict. */
  readonly verifyMs: readonly number[];
  /** Tokens in the cache when they were measured. */
  readonly context: number;
}

/** What techniques/speculation knows of drafts; index.ts hands it down, for models may not know techniques. */
export interface DraftKinds {
  /** Throws UsageError for what no draft can be. */
  check(options: DraftOptions): Required<Pick<DraftOptions, "model" | "k">> & DraftOptions;
  /** For each request its own; null: not the name of a text draft. */
  text(options: DraftOptions): (() => TextDraft) | null;
  /** The format of the target's own copy; null: not `self:`. */
  selfFormat(options: DraftOptions): WeightFormat | null;
  length(k: number | "adaptive", costs: SpeculationCosts | null): DraftLength;
}

let known: DraftKinds | null = null;

export function nameDrafts(kinds: DraftKinds): void {
  known = kinds;
}

export function draftKinds(): DraftKinds {
  if (known === null) throw new UsageError("draft: drafts by name are known to index.ts: import LLM from there");
  return known;
}
