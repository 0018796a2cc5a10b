/**
 * Scalar twins of quantizeRows and linearInt8 (kernels/int8.ts), on plain numbers: codes by the rule of bitsandbytes in f32, sums of their
 * products in whole numbers (exact in doubles), everything after that in double.
 */

import type { Activation } from "../linear.ts";
import { activations, silu } from "./linear.ts";

type Numbers = ArrayLike<number>;

/** A row in int8: x ≈ code · magnitude / 127 of its section, and outliers as they are. */
export interface QuantizedRow {
  readonly codes: Int8Array;
  /** One for each section. */
  readonly magnitudes: readonly number[];
  readonly outliers: readonly { readonly column: number; readonly value: number }[];
}

/** Nearest whole number, ties to even. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Magnitudes below this are taken for it: 127 divided by them must be finite. */
export const LEAST_MAGNITUDE = 2 ** -100;

/** `section`: column where a second section begins; `threshold`: magnitude of an outlier, 0 for none. Values are rounded to f32 first. */
export function quantizeRow(values: Numbers, options: { readonly threshold: number; readonly section?: number | undefined }): QuantizedRow {
  const { threshold, section = values.length } = options;
  const row = Float32Array.from(values);
  const isOutlier = (value: number): boolean => threshold > 0 && Math.abs(value) >= threshold;
  const codes = new Int8Array(row.length), magnitudes: number[] = [];
  for (const [first, end] of section < row.length ? [[0, section], [section, row.length]] as const : [[0, row.length]] as const) {
    let magnitude = LEAST_MAGNITUDE;
    for (let k = first; k < end; k++) if (!isOutlier(row[k]!)) magnitude = Math.max(magnitude, Math.abs(row[k]!));
    const step = Math.fround(127 / magnitude);
    for (let k = first; k < end; k++) if (!isOutlier(row[k]!)) codes[k] = roundHalfEven(Math.fround(row[k]! * step));
    magnitudes.push(magnitude);
  }
  const outliers = [...row].flatMap((value, column) => (isOutlier(value) ? [{ column, value }] : []));
  return { codes, magnitudes, outliers };
}

/** Σ codes · codes over columns first … end − 1: of section sums the whole numbers that kernels must make. */
export function dotCodes(a: Numbers, aAt: number, b: Numbers, bAt: number, first: number, end: number): number {
  let sum = 0;
  for (let k = first; k < end; k++) sum += a[aAt + k]! * b[bAt + k]!;
  return sum;
}

export interface LinearInt8Twin {
  readonly rows: readonly QuantizedRow[];
  /** [N, K] codes, or [2·N, K] where gated: `gate` over `up`. */
  readonly codes: Int8Array;
  /** [codes' rows, sections] */
  readonly scales: Numbers;
  readonly section?: number | undefined;
  readonly gated?: boolean | undefined;
  readonly bias?: Numbers | undefined;
  readonly activation?: Activation | undefined;
  readonly activationFrom?: number | undefined;
  /** [rows, N], added last. */
  readonly residual?: Numbers | undefined;
  /** Rows of `rows` stand one by one for outputs before this, and from rows.length / 2 on for the others. */
  readonly split?: number | undefined;
}

/** A sum, and the magnitudes of what was added up for it. */
export interface Product { readonly value: number; readonly terms: number }

/** W x of one row of W (bias, activation and residual left out). */
export function productInt8(row: QuantizedRow, codes: Int8Array, at: number, scales: Numbers, section = row.codes.length): Product {
  const K = row.codes.length, sections = row.magnitudes.length;
  let value = 0, terms = 0;
  row.magnitudes.forEach((magnitude, s) => {
    const [first, end] = sections === 1 ? [0, K] : s === 0 ? [0, section] : [section, K];
    const part = (dotCodes(row.codes, 0, codes, at * K, first!, end!) * magnitude * scales[at * sections + s]!) / 127 ** 2;
    value += part;
    terms += Math.abs(part);
  });
  for (const { column, value: x } of row.outliers) {
    const part = (x * codes[at * K + column]! * scales[at * sections + (column >= section ? sections - 1 : 0)]!) / 127;
    value += part;
    terms += Math.abs(part);
  }
  return { value, terms };
}

/** y = act(W x + b) + residual, or silu(gate x) · (up x): [rows, N] with how far rounding to f32 on the way may be off. */
export function linearInt8(product: LinearInt8Twin): { y: Float64Array; error: Float64Array } {
  const { rows, codes, scales, section, gated, bias, activation = "none", activationFrom = 0, residual, split } = product;
  const K = rows[0]!.codes.length, N = codes.length / K / (gated ? 2 : 1), M = split === undefined ? rows.length : rows.length / 2;
  const y = new Float64Array(M * N), error = new Float64Array(M * N);
  // A sum in f32 is off by half a unit of each partial sum, of which there are as many as outliers and sections.
  const errorOf = ({ terms }: { terms: number }, row: QuantizedRow): number => 2 ** -24 * (8 + row.outliers.length) * terms;
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      const row = rows[split !== undefined && n >= split ? M + m : m]!;
      const gate = productInt8(row, codes, n, scales, section);
      const own = errorOf(gate, row);
      if (gated) {
        const up = productInt8(row, codes, N + n, scales, section);
        const [factor, other] = [silu(gate.value), errorOf(up, row)];
        y[m * N + n] = factor * up.value;
        error[m * N + n] = 1.2 * own * (Math.abs(up.value) + other) + other * Math.abs(factor) + 2 ** -21 * Math.abs(factor * up.value);
        continue;
      }
      const sum = gate.value + (bias?.[n] ?? 0), before = residual?.[m * N + n] ?? 0;
      const value = activations[n < activationFrom ? "none" : activation](sum);
      y[m * N + n] = value + before;
      // Activations are at most 1.13 steep; their own approximation (erf 1.5e-7, exp a few roundings) is relative to their argument.
      error[m * N + n] = 1.2 * own + 5e-7 * Math.abs(sum) + 2 ** -22 * (Math.abs(value) + Math.abs(before));
    }
  }
  return { y, error };
}
