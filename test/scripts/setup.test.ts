/** Setup and the launcher as processes, in throw-away folders with a `webgpu` package of our own: what they say, and how they end. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { missingPackages, runNode, runsTypeScript, withFolder, withScripts } from "../support/scripts.ts";

/** A `webgpu` package whose adapter is the expression `adapter`, after running `first`. */
const webgpu = (adapter: string, first = ""): string =>
  `export const globals = {};\nexport function create() { ${first} return { async requestAdapter() { return ${adapter}; } }; }\n`;
const GOOD = webgpu(`{ info: { description: "Test GPU" }, async requestDevice() { return { destroy() {} }; } }`);
/** TypeScript that prints its arguments and leaves with exit code 7. */
const ECHO = { "echo.ts": `const words: string[] = process.argv.slice(2);\nconsole.log(words.join("|"));\nprocess.exitCode = 7;\n` };
const SILENT = { code: 0, signal: null, stdout: "", stderr: "" };
const setup = (folder: string, ...args: string[]) => runNode(folder, ["scripts/setup.mjs", ...args]);

test("with all in place setup says nothing, hands arguments over and the exit code back", () => withScripts(GOOD, ECHO, async (folder) => {
  assert.equal(await setup(folder), SILENT);
  assert.equal(await setup(folder, "run", "echo.ts", "--a", "b c", ""), { code: 7, signal: null, stdout: "--a|b c|\n", stderr: "" });
}));

test("a noisy driver is no broken one", () => {
  const noisy = webgpu(
    `{ info: { vendor: "v" }, async requestDevice() { console.log("{ driver"); return { destroy() {} }; } }`,
    `console.log("Warning: reduced"); console.error("x".repeat(1e6));`,
  );
  return withScripts(noisy, {}, async (folder) => assert.equal(await setup(folder), SILENT));
});

test("a driver that crashes, throws or gives no device ends in one message", async () => {
  const cases = [
    [webgpu("null", `process.kill(process.pid, "SIGSEGV");`), /does not work on this machine: it crashed \(SIGSEGV\)/],
    [webgpu("null", "process.exit(3);"), /it crashed \(exit code 3\)/],
    [`throw new Error("libfoo.so.1 not found\\nmore");`, /does not work on this machine: libfoo\.so\.1 not found\n/],
    [webgpu(`{ info: {}, async requestDevice() { throw new Error("limits too high"); } }`), /this machine: limits too high/],
    [webgpu(`{ info: {}, async requestDevice() { process.on("exit", () => process.abort()); return { destroy() {} }; } }`), /it crashed/],
  ] as const;
  for (const [source, message] of cases) {
    await withScripts(source, ECHO, async (folder) => {
      const { code, stdout, stderr } = await setup(folder, "run", "echo.ts");
      assert.is(code, 1);
      assert.is(stdout, "", "the command is not run");
      assert.match(stderr, message);
      assert.not.match(stderr, /setup\.mjs:\d/, "no stack trace");
    });
  }
});

test("without an adapter a dry run prints the plan and changes nothing", () => withScripts(webgpu("null"), {}, async (folder) => {
  const { code, stderr } = await setup(folder, "--dry-run");
  if (process.platform === "linux") {
    assert.is(code, 0);
    assert.match(stderr, /^npm packages: in place\nNode: .*\nWebGPU adapter: none\nwould (run|ask you to run):\n\S/);
  } else {
    assert.is(code, 1);
    assert.match(stderr, /no WebGPU adapter found/);
  }
}));

test("a dry run tells what is there, and which packages are missing", () => withScripts(GOOD, {}, async (folder) => {
  assert.match((await setup(folder, "--dry-run")).stderr, /^npm packages: in place\nNode: .*node.*\nWebGPU adapter: Test GPU\n$/);
  await withScripts(GOOD, { "node_modules/webgpu/package.json": `{ "version": "0.9.0" }` }, async (other) => {
    const { stderr } = await setup(other, "--dry-run");
    assert.match(stderr, /^npm packages: 1 missing or out of date, would run: npm ci\nNode: .*\nWebGPU adapter: known once/);
  });
}));

test("wrong arguments are refused", () => withScripts(GOOD, {}, async (folder) => {
  for (const args of [["walk"], ["run"], ["--dry-run", "x"]]) {
    const { code, stderr } = await setup(folder, ...args);
    assert.is(code, 1);
    assert.match(stderr, /^usage: /);
  }
}));

test("the launcher runs bin/dawnlm.ts, and says so when the packages are missing", async () => {
  const args = ["bin/dawnlm.mjs", "generate", "a b"];
  await withScripts(GOOD, { "bin/dawnlm.ts": ECHO["echo.ts"] }, async (folder) => {
    assert.equal(await runNode(folder, args), { code: 7, signal: null, stdout: "generate|a b\n", stderr: "" });
  });
  await withScripts(GOOD, { "bin/dawnlm.ts": `import "not-installed";\n` }, async (folder) => {
    const stderr = "the npm packages of dawnlm are missing or out of date: run `npm ci` in its folder.\n";
    assert.equal(await runNode(folder, args), { code: 1, signal: null, stdout: "", stderr });
  });
});

/** Says how often a signal came, a while after the first. */
const PATIENT = `let count = 0;
const leave = (signal) => { console.log(signal, count); process.exit(3); };
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => { count++; setTimeout(leave, 200, signal); });
console.log("ready");
setInterval(() => {}, 1000);\n`;

if (process.platform === "win32") {
  test.skip("signals pass through: Windows has none");
} else {
  for (const way of ["replaced", "waiting for a child"]) {
    const files = { "patient.mjs": PATIENT, "deadly.mjs": `process.kill(process.pid, "SIGKILL");` };
    test(`signals pass through once, process ${way}`, () => withScripts(GOOD, files, async (folder) => {
      const first = way === "replaced" ? "" : "process.execve = undefined;";
      const become = (file: string) => ["-e", `${first} import("./scripts/node.mjs").then((m) => m.become(process.execPath, ["${file}"]))`];
      for (const signal of ["SIGINT", "SIGTERM"] as const) {
        let sent = false;
        const { code, stdout } = await runNode(folder, become("patient.mjs"), (text, pid) => {
          if (text.includes("ready") && !sent) sent = process.kill(pid, signal);
        });
        assert.is(stdout, `ready\n${signal} 1\n`);
        assert.is(code, 3);
      }
      assert.is((await runNode(folder, become("deadly.mjs"))).signal, "SIGKILL");
    }));
  }
}

test("which versions of Node run TypeScript", () => {
  for (const version of ["22.18.0", "22.23.3", "23.6.0", "24.0.0", "26.10.0"]) assert.ok(runsTypeScript(version), version);
  for (const version of ["18.20.0", "20.20.2", "22.17.1", "23.5.0"]) assert.not(runsTypeScript(version), version);
});

test("packages are missing when they are absent, of another version, or unreadable; optional ones never", () => {
  const lock = { packages: {
    "": { version: "9" },
    "node_modules/good": { version: "1.0.0" },
    "node_modules/@a/absent": { version: "1.0.0" },
    "node_modules/old": { version: "2.0.0" },
    "node_modules/good/node_modules/old": { version: "1.0.0" },
    "node_modules/torn": { version: "1.0.0" },
    "node_modules/other-platform": { version: "1.0.0", optional: true },
  } };
  const version = (text: string): string => JSON.stringify({ version: text });
  return withFolder({
    "package-lock.json": JSON.stringify(lock),
    "node_modules/good/package.json": version("1.0.0"),
    "node_modules/old/package.json": version("1.0.0"),
    "node_modules/good/node_modules/old/package.json": version("1.0.0"),
    "node_modules/torn/package.json": "{",
  }, (folder) => assert.equal(missingPackages(folder), ["@a/absent", "old", "torn"]));
});

test.run();
