/**
 * The memory of a run: all cases stay ready until the end, because their repetitions are interleaved, so weights are views of a few large
 * buffers filled with a pattern, one for each way of storing them. Reading them copy by copy goes through more memory than a last-level
 * cache holds; else the cache would be measured. Owns everything it made.
 */

import { DTYPE_BYTES, type Dtype, type FloatDtype } from "../../../engine/dtype.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import type { Category } from "../../../engine/memory.ts";
import { numel, type Shape } from "../../../engine/shape.ts";
import type { Tensor } from "../../../engine/tensor.ts";
import { numbers, stored } from "./numbers.ts";

/** Elements after which a pattern repeats: a prime times 8, so neither rows nor columns of any usual size repeat with it. */
export const PATTERN = 8 * 49_999;
/** Offsets of views are multiples of this on every adapter. */
const ALIGN = 256;
/** Most views of one buffer: each is a bind group. */
const MOST_COPIES = 4096;

type ArenaKind = FloatDtype | "codes" | "scales";

/** A large buffer that holds a pattern over and over. */
interface Arena { readonly buffer: GPUBuffer; readonly bytes: number; readonly pattern: Float64Array }

export interface Copies { readonly count: number; readonly at: (copy: number) => Tensor }

export class Workbench {
  readonly gpu: Gpu;
  readonly cacheBytes: number;
  readonly #own: GPUBuffer[] = [];
  readonly #arenas = new Map<ArenaKind, Promise<Arena>>();
  readonly #shared = new Map<string, Promise<unknown>>();
  readonly #largest: number;

  /** `cacheBytes`: of the last-level cache. `largest`: bytes of the largest weight of the run. */
  constructor(gpu: Gpu, { cacheBytes, largest }: { readonly cacheBytes: number; readonly largest: number }) {
    this.gpu = gpu;
    this.cacheBytes = cacheBytes;
    this.#largest = largest;
  }

  /** Made once for all cases that ask by the same key. */
  shared<T>(key: string, make: () => Promise<T>): Promise<T> {
    let made = this.#shared.get(key);
    if (made === undefined) this.#shared.set(key, made = make());
    return made as Promise<T>;
  }

  async tensor(shape: Shape, dtype: Dtype, label: string, category: Category = "activations"): Promise<Tensor> {
    const tensor = await this.gpu.tensor(category, shape, dtype, label);
    this.#own.push(tensor.buffer);
    return tensor;
  }

  /** A tensor that holds `data`: bytes as they are stored. */
  async put(shape: Shape, dtype: Dtype, data: ArrayBufferView, label: string, category: Category = "activations"): Promise<Tensor> {
    const tensor = await this.tensor(shape, dtype, label, category);
    if (data.byteLength !== Math.ceil((numel(shape) * DTYPE_BYTES[dtype]) / 4) * 4) throw new Error(`${label}: ${data.byteLength} bytes for ${shape.join(" × ")} ${dtype}`);
    this.gpu.upload(tensor.buffer, 0, data);
    await this.gpu.flush();
    return tensor;
  }

  /** f32 numbers. */
  floats(shape: Shape, values: Float32Array, label: string): Promise<Tensor> {
    return this.put(shape, "f32", values, label);
  }

  words(shape: Shape, values: Uint32Array, label: string, category: Category = "activations"): Promise<Tensor> {
    return this.put(shape, "u32", values, label, category);
  }

  /** The pattern that stands in an arena, by element: numbers of float formats and of scales, bytes of codes. Copy 0 of every view begins at its first. */
  async pattern(kind: ArenaKind): Promise<Float64Array> {
    return (await this.#arena(kind)).pattern;
  }

  /** Views of an arena, each of `shape`, one behind the other, `most` at most. */
  async copies(kind: ArenaKind, shape: Shape, dtype: Dtype, label: string, most = MOST_COPIES): Promise<Copies> {
    const arena = await this.#arena(kind);
    const bytes = numel(shape) * DTYPE_BYTES[dtype], stride = Math.ceil(bytes / ALIGN) * ALIGN;
    const count = Math.max(1, Math.min(most, MOST_COPIES, Math.floor((arena.bytes - bytes) / stride) + 1));
    return { count, at: (copy) => ({ buffer: arena.buffer, offset: (copy % count) * stride, shape, dtype, label }) };
  }

  /** The same bytes `count` times on the device, one behind the other. */
  async repeated(shape: Shape, dtype: Dtype, data: ArrayBufferView, count: number, label: string): Promise<Copies> {
    const stride = Math.ceil(data.byteLength / ALIGN) * ALIGN;
    const { buffer } = await this.tensor([(stride * count) / 4], "u32", label, "weights");
    for (let copy = 0; copy < count; copy++) {
      this.gpu.upload(buffer, copy * stride, data);
      await this.gpu.flush();
    }
    return { count, at: (copy) => ({ buffer, offset: (copy % count) * stride, shape, dtype, label }) };
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#arenas.values(), ...this.#shared.values()]);
    for (const buffer of this.#own.splice(0)) this.gpu.destroyBuffer(buffer);
  }

  #arena(kind: ArenaKind): Promise<Arena> {
    let arena = this.#arenas.get(kind);
    if (arena === undefined) this.#arenas.set(kind, arena = this.#fill(kind));
    return arena;
  }

  async #fill(kind: ArenaKind): Promise<Arena> {
    const { bytes, values } = patternOf(kind);
    // Scales are an eighth of the codes that they belong to, at most: one f32 for 64 codes of half a byte.
    const wanted = Math.max(2 * this.cacheBytes, this.#largest) / (kind === "scales" ? 8 : 1);
    const size = Math.min(Math.ceil(wanted / ALIGN) * ALIGN, this.gpu.device.limits.maxBufferSize);
    const { buffer } = await this.tensor([size / 4], "u32", `arena of ${kind}`, "weights");
    const source = await this.put([bytes.byteLength / 4], "u32", bytes, `pattern of ${kind}`);
    const encoder = this.gpu.device.createCommandEncoder();
    for (let at = 0; at < size; at += bytes.byteLength) encoder.copyBufferToBuffer(source.buffer, 0, buffer, at, Math.min(bytes.byteLength, size - at));
    this.gpu.device.queue.submit([encoder.finish()]);
    await this.gpu.sync();
    return { buffer, bytes: size, pattern: values };
  }
}

/** Weights of size 1/16, scales from 0.01 to 0.03, codes of every kind. */
function patternOf(kind: ArenaKind): { readonly bytes: Uint8Array; readonly values: Float64Array } {
  if (kind === "codes") {
    const bytes = Uint8Array.from(numbers(PATTERN, 7), (value) => Math.floor((value + 1) * 128));
    return { bytes, values: Float64Array.from(bytes) };
  }
  if (kind === "scales") return stored(numbers(PATTERN, 8, 0.01).map((value) => 0.02 + value), "f32");
  return stored(numbers(PATTERN, 9, 1 / 16), kind);
}
