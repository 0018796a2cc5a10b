/** Every run has a folder of its own, and only there does it write. */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RunFolder } from "../../bench/core/run_folder.ts";
import { DawnlmError, UsageError } from "../../engine/errors.ts";

const test = suite("run folder");
let root: string;
test.before.each(() => { root = mkdtempSync(join(tmpdir(), "dawnlm-runs-")); });
test.after.each(() => { rmSync(root, { recursive: true, force: true }); });

const WHEN = new Date("2026-03-04T05:06:07.891Z");
const create = (at = root, name = "量化 x".replace(" ", "-")): RunFolder => RunFolder.create(at, "combos", name, WHEN);

function refused(run: () => unknown, type: typeof DawnlmError | typeof UsageError, message: RegExp): void {
  assert.throws(run, (error: DawnlmError) => error instanceof type && message.test(error.message));
}

test("runs of the same second and name have folders of their own; none takes the place of another", () => {
  const folders = Array.from({ length: 12 }, () => create());
  assert.is(folders[0]!.path, join(root, "combos", "runs", "2026-03-04T05-06-07-量化-x"));
  assert.is(folders[1]!.path, join(root, "combos", "runs", "2026-03-04T05-06-07-量化-x-2"));
  assert.is(new Set(folders.map(({ path }) => path)).size, 12);
  for (const [i, folder] of folders.entries()) folder.write([["result.json", String(i)]]);
  for (const [i, folder] of folders.entries()) {
    assert.is(readFileSync(join(folder.path, "result.json"), "utf8"), String(i));
    folder.release();
    assert.equal(readdirSync(folder.path), ["result.json"]);
  }
});

test("names may have a folder in front; all files appear, or none", () => {
  const folder = create();
  assert.equal([folder.hasResult(), folder.hasJournal()], [false, false]);
  const paths = folder.write([["result.json", "{}"], ["pictures/a.svg", "<svg/>"], ["pictures/b.png", new Uint8Array([1, 2])]]);
  assert.equal(paths, ["result.json", "pictures/a.svg", "pictures/b.png"].map((name) => join(folder.path, name)));
  assert.equal([readdirSync(join(folder.path, "pictures")), folder.hasResult()], [["a.svg", "b.png"], true]);
  writeFileSync(folder.journal, "");
  assert.is(folder.hasJournal(), true);
  refused(() => folder.write([["result.json", "new"], [`pictures/${"x".repeat(300)}.svg`, ""]]), DawnlmError, /the name is too long/);
  assert.is(readFileSync(join(folder.path, "result.json"), "utf8"), "{}");
  refused(() => folder.write([["result.json/a.svg", ""]]), DawnlmError, /results cannot be written to .+: a part of the path is a file/);
});

test("what is removed leaves nothing behind, and nothing of another run goes with it", () => {
  const folder = create();
  folder.write([["pictures/a.svg", ""]]);
  folder.remove();
  assert.equal(readdirSync(root), []);
  const [one, two] = [create(), create()];
  one.remove();
  assert.equal(readdirSync(join(root, "combos", "runs")), ["2026-03-04T05-06-07-量化-x-2"]);
  writeFileSync(join(root, "combos", "basic_report.md"), "of an earlier run");
  two.remove();
  assert.equal([readdirSync(root), readdirSync(join(root, "combos"))], [["combos"], ["basic_report.md"]]);
});

(process.platform === "win32" ? test.skip : test)("a link that leads out is refused, and nothing is made behind it", () => {
  const [inside, outside] = [join(root, "results"), join(root, "elsewhere")];
  mkdirSync(inside);
  mkdirSync(outside);
  symlinkSync(outside, join(inside, "combos"));
  refused(() => create(inside), UsageError, /results\/combos: is a link that leads out of .+results; remove it or give another --output-dir$/);
  assert.equal(readdirSync(outside), []);
  rmSync(join(inside, "combos"));
  mkdirSync(join(inside, "combos"));
  symlinkSync(outside, join(inside, "combos", "runs"));
  refused(() => create(inside), UsageError, /results\/combos\/runs: is a link/);
  assert.equal(readdirSync(outside), []);
  // Where all results lie is the user's own choice.
  symlinkSync(outside, join(root, "link"));
  assert.ok(existsSync(create(join(root, "link")).path));
});

test("a place that cannot be written is told before anything is measured", () => {
  writeFileSync(join(root, "combos"), "a file");
  refused(() => create(), DawnlmError, /results cannot be written to .+combos: a part of the path is a file; free it or give another --output-dir$/);
});

test("while a run writes there, no other takes it up; one whose process is gone can be taken up", () => {
  const folder = create(), other = new RunFolder(folder.path);
  refused(() => { other.hold(); }, UsageError, new RegExp(`another run \\(process ${process.pid} on .+\\) is writing`));
  other.release(); // it holds nothing, so it lets nothing go
  refused(() => { other.hold(); }, UsageError, /another run/);
  folder.release();
  other.hold();
  other.release();
  writeFileSync(join(folder.path, ".lock"), `999999999 ${hostname()}\n`);
  other.hold();
  other.release();
  assert.equal(readdirSync(folder.path), []);
});

test("a folder may be named from within", () => {
  const folder = create(), here = process.cwd();
  folder.release();
  process.chdir(folder.path);
  try {
    const same = new RunFolder(".");
    same.hold();
    assert.equal([readdirSync("."), readdirSync("..").length], [[".lock"], 1]);
    same.release();
  } finally {
    process.chdir(here);
  }
});

test.run();
