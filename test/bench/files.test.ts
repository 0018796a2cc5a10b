/** Reports are written whole or not at all, by one run at a time, and nowhere else than they should be. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ResultsFolder } from "../../bench/core/files.ts";
import { DawnlmError, UsageError } from "../../engine/errors.ts";

const test = suite("files");
let root: string;
test.before.each(() => { root = mkdtempSync(join(tmpdir(), "dawnlm-files-")); });
test.after.each(() => { rmSync(root, { recursive: true }); });

const refused = (run: () => unknown, type: typeof DawnlmError | typeof UsageError, exitCode: number, message: RegExp): void => {
  assert.throws(run, (error: DawnlmError) => error instanceof type && error.exitCode === exitCode && message.test(error.message));
};

test("a file appears under its name, replaces an older one, and nothing else is left", () => {
  const folder = ResultsFolder.open(join(root, "deep", "results"), "T");
  assert.is(folder.write("a.md", "one"), join(root, "deep", "results", "T", "a.md"));
  folder.write("a.md", "two");
  folder.release();
  assert.equal(readdirSync(folder.path), ["a.md"]);
  assert.is(readFileSync(join(folder.path, "a.md"), "utf8"), "two");
});

test("a failing write leaves the older file as it was, no temporary one, and exit code 1", () => {
  const folder = ResultsFolder.open(root, "T");
  mkdirSync(join(folder.path, "a.md"));
  refused(() => folder.write("a.md", "x"), DawnlmError, 1, /results cannot be written to .+a\.md: it is a folder/);
  folder.release();
  assert.equal(readdirSync(folder.path), ["a.md"]);
});

test("a path that goes through a file", () => {
  writeFileSync(join(root, "file"), "");
  refused(() => ResultsFolder.open(join(root, "file"), "T"), DawnlmError, 1, /a part of the path is a file/);
});

test("a link that leads out of the results folder is refused", () => {
  mkdirSync(join(root, "results"));
  mkdirSync(join(root, "elsewhere"));
  symlinkSync(join(root, "elsewhere"), join(root, "results", "T"));
  refused(() => ResultsFolder.open(join(root, "results"), "T"), UsageError, 2, /is a link that leads out of/);
  assert.equal(readdirSync(join(root, "elsewhere")), []);
});

test("the results folder itself may be a link", () => {
  mkdirSync(join(root, "elsewhere"));
  symlinkSync(join(root, "elsewhere"), join(root, "results"));
  const folder = ResultsFolder.open(join(root, "results"), "T");
  folder.write("a", "x");
  folder.release();
  assert.equal(readdirSync(join(root, "elsewhere", "T")), ["a"]);
});

test("a second run into the same folder is refused while the first is alive", () => {
  const folder = ResultsFolder.open(root, "T");
  refused(() => ResultsFolder.open(root, "T"), UsageError, 2, new RegExp(`another run \\(process ${process.pid} on ${hostname()}\\)`));
  folder.release();
  ResultsFolder.open(root, "T").release();
});

test("the lock of a process that is gone is taken over; one of another machine is not", async () => {
  const child = spawn(process.execPath, ["-e", ""]);
  await new Promise((resolve) => child.on("exit", resolve));
  mkdirSync(join(root, "T"));
  writeFileSync(join(root, "T", ".lock"), `${child.pid} ${hostname()}\n`);
  ResultsFolder.open(root, "T").release();
  writeFileSync(join(root, "T", ".lock"), `${child.pid} another-machine\n`);
  refused(() => ResultsFolder.open(root, "T"), UsageError, 2, /on another-machine\).+delete .+\.lock/);
});

test.run();
