/**
 * Reading model files that may be anything: a folder, a pipe, a file that shrinks while it is read, a name full of control characters.
 * Files are opened without blocking and must be regular ones; what goes wrong becomes one ModelFileError. `show` puts what was found in
 * a file into a message without letting it break the terminal or flood it.
 */

import { constants, type Stats } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { ModelFileError } from "./errors.ts";

/** Longest stretch handed to one read: the system call itself stops short of 2 GiB. */
const MAX_READ_BYTES = 2 ** 30;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file. Check the path, or download the model again",
  ENOTDIR: "a part of this path is a file, not a folder. Check the path",
  EACCES: "permission denied. Make it readable for this user",
  EPERM: "permission denied. Make it readable for this user",
  EISDIR: "is a folder, expected a file. Give the path of a file",
  ELOOP: "its symbolic links go round in a circle. Replace them with the file itself",
  EMFILE: "too many files are open. Raise the limit (ulimit -n)",
  ENXIO: "is a socket or a device, expected a file. Give the path of a file",
};

/** An error of the file system as one for the user. */
export function fileError(path: string, cause: unknown): ModelFileError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  return new ModelFileError(`${path}: ${REASONS[code] ?? `cannot be read (${code}). Check the disk and the path`}`, { cause });
}

/** Open a regular file for reading; its size in bytes is that of the moment. Throws ModelFileError at once for anything else. */
export async function openRegularFile(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK, opening a pipe that nobody writes to waits forever. Windows has neither the flag nor such pipes.
    handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw fileError(path, cause);
  }
  const stats = await handle.stat();
  if (stats.isFile()) return { handle, size: stats.size };
  await handle.close();
  throw new ModelFileError(`${path}: is ${kindOf(stats)}, expected a file. Give the path of a file`);
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return "a folder";
  return stats.isFIFO() ? "a pipe" : stats.isSocket() ? "a socket" : "a device";
}

/** Fill `into` with the bytes from `position` on. Throws ModelFileError when the file ends before. */
export async function readFully(handle: FileHandle, into: Uint8Array, position: number, path: string): Promise<void> {
  let done = 0;
  while (done < into.byteLength) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(into, done, Math.min(into.byteLength - done, MAX_READ_BYTES), position + done));
    } catch (cause) {
      throw fileError(path, cause);
    }
    if (bytesRead === 0) {
      throw new ModelFileError(`${path}: ends at byte ${position + done}, expected ${into.byteLength} bytes from byte ${position} on. ` +
        "The file was cut off or replaced after it was opened; load the model again when nothing writes to it any more");
    }
    done += bytesRead;
  }
}

/** A JSON value as it may stand in a message: at most 80 characters of it, control and direction characters escaped. */
export function show(value: unknown): string {
  if (Array.isArray(value)) {
    return value.every((item) => typeof item !== "object" || item === null) ? `[${clip(value.map(String).join(", "))}]` : "a nested list";
  }
  if (typeof value === "object" && value !== null) return "an object";
  return typeof value === "string" ? `"${clip(value)}"` : value === undefined ? "nothing" : String(value);
}

function clip(text: string): string {
  const head = JSON.stringify(text.slice(0, 80)).slice(1, -1).replace(
    /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202f\u2060-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return text.length > 80 ? `${head}… (${text.length} characters)` : head;
}
