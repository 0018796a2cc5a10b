/** Precision on the bundled model, from the command to the files: formats that really are what they say, and quality that tells them apart. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-weights-gpu-"));
const test = suite("precision on the bundled model");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

test("f16 is f32, nf4 is not; bytes are those of arithmetic; the chart is there", () => {
  const { status, stderr } = spawnSync(process.execPath, [
    "bench/run.ts", "--technique", "precision", "--batch-level", "small", "--formats", "f16", "nf4", "--perplexity-context", "64", "--perplexity-windows", "4",
    "--max-model-len", "128", "--max-tokens", "4", "--num-prompts", "1", "--warmup-iterations", "0", "--test-iterations", "1", "--output-dir", folder,
  ], { cwd: ROOT, encoding: "utf8" });
  assert.is(status, 0, stderr);
  const at = (name: string): string => join(folder, "precision", name);
  const { arms, comparison, status: said } = JSON.parse(readFileSync(at("precision_experiment_small_default.json"), "utf8"));
  assert.equal([said, comparison.invalid, comparison.texts.same], ["complete", null, 1]);
  const [f16, again, nf4] = arms;
  for (const { weights } of arms) assert.is(weights.ledgerBytes, weights.expectedBytes);
  const held = (arm: { weights: { held: { format: string; bytes: number; weights: number }[] } }) => arm.weights.held.map(({ format, bytes, weights }) => [format, bytes / weights]);
  assert.equal([held(f16), held(nf4).find(([format]) => format === "nf4")], [[["f16", 2]], ["nf4", 0.5625]]);
  assert.is(f16.quality.perplexity.value, again.quality.perplexity.value);
  assert.ok(f16.quality.againstF32.kld.value < 1e-7, `${f16.quality.againstF32.kld.value}`);
  const { kld, topOne, ratio } = nf4.quality.againstF32;
  assert.ok(kld.value > 0.005 && kld.value < 0.05 && topOne.value > 0.75 && topOne.value < 1 && Math.abs(ratio.value - 1) < 0.1, JSON.stringify({ kld, topOne, ratio }));
  assert.equal([...readFileSync(at("precision_benchmark_2rows.png")).subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)));
});

test.run();
