/** Where a run took place, as far as it may explain a number: versions, machine, commit. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, release, totalmem, type as osType } from "node:os";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PACKAGES = ["webgpu", "tokenizers"];

export interface Machine {
  readonly dawnlm: string;
  readonly commit: string | null;
  /** Files changed since the commit; null without git. */
  readonly modified: boolean | null;
  readonly node: string;
  readonly os: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly packages: Readonly<Record<string, string>>;
}

export function machine(): Machine {
  const version = (path: string): string => (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
  // Unpacked inside another repository, its commit would say nothing about this code.
  const ours = git("rev-parse", "--show-prefix") === "";
  const status = ours ? git("status", "--porcelain") : null;
  const processors = cpus();
  return {
    dawnlm: version(`${ROOT}/package.json`), commit: ours ? git("rev-parse", "HEAD") : null, modified: status === null ? null : status !== "",
    node: process.version, os: `${osType()} ${release()} ${process.arch}`, cpu: processors[0]?.model ?? "unknown", cores: processors.length,
    memoryBytes: totalmem(), packages: Object.fromEntries(PACKAGES.map((name) => [name, version(`${ROOT}/node_modules/${name}/package.json`)])),
  };
}

function git(...args: string[]): string | null {
  try {
    return execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return null;
  }
}
