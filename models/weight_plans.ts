/**
 * In which number format each weight that a model declares is held, decided before anything is loaded (no GPU): what the user asked
 * for, what the checkpoint stores, and what stays in floats whatever is asked (embeddings, the output head, vectors, as in bitsandbytes).
 */

import { UsageError } from "../engine/errors.ts";
import type { EncodedMatrix } from "../engine/encoded.ts";
import {
  BLOCK_SIZE, isBlockwise, isFloat, NESTED_BLOCK_SIZE, OUTLIER_THRESHOLD, type Blocking, type FloatFormat, type HeldFormat, type QuantizedFormat, type WeightFormat,
} from "../kernels/formats.ts";
import { isBeside, layOutScales, type Quantized, type Section } from "../kernels/weights.ts";

/** One tensor of the checkpoint and where its first element goes in the weight. */
export interface Source { readonly name: string; readonly shape: readonly number[]; readonly firstRow: number; readonly firstColumn: number }

export interface Request {
  readonly sources: readonly Source[];
  readonly kind: "matrix" | "gated" | "vector" | "sum";
  /** [rows, columns] of the stacked whole; a vector has one column; of a gated weight the rows of one half. */
  readonly rows: number;
  readonly columns: number;
  /** An embedding or an output head stays in floats. */
  readonly quantizable: boolean;
}

/** How a checkpoint stores a matrix that is not in floats. */
export interface StoredQuantized extends Blocking { readonly format: QuantizedFormat }

/** What a checkpoint says of its quantized matrices. */
export interface QuantizedSource {
  stored(name: string): StoredQuantized | undefined;
  read(name: string): Promise<EncodedMatrix>;
}

export interface PlanOptions {
  readonly format: "auto" | WeightFormat;
  /** Format of random weights when `auto`. */
  readonly defaultFormat: FloatFormat;
  /** Weights per block where nf4 and fp4 are made on loading. Default 64. */
  readonly blockSize?: number | undefined;
  /** Activations of this size and above are outliers to LLM.int8(); 0: none is. Default 6. */
  readonly threshold?: number | undefined;
  /** Modules that stay in floats, by name (`llm_int8_skip_modules`). */
  readonly skipModules?: readonly string[] | undefined;
}

/** A weight in floats, some of whose sources may have to be decoded first; or in codes, made on loading or taken from the checkpoint. */
export type WeightPlan =
  | { readonly kind: "float"; readonly format: FloatFormat }
  | { readonly kind: "encode" | "stored"; readonly quantized: Quantized };

export function isVector({ kind }: Request): boolean {
  return kind === "vector" || kind === "sum";
}

/** `dtypeOf`: float format that a checkpoint stores a tensor in; undefined for random weights. `stored`: those it stores in codes. */
export function planOf(
  request: Request, options: PlanOptions, dtypeOf?: (name: string) => FloatFormat, stored: (name: string) => StoredQuantized | undefined = () => undefined,
): WeightPlan {
  if (isVector(request)) return { kind: "float", format: "f32" };
  const { sources, quantizable } = request;
  const kept = sources.map(({ name }) => stored(name));
  const codes = kept.filter((of) => of !== undefined);
  if (codes.length > 0) return planStored(request, options, kept);
  if (options.format !== "auto" && !isFloat(options.format) && quantizable && !sources.some(({ name }) => isSkipped(name, options.skipModules ?? []))) {
    return { kind: "encode", quantized: quantizedOf(request, { format: options.format, blockSize: options.blockSize ?? BLOCK_SIZE, nestedBlockSize: NESTED_BLOCK_SIZE }, options) };
  }
  if (options.format !== "auto" && isFloat(options.format)) return { kind: "float", format: options.format };
  return { kind: "float", format: dtypeOf ? widest(sources.map(({ name }) => dtypeOf(name))) : options.defaultFormat };
}

/** A weight that the checkpoint stores in codes, all of it or in part. Throws UsageError when another quantized format is asked for. */
function planStored(request: Request, options: PlanOptions, kept: readonly (StoredQuantized | undefined)[]): WeightPlan {
  const { format, defaultFormat } = options;
  const name = request.sources[kept.findIndex((of) => of !== undefined)]!.name;
  const first = kept.find((of) => of !== undefined)!;
  const alike = kept.every((of) => of !== undefined && of.format === first.format && of.blockSize === first.blockSize && of.nestedBlockSize === first.nestedBlockSize);
  if (format !== "auto" && isFloat(format)) return { kind: "float", format };
  const wanted = format === "auto" ? first.format : format;
  const eightBits = (of: HeldFormat): boolean => of === "int8" || of === "llm.int8";
  if (wanted !== first.format && !(eightBits(wanted) && eightBits(first.format))) {
    throw new UsageError(`weights "${wanted}": the checkpoint is quantized to ${first.format} already (${name}); load it with weights "auto", or in floats`);
  }
  // Matrices that one kernel reads together have one format; where they differ, they are decoded.
  const quantized = alike ? quantizedOf(request, { ...first, format: wanted }, options) : null;
  return quantized === null || (wanted === "int4" && !groupsFit(quantized)) ? { kind: "float", format: defaultFormat } : { kind: "stored", quantized };
}

function quantizedOf(request: Request, { format, blockSize, nestedBlockSize }: StoredQuantized, { threshold = OUTLIER_THRESHOLD }: PlanOptions): Quantized {
  return { format, blockSize, nestedBlockSize, sections: sectionsOf(request), ...(format === "llm.int8" && { threshold }) };
}

export function sectionsOf({ sources }: Request): Section[] {
  return sources.map(({ shape, firstRow, firstColumn }) => ({ firstRow, rows: shape[0]!, firstColumn, columns: shape[1]! }));
}

/** The kernel reads units of 32 weights of a row, each in one group. */
function groupsFit({ blockSize, sections }: Quantized): boolean {
  return blockSize % 32 === 0 && sections.every(({ firstColumn, columns }) => columns % 32 === 0 && firstColumn % blockSize === 0);
}

/** Whether a tensor belongs to a module that is named, in full, by its end or by a part of its path, as transformers matches them. */
export function isSkipped(tensor: string, modules: readonly string[]): boolean {
  const module = tensor.replace(/\.weight$/, "");
  return modules.some((name) => module === name || module.endsWith(`.${name}`) || module.startsWith(`${name}.`) || module.includes(`.${name}.`));
}

function widest(formats: readonly FloatFormat[]): FloatFormat {
  const set = new Set(formats);
  return set.size === 1 ? formats[0]! : "f32";
}

/** Bytes that a weight takes on the GPU: codes or numbers, and scales beside them. */
export function planBytes(request: Request, plan: WeightPlan): { readonly codes: number; readonly scales: number } {
  const rows = request.rows * (request.kind === "gated" ? 2 : 1), { columns } = request;
  if (plan.kind === "float") return { codes: rows * columns * (plan.format === "f32" ? 4 : 2), scales: 0 };
  return { codes: rows * columns * codeBits(plan.quantized.format) / 8, scales: scaleBytes(plan.quantized, rows, columns) };
}

export function codeBits(format: QuantizedFormat): 4 | 8 {
  return format === "int8" || format === "llm.int8" ? 8 : 4;
}

export function scaleBytes(quantized: Quantized, rows: number, columns: number): number {
  const { format, blockSize } = quantized;
  if (isBlockwise(format)) return 4 * layOutScales(quantized).words;
  if (format === "int4") return 8 * rows * Math.ceil(columns / blockSize);
  return 4 * rows * (isBeside(quantized) ? 2 : 1);
}
