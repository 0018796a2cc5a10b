/** The runner, on folders of small test files that fail, hang, crash, forget to run or skip: none of them may pass for success. */

import { existsSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { findTests, inParallel, judge } from "./support/runner.ts";
import { type Ended, runNode, withFolder } from "./support/scripts.ts";

const RUNNER = fileURLToPath(new URL("run.ts", import.meta.url));
const MODULES = fileURLToPath(new URL("../node_modules", import.meta.url));

/** A test file: uvu, then `body`. */
const file = (body: string): string => `import { test } from "uvu";\nimport * as assert from "uvu/assert";\n${body}\n`;
const PASSES = file(`test("one", () => {});\ntest("two", () => assert.ok(true));\ntest.run();`);

/** Put `files` into a folder of tests that has our packages beside it. */
function withTests<T>(files: Record<string, string>, use: (folder: string) => Promise<T>): Promise<T> {
  return withFolder(Object.fromEntries(Object.entries(files).map(([path, text]) => [`test/${path}`, text])), (root) => {
    symlinkSync(MODULES, join(root, "node_modules"), "junction");
    return use(join(root, "test"));
  });
}

/** Run the runner over `files`. */
function runner(files: Record<string, string>, ...args: string[]): Promise<Ended & { readonly last: string | undefined }> {
  return withTests(files, async (folder) => {
    const ended = await runNode(folder, [RUNNER, "--folder", folder, ...args]);
    return { ...ended, last: ended.stdout.trimEnd().split("\n").at(-1) };
  });
}

test("files that pass are one line each, and the last line counts", async () => {
  const { code, stdout, last } = await runner({ "a.test.ts": PASSES, "deep/b.gpu.test.ts": PASSES, "support/helper.ts": "nonsense(" });
  assert.match(stdout, /^ok {3}a\.test\.ts +2 passed, \d+\.\d s\nok {3}deep\/b\.gpu\.test\.ts +2 passed, \d+\.\d s\n4 passed/);
  assert.is(code, 0);
  assert.is(last, "4 passed, 0 failed, 0 skipped");
});

test("skipped tests are counted and named, in suites too", async () => {
  const source = `import { suite, test } from "uvu";\nconst other = suite("other");\nother("one", () => {});
test.skip("two: no such device", () => {});\nother.skip("three: too slow", () => {});\ntest.run();\nother.run();`;
  const { code, stdout, last } = await runner({ "a.test.ts": source });
  assert.match(stdout, /1 passed, 2 skipped, .*\n {5}skipped: two: no such device\n {5}skipped: three: too slow\n/);
  assert.is(last, "1 passed, 0 failed, 2 skipped");
  assert.is(code, 0);
});

const ONE = `test("one", () => {});\ntest.run();`;
const LOOKALIKE = `console.log("  Total:     9\\n  Passed:    9\\n  Skipped:   0\\n  Duration:  1ms\\n");`;
const LATE_REJECTION = `test("one", () => { setTimeout(() => Promise.reject(new Error("late")), 50); });`;

/** [what the file does, the file, what the runner says of it, tests passed] */
const FAULTS = [
  ["fails", `test("good", () => {});\ntest("bad", () => assert.is(1, 2));\ntest.run();`, /FAIL a\.test\.ts +1 passed, 1 failed, [^]*"bad"/, 1],
  ["forgets test.run()", `test("one", () => {});`, /ended without uvu's summary/, 0],
  ["has no tests", "test.run();", /it has no tests/, 0],
  ["throws on import", `throw new Error("at once");`, /exit code 1\n[^]*at once/, 0],
  ["cannot be parsed", "const = ;", /exit code 1\n[^]*SyntaxError/, 0],
  ["crashes", `test("one", () => process.abort());\ntest.run();`, /ended by SIGABRT/, 0],
  ["leaves in the middle with exit code 0", `test("one", () => process.exit(0));\ntest.run();`, /FAIL/, 0],
  ["waits for what never comes", `test("one", () => new Promise(() => {}));\ntest.run();`, /Exiting early/, 0],
  ["crashes after its summary", `${ONE}\nprocess.on("exit", () => process.abort());`, /ended by SIGABRT after its last test/, 1],
  ["rejects unhandled", `${LATE_REJECTION}\ntest.run();`, /exit code 1 after its last test\n[^]*late/, 1],
  ["throws in a before hook", `test.before(() => { throw new Error("early"); });\n${ONE}`, /FAIL/, 0],
  ["prints another's summary first", `${LOOKALIKE}\ntest("bad", () => assert.unreachable());\ntest.run();`, /FAIL/, 0],
] as const;

for (const [does, body, says, passed] of FAULTS) {
  if (process.platform === "win32" && /SIGABRT/.test(says.source)) {
    test.skip(`a file that ${does}: Windows has no signals`);
    continue;
  }
  test(`a file that ${does}`, async () => {
    const { code, stdout, last } = await runner({ "a.test.ts": file(body) });
    assert.match(stdout, says);
    assert.is(last, `${passed} passed, 1 failed, 0 skipped`);
    assert.is(code, 1);
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

/** How long it takes, in ms, until a process that was not stopped gives itself away by the file `late`; that it runs shows in `begun`. */
const LATE = 2000;
const CHILD = `const fs = require("fs"); fs.writeFileSync("begun", ""); setTimeout(() => fs.writeFileSync("late", ""), ${LATE - 300});`;
/** A test file that never ends, and starts a process besides. */
const HANGS = file(`import { spawn } from "node:child_process";
spawn(process.execPath, ["-e", ${JSON.stringify(CHILD)}], { stdio: "inherit" });
test("one", () => new Promise((resolve) => setTimeout(resolve, 60_000)));
test.run();`);

const HANGING = { "a.test.ts": HANGS, "b.test.ts": PASSES };
test("a file that hangs is stopped with what it started, and the others run on", () => withTests(HANGING, async (folder) => {
  const { code, stdout } = await runNode(folder, [RUNNER, "--folder", folder, "--timeout", "1.2"]);
  assert.match(stdout, /FAIL a\.test\.ts +0 passed, 1 failed, .*: it took longer than 1\.2 s and was stopped/);
  assert.match(stdout, /\n2 passed, 1 failed, 0 skipped\n$/);
  assert.is(code, 1);
  if (process.platform === "win32") return;
  assert.ok(existsSync(join(folder, "begun")));
  await pause(LATE);
  assert.not(existsSync(join(folder, "late")));
}));

if (process.platform === "win32") {
  test.skip("Ctrl-C: Windows has no signals to send");
} else {
  test("Ctrl-C stops the runner, the files it runs and what they started", async () => {
    await withTests({ "a.test.ts": PASSES, "b.gpu.test.ts": HANGS }, async (folder) => {
      const { code, stdout } = await runNode(folder, [RUNNER, "--folder", folder], async (_, pid) => {
        while (!existsSync(join(folder, "begun"))) await pause(20);
        process.kill(pid, "SIGINT");
      });
      assert.is(code, 130);
      assert.match(stdout, /\nstopped before the tests were done\n$/);
      await pause(LATE);
      assert.not(existsSync(join(folder, "late")));
    });
  });
}

test("filters, --list, and arguments that make no sense", async () => {
  const files = { "engine/a.test.ts": PASSES, "kernels/b.test.ts": "not even TypeScript" };
  assert.is((await runner(files, "engine")).last, "2 passed, 0 failed, 0 skipped");
  assert.is((await runner(files, "--list")).stdout, "engine/a.test.ts\nkernels/b.test.ts\n");
  const none = await runner(files, "models", "bench");
  assert.match(none.stdout, /^no test file named like models, bench in .*\n0 passed, 0 failed, 0 skipped\n$/);
  assert.is(none.code, 1);
  for (const wrong of [["--watch"], ["--timeout", "soon"], ["--timeout", "-1"]]) {
    const { code, stderr } = await runner(files, ...wrong);
    assert.is(code, 2);
    assert.match(stderr, /usage: node test\/run\.ts/);
  }
});

const NAMES = { "b/x.test.ts": "", "a.gpu.test.ts": "", "a.test.js": "", "test.ts": "" };
test("files are found by their ending, sorted", () => withFolder(NAMES, (folder) => {
  assert.equal(findTests(folder, []), ["a.gpu.test.ts", "b/x.test.ts"]);
  assert.equal(findTests(folder, ["gpu", "y"]), ["a.gpu.test.ts"]);
}));

test("a summary is read in colour and with Windows' line ends", () => {
  const summary = "\u001b[32m  (2 / 3)\n\u001b[39m\r\n  Total:     3\u001b[31m\r\n  Passed:    2\u001b[39m\r\n"
    + "  Skipped:   \u001b[33m1\u001b[39m\r\n  Duration:  5.00ms\r\n\r\n";
  assert.equal(judge(summary, "exit code 1"), { passed: 2, failed: 1, skipped: 1, skippedNames: [], fault: null });
});

test("never more at a time than asked, each once", async () => {
  let [now, most] = [0, 0];
  const done: number[] = [];
  await inParallel([1, 2, 3, 4, 5], 2, async (item) => {
    most = Math.max(most, ++now);
    await pause(5);
    now--;
    done.push(item);
  });
  assert.is(most, 2);
  assert.equal(done.sort(), [1, 2, 3, 4, 5]);
});

test.run();
