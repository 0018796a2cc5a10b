/**
 * Scalar twin of accept (kernels/accept.ts): the same noise from the same hash, in double precision, each probability from its definition.
 * What it has beside the verdict is how clear the decisions were, as a kernel in f32 may rightly decide otherwise where they were not.
 */

import { NO_TOKEN, type SamplingParams } from "../sample.ts";
import { adjusted, gumbel, hash, sample, threshold, type AdjustRow } from "./sample.ts";

/** Purposes in the hash: of the number that decides on a drafted token, and of the noise for a token in place of a rejected one. */
const ACCEPT = 0x7feb352d;
const RESIDUAL = 0x846ca68b;
/** What f32 makes of a probability, as a share of it: distances of up to 100 are rounded, and sums of thousands. */
const ROUNDING = 1e-5;
/** Probabilities below this may be 0 in f32. */
const TINY = 1e-36;

export interface Round {
  /** Logits of rows 0 … drafted.length: row i follows the i-th drafted token. */
  readonly rows: readonly ArrayLike<number>[];
  /** Logits that the draft chose each token from; null for a text draft. */
  readonly draftRows: readonly ArrayLike<number>[] | null;
  readonly drafted: readonly number[];
  /** Of the last known token. */
  readonly position: number;
  readonly params: SamplingParams;
  /** Before the round. */
  readonly adjust?: AdjustRow | undefined;
}

export interface Verdict {
  readonly accepted: number;
  /** Those accepted and one more; NO_TOKEN as the last where the row has no token. */
  readonly ids: readonly number[];
  /** The least clear of the decisions: see `Draw.margin` (kernels/reference/sample.ts), and here also |u · q − p| as a share of p or q. */
  readonly margin: number;
}

/** What the processors leave of a row, and how clear the edges of their filters are. */
export interface Law { readonly probabilities: readonly number[]; readonly margin: number }

/** Of one row at a temperature above 0; null where it has no token. */
export function law(logits: ArrayLike<number>, params: SamplingParams, adjust?: AdjustRow): Law | null {
  const raw = Array.from(logits);
  if (!raw.every(Number.isFinite)) return null;
  const values = adjust === undefined ? raw : adjusted(raw, params, adjust);
  const greatest = values.reduce((a, b) => Math.max(a, b));
  if (greatest === -Infinity) return null;
  const distances = values.map((value) => (greatest - value) / params.temperature);
  const { limit, margin } = threshold(distances, params.topK, params.topP, params.minP ?? 0);
  const weights = distances.map((distance) => (distance <= limit ? Math.exp(-distance) : 0));
  const mass = weights.reduce((a, b) => a + b);
  return { probabilities: weights.map((weight) => weight / mass), margin };
}

/** Accept while u · q < p, then draw from max(0, p − q) or, behind the last, from p as `sample` does; see `accept` for the rest. */
export function accept(round: Round): Verdict {
  const { rows, draftRows, drafted, position, params } = round;
  const ids: number[] = [];
  let margin = Infinity;
  for (let i = 0; ; i++) {
    const adjust = counted(round.adjust, drafted.slice(0, i));
    const last = (id: number, clear: number): Verdict => ({ accepted: i, ids: [...ids, id], margin: Math.min(margin, clear) });
    const best = sample(rows[i]!, params, position + i + 1, adjust);
    if (i === drafted.length || best.token === NO_TOKEN) return last(best.token, best.margin);
    const d = drafted[i]!;
    if (params.temperature <= 0) {
      if (d !== best.token) return last(best.token, best.margin);
      margin = Math.min(margin, best.margin);
    } else {
      const p = law(rows[i]!, params, adjust)!;
      const q = d >= p.probabilities.length ? null : draftRows === null ? certainty(d, p.probabilities.length) : law(draftRows[i]!, params, adjust);
      margin = Math.min(margin, p.margin, q?.margin ?? Infinity);
      const threat = Math.max(p.probabilities[d] ?? 0, q?.probabilities[d] ?? 0);
      const u = (hash(params.seed, position + i + 1, 0, ACCEPT) >>> 8) * 2 ** -24;
      const lead = q === null ? -1 : p.probabilities[d]! - u * q.probabilities[d]!;
      if (q !== null && threat > 0) margin = Math.min(margin, threat < TINY ? 0 : Math.abs(lead) / threat);
      if (lead <= 0) {
        const { token, margin: clear } = residual(p.probabilities, q?.probabilities ?? null, params.seed, position + i + 1);
        return last(token, clear);
      }
    }
    ids.push(d);
  }
}

function certainty(d: number, vocab: number): Law {
  return { probabilities: Array.from({ length: vocab }, (_, token) => Number(token === d)), margin: Infinity };
}

/**
 * A draw from max(0, p − q); from p where q is null, or where that is nothing. A difference is only as good as what it is made of, so the
 * margin is the lead of the winner when its weight is taken as the least and that of each other token as the most that rounding may make of it.
 */
function residual(p: readonly number[], q: readonly number[] | null, seed: number, position: number): { token: number; margin: number } {
  const above = p.map((share, token) => Math.max(0, share - (q?.[token] ?? 0)));
  const weights = above.some((share) => share > 0) ? above : p;
  const own = hash(seed, position, 0, RESIDUAL);
  const noise = p.map((_, token) => gumbel(hash(own, position, token)));
  const score = (token: number, blur: number): number => {
    const weight = weights[token]! + blur * (weights === p ? p[token]! : Math.max(p[token]!, q?.[token] ?? 0));
    return weight > 0 ? noise[token]! + Math.log(weight) : -Infinity;
  };
  const scores = p.map((_, token) => score(token, 0));
  const token = scores.indexOf(scores.reduce((a, b) => Math.max(a, b)));
  const least = score(token, -ROUNDING);
  const others = p.map((_, t) => (t === token ? -Infinity : score(t, ROUNDING))).reduce((a, b) => Math.max(a, b));
  return { token, margin: others === -Infinity ? Infinity : least - others };
}

function counted(adjust: AdjustRow | undefined, ids: readonly number[]): AdjustRow | undefined {
  if (adjust === undefined || ids.length === 0) return adjust;
  const counts = Array.from(adjust.counts);
  for (const id of ids) if (id < counts.length) counts[id]!++;
  return { counts, bias: adjust.bias };
}
