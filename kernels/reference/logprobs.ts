/** Scalar twin of logprobs (kernels/logprobs.ts), from the definitions and in double precision. */

import type { Logprobs } from "../logprobs.ts";

/** Log-softmax of `token`, how many tokens have a greater logit, and the `top` greatest with theirs, ties to the lowest index. */
export function logprobs(logits: ArrayLike<number>, token: number, top: number): Logprobs {
  const values = Array.from(logits);
  const greatest = values.reduce((a, b) => Math.max(a, b));
  const logSum = greatest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - greatest), 0));
  const order = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
  return {
    logprob: values[token]! - logSum,
    rank: values.filter((value) => value > values[token]!).length,
    top: order.slice(0, top).map((id) => ({ id, logprob: values[id]! - logSum })),
  };
}
