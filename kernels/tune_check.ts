/**
 * What a timed search runs on, and how it knows that a candidate is right: buffers of known numbers, so that any output can be computed
 * again in double precision from the pattern they were filled with, without holding the weights on the host.
 */

import { bf16ToNumber, DTYPE_BYTES, f16ToNumber, numberToBf16, numberToF16, type FloatDtype } from "../engine/dtype.ts";
import type { Gpu } from "../engine/gpu.ts";
import { submit, type Recording } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { isFloat } from "./formats.ts";
import type { LinearOperands, Weight } from "./linear.ts";
import type { LinearShape } from "./linear_variants.ts";
import { silu } from "./reference/linear.ts";

/** Elements after which the weights repeat: a prime times 8, so neither rows nor columns of any usual size repeat with it. */
const PATTERN = 8 * 49_999;
const EPS = 1e-5;
/** Rows of X in a step of each class. */
const ROWS = { one: 1, few: 4, several: 8, many: 256 } as const;
const SOFTWARE_MANY = 32;
/** Bytes of y at most: a wide head is tuned with fewer rows. */
const MOST_OUTPUT = 64 << 20;
/** Roundings of 2⁻²⁴ in a sum of K terms grow as √K; four times that to be safe. */
const F32_ERROR = 4 * 2 ** -24;
/** Each factor in f16 is off by up to 2⁻¹², independently: four times the root of the squares of the terms, for each of both factors. */
const F16_ERROR = 2 ** -9;

/** Numbers in [−1, 1) from an integer, as an equation and not a table (the finaliser of MurmurHash3). */
function hashed(i: number): number {
  let h = i >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 31 - 1;
}

const NARROW = { f16: numberToF16, bf16: numberToBf16 } as const;
const WIDEN = { f16: f16ToNumber, bf16: bf16ToNumber } as const;

/** The pattern as `format` stores it, and the numbers that then stand there. */
function patternOf(format: FloatDtype, K: number): { bytes: Uint8Array; values: Float64Array } {
  const wanted = Float64Array.from({ length: PATTERN }, (_, i) => hashed(i) / Math.sqrt(K));
  if (format === "f32") {
    const stored = Float32Array.from(wanted);
    return { bytes: new Uint8Array(stored.buffer), values: Float64Array.from(stored) };
  }
  const stored = Uint16Array.from(wanted, NARROW[format]);
  return { bytes: new Uint8Array(stored.buffer), values: Float64Array.from(stored, WIDEN[format]) };
}

interface Made { readonly x: Tensor; readonly y: Tensor; readonly gain: Tensor; readonly weights: readonly Weight[]; readonly pattern: Float64Array; readonly xs: Float32Array; readonly gains: Float32Array }

/** A product with weights in floats. */
export type TunableShape = LinearShape & { readonly format: FloatDtype };

export function isTunable(shape: LinearShape): shape is TunableShape {
  return isFloat(shape.format);
}

/** The operands of one shape. Owns their memory. */
export class TuningBuffers {
  readonly shape: LinearShape;
  /** Copies of the weight, together more than twice the last-level cache where memory allows. */
  readonly weights: readonly Weight[];
  readonly rows: number;
  readonly room: number;
  readonly #gpu: Gpu;
  readonly #made: Made;

  /** Rows that x and y have room for. */
  static roomFor(gpu: Gpu, shape: LinearShape): number {
    return Math.ceil(TuningBuffers.#rowsOf(gpu, shape) / 8) * 8;
  }

  static #rowsOf(gpu: Gpu, { rows, N }: LinearShape): number {
    const wanted = rows === "many" && gpu.adapter.software ? SOFTWARE_MANY : ROWS[rows];
    return rows === "many" ? Math.max(16, Math.min(wanted, Math.floor(MOST_OUTPUT / (4 * N * 8)) * 8)) : wanted;
  }

  static async create(gpu: Gpu, shape: TunableShape, cacheBytes: number): Promise<TuningBuffers> {
    const { N, K, gated, format } = shape;
    const room = TuningBuffers.roomFor(gpu, shape);
    const own: Tensor[] = [];
    const tensor = async (...args: Parameters<Gpu["tensor"]>): Promise<Tensor> => {
      const made = await gpu.tensor(...args);
      own.push(made);
      return made;
    };
    try {
      const xs = Float32Array.from({ length: room * K }, (_, i) => hashed(i + 0x10000000));
      const gains = Float32Array.from({ length: K }, (_, i) => 1 + hashed(i + 0x20000000) / 2);
      const x = await tensor("activations", [room, K], "f32", "x to tune on");
      const y = await tensor("activations", [room, N], "f32", "y to tune on");
      const gain = await tensor("activations", [K], "f32", "gain to tune on");
      gpu.upload(x.buffer, 0, xs);
      gpu.upload(gain.buffer, 0, gains);
      const { bytes, values } = patternOf(format, K);
      const outputs = gated ? 2 * N : N;
      const size = outputs * K * DTYPE_BYTES[format];
      const copies = Math.max(1, Math.ceil((2 * cacheBytes) / size));
      const source = await tensor("staging", [bytes.length / 4], "u32", "pattern");
      gpu.upload(source.buffer, 0, bytes);
      const weights: Weight[] = [];
      for (let i = 0; i < copies; i++) {
        const weight = await tensor("weights", [outputs, K], format, "weight to tune on");
        const encoder = gpu.device.createCommandEncoder();
        for (let at = 0; at < size; at += bytes.length) encoder.copyBufferToBuffer(source.buffer, 0, weight.buffer, at, Math.min(bytes.length, size - at));
        gpu.device.queue.submit([encoder.finish()]);
        weights.push({ rows: N, columns: K, gated, parts: [{ tensor: weight, first: 0, rows: N }] });
      }
      await gpu.sync();
      return new TuningBuffers(gpu, shape, room, { x, y, gain, weights, pattern: values, xs, gains }, own);
    } catch (error) {
      for (const { buffer } of own) gpu.destroyBuffer(buffer);
      throw error;
    }
  }

  readonly #own: readonly Tensor[];

  private constructor(gpu: Gpu, shape: LinearShape, room: number, made: Made, own: readonly Tensor[]) {
    this.#gpu = gpu;
    this.shape = shape;
    this.rows = TuningBuffers.#rowsOf(gpu, shape);
    this.room = room;
    this.weights = made.weights;
    this.#made = made;
    this.#own = own;
  }

  get y(): Tensor { return this.#made.y; }

  operands(i: number): LinearOperands {
    const { x, y, gain, weights } = this.#made;
    return { x, y, weight: weights[i % weights.length]!, ...(this.shape.normed && { norm: { kind: "rms", gain, eps: EPS } }) };
  }

  /** Output n of row m in double precision, and by how much f32, or with `half` operands in f16, may miss it. */
  expected(m: number, n: number, half: boolean): { readonly value: number; readonly error: number } {
    const { N, K, gated, normed } = this.shape;
    const { pattern, xs, gains } = this.#made;
    const row = xs.subarray(m * K, (m + 1) * K);
    const scale = normed ? 1 / Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / K + EPS) : 1;
    const product = (at: number): { value: number; error: number } => {
      let [sum, magnitude, squares] = [0, 0, 0];
      for (let k = 0; k < K; k++) {
        const term = row[k]! * (normed ? gains[k]! : 1) * pattern[(at * K + k) % PATTERN]!;
        sum += term;
        magnitude += Math.abs(term);
        squares += term * term;
      }
      const rounding = half ? F16_ERROR * Math.sqrt(squares) : 0;
      return { value: sum * scale, error: (F32_ERROR * Math.sqrt(K) * magnitude + 2 ** -21 * Math.abs(sum) + rounding) * scale };
    };
    const gate = product(n);
    if (!gated) return gate;
    const up = product(N + n);
    // silu is at most 1.1 steep and never above its argument's size.
    return { value: silu(gate.value) * up.value, error: 1.2 * gate.error * (Math.abs(up.value) + up.error) + Math.abs(gate.value) * up.error + 1e-6 * Math.abs(gate.value * up.value) };
  }

  close(): void {
    for (const { buffer } of this.#own) this.#gpu.destroyBuffer(buffer);
  }
}

/** Outputs of a row that are looked at: the first and last, those beside the borders of tiles, and some between. */
function sampled(N: number): number[] {
  const borders = [0, 1, 7, 8, 31, 32, 63, 64, 127, 128, N - 2, N - 1];
  const between = Array.from({ length: 12 }, (_, i) => Math.floor(((i + 0.5) * N) / 12));
  return [...new Set([...borders, ...between])].filter((n) => n >= 0 && n < N);
}

/** Run once over a y of NaN and compare a sample with the twin. Returns what is wrong, or null. */
export async function check(gpu: Gpu, buffers: TuningBuffers, recording: Recording, half: boolean): Promise<string | null> {
  const { y, rows, shape: { N } } = buffers;
  const nan = new Float32Array(N).fill(NaN);
  const looked = [...new Set([0, 1, Math.floor(rows / 2), rows - 1])].filter((m) => m < rows);
  for (const m of looked) gpu.upload(y.buffer, m * N * 4, nan);
  submit(gpu, recording, { rows, tiles: 0 });
  for (const m of looked) {
    const got = await gpu.readF32({ ...y, offset: m * N * 4, shape: [N] });
    for (const n of sampled(N)) {
      const { value, error } = buffers.expected(m, n, half);
      if (!(Math.abs(got[n]! - value) <= error)) return `output ${n} of row ${m} is ${got[n]}, but should be ${value} ± ${error.toExponential(1)}`;
    }
  }
  return null;
}
