/** Free combinations on the bundled model, from the command to the JSON: paging that changes no text, a press that evicts and gives back. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Result } from "../../bench/core/result.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "dawnlm-combos-gpu-"));
const test = suite("combos on the bundled model");
test.after(() => { rmSync(folder, { recursive: true, force: true }); });

/** The shortest run that there is. */
const CONFIG = `
experiment_name: gpu
technique: combos
batch_level: small
model: tiny-neox
arms: {plain: {layout: contiguous-max}, paging: {layout: paged}, snapkv: {layout: paged, press: snapkv, ratio: 0.5}}
num_prompts: 2
batch_size: 2
prompt_tokens: 96
max_tokens: 4
temperature: 0
top_p: 1
warmup_iterations: 0
test_iterations: 1
perplexity_windows: 1
continuation: 32
max_model_len: 160
`;

test("plain, paging and snapkv: each did what it was asked to, with the texts and the quality that it must have", () => {
  const path = join(folder, "x.yaml");
  writeFileSync(path, CONFIG);
  const { status, stdout, stderr } = spawnSync(process.execPath, ["bench/run.ts", "--config", path, "--json", "--no-save"],
    { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 26 });
  assert.is(status, 0, stderr);
  const result = JSON.parse(stdout) as Result, [plain, again, paging, snapkv] = result.arms;
  assert.equal([result.status, result.arms.map(({ name, invalid }) => [name, invalid])],
    ["complete", ["plain", "plain again", "paging", "snapkv"].map((name) => [name, null])]);
  for (const arm of [again, paging]) {
    assert.equal(arm!.proof, { kind: "lossless", holds: true, text: "all 2 texts are those of plain, token for token" });
  }
  assert.match(paging!.engagement!, /^paged: \d+(\.\d)? % of the reserved cache held no token/);
  assert.match(snapkv!.engagement!, /; snapkv evicted 1152 entries in a request \(median, of all layers and heads together\), 48\.0 of 96\.0 were kept in each, .+ were given back$/);
  assert.ok(snapkv!.quality!.kld!.value > 0 && snapkv!.quality!.perplexity.value > 1, JSON.stringify(snapkv!.quality));
  assert.equal([plain!.quality, paging!.quality], [null, null], "nothing is lost, so nothing is scored");
  for (const { metrics } of result.arms) assert.ok(metrics.ttft_ms!.samples[0]! > 0 && metrics.tpot_ms!.samples[0]! > 0);
  const { work, yards } = result.yardstick!;
  assert.ok(/ 1$/.test(work) && yards.length === 1 && yards[0]!.computeMs > 0);
  assert.equal([result.warmUp!.rounds, result.order.length, result.corpus!.name], [0, 1, "persuasion"]);
  assert.ok(plain!.memory!.kv > 0 && plain!.memory!.weights > 0 && plain!.coldStart!.weightsMs > 0);
});

test.run();
