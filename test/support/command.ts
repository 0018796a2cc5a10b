/**
 * Runs the real command `dawnlm` as a shell would. Its output goes to files, not to sockets as Node's pipes are, because Dawn's own
 * warnings can be kept off standard error only where it can be reopened.
 */

import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const LAUNCHER = fileURLToPath(new URL("../../bin/dawnlm.mjs", import.meta.url));
/** With these no Vulkan driver is found: a machine without any adapter, on Linux. */
export const NO_DRIVER = { VK_DRIVER_FILES: "/none", VK_ICD_FILENAMES: "/none" };

export interface Ended { readonly code: number | null; readonly signal: string | null; readonly stdout: string; readonly stderr: string }

export interface CommandOptions {
  readonly stdin?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Send this signal as soon as there is anything on standard output. */
  readonly signalOnOutput?: NodeJS.Signals;
  /** Standard output goes here instead. */
  readonly stdout?: string;
}

export async function dawnlm(args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-command-"));
  const files = [options.stdout ?? join(folder, "stdout"), join(folder, "stderr")] as const;
  const [out, err] = [openSync(files[0], "a"), openSync(files[1], "a")];
  try {
    const child = spawn(process.execPath, [LAUNCHER, ...args], { stdio: ["pipe", out, err], env: { ...process.env, ...options.env } });
    child.stdin!.on("error", () => {}); // it may refuse its arguments without reading
    child.stdin!.end(options.stdin ?? "");
    const ended = new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve({ code, signal }));
    });
    if (options.signalOnOutput !== undefined) {
      while (statSync(files[0]).size === 0 && child.exitCode === null) await sleep(5);
      child.kill(options.signalOnOutput);
    }
    const { code, signal } = await ended;
    return { code, signal, stdout: options.stdout === undefined ? readFileSync(files[0], "utf8") : "", stderr: readFileSync(files[1], "utf8") };
  } finally {
    closeSync(out);
    closeSync(err);
    rmSync(folder, { recursive: true, force: true });
  }
}
