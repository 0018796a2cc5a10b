/**
 * A quantized matrix as it passes from a checkpoint, or from an encoder on the host, to the GPU, and back to a file: codes and scales in
 * row-major order of the matrix [rows, columns], whatever the file's own layout was.
 */

export type EncodedMatrix = Int8Matrix | BlockwiseMatrix | GroupedMatrix;

/** W ≈ codes · scb / 127, one scale per row (bitsandbytes' LLM.int8()). */
export interface Int8Matrix {
  readonly format: "int8";
  readonly rows: number;
  readonly columns: number;
  /** [rows · columns] */
  readonly codes: Int8Array;
  /** [rows]: the largest magnitude of each row. */
  readonly scb: Float32Array;
}

/** W = value of code · absmax of the block; blocks of `blockSize` weights in row-major order, across row ends. */
export interface BlockwiseMatrix {
  readonly format: "nf4" | "fp4";
  readonly rows: number;
  readonly columns: number;
  readonly blockSize: number;
  /** [⌈rows · columns / 2⌉]: two codes a byte, the earlier in the high half. */
  readonly codes: Uint8Array;
  readonly absmax: Float32Array | NestedAbsmax;
}

/** absmax[i] = map[codes[i]] · nested[⌊i / blockSize⌋] + offset. */
export interface NestedAbsmax {
  readonly codes: Uint8Array;
  readonly nested: Float32Array;
  readonly blockSize: number;
  /** [256] */
  readonly map: Float32Array;
  readonly offset: number;
}

/** W = (code − zero) · scale, one of each per group of `groupSize` columns of a row (GPTQ, AWQ). */
export interface GroupedMatrix {
  readonly format: "int4";
  readonly rows: number;
  readonly columns: number;
  readonly groupSize: number;
  /** [rows · columns / 2]: two codes a byte, the earlier in the high half. */
  readonly codes: Uint8Array;
  /** [rows, ⌈columns / groupSize⌉] */
  readonly scales: Float32Array;
  readonly zeros: Uint8Array;
}

/** The 16 values of a 4-bit code; nf4: Dettmers et al. 2023, appendix E; fp4: bitsandbytes' own, sign in the highest bit. As f32. */
export const CODE_VALUES = {
  nf4: Float32Array.of(
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1,
  ),
  fp4: Float32Array.of(...[1, -1].flatMap((sign) => [0, 0.0625, 8, 12, 4, 6, 2, 3].map((twelfths) => sign * twelfths / 12 + 0))), // no −0
} as const;

/**
 * The dynamic map (Dettmers 2016, "8-bit approximations for parallelism in deep learning"), 256 values in order: 0, 1, and for each of the
 * seven powers of ten from 10⁻⁶ to 1, with either sign, the middles of 1, 2, 4, … 64 equal steps from a tenth of it to the whole. Rounded
 * to f32 at every step as create_dynamic_map of bitsandbytes is, so that its values are the same to the last bit.
 */
export function dynamicMap(): Float32Array<ArrayBuffer> {
  const { fround } = Math;
  const tenth = fround(0.1);
  const values = [0, 1];
  for (let power = 0; power < 7; power++) {
    const count = 2 ** power;
    const step = fround(fround(1 - tenth) / count);
    // torch.linspace counts from the nearer end, with one rounding for product and sum.
    const boundary = (i: number): number => fround(2 * i < count || i === 0 ? tenth + step * i : 1 - step * (count - i));
    for (let i = 0; i < count; i++) {
      const middle = fround(fround(boundary(i) + boundary(i + 1)) / 2);
      const value = fround(fround(Number(`1e${power - 6}`)) * middle);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}
