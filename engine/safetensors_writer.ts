/**
 * Writes safetensors files: from tensors that are all in memory, or one after the other for checkpoints of any size. A file appears under
 * its name only when it is complete: it is written beside it, flushed, then renamed, so neither a crash nor a full disk leaves half a
 * checkpoint behind.
 */

import { randomUUID } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { DawnlmError } from "./errors.ts";
import { MAX_HEADER_BYTES } from "./safetensors.ts";
import { SAFETENSORS_DTYPE_BITS, tensorBits, type SafetensorsDtype } from "./safetensors_header.ts";

export interface TensorData {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** All its bytes, little-endian, row-major. */
  readonly data: Uint8Array;
}

/**
 * Write `tensors` to `path`, over whatever file is there. As in the reference writer the widest types come first and names are in order
 * within a type; together with the header padded to 8 bytes that aligns every tensor to its elements, and the same tensors always give
 * the same file. Throws a plain Error for tensors that make no file (a name twice, bytes that do not fit the shape): a mistake of the
 * caller; and a DawnlmError when the disk refuses.
 */
export async function writeSafetensors(
  path: string, tensors: Iterable<TensorData>, metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const ordered = [...tensors].sort((a, b) =>
    SAFETENSORS_DTYPE_BITS[b.dtype] - SAFETENSORS_DTYPE_BITS[a.dtype] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const header = headerBytes(ordered, metadata);
  const partial = partialOf(path);
  try {
    const handle = await open(partial, "wx");
    try {
      await handle.writeFile(header); // on a handle, writeFile goes on where the last one ended
      for (const { data } of ordered) await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true }).catch(() => {}); // the first error is the one to report
    throw unwritable(path, cause);
  }
}

/** A tensor whose bytes come in pieces. */
export type StreamedTensor = Omit<TensorData, "data"> & { readonly data: Uint8Array | AsyncIterable<Uint8Array> };

/** Elements of the widest types have this many bytes; a tensor that is a multiple of it leaves the next one aligned. */
const ALIGNMENT = 8;

/**
 * A safetensors file in the making. Tensors are written as they come, but for those that would leave the next one unaligned (an odd
 * number of bytes): they wait in memory for the end, which is meant for small ones. The header stands first in the file and is written
 * last, into room that is left for it. `finish` or `abandon` must be called. Methods throw DawnlmError when the disk refuses, a plain
 * Error for mistakes of the caller.
 */
export class SafetensorsWriter {
  readonly path: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #room: number;
  readonly #metadata: Readonly<Record<string, string>> | undefined;
  readonly #entries: Entry[] = [];
  readonly #waiting: TensorData[] = [];
  #end = 0;

  private constructor(path: string, partial: string, handle: FileHandle, room: number, metadata?: Readonly<Record<string, string>>) {
    this.path = path;
    this.#partial = partial;
    this.#handle = handle;
    this.#room = room;
    this.#metadata = metadata;
  }

  /** `planned`: the tensors that will be added; their sizes need not be known yet, but how many dimensions they have. */
  static async create(
    path: string, planned: Iterable<{ readonly name: string; readonly dimensions: number }>, metadata?: Readonly<Record<string, string>>,
  ): Promise<SafetensorsWriter> {
    const most = Number.MAX_SAFE_INTEGER;
    const longest = [...planned].map(({ name, dimensions }): Entry =>
      ({ name, dtype: "F8_E4M3FNUZ", shape: Array<number>(dimensions).fill(most), offsets: [most, most] }));
    const room = headerOf(longest, metadata).byteLength;
    const partial = partialOf(path);
    try {
      return new SafetensorsWriter(path, partial, await open(partial, "wx"), room, metadata);
    } catch (cause) {
      throw unwritable(path, cause);
    }
  }

  async add(tensor: StreamedTensor): Promise<void> {
    const { name, dtype, shape, data } = tensor;
    const bits = tensorBits(dtype, shape);
    if (bits === undefined || bits % 8 !== 0) {
      throw new Error(`SafetensorsWriter: ${name} of ${dtype} [${shape.join(", ")}] is no whole number of bytes`);
    }
    if ((bits / 8) % ALIGNMENT === 0) await this.#write(tensor, bits / 8);
    else this.#waiting.push({ name, dtype, shape, data: data instanceof Uint8Array ? data : await whole(data, bits / 8, name) });
  }

  /** Complete the file under its name. Returns its size in bytes. */
  async finish(): Promise<number> {
    this.#waiting.sort((a, b) => SAFETENSORS_DTYPE_BITS[b.dtype] - SAFETENSORS_DTYPE_BITS[a.dtype]);
    for (const tensor of this.#waiting) await this.#write(tensor, tensor.data.byteLength);
    const header = headerOf(this.#entries, this.#metadata, this.#room);
    try {
      await writeAll(this.#handle, header, 0);
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#partial, this.path);
    } catch (cause) {
      await this.abandon();
      throw unwritable(this.path, cause);
    }
    return header.byteLength + this.#end;
  }

  /** Leave nothing behind; after `finish` this does nothing. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => {});
    await rm(this.#partial, { force: true }).catch(() => {});
  }

  async #write({ name, dtype, shape, data }: StreamedTensor, byteLength: number): Promise<void> {
    const first = this.#end;
    for await (const bytes of data instanceof Uint8Array ? [data] : data) {
      try {
        await writeAll(this.#handle, bytes, this.#room + this.#end);
      } catch (cause) {
        throw unwritable(this.path, cause);
      }
      this.#end += bytes.byteLength;
    }
    const written = this.#end - first;
    if (written !== byteLength) throw new Error(`SafetensorsWriter: ${name} came in ${written} bytes, needs ${byteLength}`);
    this.#entries.push({ name, dtype, shape, offsets: [first, this.#end] });
  }
}

async function whole(pieces: AsyncIterable<Uint8Array>, byteLength: number, name: string): Promise<Uint8Array> {
  const copies: Uint8Array[] = [];
  for await (const bytes of pieces) copies.push(bytes.slice());
  const data = new Uint8Array(Buffer.concat(copies));
  if (data.byteLength !== byteLength) throw new Error(`SafetensorsWriter: ${name} came in ${data.byteLength} bytes, needs ${byteLength}`);
  return data;
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    done += (await handle.write(bytes, done, Math.min(bytes.byteLength - done, 2 ** 30), position + done)).bytesWritten;
  }
}

function partialOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomUUID()}.partial`);
}

function unwritable(path: string, cause: unknown): DawnlmError {
  return new DawnlmError(`${path}: cannot be written (${cause instanceof Error ? cause.message : String(cause)})`, 1, { cause });
}

/** The header of tensors that lie one after the other. */
function headerBytes(ordered: readonly TensorData[], metadata: Readonly<Record<string, string>> | undefined): Uint8Array {
  let end = 0;
  return headerOf(ordered.map(({ name, dtype, shape, data }) => {
    const bits = tensorBits(dtype, shape);
    if (bits !== data.byteLength * 8) {
      throw new Error(`writeSafetensors: ${name} of ${dtype} [${shape.join(", ")}] has ${data.byteLength * 8} bits, needs ${bits}`);
    }
    const first = end;
    end += data.byteLength;
    return { name, dtype, shape, offsets: [first, end] };
  }), metadata);
}

interface Entry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly offsets: readonly [number, number];
}

/** Length, JSON and padding to a multiple of 8 bytes, or to `room`. */
function headerOf(tensors: readonly Entry[], metadata: Readonly<Record<string, string>> | undefined, room?: number): Uint8Array {
  const entries = new Map<string, unknown>();
  if (metadata !== undefined) entries.set("__metadata__", metadata);
  for (const { name, dtype, shape, offsets } of tensors) {
    if (entries.has(name) || name === "__metadata__") throw new Error(`writeSafetensors: the name ${JSON.stringify(name)} is taken`);
    entries.set(name, { dtype, shape, data_offsets: offsets });
  }
  // fromEntries defines properties, so a tensor may even be called __proto__.
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = room === undefined ? Math.ceil(json.byteLength / 8) * 8 : room - 8;
  if (json.byteLength > length) throw new Error(`writeSafetensors: the header takes ${json.byteLength} bytes, more than was planned`);
  if (length > MAX_HEADER_BYTES) {
    throw new Error(`writeSafetensors: a header of ${length} bytes would be refused when read again, the limit is ${MAX_HEADER_BYTES}`);
  }
  const bytes = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}
