/**
 * A checkpoint whose matrices are stored in codes, as the loader sees one: every matrix by its own name and with its true shape, and the
 * tensors that it is stored in out of sight.
 */

import { openQuantized, type StoredQuantization, type TensorSource } from "../engine/quantized_checkpoint.ts";
import { BLOCK_SIZE, type FloatFormat } from "../kernels/formats.ts";
import type { QuantizedSource, StoredQuantized } from "./weight_plans.ts";
import type { CheckpointSource } from "./weights.ts";

/** `decoded`: the float format that a matrix is given where it must be decoded. Throws ModelFileError. */
export async function quantizedSource(
  checkpoint: TensorSource, stored: StoredQuantization, decoded: FloatFormat,
): Promise<{ readonly tensors: CheckpointSource["tensors"]; readonly quantized: QuantizedSource }> {
  const { matrices, owners, read } = await openQuantized(checkpoint, stored);
  const tensors = new Map([...checkpoint.tensors].filter(([name]) => !owners.has(name)));
  for (const { name, shape } of matrices.values()) {
    tensors.set(name, { dtype: decoded.toUpperCase(), shape, byteLength: shape[0] * shape[1] * (decoded === "f32" ? 4 : 2) });
  }
  const formats = new Map([...matrices.values()].map(({ name, format, blockSize, nestedBlockSize }): [string, StoredQuantized] => [
    // What bitsandbytes stores in 8 bits is multiplied by LLM.int8(), whose rows have one block each, however long.
    name, format === "int8" ? { format: "llm.int8", blockSize: BLOCK_SIZE, nestedBlockSize } : { format, blockSize, nestedBlockSize },
  ]));
  return { tensors, quantized: { stored: (name) => formats.get(name), read } };
}
