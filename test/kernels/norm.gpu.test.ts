/** norm against its twin: RMS and layer, with and without bias, all rows and sampled ones, in both families. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { batchWords, layOutBatch, type Batch } from "../../kernels/batch.ts";
import { norm } from "../../kernels/norm.ts";
import * as twin from "../../kernels/reference/norm.ts";
import { dispatch, largest, near, numbers, openFamilies, put, release, takeF32 } from "../support/gpu.ts";
import { pairs } from "../support/pairs.ts";

const CASES = pairs({ C: [8, 80, 200], kind: ["rms", "layer"] as const, bias: [true, false], sampled: [true, false] });
const ROWS = 13;
const SAMPLES = [12, 0, 7, 7, 3];

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

async function sampledBatch(gpu: Gpu): Promise<Batch> {
  const rows = Array.from({ length: ROWS }, (_, row) => ({ id: row, position: row, sequence: 0, offset: row }));
  return { tensor: await put(gpu, [batchWords(16)], layOutBatch(16, rows, 1, SAMPLES).words, "u32"), rows: 16 };
}

async function check(gpu: Gpu, { C, kind, bias: biased, sampled }: (typeof CASES)[number], x: Float32Array, eps: number): Promise<void> {
  const [weight, bias, sources] = [numbers(C, 2), biased ? numbers(C, 3) : undefined, sampled ? SAMPLES : undefined];
  const batch = sampled ? await sampledBatch(gpu) : undefined;
  const untouched = numbers(C, 4);
  const outputs = sources?.length ?? ROWS;
  const tensors = {
    x: await put(gpu, [ROWS, C], x), weight: await put(gpu, [C], weight), ...(bias && { bias: await put(gpu, [C], bias) }),
    y: await put(gpu, [outputs + 1, C], [...new Float32Array(outputs * C), ...untouched], "f32", "y"),
  };
  await dispatch(gpu, (recorder) => norm(recorder, tensors, { kind, eps, ...(batch && { sampledOf: batch }) }), { rows: outputs });
  const y = await takeF32(gpu, tensors.y);
  const expected = twin.norm({ kind, x, weight, eps, ...(bias && { bias }), ...(sources && { sources }) });
  // A few f32 roundings of each value; and the mean, which is taken off, has a few of the row's greatest value.
  const meanError = (i: number): number => {
    const row = sources?.[Math.floor(i / C)] ?? Math.floor(i / C);
    const values = x.subarray(row * C, (row + 1) * C);
    const mean = values.reduce((sum, value) => sum + value, 0) / C;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    return (4 * 2 ** -24 * largest(values) * Math.abs(weight[i % C]!)) / Math.sqrt(variance + eps);
  };
  const absolute = expected.map((_, i) => 1e-6 * Math.abs(bias?.[i % C] ?? 0) + (kind === "layer" ? meanError(i) : 0));
  near(y.subarray(0, outputs * C), expected, { absolute, relative: 1e-6 }, "norm", C);
  near(y.subarray(outputs * C), untouched, {}, "the row past the step");
  release(gpu, ...Object.values(tensors), ...(batch ? [batch.tensor] : []));
}

for (const gpu of gpus) {
  for (const sizes of CASES) {
    const { C, kind, bias, sampled } = sizes;
    test(`norm, ${gpu.family}: ${kind}, C ${C}${bias ? ", bias" : ""}${sampled ? ", sampled rows" : ""}`, () =>
      check(gpu, sizes, numbers(ROWS * C, C), 1e-5));
  }

  test(`norm, ${gpu.family}: a row of zeros stays finite, eps counts, a mean far above the spread is taken off first`, async () => {
    const C = 80;
    const x = numbers(ROWS * C, 1).fill(0, 0, C).map((value, i) => (i < 2 * C ? value : i < 4 * C ? value * 1e-3 : value));
    await check(gpu, { C, kind: "rms", bias: false, sampled: false }, x, 1e-5);
    // A spread of 1 about 100: the variance must be about the mean; E[x²] − E[x]² would lose four digits.
    const shifted = Float32Array.from({ length: ROWS * C }, (_, i) => 100 + ((i * 7919) % 97) / 48);
    await check(gpu, { C, kind: "layer", bias: true, sampled: false }, shifted, 1e-5);
  });
}

test("norm: mistakes stop at the launch with the letter and both values", async () => {
  const [gpu] = gpus as [Gpu];
  const [x, y] = [await put(gpu, [4, 16], null), await put(gpu, [4, 16], null)];
  const launch = (weight: Tensor) => (): void => norm(new Recorder(gpu), { x, y, weight }, { kind: "rms", eps: 1e-5 });
  assert.throws(launch(x), /norm: weight must have shape \[C\], but has \[4, 16\]/);
  assert.throws(launch(await put(gpu, [12], null)), /norm: C is 16 in x, but 12 in weight/);
});

test.run();
