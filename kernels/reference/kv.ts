/**
 * Scalar twin of the KV number formats (kernels/kv/*.wgsl): the words of an entry from its numbers, and the numbers that words stand for.
 * The kernels' integers follow from f32 operations that WGSL rounds correctly, so the words of int8 and int4 are the same to the bit on
 * every driver; only which way a number is rounded to f16 in the format f16 is a driver's own affair (here: to the nearest, ties to even).
 */

import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16 } from "../../engine/dtype.ts";
import { kvBlockWords, kvEntryWords, type KvEntryEncoding } from "../kv_formats.ts";

type Numbers = ArrayLike<number>;

const F16_MAX = 65504;
const F16_NAN = 0x7e00;
/** What is smaller is taken for zero: drivers differ in what they flush. */
const TINY = 2 ** -60;

/** f16 bits of a number from 0 up, rounded up or down, at most the largest f16. */
function halfBits(value: number, up: boolean): number {
  if (value < TINY) return 0;
  if (value >= F16_MAX) return numberToF16(F16_MAX);
  const near = numberToF16(value); // bits of positive numbers are in the order of the numbers
  const found = f16ToNumber(near);
  return up ? near + (found < value ? 1 : 0) : near - (found > value ? 1 : 0);
}

/** The whole number nearest to value / step, ties to even; 0 without a step. */
function stepsTo(value: number, step: number): number {
  if (step === 0) return 0;
  const below = Math.floor(value / step);
  const over = value - below * step;
  return below + (over > step / 2 || (over === step / 2 && below % 2 !== 0) ? 1 : 0);
}

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);

/** How a group goes into codes: code · scale + least, from 0 or −127 up. `bits` as they stand behind the codes. */
interface Line { readonly scale: number; readonly least: number; readonly bits: number }

function lineOf(group: readonly number[], format: "int8" | "int4"): Line | null {
  if (!group.every(Number.isFinite)) return null;
  if (format === "int8") {
    const greatest = group.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const bits = halfBits(Math.fround(greatest * Math.fround(1 / 127)), true);
    return { scale: f16ToNumber(bits), least: 0, bits };
  }
  const [low, high] = [group.reduce((a, b) => Math.min(a, b)), group.reduce((a, b) => Math.max(a, b))];
  const leastBits = halfBits(Math.abs(low), low < 0) | (low < 0 ? 0x8000 : 0);
  const least = f16ToNumber(leastBits);
  const scaleBits = halfBits(Math.fround(Math.fround(high - least) * Math.fround(1 / 15)), true);
  return { scale: f16ToNumber(scaleBits), least, bits: scaleBits + leastBits * 0x10000 };
}

/**
 * The u32 words of an entry of encoding.headDim numbers, taken as f32. In int8 and int4 a group that holds a NaN or an infinity becomes NaN
 * as a whole, so that a broken number is not read as a good one; other formats keep NaN, and f16 stores its largest for what is beyond it.
 */
export function encodeEntry(dims: Numbers, encoding: KvEntryEncoding): Uint32Array {
  const words = new Uint32Array(kvEntryWords(encoding));
  const values = new Float32Array(dims);
  const halves = new Uint16Array(words.buffer);
  if (encoding.format === "f32") new Float32Array(words.buffer).set(values);
  if (encoding.format === "f16") values.forEach((value, d) => { halves[d] = numberToF16(clamp(value, -F16_MAX, F16_MAX)); });
  if (encoding.format === "bf16") values.forEach((value, d) => { halves[d] = numberToBf16(value); });
  if (!("group" in encoding)) return words;
  const { format, group, headDim } = encoding;
  const bits = format === "int8" ? 8 : 4;
  const scales = (headDim * bits) / 32;
  for (let g = 0; g < headDim / group; g++) {
    const members = [...values.subarray(g * group, (g + 1) * group)];
    const line = lineOf(members, format);
    if (format === "int8") halves[2 * scales + g] = line?.bits ?? F16_NAN;
    else words[scales + g] = line?.bits ?? F16_NAN * 0x10001;
    if (line === null) continue;
    members.forEach((value, i) => {
      const steps = stepsTo(Math.fround(value - line.least), line.scale);
      const code = format === "int8" ? clamp(steps, -127, 127) & 0xff : clamp(steps, 0, 15);
      const at = (g * group + i) * bits;
      words[at >> 5]! |= code << (at & 31);
    });
  }
  return words;
}

/** The numbers that an entry's words stand for, as the kernels read them. */
export function decodeEntry(words: Numbers, encoding: KvEntryEncoding): Float64Array {
  const own = new Uint32Array(words);
  const numbers = new Float64Array(encoding.headDim);
  const [halves, bytes] = [new Uint16Array(own.buffer), new Int8Array(own.buffer)];
  if (encoding.format === "f32") numbers.set(new Float32Array(own.buffer));
  if (encoding.format === "f16") for (let d = 0; d < numbers.length; d++) numbers[d] = f16ToNumber(halves[d]!);
  if (encoding.format === "bf16") for (let d = 0; d < numbers.length; d++) numbers[d] = bf16ToNumber(halves[d]!);
  if (!("group" in encoding)) return numbers;
  const { format, group, headDim } = encoding;
  for (let d = 0; d < headDim; d++) {
    const g = Math.floor(d / group);
    if (format === "int8") numbers[d] = bytes[d]! * f16ToNumber(halves[headDim / 2 + g]!);
    else {
      const line = own[headDim / 8 + g]!;
      numbers[d] = ((own[d >> 3]! >>> (4 * (d & 7))) & 15) * f16ToNumber(line & 0xffff) + f16ToNumber(line >>> 16);
    }
  }
  return numbers;
}

/** What a read gives of numbers that were stored. */
export function stored(dims: Numbers, encoding: KvEntryEncoding): Float64Array {
  return decodeEntry(encodeEntry(dims, encoding), encoding);
}

/** The u32 words of a block of keys in kivi4 from `tokens` keys as f16 holds them, [tokens, headDim]. As kernels/kv/kivi.wgsl has them. */
export function encodeKeyBlock(keys: Numbers, headDim: number): Uint32Array {
  const tokens = keys.length / headDim;
  const words = new Uint32Array(kvBlockWords({ format: "kivi4", headDim }, tokens));
  for (let d = 0; d < headDim; d++) {
    const members = Array.from({ length: tokens }, (_, t) => keys[t * headDim + d]!);
    const line = lineOf(members, "int4");
    const unit = Math.floor(d / 8) * (tokens + 8);
    words[unit + tokens + (d % 8)] = line?.bits ?? F16_NAN * 0x10001;
    if (line === null) continue;
    members.forEach((value, t) => { words[unit + t]! |= clamp(stepsTo(Math.fround(value - line.least), line.scale), 0, 15) << (4 * (d % 8)); });
  }
  return words;
}

/** The keys [tokens, headDim] that a block's words stand for. */
export function decodeKeyBlock(words: Numbers, headDim: number): Float64Array {
  const tokens = 8 * (words.length / headDim - 1);
  return new Float64Array(tokens * headDim).map((_, i) => {
    const [t, d] = [Math.floor(i / headDim), i % headDim];
    const unit = Math.floor(d / 8) * (tokens + 8);
    const line = words[unit + tokens + (d % 8)]!;
    return ((words[unit + t]! >>> (4 * (d % 8))) & 15) * f16ToNumber(line & 0xffff) + f16ToNumber(line >>> 16);
  });
}
