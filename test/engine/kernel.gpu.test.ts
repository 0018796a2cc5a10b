/** Pipelines: compiled once per specialisation, and a kernel that does not compile says in which file, on which line, and why. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { GpuError } from "../../engine/errors.ts";
import { Gpu } from "../../engine/gpu.ts";
import { f32, type Kernel, type WgslFile } from "../../engine/kernel.ts";
import { Recorder } from "../../engine/recorder.ts";
import { dispatch, put, takeF32 } from "../support/gpu.ts";

const gpu = await Gpu.open();
test.after(() => gpu.close());

const SOURCE: WgslFile = { name: "fill.wgsl", text: `// y[i] = value(i)
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3u) { y[id.x] = value(id.x); }` };
const slot = (body: string): WgslFile =>
  ({ name: "value.wgsl", text: `// what is written\nfn value(i: u32) -> f32 {\n  return ${body};\n}\n` });

async function refusal(kernel: Kernel): Promise<Error> {
  const error = await gpu.pipelines.get(kernel).compiled.then(() => null, (reason: Error) => reason);
  assert.instance(error, GpuError);
  return error as GpuError;
}

test("prelude and slots specialise a kernel", async () => {
  const y = await put(gpu, [8], null);
  const consts = { STEP: 3, TWICE: true, OFFSET: f32(0.1) };
  const slots = [slot("f32(i * STEP) * select(1.0, 2.0, TWICE) + OFFSET")];
  await dispatch(gpu, (recorder) => recorder.run({ source: SOURCE, slots, consts }, { y }, 1));
  assert.equal([...await takeF32(gpu, y)], Array.from({ length: 8 }, (_, i) => Math.fround(6 * i + Math.fround(0.1))));
});

test("the same specialisation is compiled once, another constant or slot is another pipeline", () => {
  const size = gpu.pipelines.size;
  const kernel = (body: string, n: number): Kernel => ({ source: SOURCE, slots: [slot(body)], consts: { N: n } });
  const first = gpu.pipelines.get(kernel("1.0", 1));
  assert.is(gpu.pipelines.get(kernel("1.0", 1)), first);
  assert.is(gpu.pipelines.size, size + 1);
  assert.is.not(gpu.pipelines.get(kernel("1.0", 2)), first);
  assert.is.not(gpu.pipelines.get(kernel("2.0", 1)), first);
  assert.is(gpu.pipelines.size, size + 3);
});

test("an error in the kernel names its file, line and column, and shows the line", async () => {
  const wrong = { name: "fill.wgsl", text: SOURCE.text.replace("value(id.x)", "valeu(id.x)") };
  const { message } = await refusal({ source: wrong, slots: [slot("1.0")], consts: { A: 1, B: 2 } });
  assert.match(message, /^fill\.wgsl does not compile:\nfill\.wgsl:4:\d+ .*valeu.*\n    fn main.*valeu\(id\.x\)/);
});

test("an error in a slot names the slot's file and line", async () => {
  const first = { name: "first.wgsl", text: "fn first() {}\n\n\n" };
  const { message } = await refusal({ source: SOURCE, slots: [first, slot("i + 1.5")], consts: {} });
  assert.match(message, /fill\.wgsl does not compile:\nvalue\.wgsl:3:\d+ no matching overload[^]*\n    return i \+ 1\.5;$/);
});

test("a slot that was left out is an error that names the missing function", async () => {
  const { message } = await refusal({ source: SOURCE, slots: [], consts: {} });
  assert.match(message, /fill\.wgsl:4:\d+ .*value/);
});

test("a kernel that does not compile fails the recording, and the device stays usable", async () => {
  const y = await put(gpu, [8], null);
  const recorder = new Recorder(gpu);
  recorder.run({ source: SOURCE, slots: [slot("nonsense")], consts: {} }, { y }, 1);
  const error = await recorder.finish("bad").then(() => null, (reason: Error) => reason);
  assert.instance(error, GpuError);
  await gpu.sync();
  await dispatch(gpu, (good) => good.run({ source: SOURCE, slots: [slot("7.0")], consts: {} }, { y }, 1));
  assert.is((await takeF32(gpu, y))[7], 7);
});

test.run();
