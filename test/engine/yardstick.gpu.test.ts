/** The yardstick on a real device: the same work every time, figures that can be compared, and nothing left behind. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { Yardstick } from "../../engine/yardstick.ts";

const test = suite("yardstick");

/** Every device that is opened while `body` runs. */
async function watched<T>(body: () => Promise<T>): Promise<{ readonly value: T; readonly gpus: readonly Gpu[] }> {
  const { open } = Gpu, gpus: Gpu[] = [];
  Gpu.open = async (...args) => {
    const gpu = await open.apply(Gpu, args);
    gpus.push(gpu);
    return gpu;
  };
  try {
    return { value: await body(), gpus };
  } finally {
    Gpu.open = open;
  }
}

for (const family of ["software", "gpu"] as const) {
  test(`${family} kernels: times are positive, the work is named alike each time, and closing gives all memory back`, async () => {
    const { value: stick, gpus: [gpu, ...others] } = await watched(() => Yardstick.open({ family }));
    assert.is(others.length, 0, "one device of its own");
    assert.is(stick.work, `${family} 1`);
    const held = gpu!.ledger.report().total;
    assert.ok(held > 0);
    for (let i = 0; i < 3; i++) {
      const { computeMs, memoryMs, hostMs } = await stick.measure();
      for (const ms of [computeMs, memoryMs, hostMs]) assert.ok(Number.isFinite(ms) && ms > 0 && ms < 10_000, `${ms} ms`);
    }
    assert.is(gpu!.ledger.report().total, held, "measuring takes no more");
    stick.close();
    assert.is(gpu!.ledger.report().total, 0);
    const again = await Yardstick.open({ family });
    assert.is(again.work, stick.work);
    again.close();
  });
}

test("an adapter that is not there is told, and no device stays open", async () => {
  const { gpus } = await watched(async () => {
    await Yardstick.open({ adapter: "no such adapter" }).then(() => assert.unreachable(),
      (error: Error) => { assert.match(error.message, /no such adapter/); });
  });
  assert.is(gpus.length, 0);
});

test.run();
