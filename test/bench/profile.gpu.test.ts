/** The profile on bundled models: rates and host time of real decode steps, counts that must be exact, and WebGPU left as it was found. */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { execFile } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dispatchesFloor, floorOf } from "../../bench/core/profile/floors.ts";
import { KINDS } from "../../bench/core/profile/host.ts";
import { measure } from "../../bench/core/profile/measure.ts";
import { profileConfig } from "../../bench/core/profile/options.ts";
import { threadClock } from "../../bench/core/profile/thread_clock.ts";
import { withModel } from "../support/llm.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("profile on bundled models");

/** Every method of WebGPU that the profile stands in for while it measures. */
function methods(): unknown[] {
  const { GPUBuffer, GPUQueue, GPUDevice, GPUCommandEncoder, GPUComputePassEncoder } = globalThis;
  return [
    setImmediate, ...[GPUBuffer, GPUQueue, GPUDevice, GPUCommandEncoder, GPUComputePassEncoder].flatMap(({ prototype }) =>
      Object.entries(Object.getOwnPropertyDescriptors(prototype)).flatMap(([name, { value }]) => (typeof value === "function" ? [name, value] : []))),
  ];
}

test("rates, host time and calls of a decode step; the floor's dispatches and calls are those that are made", async () => {
  await withModel("tiny-qwen2", { prefixCache: false, kvMemory: 4 << 20 }, async (llm) => {
    const before = methods();
    const config = profileConfig({ prompt: "20", new: "16", repetitions: "2", concurrency: "1,3" }, []);
    const steps: number[] = [];
    const profile = await measure(llm, config, { clock: await threadClock(), signal: new AbortController().signal, onStep: (_, done) => { steps.push(done); } });
    assert.equal(methods(), before);
    assert.equal([profile.status, steps.at(-1), profile.prefill!.samples.length, profile.decode!.samples.length], ["complete", 8, 2, 2]);
    assert.ok(profile.decode!.min > 0 && profile.prefill!.min > 0);
    assert.equal(profile.concurrency.map(({ atATime, requests, tokensPerSecond }) => [atATime, requests, tokensPerSecond!.samples.length]), [[1, 3, 2], [3, 3, 2]]);
    const { decode } = floorOf(llm.config, { weights: "f16", kv: "f16", context: 20, prompt: 20 });
    assert.equal([profile.dispatches, dispatchesFloor(llm.config)], [decode.dispatches, decode.dispatches]);
    assert.is(profile.callsPerStep["dispatchWorkgroups"], decode.dispatches);
    assert.equal(["submit", "mapAsync", "unmap", "finish"].map((name) => profile.callsPerStep[name]), [1, 1, 1, 1]);
    const calls = Object.values(profile.callsPerStep).reduce((sum, count) => sum + count, 0);
    assert.ok(calls >= decode.hostCalls && calls < decode.hostCalls + 3, `${calls} calls a step, ${decode.hostCalls} are needed`);
    for (const { perToken, byKind, turnsPerToken, wallPerToken } of profile.host.repetitions) {
      assert.ok(Math.abs(KINDS.reduce((sum, kind) => sum + byKind[kind], 0) - perToken) < 1e-6);
      assert.ok(byKind.encode > 1 && byKind.submit > 1 && byKind.read > 0 && byKind.map > 0 && byKind.other > 0, JSON.stringify(byKind));
      assert.ok(perToken <= wallPerToken && turnsPerToken > 0 && turnsPerToken <= 2, `${perToken} of ${wallPerToken} µs in ${turnsPerToken} turns`);
    }
    assert.ok(profile.host.repetitions.length === 2 && profile.host.pollsPerToken!.median > 0);
    // Batch 1: less than the whole time of a token, or waiting for the device would have been taken for work.
    assert.ok(profile.host.perToken!.min / 1000 < 1000 / profile.decode!.min);
  });
});

test("an abort ends it, with what was measured", async () => {
  await withModel("tiny-neox-draft", { prefixCache: false, kvMemory: 4 << 20 }, async (llm) => {
    const stop = new AbortController();
    const config = profileConfig({ prompt: "8", new: "4", repetitions: "100" }, []);
    const profile = await measure(llm, config, { clock: await threadClock(), signal: stop.signal, onStep: (_, done) => { if (done === 5) stop.abort(); } });
    assert.is(profile.status, "interrupted");
    // Polls are counted in every repetition; a time is left out where tokens came too close together to tell.
    assert.is(profile.decode!.samples.length + profile.host.pollsPerToken!.samples.length, 5);
  });
});

test("the command prints its tables and writes its JSON, and a picture of the kernels", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-profile-"));
  try {
    const args = ["bench/profile.ts", "--model", "tiny-neox-draft", "--prompt", "16", "--new", "8", "--repetitions", "2", "--kernels", "--output-dir", folder];
    const text = await new Promise<string>((resolve) => execFile(process.execPath, args, { cwd: ROOT }, (error, stdout, stderr) => { resolve(`${error?.code ?? 0} ${stdout}${stderr}`); }));
    assert.match(text, /^0 /);
    assert.match(text, /pp16, tok\/s[^]*tg8 @ d16, tok\/s[^]*decode step[^]*prefill of 16[^]*Dispatches of a decode step[^]*encode the step[^]*Bar: 20 µs per layer \(2 layers\)/);
    assert.not.match(text, /\bNaN\b|Infinity|Experimental/);
    const json = JSON.parse(readFileSync(join(folder, "profile/profile-tiny-neox-draft.json"), "utf8"));
    assert.equal([json.schemaVersion, json.experiment, json.status, json.decodeTokensPerSecond.samples.length, json.host.layers, json.roof], [1, "profile", "complete", 2, 2, null]);
    if (json.kernels.value === null) assert.match(text, /Kernels: this device has no timestamp queries/);
    else {
      assert.match(text, /\ndecode step behind 16 tokens [^]*\n {2}\w+ 4096×96, head [^]*\nprefill of 16 tokens [^]*take no sum of rows for its time/);
      assert.equal([json.kernels.status, json.kernels.decode.dispatches, json.kernels.prefill.passes], ["complete", json.dispatchesStated, 1]);
      assert.ok(json.host.microsecondsPerPrefill.median > 0 && json.kernels.prefill.host.cpu.median > 0);
      for (const type of ["png", "svg", "vl.json"]) assert.ok(readFileSync(join(folder, `profile/profile-kernels-tiny-neox-draft.${type}`)).length > 1000);
    }
    assert.ok(Math.abs(json.reached.decode.gigabytesPerSecond - (json.floor.decode.bytes * json.decodeTokensPerSecond.median) / 1e9) < 1e-9);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
