/**
 * The floor of each kernel: bytes that must be read and written once, and floating-point operations that must be done, whatever the
 * implementation. What a kernel reads again, or computes twice, is its own affair and shows as distance from the roof. A multiply-add is
 * two operations, as the roof counts them; exp, log, division and comparison count as one.
 */

import { bytesPerWeight, isBlockwise, type WeightFormat } from "../../../kernels/formats.ts";
import { kvBlockWords, kvEntryWords, type KvEncoding, type KvEntryEncoding } from "../../../kernels/kv_formats.ts";
import type { Work } from "./case.ts";

const F32 = 4;

/** Bytes of a weight [N, K] with its scales: N·K codes, one f32 for each row of int8, for each block of 64 (nf4, fp4; a quarter and a nested one where double). */
export function weightBytes(format: WeightFormat, N: number, K: number): number {
  const perRow = format === "int8" || format === "llm.int8" ? F32 : 0;
  return N * K * bytesPerWeight(format) + N * perRow;
}

/** y = W x for M rows: bytes = W + 4·M·(K + N), flops = 2·M·N·K. */
export function product(format: WeightFormat, N: number, K: number, M: number): Work {
  return { bytes: weightBytes(format, N, K) + F32 * M * (K + N), flops: 2 * M * N * K };
}

/** M rows of a table: bytes = M·K·(format + 4) and its scales, flops = M·K where codes are multiplied by a scale, else none. */
export function embedding(format: WeightFormat, K: number, M: number): Work {
  const scaled = isBlockwise(format) || format === "int8" || format === "llm.int8";
  return { bytes: weightBytes(format, M, K) + F32 * M * K, flops: scaled ? M * K : 0 };
}

/** RMS: bytes = 4·(2·M·C + C), flops = 4·M·C (square, add, two factors). Layer: a bias more, flops = 7·M·C (mean, difference, square, add, two factors, bias). */
export function norm(kind: "rms" | "layer", C: number, M: number): Work {
  return kind === "rms" ? { bytes: F32 * (2 * M * C + C), flops: 4 * M * C } : { bytes: F32 * (2 * M * C + 2 * C), flops: 7 * M * C };
}

/** x to codes: bytes = M·K·(4 + 1) + 16·M, flops = 3·M·K (magnitude, factor, rounding). */
export function quantize(K: number, M: number): Work {
  return { bytes: M * K * (F32 + 1) + 16 * M, flops: 3 * M * K };
}

/** Bytes of the key and the value of one token in one KV head. Keys of kivi4 by their share of a block. */
export function entryBytes(k: KvEncoding, v: KvEntryEncoding, blockSize: number): number {
  return F32 * (kvBlockWords(k, blockSize) / blockSize + kvEntryWords(v));
}

export interface AttentionSizes { readonly heads: number; readonly kvHeads: number; readonly headDim: number; readonly entry: number }

/**
 * M rows, each seeing `seen` entries in all (its own among them), of `stored` distinct entries per KV head: bytes = entries read once +
 * 4·M·heads·headDim·2 (queries in, result out); flops = (4·headDim + 3)·heads·Σ seen: two products, exp, maximum and sum.
 */
export function attention({ heads, kvHeads, headDim, entry }: AttentionSizes, M: number, seen: number, stored: number): Work {
  return { bytes: stored * kvHeads * entry + F32 * 2 * M * heads * headDim, flops: (4 * headDim + 3) * heads * seen };
}

/** Rotation and storing of M rows: bytes = 4·M·width in + 4·M·heads·headDim out (where queries are written) + M·kvHeads·entry; flops = 3 for each number that turns. */
export function append({ heads, kvHeads, headDim, entry }: AttentionSizes, M: number, rotaryDims: number, writesQueries: boolean): Work {
  return {
    bytes: F32 * M * (heads + 2 * kvHeads) * headDim + (writesQueries ? F32 * M * heads * headDim : 0) + M * kvHeads * entry,
    flops: 3 * M * (heads + kvHeads) * rotaryDims,
  };
}

/** Copying: bytes = twice what is copied. */
export function copy(bytes: number): Work {
  return { bytes: 2 * bytes, flops: 0 };
}

/** A pass over S rows of V numbers that stay on the device: bytes = 4·S·V for each of `tensors`, flops = `perNumber`·S·V. */
export function vocabulary(V: number, S: number, perNumber: number, tensors = 1): Work {
  return { bytes: F32 * S * V * tensors, flops: perNumber * S * V };
}

/** H rows of scores of which something is kept: bytes = 4·H·T read + `written`; flops = one comparison each. */
export function scores(H: number, T: number, written: number): Work {
  return { bytes: F32 * H * T + written, flops: H * T };
}

/** Sums of q and of q qᵀ about a shift: bytes = 4·M·heads·headDim + 4·heads·(2·headDim + headDim²)·2 (read and written), flops = 2·M·heads·headDim·(1 + headDim). */
export function queryStats(heads: number, headDim: number, M: number): Work {
  const words = 2 * headDim + headDim ** 2;
  return { bytes: F32 * (M * heads * headDim + 2 * heads * words), flops: 2 * M * heads * headDim * (1 + headDim) };
}

/** Floats to codes: bytes = count·source + weight, flops = 4·count (magnitude, factor, search, which is counted as one). */
export function encoding(format: WeightFormat, sourceBytes: number, N: number, K: number): Work {
  return { bytes: N * K * sourceBytes + weightBytes(format, N, K), flops: 4 * N * K };
}

/** count normal numbers: bytes = count · format, flops = 6·count (logarithm, root, sine or cosine, factors, additions). */
export function random(bytesEach: number, count: number): Work {
  return { bytes: count * bytesEach, flops: 6 * count };
}

/** The two roofs of a device, in GB/s and GFLOP/s. */
export interface Roof { readonly gigabytesPerSecond: number; readonly gigaflops: number }

/** Seconds that a device with such roofs needs at least, and which of them says so. */
export function bound({ bytes, flops }: Work, roof: Roof): { readonly seconds: number; readonly by: "memory" | "arithmetic" } {
  const [memory, arithmetic] = [bytes / (roof.gigabytesPerSecond * 1e9), flops / (roof.gigaflops * 1e9)];
  return memory >= arithmetic ? { seconds: memory, by: "memory" } : { seconds: arithmetic, by: "arithmetic" };
}
