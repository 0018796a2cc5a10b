/**
 * Writes a safetensors file: for converted checkpoints and for the good files of the tests. The file appears under its name only when it
 * is complete: it is written beside it, flushed, then renamed, so neither a crash nor a full disk leaves half a checkpoint behind.
 */

import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
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
  const partial = join(dirname(path), `.${basename(path)}.${randomUUID()}.partial`);
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
    throw new DawnlmError(`${path}: cannot be written (${cause instanceof Error ? cause.message : String(cause)})`, 1, { cause });
  }
}

/** Length, JSON and padding. */
function headerBytes(ordered: readonly TensorData[], metadata: Readonly<Record<string, string>> | undefined): Uint8Array {
  const entries = new Map<string, unknown>();
  if (metadata !== undefined) entries.set("__metadata__", metadata);
  let end = 0;
  for (const { name, dtype, shape, data } of ordered) {
    if (entries.has(name) || name === "__metadata__") throw new Error(`writeSafetensors: the name ${JSON.stringify(name)} is taken`);
    const bits = tensorBits(dtype, shape);
    if (bits !== data.byteLength * 8) {
      throw new Error(`writeSafetensors: ${name} of ${dtype} [${shape.join(", ")}] has ${data.byteLength * 8} bits, needs ${bits}`);
    }
    entries.set(name, { dtype, shape, data_offsets: [end, end + data.byteLength] });
    end += data.byteLength;
  }
  // fromEntries defines properties, so a tensor may even be called __proto__.
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new Error(`writeSafetensors: a header of ${length} bytes would be refused when read again, the limit is ${MAX_HEADER_BYTES}`);
  }
  const bytes = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}
