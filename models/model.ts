/** The architectures by name. Each is one file: its weights, declared by their Hugging Face names, and its layers in the order of the paper. */

import { UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { ModelConfig } from "./config.ts";
import { declareGptNeox, foldsOfGptNeox, loadGptNeox, shapeOfGptNeox } from "./gpt_neox.ts";
import { declareQwen, loadQwen, shapeOfQwen } from "./qwen.ts";
import type { Model, ModelShape } from "./step.ts";
import { Declaration, type LoadWeightsOptions, type WeightSource } from "./weights.ts";

/** What an architecture is before its weights are loaded. */
export interface Declared {
  readonly shape: ModelShape;
  readonly requests: Declaration["requests"];
  /** Of every layer: the products that norms are folded into, each with the rows that read each of its norms. */
  readonly folds: readonly (readonly number[])[];
}

export function declared(config: ModelConfig): Declared {
  const declaration = new Declaration();
  const { requests } = declaration;
  if (config.architecture === "gpt_neox") {
    declareGptNeox(declaration, config);
    return { shape: shapeOfGptNeox(config), requests, folds: foldsOfGptNeox(config) };
  }
  declareQwen(declaration, config);
  return { shape: shapeOfQwen(config), requests, folds: [] };
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
