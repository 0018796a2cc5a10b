/**
 * Attention in both kinds of step, what brings keys and values into the cache, and what moves them there: every KV format, with long rows
 * split among workgroups where the engine does that, and with the norm of heads that Qwen3 has.
 */

import { f16ToNumber } from "../../../engine/dtype.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import {
  append, appendAndAttend, attention, decodeSplits, partialsShape, prefillTileRows, type Projection, type Splits,
} from "../../../kernels/attention.ts";
import { batchWords, layOutBatch, type Batch, type BatchRow } from "../../../kernels/batch.ts";
import { KV_FORMATS, kvEncodings, type KvEntryEncoding, type KvFormat } from "../../../kernels/kv_formats.ts";
import * as twin from "../../../kernels/reference/attention.ts";
import { decodeEntry } from "../../../kernels/reference/kv.ts";
import { BLOCK, benchCache, cosSinOf, entryErrors, entryOf, layoutOf, tableOf, type BenchCache } from "./cache.ts";
import type { Ask, HeadCounts, KernelCase, KernelDefinition, Prepared, Shape, Verdict } from "./case.ts";
import { againstAll, numbers, sampled, together } from "./numbers.ts";
import { cacheShapes, headsOfWidth } from "./shapes.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

const QUICK_KV: readonly KvFormat[] = ["f16", "int8", "kivi4"];
const EPS = 1e-6;
/** Of the greatest value: what sums of hundreds of products in f32, and its exp, leave. */
const ERROR = 2e-5;
const SHAPE = "entries that the last row sees x width of its query heads";

const kvOf = (ask: Ask): readonly KvFormat[] => KV_FORMATS.filter((format) => (ask.kv ?? (ask.quick ? QUICK_KV : KV_FORMATS)).includes(format));

/** Shapes of the cache with their heads. */
export function shapesOf(ask: Ask): (Shape & { readonly heads: HeadCounts })[] {
  return (ask.shapes ?? cacheShapes(ask)).flatMap((shape) => {
    const heads = shape.heads ?? headsOfWidth(shape.columns);
    return heads === null || shape.rows < 1 ? [] : [{ ...shape, heads }];
  });
}

/** With at least as many entries as the step has rows. */
export function roomy<S extends Shape>(shape: S, batch: number): S {
  return { ...shape, rows: Math.max(shape.rows, batch) };
}

const stepRows = (ask: Ask): readonly number[] => ask.rows ?? [ask.software ? 32 : 256];

export const ATTENTION: readonly KernelDefinition[] = [
  {
    name: "attention_decode", class: "attention", sources: ["attention.wgsl", "attention_broadcast.wgsl", "merge_splits.wgsl"],
    what: "a decode step: rotate, append, attend; one row of each sequence", shape: SHAPE, batch: "sequences", batches: [1, 65_535],
    multiple: 8, formats: null, kv: KV_FORMATS, variants: true,
    cases: (ask) => shapesOf(ask).flatMap((shape) => (ask.rows ?? [1]).flatMap((batch) => kvOf(ask).flatMap((kv) => decodeCases(ask, shape, kv, batch)))),
  },
  {
    name: "attention_prefill", class: "attention", sources: ["attention.wgsl", "attention_broadcast.wgsl"],
    what: "rows of a prompt attend to all before them", shape: SHAPE, batch: "tokens of the step, the last of the entries", within: true,
    batches: [1, 65_535], multiple: 8, formats: null, kv: KV_FORMATS, variants: false,
    cases: (ask) => shapesOf(ask).flatMap((each) => stepRows(ask).flatMap((batch) => kvOf(ask).map((kv) => prefillCase(roomy(each, batch), kv, batch)))),
  },
  {
    name: "append", class: "cache", sources: ["append.wgsl", "settle.wgsl"],
    what: "rotate queries and keys, store keys and values", shape: SHAPE, batch: "tokens of the step, the last of the entries",
    within: true, batches: [1, 65_535], multiple: 8, formats: null, kv: KV_FORMATS, variants: true,
    cases: (ask) => shapesOf(ask).flatMap((each) => stepRows(ask).flatMap((batch) => kvOf(ask).flatMap((kv) =>
      normsOf(ask, each).map((headNorm) => appendCase(roomy(each, batch), kv, batch, headNorm))))),
  },
];

const normsOf = (ask: Ask, { heads }: { readonly heads: HeadCounts }): readonly boolean[] => (ask.quick && ask.variant === null ? [heads.headNorm] : [false, true]);
const normName = (headNorm: boolean): string => (headNorm ? "head norm" : "plain");

/** Rows of `step` tokens each of `sequences` sequences behind `before` entries. */
export function rowsOf(sequences: number, before: number, step: number): BatchRow[] {
  return Array.from({ length: sequences * step }, (_, i) => ({ id: 0, position: before + (i % step), sequence: Math.floor(i / step), offset: i % step }));
}

export async function batchOf(bench: Workbench, rows: readonly BatchRow[], tileRows: number, border?: number): Promise<{ batch: Batch; tiles: number }> {
  const { words, tiles } = layOutBatch(rows.length, rows, tileRows, [], border);
  return { batch: { tensor: await bench.words([batchWords(rows.length)], words, "batch"), rows: rows.length }, tiles };
}

/** A fused projection on the device and what it holds. */
export async function projectionOf(bench: Workbench, heads: HeadCounts, rows: number, positions: number, headNorm: boolean) {
  const layout = layoutOf(heads), half = heads.rotaryDims / 2;
  const [qkv, cosSin, weights] = [numbers(rows * layout.width, 11), cosSinOf(positions, half), numbers(2 * heads.headDim, 12).map((value) => 1 + value / 2)];
  const projection: Projection = {
    qkv: await bench.floats([rows, layout.width], qkv, "qkv"), cosSin: await bench.shared(`cos sin ${positions}x${half}`, () => bench.floats([positions, half, 2], cosSin, "cos sin")), layout,
    ...(headNorm && { headNorm: { weights: await bench.floats([2, heads.headDim], weights, "head norm"), eps: EPS } }),
  };
  return { projection, qkv, cosSin, half, ...(headNorm && { headNorm: { weights, eps: EPS } }) };
}

/** A rotation adds two products, which may cancel: a few roundings of the greatest. */
export const ROTATION_ERROR = 8 * 2 ** -23;

function sizes({ heads }: { readonly heads: HeadCounts }, cache: { readonly k: BenchCache["view"]["k"]; readonly v: KvEntryEncoding }): work.AttentionSizes {
  return { ...heads, entry: work.entryBytes(cache.k, cache.v, BLOCK) };
}

function decodeCases(ask: Ask, shape: Shape & { readonly heads: HeadCounts }, kv: KvFormat, batch: number): KernelCase[] {
  const { heads } = shape, { count, keys } = decodeSplits(ask.traits, heads, shape.rows);
  const ways = [{ splits: 1, keys, headNorm: heads.headNorm, chosen: count === 1 }];
  if (count > 1) ways.push({ splits: count, keys, headNorm: heads.headNorm, chosen: true });
  if (!ask.quick || ask.variant !== null) ways.push({ splits: 1, keys, headNorm: !heads.headNorm, chosen: false });
  return ways.filter(({ chosen }) => chosen || !ask.quick || ask.variant !== null).map(({ splits, headNorm, chosen }) => {
    const entry = sizes(shape, kvEncodings(kv, heads.headDim)), seen = batch * shape.rows;
    const [attending, appending] = [work.attention(entry, batch, seen, seen), work.append(entry, batch, heads.rotaryDims, false)];
    return {
      kernel: "attention_decode", class: "attention", format: null, kv, variant: `${splits > 1 ? `splits=${splits}` : "whole"}${headNorm ? " head norm" : ""}`, chosen, shape, batch,
      work: { bytes: attending.bytes + appending.bytes, flops: attending.flops + appending.flops },
      binding: seen * heads.kvHeads * heads.headDim * 4,
      prepare: (bench) => prepareDecode(bench, shape, kv, batch, splits > 1 ? { count: splits, keys } : null, headNorm),
    };
  });
}

async function prepareDecode(
  bench: Workbench, { rows: entries, heads }: Shape & { readonly heads: HeadCounts }, kv: KvFormat, batch: number, splitting: Omit<Splits,
  "partials"> | null, headNorm: boolean,
): Promise<Prepared> {
  const cache = await benchCache(bench, { heads, kv, sequences: batch, before: entries - 1, step: 1, appended: false });
  const rows = rowsOf(batch, entries - 1, 1), { batch: words, tiles } = await batchOf(bench, rows, 1);
  const { projection, ...ofTwin } = await projectionOf(bench, heads, batch, entries, headNorm);
  const width = heads.heads * heads.headDim, out = await bench.tensor([batch, width], "f32", "out");
  const splits = splitting && { ...splitting, partials: await bench.tensor(partialsShape(cache.shape, batch, splitting.count), "f32", "partials") };
  return {
    copies: 1, footprint: cache.bytes, extent: { rows: batch, tiles },
    record: (recorder) => appendAndAttend(recorder, { projection, out, view: cache.view, batch: words, splits }, cache.shape, 0),
    spoil: () => bench.gpu.upload(out.buffer, 0, new Float32Array(batch * width).fill(NaN)),
    compare: async () => {
      const { k, v } = cache.view, own = cache.twin();
      const q = twin.append({ ...ofTwin, rows, cache: own, k: k.format === "kivi4" ? { format: "f16", headDim: heads.headDim } : k, v }, cache.shape, cache.layout, 0);
      return againstAll(await bench.gpu.readF32(out), twin.attention({ q, rows, cache: own }, cache.shape, 0), ERROR, "output", width);
    },
  };
}

function prefillCase(shape: Shape & { readonly heads: HeadCounts }, kv: KvFormat, batch: number): KernelCase {
  const { heads, rows: entries } = shape, before = entries - batch;
  const seen = batch * before + (batch * (batch + 1)) / 2;
  return {
    kernel: "attention_prefill", class: "attention", format: null, kv, variant: null, chosen: true, shape, batch,
    work: work.attention(sizes(shape, kvEncodings(kv, heads.headDim)), batch, seen, entries),
    binding: entries * heads.kvHeads * heads.headDim * 4,
    prepare: async (bench) => {
      const cache = await benchCache(bench, { heads, kv, sequences: 1, before, step: batch, appended: true });
      const tileRows = prefillTileRows(heads), rows = rowsOf(1, before, batch), width = heads.heads * heads.headDim;
      const { batch: words, tiles } = await batchOf(bench, rows, tileRows, kv === "kivi4" ? BLOCK : undefined);
      const qs = numbers(batch * width, 13), q = await bench.floats([batch, width], qs, "q"), out = await bench.tensor([batch, width], "f32", "out");
      return {
        copies: 1, footprint: cache.bytes, extent: { rows: batch, tiles },
        record: (recorder) => attention(recorder, { q, out, view: cache.view, batch: words }, cache.shape, 0, tileRows),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Float32Array(batch * width).fill(NaN)),
        compare: async () => {
          const got = await bench.gpu.readF32(out);
          const verdicts = sampled(batch, 16).map((row) => {
            const at = (values: Float32Array): Float32Array => values.subarray(row * width, (row + 1) * width);
            return againstAll(at(got), twin.attention({ q: at(qs), rows: [rows[row]!], cache: cache.twin(before + row) }, cache.shape, 0), ERROR, `row ${row}, output`, width);
          });
          return { ...together(...verdicts), of: batch * width };
        },
      };
    },
  };
}

function appendCase(shape: Shape & { readonly heads: HeadCounts }, kv: KvFormat, batch: number, headNorm: boolean): KernelCase {
  const { heads, rows: entries } = shape, before = entries - batch, width = heads.heads * heads.headDim;
  return {
    kernel: "append", class: "cache", format: null, kv, variant: normName(headNorm), chosen: headNorm === heads.headNorm, shape, batch,
    work: work.append(sizes(shape, kvEncodings(kv, heads.headDim)), batch, heads.rotaryDims, true),
    binding: entries * heads.kvHeads * heads.headDim * 4,
    prepare: async (bench) => {
      const cache = await benchCache(bench, { heads, kv, sequences: 1, before, step: batch, appended: false });
      const rows = rowsOf(1, before, batch), { batch: words } = await batchOf(bench, rows, prefillTileRows(heads));
      const { projection, ...ofTwin } = await projectionOf(bench, heads, batch, entries, headNorm);
      const q = await bench.tensor([batch, width], "f32", "q");
      return {
        copies: 1, footprint: 4 * batch * (projection.layout.width + width), extent: { rows: batch, tiles: 0 },
        record: (recorder) => append(recorder, { projection, q, view: cache.view, batch: words }, cache.shape, 0),
        spoil: () => bench.gpu.upload(q.buffer, 0, new Float32Array(batch * width).fill(NaN)),
        compare: async () => {
          const { k, v } = cache.view, own = cache.twin();
          const plain: KvEntryEncoding = k.format === "kivi4" ? { format: "f16", headDim: heads.headDim } : k;
          const wanted = twin.append({ ...ofTwin, rows, cache: own, k: plain, v }, cache.shape, cache.layout, 0);
          const turned = ROTATION_ERROR * 2;
          return together(
            againstAll(await bench.gpu.readF32(q), wanted, turned, "query", width),
            await appended(bench, cache, rows, own.vPool, own, cache.view.vPool, v, 0, null),
            await appended(bench, cache, rows, own.kPool, own, cache.view.kPool, plain, turned, k.format === "kivi4" ? cache.rowsAt : null),
          );
        },
      };
    },
  };
}

/** New entries of a pool against the twin's; of kivi4 (`rowsAt`) they stand in front of the blocks, row by row. */
async function appended(
  bench: Workbench, { shape: { kvHeads, headDim } }: BenchCache, rows: readonly BatchRow[], expected: Float64Array, cache: twin.CacheTwin,
  pool: Tensor,
  encoding: KvEntryEncoding, error: number, rowsAt: number | null,
): Promise<Verdict> {
  const bytes = await bench.gpu.read(pool), words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const of = rowsAt !== null ? headDim / 2 : words.length / pool.shape[0]!;
  const verdicts = rows.flatMap(({ offset }, row) => Array.from({ length: kvHeads }, (_, head) => {
    const table = tableOf(cache, 0, 0, head), entry = entryOf(cache, table, cache.lengths[table]! + offset);
    const at = rowsAt !== null ? rowsAt + (row * kvHeads + head) * of : entry * of;
    const stored = words.subarray(at, at + of);
    const got = rowsAt !== null ? Float64Array.from(new Uint16Array(stored.slice().buffer), f16ToNumber) : decodeEntry(stored, encoding);
    const wanted = expected.subarray(entry * headDim, (entry + 1) * headDim);
    return againstAll(got, wanted, entryErrors(wanted, encoding).map((step) => step + error), `entry of row ${row}, head ${head}, dimension`, headDim);
  }));
  return together(...verdicts);
}
