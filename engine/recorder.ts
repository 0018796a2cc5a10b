/**
 * Record once, replay every step. A forward pass is a flat list of prebuilt steps (pipeline, bind group, grid): replaying it makes no
 * bind group, buffer or pipeline and writes nothing, so a dispatch costs the host about 2 µs instead of 10 to 20. What changes from
 * step to step lives in buffers that the GPU itself advances; only the extent of the step (rows, tiles), known to the host, may stretch a grid.
 */

import type { Gpu } from "./gpu.ts";
import type { Consts, Kernel, Pipeline } from "./kernel.ts";
import { byteLength, type Tensor } from "./tensor.ts";
import type { Timestamps } from "./timestamps.ts";

/** What of a step the host knows and a grid may follow: its rows, and the tiles in which they attend. */
export interface Extent { readonly rows: number; readonly tiles: number }

/** Workgroups along y: fixed, one for every `rowsPer` rows of the step, or one for every tile. */
export type GridY = number | { readonly rowsPer: number } | "tiles";

/** A kernel as it was recorded: its file, and the constants it was specialised by. */
export interface Dispatched { readonly label: string; readonly consts: Consts }

interface Grid { readonly x: number; readonly y: GridY }
interface Pending extends Grid { readonly pipeline: Pipeline; readonly consts: Consts; readonly tensors: Readonly<Record<string, Tensor>> }
interface Step extends Dispatched, Grid { readonly pipeline: GPUComputePipeline; readonly group: GPUBindGroup }

/** Collects dispatches in order; `finish` turns them into a Recording once every pipeline is compiled. */
export class Recorder {
  readonly gpu: Gpu;
  readonly #pending: Pending[] = [];

  constructor(gpu: Gpu) { this.gpu = gpu; }

  /** Append one dispatch of `kernel` with its resources by name. */
  run(kernel: Kernel, tensors: Readonly<Record<string, Tensor>>, x: number, y: GridY = 1): void {
    const pipeline = this.gpu.pipelines.get(kernel);
    for (const { name } of pipeline.bindings) {
      if (tensors[name] === undefined) throw new Error(`${pipeline.label}: nothing was given for its binding ${name}`);
    }
    if (x > 65_535 || (typeof y === "number" && y > 65_535)) throw new Error(`${pipeline.label}: ${x} × ${String(y)} workgroups are too many`);
    this.#pending.push({ pipeline, consts: kernel.consts, tensors, x, y });
  }

  async finish(label: string): Promise<Recording> {
    const steps = await Promise.all(this.#pending.map(async ({ pipeline, consts, tensors, x, y }): Promise<Step> => ({
      label: pipeline.label, consts, pipeline: await pipeline.compiled, group: bindGroup(this.gpu, pipeline, tensors), x, y,
    })));
    this.gpu.check();
    return new Recording(label, steps);
  }
}

function bindGroup(gpu: Gpu, { label, layout, bindings }: Pipeline, tensors: Readonly<Record<string, Tensor>>): GPUBindGroup {
  return gpu.device.createBindGroup({
    label,
    layout,
    entries: bindings.map(({ name, index }) => {
      const tensor = tensors[name]!;
      const size = Math.ceil(byteLength(tensor) / 4) * 4;
      if (size > gpu.maxBinding) {
        throw new Error(`${label}: ${tensor.label} is ${size} bytes, one binding holds ${gpu.maxBinding}; it must be split`);
      }
      return { binding: index, resource: { buffer: tensor.buffer, offset: tensor.offset, size } };
    }),
  });
}

/** A recorded pass. Replaying is encoding: it allocates nothing. */
export class Recording {
  readonly label: string;
  readonly #steps: readonly Step[];

  constructor(label: string, steps: readonly Step[]) { this.label = label; this.#steps = steps; }

  get dispatches(): number { return this.#steps.length; }
  get kernels(): readonly string[] { return this.#steps.map((step) => step.label); }
  /** What `encodeTimed` times, in its order. */
  get dispatched(): readonly Dispatched[] { return this.#steps; }

  /** Append every dispatch to `pass`; grids that follow the step are stretched to its extent. */
  encode(pass: GPUComputePassEncoder, extent: Extent): void {
    let current: GPUComputePipeline | null = null;
    for (const step of this.#steps) {
      if (step.pipeline !== current) pass.setPipeline(current = step.pipeline);
      pass.setBindGroup(0, step.group);
      pass.dispatchWorkgroups(step.x, workgroupsY(step.y, extent));
    }
  }

  /**
   * The same dispatches, each in a pass of its own: the passes from `first` on of a reading of `timestamps`. That is slower, so no way to
   * run a step.
   */
  encodeTimed(encoder: GPUCommandEncoder, extent: Extent, timestamps: Timestamps, first: number): void {
    for (const [i, step] of this.#steps.entries()) {
      const pass = encoder.beginComputePass({ label: step.label, timestampWrites: timestamps.writes(first + i) });
      pass.setPipeline(step.pipeline);
      pass.setBindGroup(0, step.group);
      pass.dispatchWorkgroups(step.x, workgroupsY(step.y, extent));
      pass.end();
    }
  }
}

function workgroupsY(y: GridY, { rows, tiles }: Extent): number {
  return y === "tiles" ? tiles : typeof y === "number" ? y : Math.ceil(rows / y.rowsPer);
}

/** Run one recording now, on its own. For tests and for work outside the steady state. */
export function submit(gpu: Gpu, recording: Recording, extent: Extent): void {
  const encoder = gpu.device.createCommandEncoder({ label: recording.label });
  const pass = encoder.beginComputePass({ label: recording.label });
  recording.encode(pass, extent);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
}
