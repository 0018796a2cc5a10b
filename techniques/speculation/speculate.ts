/**
 * Speculative decoding as mathematics (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318): one round over plain
 * distributions, on the host and in double precision. What the engine does with two models, two caches and kernels/accept.ts is this
 * function; the tests of losslessness hold it, and then hold the engine against it.
 */

/** Probabilities of all tokens; they add up to 1. Greedy decoding is the law that gives its best token 1 (`greedy`). */
export type Law = readonly number[];

/** Of the token that follows a text. A draft may answer null: it has nothing to propose. */
export type Model = (tokens: readonly number[]) => Law;
export type Draft = (tokens: readonly number[]) => Law | null;

/** All randomness there is: i with probability weights[i] / Σ weights, never an i of weight 0. */
export type Draw = (weights: readonly number[]) => number;

export interface Round {
  readonly drafted: readonly number[];
  /** How many of the drafted tokens the target accepted, from the first on. */
  readonly accepted: number;
  /** Those, and one token of the target's: always accepted + 1. */
  readonly tokens: readonly number[];
}

/**
 * One round behind the text `tokens`: the draft proposes up to k tokens, the target scores them all at once and says how far they go. The
 * tokens that come out follow the law of `target` alone, whatever the draft. Both laws are meant after temperature, filters and penalties.
 */
export function speculate(target: Model, draft: Draft, k: number, tokens: readonly number[], draw: Draw): Round {
  const drafted: number[] = [];
  const q: Law[] = [];
  while (drafted.length < k) {
    const law = draft([...tokens, ...drafted]);
    if (law === null) break;
    q.push(law);
    drafted.push(draw(law)); // dᵢ ~ qᵢ
  }
  // One forward of drafted + 1 rows: p₀ behind the text, pᵢ behind the i-th drafted token.
  const p = [...drafted.keys(), drafted.length].map((i) => target([...tokens, ...drafted.slice(0, i)]));

  for (const [i, d] of drafted.entries()) {
    const accept = Math.min(1, p[i]![d]! / q[i]![d]!); // min(1, p(d) / q(d))
    if (draw([1 - accept, accept]) === 1) continue;
    // P(x comes out) = q(x) · min(1, p(x)/q(x)) + P(rejected) · residual(x) = min(p, q)(x) + max(0, p − q)(x) = p(x).
    return { drafted, accepted: i, tokens: [...drafted.slice(0, i), draw(residual(p[i]!, q[i]!))] };
  }
  return { drafted, accepted: drafted.length, tokens: [...drafted, draw(p[drafted.length]!)] };
}

/** norm(max(0, p − q)): what p has and q did not offer. Its mass is P(rejected) = 1 − Σ min(p, q). */
export function residual(p: Law, q: Law): Law {
  const missing = p.map((mass, token) => Math.max(0, mass - q[token]!));
  const mass = missing.reduce((a, b) => a + b, 0);
  // Only rounding can reject under p = q; then p is what is asked for.
  return mass > 0 ? missing.map((each) => each / mass) : p;
}

/** α = Σ min(p, q) = 1 − TV(p, q): the probability that the target accepts a token drawn from q. */
export function acceptance(p: Law, q: Law): number {
  return p.reduce((sum, mass, token) => sum + Math.min(mass, q[token]!), 0);
}

/**
 * The law of a token without doubt. As a draft's law (prompt lookup) it makes the rule: accept d with probability p(d), else draw from p
 * without d. As both laws (greedy decoding) it makes it: accepted while equal, else the target's own.
 */
export function certainty(token: number, vocab: number): Law {
  return Array.from({ length: vocab }, (_, each) => Number(each === token));
}

/** The best token of `law` for certain; of equal ones the first. */
export function greedy(law: Law): Law {
  return certainty(law.indexOf(law.reduce((a, b) => Math.max(a, b))), law.length);
}

/** Draws by inversion: `random` gives numbers in [0, 1). */
export function drawWith(random: () => number): Draw {
  return (weights) => {
    let left = random() * weights.reduce((a, b) => a + b, 0);
    let last = -1;
    for (const [i, weight] of weights.entries()) {
      if (!(weight > 0)) continue;
      last = i; // where rounding leaves something over
      left -= weight;
      if (left < 0) break;
    }
    return last;
  };
}
