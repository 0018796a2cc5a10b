/** randomNormal against its twin, and its numbers against the normal distribution. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { randomNormal } from "../../kernels/random.ts";
import * as twin from "../../kernels/reference/random.ts";
import { decoded, dispatch, FORMATS, near, openFamilies, put, release, take, type FloatFormat } from "../support/gpu.ts";
import type { Gpu } from "../../engine/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

async function fill(gpu: Gpu, count: number, format: FloatFormat, seed: number, scale: number): Promise<Float64Array> {
  const weight = await put(gpu, [count], null, format, "weight", "weights");
  await dispatch(gpu, (recorder) => randomNormal(recorder, weight, { seed, scale }));
  const values = decoded(await take(gpu, weight), format);
  release(gpu, weight);
  return values;
}

for (const gpu of gpus) {
  for (const format of FORMATS) {
    test(`randomNormal, ${gpu.family}: ${format}, the twin's numbers to the end of the weight and no further`, async () => {
      const [count, seed, scale] = [1000 - 2, 7, 0.02];
      const words = Array.from({ length: format === "f32" ? count : count / 2 }, (_, index) => twin.normals(index, seed, scale));
      const expected = format === "f32" ? words.map(([first]) => first) : words.flat();
      // Angles and logarithms in f32 to 1e-5 of the scale; 16 bits round, or in bf16 cut, to one step.
      const relative = { f32: 1e-5, f16: 2 ** -10, bf16: 2 ** -7 }[format];
      near(await fill(gpu, count, format, seed, scale), expected, { absolute: 1e-5 * scale, relative }, "normals");
    });
  }

  test(`randomNormal, ${gpu.family}: mean, variance, tails and independence of a normal distribution; seeds differ`, async () => {
    const n = 200_000;
    const values = await fill(gpu, n, "f32", 1, 1);
    const mean = (of: (value: number, i: number) => number): number => values.reduce((sum, value, i) => sum + of(value, i), 0) / n;
    // Five standard errors each: of the mean 1/√n, of the variance √(2/n), of the fourth moment √(96/n), of a correlation 1/√n.
    const bound = 5 / Math.sqrt(n);
    assert.ok(Math.abs(mean((v) => v)) < bound);
    assert.ok(Math.abs(mean((v) => v * v) - 1) < bound * Math.SQRT2);
    assert.ok(Math.abs(mean((v) => v ** 4) - 3) < bound * Math.sqrt(96));
    assert.ok(Math.abs(mean((v, i) => v * (values[i + 1] ?? 0))) < bound);
    const other = await fill(gpu, n, "f32", 2, 1);
    assert.ok(Math.abs(mean((v, i) => v * other[i]!)) < bound);
    assert.ok(values.every(Number.isFinite));
  });
}

test.run();
