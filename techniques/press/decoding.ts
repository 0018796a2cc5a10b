/**
 * Pressing while a text is written: after so many new tokens every layer is cut back to one size. Models that answer at greater length than they
 * are asked need this and not a press behind the prompt. The form is that of kvpress.
 */

import { UsageError } from "../../engine/errors.ts";
import type { Press, PressStage, PressState } from "../../models/press.ts";
import { requireCount } from "./prefill.ts";
import { nameWithoutRatio, scorerStage, traitsOf, type TraitedPress } from "./traits.ts";

export interface DecodingOptions {
  /** A plain scorer, or adakv around one. Its ratio counts only with `prefill`. */
  readonly press: Press;
  /** New tokens between two acts, 512 by default. */
  readonly every?: number | undefined;
  /** Entries that stay in each head (with adakv on average over the heads), 2048 by default. */
  readonly target?: number | undefined;
  /** Act behind the prompt too, there by the ratio of `press`; false by default. */
  readonly prefill?: boolean | undefined;
}

/**
 * Acts `every`, 2 · every, … tokens behind the prompt, from the first of these times at which an untouched cache holds more than `target`;
 * a layer that holds no more is left alone. Throws UsageError for a press that cannot be given a target, and for sizes below 1.
 */
export function decoding({ press, every = 512, target = 2048, prefill = false }: DecodingOptions): TraitedPress {
  requireCount(every, 1, "decoding: every");
  requireCount(target, 1, "decoding: target");
  const toTarget = targetStage(press, target);
  const [base] = press.stages as [PressStage];
  // Both choose the same way, only how much they keep differs: their needs and their kernels are one.
  const stage: PressStage = prefill ? {
    ...toTarget,
    keep: (layer) => (layer.acted === 0 ? base : toTarget).keep(layer),
    params: (layer, model) => (layer.acted === 0 ? base : toTarget).params(layer, model),
  } : toTarget;
  return {
    ...press,
    name: `decoding(${prefill ? press.name : nameWithoutRatio(press)}, every ${every}, target ${target}${prefill ? ", prefill" : ""})`,
    stages: [stage],
    next: (state) => (prefill && state.acted === 0 ? press.next(state) : nextDecoding(state, { every, target, prefill })),
    traits: { schedule: true, selects: true, unevenHeads: traitsOf(press).unevenHeads === true },
  };
}

function targetStage(press: Press, target: number): PressStage {
  const keep = ({ length }: { readonly length: number }): number => Math.min(target, length);
  const { withKeep } = traitsOf(press);
  if (withKeep !== undefined) return withKeep(keep);
  const stage = scorerStage(press, "decoding");
  if (press.ragged) {
    throw new UsageError(
      `decoding cannot wrap ${press.name}: its layers differ in what they keep, which one target would override; give skipLayers to decoding itself`,
    );
  }
  return { ...stage, keep };
}

/**
 * When it acts next, behind what it does for the prompt. Where it has acted is a function of the prompt alone, so the state's `length`, which
 * with heads or layers of different lengths says little, is not asked.
 */
function nextDecoding({ prompt, seen, acted }: PressState, { every, target, prefill }: { every: number; target: number; prefill: boolean }): number {
  const done = acted - (prefill ? 1 : 0);
  const first = Math.max(1, Math.floor((target - prompt) / every) + 1);
  const next = prompt + (first + done) * every;
  return next >= seen ? next : nextOnGrid(prompt, every, seen, acted === 0);
}

/** The first of prompt + every, prompt + 2 · every, … from `seen` on; behind `seen` if that itself does not count. */
export function nextOnGrid(prompt: number, every: number, seen: number, inclusive: boolean): number {
  const least = inclusive ? seen : seen + 1;
  return prompt + Math.max(0, Math.ceil((least - prompt) / every)) * every;
}
