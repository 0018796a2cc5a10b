/**
 * What every architecture gives the engine, and what a forward pass is given: prefill, decode and the verify pass of speculation are the
 * same forward with different row counts, and nothing that depends on a position is hidden in a model.
 */

import type { Recorder } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { append, appendAndAttend, attention, type KvView, type Projection, type QkvLayout, type Splits } from "../kernels/attention.ts";
import type { Batch } from "../kernels/batch.ts";
import { addQueryStats, captureQueries, observe, rotateQueries } from "../kernels/capture.ts";
import type { Int8Scratch, RowsClass, Weight } from "../kernels/linear.ts";
import type { ModelConfig } from "./config.ts";

/** A model with its weights on the GPU. */
export interface Model {
  readonly config: ModelConfig;
  readonly qkv: QkvLayout;
  /** Columns of `attended` and `inner` in a pass's activations. */
  readonly attendedColumns: number;
  readonly innerColumns: number;
  readonly embedding: Weight;
  /** [vocab, hidden]: the embedding again when the two are tied. */
  readonly head: Weight;
  /** Every layer, from embedded tokens in `x` to the residual stream in `x`. */
  layers(recorder: Recorder, step: Step): void;
  /** normed[i] = final norm of the row of sample i. */
  finalNorm(recorder: Recorder, step: Step): void;
}

export type Phase = "prefill" | "decode";

/** What sizes of activations follow from, known before any weight is loaded. */
export type ModelShape = Pick<Model, "qkv" | "attendedColumns" | "innerColumns">;

/** The operands of one forward pass. All activations are f32 with room for the same number of rows. */
export interface Step {
  readonly batch: Batch;
  readonly view: KvView;
  /** cos and sin of every position and rotating pair: [positions, rotaryDims / 2, 2]. */
  readonly cosSin: Tensor;
  readonly rows: RowsClass;
  /** In decoding no two rows are of the same sequence. */
  readonly phase: Phase;
  /** Most rows of one sequence that attend together. */
  readonly tileRows: number;
  /** In decoding: how the keys of long rows are shared among workgroups; null when no row is long. */
  readonly splits: Splits | null;
  readonly activations: Activations;
  /** What presses are to be shown of this step; null: nothing. */
  readonly capture: Capture | null;
}

/** Where queries and attention are written down for presses while a step runs (kernels/capture.ts). Null: not wanted by any press. */
export interface Capture {
  readonly control: Tensor;
  readonly queries: ((layer: number) => Tensor) | null;
  readonly queryStats: ((layer: number) => Tensor) | null;
  /** f32 [rows, heads, 2]. */
  readonly observed: Tensor | null;
}

export interface Activations {
  /** Residual stream [M, hidden]. */
  readonly x: Tensor;
  /** Final norm of the sampled rows [M, hidden]. */
  readonly normed: Tensor;
  /** Fused projection [M, qkv.width]. */
  readonly qkv: Tensor;
  /** Rotated queries [M, heads · headDim]. */
  readonly q: Tensor;
  /** Output of attention [M, attendedColumns], in its first heads · headDim columns. */
  readonly attended: Tensor;
  /** Inside of the feed-forward layer [M, innerColumns]. */
  readonly inner: Tensor;
  /** What products need on their way; see `LinearOperands`. */
  readonly scratch?: Int8Scratch | undefined;
}

/** attended = attention of the rows in qkv, which also join the cache. */
export function attend(recorder: Recorder, step: Step, config: ModelConfig, layout: QkvLayout, layer: number, headNorm?: Projection["headNorm"]): void {
  const { view, batch, cosSin, tileRows, splits, phase, activations: { qkv, q, attended }, capture } = step;
  const projection: Projection = { qkv, layout, cosSin, headNorm };
  if (phase === "decode") {
    appendAndAttend(recorder, { projection, out: attended, view, batch, splits }, config, layer);
    if (capture?.observed) rotateQueries(recorder, { projection, q, batch }, config);
  } else {
    append(recorder, { projection, q, view, batch }, config, layer);
    attention(recorder, { q, out: attended, view, batch }, config, layer, tileRows);
  }
  if (capture === null) return;
  const { control } = capture;
  if (capture.queries) captureQueries(recorder, { projection, batch, control, out: capture.queries(layer) }, config);
  if (capture.queryStats) addQueryStats(recorder, { projection, batch, control, out: capture.queryStats(layer) }, config);
  if (capture.observed) observe(recorder, { q, view, batch, control, stats: capture.observed }, config, layer, tileRows);
}
