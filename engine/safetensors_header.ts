/**
 * The header of a safetensors file: JSON that names every tensor, its type, its shape and its bytes. Nothing in it is believed. Keys
 * are unique, sizes agree with shapes, and the tensors fill the data exactly, in order, without overlap, hole or rest, so reading all of
 * them never needs more memory than the file, and no second file can hide inside. These are the rules of the format and of its
 * reference reader (github.com/huggingface/safetensors, `Metadata::validate`); where the two differ, on white space before the `{`, both
 * are read.
 */

import { ModelFileError } from "./errors.ts";
import { show } from "./files.ts";

/** Bits of one element, for every dtype of the format. Whether we can compute with one is decided by whoever reads the tensor. */
export const SAFETENSORS_DTYPE_BITS = {
  BOOL: 8, F4: 4, F6_E2M3: 6, F6_E3M2: 6, U8: 8, I8: 8, F8_E5M2: 8, F8_E4M3: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8,
  I16: 16, U16: 16, F16: 16, BF16: 16, I32: 32, U32: 32, F32: 32, C64: 64, F64: 64, I64: 64, U64: 64,
} as const;
export type SafetensorsDtype = keyof typeof SAFETENSORS_DTYPE_BITS;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Bytes from the start of the file; at any alignment. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface Header {
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** `__metadata__`, empty when the file has none. */
  readonly metadata: ReadonlyMap<string, string>;
}

const DAMAGED = "The file is damaged or was written by a faulty tool: download it or save it again";

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A size or an offset: 0 to 2^53 - 1, where doubles still count by one. */
function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Bits of a tensor, or undefined where the count leaves 2^53. */
export function tensorBits(dtype: SafetensorsDtype, shape: readonly number[]): number | undefined {
  let elements = 1;
  for (const size of shape) {
    elements *= size;
    if (elements > Number.MAX_SAFE_INTEGER) return undefined;
  }
  const bits = elements * SAFETENSORS_DTYPE_BITS[dtype];
  return bits > Number.MAX_SAFE_INTEGER ? undefined : bits;
}

/**
 * JSON as it may come with a model: an object in strict UTF-8 (an odd byte would else silently become U+FFFD, and two names one), with
 * no key twice in any object (JSON.parse would keep the last). Throws ModelFileError; `what` says which part of the file this is.
 */
export function parseJsonObject(bytes: Uint8Array, path: string, what: string): Record<string, unknown> {
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ModelFileError(`${path}: the ${what} is not valid UTF-8. ${DAMAGED}`);
  }
  try {
    json = JSON.parse(text);
  } catch {
    throw new ModelFileError(`${path}: the ${what} is not valid JSON; it begins with ${show(text.slice(0, 40))}. ${DAMAGED}`);
  }
  if (!isObject(json)) throw new ModelFileError(`${path}: the ${what} must be a JSON object, but is ${show(json)}. ${DAMAGED}`);
  const key = duplicateKey(text);
  if (key !== undefined) throw new ModelFileError(`${path}: the key ${show(key)} stands twice in the ${what}. ${DAMAGED}`);
  return json;
}

/** The first key that stands twice in one object. `json` is known to be valid, so braces, brackets and strings are all there is to see. */
function duplicateKey(json: string): string | undefined {
  const enclosing: (Set<string> | null)[] = []; // the keys seen in each open object, null for a list
  let afterName = false; // between the colon and the value: a string here is no key
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (c === "{") enclosing.push(new Set());
    else if (c === "[") enclosing.push(null);
    else if (c === "}" || c === "]") enclosing.pop();
    else if (c === '"') {
      const start = i++;
      let escaped = false;
      for (; json[i] !== '"'; i++) if (json[i] === "\\") { escaped = true; i++; }
      const keys = enclosing.at(-1);
      if (afterName || keys === null || keys === undefined) continue;
      const key = escaped ? (JSON.parse(json.slice(start, i + 1)) as string) : json.slice(start + 1, i);
      if (keys.has(key)) return key;
      keys.add(key);
    }
    if (c === ":") afterName = true;
    else if (c === "," || c === "{") afterName = false;
  }
  return undefined;
}

/**
 * Parse and check the header in `bytes`, which ends at byte `dataStart` of a file of `fileSize` bytes.
 * Throws ModelFileError with path, tensor, expected and found.
 */
export function parseHeader(bytes: Uint8Array, dataStart: number, fileSize: number, path: string): Header {
  const json = parseJsonObject(bytes, path, "header");
  const infos: TensorInfo[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, entry] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(entry, path);
    else infos.push(parseEntry(name, entry, dataStart, path));
  }
  // An empty tensor begins where the next one does, so the end decides between the two.
  infos.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(infos, dataStart, fileSize, path);
  return { tensors: new Map(infos.map((info) => [info.name, info])), metadata };
}

function parseMetadata(value: unknown, path: string): ReadonlyMap<string, string> {
  const refuse = (problem: string): ModelFileError => new ModelFileError(`${path}: __metadata__ ${problem}. ${DAMAGED}`);
  if (!isObject(value)) throw refuse(`must be an object of strings, but is ${show(value)}`);
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw refuse(`must hold strings only, but ${show(key)} is ${show(text)}`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseEntry(name: string, entry: unknown, dataStart: number, path: string): TensorInfo {
  const refuse = (problem: string, advice = DAMAGED): ModelFileError =>
    new ModelFileError(`${path}: tensor ${show(name)}: ${problem}. ${advice}`);
  if (!isObject(entry)) throw refuse(`expected an object with dtype, shape and data_offsets, found ${show(entry)}`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string") throw refuse(`dtype must be a string, but is ${show(dtype)}`);
  if (!Object.hasOwn(SAFETENSORS_DTYPE_BITS, dtype)) {
    throw refuse(`unknown dtype ${show(dtype)}; the format has ${Object.keys(SAFETENSORS_DTYPE_BITS).join(" ")}`,
      "Save the model again with one of these");
  }
  if (!Array.isArray(shape)) throw refuse(`shape must be a list of sizes, but is ${show(shape)}`);
  const sizes: number[] = [];
  for (const size of shape as unknown[]) {
    if (!isCount(size)) throw refuse(`each size of the shape must be a whole number from 0 to 2^53 - 1, found ${show(size)}`);
    sizes.push(size);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !isCount(offsets[0]) || !isCount(offsets[1])) {
    throw refuse(`data_offsets must be two whole numbers [begin, end], but is ${show(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw refuse(`its data_offsets end before they begin: [${begin}, ${end}]`);
  const bits = tensorBits(dtype as SafetensorsDtype, sizes);
  if (bits === undefined) throw refuse(`the shape ${show(sizes)} has more elements than can be counted exactly (2^53)`);
  if (bits % 8 !== 0) throw refuse(`${dtype} × ${show(sizes)} is ${bits} bits, which is no whole number of bytes`);
  if (bits / 8 !== end - begin) {
    throw refuse(`${dtype} × ${show(sizes)} takes ${bits / 8} bytes, but data_offsets [${begin}, ${end}] hold ${end - begin}`);
  }
  return { name, dtype: dtype as SafetensorsDtype, shape: sizes, byteOffset: dataStart + begin, byteLength: end - begin };
}

/** `infos`, in the order of their bytes, must fill the file from `dataStart` to its end. */
function checkLayout(infos: readonly TensorInfo[], dataStart: number, fileSize: number, path: string): void {
  let end = dataStart;
  let previous = "the header";
  for (const { name, byteOffset, byteLength } of infos) {
    if (byteOffset !== end) {
      const gap = byteOffset - end;
      const problem = gap < 0 ? `overlaps ${previous} by ${-gap} bytes` : `leaves a hole of ${gap} bytes after ${previous}`;
      throw new ModelFileError(`${path}: tensor ${show(name)}: ${problem}; tensors must follow one another exactly. ${DAMAGED}`);
    }
    end = byteOffset + byteLength;
    previous = `tensor ${show(name)}`;
  }
  if (end > fileSize) {
    throw new ModelFileError(`${path}: the file is ${fileSize} bytes, but its header needs ${end}: download incomplete? Download it again`);
  }
  if (end < fileSize) {
    throw new ModelFileError(`${path}: the file is ${fileSize} bytes, but its header accounts for only ${end}; ` +
      `${fileSize - end} bytes at the end belong to nothing. ${DAMAGED}`);
  }
}
