/**
 * Prefixes that are shared on the GPU: what is found in the cache gives the texts that computing it gives, and what runs, ends or is
 * pushed out beside it changes nothing. The bookkeeping is in scheduler.test.ts and scheduler_worlds.test.ts.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM, UsageError, type GenerateOptions, type GenerateResult } from "../../index.ts";
import { withModel, withoutWarmUp } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

const OPTIONS = { kv: "f32", maxModelLen: 512, maxSequences: 8 } as const;
const GREEDY: GenerateOptions = { maxNewTokens: 24, ignoreEos: true };
const SYSTEM = "The following is a conversation between a patient teacher of history and a pupil who asks many questions about the past. ".repeat(3);
const QUESTIONS = ["Who was the first president?", "What is a whale?", "When did the war begin?", "Who wrote this letter?", "Where is the sea?"];

const idsOf = (results: readonly GenerateResult[]): string[] => results.map(({ ids }) => ids.join(" "));

test("prompts with a common beginning compute it once, and have the texts they have without a prefix cache", async () => {
  const prompts = QUESTIONS.map((question) => SYSTEM + question);
  let expected: string[] = [];
  await withModel("tiny-neox", { ...OPTIONS, prefixCache: false }, async (llm) => {
    expected = idsOf(await llm.generateBatch(prompts, GREEDY));
    assert.equal(idsOf(await llm.generateBatch(prompts, GREEDY)), expected);
    assert.equal(llm.cacheStats().prefix, { queriedTokens: 0, hitTokens: 0, cachedBlocks: 0, evictedBlocks: 0 });
  });
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    const shared = (await llm.tokenizer.encode(SYSTEM)).length;
    const first = await llm.generate(prompts[0]!, GREEDY);
    assert.is(first.stats.cachedTokens, 0);
    const rest = await llm.generateBatch(prompts.slice(1), GREEDY);
    for (const { stats } of rest) assert.ok(stats.cachedTokens > shared - 18 && stats.cachedTokens % 16 === 0, `${stats.cachedTokens} of ${shared}`);
    assert.equal(idsOf([first, ...rest]), expected);
    const { prefix, blocksUsed } = llm.cacheStats();
    assert.is(prefix.hitTokens, rest.reduce((sum, { stats }) => sum + stats.cachedTokens, 0));
    assert.is(prefix.queriedTokens, [first, ...rest].reduce((sum, { promptTokens }) => sum + promptTokens, 0));
    assert.is(blocksUsed, 0, "what only the prefix cache holds is free to be taken");

    // The next turn of a conversation begins with everything said so far, answers too.
    const turn = await llm.tokenizer.encode(prompts[1]! + rest[0]!.text + " And then?");
    const next = await llm.generate(turn, GREEDY);
    assert.ok(next.stats.cachedTokens > rest[0]!.stats.cachedTokens, "the first answer was found too");
  });
});

test("what comes out of the cache is what was put in: logits behind a shared prefix are those of a model that computes it", async () => {
  // llm.logits does not use the prefix cache, so log-probabilities of a generation behind a hit are held against it.
  await withModel("tiny-qwen2", OPTIONS, async (llm) => {
    const prompt = await llm.tokenizer.encode(SYSTEM + QUESTIONS[0]!);
    await llm.generate(prompt, GREEDY);
    const { ids, logprobs, stats } = await llm.generate(prompt, { ...GREEDY, logprobs: 5 });
    assert.ok(stats.cachedTokens > 0);
    const V = llm.config.vocabSize;
    const rows = await llm.logits([...prompt, ...ids.slice(0, -1)]);
    logprobs!.forEach(({ logprob, id }, i) => {
      const row = rows.subarray((prompt.length - 1 + i) * V, (prompt.length + i) * V);
      const top = row.reduce((a, b) => Math.max(a, b));
      const total = Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0)) + top;
      assert.ok(Math.abs(logprob - (row[id]! - total)) < 1e-3, `token ${i}: ${logprob} instead of ${row[id]! - total}`);
    });
  });
});

test("a pool of a quarter of the need: sequences are preempted, prefixes given up, and every text is its own; one warning names the knobs", async () => {
  const prompts = QUESTIONS.map((question) => SYSTEM + question);
  const long = { ...GREEDY, maxNewTokens: 80 };
  let expected: string[] = [], need = 0;
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    expected = idsOf(await llm.generateBatch(prompts, long));
    need = llm.cacheStats().peakBlocksUsed;
  });
  const warnings: Error[] = [];
  const listen = (warning: Error): void => { if ((warning as { code?: string }).code === "DAWNLM_PREEMPTION") warnings.push(warning); };
  process.on("warning", listen);
  const blockBytes = 2 * 16 * 32 * 4;
  await withModel("tiny-neox", { ...OPTIONS, kvMemory: Math.ceil(need / 4) * blockBytes }, async (llm) => {
    const results = await llm.generateBatch(prompts.map((prompt, i) => prompt.slice(-60 - i)), long); // short enough to run together, too long to end together
    const again = await llm.generateBatch(prompts, long);
    assert.equal(idsOf(again), expected);
    const preemptions = [...results, ...again].reduce((sum, { stats }) => sum + stats.preemptions, 0);
    assert.ok(preemptions > 0);
    assert.is(llm.cacheStats().preemptions, preemptions);
    assert.ok(llm.cacheStats().prefix.evictedBlocks > 0);
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
  await new Promise(setImmediate);
  process.off("warning", listen);
  assert.is(warnings.length, 1);
  assert.match(warnings[0]!.message, /kvMemory.*maxSequences/);
});

test("an aborted request leaves its full blocks to whoever asks next, and holds none itself", async () => {
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    const prompt = SYSTEM + QUESTIONS[0]!;
    const expected = (await llm.generate(QUESTIONS[1]!, GREEDY)).ids;
    const controller = new AbortController();
    const off = llm.trace.on((event) => { if (event.type === "decode") controller.abort(); });
    await rejects(llm.generate(prompt, { ...GREEDY, signal: controller.signal }), Error, /aborted/);
    off();
    const { stats } = await llm.generate(prompt, GREEDY);
    assert.ok(stats.cachedTokens > 0);
    assert.equal((await llm.generate(QUESTIONS[1]!, GREEDY)).ids, expected);
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("contiguous layouts: the same texts, no prefix cache", async () => {
  const prompts = QUESTIONS.slice(0, 3);
  const texts: string[][] = [];
  for (const kvLayout of [{ name: "paged", blockSize: 16 }, { name: "contiguous", reserve: "max" }, { name: "contiguous", reserve: "exact" }] as const) {
    await withModel("tiny-neox", { ...OPTIONS, maxSequences: 3, kvLayout }, async (llm) => {
      texts.push(idsOf(await llm.generateBatch(prompts, GREEDY)));
      const { peakBlocksUsed, blockSize } = llm.cacheStats();
      const perTable = peakBlocksUsed * blockSize / 24;
      const longest = await Promise.all(prompts.map(async (prompt) => (await llm.tokenizer.encode(prompt)).length + 24));
      if (kvLayout.name === "contiguous") assert.is(perTable, kvLayout.reserve === "max" ? 3 * 512 : longest.reduce((a, b) => a + b));
    });
  }
  assert.equal(texts[1], texts[0]);
  assert.equal(texts[2], texts[0]);
  await rejects(LLM.load("tiny-neox", { kvLayout: { name: "contiguous", reserve: "exact" }, prefixCache: true }), UsageError, /prefixCache shares blocks/);
  await rejects(LLM.load("tiny-neox", { kvLayout: { name: "contiguous" } as never }), UsageError, /reserve: "max" or "exact"/);
});

test.run();
