/**
 * GPT-2's vocabulary for models that have none: random weights. It is smaller than that of every preset, so all prompts can be encoded;
 * text costs about as many tokens as with the model's own tokenizer, which is what a speed measurement needs.
 */

import ranks from "gpt-tokenizer/bpeRanks/r50k_base";
import { encode } from "gpt-tokenizer/encoding/r50k_base";
import { decodeAll, StreamDecoder } from "./detokenizer.ts";
import { UsageError } from "./errors.ts";
import { checkText } from "./text.ts";
import type { DecodeOptions, Tokenizer } from "./tokenizer.ts";

const endOfText = "<|endoftext|>";
/** The last id; ids below it are the byte-pair tokens in order of rank. */
const endOfTextId = ranks.length;

/**
 * A tokenizer for a model of `vocabSize` rows. Every id below vocabSize can be decoded: those beyond GPT-2's vocabulary stand for the
 * text of id modulo 50,256, since what random weights say has no meaning anyway. Throws UsageError when the model has too few rows.
 */
export function gptTokenizer(vocabSize: number): Tokenizer {
  if (!Number.isSafeInteger(vocabSize) || vocabSize <= endOfTextId) {
    throw new UsageError(`a model without a tokenizer needs ${endOfTextId + 1} rows or more to be given text; this one has ${vocabSize}`);
  }
  const utf8 = new TextEncoder();
  const nothing = new Uint8Array();
  const bytes: (Uint8Array | undefined)[] = new Array(endOfTextId);
  const bytesOf = (id: number): Uint8Array => {
    if (id === endOfTextId) return utf8.encode(endOfText);
    if (id >= vocabSize) return nothing;
    const rank = id % endOfTextId;
    const token = ranks[rank]!;
    return bytes[rank] ??= typeof token === "string" ? utf8.encode(token) : Uint8Array.from(token);
  };
  const bytesFor = (options: DecodeOptions | undefined) =>
    options?.skipSpecial === true ? (id: number) => id === endOfTextId ? nothing : bytesOf(id) : bytesOf;
  // The package's merging is quadratic in the length of a word (2 s for 50,000 letters), so longer ones are cut.
  const encodePlain = (text: string): number[] => text.split(/(\S{1000}|\s{1000})/u)
    .flatMap((part) => encode(part, { allowedSpecial: new Set(), disallowedSpecial: new Set() }));

  return {
    kind: "gpt-tokenizer",
    vocabSize,
    async encode(text, options) {
      const whole = checkText(text);
      if (options?.special !== true) return encodePlain(whole);
      return whole.split(endOfText).flatMap((part, i) => i === 0 ? encodePlain(part) : [endOfTextId, ...encodePlain(part)]);
    },
    async decode(ids, options) {
      return decodeAll(ids, bytesFor(options));
    },
    idOf(token) {
      if (token === endOfText) return endOfTextId;
      const ids = encodePlain(checkText(token));
      return ids.length === 1 ? ids[0] : undefined;
    },
    decoder: (options) => new StreamDecoder(bytesFor(options)),
    async encodeChat() {
      throw new UsageError("random weights have no chat template; give them a plain prompt instead");
    },
  };
}
