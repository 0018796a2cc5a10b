/** Draft lengths: fixed ones, and one that finds the best for what is accepted and what it costs. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { AdaptiveLength, fixedLength } from "../../../techniques/speculation/adaptive.ts";
import { bestPrediction, speedUp, type CostModel } from "../../../techniques/speculation/cost.ts";
import { uniform } from "../../support/gpu.ts";

const flat = (c: number): CostModel => ({ c, v: new Array<number>(17).fill(1) });
/** Four rows cost one step, then each group of four another half. */
const stairs = (c: number): CostModel => ({ c, v: Array.from({ length: 17 }, (_, k) => 1 + 0.5 * Math.floor(k / 4)) });

/** Rounds at a true α; the K of each. */
function play(length: AdaptiveLength, alpha: number, rounds: number, random: () => number): number[] {
  return Array.from({ length: rounds }, () => {
    const drafted = length.next(16);
    let accepted = 0;
    while (accepted < drafted && random() < alpha) accepted++;
    length.learn({ drafted, accepted });
    return drafted;
  });
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;

test("fixed", () => {
  const length = fixedLength(5);
  assert.equal([16, 5, 3, 1].map((most) => length.next(most)), [5, 5, 3, 1]);
  length.learn({ drafted: 5, accepted: 0, ms: 1 });
  assert.is(length.next(16), 5);
});

test("adaptive: comes to the best K for a known α, c and v", () => {
  const shapes = { "flat .1": flat(0.1), "flat .02": flat(0.02), "stairs .05": stairs(0.05), "stairs 0": stairs(0) };
  for (const [name, costs] of Object.entries(shapes)) {
    for (const alpha of [0.05, 0.3, 0.6, 0.8, 0.95]) {
      const length = new AdaptiveLength(costs);
      const chosen = play(length, alpha, 1500, uniform(3)).slice(300);
      const best = bestPrediction(alpha, costs);
      // What it loses against knowing α: little, for near the optimum the curve is flat.
      const reached = mean(chosen.map((k) => speedUp(alpha, k, costs)));
      assert.ok(reached > 0.97 * best.speedUp, `${name}, α ${alpha}: ${reached} of ${best.speedUp} at K ${best.k}`);
      assert.ok(Math.abs(length.alpha - alpha) < 0.15, `${name}: α ${length.alpha} instead of ${alpha}`);
    }
  }
});

test("adaptive: without forgetting it is exact", () => {
  for (const [alpha, costs] of [[0.3, flat(0.1)], [0.8, flat(0.1)], [0.6, stairs(0.05)], [0.9, stairs(0.02)]] as const) {
    const length = new AdaptiveLength(costs, { decay: 1 });
    const chosen = play(length, alpha, 20_000, uniform(8));
    assert.ok(Math.abs(length.alpha - alpha) < 0.01);
    assert.is(chosen.at(-1), bestPrediction(alpha, costs).k, `α ${alpha}`);
  }
});

test("adaptive: follows a text that changes, both ways", () => {
  const costs = stairs(0.05), length = new AdaptiveLength(costs), random = uniform(4);
  const [low, high] = [bestPrediction(0.2, costs).k, bestPrediction(0.95, costs).k];
  assert.ok(high - low >= 4);
  assert.ok(mean(play(length, 0.95, 300, random).slice(100)) > high - 2);
  assert.ok(mean(play(length, 0.2, 300, random).slice(100)) < low + 1, "it gives up");
  assert.ok(mean(play(length, 0.95, 300, random).slice(100)) > high - 2, "and comes back");
});

test("adaptive: a K of 1 where nothing pays, and never more than there is room for", () => {
  const dear = new AdaptiveLength(flat(1.2));
  assert.ok(play(dear, 0.9, 200, uniform(1)).every((k) => k === 1));
  const free = new AdaptiveLength(flat(0));
  for (let i = 0; i < 50; i++) free.learn({ drafted: 16, accepted: 16 });
  assert.equal([16, 7, 1].map((most) => free.next(most)), [16, 7, 1]);
  assert.is(new AdaptiveLength(flat(0), { most: 4, prior: { alpha: 0.99, weight: 10 } }).next(16), 4);
});

test("adaptive: the estimate is what was accepted of what was judged", () => {
  const length = new AdaptiveLength(flat(0.1), { prior: { alpha: 0.5, weight: 2 }, decay: 0.5 });
  assert.is(length.alpha, 0.5);
  length.learn({ drafted: 5, accepted: 2 }); // two accepted, one rejected, two not judged
  assert.is(length.alpha, (1 + 2) / (2 + 3));
  length.learn({ drafted: 2, accepted: 2 }); // nothing rejected
  assert.is(length.alpha, (1 + 1 + 2) / (2 + 1.5 + 2));
  length.learn({ drafted: 0, accepted: 0 }); // nothing learnt, only forgotten
  assert.is(length.alpha, (1 + 1.5) / (2 + 1.75));
});

test.run();
