/**
 * Generation end to end: batches, seeds, stops, a pool that is too small, and what steady decoding must not do. The identity behind most
 * of it: whatever runs beside a sequence, its text is the one it has alone.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, type GenerateOptions, type GenerateResult, type TraceEvent } from "../../index.ts";
import { argmaxes, countCalls, folderOf, withCheckpoint, withGpus, withModel } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

const PROMPTS = [
  "Anne Elliot was", "The Congress of the United States", "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse",
  "She had been forced into prudence in her youth", "The whale", "It is a truth", "In the year 1851, the state of the Union", "Captain Wentworth", "A",
];
const EXACT = { kv: "f32", maxModelLen: 512 } as const;
const SAMPLED: GenerateOptions = { maxNewTokens: 20, temperature: 0.9, topP: 0.95, topK: 100, ignoreEos: true };

const idsOf = (results: readonly GenerateResult[]): string[] => results.map(({ ids }) => ids.join(" "));

test("a batch gives every prompt the text it has alone, for batches of every row class", async () => {
  await withModel("tiny-neox", EXACT, async (llm) => {
    const options = { maxNewTokens: 24, ignoreEos: true };
    const alone: string[] = [];
    for (const prompt of PROMPTS) alone.push(...idsOf([await llm.generate(prompt, options)]));
    for (const size of [2, 3, 5, 8, 9]) assert.equal(idsOf(await llm.generateBatch(PROMPTS.slice(0, size), options)), alone.slice(0, size), `batch of ${size}`);
    assert.equal(await llm.generateBatch([], options), []);

    // Requests made at different times share their steps.
    const events: TraceEvent[] = [];
    const off = llm.trace.on((event) => { events.push(event); });
    const together = await Promise.all(PROMPTS.slice(0, 4).map(async (prompt, i) => {
      await new Promise((resolve) => { setTimeout(resolve, 3 * i); });
      return llm.generate(prompt, options);
    }));
    off();
    assert.equal(idsOf(together), alone.slice(0, 4), "requests made one after the other");
    assert.ok(events.some((event) => event.type === "decode" && event.sequences.length > 1), "they ran in one batch");
  });
});

test("more prompts than sequences that may run, in chunks smaller than a prompt", async () => {
  await withModel("tiny-neox", { ...EXACT, maxSequences: 2, prefillChunk: 5 }, async (llm) => {
    const options = { maxNewTokens: 11, ignoreEos: true };
    const alone: string[] = [];
    for (const prompt of PROMPTS.slice(0, 5)) alone.push(...idsOf([await llm.generate(prompt, options)]));
    assert.equal(idsOf(await llm.generateBatch(PROMPTS.slice(0, 5), options)), alone);
  });
});

test("greedy is the argmax of the logits", async () => {
  await withModel("tiny-neox", EXACT, async (llm) => {
    const prompt = await llm.tokenizer.encode(PROMPTS[2]!);
    const { ids } = await llm.generate(prompt, { maxNewTokens: 12, ignoreEos: true });
    const rows = argmaxes(await llm.logits([...prompt, ...ids]), llm.config.vocabSize);
    assert.equal(rows.slice(prompt.length - 1, -1), [...ids]);
    for (const nearlyGreedy of [{ temperature: 1e-30 }, { temperature: 1e-40 }, { temperature: 2, topK: 1 }, { temperature: 2, topP: 1e-30 }]) {
      assert.equal((await llm.generate(prompt, { maxNewTokens: 12, ignoreEos: true, ...nearlyGreedy })).ids, ids, JSON.stringify(nearlyGreedy));
    }
  });
});

test("sequences that grow long enough to be split among workgroups: greedy is still the argmax, beside short ones too", async () => {
  await withGpus({ family: "gpu" }, async (gpus) => { // whose rows are split from 256 keys on
    await withModel(folderOf("qwen2-mqa"), { kv: "f32", maxModelLen: 512, maxSequences: 2 }, async (llm) => {
      const V = llm.config.vocabSize;
      const long = Array.from({ length: 248 }, (_, i) => (i * 37) % V), short = [5, 6, 7];
      const { calls, stop } = countCalls(gpus[0]!);
      const [first, second] = await llm.generateBatch([long, short], { maxNewTokens: 20, ignoreEos: true });
      stop();
      assert.is(calls.get("createBindGroup") ?? 0, 0, "the recording for long rows was ready");
      assert.equal(argmaxes(await llm.logits([...long, ...first!.ids]), V).slice(long.length - 1, -1), [...first!.ids]);
      assert.equal(argmaxes(await llm.logits([...short, ...second!.ids]), V).slice(short.length - 1, -1), [...second!.ids]);
    });
  });
});

test("same seed, same text; a prompt of a batch has the seed after the one before", async () => {
  await withModel("tiny-neox", EXACT, async (llm) => {
    const [prompt] = PROMPTS as [string];
    const batch = await llm.generateBatch([prompt, prompt, prompt], { ...SAMPLED, seed: 0xffff_fffe });
    for (const [i, seed] of [0xffff_fffe, 0xffff_ffff, 0].entries()) {
      assert.equal(batch[i]!.ids, (await llm.generate(prompt, { ...SAMPLED, seed })).ids, `seed ${seed}`);
    }
    assert.is(new Set(idsOf(batch)).size, 3, "another seed, another text");
    assert.equal((await llm.generate(prompt, SAMPLED)).ids, batch[2]!.ids, "the seed is 0 when none is given");
  });
});

test("steady decoding makes nothing, writes only when blocks are added, and reads back token ids only", async () => {
  await withGpus({}, async (gpus) => {
    await withModel("tiny-neox", { maxModelLen: 512 }, async (llm) => {
      for (const sequences of [1, 3]) {
        const prompts = await Promise.all(PROMPTS.slice(0, sequences).map((prompt) => llm.tokenizer.encode(prompt)));
        const { calls, readBack, stop } = countCalls(gpus[0]!);
        const tokens = 128;
        await llm.generateBatch(prompts, { maxNewTokens: tokens, ignoreEos: true });
        stop();
        const { writeBuffer = 0, submit = 0, ...created } = Object.fromEntries(calls);
        assert.equal(created, {}, "nothing is created while tokens are generated, not even at first");
        // Two batches (prefill, decode) with their parameters and lengths, and tables whenever a sequence has filled a block of 16 tokens.
        assert.ok(writeBuffer <= sequences * (tokens / 16 + 1) + 10, `${writeBuffer} writes for ${sequences} × ${tokens} tokens`);
        assert.is(submit, tokens, "one submission per step");
        assert.equal(new Set(readBack), new Set([4 * sequences]), "four bytes for each sequence are read back");
        assert.is(readBack.length, tokens);
      }
    });
  });
});

test("a pool that is too small preempts, and every text is still the one it has alone", async () => {
  const prompts = PROMPTS.slice(0, 5);
  const greedy = { maxNewTokens: 60, ignoreEos: true }, sampled = { ...SAMPLED, maxNewTokens: 60, seed: 5 };
  let alone: string[] = [];
  await withModel("tiny-neox", EXACT, async (llm) => {
    for (const prompt of prompts) alone.push(...idsOf([await llm.generate(prompt, greedy)]));
    alone.push(...idsOf(await llm.generateBatch(prompts, sampled)));
  });
  const blockBytes = 16 * 32 * 4 * 2;
  await withModel("tiny-neox", { ...EXACT, kvMemory: 24 * 12 * blockBytes }, async (llm) => { // 12 blocks of 16 tokens for each of 24 tables
    const events: TraceEvent[] = [];
    llm.trace.on((event) => { events.push(event); });
    const results = [...await llm.generateBatch(prompts, greedy), ...await llm.generateBatch(prompts, sampled)];
    assert.equal(idsOf(results), alone);
    const preemptions = results.reduce((sum, { stats }) => sum + stats.preemptions, 0);
    assert.ok(preemptions > 0, "the pool was meant to be too small");
    assert.is(llm.cacheStats().preemptions, preemptions);
    assert.is(events.reduce((sum, event) => sum + (event.type === "preempted" ? event.count : 0), 0), preemptions);
    const { blocksUsed, blocksTotal, peakBlocksUsed } = llm.cacheStats();
    assert.is(blocksUsed, 0);
    assert.ok(peakBlocksUsed <= blocksTotal && peakBlocksUsed > blocksTotal / 2, `${peakBlocksUsed} of ${blocksTotal} blocks at the peak`);
    await rejects(llm.generate(PROMPTS[0]!, { maxNewTokens: 400 }), ContextLengthError, /kvMemory holds 192/);
    await rejects(llm.logits(new Array<number>(193).fill(1)), ContextLengthError, /193 tokens do not fit the KV cache/);
  });
});

test("stop strings end the text before them, also when they span tokens, and limits say why a text ended", async () => {
  await withModel("tiny-neox", EXACT, async (llm) => {
    const options = { maxNewTokens: 40, ignoreEos: true };
    const [prompt] = PROMPTS as [string];
    const whole = await llm.generate(prompt, options);
    assert.is(whole.finishReason, "length");
    for (const [from, to] of [[0, 1], [9, 15], [3, 30], [whole.text.length - 3, whole.text.length]]) {
      const stop = whole.text.slice(from, to);
      const cut = await llm.generate(prompt, { ...options, stop: ["never to be seen", stop] });
      assert.is(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
      assert.is(cut.finishReason, "stop");
      let streamed = "";
      for await (const { text } of llm.stream(prompt, { ...options, stop: [stop] })) streamed += text;
      assert.is(streamed, cut.text);
    }
    const almost = await llm.generate(prompt, { ...options, stop: [`${whole.text.slice(-5)}, but it never comes`] });
    assert.is(almost.text, whole.text, "what might have become a stop string is given when it has not");
    assert.is(almost.finishReason, "length");

    const ids = await llm.tokenizer.encode(prompt);
    const limited = await llm.generate(ids, { maxNewTokens: 10_000, ignoreEos: true });
    assert.is(limited.finishReason, "length");
    assert.is(limited.ids.length, 512 - ids.length);
    const none = await llm.generate(ids, { maxNewTokens: 0 });
    assert.equal([none.ids, none.text, none.finishReason, none.timings.tpot], [[], "", "length", null]);
    assert.ok(Number.isFinite(none.timings.total));
    assert.is((await llm.generate(Array.from({ length: 511 }, () => 7), options)).ids.length, 1, "a prompt that leaves room for one token");
  });
});

test("EOS ends a text and gives what was held back; ignoreEos goes on", async () => {
  let ids: readonly number[] = [], text = "";
  const options = { maxNewTokens: 20, ignoreEos: true };
  await withModel("tiny-neox", EXACT, async (llm) => { ({ ids, text } = await llm.generate(PROMPTS[0]!, options)); });
  const eos = ids[10]!;
  assert.is(ids.indexOf(eos), 10, "the prompt was chosen to give this id for the first time there");
  await withCheckpoint("tiny-neox", ({ config }) => { config.eos_token_id = [eos, 0]; }, async (folder) => {
    await withModel(folder, EXACT, async (llm) => {
      const ended = await llm.generate(PROMPTS[0]!, { maxNewTokens: 20 });
      assert.equal([ended.finishReason, ended.ids], ["stop", ids.slice(0, 11)]);
      assert.is(ended.text, await llm.tokenizer.decode(ids.slice(0, 10)));
      const held = await llm.generate(PROMPTS[0]!, { maxNewTokens: 20, stop: [`${ended.text.slice(-3)} and more`] });
      assert.is(held.text, ended.text, "a text that ends in the beginning of a stop string");
      assert.is((await llm.generate(PROMPTS[0]!, { maxNewTokens: 11 })).finishReason, "stop", "as the last token that was allowed");
      assert.equal((await llm.generate(PROMPTS[0]!, options)).text, text);
      // The others of a batch go on, though EOS was seen late: several steps are in flight.
      const [first, second] = await llm.generateBatch(PROMPTS.slice(0, 2), { maxNewTokens: 20 });
      assert.equal(first!.ids, ended.ids);
      assert.equal(second!.ids, (await llm.generate(PROMPTS[1]!, { maxNewTokens: 20 })).ids);
    });
  });
});

test.run();
