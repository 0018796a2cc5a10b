/**
 * A weight matrix on the GPU, in whatever number format, and how a kernel reads it: the slots, constants and buffers behind
 * `weights8` (kernels/formats/weight8.wgsl). Products and embeddings ask here; no kernel and no model knows a format.
 */

import { CODE_VALUES } from "../engine/encoded.ts";
import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";
import { codeTable, isBlockwise, isDouble, type Blocking, type FloatFormat, type HeldFormat, type QuantizedFormat } from "./formats.ts";

const file = (name: string): WgslFile => wgsl(new URL(`./formats/${name}.wgsl`, import.meta.url));
const WEIGHT8 = file("weight8");
const FLOATS = { f32: file("f32"), f16: file("f16"), bf16: file("bf16") } as const;
const NO_SCALE = file("no_scale");
const ROW_SCALE = file("row_scale");
const SECTION_SCALE = file("section_scale");
const INT8 = file("int8");
const INT8_BY_EIGHT = file("int8_by_eight");
const INT4 = file("int4");
const BLOCKWISE = file("blockwise");
const BLOCKWISE_BY_EIGHT = file("blockwise_by_eight");
const CODES = file("codes");
const SOURCE = file("source");
const ABSMAX = file("absmax");
const ABSMAX_DOUBLE = file("absmax_double");

/** One of the matrices that a weight is made of, and where it stands in it; a gated weight counts the rows of `gate`, then those of `up`. */
export interface Section { readonly firstRow: number; readonly rows: number; readonly firstColumn: number; readonly columns: number }

/** Codes instead of numbers. Each section was quantized by itself. */
export interface Quantized extends Blocking {
  readonly format: QuantizedFormat;
  readonly sections: readonly Section[];
  /** Of llm.int8: activations of this size and above are multiplied as they are; 0: none is. */
  readonly threshold?: number | undefined;
}

/**
 * A weight matrix [rows, columns], cut by rows where it is larger than one binding. Part i holds outputs first … first + rows − 1; its
 * tensor is [rows, columns], or for a gated weight [2·rows, columns]: the rows of `gate`, then the same rows of `up`. Quantized, the
 * tensor is u32 [rows, columns · bits / 32], with `scales` beside it as `layOutScales` says, and there is one part.
 */
export interface Weight {
  readonly rows: number;
  readonly columns: number;
  readonly gated: boolean;
  readonly parts: readonly WeightPart[];
  readonly quantized?: Quantized | undefined;
}

export interface WeightPart { readonly tensor: Tensor; readonly first: number; readonly rows: number; readonly scales?: Tensor | undefined }

/** Whether two matrices stand side by side, which then have scales of their own for every row. */
export function isBeside({ sections }: Quantized): boolean {
  return sections.some(({ firstColumn }) => firstColumn > 0);
}

export function formatOf({ quantized, parts }: Weight): HeldFormat {
  return quantized?.format ?? parts[0]!.tensor.dtype as FloatFormat;
}

/**
 * Where the scales of a blockwise format stand, in 32-bit words. Single: the absolute maxima of each section in f32. Double: an offset
 * per section (three words and one of padding), the map, the 8-bit codes of each section, its nested scales.
 */
export interface ScaleLayout {
  /** First block of each section: a word, or where double a byte from word 260 on. */
  readonly blocks: readonly number[];
  /** Double: first word of all nested scales, and where each section's begin from there. */
  readonly nestedFirst: number;
  readonly nested: readonly number[];
  readonly words: number;
}

const HEADER = 4 + 256;

export function layOutScales({ format, blockSize, nestedBlockSize, sections }: Quantized): ScaleLayout {
  const counts = sections.map(({ rows, columns }) => Math.ceil(rows * columns / blockSize));
  if (!isDouble(format)) return { blocks: starts(counts), nestedFirst: 0, nested: [], words: counts.reduce((sum, count) => sum + count, 0) };
  const padded = counts.map((count) => Math.ceil(count / 4) * 4);
  const nested = counts.map((count) => Math.ceil(count / nestedBlockSize));
  const nestedFirst = HEADER + padded.reduce((sum, count) => sum + count, 0) / 4;
  return { blocks: starts(padded), nestedFirst, nested: starts(nested), words: nestedFirst + nested.reduce((sum, count) => sum + count, 0) };
}

function starts(counts: readonly number[]): number[] {
  let next = 0;
  return counts.map((count) => (next += count) - count);
}

/** A constant array of f32. */
export function f32Array(values: ArrayLike<number>): string {
  return `array<f32, ${values.length}>(${Array.from(values, f32).join(", ")})`;
}

/** Everything a kernel needs to read one part of a weight: K, its columns, is a constant of the kernel's own. */
export interface Reader { readonly slots: readonly WgslFile[]; readonly consts: Consts; readonly tensors: Readonly<Record<string, Tensor>> }

export function readerOf(weight: Weight, part: WeightPart): Reader {
  const { quantized, columns } = weight;
  const tensors = { weight: part.tensor, ...(part.scales && { scales: part.scales }) };
  if (quantized === undefined) return { slots: [WEIGHT8, FLOATS[part.tensor.dtype as FloatFormat], NO_SCALE], consts: { SCALE_UNITS: 1 }, tensors };
  const { format, blockSize, sections } = quantized;
  const beside = sections.find(({ firstColumn }) => firstColumn > 0);
  const whole = (weights: number): boolean => columns % weights === 0 && (beside === undefined || beside.firstColumn % weights === 0);
  if (format === "int4") return { slots: [WEIGHT8, INT4], consts: { GROUP: blockSize, SCALE_UNITS: whole(blockSize) ? blockSize / 32 : 1 }, tensors };
  if (!isBlockwise(format)) {
    const slots = [WEIGHT8, whole(16) ? INT8 : INT8_BY_EIGHT, beside ? SECTION_SCALE : ROW_SCALE];
    return { slots, consts: { SCALE_UNITS: 1, ...(beside && { COLUMN1: beside.firstColumn }) }, tensors };
  }
  const { blocks, nestedFirst, nested } = layOutScales(quantized);
  // Stacked matrices of whole blocks are one as far as single scales are concerned.
  const joined = beside === undefined && (sections.length === 1 || (!isDouble(format) && sections.every(({ rows }) => rows * columns % blockSize === 0)));
  const end = sections.reduce((most, { firstRow, rows }) => Math.max(most, firstRow + rows), 0);
  return {
    slots: [
      WEIGHT8, whole(32) && blockSize % 32 === 0 ? BLOCKWISE : BLOCKWISE_BY_EIGHT, CODES, SOURCE, isDouble(format) ? ABSMAX_DOUBLE : ABSMAX,
    ],
    consts: {
      SCALE_UNITS: whole(blockSize) && blockSize % 32 === 0 ? blockSize / 32 : 1, CODES: f32Array(CODE_VALUES[codeTable(format)]), BLOCK: blockSize, SOURCES: joined ? 1 : sections.length, COLUMN1: beside?.firstColumn ?? columns,
      ROW1: beside ? end : sections[1]?.firstRow ?? end, ROW2: beside ? end : sections[2]?.firstRow ?? end,
      BLOCKS1: blocks[1] ?? 0, BLOCKS2: blocks[2] ?? 0,
      ...(isDouble(format) && { NESTED: quantized.nestedBlockSize, NESTED_FIRST: nestedFirst, NESTED1: nested[1] ?? 0, NESTED2: nested[2] ?? 0 }),
    },
    tensors,
  };
}
