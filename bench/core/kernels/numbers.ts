/** Numbers of operands as equations, so that any output can be computed again from where it stands; and how a result is held against its twin. */

import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16, type FloatDtype } from "../../../engine/dtype.ts";
import type { Verdict } from "./case.ts";

export type Numbers = ArrayLike<number>;

/** In [−1, 1) from an integer (the finaliser of MurmurHash3). */
export function hashed(i: number): number {
  let h = i >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 31 - 1;
}

/** `count` numbers of size `scale` from a salt. */
export function numbers(count: number, salt: number, scale = 1): Float32Array {
  const at = Math.imul(salt + 1, 0x9e3779b1);
  return Float32Array.from({ length: count }, (_, i) => scale * hashed(at + i));
}

/** What `format` stores of f32 numbers, as bytes, and the numbers that then stand there. */
export function stored(values: Float32Array, format: FloatDtype): { readonly bytes: Uint8Array; readonly values: Float64Array } {
  if (format === "f32") return { bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength), values: Float64Array.from(values) };
  const [narrow, widen] = format === "f16" ? [numberToF16, f16ToNumber] : [numberToBf16, bf16ToNumber];
  const bits = Uint16Array.from(values, narrow);
  return { bytes: new Uint8Array(bits.buffer), values: Float64Array.from(bits, widen) };
}

/** About `most` of 0 … count − 1, at least 16: the first and last, those beside the borders of tiles, and some evenly between. All where there are no more. */
export function sampled(count: number, most: number): number[] {
  if (count <= most) return indices(count);
  const borders = [0, 1, 7, 8, 31, 32, 63, 64, 127, 128, count - 2, count - 1];
  const rest = Math.max(4, most - borders.length);
  const between = Array.from({ length: rest }, (_, i) => Math.floor(((i + 0.5) * count) / rest));
  return [...new Set([...borders, ...between])].filter((i) => i >= 0 && i < count);
}

export function indices(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** What a twin says of one output, and by how much rounding may miss it. */
export interface Expected { readonly value: number; readonly error: number }

/** Compare what stands at `indices` of `got` with what should. NaN is wrong. */
export function against(got: Numbers, indices: Iterable<number>, expected: (index: number) => Expected, of: number, where: (index: number) => string): Verdict {
  let [looked, wrong]: [number, string | null] = [0, null];
  for (const index of indices) {
    looked++;
    const { value, error } = expected(index);
    if (wrong !== null || Object.is(got[index], value) || Math.abs(got[index]! - value) <= error) continue;
    wrong = `${where(index)} is ${got[index]}, but should be ${value} ± ${error.toExponential(1)}`;
  }
  return { wrong, looked, of };
}

/** Compare all of `got` with as many expected numbers. `error`: one for all, or one each. */
export function againstAll(got: Numbers, expected: Numbers, error: number | Numbers, what: string, columns: number): Verdict {
  const allowed = (i: number): number => (typeof error === "number" ? error : error[i]!);
  return against(got, indices(expected.length), (i) => ({ value: expected[i]!, error: allowed(i) }), expected.length,
    (i) => `${what} ${i % columns} of row ${Math.floor(i / columns)}`);
}

/** Several comparisons of one call. */
export function together(...verdicts: readonly Verdict[]): Verdict {
  const sum = (of: "looked" | "of"): number => verdicts.reduce((all, verdict) => all + verdict[of], 0);
  return { wrong: verdicts.find(({ wrong }) => wrong !== null)?.wrong ?? null, looked: sum("looked"), of: sum("of") };
}
