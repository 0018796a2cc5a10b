/** What is done to every row of hidden numbers: the look-up of its embedding, and the norms. */

import { BATCH_HEADER, batchWords, layOutBatch, type Batch } from "../../../kernels/batch.ts";
import { embed } from "../../../kernels/embed.ts";
import { WEIGHT_FORMATS } from "../../../kernels/formats.ts";
import { norm } from "../../../kernels/norm.ts";
import * as normTwin from "../../../kernels/reference/norm.ts";
import * as twin from "../../../kernels/reference/linear.ts";
import type { Ask, KernelCase, KernelDefinition, Shape } from "./case.ts";
import { againstAll, hashed, numbers, sampled, together } from "./numbers.ts";
import { hiddenShapes, tableShapes } from "./shapes.ts";
import { benchWeight, storedBytes } from "./weights.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

/** Embeddings stay in floats when a model is quantized. */
const TABLE_FORMATS = WEIGHT_FORMATS.filter((format) => format === "f32" || format === "f16" || format === "bf16");
const EPS = 1e-5;

const rowsOf = (ask: Ask): readonly number[] => ask.rows ?? (ask.quick ? [ask.software ? 32 : 256] : [1, ask.software ? 32 : 256]);

export const ROWS: readonly KernelDefinition[] = [
  {
    name: "embed", class: "row", sources: ["embed.wgsl"], what: "rows of the embedding table", shape: "vocabulary x hidden size",
    batch: "tokens", batches: [1, 65_535], multiple: 8,
    formats: TABLE_FORMATS, kv: null, variants: false,
    cases: (ask) => (ask.shapes ?? tableShapes(ask)).flatMap((shape) => TABLE_FORMATS.filter((format) => ask.formats?.includes(format) ?? (!ask.quick || format === "f16"))
      .flatMap((format) => rowsOf(ask).map((batch) => embedding(shape, format, batch)))),
  },
  ...(["rms", "layer"] as const).map((kind): KernelDefinition => ({
    name: `${kind}_norm`, class: "row", sources: ["norm.wgsl"], what: kind === "rms" ? "x / sqrt(mean(x²) + eps) · weight" : "(x − mean) / sqrt(var + eps) · weight + bias",
    shape: "not used x hidden size", batch: "rows", batches: [1, 65_535], multiple: 4, formats: null, kv: null, variants: false,
    cases: (ask) => (ask.shapes ?? hiddenShapes(ask, kind)).flatMap((shape) => rowsOf(ask).map((batch) => norming(kind, { ...shape, rows: batch }, batch))),
  })),
];

/** Rows 0 … count − 1, each of a sequence of its own, with tokens spread over the vocabulary. */
export async function batchOfRows(bench: Workbench, count: number, vocabulary: number): Promise<{ batch: Batch; ids: number[] }> {
  const ids = Array.from({ length: count }, (_, row) => Math.floor(((hashed(row + 99) + 1) / 2) * vocabulary));
  const { words } = layOutBatch(count, ids.map((id, row) => ({ id, position: 100 + row, sequence: row, offset: 0 })), 1, ids.map((_, row) => row));
  const tensor = await bench.words([batchWords(count)], words, "batch");
  return { batch: { tensor, rows: count }, ids: [...words.subarray(BATCH_HEADER, BATCH_HEADER + count)] };
}

function embedding(shape: Shape, format: "f32" | "f16" | "bf16", batch: number): KernelCase {
  const { rows: V, columns: K } = shape;
  return {
    kernel: "embed", class: "row", format, kv: null, variant: null, chosen: true, shape, batch, work: work.embedding(format, K, batch),
    binding: storedBytes(format, V, K),
    prepare: async (bench) => {
      const table = await benchWeight(bench, format, V, K);
      const { batch: tokens, ids } = await batchOfRows(bench, batch, V);
      const x = await bench.tensor([batch, K], "f32", "x");
      return {
        copies: table.copies, footprint: table.copies * batch * K * (format === "f32" ? 4 : 2), extent: { rows: batch, tiles: 0 },
        record: (recorder, copy) => embed(recorder, { batch: tokens, table: table.at(copy), x }),
        spoil: () => bench.gpu.upload(x.buffer, 0, new Float32Array(batch * K).fill(NaN)),
        compare: async () => {
          const got = await bench.gpu.readF32(x);
          return together(...ids.map((id, row) => againstAll(got.subarray(row * K, (row + 1) * K), twin.embed(table.row(id), K, [0]), 0, `embedding of row ${row}, dimension`, K)));
        },
      };
    },
  };
}

function norming(kind: "rms" | "layer", shape: Shape, batch: number): KernelCase {
  const C = shape.columns;
  return {
    kernel: `${kind}_norm`, class: "row", format: null, kv: null, variant: null, chosen: true, shape, batch, work: work.norm(kind, C, batch), binding: batch * C * 4,
    prepare: async (bench) => {
      const [xs, weights, biases] = [numbers(batch * C, 1), numbers(C, 2).map((value) => 1 + value / 2), numbers(C, 3)];
      const [x, weight, y] = [await bench.floats([batch, C], xs, "x"), await bench.floats([C], weights, "weight"), await bench.tensor([batch, C], "f32", "y")];
      const bias = kind === "layer" ? await bench.floats([C], biases, "bias") : undefined;
      const rows = sampled(batch, 32);
      return {
        copies: 1, footprint: 8 * batch * C, extent: { rows: batch, tiles: 0 },
        record: (recorder) => norm(recorder, { x, weight, y, ...(bias && { bias }) }, { kind, eps: EPS }),
        spoil: () => bench.gpu.upload(y.buffer, 0, new Float32Array(batch * C).fill(NaN)),
        compare: async () => {
          const got = await bench.gpu.readF32(y);
          const verdicts = rows.map((row) => {
            const wanted = normTwin.norm({ kind, x: xs.subarray(row * C, (row + 1) * C), weight: weights, ...(bias && { bias: biases }), eps: EPS });
            return againstAll(got.subarray(row * C, (row + 1) * C), wanted, wanted.map((value) => 1e-5 + 1e-5 * Math.abs(value)), `row ${row}, number`, C);
          });
          return { ...together(...verdicts), of: batch * C };
        },
      };
    },
  };
}
