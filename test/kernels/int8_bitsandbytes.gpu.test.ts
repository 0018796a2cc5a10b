/**
 * LLM.int8() against bitsandbytes itself, one row at a time (test/fixtures/int8): the twin's and the kernel's codes and magnitudes are
 * the same, sums are the same whole numbers, and outputs differ by what f16 and bitsandbytes' own constant leave.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { readFileSync } from "node:fs";
import { linearInt8, quantizeRows } from "../../kernels/int8.ts";
import { dotCodes, linearInt8 as linearTwin, productInt8, quantizeRow } from "../../kernels/reference/int8.ts";
import { dispatch, near, openFamilies, put, release, takeF32 } from "../support/gpu.ts";
import { scratchOf, takeRows, weightInt8 } from "./int8_case.ts";

interface Golden {
  readonly name: string;
  readonly threshold: number;
  readonly K: number;
  readonly N: number;
  readonly x: readonly number[];
  readonly weightCodes: readonly number[];
  readonly scales: readonly number[];
  readonly codes: readonly number[];
  readonly magnitude: number;
  readonly outliers: readonly number[];
  readonly sums: readonly number[];
  readonly y: readonly number[];
}
const GOLDENS = JSON.parse(readFileSync(new URL("../fixtures/int8/goldens.json", import.meta.url), "utf8")) as readonly Golden[];

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

for (const golden of GOLDENS) {
  const { name, threshold, K, N, x, scales, magnitude } = golden;
  const weightCodes = Int8Array.from(golden.weightCodes);
  const row = quantizeRow(x, { threshold });
  // f16 outputs and f16 weights of outlier columns, each off by 2⁻¹¹, and 6.200124e-5 for 1 / 127², off by 1.8e-5.
  const allowed = Array.from({ length: N }, (_, n) => {
    const { value, terms } = productInt8(row, weightCodes, n, scales);
    return 2 ** -10 * (terms + Math.abs(value)) + 2 ** -24;
  });

  test(`the twin does as bitsandbytes: ${name}`, () => {
    assert.equal([...row.codes], golden.codes);
    assert.is(row.magnitudes[0], Math.max(magnitude, 2 ** -100)); // of zeros ours is the least that 127 can be divided by
    assert.equal(row.outliers.map(({ column }) => column), golden.outliers);
    assert.equal(Array.from({ length: N }, (_, n) => dotCodes(row.codes, 0, weightCodes, n * K, 0, K)), golden.sums);
    near(linearTwin({ rows: [row], codes: weightCodes, scales }).y, golden.y, { absolute: allowed }, name);
  });

  for (const gpu of gpus) {
    test(`the kernels do as bitsandbytes, ${gpu.family}: ${name}`, async () => {
      const source = await put(gpu, [1, K], x), y = await put(gpu, [1, N], null), scratch = await scratchOf(gpu, 1, K);
      const weight = await weightInt8(gpu, weightCodes, Float32Array.from(scales), K);
      await dispatch(gpu, (recorder) => {
        const room = threshold > 0 ? scratch : { ...scratch, outliers: undefined };
        linearInt8(recorder, { x: quantizeRows(recorder, { x: source, scratch: room }, { columns: K, threshold }), weight, y }, { rows: "one" });
      });
      const [got] = await takeRows(gpu, scratch, 1, K, 1, undefined);
      // Division may be off by some units, which only matters at a tie; software adapters divide exactly.
      if (gpu.adapter.software) assert.equal([...got!.codes], golden.codes);
      near([...got!.codes], golden.codes, { absolute: 1 }, "codes");
      near(got!.magnitudes, [Math.max(magnitude, 2 ** -100)], {}, "magnitude");
      assert.equal(got!.outliers.map(({ column, value }) => [column, value]), golden.outliers.map((column) => [column, x[column]]));
      near(await takeF32(gpu, y), golden.y, { absolute: allowed }, name);
      release(gpu, source, y, ...Object.values(scratch), weight.parts[0]!.tensor, weight.parts[0]!.scales!);
    });
  }
}

test.run();
