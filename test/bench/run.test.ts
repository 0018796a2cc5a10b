/**
 * The command as a process, with a stand-in for the model: flags, files, what it prints, exit codes and signals. Nothing here needs a GPU.
 */

import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { FakeOptions } from "../support/fake_llm.ts";

const COMMAND = fileURLToPath(new URL("../support/fake_bench.ts", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SMALL = join(ROOT, "config/PagedAttention/pagedattention_small_default.yaml");

const test = suite("bench/run.ts");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-run-")); });
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

interface Ended { code: number | null; signal: string | null; stdout: string; stderr: string }

/** Run in the folder of the test. */
function bench(args: readonly string[], fake: FakeOptions = {}): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, ...args], { cwd: folder, env: { ...process.env, FAKE: JSON.stringify(fake) }, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "", stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => { stdout += text; });
  child.stderr.setEncoding("utf8").on("data", (text: string) => { stderr += text; });
  return new Promise((resolve) => child.on("close", (code, signal) => { resolve({ code, signal, stdout, stderr }); }));
}

const reports = (at = "results"): string[] => (existsSync(join(folder, at, "PagedAttention")) ? readdirSync(join(folder, at, "PagedAttention")).sort() : []);
const json = (name: string, at = "results"): any => JSON.parse(readFileSync(join(folder, at, "PagedAttention", name), "utf8"));
const QUICK = ["--max-tokens", "4", "--warmup-iterations", "0", "--test-iterations", "5"];
const ALL = ["basic_report.json", "basic_report.md", "comparison_experiment_small_default.md", "optimized_report.json", "optimized_report.md"];

test("the issue's line, from the folder of the project, reads its config through the link", () => {
  assert.ok(existsSync(join(ROOT, "config/PagedAttention/pagedattention_small_default.yaml")));
  assert.is(readFileSync(SMALL, "utf8"), readFileSync(join(ROOT, "configs/PagedAttention/pagedattention_small_default.yaml"), "utf8"));
});

test("a run prints its table and says where the reports are; they are all there and nothing else", async () => {
  const { code, stdout, stderr } = await bench(["--config", SMALL, ...QUICK]);
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  assert.equal(reports(), ALL);
  assert.match(stdout, /tiny-neox on a stand-in \(software adapter\), 8 prompts, medians over 5 iterations/);
  assert.match(stdout, /│ TTFT +│ ms/);
  assert.match(stdout, /Correctness: all 8 texts are the same in both arms/);
  const last = stdout.trimEnd().split("\n").slice(-5).map((line) => line.trim()).sort();
  assert.equal(last, ALL.map((name) => `results/PagedAttention/${name}`));
  assert.is(json("basic_report.json").status, "complete");
});

test("flags with hyphens and underscores win over the file", async () => {
  const { code, stderr } = await bench([
    "--technique", "PagedAttention", "--batch_level", "small", "--experiment_name=accuracy_test", "--max_tokens", "3", "--temperature", "0.5", "--top_p=0.5", "--batch-size", "2",
    "--num_prompts", "3", "--test-iterations", "2", "--warmup_iterations", "1", "--output_dir", "out", "--seed", "9", "--model", "tiny-qwen2", "--adapter", "software",
  ]);
  assert.is(code, 0, stderr);
  assert.ok(reports("out").includes("comparison_experiment_small_accuracy_test.md"));
  const { config, configOrigins } = json("optimized_report.json", "out");
  assert.equal([config.max_tokens, config.temperature, config.top_p, config.batch_size, config.num_prompts, config.test_iterations, config.warmup_iterations, config.seed, config.model, config.adapter],
    [3, 0.5, 0.5, 2, 3, 2, 1, 9, "tiny-qwen2", "software"]);
  assert.equal([configOrigins.seed, configOrigins.block_size], ["flag", "file"]);
});

test("--method writes that report alone", async () => {
  assert.is((await bench(["--config", SMALL, ...QUICK, "--method", "basic"])).code, 0);
  assert.equal(reports(), ["basic_report.json", "basic_report.md"]);
});

test("--no-save writes nothing", async () => {
  const { code, stdout } = await bench(["--config", SMALL, ...QUICK, "--no-save"]);
  assert.is(code, 0);
  assert.equal(readdirSync(folder), []);
  assert.not.match(stdout, /Reports/);
});

test("--prompts and --prompts-file bring their own text, and as many as there are", async () => {
  assert.is((await bench(["--config", SMALL, ...QUICK, "--prompts", "One two", "Three"])).code, 0);
  assert.equal(json("basic_report.json").prompts.texts, ["One two", "Three"]);
  writeFileSync(join(folder, "p.txt"), "a\nb\nc\n");
  assert.is((await bench(["--config", SMALL, ...QUICK, "--prompts-file", "p.txt", "--num-prompts", "3"])).code, 0);
  assert.equal(json("basic_report.json").prompts.texts, ["a", "b", "c"]);
});

test("--temperature 0 alone is enough for greedy", async () => {
  assert.is((await bench(["--config", SMALL, ...QUICK, "--temperature", "0"])).code, 0);
  assert.equal([json("basic_report.json").config.top_p, json("basic_report.json").configOrigins.top_p], [1, "follows temperature"]);
});

test("usage errors: one line each, exit code 2, nothing written, no stack trace", async () => {
  writeFileSync(join(folder, "bad.yaml"), "experiment_name: x\nseeed: 1\nmax_tokens: 0\n");
  const cases: [string[], RegExp][] = [
    [["--confg", SMALL], /^dawnlm: unknown option '--confg'\n\(Did you mean --config\?\)\n$/],
    [["--config"], /^dawnlm: option '--config <file>' argument missing\n$/],
    [["--config", SMALL, "--config", SMALL], /^dawnlm: .*given twice\.\n$/],
    [["--config", SMALL, "stray"], /^dawnlm: too many arguments.*\n$/],
    [["--config", "none.yaml"], /^dawnlm: none\.yaml: no such file\n$/],
    [["--config", "bad.yaml"], /^dawnlm: bad\.yaml:2:1 {2}seeed: unknown key; did you mean seed\?\ndawnlm: bad\.yaml:3:13 {2}max_tokens: expected .+\n$/],
    [["--config", SMALL, "--max-tokens", "0x10"], /^dawnlm: --max-tokens: expected a whole number from 1 to 65536, got "0x10" \(string\)\n$/],
    [["--config", SMALL, "--temperature", "nan"], /^dawnlm: --temperature: .+got "nan" \(string\)\n$/],
    [["--config", SMALL, "--device", "0", "1"], /^dawnlm: --device: .+one device runs at a time.+\n$/],
    [["--config", SMALL, "--output-dir", "../x"], /^dawnlm: --output-dir: .+\n$/],
    [["--config", SMALL, "--prompts-file", "none.txt"], /^dawnlm: prompts_file none\.txt: no such file\n$/],
  ];
  await Promise.all(cases.map(async ([args, message]) => {
    const { code, stdout, stderr } = await bench(args);
    assert.is(code, 2, args.join(" "));
    assert.is(stdout, "");
    assert.match(stderr, message);
  }));
  assert.equal(readdirSync(folder), ["bad.yaml"]);
});

test("--help names every flag and leaves with 0", async () => {
  const { code, stdout } = await bench(["--help"]);
  assert.is(code, 0);
  for (const flag of [
    "config", "technique", "batch-level", "experiment-name", "method", "max-tokens", "temperature", "top-p", "batch-size", "num-prompts", "test-iterations",
    "warmup-iterations", "output-dir", "no-save", "prompts", "prompts-file", "device", "model", "seed", "adapter", "debug",
  ]) assert.match(stdout, new RegExp(`--${flag}\\b`));
});

test("prompts that do not fit the context are refused before they run", async () => {
  const { code, stderr } = await bench(["--config", SMALL, "--max-tokens", "500"]);
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: the longest prompt has \d+ tokens; with .*500 it needs \d+, but a sequence has room for 512: .+\n$/);
  assert.equal(reports(), []);
});

test("a run that shows nothing about paging is written as invalid and leaves with 5", async () => {
  const { code, stdout } = await bench(["--config", SMALL, ...QUICK], { reserved: 512 });
  assert.is(code, 5);
  assert.match(stdout, /INVALID: .+paging saved nothing/);
  assert.equal(reports(), ALL);
  assert.is(json("optimized_report.json").status, "invalid");
});

test("results that cannot be written: told before anything is measured, exit code 1", async () => {
  writeFileSync(join(folder, "results"), "a file");
  const { code, stdout, stderr } = await bench(["--config", SMALL, ...QUICK]);
  assert.is(code, 1);
  assert.is(stdout, "");
  assert.match(stderr, /^dawnlm: results cannot be written to results\/PagedAttention: a part of the path is a file.+\n$/);
});

(process.getuid?.() === 0 ? test.skip : test)("a read-only folder (root writes anywhere)", async () => {
  mkdirSync(join(folder, "ro"));
  chmodSync(join(folder, "ro"), 0o555);
  const { code, stderr } = await bench(["--config", SMALL, ...QUICK, "--output-dir", "ro"]);
  assert.is(code, 1);
  assert.match(stderr, /^dawnlm: results cannot be written to ro\/PagedAttention: it may not be written.+\n$/);
});

test("two runs into one folder: the second is refused, the first is not disturbed", async () => {
  const first = bench(["--config", SMALL, "--max-tokens", "8", "--warmup-iterations", "0"], { stepMs: 20 });
  while (!existsSync(join(folder, "results/PagedAttention/.lock"))) await new Promise((resolve) => setTimeout(resolve, 10));
  const second = await bench(["--config", SMALL, ...QUICK]);
  assert.is(second.code, 2);
  assert.match(second.stderr, /^dawnlm: results\/PagedAttention: another run \(process \d+ on .+\) is writing its results there/);
  assert.is((await first).code, 0);
  assert.equal(reports(), ALL);
});

/** Send SIGINT once the lock shows that the run has begun, `after` ms later. */
async function interrupted(args: readonly string[], fake: FakeOptions, after: number, signals: readonly NodeJS.Signals[] = ["SIGINT"]): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, "--config", SMALL, ...args], { cwd: folder, env: { ...process.env, FAKE: JSON.stringify(fake) } });
  let stdout = "", stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => { stdout += text; });
  child.stderr.setEncoding("utf8").on("data", (text: string) => { stderr += text; });
  const ended = new Promise<Ended>((resolve) => child.on("close", (code, signal) => { resolve({ code, signal, stdout, stderr }); }));
  while (!existsSync(join(folder, "results/PagedAttention/.lock"))) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, after));
  for (const signal of signals) {
    child.kill(signal);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return ended;
}

test("Ctrl-C before anything was measured: no report, exit code 130", async () => {
  const { code, stderr } = await interrupted(["--max-tokens", "50"], { stepMs: 20 }, 100);
  assert.is(code, 130, stderr);
  assert.match(stderr, /interrupted before the first iteration was finished; no report was written/);
  assert.equal(reports(), []);
});

test("Ctrl-C later: finished iterations are reported as interrupted, exit code 130, and the lock is gone", async () => {
  const { code, stdout, stderr } = await interrupted(["--warmup-iterations", "0", "--max-tokens", "2", "--test-iterations", "500"], { stepMs: 5 }, 1000);
  assert.is(code, 130, stderr);
  assert.match(stdout, /INTERRUPTED/);
  assert.equal(reports(), ALL);
  const { status, iterations } = json("basic_report.json");
  assert.is(status, "interrupted");
  assert.ok(iterations.length > 0 && iterations.length < 500);
});

test("Ctrl-C twice leaves at once; the next run takes the lock over", async () => {
  const { code } = await interrupted(["--max-tokens", "50"], { stepMs: 60_000 }, 100, ["SIGINT", "SIGINT"]);
  assert.is(code, 130);
  assert.is((await bench(["--config", SMALL, ...QUICK])).code, 0);
  assert.equal(reports(), ALL);
});

test("SIGTERM leaves with 143", async () => {
  assert.is((await interrupted(["--max-tokens", "50"], { stepMs: 60_000 }, 100, ["SIGTERM"])).code, 143);
});

test("no terminal: a line now and then instead of a bar", async () => {
  const { code, stderr } = await bench(["--config", SMALL, "--max-tokens", "45", "--warmup-iterations", "0", "--test-iterations", "2"], { stepMs: 20 });
  assert.is(code, 0);
  assert.match(stderr, /^(\d+ % .+\n)+$/);
  assert.not.match(stderr, /\u001b/);
});

test.run();
