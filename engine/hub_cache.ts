/**
 * The standard Hugging Face cache on disk, shared with every other tool that uses it (data sets: datasets--OWNER--NAME):
 *   models--OWNER--NAME/refs/BRANCH            the commit a branch pointed to when it was last looked up
 *   models--OWNER--NAME/blobs/HASH             file contents by hash (SHA-256, or the git hash of small files)
 *   models--OWNER--NAME/snapshots/COMMIT/FILE  links into blobs
 *   models--OWNER--NAME/.no_exist/COMMIT/FILE  empty: the commit is known to have no such file
 * Here: where things are, what is still missing from a snapshot, and the lock that lets one process at a time write a blob.
 */

import { mkdir, open, readFile, stat, unlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AbortedError, ModelFileError } from "./errors.ts";
import { show } from "./files.ts";
import { reasonOf } from "./text.ts";

export interface RepoCache {
  readonly folder: string;
  readonly blobs: string;
  snapshot(commit: string): string;
  absent(commit: string): string;
  ref(revision: string): string;
}

export function repoCache(cacheDir: string, repo: string, kind: "model" | "dataset" = "model"): RepoCache {
  const folder = join(cacheDir, [`${kind}s`, ...repo.split("/")].join("--"));
  return {
    folder,
    blobs: join(folder, "blobs"),
    snapshot: (commit) => join(folder, "snapshots", commit),
    absent: (commit) => join(folder, ".no_exist", commit),
    ref: (revision) => join(folder, "refs", revision),
  };
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** The commit of a branch or tag as last looked up, or undefined. */
export async function cachedCommit(cache: RepoCache, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const commit = (await readFile(cache.ref(revision), "utf8").catch(() => "")).trim();
  return isCommit(commit) ? commit : undefined;
}

export const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

export const configFile = "config.json";
/** Without these there is nothing to run. */
const requiredFiles = [configFile, "tokenizer.json"] as const;
/** These change how a model is used, but not every model has them. */
export const optionalFiles = ["generation_config.json", "tokenizer_config.json", "chat_template.jinja"] as const;
export const singleWeights = "model.safetensors";
export const weightsIndex = "model.safetensors.index.json";

export interface SnapshotState {
  /** Files that a run needs and that are not there. */
  readonly missing: readonly string[];
  /** Optional files that are not there, without a note that the commit has none: the snapshot may be half of one. */
  readonly unknown: readonly string[];
}

/** What a cached snapshot lacks. Throws ModelFileError for a weight index that names anything but files beside it. */
export async function snapshotState(cache: RepoCache, commit: string): Promise<SnapshotState> {
  const folder = cache.snapshot(commit);
  const lacking = async (names: readonly string[]): Promise<string[]> => {
    const there = await Promise.all(names.map((name) => exists(join(folder, name))));
    return names.filter((_, i) => !there[i]);
  };
  const missing = await lacking(requiredFiles);
  if (!(await exists(join(folder, singleWeights)))) {
    if (await exists(join(folder, weightsIndex))) missing.push(...await lacking(await readShards(join(folder, weightsIndex))));
    else missing.push(`${singleWeights} (or ${weightsIndex})`);
  }
  const noted = await Promise.all(optionalFiles.map((name) => exists(join(cache.absent(commit), name))));
  const unknown = await lacking(optionalFiles.filter((_, i) => !noted[i]));
  return { missing, unknown };
}

const maxIndexBytes = 250 * 2 ** 20;
const maxShards = 10_000;

/** Names of the weight files in model.safetensors.index.json. Throws ModelFileError. */
export async function readShards(path: string): Promise<string[]> {
  const { size } = await stat(path);
  if (size > maxIndexBytes) throw new ModelFileError(`${path}: ${size} bytes are more than a weight index can need`);
  let map: unknown;
  try {
    map = (JSON.parse(await readFile(path, "utf8")) as { weight_map?: unknown } | null)?.weight_map;
  } catch (error) {
    throw new ModelFileError(`${path}: not valid JSON: ${reasonOf(error)}`, { cause: error });
  }
  if (typeof map !== "object" || map === null) throw new ModelFileError(`${path}: has no weight_map`);
  const names = [...new Set<unknown>(Object.values(map))];
  if (names.length > maxShards) throw new ModelFileError(`${path}: names ${names.length} files; at most ${maxShards} are read`);
  return names.map((name) => {
    if (typeof name === "string" && isPlainFileName(name) && name.endsWith(".safetensors")) return name;
    throw new ModelFileError(`${path}: weight_map names ${show(name)}; only safetensors files beside the index are read`);
  });
}

/** A name that stays in its folder under the rules of every system: no separators, drives, control characters, or dots only. */
export function isPlainFileName(name: string): boolean {
  return name.length > 0 && name.length <= 255 && !/[/\\:\u0000-\u001f\u007f]/.test(name) && !/^\.+$/.test(name);
}

const lockBeat = 1000;
/** A lock that was not touched for this long belongs to a process that is gone. */
const lockStale = 10_000;

/**
 * Runs `work` while no other process does so for the same `path`. The lock is a file that its owner touches every second. Should two
 * processes ever judge a lock stale at the same moment, both write the same bytes, and the hash is checked before a blob gets its name.
 */
export async function withLock<T>(path: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  await mkdir(dirname(lock), { recursive: true });
  for (;;) {
    if (signal?.aborted) throw new AbortedError("model download was aborted");
    try {
      const handle = await open(lock, "wx");
      await handle.write(String(process.pid)).finally(() => handle.close());
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const info = await stat(lock).catch(() => undefined);
    if (info !== undefined && Date.now() - info.mtimeMs > lockStale) await unlink(lock).catch(() => {});
    else await sleep(100);
  }
  const beat = setInterval(() => { utimes(lock, new Date(), new Date()).catch(() => {}); }, lockBeat);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    await unlink(lock).catch(() => {});
  }
}
