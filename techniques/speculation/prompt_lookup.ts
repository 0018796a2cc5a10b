/**
 * Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): a draft without a model. Where the last tokens of the text
 * have stood before, what followed them then is proposed again; texts that quote their prompt (summaries, edits, code) gain, others lose
 * little. The definition is that of transformers' PromptLookupCandidateGenerator: the longest n-gram first, and of its places the first
 * from the left, which has most text behind it.
 */

import type { TextDraft } from "../../models/draft.ts";

/** Longest n-gram that is looked for, unless told otherwise, and the longest that may be asked for. */
export const NGRAM = 3;
export const MAX_NGRAM = 16;

/** Above every token id, so that (n-gram, token) is one exact number. */
const TOKENS = 2 ** 21;
/** The empty n-gram: what every other one starts from. */
const EMPTY = 0;

/**
 * A draft for one request: it keeps an index of the text, to which each call adds the tokens that are new, so a call takes time in
 * proportion to those and not to the text. A text that does not go on from the last one is a new text, and is read from its beginning.
 * Proposes fewer than k tokens where the text ends before that, and none where no n-gram of 1 … `ngram` tokens has stood before.
 */
export function promptLookup({ ngram = NGRAM }: { readonly ngram?: number } = {}): TextDraft {
  let index = new NgramIndex(ngram);
  return {
    name: "prompt-lookup",
    propose(tokens, k) {
      // The last n-gram of all has nothing behind it yet: it is looked up and not known.
      const known = Math.max(0, tokens.length - 1);
      if (!index.isBeginningOf(tokens, known)) index = new NgramIndex(ngram);
      index.read(tokens, known);
      for (let n = Math.min(ngram, known); n >= 1; n--) {
        const end = index.firstEnd(tokens, n);
        if (end !== null) return tokens.slice(end, end + k);
      }
      return [];
    },
  };
}

/**
 * Where each n-gram of the tokens read so far ended first. An n-gram is a number: that of its first n − 1 tokens, extended by its last. So
 * a token more takes one look into one map for each n.
 */
class NgramIndex {
  readonly #longest: number;
  /** (n-gram · TOKENS + token) → the n-gram one longer. */
  readonly #longer = new Map<number, number>();
  /** [n-gram] the number of tokens up to its end where it first stood. */
  readonly #ends: number[] = [0];
  /** [n] the last n tokens read. */
  #last: number[] = [EMPTY];
  #read = 0;
  /** The last tokens read themselves, to know the text again. */
  #tail: number[] = [];

  constructor(longest: number) {
    this.#longest = longest;
  }

  /** Whether the first `count` of `tokens` go on from what was read; told by length and by the last tokens. */
  isBeginningOf(tokens: readonly number[], count: number): boolean {
    const from = this.#read - this.#tail.length;
    return count >= this.#read && this.#tail.every((token, i) => tokens[from + i] === token);
  }

  /** Takes in what is new of the first `count` tokens. */
  read(tokens: readonly number[], count: number): void {
    while (this.#read < count) {
      const token = tokens[this.#read++]!;
      const last = [EMPTY];
      for (let n = 1; n <= Math.min(this.#longest, this.#read); n++) {
        const key = this.#last[n - 1]! * TOKENS + token;
        let gram = this.#longer.get(key);
        if (gram === undefined) {
          gram = this.#ends.push(this.#read) - 1;
          this.#longer.set(key, gram);
        }
        last.push(gram);
      }
      this.#last = last;
    }
    this.#tail = tokens.slice(Math.max(0, count - this.#longest), count);
  }

  /** The end of the first place where the last n of `tokens`, all but one of which were read, stood before; null where nowhere. */
  firstEnd(tokens: readonly number[], n: number): number | null {
    const gram = this.#longer.get(this.#last[n - 1]! * TOKENS + tokens.at(-1)!);
    return gram === undefined ? null : this.#ends[gram]!;
  }
}
