/**
 * How test files are run: each in a process of its own, so that a crash, a hang or a forgotten `test.run()` in one cannot pass for
 * success or take others along. What a file did is read from uvu's closing summary and checked against how the process ended.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";

/**
 * Files that on a fresh machine do little but have Mesa's software driver compile shaders. Without LLVM's optimisations that takes half;
 * elsewhere it does not pay, as what is compiled in that way may run ten times as long.
 */
const COMPILE_BOUND = /models[\\/](weights|quantized|quantized_goldens)\.gpu|kernels[\\/](linear|linear_variants|quantized_linear|logprobs)\.gpu|press[\\/]scores\.gpu/;

export interface FileResult {
  readonly file: string;
  readonly passed: number;
  /** Tests that failed; at least 1 when there is a fault. */
  readonly failed: number;
  readonly skipped: number;
  /** Names given to `test.skip`. */
  readonly skippedNames: readonly string[];
  readonly seconds: number;
  /** What is wrong with the file as a whole: it crashed, hung, or ran nothing. */
  readonly fault: string | null;
  /** All it printed, standard output and standard error as they came. */
  readonly output: string;
}

/** Begins the lines by which name_skips.ts names a skipped test. */
export const SKIPPED = "[skipped] ";
const NAME_SKIPS = new URL("name_skips.ts", import.meta.url).href;
const SUMMARY = /^ *Total: +(\d+)\n *Passed: +(\d+)\n *Skipped: +(\d+)\n *Duration: /gm;
/** A process that has ended may have left others that hold its pipes open; wait no longer than this for what they print, in ms. */
const PIPES_CLOSE = 1000;

/** Every `*.test.ts` under `folder`, sorted, as paths with `/` relative to it; with filters, those that contain one of them. */
export function findTests(folder: string, filters: readonly string[]): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".test.ts"))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort();
}

const running = new Set<ChildProcess>();

/** Kill every test file now running, and what it started. */
export function killAll(): void {
  for (const child of running) kill(child);
}

function kill(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    // Each file leads a process group of its own (except on Windows, which has none), so its children go with it.
    if (process.platform === "win32") child.kill("SIGKILL");
    else process.kill(-child.pid, "SIGKILL");
  } catch {
    // nothing of it is left
  }
}

/** Run one file of `folder`, for at most `timeout` seconds. */
export async function runFile(folder: string, file: string, timeout: number): Promise<FileResult> {
  const start = performance.now();
  const child = spawn(process.execPath, ["--import", NAME_SKIPS, join(folder, file)], {
    stdio: ["ignore", "pipe", "pipe"], detached: process.platform !== "win32",
    env: { ...(COMPILE_BOUND.test(file) && { GALLIVM_PERF: "nopt" }), ...process.env, FORCE_COLOR: "0", DAWNLM_TUNING: "off" },
  });
  running.add(child);
  let [stdout, output] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => { stdout += text; output += text; });
  child.stderr.setEncoding("utf8").on("data", (text: string) => { output += text; });
  let timedOut = false;
  const timer = setTimeout(() => { timedOut = true; kill(child); }, timeout * 1000);
  const ending = await new Promise<string | null>((resolve) => {
    let ended: string | null = null;
    child.on("error", (error) => resolve(`it cannot be started: ${error.message}`));
    child.on("exit", (code, signal) => {
      ended = signal !== null ? `it was ended by ${signal}` : code === 0 ? null : `exit code ${code}`;
      kill(child);
      setTimeout(() => resolve(ended), PIPES_CLOSE).unref();
    });
    child.on("close", () => resolve(ended));
  });
  clearTimeout(timer);
  running.delete(child);
  for (const pipe of [child.stdout, child.stderr]) pipe.destroy();
  const seconds = (performance.now() - start) / 1000;
  return { file, seconds, output, ...judge(stdout, timedOut ? `it took longer than ${timeout} s and was stopped` : ending) };
}

/** What a file's standard output and its end (null: exit code 0) amount to. */
export function judge(stdout: string, ending: string | null): Omit<FileResult, "file" | "seconds" | "output"> {
  const text = stripVTControlCharacters(stdout).replaceAll("\r\n", "\n");
  const skippedNames = text.split("\n").filter((line) => line.startsWith(SKIPPED)).map((line) => line.slice(SKIPPED.length));
  const summary = [...text.matchAll(SUMMARY)].at(-1);
  if (summary === undefined) {
    const fault = ending ?? "it ended without uvu's summary: is `test.run()` missing at its end?";
    return { passed: 0, failed: 1, skipped: 0, skippedNames, fault };
  }
  const [total, passed, skipped] = summary.slice(1).map(Number) as [number, number, number];
  const failed = total - passed; // also when a `before` hook threw, of which uvu itself says nothing
  // A failed test makes the exit code 1; any other end than that is a fault of the file.
  const fault = total + skipped === 0 ? "it has no tests"
    : ending === null || (ending === "exit code 1" && failed > 0) ? null
    : `${ending} after its last test`;
  return { passed, failed: fault === null ? failed : Math.max(1, failed), skipped, skippedNames, fault };
}

/** Run `job` over `items`, at most `width` at a time, in order. */
export async function inParallel<T>(items: readonly T[], width: number, job: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  await Promise.all(Array.from({ length: width }, async () => { for (const item of queue) await job(item); }));
}
