/** What a ratio leaves, against fractions counted by hand and against every decimal of two places. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkRatio, decimalOf, keptCeil, keptOf, roundHalfEven } from "../../../techniques/press/ratio.ts";

test("ratio: where doubles go astray, exact numbers do not", () => {
  const table: [length: number, ratio: number, kept: number][] = [
    [100, 0.9, 10], [50, 0.8, 10], [10, 0.9, 1], [1000, 0.999, 1], [10, 0.7, 3], [100, 0.71, 29], [203, 0.5, 101], [203, 0.75, 50],
    [7, 0, 7], [1, 0.99, 1], [0, 0.5, 0], [3, 1e-7, 2], [10_000_000, 1e-7, 9_999_999], [4, 0.99999999, 1], [2 ** 31, 0.1, 1_932_735_283],
  ];
  for (const [length, ratio, kept] of table) assert.is(keptOf(length, ratio), kept, `${length} at ${ratio}`);
  let astray = 0;
  for (let length = 1; length <= 400; length++) {
    for (let percent = 0; percent < 100; percent++) {
      assert.is(keptOf(length, Number(`0.${String(percent).padStart(2, "0")}`)), Math.max(1, Math.floor(length * (100 - percent) / 100)), `${length} at ${percent} %`);
      if (Math.floor(length * (1 - percent / 100)) !== Math.floor(length * (100 - percent) / 100)) astray++;
    }
  }
  assert.ok(astray > 100, "plain truncation of doubles would have done as well");
});

test("ratio: the share that is kept rounds up", () => {
  const table: [length: number, keepRatio: number, kept: number][] = [
    [100, 0.1, 10], [100, 0.07, 7], [101, 0.1, 11], [512, 0.9, 461], [10, 1, 10], [1, 1e-9, 1], [0, 0.5, 0], [100, 0.29, 29], [100, 0.57, 57], [1000, 0.001, 1],
  ];
  for (const [length, keepRatio, kept] of table) assert.is(keptCeil(length, keepRatio), kept, `${length} at ${keepRatio}`);
  assert.is(Math.ceil(100 * 0.07), 8, "doubles would have kept one more");
});

test("ratio: decimals as they are written, and halves to the even number", () => {
  assert.equal(decimalOf(0.75), { numerator: 75n, denominator: 100n });
  assert.equal(decimalOf(1e-7), { numerator: 1n, denominator: 10n ** 7n });
  assert.equal(decimalOf(2.5e21), { numerator: 25n * 10n ** 20n, denominator: 1n });
  assert.equal(decimalOf(20), { numerator: 20n, denominator: 1n });
  const rounded = [-5n, -3n, -2n, -1n, 0n, 1n, 2n, 3n, 5n, 7n].map((numerator) => roundHalfEven({ numerator, denominator: 2n }));
  assert.equal(rounded, [-2, -2, -1, 0, 0, 0, 1, 2, 2, 4]);
  assert.is(roundHalfEven({ numerator: 249n, denominator: 100n }), 2);
  assert.is(roundHalfEven({ numerator: 251n, denominator: 100n }), 3);
});

test("ratio: outside [0, 1) it is refused by name", () => {
  for (const good of [0, 0.5, 0.999]) checkRatio(good, "knorm: ratio");
  for (const bad of [1, -0.1, NaN, Infinity, 2]) {
    assert.throws(() => { checkRatio(bad, "knorm: ratio"); }, new RegExp(`^knorm: ratio is the share of entries to evict.*not ${bad}$`));
  }
});

test.run();
