/**
 * A KV cache for the bench, on the device and as the scalar twin has it: sequences of equal length whose blocks lie in no order, filled
 * with a pattern of entries in any format. kivi4 has its own rules (kernels/kv_formats.ts): keys of whole blocks are codes, those of the
 * newest block, and of a step's rows, are f16 in front of them.
 */

import { f16ToNumber, numberToF16 } from "../../../engine/dtype.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import type { AttentionShape, KvView, QkvLayout } from "../../../kernels/attention.ts";
import { kiviPoolShape, kvBlockWords, kvEncodings, kvEntryWords, poolShape, recentKeys, type KvEntryEncoding, type KvFormat } from "../../../kernels/kv_formats.ts";
import { noteWords, type KvNotes } from "../../../kernels/kv_notes.ts";
import { entryOf, tableOf, type CacheTwin } from "../../../kernels/reference/attention.ts";
import { decodeEntry, decodeKeyBlock, encodeEntry, encodeKeyBlock } from "../../../kernels/reference/kv.ts";
import { seeded, shuffled } from "../stats.ts";
import type { HeadCounts } from "./case.ts";
import { numbers } from "./numbers.ts";
import type { Workbench } from "./workbench.ts";

export const BLOCK = 16;
/** Entries, and blocks, after which a pool repeats. */
const ENTRIES = 251;
const BLOCKS = 31;

export interface CachePlan {
  readonly heads: HeadCounts;
  readonly kv: KvFormat;
  readonly sequences: number;
  /** Entries of every table before the step, and how many rows more it gets in it. */
  readonly before: number;
  readonly step: number;
  /** The step's entries are there already, as if appended. */
  readonly appended: boolean;
  /** Notes beside entries, as presses want them. */
  readonly notes?: boolean;
}

export interface BenchCache {
  readonly view: KvView;
  readonly shape: AttentionShape;
  readonly layout: QkvLayout;
  /** A fresh copy, since twins write to it. Keys of kivi4 as codes give them, but for the block that holds entry `newest`. */
  readonly twin: (newest?: number) => CacheTwin;
  /** Words before the blocks of a kivi4 pool at which keys of the step's rows begin. */
  readonly rowsAt: number;
  readonly bytes: number;
}

/** Where queries, keys and values stand in a row of the fused projection. */
export function layoutOf({ heads, kvHeads, headDim: D, fused }: HeadCounts): QkvLayout {
  if (fused === "neox") return { width: 3 * heads * D, q: { first: 0, step: 3 * D }, k: { first: D, step: 3 * D }, v: { first: 2 * D, step: 3 * D } };
  return { width: (heads + 2 * kvHeads) * D, q: { first: 0, step: D }, k: { first: heads * D, step: D }, v: { first: (heads + kvHeads) * D, step: D } };
}

/** cos and sin of position · 10000^(−d / half): [positions, half, 2]. */
export function cosSinOf(positions: number, half: number): Float32Array {
  const table = new Float32Array(positions * half * 2);
  for (let i = 0; i < positions * half; i++) {
    const angle = Math.floor(i / half) * 10_000 ** (-(i % half) / half);
    table.set([Math.cos(angle), Math.sin(angle)], 2 * i);
  }
  return table;
}

export async function benchCache(bench: Workbench, plan: CachePlan): Promise<BenchCache> {
  const { heads: { heads, kvHeads, headDim, ...rest }, kv, sequences, before, step, appended } = plan;
  const { k, v } = kvEncodings(kv, headDim);
  const tableBlocks = Math.ceil((before + step) / BLOCK), count = sequences * kvHeads, blocks = count * tableBlocks;
  const tables = Uint32Array.from(shuffled(Array.from({ length: blocks }, (_, i) => i), seeded(blocks)));
  const lengths = new Uint32Array(count).fill(before);
  const empty = { layers: 1, kvHeads, headDim, blockSize: BLOCK, tableBlocks, tables, lengths };
  const values = entriesOf(v, 2);
  const vPool = await putPool(bench, v, values.words, blocks * BLOCK);
  const keys = k.format === "kivi4" ? kiviKeys(plan, empty) : null;
  const plainKeys = k.format === "kivi4" ? null : entriesOf(k, 1);
  const kPool = keys !== null ? await bench.words(keys.shape, keys.words(appended), "keys", "kv") : await putPool(bench, k as KvEntryEncoding, plainKeys!.words, blocks * BLOCK);
  const words = noteWords({ norms: true, attention: true });
  const notes: KvNotes | undefined = plan.notes
    ? { ...words, tensor: await bench.words([blocks * BLOCK, words.words], new Uint32Array(numbers(blocks * BLOCK * words.words, 4).map(Math.abs).buffer), "notes", "kv") } : undefined;
  const view: KvView = {
    k, v, layout: "paged", kPool, vPool, blockSize: BLOCK, tableBlocks, layers: 1, kvHeads, recentRows: sequences * step,
    ...(notes && { notes }),
    tables: await bench.words([sequences, 1, kvHeads, tableBlocks], tables, "tables", "kv"),
    lengths: await bench.words([sequences, 1, kvHeads], lengths, "lengths", "kv"),
    layerNumbers: await bench.words([1, 64], new Uint32Array(64), "layers", "kv"),
  };
  const filled = (pattern: Float64Array): Float64Array => {
    const pool = new Float64Array(blocks * BLOCK * headDim);
    for (let at = 0; at < pool.length; at += pattern.length) pool.set(pattern.subarray(0, Math.min(pattern.length, pool.length - at)), at);
    return pool;
  };
  return {
    view, shape: { heads, kvHeads, headDim }, layout: layoutOf({ heads, kvHeads, headDim, ...rest }), rowsAt: keys?.rowsAt ?? 0,
    bytes: count * (before + (appended ? step : 0)) * 4 * (kvBlockWords(k, BLOCK) / BLOCK + kvEntryWords(v)),
    twin: (newest = before) => ({ ...empty, lengths: lengths.slice(), kPool: keys?.pool(newest) ?? filled(plainKeys!.numbers), vPool: filled(values.numbers) }),
  };
}

interface Pattern { readonly words: Uint32Array; readonly numbers: Float64Array }

/** ENTRIES entries, as stored and as numbers. */
function entriesOf(encoding: KvEntryEncoding, salt: number): Pattern {
  const { headDim } = encoding, of = kvEntryWords(encoding);
  const pattern = { words: new Uint32Array(ENTRIES * of), numbers: new Float64Array(ENTRIES * headDim) };
  const raw = numbers(ENTRIES * headDim, salt);
  for (let i = 0; i < ENTRIES; i++) {
    const entry = encodeEntry(raw.subarray(i * headDim, (i + 1) * headDim), encoding);
    pattern.words.set(entry, i * of);
    pattern.numbers.set(decodeEntry(entry, encoding), i * headDim);
  }
  return pattern;
}

async function putPool(bench: Workbench, encoding: KvEntryEncoding, pattern: Uint32Array, entries: number): Promise<Tensor> {
  const { shape, dtype } = poolShape(encoding, entries);
  const words = new Uint32Array(entries * kvEntryWords(encoding));
  for (let at = 0; at < words.length; at += pattern.length) words.set(pattern.subarray(0, Math.min(pattern.length, words.length - at)), at);
  return bench.put(shape, dtype, words, "pool", "kv");
}

/** Keys of kivi4: block b of table t holds the pattern's block (t · tableBlocks + b) % BLOCKS. */
function kiviKeys({ heads: { kvHeads, headDim }, sequences, before, step }: CachePlan, cache: Omit<CacheTwin, "kPool" | "vPool">) {
  const { tables, tableBlocks } = cache, half = headDim / 2, blockWords = kvBlockWords({ format: "kivi4", headDim }, BLOCK);
  const raw = Float64Array.from(numbers(BLOCKS * BLOCK * headDim, 5), (value) => f16ToNumber(numberToF16(value)));
  const encoded = Array.from({ length: BLOCKS }, (_, i) => encodeKeyBlock(raw.subarray(i * BLOCK * headDim, (i + 1) * BLOCK * headDim), headDim));
  const decoded = encoded.map((words) => decodeKeyBlock(words, headDim));
  const places = recentKeys({ slots: sequences, layers: 1, kvHeads, blockSize: BLOCK, rows: sequences * step });
  const patternOf = (table: number, index: number): number => (table * tableBlocks + Math.floor(index / BLOCK)) % BLOCKS;
  const key = (table: number, index: number): Float64Array => raw.subarray((patternOf(table, index) * BLOCK + index % BLOCK) * headDim, (patternOf(table, index) * BLOCK + index % BLOCK + 1) * headDim);
  const rowsAt = (places.tails + places.stepTails) * half;
  return {
    shape: kiviPoolShape(headDim, places.all, tables.length, BLOCK).shape, rowsAt,
    words: (appended: boolean): Uint32Array => {
      const words = new Uint32Array(places.all * half + tables.length * blockWords);
      const put = (at: number, values: Float64Array): void => words.set(new Uint32Array(Uint16Array.from(values, numberToF16).buffer), at);
      Uint32Array.from(tables).forEach((block, place) => {
        const table = Math.floor(place / tableBlocks), first = (place % tableBlocks) * BLOCK;
        if (first + BLOCK <= before + (appended ? step : 0)) words.set(encoded[patternOf(table, first)]!, places.all * half + block * blockWords);
      });
      for (let table = 0; table < sequences * kvHeads; table++) {
        for (let index = before - before % BLOCK; index < before; index++) {
          put((table * BLOCK + index % BLOCK) * half, key(table, index));
          if (appended) put((places.tails + table * BLOCK + index % BLOCK) * half, key(table, index));
        }
        const [sequence, head] = [Math.floor(table / kvHeads), table % kvHeads];
        for (let i = 0; i < step && appended; i++) put(rowsAt + ((sequence * step + i) * kvHeads + head) * half, key(table, before + i));
      }
      return words;
    },
    pool: (newest: number): Float64Array => {
      const pool = new Float64Array(tables.length * BLOCK * headDim);
      for (let table = 0; table < sequences * kvHeads; table++) {
        for (let index = 0; index < before + step; index++) {
          const own = Math.floor(index / BLOCK) === Math.floor(newest / BLOCK);
          const values = own ? key(table, index) : decoded[patternOf(table, index)]!.subarray((index % BLOCK) * headDim, (index % BLOCK + 1) * headDim);
          pool.set(values, entryOf({ ...cache, kPool: pool, vPool: pool }, table, index) * headDim);
        }
      }
      return pool;
    },
  };
}

/** By how much a device may miss a number of an entry that it stored: one step of its format, whose scale may be another by its last place. */
export function entryErrors(entry: Float64Array, encoding: KvEntryEncoding): Float64Array {
  if (!("group" in encoding)) {
    const [step, least] = { f32: [2 ** -22, 0], f16: [2 ** -10, 2 ** -14], bf16: [2 ** -7, 0] }[encoding.format] as [number, number];
    return entry.map((value) => step * Math.abs(value) + least);
  }
  const errors = new Float64Array(entry.length), { group, format } = encoding;
  for (let first = 0; first < entry.length; first += group) {
    const members = entry.subarray(first, first + group), [low, high] = [Math.min(...members), Math.max(...members)];
    errors.fill(1.25 * (format === "int8" ? Math.max(-low, high) / 127 : (high - low) / 15 + 2 ** -10 * Math.abs(low)), first, first + group);
  }
  return errors;
}

export { entryOf, tableOf };
