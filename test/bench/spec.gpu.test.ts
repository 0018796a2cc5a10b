/** spec_decode on the bundled models, from the command to the JSON: rounds of the K that was asked for, and the texts of plain decoding. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("spec_decode on the bundled models");

function bench(...args: string[]): Record<string, any> {
  const { status, stdout, stderr } = spawnSync(process.execPath, [
    "bench/run.ts", "--technique", "spec_decode", "--batch-level", "small", "--warmup-iterations", "0", "--test-iterations", "1",
    "--num-prompts", "1", "--prompt-tokens", "48", "--max-tokens", "24", "--max-model-len", "96", "--json", "--no-save", ...args,
  ], { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 26 });
  assert.is(status, 0, stderr);
  const { detail, ...result } = JSON.parse(stdout) as Record<string, any>;
  return { ...detail, status: result["status"] };
}

test("a model drafts: K tokens per round, another K another number of rounds, and the texts are those of plain decoding", () => {
  const { status, drafts, cells, correctness } = bench("--k", "2,6", "--dataset", "wikitext-sample");
  assert.equal([status, cells.length, correctness], ["complete", 1, "5 of 5 greedy texts are those of plain decoding, token for token"]);
  assert.equal([drafts[0].kind, drafts[0].costs.verifyMs.length], ["model", 17]);
  const [plain, again, two, six, adaptive] = cells[0].arms;
  assert.equal([plain.kind, again.kind, plain.speculation, two.k, six.k, adaptive.k], ["none", "again", undefined, 2, 6, "adaptive"]);
  assert.equal([two.speculation.stats.draftedAt.length, six.speculation.stats.draftedAt.length], [2, 6]);
  for (const { speculation: { stats, explanation, predicted } } of [two, six, adaptive]) {
    assert.ok(stats.accepted > 0 && stats.accepted < stats.drafted && predicted > 0, JSON.stringify(stats));
    assert.is(explanation.rate, stats.accepted / stats.drafted);
    assert.ok(stats.tokens <= 23);
  }
});

test("the text drafts, and the target's own copy in int8 is nearly always right", () => {
  const { status, cells, drafts } = bench(
    "--k", "3", "--draft", "prompt-lookup,self:int8", "--dataset", "pg19-sample", "--prompt-tokens", "128", "--max-model-len", "160",
  );
  assert.equal([status, drafts.map(({ kind }: { kind: string }) => kind), cells.length], ["complete", ["text", "self"], 2]);
  const [text, self] = cells.map(({ arms }: { arms: any[] }) => arms[2].speculation.stats);
  assert.ok(text.drafted > 0 && text.draftedAt.length <= 3, JSON.stringify(text));
  assert.ok(self.accepted / self.drafted > 0.8, JSON.stringify(self));
});

test.run();
