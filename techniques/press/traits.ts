/**
 * What wrappers must know of a press beyond the waist, so that a pair that makes no sense is refused with its reason when it is made and
 * not on the GPU. A press without traits is a plain scorer that acts once, behind the prompt.
 */

import { UsageError } from "../../engine/errors.ts";
import { nearest } from "../../engine/nearest.ts";
import type { LayerState, Press, PressOperands, PressStage } from "../../models/press.ts";

export interface PressTraits {
  /** It acts at times of its own. */
  readonly schedule?: boolean;
  /** It chooses in its own way which entries stay: its stage's `keep` cannot be exchanged. */
  readonly selects?: boolean;
  /** Heads of a layer differ in length behind it. */
  readonly unevenHeads?: boolean;
  /** The same choice with another number of entries to keep in each head, where that has a meaning. */
  readonly withKeep?: (keep: (layer: LayerState) => number) => PressStage;
}

export type TraitedPress = Press & { readonly traits?: PressTraits };

export function traitsOf(press: Press): PressTraits {
  return (press as TraitedPress).traits ?? {};
}

/** A plain scorer, which wrappers can give another number of entries to keep; throws UsageError for every other press. */
export function scorerStage(press: Press, wrapper: string): PressStage {
  const { schedule, selects } = traitsOf(press);
  const refuse = (reason: string): UsageError => new UsageError(`${wrapper} cannot wrap ${press.name}: ${reason}`);
  if (schedule === true) throw refuse("it acts at times of its own; put it around the other way");
  if (selects === true) throw refuse("it chooses by itself which entries stay; wrap a press that only scores, such as knorm or snapkv");
  if (press.stages.length !== 1) throw refuse(`it has ${press.stages.length} stages, and one is needed`);
  return press.stages[0]!;
}

/** The tensors of a stage inside another one: the same operands, with scratch tensors that are not mixed up with the wrapper's. */
export function innerOperands(operands: PressOperands, wrapper: string, changes: Partial<PressOperands>): PressOperands {
  return { ...operands, ...changes, scratch: (name, shape, dtype) => operands.scratch(`${wrapper}.${name}`, shape, dtype) };
}

/** Of a message that refuses `typed`: what may have been meant, and which there are. */
export function namesNear(typed: string, names: readonly string[]): string {
  const guess = nearest(typed, names)[0];
  return `${guess === undefined ? ";" : `, did you mean ${guess}?`} there are ${names.join(", ")}`;
}

/** A press's name without the ratio that opens its parameters, for wrappers under which that has no effect. */
export function nameWithoutRatio({ name }: Press): string {
  return name.replace(/\(\d(?:\.\d+)?(?:e-\d+)?(?:, |(?=\)))/, "(").replace("()", "");
}
