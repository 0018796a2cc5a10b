/**
 * From names to tensors on the GPU. A model file declares every weight it needs, by its Hugging Face name and shape, as a tree of
 * promises; `loadWeights` then checks all names and shapes against the checkpoint at once, uploads one tensor after the other in pieces
 * of at most 4 MiB, and gives the tree back with tensors in it. Matrices that one kernel reads together are stacked here, once. Which
 * number format each is held in is decided in weight_plans.ts; those in codes are made in quantized_weights.ts.
 */

import { convert, DTYPE_BYTES } from "../engine/dtype.ts";
import { ModelFileError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import type { Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { FloatFormat, HeldFormat } from "../kernels/formats.ts";
import { RANDOM_SCALE, randomNormal } from "../kernels/random.ts";
import { decode } from "../kernels/reference/quantize.ts";
import type { Weight } from "../kernels/weights.ts";
import { QuantizedLoader } from "./quantized_weights.ts";
import { isVector, planBytes, planOf, type PlanOptions, type QuantizedSource, type Request as WeightRequest, type Source } from "./weight_plans.ts";

/** Where weights come from: a checkpoint's tensors by name, or random numbers of the shape that is asked for. */
export type WeightSource = CheckpointSource | { readonly kind: "random"; readonly seed: number };

export interface CheckpointSource {
  readonly kind: "checkpoint";
  /** For messages: the folder. */
  readonly name: string;
  readonly tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: Shape; readonly byteLength: number }>;
  pieces(name: string): AsyncIterable<{ readonly byteOffset: number; readonly bytes: Uint8Array }>;
  /** Matrices that the checkpoint stores in codes: `tensors` has each of them by its own name, as floats of its true shape. */
  readonly quantized?: QuantizedSource | undefined;
}

interface Request extends WeightRequest { readonly resolve: (value: Weight | Tensor) => void }

/** What the weights of a model are held in. */
export interface HeldWeights { readonly format: HeldFormat; readonly matrices: number; readonly weights: number; readonly bytes: number }

/** The tree that a model declares, with every promise replaced by what it gives. */
export type Loaded<T> = T extends Promise<infer U> ? U : T extends object ? { [K in keyof T]: Loaded<T[K]> } : T;

/** What a model file declares its weights with. Rows come first: a [N, K] matrix maps K inputs to N outputs. */
export class Declaration {
  readonly requests: Request[] = [];

  matrix(name: string, [rows, columns]: readonly [number, number]): Promise<Weight> {
    return this.stacked([{ name, rows }], columns);
  }

  /** A matrix with a row for each token, which is never quantized: an embedding, an output head. */
  table(name: string, [rows, columns]: readonly [number, number]): Promise<Weight> {
    return this.#stack("matrix", [{ name, shape: [rows, columns] }], columns, false) as Promise<Weight>;
  }

  /** Several matrices with the same columns as one, in order. */
  stacked(parts: readonly { readonly name: string; readonly rows: number }[], columns: number): Promise<Weight> {
    return this.#stack("matrix", parts.map(({ name, rows }) => ({ name, shape: [rows, columns] })), columns) as Promise<Weight>;
  }

  /** Several matrices with the same rows as one, side by side: W [x₁; x₂] = W₁ x₁ + W₂ x₂. */
  beside(parts: readonly { readonly name: string; readonly columns: number }[], rows: number): Promise<Weight> {
    let firstColumn = 0;
    const sources = parts.map(({ name, columns }) => {
      const source = { name, shape: [rows, columns], firstRow: 0, firstColumn };
      firstColumn += columns;
      return source;
    });
    return this.#request({ sources, kind: "matrix", rows, columns: firstColumn, quantizable: true }) as Promise<Weight>;
  }

  /** gate and up of a gated feed-forward layer, each [rows, columns], for one kernel that computes silu(gate x) · (up x). */
  gated(gate: string, up: string, shape: readonly [number, number]): Promise<Weight> {
    return this.#stack("gated", [{ name: gate, shape }, { name: up, shape }], shape[1]) as Promise<Weight>;
  }

  vector(name: string, size: number): Promise<Tensor> {
    return this.stackedVector([{ name, size }]);
  }

  /** Several vectors as one, in order. Vectors are kept in f32. */
  stackedVector(parts: readonly { readonly name: string; readonly size: number }[]): Promise<Tensor> {
    return this.#stack("vector", parts.map(({ name, size }) => ({ name, shape: [size] })), 1) as Promise<Tensor>;
  }

  /** The sum of several vectors of the same size. */
  summedVector(names: readonly string[], size: number): Promise<Tensor> {
    const sources = names.map((name) => ({ name, shape: [size], firstRow: 0, firstColumn: 0 }));
    return this.#request({ sources, kind: "sum", rows: size, columns: 1, quantizable: false }) as Promise<Tensor>;
  }

  #stack(kind: Request["kind"], parts: readonly { readonly name: string; readonly shape: Shape }[], columns: number, quantizable = true): Promise<Weight | Tensor> {
    let rows = 0;
    const sources = parts.map(({ name, shape }) => {
      const source = { name, shape, firstRow: rows, firstColumn: 0 };
      rows += shape[0]!;
      return source;
    });
    return this.#request({ sources, kind, rows: kind === "gated" ? parts[0]!.shape[0]! : rows, columns, quantizable: quantizable && kind !== "vector" });
  }

  #request(request: Omit<Request, "resolve">): Promise<Weight | Tensor> {
    return new Promise((resolve) => { this.requests.push({ ...request, resolve }); });
  }
}

/** Tensors that old checkpoints carry and no model reads: buffers of the rotary embedding and of the causal mask. */
const NOT_WEIGHTS = /\.(rotary_emb\.inv_freq|attention\.bias|attention\.masked_bias|attn\.bias|attn\.masked_bias)$/;
/** Where the checkpoint's own format is not one of ours to compute with. */
export const FORMATS: Readonly<Record<string, FloatFormat>> = { F32: "f32", F16: "f16", BF16: "bf16" };


export interface LoadWeightsOptions extends PlanOptions {
  /** Names that may stand in the checkpoint unused (a copy of a tied embedding). */
  readonly mayIgnore: readonly string[];
  readonly onProgress?: ((label: string, loaded: number, total: number) => void) | undefined;
  /** Told of every weight as it is loaded; vectors are left out. */
  readonly onHeld?: ((held: HeldWeights) => void) | undefined;
  /** What stays in floats is taken from here where it is, and put here where it is not: two loadings of a model with one map share it. */
  readonly shared?: Map<string, Weight | Tensor> | undefined;
}

/** Check everything that `declare` asks for, load it, and return its tree with tensors. Throws ModelFileError with every mismatch at once. */
export async function loadWeights<T extends object>(
  gpu: Gpu, source: WeightSource, declare: (declaration: Declaration) => T, options: LoadWeightsOptions,
): Promise<Loaded<T>> {
  const declaration = new Declaration();
  const tree = declare(declaration);
  if (source.kind === "checkpoint") checkNames(source, declaration.requests, options.mayIgnore);
  const total = declaration.requests.reduce((sum, { rows, columns, kind }) => sum + rows * columns * (kind === "gated" ? 2 : 1), 0);
  const checkpoint = source.kind === "checkpoint" ? source : null;
  const dtypeOf = checkpoint ? (name: string): FloatFormat => FORMATS[checkpoint.tensors.get(name)!.dtype]! : undefined;
  const quantized = new QuantizedLoader(gpu);
  try {
    let loaded = 0;
    for (const [index, request] of declaration.requests.entries()) {
      const { sources, rows, columns, kind } = request;
      options.onProgress?.(sources[0]!.name, loaded, total);
      const plan = planOf(request, options, dtypeOf, (name) => checkpoint?.quantized?.stored(name));
      const count = rows * columns * (kind === "gated" ? 2 : 1);
      if (plan.kind === "float") {
        const key = `${kind} ${plan.format} ${sources.map(({ name }) => name).join(" ")}`, known = options.shared?.get(key);
        const made = known ?? await loadFloats(gpu, source, request, plan.format, index);
        options.shared?.set(key, made);
        request.resolve(made);
        if (known !== undefined) continue;
      } else {
        const weight = await quantized.allocate(request, plan.quantized);
        for (const section of sources.keys()) {
          const { name } = sources[section]!;
          if (plan.kind === "stored") await quantized.place(weight, section, await checkpoint!.quantized!.read(name));
          else if (checkpoint) await quantized.encode(weight, section, name, dtypeOf!(name), checkpoint.pieces(name));
          else await quantized.encodeRandom(weight, section, name, options.defaultFormat, seedOf(source, index) + section);
        }
        request.resolve(weight);
      }
      loaded += count;
      if (isVector(request)) continue;
      const { codes, scales } = planBytes(request, plan);
      options.onHeld?.({ format: plan.kind === "float" ? plan.format : plan.quantized.format, matrices: sources.length, weights: count, bytes: codes + scales });
    }
    await quantized.check(checkpoint?.name ?? "random weights");
  } finally {
    quantized.close();
  }
  options.onProgress?.("weights", total, total);
  await gpu.sync();
  return await settle(tree) as Loaded<T>;
}

const seedOf = (source: WeightSource, index: number): number => (source.kind === "random" ? (source.seed + index) * 1009 : 0);

async function loadFloats(gpu: Gpu, source: WeightSource, request: Request, format: FloatFormat, index: number): Promise<Weight | Tensor> {
  const { weight, tensor } = await allocate(gpu, request, format);
  if (source.kind === "random") await fillRandom(gpu, request, weight, tensor, seedOf(source, index));
  else if (request.kind === "sum") gpu.upload(tensor.buffer, tensor.offset, await sumOf(source, request));
  else for (const part of request.sources) await upload(gpu, source, part, weight);
  return isVector(request) ? { ...tensor, shape: [request.rows] } : weight;
}

function checkNames(source: CheckpointSource, requests: readonly Request[], mayIgnore: readonly string[]): void {
  const wanted = new Map(requests.flatMap(({ sources }) => sources.map(({ name, shape }) => [name, shape] as const)));
  const problems: string[] = [];
  for (const [name, shape] of wanted) {
    const found = source.tensors.get(name);
    if (found === undefined) problems.push(`${name}: missing, expected shape [${shape.join(", ")}]`);
    else if (found.shape.join() !== shape.join()) problems.push(`${name}: expected shape [${shape.join(", ")}], found [${found.shape.join(", ")}]`);
    else if (FORMATS[found.dtype] === undefined) problems.push(`${name}: dtype ${found.dtype} is not supported, expected F32, F16 or BF16`);
  }
  for (const name of source.tensors.keys()) {
    if (!wanted.has(name) && !mayIgnore.includes(name) && !NOT_WEIGHTS.test(name)) problems.push(`${name}: not a weight of this architecture`);
  }
  if (problems.length === 0) return;
  const shown = problems.slice(0, 20).join("\n  ");
  const more = problems.length > 20 ? `\n  … and ${problems.length - 20} more` : "";
  throw new ModelFileError(`${source.name}: the checkpoint does not fit its config.json (${problems.length} problems):\n  ${shown}${more}`);
}

/** One buffer for the whole weight, and the parts of it that fit a binding. Parts begin at multiples of 64 rows, so bias views stay aligned. */
async function allocate(gpu: Gpu, { kind, rows, columns, sources }: Request, format: FloatFormat): Promise<{ weight: Weight; tensor: Tensor }> {
  const stack = kind === "gated" ? 2 : 1;
  const tensor = await gpu.tensor("weights", [rows * stack, columns], format, sources.map(({ name }) => name).join(" + "));
  const rowBytes = columns * DTYPE_BYTES[format] * stack;
  const partRows = rows * rowBytes <= gpu.maxBinding ? rows : Math.max(64, Math.floor(gpu.maxBinding / rowBytes / 64) * 64);
  const parts: { tensor: Tensor; first: number; rows: number }[] = [];
  for (let first = 0; first < rows; first += partRows) {
    const count = Math.min(partRows, rows - first);
    parts.push({ tensor: { ...tensor, offset: first * rowBytes, shape: [count * stack, columns] }, first, rows: count });
  }
  return { weight: { rows, columns, gated: kind === "gated", parts }, tensor };
}

/** Stream one tensor of the checkpoint to its rows of the weight, converted on the way if the formats differ. */
async function upload(gpu: Gpu, source: CheckpointSource, part: Source, weight: Weight): Promise<void> {
  const { name } = part;
  const from = FORMATS[source.tensors.get(name)!.dtype]!;
  const { dtype } = weight.parts[0]!.tensor;
  const to = dtype as FloatFormat;
  const count = { overflows: 0 };
  for await (const { byteOffset, bytes } of piecesOf(source, name)) {
    await gpu.flush();
    const converted = from === to ? bytes : convert(bytes, from, to, undefined, count);
    const elements = converted.byteLength / DTYPE_BYTES[to];
    let element = byteOffset / DTYPE_BYTES[from];
    for (let at = 0; at < elements;) {
      const { buffer, offset, room } = place(weight, part, element);
      const run = Math.min(room, elements - at);
      gpu.upload(buffer, offset, padTo4(converted.subarray(at * DTYPE_BYTES[to], (at + run) * DTYPE_BYTES[to])));
      at += run;
      element += run;
    }
  }
  if (count.overflows > 0) {
    throw new UsageError(`${source.name}: ${count.overflows} values of ${name} are beyond the range of ${to} and would become infinite: load with weights "${from}" or "f32"`);
  }
}

/** A tensor's floats as they are stored; where codes are, those are decoded. */
async function* piecesOf(source: CheckpointSource, name: string): AsyncIterable<{ readonly byteOffset: number; readonly bytes: Uint8Array }> {
  if (source.quantized?.stored(name) === undefined) {
    yield* source.pieces(name);
    return;
  }
  const values = decode(await source.quantized.read(name));
  yield { byteOffset: 0, bytes: convert(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), "f64", FORMATS[source.tensors.get(name)!.dtype]!) };
}

async function sumOf(source: CheckpointSource, { sources, rows }: Request): Promise<Float32Array> {
  const sum = new Float32Array(rows);
  for (const { name } of sources) {
    const from = FORMATS[source.tensors.get(name)!.dtype]!;
    for await (const { byteOffset, bytes } of source.pieces(name)) {
      const first = byteOffset / DTYPE_BYTES[from];
      new Float32Array(convert(bytes, from, "f32").slice().buffer).forEach((value, i) => { sum[first + i]! += value; });
    }
  }
  return sum;
}

/** Where element `element` of a source lies in the weight, and how many elements follow it there without a break. */
function place({ parts, columns, rows, gated }: Weight, { shape, firstRow, firstColumn }: Source, element: number): { buffer: GPUBuffer; offset: number; room: number } {
  const sourceColumns = shape[1] ?? 1;
  const row = Math.floor(element / sourceColumns) + (gated ? firstRow % rows : firstRow);
  const part = parts.find(({ first, rows: count }) => row < first + count)!;
  const rowInPart = row - part.first + (gated && firstRow >= rows ? part.rows : 0);
  const { buffer, offset, dtype } = part.tensor;
  const column = element % sourceColumns;
  return {
    buffer, offset: offset + (rowInPart * columns + firstColumn + column) * DTYPE_BYTES[dtype],
    room: (sourceColumns === columns ? (part.first + part.rows - row) * columns : sourceColumns) - column,
  };
}

/** writeBuffer takes multiples of 4 bytes; only the end of an odd-sized 16-bit vector is ever shorter, and its buffer is padded. */
function padTo4(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength % 4 === 0) return bytes;
  const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  padded.set(bytes);
  return padded;
}

/** Matrices N(0, RANDOM_SCALE²); norm weights 1, biases 0. */
async function fillRandom(gpu: Gpu, { kind, sources }: Request, { parts }: Weight, tensor: Tensor, seed: number): Promise<void> {
  if (kind === "vector" || kind === "sum") {
    gpu.upload(tensor.buffer, 0, new Float32Array(sources.flatMap(({ name, shape }) => new Array<number>(shape[0]!).fill(name.endsWith(".bias") ? 0 : 1))).subarray(0, tensor.shape[0]));
    return;
  }
  const recorder = new Recorder(gpu);
  parts.forEach((part, i) => { randomNormal(recorder, part.tensor, { seed: seed + i, scale: RANDOM_SCALE }); });
  submit(gpu, await recorder.finish("random weights"), { rows: 1, tiles: 0 });
}

async function settle(tree: unknown): Promise<unknown> {
  const value = await tree;
  if (Array.isArray(value)) return Promise.all(value.map(settle));
  if (value === null || typeof value !== "object" || Object.getPrototypeOf(value) !== Object.prototype || "parts" in value || "buffer" in value) return value;
  return Object.fromEntries(await Promise.all(Object.entries(value).map(async ([key, child]) => [key, await settle(child)] as const)));
}
