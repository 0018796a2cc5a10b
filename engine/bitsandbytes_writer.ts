/**
 * Quantized matrices as the tensors that bitsandbytes saves, the JSON of their state included, so that Python reads them as its own.
 * bitsandbytes.ts says what they are.
 */

import { CODE_VALUES, type BlockwiseMatrix, type Int8Matrix } from "./encoded.ts";
import type { TensorData } from "./safetensors_writer.ts";

/** Type of the weight before it was quantized, as torch names it. */
export type TorchDtype = "float32" | "float16" | "bfloat16";

/** What bitsandbytes can save. */
export type SavedFormat = "int8" | "nf4" | "nf4-double" | "fp4" | "fp4-double";

/** Names and dimensions of the tensors that a matrix will be saved as, by the format it is going to have. */
export function savedParts(weight: string, format: SavedFormat): { readonly name: string; readonly dimensions: number }[] {
  if (format === "int8") {
    const prefix = weight.slice(0, -"weight".length);
    return [{ name: weight, dimensions: 2 }, { name: `${prefix}SCB`, dimensions: 1 }, { name: `${prefix}weight_format`, dimensions: 0 }];
  }
  const nested = format.endsWith("-double") ? ["nested_absmax", "nested_quant_map"] : [];
  const parts = ["absmax", "quant_map", ...nested, `quant_state.bitsandbytes__${format.slice(0, 3)}`];
  return [{ name: weight, dimensions: 2 }, ...parts.map((part) => ({ name: `${weight}.${part}`, dimensions: 1 }))];
}

/** The tensors of one matrix, in the order of `savedParts`. `weight`: its name, which ends in `weight`. */
export function savedMatrix(weight: string, matrix: Int8Matrix | BlockwiseMatrix, dtype: TorchDtype): TensorData[] {
  if (matrix.format === "int8") {
    const prefix = weight.slice(0, -"weight".length);
    return [
      { name: weight, dtype: "I8", shape: [matrix.rows, matrix.columns], data: bytesOf(matrix.codes) },
      floats(`${prefix}SCB`, matrix.scb),
      { name: `${prefix}weight_format`, dtype: "U8", shape: [], data: Uint8Array.of(0) }, // row-major
    ];
  }
  const { format, rows, columns, blockSize, codes, absmax } = matrix;
  const nested = absmax instanceof Float32Array ? null : absmax;
  // In the order and spelling of Python's json, byte for byte.
  const state = [
    `"quant_type": "${format}"`, `"blocksize": ${blockSize}`, `"dtype": "${dtype}"`, `"shape": [${rows}, ${columns}]`,
    ...(nested === null ? []
      : [`"nested_blocksize": ${nested.blockSize}`, '"nested_dtype": "float32"', `"nested_offset": ${pythonFloat(nested.offset)}`]),
  ];
  const json = new TextEncoder().encode(`{${state.join(", ")}}`);
  return [
    { name: weight, dtype: "U8", shape: [codes.length, 1], data: codes },
    absmax instanceof Float32Array ? floats(`${weight}.absmax`, absmax)
      : { name: `${weight}.absmax`, dtype: "U8", shape: [absmax.codes.length], data: absmax.codes },
    floats(`${weight}.quant_map`, CODE_VALUES[format]),
    ...(nested === null ? [] : [floats(`${weight}.nested_absmax`, nested.nested), floats(`${weight}.nested_quant_map`, nested.map)]),
    { name: `${weight}.quant_state.bitsandbytes__${format}`, dtype: "U8", shape: [json.byteLength], data: json },
  ];
}

/** The shortest decimal of a double as Python prints it: an exponent of two digits at least, from 1e16 on and below 1e-4. */
export function pythonFloat(value: number): string {
  const [digits, exponent] = value.toExponential().split("e") as [string, string];
  const power = Number(exponent);
  if (value !== 0 && (power < -4 || power >= 16)) return `${digits}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  const plain = Object.is(value, -0) ? "-0" : String(value);
  return /[.e]/.test(plain) ? plain : `${plain}.0`;
}

function floats(name: string, values: Float32Array): TensorData {
  return { name, dtype: "F32", shape: [values.length], data: bytesOf(values) };
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Int8Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
