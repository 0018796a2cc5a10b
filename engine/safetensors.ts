/**
 * One safetensors file, read by ranges: open checks the whole header before anything else happens, read fetches the bytes asked for, and
 * never more. The file handle stays open between the two, so a file that is renamed or deleted meanwhile is still read to its end, and
 * one that is cut off is noticed. Rules of the header: safetensors_header.ts.
 */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { ModelFileError } from "./errors.ts";
import { openRegularFile, readFully } from "./files.ts";
import { parseHeader, type Header, type TensorInfo } from "./safetensors_header.ts";

/** The limit of the format itself. */
const FORMAT_HEADER_BYTES = 100_000_000;

/**
 * Our own cap on the header, lower than the format's because parsing needs several times the header in memory and holds the event loop
 * meanwhile. It is room for some 200,000 tensors in one file, and also the cap of the Hub's own client.
 */
export const MAX_HEADER_BYTES = 25_000_000;

/** What people mistake for a safetensors file, by its first bytes (as latin-1), and what to do about it. */
const LOOKALIKES: readonly (readonly [RegExp, string])[] = [
  [/^version https:\/\/git-lfs/, "a git-lfs pointer, not the file itself: run `git lfs pull` in its folder"],
  [/^(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)/i, "an HTML page, perhaps the error or login page of a download: download it again"],
  [/^(?:\xef\xbb\xbf)?\s*<\?xml/, "an XML page, perhaps the error message of a download: download the file again"],
  [/^PK\x03\x04/, "a zip archive, perhaps a PyTorch checkpoint: convert it to safetensors"],
  [/^\x80[\x02-\x05]/, "a Python pickle, perhaps a PyTorch checkpoint: convert it to safetensors"],
  [/^GGUF/, "a GGUF file: take the safetensors files of the same model"],
  [/^\x1f\x8b/, "a gzip archive: unpack it first"],
  [/^(?:\xef\xbb\xbf)?\s*[{[]/, "a JSON text without the 8 bytes of length before it, perhaps an index or the error message of a download"],
];

function lookalike(head: Uint8Array): string {
  const text = Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString("latin1");
  const found = LOOKALIKES.find(([pattern]) => pattern.test(text));
  return found === undefined ? "This is not a safetensors file, or it is damaged: download it again" : `It looks like ${found[1]}`;
}

/** Bytes of the header, from the first bytes of the file. Checked before anything of that size is allocated. */
function headerLength(head: Uint8Array, fileSize: number, path: string): number {
  const refuse = (problem: string): ModelFileError => new ModelFileError(`${path}: ${problem}. ${lookalike(head)}`);
  if (fileSize === 0) throw new ModelFileError(`${path}: the file is empty: download incomplete? Download it again`);
  if (fileSize < 8) throw refuse(`the file is ${fileSize} bytes, too small for the 8 bytes of header length`);
  const claimed = new DataView(head.buffer, head.byteOffset).getBigUint64(0, true);
  if (claimed > BigInt(FORMAT_HEADER_BYTES)) throw refuse(`header too large: ${claimed} bytes, the format allows ${FORMAT_HEADER_BYTES}`);
  const length = Number(claimed);
  if (length > fileSize - 8) throw refuse(`the header should have ${length} bytes, but only ${fileSize - 8} follow`);
  if (length > MAX_HEADER_BYTES) {
    throw new ModelFileError(`${path}: the header has ${length} bytes, more than the ${MAX_HEADER_BYTES} we read. ` +
      "Save the model in several files, each with fewer tensors");
  }
  if (length === 0) throw refuse("the header is empty");
  return length;
}

export class SafetensorsFile {
  readonly path: string;
  /** Size of the file in bytes. */
  readonly byteLength: number;
  /** sha256 of the header and its length, in hexadecimal. */
  readonly headerSha256: string;
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle, byteLength: number, headerSha256: string, header: Header) {
    this.path = path;
    this.byteLength = byteLength;
    this.headerSha256 = headerSha256;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#handle = handle;
  }

  /** Read and check the header. Throws ModelFileError for anything that is not a sound safetensors file. */
  static async open(path: string): Promise<SafetensorsFile> {
    const { handle, size } = await openRegularFile(path);
    try {
      const head = new Uint8Array(Math.min(size, 512));
      await readFully(handle, head, 0, path);
      const bytes = new Uint8Array(8 + headerLength(head, size, path));
      await readFully(handle, bytes, 0, path);
      const header = parseHeader(bytes.subarray(8), bytes.byteLength, size, path);
      return new SafetensorsFile(path, handle, size, createHash("sha256").update(bytes).digest("hex"), header);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * `byteLength` bytes of a tensor from its byte `byteOffset` on, in the first bytes of `into` or in a new array. Throws ModelFileError
   * when the file has become shorter, a RangeError when the range is not within the tensor or `into` is too small.
   */
  async read(name: string, byteOffset: number, byteLength: number, into?: Uint8Array): Promise<Uint8Array> {
    const info = this.tensors.get(name);
    if (info === undefined) throw new RangeError(`${this.path} has no tensor ${JSON.stringify(name)}`);
    const whole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(byteLength);
    if (!whole || byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > info.byteLength) {
      throw new RangeError(`${this.path}: ${byteLength} bytes from ${byteOffset} on are not within ${name} of ${info.byteLength} bytes`);
    }
    if (into !== undefined && into.byteLength < byteLength) {
      throw new RangeError(`${this.path}: ${byteLength} bytes of ${name} do not fit into ${into.byteLength}`);
    }
    const bytes = into === undefined ? new Uint8Array(byteLength) : into.subarray(0, byteLength);
    await readFully(this.#handle, bytes, info.byteOffset + byteOffset, this.path);
    return bytes;
  }

  /** Close the file; a second call does nothing. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}
