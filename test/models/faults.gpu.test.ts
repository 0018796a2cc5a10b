/**
 * What goes wrong on the device, provoked: memory that cannot be had at the k-th allocation, for every k; and requests that are taken back
 * while steps are in flight.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { AbortedError, LLM, OutOfMemoryError } from "../../index.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { folderOf, withGpus, withModel, withoutWarmUp } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

const TINY = folderOf("qwen2-mqa");
const OPTIONS = { maxModelLen: 128, maxSequences: 2, prefillChunk: 16 } as const;

/** From now on the `k`-th buffer that is asked for cannot be had, as when the device's memory is full. Returns how many were asked for. */
function failAllocation(gpu: Gpu, k: number): { readonly asked: number } {
  const state = { asked: 0 };
  const { device } = gpu;
  const create = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    if (++state.asked !== k) return create(descriptor);
    return create({ ...descriptor, size: device.limits.maxBufferSize + 16 }); // Dawn reports this as it would a full memory: in the scope around it
  };
  return state;
}

test("memory that cannot be had, at every allocation of loading: one clear error, and nothing is left", async () => {
  let count = { asked: 0 };
  await withGpus({}, async () => { await (await LLM.load(TINY, OPTIONS)).close(); }, (gpu) => { count = failAllocation(gpu, 0); });
  assert.ok(count.asked > 30, `${count.asked} allocations`);
  for (let k = 1; k <= count.asked; k++) {
    await withGpus({}, async (gpus) => {
      const error = await rejects(LLM.load(TINY, OPTIONS), OutOfMemoryError, /GPU memory for .* \(\d+ bytes, \w+\) could not be had, \d+ bytes are in use already: lower kvMemory/);
      assert.not.match(error.message, /\n/);
      assert.is(gpus[0]!.ledger.report().total, 0, `allocation ${k}`);
    }, (gpu) => { failAllocation(gpu, k); });
  }
  await withModel(TINY, OPTIONS, async (llm) => { assert.is((await llm.generate([1, 2], { maxNewTokens: 2, ignoreEos: true })).ids.length, 2); });
});

test("memory that cannot be had while text is generated ends those requests, and the next ones run", async () => {
  await withGpus({}, async (gpus) => {
    await withModel(TINY, OPTIONS, async (llm) => {
      const state = failAllocation(gpus[0]!, 2); // the second thing that log-probabilities need
      await rejects(llm.generate([1, 2, 3], { maxNewTokens: 4, logprobs: 1 }), OutOfMemoryError, /could not be had/);
      assert.is(state.asked, 2);
      assert.is(llm.cacheStats().blocksUsed, 0);
      const { logprobs } = await llm.generate([1, 2, 3], { maxNewTokens: 4, ignoreEos: true, logprobs: 1 });
      assert.is(logprobs!.length, 4);
    });
  });
});

test("a request taken back while steps are in flight: no further step runs it, and its memory is free at once", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    const expected = (await llm.generate([4, 5], { maxNewTokens: 60, ignoreEos: true })).ids;
    const controller = new AbortController();
    let doomed = -1, steps = 0, later = 0;
    const off = llm.trace.on((event) => {
      if (event.type === "admitted" && doomed < 0) doomed = event.sequence;
      if (event.type !== "decode" || !event.sequences.includes(doomed)) return;
      if (controller.signal.aborted) later++;
      else if (++steps === 12) controller.abort();
    });
    const taken = rejects(llm.generate([1, 2, 3], { maxNewTokens: 100, ignoreEos: true, signal: controller.signal }), AbortedError, /aborted/);
    const other = await llm.generate([4, 5], { maxNewTokens: 60, ignoreEos: true });
    await taken;
    off();
    assert.equal(other.ids, expected);
    assert.is(steps, 12);
    assert.is(later, 0, "steps with it that were submitted after it was taken back");
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("a request taken back in whatever turn: those beside it have their texts, and every block comes back", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    const expected = (await llm.generate([4, 5], { maxNewTokens: 12, ignoreEos: true })).ids;
    for (let turns = 0; turns < 60; turns++) {
      const controller = new AbortController();
      const other = llm.generate([4, 5], { maxNewTokens: 12, ignoreEos: true });
      const doomed = llm.generate([1, 2, 3], { maxNewTokens: 30, ignoreEos: true, frequencyPenalty: 1, signal: controller.signal });
      doomed.catch(() => {});
      for (let i = 0; i < turns; i++) await null;
      if (turns % 3 === 2) await new Promise(setImmediate);
      controller.abort();
      await rejects(doomed, AbortedError, /aborted/);
      assert.equal((await other).ids, expected, `${turns} turns`);
    }
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test.run();
