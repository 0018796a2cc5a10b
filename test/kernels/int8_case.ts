/**
 * One case of LLM.int8() against its twin: rows are quantized on the GPU, read back as the twin has them, and every output of the
 * product that follows is compared, with everything beside it. That the rows themselves are right is checked in int8.gpu.test.ts.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Recorder, submit } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { linearInt8, outlierCountsShape, quantizeRows, rowsScratchShapes, type RowsScratch } from "../../kernels/int8.ts";
import type { Activation, RowsClass, Weight } from "../../kernels/linear.ts";
import * as twin from "../../kernels/reference/int8.ts";
import { near, numbers, put, refill, release, take, takeF32, uniform } from "../support/gpu.ts";

export const THRESHOLD = 6;

export interface Int8Epilogue {
  readonly gated?: true;
  readonly bias?: true;
  readonly activation?: Activation;
  readonly from?: number;
  readonly residual?: true;
}
export const INT8_EPILOGUES: Readonly<Record<string, Int8Epilogue>> = {
  plain: {}, "bias, gelu from 10": { bias: true, activation: "gelu", from: 10 }, "bias, residual": { bias: true, residual: true },
  gated: { gated: true }, "gelu_tanh": { activation: "gelu_tanh" },
};

export interface Int8Sizes {
  /** A key of INT8_EPILOGUES. */
  readonly epilogue: string;
  /** Outputs, and from which on they go elsewhere and read the second version of x. */
  readonly weight: { readonly N: number; readonly second?: number };
  readonly inputs: { readonly K: number; readonly section?: number };
  readonly recording: { readonly as: RowsClass; readonly capacity: number; readonly steps: readonly number[] };
  /** Elements of x above the threshold: none because it is 0, one in fifty, about half, or one row all of them. */
  readonly outliers: "off" | "some" | "many" | "a whole row";
  /** Rows of x and y may be wider than the product: its columns then begin at x and y. */
  readonly place: { readonly x: number; readonly y: number; readonly wider: number };
}

export function possible({ epilogue, weight: { second } }: Int8Sizes): boolean {
  const { gated, residual } = INT8_EPILOGUES[epilogue]!;
  return second === undefined || (!gated && !residual);
}

export function nameOf({ epilogue, weight: { N, second }, inputs: { K, section }, recording, outliers, place }: Int8Sizes): string {
  const { as, capacity } = recording;
  const [apart, two] = [section ? [`sections from ${section}`] : [], second ? [`two products from ${second}`] : []];
  const options = [...apart, ...two, ...(place.wider ? ["in wider rows"] : [])];
  return [`${as} of ${capacity} rows`, `N ${N}`, `K ${K}`, epilogue, `outliers ${outliers}`, ...options].join(", ");
}

/** `count` codes of −127 … 127 from a seed, both ends among them. */
export function codesOf(count: number, seed: number): Int8Array {
  const random = uniform(seed);
  return Int8Array.from({ length: count }, () => Math.floor(random() * 255) - 127);
}

/** A weight of format llm.int8: codes [rows, K], scales [rows, 1 or 2]. */
export async function weightInt8(
  gpu: Gpu, codes: Int8Array, scales: Float32Array, K: number, { gated = false, section }: { gated?: boolean; section?: number | undefined } = {},
): Promise<Weight> {
  const rows = codes.length / K, N = gated ? rows / 2 : rows;
  const words = new Uint32Array(codes.buffer, codes.byteOffset, codes.length / 4);
  const cuts = section === undefined ? [[0, K]] as const : [[0, section], [section, K - section]] as const;
  return {
    rows: N, columns: K, gated,
    parts: [{
      tensor: await put(gpu, [rows, K / 4], words, "u32", "weight", "weights"), first: 0, rows: N,
      scales: await put(gpu, section === undefined ? [rows] : [rows, 2], scales, "f32", "scales", "weights"),
    }],
    quantized: {
      format: "llm.int8", blockSize: 64, nestedBlockSize: 256,
      sections: cuts.map(([firstColumn, columns]) => ({ firstRow: 0, rows, firstColumn, columns })),
    },
  };
}

/** Scratch with sentinels in it and around it: what a kernel does not write is no number that could pass. */
export async function scratchOf(gpu: Gpu, capacity: number, K: number, versions: 1 | 2 = 1): Promise<Required<RowsScratch>> {
  const shapes = rowsScratchShapes(capacity, K, versions);
  const make = (name: keyof typeof shapes): Promise<Tensor> => put(gpu, shapes[name], null, "u32", name);
  return { codes: await make("codes"), magnitudes: await make("magnitudes"), outliers: await make("outliers") };
}

/** The quantized rows [rows, versions] that a scratch holds, version by version. */
export async function takeRows(
  gpu: Gpu, scratch: Required<RowsScratch>, rows: number, K: number, versions: 1 | 2, section: number | undefined,
): Promise<twin.QuantizedRow[]> {
  const codes = new Int8Array((await take(gpu, scratch.codes)).buffer), magnitudes = (await take(gpu, scratch.magnitudes)).buffer;
  const outliers = (await take(gpu, scratch.outliers)).buffer;
  const [bits, reals, columns, values] = [new Uint32Array(magnitudes), new Float32Array(magnitudes), new Uint32Array(outliers), new Float32Array(outliers)];
  return Array.from({ length: versions * rows }, (_, i): twin.QuantizedRow => {
    const row = (i % rows) * versions + Math.floor(i / rows);
    return {
      codes: codes.slice(row * K, (row + 1) * K), magnitudes: [...reals.slice(row * 4, row * 4 + (section === undefined ? 1 : 2))],
      outliers: Array.from({ length: bits[row * 4 + 2]! }, (_, j) => {
        const at = (row * K + j) * 2;
        return { column: columns[at]!, value: values[at + 1]! };
      }),
    };
  });
}

/** Rows of activations: outliers as asked, one row of zeros where there are several. */
export function rowsOf(rows: number, width: number, outliers: Int8Sizes["outliers"], seed: number): Float32Array {
  const values = numbers(rows * width, seed, outliers === "many" ? 6 : 1);
  if (outliers === "a whole row") values.subarray(0, width).forEach((value, k, row) => { row[k] = value + Math.sign(value || 1) * THRESHOLD; });
  if (rows > 2) values.fill(0, 2 * width, 3 * width);
  return values;
}

/** `count` columns from `first` of the first `rows` rows of an array of rows of `width`. */
function inside(array: Float32Array, rows: number, width: number, first: number, count: number): Float32Array {
  return Float32Array.from({ length: rows * count }, (_, i) => array[Math.floor(i / count) * width + first + (i % count)]!);
}

/** Throws where `linearInt8` misses the twin in any step that a recording serves. */
export async function checkInt8(gpu: Gpu, sizes: Int8Sizes): Promise<void> {
  const { epilogue, weight: { N, second }, inputs: { K, section }, recording: { as, capacity, steps }, outliers, place } = sizes;
  const { gated, bias: biased, activation, from = 0, residual } = INT8_EPILOGUES[epilogue]!;
  const seed = capacity * 131 + N * 17 + K, weightRows = gated ? 2 * N : N, versions = second === undefined ? 1 : 2;
  const codes = codesOf(weightRows * K, seed), scales = numbers(weightRows * (section ? 2 : 1), seed + 1, 0.1).map(Math.abs);
  const weight = await weightInt8(gpu, codes, scales, K, { gated: gated ?? false, section });
  const X = K + place.wider, all = rowsOf(capacity, X, outliers, seed + 2), bias = numbers(N, seed + 3);
  const widths = second === undefined ? [N] : [second, N - second], strides = widths.map((width) => width + place.wider);
  const before = strides.map((stride, i) => numbers(capacity * stride, seed + 4 + i));
  const scratch = await scratchOf(gpu, capacity, K, versions);
  const tensors = {
    x: await put(gpu, [capacity, X], all), bias: await put(gpu, [N], bias),
    counts: await put(gpu, outlierCountsShape(K), new Uint32Array(1 + Math.ceil(K / 32)), "u32"),
    gain: await put(gpu, [2, K], numbers(2 * K, seed + 6, 4)), shift: await put(gpu, [2, K], numbers(2 * K, seed + 7)),
  };
  const outputs = await Promise.all(before.map((values, i) => put(gpu, [capacity, strides[i]!], values, "f32", "y")));
  const recorder = new Recorder(gpu);
  const x = quantizeRows(recorder, {
    x: tensors.x, scratch, counts: tensors.counts,
    norm: versions === 2 ? { kind: "layer", gain: tensors.gain, bias: tensors.shift, eps: 1e-5 } : undefined,
  }, { columns: K, section, threshold: outliers === "off" ? 0 : THRESHOLD, xFirst: place.x });
  linearInt8(recorder, {
    x, weight, y: outputs[0]!, bias: biased && tensors.bias,
    second: second === undefined ? undefined : { from: second, y: outputs[1]!, first: place.y },
  }, { rows: as, yFirst: place.y, ...(activation && { activation, activationFrom: from }), ...(residual && { residual }) });
  const recording = await recorder.finish("int8");
  for (const rows of steps) {
    // Rows past the step hold anything, and must disturb none of it.
    refill(gpu, tensors.x, all.slice().fill(NaN, rows * X));
    outputs.forEach((y, i) => refill(gpu, y, before[i]!));
    submit(gpu, recording, { rows, tiles: 0 });
    const was = before.map((values, i) => inside(values, rows, strides[i]!, place.y, widths[i]!));
    const { y, error } = twin.linearInt8({
      rows: await takeRows(gpu, scratch, rows, K, versions, section), codes, scales, section, gated, bias: biased && bias,
      activation, activationFrom: from, residual: residual && was[0]!, split: second,
    });
    for (const [i, width] of widths.entries()) {
      const got = await takeF32(gpu, outputs[i]!), first = i === 0 ? 0 : second!, stride = strides[i]!;
      const part = (array: Float64Array): Float64Array =>
        Float64Array.from({ length: rows * width }, (_, at) => array[Math.floor(at / width) * N + first + (at % width)]!);
      near(inside(got, rows, stride, place.y, width), part(y), { absolute: part(error) }, `int8 in ${rows} rows, output ${i}`, width);
      const beside = (_: number, at: number): boolean => at < rows * stride && (at % stride < place.y || at % stride >= place.y + width);
      near(got.filter(beside), before[i]!.filter(beside), {}, "columns of y beside the product");
    }
  }
  release(gpu, ...Object.values(tensors), ...Object.values(scratch), ...outputs, weight.parts[0]!.tensor, weight.parts[0]!.scales!);
}
