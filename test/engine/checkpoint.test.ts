/**
 * Checkpoints: one file or shards under an index, rows C1 to C6 of the fault matrix, and tensors read in pieces.
 */

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Checkpoint, MAX_INDEX_BYTES, MAX_SHARDS } from "../../engine/checkpoint.ts";
import { ModelFileError } from "../../engine/errors.ts";
import { writeSafetensors, type TensorData } from "../../engine/safetensors_writer.ts";
import { openFiles } from "../support/safetensors_writer.ts";

const INDEX = "model.safetensors.index.json";
const [A, B] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const models = fileURLToPath(new URL("../../assets/models/", import.meta.url));
const temporary = mkdtempSync(join(tmpdir(), "dawnlm-checkpoint-"));
test.after(() => rmSync(temporary, { recursive: true, force: true }));

let made = 0;
function newFolder(): string {
  const folder = join(temporary, String(made++));
  mkdirSync(folder);
  return folder;
}

const tensor = (name: string, bytes: number, seed = 0): TensorData =>
  ({ name, dtype: "U8", shape: [bytes], data: Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + seed) & 0xff) });

/** A folder with `shards` and an index of `weightMap`, or of what the shards hold. */
async function sharded(shards: Record<string, readonly TensorData[]>, weightMap?: unknown): Promise<string> {
  const folder = newFolder();
  for (const [file, tensors] of Object.entries(shards)) await writeSafetensors(join(folder, file), tensors, { format: "pt" });
  const truth = Object.entries(shards).flatMap(([file, tensors]) => tensors.map(({ name }) => [name, file]));
  writeFileSync(join(folder, INDEX), JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap ?? Object.fromEntries(truth) }));
  return folder;
}

async function refusal(folder: string): Promise<string> {
  const outcome = await Checkpoint.open(folder).then(() => "no error", (error: unknown) => error);
  assert.instance(outcome, ModelFileError, `${outcome}`);
  const { message } = outcome as ModelFileError;
  assert.ok(message.startsWith(folder), message);
  assert.not.match(message, /[\u0000-\u001f]/);
  return message;
}

async function bytesOf(checkpoint: Checkpoint, name: string, maxBytes?: number): Promise<Buffer> {
  const copies: Uint8Array[] = [];
  for await (const { bytes } of checkpoint.pieces(name, maxBytes)) copies.push(bytes.slice());
  return Buffer.concat(copies);
}

test("a single file: every tensor of a bundled model comes in the bytes of the file", async () => {
  for (const model of ["tiny-neox", "tiny-neox-draft", "tiny-qwen2"]) {
    const checkpoint = await Checkpoint.open(join(models, model));
    assert.equal(checkpoint.files, ["model.safetensors"]);
    assert.equal(checkpoint.notes, []);
    const file = readFileSync(join(models, model, "model.safetensors"));
    for (const { name, byteOffset, byteLength } of checkpoint.tensors.values()) {
      assert.ok((await bytesOf(checkpoint, name, 65_536)).equals(file.subarray(byteOffset, byteOffset + byteLength)), name);
    }
    await checkpoint.close();
  }
});

test("shards: tensors of all of them, each read from its own", async () => {
  const folder = await sharded({ [B]: [tensor("c", 40, 3)], [A]: [tensor("a", 50, 1), tensor("b", 0)] });
  const checkpoint = await Checkpoint.open(folder);
  assert.equal(checkpoint.files, [A, B]);
  assert.equal([...checkpoint.tensors.keys()].sort(), ["a", "b", "c"]);
  assert.equal(new Uint8Array(await bytesOf(checkpoint, "a")), tensor("a", 50, 1).data);
  assert.equal(new Uint8Array(await bytesOf(checkpoint, "c")), tensor("c", 40, 3).data);
  assert.is((await bytesOf(checkpoint, "b")).byteLength, 0);
  await checkpoint.close();
  await checkpoint.close();
});

test("pieces: consecutive, multiples of 16 but the last, aligned, in one buffer that is used again", async () => {
  const folder = newFolder();
  await writeSafetensors(join(folder, "model.safetensors"), [tensor("odd", 3), tensor("t", 1000, 5)]);
  const checkpoint = await Checkpoint.open(folder);
  for (const [maxBytes, step] of [[16, 16], [100, 96], [1000, 992], [1008, 1008], [undefined, 4 * 2 ** 20]] as const) {
    let end = 0;
    const buffers = new Set<ArrayBufferLike>();
    for await (const { byteOffset, bytes } of checkpoint.pieces("t", maxBytes)) {
      assert.is(byteOffset, end);
      assert.is(bytes.byteLength, Math.min(step, 1000 - byteOffset));
      assert.is(bytes.byteOffset % 8, 0);
      assert.equal(bytes.slice(), tensor("t", 1000, 5).data.slice(end, end + bytes.byteLength));
      buffers.add(bytes.buffer);
      end += bytes.byteLength;
    }
    assert.is(end, 1000);
    assert.is(buffers.size, 1);
  }
  const buffer = async (name: string): Promise<ArrayBufferLike> => (await checkpoint.pieces(name, 64).next()).value!.bytes.buffer;
  const generator = checkpoint.pieces("t", 64);
  const first = (await generator.next()).value!.bytes;
  assert.ok(await buffer("odd") !== first.buffer); // a second reader at the same time gets its own
  assert.equal(first.slice(), tensor("t", 1000, 5).data.slice(0, 64));
  await generator.return();
  assert.is(await buffer("odd"), first.buffer); // given back, also by a reader who stopped early
  for (const wrong of [15, 0, -1, NaN]) {
    assert.instance(await checkpoint.pieces("t", wrong).next().catch((error: unknown) => error), RangeError);
  }
  const unknown = await checkpoint.pieces("nope").next().catch((error: unknown) => error);
  assert.instance(unknown, ModelFileError);
  assert.match(String(unknown), /there is no tensor "nope"/);
  await checkpoint.close();
});

test("a shard cut off while it is read is refused", async () => {
  const folder = await sharded({ [A]: [tensor("a", 100)] });
  const checkpoint = await Checkpoint.open(folder);
  truncateSync(join(folder, A), 150);
  const outcome = await bytesOf(checkpoint, "a", 16).catch((error: unknown) => error);
  assert.instance(outcome, ModelFileError);
  assert.match(String(outcome), /00001-of-00002\.safetensors: ends at byte 150/);
  await checkpoint.close();
});

test("fingerprint: the same for the same files anywhere, another for other weights, names, types or shards", async () => {
  const of = async (folder: string): Promise<string> => {
    const checkpoint = await Checkpoint.open(folder);
    const fingerprint = await checkpoint.fingerprint();
    await checkpoint.close();
    assert.match(fingerprint, /^[0-9a-f]{64}$/);
    return fingerprint;
  };
  const both = { [A]: [tensor("a", 3000, 1)], [B]: [tensor("b", 16, 2)] };
  const folder = await sharded(both);
  const copy = newFolder();
  cpSync(folder, copy, { recursive: true });
  assert.is(await of(copy), await of(folder));
  const seen = new Set([await of(folder)]);
  for (const other of [
    { [A]: [tensor("a", 3000, 7)], [B]: [tensor("b", 16, 2)] },
    { [A]: [tensor("a", 3000, 1)], [B]: [tensor("c", 16, 2)] },
    { [A]: [tensor("a", 3000, 1)], [B]: [{ ...tensor("b", 16, 2), dtype: "I8" as const }] },
    { [A]: [tensor("a", 3000, 1), tensor("b", 16, 2)] },
  ]) seen.add(await of(await sharded(other)));
  assert.is(seen.size, 5);
});

test("C1: every missing shard is named", async () => {
  const folder = await sharded({ [A]: [tensor("a", 4)] }, { a: A, b: B, c: "other.safetensors", d: B });
  symlinkSync(join(folder, "nowhere"), join(folder, "other.safetensors"));
  assert.match(await refusal(folder), new RegExp(`2 of 3 files missing: ${B}, other\\.safetensors\\. Download`));
});

test("C2: an index that does not agree with its shards", async () => {
  const shards = { [A]: [tensor("a", 4)], [B]: [tensor("b", 4)] };
  const elsewhere = await refusal(await sharded(shards, { a: A, b: A, x: B }));
  assert.match(elsewhere, /index\.json: tensor "b" should be in .*00001.*, but is in .*00002.*, and 1 more/);
  const nowhere = await refusal(await sharded(shards, { a: A, b: B, "x\n": B }));
  assert.match(nowhere, /tensor "x\\n" should be in .*, but no shard has it\./);
  const twice = await refusal(await sharded({ [A]: [tensor("a", 4)], [B]: [tensor("a", 4), tensor("b", 4)] }, { a: A, b: B }));
  assert.match(twice, /tensor "a" is in two shards, .*00001.* and .*00002/);
  // Beside what the index names, a shard may hold more.
  const more = await Checkpoint.open(await sharded({ [A]: [tensor("a", 4), tensor("extra", 4)] }, { a: A }));
  assert.ok(more.tensors.has("extra"));
  await more.close();
});

for (const name of [
  "../../etc/passwd", "../model.safetensors", "/etc/x.safetensors", "C:\\x.safetensors", "c:x.safetensors", "%2e%2e/x.safetensors",
  "%2e%2e%2fx.safetensors", "a\\..\\b.safetensors", "sub/x.safetensors", "x\0.safetensors", "x\n.safetensors", "", ".", "..", "x.bin",
  ".safetensors",
]) {
  test(`C3: the shard name ${JSON.stringify(name)} is refused before anything is opened`, async () => {
    const message = await refusal(await sharded({}, { a: name }));
    assert.match(message, /weight_map: "a" is in ".*", not the plain name of a \.safetensors file/);
  });
}

const posix = process.platform === "win32" ? test.skip : test;

posix("C4: links out of the folder are refused, for shards, single files and indexes (links need POSIX)", async () => {
  const outside = await sharded({ [A]: [tensor("a", 4)], "model.safetensors": [tensor("a", 4)] }, { a: A });
  for (const name of [A, "model.safetensors", INDEX]) {
    const folder = newFolder();
    if (name === A) writeFileSync(join(folder, INDEX), JSON.stringify({ weight_map: { a: A } }));
    symlinkSync(join(outside, name), join(folder, name));
    assert.match(await refusal(folder), new RegExp(`${name.replaceAll(".", "\\.")}: is a link that leads out of the model's folder`));
  }
});

posix("C4: links within the folder, a link to the folder, and the Hugging Face cache are accepted (links need POSIX)", async () => {
  const folder = await sharded({ ["real.safetensors"]: [tensor("a", 4)] }, { a: A });
  symlinkSync("real.safetensors", join(folder, A));
  const link = join(temporary, "link");
  symlinkSync(folder, link);
  for (const path of [folder, link]) await (await Checkpoint.open(path)).close();

  const cache = newFolder();
  const repository = join(cache, "models--o--n");
  const snapshot = join(repository, "snapshots", "0123abcd");
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(repository, "blobs"));
  await writeSafetensors(join(repository, "blobs", "f00d"), [tensor("a", 4, 9)]);
  symlinkSync("../../blobs/f00d", join(snapshot, "model.safetensors"));
  const checkpoint = await Checkpoint.open(snapshot);
  assert.equal(new Uint8Array(await bytesOf(checkpoint, "a")), tensor("a", 4, 9).data);
  await checkpoint.close();

  // Only the blobs of the same repository: neither another one's nor other files of this one.
  mkdirSync(join(cache, "models--o--m", "blobs"), { recursive: true });
  for (const target of ["../../../models--o--m/blobs/f00d", "../../f00d", "../../blobsy/f00d"]) {
    rmSync(join(snapshot, "model.safetensors"));
    mkdirSync(join(repository, "blobsy"), { recursive: true });
    cpSync(join(repository, "blobs", "f00d"), join(snapshot, target));
    symlinkSync(target, join(snapshot, "model.safetensors"));
    assert.match(await refusal(snapshot), /leads out of the model's folder/);
  }
});

test("C5: an index that is too large, no JSON, or of the wrong kind", async () => {
  const broken = async (text: string): Promise<string> => {
    const folder = newFolder();
    writeFileSync(join(folder, INDEX), text);
    return refusal(folder);
  };
  assert.match(await broken(""), /index is not valid JSON/);
  assert.match(await broken("[]"), /index must be a JSON object/);
  assert.match(await broken("{}"), /weight_map must be an object from tensor names to file names, but is nothing/);
  assert.match(await broken('{"weight_map":[1]}'), /but is \[1\]/);
  assert.match(await broken('{"weight_map":{}}'), /weight_map is empty/);
  assert.match(await broken('{"weight_map":{"a":1}}'), /weight_map: "a" must be the name of a file, but is 1/);
  assert.match(await broken(`{"weight_map":{"a":"${A}","a":"${B}"}}`), /the key "a" stands twice in the index/);
  const many = Object.fromEntries(Array.from({ length: MAX_SHARDS + 1 }, (_, i) => [`t${i}`, `s${i}.safetensors`]));
  assert.match(await broken(JSON.stringify({ weight_map: many })), /names 1001 shards, more than the 1000/);

  const folder = newFolder();
  writeFileSync(join(folder, INDEX), "");
  truncateSync(join(folder, INDEX), 300_000_000);
  const before = process.memoryUsage().arrayBuffers;
  assert.match(await refusal(folder), new RegExp(`index has 300000000 bytes, more than the ${MAX_INDEX_BYTES}`));
  assert.ok(process.memoryUsage().arrayBuffers - before < 1e6);
});

test("C6: the single file goes before the index, and a note says so", async () => {
  const folder = await sharded({ [A]: [tensor("a", 4, 1)] });
  await writeSafetensors(join(folder, "model.safetensors"), [tensor("a", 4, 2)]);
  const checkpoint = await Checkpoint.open(folder);
  assert.equal(checkpoint.files, ["model.safetensors"]);
  assert.equal(new Uint8Array(await bytesOf(checkpoint, "a")), tensor("a", 4, 2).data);
  assert.is(checkpoint.notes.length, 1);
  assert.match(checkpoint.notes[0]!, /has both model\.safetensors and model\.safetensors\.index\.json; model\.safetensors is used/);
  await checkpoint.close();
});

test("no folder, a file in its place, and a folder without safetensors", async () => {
  assert.match(await refusal(join(temporary, "none")), /there is no such file/);
  const file = join(models, "tiny-neox", "model.safetensors");
  assert.match(await refusal(file), /is a file, expected a folder/);
  const folder = newFolder();
  assert.match(await refusal(folder), /found no weights at all/);
  writeFileSync(join(folder, "pytorch_model.bin"), "");
  writeFileSync(join(folder, "model.fp16.safetensors"), "");
  assert.match(await refusal(folder), /found "model\.fp16\.safetensors", "pytorch_model\.bin"\. Download the safetensors/);
});

test("a bad shard among good ones: its error, and no file stays open", async () => {
  const folder = await sharded({ [A]: [tensor("a", 4)], [B]: [tensor("b", 4)] });
  truncateSync(join(folder, B), readFileSync(join(folder, B)).byteLength - 1);
  const before = openFiles();
  assert.match(await refusal(folder), /00002-of-00002\.safetensors: the file is \d+ bytes, but its header needs/);
  assert.equal(openFiles(), before);
});

test.run();
