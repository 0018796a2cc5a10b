/**
 * Scalar twin of sample (kernels/sample.ts): the same noise from the same hash, in double precision. The thresholds are found by sorting
 * where the kernel bisects, so each is a check of the other.
 */

import { NO_TOKEN, type SamplingParams } from "../sample.ts";

/** pcg4d (Jarzynski and Olano 2020) of (seed, position, token), one word. */
export function hash(seed: number, position: number, token: number): number {
  const start = [seed, position, token, 0x9e3779b9].map((word) => (Math.imul(word, 1664525) + 1013904223) >>> 0);
  let [x, y, z, w] = start as [number, number, number, number];
  const mix = (): void => {
    x = (x + Math.imul(y, w)) >>> 0;
    y = (y + Math.imul(z, x)) >>> 0;
    z = (z + Math.imul(x, y)) >>> 0;
    w = (w + Math.imul(y, z)) >>> 0;
  };
  mix();
  [x, y, z, w] = [x, y, z, w].map((word) => (word ^ (word >>> 16)) >>> 0) as [number, number, number, number];
  mix();
  return x;
}

/** −log(−log(1 − v)) with v the hash as a number in (0, 1), in steps of the f32 that the kernel uses. */
export function gumbel(bits: number): number {
  const v = Math.fround(Math.min(Math.fround(Math.fround(bits) + 0.5), 4294967040) * 2 ** -32);
  return -Math.log(-Math.log1p(-v));
}

export interface Draw {
  readonly token: number;
  /**
   * How far the decision was from another one: the lead of the winner's score over the next, or how far the mass at the edge of top-p
   * was from p, whichever is less. Where it is smaller than the rounding of f32 the kernel may rightly decide otherwise.
   */
  readonly margin: number;
}

/**
 * The next token of one row of logits; `position` is that of the token being drawn. Temperature 0: the greatest logit, ties to the lowest
 * index. Else top-k keeps every logit ≥ the k-th greatest; top-p of what is left the least set of greatest logits with at least
 * p of its probability (equal logits stay or go together); then argmax of logit / T + Gumbel noise, which is a draw from the softmax
 * of what was kept (Maddison et al. 2014). A logit that is not finite gives NO_TOKEN.
 */
export function sample(logits: ArrayLike<number>, { temperature, topP, topK, seed }: SamplingParams, position: number): Draw {
  const values = Array.from(logits);
  if (!values.every(Number.isFinite)) return { token: NO_TOKEN, margin: Infinity };
  const greatest = values.reduce((a, b) => Math.max(a, b));
  if (temperature <= 0) return { token: values.indexOf(greatest), margin: Infinity };
  const { limit, margin } = threshold(values.map((value) => (greatest - value) / temperature), topK, topP);
  const scores = values.map((value, token) => {
    const distance = (greatest - value) / temperature;
    return distance <= limit ? gumbel(hash(seed, position, token)) - distance : -Infinity;
  });
  const order = scores.map((_, token) => token).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return { token: order[0]!, margin: Math.min(margin, scores[order[0]!]! - (scores[order[1]!] ?? -Infinity)) };
}

/** The greatest distance below the best logit, in units of the temperature, that top-k and top-p keep, and how clear top-p's edge is. */
export function threshold(distances: readonly number[], topK: number, topP: number): { limit: number; margin: number } {
  const sorted = Float64Array.from(distances).sort();
  let limit = topK > 0 && topK < sorted.length ? sorted[topK - 1]! : sorted.at(-1)!;
  if (topP >= 1) return { limit, margin: Infinity };
  const kept = sorted.filter((distance) => distance <= limit);
  const mass = kept.reduce((sum, distance) => sum + Math.exp(-distance), 0);
  let within = 0;
  let margin = Infinity;
  for (let i = 0; i < kept.length; i++) {
    within += Math.exp(-kept[i]!);
    if (kept[i + 1] === kept[i]) continue;
    margin = Math.min(margin, Math.abs(within / mass - topP));
    if (within < topP * mass) continue;
    limit = kept[i]!;
    break;
  }
  return { limit, margin };
}
