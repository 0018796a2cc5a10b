/**
 * LLM.int8() as published (Dettmers et al. 2022): y = act(W x + b) where rows of x and of W are int8 codes with one magnitude each, their
 * products are summed in whole numbers, and outliers of x are multiplied as they are. Two calls: `quantizeRows` makes codes of
 * activations, which several products may use, and `linearInt8` multiplies. How this departs from bitsandbytes is said in
 * quantize_rows.wgsl: outliers are found row by row, and activations are f32.
 */

import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { GridY, Recorder } from "../engine/recorder.ts";
import { match, type Shape } from "../engine/shape.ts";
import { byteLength, type Tensor } from "../engine/tensor.ts";
import { ACTIVATIONS, epilogue, SPLIT_STEP, type Activation } from "./epilogue.ts";
import type { RowsClass } from "./linear_variants.ts";
import { isBeside, type Weight } from "./weights.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const QUANTIZE = file("./quantize_rows.wgsl");
const REDUCE = file("./reduce.wgsl");
const GAIN = file("./input/gain.wgsl");
const NO_GAIN = file("./input/no_gain.wgsl");
const NORM_BIAS = file("./norm_bias.wgsl");
const NORM_NO_BIAS = file("./norm_no_bias.wgsl");
const KEEP = file("./codes/keep_outliers.wgsl");
const KEEP_NONE = file("./codes/keep_none.wgsl");
const COUNT = file("./codes/count.wgsl");
const NO_COUNT = file("./codes/no_count.wgsl");
const KERNELS = {
  matvec: file("./matvec_codes.wgsl"), matvecBroadcast: file("./matvec_codes_broadcast.wgsl"),
  matmulTiled: file("./matmul_codes_tiled.wgsl"), matmulBroadcast: file("./matmul_codes_broadcast.wgsl"),
} as const;
const BY_SIXTEEN = file("./codes/by_sixteen.wgsl");
const BY_EIGHT = file("./codes/by_eight.wgsl");
const SCALED = file("./codes/scaled.wgsl");
const OUTLIERS = file("./codes/outliers.wgsl");
const NO_OUTLIERS = file("./codes/no_outliers.wgsl");

/** Room for quantized rows, shared by all products of a pass: they are used up before the next ones are made. */
export interface RowsScratch {
  /** u32, four codes to a word. */
  readonly codes: Tensor;
  /** u32, four words for each version of a row. */
  readonly magnitudes: Tensor;
  /** u32, two words for each element; not needed where nothing is an outlier. */
  readonly outliers?: Tensor | undefined;
}

export interface RowsScratchShapes { readonly codes: Shape; readonly magnitudes: Shape; readonly outliers: Shape }

/** Shapes (of u32) for `rows` rows of `widest` columns in all their versions: the most of any product of a pass. */
export function rowsScratchShapes(rows: number, widest: number, versions: 1 | 2 = 1): RowsScratchShapes {
  return { codes: [rows * versions, widest / 4], magnitudes: [rows * versions, 4], outliers: [rows * versions, widest, 2] };
}

/** Where outliers are counted, as u32: how many in all, then a bit for each column that had one. Zeros at first; many calls may share one. */
export function outlierCountsShape(columns: number): Shape {
  return [1 + Math.ceil(columns / 32)];
}

/** What `outlierCountsShape` holds after a run. */
export function readOutlierCounts(words: Uint32Array): { readonly elements: number; readonly columns: readonly number[] } {
  const columns: number[] = [];
  for (let word = 1; word < words.length; word++) {
    for (let bit = 0; bit < 32; bit++) if ((words[word]! >>> bit) & 1) columns.push((word - 1) * 32 + bit);
  }
  return { elements: words[0]!, columns };
}

/** A norm of the rows before they are quantized. gain and bias: [K], or [2, K] to make two versions of the same rows. */
export type RowsNorm =
  | { readonly kind: "rms"; readonly gain: Tensor; readonly eps: number }
  | { readonly kind: "layer"; readonly gain: Tensor; readonly bias: Tensor; readonly eps: number };

export interface QuantizeOperands {
  /** [M, columns of the buffer] f32. */
  readonly x: Tensor;
  readonly norm?: RowsNorm | undefined;
  readonly scratch: RowsScratch;
  /** As `outlierCountsShape` of K says. */
  readonly counts?: Tensor | undefined;
}

export interface QuantizeOptions {
  /** Inputs of the product: a multiple of 8. */
  readonly columns: number;
  /** Column where a second section begins, whose matrix stands beside the first's: each has magnitudes of its own. A multiple of 8. */
  readonly section?: number | undefined;
  /** Elements of this magnitude and above are outliers; 0: none is. */
  readonly threshold: number;
  /** Column of x where the inputs begin, a multiple of 4. Default 0. */
  readonly xFirst?: number;
}

/** Rows as a product takes them. */
export interface QuantizedRows {
  readonly scratch: RowsScratch;
  readonly capacity: number;
  readonly columns: number;
  readonly versions: 1 | 2;
  readonly section: number | undefined;
  readonly outliers: boolean;
}

/**
 * Codes, magnitudes and outliers of the step's rows of x: [M, columns of the buffer] f32, in one dispatch. `counts`: [1 + ceil(K / 32)]
 * u32, to which outliers are added. The scratch is overwritten by the next call.
 */
export function quantizeRows(recorder: Recorder, { x, norm, scratch, counts }: QuantizeOperands, options: QuantizeOptions): QuantizedRows {
  const { columns: K, section, threshold, xFirst = 0 } = options;
  const versions = norm?.gain.shape.length === 2 ? 2 : 1;
  const vector = versions === 2 ? [2, K] : [K];
  const { M, X } = match("quantizeRows", {
    x: [x, "M", "X"], ...(norm && { gain: [norm.gain, ...vector] }), ...(norm?.kind === "layer" && { bias: [norm.bias, ...vector] }),
    ...(counts && { counts: [counts, ...outlierCountsShape(K)] }),
  });
  if (K % 8 !== 0 || X! % 4 !== 0 || xFirst % 4 !== 0 || xFirst + K > X!) {
    throw new Error(`quantizeRows: ${K} columns from ${xFirst} do not fit x of ${X}, in multiples of 8 and 4`);
  }
  if (section !== undefined && (section % 8 !== 0 || section <= 0 || section >= K)) {
    throw new Error(`quantizeRows: a section cannot begin at column ${section} of ${K}`);
  }
  if (!(threshold >= 0 && threshold < Infinity)) throw new Error(`quantizeRows: a threshold of ${threshold} is none; 0 means no outliers`);
  const outliers = threshold > 0;
  checkRoom(scratch, M!, K, versions, outliers);
  const { subgroupSize: SUBGROUP, family } = recorder.gpu;
  const consts: Consts = {
    K, X_STRIDE: X!, X_FIRST: xFirst, VERSIONS: versions, COLUMN1: section ?? K, OUTLIER: outliers ? bitsOf(threshold) : 0xffffffff,
    NORM: norm === undefined ? 0 : norm.kind === "rms" ? 1 : 2, EPS: f32(norm?.eps ?? 0),
    SUBGROUP, WORKGROUP: family === "software" ? SUBGROUP : 256,
  };
  const slots = [
    REDUCE, norm ? GAIN : NO_GAIN, norm?.kind === "layer" ? NORM_BIAS : NORM_NO_BIAS,
    ...(outliers ? [KEEP, counts ? COUNT : NO_COUNT] : [KEEP_NONE]),
  ];
  recorder.run({ source: QUANTIZE, slots, consts }, {
    x, codes: scratch.codes, magnitudes: scratch.magnitudes,
    ...(norm && { gain: norm.gain }), ...(norm?.kind === "layer" && { bias: norm.bias }),
    ...(outliers && { outliers: scratch.outliers!, ...(counts && { counts }) }),
  }, versions, { rowsPer: 1 });
  return { scratch, capacity: M!, columns: K, versions, section, outliers };
}

function checkRoom({ codes, magnitudes, outliers }: RowsScratch, rows: number, K: number, versions: number, kept: boolean): void {
  const wanted = { codes: rows * versions * K, magnitudes: rows * versions * 16, ...(kept && { outliers: rows * versions * K * 8 }) };
  for (const [name, bytes] of Object.entries(wanted)) {
    const tensor = { codes, magnitudes, outliers }[name];
    if (tensor === undefined) throw new Error(`quantizeRows: with a threshold there must be room for ${name}`);
    if (byteLength(tensor) < bytes) {
      throw new Error(`quantizeRows: ${name} of ${rows} rows of ${K} take ${bytes} bytes, but there is room for ${byteLength(tensor)}`);
    }
  }
}

function bitsOf(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0]!;
}

/** Sums of products of codes (−128 … 127 and −127 … 127) stay below 2³¹ in rows shorter than this. */
export const MOST_COLUMNS = Math.floor(2 ** 31 / (128 * 127)) & ~7;

export interface LinearInt8Operands {
  readonly x: QuantizedRows;
  /**
   * Of format "llm.int8": codes u32 [N, K / 4], or [2·N, K / 4] where gated; scales f32, the largest magnitude of each row: [rows], or
   * [rows, 2] where two matrices stand side by side.
   */
  readonly weight: Weight;
  /** [N] f32. */
  readonly bias?: Tensor | undefined;
  /** [M, columns of the buffer] f32. */
  readonly y: Tensor;
  /** Outputs from `from` on, a multiple of SPLIT_STEP, go to columns `first` … of another y, and read the second version of x. */
  readonly second?: { readonly from: number; readonly y: Tensor; readonly first: number } | undefined;
}

export interface LinearInt8Options {
  readonly rows: RowsClass;
  readonly activation?: Activation;
  /** First output on which the activation acts. Default 0. */
  readonly activationFrom?: number;
  /** Add to y instead of overwriting it. */
  readonly residual?: boolean;
  /** Column of y where the N outputs go. Default 0. */
  readonly yFirst?: number;
}

/**
 * y = act(W x + b), with x as `quantizeRows` left it, W: [N, K], y: [M, N]. M is the capacity of the buffers, a multiple of 8 unless
 * `rows` is one. A gated weight gives silu(gate x) · (up x) and takes no bias.
 */
export function linearInt8(recorder: Recorder, { x, weight, bias, y, second }: LinearInt8Operands, options: LinearInt8Options): void {
  const { rows, activation = "none", activationFrom = 0, residual = false, yFirst = 0 } = options;
  const { columns: K, rows: N, gated, parts: [part], quantized } = weight;
  const { label } = part!.tensor;
  if (quantized?.format !== "llm.int8" || part!.scales === undefined || weight.parts.length !== 1) {
    throw new Error(`linearInt8: ${label} is not held in llm.int8, or not in one part`);
  }
  const column1 = isBeside(quantized) ? quantized.sections.find(({ firstColumn }) => firstColumn > 0)!.firstColumn : undefined;
  const all = gated ? 2 * N : N;
  const { M, Y } = match("linearInt8", {
    y: [y, "M", "Y"], weight: [part!.tensor, all, K / 4], scales: [part!.scales, ...(column1 === undefined ? [all] : [all, 2])],
    ...(bias && { bias: [bias, N] }),
  });
  const split = second?.from ?? N;
  if (x.columns !== K || x.section !== column1 || x.capacity !== M) {
    const asked = `${M} rows of ${K} inputs in sections from ${column1 ?? "none"}`, given = `${x.capacity} of ${x.columns} from ${x.section ?? "none"}`;
    throw new Error(`linearInt8: ${label} takes ${asked}, but x was quantized as ${given}`);
  }
  if (K > MOST_COLUMNS) throw new Error(`linearInt8: a sum over ${K} inputs of ${label} may pass 2³¹; at most ${MOST_COLUMNS} are exact`);
  if (yFirst + split > Y! || (second && second.first + N - split > second.y.shape[1]!)) {
    throw new Error(`linearInt8: ${label} makes ${N} outputs, but y has ${Y} columns from ${yFirst}`);
  }
  if ((second && (split % SPLIT_STEP !== 0 || residual || gated)) || (x.versions === 2 && !second)) {
    throw new Error(`linearInt8: a product of ${x.versions} inputs cannot be split at output ${second?.from ?? "none"}`);
  }
  if (M! % 8 !== 0 && rows !== "one") throw new Error(`linearInt8: buffers hold whole tiles of 8 rows, but y has ${M}`);
  if (gated && (bias || residual || activation !== "none")) {
    throw new Error(`linearInt8: a gated product takes no bias, activation or residual (${label})`);
  }
  const { source, consts, x: gridX, y: gridY } = launchOf(recorder.gpu, rows, N, K, gated);
  recorder.run({
    source,
    consts: {
      K, N, VERSIONS: x.versions, SECTIONS: column1 === undefined ? 1 : 2, COLUMN1: column1 ?? K, Y_STRIDE: Y!, Y_FIRST: yFirst,
      SUBGROUP: recorder.gpu.subgroupSize, GATED: gated, RESIDUAL: residual,
      ACTIVATION: ACTIVATIONS[activation], ACTIVATION_FROM: activationFrom, SPLIT: split,
      ...(second && { Y2_STRIDE: second.y.shape[1]!, Y2_FIRST: second.first }), ...consts, ...(source === KERNELS.matmulTiled && { M: M! }),
    },
    slots: [
      K % 16 === 0 && (column1 ?? 0) % 16 === 0 ? BY_SIXTEEN : BY_EIGHT, SCALED, x.outliers ? OUTLIERS : NO_OUTLIERS,
      ...epilogue({ bias: bias !== undefined, second: second !== undefined }),
    ],
  }, {
    x: x.scratch.codes, magnitudes: x.scratch.magnitudes, ...(x.outliers && { outliers: x.scratch.outliers! }),
    weight: part!.tensor, scales: part!.scales, y, ...(second && { y2: second.y }), ...(bias && { bias }),
  }, gridX, gridY);
}

interface Launch { readonly source: WgslFile; readonly consts: Consts; readonly x: number; readonly y: GridY }

const BATCH = { one: 1, few: 4, several: 8 } as const;

/**
 * Which kernel makes the product, and its grid. Broadcasting ones are for software adapters, where a subgroup's outputs must also lie on
 * one side of a split. On GPUs rows of W go four to a subgroup, two where K is long enough to keep one row's lanes reading.
 */
function launchOf({ family, subgroupSize }: Gpu, rows: RowsClass, N: number, K: number, gated: boolean): Launch {
  const outputs = (weightRows: number): number => (gated ? weightRows / 2 : weightRows);
  if (family === "software" && subgroupSize >= 8 && 4 * subgroupSize <= SPLIT_STEP) {
    const x = Math.ceil(N / outputs(4 * subgroupSize));
    if (rows === "one") return { source: KERNELS.matvecBroadcast, consts: {}, x, y: 1 };
    const ROWS = rows === "few" ? 4 : 8;
    return { source: KERNELS.matmulBroadcast, consts: { ROWS }, x, y: { rowsPer: ROWS } };
  }
  if (rows === "many") return { source: KERNELS.matmulTiled, consts: {}, x: Math.ceil(N / outputs(64)), y: { rowsPer: 64 } };
  const ROWS = K >= 4096 && rows === "one" ? 2 : 4, subgroups = Math.max(1, 128 / subgroupSize);
  const y: GridY = rows === "one" ? 1 : { rowsPer: BATCH[rows] };
  return {
    source: KERNELS.matvec,
    consts: { WORKGROUP: subgroups * subgroupSize, ROWS, UNROLL: rows === "one" ? 4 / ROWS : 1, BATCH: BATCH[rows] },
    x: Math.ceil(N / (outputs(ROWS) * subgroups)), y,
  };
}
