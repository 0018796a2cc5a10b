/** `node bench/load.ts` with a stand-in for the model: flags, files, what it prints, and exit codes. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { interrupt } from "../../bench/core/cli.ts";
import { main, type Served } from "../../bench/core/load/command.ts";
import { loadConfig, loadOptionsOf } from "../../bench/core/load/options.ts";
import { finiteJson } from "../../bench/core/load/report.ts";
import { AbortedError, NonFiniteLogitsError } from "../../engine/errors.ts";
import type { GenerateOptions, LoadOptions } from "../../index.ts";

const test = suite("bench/load.ts");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-load-")); });
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

interface Fake { readonly ms?: number; readonly fails?: number; readonly onLoad?: (options: LoadOptions) => void; readonly onCall?: (calls: number) => void; closed?: boolean }

const MEMORY = { weights: 1, kv: 2, activations: 3, logits: 4, staging: 5, total: 15 };

function standIn(fake: Fake): Served {
  let calls = 0;
  return {
    config: { vocabSize: 100, eosTokenIds: [0], bosTokenId: null }, tokenizer: { vocabSize: 100, encode: (text: string) => text.split(" ").map((word) => word.length) },
    source: { id: "stand-in|model", revision: null, random: false, fingerprint: "0123456789abcdef0123" },
    environment: {
      adapter: { vendor: "", architecture: "", device: "", description: "no device", backend: "none", software: true }, features: [], limits: { maxBufferSize: 1 }, kernelFamily: "software", subgroupSize: 8,
    },
    maxModelLen: 512, loadTimings: { weightsMs: 1, pipelinesMs: 2 },
    memory: () => ({ ...MEMORY, peak: MEMORY }),
    cacheStats: () => ({ blockSize: 16, blocksTotal: 9, blocksUsed: 0, peakBlocksUsed: 3, meanLiveTokens: 1, meanReservedTokens: 2, preemptions: 0, prefix: { queriedTokens: 0, hitTokens: 0, cachedBlocks: 0, evictedBlocks: 0 } }),
    async generate(ids: readonly number[], { maxNewTokens, signal }: GenerateOptions) {
      calls++;
      fake.onCall?.(calls);
      await sleep(fake.ms ?? 1);
      if (signal?.aborted === true) throw new AbortedError();
      if (fake.fails !== undefined && calls > fake.fails) throw new NonFiniteLogitsError("logits are not finite");
      const itl = Array.from({ length: maxNewTokens! - 1 }, () => 2), total = 3 + 2 * itl.length;
      return {
        ids: Array.from({ length: maxNewTokens! }, () => 1), text: "", promptTokens: ids.length, finishReason: "length" as const,
        timings: { ttft: 3, total, itl, tpot: itl.length > 0 ? 2 : null }, stats: { preemptions: 0, cachedTokens: 0 },
      };
    },
    close() {
      fake.closed = true;
      return Promise.resolve();
    },
  };
}

async function load(args: readonly string[], fake: Fake = {}): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" };
  const originals = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const name of ["stdout", "stderr"] as const) {
    process[name].write = ((text: string) => { written[name] += text; return true; }) as typeof process.stdout.write;
  }
  try {
    const code = await main(["--output-dir", join(folder, "results"), ...args], (_, options) => {
      fake.onLoad?.(options);
      return Promise.resolve(standIn(fake));
    });
    return { code, ...written };
  } finally {
    for (const name of ["stdout", "stderr"] as const) process[name].write = originals[name];
  }
}

const results = (): string[] => (existsSync(join(folder, "results/load")) ? readdirSync(join(folder, "results/load")).sort() : []);
const json = (name: string): any => JSON.parse(readFileSync(join(folder, "results/load", name), "utf8"));

test("the table is in vLLM's order, and both files are there with every sample", async () => {
  const fake: Fake = {};
  const { code, stdout, stderr } = await load(["--num-prompts", "5", "--output-len", "4", "--input-len", "9", "--goodput", "ttft:200", "tpot:50", "--max-concurrency=2"], fake);
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  assert.is(fake.closed, true);
  const order = [
    "Serving Benchmark Result", "Successful requests:", "Failed requests:", "Maximum request concurrency:", "Request rate configured", "Benchmark duration", "Total input tokens:", "Total generated tokens:",
    "Request throughput", "Request goodput", "Output token throughput", "Peak output token throughput", "Peak concurrent requests", "Total token throughput", "Time to First Token", "Mean TTFT", "Median TTFT",
    "P50 TTFT", "P90 TTFT", "P99 TTFT", "Time per Output Token (excl. 1st token)", "Mean TPOT", "Inter-token Latency", "Mean ITL", "End-to-end Latency", "Mean E2EL", "Median queueing delay", "lateness of arrivals",
  ];
  const at = order.map((words) => stdout.indexOf(words));
  assert.ok(at.every((place, i) => place > (at[i - 1] ?? -1)), order.filter((_, i) => at[i]! <= (at[i - 1] ?? -1)).join(", "));
  assert.match(stdout, /Successful requests: +5\n/);
  assert.match(stdout, /Mean TPOT \(ms\): +2\.00\n/);
  assert.equal(results(), ["load-infqps-concurrency2-tiny-neox.json", "load-infqps-concurrency2-tiny-neox.md"]);
  const report = json(results()[0]!);
  assert.equal([report.schemaVersion, report.experiment, report.status, report.config.goodput, report.config.requestRate, report.config.seed], [1, "load", "complete", { ttft: 200, tpot: 50 }, null, 0]);
  assert.equal([report.samples.length, report.arrivalsMs, report.workload.promptTokens, report.environment.adapter.description], [5, [0, 0, 0, 0, 0], [9, 9, 9, 9, 9], "no device"]);
  assert.equal(report.samples[4].outcome.itl, [2, 2, 2]);
  assert.is(report.samples[4].seed, 4);
  assert.is(report.metrics.latencies.ttft.value.median, 3);
  assert.ok(report.environment.node.startsWith("v") && report.started !== "");
  const markdown = readFileSync(join(folder, "results/load", results()[1]!), "utf8");
  assert.match(markdown, /\| Mean TTFT \(ms\) \| 3\.00 \|/);
  assert.match(markdown, /behind --max-concurrency, as in vllm bench serve/);
  for (const table of markdown.match(/(?:^\|.*\|\n)+/gm)!) assert.ok(table.trim().split("\n").every((row) => row.split(/(?<!\\)\|/).length === 4), table);
});

test("one token per request: no gap between tokens, said in words, and no Infinity or NaN in any output", async () => {
  const { code, stdout } = await load(["--num-prompts", "2", "--output-len", "1", "--request-rate", "1000"]);
  assert.is(code, 0);
  assert.match(stdout, /TPOT \(ms\): +n\/a \(no request gave more than one token\)/);
  for (const text of [stdout, ...results().map((name) => readFileSync(join(folder, "results/load", name), "utf8"))]) assert.not.match(text, /\bNaN\b|Infinity/);
  assert.equal(json("load-1000qps-tiny-neox.json").metrics.latencies.itl, { value: null, reason: "no request gave more than one token" });
  assert.throws(() => finiteJson({ rate: NaN }), /rate is NaN/);
});

test("only the metrics and percentiles that were asked for", async () => {
  const { stdout } = await load(["--num-prompts", "2", "--no-save", "--percentile-metrics", "ttft,e2el", "--metric-percentiles", "25,99.9"]);
  assert.match(stdout, /P25 TTFT[^]*P99\.9 TTFT[^]*P25 E2EL/);
  assert.not.match(stdout, /TPOT|ITL|P90|Reports/);
  assert.equal(results(), []);
});

test("a prompts file, its mistakes named as flags", async () => {
  const file = join(folder, "prompts.txt");
  writeFileSync(file, "one two three\nfour five\n");
  assert.is((await load(["--prompts-file", file, "--num-prompts", "2"])).code, 0);
  assert.equal(json("load-infqps-tiny-neox.json").workload.promptTokens, [3, 2]);
  const few = await load(["--prompts-file", file, "--num-prompts", "3"]);
  assert.equal([few.code, few.stderr], [2, `dawnlm: --prompts-file ${file}: has 2 prompts (one per line), but --num-prompts is 3\n`]);
  assert.match((await load(["--prompts-file", join(folder, "none"), "--num-prompts", "1"])).stderr, /^dawnlm: --prompts-file .*: no such file\n$/);
});

test("bad flags: a line for each, exit code 2, nothing loaded, no file", async () => {
  const loaded: unknown[] = [];
  const cases: [string[], ...RegExp[]][] = [
    [["--num-prompts", "0"], /--num-prompts: expected a whole number from 1 to 1000000, got "0"/],
    [["--num-prompts", "1e400"], /--num-prompts: expected/], [["--num-prompts", "0x10"], /--num-prompts: expected/],
    [["--request-rate", "0"], /--request-rate: expected requests per second \(a number above 0\), or inf, got "0"/], [["--request-rate=-3"], /--request-rate/], [["--request-rate", "NaN"], /--request-rate/],
    [["--request-rate", "2", "--burstiness", "0"], /--burstiness: expected a number above 0/], [["--burstiness", "2"], /--burstiness: has no effect without a --request-rate/],
    [["--goodput", "ttft:x"], /--goodput: expected/], [["--goodput", "itl:5"], /--goodput: expected/], [["--goodput", "ttft:1 ttft:2"], /--goodput: expected/],
    [["--percentile-metrics", "ttft,latency"], /--percentile-metrics: expected some of ttft, tpot, itl, e2el/], [["--metric-percentiles", "50,101"], /--metric-percentiles: expected numbers from 0 to 100/],
    [["--random-range-ratio", "1"], /--random-range-ratio: expected a number from 0 below 1/], [["--kv-memory", "lots"], /--kv-memory: expected bytes/],
    [["--input-len", "5", "--random-input-len", "5"], /--random-input-len: is the same as --input-len/], [["--prompts-file", "x", "--input-len", "5"], /--input-len: makes random prompts/],
    [["--kv-layout", "contiguous-max", "--block-size", "16"], /--block-size: has no effect on a cache that is contiguous-max/], [["--kv-layout", "flat"], /--kv-layout: expected one of paged, contiguous-max, contiguous-exact/],
    [["--seed", "1", "--seed", "2"], /given twice/], [["--sed", "1"], /unknown option '--sed'/], [["extra"], /too many arguments/],
    [["--max-concurrency", "0", "--temperature", "-1"], /--max-concurrency: expected a whole number from 1/, /--temperature: expected a number from 0 to 100/],
  ];
  for (const [args, ...lines] of cases) {
    const { code, stderr } = await load(args, { onLoad: (options) => { loaded.push(options); } });
    assert.is(code, 2, args.join(" "));
    const told = stderr.trim().split("\n").filter((line) => !line.startsWith("(Did you mean"));
    assert.is(told.length, lines.length, stderr);
    lines.forEach((line, i) => { assert.match(told[i]!, line); assert.ok(told[i]!.startsWith("dawnlm: ")); });
  }
  assert.equal([loaded, results()], [[], []]);
});

test("what is asked for reaches the model", () => {
  const options = (flags: Record<string, unknown>): LoadOptions => loadOptionsOf(loadConfig(flags));
  assert.equal(options({}), { weights: "auto", kv: "f16", kvLayout: { name: "paged", blockSize: 16 }, maxSequences: 16, adapter: "auto", prefixCache: true });
  assert.equal(options({ kvLayout: "contiguous-exact", kvMemory: "1.5MiB", maxModelLen: "256", maxNumSeqs: "4", model: "random:x", seed: "3", weights: "f32", kv: "f32", adapter: "software" }), {
    weights: "f32", kv: "f32", kvLayout: { name: "contiguous", reserve: "exact" }, maxSequences: 4, adapter: "software", kvMemory: 1.5 * 2 ** 20, maxModelLen: 256, seed: 3,
  });
  assert.is(options({ prefixCache: false }).prefixCache, false);
});

test("requests that failed: told, counted, exit code 5", async () => {
  const { code, stdout } = await load(["--num-prompts", "4", "--max-concurrency", "1", "--num-warmups", "0"], { fails: 2 });
  assert.is(code, 5);
  assert.match(stdout, /Successful requests: +2\nFailed requests: +2/);
  assert.match(stdout, /failed: logits are not finite/);
});

test("Ctrl-C: 130, and a report of what had finished, marked as such; or none", async () => {
  const stopAt = (calls: number): Fake => ({ ms: 5, onCall: (call) => { if (call === calls) interrupt(); } });
  const partial = await load(["--num-prompts", "20", "--max-concurrency", "1", "--num-warmups", "0"], stopAt(4));
  assert.is(partial.code, 130);
  assert.match(partial.stdout, /Successful requests: +3\n[^]*Unfinished requests \(interrupted\): +17\n[^]*INTERRUPTED/);
  assert.equal([json("load-infqps-concurrency1-tiny-neox.json").status, json("load-infqps-concurrency1-tiny-neox.json").unfinished], ["interrupted", 17]);
  const early = await load(["--num-prompts", "3", "--model", "other"], stopAt(1));
  assert.equal([early.code, early.stdout, early.stderr], [130, "", "dawnlm: interrupted before the first request was finished; no report was written\n"]);
  assert.is(results().length, 2);
});

test("a name of a model is no path, and a folder that cannot be had is told before anything is loaded", async () => {
  await load(["--num-prompts", "1", "--model", "a/b/../..|*x"]);
  assert.equal(results(), ["load-infqps-..-x.json", "load-infqps-..-x.md"]);
  rmSync(join(folder, "results"), { recursive: true });
  writeFileSync(join(folder, "results"), "");
  const loaded: unknown[] = [];
  const { code, stderr } = await load(["--num-prompts", "1"], { onLoad: (options) => { loaded.push(options); } });
  assert.equal([code, loaded], [1, []]);
  assert.match(stderr, /^dawnlm: results cannot be written to .*: a part of the path is a file/);
});

test.run();
