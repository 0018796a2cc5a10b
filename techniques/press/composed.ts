/**
 * Presses one after the other: each scores what the one before has left, so that what stays is the product of what each keeps.
 */

import { UsageError } from "../../engine/errors.ts";
import type { Press } from "../../models/press.ts";
import { traitsOf, type TraitedPress } from "./traits.ts";

export interface ComposedOptions {
  /** Two or more that act once, behind the prompt. */
  readonly presses: readonly Press[];
}

/**
 * Throws UsageError for fewer than two presses, for one with a schedule or with positions of its own, and for one behind a press that
 * leaves heads of different lengths.
 */
export function composed({ presses }: ComposedOptions): TraitedPress {
  if (!Array.isArray(presses) || presses.length < 2) throw new UsageError("composed needs a list of two or more presses");
  presses.forEach((press: Press, index) => {
    const refuse = (reason: string): UsageError => new UsageError(`composed cannot hold ${press.name}: ${reason}`);
    const { schedule, unevenHeads } = traitsOf(press);
    if (schedule === true) throw refuse("it acts at times of its own; all stages act together");
    if (press.positions !== "original") throw refuse("positions are moved once, behind the last stage; put rerotate around composed");
    if (unevenHeads === true && index < presses.length - 1) {
      throw refuse("heads differ in length behind it, and the next press would cut them to one length again; put it last");
    }
  });
  const traits = presses.map(traitsOf);
  return {
    name: `composed(${presses.map(({ name }) => name).join(", ")})`,
    positions: "original",
    next(state) {
      // All act at once; each is asked, since some refuse a prompt that is too short for them.
      const times = presses.map((press: Press) => press.next(state));
      return times.includes(null) ? null : Math.max(...times as number[]);
    },
    stages: presses.flatMap(({ stages }) => stages),
    ragged: presses.some(({ ragged }) => ragged),
    check(config) { for (const press of presses) press.check(config); },
    traits: { selects: true, unevenHeads: traits.some(({ unevenHeads }) => unevenHeads === true) },
  };
}
