/**
 * Why we read safetensors ourselves: the npm package `safetensors` 0.0.1 beside our reader, on the same bytes. On a plain good file both
 * agree; the package throws on any file with `__metadata__` (all that PyTorch tools write) and accepts files that no reader should.
 * When a newer version passes the last tests, they fail, and the package is worth another look.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ModelFileError } from "../../engine/errors.ts";
import { SafetensorsFile } from "../../engine/safetensors.ts";
import { writeSafetensors } from "../../engine/safetensors_writer.ts";
import { entry, file, goodTensors } from "../support/safetensors_writer.ts";

/** What the package has; it ships no types. */
interface PackageFile {
  readonly metadata: Map<string, { readonly dtype: string; readonly shape: number[]; readonly data_offsets: number[] }>;
  getTensor(name: string): Uint8Array;
}
const { SafeTensor } = createRequire(import.meta.url)("safetensors") as { SafeTensor: new (bytes: Uint8Array) => PackageFile };

const folder = mkdtempSync(join(tmpdir(), "dawnlm-package-"));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** The package looks at the start of the underlying buffer, so it gets one of its own. */
const own = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);

async function weRefuse(bytes: Uint8Array, message: RegExp): Promise<void> {
  const path = join(folder, "case.safetensors");
  writeFileSync(path, bytes);
  const outcome = await SafetensorsFile.open(path).then(() => "no error", (error: unknown) => error);
  assert.instance(outcome, ModelFileError);
  assert.match(String(outcome), message);
}

test("both agree on a good file without metadata", async () => {
  const path = join(folder, "plain.safetensors");
  const tensors = goodTensors();
  await writeSafetensors(path, tensors);
  const theirs = new SafeTensor(own(readFileSync(path)));
  const ours = await SafetensorsFile.open(path);
  assert.equal([...theirs.metadata.keys()].sort(), [...ours.tensors.keys()].sort());
  for (const { name, dtype, shape, data } of tensors) {
    const info = ours.tensors.get(name)!;
    const found = theirs.metadata.get(name)!;
    assert.equal([found.dtype, found.shape, found.data_offsets], [dtype, shape, [info.byteOffset, info.byteOffset + info.byteLength]]);
    assert.equal(own(theirs.getTensor(name)), own(data));
    assert.equal(await ours.read(name, 0, info.byteLength), own(data));
  }
  await ours.close();
});

test("the package throws on a file with __metadata__, such as every bundled model; we read it", async () => {
  const path = fileURLToPath(new URL("../../assets/models/tiny-qwen2/model.safetensors", import.meta.url));
  assert.throws(() => new SafeTensor(own(readFileSync(path))), (error: unknown) => error instanceof TypeError);
  const ours = await SafetensorsFile.open(path);
  assert.is(ours.metadata.get("format"), "pt");
  await ours.close();
});

const a = entry("F32", [2], 0, 8);
for (const [what, bytes, message] of [
  ["overlapping tensors", file({ a, b: entry("F32", [2], 4, 12) }, 12), /overlaps/],
  ["a hole between tensors", file({ a, b: entry("F32", [2], 16, 24) }, 24), /hole/],
  ["a truncated file", file({ a }, 8).subarray(0, -3), /download incomplete/],
  ["bytes that belong to nothing", file({ a }, 20), /belong to nothing/],
  ["a shape that does not fit its bytes", file({ a: entry("F32", [3], 0, 8) }, 8), /takes 12 bytes/],
  ["negative offsets", file({ a: entry("F32", [2], -8, 0) }, 8), /data_offsets must be/],
  ["an unknown dtype", file({ a: entry("F128", [2], 0, 32) }, 32), /unknown dtype/],
] as const) {
  test(`the package accepts ${what}; we refuse`, async () => {
    const theirs = new SafeTensor(own(bytes));
    assert.instance(theirs.getTensor("a"), Uint8Array);
    await weRefuse(bytes, message);
  });
}

test("the package reads a view of a larger buffer from the wrong place", () => {
  const bytes = file({ a }, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  const larger = new Uint8Array(bytes.byteLength + 16);
  larger.set(bytes, 16);
  assert.throws(() => new SafeTensor(larger.subarray(16)));
});

test.run();
