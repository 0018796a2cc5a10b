/**
 * What every architecture gives the engine: its weights, declared by their Hugging Face names, and its forward pass as a list of kernel
 * calls. Prefill, decode and the verify pass of speculation are the same forward with different row counts; nothing that depends on a
 * position is hidden in a model.
 */

import { UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { KvView, QkvLayout } from "../kernels/attention.ts";
import type { Batch } from "../kernels/batch.ts";
import type { RowsClass, Weight } from "../kernels/linear.ts";
import type { ModelConfig } from "./config.ts";
import { loadGptNeox } from "./gpt_neox.ts";
import { loadQwen } from "./qwen.ts";
import type { LoadWeightsOptions, WeightSource } from "./weights.ts";

/** A model with its weights on the GPU. */
export interface Model {
  readonly config: ModelConfig;
  readonly qkv: QkvLayout;
  readonly embedding: Weight;
  /** [vocab, hidden]: the embedding again when the two are tied. */
  readonly head: Weight;
  /** Every layer, from embedded tokens in `x` to the residual stream in `x`. */
  layers(recorder: Recorder, step: Step): void;
  /** normed[i] = final norm of the row of sample i. */
  finalNorm(recorder: Recorder, step: Step): void;
}

/** The operands of one forward pass. All activations are f32 with room for the same number of rows. */
export interface Step {
  readonly batch: Batch;
  readonly view: KvView;
  /** cos and sin of every position and rotating pair: [positions, rotaryDims / 2, 2]. */
  readonly cosSin: Tensor;
  readonly rows: RowsClass;
  /** Most rows of one sequence that attend together. */
  readonly tileRows: number;
  readonly activations: Activations;
}

export interface Activations {
  /** Residual stream [M, hidden]. */
  readonly x: Tensor;
  /** Normed input of a sub-layer [M, hidden]. */
  readonly normed: Tensor;
  /** Fused projection [M, qkv.width]. */
  readonly qkv: Tensor;
  /** Rotated queries [M, heads · headDim]. */
  readonly q: Tensor;
  /** Output of attention [M, heads · headDim]. */
  readonly attended: Tensor;
  /** Inside of the feed-forward layer [M, intermediate]. */
  readonly inner: Tensor;
}

/** Load the architecture that the config names. */
export async function loadModel(gpu: Gpu, config: ModelConfig, source: WeightSource, options: Omit<LoadWeightsOptions, "mayIgnore">): Promise<Model> {
  switch (config.architecture) {
    case "gpt_neox": return loadGptNeox(gpu, config, source, options);
    case "qwen2":
    case "qwen3": return loadQwen(gpu, config, source, options);
    default: throw new UsageError(`architecture ${String(config.architecture satisfies never)} is not known`);
  }
}
