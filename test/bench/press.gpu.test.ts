/** Presses on the bundled models, from the command to the files: pruning that really happens, quality that sees it, and blocks that other sequences get. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-press-gpu-"));
const test = suite("presses on the bundled models");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

function bench(technique: string, ...args: string[]): Record<string, any> {
  const { status, stdout, stderr } = spawnSync(process.execPath, [
    "bench/run.ts", "--technique", technique, "--batch-level", "small", "--warmup-iterations", "0", "--test-iterations", "1", "--output-dir", folder, "--json", "--no-save", ...args,
  ], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 26 });
  assert.is(status, 0, stderr);
  const { detail, ...result } = JSON.parse(stdout) as Record<string, any>;
  return { ...detail, status: result["status"] };
}

test("KnormPress: 1.0 is no press to the bit; 0.5 keeps within prune_after, gives blocks back and changes the predictions", () => {
  const { arms, comparison, status } = bench("KnormPress", "--keep_ratios", "1.0,0.5", "--prune_after", "48", "--skip_layers", "0", "--num_wikitext_samples", "1", "--num_pg19_samples", "0",
    "--prompt-tokens", "64", "--max-tokens", "16", "--max-model-len", "128");
  assert.equal([status, comparison.invalid], ["complete", null]);
  const [, , all, half] = arms;
  assert.equal([all.acted.evicted, all.acted.freedBytes, all.quality.kld.max, all.quality.ratio.value], [0, 0, 0, 1]);
  assert.ok(half.acted.evicted > 0 && half.acted.freedBytes > 0 && half.quality.kld.mean > 0, JSON.stringify(half.acted));
  assert.is(half.acted.layers[0], half.acted.seen, "layer 0 is left alone");
  for (const kept of half.acted.layers.slice(1)) assert.ok(kept >= 24 && kept < 48, `${kept}`);
});

test("KVPress: the same pool runs more sequences, and a press that knows what it does loses less than random", () => {
  const { arms, status } = bench("KVPress", "--presses", "streaming_llm", "--ratios", "0.5", "--kv-memory", String(400 * 1024), "--num-prompts", "6", "--prompt-tokens", "96", "--max-tokens", "16",
    "--continuation", "32", "--perplexity-windows", "2", "--max-model-len", "160");
  assert.is(status, "complete");
  const [none, again, streaming, random] = arms;
  assert.equal([none.running.median, again.running.median], [3, 3]);
  for (const arm of [streaming, random]) assert.ok(arm.running.median > 3 && arm.acted.kept === 48, JSON.stringify([arm.running, arm.acted]));
  assert.ok(random.quality.kld.mean > 2 * streaming.quality.kld.mean && streaming.quality.kld.mean > 0, JSON.stringify([random.quality.kld.mean, streaming.quality.kld.mean]));
});

test.run();
