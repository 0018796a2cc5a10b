/** The exhibits that nobody can play: a press under perplexity, and rounds of speculation counted from outside. One load serves both. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { exhibit as blindPerplexity } from "../../docs/museum/blind_perplexity/exhibit.ts";
import { exhibit as wrongAcceptance } from "../../docs/museum/wrong_acceptance/exhibit.ts";
import { LLM } from "../../index.ts";
import { folderOf, withoutWarmUp } from "../support/llm.ts";

test.after(withoutWarmUp());

let loading: Promise<LLM> | null = null;
const load = (): Promise<LLM> => loading ??= LLM.load(folderOf("tiny-neox"), {
  weights: "f32", kv: "f32", maxModelLen: 256, maxSequences: 8, prefillChunk: 64, prefixCache: false,
  draft: { model: "prompt-lookup", k: 5 },
});
test.after(async () => { await (await loading)?.close(); });

test("blind perplexity: the same to the last digit for every ratio, though entries were evicted; what sees the press differs", async () => {
  const { misleading, honest, gate } = await blindPerplexity({
    llm: await load(), ratios: [0, 0.5, 0.9], context: 48, continuation: 16, windows: 2, promptTokens: 24, newTokens: 4, pruneAfter: 64,
  });
  const [none, half, most] = misleading.rows;
  assert.equal([half!.perplexity, most!.perplexity], [none!.perplexity, none!.perplexity], "so the wrong conclusion would be drawn");
  assert.ok(none!.evicted === 0 && half!.evicted > 0 && most!.evicted > half!.evicted, "the press did act, elsewhere");
  assert.is(new Set(honest.rows.map(({ perplexity }) => perplexity)).size, 3);
  assert.ok(honest.rows[2]!.perplexity > honest.rows[0]!.perplexity, honest.says);
  assert.ok(honest.steps[1]!.evicted > 0 && honest.steps[1]!.perplexity !== honest.steps[0]!.perplexity);
  assert.is(honest.short.report?.evicted, 0);
  const [refused, short] = (gate ?? "").split("\n");
  assert.match(refused!, /protocol strided reads each window in one pass, which cannot see press knorm/);
  assert.match(short ?? "", /24 tokens \+ 4 new, fewer than prune_after 64: nothing was pruned/);
});

test("wrong acceptance: rounds that drafted little or nothing are counted as rejections; the gate has the counts", async () => {
  const { misleading, honest, gate } = await wrongAcceptance({ llm: await load(), k: 10, from: 300, promptTokens: 192, newTokens: 48 });
  const { stats, phantoms } = honest;
  assert.ok(stats.drafted > 0 && misleading.acceptance < 0.75 * honest.acceptance, `${misleading.says}\n${honest.says}`);
  const { of, missing, noRound, cut, idle, encoded } = phantoms;
  assert.is(stats.drafted + missing + noRound, of);
  assert.ok(Math.abs(misleading.acceptance - (stats.accepted - cut - idle + encoded) / of) < 1e-12, "the formula is this fraction");
  assert.is(idle, 2, "192 tokens are read in three pieces");
  assert.match(gate ?? "", new RegExp(`^${stats.accepted} of ${stats.drafted} drafted tokens were accepted`));
});

test.run();
