/** Scalar twin of norm (kernels/norm.ts), on plain numbers with double accumulation. */

type Numbers = ArrayLike<number>;

export interface NormTwin {
  readonly kind: "rms" | "layer";
  /** [rows, C], [C] and [C]. */
  readonly x: Numbers;
  readonly weight: Numbers;
  readonly bias?: Numbers;
  readonly eps: number;
  /** Which rows of x, in order; all when left out. */
  readonly sources?: readonly number[];
}

/**
 * RMS (Zhang and Sennrich 2019): y = x / sqrt(mean(x²) + eps) · weight + bias.
 * Layer (Ba et al. 2016): y = (x − mean(x)) / sqrt(mean((x − mean(x))²) + eps) · weight + bias. Returns [sources, C].
 */
export function norm({ kind, x, weight, bias, eps, sources }: NormTwin): Float64Array {
  const C = weight.length;
  const rows = sources ?? Array.from({ length: x.length / C }, (_, row) => row);
  const y = new Float64Array(rows.length * C);
  rows.forEach((source, row) => {
    const values = Array.from({ length: C }, (_, c) => x[source * C + c]!);
    const mean = kind === "layer" ? values.reduce((sum, value) => sum + value, 0) / C : 0;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    values.forEach((value, c) => { y[row * C + c] = ((value - mean) / Math.sqrt(variance + eps)) * weight[c]! + (bias?.[c] ?? 0); });
  });
  return y;
}
