/**
 * The door from tests to scripts/, which is plain JavaScript: its functions with their types, and a throw-away copy of it in a folder
 * whose `webgpu` package is a few lines of the test's own, so that setup can be seen to meet every kind of machine.
 */

import { spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface AptSource { uris: string[]; suites: string[]; components: string[]; rest: string[] }
export interface DriverPlan { file?: { path: string; text: string } | null; lists?: string | null; install?: string[]; byHand: string[] }

const SCRIPTS = new URL("../../scripts/", import.meta.url);
const load = (name: string): Promise<unknown> => import(new URL(name, SCRIPTS).href);

export const { parseSources, formatSources } = await load("apt_sources.mjs") as {
  parseSources(path: string, text: string): AptSource[];
  formatSources(sources: AptSource[]): string;
};
export const { parseOsRelease, planDriver } = await load("driver_plan.mjs") as {
  parseOsRelease(text: string): Record<string, string>;
  planDriver(osRelease: string, sources: AptSource[]): DriverPlan;
};
export const { runsTypeScript } = await load("node.mjs") as { runsTypeScript(version: string): boolean };
export const { missingPackages } = await load("dependencies.mjs") as { missingPackages(root: string): string[] };

/** Make a folder holding `files` (path → text) and hand it to `use`; it is gone afterwards. */
export async function withFolder<T>(files: Record<string, string>, use: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-test-"));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A copy of scripts/ and bin/'s launcher beside `files`, with a `webgpu` package whose index.js is `webgpu`. */
export function withScripts<T>(webgpu: string, files: Record<string, string>, use: (folder: string) => Promise<T>): Promise<T> {
  const base = {
    "package.json": `{ "type": "module" }`,
    "package-lock.json": `{ "packages": { "": {}, "node_modules/webgpu": { "version": "1.0.0" } } }`,
    "node_modules/webgpu/package.json": `{ "version": "1.0.0", "type": "module", "exports": "./index.js" }`,
    "node_modules/webgpu/index.js": webgpu,
  };
  return withFolder({ ...base, ...files }, (folder) => {
    cpSync(SCRIPTS, join(folder, "scripts"), { recursive: true });
    cpSync(fileURLToPath(new URL("../bin/dawnlm.mjs", SCRIPTS)), join(folder, "bin/dawnlm.mjs"));
    return use(folder);
  });
}

export interface Ended { readonly code: number | null; readonly signal: string | null; readonly stdout: string; readonly stderr: string }

/** Run this Node with `args` in `folder`; `onOutput` sees what it printed so far each time there is more, and the process's id. */
export function runNode(folder: string, args: readonly string[], onOutput?: (stdout: string, pid: number) => void): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      onOutput?.(stdout, child.pid!);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => { stderr += text; });
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
