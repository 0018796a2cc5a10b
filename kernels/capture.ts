/**
 * What presses need to be shown and is gone once a step is over, captured while the model runs: queries of the last tokens, the distribution
 * of queries before rotation, the attention every entry gets. Steps hold rows of many sequences: what is wanted of each, `control` says,
 * which the host writes and recorded steps read. Nothing here uses atomics: results do not depend on the order in which a GPU works.
 */

import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { LAYOUTS, rotation, viewConsts, viewTensors, type AttentionShape, type KvView, type Projection } from "./attention.ts";
import { BATCH_READ, batchConsts, type Batch } from "./batch.ts";
import { kvSlots } from "./kv_slots.ts";
import { checkBuffers, noteConsts } from "./note.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const CAPTURE = file("./capture.wgsl");
const ROWS = file("./capture_rows.wgsl");
const WINDOW = file("./capture_window.wgsl");
const RUNS = file("./capture_runs.wgsl");
const STATS = file("./capture_stats.wgsl");
const SCORES = file("./capture_scores.wgsl");
const SOFTMAX = file("./capture_softmax.wgsl");
const OBSERVE = file("./capture_observe.wgsl");
const REDUCE = file("./reduce.wgsl");

/**
 * Words of a slot in `control`, u32 [slots, 8]. 0: first position whose query is kept, 1: how many positions (0: none). 2: first position for
 * statistics, 3: end of those. 4: 1 when attention is observed. The others are zero.
 */
export const CONTROL_WORDS = 8;

/**
 * Rotated queries of positions control[0] … control[0] + control[1] − 1 into out, f32 [slots, window, heads · headDim], row position % window
 * of their slot; of positions that share a row the last has it. Grid: rows.
 */
export function captureQueries(
  recorder: Recorder, { projection, batch, control, out }: { projection: Projection; batch: Batch; control: Tensor; out: Tensor }, shape: AttentionShape,
): void {
  const { window } = match("captureQueries", { control: [control, "slots", CONTROL_WORDS], out: [out, "slots", "window", shape.heads * shape.headDim] });
  const { slots, consts, tensors } = rotation(recorder, projection, shape);
  recorder.run({
    source: CAPTURE, slots: [WINDOW, ...slots, ...BATCH_READ], consts: { ...consts, WINDOW: window!, CONTROL: CONTROL_WORDS, ...batchConsts(batch) },
  }, { ...tensors, out, control, batch: batch.tensor }, shape.heads, { rowsPer: 1 });
}

/** Rotated queries of every row to q, f32 [M, heads · headDim], as `append` leaves them: for decode steps, which have them nowhere. Grid: rows. */
export function rotateQueries(recorder: Recorder, { projection, q, batch }: { projection: Projection; q: Tensor; batch: Batch }, shape: AttentionShape): void {
  match("rotateQueries", { q: [q, "M", shape.heads * shape.headDim] });
  const { slots, consts, tensors } = rotation(recorder, projection, shape);
  recorder.run({ source: CAPTURE, slots: [ROWS, ...slots, ...BATCH_READ], consts: { ...consts, ...batchConsts(batch) } },
    { ...tensors, out: q, batch: batch.tensor }, shape.heads, { rowsPer: 1 });
}

/**
 * Add the queries at positions control[2] … control[3] − 1 to out, f32 [slots, heads, 2·headDim + headDim²]: a shift c, Σ(q − c) and
 * Σ(q − c)(q − c)ᵀ row by row, of queries that are not rotated but normed per head where the model does that. The query at control[2] becomes c
 * and begins the sums anew, so nothing needs to be cleared. Rows come in the order of positions, none twice. Grid: tiles.
 */
export function addQueryStats(
  recorder: Recorder, { projection, batch, control, out }: { projection: Projection; batch: Batch; control: Tensor; out: Tensor }, shape: AttentionShape,
): void {
  const { heads, headDim } = shape;
  match("addQueryStats", { control: [control, "slots", CONTROL_WORDS], out: [out, "slots", heads, 2 * headDim + headDim * headDim] });
  const { slots, consts, tensors } = rotation(recorder, projection, shape);
  const columns = Math.ceil(headDim / 4 / recorder.gpu.subgroupSize);
  recorder.run({
    source: STATS, slots: [RUNS, ...slots, ...BATCH_READ], consts: { ...consts, CONTROL: CONTROL_WORDS, ...batchConsts(batch) },
  }, { ...tensors, out, control, batch: batch.tensor }, heads * (headDim / 8) * columns, "tiles");
}

/** Lanes of a workgroup, and how many workgroups share the entries of all KV heads of a sequence: enough for a machine's cores. */
const OBSERVERS = { software: { lanes: null, workgroups: 8 }, gpu: { lanes: 256, workgroups: 264 } } as const;

/**
 * Add softmax(q kᵀ / sqrt(headDim)) of the step's rows, all query heads of a group, to what is noted of the entries that they see, their own
 * among them, for slots with control[4] = 1. Behind the append of the layer. q: f32 [M, heads · headDim], rotated; stats: f32 [M, heads, 2], what
 * passes between the two dispatches. `tileRows` rows of a sequence share the reading of a key: in prefill as many as attend together, in
 * decoding, where there is one, 1. Rows of different sequences must not see the same entry: sums would lose what one of them adds. Throws
 * GpuError where the adapter binds too few buffers. Grids: rows and tiles.
 */
export function observe(
  recorder: Recorder, { q, view, batch, control, stats }: { q: Tensor; view: KvView; batch: Batch; control: Tensor; stats: Tensor },
  shape: AttentionShape, layer: number, tileRows = 1,
): void {
  const { heads, kvHeads, headDim } = shape;
  match("observe", { q: [q, "M", heads * headDim], stats: [stats, "M", heads, 2], control: [control, "slots", CONTROL_WORDS] });
  const { notes } = view;
  if (notes === undefined || notes.attention === null) throw new Error("observe: the cache has no notes of attention");
  const { gpu } = recorder;
  const { lanes, workgroups } = OBSERVERS[gpu.family];
  const stripes = Math.ceil(workgroups / kvHeads);
  // The bytes of an entry are the same for both families, and a lane that has a key to itself reads eight dimensions at once.
  const keys = kvSlots(view, "gpu", "read", "prefill");
  const consts: Consts = {
    HEADS: heads, GROUP: heads / kvHeads, HEAD_DIM: headDim, CHUNK: tileRows, STRIPES: stripes,
    SCALE: f32(Math.LOG2E / Math.sqrt(headDim)), SUBGROUP: gpu.subgroupSize, WORKGROUP: lanes ?? gpu.subgroupSize, CONTROL: CONTROL_WORDS,
    ...keys.consts, ...viewConsts(view), ...batchConsts(batch),
  };
  const slots = [SCORES, RUNS, ...keys.slots, LAYOUTS[view.layout], ...BATCH_READ];
  const tensors = { q, stats, control, ...viewTensors(view, layer), batch: batch.tensor, notes: notes.tensor };
  checkBuffers(gpu, Object.keys(tensors).length);
  recorder.run({ source: SOFTMAX, slots: [REDUCE, ...slots], consts }, tensors, kvHeads, { rowsPer: 1 });
  recorder.run({ source: OBSERVE, slots, consts: { ...consts, ...noteConsts(notes) } }, tensors, kvHeads * stripes, "tiles");
}
