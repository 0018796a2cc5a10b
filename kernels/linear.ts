/**
 * y = act(W x + b), optionally added to y: the matrix product of every layer. One row of activations takes the matrix-vector kernel,
 * more rows a matrix-matrix kernel of the device's family. The weight format is a slot (kernels/formats), so no kernel knows it.
 */

import type { Consts, WgslFile } from "../engine/kernel.ts";
import { wgsl } from "../engine/kernel.ts";
import type { GridY, Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const MATVEC = file("./matvec.wgsl");
const MATMUL_BROADCAST = file("./matmul_broadcast.wgsl");
const MATMUL_TILED = file("./matmul_tiled.wgsl");
const STORE = [file("./store.wgsl"), file("./activation.wgsl")];
const BIAS = file("./formats/bias.wgsl");
const NO_BIAS = file("./formats/no_bias.wgsl");

/** `weight8(row, k8)` for each number format a weight may be stored in. */
export const WEIGHT_SLOTS = { f32: file("./formats/f32.wgsl"), f16: file("./formats/f16.wgsl"), bf16: file("./formats/bf16.wgsl") } as const;

/**
 * A weight matrix [rows, columns], cut by rows where it is larger than one binding. Part i holds outputs first … first + rows − 1;
 * its tensor is [rows, columns], or for a gated weight [2·rows, columns]: the rows of `gate`, then the same rows of `up`.
 */
export interface Weight {
  readonly rows: number;
  readonly columns: number;
  readonly gated: boolean;
  readonly parts: readonly { readonly tensor: Tensor; readonly first: number; readonly rows: number }[];
}

/** How many rows of activations a recording is for: exactly one, up to four, or more. */
export type RowsClass = "one" | "few" | "many";
export function rowsClass(rows: number): RowsClass {
  return rows === 1 ? "one" : rows <= 4 ? "few" : "many";
}

export const ACTIVATIONS = { none: 0, gelu: 1, gelu_tanh: 2 } as const;
export type Activation = keyof typeof ACTIVATIONS;

interface LinearOptions { readonly rows: RowsClass; readonly activation?: Activation; readonly residual?: boolean }

/**
 * x: [M, K] f32, weight: [N, K], bias: [N] f32, y: [M, N] f32. M is the capacity of the buffers, of which a step uses its first rows;
 * it is a multiple of 8, since products work on whole tiles. A gated weight gives silu(gate x) · (up x) and takes no bias.
 */
export function linear(recorder: Recorder, operands: { x: Tensor; weight: Weight; bias?: Tensor; y: Tensor }, options: LinearOptions): void {
  const { x, weight, bias, y } = operands;
  const { M, K } = match("linear", { x: [x, "M", "K"], y: [y, "M", weight.rows] });
  if (K !== weight.columns) throw new Error(`linear: K is ${K} in x, but ${weight.columns} in ${weight.parts[0]!.tensor.label}`);
  if (M! % 8 !== 0 || K! % 8 !== 0) throw new Error(`linear: rows and columns of x come in multiples of 8, but x is [${M}, ${K}]`);
  if (bias !== undefined) match("linear", { bias: [bias, weight.rows] });
  for (const part of weight.parts) {
    const consts: Consts = {
      K: K!, N: part.rows, M: M!, Y_STRIDE: weight.rows, Y_FIRST: part.first, SUBGROUP: recorder.gpu.subgroupSize,
      GATED: weight.gated, RESIDUAL: options.residual ?? false, ACTIVATION: ACTIVATIONS[options.activation ?? "none"],
    };
    const slots = [WEIGHT_SLOTS[part.tensor.dtype as keyof typeof WEIGHT_SLOTS], bias === undefined ? NO_BIAS : BIAS, ...STORE];
    const tensors = { x, y, weight: part.tensor, ...(bias === undefined ? {} : { bias: slice(bias, part.first, part.rows) }) };
    const { source, extra, x: gridX, y: gridY } = variant(recorder, options.rows, part.rows, weight.gated);
    recorder.run({ source, slots, consts: { ...consts, ...extra } }, tensors, gridX, gridY);
  }
}

/** Which kernel, its own constants, and its grid. Static rules; kernels.md §4 and §7 have the measurements behind them. */
function variant({ gpu }: Recorder, rows: RowsClass, outputs: number, gated: boolean): { source: WgslFile; extra: Consts; x: number; y: GridY } {
  if (rows === "one") {
    const workgroup = gpu.family === "software" ? 4 * gpu.subgroupSize : 128;
    const perWorkgroup = (workgroup / gpu.subgroupSize) * (gated ? 2 : 4);
    return { source: MATVEC, extra: { WORKGROUP: workgroup }, x: Math.ceil(outputs / perWorkgroup), y: 1 };
  }
  if (gpu.family === "software") {
    const ROWS = rows === "few" ? 4 : 8;
    return { source: MATMUL_BROADCAST, extra: { ROWS }, x: Math.ceil(outputs / (gpu.subgroupSize * (gated ? 1 : 2))), y: { rowsPer: ROWS } };
  }
  return { source: MATMUL_TILED, extra: {}, x: Math.ceil(outputs / (gated ? 32 : 64)), y: { rowsPer: 64 } };
}

/** Elements first … first + count − 1 of a vector, as a view. Parts begin at multiples of 64 rows, which keeps views aligned. */
function slice(vector: Tensor, first: number, count: number): Tensor {
  if (first === 0 && count === vector.shape[0]) return vector;
  return { ...vector, offset: vector.offset + first * 4, shape: [count] };
}
