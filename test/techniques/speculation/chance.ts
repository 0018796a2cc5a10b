/** Chance for tests: random laws, and all outcomes of a random function with their exact probabilities. */

import type { Draw } from "../../../techniques/speculation/speculate.ts";

/** A law over `size` tokens: `sharpness` 0 is uniform. */
export function randomLaw(random: () => number, size: number, sharpness: number): number[] {
  const weights = Array.from({ length: size }, () => Math.exp(sharpness * random()));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

/**
 * Runs `f` once for every way its draws can fall, in the order of their indices, and hands over each result with its probability. The
 * probabilities add up to 1.
 */
export function everyOutcome<T>(f: (draw: Draw) => T, each: (result: T, probability: number) => void): void {
  const path: { choice: number; weights: readonly number[] }[] = [];
  for (;;) {
    let depth = 0;
    let probability = 1;
    const result = f((weights) => {
      const at = path[depth++] ?? path[path.push({ choice: next(weights, -1)!, weights }) - 1]!;
      probability *= weights[at.choice]! / weights.reduce((a, b) => a + b);
      return at.choice;
    });
    each(result, probability);
    for (;;) {
      const last = path.at(-1);
      if (last === undefined) return;
      const choice = next(last.weights, last.choice);
      if (choice !== null) { last.choice = choice; break; }
      path.pop();
    }
  }
}

/** The first possible choice after `choice`. */
function next(weights: readonly number[], choice: number): number | null {
  const found = weights.findIndex((weight, i) => i > choice && weight > 0);
  return found < 0 ? null : found;
}
