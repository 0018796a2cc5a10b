/**
 * A checkpoint in another number format, written to a new folder: floats of another width, or the matrices of every layer quantized and
 * saved exactly as bitsandbytes and transformers would (the same layers, keys, bytes and quantization_config), so that they load it too.
 * One matrix is in memory at a time. The folder appears under its name only when it is complete.
 */

import { randomUUID } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { savedMatrix, savedParts, type TorchDtype } from "../engine/bitsandbytes_writer.ts";
import { Checkpoint, refuseEscapes } from "../engine/checkpoint.ts";
import { convert, DTYPE_BYTES, type ConversionCount } from "../engine/dtype.ts";
import type { BlockwiseMatrix, Int8Matrix } from "../engine/encoded.ts";
import { AbortedError, DawnlmError, ModelFileError, UsageError } from "../engine/errors.ts";
import { SafetensorsWriter, type StreamedTensor } from "../engine/safetensors_writer.ts";
import type { SafetensorsDtype, TensorInfo } from "../engine/safetensors_header.ts";
import {
  BLOCK_SIZE, codeTable, isBlockwise, isDouble, isFloat, NESTED_BLOCK_SIZE, OUTLIER_THRESHOLD, type FloatFormat,
} from "../kernels/formats.ts";
import { encodeBlockwise, encodeInt8, nestAbsmax } from "../kernels/reference/quantize.ts";
import { readConfig } from "./config.ts";
import type { Json } from "./config_fields.ts";
import { declared } from "./model.ts";
import { bitsAndBytesConfig } from "./quantization_config.ts";
import { FORMATS } from "./weights.ts";

/** LLM.int8() is the same file as int8. */
export const CONVERT_FORMATS = ["f32", "f16", "bf16", "int8", "nf4", "nf4-double", "fp4", "fp4-double"] as const;
export type ConvertFormat = (typeof CONVERT_FORMATS)[number];
type CodedFormat = Exclude<ConvertFormat, FloatFormat>;

export interface ConvertOptions {
  readonly weights: ConvertFormat;
  /** The new folder; it may exist if it is empty. */
  readonly out: string;
  /** Most bytes of tensors in one file; only a larger tensor stands alone in a larger one. Default 5 GB, as transformers has it. */
  readonly maxShardBytes?: number;
  readonly onProgress?: ((label: string, loaded: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ConvertReport {
  readonly out: string;
  readonly files: readonly string[];
  /** Matrices that were quantized, and their weights. */
  readonly matrices: number;
  readonly weights: number;
  /** Bytes of all tensors before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

const TORCH_DTYPES: Readonly<Record<FloatFormat, TorchDtype>> = { f32: "float32", f16: "float16", bf16: "bfloat16" };
const SAFETENSORS_DTYPES: Readonly<Record<FloatFormat, SafetensorsDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };
const DEFAULT_SHARD_BYTES = 5e9;
const F16_MAX = 65504;
/** Everything beside the weights that a loader may look for. */
const SIDE_FILES =
  /^(?:generation_config\.json|tokenizer.*|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json|chat_template.*|LICENSE.*)$/;

/** What becomes of one tensor of the source. */
interface Step { readonly info: TensorInfo; readonly float: FloatFormat | null; readonly coded: CodedFormat | null; readonly bytes: number }

/** Convert the checkpoint in `folder`. Throws UsageError, ModelFileError or DawnlmError; nothing is left behind then. */
export async function convertCheckpoint(folder: string, options: ConvertOptions): Promise<ConvertReport> {
  const { weights, maxShardBytes = DEFAULT_SHARD_BYTES } = options;
  const out = resolve(options.out);
  await refuseOccupied(out);
  const config = await readConfig(folder);
  if (config.quantization !== null) {
    throw new UsageError(`${folder} is quantized already (${config.quantization.stored.method}): what was rounded cannot be had back; `
      + "convert the original checkpoint");
  }
  const checkpoint = await Checkpoint.open(folder);
  try {
    const steps = plan(checkpoint, declared(config).requests, weights);
    const partial = join(await existingParent(out), `.${basename(out)}.${randomUUID()}.partial`);
    await mkdir(partial);
    try {
      const { files, bytes } = await writeShards(checkpoint, partial, shardsOf(steps, maxShardBytes), options);
      await writeFile(join(partial, "config.json"), `${newConfig(await readFile(join(folder, "config.json"), "utf8"), weights)}\n`);
      await copySideFiles(folder, partial);
      await mkdir(dirname(out), { recursive: true });
      await rmdir(out).catch(() => {}); // an empty one
      await rename(partial, out);
      const coded = steps.filter((step) => step.coded !== null);
      return {
        out, files, matrices: coded.length, weights: coded.reduce((sum, { info: { shape } }) => sum + shape[0]! * shape[1]!, 0),
        bytesBefore: steps.reduce((sum, { info }) => sum + info.byteLength, 0), bytesAfter: bytes,
      };
    } catch (cause) {
      await rm(partial, { recursive: true, force: true });
      throw cause instanceof DawnlmError || !(cause instanceof Error && "code" in cause) ? cause
        : new DawnlmError(`${out}: cannot be written (${cause.message})`, 1, { cause });
    }
  } finally {
    await checkpoint.close();
  }
}

async function copySideFiles(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true });
  const names = entries.filter((entry) => !entry.isDirectory() && SIDE_FILES.test(entry.name)).map(({ name }) => name);
  await refuseEscapes(from, names);
  for (const name of names) await copyFile(join(from, name), join(to, name));
}

/** A folder that has anything in it is left alone. */
async function refuseOccupied(out: string): Promise<void> {
  const info = await stat(out).catch(() => undefined);
  if (info === undefined) return;
  if (!info.isDirectory()) throw new UsageError(`${out} is a file; give the name of a new folder`);
  const [first] = await readdir(out);
  if (first !== undefined) throw new UsageError(`${out} is not empty (it has ${first}); give the name of a new folder, or remove this one`);
}

async function existingParent(path: string): Promise<string> {
  const parent = dirname(path);
  return parent === path || (await stat(parent).catch(() => undefined))?.isDirectory() === true ? parent : existingParent(parent);
}

/**
 * What to do with each tensor, after checking that the model's weights are all there. Buffers that no model reads (a causal mask, whose
 * values may have no f16) are copied as they are; a matrix that is not read, such as a copy of a tied embedding, changes its type too.
 */
function plan(checkpoint: Checkpoint, requests: ReturnType<typeof declared>["requests"], weights: ConvertFormat): Step[] {
  const wanted = new Map(requests.flatMap(({ sources, quantizable }) =>
    sources.map(({ name, shape }) => [name, { shape, quantizable }] as const)));
  const problems = [...wanted].flatMap(([name, { shape }]) => {
    const found = checkpoint.tensors.get(name);
    if (found === undefined) return [`${name}: missing, expected shape [${shape.join(", ")}]`];
    if (found.shape.join() !== shape.join()) return [`${name}: expected shape [${shape.join(", ")}], found [${found.shape.join(", ")}]`];
    return FORMATS[found.dtype] === undefined ? [`${name}: dtype ${found.dtype} is not supported, expected F32, F16 or BF16`] : [];
  });
  if (problems.length > 0) {
    throw new ModelFileError(`${checkpoint.folder}: the checkpoint does not fit its config.json:\n  ${problems.slice(0, 20).join("\n  ")}`
      + (problems.length > 20 ? `\n  … and ${problems.length - 20} more` : ""));
  }
  return [...checkpoint.tensors.values()].map((info): Step => {
    const from = FORMATS[info.dtype] ?? null;
    const count = info.shape.reduce((product, size) => product * size, 1);
    const changes = from !== null && (wanted.has(info.name) || info.shape.length === 2);
    if (changes && isFloat(weights)) return { info, float: weights, coded: null, bytes: count * DTYPE_BYTES[weights] };
    if (isFloat(weights) || wanted.get(info.name)?.quantizable !== true) return { info, float: from, coded: null, bytes: info.byteLength };
    const bytes = weights === "int8" ? count + 4 * info.shape[0]! + 1 : count / 2 + 4 * Math.ceil(count / BLOCK_SIZE) + 2000;
    return { info, float: from, coded: weights, bytes };
  });
}

/** In the order of the source, cut where a file would grow beyond the limit; a matrix and its scales stay together. */
function shardsOf(steps: readonly Step[], maxBytes: number): Step[][] {
  const shards: Step[][] = [[]];
  let bytes = 0;
  for (const step of steps) {
    if (bytes > 0 && bytes + step.bytes > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(step);
    bytes += step.bytes;
  }
  return shards;
}

async function writeShards(
  checkpoint: Checkpoint, folder: string, shards: readonly (readonly Step[])[], { onProgress, signal }: ConvertOptions,
): Promise<{ files: string[]; bytes: number }> {
  const total = shards.flat().reduce((sum, { info }) => sum + info.byteLength, 0);
  const weightMap: [string, string][] = [];
  const overflows: string[] = [];
  const files: string[] = [];
  let [bytes, done] = [0, 0];
  for (const [index, steps] of shards.entries()) {
    const name = shards.length === 1 ? "model.safetensors" : `model-${number5(index + 1)}-of-${number5(shards.length)}.safetensors`;
    const planned = steps.flatMap(({ info, coded }) =>
      (coded === null ? [{ name: info.name, dimensions: info.shape.length }] : savedParts(info.name, coded)));
    const writer = await SafetensorsWriter.create(join(folder, name), planned, { format: "pt" });
    try {
      for (const step of steps) {
        if (signal?.aborted === true) throw new AbortedError("the conversion was interrupted; nothing was written");
        onProgress?.(step.info.name, done, total);
        const count = { overflows: 0 };
        const { coded } = step;
        for (const tensor of coded === null ? [floatTensor(checkpoint, step, count)] : await codedTensors(checkpoint, step, coded, count)) {
          await writer.add(tensor);
          weightMap.push([tensor.name, name]);
          bytes += tensor.data instanceof Uint8Array ? tensor.data.byteLength : step.bytes;
        }
        if (count.overflows > 0) overflows.push(`${step.info.name}: ${count.overflows} values`);
        done += step.info.byteLength;
      }
      await writer.finish();
    } finally {
      await writer.abandon();
    }
    files.push(name);
  }
  refuseOverflows(checkpoint.folder, overflows);
  onProgress?.("weights", total, total);
  if (shards.length > 1) {
    const index = { metadata: { total_size: bytes }, weight_map: Object.fromEntries(weightMap.sort(([a], [b]) => (a < b ? -1 : 1))) };
    await writeFile(join(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
  }
  return { files, bytes };
}

const number5 = (n: number): string => String(n).padStart(5, "0");

/** A tensor that stays in floats, piece by piece. */
function floatTensor(checkpoint: Checkpoint, { info, float }: Step, count: ConversionCount): StreamedTensor {
  const from = FORMATS[info.dtype];
  const changes = from !== undefined && float !== null && from !== float;
  async function* data(): AsyncGenerator<Uint8Array> {
    for await (const { bytes } of checkpoint.pieces(info.name)) yield changes ? convert(bytes, from, float, undefined, count) : bytes;
  }
  return { name: info.name, dtype: changes ? SAFETENSORS_DTYPES[float] : info.dtype, shape: info.shape, data: data() };
}

/** A matrix in codes, as bitsandbytes saves it. */
async function codedTensors(
  checkpoint: Checkpoint, { info, float }: Step, format: CodedFormat, count: ConversionCount,
): Promise<StreamedTensor[]> {
  const [rows, columns] = info.shape as [number, number];
  const values = new Float32Array(rows * columns);
  const bytes = new Uint8Array(values.buffer);
  for await (const piece of checkpoint.pieces(info.name)) {
    convert(piece.bytes, float!, "f32", bytes.subarray(piece.byteOffset / DTYPE_BYTES[float!] * 4));
  }
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) {
    throw new ModelFileError(`${checkpoint.folder}: ${info.name} is ${values[at]} at [${Math.floor(at / columns)}, ${at % columns}]: `
      + "weights that are not finite cannot be quantized. Download the checkpoint again, or take another one");
  }
  const matrix = encode(values, rows, columns, format, count);
  if (matrix.format !== "int8" && !(matrix.absmax instanceof Float32Array) && !Number.isFinite(matrix.absmax.offset)) {
    throw new ModelFileError(`${checkpoint.folder}: the magnitudes of ${info.name} add up to more than f32 holds, so they have no mean and `
      + `cannot be doubly quantized. Convert to ${matrix.format}`);
  }
  return savedMatrix(info.name, matrix, TORCH_DTYPES[float!]);
}

function encode(
  values: Float32Array, rows: number, columns: number, format: CodedFormat, count: ConversionCount,
): Int8Matrix | BlockwiseMatrix {
  if (!isBlockwise(format)) {
    // bitsandbytes rounds to f16 first; 65520 is the least that has no f16.
    for (const value of values) if (Math.abs(value) >= F16_MAX + 16) count.overflows++;
    return { format, rows, columns, ...encodeInt8(values, rows, columns) };
  }
  const { codes, absmax } = encodeBlockwise(values, codeTable(format), BLOCK_SIZE);
  const scales = isDouble(format) ? nestAbsmax(absmax, NESTED_BLOCK_SIZE) : absmax;
  return { format: codeTable(format), rows, columns, blockSize: BLOCK_SIZE, codes, absmax: scales };
}

function refuseOverflows(folder: string, overflows: readonly string[]): void {
  if (overflows.length === 0) return;
  const shown = overflows.slice(0, 20).join("\n  ");
  const more = overflows.length > 20 ? `\n  … and ${overflows.length - 20} more tensors` : "";
  throw new UsageError(`${folder}: values beyond the range of f16 (${F16_MAX}) would become infinite:\n  ${shown}${more}\n`
    + "Convert to bf16 or f32, or to nf4 or fp4");
}

/**
 * config.json as it was but for what it says of the format. Numbers keep their spelling: Python tells 6.0 from 6, and transformers refuses
 * a threshold that is no float.
 */
function newConfig(text: string, weights: ConvertFormat): string {
  const json = JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
    (typeof value === "number" && context?.source !== undefined ? exactNumber(context.source) : value)) as Json;
  const { torch_dtype: old, dtype: current } = json;
  let changed: Json;
  if (isFloat(weights)) {
    const dtype = TORCH_DTYPES[weights];
    changed = { ...((current !== undefined || old === undefined) && { dtype }), ...(old !== undefined && { torch_dtype: dtype }) };
  } else {
    changed = { quantization_config: { ...bitsAndBytesConfig(weights), llm_int8_threshold: exactNumber(`${OUTLIER_THRESHOLD}.0`) } };
  }
  return JSON.stringify({ ...json, ...changed }, null, 2);
}

/** A number that JSON.stringify writes as it is spelled. */
function exactNumber(source: string): unknown {
  return (JSON as unknown as { rawJSON(source: string): unknown }).rawJSON(source);
}
