/**
 * What a checkpoint folder says about its tokenizer: tokenizer.json read and checked, the two variants of it that the native package gets
 * (with and without control tokens), the bytes of every token, and the chat template with the special tokens it uses.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ControlToken } from "./chat_template.ts";
import type { TokenBytes } from "./detokenizer.ts";
import { ModelFileError } from "./errors.ts";
import { openRegularFile, readFully, show } from "./files.ts";
import { reasonOf } from "./text.ts";

const maxFileBytes = 256 * 2 ** 20;

type Json = { [key: string]: unknown };
const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

export interface TokenizerFile {
  readonly path: string;
  readonly json: Json;
  /** Every token, added ones included. */
  readonly ids: ReadonlyMap<string, number>;
  /** Highest id + 1. */
  readonly size: number;
  /** Added tokens that structure prompts; see isControl. */
  readonly control: readonly ControlToken[];
}

/** Text of a file, or undefined when there is no such file. Throws ModelFileError. */
async function readText(path: string): Promise<string | undefined> {
  if (!existsSync(path)) return undefined;
  const { handle, size } = await openRegularFile(path);
  try {
    if (size > maxFileBytes) throw new ModelFileError(`${path}: ${size} bytes are more than a tokenizer can need`);
    const bytes = Buffer.alloc(size);
    await readFully(handle, bytes, 0, path);
    return bytes.toString("utf8");
  } finally {
    await handle.close();
  }
}

/** Parsed JSON object of a file, or undefined when there is no such file. Throws ModelFileError. */
async function readJson(path: string): Promise<Json | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ModelFileError(`${path}: not valid JSON: ${reasonOf(error)}`, { cause: error });
  }
  if (!isRecord(json)) throw new ModelFileError(`${path}: expected a JSON object`);
  return json;
}

/** tokenizer.json of a folder, checked as far as we rely on it; the rest is checked by the native package. */
export async function readTokenizerFile(folder: string): Promise<TokenizerFile> {
  const path = join(folder, "tokenizer.json");
  const json = await readJson(path);
  if (json === undefined) throw new ModelFileError(`${folder}: has no tokenizer.json, the only tokenizer format we read`);
  const fail = (reason: string): never => { throw new ModelFileError(`${path}: ${reason}`); };
  const model = isRecord(json["model"]) ? json["model"] : fail("has no model");
  if (model["type"] !== "BPE") fail(`the model is of type ${show(model["type"])}; only byte-level BPE is supported`);
  const decoder = json["decoder"];
  if (!isRecord(decoder) || decoder["type"] !== "ByteLevel") {
    fail(`the decoder is ${isRecord(decoder) ? show(decoder["type"]) : "missing"}; only byte-level BPE (ByteLevel) is supported`);
  }
  const vocab = isRecord(model["vocab"]) ? model["vocab"] : fail("model.vocab is not an object");

  const ids = new Map<string, number>();
  const tokenOf = new Map<number, string>();
  const add = (token: string, id: unknown, where: string): void => {
    const name = show(token);
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) return fail(`${where}: the id of ${name} is ${show(id)}`);
    const other = tokenOf.get(id);
    if (other !== undefined && other !== token) fail(`${where}: id ${id} belongs to both ${show(other)} and ${name}`);
    if (ids.has(token) && ids.get(token) !== id) fail(`${where}: ${name} has the two ids ${ids.get(token)} and ${id}`);
    ids.set(token, id);
    tokenOf.set(id, token);
  };
  for (const [token, id] of Object.entries(vocab)) add(token, id, "model.vocab");
  const control: ControlToken[] = [];
  for (const [i, token] of addedTokens(json, fail).entries()) {
    add(token.content, token.id, `added_tokens[${i}]`);
    if (isControl(token)) control.push(token);
  }
  // Ids without holes: else an id is past the end of what the model was trained on, or the file is torn.
  const size = tokenOf.size;
  for (const [token, id] of ids) {
    if (id < size) continue;
    fail(`${show(token)} has id ${id}, but the vocabulary has only ${size} entries: some are missing, or the id is wrong`);
  }
  return { path, json, ids, size, control };
}

function addedTokens(json: Json, fail: (reason: string) => never): ControlToken[] {
  const list = json["added_tokens"] ?? [];
  if (!Array.isArray(list)) return fail("added_tokens is not a list");
  return list.map((token: unknown, i) => {
    const content = isRecord(token) ? token["content"] : undefined;
    if (!isRecord(token) || typeof content !== "string" || content === "") return fail(`added_tokens[${i}] has no content`);
    return { content, id: token["id"] as number, special: token["special"] === true };
  });
}

/**
 * Added tokens are of two sorts. Control tokens are all special ones, and those written like markup (`<think>`, `<|User|>`: published files
 * often forget to call them special). The rest are plain vocabulary that came late, like GPT-NeoX's runs of spaces, and belong to any text.
 */
function isControl(token: { content: string; special: boolean }): boolean {
  return token.special || /[<>[\]|]/.test(token.content);
}

/**
 * tokenizer.json for the native package. It numbers added tokens itself, in order, whatever the file says; with all of them in the model's
 * vocabulary (where no merge leads to them) it keeps the numbers. `plain` has no control tokens: their entries get a name that no text has.
 */
export function nativeJson(file: TokenizerFile, variant: "plain" | "full"): string {
  const model = file.json["model"] as Json;
  const vocab: Json = { ...(model["vocab"] as Json) };
  const added = (file.json["added_tokens"] ?? []) as { content: string; id: number }[];
  const controls = new Set(variant === "plain" ? file.control.map(({ content }) => content) : []);
  for (const { content, id } of added) {
    if (!Object.hasOwn(vocab, content)) vocab[controls.has(content) ? `\0${id}` : content] = id;
  }
  return JSON.stringify({
    ...file.json,
    truncation: null,
    padding: null,
    added_tokens: added.filter(({ content }) => !controls.has(content)),
    model: { ...model, vocab, dropout: null }, // dropout would make encoding random
  });
}

/** Character of the byte-level alphabet (GPT-2): printable Latin-1 stands for itself, the other 68 bytes for U+0100 upwards. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(printable(byte) ? byte : next++), byte]));
})();

/** A token with any character outside the byte-level alphabet (an added one) is taken as it is written. */
function bytesOfToken(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => byteOfCharacter.get(character));
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : new TextEncoder().encode(token);
}

/** Bytes by id, worked out once per token; ids without a token have none. */
export function tokenBytesTable(file: TokenizerFile): TokenBytes {
  const tokens: string[] = new Array(file.size);
  for (const [token, id] of file.ids) tokens[id] = token;
  const bytes: (Uint8Array | undefined)[] = new Array(file.size);
  return (id) => bytes[id] ??= bytesOfToken(tokens[id] ?? "");
}

export interface ChatFiles {
  readonly template: { readonly text: string; readonly path: string } | undefined;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
}

/** Chat template and the tokens it names. chat_template.jinja goes before tokenizer_config.json, as in transformers; all may be missing. */
export async function readChatFiles(folder: string): Promise<ChatFiles> {
  const configPath = join(folder, "tokenizer_config.json");
  const config = await readJson(configPath) ?? {};
  const token = (key: string): string | undefined => {
    const value = isRecord(config[key]) ? config[key]["content"] : config[key];
    return typeof value === "string" ? value : undefined;
  };
  const jinjaPath = join(folder, "chat_template.jinja");
  const jinja = await readText(jinjaPath);
  const text = jinja ?? namedTemplate(config["chat_template"]);
  return {
    template: text === undefined ? undefined : { text, path: jinja === undefined ? `${configPath}: chat_template` : jinjaPath },
    bosToken: token("bos_token"),
    eosToken: token("eos_token"),
  };
}

/** chat_template is a string, or a list of { name, template } of which "default" is meant. */
function namedTemplate(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const chosen: unknown = value.find((entry) => isRecord(entry) && entry["name"] === "default");
  return isRecord(chosen) && typeof chosen["template"] === "string" ? chosen["template"] : undefined;
}
