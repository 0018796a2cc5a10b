/**
 * linear against its twin: both families, every weight format, sizes that fill no tile, weights in parts, a norm of the input, two
 * products in one, and everything that can become of a dot product. Cases cover all pairs of these.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder, submit } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { foldLayerNorms, linear, type Activation } from "../../kernels/linear.ts";
import * as twin from "../../kernels/reference/linear.ts";
import { norm as normTwin } from "../../kernels/reference/norm.ts";
import { dispatch, FORMATS, near, numbers, openFamilies, put, refill, release, rounded, takeF32, type Numbers } from "../support/gpu.ts";
import { pairs } from "../support/pairs.ts";
import { weightOf } from "../support/weights.ts";

interface Epilogue {
  readonly gated?: true;
  readonly bias?: true;
  readonly activation?: Activation;
  /** First output that the activation acts on. */
  readonly from?: number;
  readonly residual?: true;
}
const EPILOGUES: Readonly<Record<string, Epilogue>> = {
  plain: {}, "bias, gelu": { bias: true, activation: "gelu" }, "bias, residual": { bias: true, residual: true }, gated: { gated: true },
  "gelu_tanh from 10, residual": { activation: "gelu_tanh", from: 10, residual: true },
};
/** What a recording is made for, the room its buffers have, and the steps it then serves: recordings are compiled, steps are not. */
const RECORDINGS = [
  { as: "many", capacity: 72, steps: [65, 33, 17, 9, 8, 5, 1] }, { as: "many", capacity: 8, steps: [6, 7, 8] },
  { as: "few", capacity: 8, steps: [2, 3, 4] }, { as: "one", capacity: 1, steps: [1] },
] as const;
/** Rows of x and y may be wider than the product: its columns then begin at x and y. */
const PLACES = [{ x: 0, y: 0, wider: 0 }, { x: 8, y: 5, wider: 16 }] as const;
/** Outputs; rows of the weight's first part; and from which output on they go elsewhere and are normalised by another gain. */
interface WeightPlan { readonly N: number; readonly firstPart?: number; readonly second?: number }
const WEIGHTS: readonly WeightPlan[] = [
  { N: 130, firstPart: 64 }, { N: 130, firstPart: 128, second: 64 }, { N: 130, second: 64 }, { N: 64 }, { N: 17 }, { N: 3 }, { N: 1 },
];
const CASES = pairs({
  weight: WEIGHTS, epilogue: Object.keys(EPILOGUES), K: [264, 72, 24, 8], recording: RECORDINGS, format: FORMATS,
  norm: ["none", "rms", "layer"] as const, place: PLACES,
}).filter(({ epilogue, norm, weight: { second } }) => {
  const { gated, residual } = EPILOGUES[epilogue]!;
  // A gated product has no bias to fold LayerNorm into; and products in two are neither gated nor added to what is there.
  return !(gated && norm === "layer") && !(second !== undefined && (gated || residual));
});
type Sizes = (typeof CASES)[number];
const EPS = 1e-5;

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

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

/** f32 dot products of K terms: their error grows as sqrt(K) roundings (2⁻²⁴ each, four times that to be safe) of the sum of the terms. */
function dotError(terms: ArrayLike<number>, rows: number, K: number, weight: Float32Array): Float64Array {
  const magnitudes = twin.linear({ x: terms, rows, K, weight: weight.map(Math.abs) });
  return magnitudes.map((magnitude) => 4 * 2 ** -24 * Math.sqrt(K) * magnitude);
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
  x: Float32Array, rows: number, section: Section, { norm: kind, epilogue, K }: Sizes, before: Float32Array,
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
    dotError(terms, rows, K, weight).map((error, i) => error + 2 ** -23 * conditioned[Math.floor(i / N)]!.condition * Math.abs(values[i]!));
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

async function checkLinear(gpu: Gpu, sizes: Sizes): Promise<void> {
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
    norm: kind === "none" ? undefined : { kind, gain: vectors.gain, weightGain: vectors.weightGain, eps: EPS },
    second: second === undefined ? undefined : { from: second, y: outputs[1]!, first: place.y },
  }, {
    rows: as, xFirst: place.x, yFirst: place.y,
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
      const { y, absolute } = expectation(inside(all, rows, X, place.x, K), rows, section, sizes, was);
      near(inside(got, rows, width, place.y, count), y, { absolute }, `linear in ${rows} rows, output ${i}`, count);
      const beside = (_: number, at: number): boolean => at < rows * width && (at % width < place.y || at % width >= place.y + count);
      near(got.filter(beside), before[i]!.filter(beside), {}, "columns of y beside the product");
    }
  }
  release(gpu, x, ...outputs, ...Object.values(vectors), ...weight.parts.map(({ tensor }) => tensor));
}

for (const gpu of gpus) {
  for (const sizes of CASES) {
    const { epilogue, weight: { N, firstPart, second }, K, recording: { as, capacity }, format, norm, place } = sizes;
    const options = [
      epilogue, norm === "none" ? [] : `${norm} norm`, firstPart ? `in parts from ${firstPart}` : [],
      second ? `two products from ${second}` : [], place.wider > 0 ? "in wider rows" : [],
    ].flat().join(", ");
    test(`linear, ${gpu.family}: ${as} of ${capacity} rows, N ${N}, K ${K}, ${format}, ${options}`, () => checkLinear(gpu, sizes));
  }

  test(`linear, ${gpu.family}: activations alone, from −12 to 12`, async () => {
    // Weight n of the first input is the n-th argument, and x is (1, 0, …): the product is exact.
    const [N, K] = [193, 8];
    const args = Float32Array.from({ length: N }, (_, n) => (n - 96) / 8);
    const column = (value: (n: number) => number): Float32Array => new Float32Array(N * K).map((_, i) => (i % K === 0 ? value(i / K) : 0));
    const x = await put(gpu, [1, K], [1, ...new Float32Array(K - 1)]);
    for (const activation of ["gelu", "gelu_tanh", "silu"] as const) {
      const up = activation === "silu" ? column(() => 1) : undefined;
      const weight = await weightOf(gpu, { gate: column((n) => args[n]!), up, columns: K, format: "f32" });
      const y = await put(gpu, [1, N], null, "f32", "y");
      await dispatch(gpu, (recorder) => linear(recorder, { x, weight, y }, { rows: "one", ...(activation !== "silu" && { activation }) }));
      const expected = args.map(activation === "silu" ? twin.silu : twin.activations[activation]);
      // erf to 1.5e-7 and a rounding, halved and times x; exp to a few roundings of its argument, which matter where it is not small.
      near(await takeF32(gpu, y), expected, { absolute: args.map((arg) => 1.5e-7 * Math.abs(arg)), relative: 5e-7 }, activation);
    }
  });
}

test("foldLayerNorms: W·gain and W·shift + b for each section, over the parts of the weight, with a bias and without", async () => {
  const [gpu] = gpus as [Gpu];
  const [K, N, cut] = [72, 194, 64];
  const gate = numbers(N * K, 1, 0.1);
  const plans = [
    { first: 0, rows: cut, gain: numbers(K, 3), shift: numbers(K, 4), bias: numbers(cut, 2) },
    { first: cut, rows: N - cut, gain: numbers(K, 5), shift: numbers(K, 6), bias: undefined },
  ];
  const weight = await weightOf(gpu, { gate, columns: K, format: "f32", firstPart: 128 });
  const gains = await put(gpu, [2, K], plans.flatMap(({ gain }) => [...gain]));
  const sections = await Promise.all(plans.map(async ({ rows, gain, shift, bias }) => ({
    rows, gain: await put(gpu, [K], gain), normBias: await put(gpu, [K], shift), bias: bias && await put(gpu, [rows], bias),
  })));
  const folded = await foldLayerNorms(gpu, weight, gains, EPS, sections);
  if (folded.norm.kind !== "layer") throw new Error("a folded norm is a LayerNorm");
  assert.is(folded.norm.gain, gains);
  const [weightGain, folds] = [await gpu.readF32(folded.norm.weightGain), await gpu.readF32(folded.bias)];
  for (const { first, rows, gain, shift, bias } of plans) {
    const rowsOf = gate.subarray(first * K, (first + rows) * K);
    const check = (got: Float32Array, x: Float32Array, own: Float32Array | undefined, what: string): void => {
      const expected = twin.linear({ x, rows: 1, K, weight: rowsOf, ...(own && { bias: own }) });
      near(got.subarray(first, first + rows), expected, { absolute: dotError(x.map(Math.abs), 1, K, rowsOf), relative: 1e-6 }, what);
    };
    check(weightGain, gain, undefined, "W·gain");
    check(folds, shift, bias, "W·shift + b");
  }
});

test("linear: mistakes stop at the launch with the letter and both values", async () => {
  const [gpu] = gpus as [Gpu];
  const weight = await weightOf(gpu, { gate: numbers(16 * 24, 1), columns: 24, format: "f32" });
  const tensor = (...shape: number[]): Promise<Tensor> => put(gpu, shape, null);
  const right = { x: await tensor(8, 24), y: await tensor(8, 16), weight };
  const fails = (wrong: { x?: Tensor; y?: Tensor; bias?: Tensor }, message: RegExp): void =>
    assert.throws(() => linear(new Recorder(gpu), { ...right, ...wrong }, { rows: "few" }), message);
  fails({ x: await tensor(8, 16) }, /linear: weight maps 24 to 16, but x has 16 columns from 0 and y 16 from 0/);
  fails({ y: await tensor(8, 15) }, /linear: weight maps 24 to 16, but x has 24 columns from 0 and y 15 from 0/);
  fails({ x: await tensor(16, 24) }, /linear: M is 16 in x, but 8 in y/);
  fails({ x: await tensor(7, 24), y: await tensor(7, 16) }, /multiples of 8 rows and columns, but is \[7, 24\]/);
  fails({ bias: await tensor(15) }, /bias must have 16 at axis 0, but has 15/);
});

test.run();
