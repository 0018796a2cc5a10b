/**
 * y = act(W x + b), optionally added to y: the matrix product of every layer. One row of activations takes the matrix-vector kernel,
 * more rows a matrix-matrix kernel of the device's family. The weight format is a slot (kernels/formats), so no kernel knows it.
 */

import { DTYPE_BYTES } from "../engine/dtype.ts";
import type { Consts, WgslFile } from "../engine/kernel.ts";
import { f32, wgsl } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit, type GridY } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import { reshape, type Tensor } from "../engine/tensor.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const MATVEC = file("./matvec.wgsl");
const MATMUL_BROADCAST = file("./matmul_broadcast.wgsl");
const MATMUL_TILED = file("./matmul_tiled.wgsl");
const STORE = [file("./output/store.wgsl"), file("./output/activation.wgsl")];
const ONE_OUTPUT = file("./output/one.wgsl");
const TWO_OUTPUTS = file("./output/two.wgsl");
const BIAS = file("./output/bias.wgsl");
const NO_BIAS = file("./output/no_bias.wgsl");
const INPUT_NORM = file("./input/norm.wgsl");
const GAIN = file("./input/gain.wgsl");
const GAIN_SCALAR = file("./input/gain_scalar.wgsl");
const NO_GAIN = file("./input/no_gain.wgsl");
const WEIGHT_GAIN = file("./input/weight_gain.wgsl");
const NO_WEIGHT_GAIN = file("./input/no_weight_gain.wgsl");

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

/**
 * A norm of the input that is made part of the product. `gain`: [K], or [2, K] where the product is split in two (`second`). For
 * LayerNorm `weightGain` [N] is W·gain, and the product's bias must be W·(norm's bias) + its own bias; `foldLayerNorms` makes both. Its
 * variance is E[x²] − μ², which loses precision where the mean is many times the spread.
 */
export type InputNorm =
  | { readonly kind: "rms"; readonly gain: Tensor; readonly eps: number }
  | { readonly kind: "layer"; readonly gain: Tensor; readonly eps: number; readonly weightGain: Tensor };

export interface LinearOperands {
  /** [M, columns of the buffer] f32. */
  readonly x: Tensor;
  readonly weight: Weight;
  /** [N] f32. */
  readonly bias?: Tensor | undefined;
  readonly norm?: InputNorm | undefined;
  /** [M, columns of the buffer] f32. */
  readonly y: Tensor;
  /** Outputs from `from` on, which is a multiple of SPLIT_STEP, go to columns `first` … of another y; their norm is the second row of gain. */
  readonly second?: { readonly from: number; readonly y: Tensor; readonly first: number } | undefined;
}

/** Outputs that one workgroup makes at most: where two products in one dispatch may part. */
export const SPLIT_STEP = 64;

export interface LinearOptions {
  readonly rows: RowsClass;
  readonly activation?: Activation;
  /** First output on which the activation acts. Default 0. */
  readonly activationFrom?: number;
  /** Add to y instead of overwriting it. */
  readonly residual?: boolean;
  /** Column of x where the K inputs begin, when its rows hold more than them. Default 0. */
  readonly xFirst?: number;
  /** Column of y where the N outputs go. Default 0. */
  readonly yFirst?: number;
}

/**
 * y = act(W norm(x) + b), with x: [M, K], W: [N, K], y: [M, N]. M is the capacity of the buffers, of which a step uses its first rows; it
 * is a multiple of 8, since products work on whole tiles. A gated weight gives silu(gate x) · (up x) and takes no bias.
 */
export function linear(recorder: Recorder, { x, weight, bias, norm, y, second }: LinearOperands, options: LinearOptions): void {
  const { rows, activation = "none", activationFrom = 0, residual = false, xFirst = 0, yFirst = 0 } = options;
  const { columns: K, rows: N } = weight;
  const { M, X, Y } = match("linear", { x: [x, "M", "X"], y: [y, "M", "Y"], ...(bias && { bias: [bias, N] }), ...(norm && { gain: second ? [norm.gain, 2, K] : [norm.gain, K] }) });
  const split = second?.from ?? N;
  if (xFirst + K > X! || yFirst + split > Y! || (second && second.first + N - split > second.y.shape[1]!)) {
    throw new Error(`linear: ${weight.parts[0]!.tensor.label} maps ${K} to ${N}, but x has ${X} columns from ${xFirst} and y ${Y} from ${yFirst}`);
  }
  if (second && (split % SPLIT_STEP !== 0 || residual || weight.gated)) throw new Error(`linear: a product cannot be split at output ${split}`);
  if ((M! % 8 !== 0 && rows !== "one") || K % 8 !== 0 || xFirst % 4 !== 0 || X! % 4 !== 0) {
    throw new Error(`linear: x comes in multiples of 8 rows and columns, but is [${M}, ${K}] from column ${xFirst} of ${X}`);
  }
  if (weight.gated && (bias || residual || activation !== "none" || norm?.kind === "layer")) {
    throw new Error(`linear: a gated product takes no bias, activation, residual or LayerNorm (${weight.parts[0]!.tensor.label})`);
  }
  for (const part of weight.parts) {
    const { source, extra, scalarGain, x: gridX, y: gridY } = variant(recorder, rows, M!, part.rows, weight.gated, norm !== undefined);
    const consts: Consts = {
      K, N: part.rows, X_STRIDE: X!, X_FIRST: xFirst, Y_STRIDE: Y!, Y_FIRST: yFirst + part.first, SUBGROUP: recorder.gpu.subgroupSize,
      GATED: weight.gated, RESIDUAL: residual, ACTIVATION: ACTIVATIONS[activation], ACTIVATION_FROM: Math.max(0, activationFrom - part.first),
      SPLIT: Math.min(Math.max(0, split - part.first), part.rows), ...(second && { Y2_STRIDE: second.y.shape[1]!, Y2_FIRST: second.first + Math.max(0, part.first - split) }),
      NORM: norm === undefined ? 0 : norm.kind === "rms" ? 1 : 2, EPS: f32(norm?.eps ?? 0), ...extra,
    };
    const slots = [
      WEIGHT_SLOTS[part.tensor.dtype as keyof typeof WEIGHT_SLOTS], bias === undefined ? NO_BIAS : BIAS, ...STORE, second ? TWO_OUTPUTS : ONE_OUTPUT,
      INPUT_NORM, norm === undefined ? NO_GAIN : scalarGain ? GAIN_SCALAR : GAIN, norm?.kind === "layer" ? WEIGHT_GAIN : NO_WEIGHT_GAIN,
    ];
    recorder.run({ source, slots, consts }, {
      x, y, ...(second && { y2: second.y }), weight: part.tensor, ...(bias && { bias: slice(bias, part.first, part.rows) }), ...(norm && { gain: norm.gain }),
      ...(norm?.kind === "layer" && { weight_gain: slice(norm.weightGain, part.first, part.rows) }),
    }, gridX, gridY);
  }
}

/** A product that takes LayerNorm's input, not its output. */
export interface NormedProduct { readonly weight: Weight; readonly bias: Tensor; readonly norm: InputNorm }

/** Outputs `rows` of a product (in order) that read one LayerNorm: its gain and bias [K], and the outputs' own bias. */
export interface NormedRows { readonly rows: number; readonly gain: Tensor; readonly normBias: Tensor; readonly bias: Tensor | undefined }

/**
 * Fold LayerNorms into the product that follows them: W norm(x) + b needs W·gain and W·(norm's bias) + b, made once here. Several
 * sections of rows may have norms of their own (`gain` of the product is then theirs together). Throws OutOfMemoryError.
 */
export async function foldLayerNorms(gpu: Gpu, weight: Weight, gain: Tensor, eps: number, sections: readonly NormedRows[]): Promise<NormedProduct> {
  const { label } = weight.parts[0]!.tensor;
  const weightGain = await gpu.tensor("weights", [weight.rows], "f32", `${label} · gain`);
  const folded = await gpu.tensor("weights", [weight.rows], "f32", `${label} · bias`);
  const recorder = new Recorder(gpu);
  let first = 0;
  for (const { rows, gain: sectionGain, normBias, bias } of sections) {
    const section = sliceRows(weight, first, rows);
    const product = (x: Tensor, y: Tensor, own: Tensor | undefined): void => {
      linear(recorder, { x: reshape(x, [1, weight.columns]), weight: section, bias: own, y: reshape(slice(y, first, rows), [1, rows]) }, { rows: "one" });
    };
    product(sectionGain, weightGain, undefined);
    product(normBias, folded, bias);
    first += rows;
  }
  submit(gpu, await recorder.finish("fold a norm"), { rows: 1, tiles: 0 });
  return { weight, bias: folded, norm: { kind: "layer", gain, eps, weightGain } };
}

/** Rows first … first + count − 1 of a weight that is not gated, as a view. */
function sliceRows(weight: Weight, first: number, count: number): Weight {
  if (first === 0 && count === weight.rows) return weight;
  const parts = weight.parts.flatMap(({ tensor, first: start, rows }) => {
    const [from, to] = [Math.max(first, start), Math.min(first + count, start + rows)];
    if (from >= to) return [];
    const offset = tensor.offset + (from - start) * weight.columns * DTYPE_BYTES[tensor.dtype];
    return [{ tensor: { ...tensor, offset, shape: [to - from, weight.columns] }, first: from - first, rows: to - from }];
  });
  return { ...weight, rows: count, parts };
}

interface Variant { readonly source: WgslFile; readonly extra: Consts; readonly scalarGain: boolean; readonly x: number; readonly y: GridY }

/**
 * Which kernel, its own constants, and its grid. Static rules: the matrix-vector kernel takes 8 rows of W per subgroup when it also
 * normalises on the software adapter, where the loads of gain then cost nothing, and 4 otherwise, which keeps more subgroups busy.
 */
function variant({ gpu }: Recorder, rows: RowsClass, M: number, outputs: number, gated: boolean, normed: boolean): Variant {
  const software = gpu.family === "software";
  if (rows === "one") {
    const WORKGROUP = software ? 4 * gpu.subgroupSize : 128;
    const ROWS = gated || (normed && software) ? 8 : 4;
    const perWorkgroup = (WORKGROUP / gpu.subgroupSize) * (gated ? 4 : ROWS);
    return { source: MATVEC, extra: { WORKGROUP, ROWS }, scalarGain: false, x: Math.ceil(outputs / perWorkgroup), y: 1 };
  }
  if (software) {
    const ROWS = rows === "few" ? 4 : 8;
    const x = Math.ceil(outputs / (gpu.subgroupSize * (gated ? 1 : 2)));
    return { source: MATMUL_BROADCAST, extra: { ROWS }, scalarGain: true, x, y: { rowsPer: ROWS } };
  }
  return { source: MATMUL_TILED, extra: { M }, scalarGain: false, x: Math.ceil(outputs / (gated ? 32 : 64)), y: { rowsPer: 64 } };
}

/** Elements first … first + count − 1 of a vector, as a view. Parts begin at multiples of 64 rows, which keeps views aligned. */
function slice(vector: Tensor, first: number, count: number): Tensor {
  if (first === 0 && count === vector.shape[0]) return vector;
  return { ...vector, offset: vector.offset + first * 4, shape: [count] };
}
