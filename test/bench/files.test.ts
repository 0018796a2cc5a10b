/** Reports are written whole or not at all, by one run at a time, and nowhere else than they should be. */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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
  assert.equal(folder.write([["a.md", "one"], ["b.md", "b"]]), ["a.md", "b.md"].map((name) => join(root, "deep", "results", "T", name)));
  folder.write([["a.md", "two"]]);
  folder.release();
  assert.equal(readdirSync(folder.path), ["a.md", "b.md"]);
  assert.is(readFileSync(join(folder.path, "a.md"), "utf8"), "two");
});

test("a failing write leaves the older file as it was, no temporary one, and exit code 1", () => {
  const folder = ResultsFolder.open(root, "T");
  mkdirSync(join(folder.path, "a.md"));
  refused(() => folder.write([["a.md", "x"]]), DawnlmError, 1, /results cannot be written to .+a\.md: it is a folder/);
  folder.release();
  assert.equal(readdirSync(folder.path), ["a.md"]);
});

test("when one file of several cannot be written, none appears, and those of an earlier run stay together", () => {
  const folder = ResultsFolder.open(root, "T");
  folder.write([["a.md", "old"], ["b.md", "old"]]);
  const tooLong = "b".repeat(300);
  refused(() => folder.write([["a.md", "new"], [tooLong, "new"]]), DawnlmError, 1, /b+: the name is too long/);
  folder.release();
  assert.equal(readdirSync(folder.path), ["a.md", "b.md"]);
  assert.is(readFileSync(join(folder.path, "a.md"), "utf8"), "old");
});

/** Write a small and a large file in a process that may not write more than 2 KiB (4 blocks of 512 bytes) to any file. */
(process.platform === "win32" ? test.skip : test)("a disk that ends in the middle of a file: one line, exit code 1, the older files stay", () => {
  const folder = ResultsFolder.open(root, "T");
  folder.write([["a.md", "old"], ["b.md", "old"]]);
  folder.release();
  const script = `
    import { ResultsFolder } from ${JSON.stringify(new URL("../../bench/core/files.ts", import.meta.url).href)};
    try { ResultsFolder.open(${JSON.stringify(root)}, "T").write([["a.md", "new"], ["b.md", "x".repeat(100_000)]]); }
    catch (error) { console.log(error.exitCode, error.message); }`;
  const { stdout } = spawnSync("sh", ["-c", 'ulimit -f 4; exec "$0" "$@"', process.execPath, "--input-type=module", "-e", script], { encoding: "utf8" });
  assert.match(stdout, /^1 results cannot be written to .+b\.md: no file may grow that large here; .+\n$/);
  assert.equal(readdirSync(folder.path).sort(), [".lock", "a.md", "b.md"]);
  for (const name of ["a.md", "b.md"]) assert.is(readFileSync(join(folder.path, name), "utf8"), "old");
});

(process.platform === "win32" ? test.skip : test)("a folder that may not be written", () => {
  chmodSync(root, 0o555);
  const isRoot = process.getuid!() === 0;
  if (isRoot) process.seteuid!(65534); // root may write anywhere, so be somebody else for a moment
  try {
    refused(() => ResultsFolder.open(root, "T"), DawnlmError, 1, /results cannot be written to .+T: it may not be written; free it or give another --output-dir/);
  } finally {
    if (isRoot) process.seteuid!(0);
    chmodSync(root, 0o755);
  }
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
  folder.write([["a", "x"]]);
  folder.release();
  assert.equal(readdirSync(join(root, "elsewhere", "T")), ["a"]);
});

test("a second run into the same folder is refused while the first is alive", () => {
  const folder = ResultsFolder.open(root, "T");
  refused(() => ResultsFolder.open(root, "T"), UsageError, 2, new RegExp(`another run \\(process ${process.pid} on ${hostname()}\\)`));
  folder.release();
  ResultsFolder.open(root, "T").release();
});

test("so it is while another living process holds the lock", async () => {
  const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60000)"]);
  mkdirSync(join(root, "T"));
  writeFileSync(join(root, "T", ".lock"), `${child.pid} ${hostname()}\n`);
  try {
    refused(() => ResultsFolder.open(root, "T"), UsageError, 2, new RegExp(`process ${child.pid} on`));
  } finally {
    child.kill();
  }
});

test("an empty lock, left when the disk was full, stops nobody", () => {
  mkdirSync(join(root, "T"));
  writeFileSync(join(root, "T", ".lock"), "");
  ResultsFolder.open(root, "T").release();
  assert.equal(readdirSync(join(root, "T")), []);
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
