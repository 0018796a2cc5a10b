/** A safetensors file written tensor by tensor: the same as the one written at once, aligned, and never half there. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DawnlmError } from "../../engine/errors.ts";
import { SafetensorsFile } from "../../engine/safetensors.ts";
import { SafetensorsWriter } from "../../engine/safetensors_writer.ts";
import { goodTensors, openFiles } from "../support/safetensors_writer.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-writer-"));
test.after(() => rmSync(temporary, { recursive: true, force: true }));

const plan = (tensors = goodTensors()) => tensors.map(({ name, shape }) => ({ name, dimensions: shape.length }));

async function* inPieces(data: Uint8Array): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(5); // used again for every piece, as Checkpoint.pieces does
  for (let at = 0; at < data.byteLength; at += 5) {
    const piece = data.subarray(at, at + 5);
    buffer.set(piece);
    yield buffer.subarray(0, piece.byteLength);
  }
}

test("tensors of all types, whole and in pieces, come back as they were, each aligned to its elements", async () => {
  for (const stream of [false, true]) {
    const path = join(temporary, `good-${stream}.safetensors`);
    const writer = await SafetensorsWriter.create(path, plan(), { format: "pt" });
    for (const tensor of goodTensors()) await writer.add(stream ? { ...tensor, data: inPieces(tensor.data) } : tensor);
    assert.not.ok(readdirSync(temporary).includes(`good-${stream}.safetensors`), "nothing under its name before the end");
    const size = await writer.finish();
    const file = await SafetensorsFile.open(path);
    assert.is(file.byteLength, size);
    assert.equal([...file.metadata], [["format", "pt"]]);
    assert.is(file.tensors.size, goodTensors().length);
    for (const { name, dtype, shape, data } of goodTensors()) {
      const info = file.tensors.get(name)!;
      assert.equal([info.dtype, info.shape], [dtype, shape], name);
      assert.equal(await file.read(name, 0, info.byteLength), data, name);
      assert.is(info.byteOffset % ({ F32: 4, F16: 2, BF16: 2, I64: 8 } as Record<string, number>)[dtype]! || 0, 0, name);
    }
    await file.close();
    await writer.abandon(); // after the end it does nothing
    assert.ok(readdirSync(temporary).includes(`good-${stream}.safetensors`));
  }
});

test("abandoned, it leaves nothing and keeps nothing open", async () => {
  const before = openFiles();
  const place = mkdtempSync(join(temporary, "abandoned-"));
  const writer = await SafetensorsWriter.create(join(place, "a.safetensors"), plan());
  await writer.add(goodTensors()[0]!);
  assert.is(readdirSync(place).length, 1);
  await writer.abandon();
  assert.equal(readdirSync(place), []);
  assert.is(openFiles(), before);
});

test("mistakes of the caller: bytes that do not fit the shape, a name twice, more than was planned", async () => {
  const path = join(temporary, "bad.safetensors");
  const tensor = { name: "a", dtype: "F32", shape: [4], data: new Uint8Array(16) } as const;
  const fails = async (body: (writer: SafetensorsWriter) => Promise<unknown>, message: RegExp, planned = [{ name: "a", dimensions: 1 }]): Promise<void> => {
    const writer = await SafetensorsWriter.create(path, planned);
    const error = await body(writer).then(() => assert.unreachable("was written"), (thrown: unknown) => thrown as Error);
    await writer.abandon();
    assert.match((error as Error).message, message);
  };
  await fails((writer) => writer.add({ ...tensor, data: new Uint8Array(8) }), /a came in 8 bytes, needs 16/);
  await fails((writer) => writer.add({ ...tensor, shape: [3], data: inPieces(new Uint8Array(16)) }), /a came in 16 bytes, needs 12/);
  await fails((writer) => writer.add({ ...tensor, dtype: "F4", shape: [3] }), /is no whole number of bytes/);
  await fails(async (writer) => { await writer.add(tensor); await writer.add(tensor); await writer.finish(); }, /the name "a" is taken/);
  await fails(async (writer) => {
    for (let i = 0; i < 40; i++) await writer.add({ ...tensor, name: `unplanned.${i}` });
    await writer.finish();
  }, /more than was planned/);
  assert.not.ok(readdirSync(temporary).some((name) => name.includes("bad")));
});

test("a place that cannot be written", async () => {
  const path = join(temporary, "no", "such", "folder", "a.safetensors");
  const error = await SafetensorsWriter.create(path, []).then(() => assert.unreachable("was created"), (thrown: unknown) => thrown);
  assert.instance(error, DawnlmError);
  assert.match((error as Error).message, /a\.safetensors: cannot be written \(ENOENT/);
});

test("the same tensors in the same order give the same file", async () => {
  const bytes = [];
  for (const name of ["one", "two"]) {
    const writer = await SafetensorsWriter.create(join(temporary, name), plan());
    for (const tensor of goodTensors()) await writer.add(tensor);
    await writer.finish();
    bytes.push(readFileSync(join(temporary, name)));
  }
  assert.is(Buffer.compare(bytes[0]!, bytes[1]!), 0);
});

test.run();
