/**
 * What stands around the selection of entries (kernels/select.ts), of one layer of one sequence of a paged cache. Before it: dense copies of
 * what a press wants to see. After it: the kept entries move into fresh blocks, and keys may be rotated to their new places. The tables
 * stay as they are all the while; the host sets them once it gives the old blocks back.
 */

import { wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { LAYOUTS, viewConsts, viewTensors, type KvView } from "./attention.ts";
import { entryCopy } from "./copy.ts";
import { kvSlots } from "./kv_slots.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const DENSE_LENGTHS = file("./dense_lengths.wgsl");
const DENSE_ENTRIES = file("./dense_entries.wgsl");
const DENSE_NOTES = file("./dense_notes.wgsl");
const KEPT_ENTRIES = file("./kept_entries.wgsl");
const MOVE_KEPT = file("./move_kept.wgsl");
const REROTATE = file("./rerotate.wgsl");

/** A sequence of a cache. */
export interface SequenceView {
  readonly view: KvView;
  /** u32 [1]: which. */
  readonly slot: Tensor;
}

/** What `compact` (kernels/select.ts) kept, and where it goes. H KV heads. */
export interface Kept {
  /** u32 [H, columns] indices of kept entries, ascending, and u32 [H, 4], of which the third says how many. */
  readonly order: Tensor;
  readonly cut: Tensor;
  /** u32 [H, tableBlocks]: blocks that take them, none of them in the tables of this layer. */
  readonly fresh: Tensor;
}

/** Lanes of a workgroup and how many entries it takes: on lavapipe a workgroup costs about as much as copying a few entries. */
function working({ gpu }: Recorder): { readonly WORKGROUP: number; readonly SUBGROUP: number; readonly TURN: number } {
  const { family, subgroupSize: SUBGROUP } = gpu;
  return family === "software" ? { WORKGROUP: SUBGROUP, SUBGROUP, TURN: 64 } : { WORKGROUP: 4 * SUBGROUP, SUBGROUP, TURN: 4 * SUBGROUP };
}

/** out: u32 [H], entries of each KV head. */
export function denseLengths(recorder: Recorder, { view, slot, out }: SequenceView & { readonly out: Tensor }, layer: number): void {
  match("denseLengths", { out: [out, view.kvHeads], slot: [slot, 1] });
  const SUBGROUP = recorder.gpu.subgroupSize;
  recorder.run({ source: DENSE_LENGTHS, slots: [paged("denseLengths", view)], consts: { SUBGROUP, ...viewConsts(view) } },
    { out, slot, ...tablesOf(view, layer) }, Math.ceil(view.kvHeads / SUBGROUP));
}

/** out: f32 [H, headDim, columns], keys or values as they are stored, whatever their format; columns behind a head's entries are not written. */
export function denseEntries(
  recorder: Recorder, { view, slot, which, out }: SequenceView & { readonly which: "k" | "v"; readonly out: Tensor }, layer: number,
): void {
  const { columns } = match("denseEntries", { out: [out, view.kvHeads, view.v.headDim, "columns"], slot: [slot, 1] });
  const { slots, consts } = entrySlots("denseEntries", view, "read");
  const { TURN, ...work } = working(recorder);
  recorder.run({
    source: DENSE_ENTRIES, slots: [...slots, paged("denseEntries", view)],
    consts: { ...consts, ...work, TURN, KEYS: which === "k", HEAD_DIM: view.v.headDim, COLUMNS: columns!, ...viewConsts(view) },
  }, { out, slot, ...viewTensors(view, layer) }, view.kvHeads, { rowsPer: TURN });
}

/** Where notes go; those that are left out are not wanted. */
export interface NotesOut { readonly norms?: Tensor | undefined; readonly attention?: Tensor | undefined; readonly positions?: Tensor | undefined }

/**
 * What is noted beside every entry: ‖k‖ and attention f32 [H, columns], positions u32 [H, columns]; columns behind a head's entries are not
 * written. The cache must have notes of what is asked for.
 */
export function denseNotes(recorder: Recorder, { view, slot, ...wanted }: SequenceView & NotesOut, layer: number): void {
  const { notes } = view;
  const behind = (word: number | null | undefined): number | null => (typeof word === "number" ? word + 1 : null);
  const words = { norms: notes?.norm, attention: notes?.attention, positions: behind(notes?.attention) };
  for (const name of ["norms", "attention", "positions"] as const) {
    const [out, word] = [wanted[name], words[name]];
    if (out === undefined) continue;
    if (notes === undefined || typeof word !== "number") throw new Error(`denseNotes: the cache has no notes of ${name}`);
    const { columns } = match("denseNotes", { [name]: [out, view.kvHeads, "columns"], slot: [slot, 1] });
    const { TURN, ...work } = working(recorder);
    recorder.run({
      source: DENSE_NOTES, slots: [paged("denseNotes", view)],
      consts: { ...work, TURN, COLUMNS: columns!, NOTE_WORDS: notes.words, WORD: word, ...viewConsts(view) },
    }, { out, slot, notes: notes.tensor, ...tablesOf(view, layer) }, view.kvHeads, { rowsPer: TURN });
  }
}

/** Copy keys, values and notes of kept entries: entry order[h][i] of head h becomes entry i of the blocks fresh[h]. */
export function moveKept(recorder: Recorder, { view, slot, ...kept }: SequenceView & Kept, layer: number): void {
  const { columns } = matchKept("moveKept", view, kept, { slot: [slot, 1] });
  const copy = entryCopy(recorder.gpu, view);
  const { TURN, ...work } = working(recorder);
  recorder.run({
    source: MOVE_KEPT, slots: [KEPT_ENTRIES, ...copy.slots, paged("moveKept", view)],
    consts: { ...work, TURN, COLUMNS: columns!, ...copy.consts, ...viewConsts(view) },
  }, { ...kept, slot, ...copy.tensors, ...tablesOf(view, layer) }, view.kvHeads, { rowsPer: TURN });
}

/**
 * After `moveKept`: the key that is now entry i was rotated for position order[h][i]; it is rotated to position i, and rounded once more to what
 * it is stored in, unless it stays where it was. Its norm as it was noted holds up to that rounding. cosSin: f32 [positions, half, 2], positions
 * more than the largest difference; the first 2·half dimensions rotate.
 */
export function rerotate(recorder: Recorder, { view, cosSin, ...kept }: { readonly view: KvView; readonly cosSin: Tensor } & Kept, layer: number): void {
  const { columns, half } = matchKept("rerotate", view, kept, { cosSin: [cosSin, "positions", "half", 2] });
  const { slots, consts } = entrySlots("rerotate", view, "write");
  const { TURN, ...work } = working(recorder);
  const { k_pool, v_pool } = viewTensors(view, layer) as Record<"k_pool" | "v_pool", Tensor>;
  recorder.run({
    source: REROTATE, slots: [KEPT_ENTRIES, ...slots],
    consts: { ...consts, ...work, TURN, HEAD_DIM: view.k.headDim, HALF: half!, COLUMNS: columns!, ...viewConsts(view) },
  }, { ...kept, cos_sin: cosSin, k_pool, v_pool }, view.kvHeads, { rowsPer: TURN });
}

function matchKept(op: string, { kvHeads, tableBlocks }: KvView, { order, cut, fresh }: Kept, more: Parameters<typeof match>[1]): Record<string, number> {
  return match(op, { order: [order, kvHeads, "columns"], cut: [cut, kvHeads, 4], fresh: [fresh, kvHeads, tableBlocks], ...more });
}

function tablesOf(view: KvView, layer: number): Record<"tables" | "lengths" | "layer", Tensor> {
  const { tables, lengths, layer: number } = viewTensors(view, layer) as Record<"tables" | "lengths" | "layer", Tensor>;
  return { tables, lengths, layer: number };
}

/** How entries of a paged cache are found. */
function paged(op: string, { layout }: KvView): WgslFile {
  if (layout !== "paged") throw new Error(`${op}: a ${layout} cache cannot be taken apart`);
  return LAYOUTS.paged;
}

/** Slots and constants that read eight dimensions of an entry at once, in both kernel families: the bytes are the same. */
function entrySlots(op: string, view: KvView, use: "read" | "write"): { readonly slots: readonly WgslFile[]; readonly consts: Consts } {
  if (view.k.format === "kivi4") throw new Error(`${op}: keys of kivi4 lie in blocks, not in entries`);
  return kvSlots(view, "gpu", use, "prefill");
}
