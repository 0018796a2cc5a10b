/**
 * The shapes that are measured when none is asked for: those of one layer of the bundled models, of Pythia-70M and of Qwen2.5-0.5B, as
 * the engine runs them: queries, keys and values in one product, gate and up in one.
 */

import { fileURLToPath } from "node:url";
import type { ModelConfig } from "../../../index.ts";
import { parseConfig, readConfig } from "../../../models/config.ts";
import { presetConfig } from "../../../models/presets.ts";
import type { Ask, HeadCounts, Shape, ShapedModel } from "./case.ts";

const BUNDLED = ["tiny-neox-draft", "tiny-neox", "tiny-qwen2"];
const PRESETS = ["pythia-70m", "qwen2.5-0.5b"];
/** What a quick run takes: products that one would wait for, and all of which a bundled model has as well. */
const QUICK = "pythia-70m";

export async function shapedModels(): Promise<ShapedModel[]> {
  const folder = (name: string): string => fileURLToPath(new URL(`../../../assets/models/${name}`, import.meta.url));
  return [
    ...await Promise.all(BUNDLED.map(async (name) => ({ name, config: await readConfig(folder(name)) }))),
    ...PRESETS.map((name) => ({ name, config: parseConfig(presetConfig(name), name) })),
  ];
}

/** The models of a run. */
function modelsOf({ models, quick }: Pick<Ask, "models" | "quick">): readonly ShapedModel[] {
  return quick ? models.filter(({ name }) => name === QUICK) : models;
}

/** Outputs × inputs of the products of one layer, and of the head. */
export function productShapes(ask: Ask): Shape[] {
  return modelsOf(ask).flatMap(({ name, config }) => {
    const { architecture, hiddenSize: C, intermediateSize: I, heads, kvHeads, headDim: D, vocabSize: V } = config;
    const up = architecture === "gpt_neox" ? ["up", I, C] as const : ["gate and up", 2 * I, C] as const;
    return ([["qkv", (heads + 2 * kvHeads) * D, C], ["out", C, heads * D], up, ["down", C, I], ["head", V, C]] as const)
      .map(([part, rows, columns]) => ({ rows, columns, origin: `${name} ${part}` }));
  });
}

/** Rows × hidden size; rows come from the batch. */
export function hiddenShapes(ask: Ask, kind?: "rms" | "layer"): Shape[] {
  const has = ({ config: { architecture } }: ShapedModel): boolean => kind === undefined || (architecture === "gpt_neox") === (kind === "layer");
  const models = modelsOf(ask).filter(has);
  // A quick run's model has norms of one kind; the other kind is measured on the smallest model that has it.
  return (models.length > 0 ? models : ask.models.filter(has).slice(0, 1)).map(({ name, config }) => ({ rows: 1, columns: config.hiddenSize, origin: name }));
}

/** Vocabulary × hidden size. */
export function tableShapes(ask: Ask): Shape[] {
  return modelsOf(ask).map(({ name, config }) => ({ rows: config.vocabSize, columns: config.hiddenSize, origin: name }));
}

/** Rows × vocabulary; rows come from the batch. */
export function vocabularyShapes(ask: Ask): Shape[] {
  return modelsOf(ask).map(({ name, config }) => ({ rows: 1, columns: config.vocabSize, origin: name }));
}

/** Entries of the cache × width of all query heads. */
export function cacheShapes(ask: Ask): Shape[] {
  return modelsOf(ask).map(({ name, config }) => ({ rows: Math.min(512, config.maxPositions / 2), columns: config.heads * config.headDim, origin: name, heads: headsOf(config) }));
}

function headsOf({ architecture, heads, kvHeads, headDim, rotaryDims, qkNorm }: ModelConfig): HeadCounts {
  return { heads, kvHeads, headDim, rotaryDims, headNorm: qkNorm, fused: architecture === "gpt_neox" ? "neox" : "qwen" };
}

/** Heads of a shape that was given as numbers: of 64 dimensions, or of as many as divide it, each with keys of its own. */
export function headsOfWidth(width: number): HeadCounts | null {
  const headDim = [64, 32, 16, 8].find((size) => width % size === 0);
  return headDim === undefined ? null : { heads: width / headDim, kvHeads: width / headDim, headDim, rotaryDims: headDim, headNorm: false, fused: "qwen" };
}
