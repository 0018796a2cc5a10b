/** The device: memory is counted to the byte, bytes go up and come down unchanged, and no error passes unseen. */

import { execFileSync } from "node:child_process";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DeviceLostError, GpuError, OutOfMemoryError } from "../../engine/errors.ts";
import { Gpu, UPLOAD_BYTES } from "../../engine/gpu.ts";
import { uniform } from "../support/gpu.ts";

const open: Gpu[] = [];
async function fresh(): Promise<Gpu> {
  const gpu = await Gpu.open();
  open.push(gpu);
  return gpu;
}
test.after(() => open.forEach((gpu) => gpu.close()));

const failure = (promise: Promise<unknown>): Promise<Error | null> => promise.then(() => null, (reason: Error) => reason);

/** Wait for what the device has to say about the work before. The event of an uncaptured error comes with the promises. */
const settled = (gpu: Gpu): Promise<unknown> => gpu.device.queue.onSubmittedWorkDone();

test("an opened device says what it is; the family can be chosen", async () => {
  const gpu = await fresh();
  assert.ok(gpu.adapter.description.length + gpu.adapter.device.length > 0);
  assert.ok(gpu.subgroupSize >= 4 && Number.isInteger(Math.log2(gpu.subgroupSize)));
  assert.ok(gpu.maxBinding >= 128 << 20);
  assert.is(gpu.family, gpu.adapter.software || gpu.subgroupSize <= 8 ? "software" : "gpu");
  const other = await Gpu.open({ family: "gpu" });
  assert.is(other.family, "gpu");
  other.close();
});

test("the ledger is exact: sizes in steps of 16 bytes, staging of a read included, zero after close", async () => {
  const gpu = await fresh();
  const weights = await gpu.createBuffer("weights", 1000, "weights");
  const kv = await gpu.tensor("kv", [3, 5], "f16", "keys");
  assert.is(weights.size, 1008);
  assert.equal(bytes(gpu), { weights: 1008, kv: 32, activations: 0, logits: 0, staging: 0, total: 1040 });
  await gpu.read(kv);
  assert.is(bytes(gpu).total, 1040);
  assert.is(gpu.ledger.report().peak.staging, 32);
  gpu.destroyBuffer(weights);
  assert.equal(bytes(gpu), { weights: 0, kv: 32, activations: 0, logits: 0, staging: 0, total: 32 });
  assert.throws(() => gpu.destroyBuffer(weights), /buffer weights is not ours or was destroyed before/);
  gpu.close();
  assert.ok(Object.values(bytes(gpu)).every((count) => count === 0));
  assert.is(gpu.ledger.report().peak.total, 1040 + 32);
});

function bytes(gpu: Gpu): Record<string, number> {
  const { peak: _, ...now } = gpu.ledger.report();
  return now;
}

test("bytes survive the way up and down: beyond the size of one write, at an offset, of odd length", async () => {
  const gpu = await fresh();
  const random = uniform(1);
  const data = Uint32Array.from({ length: (2 * UPLOAD_BYTES) / 4 + 7 }, () => random() * 2 ** 32);
  const tensor = await gpu.tensor("weights", [data.length + 64], "u32", "large");
  gpu.upload(tensor.buffer, 256, data);
  assert.ok(Buffer.from((await gpu.readU32({ ...tensor, offset: 256, shape: [data.length] })).buffer).equals(Buffer.from(data.buffer)));
  const few = await gpu.read({ ...tensor, offset: 256, shape: [3], dtype: "f16" });
  assert.equal([...few], [...new Uint8Array(data.buffer, 0, 6)]);
  assert.is((await gpu.readF32({ ...tensor, offset: 0, shape: [64], dtype: "f32" })).every((value) => value === 0), true);
  gpu.close();
});

test("more than one buffer can hold is an OutOfMemoryError that says how much, and costs nothing", async () => {
  const gpu = await fresh();
  await gpu.createBuffer("kv", 64, "keys");
  const error = await failure(gpu.createBuffer("weights", gpu.device.limits.maxBufferSize + 1, "lm_head"));
  assert.instance(error, OutOfMemoryError);
  assert.match(error!.message, /^lm_head needs \d+ bytes, more than one buffer can hold on this adapter \(\d+\)$/);
  assert.is(bytes(gpu).total, 64);
  await gpu.sync();
  gpu.close();
});

test("a device that refuses an allocation: OutOfMemoryError with what is in use and what to do, ledger unchanged", async () => {
  const gpu = await fresh();
  await gpu.createBuffer("kv", 64, "keys");
  let destroyed = 0;
  const scopes: string[] = [];
  const refusing = {
    limits: gpu.device.limits, createBuffer: () => ({ destroy: () => { destroyed++; } }),
    pushErrorScope: (kind: string) => { scopes.push(kind); },
    popErrorScope: async () => (scopes.pop() === "out-of-memory" ? { message: "allocation failed\nbacktrace" } : null),
  };
  const { device } = gpu;
  Object.assign(gpu, { device: refusing });
  const error = await failure(gpu.createBuffer("weights", 1 << 20, "embedding"));
  Object.assign(gpu, { device });
  assert.instance(error, OutOfMemoryError);
  assert.match(error!.message, /embedding \(1048576 bytes, weights\) could not be had, 64 bytes are in use already: lower kvMemory/);
  assert.match(error!.message, /\(allocation failed\)$/);
  assert.is(destroyed, 1);
  assert.is(scopes.length, 0);
  assert.is(bytes(gpu).total, 64);
  gpu.close();
});

test("a validation error nobody asked for is latched: every later check, sync, allocation and read throws it", async () => {
  const gpu = await fresh();
  const tensor = await gpu.tensor("activations", [4], "f32", "x");
  const layout = gpu.device.createBindGroupLayout({ entries: [] });
  gpu.device.createBindGroup({ layout, entries: [{ binding: 3, resource: { buffer: tensor.buffer } }], label: "wrong" });
  await settled(gpu);
  assert.throws(() => gpu.check(), /the GPU reported an error: [^]*wrong/);
  const first = await failure(gpu.sync());
  assert.instance(first, GpuError);
  assert.is(await failure(gpu.read(tensor)), first);
  assert.is(await failure(gpu.createBuffer("kv", 16, "more")), first);
  gpu.close();
});

test("the device going away while there is work gives a DeviceLostError at the next read", async () => {
  const gpu = await fresh();
  const tensor = await gpu.tensor("activations", [4], "f32", "x");
  gpu.upload(tensor.buffer, 0, new Float32Array(4));
  gpu.device.destroy();
  assert.instance(await failure(gpu.read(tensor)), DeviceLostError);
  assert.instance(await failure(gpu.read(tensor)), DeviceLostError);
  gpu.close();
  assert.is(bytes(gpu).total, 0);
});

test("the device going away during a read gives a DeviceLostError too, and the staging is given back", async () => {
  const gpu = await fresh();
  const tensor = await gpu.tensor("activations", [1 << 16], "f32", "x");
  const reading = failure(gpu.read(tensor));
  await Promise.resolve();
  gpu.device.destroy();
  assert.instance(await reading, DeviceLostError);
  assert.is(bytes(gpu).staging, 0);
  gpu.close();
});

test("after close everything says the Gpu is closed; closing twice is fine", async () => {
  const gpu = await fresh();
  const tensor = await gpu.tensor("activations", [4], "f32", "x");
  gpu.close();
  gpu.close();
  for (const attempt of [() => gpu.sync(), () => gpu.read(tensor), () => gpu.createBuffer("kv", 16, "x")]) {
    const error = await failure(attempt());
    assert.instance(error, DeviceLostError);
    assert.match(error!.message, /closed/);
  }
});

test("fifty devices opened, used and closed in a process of their own: it ends by itself, with exit code 0", () => {
  const program = `
    import { Gpu } from ${JSON.stringify(new URL("../../engine/gpu.ts", import.meta.url).href)};
    for (let i = 0; i < 50; i++) {
      const gpu = await Gpu.open();
      const tensor = await gpu.tensor("activations", [64], "u32", "x");
      gpu.upload(tensor.buffer, 0, new Uint32Array(64).fill(i));
      const back = await gpu.readU32(tensor);
      if (!back.every((word) => word === i)) throw new Error("wrong bytes");
      gpu.close();
    }
    console.log("fifty");`;
  // execFileSync throws on another exit code, on a signal, and when the process has not ended in time.
  const printed = execFileSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    encoding: "utf8", timeout: 60_000, stdio: ["ignore", "pipe", "inherit"],
  });
  assert.is(printed, "fifty\n");
});

test.run();
