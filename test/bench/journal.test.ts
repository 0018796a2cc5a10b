/** What a journal keeps: round trips, torn lines, what it refuses, and a disk that fills up in the middle of a run. */

import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileJournal, JOURNAL_VERSION, NO_JOURNAL } from "../../bench/core/journal.ts";
import { DawnlmError, UsageError } from "../../engine/errors.ts";

const test = suite("journal");
let folder: string, path: string;
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), "dawnlm-journal-"));
  path = join(folder, "journal.jsonl");
});
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

const HEADER = { config: { experiment_name: "x", arms: { "none 量化": {} } }, started: "2026-01-02T03:04:05.678Z" };
const never = (): Promise<never> => Promise.reject(new Error("it was measured again"));

function refused(run: () => unknown, type: typeof DawnlmError | typeof UsageError, message: RegExp): void {
  assert.throws(run, (error: DawnlmError) => error instanceof type && message.test(error.message));
}

test("what was written down is there again: header, steps, their values, and how often it was taken up", async () => {
  const journal = FileJournal.create(path, HEADER), value = { ms: 0.1 + 0.2, texts: [[1, 2], []], none: null, 名: "量化\n\"" };
  assert.is(await journal.step("one", async () => value), value);
  await journal.step("two", async () => 2);
  journal.same("the model", { id: "a" });
  journal.close({ remove: false });
  const again = FileJournal.open(path);
  assert.equal([again.header, again.samples, again.has("one"), again.has("three")], [HEADER, 2, true, false]);
  assert.equal([await again.step("one", never), await again.step("two", never)], [value, 2]);
  assert.equal(again.resumed("2026-01-03"), ["2026-01-03"]);
  await again.step("three", async () => 3);
  again.close({ remove: false });
  const third = FileJournal.open(path);
  assert.equal(third.resumed("2026-01-04"), ["2026-01-03", "2026-01-04"]);
  assert.equal([third.samples, await third.step("three", never)], [3, 3]);
  third.close({ remove: true });
  assert.not.ok(existsSync(path));
});

test("values survive JSON unchanged, whatever they are made of", async () => {
  const journal = FileJournal.create(path, HEADER), values: unknown[] = [];
  fc.assert(fc.property(fc.jsonValue(), (value) => { values.push(JSON.parse(JSON.stringify(value))); }), { numRuns: 50, seed: 7 });
  for (const [i, value] of values.entries()) await journal.step(`step ${i}`, async () => value);
  journal.close({ remove: false });
  const again = FileJournal.open(path);
  for (const [i, value] of values.entries()) assert.equal(await again.step(`step ${i}`, never), value);
  again.close({ remove: false });
});

test("a step that fails is not written down", async () => {
  const journal = FileJournal.create(path, HEADER);
  await journal.step("one", () => Promise.reject(new Error("no"))).then(() => assert.unreachable(), () => {});
  assert.equal([journal.has("one"), journal.samples], [false, 0]);
  assert.is(await journal.step("one", async () => 1), 1);
  journal.close({ remove: false });
});

test("a last line that was cut off anywhere is dropped, and the next one stands on a line of its own", async () => {
  const journal = FileJournal.create(path, HEADER);
  await journal.step("one", async () => 1);
  const whole = statSync(path).size;
  await journal.step("two 二", async () => "zwölf");
  journal.close({ remove: false });
  const bytes = readFileSync(path);
  for (let cut = whole; cut < bytes.length; cut++) {
    writeFileSync(path, bytes.subarray(0, cut));
    const again = FileJournal.open(path);
    assert.is(statSync(path).size, whole, `cut at ${cut}`);
    assert.equal([again.samples, again.has("two 二")], [1, false]);
    await again.step("three", async () => 3);
    again.close({ remove: false });
    const third = FileJournal.open(path);
    assert.equal([third.samples, await third.step("one", never), await third.step("three", never)], [2, 1, 3]);
    third.close({ remove: false });
  }
});

test("no journal, another version, none at all: each refused in words, and left as it was", () => {
  const open = (): FileJournal => FileJournal.open(path);
  refused(open, UsageError, /journal\.jsonl: no such journal; give the folder of a run that ended early$/);
  for (const text of ["", "\n", "hello\n", "null\n", "5\n", '{"journalVersion":1}\n', '{"journalVersion":1,"header":{}',
    '{"kind":"dawnlm result"}\n']) {
    writeFileSync(path, text);
    refused(open, UsageError, /journal\.jsonl: is not a journal of `node bench\/run\.ts`$/);
    assert.is(readFileSync(path, "utf8"), text);
  }
  writeFileSync(path, `{"journalVersion":${JOURNAL_VERSION + 1},"header":{}}\n`);
  refused(open, UsageError, /is a journal of version 2, this program writes version 1: run the experiment anew$/);
  for (const line of ["null", "[]", "nonsense", '{"value":1}']) {
    writeFileSync(path, `{"journalVersion":${JOURNAL_VERSION},"header":{}}\n${line}\n`);
    refused(open, UsageError, /is not a journal/);
  }
  rmSync(path);
  mkdirSync(path);
  refused(open, UsageError, /journal\.jsonl: cannot be read$/);
});

test("a journal is never written over another, and a folder that is not there is told", () => {
  FileJournal.create(path, HEADER).close({ remove: false });
  refused(() => FileJournal.create(path, HEADER), DawnlmError, /cannot be written/);
  refused(() => FileJournal.create(join(folder, "none", "x"), HEADER), DawnlmError, /results cannot be written to .+none/);
});

test("what must stay the same is refused by name when it is not", () => {
  const journal = FileJournal.create(path, HEADER), model = { id: "a", revision: undefined, size: 3 };
  journal.same("the model", model);
  journal.same("the model", model);
  journal.same("the adapter", { vendor: "x" });
  journal.close({ remove: false });
  const again = FileJournal.open(path);
  again.same("the model", { size: 3, id: "a" });
  refused(() => { again.same("the model", { ...model, size: 4 }); }, UsageError,
    /journal\.jsonl: the model is not what it was when the run began, .+: run the experiment anew$/);
  refused(() => { again.same("the adapter", { vendor: "y" }); }, UsageError, /: the adapter is not what it was/);
  assert.is(again.samples, 0);
  again.close({ remove: false });
});

test("a run without files has a journal that keeps nothing", async () => {
  assert.is(await NO_JOURNAL.step("one", async () => 1), 1);
  assert.equal([NO_JOURNAL.has("one"), await NO_JOURNAL.step("one", async () => 2)], [false, 2]);
});

const JOURNAL = JSON.stringify(new URL("../../bench/core/journal.ts", import.meta.url).href);

/** Writes steps of a thousand letters until it cannot; prints the exit code and the message, then how many steps it has. */
const FILL = (at: string): string => `
  import { FileJournal } from ${JOURNAL};
  let journal = null;
  try {
    journal = FileJournal.create(${JSON.stringify(at)}, {});
    for (let i = 0; ; i++) await journal.step("step " + i, async () => "x".repeat(1000));
  } catch (error) { console.log(error.exitCode, error.message); console.log(journal?.samples ?? "none"); }`;

function filled(shell: string, at: string): { readonly message: string; readonly steps: number } {
  const { stdout, stderr } = spawnSync("sh", ["-c", `${shell}; exec "$0" "$@"`, process.execPath, "--input-type=module", "-e", FILL(at)],
    { encoding: "utf8" });
  const [message, steps] = stdout.trimEnd().split("\n");
  assert.ok(message !== undefined, stderr);
  return { message, steps: Number(steps) };
}

/** No file of a process may grow beyond 4 KiB (8 blocks of 512 bytes): the end of a disk, without one that is full. */
(process.platform === "win32" ? test.skip : test)("a file that may not grow: told with what to do, and what was written is there",
  async () => {
  const { message, steps } = filled("ulimit -f 8", path);
  assert.match(message, /^1 results cannot be written to .+journal\.jsonl: no file may grow that large here; free it or give another --output-dir$/);
  assert.ok(steps > 0, "some steps were written");
  const again = FileJournal.open(path);
  assert.is(again.samples, steps, "every step that was told to be written, and no half one");
  for (let i = 0; i < steps; i++) assert.is(await again.step(`step ${i}`, never), "x".repeat(1000));
  again.close({ remove: false });
});

/** A small disk of memory at `disk`; null where it may not be mounted. */
function mounted(disk: string, megabytes: number): (() => void) | null {
  mkdirSync(disk, { recursive: true });
  if (spawnSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", disk]).status !== 0) return null;
  return () => { spawnSync("umount", ["-l", disk]); };
}

const probe = mkdtempSync(join(tmpdir(), "dawnlm-mount-"));
const unmount = process.platform === "linux" ? mounted(probe, 1) : null;
unmount?.();
rmSync(probe, { recursive: true, force: true });

(unmount === null ? test.skip : test)("a disk that is full (needs the right to mount one): a run is not begun, or keeps what it has",
  async () => {
  const disk = join(folder, "disk"), small = mounted(disk, 8)!;
  try {
    refused(() => FileJournal.create(join(disk, "journal.jsonl"), {}), DawnlmError,
      /results cannot be written to .+: the disk is full; free it or give another --output-dir$/);
    assert.not.ok(existsSync(join(disk, "journal.jsonl")), "nothing is left behind");
  } finally {
    small();
  }
  const large = mounted(disk, 20)!;
  try {
    const at = join(disk, "journal.jsonl"), journal = FileJournal.create(at, {});
    await journal.step("one", async () => 1);
    // Another program takes the room: all of it, to the last byte.
    spawnSync("sh", ["-c", `cat /dev/zero > ${JSON.stringify(join(disk, "other"))}`]);
    let written = 1, message = "";
    try {
      for (let i = 0; i < 100; i++, written++) await journal.step(`step ${i}`, async () => "x".repeat(1000));
    } catch (error) {
      assert.instance(error, DawnlmError);
      ({ message } = error as Error);
    }
    assert.match(message, /journal\.jsonl: the disk is full; free it or give another --output-dir$/);
    assert.is(journal.samples, written);
    rmSync(join(disk, "other"));
    const again = FileJournal.open(at);
    assert.is(again.samples, written);
    assert.is(await again.step("more", async () => 5), 5);
    again.close({ remove: false });
    journal.close({ remove: false });
  } finally {
    large();
  }
});

test("a journal that somebody else appended half a line to is what it was before", () => {
  FileJournal.create(path, HEADER).close({ remove: false });
  const { size } = statSync(path);
  appendFileSync(path, '{"step":"x","va');
  FileJournal.open(path).close({ remove: false });
  assert.is(statSync(path).size, size);
  truncateSync(path, size - 1);
  refused(() => FileJournal.open(path), UsageError, /is not a journal/);
});

test.run();
