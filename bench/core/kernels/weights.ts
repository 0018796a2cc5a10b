/**
 * Weights of every format for the bench, and the numbers that they stand for: views of the workbench's patterns, whose rows the scalar
 * twin decodes one by one, so that no weight needs to exist on the host.
 */

import { BLOCK_SIZE, codeTable, isBlockwise, isDouble, isFloat, NESTED_BLOCK_SIZE, OUTLIER_THRESHOLD, type WeightFormat } from "../../../kernels/formats.ts";
import { decode, nestAbsmax } from "../../../kernels/reference/quantize.ts";
import { layOutScales, type Quantized, type Weight } from "../../../kernels/weights.ts";
import { numbers, type Numbers } from "./numbers.ts";
import { PATTERN, type Copies, type Workbench } from "./workbench.ts";

export interface BenchWeight {
  readonly copies: number;
  /** Bytes that all copies take. */
  readonly footprint: number;
  readonly at: (copy: number) => Weight;
  /** Row n of copy 0 as numbers, [K]. */
  readonly row: (n: number) => Float64Array;
  /** Row n of copy 0 of an int8 format as it is stored. */
  readonly codes: (n: number) => { readonly codes: Int8Array; readonly scale: number };
}

/** Bytes of the codes or numbers of a weight, which are its largest binding. */
export function storedBytes(format: WeightFormat, N: number, K: number): number {
  return isFloat(format) ? N * K * (format === "f32" ? 4 : 2) : (N * K) / (isBlockwise(format) ? 2 : 1);
}

export async function benchWeight(bench: Workbench, format: WeightFormat, N: number, K: number): Promise<BenchWeight> {
  return bench.shared(`weight ${format} ${N}x${K}`, () => (isFloat(format) ? inFloats(bench, format, N, K) : inCodes(bench, format, N, K)));
}

const slice = (pattern: Numbers, first: number, count: number): Float64Array => Float64Array.from({ length: count }, (_, i) => pattern[(first + i) % PATTERN]!);

async function inFloats(bench: Workbench, format: "f32" | "f16" | "bf16", N: number, K: number): Promise<BenchWeight> {
  const [pattern, views] = [await bench.pattern(format), await bench.copies(format, [N, K], format, `weight ${format}`)];
  return {
    copies: views.count, footprint: views.count * storedBytes(format, N, K), row: (n) => slice(pattern, n * K, K),
    at: (copy) => ({ rows: N, columns: K, gated: false, parts: [{ tensor: views.at(copy), first: 0, rows: N }] }),
    codes: () => { throw new Error(`a weight of ${format} has no codes`); },
  };
}

async function inCodes(bench: Workbench, format: Exclude<WeightFormat, "f32" | "f16" | "bf16">, N: number, K: number): Promise<BenchWeight> {
  const blockwise = isBlockwise(format), bits = blockwise ? 4 : 8;
  const section = { firstRow: 0, rows: N, firstColumn: 0, columns: K };
  const quantized: Quantized = {
    format, blockSize: blockwise ? BLOCK_SIZE : K, nestedBlockSize: NESTED_BLOCK_SIZE, sections: [section], ...(format === "llm.int8" && { threshold: OUTLIER_THRESHOLD }),
  };
  const blocks = blockwise ? Math.ceil((N * K) / BLOCK_SIZE) : N;
  const views = await bench.copies("codes", [N, (K * bits) / 32], "u32", `weight ${format}`);
  const [bytes, magnitudes] = [await bench.pattern("codes"), await bench.pattern("scales")];
  let scales: Copies, absmax: (first: number, count: number) => Float32Array;
  if (isDouble(format)) {
    const nested = nestAbsmax(Float32Array.from(slice(magnitudes, 0, blocks)), NESTED_BLOCK_SIZE);
    const layout = layOutScales(quantized), words = new Uint32Array(layout.words), floats = new Float32Array(words.buffer);
    floats[0] = nested.offset;
    floats.set(nested.map, 4);
    new Uint8Array(words.buffer).set(nested.codes, 260 * 4);
    floats.set(nested.nested, layout.nestedFirst);
    scales = await bench.repeated([layout.words], "f32", words, views.count, `scales ${format}`);
    // Blocks begin anywhere, nested ones where they are whole.
    absmax = (first, count) => Float32Array.from({ length: count }, (_, i) => nested.map[nested.codes[first + i]!]! * nested.nested[Math.floor((first + i) / NESTED_BLOCK_SIZE)]! + nested.offset);
  } else {
    scales = await bench.copies("scales", [blocks], "f32", `scales ${format}`);
    absmax = (first, count) => Float32Array.from(slice(magnitudes, first, count));
  }
  const copies = Math.min(views.count, scales.count);
  const codes = (n: number): { codes: Int8Array; scale: number } => ({ codes: Int8Array.from(slice(bytes, n * K, K)), scale: magnitudes[n % PATTERN]! });
  const row = (n: number): Float64Array => {
    if (!blockwise) {
      const { codes: own, scale } = codes(n);
      return decode({ format: "int8", rows: 1, columns: K, codes: own, scb: Float32Array.of(scale) });
    }
    const first = Math.floor((n * K) / BLOCK_SIZE), end = Math.ceil(((n + 1) * K) / BLOCK_SIZE);
    const whole = decode({
      format: codeTable(format), rows: 1, columns: (end - first) * BLOCK_SIZE, blockSize: BLOCK_SIZE,
      codes: Uint8Array.from(slice(bytes, (first * BLOCK_SIZE) / 2, ((end - first) * BLOCK_SIZE) / 2)), absmax: absmax(first, end - first),
    });
    return whole.subarray(n * K - first * BLOCK_SIZE, (n + 1) * K - first * BLOCK_SIZE);
  };
  return {
    copies, footprint: copies * storedBytes(format, N, K), row, codes,
    at: (copy) => ({ rows: N, columns: K, gated: false, quantized, parts: [{ tensor: views.at(copy % copies), first: 0, rows: N, scales: scales.at(copy % copies) }] }),
  };
}

/** Activations with a few outliers, as models have: [M, K], every 509th eight times as large. */
export function activations(M: number, K: number, salt = 3): Float32Array {
  return numbers(M * K, salt).map((value, i) => (i % 509 === 17 ? 8 * value : value));
}
