/**
 * Timestamps on the device: passes in order, more passes than one query set holds, memory given back, and readings finer than the steps to
 * which Dawn rounds them unless told not to.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { Timestamps } from "../../engine/timestamps.ts";

/** Steps of a rounded timestamp: 2^16 ns in Dawn, and the 100 µs of the WebGPU specification. */
const STEPS = [65_536, 100_000] as const;

const gpu = await Gpu.open();
test.after(() => gpu.close());

const here = gpu.device.features.has("timestamp-query");
const unless = here ? test : test.skip;
const why = here ? "" : " (skipped: this adapter has no timestamp-query)";

async function measured(timestamps: Timestamps, passes: number): Promise<readonly (readonly [number, number])[]> {
  const encoder = gpu.device.createCommandEncoder();
  for (let i = 0; i < passes; i++) encoder.beginComputePass({ timestampWrites: timestamps.writes(i) }).end();
  timestamps.resolve(encoder, passes);
  gpu.device.queue.submit([encoder.finish()]);
  return timestamps.read(passes);
}

unless(`Timestamps: 2,100 passes, more than one query set holds, in order and not in coarse steps${why}`, async () => {
  const timestamps = (await Timestamps.create(gpu, 2_100))!;
  try {
    assert.is(gpu.ledger.report().staging, 2_100 * 16);
    const times = await measured(timestamps, 2_100);
    assert.is(times.length, 2_100);
    assert.is(times[0]![0], 0);
    for (const [i, [begin, end]] of times.entries()) assert.ok(end >= begin && (i === 0 || begin >= times[i - 1]![1]), `pass ${i}`);
    for (const step of STEPS) assert.not.ok(times.every(([begin, end]) => begin % step === 0 && end % step === 0), `all in steps of ${step} ns`);
    assert.is((await measured(timestamps, 3)).length, 3, "a shorter reading afterwards");
    assert.throws(() => timestamps.writes(2_100), /room for 2100/);
  } finally {
    timestamps.destroy();
  }
  assert.is(gpu.ledger.report().total, 0);
});

test.run();
