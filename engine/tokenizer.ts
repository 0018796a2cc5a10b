/**
 * Text to token ids and back. Models bring a byte-level BPE in tokenizer.json, run by the native package `tokenizers`; random weights have
 * no vocabulary of their own and borrow GPT-2's from `gpt-tokenizer` (gpt_tokenizer.ts). Three things are ours:
 * - The package turns `<|endoftext|>` typed by a user into the special id and offers no switch. So we load a second instance of the same
 *   file without its control tokens, and every text goes through that one unless the caller says `special: true`.
 * - Decoding is done here from the bytes of each token, because a stream needs it synchronously, with constant work per token. It equals
 *   the package's own decode; `clean_up_tokenization_spaces`, which would change text, is never applied.
 * - The package sees tokenizer.json with truncation and padding removed, and with every id checked.
 */

import { Tokenizer as NativeTokenizer } from "tokenizers";
import { type ChatMessage, renderChat, shieldMessages, splitControl } from "./chat_template.ts";
import { decodeAll, StreamDecoder } from "./detokenizer.ts";
import { ModelFileError, UsageError } from "./errors.ts";
import { checkText, reasonOf } from "./text.ts";
import { nativeJson, readChatFiles, readTokenizerFile, tokenBytesTable } from "./tokenizer_files.ts";

export { gptTokenizer } from "./gpt_tokenizer.ts";

/** How text becomes ids. */
export interface EncodeOptions {
  /** Control tokens written in the text (`<|endoftext|>`) become their ids. Default false: they are text like any other. */
  special?: boolean;
}

/** How ids become text. */
export interface DecodeOptions {
  /** Leave special tokens out of the text. Default false: decode(encode(text, { special: true })) is the text again. */
  skipSpecial?: boolean;
}

/** Text to ids and back, as the checkpoint's tokenizer.json says. */
export interface Tokenizer {
  readonly kind: "tokenizer.json" | "gpt-tokenizer" | "none";
  /** Ids are below this. A model's vocab_size may be larger (padding rows), never smaller. */
  readonly vocabSize: number;
  /** "" gives [], lone surrogates become U+FFFD. Throws UsageError for text of more than 4 Mi characters. */
  encode(text: string, options?: EncodeOptions): Promise<number[]>;
  /** Ids beyond the vocabulary (padding rows of a model) have no text. Throws UsageError for an id that is no whole number ≥ 0. */
  decode(ids: readonly number[], options?: DecodeOptions): Promise<string>;
  idOf(token: string): number | undefined;
  /** For text that is being generated: one decoder per sequence. */
  decoder(options?: DecodeOptions): StreamDecoder;
  /** A conversation through the model's chat template. Control tokens in message content stay text. */
  encodeChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): Promise<number[]>;
}

/**
 * The tokenizer of a checkpoint folder: tokenizer.json, with special tokens and chat template from tokenizer_config.json and
 * chat_template.jinja where they exist. Throws ModelFileError naming the file and the cause.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = await readTokenizerFile(folder);
  const chat = await readChatFiles(folder);
  const plain = loadNative(nativeJson(file, "plain"), file.path);
  let full: NativeTokenizer | undefined; // only texts with `special: true` need it, and a big one takes half a second to load
  const bytesOf = tokenBytesTable(file);
  const specialIds = new Set(file.control.filter(({ special }) => special).map(({ id }) => id));
  const nothing = new Uint8Array();
  const bytesWithoutSpecial = (id: number) => specialIds.has(id) ? nothing : bytesOf(id);
  const bytesFor = (options: DecodeOptions | undefined) => options?.skipSpecial === true ? bytesWithoutSpecial : bytesOf;

  return {
    kind: "tokenizer.json",
    vocabSize: file.size,
    async encode(text, options) {
      const whole = checkText(text);
      if (options?.special !== true) return (await plain.encode(whole)).getIds();
      full ??= loadNative(nativeJson(file, "full"), file.path);
      return (await full.encode(whole)).getIds();
    },
    async decode(ids, options) {
      return decodeAll(ids, bytesFor(options));
    },
    idOf: (token) => file.ids.get(token),
    decoder: (options) => new StreamDecoder(bytesFor(options)),
    async encodeChat(messages, options) {
      if (chat.template === undefined) throw new UsageError(`${folder}: this model has no chat template; give it a plain prompt instead`);
      const shielded = shieldMessages(messages, file.control);
      const text = renderChat(chat.template.text, shielded.messages, {
        bosToken: chat.bosToken, eosToken: chat.eosToken, addGenerationPrompt: options?.addGenerationPrompt, source: chat.template.path,
      });
      const ids: number[] = [];
      for (const piece of splitControl(text.toWellFormed(), file.control, shielded.mark)) {
        if (typeof piece === "number") ids.push(piece);
        // The template writes its own beginning-of-text token.
        else for (const id of (await plain.encode(piece, null, { addSpecialTokens: false })).getIds()) ids.push(id);
      }
      return ids;
    },
  };
}

function loadNative(json: string, path: string): NativeTokenizer {
  try {
    return NativeTokenizer.fromString(json);
  } catch (error) {
    // The position belongs to the JSON we made of the file, so it would mislead.
    const reason = reasonOf(error).replace(/ at line \d+ column \d+$/, "");
    throw new ModelFileError(`${path}: not a tokenizer we can run: ${reason}`, { cause: error });
  }
}
