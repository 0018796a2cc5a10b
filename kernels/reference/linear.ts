/**
 * Scalar twins of embed and linear: what kernels/embed.ts and kernels/linear.ts must compute, on plain numbers with double
 * accumulation. Weights are given as the numbers their format stores, so a difference is the kernel's and not the format's.
 */

import type { Activation } from "../linear.ts";

type Numbers = ArrayLike<number>;

/** x[row] = table[ids[row]]. table: [V, columns] → [ids.length, columns]. */
export function embed(table: Numbers, columns: number, ids: Numbers): Float64Array {
  return Float64Array.from({ length: ids.length * columns }, (_, i) => table[ids[Math.floor(i / columns)]! * columns + (i % columns)]!);
}

/** 2/√π ∫₀ˣ exp(−t²) dt to double precision, by a series whose terms are all positive (Abramowitz and Stegun 7.1.6). */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** none: x. gelu: x Φ(x) (Hendrycks and Gimpel 2016). gelu_tanh: its tanh approximation, as "gelu_new" and "gelu_fast" mean it. */
export const activations: Readonly<Record<Activation, (x: number) => number>> = {
  none: (x) => x,
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

/** x · sigmoid(x) (Elfwing et al. 2017). */
export function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

export interface LinearTwin {
  /** [rows, K] */
  readonly x: Numbers;
  readonly rows: number;
  readonly K: number;
  /** [N, K]; the `gate` half of a gated weight. */
  readonly weight: Numbers;
  /** [N, K]; makes the weight gated. */
  readonly up?: Numbers;
  /** [N] */
  readonly bias?: Numbers;
  readonly activation?: Activation;
  /** First output that the activation acts on. Default 0. */
  readonly activationFrom?: number;
  /** [rows, N], added last. */
  readonly residual?: Numbers;
}

/**
 * y = act(W x + b) + residual, or silu(gate x) · (up x) (SwiGLU, Shazeer 2020) for a gated weight. A norm of the input is
 * `norm` of x beforehand. Returns [rows, N].
 */
export function linear({ x, rows, K, weight, up, bias, activation = "none", activationFrom = 0, residual }: LinearTwin): Float64Array {
  const N = weight.length / K;
  const y = new Float64Array(rows * N);
  for (let m = 0; m < rows; m++) {
    for (let n = 0; n < N; n++) {
      const sum = dot(x, m * K, weight, n * K, K);
      y[m * N + n] = up === undefined
        ? activations[n < activationFrom ? "none" : activation](sum + (bias?.[n] ?? 0)) + (residual?.[m * N + n] ?? 0)
        : silu(sum) * dot(x, m * K, up, n * K, K);
    }
  }
  return y;
}

/** Σ a[aAt + k] b[bAt + k] over k < length. */
export function dot(a: Numbers, aAt: number, b: Numbers, bAt: number, length: number): number {
  let sum = 0;
  for (let k = 0; k < length; k++) sum += a[aAt + k]! * b[bAt + k]!;
  return sum;
}
