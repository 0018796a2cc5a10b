/**
 * Scalar twin of sample (kernels/sample.ts): the same noise from the same hash, in double precision. The thresholds are found by sorting
 * where the kernel bisects, so each is a check of the other.
 */

import { IN_PROMPT, NO_TOKEN, type SamplingParams } from "../sample.ts";

/** What the sampler draws a token with; kernels that draw more for one position have purposes of their own. */
export const DRAW = 0x9e3779b9;

/** pcg4d (Jarzynski and Olano 2020) of (seed, position, token, purpose), one word. */
export function hash(seed: number, position: number, token: number, purpose = DRAW): number {
  const start = [seed, position, token, purpose].map((word) => (Math.imul(word, 1664525) + 1013904223) >>> 0);
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

/** What adjusts one row: `counts` (IN_PROMPT | times in the text) and `bias` of its sequence, one for each token. */
export interface AdjustRow { readonly counts: ArrayLike<number>; readonly bias: ArrayLike<number> }

/**
 * The logits a row is chosen from. Repetition penalty first, on tokens of prompt or text: positive logits are divided by it, others
 * multiplied (Keskar et al. 2019). Then, for tokens of the text alone, − frequency · count − presence (OpenAI). Then the bias; a token
 * whose bias is not finite is forbidden and stands as −Infinity.
 */
export function adjusted(logits: ArrayLike<number>, params: SamplingParams, { counts, bias }: AdjustRow): number[] {
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = params;
  return Array.from(logits, (logit, token) => {
    if (!Number.isFinite(bias[token]!)) return -Infinity;
    const inPrompt = counts[token]! >= IN_PROMPT;
    const times = counts[token]! % IN_PROMPT;
    const repeated = !inPrompt && times === 0 ? logit : logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    return repeated - frequencyPenalty * times - (times > 0 ? presencePenalty : 0) + bias[token]!;
  });
}

export interface Draw {
  readonly token: number;
  /**
   * How far the decision was from another one: the lead of the winner's score over the next, or how far the mass at the edge of top-p
   * was from p or a distance from the edge of min-p, whichever is least. Where it is smaller than the rounding of f32 the kernel may
   * rightly decide otherwise. Infinity where nothing is rounded.
   */
  readonly margin: number;
}

/**
 * The next token of one row of logits; `position` is that of the token being drawn. Temperature 0: the greatest logit, ties to the lowest
 * index. Else top-k keeps every logit ≥ the k-th greatest; top-p of what is left the least set of greatest logits with at least
 * p of its probability (equal logits stay or go together), min-p of that what is at least minP times as likely as the best; then argmax of
 * logit / T + Gumbel noise, which is a draw from the softmax of what was kept (Maddison et al. 2014). A logit that is not finite, or no
 * token that is not forbidden, gives NO_TOKEN.
 */
export function sample(logits: ArrayLike<number>, params: SamplingParams, position: number, adjust?: AdjustRow): Draw {
  const { temperature, topP, topK, seed, minP = 0 } = params;
  const raw = Array.from(logits);
  if (!raw.every(Number.isFinite)) return { token: NO_TOKEN, margin: Infinity };
  const values = adjust === undefined ? raw : adjusted(raw, params, adjust);
  const greatest = values.reduce((a, b) => Math.max(a, b));
  if (greatest === -Infinity) return { token: NO_TOKEN, margin: Infinity };
  if (temperature <= 0) {
    const token = values.indexOf(greatest);
    const next = values.reduce((most, value, i) => (i === token ? most : Math.max(most, value)), -Infinity);
    return { token, margin: adjust === undefined ? Infinity : greatest - next };
  }
  const distances = values.map((value) => (greatest - value) / temperature);
  const { limit, margin } = threshold(distances, topK, topP, minP);
  const scores = distances.map((distance, token) => (distance <= limit ? gumbel(hash(seed, position, token)) - distance : -Infinity));
  const order = scores.map((_, token) => token).sort((a, b) => scores[b]! - scores[a]! || a - b);
  return { token: order[0]!, margin: Math.min(margin, scores[order[0]!]! - (scores[order[1]!] ?? -Infinity)) };
}

/** The probability of each token with which `sample` draws it at a temperature above 0, over all seeds. */
export function probabilities(logits: ArrayLike<number>, params: SamplingParams, adjust?: AdjustRow): number[] {
  const values = adjust === undefined ? Array.from(logits) : adjusted(logits, params, adjust);
  const greatest = values.reduce((a, b) => Math.max(a, b));
  const distances = values.map((value) => (greatest - value) / params.temperature);
  const { limit } = threshold(distances, params.topK, params.topP, params.minP ?? 0);
  const weights = distances.map((distance) => (distance <= limit ? Math.exp(-distance) : 0));
  const mass = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / mass);
}

/** The greatest distance below the best logit, in units of the temperature, that top-k, top-p and min-p keep, and how clear their edges are. */
export function threshold(distances: readonly number[], topK: number, topP: number, minP: number): { limit: number; margin: number } {
  const sorted = Float64Array.from(distances).sort();
  let limit = topK > 0 && topK < sorted.length ? sorted[topK - 1]! : sorted.at(-1)!;
  let margin = Infinity;
  if (topP < 1) {
    const kept = sorted.filter((distance) => distance <= limit);
    const mass = kept.reduce((sum, distance) => sum + Math.exp(-distance), 0);
    let within = 0;
    for (let i = 0; i < kept.length; i++) {
      within += Math.exp(-kept[i]!);
      if (kept[i + 1] === kept[i]) continue;
      margin = Math.min(margin, Math.abs(within / mass - topP));
      if (within < topP * mass) continue;
      limit = kept[i]!;
      break;
    }
  }
  if (minP > 0) {
    const most = -Math.log(minP);
    for (const distance of sorted) if (distance > 0 && distance <= limit) margin = Math.min(margin, Math.abs(distance - most));
    limit = Math.min(limit, most);
  }
  return { limit, margin };
}
