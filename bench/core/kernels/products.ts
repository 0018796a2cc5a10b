/**
 * The matrix products: `matvec` for the few rows of a decode step, `matmul` for the many of a prefill, in every weight format and every
 * variant that fits the device; and `quantize_rows`, which puts activations in codes before a product in llm.int8. Products stand alone:
 * no norm before, no gate, bias or residual behind.
 */

import { OUTLIER_THRESHOLD, WEIGHT_FORMATS, type WeightFormat } from "../../../kernels/formats.ts";
import { outlierCountsShape, quantizeRows, rowsScratchShapes } from "../../../kernels/int8.ts";
import { linear, type Int8Scratch } from "../../../kernels/linear.ts";
import { candidates, rowsClass, staticVariant, type LinearShape, type Variant } from "../../../kernels/linear_variants.ts";
import { productInt8, quantizeRow } from "../../../kernels/reference/int8.ts";
import * as twin from "../../../kernels/reference/linear.ts";
import { variantName, type Ask, type KernelCase, type KernelDefinition, type Prepared, type Shape } from "./case.ts";
import { against, indices, sampled, together, type Expected } from "./numbers.ts";
import { productShapes } from "./shapes.ts";
import { activations, benchWeight, storedBytes, type BenchWeight } from "./weights.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

/** Roundings of 2⁻²⁴ in a sum of K terms grow as √K; four times that to be safe. */
const F32_ERROR = 4 * 2 ** -24;
/** Each factor in f16 is off by up to 2⁻¹², independently: four times the root of the squares of the terms, for each of both factors. */
const F16_ERROR = 2 ** -9;
/** Outputs that are looked at: of so many rows, so many each. */
const LOOK = { rows: 6, outputs: 40 };
/** Formats of a quick run: the engine's usual one, and one of each kind of code. */
const QUICK_FORMATS: readonly WeightFormat[] = ["f16", "int8", "nf4"];

const CODES_SOURCES = ["matvec_codes.wgsl", "matvec_codes_broadcast.wgsl", "matmul_codes_tiled.wgsl", "matmul_codes_broadcast.wgsl"];

export const PRODUCTS: readonly KernelDefinition[] = [
  {
    name: "matvec", class: "product",
    sources: ["matvec.wgsl", "matvec_broadcast.wgsl", "matmul_broadcast.wgsl", "quantize_rows.wgsl", ...CODES_SOURCES],
    what: "y = W x of a decode step: W is read once for all rows", shape: "outputs x inputs", batch: "rows of x", batches: [1, 8],
    multiple: 8,
    formats: WEIGHT_FORMATS, kv: null, variants: true,
    cases: (ask) => cases(ask, "matvec", (ask.rows ?? (ask.quick ? [1] : [1, 4, 8])).filter((rows) => rows <= 8)),
  },
  {
    name: "matmul", class: "product",
    sources: ["matmul_broadcast.wgsl", "matmul_tiled.wgsl", "matmul_matrix.wgsl", "quantize_rows.wgsl", ...CODES_SOURCES],
    what: "Y = X W^T of a prefill: many rows share the reading of W", shape: "outputs x inputs", batch: "rows of x", batches: [9, 65_535],
    multiple: 8,
    formats: WEIGHT_FORMATS, kv: null, variants: true,
    cases: (ask) => cases(ask, "matmul", (ask.rows ?? [ask.software ? 32 : 256]).filter((rows) => rows > 8)),
  },
  {
    name: "quantize_rows", class: "row", sources: ["quantize_rows.wgsl"],
    what: "activations to int8 codes, outliers kept as they are (llm.int8)", shape: "not used x columns", batch: "rows",
    batches: [1, 65_535], multiple: 8,
    formats: null, kv: null, variants: false,
    cases: (ask) => (ask.shapes ?? productShapes(ask)).flatMap((shape) => (ask.rows ?? (ask.quick ? [1] : [1, 32])).map((batch) => quantizing({ ...shape, rows: batch }, batch))),
  },
];

function cases(ask: Ask, kernel: "matvec" | "matmul", batches: readonly number[]): KernelCase[] {
  const formats = WEIGHT_FORMATS.filter((format) => (ask.formats ?? (ask.quick ? QUICK_FORMATS : WEIGHT_FORMATS)).includes(format));
  return batches.flatMap((batch) => (ask.shapes ?? productShapes(ask)).flatMap((shape) => formats.flatMap((format) =>
    variantsOf(ask, shape, format, batch).map(({ variant, chosen }): KernelCase => ({
      kernel, class: "product", format, kv: null, variant: variant === null ? null : variantName(variant), chosen, shape, batch,
      work: work.product(format, shape.rows, shape.columns, batch), binding: storedBytes(format, shape.rows, shape.columns),
      prepare: (bench) => prepare(bench, { format, shape, batch, variant }),
    })))));
}

/** Null: the format has one way only. */
function variantsOf(ask: Ask, { rows: N, columns: K }: Shape, format: WeightFormat, batch: number): { variant: Variant | null; chosen: boolean }[] {
  if (format === "llm.int8") return [{ variant: null, chosen: true }];
  const shape: LinearShape = { rows: rowsClass(batch), N, K, gated: false, normed: false, format };
  const room = roomOf(batch), taken = ask.chosen?.(shape, room) ?? staticVariant(shape, ask.traits, room);
  const all = new Map([taken, ...candidates(shape, ask.traits)].map((variant) => [variantName(variant), variant]));
  return [...all.values()].map((variant) => ({ variant, chosen: variantName(variant) === variantName(taken) }))
    .filter(({ chosen }) => chosen || !ask.quick || ask.variant !== null);
}

/** Products work on whole tiles of 8 rows, but for one row. */
const roomOf = (batch: number): number => (batch === 1 ? 1 : Math.ceil(batch / 8) * 8);

interface Plan { readonly format: WeightFormat; readonly shape: Shape; readonly batch: number; readonly variant: Variant | null }

async function prepare(bench: Workbench, { format, shape: { rows: N, columns: K }, batch, variant }: Plan): Promise<Prepared> {
  const M = roomOf(batch), xs = activations(M, K);
  const weight = await benchWeight(bench, format, N, K);
  const x = await bench.shared(`x ${M}x${K}`, () => bench.floats([M, K], xs, "x"));
  const y = await bench.shared(`y ${M}x${N}`, () => bench.tensor([M, N], "f32", "y"));
  const scratch = format === "llm.int8" ? await scratchOf(bench, M, K) : undefined;
  const rows = sampled(batch, LOOK.rows), outputs = sampled(N, LOOK.outputs);
  const nan = new Float32Array(M * N).fill(NaN);
  return {
    copies: weight.copies, footprint: weight.footprint, extent: { rows: batch, tiles: 0 },
    record: (recorder, copy) => linear(recorder, { x, y, weight: weight.at(copy), scratch }, { rows: rowsClass(batch), ...(variant !== null && { variant }) }),
    spoil: () => bench.gpu.upload(y.buffer, 0, nan),
    compare: async () => {
      const verdicts = [];
      for (const m of rows) {
        const got = await bench.gpu.readF32({ ...y, offset: m * N * 4, shape: [N] });
        const row = xs.subarray(m * K, (m + 1) * K);
        const expected = format === "llm.int8" ? inCodes(weight, row) : inNumbers(weight, row, variant?.kernel === "matmul_matrix");
        verdicts.push(against(got, outputs, expected, N, (n) => `output ${n} of row ${m}`));
      }
      return { ...together(...verdicts), of: batch * N };
    },
  };
}

/** One output of the twin, and by how much f32, or with `half` operands in f16, may miss it. */
function inNumbers(weight: BenchWeight, x: Float32Array, half: boolean): (n: number) => Expected {
  const K = x.length;
  return (n) => {
    const row = weight.row(n);
    const [value] = twin.linear({ x, rows: 1, K, weight: row }) as unknown as [number];
    let [magnitude, squares] = [0, 0];
    for (let k = 0; k < K; k++) {
      const term = Math.abs(x[k]! * row[k]!);
      magnitude += term;
      squares += term * term;
    }
    return { value, error: F32_ERROR * Math.sqrt(K) * magnitude + 2 ** -21 * Math.abs(value) + (half ? F16_ERROR * Math.sqrt(squares) : 0) };
  };
}

function inCodes(weight: BenchWeight, x: Float32Array): (n: number) => Expected {
  const row = quantizeRow(x, { threshold: OUTLIER_THRESHOLD });
  return (n) => {
    const { codes, scale } = weight.codes(n);
    const { value, terms } = productInt8(row, codes, 0, [scale]);
    return { value, error: 2 ** -24 * (8 + row.outliers.length) * terms };
  };
}

function scratchOf(bench: Workbench, M: number, K: number): Promise<Int8Scratch> {
  return bench.shared(`scratch ${M}x${K}`, async () => {
    const { codes, magnitudes, outliers } = rowsScratchShapes(M, K);
    return {
      codes: await bench.tensor(codes, "u32", "codes"), magnitudes: await bench.tensor(magnitudes, "u32", "magnitudes"),
      outliers: await bench.tensor(outliers, "u32", "outliers"),
      counts: await bench.words(outlierCountsShape(K), new Uint32Array(outlierCountsShape(K)[0]!), "counts"),
    };
  });
}

function quantizing(shape: Shape, batch: number): KernelCase {
  const K = shape.columns;
  return {
    kernel: "quantize_rows", class: "row", format: null, kv: null, variant: null, chosen: true, shape, batch, work: work.quantize(K, batch),
    binding: batch * K * 8,
    prepare: async (bench) => {
      const M = roomOf(batch), xs = activations(M, K);
      const x = await bench.shared(`x ${M}x${K}`, () => bench.floats([M, K], xs, "x")), scratch = await scratchOf(bench, M, K);
      return {
        copies: 1, footprint: batch * K * 5, extent: { rows: batch, tiles: 0 },
        record: (recorder) => { quantizeRows(recorder, { x, scratch, counts: scratch.counts }, { columns: K, threshold: OUTLIER_THRESHOLD }); },
        spoil: () => bench.gpu.upload(scratch.codes.buffer, 0, new Uint8Array(batch * K).fill(0x80)), // −128 is no code of an activation
        compare: async () => {
          const [codes, magnitudes] = [await bench.gpu.read(scratch.codes), await bench.gpu.readU32(scratch.magnitudes)];
          return together(...sampled(batch, LOOK.rows).map((m) => {
            const wanted = quantizeRow(xs.subarray(m * K, (m + 1) * K), { threshold: OUTLIER_THRESHOLD });
            const magnitude = new Float32Array(magnitudes.buffer, magnitudes.byteOffset + m * 16, 1);
            const got = new Int8Array(codes.buffer, codes.byteOffset + m * K, K);
            // 127 / m is rounded once, so a code on the border of two may be either.
            return together(
              against(got, indices(K), (k) => ({ value: wanted.codes[k]!, error: 1 }), K, (k) => `code ${k} of row ${m}`),
              against(magnitude, [0], () => ({ value: wanted.magnitudes[0]!, error: 0 }), 1, () => `the magnitude of row ${m}`),
            );
          }));
        },
      };
    },
  };
}
