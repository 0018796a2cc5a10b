/**
 * One layer's dense tensors for the tests of scorers: made of numbers that are not uniform noise, put on a GPU, scored by a stage and read
 * back.
 */

import type { Gpu } from "../../../engine/gpu.ts";
import type { Recorder } from "../../../engine/recorder.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import type { LayerState, PressOperands, PressStage } from "../../../models/press.ts";
import type { DenseLayer, Scores } from "../../../techniques/press/reference.ts";
import { dispatch, numbers, put, release, takeF32 } from "../../support/gpu.ts";

export interface Layer extends DenseLayer {
  readonly norms: Float32Array;
  readonly attention: Float32Array;
  readonly positions: Uint32Array;
  readonly queryStats: Float32Array;
  readonly queryCount: number;
  readonly frequencies: readonly number[];
}

/** A shift, Σ(q − c) and Σ(q − c)(q − c)ᵀ of every head's queries, [count, heads, headDim], as the engine sums them. */
export function sumsOf(queries: ArrayLike<number>, { heads, headDim }: { heads: number; headDim: number }): Float32Array {
  const words = 2 * headDim + headDim ** 2, count = queries.length / (heads * headDim);
  const sums = new Float64Array(heads * words);
  for (let head = 0; head < heads; head++) {
    const of = sums.subarray(head * words, (head + 1) * words);
    for (let d = 0; d < headDim; d++) of[d] = queries[head * headDim + d]!;
    for (let q = 0; q < count; q++) {
      const away = Float64Array.from({ length: headDim }, (_, d) => queries[(q * heads + head) * headDim + d]! - of[d]!);
      for (let a = 0; a < headDim; a++) {
        of[headDim + a]! += away[a]!;
        for (let b = 0; b < headDim; b++) of[2 * headDim + a * headDim + b]! += away[a]! * away[b]!;
      }
    }
  }
  return Float32Array.from(sums);
}

export function makeLayer(shape: Pick<DenseLayer, "heads" | "kvHeads" | "headDim" | "columns" | "lengths"> & { window: number; frequencies: number }, seed: number): Layer {
  const { heads, kvHeads, headDim, columns, lengths, window } = shape;
  const size = kvHeads * headDim * columns, count = 37;
  const keys = numbers(size, seed, 0.7), values = numbers(size, seed + 1, 0.7);
  for (let i = 0; i < columns; i++) keys[3 * columns + i] = values[(headDim * (kvHeads - 1) + 5) * columns + i] = 0.25; // a dimension that says nothing
  return {
    heads, kvHeads, headDim, columns, lengths, keys, values, queries: numbers(window * heads * headDim, seed + 2, 0.7),
    norms: numbers(kvHeads * columns, seed + 3), attention: numbers(kvHeads * columns, seed + 4).map(Math.abs),
    positions: Uint32Array.from({ length: kvHeads * columns }, (_, i) => i % columns + Math.floor(i % columns / 7)),
    queryStats: sumsOf(numbers(count * heads * headDim, seed + 5, 0.7), shape), queryCount: count,
    frequencies: Array.from({ length: shape.frequencies }, (_, i) => 10_000 ** (-i / shape.frequencies)),
  };
}

/** Score `layer` with `stage`; fails when anything beyond a head's length is written. */
export async function scoresOf(gpu: Gpu, stage: PressStage, layer: Layer, state: Partial<LayerState> = {}): Promise<Scores> {
  const { heads, kvHeads, headDim, columns } = layer;
  const longest = Math.max(...Array.from(layer.lengths));
  const whole: LayerState = { prompt: longest, seen: longest, length: longest, acted: 0, layer: 0, layers: 4, kvHeads, ...state };
  const params = stage.params(whole, { heads, kvHeads, headDim, frequencies: layer.frequencies });
  if (params.length !== stage.paramCount) throw new Error(`params() gave ${params.length} numbers, paramCount is ${stage.paramCount}`);
  const { needs } = stage;
  const tensors: Record<string, Tensor> = {
    lengths: await put(gpu, [kvHeads], layer.lengths, "u32"), params: await put(gpu, [Math.max(1, params.length)], params.length > 0 ? params : [0]),
    scores: await put(gpu, [kvHeads, columns], null, "f32", "scores"),
    ...(needs.keys && { keys: await put(gpu, [kvHeads, headDim, columns], layer.keys) }),
    ...(needs.values && { values: await put(gpu, [kvHeads, headDim, columns], layer.values) }),
    ...(needs.norms && { norms: await put(gpu, [kvHeads, columns], layer.norms) }),
    ...(needs.attention && { attention: await put(gpu, [kvHeads, columns], layer.attention), positions: await put(gpu, [kvHeads, columns], layer.positions, "u32") }),
    ...(needs.queries !== undefined && { queries: await put(gpu, [needs.queries, heads * headDim], Array.from(layer.queries).slice(-needs.queries * heads * headDim)) }),
    ...(needs.queryStats && { queryStats: await put(gpu, [heads, 2 * headDim + headDim ** 2], layer.queryStats), queryCount: await put(gpu, [1], [layer.queryCount], "u32") }),
  };
  const scratch = new Map<string, Tensor>(), asked: [key: string, shape: readonly number[], dtype: "f32" | "u32"][] = [];
  const record = (recorder: Recorder, find: (key: string) => Tensor | undefined): void => {
    stage.score(recorder, {
      ...tensors, shape: { heads, kvHeads, headDim }, layer: whole.layer, columns,
      scratch: (name, shape, dtype) => {
        const key = `${name} ${shape.join()} ${dtype}`;
        asked.push([key, shape, dtype]);
        return find(key) ?? { ...tensors["scores"]!, shape, dtype };
      },
    } as PressOperands);
  };
  // The first time only to hear which scratch tensors it asks for.
  await dispatch(gpu, (recorder) => { const ask = Object.create(recorder, { run: { value: () => undefined } }) as Recorder; record(ask, () => undefined); });
  for (const [key, shape, dtype] of asked) if (!scratch.has(key)) scratch.set(key, await put(gpu, shape, null, dtype, key));
  await dispatch(gpu, (recorder) => { record(recorder, (key) => scratch.get(key)); }, { rows: longest });
  const scores = await takeF32(gpu, tensors["scores"]!);
  release(gpu, ...Object.values(tensors), ...scratch.values());
  const untouched = new Float32Array(Uint32Array.of(0xdeadbeef).buffer)[0]!;
  return Array.from(layer.lengths, (n, head) => {
    const row = scores.subarray(head * columns, (head + 1) * columns);
    if (row.subarray(n).some((score) => score !== untouched)) throw new Error(`head ${head}: a score beyond its ${n} entries was written`);
    return Float64Array.from(row.subarray(0, n));
  });
}

/** The `keep` best of a head in ascending order, of equal scores the first. */
export function best(scores: Float64Array, keep: number): number[] {
  return Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, keep).sort((a, b) => a - b);
}
