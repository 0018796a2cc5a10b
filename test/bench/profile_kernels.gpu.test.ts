/**
 * Kernels timed on the GPU: the forward passes of generation themselves, whose tokens stay the same, with every dispatch and every weight
 * accounted for. Nothing is compiled but what two tokens need, in sizes that the tests of the whole profile have as well.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AbortedError, UsageError } from "../../engine/errors.ts";
import { floorOf } from "../../bench/core/profile/floors.ts";
import { weightsRead } from "../../bench/core/profile/kernel_work.ts";
import { measureKernels, NO_TIMESTAMPS } from "../../bench/core/profile/kernels.ts";
import { profileConfig } from "../../bench/core/profile/options.ts";
import { LLM } from "../../index.ts";
import type { TimedDispatch } from "../../models/llm.ts";
import { withGpus, withModel, withoutWarmUp } from "../support/llm.ts";

const test = suite("timed kernels of the draft model");
const warmAgain = withoutWarmUp();
const IDS = Array.from({ length: 32 }, (_, i) => (i * 37) % 500);
const OPTIONS = { prefixCache: false, kvMemory: 4 << 20 };
const llm = await LLM.load("tiny-neox-draft", OPTIONS);
const two = () => llm.generate(IDS, { maxNewTokens: 2, ignoreEos: true });
test.after(async () => {
  warmAgain();
  await llm.close();
  assert.is(llm.memory().total, 0, "bytes on the GPU after close()");
});

const here = llm.environment.features.includes("timestamp-query");
const unless = here ? test : test.skip;
const why = here ? "" : " (skipped: this adapter has no timestamp-query)";

unless(`every dispatch of generation has a time, and the tokens are those of the untimed run${why}`, async () => {
  const plain = await two();
  const memory = llm.memory().total;
  const apart = (await llm.timed("dispatch", two))!, whole = (await llm.timed("pass", two))!;
  assert.equal([apart.result.ids, whole.result.ids], [plain.ids, plain.ids]);
  assert.is(llm.memory().total, memory, "bytes left behind");
  assert.equal([apart.passes.length, whole.passes.length, whole.passes.flatMap(({ dispatches }) => dispatches).length], [2, 2, 0]);
  for (const { nanoseconds } of [...whole.passes, ...apart.passes]) assert.ok(nanoseconds > 0);
  const decode = apart.passes[1]!.dispatches;
  assert.is(decode.length, await llm.dispatchesPerDecode());
  for (const { dispatches, nanoseconds } of apart.passes) {
    dispatches.forEach(({ begin, end }, i) => {
      assert.ok(end >= begin && end <= nanoseconds && begin >= (dispatches[i - 1]?.begin ?? 0), `${i}: ${begin} to ${end} of ${nanoseconds}`);
    });
    assert.ok(dispatches.some(({ begin, end }) => end > begin));
  }
  // The products are all the weights there are, once: nothing is missing, and nothing counted that does not run.
  const read = (dispatches: readonly TimedDispatch[], head: boolean): number =>
    dispatches.reduce((sum, dispatch) => sum + (dispatch.recording.startsWith("head") === head ? weightsRead(dispatch) ?? 0 : 0), 0);
  const { layerParameters, headParameters } = floorOf(llm.config, { weights: "f16", kv: "f16", context: 32, prompt: 32 });
  assert.equal(apart.passes.map(({ dispatches }) => [read(dispatches, false), read(dispatches, true)]), [[layerParameters, headParameters], [layerParameters, headParameters]]);
  assert.equal(apart.passes.map(({ dispatches: [first] }) => first!.rows), [32, 1]);
  // One pass at a time is timed: in steady decoding several are in flight.
  const steady = await llm.timed("dispatch", () => llm.generate(IDS, { maxNewTokens: 8, ignoreEos: true }));
  assert.equal(steady!.result.ids.slice(0, 2), plain.ids);
  assert.ok(steady!.passes.length >= 2 && steady!.passes.length <= 8, String(steady!.passes.length));
});

unless(`what fails in between leaves nothing behind; a second timing must wait${why}`, async () => {
  const memory = llm.memory().total;
  const failed = await llm.timed("dispatch", async () => {
    await two();
    throw new RangeError("mine");
  }).catch((error: unknown) => error);
  assert.instance(failed, RangeError);
  const aborted = new AbortController();
  const off = llm.trace.on(({ type }) => { if (type === "prefill") aborted.abort(); });
  const stopped = await llm.timed("dispatch", () => llm.generate(IDS, { maxNewTokens: 2, ignoreEos: true, signal: aborted.signal })).catch((error: unknown) => error);
  off();
  assert.instance(stopped, AbortedError);
  const refused = await llm.timed("pass", () => llm.timed("pass", two)).catch((error: unknown) => error);
  assert.ok(refused instanceof UsageError && /timed already/.test(refused.message));
  const { ids } = await two();
  assert.is(ids.length, 2);
  assert.is(llm.memory().total, memory, "bytes left behind");
});

unless(`the profile of it${why}`, async () => {
  const config = profileConfig({ prompt: "32", repetitions: "2" }, []);
  const { status, phases } = await measureKernels(llm, config, { signal: new AbortController().signal, onStep: () => {} });
  const { decode, prefill } = phases!;
  assert.equal([status, decode.passes, prefill.passes, decode.dispatches], ["complete", 1, 1, await llm.dispatchesPerDecode()]);
  for (const { rows, gpu, wall, timed } of [decode, prefill]) {
    assert.ok(Math.abs(rows.reduce((sum, { share }) => sum + share, 0) - 1) < 1e-9);
    assert.ok(gpu.min > 0 && wall.min > 0 && timed.sum.min > 0 && timed.wall.min > 0);
    assert.ok(rows.some(({ kernel, work }) => kernel.startsWith("attention") && work !== null));
  }
});

test("a device without timestamp queries is told, and runs nothing for it", async () => {
  await withGpus({}, async () => {
    await withModel("tiny-neox-draft", OPTIONS, async (other) => {
      let ran = false;
      assert.is(await other.timed("pass", async () => { ran = true; }), null);
      assert.is(ran, false);
      const kernels = await measureKernels(other, profileConfig({ prompt: "32", repetitions: "1" }, []), { signal: new AbortController().signal, onStep: () => {} });
      assert.equal([kernels.reason, kernels.phases], [NO_TIMESTAMPS, null]);
    });
  }, ({ device }) => { Object.defineProperty(device, "features", { value: new Set([...device.features].filter((feature) => feature !== "timestamp-query")) }); });
});

test.run();
