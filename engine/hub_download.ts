/**
 * Brings one commit of a hub model, or files of a data set, into the cache. `@huggingface/hub` looks up the commit and lists its files;
 * the files themselves we fetch with plain HTTP, because the package (2.17.5) takes every file of a repository, does not check SHA-256,
 * cannot resume a cut download, knows no offline mode and prints to the console. A blob is written as `.incomplete` and gets its name only after its hash was
 * found right, so what is in the cache under a hash is that file.
 */

import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, open, rename, stat, statfs, symlink, unlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { datasetInfo, listFiles, modelInfo } from "@huggingface/hub";
import { DawnlmError, ModelFileError, UsageError } from "./errors.ts";
import { show } from "./files.ts";
import {
  exists, isCommit, isPlainFileName, optionalFiles, readShards, repoCache, type RepoCache, singleWeights, weightsIndex, withLock,
} from "./hub_cache.ts";
import { type HubSettings, type HubSubject, kindOf, listingFetch, pageOf, request, TransientError } from "./hub_http.ts";
import { reasonOf } from "./text.ts";

export interface DownloadProgress {
  readonly stage: "download";
  readonly label: string;
  /** Bytes of all files together. */
  readonly loaded: number;
  readonly total: number;
}

export interface HubFile {
  /** With the folder, where it is a data set's. */
  readonly name: string;
  readonly size: number;
  /** SHA-256 of a file in large-file storage, else the git blob hash (SHA-1); also the blob's name in the cache. */
  readonly hash: string;
}

/** The commit that a branch or tag points to. */
export async function lookUpCommit(settings: HubSettings, subject: HubSubject): Promise<string> {
  const { repo: name, revision } = subject;
  const query = { name, revision, hubUrl: settings.endpoint, additionalFields: ["sha"] as ["sha"], fetch: listingFetch(settings, subject) };
  const info = await listing(subject, async () => (subject.dataset === undefined ? modelInfo(query) : datasetInfo(query)));
  if (!isCommit(info.sha)) throw new ModelFileError(`${name}: the hub names ${show(info.sha)} as the commit of "${revision}"`);
  return info.sha;
}

/**
 * Downloads what is missing of `commit`, or of `only` these files of it (a data set's by what their names in its folder look like), and
 * returns its snapshot folder. Throws ModelFileError, UsageError (disk) or AbortedError.
 */
export async function downloadSnapshot(
  settings: HubSettings, subject: HubSubject, commit: string, onProgress?: (progress: DownloadProgress) => void, only?: readonly string[] | RegExp,
): Promise<string> {
  const cache = repoCache(settings.cacheDir, subject.repo, kindOf(subject));
  const folder = cache.snapshot(commit);
  try {
    await mkdir(folder, { recursive: true });
    if (!isCommit(subject.revision)) {
      await mkdir(dirname(cache.ref(subject.revision)), { recursive: true });
      await writeFile(cache.ref(subject.revision), commit);
    }
    const listed = await listRepository(settings, subject, commit);
    const fetchOne = (file: HubFile, onBytes: (bytes: number) => void) => fetchFile(settings, subject, cache, commit, file, onBytes);
    const wanted = only !== undefined ? theseFiles(subject.repo, listed, only) : await wantedFiles(subject.repo, listed, async (index) => {
      await fetchOne(index, () => {});
      return readShards(join(folder, index.name));
    });
    const missing = await lackingFiles(folder, wanted);
    await checkFreeSpace(settings, missing);
    let loaded = 0;
    const total = missing.reduce((sum, { size }) => sum + size, 0);
    const report = throttle(onProgress);
    for (const file of missing) {
      const before = loaded;
      await fetchOne(file, (bytes) => report({ stage: "download", label: file.name, loaded: before + bytes, total }));
      loaded += file.size;
      report({ stage: "download", label: file.name, loaded, total }, loaded === total);
    }
    if (only === undefined) await noteAbsent(cache, commit, listed);
    return folder;
  } catch (error) {
    throw diskError(error, settings) ?? error;
  }
}

/** Errors of the package's own (an answer that is no JSON, say) in our words. */
async function listing<T>({ repo }: HubSubject, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof DawnlmError) throw error;
    throw new ModelFileError(`${repo}: the hub's answer cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

const maxEntries = 10_000;

/** Files at the top of the repository, or in the folder that is wanted of it; a path that leaves the repository condemns all of it. */
async function listRepository(settings: HubSettings, subject: HubSubject, commit: string): Promise<HubFile[]> {
  const files: HubFile[] = [];
  const refuse = (reason: string): never => {
    throw new ModelFileError(`${subject.repo}: the hub's file list ${reason}; nothing was downloaded`);
  };
  await listing(subject, async () => {
    const entries = listFiles({
      repo: { type: kindOf(subject), name: subject.repo }, revision: commit, hubUrl: settings.endpoint, fetch: listingFetch(settings, subject),
      ...(subject.dataset !== undefined && { path: subject.dataset.folder }),
    });
    const inside = subject.dataset === undefined ? "" : `${subject.dataset.folder}/`;
    let count = 0;
    for await (const { type, path, size, oid, lfs } of entries) {
      if (++count > maxEntries) refuse(`has more than ${maxEntries} entries`);
      if (typeof path !== "string" || escapes(path)) refuse(`names the unsafe path ${show(path)}`);
      if (type !== "file" || !path.startsWith(inside) || !isPlainFileName(path.slice(inside.length))) continue;
      const hash = lfs?.oid ?? oid ?? "";
      if (!Number.isSafeInteger(size) || size < 0) refuse(`gives ${path} the size ${show(size)}`);
      if (!(lfs === undefined ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/).test(hash)) refuse(`gives ${path} the hash ${show(hash)}`);
      files.push({ name: path, size, hash });
    }
  });
  return files;
}

/** Under the rules of any system: parent folders, absolute paths, drives, backslashes, control characters. */
function escapes(path: string): boolean {
  return /[\\\u0000-\u001f]|^[A-Za-z]:/.test(path) || path.split("/").some((part) => part === "" || part === "." || part === "..");
}

/** No pickles, no code: configuration, tokenizer, template and safetensors files only. */
const wantedName = /^(?:.+\.(?:json|jinja)|tokenizer.*)$/;
const refusedName = /\.(?:bin|pt|pth|pkl|pickle|ckpt|py|safetensors)$/;

/**
 * The files a run can use. Of weights model.safetensors goes first, as in transformers; else the shards that the index names.
 * Throws ModelFileError when there are no safetensors weights, or naming every shard that is not there.
 */
async function wantedFiles(
  repo: string, listed: readonly HubFile[], readIndex: (index: HubFile) => Promise<readonly string[]>,
): Promise<HubFile[]> {
  const byName = new Map(listed.map((file) => [file.name, file]));
  const small = listed.filter(({ name }) => wantedName.test(name) && !refusedName.test(name));
  const single = byName.get(singleWeights);
  if (single !== undefined) return [...small.filter(({ name }) => name !== weightsIndex), single];
  const index = byName.get(weightsIndex);
  if (index === undefined) {
    const others = listed.map(({ name }) => name).filter((name) => /\.(bin|pt|pth|gguf|onnx|h5|msgpack|safetensors)$/.test(name));
    const only = others.length > 0 ? ` (only ${others.slice(0, 5).join(", ")})` : "";
    throw new ModelFileError(`${repo}: has neither ${singleWeights} nor ${weightsIndex}${only}`);
  }
  const shards = await readIndex(index);
  const absent = shards.filter((name) => !byName.has(name));
  if (absent.length > 0) {
    throw new ModelFileError(`${repo}: ${weightsIndex} names files that the repository lacks: ${absent.join(", ")}`);
  }
  return [...small, ...shards.map((name) => byName.get(name)!)];
}

function theseFiles(repo: string, listed: readonly HubFile[], names: readonly string[] | RegExp): HubFile[] {
  if (names instanceof RegExp) return listed.filter(({ name }) => names.test(name));
  return names.map((name) => {
    const file = listed.find((entry) => entry.name === name);
    if (file === undefined) throw new ModelFileError(`${repo}: has no ${name}`);
    return file;
  });
}

async function lackingFiles(folder: string, files: readonly HubFile[]): Promise<HubFile[]> {
  const there = await Promise.all(files.map(({ name }) => exists(join(folder, name))));
  return files.filter((_, i) => !there[i]);
}

async function checkFreeSpace({ cacheDir }: HubSettings, files: readonly HubFile[]): Promise<void> {
  const needed = files.reduce((sum, { size }) => sum + size, 0);
  const { bavail, bsize } = await statfs(cacheDir);
  const gb = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
  if (needed > bavail * bsize) {
    throw new UsageError(`the download needs ${gb(needed)}, but ${cacheDir} has only ${gb(bavail * bsize)} free; `
      + "free some space or set HF_HUB_CACHE");
  }
}

/** Notes optional files that the commit does not have, so that the next run need not ask. */
async function noteAbsent(cache: RepoCache, commit: string, listed: readonly HubFile[]): Promise<void> {
  const names = new Set(listed.map(({ name }) => name));
  await mkdir(cache.absent(commit), { recursive: true });
  for (const name of optionalFiles) if (!names.has(name)) await writeFile(join(cache.absent(commit), name), "");
}

/** One file: its blob, once per machine, and the snapshot's link to it. */
async function fetchFile(
  settings: HubSettings, subject: HubSubject, cache: RepoCache, commit: string, file: HubFile, onBytes: (bytes: number) => void,
): Promise<void> {
  const blob = join(cache.blobs, file.hash);
  const isThere = async () => (await stat(blob).catch(() => undefined))?.size === file.size;
  if (!(await isThere())) {
    const url = `${pageOf(settings, subject)}/resolve/${commit}/${file.name.split("/").map(encodeURIComponent).join("/")}`;
    await withLock(blob, subject.signal, async () => {
      if (!(await isThere())) await fetchBlob(settings, subject, url, file, blob, onBytes);
    });
  }
  const link = join(cache.snapshot(commit), file.name);
  if (await exists(link)) return;
  await unlink(link).catch(() => {}); // a link to a blob that was deleted
  await mkdir(dirname(link), { recursive: true });
  await symlink(relative(dirname(link), blob), link).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") await copyFile(blob, link); // file systems without links
  });
}

async function fetchBlob(
  settings: HubSettings, subject: HubSubject, url: string, file: HubFile, blob: string, onBytes: (bytes: number) => void,
): Promise<void> {
  const incomplete = `${blob}.incomplete`;
  for (let round = 1; ; round++) {
    const hash = await fillIncomplete(settings, subject, url, file, incomplete, onBytes);
    if (hash === file.hash) return rename(incomplete, blob);
    await unlink(incomplete);
    if (round === 2) {
      throw new ModelFileError(`${subject.repo}: ${file.name} arrived damaged twice (hash ${hash.slice(0, 12)}…, `
        + `expected ${file.hash.slice(0, 12)}…); the file on the server or a proxy in between is at fault`);
    }
  }
}

/** Downloads what `incomplete` lacks of `file`, going on where a cut connection stopped, and returns the hash of the whole. */
async function fillIncomplete(
  settings: HubSettings, subject: HubSubject, url: string, file: HubFile, incomplete: string, onBytes: (bytes: number) => void,
): Promise<string> {
  const sizeSoFar = async () => (await stat(incomplete).catch(() => undefined))?.size ?? 0;
  if (await sizeSoFar() > file.size) await unlink(incomplete);
  if (await sizeSoFar() === file.size && file.size > 0) return (await hashStart(file, incomplete, file.size)).digest("hex");
  const headers = async () => {
    const have = await sizeSoFar();
    return { "accept-encoding": "identity", ...(have > 0 ? { range: `bytes=${have}-` } : undefined) };
  };
  return request(settings, subject, url, headers, async (response, progress) => {
    const have = await sizeSoFar();
    const resumes = have > 0 && response.status === 206 && response.headers.get("content-range")?.startsWith(`bytes ${have}-`) === true;
    if (response.status === 206 && !resumes) throw new TransientError("the server sent another range than was asked for");
    let at = resumes ? have : 0;
    const hash = await hashStart(file, incomplete, at);
    const output = await open(incomplete, resumes ? "a" : "w");
    try {
      for await (const chunk of response.body ?? []) {
        progress(chunk.length);
        at += chunk.length;
        if (at > file.size) throw new TransientError(`sends more than the ${file.size} bytes of ${file.name}`);
        await output.write(chunk);
        hash.update(chunk);
        onBytes(at);
      }
      await output.sync();
    } finally {
      await output.close();
    }
    if (at < file.size) throw new TransientError(`ended after ${at} of ${file.size} bytes of ${file.name}`);
    return hash.digest("hex");
  });
}

/** The hash that names `file`, fed with the first `bytes` bytes of what is on disk. */
async function hashStart(file: HubFile, path: string, bytes: number): Promise<Hash> {
  const hash = file.hash.length === 64 ? createHash("sha256") : createHash("sha1").update(`blob ${file.size}\0`);
  if (bytes > 0) for await (const chunk of createReadStream(path, { end: bytes - 1 })) hash.update(chunk as Buffer);
  return hash;
}

/** Ten reports a second are plenty. */
function throttle(onProgress: ((progress: DownloadProgress) => void) | undefined): (progress: DownloadProgress, last?: boolean) => void {
  let next = 0;
  return (progress, last = false) => {
    if (!last && performance.now() < next) return;
    next = performance.now() + 100;
    onProgress?.(progress);
  };
}

function diskError(error: unknown, { cacheDir }: HubSettings): Error | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "";
  const usage = (message: string) => new UsageError(`${message} (${code}); set HF_HUB_CACHE to another folder`, { cause: error });
  if (/^E(ACCES|ROFS|PERM)$/.test(code)) return usage(`cannot write to the model cache ${cacheDir}`);
  if (/^E(NOSPC|DQUOT)$/.test(code)) return usage(`the disk of the model cache ${cacheDir} is full`);
  if (/^E(NOTDIR|EXIST)$/.test(code)) return usage(`the model cache ${cacheDir} is not a folder`);
  return undefined;
}
