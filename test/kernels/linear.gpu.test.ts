/**
 * linear against its twin: both families, every weight format, sizes that fill no tile, weights in parts, a norm of the input, two
 * products in one, and everything that can become of a dot product. Cases cover all pairs of these.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { foldLayerNorms, linear, rowsClass } from "../../kernels/linear.ts";
import * as twin from "../../kernels/reference/linear.ts";
import { dispatch, FORMATS, near, numbers, openFamilies, put, takeF32 } from "../support/gpu.ts";
import { pairs } from "../support/pairs.ts";
import { weightOf } from "../support/weights.ts";
import { checkLinear, dotError, EPILOGUES, EPS, nameOf, possible, type WeightPlan } from "./linear_case.ts";

const RECORDINGS = [
  { as: "many", capacity: 72, steps: [65, 33, 17, 9, 8, 5, 1] }, { as: "several", capacity: 8, steps: [5, 6, 7, 8] },
  { as: "few", capacity: 8, steps: [2, 3, 4] }, { as: "one", capacity: 1, steps: [1] },
] as const;
const PLACES = [{ x: 0, y: 0, wider: 0 }, { x: 8, y: 5, wider: 16 }] as const;
const WEIGHTS: readonly WeightPlan[] = [
  { N: 130, firstPart: 64 }, { N: 130, firstPart: 128, second: 64 }, { N: 130, second: 64 }, { N: 64 }, { N: 17 }, { N: 3 }, { N: 1 },
];
const CASES = pairs({
  weight: WEIGHTS, epilogue: Object.keys(EPILOGUES), K: [264, 72, 24, 8], recording: RECORDINGS, format: FORMATS,
  norm: ["none", "rms", "layer"] as const, place: PLACES,
}).filter(possible);

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

for (const gpu of gpus) {
  for (const sizes of CASES) {
    test(`linear, ${gpu.family}: ${nameOf(sizes)}`, () => checkLinear(gpu, sizes));
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
  const folded = await foldLayerNorms(gpu, weight, { gain: gains, bias: gains, eps: EPS }, sections);
  if (folded.norm.kind !== "layer" || !("weightGain" in folded.norm)) throw new Error("a folded norm is a LayerNorm");
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

test("rowsClass: one, up to four, up to eight, more", () => {
  assert.equal([1, 2, 4, 5, 8, 9, 512].map(rowsClass), ["one", "few", "few", "several", "several", "many", "many"]);
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
