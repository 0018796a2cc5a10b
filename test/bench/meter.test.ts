/** A meter takes from running totals what belongs to its own passes: warm-up and the workload before it stay out. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { CacheMeter } from "../../bench/core/meter.ts";
import type { TraceEvent } from "../../engine/trace.ts";

function source() {
  const listeners = new Set<(event: TraceEvent) => void>();
  const total = { passes: 0, live: 0, reserved: 0, preemptions: 0, hit: 0 };
  return {
    total, listeners,
    trace: { on: (listener: (event: TraceEvent) => void) => { listeners.add(listener); return () => { listeners.delete(listener); }; } },
    cacheStats: () => ({
      blockSize: 1, blocksTotal: 100, blocksUsed: 0, peakBlocksUsed: 0, preemptions: total.preemptions,
      meanLiveTokens: total.live / Math.max(1, total.passes), meanReservedTokens: total.reserved / Math.max(1, total.passes),
      prefix: { queriedTokens: 2 * total.hit, hitTokens: total.hit, cachedBlocks: 0, evictedBlocks: 0 },
    }),
    /** One forward pass: told first, noted after, as the engine does. */
    pass(sequences: number, reserved: number, live: number): void {
      const ids = Array.from({ length: sequences }, (_, i) => i);
      for (const listener of listeners) listener({ type: "decode", sequences: ids });
      total.passes++;
      total.live += live;
      total.reserved += reserved;
    },
  };
}

test("only passes between start and stop count, each with what it reserved and held", () => {
  const model = source();
  const meter = new CacheMeter(model);
  model.pass(9, 90, 1);
  model.pass(9, 90, 1);
  meter.start();
  model.pass(1, 16, 3);
  model.pass(3, 48, 40);
  model.pass(3, 48, 10);
  model.total.preemptions += 2;
  model.total.hit += 5;
  model.pass(2, 32, 20);
  assert.is(meter.stop(), 2);
  model.pass(9, 90, 1);
  meter.start();
  model.pass(2, 32, 30);
  assert.is(meter.stop(), 0);
  assert.equal(meter.take(), {
    passes: 5, peakReserved: 48, peakLive: 40, meanReserved: 176 / 5, meanLive: 103 / 5, peakRunning: 3, meanRunning: 11 / 5, preemptions: 2, queriedTokens: 10, hitTokens: 5, evictedBlocks: 0,
  });
});

test("taking begins anew, and without a pass every number is 0", () => {
  const model = source();
  const meter = new CacheMeter(model);
  meter.start();
  model.pass(4, 64, 60);
  meter.stop();
  assert.is(meter.take().passes, 1);
  assert.equal(Object.values(meter.take()), new Array(11).fill(0));
});

test("thousands of passes with large sums stay exact", () => {
  const model = source();
  const meter = new CacheMeter(model);
  for (let i = 0; i < 5000; i++) model.pass(1, 1_000_003, 999_983 - i);
  meter.start();
  model.pass(1, 17, 5);
  meter.stop();
  assert.equal([meter.take()].map(({ peakReserved, meanLive }) => [peakReserved, meanLive]), [[17, 5]]);
});

test("a closed meter no longer listens", () => {
  const model = source();
  new CacheMeter(model).close();
  assert.is(model.listeners.size, 0);
});

test.run();
