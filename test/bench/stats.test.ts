/** Medians and spreads against values computed by hand; what has no value is null. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { change, medianInterval, quantile, seeded, shuffled, summarise } from "../../bench/core/stats.ts";

test("quantiles interpolate between neighbours", () => {
  assert.is(quantile([3, 1, 2], 0.5), 2);
  assert.is(quantile([1, 2, 3, 4], 0.5), 2.5);
  assert.is(quantile([0, 10], 0.1), 1);
  assert.is(quantile([7], 0.99), 7);
  assert.is(quantile([], 0.5), null);
});

test("a summary keeps its samples and is null without any", () => {
  assert.equal(summarise([4, null, 2]), { median: 3, p10: 2.2, p90: 3.8, min: 2, max: 4, samples: [4, 2] });
  assert.is(summarise([]), null);
  assert.is(summarise([null, null]), null);
});

test("a change is taken pair by pair", () => {
  const of = change([10, 10.1, 10.2, 10, 10], [11, 11.11, 11.22, 11, 11])!;
  assert.ok(Math.abs(of.median - 10) < 1e-9 && Math.abs(of.low - 10) < 1e-9 && Math.abs(of.high - 10) < 1e-9);
  assert.is(of.measurable, true);
});

test("a change that every iteration agrees on is noise all the same when an arm differs as much from itself", () => {
  // Neighbours of the first differ by 100, 50, 100 and 50 %: a median of 75.
  const of = change([10, 20, 10, 20, 10], [11, 22, 11, 22, 11])!;
  assert.is(of.noise, 75);
  assert.is(of.measurable, false);
  assert.is(of.tooFew, undefined);
  assert.is(change([10, 20, 10, 20, 10], [20, 40, 20, 40, 20])!.measurable, true);
  assert.is(change([5, 5, 5, 5, 5], [6, 12, 6, 12, 6])!.noise, 75);
});

test("a change that does not keep its sign is not measurable, nor is one of too few iterations, nor none at all", () => {
  assert.is(change([10, 10, 10, 10, 10], [12, 12, 12, 12, 9])!.measurable, false);
  assert.is(change([10, 10, 10, 10, 10], [12, 12, 12, 12, 10])!.measurable, false);
  assert.is(change([10, 10, 10, 10, 10], [12, 12, 12, 12, 9])!.tooFew, undefined);
  assert.equal(change([10, 10, 10, 10], [20, 20, 20, 20]), { median: 100, low: 100, high: 100, noise: 0, measurable: false, tooFew: true });
  assert.is(change([0, null, 5], [1, 1, null]), null);
  assert.is(change([], []), null);
});

test("the interval of a median: the extremes of few values, without the outermost of more, and it covers what it says", () => {
  const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
  for (const [n, drop] of [[1, 0], [2, 0], [5, 0], [8, 0], [9, 1], [11, 1], [12, 2], [15, 3], [20, 5]] as const) {
    assert.equal(medianInterval(upTo(n)), [drop, n - 1 - drop], `${n}`);
  }
  const random = seeded(7);
  const covered = Array.from({ length: 2000 }, () => medianInterval(Array.from({ length: 15 }, random))).filter(([low, high]) => low <= 0.5 && high >= 0.5).length;
  assert.ok(covered / 2000 > 0.95 && covered / 2000 < 0.98, `${covered} of 2000; by arithmetic 96.5 %`);
});

test("with many iterations one outlier does not take a claim back, nor does a floor that the change exceeds", () => {
  const a = Array.from({ length: 15 }, () => 10), b = a.map((_, i) => (i === 3 ? 30 : 5));
  assert.equal([change(a, b)!.measurable, change(a, b)!.high], [true, -50]);
  assert.is(change(a, b, 49)!.measurable, true);
  assert.is(change(a, b, 51)!.measurable, false);
});

test("pairs without both values are left out", () => {
  const of = change([10, null, 10], [20, 1, 30])!;
  assert.equal([of.low, of.high], [100, 200]);
});

test("the generator and the shuffle repeat with the seed, and the shuffle loses nothing", () => {
  const take = (seed: number): number[] => { const random = seeded(seed); return Array.from({ length: 5 }, random); };
  assert.equal(take(1), take(1));
  assert.not.equal(take(1), take(2));
  assert.ok(take(3).every((x) => x >= 0 && x < 1));
  fc.assert(fc.property(fc.array(fc.integer()), fc.nat(), (items, seed) => {
    assert.equal([...shuffled(items, seeded(seed))].sort(), [...items].sort());
  }));
});

test("two arms come in both orders, about equally often", () => {
  const random = seeded(0);
  const first = Array.from({ length: 1000 }, () => shuffled(["a", "b"], random)[0]).filter((name) => name === "a").length;
  assert.ok(first > 430 && first < 570, `${first} of 1000`);
});

test.run();
