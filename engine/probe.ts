/**
 * What this device can do, in about five seconds: bytes per second, multiply-adds per second, and what a dispatch and a read-back cost.
 * These are the roofs against which a kernel's speed means something. Each figure is a median over repetitions whose number follows from
 * the device's own pace, so a slow adapter takes no longer than a fast one; and each kernel's result is checked, so no figure can come
 * from work that was not done.
 */

import { GpuError } from "./errors.ts";
import type { Gpu } from "./gpu.ts";
import { wgsl, type Consts, type WgslFile } from "./kernel.ts";
import { median } from "./median.ts";
import { Recorder, type Recording } from "./recorder.ts";
import type { Tensor } from "./tensor.ts";

export interface ProbeFigure {
  readonly value: number;
  /** Runs of which `value` is the median. */
  readonly repetitions: number;
}

export interface ProbeResult {
  /** GB/s (10^9 bytes), read and written together. */
  readonly copy: ProbeFigure;
  /** GB/s. */
  readonly read: ProbeFigure;
  /** f32 GFLOP/s of multiply-adds in registers, two operations each. */
  readonly fma: ProbeFigure;
  /** µs per dispatch of a chain in which each needs the one before; encoding on the host is not counted. */
  readonly dispatch: ProbeFigure;
  /** µs from submitting one tiny dispatch to having its result on the host. */
  readonly roundTrip: ProbeFigure;
  /** Size of the buffers that were copied and read: larger than a cache should hold. */
  readonly bufferBytes: number;
  readonly seconds: number;
}

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const COPY = file("./probe_copy.wgsl");
const READ = file("./probe_read.wgsl");
const FMA = file("./probe_fma.wgsl");
const COUNT = file("./probe_count.wgsl");

/** One submit is made this long where the device is fast, so that submitting and waiting (about 0.1 ms) do not count. */
const SUBMIT_MS = 30;
const MOST_REPETITIONS = 25;
const MARK_WORDS = 1024;
/** probe_fma.wgsl: eight chains, sixteen steps a round, two operations a step. */
const FLOP_PER_ROUND = 8 * 16 * 2;

interface Cut { workgroup: number; perInvocation: number; bytes: number; fmaGroups: number; rounds: number }

/** How the kernels are cut for each family: as its matrix-vector product reads weights. */
function cutFor({ family, subgroupSize, maxBinding }: Gpu): Cut {
  const { workgroup, perInvocation, wanted, fmaGroups, rounds } = family === "software"
    ? { workgroup: subgroupSize, perInvocation: 256, wanted: 64 * 2 ** 20, fmaGroups: 256, rounds: 64 }
    : { workgroup: 256, perInvocation: 16, wanted: 256 * 2 ** 20, fmaGroups: 2048, rounds: 128 };
  const bytesPerGroup = workgroup * perInvocation * 16;
  return { workgroup, perInvocation, bytes: Math.floor(Math.min(wanted, maxBinding) / bytesPerGroup) * bytesPerGroup, fmaGroups, rounds };
}

/** Measure within about `seconds`. Throws GpuError when a result is wrong, OutOfMemoryError when two buffers do not fit. */
export async function probe(gpu: Gpu, seconds = 5): Promise<ProbeResult> {
  const started = performance.now();
  const share = (seconds * 1000) / 5;
  const { workgroup, perInvocation, bytes, fmaGroups, rounds } = cutFor(gpu);
  const tensors: Tensor[] = [];
  const make = async (words: number, label: string): Promise<Tensor> => {
    tensors.push(await gpu.tensor("staging", [words], "u32", `probe.${label}`));
    return tensors.at(-1)!;
  };
  try {
    const source = await make(bytes / 4, "source"), to = await make(bytes / 4, "to"), small = await make(4, "small");
    const marks = writeMarks(gpu, source);
    const consts = { WORKGROUP: workgroup, PER_INVOCATION: perInvocation, SUBGROUP: gpu.subgroupSize };
    const groups = bytes / (workgroup * perInvocation * 16);

    const copy = await time(gpu, await record(gpu, COPY, consts, { source, to }, groups), share);
    for (const { at, words } of marks) {
      await expect(gpu, COPY, slice(to, at, MARK_WORDS), (found) => found.every((word, i) => word === words[i]));
    }

    const read = await time(gpu, await record(gpu, READ, consts, { source, sums: to }, groups), share);
    const all = marks.flatMap(({ words }) => [...words]).reduce((sum, word) => sum ^ word, 0) >>> 0;
    const subgroups = (groups * workgroup) / gpu.subgroupSize;
    await expect(gpu, READ, slice(to, 0, subgroups), (sums) => sums.reduce((sum, word) => sum ^ word, 0) >>> 0 === all);

    gpu.upload(small.buffer, 0, new Float32Array([0.5, 0.5]));
    const invocations = fmaGroups * workgroup;
    const operands = { factor: small, sums: slice(to, 0, invocations) };
    const fma = await time(gpu, await record(gpu, FMA, { WORKGROUP: workgroup, ROUNDS: rounds }, operands, fmaGroups), share);
    const eight = new Uint32Array(new Float32Array([8]).buffer)[0];
    await expect(gpu, FMA, operands.sums, (sums) => sums.every((word) => word === eight));

    gpu.upload(small.buffer, 0, new Uint32Array(4));
    const counting = await record(gpu, COUNT, { SUBGROUP: gpu.subgroupSize }, { count: small }, 1);
    const dispatch = await time(gpu, counting, share);
    await expect(gpu, COUNT, small, ([count]) => count === dispatch.dispatches);
    const roundTrip = await timeRoundTrips(gpu, counting, small, share);

    return {
      copy: { value: (2 * bytes) / copy.ms / 1e6, repetitions: copy.repetitions },
      read: { value: bytes / read.ms / 1e6, repetitions: read.repetitions },
      fma: { value: (invocations * rounds * FLOP_PER_ROUND) / fma.ms / 1e6, repetitions: fma.repetitions },
      dispatch: { value: 1000 * dispatch.ms, repetitions: dispatch.repetitions },
      roundTrip, bufferBytes: bytes, seconds: (performance.now() - started) / 1000,
    };
  } finally {
    for (const { buffer } of tensors) gpu.destroyBuffer(buffer);
  }
}

/** Put known words at the start and the end of a tensor of zeros, and say where. */
function writeMarks(gpu: Gpu, tensor: Tensor): { at: number; words: Uint32Array }[] {
  return [0, tensor.shape[0]! - MARK_WORDS].map((at) => {
    const words = Uint32Array.from({ length: MARK_WORDS }, (_, i) => Math.imul(at + i + 1, 2_654_435_761));
    gpu.upload(tensor.buffer, 4 * at, words);
    return { at, words };
  });
}

function slice(tensor: Tensor, first: number, words: number): Tensor {
  return { ...tensor, offset: tensor.offset + 4 * first, shape: [words] };
}

async function expect(gpu: Gpu, kernel: WgslFile, tensor: Tensor, holds: (words: Uint32Array) => boolean): Promise<void> {
  if (holds(await gpu.readU32(tensor))) return;
  const advice = "the driver cannot be trusted; update it or choose another adapter";
  throw new GpuError(`${kernel.name} gave a wrong result on ${gpu.adapter.description}: ${advice}`);
}

type Tensors = Readonly<Record<string, Tensor>>;

async function record(gpu: Gpu, source: WgslFile, consts: Consts, tensors: Tensors, x: number): Promise<Recording> {
  const recorder = new Recorder(gpu);
  recorder.run({ source, slots: [], consts }, tensors, x);
  return recorder.finish(source.name);
}

/** Commands that run a recording `times` over. */
function encode(gpu: Gpu, recording: Recording, times: number): GPUCommandEncoder {
  const encoder = gpu.device.createCommandEncoder({ label: recording.label });
  const pass = encoder.beginComputePass({ label: recording.label });
  for (let i = 0; i < times; i++) recording.encode(pass, { rows: 1, tiles: 1 });
  pass.end();
  return encoder;
}

/** Median milliseconds per dispatch, from submit to done, within about `budgetMs`; also how many dispatches there were in all. */
async function time(gpu: Gpu, recording: Recording, budgetMs: number): Promise<{ ms: number; repetitions: number; dispatches: number }> {
  const end = performance.now() + budgetMs;
  let dispatches = 0;
  const run = async (times: number): Promise<number> => {
    const commands = encode(gpu, recording, times).finish();
    dispatches += times;
    const start = performance.now();
    gpu.device.queue.submit([commands]);
    await gpu.sync();
    return performance.now() - start;
  };
  await run(1); // a driver finishes compiling at the first dispatch
  let times = 1;
  let taken = await run(times);
  while (taken < SUBMIT_MS / 2 && performance.now() + 8 * taken < end) {
    times = Math.ceil(times * Math.min(8, SUBMIT_MS / taken));
    taken = await run(times);
  }
  const samples = [taken];
  while (samples.length < MOST_REPETITIONS && performance.now() + taken < end) samples.push(await run(times));
  return { ms: median(samples) / times, repetitions: samples.length, dispatches };
}

async function timeRoundTrips(gpu: Gpu, recording: Recording, result: Tensor, budgetMs: number): Promise<ProbeFigure> {
  const staging = await gpu.createBuffer("staging", 16, "probe.round trip", GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  try {
    const end = performance.now() + budgetMs;
    const samples: number[] = [];
    do {
      const start = performance.now();
      const encoder = encode(gpu, recording, 1);
      encoder.copyBufferToBuffer(result.buffer, 0, staging, 0, 16);
      gpu.device.queue.submit([encoder.finish()]);
      await gpu.map(staging);
      samples.push(1000 * (performance.now() - start));
      staging.unmap();
    } while (samples.length < 8 * MOST_REPETITIONS && performance.now() < end);
    gpu.check();
    return { value: median(samples), repetitions: samples.length };
  } finally {
    gpu.destroyBuffer(staging);
  }
}
