/**
 * The least that the dispatches of one kernel must move and compute, where it follows from their shape: products by the constants they
 * were specialised by, attention by the floor of the model (floors.ts). Activations are left out there as here.
 */

import { bytesPerWeight } from "../../../kernels/formats.ts";
import type { ModelConfig } from "../../../index.ts";
import type { TimedDispatch } from "../../../models/llm.ts";
import type { Phase } from "../../../models/step.ts";
import { attentionFlops, bytesPerTableWeight, floorOf } from "./floors.ts";
import { weightsOf, type ProfileConfig } from "./options.ts";

export interface KernelWork { readonly bytes: number; readonly flops: number }

/** Weights that a product reads; null for what is no product. */
export function weightsRead({ consts: { N, K, GATED } }: Pick<TimedDispatch, "consts">): number | null {
  return typeof GATED === "boolean" && typeof N === "number" && typeof K === "number" ? N * K * (GATED ? 2 : 1) : null;
}

/** Recordings are called by what they are of (models/runner.ts). */
export function isHead(recording: string): boolean {
  return recording.startsWith("head");
}

/** `dispatches`: those of one kernel in one shape; `all`: those of every kernel of the phase, in groups of one kernel. */
export function workOf(
  phase: Phase, dispatches: readonly TimedDispatch[], all: readonly (readonly TimedDispatch[])[], model: ModelConfig,
  config: Pick<ProfileConfig, "weights" | "kv" | "prompt">,
): KernelWork | null {
  const { prompt, kv } = config, weights = weightsOf(config, model);
  const [first] = dispatches;
  if (isAttention(first!)) {
    if (all.filter((group) => isAttention(group[0]!)).length > 1) return null; // who of them does how much is not known
    const { decode, prefill } = floorOf(model, { weights, kv, context: prompt, prompt });
    return phase === "decode" ? { bytes: decode.kvBytes, flops: attentionFlops(model, prompt + 1) }
      : { bytes: prefill.kvBytes, flops: attentionFlops(model, (prompt * (prompt + 1)) / 2) };
  }
  const each = weightsRead(first!);
  if (each === null) return null;
  const size = isHead(first!.recording) ? bytesPerTableWeight(model, weights) : bytesPerWeight(weights);
  return { bytes: dispatches.length * each * size, flops: dispatches.reduce((sum, { rows }) => sum + 2 * each * rows, 0) };
}

function isAttention({ kernel }: TimedDispatch): boolean {
  return kernel.startsWith("attention");
}
