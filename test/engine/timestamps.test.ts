/** The arithmetic of timestamps, without a device: nanoseconds after the first begin, and a clock that runs backwards is an error. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { GpuError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { spans, Timestamps } from "../../engine/timestamps.ts";

test("spans: counts from the first begin, exact beyond 2^53", () => {
  const start = 2n ** 63n + 1n;
  assert.equal(spans(BigUint64Array.from([start, start + 7n, start + 7n, start + 1_000_000_001n])), [[0, 7], [7, 1_000_000_001]]);
});

test("spans: a counter that ran backwards is an error that names the pass", () => {
  for (const counters of [[10n, 20n, 30n, 25n], [10n, 20n, 5n, 25n]]) {
    assert.throws(() => spans(BigUint64Array.from(counters)), (error: Error) => error instanceof GpuError && /pass 1: .* measure again/.test(error.message));
  }
});

test("Timestamps.create: null without the feature, an error for no pass", async () => {
  const gpu = { device: { features: new Set() } } as unknown as Gpu;
  assert.is(await Timestamps.create(gpu, 4), null);
  for (const capacity of [0, -1, 1.5, NaN]) {
    let message = "";
    await Timestamps.create(gpu, capacity).catch((error: Error) => { message = error.message; });
    assert.match(message, /at least one/);
  }
});

test.run();
