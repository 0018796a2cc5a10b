/** The architectures by name. Each is one file: its weights, declared by their Hugging Face names, and its layers in the order of the paper. */

import { UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { ModelConfig } from "./config.ts";
import { loadGptNeox } from "./gpt_neox.ts";
import { loadQwen } from "./qwen.ts";
import type { Model } from "./step.ts";
import type { LoadWeightsOptions, WeightSource } from "./weights.ts";

/** Load the architecture that the config names. */
export async function loadModel(gpu: Gpu, config: ModelConfig, source: WeightSource, options: Omit<LoadWeightsOptions, "mayIgnore">): Promise<Model> {
  switch (config.architecture) {
    case "gpt_neox": return loadGptNeox(gpu, config, source, options);
    case "qwen2":
    case "qwen3": return loadQwen(gpu, config, source, options);
    default: throw new UsageError(`architecture ${String(config.architecture satisfies never)} is not known`);
  }
}
