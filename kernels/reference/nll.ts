/** Scalar twin of nll (kernels/nll.ts), from the definitions and in double precision. */

import type { Comparison, Surprise } from "../nll.ts";

/** −log softmax(logits)[target], and whether the target is the first of the greatest logits. */
export function nll(logits: ArrayLike<number>, target: number): Surprise {
  const logs = logSoftmax(logits);
  const finite = Array.from(logits).every(Number.isFinite);
  return { nll: -logs[target]!, hit: argmax(logits) === target, broken: !finite };
}

/** Beside it KL(softmax(base)‖softmax(logits)) = Σ p (log p − log q). */
export function compare(logits: ArrayLike<number>, base: ArrayLike<number>, target: number): Comparison {
  const own = logSoftmax(logits), other = logSoftmax(base), ofBase = nll(base, target);
  return {
    ...nll(logits, target), kld: other.reduce((sum, log, i) => sum + Math.exp(log) * (log - own[i]!), 0),
    baseNll: ofBase.nll, baseHit: ofBase.hit, sameTop: argmax(base) === argmax(logits), baseBroken: ofBase.broken,
  };
}

function logSoftmax(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const greatest = values.reduce((a, b) => Math.max(a, b));
  const logSum = greatest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
  return values.map((value) => value - logSum);
}

function argmax(values: ArrayLike<number>): number {
  return Array.from(values).reduce((best, value, i, all) => (value > all[best]! ? i : best), 0);
}
