/**
 * A checkpoint: a folder with model.safetensors, or with model.safetensors.index.json and the shards it names. Both look the same from
 * here on: tensors by name, each read in pieces, so a model of any size passes through one small buffer on its way to the GPU. Where
 * both are present the single file is taken, because Hugging Face transformers does so (`_get_resolved_checkpoint_files`), and it is
 * what our results are held against; a note says that the index was left aside.
 *
 * A folder that was downloaded is not trusted: the index may name plain files of the folder only, and links may not lead out of it,
 * but for those of the Hugging Face cache (models--o--n/snapshots/<commit>/file -> ../../blobs/<hash>).
 */

import { createHash } from "node:crypto";
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, sep } from "node:path";
import { ModelFileError } from "./errors.ts";
import { fileError, openRegularFile, readFully, show } from "./files.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { parseJsonObject, type TensorInfo } from "./safetensors_header.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** An index of 100,000 tensors has about 10 MB. */
export const MAX_INDEX_BYTES = 32_000_000;
/** Every shard keeps a file open, and 1024 open files is a common limit of a process. */
export const MAX_SHARDS = 1000;

/** Bytes at the start of each tensor that go into the fingerprint. */
const SAMPLE_BYTES = 1024;

export class Checkpoint {
  readonly folder: string;
  /** Names of the safetensors files in the folder, sorted. */
  readonly files: readonly string[];
  /** All tensors of all files. Which of them a model wants is not known here. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** What a user should be told once about how the folder was read. */
  readonly notes: readonly string[];
  readonly #shards: ReadonlyMap<string, SafetensorsFile>;
  readonly #shardOf: ReadonlyMap<string, SafetensorsFile>;
  /** The read buffer while nobody reads. */
  #buffer: Uint8Array | undefined;

  private constructor(folder: string, shards: ReadonlyMap<string, SafetensorsFile>, notes: readonly string[]) {
    const tensors = new Map<string, TensorInfo>();
    const shardOf = new Map<string, SafetensorsFile>();
    for (const shard of shards.values()) {
      for (const [name, info] of shard.tensors) {
        const other = shardOf.get(name);
        if (other !== undefined) {
          const both = `${basename(other.path)} and ${basename(shard.path)}`;
          throw new ModelFileError(`${folder}: tensor ${show(name)} is in two shards, ${both}. ` +
            "Files of two checkpoints may be mixed here: download the model into an empty folder");
        }
        tensors.set(name, info);
        shardOf.set(name, shard);
      }
    }
    this.folder = folder;
    this.files = [...shards.keys()];
    this.tensors = tensors;
    this.notes = notes;
    this.#shards = shards;
    this.#shardOf = shardOf;
  }

  /** Find the files, open them all and check their headers against each other. Throws ModelFileError; nothing stays open then. */
  static async open(folder: string): Promise<Checkpoint> {
    const present = await list(folder);
    const notes: string[] = [];
    let weightMap: ReadonlyMap<string, string> | undefined;
    if (!present.includes(SINGLE)) {
      if (!present.includes(INDEX)) throw noWeights(folder, present);
      await refuseEscapes(folder, [INDEX]);
      weightMap = await readIndex(join(folder, INDEX));
    } else if (present.includes(INDEX)) {
      notes.push(`${folder} has both ${SINGLE} and ${INDEX}; ${SINGLE} is used, as transformers does. Remove the one you do not want`);
    }
    const names = weightMap === undefined ? [SINGLE] : [...new Set(weightMap.values())].sort();
    await refuseEscapes(folder, names);
    const shards = new Map<string, SafetensorsFile>();
    try {
      for (const name of names) shards.set(name, await SafetensorsFile.open(join(folder, name)));
      const checkpoint = new Checkpoint(folder, shards, notes);
      if (weightMap !== undefined) checkpoint.#checkIndex(weightMap);
      return checkpoint;
    } catch (error) {
      for (const shard of shards.values()) await shard.close();
      throw error;
    }
  }

  /** Every tensor of the index must be where it says. One that is only in a shard is let through: the model says what it has no use for. */
  #checkIndex(weightMap: ReadonlyMap<string, string>): void {
    const wrong = [...weightMap].filter(([name, shard]) => this.#shards.get(shard)?.tensors.has(name) !== true);
    const first = wrong[0];
    if (first === undefined) return;
    const [name, shard] = first;
    const actual = this.#shardOf.get(name);
    const found = actual === undefined ? "no shard has it" : `is in ${basename(actual.path)}`;
    const others = wrong.length > 1 ? `, and ${wrong.length - 1} more like it` : "";
    throw new ModelFileError(`${join(this.folder, INDEX)}: tensor ${show(name)} should be in ${shard}, but ${found}${others}. ` +
      "Index and shards are of different checkpoints: download the model again");
  }

  /**
   * The bytes of one tensor in order, in pieces of at most `maxBytes`; all but the last are a multiple of 16 bytes. `bytes` starts at an
   * 8-byte boundary, so typed arrays can be laid over it, and is a view of a buffer that is used again: it is valid until the next piece,
   * of this tensor or another, is asked for. An empty tensor has no pieces. Two generators may run at once, each has its own buffer then.
   */
  async *pieces(name: string, maxBytes = 4 * 2 ** 20): AsyncGenerator<{ byteOffset: number; bytes: Uint8Array }, void, undefined> {
    const step = Math.floor(maxBytes / 16) * 16;
    if (!(step >= 16)) throw new RangeError(`pieces: maxBytes must be 16 or more, but is ${maxBytes}`);
    const shard = this.#shardOf.get(name);
    if (shard === undefined) throw new ModelFileError(`${this.folder}: there is no tensor ${show(name)}. Is this another model?`);
    const { byteLength } = shard.tensors.get(name)!;
    const buffer = this.#buffer !== undefined && this.#buffer.byteLength >= step ? this.#buffer : new Uint8Array(step);
    this.#buffer = undefined;
    try {
      for (let byteOffset = 0; byteOffset < byteLength; byteOffset += step) {
        yield { byteOffset, bytes: await shard.read(name, byteOffset, Math.min(step, byteLength - byteOffset), buffer) };
      }
    } finally {
      this.#buffer = buffer;
    }
  }

  /**
   * An identity for results, quick at any size: sha256, in hexadecimal, over header and size of every file and the first KiB of every
   * tensor. Two fine-tunings of one model differ in nothing but their weights, hence the KiB. The same weights in other shards get
   * another fingerprint. It is no proof that every byte is right; for that compare the sha256 of the files.
   */
  async fingerprint(): Promise<string> {
    const hash = createHash("sha256");
    const sample = new Uint8Array(SAMPLE_BYTES);
    for (const shard of this.#shards.values()) {
      hash.update(`${shard.headerSha256} ${shard.byteLength}\n`);
      for (const { name, byteLength } of shard.tensors.values()) {
        hash.update(await shard.read(name, 0, Math.min(byteLength, SAMPLE_BYTES), sample));
      }
    }
    return hash.digest("hex");
  }

  /** Close all files; a second call does nothing. */
  async close(): Promise<void> {
    for (const shard of this.#shards.values()) await shard.close();
  }
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOTDIR") {
      throw new ModelFileError(`${folder}: is a file, expected a folder. Give the folder that holds it and its config.json`);
    }
    throw fileError(folder, cause);
  }
}

function noWeights(folder: string, present: readonly string[]): ModelFileError {
  const others = present.filter((name) => /\.(safetensors|bin|pt|pth|gguf|onnx|h5|msgpack)$/.test(name)).sort();
  const found = others.length === 0 ? "no weights at all" : others.slice(0, 8).map(show).join(", ") + (others.length > 8 ? ", …" : "");
  return new ModelFileError(`${folder}: expected ${SINGLE} or ${INDEX}, found ${found}. ` +
    "Download the safetensors files of the model, or convert it to safetensors");
}

/** The weight_map of an index: tensor name to the name of its shard. */
async function readIndex(path: string): Promise<ReadonlyMap<string, string>> {
  const { handle, size } = await openRegularFile(path);
  let bytes: Uint8Array;
  try {
    if (size > MAX_INDEX_BYTES) {
      throw new ModelFileError(`${path}: the index has ${size} bytes, more than the ${MAX_INDEX_BYTES} we read. Download it again`);
    }
    bytes = new Uint8Array(size);
    await readFully(handle, bytes, 0, path);
  } finally {
    await handle.close();
  }
  const { weight_map: map } = parseJsonObject(bytes, path, "index");
  const refuse = (problem: string): ModelFileError =>
    new ModelFileError(`${path}: ${problem}. The index is damaged or not to be trusted: download it again`);
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw refuse(`weight_map must be an object from tensor names to file names, but is ${show(map)}`);
  }
  const shards = new Set<string>();
  const entries = Object.entries(map) as [string, unknown][];
  if (entries.length === 0) throw refuse("weight_map is empty");
  for (const [tensor, shard] of entries) {
    if (typeof shard !== "string") throw refuse(`weight_map: ${show(tensor)} must be the name of a file, but is ${show(shard)}`);
    if (!shards.has(shard) && !isPlainName(shard)) {
      throw refuse(`weight_map: ${show(tensor)} is in ${show(shard)}, not the plain name of a .safetensors file beside it`);
    }
    shards.add(shard);
  }
  if (shards.size > MAX_SHARDS) throw refuse(`weight_map names ${shards.size} shards, more than the ${MAX_SHARDS} we open`);
  return new Map(entries as [string, string][]);
}

/** No way out of the folder in any spelling: no separator, drive, percent escape or control character. */
function isPlainName(name: string): boolean {
  return /^[^/\\:%\u0000-\u001f\u007f-\u009f]+\.safetensors$/.test(name);
}

/** Every file must exist and, links followed, lie in the folder or among the blobs of its Hugging Face cache. All missing ones are named. */
export async function refuseEscapes(folder: string, names: readonly string[]): Promise<void> {
  const root = await realpath(folder);
  const homes = [root];
  const snapshots = dirname(root);
  const repository = dirname(snapshots);
  if (basename(snapshots) === "snapshots" && basename(repository).startsWith("models--")) homes.push(join(repository, "blobs"));
  const missing: string[] = [];
  for (const name of names) {
    const path = join(folder, name);
    let target: string;
    try {
      target = await realpath(path);
    } catch (cause) {
      if (!(cause instanceof Error && "code" in cause && cause.code === "ENOENT")) throw fileError(path, cause);
      missing.push(name);
      continue;
    }
    if (!homes.some((home) => isInside(home, target))) {
      throw new ModelFileError(`${path}: is a link that leads out of the model's folder, to ${target}. ` +
        "Copy the file here, or give the folder it is in");
    }
  }
  if (missing.length > 0) {
    throw new ModelFileError(`${folder}: ${missing.length} of ${names.length} files missing: ${missing.join(", ")}. ` +
      "Download incomplete? Download the model again");
  }
}

function isInside(home: string, path: string): boolean {
  const way = relative(home, path);
  return way !== "" && way.split(sep)[0] !== ".." && !isAbsolute(way);
}
