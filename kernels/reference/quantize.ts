/**
 * Quantization of weights on the host, byte for byte what bitsandbytes makes, and its inverse in double precision: what the encoding
 * kernels are tested against and what `dawnlm convert` writes.
 *
 * bitsandbytes has several implementations that differ in a few bytes. These are the bytes of the portable one in torch
 * (backends/default/ops.py, version 0.50). Its CUDA kernels give blocks of zeros another code of the same value, and fp4 values nearest
 * to zero the other of its two zeros; its CPU library takes the 8-bit codes of double quantization from a table of 65,536 steps,
 * which moves about one in 800 to a neighbour.
 */

import { numberToF16, f16ToNumber } from "../../engine/dtype.ts";
import { CODE_VALUES, dynamicMap, type EncodedMatrix, type NestedAbsmax } from "../../engine/encoded.ts";

const { fround } = Math;
/** Least magnitude that a block is divided by, and that a ragged last block is said to have. */
const LEAST = fround(1e-38);

export type BlockwiseType = "nf4" | "fp4";

/**
 * How a number in [−1, 1] gets its code: order[count of bounds that are less]. bounds: [15], the middles of neighbouring values in f32;
 * on a tie the lower value is taken. Of the two zeros of fp4, 0 stands before 8, as torch.argsort leaves them.
 */
export function codeBounds(type: BlockwiseType): { readonly bounds: Float32Array; readonly order: readonly number[] } {
  const values = CODE_VALUES[type];
  const order = [...values.keys()].sort((a, b) => values[a]! - values[b]! || a - b);
  return { bounds: middles(Float32Array.from(order, (code) => values[code]!)), order };
}

/** (a + b) / 2 of neighbours, the sum rounded to f32. */
function middles(sorted: Float32Array): Float32Array {
  return Float32Array.from({ length: sorted.length - 1 }, (_, i) => fround(sorted[i]! + sorted[i + 1]!) / 2);
}

/** Equal steps of [−1, 1], each so narrow that at most one bound lies within. */
const STEPS = 1024;

interface Search { readonly bounds: Float32Array; readonly order: Uint8Array; readonly lessThanStep: Uint8Array }

const searches = new Map<BlockwiseType, Search>();

function searchOf(type: BlockwiseType): Search {
  const made = searches.get(type);
  if (made !== undefined) return made;
  const { bounds, order } = codeBounds(type);
  const lessThanStep = Uint8Array.from({ length: STEPS + 1 }, (_, i) => bounds.filter((bound) => bound < i / (STEPS / 2) - 1).length);
  // A step beyond the last bound has none to compare with.
  const search = { bounds: Float32Array.of(...bounds, Infinity), order: Uint8Array.from(order), lessThanStep };
  searches.set(type, search);
  return search;
}

export interface Blocks { readonly codes: Uint8Array<ArrayBuffer>; readonly absmax: Float32Array<ArrayBuffer> }

/**
 * values: [n] finite f32, row-major → codes [⌈n / 2⌉], two a byte, the earlier in the high half, and absmax [⌈n / blockSize⌉]. Whole
 * blocks are multiplied by the reciprocal of their magnitude, a ragged last one is divided by it: bitsandbytes' `quantize_4bit`.
 */
export function encodeBlockwise(values: Float32Array, type: BlockwiseType, blockSize: number): Blocks {
  const n = values.length;
  const absmax = new Float32Array(Math.ceil(n / blockSize));
  const codes = new Uint8Array(Math.ceil(n / 2));
  const { bounds, order, lessThanStep } = searchOf(type);
  const codeOf = (scaled: number): number => {
    const clamped = scaled > 1 ? 1 : scaled < -1 ? -1 : scaled;
    const less = lessThanStep[((clamped + 1) * (STEPS / 2)) | 0]!;
    return order[bounds[less]! < clamped ? less + 1 : less]!;
  };
  for (let block = 0; block < absmax.length; block++) {
    const start = block * blockSize;
    const end = Math.min(start + blockSize, n);
    let most = 0;
    for (let i = start; i < end; i++) {
      const magnitude = Math.abs(values[i]!);
      if (magnitude > most) most = magnitude;
    }
    const divisor = most > LEAST ? most : LEAST;
    if (end - start === blockSize) {
      absmax[block] = most;
      const reciprocal = fround(1 / divisor);
      for (let i = start; i < end; i += 2) {
        codes[i >> 1] = (codeOf(fround(values[i]! * reciprocal)) << 4) | codeOf(fround(values[i + 1]! * reciprocal));
      }
    } else {
      absmax[block] = divisor;
      for (let i = start; i < end; i += 2) {
        codes[i >> 1] = (codeOf(fround(values[i]! / divisor)) << 4) | codeOf(i + 1 < end ? fround(values[i + 1]! / divisor) : 0);
      }
    }
  }
  return { codes, absmax };
}

/** Bounds of the dynamic map, and how many are less than any float that begins with these 16 bits. */
let nesting: { readonly map: Float32Array; readonly bounds: Float32Array; readonly lessThanBits: Uint8Array } | undefined;

function nestingSearch(): NonNullable<typeof nesting> {
  if (nesting !== undefined) return nesting;
  const map = dynamicMap();
  const bounds = middles(map);
  const lessThanBits = new Uint8Array(65536);
  const least = new Float32Array(1);
  const bits = new Uint32Array(least.buffer);
  for (const negative of [true, false]) {
    let less = 0; // of the numbers in order, from the least on
    for (let i = 0; i < 0x8000; i++) {
      const high = negative ? 0xffff - i : i;
      bits[0] = ((high << 16) | (negative ? 0xffff : 0)) >>> 0; // the least that begins so
      while (bounds[less]! < least[0]!) less++;
      lessThanBits[high] = less;
    }
  }
  return nesting = { map, bounds: Float32Array.of(...bounds, Infinity), lessThanBits };
}

/**
 * Double quantization of absmax [blocks]: their mean is taken off, then they are quantized to 8 bits in blocks of `blockSize` on the
 * dynamic map (bitsandbytes' `quantize_blockwise`). Some nanoseconds a value.
 */
export function nestAbsmax(absmax: Float32Array, blockSize: number): NestedAbsmax {
  const { map, bounds, lessThanBits } = nestingSearch();
  const n = absmax.length;
  const offset = meanF32(absmax);
  const centred = new Float32Array(n);
  for (let i = 0; i < n; i++) centred[i] = absmax[i]! - offset;
  const codes = new Uint8Array(n);
  const nested = new Float32Array(Math.ceil(n / blockSize));
  const scaled = new Float32Array(blockSize);
  const bits = new Uint32Array(scaled.buffer);
  for (let block = 0; block < nested.length; block++) {
    const start = block * blockSize;
    const count = Math.min(blockSize, n - start);
    let most = 0;
    for (let i = start; i < start + count; i++) most = Math.max(most, Math.abs(centred[i]!));
    const divisor = Math.max(most, LEAST);
    const whole = count === blockSize;
    nested[block] = whole ? most : divisor;
    const reciprocal = fround(1 / divisor);
    for (let i = 0; i < count; i++) {
      const value = fround(whole ? centred[start + i]! * reciprocal : centred[start + i]! / divisor);
      const clamped = value > 1 ? 1 : value < -1 ? -1 : value;
      scaled[i] = clamped;
      let less = lessThanBits[bits[i]! >>> 16]!;
      while (bounds[less]! < clamped) less++;
      codes[start + i] = less;
    }
  }
  return { codes, nested, blockSize, map, offset };
}

/** Lanes that torch sums at a time (AVX2), and sums that it keeps of each. */
const LANES = 8;
const SUMS = 4;

/**
 * The mean as torch has it in f32 on one thread of a CPU with AVX2, to the last bit: 32 running sums over every 32nd value, each cascaded
 * through four levels so that a sum is never added to one much smaller, then added up in order (`cascade_sum` of ATen's SumKernel.cpp).
 * On more threads, or a GPU, torch itself adds in another order and may differ in the last bit.
 */
function meanF32(values: Float32Array): number {
  const n = values.length;
  const width = LANES * SUMS;
  const rows = Math.floor(Math.floor(n / LANES) / SUMS);
  const sums = cascade(values, rows, width);
  const vectors = Math.floor(n / LANES);
  for (let vector = rows * SUMS; vector < vectors; vector++) {
    for (let lane = 0; lane < LANES; lane++) sums[lane] = sums[lane]! + values[vector * LANES + lane]!;
  }
  for (let k = 1; k < SUMS; k++) for (let lane = 0; lane < LANES; lane++) sums[lane] = sums[lane]! + sums[k * LANES + lane]!;
  let total = 0;
  for (let i = vectors * LANES; i < n; i++) total = fround(total + values[i]!);
  for (let lane = 0; lane < LANES; lane++) total = fround(total + sums[lane]!);
  return fround(total / n);
}

/** [width] sums over `rows` rows of `width` values. */
function cascade(values: Float32Array, rows: number, width: number): Float32Array {
  const levels = 4;
  const power = Math.max(4, Math.floor(Math.ceil(Math.log2(Math.max(rows, 1))) / levels));
  const step = 2 ** power;
  const sums = Array.from({ length: levels }, () => new Float32Array(width));
  const [first] = sums as [Float32Array];
  const add = (row: number): void => { for (let k = 0; k < width; k++) first[k] = first[k]! + values[row * width + k]!; };
  let row = 0;
  while (row + step <= rows) {
    for (let j = 0; j < step; j++) add(row++);
    for (let level = 1; level < levels; level++) {
      const [from, to] = [sums[level - 1]!, sums[level]!];
      for (let k = 0; k < width; k++) to[k] = to[k]! + from[k]!;
      from.fill(0);
      if (row % 2 ** ((level + 1) * power) !== 0) break;
    }
  }
  while (row < rows) add(row++);
  for (let level = 1; level < levels; level++) for (let k = 0; k < width; k++) first[k] = first[k]! + sums[level]![k]!;
  return first;
}

export interface Int8Rows { readonly codes: Int8Array<ArrayBuffer>; readonly scb: Float32Array<ArrayBuffer> }

/**
 * values: [rows, columns] finite f32 → codes round(v · (127 · (1 / scb))), ties to even, scb [rows] the largest magnitude of each row. As
 * bitsandbytes' `Int8Params` does, values are rounded to f16 first whatever the checkpoint's type; a caller refuses those beyond its range.
 */
export function encodeInt8(values: Float32Array, rows: number, columns: number): Int8Rows {
  const codes = new Int8Array(rows * columns);
  const scb = new Float32Array(rows);
  const halves = new Float32Array(columns);
  for (let row = 0; row < rows; row++) {
    let most = 0;
    for (let k = 0; k < columns; k++) {
      const half = f16ToNumber(numberToF16(values[row * columns + k]!));
      halves[k] = half;
      const magnitude = Math.abs(half);
      if (magnitude > most) most = magnitude;
    }
    scb[row] = most;
    if (most === 0) continue; // codes of a row of zeros are 0
    const scale = fround(127 * fround(1 / most)); // torch has no other way to divide a number by a tensor
    for (let k = 0; k < columns; k++) codes[row * columns + k] = roundHalfEven(fround(halves[k]! * scale));
  }
  return { codes, scb };
}

/** 1.5 · 2^52: adding it leaves no room for a fraction, and doubles round ties to even. */
const NO_FRACTION = 6755399441055744;

function roundHalfEven(value: number): number {
  return value + NO_FRACTION - NO_FRACTION;
}

/** The numbers that a quantized matrix stands for, [rows, columns] in double precision. */
export function decode(matrix: EncodedMatrix): Float64Array {
  const { rows, columns } = matrix;
  const values = new Float64Array(rows * columns);
  if (matrix.format === "int8") {
    for (let i = 0; i < values.length; i++) values[i] = matrix.codes[i]! * matrix.scb[Math.floor(i / columns)]! / 127;
  } else if (matrix.format === "int4") {
    const groups = Math.ceil(columns / matrix.groupSize);
    for (let i = 0; i < values.length; i++) {
      const group = Math.floor(i / columns) * groups + Math.floor((i % columns) / matrix.groupSize);
      values[i] = (codeAt(matrix.codes, i) - matrix.zeros[group]!) * matrix.scales[group]!;
    }
  } else {
    const map = CODE_VALUES[matrix.format];
    const absmax = matrix.absmax instanceof Float32Array ? matrix.absmax : decodeNested(matrix.absmax);
    for (let i = 0; i < values.length; i++) values[i] = map[codeAt(matrix.codes, i)]! * absmax[Math.floor(i / matrix.blockSize)]!;
  }
  return values;
}

/** absmax [blocks] in double precision. */
export function decodeNested({ codes, nested, blockSize, map, offset }: NestedAbsmax): Float64Array {
  return Float64Array.from(codes, (code, i) => map[code]! * nested[Math.floor(i / blockSize)]! + offset);
}

function codeAt(codes: Uint8Array, i: number): number {
  return (codes[i >> 1]! >> (i % 2 === 0 ? 4 : 0)) & 15;
}
