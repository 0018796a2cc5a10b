/**
 * The GPU's own clock: when compute passes began and ended, without the host's share and without the trip there and back. Dawn rounds
 * timestamps to steps of 65.5 µs, longer than most kernels, unless it is told not to (engine/adapters.ts does); what then remains is the
 * step of the device's counter. A device may reset that counter, so readings that run backwards are an error and never a time.
 */

import { GpuError } from "./errors.ts";
import type { Gpu } from "./gpu.ts";

/** Queries that WebGPU allows in one set. */
const QUERIES_PER_SET = 4096;
const PASSES_PER_SET = QUERIES_PER_SET / 2;
const BYTES_PER_PASS = 16;

/** GPU time of compute passes by timestamp queries. */
export class Timestamps {
  /** Passes per reading. */
  readonly capacity: number;
  readonly #gpu: Gpu;
  readonly #sets: readonly GPUQuerySet[];
  readonly #resolved: GPUBuffer;

  /** Null where the device has no timestamp-query. `capacity`: passes per reading, at least 1. */
  static async create(gpu: Gpu, capacity: number): Promise<Timestamps | null> {
    if (!Number.isInteger(capacity) || capacity < 1) throw new Error(`timestamps for ${capacity} passes: at least one is needed`);
    if (!gpu.device.features.has("timestamp-query")) return null;
    const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
    const resolved = await gpu.createBuffer("staging", capacity * BYTES_PER_PASS, "timestamps", usage);
    const sets = Array.from({ length: Math.ceil(capacity / PASSES_PER_SET) }, (_, i) => gpu.device.createQuerySet({
      label: "timestamps", type: "timestamp", count: 2 * Math.min(PASSES_PER_SET, capacity - i * PASSES_PER_SET),
    }));
    return new Timestamps(gpu, capacity, sets, resolved);
  }

  private constructor(gpu: Gpu, capacity: number, sets: readonly GPUQuerySet[], resolved: GPUBuffer) {
    this.capacity = capacity;
    this.#gpu = gpu;
    this.#sets = sets;
    this.#resolved = resolved;
  }

  /** For `beginComputePass` of the `pass`-th pass of a reading, counted from 0. */
  writes(pass: number): GPUComputePassTimestampWrites {
    if (!(pass >= 0 && pass < this.capacity)) throw new Error(`pass ${pass}, but these timestamps have room for ${this.capacity}`);
    const first = 2 * (pass % PASSES_PER_SET);
    return { querySet: this.#sets[Math.floor(pass / PASSES_PER_SET)]!, beginningOfPassWriteIndex: first, endOfPassWriteIndex: first + 1 };
  }

  /** Append the resolving of the first `passes` passes; each must have been encoded before, into this encoder or an earlier one. */
  resolve(encoder: GPUCommandEncoder, passes: number): void {
    this.#mustHold(passes);
    for (let done = 0; done < passes; done += PASSES_PER_SET) {
      const count = 2 * Math.min(PASSES_PER_SET, passes - done);
      encoder.resolveQuerySet(this.#sets[done / PASSES_PER_SET]!, 0, count, this.#resolved, done * BYTES_PER_PASS);
    }
  }

  /**
   * Nanoseconds at which each pass began and ended, counted from the first pass's begin, once what was submitted is done. Throws GpuError
   * when the device's counter ran backwards meanwhile: then nothing was measured.
   */
  async read(passes: number): Promise<readonly (readonly [begin: number, end: number])[]> {
    this.#mustHold(passes);
    const bytes = await this.#gpu.read({ buffer: this.#resolved, offset: 0, shape: [4 * passes], dtype: "u32", label: "timestamps" });
    return spans(new BigUint64Array(bytes.buffer, bytes.byteOffset, 2 * passes));
  }

  /** Give the memory back; once. */
  destroy(): void {
    for (const set of this.#sets) set.destroy();
    this.#gpu.destroyBuffer(this.#resolved);
  }

  #mustHold(passes: number): void {
    if (!(passes >= 1 && passes <= this.capacity)) throw new Error(`${passes} passes, but these timestamps have room for 1 to ${this.capacity}`);
  }
}

/** Begin and end of each pass in nanoseconds after the first begin, from counters in pairs. Throws GpuError where they run backwards. */
export function spans(counters: BigUint64Array): (readonly [begin: number, end: number])[] {
  const origin = counters[0]!;
  return Array.from({ length: counters.length / 2 }, (_, pass) => {
    const [begin, end] = [counters[2 * pass]!, counters[2 * pass + 1]!];
    if (begin < origin || end < begin) {
      throw new GpuError(`the GPU's clock ran backwards (pass ${pass}: ${begin} to ${end}, the first began at ${origin}); measure again`);
    }
    return [Number(begin - origin), Number(end - origin)] as const;
  });
}
