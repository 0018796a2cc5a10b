/**
 * KV compression, of one layer of one sequence: finding which entries are kept (selection), showing a press what it scores (dense
 * copies), and moving the survivors. Half of the entries are kept, every other one by score.
 */

import type { Recorder } from "../../../engine/recorder.ts";
import { denseEntries, denseLengths, denseNotes, moveKept, rerotate } from "../../../kernels/evict.ts";
import { KV_ENTRY_FORMATS, kvEncodings, kvEntryWords, type KvEntryEncoding, type KvEntryFormat } from "../../../kernels/kv_formats.ts";
import * as evictTwin from "../../../kernels/reference/evict.ts";
import { decodeEntry } from "../../../kernels/reference/kv.ts";
import * as selectTwin from "../../../kernels/reference/select.ts";
import { compact, mark, threshold, thresholdMarked } from "../../../kernels/select.ts";
import { shapesOf } from "./attention.ts";
import { BLOCK, benchCache, cosSinOf, entryErrors, entryOf, tableOf, type BenchCache } from "./cache.ts";
import type { Ask, HeadCounts, KernelCase, KernelDefinition, Prepared, Shape, Verdict } from "./case.ts";
import { againstAll, indices, numbers, together, type Numbers } from "./numbers.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

type Headed = Shape & { readonly heads: HeadCounts };
const SHAPE = "entries x width of the query heads";
const QUICK_KV: readonly KvEntryFormat[] = ["f16"];
const UNTOUCHED = 0xdeadbeef;

type Part = Pick<KernelCase, "work" | "prepare">;

export const PRESS: readonly KernelDefinition[] = [
  selecting("threshold", ["threshold.wgsl"], "the score that so many entries reach", "threshold"),
  selecting("threshold_marked", ["threshold.wgsl"], "the cut that keeps scores above 0", "marked"),
  selecting("mark", ["kept.wgsl"], "scores that say kept or not", "mark"),
  selecting("compact", ["kept.wgsl"], "indices of what is kept, in order", "compact"),
  evicting("dense_lengths", ["dense_lengths.wgsl"], "entries of each head", null, lengths),
  evicting("dense_entries", ["dense_entries.wgsl"], "keys of a layer as plain numbers", "entries", entries),
  evicting("dense_notes", ["dense_notes.wgsl"], "what is noted beside each entry", null, notes),
  evicting("move_kept", ["move_kept.wgsl"], "kept entries into fresh blocks", "entries", moving),
  evicting("rerotate", ["rerotate.wgsl"], "kept keys rotated to their new positions", "entries", turning),
];

function selecting(name: string, sources: readonly string[], what: string, which: "threshold" | "marked" | "mark" | "compact"): KernelDefinition {
  return {
    name, class: "press", sources, what, shape: SHAPE, batch: "not used", batches: [1, 1], multiple: 8, formats: null, kv: null,
    variants: false,
    cases: (ask) => shapesOf(ask).map((shape) => ({
      kernel: name, class: "press", format: null, kv: null, variant: null, chosen: true, shape, batch: 1,
      binding: shape.heads.kvHeads * shape.rows * 4,
      ...selection(shape, which),
    })),
  };
}

function evicting(name: string, sources: readonly string[], what: string, kv: "entries" | null, make: (shape: Headed, kv: KvEntryFormat) => Part): KernelDefinition {
  const formats = kv === null ? ["f16"] as const : KV_ENTRY_FORMATS;
  return {
    name, class: "press", sources, what, shape: SHAPE, batch: "not used", batches: [1, 1], multiple: 8, formats: null,
    kv: kv === null ? null : KV_ENTRY_FORMATS, variants: false,
    cases: (ask: Ask) => shapesOf(ask).flatMap((shape) => formats.filter((each) => kv === null || (ask.kv ?? (ask.quick ? QUICK_KV : KV_ENTRY_FORMATS)).includes(each)).map((each): KernelCase => ({
      kernel: name, class: "press", format: null, kv: kv === null ? null : each, variant: null, chosen: true, shape, batch: 1,
      binding: shape.rows * shape.heads.kvHeads * shape.heads.headDim * 4, ...make(shape, each),
    }))),
  };
}

function selection({ rows: T, heads: { kvHeads: H } }: Headed, which: "threshold" | "marked" | "mark" | "compact"): Part {
  const columns = Math.ceil(T / 4) * 4, keep = Math.ceil(T / 2);
  const written = { threshold: 16 * H, marked: 16 * H, mark: 4 * H * T, compact: 4 * H * keep }[which];
  return {
    work: work.scores(H, T, written),
    prepare: async (bench) => {
      const values = numbers(H * columns, 31), scoresOf = (head: number): Float32Array => values.subarray(head * columns, head * columns + T);
      const heads = indices(H).map(scoresOf);
      const cuts = which === "marked" ? selectTwin.thresholdMarked(heads) : selectTwin.threshold(heads, indices(H).map(() => keep));
      const operands = {
        scores: await bench.floats([H, columns], values, "scores"), lengths: await bench.words([H], new Uint32Array(H).fill(T), "lengths"),
        cut: await bench.words([H, 4], Uint32Array.from(cuts.flat()), "cut"),
      };
      const wanted = await bench.words([H], new Uint32Array(H).fill(keep), "keep"), order = await bench.tensor([H, columns], "u32", "order");
      const finding = which === "threshold" || which === "marked";
      return {
        copies: 1, footprint: 4 * H * T, extent: { rows: 1, tiles: 0 },
        record: (recorder: Recorder) => {
          if (which === "threshold") threshold(recorder, { ...operands, keep: wanted });
          else if (which === "marked") thresholdMarked(recorder, operands);
          else if (which === "mark") mark(recorder, operands, { kept: 1, others: null });
          else compact(recorder, { ...operands, order });
        },
        spoil: () => {
          if (finding) bench.gpu.upload(operands.cut.buffer, 0, new Uint32Array(4 * H).fill(UNTOUCHED));
          else bench.gpu.upload(order.buffer, 0, new Uint32Array(H * columns).fill(UNTOUCHED));
        },
        compare: async () => {
          if (finding) return againstAll(await bench.gpu.readU32(operands.cut), cuts.flat(), 0, "cut, word", 4);
          const got = which === "mark" ? await bench.gpu.readF32(operands.scores) : await bench.gpu.readU32(order);
          return together(...indices(H).map((head) => {
            const expected = which === "mark" ? selectTwin.mark(scoresOf(head), cuts[head]!, { kept: 1, others: null }) : selectTwin.compact(scoresOf(head), cuts[head]!);
            return againstAll(got.subarray(head * columns, head * columns + expected.length), expected, 0, `head ${head}, place`, columns);
          }));
        },
      };
    },
  };
}

/** A cache of two sequences, of which the first is pressed and the second has the fresh blocks. */
async function pressed(bench: Workbench, { rows: T, heads }: Headed, kv: KvEntryFormat, hasNotes: boolean): Promise<BenchCache> {
  return benchCache(bench, { heads, kv, sequences: 2, before: T, step: 0, appended: false, notes: hasNotes });
}

const slotOf = (bench: Workbench) => bench.shared("slot 0", () => bench.words([1], Uint32Array.of(0), "slot"));
const columnsOf = (T: number): number => Math.ceil(T / 4) * 4;

function lengths({ rows: T, heads }: Headed): Part {
  return {
    work: work.copy(4 * heads.kvHeads),
    prepare: async (bench) => {
      const cache = await pressed(bench, { rows: T, heads, columns: 0, origin: "" }, "f16", false), slot = await slotOf(bench), out = await bench.tensor([heads.kvHeads], "u32", "lengths");
      return {
        copies: 1, footprint: 8 * heads.kvHeads, extent: { rows: T, tiles: 0 },
        record: (recorder) => denseLengths(recorder, { view: cache.view, slot, out }, 0),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Uint32Array(heads.kvHeads).fill(UNTOUCHED)),
        compare: async () => againstAll(await bench.gpu.readU32(out), new Array<number>(heads.kvHeads).fill(T), 0, "length", heads.kvHeads),
      };
    },
  };
}

function entries(shape: Headed, kv: KvEntryFormat): Part {
  const { rows: T, heads: { kvHeads: H, headDim: D } } = shape, { k } = kvEncodings(kv, D), columns = columnsOf(T);
  return {
    work: { bytes: H * T * (4 * kvEntryWords(k as KvEntryEncoding) + 4 * D), flops: kv.startsWith("int") ? 2 * H * T * D : 0 },
    prepare: async (bench) => {
      const cache = await pressed(bench, shape, kv, false), slot = await slotOf(bench), out = await bench.tensor([H, D, columns], "f32", "dense");
      return {
        copies: 1, footprint: cache.bytes / 4 + 4 * H * D * T, extent: { rows: T, tiles: 0 },
        record: (recorder) => denseEntries(recorder, { view: cache.view, slot, which: "k", out }, 0),
        spoil: () => bench.gpu.upload(out.buffer, 0, new Float32Array(H * D * columns).fill(NaN)),
        compare: async () => {
          const [got, own] = [await bench.gpu.readF32(out), cache.twin()];
          return together(...indices(H).flatMap((head) => {
            const wanted = evictTwin.dense(own, own.kPool, D, 0, 0, head);
            // A device may fuse code · scale + least, which the twin rounds twice.
            return indices(D).map((d) => againstAll(
              got.subarray((head * D + d) * columns, (head * D + d) * columns + T), wanted.subarray(d * T, (d + 1) * T), kv.startsWith("int") ? 1e-6 : 0, `head ${head}, dimension ${d}, entry`, T,
            ));
          }));
        },
      };
    },
  };
}

function notes(shape: Headed): Part {
  const { rows: T, heads: { kvHeads: H } } = shape, columns = columnsOf(T);
  return {
    work: work.copy(4 * H * T),
    prepare: async (bench) => {
      const cache = await pressed(bench, shape, "f16", true), slot = await slotOf(bench), norms = await bench.tensor([H, columns], "f32", "norms");
      return {
        copies: 1, footprint: 8 * H * T, extent: { rows: T, tiles: 0 },
        record: (recorder) => denseNotes(recorder, { view: cache.view, slot, norms }, 0),
        spoil: () => bench.gpu.upload(norms.buffer, 0, new Float32Array(H * columns).fill(NaN)),
        compare: async () => {
          const { words, norm, tensor } = cache.view.notes!;
          const [got, all, own] = [await bench.gpu.readF32(norms), await bench.gpu.readF32({ ...tensor, dtype: "f32" }), cache.twin()];
          return together(...indices(H).map((head) => {
            const wanted = indices(T).map((i) => all[entryOf(own, tableOf(own, 0, 0, head), i) * words + norm!]!);
            return againstAll(got.subarray(head * columns, head * columns + T), wanted, 0, `head ${head}, note`, T);
          }));
        },
      };
    },
  };
}

/** Every other entry is kept; the fresh blocks are the second sequence's. */
async function keeping(bench: Workbench, { rows: T, heads: { kvHeads: H } }: Headed, cache: BenchCache) {
  const columns = columnsOf(T), order = indices(H).map((head) => indices(T).filter((i) => i % 2 === head % 2));
  const { tableBlocks } = cache.view, own = cache.twin();
  const fresh = indices(H).map((head) => indices(tableBlocks).map((i) => own.tables[tableOf(own, 1, 0, head) * tableBlocks + i]!));
  const words = new Uint32Array(H * columns);
  order.forEach((each, head) => words.set(each, head * columns));
  return {
    kept: { order, fresh },
    tensors: {
      order: await bench.words([H, columns], words, "order"),
      cut: await bench.words([H, 4], Uint32Array.from(order.flatMap((each) => [0, 0, each.length, 0])), "cut"),
      fresh: await bench.words([H, tableBlocks], Uint32Array.from(fresh.flat()), "fresh"),
    },
  };
}

/** Entries of a pool at their fresh places. */
async function atFresh(bench: Workbench, cache: BenchCache, kept: evictTwin.KeptTwin, own: evictTwinCache, expected: Numbers, error: (entry: Float64Array) => Float64Array | number): Promise<Verdict> {
  const { kPool, k } = cache.view, { headDim } = cache.shape, bytes = await bench.gpu.read(kPool);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), of = kvEntryWords(k as KvEntryEncoding);
  return together(...kept.order.flatMap((each, head) => each.map((_, i) => {
    const entry = evictTwin.freshEntry(own, kept, head, i), wanted = Float64Array.from({ length: headDim }, (_, d) => expected[entry * headDim + d]!);
    return againstAll(decodeEntry(words.subarray(entry * of, (entry + 1) * of), k as KvEntryEncoding), wanted, error(wanted), `head ${head}, kept entry ${i}, dimension`, headDim);
  })));
}
type evictTwinCache = ReturnType<BenchCache["twin"]>;

function moving(shape: Headed, kv: KvEntryFormat): Part {
  const { rows: T, heads: { kvHeads: H, headDim: D } } = shape, { k, v } = kvEncodings(kv, D);
  const bytes = H * Math.ceil(T / 2) * work.entryBytes(k, v, BLOCK);
  return {
    work: work.copy(bytes),
    prepare: async (bench): Promise<Prepared> => {
      const cache = await pressed(bench, shape, kv, false), slot = await slotOf(bench), { kept, tensors } = await keeping(bench, shape, cache);
      return {
        copies: 1, footprint: 2 * bytes, extent: { rows: T, tiles: 0 },
        record: (recorder) => moveKept(recorder, { view: cache.view, slot, ...tensors }, 0),
        spoil: () => {},
        compare: async () => {
          const own = cache.twin();
          evictTwin.moveKept(own, kept, [{ values: own.kPool, width: D }, { values: own.vPool, width: D }], 0, 0);
          return atFresh(bench, cache, kept, own, own.kPool, () => 0);
        },
      };
    },
  };
}

function turning(shape: Headed, kv: KvEntryFormat): Part {
  const { rows: T, heads: { kvHeads: H, headDim: D, rotaryDims } } = shape, { k } = kvEncodings(kv, D);
  const keptEntries = H * Math.ceil(T / 2);
  return {
    work: { bytes: 2 * keptEntries * 4 * kvEntryWords(k as KvEntryEncoding), flops: 3 * keptEntries * rotaryDims },
    prepare: async (bench): Promise<Prepared> => {
      const cache = await pressed(bench, shape, kv, false), { kept, tensors } = await keeping(bench, shape, cache);
      const half = rotaryDims / 2, table = cosSinOf(T, half), cosSin = await bench.shared(`cos sin ${T}x${half}`, () => bench.floats([T, half, 2], table, "cos sin"));
      return {
        copies: 1, footprint: 2 * keptEntries * 4 * kvEntryWords(k as KvEntryEncoding), extent: { rows: T, tiles: 0 },
        record: (recorder) => rerotate(recorder, { view: cache.view, cosSin, ...tensors }, 0),
        spoil: () => {},
        compare: async () => {
          const own = cache.twin();
          evictTwin.rerotate(own, kept, { cosSin: table, half, k: k as KvEntryEncoding });
          return atFresh(bench, cache, kept, own, own.kPool, (entry) => entryErrors(entry, k as KvEntryEncoding).map((step) => step + 2e-6));
        },
      };
    },
  };
}

