/**
 * y = act(W x + b), optionally added to y: the matrix product of every layer. Which kernel makes it, and with which sizes, is chosen by
 * shape and device (linear_variants.ts). The weight format is a slot (weights.ts), so no kernel knows it.
 */

import type { Consts, WgslFile } from "../engine/kernel.ts";
import { f32, wgsl } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import { reshape, type Tensor } from "../engine/tensor.ts";
import { ACTIVATIONS, epilogue, SPLIT_STEP, type Activation } from "./epilogue.ts";
import { linearInt8, outlierCountsShape, quantizeRows, type RowsScratch } from "./int8.ts";
import { chooseVariant, launchOf, traitsOf, type LinearShape, type RowsClass, type Variant } from "./linear_variants.ts";
import { formatOf, readerOf, type Weight } from "./weights.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const INPUT_NORM = file("./input/norm.wgsl");
const GAIN = file("./input/gain.wgsl");
const GAIN_SCALAR = file("./input/gain_scalar.wgsl");
const NO_GAIN = file("./input/no_gain.wgsl");
const WEIGHT_GAIN = file("./input/weight_gain.wgsl");
const NO_WEIGHT_GAIN = file("./input/no_weight_gain.wgsl");

export { ACTIVATIONS, SPLIT_STEP, type Activation } from "./epilogue.ts";
export { rowsClass, ROWS_CLASSES, type RowsClass } from "./linear_variants.ts";
export type { Weight } from "./weights.ts";


/**
 * A norm of the input that is made part of the product. `gain`: [K], or [2, K] where the product is split in two (`second`). For
 * LayerNorm `weightGain` [N] is W·gain, and the product's bias must be W·(norm's bias) + its own bias; `foldLayerNorms` makes both. Its
 * variance is E[x²] − μ², which loses precision where the mean is many times the spread.
 */
export type InputNorm =
  | { readonly kind: "rms"; readonly gain: Tensor; readonly eps: number }
  | { readonly kind: "layer"; readonly gain: Tensor; readonly eps: number; readonly weightGain: Tensor }
  /** Not folded, for LLM.int8(), which quantizes what the norm gives. bias: the norm's own, shaped as gain. */
  | { readonly kind: "layer"; readonly gain: Tensor; readonly eps: number; readonly bias: Tensor };

/** Where LLM.int8() puts activations in codes, and counts those that it leaves as they are. */
export interface Int8Scratch extends RowsScratch {
  /** u32, as `outlierCountsShape` of the widest product says. */
  readonly counts: Tensor;
}

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
  /** For weights in llm.int8; shared by all products. */
  readonly scratch?: Int8Scratch | undefined;
}

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
export function linear(recorder: Recorder, operands: LinearOperands, options: LinearOptions): void {
  if (operands.weight.quantized?.format === "llm.int8") linearByInt8(recorder, operands, options);
  else linearByFloats(recorder, operands, options);
}

/** As published: activations to codes, then whole numbers are multiplied. Two dispatches. */
function linearByInt8(recorder: Recorder, { x, weight, bias, norm, y, second, scratch }: LinearOperands, options: LinearOptions): void {
  const { label } = weight.parts[0]!.tensor;
  if (scratch === undefined) throw new Error(`linear: ${label} is held in llm.int8, but there is no room for activations in codes`);
  if (norm?.kind === "layer" && !("bias" in norm)) throw new Error(`linear: a norm was folded into ${label}, which is held in llm.int8`);
  const { quantized, columns } = weight;
  const section = quantized!.sections.find(({ firstColumn }) => firstColumn > 0)?.firstColumn;
  const counts = { ...scratch.counts, shape: outlierCountsShape(columns) };
  const rows = quantizeRows(recorder, { x, norm, scratch, counts }, {
    columns, section, threshold: quantized!.threshold ?? 0, ...(options.xFirst !== undefined && { xFirst: options.xFirst }),
  });
  linearInt8(recorder, { x: rows, weight, bias, y, second }, options);
}

function linearByFloats(recorder: Recorder, { x, weight, bias, norm, y, second }: LinearOperands, options: LinearOptions): void {
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
  if (norm?.kind === "layer" && !("weightGain" in norm)) throw new Error(`linear: the norm before ${weight.parts[0]!.tensor.label} must be folded into it`);
  if (weight.gated && (bias || residual || activation !== "none" || norm?.kind === "layer")) {
    throw new Error(`linear: a gated product takes no bias, activation, residual or LayerNorm (${weight.parts[0]!.tensor.label})`);
  }
  for (const part of weight.parts) {
    const shape: LinearShape = { rows, N: part.rows, K, gated: weight.gated, normed: norm !== undefined, format: formatOf(weight) };
    const SPLIT = Math.min(Math.max(0, split - part.first), part.rows);
    const parting = second && SPLIT > 0 && SPLIT < part.rows ? SPLIT : undefined;
    const variant = options.variant ?? chooseVariant(recorder.gpu, shape, M!, parting);
    const { source, slots: units = [], enables, consts: own, scalarGain, x: gridX, y: gridY } = launchOf(variant, shape, traitsOf(recorder.gpu), M!);
    const reader = readerOf(weight, part);
    const consts: Consts = {
      ...reader.consts, K, N: part.rows, X_STRIDE: X!, X_FIRST: xFirst, Y_STRIDE: Y!, Y_FIRST: yFirst + part.first, SUBGROUP: recorder.gpu.subgroupSize,
      GATED: weight.gated, RESIDUAL: residual, ACTIVATION: ACTIVATIONS[activation], ACTIVATION_FROM: Math.max(0, activationFrom - part.first),
      SPLIT, ...(second && { Y2_STRIDE: second.y.shape[1]!, Y2_FIRST: second.first + Math.max(0, part.first - split) }),
      NORM: norm === undefined ? 0 : norm.kind === "rms" ? 1 : 2, EPS: f32(norm?.eps ?? 0), ...own,
    };
    const slots = [
      ...reader.slots, ...epilogue({ bias: bias !== undefined, second: second !== undefined }),
      INPUT_NORM, norm === undefined ? NO_GAIN : scalarGain ? GAIN_SCALAR : GAIN, norm?.kind === "layer" ? WEIGHT_GAIN : NO_WEIGHT_GAIN, ...units,
    ];
    recorder.run({ source, slots, consts, enables }, {
      x, y, ...(second && { y2: second.y }), ...reader.tensors, ...(bias && { bias: slice(bias, part.first, part.rows) }), ...(norm && { gain: norm.gain }),
      ...(norm?.kind === "layer" && { weight_gain: slice(norm.weightGain, part.first, part.rows) }),
    }, gridX, gridY);
  }
}

/** A product that takes LayerNorm's input, not its output. */
export interface NormedProduct { readonly weight: Weight; readonly bias: Tensor; readonly norm: InputNorm }

/** Outputs `rows` of a product (in order) that read one LayerNorm: its gain and bias [K], and the outputs' own bias. */
export interface NormedRows { readonly rows: number; readonly gain: Tensor; readonly normBias: Tensor; readonly bias: Tensor | undefined }

/** The norms of a product together: [K] each, or [2, K] where it is split in two. */
export interface LayerNorms { readonly gain: Tensor; readonly bias: Tensor; readonly eps: number }

/**
 * Fold LayerNorms into the product that follows them: W norm(x) + b needs W·gain and W·(norm's bias) + b, made once here. Several
 * sections of rows may have norms of their own (`norms` of the product are then theirs together). With weights in llm.int8 nothing is
 * folded: the activations that are quantized are those behind the norm. Throws OutOfMemoryError.
 */
export async function foldLayerNorms(gpu: Gpu, weight: Weight, norms: LayerNorms, sections: readonly NormedRows[]): Promise<NormedProduct> {
  const { label } = weight.parts[0]!.tensor, { gain, bias, eps } = norms;
  if (weight.quantized?.format === "llm.int8") return { weight, bias: await biasOf(gpu, weight, sections), norm: { kind: "layer", gain, bias, eps } };
  const weightGain = await gpu.tensor("weights", [weight.rows], "f32", `${label} · gain`);
  const folded = await gpu.tensor("weights", [weight.rows], "f32", `${label} · bias`);
  // Every section's product is made of all rows, whatever their format, and its own rows taken out of it.
  const temporaries: Tensor[] = [];
  try {
    const recorder = new Recorder(gpu), before = gpu.device.createCommandEncoder(), after = gpu.device.createCommandEncoder();
    let first = 0;
    for (const { rows, gain: sectionGain, normBias, bias: ownBias } of sections) {
      for (const [x, target, own] of [[sectionGain, weightGain, undefined], [normBias, folded, ownBias]] as const) {
        const y = await gpu.tensor("staging", [1, weight.rows], "f32", `${label} folded`);
        temporaries.push(y);
        if (own) before.copyBufferToBuffer(own.buffer, own.offset, y.buffer, first * 4, rows * 4);
        linear(recorder, { x: reshape(x, [1, weight.columns]), weight, y }, { rows: "one", residual: true });
        after.copyBufferToBuffer(y.buffer, first * 4, target.buffer, first * 4, rows * 4);
      }
      first += rows;
    }
    const recording = await recorder.finish("fold a norm");
    gpu.device.queue.submit([before.finish()]);
    submit(gpu, recording, { rows: 1, tiles: 0 });
    gpu.device.queue.submit([after.finish()]);
  } finally {
    for (const { buffer } of temporaries) gpu.destroyBuffer(buffer);
  }
  return { weight, bias: folded, norm: { kind: "layer", gain, eps, weightGain } };
}

/** The outputs' own biases as one vector, zeros where a section has none. */
async function biasOf(gpu: Gpu, { rows, parts }: Weight, sections: readonly NormedRows[]): Promise<Tensor> {
  const bias = await gpu.tensor("weights", [rows], "f32", `${parts[0]!.tensor.label} · bias`);
  const encoder = gpu.device.createCommandEncoder();
  let first = 0;
  for (const { rows: count, bias: own } of sections) {
    if (own) encoder.copyBufferToBuffer(own.buffer, own.offset, bias.buffer, first * 4, count * 4);
    first += count;
  }
  gpu.device.queue.submit([encoder.finish()]);
  return bias;
}

/** Elements first … first + count − 1 of a vector, as a view. Parts begin at multiples of 64 rows, which keeps views aligned. */
function slice(vector: Tensor, first: number, count: number): Tensor {
  if (first === 0 && count === vector.shape[0]) return vector;
  return { ...vector, offset: vector.offset + first * 4, shape: [count] };
}
