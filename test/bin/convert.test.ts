/** `dawnlm convert` as a shell runs it: its one line, its JSON, and what it refuses with which exit code. No GPU is used. */

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { dawnlm } from "../support/command.ts";
import { GOLDENS, quantizedFolder } from "../support/quantized.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-convert-command-"));
test.after(() => rmSync(temporary, { recursive: true, force: true }));
const source = join(GOLDENS, "neox-parallel");
const out = (name: string): string => join(temporary, name);

test("one line says what was written", async () => {
  const { code, stdout, stderr } = await dawnlm(["convert", source, "--weights", "nf4", "--out", out("nf4")]);
  assert.is(code, 0, stderr);
  assert.is(stdout, `${out("nf4")}: 8 matrices in nf4, 1 file, 0.28 MB before, 0.09 MB now\n`);
  assert.is(stderr, "");
  assert.equal(readdirSync(out("nf4")).sort(), ["config.json", "model.safetensors"]);
});

test("--json says it in numbers", async () => {
  const { code, stdout } = await dawnlm(["convert", source, "--weights", "bf16", "--out", out("bf16"), "--json"]);
  assert.is(code, 0);
  const { bytesBefore, bytesAfter, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  assert.equal(rest, { model: "neox-parallel", revision: null, format: "bf16", out: out("bf16"), files: ["model.safetensors"], matrices: 0, weights: 0 });
  assert.is(bytesBefore, 2 * (bytesAfter as number));
});

const REFUSED: readonly [name: string, args: readonly string[], code: number, message: RegExp][] = [
  ["no format", [source, "--out", out("x")], 2, /required option '--weights <format>' not specified/],
  ["no folder to write", [source, "--weights", "nf4"], 2, /required option '--out <folder>' not specified/],
  ["an unknown format", [source, "--weights", "nf5", "--out", out("x")], 2, /'nf5' is invalid\. Allowed choices are f32, f16, bf16, int8, nf4, nf4-double, fp4, fp4-double/],
  ["no model", ["--weights", "nf4", "--out", out("x")], 2, /missing required argument 'model'/],
  ["random weights", ["random:pythia-70m", "--weights", "nf4", "--out", out("x")], 2, /random:pythia-70m has no weights in files/],
  ["a model that is not there", ["./no/such", "--weights", "nf4", "--out", out("x")], 2, /there is no folder \.\/no\/such/],
  ["a folder that is in use", [source, "--weights", "nf4", "--out", source], 2, /is not empty/],
  ["what is quantized already", [quantizedFolder("neox-int8"), "--weights", "nf4", "--out", out("x")], 2, /is quantized already \(bitsandbytes\)/],
  ["a folder without a model", [temporary, "--weights", "nf4", "--out", out("x")], 3, /config\.json: expected the configuration of a Hugging Face checkpoint, found no such file/],
];

for (const [name, args, expected, message] of REFUSED) {
  test(`refused: ${name}`, async () => {
    const { code, stdout, stderr } = await dawnlm(["convert", ...args]);
    assert.is(code, expected, stderr);
    assert.match(stderr, /^dawnlm: [^\n]+\n$/);
    assert.match(stderr.trimEnd(), message);
    assert.is(stdout, "");
    assert.equal(readdirSync(temporary).filter((entry) => entry !== "nf4" && entry !== "bf16"), []);
  });
}

test.run();
