/**
 * Attention over the KV cache: rotate queries and keys, write keys and values into the cache, attend. Rows that attend to each other
 * need two dispatches, `append` and `attention`; in decoding every row is of another sequence, and `appendAndAttend` does it in one.
 * Each key and value is read once per KV head for all query heads of its group. Cache layout and number format are slots.
 */

import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_READ, BATCH_WRITE, batchConsts, type Batch } from "./batch.ts";
import { entryCopy } from "./copy.ts";
import { recentKeys, type KvEncoding, type KvEntryEncoding } from "./kv_formats.ts";
import type { KvNotes } from "./kv_notes.ts";
import { KIVI_KEYS, KIVI_SETTLE, kvSlots } from "./kv_slots.ts";
import { noting } from "./note.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const APPEND = file("./append.wgsl");
const APPEND_ROW = file("./append_row.wgsl");
const SETTLE = file("./settle.wgsl");
const REFILL = file("./refill.wgsl");
/**
 * Of each kernel family: attention, and what it does with a decoded row's own key and value. A GPU reads eight dimensions at once, for it
 * wants loads of 16 bytes; on lavapipe smaller pieces of more queries at once were faster.
 */
const FAMILIES = {
  software: { attention: file("./attention_broadcast.wgsl"), own: file("./own_attend.wgsl") },
  gpu: { attention: file("./attention.wgsl"), own: file("./own_append.wgsl") },
} as const;
const GATHER = file("./gather.wgsl");
const ADVANCE = file("./advance.wgsl");
const ROTATE = file("./rotate.wgsl");
const SPLIT = file("./splits.wgsl");
const NO_SPLITS = file("./no_splits.wgsl");
const MERGE_SPLITS = file("./merge_splits.wgsl");
const QUERY_READ = file("./query_read.wgsl");
const QUERY_ROTATE = file("./query_rotate.wgsl");
const NO_OWN = file("./no_own.wgsl");
/** `kv_entry`, which finds an entry of the cache, for each layout. */
export const LAYOUTS = { paged: file("./kv/paged.wgsl"), contiguous: file("./kv/contiguous.wgsl") } as const;
const HEAD_NORM = file("./head_norm.wgsl");
const NO_HEAD_NORM = file("./no_head_norm.wgsl");

/** What a kernel needs to find an entry of the cache. */
export interface KvView {
  /** How keys and how values are stored. */
  readonly k: KvEncoding;
  readonly v: KvEntryEncoding;
  readonly layout: keyof typeof LAYOUTS;
  /** As `poolShape` and `kiviPoolShape` say, all layers, heads and sequences in one pool. */
  readonly kPool: Tensor;
  readonly vPool: Tensor;
  /** u32 [sequences, layers, kvHeads, tableBlocks] (contiguous: one word, the first entry) and [sequences, layers, kvHeads]. */
  readonly tables: Tensor;
  readonly lengths: Tensor;
  /** u32 [layers, 64]: the number of each layer at the start of its row, so that a kernel is told its layer by a view. */
  readonly layerNumbers: Tensor;
  readonly blockSize: number;
  readonly tableBlocks: number;
  readonly layers: number;
  readonly kvHeads: number;
  /** Rows of a step for which a pool of kivi4 keys has room. */
  readonly recentRows: number;
  /** What is written down beside the entries when they are appended. */
  readonly notes?: KvNotes | undefined;
}

/** Query heads, KV heads (a divisor of them) and the dimensions of a head. */
export interface AttentionShape { readonly heads: number; readonly kvHeads: number; readonly headDim: number }

/** Where head h of queries, keys and values starts in a row of the fused projection: first + h · step. */
export interface QkvLayout {
  readonly width: number;
  readonly q: { readonly first: number; readonly step: number };
  readonly k: { readonly first: number; readonly step: number };
  readonly v: { readonly first: number; readonly step: number };
}

/** The resources of `kernels/kv/paged.wgsl` for one layer; those of contiguous.wgsl are the same. */
export function viewTensors({ kPool, vPool, tables, lengths, layerNumbers }: KvView, layer: number): Record<string, Tensor> {
  return { k_pool: kPool, v_pool: vPool, tables, lengths, layer: { ...layerNumbers, offset: layerNumbers.offset + layer * 256, shape: [1] } };
}

export function viewConsts(view: KvView): Consts {
  return { LAYERS: view.layers, KV_HEADS: view.kvHeads, TABLE: view.tableBlocks, BLOCK: view.blockSize, ...recentConsts(view) };
}

/** Where in a pool of kivi4 keys what lies in front of the blocks. */
function recentConsts({ k, lengths, recentRows: rows, ...view }: KvView): Consts {
  if (k.format !== "kivi4") return {};
  const { tails, stepTails, all } = recentKeys({ ...view, slots: lengths.shape[0]!, rows });
  return { STEP_TAILS: tails, STEP_ROWS: tails + stepTails, RECENT: all };
}

/** Slots and constants that find, read and write entries. */
function cacheSlots({ gpu }: Recorder, view: KvView, use: "read" | "write", phase: "prefill" | "decode"): { slots: readonly WgslFile[]; consts: Consts } {
  const { slots, consts } = kvSlots(view, gpu.family, use, phase);
  return { slots: [...slots, LAYOUTS[view.layout]], consts: { ...consts, ...viewConsts(view) } };
}

/** The fused projection of every row, and what rotates it. */
export interface Projection {
  /** [M, columns of the buffer] f32; a row's projection stands in its first `layout.width` columns. */
  readonly qkv: Tensor;
  readonly layout: QkvLayout;
  /** [positions, half, 2] f32. */
  readonly cosSin: Tensor;
  /** Weights [2, headDim] of queries and keys (Qwen3), and eps. */
  readonly headNorm?: { readonly weights: Tensor; readonly eps: number } | undefined;
}

/** Slots, constants and resources of `kernels/rotate.wgsl`. */
export function rotation(recorder: Recorder, { qkv, layout, cosSin, headNorm }: Projection, { heads, headDim }: AttentionShape) {
  const { half, width } = match("rotate", { qkv: [qkv, "M", "width"], cosSin: [cosSin, "P", "half", 2], ...(headNorm && { headNorm: [headNorm.weights, 2, headDim] }) });
  if (layout.width > width!) throw new Error(`rotate: qkv has ${width} columns, but the layout takes ${layout.width}`);
  return {
    slots: [ROTATE, headNorm ? HEAD_NORM : NO_HEAD_NORM],
    consts: {
      QKV: width!, HEADS: heads, HEAD_DIM: headDim, HALF: half!, SUBGROUP: recorder.gpu.subgroupSize,
      Q_FIRST: layout.q.first, Q_STEP: layout.q.step, K_FIRST: layout.k.first, K_STEP: layout.k.step, V_FIRST: layout.v.first, V_STEP: layout.v.step,
      HEAD_NORM: headNorm !== undefined, EPS: f32(headNorm?.eps ?? 0),
    },
    tensors: { qkv, cos_sin: cosSin, ...(headNorm && { head_weights: headNorm.weights }) },
  };
}

/** Rotated queries to q: [M, heads · headDim] f32, rotated keys and values of every row into the cache; of kivi4 also the blocks that they complete. */
export function append(
  recorder: Recorder, { projection, q, view, batch }: { projection: Projection; q: Tensor; view: KvView; batch: Batch }, shape: AttentionShape, layer: number,
): void {
  match("append", { q: [q, "M", shape.heads * shape.headDim] });
  const { slots, consts, tensors } = rotation(recorder, projection, shape);
  const cache = cacheSlots(recorder, view, "write", "prefill");
  const notes = noting(recorder.gpu, view, { ...tensors, q, ...viewTensors(view, layer), batch: batch.tensor });
  recorder.run({
    source: APPEND, slots: [APPEND_ROW, ...slots, ...notes.slots, ...cache.slots, ...BATCH_READ],
    consts: { ...consts, ...cache.consts, ...notes.consts, ...batchConsts(batch) },
  }, notes.tensors, shape.heads + shape.kvHeads, { rowsPer: 1 });
  if (view.k.format === "kivi4") settle(recorder, view, batch, layer);
}

/** Behind the append of a layer: quantize the blocks of keys that are complete now, and keep the others' keys. */
function settle(recorder: Recorder, view: KvView, batch: Batch, layer: number): void {
  if (batch.rows > view.recentRows) throw new Error(`append: a batch of ${batch.rows} rows, but the cache has room for the keys of ${view.recentRows}`);
  const { k_pool, tables, lengths, layer: layerNumber } = viewTensors(view, layer) as Record<"k_pool" | "tables" | "lengths" | "layer", Tensor>;
  recorder.run({
    source: SETTLE, slots: [...KIVI_SETTLE, LAYOUTS[view.layout], ...BATCH_READ],
    consts: { HEAD_DIM: view.k.headDim, SUBGROUP: recorder.gpu.subgroupSize, ...viewConsts(view), ...batchConsts(batch) },
  }, { k_pool, tables, lengths, layer: layerNumber, batch: batch.tensor }, view.kvHeads, { rowsPer: 1 });
}

/**
 * Write the tails of tables anew (kivi4): moves[i] = (table, source), u32 [n, 2], where a source is a table whose tail is copied, or REFILL_BLOCK +
 * a block whose keys are decoded. No table may be both.
 */
export function refill(recorder: Recorder, { moves, view }: { moves: Tensor; view: KvView }): void {
  const { n } = match("refill", { moves: [moves, "n", 2] });
  for (let first = 0; first < n!; first += GATHER_STEP) {
    const count = Math.min(GATHER_STEP, n! - first);
    recorder.run({
      source: REFILL, slots: KIVI_KEYS, consts: { HEAD_DIM: view.k.headDim, SUBGROUP: recorder.gpu.subgroupSize, ...viewConsts(view) },
    }, { moves: { ...moves, offset: moves.offset + first * 8, shape: [count, 2] }, k_pool: view.kPool }, 1, count);
  }
}

/**
 * Most queries of a tile, most dimensions of all its queries, and most rows: what registers and their spilling leave. Measured on
 * lavapipe, head_dim 64: 14 queries of 7 heads take 0.8 times as long as 7, 8 of one head half as long as 4, and 16 longer than 8.
 */
const TILE = { queries: 16, dimensions: 1024, rows: 8 } as const;

/** Rows of one sequence that attend together in a prefill, so that they share the reading of keys and values. */
export function prefillTileRows({ heads, kvHeads, headDim }: AttentionShape): number {
  const queries = Math.min(TILE.queries, Math.floor(TILE.dimensions / headDim));
  return Math.max(1, Math.min(TILE.rows, Math.floor(queries / (heads / kvHeads))));
}

function attentionConsts({ gpu }: Recorder, out: Tensor, shape: AttentionShape, tileRows: number): Consts {
  const [, columns] = out.shape as readonly [number, number];
  if (columns < shape.heads * shape.headDim || columns % 4 !== 0) throw new Error(`attention: out has ${columns} columns for ${shape.heads} heads of ${shape.headDim}`);
  const [SUBGROUP, WORKGROUP] = [gpu.subgroupSize, gpu.family === "software" ? gpu.subgroupSize : 4 * gpu.subgroupSize];
  return {
    OUT: columns / 4, HEADS: shape.heads, GROUP: shape.heads / shape.kvHeads, HEAD_DIM: shape.headDim, TILE_ROWS: tileRows,
    SCALE: f32(Math.LOG2E / Math.sqrt(shape.headDim)), SUBGROUP, WORKGROUP,
    TURN: gpu.family === "software" ? 2 * SUBGROUP : WORKGROUP, // keys that a workgroup takes at a time
  };
}

/**
 * out = softmax(q kᵀ / sqrt(headDim)) v over what each row may see. q: [M, heads · headDim] f32; out: the same, or wider rows of which it
 * fills the first columns. The batch's tiles hold at most `tileRows` rows.
 */
export function attention(
  recorder: Recorder, { q, out, view, batch }: { q: Tensor; out: Tensor; view: KvView; batch: Batch }, shape: AttentionShape, layer: number, tileRows: number,
): void {
  match("attention", { q: [q, "M", shape.heads * shape.headDim], out: [out, "M", "columns"] });
  const { slots, consts } = cacheSlots(recorder, view, "read", "prefill");
  recorder.run({
    source: FAMILIES[recorder.gpu.family].attention, slots: [QUERY_READ, NO_OWN, NO_SPLITS, ...slots, ...BATCH_READ],
    consts: { SPLITS: 1, ...attentionConsts(recorder, out, shape, tileRows), ...consts, ...batchConsts(batch) },
  }, { q, out, ...viewTensors(view, layer), batch: batch.tensor }, shape.kvHeads, "tiles");
}

/** Keys of a row for each split of it, and the most workgroups of a row: fixed for a family, so that results depend on the shape alone. */
const SPLITTING = {
  // A core runs a workgroup. Four KV heads keep the cores of a small machine busy; a split costs a dispatch more.
  software: { keys: 512, workgroups: 4 },
  // Two workgroups for each of the 132 multiprocessors of an H100 or H200.
  gpu: { keys: 256, workgroups: 264 },
} as const;

/** How a decode step shares the keys of long rows among workgroups: rows of up to `keys` keys are not split. */
export interface Splits {
  readonly count: number;
  readonly keys: number;
  /** f32, as `partialsShape` says, for as many rows as a step may have. */
  readonly partials: Tensor;
}

/**
 * How often rows of up to `maxModelLen` keys are split at most, fixed by the shape so that results do not depend on the batch; 1: never. And
 * up to how many keys a row stays whole.
 */
export function decodeSplits({ family }: Pick<Gpu, "family">, { kvHeads }: AttentionShape, maxModelLen: number): { readonly count: number; readonly keys: number } {
  const { keys, workgroups } = SPLITTING[family];
  return { count: Math.max(1, Math.min(Math.floor(workgroups / kvHeads), Math.ceil(maxModelLen / keys))), keys };
}

/** What `count` splits of `rows` rows leave for the merge. */
export function partialsShape({ heads, headDim }: AttentionShape, rows: number, count: number): readonly [number, number, number, number] {
  return [rows, heads, count, headDim + 4];
}

/**
 * `append` and `attention` in one, for batches in which no two rows are of the same sequence. With `splits` the keys of long rows are shared
 * among workgroups, whose results a second dispatch merges in index order.
 */
export function appendAndAttend(
  recorder: Recorder, { projection, out, view, batch, splits }: { projection: Projection; out: Tensor; view: KvView; batch: Batch; splits?: Splits | null },
  shape: AttentionShape, layer: number,
): void {
  const { slots, consts, tensors } = rotation(recorder, projection, shape);
  const { attention: source, own } = FAMILIES[recorder.gpu.family];
  const entries = cacheSlots(recorder, view, "write", "decode");
  const common = { ...attentionConsts(recorder, out, shape, 1), ...viewConsts(view), ...batchConsts(batch) };
  const cache = viewTensors(view, layer);
  const notes = noting(recorder.gpu, view, { ...tensors, out, ...cache, batch: batch.tensor, ...(splits && { partials: splits.partials }) });
  const appending = [QUERY_ROTATE, own, APPEND_ROW, ...slots, ...notes.slots, ...entries.slots, ...BATCH_READ];
  const all = { ...consts, ...common, ...entries.consts, ...notes.consts };
  if (splits === null || splits === undefined) {
    recorder.run({ source, slots: [NO_SPLITS, ...appending], consts: { ...all, SPLITS: 1 } }, notes.tensors, shape.kvHeads, "tiles");
    return;
  }
  const { count, keys, partials } = splits;
  match("appendAndAttend", { partials: [partials, "rows", shape.heads, count, shape.headDim + 4] });
  const split = { ...common, SPLITS: count, SPLIT_KEYS: keys };
  recorder.run({ source, slots: [SPLIT, ...appending], consts: { ...all, ...split } }, notes.tensors, shape.kvHeads * count, "tiles");
  const { tables, lengths, layer: layerNumber } = cache as { tables: Tensor; lengths: Tensor; layer: Tensor };
  recorder.run({ source: MERGE_SPLITS, slots: [SPLIT, LAYOUTS[view.layout], ...BATCH_READ], consts: split },
    { out, partials, tables, lengths, layer: layerNumber, batch: batch.tensor }, shape.heads, { rowsPer: 1 });
}

/** Entries that one dispatch copies at most: a grid has no more than 65,535 workgroups, and views of `moves` stay aligned. */
const GATHER_STEP = 32_768;

/** Copy entries moves[i] = (source, target) of both pools, with their notes, but keys of kivi4, which have none; moves: u32 [n, 2]. Sources and targets must not overlap. */
export function gather(recorder: Recorder, { moves, view }: { moves: Tensor; view: KvView }): void {
  const { n } = match("gather", { moves: [moves, "n", 2] });
  const { slots, consts, tensors } = entryCopy(recorder.gpu, view);
  for (let first = 0; first < n!; first += GATHER_STEP) {
    const count = Math.min(GATHER_STEP, n! - first);
    recorder.run({ source: GATHER, slots, consts }, { moves: { ...moves, offset: moves.offset + first * 8, shape: [count, 2] }, ...tensors }, 1, count);
  }
}

/** The end of a decode step: one entry more in every table of every row's sequence. */
export function advance(recorder: Recorder, { view, batch }: { view: KvView; batch: Batch }): void {
  recorder.run({
    source: ADVANCE, slots: BATCH_WRITE, consts: { TABLES: view.layers * view.kvHeads, SUBGROUP: recorder.gpu.subgroupSize, ...batchConsts(batch) },
  }, { lengths: view.lengths, batch: batch.tensor }, 1, { rowsPer: 1 });
}
