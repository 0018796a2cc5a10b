/**
 * The safetensors reader against the fault matrix (rows S1 to S32): every bad file gives one clear error and nothing else, every odd but
 * legal one is read. Then mutations of a good file, the writer, and the bundled models.
 */

import { execFileSync } from "node:child_process";
import {
  chmodSync, closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DawnlmError, ModelFileError } from "../../engine/errors.ts";
import { MAX_HEADER_BYTES, SafetensorsFile } from "../../engine/safetensors.ts";
import { writeSafetensors } from "../../engine/safetensors_writer.ts";
import { entry, file, fileCases, goodTensors, openFiles, overlapping } from "../support/safetensors_writer.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-safetensors-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** The error of a call that must fail: for the user, about this path, on one line that a terminal can show. */
async function refusal(path: string, call: () => Promise<unknown>): Promise<string> {
  let error: unknown;
  try {
    await call();
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, ModelFileError, `${error}`);
  const { message, exitCode } = error as ModelFileError;
  assert.is(exitCode, 3);
  assert.ok(message.startsWith(`${path}: `), message);
  assert.not.match(message, /[\u0000-\u001f\u007f-\u009f\u202e]/);
  assert.ok(message.length < path.length + 600, `${message.length} characters`);
  return message;
}

/** Everything the header promises holds: tensors tile the file, and each can be read to its last byte. */
async function checkAccepted(opened: SafetensorsFile, bytes: Uint8Array): Promise<void> {
  let end = 8 + Number(Buffer.from(bytes.buffer, bytes.byteOffset).readBigUInt64LE());
  for (const { name, byteOffset, byteLength } of opened.tensors.values()) {
    assert.is(byteOffset, end);
    end += byteLength;
    assert.ok(Buffer.compare(await opened.read(name, 0, byteLength), bytes.subarray(byteOffset, end)) === 0);
  }
  assert.is(end, bytes.byteLength);
}

for (const [row, what, bytes, expect] of fileCases) {
  test(`${row}: ${what}: ${expect === "accept" ? "accepted" : "refused"}`, async () => {
    const path = write("case.safetensors", bytes);
    if (expect !== "accept") {
      assert.match(await refusal(path, () => SafetensorsFile.open(path)), expect);
      return;
    }
    const opened = await SafetensorsFile.open(path);
    await checkAccepted(opened, bytes);
    await opened.close();
  });
}

test("S4: a huge length is refused at once and nothing of its size is allocated", async () => {
  for (const claimed of [100_000_001n, 2n ** 40n, 2n ** 64n - 1n]) {
    const path = write("huge.safetensors", file("{}", 0, claimed));
    await refusal(path, () => SafetensorsFile.open(path)); // the first call may compile
    const before = process.memoryUsage().arrayBuffers;
    const started = performance.now();
    await refusal(path, () => SafetensorsFile.open(path));
    assert.ok(performance.now() - started < 5000);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1e6);
  }
});

test("S12: names of Object.prototype are plain names", async () => {
  const opened = await SafetensorsFile.open(write("names.safetensors", file(
    `{"__proto__":${JSON.stringify(entry("U8", [1], 0, 1))},"constructor":${JSON.stringify(entry("U8", [1], 1, 2))}}`,
    Uint8Array.of(7, 9))));
  assert.equal([...opened.tensors.keys()], ["__proto__", "constructor"]);
  assert.equal([...await opened.read("__proto__", 0, 1)], [7]);
  assert.equal([...await opened.read("constructor", 0, 1)], [9]);
  await opened.close();
  assert.is(({} as { dtype?: unknown }).dtype, undefined);
});

test("S15: known dtypes that we cannot compute with are in the header as they are", async () => {
  const opened = await SafetensorsFile.open(write("f8.safetensors", file({ a: entry("F8_E4M3", [8], 0, 8) }, 8)));
  assert.is(opened.tensors.get("a")?.dtype, "F8_E4M3");
  await opened.close();
});

test("S19: 100,000 tensors on the same bytes are refused in linear time", async () => {
  const path = write("overlap.safetensors", overlapping(100_000));
  const started = performance.now();
  assert.match(await refusal(path, () => SafetensorsFile.open(path)), /overlaps tensor/);
  assert.ok(performance.now() - started < 30_000, `${performance.now() - started} ms`);
});

test("S26: numbers at odd bytes are read right, into a buffer that is aligned", async () => {
  const numbers = Float32Array.of(1.5, -2.25);
  const header = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`.padEnd(57);
  const opened = await SafetensorsFile.open(write("odd.safetensors", file(header, new Uint8Array(numbers.buffer))));
  assert.is(opened.tensors.get("a")!.byteOffset % 2, 1);
  const bytes = await opened.read("a", 0, 8);
  assert.equal(new Float32Array(bytes.buffer, bytes.byteOffset, 2), numbers);
  await opened.close();
});

test("S27: our own cap on the header is said, and one of 100,000 tensors is read", async () => {
  const path = write("long.safetensors", file("{}", 0, BigInt(MAX_HEADER_BYTES + 1)));
  truncateSync(path, MAX_HEADER_BYTES + 100);
  assert.match(await refusal(path, () => SafetensorsFile.open(path)), /more than the 25000000 we read/);
  const names = Array.from({ length: 100_000 }, (_, i) => `model.layers.${i}.weight`);
  const many = Object.fromEntries(names.map((name, i) => [name, entry("F16", [2], 4 * i, 4 * i + 4)]));
  const opened = await SafetensorsFile.open(write("many.safetensors", file(many, 400_000)));
  assert.is(opened.tensors.size, 100_000);
  await opened.close();
});

test("S28: a file cut off after it was opened is refused; one replaced by another is read as it was", async () => {
  const path = write("cut.safetensors", file({ a: entry("U8", [64], 0, 64) }, new Uint8Array(64).fill(5)));
  const opened = await SafetensorsFile.open(path);
  truncateSync(path, opened.byteLength - 10);
  assert.match(await refusal(path, () => opened.read("a", 0, 64)), /ends at byte \d+, expected 64 bytes/);
  assert.equal([...await opened.read("a", 0, 54)], Array(54).fill(5));
  await opened.close();

  const whole = file({ a: entry("U8", [64], 0, 64) }, new Uint8Array(64).fill(6));
  const again = await SafetensorsFile.open(write("swap.safetensors", whole));
  rmSync(join(folder, "swap.safetensors"));
  write("swap.safetensors", file({ a: entry("U8", [4], 0, 4) }, 4));
  assert.equal([...await again.read("a", 0, 64)], Array(64).fill(6));
  await again.close();
});

test("S29: a sparse file of 5 GiB works through ranged reads", async () => {
  const big = 5 * 2 ** 30;
  const path = write("sparse.safetensors", file({ big: entry("U8", [big], 0, big), tail: entry("I32", [2], big, big + 8) }));
  const descriptor = openSync(path, "r+");
  const start = readFileSync(path).byteLength;
  ftruncateSync(descriptor, start + big + 8);
  writeSync(descriptor, Uint8Array.of(1, 2, 3), 0, 3, start + 2 ** 31 + 5);
  writeSync(descriptor, Uint8Array.of(4, 5), 0, 2, start + 2 ** 32 + 6);
  writeSync(descriptor, new Uint8Array(Int32Array.of(-7, 8).buffer), 0, 8, start + big);
  closeSync(descriptor);
  const opened = await SafetensorsFile.open(path);
  assert.equal([...await opened.read("big", 2 ** 31 + 4, 5)], [0, 1, 2, 3, 0]);
  assert.equal([...await opened.read("big", 2 ** 32 + 5, 4)], [0, 4, 5, 0]);
  assert.equal(new Int32Array((await opened.read("tail", 0, 8)).buffer), Int32Array.of(-7, 8));
  await opened.close();
  rmSync(path);
});

test("S31: a folder, a missing file and a device are refused at once", async () => {
  assert.match(await refusal(folder, () => SafetensorsFile.open(folder)), /folder, expected a file/);
  const missing = join(folder, "none.safetensors");
  assert.match(await refusal(missing, () => SafetensorsFile.open(missing)), /there is no such file/);
  if (process.platform !== "win32") assert.match(await refusal("/dev/zero", () => SafetensorsFile.open("/dev/zero")), /is a device/);
});

test("no refusal leaves a file open", async () => {
  const paths = [folder, write("bad1.safetensors", file("{")), write("bad2.safetensors", file("{}", 0, 9n))];
  const before = openFiles();
  for (const path of paths) await refusal(path, () => SafetensorsFile.open(path));
  assert.is(openFiles(), before);
});

const posix = process.platform === "win32" ? test.skip : test;

posix("S31: a pipe that nobody writes to is refused at once (POSIX systems)", async () => {
  const pipe = join(folder, "pipe.safetensors");
  execFileSync("mkfifo", [pipe]);
  assert.match(await refusal(pipe, () => SafetensorsFile.open(pipe)), /is a pipe, expected a file/);
});

posix("S31: a file without read permission is refused (POSIX systems)", async () => {
  const path = write("secret.safetensors", file("{}"));
  chmodSync(folder, 0o755);
  chmodSync(path, 0);
  const root = process.geteuid!() === 0;
  if (root) process.seteuid!(65534); // root may read everything, so be nobody for a moment
  try {
    assert.match(await refusal(path, () => SafetensorsFile.open(path)), /permission denied/);
  } finally {
    if (root) process.seteuid!(0);
  }
});

test("S32: NaN and infinities are data like any other", async () => {
  const numbers = new Uint8Array(Float32Array.of(NaN, Infinity, -Infinity, 1).buffer);
  const opened = await SafetensorsFile.open(write("nan.safetensors", file({ a: entry("F32", [4], 0, 16) }, numbers)));
  assert.equal(await opened.read("a", 0, 16), numbers);
  await opened.close();
});

test("read: parts of a tensor, into a buffer of the caller; ranges outside are the caller's mistake", async () => {
  const bytes = file({ a: entry("U8", [6], 0, 6) }, Uint8Array.of(1, 2, 3, 4, 5, 6));
  const opened = await SafetensorsFile.open(write("parts.safetensors", bytes));
  const into = new Uint8Array(8).fill(9);
  const part = await opened.read("a", 2, 3, into);
  assert.is(part.buffer, into.buffer);
  assert.equal([...into], [3, 4, 5, 9, 9, 9, 9, 9]);
  assert.is((await opened.read("a", 6, 0)).byteLength, 0);
  for (const [at, length] of [[0, 7], [-1, 2], [7, 0], [0.5, 1], [NaN, 1], [2 ** 53, 2 ** 53]] as const) {
    await rejects(() => opened.read("a", at, length), RangeError);
  }
  await rejects(() => opened.read("b", 0, 1), RangeError);
  await rejects(() => opened.read("a", 0, 6, new Uint8Array(5)), RangeError);
  await opened.close();
  await opened.close();
  await rejects(() => opened.read("a", 0, 1), ModelFileError);
});

async function rejects(call: () => Promise<unknown>, kind: new (...args: never[]) => Error): Promise<void> {
  const outcome = await call().then(() => "no error", (error: unknown) => error);
  assert.instance(outcome, kind, `${outcome}`);
}

test("writer: what is written is read back, aligned and in the same bytes whatever the order given", async () => {
  const path = join(folder, "written.safetensors");
  const tensors = goodTensors();
  await writeSafetensors(path, tensors, { format: "pt", note: "ünïcode \n" });
  const opened = await SafetensorsFile.open(path);
  assert.equal([...opened.metadata], [["format", "pt"], ["note", "ünïcode \n"]]);
  assert.is(opened.tensors.size, tensors.length);
  for (const { name, dtype, shape, data } of tensors) {
    const info = opened.tensors.get(name)!;
    assert.equal([info.name, info.dtype, info.shape, info.byteLength], [name, dtype, shape, data.byteLength]);
    assert.is(info.byteOffset % (shape.length === 0 || dtype === "F32" ? 4 : 1), 0);
    assert.equal(await opened.read(name, 0, info.byteLength), data);
  }
  await opened.close();
  const bytes = readFileSync(path);
  assert.is(bytes.readBigUInt64LE() % 8n, 0n);
  await writeSafetensors(path, tensors.reverse(), { format: "pt", note: "ünïcode \n" });
  assert.ok(bytes.equals(readFileSync(path)));
});

test("writer: tensors that make no file are refused, and a refused or failed write leaves nothing", async () => {
  const target = join(folder, "writer");
  mkdirSync(join(target, "taken.safetensors"), { recursive: true });
  const tensor = { name: "a", dtype: "F32", shape: [2], data: new Uint8Array(8) } as const;
  const fail = async (path: string, tensors: Parameters<typeof writeSafetensors>[1]): Promise<unknown> =>
    writeSafetensors(path, tensors).then(() => "no error", (error: unknown) => error);
  assert.match(String(await fail(join(target, "x"), [tensor, tensor])), /the name "a" is taken/);
  assert.match(String(await fail(join(target, "x"), [{ ...tensor, name: "__metadata__" }])), /is taken/);
  assert.match(String(await fail(join(target, "x"), [{ ...tensor, shape: [3] }])), /has 64 bits, needs 96/);
  const refused = await fail(join(target, "taken.safetensors"), [tensor]);
  assert.instance(refused, DawnlmError);
  assert.match(String(refused), /taken\.safetensors: cannot be written/);
  assert.instance(await fail(join(target, "none", "x"), [tensor]), DawnlmError);
  assert.equal(readdirSync(target), ["taken.safetensors"]);
});

test("mutations of a good file are read or refused, and never anything else", async () => {
  const path = join(folder, "mutant.safetensors");
  await writeSafetensors(path, goodTensors(), { format: "pt", "a\"b": "\\" });
  const good = readFileSync(path);
  const headerEnd = 8 + Number(good.readBigUInt64LE());
  const at = fc.oneof({ weight: 4, arbitrary: fc.nat(headerEnd - 1) }, fc.nat(good.byteLength - 1));
  const tokens = ["0", "-1", "9", "1e9", "1e400", "9007199254740993", ..."\"\\[]{},:\0", "null", "true", '"a":', '"F64"'];
  const mutation = fc.oneof(
    fc.tuple(fc.constant("replace"), at, fc.uint8Array({ minLength: 1, maxLength: 3 })),
    fc.tuple(fc.constant("replace"), at, fc.constantFrom(...tokens).map((token) => new TextEncoder().encode(token))),
    fc.tuple(fc.constant("insert"), at, fc.constantFrom(...tokens).map((token) => new TextEncoder().encode(token))),
    fc.tuple(fc.constant("remove"), at, fc.uint8Array({ minLength: 1, maxLength: 12 })),
    fc.tuple(fc.constant("end"), at, fc.constant(new Uint8Array(0))),
  );
  const counts = { read: 0, refused: 0 };
  await fc.assert(fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), fc.boolean(), async (mutations, mendLength) => {
    let bytes = Buffer.from(good);
    for (const [kind, position, data] of mutations) {
      const rest = kind === "insert" ? position : kind === "end" ? bytes.byteLength : position + data.byteLength;
      bytes = Buffer.concat([bytes.subarray(0, position), kind === "remove" ? new Uint8Array(0) : data, bytes.subarray(rest)]);
    }
    // Else nearly every insertion would stop at the length, before the JSON is looked at.
    if (mendLength && bytes.byteLength > good.byteLength - 8) {
      bytes.writeBigUInt64LE(BigInt(Math.max(0, bytes.byteLength - (good.byteLength - headerEnd) - 8)));
    }
    writeFileSync(path, bytes);
    let opened: SafetensorsFile;
    try {
      opened = await SafetensorsFile.open(path);
    } catch (error) {
      assert.instance(error, ModelFileError, `${error}`);
      counts.refused++;
      return;
    }
    await checkAccepted(opened, bytes);
    await opened.close();
    counts.read++;
  }), { numRuns: 3000 });
  assert.ok(counts.read > 50 && counts.refused > 1000, JSON.stringify(counts));
});

test("the bundled models are read to their last byte", async () => {
  const models = fileURLToPath(new URL("../../assets/models/", import.meta.url));
  for (const model of ["tiny-neox", "tiny-neox-draft", "tiny-qwen2"]) {
    const path = join(models, model, "model.safetensors");
    const opened = await SafetensorsFile.open(path);
    assert.equal([...opened.metadata], [["format", "pt"]]);
    assert.ok([...opened.tensors.values()].every(({ dtype }) => dtype === "F16"));
    await checkAccepted(opened, readFileSync(path));
    await opened.close();
  }
});

test.run();
