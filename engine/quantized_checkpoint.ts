/**
 * Checkpoints that hold quantized matrices: which weights are stored as codes, what shape each truly has, and which tensors of the file
 * belong to it. One door for every layout; bitsandbytes.ts and grouped_int4.ts know the layouts. Opening checks all that names, shapes
 * and small states can show; reading one matrix checks its numbers. What does not fit is a ModelFileError that names the tensor.
 */

import { bitsandbytesLayout } from "./bitsandbytes.ts";
import type { EncodedMatrix } from "./encoded.ts";
import { ModelFileError } from "./errors.ts";
import { groupedLayout } from "./grouped_int4.ts";

/** How a checkpoint's config.json says that its weights are stored (models/quantization_config.ts reads it). */
export type StoredQuantization =
  | { readonly method: "bitsandbytes"; readonly bits: 4 | 8 }
  | {
    readonly method: "gptq" | "awq";
    /** Columns that share scale and zero; null: a whole row. */
    readonly groupSize: number | null;
    /** GPTQ of the first format stores every zero less one. */
    readonly zerosLessOne: boolean;
    /** GPTQ may have quantized columns in the order of their activations; g_idx then says which group each belongs to. */
    readonly activationOrder: boolean;
  };

/** The tensors of a checkpoint as the readers need them; engine/checkpoint.ts is one. */
export interface TensorSource {
  /** For messages. */
  readonly folder: string;
  readonly tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[]; readonly byteLength: number }>;
  pieces(name: string, maxBytes?: number): AsyncIterable<{ readonly byteOffset: number; readonly bytes: Uint8Array }>;
}

/** A weight that is stored as codes. */
export interface StoredMatrix {
  /** As the model knows it: `P.weight`, also where the file has `P.qweight`. */
  readonly name: string;
  readonly format: "int8" | "nf4" | "nf4-double" | "fp4" | "fp4-double" | "int4";
  /** [rows, columns] of the weight itself. */
  readonly shape: readonly [number, number];
  /** Weights that share a scale: of nf4 and fp4 in row-major order, of int4 within a row, of int8 a row. */
  readonly blockSize: number;
  /** Absolute maxima that share a nested scale; 0 where there are none. */
  readonly nestedBlockSize: number;
  /** Every tensor of the file that belongs to it. */
  readonly tensors: readonly string[];
}

/** What a layout's file finds: its matrices, each with the way to read it. */
export type Layout = ReadonlyMap<string, StoredMatrix & { readonly read: () => Promise<EncodedMatrix> }>;

export interface QuantizedCheckpoint {
  /** By name. A weight that is not here is stored as floats. */
  readonly matrices: ReadonlyMap<string, StoredMatrix>;
  /** Tensors of the file that belong to a matrix, and the name of that matrix. */
  readonly owners: ReadonlyMap<string, string>;
  /** One matrix, whole, in host memory. Throws ModelFileError. */
  read(name: string): Promise<EncodedMatrix>;
}

/** Find and check every quantized matrix of a checkpoint; reads the small states, no codes. Throws ModelFileError. */
export async function openQuantized(source: TensorSource, stored: StoredQuantization): Promise<QuantizedCheckpoint> {
  const layout = await (stored.method === "bitsandbytes" ? bitsandbytesLayout(source, stored.bits) : groupedLayout(source, stored));
  if (layout.size === 0) {
    throw new ModelFileError(`${source.folder}: config.json says that the weights are quantized (${stored.method}), but no tensor is. `
      + "Remove quantization_config from config.json, or download the checkpoint again");
  }
  const owners = new Map([...layout.values()].flatMap(({ name, tensors }) => tensors.map((tensor) => [tensor, name] as const)));
  return {
    matrices: layout,
    owners,
    read: async (name) => {
      const matrix = layout.get(name);
      if (matrix === undefined) throw new RangeError(`${name} is not stored quantized`);
      return matrix.read();
    },
  };
}
