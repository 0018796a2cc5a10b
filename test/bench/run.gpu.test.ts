/** The command on the bundled model: a greedy run must write the same texts from both caches, and Ctrl-C must end a real run cleanly. */

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-run-gpu-"));
const test = suite("bench/run.ts on the bundled model");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

function start(output: string, args: readonly string[]) {
  const child = spawn(process.execPath, [
    "bench/run.ts", "--config", "config/PagedAttention/pagedattention_small_default.yaml", "--output-dir", join(folder, output), ...args,
  ], { cwd: ROOT });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => { text += piece; });
  child.stderr.setEncoding("utf8").on("data", (piece: string) => { text += piece; });
  return { child, ended: new Promise<{ code: number | null; text: string }>((resolve) => child.on("close", (code) => { resolve({ code, text }); })) };
}
const reports = (output: string): string[] => readdirSync(join(folder, output, "PagedAttention")).sort();

test("greedy texts are the same from both caches, every request does its work, and memory is accounted for", async () => {
  const { code, text } = await start("greedy", ["--temperature", "0", "--max-tokens", "20", "--num-prompts", "5", "--batch-size", "2", "--warmup-iterations", "0", "--test-iterations", "2"]).ended;
  assert.is(code, 0, text);
  assert.match(text, /all 5 texts are the same in both arms and in every iteration/);
  const [basic, optimized] = ["basic", "optimized"].map((arm) => JSON.parse(readFileSync(join(folder, "greedy", "PagedAttention", `${arm}_report.json`), "utf8")));
  assert.equal(optimized.comparison.texts, { same: 5, of: 5, firstDifference: null, required: true });
  for (const { iterations, memory, metrics } of [basic, optimized]) {
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
  // One block of 512 tokens per sequence, layer and head: both sequences take everything; paged ones what their tokens need.
  assert.is(basic.cache.peakBlocksUsed, basic.cache.blocksTotal);
  assert.is(basic.cache.pool, optimized.cache.pool);
  assert.ok(optimized.cache.peak < basic.cache.peak);
  assert.ok(optimized.cache.waste < basic.cache.waste);
});

test("Ctrl-C ends a run with 130 and leaves a report marked interrupted, or none", async () => {
  const { child, ended } = start("stopped", ["--test-iterations", "200", "--max-tokens", "40"]);
  while (!existsSync(join(folder, "stopped", "PagedAttention", ".lock"))) await new Promise((resolve) => setTimeout(resolve, 50));
  await new Promise((resolve) => setTimeout(resolve, 6000));
  child.kill("SIGINT");
  const { code, text } = await ended;
  assert.is(code, 130, text);
  const left = reports("stopped");
  assert.ok(left.length === 0 || left.length === 5, left.join(" "));
  if (left.length > 0) assert.is(JSON.parse(readFileSync(join(folder, "stopped", "PagedAttention", "basic_report.json"), "utf8")).status, "interrupted");
});

test.run();
