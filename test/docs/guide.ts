/**
 * Follows a guide as a reader would: takes the fenced blocks that name a file out of a page, and does what they say in a copy of the
 * sources. A fence `ts file=PATH` (any language) is a new file; `diff file=PATH` changes one that is there: lines that begin with a space or
 * with - must stand in it, next to each other, in exactly one place, and become those that begin with a space or with +. A line @@ begins
 * the next change of the same file.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface Step { readonly kind: "file" | "diff"; readonly path: string; readonly text: string }

/** The blocks of a page that name a file, in order. */
export function stepsOf(markdown: string): Step[] {
  return [...markdown.matchAll(/^( *)```(\w+) +file=(\S+)\n([^]*?)^ *```$/gm)].map(([, indent, language, path, text]) => ({
    kind: language === "diff" ? "diff" : "file", path: path!, text: text!.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  }));
}

/** Names of all guides. */
export function guides(): string[] {
  return readdirSync(join(ROOT, "docs/guide")).filter((name) => name.endsWith(".md")).map((name) => name.slice(0, -3)).sort();
}

export async function stepsOfGuide(name: string): Promise<Step[]> {
  return stepsOf(await readFile(join(ROOT, "docs/guide", `${name}.md`), "utf8"));
}

/** `source` with every change of a diff made. Throws where the lines to change are not there, or not in one place. */
export function applyDiff(source: string, diff: string, path: string): string {
  return diff.split(/^@@.*\n/m).filter((change) => change.trim() !== "").reduce((text, change) => {
    const lines = change.split("\n").slice(0, -1);
    const wrong = lines.find((line) => !/^[ +-]|^$/.test(line));
    if (wrong !== undefined) throw new Error(`${path}: a line of a diff begins with a space, + or -, not ${JSON.stringify(wrong)}`);
    const side = (left: string): string => lines.filter((line) => ["", " ", left].includes(line.slice(0, 1)))
      .map((line) => `${line.slice(1)}\n`).join("");
    const [before, after] = [side("-"), side("+")];
    const places = `\n${text}`.split(`\n${before}`).length - 1;
    if (before === "" || places !== 1) throw new Error(`${path}: ${places} places, not one, for\n${before}`);
    return `\n${text}`.replace(`\n${before}`, () => `\n${after}`).slice(1);
  }, source);
}

/** Do what the steps say under `root`. Throws when a new file is there already, and as `applyDiff` does. */
export async function follow(steps: readonly Step[], root: string): Promise<void> {
  for (const { kind, path, text } of steps) {
    const file = join(root, path);
    if (kind === "diff") {
      await writeFile(file, applyDiff(await readFile(file, "utf8"), text, path));
    } else {
      if (existsSync(file)) throw new Error(`${path} is there already`);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, text);
    }
  }
}

const SOURCES = [
  "engine", "kernels", "models", "techniques", "bench", "bin", "test/support", "test/kernels", "test/techniques",
  "index.ts", "package.json", "tsconfig.json",
];
const LINKS = ["node_modules", "assets", "test/fixtures"];

/** Run `body` on a copy of the sources, with the packages and models of this one; gone afterwards. */
export async function withCopy<T>(body: (root: string) => Promise<T>): Promise<T> {
  const root = await mkdtemp(join(tmpdir(), "dawnlm-guide-"));
  try {
    for (const each of SOURCES) await cp(join(ROOT, each), join(root, each), { recursive: true });
    for (const each of LINKS) await symlink(join(ROOT, each), join(root, each), "junction");
    return await body(root);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** Run a program of the copy with this Node; what it printed, and its exit code. */
export async function node(root: string, args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => { output += text; });
  const [code] = await once(child, "close") as [number | null];
  return { code, output };
}
