/**
 * The device: opened once, owner of every buffer, keeper of its errors. WebGPU reports errors late and quietly; here they are latched
 * and thrown at the next sync, so a failed allocation or an invalid dispatch can never pass for a result.
 */

import { openAdapter } from "./adapters.ts";
import type { Dtype } from "./dtype.ts";
import { DeviceLostError, GpuError, OutOfMemoryError } from "./errors.ts";
import { PipelineCache } from "./kernel.ts";
import { bufferBytes, Ledger, type Category } from "./memory.ts";
import { waited } from "./polling.ts";
import type { Shape } from "./shape.ts";
import { byteLength, type Tensor } from "./tensor.ts";
import { Trace } from "./trace.ts";

/** `gpu`: 32-wide subgroups and workgroup memory. `software`: 8-wide subgroups, no barriers. Chosen by a static rule, printed by `doctor`. */
export type KernelFamily = "gpu" | "software";

/** An adapter as WebGPU describes it; fields that it keeps to itself are empty. `software`: it runs on the CPU. */
export interface AdapterDescription {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly backend: string;
  readonly software: boolean;
}

export interface OpenOptions {
  /** `auto` (default), `software`, an index, or part of a name. */
  adapter?: string | number;
  /** Override the static rule; tests run both families on every adapter. */
  family?: KernelFamily;
}

const WANTED_FEATURES = ["subgroups", "shader-f16", "timestamp-query", "subgroup-size-control", "chromium-experimental-subgroup-matrix"] as const;
const WANTED_LIMITS = [
  "maxStorageBufferBindingSize", "maxBufferSize", "maxStorageBuffersPerShaderStage", "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup", "maxComputeWorkgroupSizeX",
] as const;

/** Bytes per `writeBuffer`: Dawn's upload ring is 4 MiB, and larger writes each make a staging buffer of their own. */
export const UPLOAD_BYTES = 4 << 20;
/** Uploads that may be under way at the same time. */
const UNFLUSHED_BYTES = 32 << 20;

export class Gpu {
  readonly device: GPUDevice;
  readonly adapter: AdapterDescription;
  readonly family: KernelFamily;
  /** Lanes of a subgroup as our kernels are compiled. */
  readonly subgroupSize: number;
  /** The adapter's subgroup size varies, so kernels must ask for `subgroupSize` by attribute. */
  readonly fixedSubgroups: boolean;
  readonly ledger = new Ledger();
  readonly trace = new Trace();
  readonly pipelines: PipelineCache;
  #latched: Error | null = null;
  #closed = false;

  static async open(options: OpenOptions = {}): Promise<Gpu> {
    const { adapter, name } = await openAdapter(options.adapter ?? "auto");
    if (!adapter.features.has("subgroups")) {
      throw new GpuError(`adapter ${name.name} has no subgroup operations, which every kernel family here needs: update its driver or choose another with --adapter`);
    }
    const device = await adapter.requestDevice({
      requiredFeatures: WANTED_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[],
      requiredLimits: Object.fromEntries(WANTED_LIMITS.map((limit) => [limit, adapter.limits[limit]])),
    });
    return new Gpu(device, adapter, name.backend, name.software, options.family);
  }

  private constructor(device: GPUDevice, adapter: GPUAdapter, backend: string, software: boolean, family: KernelFamily | undefined) {
    const { vendor, architecture, device: model, description } = adapter.info;
    const { subgroupMinSize: min, subgroupMaxSize: max } = adapter.info as unknown as { subgroupMinSize: number; subgroupMaxSize: number };
    this.device = device;
    this.adapter = { vendor, architecture, device: model, description, backend, software };
    this.family = family ?? (software || max <= 8 ? "software" : "gpu");
    this.fixedSubgroups = min === max;
    this.subgroupSize = this.fixedSubgroups ? min : Math.min(Math.max(32, min), max);
    if (!this.fixedSubgroups && !device.features.has("subgroup-size-control" as GPUFeatureName)) {
      throw new GpuError(`adapter ${description} varies its subgroup size between ${min} and ${max} and cannot be told to keep ${this.subgroupSize}`);
    }
    this.pipelines = new PipelineCache(this);
    device.addEventListener("uncapturederror", this.#onError);
    void device.lost.then((info) => {
      if (!this.#closed) this.#latch(new DeviceLostError(`the GPU device was lost: ${info.message}`));
    });
  }

  /** The device holds its listener and the listener this Gpu, in a ring that no garbage collector sees: `close` must open it. */
  readonly #onError = (event: Event): void => {
    event.preventDefault(); // else Dawn prints it too, whoever catches ours
    this.#latch(asError((event as GPUUncapturedErrorEvent).error));
  };

  #latch(error: Error): void {
    this.#latched ??= error;
  }

  /** Throw what the device reported since the last check. The first error stays: after it no result can be trusted. */
  check(): void {
    if (this.#latched !== null) throw this.#latched;
    if (this.#closed) throw new DeviceLostError("this Gpu is closed");
  }

  /** Wait until everything submitted is done, then throw what went wrong meanwhile. */
  async sync(): Promise<void> {
    await waited(this.device.queue.onSubmittedWorkDone(), this.adapter.software);
    this.check();
  }

  /** Make a buffer of `bytes` (rounded up to 16) that belongs to `category`. Throws OutOfMemoryError with what is already in use. */
  async createBuffer(category: Category, bytes: number, label: string, usage = STORAGE): Promise<GPUBuffer> {
    this.check();
    const size = bufferBytes(bytes);
    if (size > this.device.limits.maxBufferSize) {
      throw new OutOfMemoryError(`${label} needs ${size} bytes, more than one buffer can hold on this adapter (${this.device.limits.maxBufferSize})`);
    }
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    const buffer = this.device.createBuffer({ label, size, usage });
    // Both pops before the first await: scopes are a stack of the whole device, and other work may push in between.
    const [outOfMemory, invalid] = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    if (outOfMemory !== null || invalid !== null) {
      buffer.destroy();
      const { total } = this.ledger.report();
      throw new OutOfMemoryError(
        `GPU memory for ${label} (${size} bytes, ${category}) could not be had, ${total} bytes are in use already: ` +
        `lower kvMemory, maxModelLen or the weight format (${(outOfMemory ?? invalid)!.message.split("\n")[0]})`,
      );
    }
    this.ledger.add(category, size);
    this.#owned.set(buffer, category);
    return buffer;
  }

  #owned = new Map<GPUBuffer, Category>();

  /** Destroy a buffer made by `createBuffer` and take it off the ledger. */
  destroyBuffer(buffer: GPUBuffer): void {
    const category = this.#owned.get(buffer);
    if (category === undefined) throw new Error(`buffer ${buffer.label} is not ours or was destroyed before`);
    this.#owned.delete(buffer);
    this.ledger.remove(category, buffer.size);
    buffer.destroy();
  }

  /** A tensor with a buffer of its own. */
  async tensor(category: Category, shape: Shape, dtype: Dtype, label: string, usage = STORAGE): Promise<Tensor> {
    const buffer = await this.createBuffer(category, byteLength({ shape, dtype }), label, usage);
    return { buffer, offset: 0, shape, dtype, label };
  }

  /** Bytes uploaded since the last `flush`. */
  #unflushed = 0;

  /** Copy host bytes into a buffer, in pieces of at most 4 MiB. `offset` and the length are multiples of 4 bytes. */
  upload(buffer: GPUBuffer, offset: number, data: ArrayBufferView): void {
    this.#unflushed += data.byteLength;
    for (let at = 0; at < data.byteLength; at += UPLOAD_BYTES) {
      const length = Math.min(UPLOAD_BYTES, data.byteLength - at);
      this.device.queue.writeBuffer(buffer, offset + at, data.buffer as ArrayBuffer, data.byteOffset + at, length);
    }
  }

  /** Wait for the uploads made so far once they are more than `bytes`: until then Dawn keeps a copy of each in host memory. */
  async flush(bytes = UNFLUSHED_BYTES): Promise<void> {
    if (this.#unflushed <= bytes) return;
    this.#unflushed = 0;
    this.device.queue.submit([]);
    await this.sync();
  }

  /** Bring a tensor's bytes to the host. The only asynchronous thing one can do with a tensor. */
  async read(tensor: Tensor): Promise<Uint8Array> {
    const bytes = Math.ceil(byteLength(tensor) / 4) * 4;
    const staging = await this.createBuffer("staging", bytes, `read ${tensor.label}`, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    try {
      const encoder = this.device.createCommandEncoder({ label: `read ${tensor.label}` });
      encoder.copyBufferToBuffer(tensor.buffer, tensor.offset, staging, 0, bytes);
      this.device.queue.submit([encoder.finish()]);
      await this.map(staging);
      const copy = new Uint8Array(staging.getMappedRange(0, bytes).slice(0));
      staging.unmap();
      this.check();
      return copy.subarray(0, byteLength(tensor));
    } finally {
      this.destroyBuffer(staging);
    }
  }

  async readF32(tensor: Tensor): Promise<Float32Array> {
    const bytes = await this.read(tensor);
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  }

  async readU32(tensor: Tensor): Promise<Uint32Array> {
    const bytes = await this.read(tensor);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  }

  /** Map a MAP_READ buffer; a lost or destroyed device becomes a DeviceLostError. */
  async map(staging: GPUBuffer): Promise<void> {
    try {
      await waited(staging.mapAsync(GPUMapMode.READ), this.adapter.software);
    } catch (error) {
      this.check();
      throw new DeviceLostError(`the GPU device went away while a result was read: ${String(error)}`, { cause: error });
    }
  }

  /** Largest number of bytes one kernel can see of one buffer. */
  get maxBinding(): number {
    return this.device.limits.maxStorageBufferBindingSize;
  }

  /** Destroy every buffer still owned and the device. Safe to call twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const buffer of [...this.#owned.keys()]) this.destroyBuffer(buffer);
    this.device.removeEventListener("uncapturederror", this.#onError);
    this.device.destroy();
  }
}

/** GPUBufferUsage.STORAGE | COPY_SRC | COPY_DST; the names exist only once Dawn is loaded. */
const STORAGE = 0x80 | 0x04 | 0x08;

function asError(error: GPUError): Error {
  const message = error.message.trim();
  const outOfMemory = error.constructor.name === "GPUOutOfMemoryError";
  return outOfMemory ? new OutOfMemoryError(`the GPU ran out of memory: ${message}`) : new GpuError(`the GPU reported an error: ${message}`);
}
