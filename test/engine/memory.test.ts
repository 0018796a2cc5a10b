/** The ledger counts exactly: current, peak per category and of the sum. */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CATEGORIES, Ledger } from "../../engine/memory.ts";

test("current and peak, by category and in all", () => {
  const ledger = new Ledger();
  ledger.add("weights", 100);
  ledger.add("kv", 50);
  ledger.remove("weights", 60);
  ledger.add("kv", 5);
  const { peak, ...now } = ledger.report();
  assert.equal(now, { weights: 40, kv: 55, activations: 0, logits: 0, staging: 0, total: 95 });
  assert.equal(peak, { weights: 100, kv: 55, activations: 0, logits: 0, staging: 0, total: 150 });
  ledger.resetPeak();
  assert.is(ledger.report().peak.total, 95);
  ledger.add("staging", 1);
  assert.is(ledger.report().peak.total, 96);
  assert.is(ledger.report().peak.weights, 40);
});

test("freeing more than there is is our own mistake, and says so", () => {
  const ledger = new Ledger();
  ledger.add("kv", 16);
  assert.throws(() => ledger.remove("kv", 17), /kv freed more than it had/);
});

test("a report is a snapshot: later changes do not reach it", () => {
  const ledger = new Ledger();
  const before = ledger.report();
  ledger.add("logits", 8);
  assert.is(before.logits, 0);
  assert.is(before.peak.total, 0);
});

test("random adds and removes: the total is the sum, the peak is the highest seen, and all removed reads zero", () => {
  const step = fc.record({ category: fc.constantFrom(...CATEGORIES), bytes: fc.nat(1000) });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const ledger = new Ledger();
    let most = 0;
    steps.forEach(({ category, bytes }, i) => {
      ledger.add(category, bytes);
      const report = ledger.report();
      assert.is(report.total, CATEGORIES.reduce((sum, key) => sum + report[key], 0));
      most = Math.max(most, report.total);
      if (i % 3 === 0) ledger.remove(category, bytes);
    });
    steps.forEach(({ category, bytes }, i) => { if (i % 3 !== 0) ledger.remove(category, bytes); });
    const { peak, ...now } = ledger.report();
    assert.ok(Object.values(now).every((bytes) => bytes === 0));
    assert.is(peak.total, most);
  }));
});

test.run();
