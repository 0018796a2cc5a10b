/** What presses need to be shown and is captured while the model runs; and what moves entries and ends a step: copies, tails, lengths. */

import { advance, gather, prefillTileRows, refill } from "../../../kernels/attention.ts";
import { addQueryStats, captureQueries, CONTROL_WORDS, observe, rotateQueries } from "../../../kernels/capture.ts";
import { KV_ENTRY_FORMATS, kvEncodings, kvEntryWords, type KvEntryEncoding, type KvEntryFormat } from "../../../kernels/kv_formats.ts";
import * as attentionTwin from "../../../kernels/reference/attention.ts";
import * as twin from "../../../kernels/reference/capture.ts";
import { decodeEntry } from "../../../kernels/reference/kv.ts";
import { batchOf, projectionOf, roomy, ROTATION_ERROR, rowsOf, shapesOf } from "./attention.ts";
import { BLOCK, benchCache, entryOf, layoutOf, tableOf } from "./cache.ts";
import type { Ask, HeadCounts, KernelCase, KernelDefinition, Prepared, Shape } from "./case.ts";
import { againstAll, indices, numbers, together } from "./numbers.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

type Headed = Shape & { readonly heads: HeadCounts };
const SHAPE = "entries that the last row sees x width of its query heads";
const ALL = 0xffff_ffff;

interface Plan {
  readonly name: string;
  readonly class: "press" | "cache";
  readonly sources: readonly string[];
  readonly what: string;
  readonly kv: readonly string[] | null;
  readonly quickKv: readonly string[];
  readonly rows: (ask: Ask) => readonly number[];
  readonly make: (shape: Headed, batch: number, kv: string) => Pick<KernelCase, "work" | "prepare">;
}

const step = (ask: Ask): readonly number[] => ask.rows ?? [ask.software ? 32 : 256];
const PLANS: readonly Plan[] = [
  { name: "capture_queries", class: "press", sources: ["capture.wgsl"], what: "rotated queries of the last tokens into a window", kv: null, quickKv: [], rows: step, make: capturing },
  { name: "rotate_queries", class: "press", sources: ["capture.wgsl"], what: "rotated queries of every row", kv: null, quickKv: [], rows: step, make: rotating },
  { name: "query_stats", class: "press", sources: ["capture_stats.wgsl"], what: "sums of queries and of their products", kv: null, quickKv: [], rows: step, make: summing },
  { name: "observe", class: "press", sources: ["capture_softmax.wgsl", "capture_observe.wgsl"], what: "attention that every entry gets, added to its note", kv: KV_ENTRY_FORMATS, quickKv: ["f16"], rows: step, make: observing },
  { name: "gather", class: "cache", sources: ["gather.wgsl"], what: "copies of entries, when sequences part", kv: KV_ENTRY_FORMATS, quickKv: ["f16"], rows: step, make: copying },
  { name: "refill", class: "cache", sources: ["refill.wgsl"], what: "tails of kivi4 keys, when sequences part", kv: ["kivi4"], quickKv: ["kivi4"], rows: (ask) => ask.rows ?? [8], make: refilling },
  { name: "advance", class: "cache", sources: ["advance.wgsl"], what: "the end of a decode step", kv: null, quickKv: [], rows: (ask) => ask.rows ?? [1, 8], make: advancing },
];

export const CAPTURE: readonly KernelDefinition[] = PLANS.map(({ name, class: of, sources, what, kv, quickKv, rows, make }) => ({
  name, class: of, sources, what, shape: SHAPE,
  batch: name === "gather" ? "entries" : name === "refill" ? "tables" : name === "advance" ? "sequences" : "tokens of the step",
  batches: [1, 65_535], within: true, multiple: 8, formats: null, kv, variants: false,
  cases: (ask) => shapesOf(ask).flatMap((given) => rows(ask).map((batch) => [roomy(given, batch), batch] as const).flatMap(([shape, batch]) => (kv ?? [null])
    .filter((each) => each === null || (ask.kv ?? (ask.quick ? quickKv : kv!)).includes(each)).map((each): KernelCase => ({
      kernel: name, class: of, format: null, kv: each, variant: null, chosen: true, shape, batch, binding: shape.rows * shape.columns * 4,
      ...make(shape, batch, each ?? "f16"),
    })))),
}));

const control = (bench: Workbench, words: readonly number[]) => bench.words([1, CONTROL_WORDS], Uint32Array.from({ length: CONTROL_WORDS }, (_, i) => words[i] ?? 0), "control");

/** Rows of one sequence, their projection, and their rotated or plain queries as the twin has them. */
async function queries(bench: Workbench, { rows: entries, heads }: Headed, batch: number) {
  const rows = rowsOf(1, entries - batch, batch), layout = layoutOf(heads);
  const { projection, qkv, cosSin, half, headNorm } = await projectionOf(bench, heads, batch, entries, heads.headNorm);
  const of = (rotated: boolean): Float64Array => twin.queriesOf({ qkv, rows, headNorm, ...(rotated && { rotation: { cosSin, half } }) }, heads, layout);
  return { rows, projection, of, ...await batchOf(bench, rows, prefillTileRows(heads)) };
}

function rotating(shape: Headed, batch: number) {
  const width = shape.heads.heads * shape.heads.headDim;
  return {
    work: { bytes: 8 * batch * width, flops: 3 * batch * shape.heads.heads * shape.heads.rotaryDims },
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { projection, batch: words, of } = await queries(bench, shape, batch), q = await bench.tensor([batch, width], "f32", "q");
      return {
        copies: 1, footprint: 8 * batch * width, extent: { rows: batch, tiles: 0 },
        record: (recorder) => rotateQueries(recorder, { projection, q, batch: words }, shape.heads),
        spoil: () => bench.gpu.upload(q.buffer, 0, new Float32Array(batch * width).fill(NaN)),
        compare: async () => againstAll(await bench.gpu.readF32(q), of(true), 2 * ROTATION_ERROR, "query", width),
      };
    },
  };
}

function capturing(shape: Headed, batch: number) {
  const width = shape.heads.heads * shape.heads.headDim;
  return {
    work: { bytes: 8 * batch * width, flops: 3 * batch * shape.heads.heads * shape.heads.rotaryDims },
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { projection, batch: words, of, rows } = await queries(bench, shape, batch), out = await bench.tensor([1, batch, width], "f32", "window");
      const wanted = [0, ALL], controls = await control(bench, wanted);
      return {
        copies: 1, footprint: 8 * batch * width, extent: { rows: batch, tiles: 0 },
        record: (recorder) => captureQueries(recorder, { projection, batch: words, control: controls, out }, shape.heads),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Float32Array(batch * width).fill(NaN)),
        compare: async () => {
          const expected = new Float64Array(batch * width).fill(NaN);
          twin.captureQueries(expected, of(true), rows, wanted, batch);
          return againstAll(await bench.gpu.readF32(out), expected, 2 * ROTATION_ERROR, "query", width);
        },
      };
    },
  };
}

function summing(shape: Headed, batch: number) {
  const { heads, headDim } = shape.heads, words = 2 * headDim + headDim ** 2, first = shape.rows - batch;
  return {
    work: work.queryStats(heads, headDim, batch),
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const { projection, batch: batched, of, rows, tiles } = await queries(bench, shape, batch), out = await bench.tensor([1, heads, words], "f32", "statistics");
      const wanted = [0, 0, first, ALL], controls = await control(bench, wanted);
      return {
        copies: 1, footprint: 4 * heads * words, extent: { rows: batch, tiles },
        record: (recorder) => addQueryStats(recorder, { projection, batch: batched, control: controls, out }, shape.heads),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Float32Array(heads * words).fill(NaN)),
        compare: async () => {
          const expected = new Float64Array(heads * words);
          twin.addQueryStats(expected, of(false), rows, wanted, shape.heads);
          return againstAll(await bench.gpu.readF32(out), expected, batch * 4 * 2 ** -22, "sum", words);
        },
      };
    },
  };
}

function observing(shape: Headed, batch: number, kv: string) {
  const { heads: { heads, kvHeads, headDim }, rows: entries } = shape, { k } = kvEncodings(kv as KvEntryFormat, headDim), before = entries - batch;
  const seen = batch * before + (batch * (batch + 1)) / 2;
  return {
    // Every key once, queries once, a note read and written; a product, exp and two sums for each pair.
    work: { bytes: entries * kvHeads * (4 * kvEntryWords(k as KvEntryEncoding) + 8) + 4 * batch * heads * headDim, flops: (2 * headDim + 4) * heads * seen },
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const cache = await benchCache(bench, { heads: shape.heads, kv: kv as KvEntryFormat, sequences: 1, before, step: batch, appended: true, notes: true });
      const rows = rowsOf(1, before, batch), tileRows = prefillTileRows(shape.heads), { batch: words, tiles } = await batchOf(bench, rows, tileRows);
      const qs = numbers(batch * heads * headDim, 13), q = await bench.floats([batch, heads * headDim], qs, "q"), stats = await bench.tensor([batch, heads, 2], "f32", "stats");
      const controls = await control(bench, [0, 0, 0, 0, 1]), { notes } = cache.view, { tensor, words: of, attention } = notes!;
      const zeros = new Uint32Array(tensor.shape[0]! * of);
      return {
        copies: 1, footprint: cache.bytes / 2, extent: { rows: batch, tiles },
        record: (recorder) => observe(recorder, { q, view: cache.view, batch: words, control: controls, stats }, shape.heads, 0, tileRows),
        spoil: () => bench.gpu.upload(tensor.buffer, 0, zeros),
        compare: async () => {
          const got = await bench.gpu.readF32({ ...tensor, dtype: "f32" }), own = cache.twin(), sums = new Float64Array(tensor.shape[0]!);
          twin.observe(sums, { q: qs, rows, cache: own, control: [0, 0, 0, 0, 1] }, shape.heads, 0);
          return together(...indices(kvHeads).map((head) => {
            const places = indices(entries).map((i) => entryOf(own, tableOf(own, 0, 0, head), i));
            return againstAll(places.map((at) => got[at * of + attention!]!), places.map((at) => sums[at]!), places.map((at) => 1e-5 + 2e-5 * sums[at]!), `head ${head}, attention of entry`, entries);
          }));
        },
      };
    },
  };
}

function copying(shape: Headed, batch: number, kv: string) {
  const { heads, rows: entries } = shape, { headDim, kvHeads } = heads, { k, v } = kvEncodings(kv as KvEntryFormat, headDim);
  return {
    work: work.copy(batch * work.entryBytes(k, v, BLOCK)),
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const cache = await benchCache(bench, { heads, kv: kv as KvEntryFormat, sequences: 2, before: entries, step: 0, appended: false }), own = cache.twin();
      // Entries of the first sequence over those of the second, heads in turn.
      const moves = indices(batch).map((i) => [0, 1].map((sequence) => entryOf(own, tableOf(own, sequence, 0, i % kvHeads), Math.floor(i / kvHeads))) as [number, number]);
      const words = await bench.words([batch, 2], Uint32Array.from(moves.flat()), "moves");
      return {
        copies: 1, footprint: 2 * batch * work.entryBytes(k, v, BLOCK), extent: { rows: 1, tiles: 0 },
        record: (recorder) => gather(recorder, { moves: words, view: cache.view }),
        spoil: () => {},
        compare: async () => {
          attentionTwin.gather(own, moves);
          const bytes = await bench.gpu.read(cache.view.vPool), all = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), of = kvEntryWords(v);
          return together(...moves.map(([, target]) => againstAll(
            decodeEntry(all.subarray(target * of, (target + 1) * of), v), own.vPool.subarray(target * headDim, (target + 1) * headDim), 0, `entry ${target}, dimension`, headDim,
          )));
        },
      };
    },
  };
}

function refilling(shape: Headed, batch: number) {
  const { heads, rows: entries } = shape, { headDim, kvHeads } = heads, tail = (BLOCK * headDim) / 2;
  const tables = batch;
  return {
    work: work.copy(tables * tail * 4),
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const sequences = Math.ceil((2 * tables) / kvHeads);
      const cache = await benchCache(bench, { heads, kv: "kivi4", sequences, before: entries - (entries % BLOCK === 0 ? 1 : 0), step: 1, appended: false });
      const moves = indices(tables).map((i) => [2 * i, 2 * i + 1] as const), words = await bench.words([tables, 2], Uint32Array.from(moves.flat()), "moves");
      const before = (await bench.gpu.readU32({ ...cache.view.kPool, shape: [2 * tables * tail], dtype: "u32" }));
      return {
        copies: 1, footprint: 2 * tables * tail * 4, extent: { rows: 1, tiles: 0 },
        record: (recorder) => refill(recorder, { moves: words, view: cache.view }),
        spoil: () => { for (const [to] of moves) bench.gpu.upload(cache.view.kPool.buffer, to * tail * 4, new Uint32Array(tail).fill(0x7e007e00)); },
        compare: async () => {
          const got = await bench.gpu.readU32({ ...cache.view.kPool, shape: [2 * tables * tail], dtype: "u32" });
          return together(...moves.map(([to, from]) => againstAll(got.subarray(to * tail, (to + 1) * tail), before.subarray(from * tail, (from + 1) * tail), 0, `tail ${to}, word`, tail)));
        },
      };
    },
  };
}

function advancing(shape: Headed, batch: number) {
  const { heads, rows: entries } = shape;
  return {
    work: work.copy(4 * heads.kvHeads * batch),
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const cache = await benchCache(bench, { heads, kv: "f16", sequences: batch, before: entries, step: 0, appended: false });
      const { batch: words } = await batchOf(bench, rowsOf(batch, entries, 1), 1), { lengths } = cache.view;
      const first = new Uint32Array(batch * heads.kvHeads).fill(entries);
      return {
        copies: 1, footprint: 8 * heads.kvHeads * batch, extent: { rows: batch, tiles: 0 },
        record: (recorder) => advance(recorder, { view: cache.view, batch: words }),
        spoil: () => bench.gpu.upload(lengths.buffer, 0, first),
        compare: async () => {
          const expected = first.slice();
          attentionTwin.advance(expected, heads.kvHeads, indices(batch));
          return againstAll(await bench.gpu.readU32(lengths), expected, 0, "length", heads.kvHeads);
        },
      };
    },
  };
}

