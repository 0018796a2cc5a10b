/**
 * Stretches of text of one length in tokens: prompts, and windows to score. Taken from the documents of a data set
 * (../datasets/load.ts) in their order, the first stretch of every document that is long enough, then the second of each, and so on, so
 * that no two overlap. A stretch remembers where it stood.
 */

import { UsageError } from "../../../engine/errors.ts";
import type { Model } from "../arms.ts";
import { loadSample, type Sample } from "../datasets/load.ts";
import { described, type Prompts } from "../prompts.ts";

export interface Stretch {
  /** Where the text is from: repository, commit and split, or the name of a file. */
  readonly source: string;
  readonly document: number;
  readonly title: string | null;
  /** Characters of the document before it. */
  readonly offset: number;
  readonly ids: readonly number[];
  /** The characters that the tokens were taken from, which go on a little behind the last of them. */
  readonly text: string;
}

/** A stretch of n tokens is looked for in n times as many characters: more than a token has on average in any text of words. */
const CHARACTERS = 8;

/** `count` stretches of `tokens` tokens. Throws UsageError when the data set does not hold as many. */
export async function stretchesOf(
  dataset: string, count: number, tokens: number, tokenizer: Model["tokenizer"],
  { signal, onStep }: { readonly signal: AbortSignal; readonly onStep: (label: string, done: number, total: number) => void },
): Promise<Stretch[]> {
  const found: Stretch[] = [], documents = new Map<number, Sample>();
  const read = async (index: number): Promise<Sample> => {
    const sample = documents.get(index) ?? await loadSample({ dataset, subset: null, index }, { signal, onProgress: onStep });
    documents.set(index, sample);
    return sample;
  };
  for (let round = 0, before = -1; found.length < count && found.length > before; round++) {
    before = found.length;
    const { documents: all } = count === 0 ? { documents: 0 } : await read(0);
    for (let index = 0; index < all && found.length < count; index++) {
      const { text, source, title } = await read(index);
      const offset = round * tokens * CHARACTERS, piece = text.slice(offset, offset + tokens * CHARACTERS);
      const ids = piece.length < tokens ? [] : await tokenizer.encode(piece);
      if (ids.length >= tokens) found.push({ source, document: index, title, offset, ids: ids.slice(0, tokens), text: piece });
    }
  }
  if (found.length < count) {
    throw new UsageError(
      `${dataset} holds ${found.length} stretches of ${tokens} tokens, but ${count} are asked for: ask for fewer or shorter ones`);
  }
  return found;
}

/** Prompts as a report tells of them. */
export function promptsOf(stretches: readonly Stretch[]): Prompts {
  const sources = [...new Set(stretches.map(({ source }) => source))];
  return described(stretches.map(({ text }) => text), { kind: "file", path: sources.map((source) => `\`${source}\``).join(", ") });
}
