/** A recording replays what was recorded: same numbers, in order, stretched to the step's extent, and without making anything. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import type { Kernel } from "../../engine/kernel.ts";
import { Recorder, submit } from "../../engine/recorder.ts";
import { dispatch, near, numbers, put, takeF32 } from "../support/gpu.ts";

const gpu = await Gpu.open();
test.after(() => gpu.close());

const ROW = 8;
/** y = scale · y + x, one workgroup per row of 8. */
const axpy = (scale: number): Kernel => ({
  source: { name: "axpy.wgsl", text: `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) i: u32) {
  let at = group.y * 8u + i;
  y[at] = f32(SCALE) * y[at] + x[at];
}` },
  slots: [], consts: { SCALE: scale },
});

test("a replay equals a direct run, every time, and steps keep their order", async () => {
  const [a, b] = [numbers(4 * ROW, 1), numbers(4 * ROW, 2)];
  const [x, direct, replayed] = [await put(gpu, [4, ROW], a), await put(gpu, [4, ROW], b), await put(gpu, [4, ROW], b)];
  const recorder = new Recorder(gpu);
  recorder.run(axpy(2), { x, y: replayed }, 1, { rowsPer: 1 });
  recorder.run(axpy(3), { x, y: replayed }, 1, { rowsPer: 1 });
  recorder.run(axpy(2), { x, y: replayed }, 1, { rowsPer: 1 });
  const recording = await recorder.finish("three");
  assert.is(recording.dispatches, 3);
  assert.equal(recording.kernels, ["axpy.wgsl", "axpy.wgsl", "axpy.wgsl"]);
  for (let step = 0; step < 3; step++) {
    for (const scale of [2, 3, 2]) await dispatch(gpu, (one) => one.run(axpy(scale), { x, y: direct }, 1, { rowsPer: 1 }), { rows: 4 });
    submit(gpu, recording, { rows: 4, tiles: 0 });
  }
  const expected = Array.from(b);
  for (let step = 0; step < 9; step++) expected.forEach((value, i) => { expected[i] = [2, 3, 2][step % 3]! * value + a[i]!; });
  near(await takeF32(gpu, direct), expected, { relative: 1e-5, absolute: 0.1 }, "direct");
  near(await takeF32(gpu, replayed), await takeF32(gpu, direct), {}, "replayed against direct");
});

test("grids follow the extent: a fixed number, one for so many rows, one for every tile", async () => {
  const extent = { rows: 5, tiles: 4 };
  for (const [grid, rows] of [[2, 2], [{ rowsPer: 1 }, 5], [{ rowsPer: 2 }, 3], ["tiles", 4]] as const) {
    const [x, y] = [await put(gpu, [6, ROW], new Float32Array(6 * ROW).fill(1)), await put(gpu, [6, ROW], new Float32Array(6 * ROW))];
    await dispatch(gpu, (recorder) => recorder.run(axpy(1), { x, y }, 1, grid), extent);
    near(await takeF32(gpu, y), Float32Array.from({ length: 6 * ROW }, (_, i) => Number(i < rows * ROW)), {}, JSON.stringify(grid), ROW);
  }
});

test("a replay makes no bind group, buffer or pipeline and writes nothing", async () => {
  const [x, y] = [await put(gpu, [1, ROW], new Float32Array(ROW)), await put(gpu, [1, ROW], new Float32Array(ROW))];
  const recorder = new Recorder(gpu);
  for (let i = 0; i < 5; i++) recorder.run(axpy(i), { x, y }, 1);
  const recording = await recorder.finish("five");
  const calls: string[] = [];
  const spied = <T extends object>(target: T, name: string): T => new Proxy(target, {
    get: (object, key) => {
      const value: unknown = Reflect.get(object, key, object);
      if (typeof value !== "function") return key === "queue" ? spied(value as object, "queue") : value;
      return (...given: unknown[]): unknown => {
        calls.push(`${name}.${String(key)}`);
        return Reflect.apply(value, object, given);
      };
    },
  });
  submit({ device: spied(gpu.device, "device") } as Gpu, recording, { rows: 1, tiles: 0 });
  await gpu.sync();
  assert.equal(calls, ["device.createCommandEncoder", "queue.submit"]);
});

test("a tensor is bound from its offset and over its own bytes only", async () => {
  const whole = await put(gpu, [128, ROW], new Float32Array(128 * ROW).fill(1));
  const part = { ...whole, offset: whole.offset + 1024, shape: [2, ROW] };
  const y = await put(gpu, [2, ROW], new Float32Array(2 * ROW));
  await dispatch(gpu, (recorder) => recorder.run(axpy(0), { x: y, y: part }, 1, { rowsPer: 1 }), { rows: 2 });
  const expected = new Float32Array(128 * ROW).map((_, i) => Number(i < 256 || i >= 256 + 2 * ROW));
  near(await takeF32(gpu, whole), expected, {}, "the view alone is written", ROW);
});

test("a binding that nothing was given for is named, when it is recorded", async () => {
  const x = await put(gpu, [1, ROW], null);
  assert.throws(() => new Recorder(gpu).run(axpy(1), { x }, 1), /^axpy.wgsl: nothing was given for its binding y$/);
});

test("too many workgroups, and a tensor larger than a binding, are refused before the device sees them", async () => {
  const [x, y] = [await put(gpu, [1, ROW], null), await put(gpu, [1, ROW], null)];
  assert.throws(() => new Recorder(gpu).run(axpy(1), { x, y }, 65_536), /65536 × 1 workgroups are too many/);
  const recorder = new Recorder(gpu);
  recorder.run(axpy(1), { x: { ...x, label: "weight", shape: [gpu.maxBinding / 4 + 4] }, y }, 1);
  const error = await recorder.finish("large").then(() => null, (reason: Error) => reason);
  assert.is(error?.message, `axpy.wgsl: weight is ${gpu.maxBinding + 16} bytes, one binding holds ${gpu.maxBinding}; it must be split`);
  await gpu.sync();
});

test.run();
