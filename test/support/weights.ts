/** Weights for kernel tests, stacked and cut as the loader stacks and cuts them. */

import type { Gpu } from "../../engine/gpu.ts";
import type { Weight } from "../../kernels/weights.ts";
import { put, type FloatFormat } from "./gpu.ts";

export interface WeightValues {
  /** [rows, columns]; with `up` of the same shape the weight is gated. */
  readonly gate: Float32Array;
  readonly up?: Float32Array | undefined;
  readonly columns: number;
  readonly format: FloatFormat;
  /** Rows of the first part; one part when left out. */
  readonly firstPart?: number | undefined;
}

/** Each part holds its rows of `gate`, then the same rows of `up`. */
export async function weightOf(gpu: Gpu, { gate, up, columns, format, firstPart = Infinity }: WeightValues): Promise<Weight> {
  const rows = gate.length / columns;
  const cuts = rows > firstPart ? [[0, firstPart], [firstPart, rows]] as const : [[0, rows]] as const;
  const parts = await Promise.all(cuts.map(async ([first, end]) => {
    const values = [gate, ...(up ? [up] : [])].flatMap((half) => [...half.subarray(first * columns, end * columns)]);
    return { tensor: await put(gpu, [values.length / columns, columns], values, format, "weight", "weights"), first, rows: end - first };
  }));
  return { rows, columns, gated: up !== undefined, parts };
}
