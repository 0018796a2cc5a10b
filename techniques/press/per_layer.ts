/**
 * Layers pressed differently: a ratio for each, or some left alone. The first layers often carry what norms and attention do not show, which is
 * why the authors of the norm press skip them (Devoto et al. 2024, arXiv 2406.11430).
 */

import { UsageError } from "../../engine/errors.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { requireCount } from "./prefill.ts";
import { checkRatio, keptOf } from "./ratio.ts";
import { nameWithoutRatio, scorerStage, traitsOf, type TraitedPress } from "./traits.ts";

export interface PerLayerOptions {
  readonly press: Press;
  /** The share to evict in each layer, from the first to the last, each in [0, 1). */
  readonly ratios: readonly number[];
}

/** Throws UsageError for a press that is no plain scorer, for positions that move, and for a bad ratio; `check` for a wrong number of ratios. */
export function perLayer({ press, ratios }: PerLayerOptions): TraitedPress {
  if (!Array.isArray(ratios) || ratios.length === 0) throw new UsageError("per_layer: ratios must be a list with one ratio for each layer");
  for (const [layer, ratio] of ratios.entries()) checkRatio(ratio, `per_layer: the ratio of layer ${layer}`);
  const stage = scorerStage(press, "per_layer");
  if (press.ragged) throw new UsageError(`per_layer cannot wrap ${press.name}: its layers differ already, and the ratios would override that`);
  requireOriginal(press, "per_layer");
  return {
    ...press,
    name: `per_layer(${nameWithoutRatio(press)}, ratios ${ratios.join(" ")})`, ragged: true,
    stages: [{ ...stage, keep: ({ layer, length }) => keptOf(length, ratios[layer]!) }],
    check(config) {
      if (config.layers !== ratios.length) {
        throw new UsageError(`per_layer has ${ratios.length} ratios, but the model has ${config.layers} layers: give one ratio for each layer`);
      }
      press.check(config);
    },
  };
}

/** `press` with some layers left alone. Throws UsageError for a bad list and for positions that move; `check` for a layer that the model lacks. */
export function withSkippedLayers(press: TraitedPress, layers: readonly number[]): TraitedPress {
  const skipped = requireLayers(layers);
  if (skipped.size === 0) return press;
  requireOriginal(press, "skipLayers");
  const stages = press.stages.map((stage): PressStage => (
    { ...stage, keep: (state) => (skipped.has(state.layer) ? state.length : stage.keep(state)) }
  ));
  return {
    ...press, name: `${press.name} but layers ${[...skipped].join(" ")}`, stages, ragged: true, traits: traitsOf(press),
    check(config) {
      checkSkipped(layers, config.layers);
      press.check(config);
    },
  };
}

/** The layers to skip, ascending. Throws UsageError for what is no list of layers. */
export function requireLayers(layers: readonly number[]): ReadonlySet<number> {
  if (!Array.isArray(layers)) throw new UsageError(`skipLayers must be a list of layers, such as [0, 1], not ${JSON.stringify(layers)}`);
  for (const layer of layers) requireCount(layer, 0, "skipLayers: a layer");
  return new Set([...layers].sort((a, b) => a - b));
}

/** Throws UsageError for a layer that a model of `count` layers lacks, and where nothing would be left to press. */
export function checkSkipped(layers: readonly number[], count: number): void {
  const beyond = layers.find((layer) => layer >= count);
  if (beyond !== undefined) throw new UsageError(`skipLayers has layer ${beyond}, but the model has layers 0 to ${count - 1}`);
  if (new Set(layers).size === count) throw new UsageError(`skipLayers has all ${count} layers of the model: nothing would be pressed`);
}

function requireOriginal({ name, positions }: Press, wrapper: string): void {
  if (positions === "original") return;
  throw new UsageError(
    `${wrapper} cannot go with ${name}, whose positions are ${positions}: layers would differ in length, `
    + "and one position per token serves all layers and heads",
  );
}
