/**
 * snapkv with budgets that shrink from the first layer to the last (Cai et al. 2024, arXiv 2406.02069): lower layers look at the whole
 * text, upper ones at a few tokens.
 */

import { UsageError } from "../../engine/errors.ts";
import type { LayerState, Press, PressStage } from "../../models/press.ts";
import { prefillPress } from "./prefill.ts";
import { decimalOf, roundHalfEven } from "./ratio.ts";
import { snapkvStage, type SnapKvOptions } from "./snapkv.ts";

/** Parameters of pyramidkv beside its ratio. */
export interface PyramidKvOptions extends SnapKvOptions {
  /** How steep the pyramid is, at least 1; 20 by default. */
  readonly beta?: number | undefined;
}

/**
 * Entries that a layer keeps of `length`, as kvpress has it, in exact numbers. All layers together keep n = length · (1 − ratio) on
 * average: the last one n / beta and the first 2 n − n / beta, or where that is more than length − window, that, and the last one the rest;
 * in between on a straight line. Where the last layer would keep less than the window, or more than the first, every layer keeps n. Rounded
 * to the nearest, halves to even.
 */
export function pyramidBudget({ length, layer, layers }: Pick<LayerState, "length" | "layer" | "layers">, { ratio, window, beta }: { ratio: number; window: number; beta: number }): number {
  // Everything in units of 1 / (ratio's denominator · beta's numerator).
  const [evicted, steep] = [decimalOf(ratio), decimalOf(beta)];
  const unit = evicted.denominator * steep.numerator;
  const [whole, spared] = [BigInt(length) * unit, BigInt(window) * unit];
  const mean = BigInt(length) * (evicted.denominator - evicted.numerator) * steep.numerator;
  let least = BigInt(length) * (evicted.denominator - evicted.numerator) * steep.denominator;
  let most = 2n * mean - least;
  if (most >= whole - spared) {
    most = whole - spared;
    least = 2n * mean - most;
  }
  const flat = layers === 1 || whole < most || most < least || least < spared;
  const steps = BigInt(Math.max(1, layers - 1));
  const budget = flat ? { numerator: mean, denominator: unit } : { numerator: most * steps - BigInt(layer) * (most - least), denominator: unit * steps };
  return Math.min(length, Math.max(1, roundHalfEven(budget)));
}

/** Scores as snapkv's. `ratio`: see `pyramidkv`, 0 by default. */
export function pyramidkvStage({ ratio = 0, beta = 20, window = 64, kernel = 5 }: PyramidKvOptions & { readonly ratio?: number | undefined } = {}): PressStage {
  if (!(beta >= 1 && Number.isFinite(beta))) throw new UsageError(`pyramidkv: beta must be a number of at least 1, not ${String(beta)}`);
  return {
    ...snapkvStage({ window, kernel }, "pyramidkv"),
    keep: (layer) => (ratio === 0 ? layer.length : pyramidBudget(layer, { ratio, window, beta })),
  };
}

/** `ratio`: the share of entries to evict, in [0, 1), on average over the layers. */
export function pyramidkv({ ratio, ...options }: PyramidKvOptions & { readonly ratio: number }): Press {
  const { window = 64, kernel = 5, beta = 20 } = options;
  return prefillPress("pyramidkv", ratio, pyramidkvStage({ ratio, window, kernel, beta }), { parameters: { window, kernel, beta }, moreThan: window, ragged: true });
}
