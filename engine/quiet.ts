/**
 * Dawn's native code prints two warnings about limits it lowers ("artificially reduced …") straight to file descriptor 2 each time an
 * adapter is asked for. They are no concern of the user's, and nothing in JavaScript can catch them, so the descriptor itself points
 * to /dev/null for the length of the call. What Dawn has to say about failures arrives as exceptions, so nothing is lost.
 */

import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";

const O_APPEND = 0o2000;

/**
 * A file opened anew has a position of its own, so what others then write through the old one (`> log 2>&1`) would overwrite ours.
 * Only a file opened for appending has no position to lose.
 */
function hasPosition(): boolean {
  if (!fstatSync(2).isFile()) return false;
  const [, flags] = /^flags:\s*(\d+)/m.exec(readFileSync("/proc/self/fdinfo/2", "utf8")) ?? [];
  return flags === undefined || (parseInt(flags, 8) & O_APPEND) === 0;
}

/** Run `body` with standard error silenced, where that can be undone without a trace (Linux; not a plain `2> file`). */
export function quietly<T>(body: () => T): T {
  if (process.platform !== "linux" || hasPosition()) return body();
  let saved: number;
  try {
    saved = openSync("/proc/self/fd/2", "a");
  } catch {
    return body(); // standard error is a socket or closed: there is nothing we could restore it from
  }
  const pointAt = (path: string): void => {
    closeSync(2);
    if (openSync(path, "a") !== 2) throw new Error("standard error moved to another descriptor");
  };
  try {
    pointAt("/dev/null");
    return body();
  } finally {
    pointAt(`/proc/self/fd/${saved}`);
    closeSync(saved);
  }
}
