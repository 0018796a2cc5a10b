/** Medians and spreads. Nothing here returns NaN: what cannot be computed is null. */

/** The value below which a share `q` of the sorted values lies, interpolated linearly (type 7 of Hyndman and Fan 1996). */
export function quantile(values: readonly number[], q: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  return sorted[low]! + (sorted[Math.min(low + 1, sorted.length - 1)]! - sorted[low]!) * (at - low);
}

export interface Summary {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  readonly min: number;
  readonly max: number;
  /** In the order they were measured. */
  readonly samples: readonly number[];
}

/** Null when there is nothing to summarise. */
export function summarise(samples: readonly (number | null)[]): Summary | null {
  const values = samples.filter((sample) => sample !== null);
  if (values.length === 0) return null;
  const at = (q: number): number => quantile(values, q)!;
  return { median: at(0.5), p10: at(0.1), p90: at(0.9), min: at(0), max: at(1), samples: values };
}

/** Change of b against a in percent, pair by pair: what is compared ran in the same iteration. */
export interface Change {
  readonly median: number;
  /** Ends of the interval for the median (`medianInterval`). */
  readonly low: number;
  readonly high: number;
  /**
   * The noise floor, in percent: what an arm differs from itself between neighbouring iterations (the median, of the more restless of the
   * two), or the most that two equal arms differed (the A/A control), where that was measured and is more.
   */
  readonly noise: number;
  /** Whether it may be told: the interval lies beyond the noise floor, as a whole. */
  readonly measurable: boolean;
  /** There when it is not measurable because there were fewer than CLAIM_ITERATIONS pairs. */
  readonly tooFew?: true;
}

/** Fewest iterations from which a change is claimed: chance alone makes five agree on a sign once in 16. */
export const CLAIM_ITERATIONS = 5;
/** What five that agree are worth: 1 − 2 / 2⁵. */
const CONFIDENCE = 1 - 2 / 2 ** CLAIM_ITERATIONS;
/** Standard errors that a difference of perplexity must exceed. */
export const CLAIM_ERRORS = 2;
const BOOTSTRAP_LEVEL = 0.95, RESAMPLES = 2000;

/**
 * Where the median of whatever the values were drawn from lies. The percentile bootstrap (Efron 1979) at 95 %, widened where it is narrower
 * than the exact interval of order statistics: of five or seven values a bootstrap never reaches the extremes as often as it should, and
 * promises more than it keeps. `values` must not be empty.
 */
export function medianInterval(values: readonly number[]): readonly [low: number, high: number] {
  const [low, high] = exactInterval(values), [from, to] = middle(bootstrapMedians(values));
  return [Math.min(low, from), Math.max(high, to)];
}

/**
 * Between which two of the sorted values the median lies, with a confidence of 1 − 2 P(B ≤ k) for the k-th from either end, B binomial
 * (n, ½): no assumption but that they are drawn alike. The extremes where even they are worth less than CONFIDENCE.
 */
function exactInterval(values: readonly number[]): readonly [low: number, high: number] {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  let drop = 0;
  for (let k = 0, share = 0.5 ** n, below = share; k < Math.floor((n - 1) / 2); k++) {
    if (1 - 2 * below >= CONFIDENCE) drop = k;
    share *= (n - k) / (k + 1);
    below += share;
  }
  return [sorted[drop]!, sorted[n - 1 - drop]!];
}

/** Ranks of the two values in the middle of every resample of n: they do not depend on the values, so they are drawn once. */
const middles = new Map<string, readonly (readonly [number, number])[]>();

function middlesOf(n: number, stream: number): readonly (readonly [number, number])[] {
  const key = `${n} ${stream}`, known = middles.get(key);
  if (known !== undefined) return known;
  const random = seeded(n + 7919 * stream), ranks = new Float64Array(n);
  const drawn = Array.from({ length: RESAMPLES }, (): readonly [number, number] => {
    for (let i = 0; i < n; i++) ranks[i] = Math.floor(random() * n);
    ranks.sort();
    return [ranks[(n - 1) >> 1]!, ranks[n >> 1]!];
  });
  middles.set(key, drawn);
  return drawn;
}

/**
 * Medians of resamples with replacement, as many each time; the same values always give the same. `stream`: another set of draws, for a second
 * group of values that is resampled apart from the first.
 */
export function bootstrapMedians(values: readonly number[], stream = 0): Float64Array {
  const sorted = [...values].sort((a, b) => a - b);
  return Float64Array.from(middlesOf(sorted.length, stream), ([low, high]) => (sorted[low]! + sorted[high]!) / 2);
}

/** The middle 95 % of what a bootstrap found. */
export function middle(found: Float64Array): readonly [low: number, high: number] {
  const sorted = Float64Array.from(found).sort();
  const at = (q: number): number => sorted[Math.round((sorted.length - 1) * q)]!;
  return [at((1 - BOOTSTRAP_LEVEL) / 2), at((1 + BOOTSTRAP_LEVEL) / 2)];
}

/**
 * The first gate before a sentence about a difference. `measurable` is false when iterations are too few to tell, or when any part of the
 * interval lies within the noise floor: on a busy machine five iterations agree on a sign by chance often enough. `floor`: the most that two
 * equal arms differed, in percent.
 */
export function change(a: readonly (number | null)[], b: readonly (number | null)[], floor = 0): Change | null {
  const percents = a.flatMap((from, i) => {
    const to = b[i];
    return from === null || to === null || to === undefined || from === 0 ? [] : [(to / from - 1) * 100];
  });
  if (percents.length === 0) return null;
  const median = quantile(percents, 0.5)!, [low, high] = medianInterval(percents);
  const noise = Math.max(restlessness(a), restlessness(b), floor);
  if (percents.length < CLAIM_ITERATIONS) return { median, low, high, noise, measurable: false, tooFew: true };
  return { median, low, high, noise, measurable: low > noise || high < -noise };
}

/** What samples differ from those before them, in percent: the median. 0 of fewer than two. */
export function restlessness(samples: readonly (number | null)[]): number {
  const values = samples.filter((sample) => sample !== null && sample > 0) as number[];
  return quantile(values.slice(1).map((to, i) => Math.abs(to / values[i]! - 1) * 100), 0.5) ?? 0;
}

/** A small seeded generator (mulberry32): orders and choices of a run can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Fisher and Yates. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j]!, result[i]!];
  }
  return result;
}
