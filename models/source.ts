/** Where a model comes from: its folder or preset, its config, and its weights, which are a checkpoint's, in floats or in codes, or seeded random numbers. */

import type { Checkpoint } from "../engine/checkpoint.ts";
import { resolveModel, type ResolvedModel } from "../engine/hub.ts";
import { parseConfig, readConfig, type ModelConfig } from "./config.ts";
import type { LoadOptions } from "./options.ts";
import { presetConfig } from "./presets.ts";
import { quantizedSource } from "./quantized_source.ts";
import type { LoadSizes } from "./sizes.ts";
import type { WeightSource } from "./weights.ts";

/** The folder or preset that a model's name stands for; a hub model is downloaded. */
export function resolve(model: string, { revision, onProgress }: Pick<LoadOptions, "revision" | "onProgress">): Promise<ResolvedModel> {
  return resolveModel(model, {
    ...(revision !== undefined && { revision }),
    ...(onProgress && { onProgress: ({ label, loaded, total }) => { onProgress({ stage: "download", label, loaded, total }); } }),
  });
}

export async function configOf(resolved: ResolvedModel): Promise<ModelConfig> {
  return resolved.kind === "folder" ? readConfig(resolved.folder) : parseConfig(presetConfig(resolved.name), resolved.id);
}

/** Of a checkpoint; random numbers where there is none. */
export async function sourceOf(checkpoint: Checkpoint | null, { quantization }: ModelConfig, { weights }: LoadSizes, seed: number): Promise<WeightSource> {
  if (checkpoint === null) return { kind: "random", seed };
  const stored = quantization === null ? null : await quantizedSource(checkpoint, quantization.stored, weights.defaultFormat);
  return { kind: "checkpoint", name: checkpoint.folder, tensors: checkpoint.tensors, pieces: (name) => checkpoint.pieces(name), ...stored };
}
