/**
 * The number formats of keys and values, as data: what a user may ask for, and how many bytes an entry takes (the key or the value of one
 * token in one KV head). Keys and values choose by themselves. The WGSL that reads and writes entries is in kernels/kv_slots.ts.
 *
 * int8 and int4 go in groups of dimensions. int8 is symmetric: codes −127 … 127 of an f16 scale. int4 has an f16 scale and an f16 least
 * number: on keys and values of the bundled models, in groups of 32, its error is 18 to 25 % below that of a symmetric −7 … 7 and 8 to
 * 15 % below that of ggml's −8 … 7, which at the opposite end of a group may also miss by a whole step where this never misses by more
 * than half of one. Scales lie behind the codes of their entry, so whatever copies entries copies words and need not know of them.
 *
 * kivi4 is of another kind (KIVI, Liu et al. 2024): int4's scale and least number for each channel over the tokens of a block, because keys
 * differ by channels far more than by tokens. So its keys have no entries but blocks, and the newest stay f16 until their block is full
 * (kernels/kv/kivi.wgsl). Values go by tokens there too, which is what int4 does. KIVI quantizes in groups of 32 tokens, which is a block of 32.
 */

import { DTYPE_BYTES } from "../engine/dtype.ts";
import { UsageError } from "../engine/errors.ts";

export const KV_FLOATS = ["f32", "f16", "bf16"] as const;
/** Formats of single entries, for keys and for values, in every layout. */
export const KV_ENTRY_FORMATS = [...KV_FLOATS, "int8", "int4"] as const;
/** `kivi4`: keys in kivi4 and values in int4. */
export const KV_FORMATS = [...KV_ENTRY_FORMATS, "kivi4"] as const;
export type KvFloat = (typeof KV_FLOATS)[number];
export type KvEntryFormat = (typeof KV_ENTRY_FORMATS)[number];
/** A number format of the KV cache. */
export type KvFormat = (typeof KV_FORMATS)[number];

/** A format by name, or one that goes in groups with the dimensions of a group: a multiple of 4 that divides the model's head_dim. */
export type KvNumbers = KvFormat | { readonly format: "int8" | "int4"; readonly group: number };

/** What `LoadOptions.kv` may be: one format for both, or one each. */
export type KvChoice = KvNumbers | { readonly k: KvNumbers; readonly v: KvNumbers };

/** A format applied to entries of `headDim` dimensions. */
export type KvEntryEncoding =
  | { readonly format: KvFloat; readonly headDim: number }
  | { readonly format: "int8" | "int4"; readonly headDim: number; /** Dimensions that share a scale. */ readonly group: number };

/** What keys may be: in entries, or in blocks. */
export type KvEncoding = KvEntryEncoding | { readonly format: "kivi4"; readonly headDim: number };

/** The groups that are tried, largest first, when none is asked for. Every head_dim we run is a multiple of 8. */
const GROUPS = [32, 16, 8] as const;

/** Throws UsageError for a group that is not a multiple of 4 or does not divide headDim, and for a format that has no entries. */
export function kvEncoding(numbers: KvNumbers, headDim: number): KvEntryEncoding {
  const format = typeof numbers === "string" ? numbers : numbers.format;
  if (format === "kivi4") throw new UsageError('kv: kivi4 is a format of keys, whose values may have any other: take "kivi4", which has values in int4, or { k: "kivi4", v: … }');
  if (format !== "int8" && format !== "int4") return { format, headDim };
  const group = typeof numbers === "string" ? GROUPS.find((size) => headDim % size === 0)! : numbers.group;
  if (!(group > 0) || group % 4 !== 0 || headDim % group !== 0) {
    const fitting = Array.from({ length: headDim / 4 }, (_, i) => 4 * (i + 1)).filter((size) => headDim % size === 0);
    throw new UsageError(
      `kv: ${format} in groups of ${group} does not fit a head_dim of ${headDim}: ` +
      `a group must be a multiple of 4 that divides it (${fitting.join(", ")})`,
    );
  }
  return { format, headDim, group };
}

/** The encodings of keys and of values. Throws UsageError as `kvEncoding` does. */
export function kvEncodings(choice: KvChoice, headDim: number): { readonly k: KvEncoding; readonly v: KvEntryEncoding } {
  const { k, v } = typeof choice === "object" && "k" in choice ? choice : { k: choice, v: choice === "kivi4" ? "int4" as const : choice };
  return { k: k === "kivi4" ? { format: k, headDim } : kvEncoding(k, headDim), v: kvEncoding(v, headDim) };
}

/** u32 words of an entry. */
export function kvEntryWords(encoding: KvEntryEncoding): number {
  const { headDim } = encoding;
  if (encoding.format === "int8") return headDim / 4 + Math.ceil(headDim / encoding.group / 2);
  if (encoding.format === "int4") return headDim / 8 + headDim / encoding.group;
  return (headDim * DTYPE_BYTES[encoding.format]) / 4;
}

/** u32 words of a block of `tokens`. */
export function kvBlockWords(encoding: KvEncoding, tokens: number): number {
  return encoding.format === "kivi4" ? encoding.headDim * (tokens / 8 + 1) : tokens * kvEntryWords(encoding);
}

/** Bytes that a key, or a value, of one token takes in each KV head of each layer. Throws UsageError as `kvEncoding` does. */
export function kvEntryBytes(numbers: KvNumbers, headDim: number): number {
  return 4 * kvEntryWords(kvEncoding(numbers, headDim));
}

/** Whose newest keys a cache of kivi4 holds as f16: sequences, and rows of a step. */
export interface RecentSizes { readonly slots: number; readonly layers: number; readonly kvHeads: number; readonly blockSize: number; readonly rows: number }

/**
 * Keys as f16 in front of the blocks, in this order: `tails` [slots, layers, kvHeads, blockSize], those of a layer's step beside which rows
 * append [slots, kvHeads, blockSize], and the rows themselves [rows, kvHeads].
 */
export function recentKeys({ slots, layers, kvHeads, blockSize, rows }: RecentSizes): { readonly tails: number; readonly stepTails: number; readonly rows: number; readonly all: number } {
  const tails = slots * layers * kvHeads * blockSize, stepTails = slots * kvHeads * blockSize;
  return { tails, stepTails, rows: rows * kvHeads, all: tails + stepTails + rows * kvHeads };
}

/** Where tails of kivi4 are written anew (`refill`), a source that is a block and no table. */
export const REFILL_BLOCK = 0x8000_0000;

export interface PoolShape { readonly shape: readonly [number, number]; readonly dtype: KvFloat | "u32" }

/** Shape and dtype of a pool of kivi4 keys, in elements of 16 bytes: `recent` keys, then blocks. */
export function kiviPoolShape(headDim: number, recent: number, blocks: number, blockSize: number): PoolShape {
  return { shape: [recent * headDim / 8 + blocks * kvBlockWords({ format: "kivi4", headDim }, blockSize) / 4, 4], dtype: "u32" };
}

/** Shape and dtype of a pool of `entries`. */
export function poolShape(encoding: KvEntryEncoding, entries: number): PoolShape {
  if ("group" in encoding) return { shape: [entries, kvEntryWords(encoding)], dtype: "u32" };
  return { shape: [entries, encoding.headDim], dtype: encoding.format };
}
