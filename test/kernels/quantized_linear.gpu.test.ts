/**
 * Products with weights in codes against products with the numbers that the codes stand for: every format, every kernel that reads them,
 * matrices stacked, side by side and gated, rows that units and blocks do not divide.
 */

import { test } from "uvu";
import type { Gpu } from "../../engine/gpu.ts";
import { linear, type RowsClass } from "../../kernels/linear.ts";
import type { Variant } from "../../kernels/linear_variants.ts";
import * as twin from "../../kernels/reference/linear.ts";
import type { Section } from "../../kernels/weights.ts";
import { dispatch, near, numbers, openFamilies, put, release, takeF32 } from "../support/gpu.ts";
import { quantizedWeight, type QuantizedPlan } from "../support/quantized_weight.ts";
import { dotError } from "./linear_case.ts";

const gpus = await openFamilies();
const [software, gpu] = gpus as [Gpu, Gpu];
test.after(() => gpus.forEach((one) => one.close()));

const stacked = (columns: number, ...rows: readonly number[]): Section[] => {
  let next = 0;
  return rows.map((count) => ({ firstRow: (next += count) - count, rows: count, firstColumn: 0, columns }));
};
const beside = (rows: number, first: number, second: number): Section[] => [
  { firstRow: 0, rows, firstColumn: 0, columns: first }, { firstRow: 0, rows, firstColumn: first, columns: second },
];

/** Where each way to address codes and scales shows. A block of 64 ends inside rows of 96, and 7 rows of 72 are no whole number of blocks. */
const WEIGHTS: Readonly<Record<string, QuantizedPlan>> = {
  "int8": { format: "int8", blockSize: 64, sections: stacked(96, 40) },
  "int8, rows of no whole unit, side by side": { format: "int8", blockSize: 64, sections: beside(24, 40, 72) },
  "nf4, three stacked": { format: "nf4", blockSize: 64, sections: stacked(96, 32, 16, 22) },
  "nf4, rows of no whole unit, ragged": { format: "nf4", blockSize: 64, sections: stacked(72, 7, 9) },
  "fp4, side by side": { format: "fp4", blockSize: 64, sections: beside(40, 96, 160) },
  "nf4-double, three stacked": { format: "nf4-double", blockSize: 64, nestedBlockSize: 16, sections: stacked(96, 37, 11, 22) },
  "fp4-double, blocks of 128": { format: "fp4-double", blockSize: 128, sections: stacked(256, 40) },
  "nf4, gated": { format: "nf4", blockSize: 64, gated: true, sections: stacked(128, 20, 20) },
  "int4": { format: "int4", blockSize: 64, sections: stacked(192, 24, 16) },
};
const VARIANTS: Readonly<Record<string, readonly (readonly [Gpu, RowsClass, number, Variant?])[]>> = {
  one: [[software, "one", 1], [gpu, "one", 1, { kernel: "matvec", rows: 2, workgroup: 64, unroll: 2, splitK: 2, batch: 1 }]],
  few: [[software, "few", 3], [gpu, "few", 3, { kernel: "matvec", rows: 2, workgroup: 32, unroll: 1, splitK: 1, batch: 4 }]],
  many: [[software, "many", 11], [gpu, "many", 11, { kernel: "matmul_tiled", m: 64, n: 64, depth: 16, thread: 4, buffers: 1 }]],
};

/** Of one row all; of more, which read the same units in the same way, one of each kind of code. */
const SEVERAL = ["int8", "nf4-double, three stacked", "nf4, gated", "int4"];

for (const [name, plan] of Object.entries(WEIGHTS)) {
  for (const [kind, ways] of Object.entries(VARIANTS)) {
    if (kind !== "one" && !SEVERAL.includes(name)) continue;
    test(`linear, ${name}, ${kind} ${kind === "one" ? "row" : "rows"}`, async () => {
      for (const [on, rows, count, variant] of ways) {
        const { weight, held } = await quantizedWeight(on, plan, (section) => {
          const { rows: height, columns } = plan.sections[section]!;
          return numbers(height * columns, section + 1, 0.05);
        });
        const { rows: N, columns: K } = weight;
        const capacity = Math.ceil(count / 8) * 8;
        const values = numbers(capacity * K, 5);
        const [x, y] = [await put(on, [capacity, K], values), await put(on, [capacity, N], new Float32Array(capacity * N))];
        await dispatch(on, (recorder) => { linear(recorder, { x, weight, y }, { rows, ...(variant && { variant }) }); }, { rows: count });
        const input = { x: values.subarray(0, count * K), rows: count, K };
        const gate = Float32Array.from(held.subarray(0, N * K)), up = plan.gated ? Float32Array.from(held.subarray(N * K)) : undefined;
        const expected = twin.linear({ ...input, weight: gate, ...(up && { up }) });
        const terms = input.x.map(Math.abs);
        const error = dotError(terms, count, K, gate), other = up && twin.linear({ ...input, weight: up });
        const otherError = up && dotError(terms, count, K, up), plain = twin.linear({ ...input, weight: gate });
        const absolute = expected.map((value, i) => (up === undefined ? error[i]!
          : 1.2 * error[i]! * (Math.abs(other![i]!) + otherError![i]!) + otherError![i]! * Math.abs(twin.silu(plain[i]!)) + 2 ** -20 * Math.abs(value)));
        near((await takeF32(on, y)).subarray(0, count * N), expected, { absolute, relative: 2 ** -22 }, `${name} in ${count} rows`, N);
        release(on, x, y, weight.parts[0]!.tensor, weight.parts[0]!.scales!);
      }
    });
  }
}

test.run();
