/**
 * y = act(W x + b), optionally added to y: the matrix product of every layer. Which kernel makes it, and with which sizes, is chosen by
 * shape and device (linear_variants.ts). The weight format is a slot (kernels/formats), so no kernel knows it.
 */

import { DTYPE_BYTES, type FloatDtype } from "../engine/dtype.ts";
import type { Consts, WgslFile } from "../engine/kernel.ts";
import { f32, wgsl } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import { reshape, type Tensor } from "../engine/tensor.ts";
import { chooseVariant, launchOf, traitsOf, type LinearShape, type RowsClass, type Variant } from "./linear_variants.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
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

export { rowsClass, ROWS_CLASSES, type RowsClass } from "./linear_variants.ts";

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
  /** Instead of what is chosen by shape and device; it must fit both. */
  readonly variant?: Variant;
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
    const shape: LinearShape = { rows, N: part.rows, K, gated: weight.gated, normed: norm !== undefined, format: part.tensor.dtype as FloatDtype };
    const SPLIT = Math.min(Math.max(0, split - part.first), part.rows);
    const parting = second && SPLIT > 0 && SPLIT < part.rows ? SPLIT : undefined;
    const variant = options.variant ?? chooseVariant(recorder.gpu, shape, M!, parting);
    const { source, slots: units = [], enables, consts: own, scalarGain, x: gridX, y: gridY } = launchOf(variant, shape, traitsOf(recorder.gpu), M!);
    const consts: Consts = {
      K, N: part.rows, X_STRIDE: X!, X_FIRST: xFirst, Y_STRIDE: Y!, Y_FIRST: yFirst + part.first, SUBGROUP: recorder.gpu.subgroupSize,
      GATED: weight.gated, RESIDUAL: residual, ACTIVATION: ACTIVATIONS[activation], ACTIVATION_FROM: Math.max(0, activationFrom - part.first),
      SPLIT, ...(second && { Y2_STRIDE: second.y.shape[1]!, Y2_FIRST: second.first + Math.max(0, part.first - split) }),
      NORM: norm === undefined ? 0 : norm.kind === "rms" ? 1 : 2, EPS: f32(norm?.eps ?? 0), ...own,
    };
    const slots = [
      WEIGHT_SLOTS[shape.format], bias === undefined ? NO_BIAS : BIAS, ...STORE, second ? TWO_OUTPUTS : ONE_OUTPUT,
      INPUT_NORM, norm === undefined ? NO_GAIN : scalarGain ? GAIN_SCALAR : GAIN, norm?.kind === "layer" ? WEIGHT_GAIN : NO_WEIGHT_GAIN, ...units,
    ];
    recorder.run({ source, slots, consts, enables }, {
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

/** Elements first … first + count − 1 of a vector, as a view. Parts begin at multiples of 64 rows, which keeps views aligned. */
function slice(vector: Tensor, first: number, count: number): Tensor {
  if (first === 0 && count === vector.shape[0]) return vector;
  return { ...vector, offset: vector.offset + first * 4, shape: [count] };
}
