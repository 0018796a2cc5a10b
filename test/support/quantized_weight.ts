/** Quantized weights for kernel tests: encoded by the scalar twins, laid out as the loader lays them out. */

import type { EncodedMatrix } from "../../engine/encoded.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { codeTable, isDouble, type QuantizedFormat } from "../../kernels/formats.ts";
import { decode, encodeBlockwise, encodeInt8, nestAbsmax } from "../../kernels/reference/quantize.ts";
import type { Section, Weight } from "../../kernels/weights.ts";
import { QuantizedLoader } from "../../models/quantized_weights.ts";
import { uniform } from "./gpu.ts";

/** `values` [rows, columns] in codes; int4 gets random codes, since nothing here makes them of floats. */
export function encodedMatrix(values: Float32Array, columns: number, format: QuantizedFormat, blockSize: number, nestedBlockSize = 256): EncodedMatrix {
  const rows = values.length / columns, size = { rows, columns };
  if (format === "int8" || format === "llm.int8") return { format: "int8", ...size, ...encodeInt8(values, rows, columns) };
  if (format === "int4") {
    const random = uniform(values.length), groups = rows * Math.ceil(columns / blockSize);
    return {
      format, ...size, groupSize: blockSize, codes: Uint8Array.from({ length: values.length / 2 }, () => random() * 256),
      scales: Float32Array.from({ length: groups }, () => 0.01 + 0.02 * random()), zeros: Uint8Array.from({ length: groups }, () => random() * 16),
    };
  }
  const { codes, absmax } = encodeBlockwise(values, codeTable(format), blockSize);
  return { format: codeTable(format), ...size, blockSize, codes, absmax: isDouble(format) ? nestAbsmax(absmax, nestedBlockSize) : absmax };
}

export interface QuantizedPlan {
  readonly format: QuantizedFormat;
  readonly blockSize: number;
  readonly nestedBlockSize?: number;
  readonly gated?: boolean;
  /** Of each section, where it stands in the weight. */
  readonly sections: readonly Section[];
}

/** A weight on the GPU and the numbers that it stands for, [rows, columns] of the whole (gate over up). */
export async function quantizedWeight(
  gpu: Gpu, { format, blockSize, nestedBlockSize = 256, gated = false, sections }: QuantizedPlan, valuesOf: (section: number) => Float32Array,
): Promise<{ weight: Weight; held: Float64Array }> {
  const stacked = Math.max(...sections.map(({ firstRow, rows }) => firstRow + rows));
  const columns = Math.max(...sections.map((section) => section.firstColumn + section.columns));
  const sources = sections.map(({ rows, columns: width, firstRow, firstColumn }, i) => ({ name: `matrix ${i}`, shape: [rows, width], firstRow, firstColumn }));
  const loader = new QuantizedLoader(gpu);
  const weight = await loader.allocate(
    { sources, kind: gated ? "gated" : "matrix", rows: gated ? stacked / 2 : stacked, columns, quantizable: true },
    { format, blockSize, nestedBlockSize, sections },
  );
  const held = new Float64Array(stacked * columns);
  for (const [i, { rows, columns: width, firstRow, firstColumn }] of sections.entries()) {
    const matrix = encodedMatrix(valuesOf(i), width, format, blockSize, nestedBlockSize);
    await loader.place(weight, i, matrix);
    const values = decode(matrix);
    for (let row = 0; row < rows; row++) held.set(values.subarray(row * width, (row + 1) * width), (firstRow + row) * columns + firstColumn);
  }
  loader.close();
  return { weight, held };
}
