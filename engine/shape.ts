/**
 * Named-dimension checks. A launcher states the shape of each operand in letters; a letter binds where it is first seen and must
 * have the same value wherever it is seen again. So a mistake stops at the launch, with the names of the paper, and never reaches the GPU.
 */

import type { Tensor } from "./tensor.ts";

export type Shape = readonly number[];

/** Number of elements. The product over no dimensions is 1. */
export function numel(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

type Operand = readonly [Pick<Tensor, "shape">, ...(string | number)[]];

/**
 * Bind the letters of `operands` to sizes: `match("rope", { q: [q, "T", "H", "D"], k: [k, "T", "G", "D"] })` gives `{ T, H, D, G }`.
 * Numbers are sizes that must be met exactly. Throws an Error that names the operation, the operand, the letter and both values.
 */
export function match(op: string, operands: Record<string, Operand>): Record<string, number> & { [letter: string]: number } {
  const bound = new Map<string, { size: number; operand: string }>();
  for (const [operand, [tensor, ...letters]] of Object.entries(operands)) {
    const { shape } = tensor;
    if (shape.length !== letters.length) {
      throw new Error(`${op}: ${operand} must have shape [${letters.join(", ")}], but has [${shape.join(", ")}]`);
    }
    letters.forEach((letter, axis) => {
      const size = shape[axis]!;
      if (typeof letter === "number") {
        if (size !== letter) throw new Error(`${op}: ${operand} must have ${letter} at axis ${axis}, but has ${size}`);
        return;
      }
      const earlier = bound.get(letter);
      if (earlier === undefined) bound.set(letter, { size, operand });
      else if (earlier.size !== size) {
        throw new Error(`${op}: ${letter} is ${earlier.size} in ${earlier.operand}, but ${size} in ${operand} of shape [${shape.join(", ")}]`);
      }
    });
  }
  return Object.fromEntries([...bound].map(([letter, { size }]) => [letter, size]));
}
