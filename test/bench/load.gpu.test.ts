/** The load generator on the bundled model: a short run with arrivals of their own times, from the command line to the files. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-load-gpu-"));
const test = suite("bench/load.ts on the bundled model");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

function load(...args: string[]): Promise<{ code: unknown; text: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ["bench/load.ts", "--output-dir", folder, ...args], { cwd: ROOT }, (error, stdout, stderr) => { resolve({ code: error?.code ?? 0, text: stdout + stderr }); });
  });
}

test("eight requests by a Poisson process, three at a time", async () => {
  const { code, text } = await load("--model", "tiny-neox", "--num-prompts", "8", "--request-rate", "40", "--max-concurrency", "3", "--input-len", "12", "--output-len", "6",
    "--random-range-ratio", "0.5", "--ignore-eos", "--goodput", "ttft:60000 tpot:60000 e2el:60000", "--kv-memory", "4MiB", "--seed", "5");
  assert.is(code, 0, text);
  const { samples, metrics, status, arrivalsMs, config } = JSON.parse(readFileSync(join(folder, "load/load-40qps-concurrency3-tiny-neox.json"), "utf8"));
  assert.equal([status, samples.length, config.kvMemory, metrics.completed, metrics.failed], ["complete", 8, 4 * 2 ** 20, 8, 0]);
  let most = 0;
  for (const { request, arrival, late, queued, sent, promptTokens, askedTokens, outcome } of samples) {
    assert.is(arrival, arrivalsMs[request]);
    assert.ok(late >= 0 && queued >= 0 && Math.abs(arrival + late + queued - sent) < 1e-6);
    assert.ok(promptTokens >= 6 && promptTokens <= 18 && askedTokens >= 3 && askedTokens <= 9);
    assert.equal([outcome.newTokens, outcome.itl.length, outcome.finishReason], [askedTokens, askedTokens - 1, "length"]);
    assert.ok(outcome.ttft > 0 && Math.abs(outcome.ttft + outcome.itl.reduce((sum: number, gap: number) => sum + gap, 0) - outcome.e2el) < 1e-6);
    assert.ok(Math.abs(outcome.tpot * (askedTokens - 1) - (outcome.e2el - outcome.ttft)) < 1e-6);
    assert.ok(sent + outcome.e2el <= outcome.completed + 1e-6 && outcome.completed <= metrics.durationMs);
    most = Math.max(most, samples.filter((other: typeof samples[number]) => other.sent <= sent && sent < other.outcome.completed).length);
  }
  assert.ok(most <= 3, `${most} at a time`);
  const tokens = samples.reduce((sum: number, { askedTokens }: { askedTokens: number }) => sum + askedTokens, 0);
  assert.ok(Math.abs(metrics.outputTokensPerSecond.value - (tokens / metrics.durationMs) * 1000) < 1e-9);
  assert.ok(Math.abs(metrics.goodput.value - metrics.requestsPerSecond.value) < 1e-9);
  assert.match(text, /Successful requests: +8\n/);
});

test("a prompt and its new tokens over the context are refused with both numbers, before a request is run", async () => {
  const { code, text } = await load("--model", "tiny-neox", "--max-model-len", "64", "--input-len", "60", "--output-len", "5", "--no-save");
  assert.is(code, 2, text);
  assert.match(text, /dawnlm: prompt 1 has 60 tokens; with 5 new ones it needs 65, but a sequence has room for 64/);
});

test.run();
