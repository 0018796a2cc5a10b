/**
 * The number formats of weight matrices, as data: what each takes per weight, and the slot (kernels/formats/*.wgsl) that a product reads
 * it through. Floats are stored as they are. The others are codes with scales beside them, laid out as bitsandbytes does:
 * `int8` one scale per row (Dettmers et al. 2022), which LLM.int8() multiplies in whole numbers (`llm.int8`); `nf4` and `fp4` one
 * absolute maximum per block of 64 weights (Dettmers et al. 2023), themselves quantized in blocks of 256 where `-double`. `int4` is what
 * GPTQ and AWQ checkpoints hold: a scale and a zero point per group of a row.
 */

/** What a user may ask for. */
export const WEIGHT_FORMATS = ["f32", "f16", "bf16", "int8", "llm.int8", "nf4", "nf4-double", "fp4", "fp4-double"] as const;
/** A number format of the weights that a user may ask for. */
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];
export type FloatFormat = "f32" | "f16" | "bf16";
/** What a weight may be held in: `int4` comes only from checkpoints. */
export type HeldFormat = WeightFormat | "int4";
export type QuantizedFormat = Exclude<HeldFormat, FloatFormat>;

/** How a matrix of a quantized format was cut into blocks. */
export interface Blocking {
  /** Weights that share a scale: of nf4 and fp4 in row-major order across row ends, of int4 within a row; of int8 a row. */
  readonly blockSize: number;
  /** Absolute maxima that share a nested scale. */
  readonly nestedBlockSize: number;
}

export const BLOCK_SIZE = 64;
export const NESTED_BLOCK_SIZE = 256;
/** `llm_int8_threshold` of transformers: activations of this size and above are outliers. */
export const OUTLIER_THRESHOLD = 6;

export function isFloat(format: HeldFormat): format is FloatFormat {
  return format === "f32" || format === "f16" || format === "bf16";
}

/** nf4 or fp4, with or without double quantization. */
export function isBlockwise(format: HeldFormat): format is "nf4" | "nf4-double" | "fp4" | "fp4-double" {
  return format.startsWith("nf4") || format.startsWith("fp4");
}

export function isDouble(format: HeldFormat): boolean {
  return format.endsWith("-double");
}

/** Bytes of one weight with its share of the scales, but for those that a whole row has in common. */
export function bytesPerWeight(format: HeldFormat): number {
  if (isFloat(format)) return format === "f32" ? 4 : 2;
  if (isBlockwise(format)) return 0.5 + (isDouble(format) ? (1 + 4 / NESTED_BLOCK_SIZE) / BLOCK_SIZE : 4 / BLOCK_SIZE);
  return format === "int4" ? 0.5 : 1;
}

/** Which of the two tables of 4-bit codes. */
export function codeTable(format: HeldFormat): "nf4" | "fp4" {
  return format.startsWith("nf4") ? "nf4" : "fp4";
}
