/**
 * For a checkpoint that comes without tokenizer.json: token ids can be run, text cannot. A borrowed vocabulary would give text that
 * looks like output and means nothing, so asking for text is an error.
 */

import { StreamDecoder } from "./detokenizer.ts";
import { ModelFileError } from "./errors.ts";
import type { Tokenizer } from "./tokenizer.ts";

export function noTokenizer(folder: string, vocabSize: number): Tokenizer {
  const refuse = (): never => {
    throw new ModelFileError(`${folder}: has no tokenizer.json, so text cannot be turned into tokens: give token ids, or put the file beside config.json`);
  };
  const nothing = new Uint8Array();
  return {
    kind: "none", vocabSize,
    encode: async () => refuse(),
    encodeChat: async () => refuse(),
    decode: async () => "",
    idOf: () => undefined,
    decoder: () => new StreamDecoder(() => nothing),
  };
}
