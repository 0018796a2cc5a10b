/**
 * How fast the machine is just now: the same small work every time, on the GPU and on the host. A shared or throttled machine is another
 * machine from minute to minute; who compares two runs must know by how much. The figures are no roofs (probe.ts measures those): the work
 * is too small to fill a large GPU, but it is always the same.
 */

import { Gpu, type OpenOptions } from "./gpu.ts";
import { wgsl, type Consts, type WgslFile } from "./kernel.ts";
import { median } from "./median.ts";
import { Recorder, submit, type Recording } from "./recorder.ts";
import type { Tensor } from "./tensor.ts";

/** Milliseconds for the same work each time: multiply-adds in registers, reading memory, and a loop of JavaScript. */
export interface Yard { readonly computeMs: number; readonly memoryMs: number; readonly hostMs: number }

const FMA = wgsl(new URL("./probe_fma.wgsl", import.meta.url));
const READ = wgsl(new URL("./probe_read.wgsl", import.meta.url));
const REPETITIONS = 5;
const HOST_STEPS = 2_000_000;

/** Invocations and their work for each kernel family, about a millisecond or two each. */
const WORK = {
  software: { workgroup: 8, fmaGroups: 2048, rounds: 64, perInvocation: 256, readGroups: 512 },
  gpu: { workgroup: 256, fmaGroups: 2048, rounds: 128, perInvocation: 16, readGroups: 512 },
} as const;

export class Yardstick {
  /** What the figures are figures of: only those of the same work can be compared. */
  readonly work: string;
  readonly #gpu: Gpu;
  readonly #tensors: readonly Tensor[];
  readonly #fma: Recording;
  readonly #read: Recording;

  /** Opens a device of its own on the adapter, so that it disturbs no other's ledger. Throws what opening throws. */
  static async open(options: OpenOptions = {}): Promise<Yardstick> {
    const gpu = await Gpu.open(options);
    try {
      const { workgroup, fmaGroups, rounds, perInvocation, readGroups } = WORK[gpu.family];
      const words = readGroups * workgroup * perInvocation * 4;
      const source = await gpu.tensor("staging", [words], "u32", "yardstick.source");
      const sums = await gpu.tensor("staging", [Math.max(fmaGroups, readGroups) * workgroup], "u32", "yardstick.sums");
      const factor = await gpu.tensor("staging", [4], "u32", "yardstick.factor");
      gpu.upload(factor.buffer, 0, new Float32Array([0.5, 0.5]));
      const fma = await record(gpu, FMA, { WORKGROUP: workgroup, ROUNDS: rounds }, { factor, sums }, fmaGroups);
      const read = await record(gpu, READ, { WORKGROUP: workgroup, PER_INVOCATION: perInvocation, SUBGROUP: gpu.subgroupSize }, { source, sums }, readGroups);
      const stick = new Yardstick(gpu, [source, sums, factor], fma, read, `${gpu.family} 1`);
      await stick.measure(); // a driver finishes compiling at the first dispatch
      return stick;
    } catch (error) {
      gpu.close();
      throw error;
    }
  }

  private constructor(gpu: Gpu, tensors: readonly Tensor[], fma: Recording, read: Recording, work: string) {
    this.#gpu = gpu;
    this.#tensors = tensors;
    this.#fma = fma;
    this.#read = read;
    this.work = work;
  }

  /** Medians of a few runs; 10 to 50 ms in all. */
  async measure(): Promise<Yard> {
    const computeMs = await this.#time(this.#fma), memoryMs = await this.#time(this.#read), host: number[] = [];
    for (let i = 0; i < REPETITIONS; i++) host.push(hostMs());
    return { computeMs, memoryMs, hostMs: median(host) };
  }

  close(): void {
    for (const { buffer } of this.#tensors) this.#gpu.destroyBuffer(buffer);
    this.#gpu.close();
  }

  async #time(recording: Recording): Promise<number> {
    const times: number[] = [];
    for (let i = 0; i < REPETITIONS; i++) {
      const started = performance.now();
      submit(this.#gpu, recording, { rows: 1, tiles: 1 });
      await this.#gpu.sync();
      times.push(performance.now() - started);
    }
    return median(times);
  }
}

async function record(gpu: Gpu, source: WgslFile, consts: Consts, tensors: Readonly<Record<string, Tensor>>, groups: number): Promise<Recording> {
  const recorder = new Recorder(gpu);
  recorder.run({ source, slots: [], consts }, tensors, groups);
  return recorder.finish(source.name);
}

/** A chain of integer steps, each on the one before; the result is looked at so that no compiler can leave it out. */
function hostMs(): number {
  const started = performance.now();
  let state = 1;
  for (let i = 0; i < HOST_STEPS; i++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  if (state === 0) throw new Error("the chain of the yardstick came out wrong");
  return performance.now() - started;
}
