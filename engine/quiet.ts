/**
 * Dawn's native code prints two warnings about limits it lowers ("artificially reduced …") straight to file descriptor 2 each time an
 * adapter is asked for. They are no concern of the user's, and nothing in JavaScript can catch them, so the descriptor itself points
 * to /dev/null for the length of the call. What Dawn has to say about failures arrives as exceptions, so nothing is lost.
 */

import { closeSync, openSync } from "node:fs";

/** Run `body` with standard error silenced (Linux only; elsewhere it simply runs). */
export function quietly<T>(body: () => T): T {
  if (process.platform !== "linux") return body();
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
