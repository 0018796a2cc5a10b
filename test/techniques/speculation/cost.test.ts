/** Expected tokens and speed-ups against the numbers worked out in the literature's formulas. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  bestPrediction, costModel, expectedTokens, leastAlpha, longest, predictions, roundCost, speedUp, type CostModel,
} from "../../../techniques/speculation/cost.ts";

const IDEAL: CostModel = { c: 0.1, v: new Array<number>(17).fill(1) };
const round = (value: number, digits: number): number => Number(value.toFixed(digits));

test("expected tokens", () => {
  const table = [[0.5, 3, 1.875], [0.6, 5, 2.3834], [0.7, 5, 2.9412], [0.8, 5, 3.6893], [0.8, 10, 4.5705], [0.9, 10, 6.8619]] as const;
  for (const [alpha, k, tokens] of table) {
    assert.is(round(expectedTokens(alpha, k), 4), tokens, `α ${alpha}, K ${k}`);
    assert.ok(Math.abs(expectedTokens(alpha, k) - (1 - alpha ** (k + 1)) / (1 - alpha)) < 1e-12);
  }
  assert.is(expectedTokens(0, 7), 1);
  assert.is(expectedTokens(1, 7), 8);
  assert.is(round((expectedTokens(0.8, 5) - 1) / 5, 3), 0.538, "accepted / drafted is not α");
});

test("speed-ups with c = .1 and v = 1", () => {
  for (const [alpha, expected] of [[0.8, [2.271, 2.46, 2.405, 2.285]], [0.5, [1.442, 1.312, 1.109, 1]]] as const) {
    [3, 5, 8, 10].forEach((k, i) => assert.ok(Math.abs(speedUp(alpha, k, IDEAL) - expected[i]!) < 0.00051, `α ${alpha}, K ${k}`));
  }
  const all = predictions(0.8, IDEAL);
  assert.equal(all.map(({ k }) => k), Array.from({ length: 16 }, (_, i) => i + 1));
  const best = bestPrediction(0.8, IDEAL);
  assert.is(best.k, 6, "an optimum inside");
  assert.ok(all.every((each) => each.speedUp <= best.speedUp));
  assert.is(bestPrediction(0.8, IDEAL, 3).k, 3);
  assert.is(bestPrediction(0.8, IDEAL, 0).k, 1, "never less than one");
  assert.is(bestPrediction(0, IDEAL).k, 1);
  assert.is(bestPrediction(1, { c: 0, v: IDEAL.v }).k, 16);
});

test("costs from measurements", () => {
  const model = costModel({ decodeMs: 10, draftMs: 2, verifyMs: [11, 12, 15] });
  assert.equal(model, { c: 0.2, v: [1, 1.2, 1.5] });
  assert.is(longest(model), 2);
  assert.ok(Math.abs(roundCost(model, 2) - 1.9) < 1e-12);
  assert.throws(() => roundCost(model, 3), /only up to 2/);
  for (const bad of [{ decodeMs: 0 }, { decodeMs: NaN }, { draftMs: -1 }, { verifyMs: [10] }, { verifyMs: [10, NaN] }]) {
    assert.throws(() => costModel({ decodeMs: 10, draftMs: 2, verifyMs: [10, 11], ...bad }), /are not times/);
  }
});

test("the least α that pays", () => {
  const edge = leastAlpha(IDEAL)!;
  assert.ok(Math.abs(edge - 0.1) < 1e-9, "at K = 1, 1 + α > c + 1");
  assert.ok(bestPrediction(edge + 1e-6, IDEAL).speedUp > 1 && bestPrediction(edge - 1e-6, IDEAL).speedUp <= 1);
  assert.is(leastAlpha({ c: 1.1, v: IDEAL.v }), null, "a draft dearer than the target");
  assert.is(leastAlpha({ c: 0, v: [1, 2, 3, 4] }), null, "rows that cost as much as steps");
  assert.is(leastAlpha({ c: 0, v: [1, 0.9] }), 0, "a verify that was measured below a step");
  // Only long rounds pay: the first row is dear, more cost nothing.
  const steep = leastAlpha({ c: 0, v: [1, ...new Array<number>(16).fill(2.5)] })!;
  assert.ok(steep > 0.5 && steep < 0.7 && speedUp(steep + 1e-6, 16, { c: 0, v: new Array<number>(17).fill(2.5) }) > 1);
});

test.run();
