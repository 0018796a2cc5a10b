/**
 * LLM.int8() against its twin in both families: rows to codes (every norm, sections, outliers none to all, rows of zeros, NaN), products
 * over all pairs of sizes and epilogues, and whole-number sums at their extremes, which must be right to the last digit.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Recorder } from "../../engine/recorder.ts";
import { linearInt8, MOST_COLUMNS, outlierCountsShape, quantizeRows, readOutlierCounts, type RowsNorm } from "../../kernels/int8.ts";
import { quantizeRow, type QuantizedRow } from "../../kernels/reference/int8.ts";
import { norm as normTwin } from "../../kernels/reference/norm.ts";
import { dispatch, near, numbers, openFamilies, put, refill, release, takeF32, takeU32 } from "../support/gpu.ts";
import { pairs } from "../support/pairs.ts";
import {
  checkInt8, codesOf, INT8_EPILOGUES, nameOf, possible, rowsOf, scratchOf, takeRows, THRESHOLD, weightInt8, type Int8Sizes,
} from "./int8_case.ts";

const RECORDINGS: readonly Int8Sizes["recording"][] = [
  { as: "many", capacity: 72, steps: [65, 17, 8, 1] }, { as: "several", capacity: 8, steps: [5, 8] },
  { as: "few", capacity: 8, steps: [2, 4] }, { as: "one", capacity: 1, steps: [1] },
];
const CASES = pairs({
  inputs: [{ K: 1024 }, { K: 96 }, { K: 480, section: 104 }, { K: 8 }, { K: 192, section: 64 }, { K: 56 }] as readonly Int8Sizes["inputs"][],
  weight: [{ N: 130, second: 64 }, { N: 130 }, { N: 63 }, { N: 1 }] as readonly Int8Sizes["weight"][],
  epilogue: Object.keys(INT8_EPILOGUES), recording: RECORDINGS, outliers: ["off", "some", "many", "a whole row"] as const,
  place: [{ x: 0, y: 0, wider: 0 }, { x: 8, y: 5, wider: 16 }] as const,
}).filter(possible);

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

/** Codes may differ by one where 127 · x / m is next to a tie: by `slack` of a code, which rounding of x and m before may shift it. */
function sameRow(got: QuantizedRow, expected: QuantizedRow, values: ArrayLike<number>, section: number, slack: number, what: string): void {
  near(got.magnitudes, expected.magnitudes, { relative: slack / 127 }, `${what}: magnitudes`);
  assert.equal(got.outliers.map(({ column }) => column), expected.outliers.map(({ column }) => column), `${what}: columns of outliers`);
  near(got.outliers.map(({ value }) => value), expected.outliers.map(({ value }) => value), { relative: slack / 127, absolute: slack / 127 }, `${what}: outliers`);
  for (const [k, code] of expected.codes.entries()) {
    const exact = (127 * values[k]!) / expected.magnitudes[k < section ? 0 : 1]!;
    const tied = Math.abs(Math.abs(exact - Math.trunc(exact)) - 0.5) <= slack;
    if (got.codes[k] === code || (tied && Math.abs(got.codes[k]! - code) === 1)) continue;
    throw new Error(`${what}: code of ${values[k]} at ${k} is ${got.codes[k]}, reference ${code} (${exact})`);
  }
}

for (const gpu of gpus) {
  // Division and square root may be off by a few units; nothing else can be without a norm.
  const exactly = gpu.adapter.software ? 0 : 1e-4;
  const NORMS = ["none", "rms", "layer", "layer, two versions"] as const;
  const ROWS = pairs({
    norm: NORMS, inputs: [{ K: 1024 }, { K: 104, section: 40 }, { K: 8 }, { K: 480, section: 96 }] as readonly Int8Sizes["inputs"][],
    outliers: ["some", "off", "many", "a whole row"] as const,
  });
  for (const { norm: kind, inputs: { K, section }, outliers } of ROWS) {
    test(`quantizeRows, ${gpu.family}: norm ${kind}, K ${K}, sections from ${section ?? "none"}, outliers ${outliers}`, async () => {
      const [capacity, rows, versions, threshold] = [5, 4, kind === "layer, two versions" ? 2 : 1, outliers === "off" ? 0 : THRESHOLD] as const;
      const X = K + 12, x = rowsOf(capacity, X, outliers, K);
      const gain = numbers(versions * K, K + 1, kind === "none" ? 1 : 3), shift = numbers(versions * K, K + 2);
      const shape = versions === 2 ? [2, K] : [K];
      const tensors = {
        x: await put(gpu, [capacity, X], x), gain: await put(gpu, shape, gain), bias: await put(gpu, shape, shift),
        counts: await put(gpu, outlierCountsShape(K), new Uint32Array(outlierCountsShape(K)[0]!), "u32"),
      };
      const scratch = await scratchOf(gpu, capacity, K, versions);
      const layer: RowsNorm = { kind: "layer", gain: tensors.gain, bias: tensors.bias, eps: 1e-5 };
      const norm: RowsNorm | undefined = kind === "none" ? undefined : kind === "rms" ? { kind, gain: tensors.gain, eps: 1e-5 } : layer;
      await dispatch(gpu, (recorder) => {
        quantizeRows(recorder, { x: tensors.x, scratch, norm, counts: tensors.counts }, { columns: K, section, threshold, xFirst: 4 });
      }, { rows });
      const got = await takeRows(gpu, scratch, rows, K, versions, section);
      let kept = 0;
      const columns = new Set<number>();
      got.forEach((row, i) => {
        const source = x.subarray((i % rows) * X + 4, (i % rows) * X + 4 + K), version = Math.floor(i / rows);
        const [own, bias] = [gain, shift].map((vector) => vector.subarray(version * K, (version + 1) * K));
        const values = kind === "none" ? Float64Array.from(source)
          : normTwin({ kind: kind === "rms" ? "rms" : "layer", x: source, weight: own!, eps: 1e-5, ...(kind !== "rms" && { bias: bias! }) });
        const expected = quantizeRow(values, { threshold, section });
        sameRow(row, expected, values, section ?? K, kind === "none" ? exactly : 2e-3, `row ${i % rows}, version ${version}`);
        kept += expected.outliers.length;
        expected.outliers.forEach(({ column }) => columns.add(column));
        if (i % rows === 2 && kind === "none") assert.ok(row.codes.every((code) => code === 0), "a row of zeros has codes of zero");
      });
      assert.equal(readOutlierCounts(await takeU32(gpu, tensors.counts)), { elements: kept, columns: [...columns].sort((a, b) => a - b) });
      if (outliers === "many") assert.ok(kept > 0, "some elements are outliers");
      release(gpu, ...Object.values(tensors), ...Object.values(scratch));
    });
  }

  for (const sizes of CASES) test(`linearInt8, ${gpu.family}: ${nameOf(sizes)}`, () => checkInt8(gpu, sizes));

  test(`linearInt8, ${gpu.family}: whole-number sums to the last digit, at the extremes and in the longest row`, async () => {
    // With this scale one product of codes is exactly 1, and sums below 2²⁴ are what they are.
    const scale = [16128, 16129, 16130].find((value) => Math.fround(value * Math.fround(1 / 16129)) === 1)!;
    const one = new Uint32Array(Float32Array.of(1).buffer)[0]!;
    for (const [K, as, rows] of [[1024, "one", 1], [1024, "few", 4], [1024, "several", 8], [1024, "many", 8], [MOST_COLUMNS, "one", 1]] as const) {
      const N = 9, scratch = await scratchOf(gpu, 8, K), x = await put(gpu, [8, K], new Float32Array(8 * K)), y = await put(gpu, [8, N], null);
      const inputs = codesOf(rows * K, K), codes = codesOf(N * K, K + 1);
      // All the same sign and full: K · 127², where f32 sums it or i32 does. In the longest row it comes back to a sum that f32 can hold.
      inputs.fill(127, 0, K);
      for (const [n, sign] of [[0, 1], [1, -1]] as const) codes.fill(sign * 127, n * K, (n + 1) * K);
      if (K > 1024) for (let n = 0; n < N; n++) codes.fill(-127, n * K + K / 2, (n + 1) * K).fill(127, n * K + n, n * K + K / 2);
      const weight = await weightInt8(gpu, codes, new Float32Array(N).fill(scale), K);
      const recorder = new Recorder(gpu);
      const handle = quantizeRows(recorder, { x, scratch }, { columns: K, threshold: 0 }); // not run: codes are written here
      const words = new Int8Array(8 * K);
      words.set(inputs);
      refill(gpu, scratch.codes, new Uint32Array(words.buffer));
      refill(gpu, scratch.magnitudes, Uint32Array.from({ length: 32 }, (_, i) => (i % 4 === 0 ? one : 0)));
      await dispatch(gpu, (own) => linearInt8(own, { x: handle, weight, y }, { rows: as }), { rows });
      const got = await takeF32(gpu, y);
      for (let m = 0; m < rows; m++) {
        for (let n = 0; n < N; n++) {
          let sum = 0;
          for (let k = 0; k < K; k++) sum += inputs[m * K + k]! * codes[n * K + k]!;
          assert.ok(Math.abs(sum) < 2 ** 24, "the test's own sums are numbers of f32");
          assert.is(got[m * N + n], sum, `${as}: row ${m}, output ${n} of K ${K}`);
        }
      }
      release(gpu, x, y, ...Object.values(scratch), weight.parts[0]!.tensor, weight.parts[0]!.scales!);
    }
  });

  test(`int8, ${gpu.family}: NaN and infinity come through, with a threshold and without`, async () => {
    const [K, N] = [96, 4];
    for (const threshold of [0, THRESHOLD]) {
      for (const bad of [NaN, Infinity]) {
        const values = numbers(2 * K, 5, 0.5);
        values[K + 33] = bad;
        const x = await put(gpu, [8, K], [...values, ...new Float32Array(6 * K)]), y = await put(gpu, [8, N], null), scratch = await scratchOf(gpu, 8, K);
        const weight = await weightInt8(gpu, codesOf(N * K, 6), new Float32Array(N).fill(1), K);
        await dispatch(gpu, (recorder) => linearInt8(recorder, { x: quantizeRows(recorder, { x, scratch }, { columns: K, threshold }), weight, y }, { rows: "few" }), { rows: 2 });
        const got = await takeF32(gpu, y);
        assert.ok(got.subarray(0, N).every(Number.isFinite), "the row beside it is untouched");
        assert.ok(got.subarray(N, 2 * N).every((value) => !Number.isFinite(value)), `${bad} at threshold ${threshold} gave ${got.subarray(N, 2 * N).join(", ")}`);
        release(gpu, x, y, ...Object.values(scratch), weight.parts[0]!.tensor, weight.parts[0]!.scales!);
      }
    }
  });
}

test("int8: what does not fit is refused by name", async () => {
  const [gpu] = gpus as [(typeof gpus)[number]];
  const [K, N] = [96, 64], recorder = new Recorder(gpu), scratch = await scratchOf(gpu, 8, K);
  const x = await put(gpu, [8, K], null), y = await put(gpu, [8, N], null), weight = await weightInt8(gpu, codesOf(N * K, 1), new Float32Array(N), K);
  const plain = { columns: K, threshold: 0 }, handle = quantizeRows(recorder, { x, scratch }, plain);
  const refusals: readonly [() => unknown, RegExp][] = [
    [() => quantizeRows(recorder, { x, scratch }, { ...plain, columns: 92 }), /multiples of 8/],
    [() => quantizeRows(recorder, { x, scratch }, { ...plain, section: 96 }), /cannot begin at column 96/],
    [() => quantizeRows(recorder, { x, scratch }, { ...plain, threshold: -1 }), /threshold of -1/],
    [() => quantizeRows(recorder, { x, scratch: { ...scratch, outliers: undefined } }, { ...plain, threshold: 6 }), /room for outliers/],
    [() => quantizeRows(recorder, { x, scratch: { ...scratch, codes: { ...scratch.codes, shape: [4, K / 4] } } }, plain), /there is room for/],
    [() => linearInt8(recorder, { x: { ...handle, columns: 88 }, weight, y }, { rows: "few" }), /takes 8 rows of 96 inputs/],
    [() => linearInt8(recorder, { x: handle, weight: { ...weight, quantized: undefined }, y }, { rows: "few" }), /not held in llm.int8/],
    [() => linearInt8(recorder, { x: handle, weight, y, second: { from: 32, y, first: 0 } }, { rows: "few" }), /split at output 32/],
    [() => linearInt8(recorder, { x: { ...handle, versions: 2 }, weight, y }, { rows: "few" }), /split at output none/],
    [() => linearInt8(recorder, { x: handle, weight, y }, { rows: "few", yFirst: 1 }), /y has 64 columns from 1/],
  ];
  for (const [run, message] of refusals) assert.throws(run, message);
  const long = MOST_COLUMNS + 8;
  assert.throws(() => linearInt8(recorder, {
    x: { ...handle, columns: long }, weight: { ...weight, columns: long, parts: [{ ...weight.parts[0]!, tensor: { ...weight.parts[0]!.tensor, shape: [N, long / 4] } }] }, y,
  }, { rows: "few" }), /may pass 2³¹/);
});

test.run();
