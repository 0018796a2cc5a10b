/** Where one request stands with speculation: how many tokens are drafted next, by what, and what came of it so far. No GPU in here. */

import type { DraftLength, SpeculationStats, TextDraft } from "./draft.ts";

export interface RoundTimes { readonly draftMs: number; readonly verifyMs: number; readonly hostMs: number }

export class Speculation {
  readonly draft: string;
  /** Null: another model drafts. */
  readonly text: TextDraft | null;
  readonly #length: DraftLength;
  #rounds = 0;
  #tokens = 0;
  readonly #draftedAt: number[] = [];
  readonly #acceptedAt: number[] = [];
  #draftMs = 0;
  #verifyMs = 0;
  #hostMs = 0;

  constructor(draft: string, length: DraftLength, text: TextDraft | null) {
    this.draft = draft;
    this.#length = length;
    this.text = text;
  }

  /** How many tokens to draft, at most `most`. */
  next(most: number): number {
    return most < 1 ? 0 : Math.min(most, this.#length.next(most));
  }

  /** A round in which anything was drafted. `tokens`: what the request took of it. */
  learn(drafted: number, accepted: number, tokens: number, { draftMs, verifyMs, hostMs }: RoundTimes): void {
    this.#rounds++;
    this.#tokens += tokens;
    for (let i = 0; i < drafted; i++) {
      this.#draftedAt[i] = (this.#draftedAt[i] ?? 0) + 1;
      this.#acceptedAt[i] = (this.#acceptedAt[i] ?? 0) + (i < accepted ? 1 : 0);
    }
    this.#draftMs += draftMs;
    this.#verifyMs += verifyMs;
    this.#hostMs += hostMs;
    this.#length.learn({ drafted, accepted, ms: draftMs + verifyMs });
  }

  stats(): SpeculationStats {
    const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
    return {
      draft: this.draft, rounds: this.#rounds, drafted: sum(this.#draftedAt), accepted: sum(this.#acceptedAt), draftedAt: this.#draftedAt, acceptedAt: this.#acceptedAt,
      tokens: this.#tokens, draftMs: this.#draftMs, verifyMs: this.#verifyMs, hostMs: this.#hostMs,
    };
  }
}
