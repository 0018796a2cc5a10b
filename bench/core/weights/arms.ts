/**
 * The arms that differ in the numbers of the weights, and nothing else: the same paged cache, the same bytes for it, the same batches.
 * The first arm runs twice, under its own name and as `again`: two equal arms differ by what the machine makes of them, and nothing
 * smaller is told as a difference.
 *
 *   quantization   basic (as the checkpoint stores it) · again · quantized (what quantization_config or quantize_to says)
 *   precision      one arm for each of `formats`, the first of them again
 */

import type { LoadOptions, WeightFormat } from "../../../index.ts";
import { paged } from "../../../techniques/paged_attention/index.ts";
import { parseQuantizationConfig } from "../../../models/quantization_config.ts";
import type { ArmPlan, WeightArm } from "../arms.ts";
import type { ExperimentConfig } from "../schema.ts";

function plan(name: WeightArm, { block_size }: ExperimentConfig, options: Partial<LoadOptions>): ArmPlan {
  return { name, layout: paged(block_size), prefixCache: false, isStatic: false, options };
}

/** The arms of a config, the one that the others are compared with first. */
export function weightArms(config: ExperimentConfig): ArmPlan[] {
  if (config.technique === "precision") {
    const [first] = config.formats;
    return config.formats.flatMap((format) => [plan(format, config, { weights: format }), ...(format === first ? [plan("again", config, { weights: format })] : [])]);
  }
  const basic = { weights: config.weights };
  const quantized = (): ArmPlan => plan("quantized", config, quantizedOptions(config));
  if (config.method === "basic") return [plan("basic", config, basic)];
  return config.method === "optimized" ? [quantized()] : [plan("basic", config, basic), plan("again", config, basic), quantized()];
}

function quantizedOptions({ quantization_config, quantize_to }: ExperimentConfig): Partial<LoadOptions> {
  return quantize_to === undefined ? { quantizationConfig: quantization_config! } : { weights: quantize_to };
}

/** The format that an arm was asked for; null where the checkpoint decides. */
export function askedFormat({ options: { weights, quantizationConfig } }: ArmPlan): WeightFormat | null {
  if (quantizationConfig !== undefined) return parseQuantizationConfig(quantizationConfig, "quantization_config").weights;
  return weights === undefined || weights === "auto" ? null : weights;
}

export function quantizationNotes({ quantization_config: asked }: ExperimentConfig): readonly string[] {
  return asked === undefined ? [] : parseQuantizationConfig(asked, "quantization_config").notes;
}

/** A model in f32, for quality alone. */
export function reference(config: ExperimentConfig): ArmPlan {
  return plan("f32", config, { weights: "f32" });
}
