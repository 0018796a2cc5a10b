/**
 * The command as a process, with a stand-in for the model: flags, files, what it prints, exit codes and signals. Nothing here needs a GPU.
 */

import { spawn, spawnSync } from "node:child_process";
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

const listed = (...at: string[]): string[] => (existsSync(join(folder, ...at)) ? readdirSync(join(folder, ...at)).sort() : []);
/** What the sources named; beside it each run has a folder of its own. */
const reports = (at = "results", technique = "PagedAttention"): string[] => listed(at, technique).filter((name) => name !== "runs");
const runs = (at = "results", technique = "PagedAttention"): string[] => listed(at, technique, "runs").map((name) => join(folder, at, technique, "runs", name));
const result = (run: string): any => JSON.parse(readFileSync(join(run, "result.json"), "utf8"));
const hasBegun = (): boolean => runs().some((run) => existsSync(join(run, "journal.jsonl")));
const json = (name: string, at = "results"): any => JSON.parse(readFileSync(join(folder, at, "PagedAttention", name), "utf8"));
const QUICK = ["--max-tokens", "4", "--warmup-iterations", "0", "--test-iterations", "5"];
const ALL = [
  "basic_report.json", "basic_report.md", "comparison_experiment_small_default.md", "exact_report.json", "exact_report.md", "optimized_report.json", "optimized_report.md",
];

test("the issue's line, from the folder of the project, reads its config through the link", () => {
  assert.ok(existsSync(join(ROOT, "config/PagedAttention/pagedattention_small_default.yaml")));
  assert.is(readFileSync(SMALL, "utf8"), readFileSync(join(ROOT, "configs/PagedAttention/pagedattention_small_default.yaml"), "utf8"));
});

test("a run prints its table and says where the reports are; they are all there and nothing else", async () => {
  const { code, stdout, stderr } = await bench(["--config", SMALL, ...QUICK]);
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  assert.equal(reports(), ALL);
  assert.is(runs().length, 1);
  assert.match(stdout, /tiny-neox on a stand-in \(software adapter\), 8 prompts, medians over 5 iterations/);
  assert.match(stdout, /│ TTFT +│ ms/);
  assert.match(stdout, /Correctness: all 8 texts are the same in every arm/);
  const last = stdout.trimEnd().split("\n").slice(-9).map((line) => line.trim());
  assert.equal(last.slice(2).sort(), ALL.map((name) => `results/PagedAttention/${name}`));
  for (const path of last) assert.ok(existsSync(join(folder, path)), path);
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

test("--lang zh: the first source's file names, Chinese reports and a Chinese table", async () => {
  const { code, stdout, stderr } = await bench(["--config", SMALL, ...QUICK, "--lang", "zh"]);
  assert.is(code, 0, stderr);
  assert.equal(reports(), [
    "comparison_experiment_small_default.md", "优化推理_report.json", "优化推理_report.md", "基础推理_report.json", "基础推理_report.md", "按实长预留推理_report.json", "按实长预留推理_report.md",
  ].sort());
  assert.match(stdout, /首词元延迟（TTFT）[^]*报告：/);
  assert.is(json("优化推理_report.json").config.lang, "zh");
  assert.match(readFileSync(join(folder, "results/PagedAttention/comparison_experiment_small_default.md"), "utf8"), /## 结论/);
});

test("--benchmark-memory: the three arms over every distribution, in the terminal and in two files of its own", async () => {
  const { code, stdout, stderr } = await bench(["--technique", "PagedAttention", "--batch-level", "small", "--benchmark-memory", "--warmup_iterations", "0"]);
  assert.is(code, 0, stderr);
  assert.equal(reports(), ["memory_experiment_small_default.json", "memory_experiment_small_default.md"]);
  for (const arm of ["contiguous-max", "contiguous-exact", "paged"]) assert.is(stdout.match(new RegExp(`│ ${arm} +│`, "g"))?.length, 4, stdout);
  assert.match(stdout, /96\.3 % with paging[^]*ShareGPT-like: useful, contiguous-max: \d+\.\d %/);
  const { config, configOrigins, cells } = json("memory_experiment_small_default.json");
  assert.equal([config.test_iterations, configOrigins.test_iterations, cells.length], [1, "follows benchmark_memory", 4]);
  const some = await bench(["--batch-level", "small", "--benchmark-memory", "--distributions", "constant", "uniform", "--experiment-name", "two"]);
  assert.is(some.code, 0, some.stderr);
  assert.equal(json("memory_experiment_small_two.json").cells.map((cell: any) => cell.distribution), ["constant", "uniform"]);
});

test("--shared-prefix: hit rate and both TTFTs; without a hit exit code 5", async () => {
  const args = ["--config", SMALL, ...QUICK, "--warmup-iterations", "1", "--shared-prefix", "64"];
  const { code, stdout, stderr } = await bench(args);
  assert.is(code, 0, stderr);
  assert.equal(reports(), ["prefix_cache_experiment_small_default.json", "prefix_cache_experiment_small_default.md"]);
  assert.match(stdout, /prefix hit rate +│ +│ +n\/a │ +n\/a │ +\d\d\.\d % │/);
  assert.ok(json("prefix_cache_experiment_small_default.json").arms[2].prefixHitRate > 0.3);
  const none = await bench(args, { forgetful: true });
  assert.is(none.code, 5);
  assert.match(none.stdout, /INVALID: no prompt token came out of the prefix cache/);
});

test("a pool that is too small for all preempts and says so; one that is too small for one is refused", async () => {
  const { code, stdout, stderr } = await bench(["--config", SMALL, ...QUICK, "--temperature", "0", "--max-tokens", "60", "--kv-memory", String(320 * 32)]);
  assert.is(code, 0, stderr);
  assert.match(stdout, /contiguous-max: none\. One sequence reserves 512 tokens, the budget holds 320/);
  assert.match(stdout, /paged pushed sequences out of its full cache \d+ times in 5 iterations .+kv_memory.+batch_size.+max_model_len/);
  assert.match(stdout, /all 8 texts are the same in every arm/);
  const refused = await bench(["--config", SMALL, ...QUICK, "--kv-memory", String(40 * 32)]);
  assert.is(refused.code, 2);
  assert.match(refused.stderr, /^dawnlm: contiguous-exact: the longest request, \d+ tokens of prompt and 4 new ones, needs a cache of \d+ tokens, but kv_memory holds 40: .+\n$/);
});

const files = (technique: string): string[] => reports("results", technique);
const SHORT = [...QUICK, "--perplexity-context", "16", "--perplexity-windows", "2"];

test("--technique precision: a report, its JSON and the chart in three forms", async () => {
  const { code, stdout, stderr } = await bench(["--technique", "precision", "--batch-level", "small", ...SHORT, "--formats", "f32", "nf4"]);
  assert.is(code, 0, stderr);
  assert.equal(files("precision"), [
    "precision_benchmark_2rows.png", "precision_benchmark_2rows.svg", "precision_benchmark_2rows.vl.json", "precision_experiment_small_default.json", "precision_experiment_small_default.md",
  ]);
  assert.match(stdout, /│ f32 again +│[^]*│ nf4 +│/);
  const at = (name: string): string => join(folder, "results", "precision", name);
  assert.match(readFileSync(at("precision_experiment_small_default.md"), "utf8"), /\(precision_benchmark_2rows\.png\)/);
  assert.ok(readFileSync(at("precision_benchmark_2rows.png")).length > 10_000);
  assert.is(JSON.parse(readFileSync(at("precision_experiment_small_default.json"), "utf8")).arms.length, 3);
});

test("--technique 量化: the first source's files in either language; one that did not act ends with 5", async () => {
  assert.is((await bench(["--technique", "量化", "--batch-level", "small", ...SHORT, "--lang", "zh"])).code, 0);
  assert.equal(files("量化"), [
    "comparison_experiment_small_default.json", "comparison_experiment_small_default.md", "优化推理_report.json", "优化推理_report.md", "基础推理_report.json", "基础推理_report.md",
  ].sort());
  rmSync(join(folder, "results"), { recursive: true });
  const one = await bench(["--technique", "quantization", "--batch-level", "small", ...SHORT, "--method", "basic"]);
  assert.equal([one.code, files("量化")], [0, ["basic_report.json", "basic_report.md"]], one.stderr);
  const none = await bench(["--technique", "quantization", "--batch-level", "small", ...SHORT, "--no-save"], { keepsFloats: true });
  assert.is(none.code, 5);
  assert.match(none.stdout, /INVALID: quantized \(nf4\) holds no matrix as nf4/);
});

test("--json: the whole result, and nothing else, of every experiment", async () => {
  for (const args of [["--technique", "precision", "--batch-level", "small", ...SHORT], ["--config", SMALL, ...QUICK], ["--batch-level", "small", "--benchmark-memory"]]) {
    const { code, stdout } = await bench([...args, "--json", "--no-save"]);
    assert.is(code, 0);
    assert.is(JSON.parse(stdout).status, "complete");
  }
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
    [["--config", SMALL, "--lang", "fr"], /^dawnlm: --lang: expected en or zh, got "fr" \(string\)\n$/],
    [["--config", SMALL, "--shared-prefix", "8"], /^dawnlm: --shared-prefix: 8 is less than block_size \(16\): only whole blocks are shared\n$/],
    [["--config", SMALL, "--shared-prefix", "64", "--benchmark-memory"], /^dawnlm: --shared-prefix: benchmark_memory and shared_prefix are two experiments; keep one\n$/],
    [["--config", SMALL, "--distributions", "alpaca"], /^dawnlm: --distributions: has no effect without benchmark_memory\n$/],
    [["--config", SMALL, "--benchmark-memory", "--distributions", "gaussian"], /^dawnlm: --distributions: expected a list of some of sharegpt, .+\n$/],
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
    "warmup-iterations", "output-dir", "no-save", "prompts", "prompts-file", "device", "model", "seed", "adapter", "debug", "benchmark-memory", "distributions", "shared-prefix", "lang", "kv-memory", "max-model-len", "block-size",
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

test("two runs at the same time: each has a folder of its own, and the reports of the sources are whole ones of one of them", async () => {
  const all = await Promise.all([1, 2].map((seed) => bench(["--config", SMALL, ...QUICK, "--seed", String(seed)], { stepMs: 2 })));
  assert.equal(all.map(({ code }) => code), [0, 0], all.map(({ stderr }) => stderr).join(""));
  assert.equal(runs().map((run) => result(run).config.seed).sort(), [1, 2]);
  for (const run of runs()) assert.equal(readdirSync(run).sort(), ["pictures", "report.html", "result.json"]);
  assert.equal(reports(), ALL);
  assert.is(json("basic_report.json").config.seed, json("optimized_report.json").config.seed);
});

test("a warning of the library is a line in the words of the command; others stay as they are", () => {
  const script = `
    import { guardProcess } from ${JSON.stringify(new URL("../../bench/core/cli.ts", import.meta.url).href)};
    guardProcess();
    process.emitWarning("the cache is full. Raise kvMemory, or lower maxSequences or maxModelLen", { type: "DawnlmWarning", code: "DAWNLM_PREEMPTION" });
    process.emitWarning("of somebody else");`;
  const { stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.is(status, 0);
  assert.match(stderr, /^dawnlm: the cache is full\. Raise --kv-memory, or lower --batch-size or --max-model-len\n\(node:\d+\) Warning: of somebody else\n/);
});

/** Send SIGINT once the journal shows that the run has begun, `after` ms later. */
async function interrupted(args: readonly string[], fake: FakeOptions, after: number, signals: readonly NodeJS.Signals[] = ["SIGINT"]): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, "--config", SMALL, ...args], { cwd: folder, env: { ...process.env, FAKE: JSON.stringify(fake) } });
  let stdout = "", stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => { stdout += text; });
  child.stderr.setEncoding("utf8").on("data", (text: string) => { stderr += text; });
  const ended = new Promise<Ended>((resolve) => child.on("close", (code, signal) => { resolve({ code, signal, stdout, stderr }); }));
  while (!hasBegun()) await new Promise((resolve) => setTimeout(resolve, 5));
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

test("Ctrl-C later: finished iterations are reported as interrupted, exit code 130, and the run is taken up again where it stopped", async () => {
  const { code, stdout, stderr } = await interrupted(["--warmup-iterations", "0", "--max-tokens", "2", "--test-iterations", "40"], { stepMs: 5 }, 1000);
  assert.is(code, 130, stderr);
  assert.match(stderr, /take it up again with: node bench\/run\.ts --resume results\/PagedAttention\/runs\/.+\n$/);
  assert.match(stdout, /INTERRUPTED/);
  assert.equal(reports(), ALL);
  const { status, iterations } = json("basic_report.json");
  assert.is(status, "interrupted");
  assert.ok(iterations.length > 0 && iterations.length < 40);
  const [run] = runs(), half = result(run!);
  assert.is(half.status, "interrupted");
  const again = await bench(["--resume", run!]);
  assert.is(again.code, 0, again.stderr);
  assert.equal(readdirSync(run!).sort(), ["pictures", "report.html", "result.json"]);
  const whole = result(run!), samples = (of: any): number[] => of.arms[0].metrics.ttft_ms.samples;
  assert.equal([whole.status, whole.resumed.length, whole.started, samples(whole).length], ["complete", 1, half.started, 40]);
  assert.equal(samples(whole).slice(0, samples(half).length), samples(half), "what was measured is not measured again");
  const third = await bench(["--resume", run!]);
  assert.is(third.code, 2);
  assert.match(third.stderr, /^dawnlm: .+: the run is complete/);
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
