/**
 * Result files: written whole or not at all, and never by two runs at once. A file appears under its name only when its last byte is on
 * disk; a folder in use is marked by a lock that names its owner.
 */

import { mkdirSync, openSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync, closeSync, fsyncSync } from "node:fs";
import { hostname } from "node:os";
import { join, relative } from "node:path";
import { DawnlmError, UsageError } from "../../engine/errors.ts";

const LOCK = ".lock";

class BusyError extends UsageError {}

/** A folder of results that this process may write. `release` when done. */
export class ResultsFolder {
  readonly path: string;

  /**
   * Make the folder `name` under `root` and lock it. Throws UsageError when another run writes there or a link leads out of `root`,
   * DawnlmError when it cannot be written.
   */
  static open(root: string, name: string): ResultsFolder {
    const path = join(root, name);
    try {
      mkdirSync(path, { recursive: true });
      if (relative(realpathSync(root), realpathSync(path)).startsWith("..")) {
        throw new UsageError(`${path}: is a link that leads out of ${root}; remove it or give another --output-dir`);
      }
      lock(join(path, LOCK), path);
    } catch (error) {
      throw error instanceof DawnlmError ? error : cannotWrite(path, error);
    }
    return new ResultsFolder(path);
  }

  /** The same, but where another run is just writing there it is waited for. */
  static async whenFree(root: string, name: string, mostMs = 10_000): Promise<ResultsFolder> {
    const end = performance.now() + mostMs;
    for (;;) {
      try {
        return ResultsFolder.open(root, name);
      } catch (error) {
        if (!(error instanceof BusyError) || performance.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  private constructor(path: string) { this.path = path; }

  /** All files or none. Returns their paths. */
  write(files: readonly (readonly [name: string, content: string | Uint8Array])[]): string[] {
    return writeTogether(this.path, files);
  }

  release(): void {
    rmSync(join(this.path, LOCK), { force: true });
  }
}

/**
 * Write files (name, and text or bytes) completely, then give them their names: when one does not fit the disk, none appears, and the reports of
 * an earlier run stay together. Returns their paths.
 */
export function writeTogether(folder: string, files: readonly (readonly [name: string, content: string | Uint8Array])[]): string[] {
  const temporaries: string[] = [];
  let path = folder;
  try {
    for (const [name, content] of files) {
      path = join(folder, name);
      const temporary = `${path}.${process.pid}.tmp`;
      const file = openSync(temporary, "w");
      temporaries.push(temporary);
      try {
        writeFileSync(file, content);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    }
    return files.map(([name], i) => {
      path = join(folder, name);
      renameSync(temporaries[i]!, path);
      return path;
    });
  } catch (error) {
    for (const temporary of temporaries) rmSync(temporary, { force: true });
    throw cannotWrite(path, error);
  }
}

function lock(file: string, folder: string): void {
  const mine = `${process.pid} ${hostname()}\n`;
  try {
    writeFileSync(file, mine, { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const [pid, host] = readFileSync(file, "utf8").trim().split(" ");
    // Without a host it is empty: the disk was full, or its owner was killed, before it could write its name.
    if (host !== undefined && (host !== hostname() || isAlive(Number(pid)))) {
      throw new BusyError(`${folder}: another run (process ${pid} on ${host}) is writing its results there; wait for it, or give another --output-dir (if nothing runs, delete ${file})`);
    }
    writeFileSync(file, mine); // its owner is gone
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full", EACCES: "it may not be written", EROFS: "the file system is read-only", EDQUOT: "the disk quota is used up",
  EFBIG: "no file may grow that large here", ENAMETOOLONG: "the name is too long",
  ENOTDIR: "a part of the path is a file", EEXIST: "a part of the path is a file", EISDIR: "it is a folder",
};

/** The error for a path that cannot be written, with the reason in words. */
export function cannotWrite(path: string, error: unknown): DawnlmError {
  const { code, message } = error as NodeJS.ErrnoException;
  return new DawnlmError(`results cannot be written to ${path}: ${REASONS[code ?? ""] ?? message}; free it or give another --output-dir`, 1, { cause: error });
}
