/**
 * What GPU tests share: a Gpu for each kernel family, numbers that are not uniform noise, tensors with guards around them, one dispatch
 * at a time, and a comparison that shows where two arrays part. Every kernel is tested in both families on whatever adapter is there.
 */

import { bf16ToNumber, type Dtype, f16ToNumber, numberToBf16, numberToF16 } from "../../engine/dtype.ts";
import { Gpu } from "../../engine/gpu.ts";
import type { Category } from "../../engine/memory.ts";
import { Recorder, submit, type Extent } from "../../engine/recorder.ts";
import type { Shape } from "../../engine/shape.ts";
import { byteLength, type Tensor } from "../../engine/tensor.ts";

export type Numbers = ArrayLike<number>;
export type FloatFormat = "f32" | "f16" | "bf16";
export const FORMATS = ["f32", "f16", "bf16"] as const;

/** One Gpu per kernel family. Close them in `test.after`. */
export async function openFamilies(): Promise<readonly Gpu[]> {
  return [await Gpu.open({ family: "software" }), await Gpu.open({ family: "gpu" })];
}

/** Uniform numbers in [0, 1) from a seed (mulberry32), so that every run sees the same ones. */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** f32 numbers about as large as `scale`, with both signs, a few exact zeros, and outliers twenty times as large, as activations have. */
export function numbers(count: number, seed: number, scale = 1): Float32Array {
  const random = uniform(seed);
  return Float32Array.from({ length: count }, () => {
    const kind = random();
    const value = (random() + random() + random() - 1.5) * 2 * scale;
    return kind < 0.02 ? 20 * value : kind < 0.04 ? 0 : value;
  });
}

/** 0 … count − 1 in a seeded order. */
export function shuffled(count: number, seed: number): number[] {
  const random = uniform(seed);
  return Array.from({ length: count }, (_, i) => [random(), i] as const).sort(([a], [b]) => a - b).map(([, i]) => i);
}

/** The number nearest to `value` that `format` can store; beyond the range of f16 its largest, as the cache stores it. */
export function rounded(value: number, format: FloatFormat): number {
  if (format === "f32") return Math.fround(value);
  return format === "bf16" ? bf16ToNumber(numberToBf16(value)) : f16ToNumber(numberToF16(Math.min(Math.max(value, -65504), 65504)));
}

/** The bytes a buffer of `format` holds for `values`. */
export function encoded(values: Numbers, format: Dtype): Uint8Array {
  if (format === "f32") return bytesOf(Float32Array.from(values));
  if (format === "u32") return bytesOf(Uint32Array.from(values));
  return bytesOf(Uint16Array.from(values, format === "f16" ? numberToF16 : numberToBf16));
}

/** The numbers that bytes of `format` stand for. */
export function decoded(bytes: Uint8Array, format: FloatFormat): Float64Array {
  const whole = bytes.slice().buffer;
  if (format === "f32") return Float64Array.from(new Float32Array(whole));
  return Float64Array.from(new Uint16Array(whole), format === "f16" ? f16ToNumber : bf16ToNumber);
}

function bytesOf(array: Float32Array | Uint32Array | Uint16Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Bytes before and after a guarded tensor; offsets of bindings must be multiples of this on every adapter. */
const GUARD = 256;
const SENTINEL = 0xdeadbeef;

/**
 * A tensor with a guard of sentinels before and after it, holding `values`, or sentinels too when there are none (as f32: −6.3e18, so a
 * value that was never written stands out).
 */
export async function put(
  gpu: Gpu, shape: Shape, values: Numbers | null, dtype: Dtype = "f32", label = "test", category: Category = "activations",
): Promise<Tensor> {
  const bytes = byteLength({ shape, dtype });
  const whole = GUARD + Math.ceil(bytes / GUARD) * GUARD + GUARD;
  const buffer = await gpu.createBuffer(category, whole, label);
  const content = new Uint32Array(whole / 4).fill(SENTINEL);
  if (values !== null) {
    const data = encoded(values, dtype);
    if (data.byteLength !== bytes) throw new Error(`${label}: ${data.byteLength} bytes given for a tensor of ${bytes}`);
    new Uint8Array(content.buffer).set(data, GUARD);
  }
  gpu.upload(buffer, 0, content);
  return { buffer, offset: GUARD, shape, dtype, label };
}

/** Write other values into a tensor made by `put`. */
export function refill(gpu: Gpu, { buffer, offset, dtype }: Tensor, values: Numbers): void {
  gpu.upload(buffer, offset, encoded(values, dtype));
}

/** Read a tensor made by `put` and see that its guards are whole. */
export async function take(gpu: Gpu, tensor: Tensor): Promise<Uint8Array> {
  const whole = await gpu.read({ buffer: tensor.buffer, offset: 0, shape: [tensor.buffer.size / 4], dtype: "u32", label: tensor.label });
  const guard = new Uint8Array(new Uint32Array([SENTINEL]).buffer);
  const end = GUARD + byteLength(tensor);
  for (let i = 0; i < whole.length; i++) {
    if (i >= GUARD && i < end) continue;
    const where = i < GUARD ? `${GUARD - i} bytes before its start` : `${i - end} bytes past its end`;
    if (whole[i] !== guard[i % 4]) throw new Error(`${tensor.label}: written ${where}`);
  }
  return whole.slice(GUARD, end);
}

export async function takeF32(gpu: Gpu, tensor: Tensor): Promise<Float32Array> {
  return new Float32Array((await take(gpu, tensor)).buffer);
}

export async function takeU32(gpu: Gpu, tensor: Tensor): Promise<Uint32Array> {
  return new Uint32Array((await take(gpu, tensor)).buffer);
}

/** Record with `record` and run the result once. */
export async function dispatch(gpu: Gpu, record: (recorder: Recorder) => void, extent: Partial<Extent> = {}): Promise<void> {
  const recorder = new Recorder(gpu);
  record(recorder);
  submit(gpu, await recorder.finish("test"), { rows: 1, tiles: 0, ...extent });
}

/** Destroy what tests made, so that a file of many cases does not pile up memory. */
export function release(gpu: Gpu, ...tensors: readonly Tensor[]): void {
  for (const { buffer } of tensors) gpu.destroyBuffer(buffer);
}

/** An error of `absolute` (one number, or one for each element) plus `relative` · |reference| passes. */
export interface Tolerance { readonly absolute?: number | Numbers; readonly relative?: number }

const MOST_FAULTS = 10;

/**
 * Throw unless every element of `actual` is within the tolerance of `expected`, naming the first faults by index (row and column when
 * `columns` is given) with both values. NaN is a fault, unless both are NaN.
 */
export function near(actual: Numbers, expected: Numbers, { absolute = 0, relative = 0 }: Tolerance, what: string, columns?: number): void {
  if (actual.length !== expected.length) throw new Error(`${what}: ${actual.length} values, but ${expected.length} in the reference`);
  const faults: string[] = [];
  for (let i = 0; i < actual.length && faults.length < MOST_FAULTS; i++) {
    const [got, wanted] = [actual[i]!, expected[i]!];
    const allowed = (typeof absolute === "number" ? absolute : absolute[i]!) + relative * Math.abs(wanted);
    if (Object.is(got, wanted) || Math.abs(got - wanted) <= allowed) continue;
    const index = columns === undefined ? `${i}` : `${Math.floor(i / columns)}, ${i % columns}`;
    const [off, most] = [Math.abs(got - wanted).toExponential(2), allowed.toExponential(2)];
    faults.push(`[${index}] is ${got}, reference ${wanted}, off by ${off}, allowed ${most}`);
  }
  if (faults.length > 0) throw new Error(`${what}:\n${faults.join("\n")}${faults.length === MOST_FAULTS ? "\n(and perhaps more)" : ""}`);
}

/** Largest magnitude in an array, NaN left out. */
export function largest(values: Numbers): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) if (Math.abs(values[i]!) > most) most = Math.abs(values[i]!);
  return most;
}
