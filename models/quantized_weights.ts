/**
 * Weights in codes on their way to the GPU: made there from a checkpoint's floats, piece by piece, or put there as the checkpoint has them.
 * Only one matrix is under way at a time, so neither the host nor the GPU ever holds the floats of more than a piece.
 */

import { DTYPE_BYTES } from "../engine/dtype.ts";
import type { EncodedMatrix, NestedAbsmax } from "../engine/encoded.ts";
import { ModelFileError, OutOfMemoryError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { encodePiece, pieceCapacity } from "../kernels/encode.ts";
import { codeTable, isDouble, type FloatFormat } from "../kernels/formats.ts";
import { RANDOM_SCALE, randomNormal } from "../kernels/random.ts";
import { nestAbsmax } from "../kernels/reference/quantize.ts";
import { isBeside, layOutScales, type Quantized, type Weight } from "../kernels/weights.ts";
import { codeBits, scaleBytes, type Request } from "./weight_plans.ts";

type Pieces = AsyncIterable<{ readonly byteOffset: number; readonly bytes: Uint8Array }>;


/** Loads quantized weights one after the other. Owns what it needs on the way, until `close`. */
export class QuantizedLoader {
  readonly #gpu: Gpu;
  /** Floats of the piece under way, as bytes. */
  #staging: Tensor | null = null;
  /** A counter of values without a code for each matrix encoded, and its name. */
  readonly #unusable: { readonly name: string; readonly counter: Tensor }[] = [];

  constructor(gpu: Gpu) { this.#gpu = gpu; }

  /** Room for the weight of a request. Throws OutOfMemoryError when it is more than a binding: codes are not cut by rows. */
  async allocate({ kind, rows, columns, sources }: Request, quantized: Quantized): Promise<Weight> {
    const gpu = this.#gpu;
    const stacked = rows * (kind === "gated" ? 2 : 1), bits = codeBits(quantized.format);
    const label = sources.map(({ name }) => name).join(" + ");
    const bytes = stacked * columns * bits / 8;
    if (bytes > gpu.maxBinding) {
      throw new OutOfMemoryError(`${label} takes ${bytes} bytes in ${quantized.format}, but this adapter binds at most ${gpu.maxBinding}: load it in floats, which are cut by rows`);
    }
    if (columns % 8 !== 0 || quantized.sections.some(({ columns: width }) => width % 8 !== 0)) {
      throw new ModelFileError(`${label} has rows of ${columns} weights, which ${quantized.format} cannot hold: a row must be a multiple of 8; load it in floats`);
    }
    const tensor = await gpu.tensor("weights", [stacked, columns * bits / 32], "u32", label);
    const words = scaleBytes(quantized, stacked, columns) / 4;
    const scales = await gpu.tensor("weights", bits === 8 && isBeside(quantized) ? [stacked, 2] : [words], "f32", `scales of ${label}`);
    return { rows, columns, gated: kind === "gated", quantized, parts: [{ tensor, scales, first: 0, rows }] };
  }

  /** Section `section` of a weight from the floats of a checkpoint, in order. */
  async encode(weight: Weight, section: number, name: string, format: FloatFormat, pieces: Pieces): Promise<void> {
    const gpu = this.#gpu;
    await this.#encoding(weight, section, name, format, async (chunk, run) => {
      let [firstRow, filled] = [0, 0];
      const size = chunk.bytes;
      for await (const { bytes } of pieces) {
        await gpu.flush();
        for (let at = 0; at < bytes.byteLength;) {
          const count = Math.min(bytes.byteLength - at, size - filled);
          gpu.upload(chunk.tensor.buffer, filled, bytes.subarray(at, at + count));
          at += count;
          filled += count;
          if (filled < size) continue;
          firstRow = await run(firstRow, filled);
          filled = 0;
        }
      }
      if (filled > 0) await run(firstRow, filled);
    });
  }

  /** The same from random numbers. */
  async encodeRandom(weight: Weight, section: number, name: string, format: FloatFormat, seed: number): Promise<void> {
    const gpu = this.#gpu, { rows, columns } = weight.quantized!.sections[section]!;
    await this.#encoding(weight, section, name, format, async (chunk, run) => {
      const rowBytes = columns * DTYPE_BYTES[format];
      for (let firstRow = 0; firstRow < rows;) {
        const bytes = Math.min(chunk.bytes, (rows - firstRow) * rowBytes);
        const recorder = new Recorder(gpu);
        randomNormal(recorder, { ...chunk.tensor, dtype: format, shape: [bytes / DTYPE_BYTES[format]] }, { seed: seed + 31 * firstRow, scale: RANDOM_SCALE });
        submit(gpu, await recorder.finish("random weights"), { rows: 1, tiles: 0 });
        firstRow = await run(firstRow, bytes);
      }
    });
  }

  /** Section `section` of a weight as a checkpoint has it, in the same format. */
  async place(weight: Weight, section: number, matrix: EncodedMatrix): Promise<void> {
    const gpu = this.#gpu, { quantized, columns, parts: [part] } = weight;
    const { firstRow, rows, firstColumn, columns: width } = quantized!.sections[section]!;
    await gpu.flush();
    const bits = codeBits(quantized!.format);
    const codes = new Uint8Array(matrix.codes.buffer, matrix.codes.byteOffset, matrix.codes.byteLength);
    const [rowBytes, widthBytes] = [columns * bits / 8, width * bits / 8];
    if (width === columns) gpu.upload(part!.tensor.buffer, firstRow * rowBytes, codes);
    else for (let row = 0; row < rows; row++) {
      gpu.upload(part!.tensor.buffer, (firstRow + row) * rowBytes + firstColumn * bits / 8, codes.subarray(row * widthBytes, (row + 1) * widthBytes));
    }
    if (matrix.format === "int8") this.#placeRowScales(weight, section, matrix.scb);
    else if (matrix.format === "int4") this.#placeGroups(weight, section, matrix.scales, matrix.zeros);
    else if (matrix.absmax instanceof Float32Array) gpu.upload(part!.scales!.buffer, layOutScales(quantized!).blocks[section]! * 4, matrix.absmax);
    else this.#placeNested(weight, section, matrix.absmax);
  }

  /** Throws ModelFileError, naming them, when matrices that were encoded hold NaN or infinite values. */
  async check(where: string): Promise<void> {
    const wrong: string[] = [];
    for (const { name, counter } of this.#unusable) {
      const count = new Uint32Array((await this.#gpu.read(counter)).buffer)[0]!;
      if (count > 0) wrong.push(`${name}: ${count} values`);
    }
    if (wrong.length === 0) return;
    throw new ModelFileError(`${where}: weights that are NaN or infinite (or beyond the range of f16, where int8 is made of them) cannot be quantized: ` +
      `${wrong.slice(0, 5).join("; ")}${wrong.length > 5 ? `; and ${wrong.length - 5} more matrices` : ""}. Load the model in floats, or download it again`);
  }

  close(): void {
    for (const { counter } of this.#unusable) this.#gpu.destroyBuffer(counter.buffer);
    if (this.#staging) this.#gpu.destroyBuffer(this.#staging.buffer);
    this.#unusable.length = 0;
    this.#staging = null;
  }

  /** Everything around filling chunks of whole rows: `run` encodes the first `bytes` of the chunk and returns the row after them. */
  async #encoding(
    weight: Weight, section: number, name: string, format: FloatFormat,
    fill: (chunk: { tensor: Tensor; bytes: number }, run: (firstRow: number, bytes: number) => Promise<number>) => Promise<void>,
  ): Promise<void> {
    const gpu = this.#gpu, quantized = weight.quantized!;
    const { rows, columns } = quantized.sections[section]!;
    const { blockSize, format: held } = quantized;
    const bytes = chunkBytes(gpu, quantized, section, format);
    const tensor = await this.#room(bytes);
    const counter = await gpu.tensor("staging", [1], "u32", `values of ${name} without a code`);
    this.#unusable.push({ name, counter });
    const absmax = isDouble(held) ? await gpu.tensor("staging", [Math.ceil(rows * columns / blockSize)], "f32", `magnitudes of ${name}`) : undefined;
    try {
      await fill({ tensor, bytes }, async (firstRow, filled) => {
        const count = filled / DTYPE_BYTES[format];
        await encodePiece(gpu, { weight, section, absmax, unusable: counter }, { ...tensor, dtype: format, shape: [count] }, firstRow);
        return firstRow + count / columns;
      });
      if (absmax === undefined) return;
      const nested = nestAbsmax(await gpu.readF32(absmax), quantized.nestedBlockSize);
      if (!Number.isFinite(nested.offset)) {
        throw new ModelFileError(`${name}: the magnitudes of its blocks have no finite mean, which double quantization needs; load it in ${codeTable(held)} or in floats`);
      }
      this.#placeNested(weight, section, nested);
    } finally {
      if (absmax) gpu.destroyBuffer(absmax.buffer);
    }
  }

  async #room(bytes: number): Promise<Tensor> {
    if (this.#staging && this.#staging.shape[0]! * 4 >= bytes) return this.#staging;
    if (this.#staging) this.#gpu.destroyBuffer(this.#staging.buffer);
    this.#staging = null;
    return this.#staging = await this.#gpu.tensor("staging", [Math.ceil(bytes / 4)], "u32", "floats to encode");
  }

  #placeRowScales({ quantized, parts: [part] }: Weight, section: number, scb: Float32Array): void {
    const { firstRow } = quantized!.sections[section]!, scales = part!.scales!.buffer;
    if (!isBeside(quantized!)) this.#gpu.upload(scales, firstRow * 4, scb);
    else scb.forEach((value, row) => { this.#gpu.upload(scales, (row * 2 + section) * 4, Float32Array.of(value)); });
  }

  #placeGroups({ quantized, columns, parts: [part] }: Weight, section: number, scales: Float32Array, zeros: Uint8Array): void {
    const { blockSize, sections } = quantized!, { firstRow, rows, firstColumn, columns: width } = sections[section]!;
    const [across, own] = [Math.ceil(columns / blockSize), Math.ceil(width / blockSize)];
    for (let row = 0; row < rows; row++) {
      const pairs = new Float32Array(2 * own).map((_, i) => (i % 2 === 0 ? scales : zeros)[row * own + (i >> 1)]!);
      this.#gpu.upload(part!.scales!.buffer, ((firstRow + row) * across + firstColumn / blockSize) * 8, pairs);
    }
  }

  #placeNested({ quantized, parts: [part] }: Weight, section: number, { codes, nested, map, offset }: NestedAbsmax): void {
    const layout = layOutScales(quantized!), scales = part!.scales!.buffer;
    const padded = new Uint8Array(Math.ceil(codes.length / 4) * 4);
    padded.set(codes);
    this.#gpu.upload(scales, section * 4, Float32Array.of(offset));
    this.#gpu.upload(scales, 16, map);
    this.#gpu.upload(scales, 260 * 4 + layout.blocks[section]!, padded);
    this.#gpu.upload(scales, (layout.nestedFirst + layout.nested[section]!) * 4, nested);
  }
}

/** Bytes of floats of a section that are encoded at once: whole rows, as many as are whole blocks too. */
export function chunkBytes(gpu: Pick<Gpu, "maxBinding">, { blockSize, sections }: Quantized, section: number, format: FloatFormat): number {
  const { rows, columns } = sections[section]!;
  const step = blockSize / gcd(blockSize, columns);
  const chunkRows = Math.min(rows, Math.max(1, Math.floor(pieceCapacity(gpu) / columns / step)) * step);
  return chunkRows * columns * DTYPE_BYTES[format];
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
