/** Where a model's weights come from: its checkpoint, in floats or in codes, or seeded random numbers. */

import type { Checkpoint } from "../engine/checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { quantizedSource } from "./quantized_source.ts";
import type { LoadSizes } from "./sizes.ts";
import type { WeightSource } from "./weights.ts";

export async function sourceOf(checkpoint: Checkpoint | null, { quantization }: ModelConfig, { weights }: LoadSizes, seed: number): Promise<WeightSource> {
  if (checkpoint === null) return { kind: "random", seed };
  const stored = quantization === null ? null : await quantizedSource(checkpoint, quantization.stored, weights.defaultFormat);
  return { kind: "checkpoint", name: checkpoint.folder, tensors: checkpoint.tensors, pieces: (name) => checkpoint.pieces(name), ...stored };
}
