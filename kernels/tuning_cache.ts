/**
 * Winners of a timed search, kept between runs: one JSON file per device in the user's cache folder. What is read is never trusted: a
 * variant counts only when it is one that a search on this device could have chosen, and a file that is damaged, or that another version
 * or another driver wrote, is left alone with a note.
 */

import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { Gpu } from "../engine/gpu.ts";
import { candidates, ROWS_CLASSES, shapeKey, traitsOf, type LinearShape, type Variant } from "./linear_variants.ts";

/** Raised when the meaning of the file changes. */
const FORMAT = 1;
const PACKAGE = (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version;

/** What was found for one shape: the variant and its milliseconds. */
export interface Tuned { readonly shape: LinearShape; readonly variant: Variant; readonly ms: number }

/** `XDG_CACHE_HOME` or ~/.cache, and below it our folder. */
export function tuningFolder(env: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "dawnlm", "tuning");
}

/** All that timings depend on. Dawn's description names the driver and its version. */
function deviceKey({ adapter, subgroupSize, family }: Gpu): Record<string, string | number> {
  const { vendor, architecture, device, description, backend } = adapter;
  return { vendor, architecture, device, description, backend, subgroupSize, family };
}

/** Where the winners of this device are kept. */
export function tuningFile(gpu: Gpu, folder = tuningFolder()): string {
  return join(folder, `${createHash("sha256").update(JSON.stringify(deviceKey(gpu))).digest("hex").slice(0, 16)}.json`);
}

export interface CachedTuning {
  readonly tuned: readonly Tuned[];
  /** Why a file or some of its entries are not used; null when nothing is amiss. */
  readonly note: string | null;
}

/** What is known about this device. Never throws for what a file holds. */
export async function readTuning(gpu: Gpu, folder = tuningFolder()): Promise<CachedTuning> {
  const path = tuningFile(gpu, folder);
  const ignored = (why: string): CachedTuning => ({ tuned: [], note: `tuning in ${path} is not used: ${why}` });
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? { tuned: [], note: null } : ignored(String((error as Error).message));
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return ignored("it is no JSON");
  }
  if (!isRecord(content) || !Array.isArray(content["tuned"])) return ignored("it is no tuning file");
  if (content["format"] !== FORMAT || content["package"] !== PACKAGE) {
    return ignored(`dawnlm ${String(content["package"])} wrote it, this is ${PACKAGE}`);
  }
  if (JSON.stringify(content["device"]) !== JSON.stringify(deviceKey(gpu))) return ignored("it is of another device or driver");
  const tuned = content["tuned"].filter((entry): entry is Tuned => isTuned(gpu, entry));
  const dropped = content["tuned"].length - tuned.length;
  return { tuned, note: dropped === 0 ? null : `tuning in ${path}: ${dropped} of its entries name no variant that this device has, and are not used` };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An entry that a search on this device could have written. */
function isTuned(gpu: Gpu, entry: unknown): boolean {
  if (!isRecord(entry) || !isRecord(entry["shape"]) || typeof entry["ms"] !== "number") return false;
  const { rows, N, K, gated, normed, format } = entry["shape"];
  const sizes = [N, K].every((size) => Number.isInteger(size) && (size as number) > 0);
  if (!sizes || !ROWS_CLASSES.includes(rows as never) || typeof gated !== "boolean" || typeof normed !== "boolean" || typeof format !== "string") return false;
  const shape = entry["shape"] as unknown as LinearShape;
  return candidates(shape, traitsOf(gpu)).some((variant) => same(variant, entry["variant"]));
}

function same(a: unknown, b: unknown): boolean {
  if (!isRecord(a) || !isRecord(b)) return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** Add winners to what is kept for this device; those of the same shape are replaced. Readers see the old file or the new one, never half. */
export async function writeTuning(gpu: Gpu, found: readonly Tuned[], folder = tuningFolder()): Promise<string> {
  const path = tuningFile(gpu, folder);
  const known = new Map((await readTuning(gpu, folder)).tuned.map((entry) => [shapeKey(entry.shape), entry]));
  for (const entry of found) known.set(shapeKey(entry.shape), entry);
  const content = { format: FORMAT, package: PACKAGE, device: deviceKey(gpu), tuned: [...known.values()] };
  const temporary = `${path}.${randomUUID()}`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await writeFile(temporary, `${JSON.stringify(content, null, 1)}\n`);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  return path;
}
