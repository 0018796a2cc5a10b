/**
 * Generation end to end on the bundled model: batches, seeds, stops, aborts, a pool that is too small, and what steady decoding must not
 * do. The identity behind most of it: whatever runs beside a sequence, its greedy text is the one it has alone.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { AbortedError, ContextLengthError, LLM, UsageError, type TraceEvent } from "../../index.ts";
import { rejects } from "../support/rejects.ts";

const PROMPTS = [
  "Anne Elliot was", "The Congress of the United States", "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse",
  "She had been forced into prudence in her youth", "The whale", "It is a truth", "In the year 1851, the state of the Union", "Captain Wentworth", "A",
];

async function withModel(options: Parameters<typeof LLM.load>[1], body: (llm: LLM) => Promise<void>): Promise<void> {
  const llm = await LLM.load("tiny-neox", { maxModelLen: 512, ...options });
  try {
    await body(llm);
  } finally {
    await llm.close();
  }
}

const idsOf = (results: readonly { readonly ids: readonly number[] }[]): string[] => results.map(({ ids }) => ids.join(" "));

test("a batch gives every prompt the text it has alone, for batches of every row class", async () => {
  await withModel({ kv: "f32" }, async (llm) => {
    const alone: string[] = [];
    for (const prompt of PROMPTS) alone.push(...idsOf([await llm.generate(prompt, { maxNewTokens: 24, ignoreEos: true })]));
    for (const size of [2, 3, 5, 9]) {
      const batch = await llm.generateBatch(PROMPTS.slice(0, size), { maxNewTokens: 24, ignoreEos: true });
      assert.equal(idsOf(batch), alone.slice(0, size), `batch of ${size}`);
    }
    const together = await Promise.all(PROMPTS.slice(0, 4).map((prompt) => llm.generate(prompt, { maxNewTokens: 24, ignoreEos: true })));
    assert.equal(idsOf(together), alone.slice(0, 4), "requests made at the same time");
  });
});

test("greedy is the argmax of the logits", async () => {
  await withModel({ kv: "f32" }, async (llm) => {
    const prompt = await llm.tokenizer.encode(PROMPTS[2]!);
    const { ids } = await llm.generate(prompt, { maxNewTokens: 12, ignoreEos: true });
    const logits = await llm.logits([...prompt, ...ids]);
    const V = llm.config.vocabSize;
    ids.forEach((id, i) => {
      const row = logits.subarray((prompt.length - 1 + i) * V, (prompt.length + i) * V);
      assert.is(row.indexOf(row.reduce((best, value) => Math.max(best, value))), id);
    });
  });
});

test("same seed, same text; a prompt of a batch has the seed after the one before", async () => {
  await withModel({}, async (llm) => {
    const options = { maxNewTokens: 20, temperature: 0.9, topP: 0.95, topK: 100, ignoreEos: true };
    const [first, second] = await llm.generateBatch([PROMPTS[0]!, PROMPTS[0]!], { ...options, seed: 7 });
    assert.equal(first!.ids, (await llm.generate(PROMPTS[0]!, { ...options, seed: 7 })).ids);
    assert.equal(second!.ids, (await llm.generate(PROMPTS[0]!, { ...options, seed: 8 })).ids);
    assert.not.equal(first!.ids, second!.ids);
  });
});

test("steady decoding makes nothing and writes only when blocks are added", async () => {
  const open = Gpu.open;
  let gpu: Gpu | undefined;
  Gpu.open = async (options) => (gpu = await open.call(Gpu, options));
  try {
    await withModel({}, async (llm) => {
      const ids = await llm.tokenizer.encode(PROMPTS[0]!);
      await llm.generate(ids, { maxNewTokens: 16, ignoreEos: true });
      const calls = new Map<string, number>();
      const count = (owner: object, name: string): void => {
        const original = (owner as Record<string, (...args: unknown[]) => unknown>)[name]!;
        (owner as Record<string, unknown>)[name] = function counted(this: unknown, ...args: unknown[]) {
          calls.set(name, (calls.get(name) ?? 0) + 1);
          return original.apply(owner, args);
        };
      };
      for (const name of ["createBindGroup", "createBuffer", "createComputePipeline", "createComputePipelineAsync", "createShaderModule"]) count(gpu!.device, name);
      count(gpu!.device.queue, "writeBuffer");
      const tokens = 128;
      await llm.generate(ids, { maxNewTokens: tokens, ignoreEos: true });
      const writes = calls.get("writeBuffer") ?? 0;
      calls.delete("writeBuffer");
      assert.equal([...calls], [], "nothing is created while tokens are generated");
      // Two batches (prefill, decode) with their parameters and lengths, and tables whenever a block of 16 tokens is full.
      assert.ok(writes <= tokens / 16 + 10, `${writes} writes for ${tokens} tokens`);
    });
  } finally {
    Gpu.open = open;
  }
});

test("a pool that is too small preempts, and every text is still the one it has alone", async () => {
  const options = { maxNewTokens: 60, ignoreEos: true };
  let alone: string[] = [];
  await withModel({ kv: "f32" }, async (llm) => {
    for (const prompt of PROMPTS.slice(0, 5)) alone.push(...idsOf([await llm.generate(prompt, options)]));
  });
  const blockBytes = 16 * 32 * 4 * 2;
  await withModel({ kv: "f32", kvMemory: 24 * 12 * blockBytes }, async (llm) => { // 12 blocks of 16 tokens for each of 24 tables
    const events: TraceEvent[] = [];
    llm.trace.on((event) => { events.push(event); });
    const results = await llm.generateBatch(PROMPTS.slice(0, 5), options);
    assert.equal(idsOf(results), alone);
    const preemptions = results.reduce((sum, { stats }) => sum + stats.preemptions, 0);
    assert.ok(preemptions > 0, "the pool was meant to be too small");
    assert.is(llm.cacheStats().preemptions, preemptions);
    assert.ok(events.some(({ type }) => type === "preempted"));
    assert.is(llm.cacheStats().blocksUsed, 0);
    await rejects(llm.generate(PROMPTS[0]!, { maxNewTokens: 400 }), ContextLengthError, /kvMemory holds 192/);
  });
});

test("stop strings end the text before them, also when they span tokens; EOS and limits say why a text ended", async () => {
  await withModel({ kv: "f32" }, async (llm) => {
    const whole = await llm.generate(PROMPTS[0]!, { maxNewTokens: 40, ignoreEos: true });
    assert.is(whole.finishReason, "length");
    const stop = whole.text.slice(9, 15);
    const cut = await llm.generate(PROMPTS[0]!, { maxNewTokens: 40, ignoreEos: true, stop: [stop] });
    assert.is(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
    assert.is(cut.finishReason, "stop");
    let streamed = "";
    for await (const { text } of llm.stream(PROMPTS[0]!, { maxNewTokens: 40, ignoreEos: true, stop: [stop] })) streamed += text;
    assert.is(streamed, cut.text);
    const ids = await llm.tokenizer.encode(PROMPTS[0]!);
    const limited = await llm.generate(ids, { maxNewTokens: 10_000, ignoreEos: true });
    assert.is(limited.finishReason, "length");
    assert.is(limited.ids.length, 512 - ids.length);
    assert.equal((await llm.generate(ids, { maxNewTokens: 0 })).ids, []);
  });
});

test("aborting: before, in the middle, after; the others go on and every block comes back", async () => {
  await withModel({ kv: "f32" }, async (llm) => {
    const alone = await llm.generate(PROMPTS[1]!, { maxNewTokens: 40, ignoreEos: true });
    await rejects(llm.generate(PROMPTS[0]!, { signal: AbortSignal.abort() }), Error, /abort/i);
    const controller = new AbortController();
    const doomed = llm.generate(PROMPTS[0]!, { maxNewTokens: 400, ignoreEos: true, signal: controller.signal });
    const other = llm.generate(PROMPTS[1]!, { maxNewTokens: 40, ignoreEos: true });
    setTimeout(() => { controller.abort(); }, 20);
    await rejects(doomed, AbortedError, /aborted/);
    assert.equal((await other).ids, alone.ids);
    controller.abort();
    for await (const _ of llm.stream(PROMPTS[0]!, { maxNewTokens: 400, ignoreEos: true })) break;
    await llm.logits([1, 2, 3]); // runs after the loop has ended
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("mistakes are refused before anything runs, and a closed model says so", async () => {
  await withModel({}, async (llm) => {
    await rejects(llm.generate("", {}), UsageError, /no tokens/);
    await rejects(llm.generate([5000], {}), UsageError, /token 5000 at index 0/);
    await rejects(llm.generate("x", { temprature: 1 } as object), UsageError, /did you mean temperature/);
    await rejects(llm.generate("x", { temperature: 0, topK: 5 }), UsageError, /no effect/);
    await rejects(llm.logits(Array.from({ length: 600 }, () => 1)), ContextLengthError, /600/);
    await rejects(llm.generate(Array.from({ length: 512 }, () => 1)), ContextLengthError, /maxModelLen is 512/);
    await llm.close();
    await rejects(llm.generate("x"), UsageError, /closed/);
    assert.is(llm.memory().total, 0);
  });
});

test.run();
