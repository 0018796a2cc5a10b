/**
 * From token ids back to text while they are being generated. A byte-level token is a piece of UTF-8 that may begin or end inside a
 * character, so StreamDecoder keeps the unfinished bytes (at most three) until the rest arrives: no half characters, constant work per
 * token, and the pieces together are the text of all ids. StopMatcher sits behind it and ends the text before the first stop string.
 */

import { UsageError } from "./errors.ts";

/** UTF-8 bytes of one token; empty for an id that stands for no text. */
export type TokenBytes = (id: number) => Uint8Array;

/**
 * Text of all ids at once. Bytes that are not UTF-8 become U+FFFD, one per maximal broken piece, as in the reference tokenizer. Throws
 * UsageError for an id that is no whole number from 0.
 */
export function decodeAll(ids: readonly number[], bytesOf: TokenBytes): string {
  const wrong = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
  if (wrong >= 0) throw new UsageError(`ids[${wrong}] is ${ids[wrong]}; a token id is a whole number from 0`);
  const decoder = new StreamDecoder(bytesOf);
  let text = "";
  for (const id of ids) text += decoder.push(id);
  return text + decoder.flush();
}

/** Ids one at a time to text: a character of several bytes comes out once its last one has come in. One decoder per sequence. */
export class StreamDecoder {
  readonly #bytesOf: TokenBytes;
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(bytesOf: TokenBytes) {
    this.#bytesOf = bytesOf;
  }

  /** The characters that `id` completes; "" while a character is unfinished. */
  push(id: number): string {
    return this.#utf8.decode(this.#bytesOf(id), { stream: true });
  }

  /** What is left when no more ids come: "", or U+FFFD for a character that was never finished. The decoder can be used anew. */
  flush(): string {
    return this.#utf8.decode();
  }
}

/**
 * Ends a streamed text before the first stop string. "First" is the one that is complete first, so the result does not depend on how the
 * text was cut into pieces. Text that may still turn into a stop string is held back: a stop string never leaks, not even in part.
 */
export class StopMatcher {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  /** Throws UsageError for an empty stop string. */
  constructor(stops: readonly string[]) {
    if (stops.includes("")) throw new UsageError("a stop string is empty: it would end every text before its first character");
    this.#stops = stops.map((stop) => stop.toWellFormed());
  }

  /** The text that is safe to show now. Once `stopped`, nothing more is. */
  push(piece: string): { text: string; stopped: boolean } {
    if (this.#stopped) return { text: "", stopped: true };
    const text = this.#held + piece;
    const match = this.#firstMatch(text);
    if (match !== undefined) {
      this.#stopped = true;
      this.#held = "";
      return { text: text.slice(0, match), stopped: true };
    }
    const safe = text.length - this.#openSuffix(text);
    this.#held = text.slice(safe);
    return { text: text.slice(0, safe), stopped: false };
  }

  /** The text held back, to be shown when generation ends without a stop string. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Start of the stop string that ends earliest in `text`; of two that end together the longer. */
  #firstMatch(text: string): number | undefined {
    let best: { start: number; end: number } | undefined;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (best === undefined || end < best.end || (end === best.end && start < best.start)) best = { start, end };
    }
    return best?.start;
  }

  /** Length of the longest end of `text` that is the beginning of a stop string. */
  #openSuffix(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (stop.startsWith(text.slice(text.length - length))) longest = length;
      }
    }
    return longest;
  }
}
