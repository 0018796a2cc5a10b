/**
 * The norm press as its authors run it (Devoto et al. 2024, arXiv 2406.11430): not once but again and again, whenever a layer has come to hold
 * `pruneAfter` entries. The length of a layer then saws between keepRatio · pruneAfter and pruneAfter, however long the text gets: what is kept of
 * N tokens is about pruneAfter, not keepRatio · N.
 */

import { UsageError } from "../../engine/errors.ts";
import type { PositionPolicy, PressState } from "../../models/press.ts";
import { nextOnGrid } from "./decoding.ts";
import { knormStage } from "./knorm.ts";
import { checkSkipped, requireLayers } from "./per_layer.ts";
import { requireCount } from "./prefill.ts";
import { keptCeil } from "./ratio.ts";
import { withPositions } from "./rerotate.ts";
import type { TraitedPress } from "./traits.ts";

export interface KnormStepsOptions {
  /** The share that stays of each head, in (0, 1]; ⌈keepRatio · length⌉ entries, those of the lowest norms. */
  readonly keepRatio: number;
  /** It acts once a layer holds so many entries, 512 by default. */
  readonly pruneAfter?: number | undefined;
  /** Layers that are left alone and grow; [0] by default. */
  readonly skipLayers?: readonly number[] | undefined;
  /** Look only behind the prompt and every so many tokens after it; 1 by default, after every token. The paper's own runs look once per chunk. */
  readonly chunk?: number | undefined;
  readonly positions?: PositionPolicy | undefined;
}

/** Throws UsageError for a share outside (0, 1], sizes below 1, and positions that move while layers are skipped. */
export function knormSteps({ keepRatio, pruneAfter = 512, skipLayers = [0], chunk = 1, positions = "original" }: KnormStepsOptions): TraitedPress {
  if (!(keepRatio > 0 && keepRatio <= 1)) throw new UsageError(`knorm_steps: keepRatio is the share that stays, in (0, 1], not ${String(keepRatio)}`);
  requireCount(pruneAfter, 1, "knorm_steps: pruneAfter");
  requireCount(chunk, 1, "knorm_steps: chunk");
  const skipped = requireLayers(skipLayers);
  const steps = [keepRatio, `pruneAfter ${pruneAfter}`, skipped.size > 0 && `skipLayers ${[...skipped].join(" ")}`, chunk > 1 && `chunk ${chunk}`];
  return withPositions({
    name: `knorm_steps(${steps.filter(Boolean).join(", ")})`, positions: "original", ragged: skipped.size > 0,
    traits: { schedule: true, selects: true },
    stages: [{ ...knormStage(), keep: ({ layer, length }) => (skipped.has(layer) || length < pruneAfter ? length : keptCeil(length, keepRatio)) }],
    next: (state) => nextStep(state, { keepRatio, pruneAfter, chunk }),
    check: ({ layers }) => { checkSkipped(skipLayers, layers); },
  }, positions);
}

interface Steps { readonly keepRatio: number; readonly pruneAfter: number; readonly chunk: number }

/**
 * When it acts next; null: never. What it did so far follows from the prompt and how often it acted; the state's `length` is that of a skipped layer, if
 * there is one, and is not asked.
 */
export function nextStep({ prompt, seen, acted }: PressState, steps: Steps): number | null {
  const { chunk, keepRatio } = steps;
  if (keepRatio === 1 && acted > 0) return null; // it would keep everything for ever
  const next = actAfter(prompt, acted, steps);
  return next >= seen ? next : nextOnGrid(prompt, chunk, seen, acted === 0);
}

/** Tokens at which a layer that began whole is pressed for the (acted + 1)-th time. */
function actAfter(prompt: number, acted: number, { keepRatio, pruneAfter, chunk }: Steps): number {
  // Lengths are those at an act, just before it. At first the layer holds every token.
  const wait = Math.max(0, Math.ceil((pruneAfter - prompt) / chunk)) * chunk;
  let at = prompt + wait;
  let length = at;
  for (let done = 0; done < acted; done++) {
    const kept = keptCeil(length, keepRatio);
    const gap = Math.max(1, Math.ceil((pruneAfter - kept) / chunk)) * chunk;
    // From the same length the same follows: the saw's teeth are all alike, and need not be counted one by one.
    if (kept + gap === length) return at + gap * (acted - done);
    at += gap;
    length = kept + gap;
  }
  return at;
}
