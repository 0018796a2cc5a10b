/**
 * The floor under a decode step and a prefill: what any implementation must move, compute and ask for, from the model's config alone.
 * Bytes: every weight once, one row of the embedding, the keys and values of the context, and what is appended to them. Operations: two
 * for each weight of a product, four for each query dimension and entry it attends to. Activations and logits are left out, since they
 * can stay in a cache. Dispatches and host calls are those of our own design (five calls a Qwen layer, three a NeoX layer in
 * parallel, five around the layers), so they say what a step costs when nothing is wasted, not what is possible at all.
 */

import { DTYPE_BYTES } from "../../../engine/dtype.ts";
import { bytesPerWeight, isFloat, type WeightFormat } from "../../../kernels/formats.ts";
import type { KvFloat } from "../../../kernels/kv_formats.ts";
import type { ModelConfig } from "../../../index.ts";

export interface FloorOptions {
  readonly weights: WeightFormat;
  readonly kv: KvFloat;
  /** Entries of the cache that the decoded token attends to beside itself. */
  readonly context: number;
  /** Tokens of the prefill. */
  readonly prompt: number;
}

export interface Work { readonly weightBytes: number; readonly kvBytes: number; readonly bytes: number; readonly flops: number }

export interface Floor {
  /** One token of one sequence. */
  readonly decode: Work & { readonly dispatches: number; readonly hostCalls: number };
  /** All tokens of a prompt in one pass, of which the last is sampled. */
  readonly prefill: Work;
  readonly layerParameters: number;
  readonly headParameters: number;
}

/** Embedding, final norm, head, sampler, and the advance to the next step. */
export const DISPATCHES_OUTSIDE = 5;
/** For every dispatch: set the pipeline, set the bind group, dispatch. */
const CALLS_PER_DISPATCH = 3;
/** Make an encoder, begin and end a pass, copy the token, finish, submit; map, get the range, unmap. */
const CALLS_OUTSIDE = 9;

export function floorOf(config: ModelConfig, { weights, kv, context, prompt }: FloorOptions): Floor {
  const { layers, hiddenSize: C, vocabSize: V, kvHeads, headDim: D } = config;
  const entry = 2 * layers * kvHeads * D * DTYPE_BYTES[kv];
  const weight = bytesPerWeight(weights), table = bytesPerTableWeight(config, weights);
  const layerParameters = layers * matricesOf(config);
  const headParameters = V * C;
  const vectors = 4 * (layers * vectorsOf(config) + (config.architecture === "gpt_neox" ? 2 : 1) * C);
  /** `embedded`: rows of the embedding that are looked up; where it is the head as well, all of it is read anyway. */
  const weightBytes = (embedded: number): number =>
    layerParameters * weight + (headParameters + (config.tieEmbeddings ? 0 : Math.min(embedded, V) * C)) * table + vectors;
  const work = (embedded: number, kvBytes: number, flops: number): Work =>
    ({ weightBytes: weightBytes(embedded), kvBytes, bytes: weightBytes(embedded) + kvBytes, flops });
  const attention = (pairs: number): number => attentionFlops(config, pairs);
  const dispatches = dispatchesFloor(config);
  return {
    decode: {
      ...work(1, (context + 1) * entry, 2 * (layerParameters + headParameters) + attention(context + 1)),
      dispatches, hostCalls: dispatches * CALLS_PER_DISPATCH + CALLS_OUTSIDE,
    },
    prefill: work(prompt, prompt * entry, 2 * (prompt * layerParameters + headParameters) + attention((prompt * (prompt + 1)) / 2)),
    layerParameters, headParameters,
  };
}

/** Of embedding and head, which stay in floats. */
export function bytesPerTableWeight({ dtype }: ModelConfig, weights: WeightFormat): number {
  return bytesPerWeight(isFloat(weights) ? weights : dtype ?? "f16");
}

/** Of all layers together, for `pairs` of a query and a key that it attends to. */
export function attentionFlops({ layers, heads, headDim }: ModelConfig, pairs: number): number {
  return 4 * layers * heads * headDim * pairs;
}

/** Weights of the products of one layer. */
function matricesOf({ architecture, hiddenSize: C, intermediateSize: I, heads, kvHeads, headDim: D }: ModelConfig): number {
  const attention = (heads + 2 * kvHeads) * D * C + C * heads * D;
  return attention + (architecture === "gpt_neox" ? 2 : 3) * I * C;
}

/** Gains and biases of one layer, as published; they are kept in f32. */
function vectorsOf({ architecture, hiddenSize: C, intermediateSize: I, heads, kvHeads, headDim: D, qkvBias, outputBias, qkNorm }: ModelConfig): number {
  const attention = (qkvBias ? (heads + 2 * kvHeads) * D : 0) + (outputBias ? C : 0) + (qkNorm ? 2 * D : 0);
  return attention + (architecture === "gpt_neox" ? 4 * C + I + C : 2 * C);
}

/** A weight larger than one binding of the adapter adds one dispatch for every further part it is cut into; this is without. */
export function dispatchesFloor({ architecture, layers, parallelResidual }: ModelConfig): number {
  return layers * (architecture === "gpt_neox" && parallelResidual ? 3 : 5) + DISPATCHES_OUTSIDE;
}
