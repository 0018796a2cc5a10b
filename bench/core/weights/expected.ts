/** Bytes of a model's weights by arithmetic, from its config and the adapter's limits alone (models/footprint.ts). */

import type { LoadOptions, ModelConfig } from "../../../index.ts";
import { UsageError } from "../../../engine/errors.ts";
import type { KernelFamily } from "../../../engine/gpu.ts";
import { footprint } from "../../../models/footprint.ts";
import type { Model } from "../arms.ts";

/** Null when the model's config does not say enough: of a stand-in, or of a checkpoint that stores codes. */
export function expectedWeightBytes({ config, source, environment: { limits, kernelFamily } }: Model, options: Partial<LoadOptions>): number | null {
  if (!("architecture" in config)) return null;
  const isStored = (config as ModelConfig).quantization !== null && (options.weights ?? "auto") === "auto" && options.quantizationConfig === undefined;
  if (isStored) return null;
  const { maxStorageBufferBindingSize: maxBinding, maxBufferSize: maxBuffer } = limits;
  if (maxBinding === undefined || maxBuffer === undefined) return null;
  try {
    return footprint({ name: source.id, config: config as ModelConfig }, options, { maxBinding, maxBuffer, family: kernelFamily as KernelFamily }).memory.weights;
  } catch (error) {
    if (error instanceof UsageError) return null;
    throw error;
  }
}
