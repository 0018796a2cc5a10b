/** The probe in both kernel families: it measures, keeps to its time, gives memory back, and believes no driver that computes wrongly. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { GpuError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { probe } from "../../engine/probe.ts";
import { openFamilies } from "../support/gpu.ts";
import { rejects } from "../support/rejects.ts";

let gpus: readonly Gpu[];
test.before(async () => { gpus = await openFamilies(); });
test.after(() => { for (const gpu of gpus) gpu.close(); });

test("figures are finite, memory comes back, a short time is kept", async () => {
  for (const gpu of gpus) {
    const before = gpu.ledger.report().total;
    const started = performance.now();
    const { copy, read, fma, dispatch, roundTrip, bufferBytes } = await probe(gpu, 0.5);
    const seconds = (performance.now() - started) / 1000;
    for (const [name, { value, repetitions }] of Object.entries({ copy, read, fma, dispatch, roundTrip })) {
      assert.ok(Number.isFinite(value) && value > 0 && repetitions >= 1, `${gpu.family}: ${name} is ${value} from ${repetitions} runs`);
    }
    assert.ok(bufferBytes >= 2 ** 20 && bufferBytes <= gpu.maxBinding);
    assert.ok(seconds < 8, `${gpu.family}: ${seconds} s`);
    assert.is(gpu.ledger.report().total, before);
  }
});

test("a wrong result is an error, not a figure", async () => {
  const [gpu] = gpus;
  const real = gpu!.readU32.bind(gpu);
  for (const [read, kernel] of ["probe_copy", "probe_copy", "probe_read", "probe_fma", "probe_count"].entries()) {
    let reads = 0;
    gpu!.readU32 = async (tensor) => {
      const words = await real(tensor);
      if (reads++ === read) words[0]! ^= 1;
      return words;
    };
    const before = gpu!.ledger.report().total;
    await rejects(probe(gpu!, 0.2), GpuError, new RegExp(`^${kernel}\\.wgsl gave a wrong result`));
    assert.is(gpu!.ledger.report().total, before);
  }
  gpu!.readU32 = real;
});

test.run();
