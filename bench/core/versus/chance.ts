/**
 * Two runs are two groups of iterations that were not paired, and dozens of arms and metrics are compared at once: of sixty comparisons at
 * 95 % three "find" something where nothing is. With five to seven iterations no correction that looks at one comparison at a time can pay
 * for that: the least p of 7 against 7 is 1 in 1716, of 5 against 5 1 in 126; sixty comparisons at 2 % need 1 in 3000. So whole
 * iterations, with all that was measured in them, are dealt anew to A and B, and each time the largest statistic of the whole family is
 * noted (Westfall and Young 1993, single-step max-T). That keeps how arms of one iteration hang together, needs no distribution, and is
 * exact as long as iterations could have come in any order.
 *
 * How often it is wrong and what it finds, on a simulated machine: test/bench/versus_simulation.test.ts.
 */

import { quantile, seeded, shuffled } from "../stats.ts";

/** How often chance may make two equal runs differ. Less than 1 in 20: what drifts within a run is not quite in any order. */
export const FAMILY_LEVEL = 0.02;
const DEALS = 500;
/** The share of the distances that makes the scale: the largest are left out, so that a spike in one iteration does not hide a change. */
const CALM_SHARE = 0.75;

/** One comparison: logarithms by iteration, null where there is none, and what must be exceeded. */
export interface Series {
  readonly a: readonly (number | null)[];
  readonly b: readonly (number | null)[];
  readonly floor: number;
}

/**
 * For every series: how often chance makes any of them differ by as much more than its floor as this one does. The difference is that of
 * the medians, in units of the mean distance to them. The same series always give the same.
 */
export function familyChances(family: readonly Series[]): number[] {
  const atA = Math.max(0, ...family.map(({ a }) => a.length));
  const atB = Math.max(0, ...family.map(({ b }) => b.length));
  const deals = dealsOf(atA, atB);
  const largest = new Float64Array(deals.length);
  const room = new Float64Array(3 * (atA + atB));
  const observed = family.map((series) => {
    const values = Float64Array.from({ length: atA + atB }, (_, i) => (i < atA ? series.a[i] : series.b[i - atA]) ?? NaN);
    lower(values, atA, series.floor);
    const found = deals.map((deal) => Math.abs(statistic(values, deal, room)));
    found.forEach((one, d) => {
      largest[d] = Math.max(largest[d]!, one);
    });
    return found[0]!;
  });
  return observed.map((own) => largest.reduce((count, one) => count + (one >= own - 1e-9 ? 1 : 0), 0) / deals.length);
}

/** B moved towards A by the floor, or onto it where it differs by less. */
function lower(values: Float64Array, atA: number, floor: number): void {
  const medians = [values.subarray(0, atA), values.subarray(atA)].map((group) =>
    quantile(
      [...group].filter((value) => !Number.isNaN(value)),
      0.5,
    ),
  );
  const by = (medians[1] ?? 0) - (medians[0] ?? 0);
  const shift = Math.sign(by) * Math.min(floor, Math.abs(by));
  for (let i = atA; i < values.length; i++) values[i]! -= shift;
}

const known = new Map<string, readonly Uint8Array[]>();

/** Ways to deal iterations to A (1) and B: every one where they are few, else some drawn by a fixed seed. The first is how it was. */
function dealsOf(atA: number, atB: number): readonly Uint8Array[] {
  const key = `${atA} ${atB}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const was = Uint8Array.from({ length: atA + atB }, (_, i) => (i < atA ? 1 : 0));
  const random = seeded(atA * 1009 + atB);
  const deals =
    ways(atA, atB) <= DEALS
      ? everyWay(atA, atB).filter((deal) => deal.some((one, i) => one !== was[i]))
      : Array.from({ length: DEALS - 1 }, () => Uint8Array.from(shuffled([...was], random)));
  const all = [was, ...deals];
  known.set(key, all);
  return all;
}

/** The binomial coefficient; it need not be exact where it is large. */
function ways(a: number, b: number): number {
  let count = 1;
  for (let i = 1; i <= Math.min(a, b); i++) count *= (a + b - i + 1) / i;
  return Math.round(count);
}

function everyWay(a: number, b: number): Uint8Array[] {
  if (a + b === 0) return [new Uint8Array(0)];
  const behind = (first: number, rest: Uint8Array[]): Uint8Array[] => rest.map((deal) => Uint8Array.of(first, ...deal));
  return [...(a > 0 ? behind(1, everyWay(a - 1, b)) : []), ...(b > 0 ? behind(0, everyWay(a, b - 1)) : [])];
}

/** 0 where a group has fewer than two values. `room`: for three times as many numbers. */
function statistic(values: Float64Array, deal: Uint8Array, room: Float64Array): number {
  const count = values.length;
  let n = 0;
  let m = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i]!;
    if (Number.isNaN(value)) continue;
    if (deal[i] === 1) room[n++] = value;
    else room[count + m++] = value;
  }
  if (n < 2 || m < 2) return 0;
  const from = middleOf(room, 0, n);
  const to = middleOf(room, count, m);
  const distances = 2 * count;
  for (let i = 0; i < n; i++) room[distances + i] = Math.abs(room[i]! - from);
  for (let i = 0; i < m; i++) room[distances + n + i] = Math.abs(room[count + i]! - to);
  sortFew(room, distances, n + m);
  const calm = Math.ceil((n + m) * CALM_SHARE);
  let sum = 0;
  for (let i = 0; i < calm; i++) sum += room[distances + i]!;
  return to === from ? 0 : (to - from) / (sum / calm + Number.EPSILON);
}

/** The median of `count` numbers from `at` on, which it sorts. */
function middleOf(values: Float64Array, at: number, count: number): number {
  sortFew(values, at, count);
  return (values[at + ((count - 1) >> 1)]! + values[at + (count >> 1)]!) / 2;
}

/** By insertion: there are 5 to 30 of them, and it is done a million times. */
function sortFew(values: Float64Array, from: number, count: number): void {
  for (let i = from + 1; i < from + count; i++) {
    const value = values[i]!;
    let at = i - 1;
    for (; at >= from && values[at]! > value; at--) values[at + 1] = values[at]!;
    values[at + 1] = value;
  }
}
