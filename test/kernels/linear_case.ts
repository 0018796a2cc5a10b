/**
 * One case of the matrix product against its twin: every row, every output and everything beside them, for each step that a recording
 * serves, with the error that f32 (or f16 on the way into matrix units) allows for the terms at hand.
 */

import type { Gpu } from "../../engine/gpu.ts";
import { Recorder, submit } from "../../engine/recorder.ts";
import { linear, type Activation, type RowsClass } from "../../kernels/linear.ts";
import type { Variant } from "../../kernels/linear_variants.ts";
import * as twin from "../../kernels/reference/linear.ts";
import { norm as normTwin } from "../../kernels/reference/norm.ts";
import { near, numbers, put, refill, release, rounded, takeF32, type FloatFormat, type Numbers } from "../support/gpu.ts";
import { weightOf } from "../support/weights.ts";

export interface Epilogue {
  readonly gated?: true;
  readonly bias?: true;
  readonly activation?: Activation;
  /** First output that the activation acts on. */
  readonly from?: number;
  readonly residual?: true;
}
export const EPILOGUES: Readonly<Record<string, Epilogue>> = {
  plain: {}, "bias, gelu": { bias: true, activation: "gelu" }, "bias, residual": { bias: true, residual: true }, gated: { gated: true },
  "gelu_tanh from 10, residual": { activation: "gelu_tanh", from: 10, residual: true },
};
/** Outputs; rows of the weight's first part; and from which output on they go elsewhere and are normalised by another gain. */
export interface WeightPlan { readonly N: number; readonly firstPart?: number; readonly second?: number }

export interface Sizes {
  /** A key of EPILOGUES. */
  readonly epilogue: string;
  readonly weight: WeightPlan;
  readonly K: number;
  /** What a recording is made for, the room its buffers have, and the steps it then serves: recordings are compiled, steps are not. */
  readonly recording: { readonly as: RowsClass; readonly capacity: number; readonly steps: readonly number[] };
  readonly format: FloatFormat;
  readonly norm: "none" | "rms" | "layer";
  /** Rows of x and y may be wider than the product: its columns then begin at x and y. */
  readonly place: { readonly x: number; readonly y: number; readonly wider: number };
}

/** Whether there is such a product: a gated one has no bias to fold LayerNorm into; products in two are neither gated nor added to what is there. */
export function possible({ epilogue, norm, weight: { second } }: Sizes): boolean {
  const { gated, residual } = EPILOGUES[epilogue]!;
  return !(gated && norm === "layer") && !(second !== undefined && (gated || residual));
}

/** What a test of it is called. */
export function nameOf({ epilogue, weight: { N, firstPart, second }, K, recording: { as, capacity }, format, norm, place }: Sizes): string {
  const options = [
    epilogue, norm === "none" ? [] : `${norm} norm`, firstPart ? `in parts from ${firstPart}` : [],
    second ? `two products from ${second}` : [], place.wider > 0 ? "in wider rows" : [],
  ].flat().join(", ");
  return `${as} of ${capacity} rows, N ${N}, K ${K}, ${format}, ${options}`;
}

export const EPS = 1e-5;

/** Outputs that share a norm: their rows of the weight, and on which of them the activation acts. */
interface Section {
  readonly gate: Float32Array;
  readonly up?: Float32Array;
  readonly bias?: Float32Array;
  readonly gain: Float32Array;
  readonly shift: Float32Array;
  readonly from: number;
}

function sectionsOf({ epilogue, weight: { N, second }, K, format }: Sizes, seed: number): Section[] {
  const { gated, bias: biased, from } = EPILOGUES[epilogue]!;
  const matrix = (salt: number): Float32Array => numbers(N * K, seed + salt, 1 / Math.sqrt(K)).map((value) => rounded(value, format));
  const [gate, up, bias] = [matrix(1), gated && matrix(2), biased && numbers(N, seed + 3)];
  const cuts = second === undefined ? [[0, N]] as const : [[0, second], [second, N]] as const;
  return cuts.map(([first, end], i) => ({
    gate: gate.subarray(first * K, end * K), ...(up && { up: up.subarray(first * K, end * K) }),
    ...(bias && { bias: bias.subarray(first, end) }),
    gain: numbers(K, seed + 5 + i), shift: numbers(K, seed + 7 + i), from: Math.max(0, (from ?? second ?? 0) - first),
  }));
}

/**
 * f32 dot products of K terms: their error grows as sqrt(K) roundings (2⁻²⁴ each, four times that to be safe) of the sum of the terms. With
 * `half` each term is off by another 2⁻¹¹ at most, since its x was rounded to f16 (the weights are numbers of f16 before).
 */
export function dotError(terms: ArrayLike<number>, rows: number, K: number, weight: Float32Array, half = false): Float64Array {
  const magnitudes = twin.linear({ x: terms, rows, K, weight: weight.map(Math.abs) });
  return magnitudes.map((magnitude) => (4 * 2 ** -24 * Math.sqrt(K) + (half ? 2 ** -11 : 0)) * magnitude);
}

/** The terms of row x before they cancel: |x|, or normed (|x| + mean |x|) · |gain| / deviation + |shift|; how badly Σ x² − mean² cancels. */
function termsOf(x: Float32Array, { gain, shift }: Section, kind: Sizes["norm"]): { terms: Float32Array; condition: number } {
  if (kind === "none") return { terms: x.map(Math.abs), condition: 0 };
  const average = (of: (value: number) => number): number => x.reduce((total, value) => total + of(value), 0) / x.length;
  const square = average((value) => value * value);
  const mean = kind === "layer" ? average((value) => value) : 0;
  const variance = square - mean * mean + EPS;
  const taken = kind === "layer" ? average(Math.abs) : 0;
  const terms = x.map((value, k) =>
    ((Math.abs(value) + taken) * Math.abs(gain[k]!)) / Math.sqrt(variance) + (kind === "layer" ? Math.abs(shift[k]!) : 0));
  return { terms, condition: square / variance + 1 };
}

/** What `rows` rows of x must become, and by how much f32 may miss it. `before`: what y held. */
function expectation(
  x: Float32Array, rows: number, section: Section, { norm: kind, epilogue, K }: Sizes, before: Float32Array, half: boolean,
): { y: Float64Array; absolute: Float64Array } {
  const { gate, up, bias, gain, shift, from: activationFrom } = section;
  const { activation, residual } = EPILOGUES[epilogue]!;
  const N = gate.length / K;
  const input = kind === "none" ? x : normTwin({ kind, x, weight: gain, eps: EPS, ...(kind === "layer" && { bias: shift }) });
  const product = { x: input, rows, K };
  const sum = twin.linear({ ...product, weight: gate, ...(bias && { bias }) });
  const y = twin.linear({
    ...product, weight: gate, ...(up && { up }), ...(bias && { bias }), ...(activation && { activation, activationFrom }),
    ...(residual && { residual: before }),
  });
  const conditioned = Array.from({ length: rows }, (_, row) => termsOf(x.subarray(row * K, (row + 1) * K), section, kind));
  const terms = conditioned.flatMap((row) => [...row.terms]);
  const errorOf = (weight: Float32Array, values: Float64Array): Float64Array =>
    dotError(terms, rows, K, weight, half).map((error, i) => error + 2 ** -23 * conditioned[Math.floor(i / N)]!.condition * Math.abs(values[i]!));
  const error = errorOf(gate, sum);
  const other = up && twin.linear({ ...product, weight: up });
  const otherError = up && errorOf(up, other!);
  const absolute = y.map((value, i) => {
    // Activations are at most 1.13 steep; their own approximation (erf 1.5e-7, exp a few roundings) is relative to their argument.
    const own = 1.2 * error[i]! + 5e-7 * Math.abs(sum[i]!) + 2 ** -22 * (Math.abs(value) + (residual ? Math.abs(before[i]!) : 0));
    if (up === undefined) return own;
    // A product: each factor's error times the other factor.
    return own * (Math.abs(other![i]!) + otherError![i]!) + otherError![i]! * Math.abs(twin.silu(sum[i]!)) + 2 ** -22 * Math.abs(value);
  });
  return { y, absolute };
}

/** `count` columns from `first` of the first `rows` rows of an array of rows of `width`. */
function inside(array: Float32Array, rows: number, width: number, first: number, count: number): Float32Array {
  return Float32Array.from({ length: rows * count }, (_, i) => array[Math.floor(i / count) * width + first + (i % count)]!);
}

/** Throws where `linear`, made by `variant` or by what it chooses itself, misses the twin. */
export async function checkLinear(gpu: Gpu, sizes: Sizes, variant?: Variant): Promise<void> {
  const { epilogue, weight: { N, firstPart, second }, K, recording: { as, capacity, steps }, format, norm: kind, place } = sizes;
  const { activation, from, residual, gated, bias: biased } = EPILOGUES[epilogue]!;
  const seed = capacity * 131 + N * 17 + K;
  const sections = sectionsOf(sizes, seed);
  const joined = (of: (section: Section) => Numbers): Float32Array => Float32Array.from(sections.flatMap((section) => Array.from(of(section))));
  // LayerNorm is folded into the product: its gain into weightGain, its own bias into the product's.
  const weightGain = joined(({ gate, gain }) => twin.linear({ x: gain, rows: 1, K, weight: gate }));
  const shifted = joined(({ gate, shift, bias }) => twin.linear({ x: shift, rows: 1, K, weight: gate, ...(bias && { bias }) }));
  const bias = kind === "layer" ? shifted : biased && joined((section) => section.bias!);
  const weight = await weightOf(gpu, {
    gate: joined((section) => section.gate), up: gated && joined((section) => section.up!), columns: K, format, firstPart,
  });
  const X = K + place.wider;
  const widths = sections.map(({ gate }) => gate.length / K + place.wider);
  const all = numbers(capacity * X, seed);
  const before = widths.map((width, i) => numbers(capacity * width, seed + 9 + i));
  const x = await put(gpu, [capacity, X], all);
  const outputs = await Promise.all(before.map((values, i) => put(gpu, [capacity, widths[i]!], values, "f32", "y")));
  const vectors = {
    gain: await put(gpu, second === undefined ? [K] : [2, K], joined((section) => section.gain)),
    weightGain: await put(gpu, [N], weightGain), bias: await put(gpu, [N], bias || new Float32Array(N)),
  };
  const recorder = new Recorder(gpu);
  linear(recorder, {
    x, weight, y: outputs[0]!, bias: bias ? vectors.bias : undefined,
    norm: kind === "none" ? undefined : kind === "rms" ? { kind, gain: vectors.gain, eps: EPS } : { kind, gain: vectors.gain, weightGain: vectors.weightGain, eps: EPS },
    second: second === undefined ? undefined : { from: second, y: outputs[1]!, first: place.y },
  }, {
    rows: as, xFirst: place.x, yFirst: place.y, ...(variant && { variant }),
    ...(activation && { activation, activationFrom: from ?? second ?? 0 }), ...(residual && { residual }),
  });
  const recording = await recorder.finish("linear");
  for (const rows of steps) {
    // Rows past the step hold anything, and must disturb none of it.
    refill(gpu, x, all.slice().fill(NaN, rows * X));
    outputs.forEach((y, i) => refill(gpu, y, before[i]!));
    submit(gpu, recording, { rows, tiles: 0 });
    for (const [i, section] of sections.entries()) {
      const [width, count, got] = [widths[i]!, section.gate.length / K, await takeF32(gpu, outputs[i]!)];
      const was = inside(before[i]!, rows, width, place.y, count);
      const { y, absolute } = expectation(inside(all, rows, X, place.x, K), rows, section, sizes, was, variant?.kernel === "matmul_matrix");
      near(inside(got, rows, width, place.y, count), y, { absolute }, `linear in ${rows} rows, output ${i}`, count);
      const beside = (_: number, at: number): boolean => at < rows * width && (at % width < place.y || at % width >= place.y + count);
      near(got.filter(beside), before[i]!.filter(beside), {}, "columns of y beside the product");
    }
  }
  release(gpu, x, ...outputs, ...Object.values(vectors), ...weight.parts.map(({ tensor }) => tensor));
}
