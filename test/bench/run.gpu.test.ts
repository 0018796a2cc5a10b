/**
 * The command on the bundled model: it writes its reports and no more than it was asked for, a greedy run has the same texts from every
 * cache, also when it is far too small or when prompts share their beginning, mistakes end in a line, and Ctrl-C ends a real run cleanly.
 */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-run-gpu-"));
const test = suite("bench/run.ts on the bundled model");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

function start(output: string, args: readonly string[], useSmall = true) {
  const config = useSmall ? ["--config", "config/PagedAttention/pagedattention_small_default.yaml"] : [];
  const child = spawn(process.execPath, ["bench/run.ts", ...config, "--output-dir", join(folder, output), ...args], { cwd: ROOT });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => { text += piece; });
  child.stderr.setEncoding("utf8").on("data", (piece: string) => { text += piece; });
  return { child, ended: new Promise<{ code: number | null; text: string }>((resolve) => child.on("close", (code) => { resolve({ code, text }); })) };
}
const place = (output: string, name = ""): string => join(folder, output, "PagedAttention", name);
/** What the sources named; beside it each run has a folder of its own. */
const reports = (output: string): string[] => (existsSync(place(output)) ? readdirSync(place(output)).filter((name) => name !== "runs").sort() : []);
/** Folders of the runs, whole paths. */
const runs = (output: string): string[] => (existsSync(place(output, "runs")) ? readdirSync(place(output, "runs")).map((name) => place(output, join("runs", name))) : []);
const TINY = ["--num-prompts", "2", "--batch-size", "2", "--max-tokens", "4", "--warmup-iterations", "0", "--test-iterations", "1"];

/** Rows of all tables of a Markdown file, without their heads; every row must fit its head. */
function rows(file: string): string[][] {
  return (readFileSync(file, "utf8").match(/(?:^\|.*\|\n)+/gm) ?? []).flatMap((table) => {
    const cells = table.trim().split("\n").map((row) => row.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim()));
    for (const row of cells) assert.is(row.length, cells[0]!.length, row.join(" | "));
    return cells.slice(2);
  });
}

test("a tiny run: exit code 0 and seven reports that say the same", async () => {
  const { code, text } = await start("tiny", TINY).ended;
  assert.is(code, 0, text);
  assert.equal(reports("tiny"), [
    "basic_report.json", "basic_report.md", "comparison_experiment_small_default.md", "exact_report.json", "exact_report.md", "optimized_report.json", "optimized_report.md",
  ]);
  for (const [arm, name] of [["basic", "contiguous-max"], ["exact", "contiguous-exact"], ["optimized", "paged"]] as const) {
    const json = JSON.parse(readFileSync(place("tiny", `${arm}_report.json`), "utf8"));
    assert.equal([json.schemaVersion, json.experiment, json.status, json.arm, json.model.random], [2, "PagedAttention", "complete", name, false]);
    assert.equal([json.config.num_prompts, json.config.max_tokens, json.configOrigins.num_prompts, json.configOrigins.block_size], [2, 4, "flag", "file"]);
    assert.equal([json.iterations.length, json.iterations[0].requests.length, json.order.length], [1, 2, 1]);
    assert.ok(json.environment.adapter.description !== "" && json.environment.limits.maxBufferSize > 0);
    const markdown = rows(place("tiny", `${arm}_report.md`));
    const of = (label: string): string[] => markdown.findLast(([first]) => first === label)!; // the config has an adapter too, before
    for (const [label, metric] of [["TTFT", "ttft_ms"], ["TPOT", "tpot_ms"], ["ITL p99", "itl_p99_ms"], ["output throughput", "output_tokens_per_s"]] as const) {
      const median = json.metrics[metric].median;
      assert.ok(Math.abs(Number(of(label)[2]) - median) <= Math.max(0.5, median / 100), `${label}: ${of(label)[2]} and ${median}`);
    }
    assert.ok(of("peak weights")[1]!.endsWith("iB") && of("adapter")[1]!.includes(json.environment.adapter.description));
  }
  const comparison = rows(place("tiny", "comparison_experiment_small_default.md"));
  assert.is(comparison.find(([label]) => label === "TTFT")!.length, 2 + 4 + 2); // label and unit, the arms with the control, the pairs
  const { arms } = JSON.parse(readFileSync(join(runs("tiny")[0]!, "result.json"), "utf8"));
  assert.equal(arms.map(({ name, role }: { name: string; role: string }) => [name, role]), [
    ["contiguous-max", "baseline"], ["again", "control"], ["contiguous-exact", "technique"], ["paged", "technique"],
  ]);
});

test("one arm writes its own report alone, --no-save none", async () => {
  const [one, none] = [await start("one", [...TINY, "--method", "basic"]).ended, await start("none", [...TINY, "--no-save"]).ended];
  assert.equal([one.code, none.code], [0, 0], one.text + none.text);
  assert.equal(reports("one"), ["basic_report.json", "basic_report.md"]);
  assert.not.ok(existsSync(join(folder, "none")));
});

test("a wrong key, an unknown model and an adapter that is not there: a line, a code, no report, no stack trace", async () => {
  const bad = join(folder, "bad.yaml");
  writeFileSync(bad, "experiment_name: x\nmax_token: 4\n");
  const cases: [string[], number, string][] = [
    [["--config", bad], 2, `dawnlm: ${bad}:2:1  max_token: unknown key; did you mean max_tokens?`],
    [["--model", "no-such-model", "--no-save"], 2, 'dawnlm: unknown model "no-such-model"'],
    [["--adapter", "no such adapter", "--no-save"], 2, 'dawnlm: no adapter "no such adapter"; this machine has: '],
  ];
  for (const [args, expected, message] of cases) {
    const { code, text } = await start("wrong", args[0] === "--config" ? args : [...TINY, ...args], args[0] !== "--config").ended;
    assert.is(code, expected, text);
    assert.ok(text.trimEnd().split("\n").at(-1)!.startsWith(message), text);
    assert.not.match(text, /^\s+at /m);
  }
  assert.not.ok(existsSync(join(folder, "wrong")));
});

test("greedy texts are the same from every cache, every request does its work, and memory is accounted for", async () => {
  const { code, text } = await start("greedy", ["--temperature", "0", "--max-tokens", "20", "--num-prompts", "5", "--batch-size", "2", "--warmup-iterations", "0", "--test-iterations", "2"]).ended;
  assert.is(code, 0, text);
  assert.match(text, /all 5 texts are the same in every arm and in every iteration/);
  const [basic, exact, optimized] = ["basic", "exact", "optimized"].map((arm) => JSON.parse(readFileSync(join(folder, "greedy", "PagedAttention", `${arm}_report.json`), "utf8")));
  assert.equal(optimized.comparison.texts, { same: 5, of: 5, firstDifference: null, required: true });
  for (const { iterations, memory, metrics } of [basic, exact, optimized]) {
    assert.is(iterations.length, 2);
    for (const { requests, wallMs } of iterations) {
      assert.is(requests.length, 5);
      for (const { newTokens, ttft, latency, itl } of requests) {
        assert.is(newTokens, 20);
        assert.is(itl.length, 19);
        assert.ok(ttft > 0 && ttft <= latency && latency <= wallMs, `${ttft}, ${latency}, ${wallMs}`);
        assert.ok(Math.abs(ttft + itl.reduce((sum: number, gap: number) => sum + gap, 0) - latency) < 1e-6);
      }
    }
    assert.ok(memory.peak.weights > 0 && memory.peak.kv > 0 && memory.peak.total >= memory.peak.weights + memory.peak.kv);
    assert.ok(metrics.tpot_ms.median > 0);
  }
  // A stretch of 512 tokens per sequence, layer and head: both sequences take everything; the others what their tokens need.
  const [max, least, paged] = [basic, exact, optimized].map(({ cache }) => cache.bytes);
  assert.is(max.peak, max.pool);
  assert.equal([least.pool, paged.pool], [max.pool, max.pool]);
  assert.ok(least.peak < max.peak / 2 && paged.peak < max.peak / 2, `${max.peak}, ${least.peak}, ${paged.peak}`);
  assert.ok(paged.waste < max.waste && least.waste < max.waste);
  assert.equal([basic, exact, optimized].map(({ cache }) => [cache.peakRunning, cache.preemptions]), [[2, 0], [2, 0], [2, 0]]);
  assert.is(optimized.comparison.isEqualBatch, true);
  assert.ok(optimized.cache.fits > 2 * basic.cache.fits && basic.cache.fits === 2);
});

test("a pool of a quarter of the need: every text as without, and preemptions reported", async () => {
  const { code, text } = await start("quarter", [
    "--temperature", "0", "--max-tokens", "40", "--num-prompts", "4", "--batch-size", "4", "--max-model-len", "224", "--kv-memory", String(224 * 3072), "--block-size", "8",
    "--warmup-iterations", "0", "--test-iterations", "1", "--lang", "zh",
  ]).ended;
  assert.is(code, 0, text);
  assert.match(text, /分页的缓存已满，1 轮中共抢占序列 \d+ 次/);
  const json = JSON.parse(readFileSync(place("quarter", "优化推理_report.json"), "utf8"));
  assert.ok(json.preemptions > 0 && json.iterations[0].requests.some(({ preemptions }: { preemptions: number }) => preemptions > 0));
  assert.equal(json.comparison.texts, { same: 4, of: 4, firstDifference: null, required: true });
});

test("a common text is found again in the prefix cache, and changes no text", async () => {
  const { code, text } = await start("prefix", [
    "--temperature", "0", "--max-tokens", "4", "--num-prompts", "3", "--batch-size", "2", "--shared-prefix", "100", "--warmup-iterations", "1", "--test-iterations", "1",
  ]).ended;
  assert.is(code, 0, text);
  const { arms, comparison } = JSON.parse(readFileSync(place("prefix", "prefix_cache_experiment_small_default.json"), "utf8"));
  assert.equal(arms.map(({ arm, iterations }: any) => [arm, iterations[0].requests.map(({ cachedTokens }: { cachedTokens: number }) => cachedTokens)]), [
    ["paged", [0, 0, 0]], ["again", [0, 0, 0]], ["paged-prefix", [96, 96, 96]],
  ]);
  assert.equal([comparison.texts.same, comparison.texts.of, comparison.invalid], [3, 3, null]);
});

test("the memory benchmark: what runs is what arithmetic says fits, and waste is near what it says", async () => {
  const { code, text } = await start("memory", [
    "--benchmark-memory", "--distributions", "constant", "--temperature", "0", "--num-prompts", "8", "--batch-size", "2", "--max-model-len", "128", "--warmup-iterations", "0",
  ]).ended;
  assert.is(code, 0, text);
  const { cells: [{ arms, expectedWaste, comparison }] } = JSON.parse(readFileSync(place("memory", "memory_experiment_small_default.json"), "utf8"));
  assert.equal(arms.map(({ arm, cache }: { arm: string; cache: { fits: number } }) => [arm, cache.fits]), [["contiguous-max", 2], ["again", 2], ["contiguous-exact", 8], ["paged", 8]]);
  assert.equal(arms.map(({ cache }: { cache: { peakRunning: number } }) => cache.peakRunning), [2, 2, 8, 8]);
  assert.is(comparison.texts.same, 8);
  for (const { arm, cache } of arms) {
    const { waste } = cache.bytes;
    assert.ok(waste >= expectedWaste[arm] - 0.02 && waste < expectedWaste[arm] + 0.25, `${arm}: ${waste}, by arithmetic ${expectedWaste[arm]}`);
  }
});

test("Ctrl-C ends a run with 130 and leaves a report marked interrupted, or none", async () => {
  const { child, ended } = start("stopped", ["--test-iterations", "200", "--max-tokens", "40"]);
  while (!runs("stopped").some((run) => existsSync(join(run, "journal.jsonl")))) await new Promise((resolve) => setTimeout(resolve, 50));
  await new Promise((resolve) => setTimeout(resolve, 4000));
  const stopped = performance.now();
  child.kill("SIGINT");
  const { code, text } = await ended;
  assert.is(code, 130, text);
  assert.ok(performance.now() - stopped < 5000, "within a few seconds");
  const left = reports("stopped");
  assert.ok(left.length === 0 || left.length === 7, left.join(" "));
  if (left.length > 0) assert.is(JSON.parse(readFileSync(place("stopped", "basic_report.json"), "utf8")).status, "interrupted");
});

test.run();
