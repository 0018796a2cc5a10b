/**
 * Presses in a loaded model, with everything else that happens to a sequence: chunks, batches, shared prefixes, preemption, coarse caches. What
 * a request is given may depend on its press, never on what runs beside it.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, LLM, UsageError, type GenerateOptions, type LoadOptions, type PressReport } from "../../index.ts";
import type { PressSpec } from "../../techniques/press/spec.ts";
import { rejects } from "../support/rejects.ts";
import { folderOf, withoutWarmUp } from "../support/llm.ts";

const TEXT = readFileSync(new URL("../../assets/texts/persuasion.txt", import.meta.url), "utf8").slice(0, 20_000);
/** One set of sizes for all, so that tests share their pipelines. */
const SIZES: LoadOptions = { weights: "f32", kv: "f32", maxModelLen: 512, maxSequences: 5, prefillChunk: 64 };
const SNAP: PressSpec = { name: "snapkv", ratio: 0.5, window: 16 };

async function withLlm(model: string, options: LoadOptions, body: (llm: LLM) => Promise<void>): Promise<void> {
  const llm = await LLM.load(folderOf(model), { ...SIZES, ...options });
  try {
    await body(llm);
  } finally {
    await llm.close();
    assert.is(llm.memory().total, 0);
  }
}

async function idsOf(llm: LLM, first: number, count: number): Promise<number[]> {
  return (await llm.tokenizer.encode(TEXT)).slice(first, first + count);
}

/** Of a cache in blocks of 16: each head's blocks, and none besides. */
function blocksOf({ kept }: PressReport, more: number): number {
  return kept.flat().reduce((sum, count) => sum + Math.ceil((count + more) / 16), 0);
}

for (const model of ["tiny-neox", "tiny-qwen2"]) {
  test(`${model}: a press with ratio 0 is none, bit for bit; with 0.9 it moves what follows, and gives its blocks back`, async () => {
    await withLlm(model, {}, async (llm) => {
      const ids = await idsOf(llm, 0, 220), options: GenerateOptions = { maxNewTokens: 12, ignoreEos: true, logprobs: 0 };
      const plain = await llm.generate(ids, options);
      assert.is(plain.stats.press, undefined);
      for (const name of ["knorm", "snapkv", "expected_attention", "observed_attention"] as const) {
        const { ids: same, logprobs, stats } = await llm.generate(ids, { ...options, press: { name, ratio: 0 } });
        assert.equal([same, logprobs], [plain.ids, plain.logprobs], name);
        assert.equal([stats.press!.events, stats.press!.evicted, stats.press!.freedBytes], [1, 0, 0]);
      }
      const used: number[] = [];
      const stop = llm.trace.on((event) => { if (event.type === "pressed") used.push(llm.cacheStats().blocksUsed); });
      const { logprobs, stats: { press } } = await llm.generate(ids, { ...options, press: { name: "knorm", ratio: 0.9 } });
      stop();
      assert.not.equal(logprobs, plain.logprobs);
      assert.equal(logprobs![0], plain.logprobs![0], "the first token is sampled before the press acts");
      assert.equal([press!.events, press!.seen, new Set(press!.kept.flat()).size, press!.kept[0]![0]], [1, 220, 1, 22]);
      assert.equal(used, [blocksOf(press!, 0)]);
      assert.is(llm.cacheStats().blocksUsed, 0);
      assert.ok(press!.freedBytes > 0 && press!.ms > 0);
    });
  });
}

test("a batch around it, whose chunks are others, and a shared prefix change nothing for a pressed request", async () => {
  const options: GenerateOptions = { maxNewTokens: 20, ignoreEos: true };
  const presses: readonly (PressSpec | null)[] = [SNAP, { name: "knorm", ratio: 0.6 }, null, { name: "expected_attention", ratio: 0.5 }, { name: "adakv", press: SNAP }];
  let alone: (readonly number[])[] = [];
  await withLlm("tiny-qwen2", { prefixCache: false }, async (llm) => {
    const prompts = await Promise.all(presses.map((_, i) => idsOf(llm, 10 * i, 150 + 3 * i)));
    alone = [];
    for (const [i, press] of presses.entries()) alone.push((await llm.generate(prompts[i]!, { ...options, press })).ids);
  });
  await withLlm("tiny-qwen2", {}, async (llm) => {
    const prompts = await Promise.all(presses.map((_, i) => idsOf(llm, 10 * i, 150 + 3 * i)));
    const together = await Promise.all(presses.map((press, i) => llm.generate(prompts[i]!, { ...options, press })));
    assert.equal(together.map(({ ids }) => ids), alone);
    const again = await Promise.all(presses.map((press, i) => llm.generate(prompts[i]!, { ...options, press })));
    assert.equal(again.map(({ ids }) => ids), alone, "with what the prefix cache has by now");
    const cached = again.map(({ stats }) => stats.cachedTokens);
    assert.ok(cached[0]! > 0 && cached[0]! <= 150 - 16, "snapkv must see its window");
    assert.ok(cached[1]! > 128 && cached[2]! > 128);
    assert.is(cached[3], 0, "expected attention must see every query");
  });
});

test("a sequence that is pushed out is pressed again as before", async () => {
  const options: GenerateOptions = {
    maxNewTokens: 90, ignoreEos: true, press: { name: "decoding", press: { name: "snapkv", ratio: 0.1, window: 8 }, every: 25, target: 95, prefill: true },
  };
  const run = async (blocks: number): Promise<{ ids: (readonly number[])[]; preemptions: number; kept: unknown[] }> => {
    let found = { ids: [] as (readonly number[])[], preemptions: 0, kept: [] as unknown[] };
    await withLlm("tiny-neox", { prefixCache: false, kvMemory: blocks * 16 * 32 * 4 * 2 }, async (llm) => {
      const prompts = await Promise.all([0, 1, 2, 3].map((i) => idsOf(llm, 200 * i, 90 + i)));
      const results = await llm.generateBatch(prompts, options);
      found = { ids: results.map(({ ids }) => ids), preemptions: llm.cacheStats().preemptions, kept: results.map(({ stats }) => [stats.press!.events, stats.press!.kept]) };
    });
    return found;
  };
  const roomy = await run(2000), tight = await run(400);
  assert.is(roomy.preemptions, 0);
  assert.ok(tight.preemptions > 0);
  assert.equal([tight.ids, tight.kept], [roomy.ids, roomy.kept]);
});

test("KnormPress after every token: lengths saw between keepRatio and pruneAfter, and skipped layers grow", async () => {
  await withLlm("tiny-neox", {}, async (llm) => {
    const ids = await idsOf(llm, 0, 100);
    const { stats: { press } } = await llm.generate(ids, { maxNewTokens: 41, ignoreEos: true, keepRatio: 0.75, pruneAfter: 80, skipLayers: [0] });
    // 100 → 75 at the prompt; then every 5 tokens 80 → 60, after which 20 more are needed: 105, 125.
    assert.equal([press!.events, press!.seen, press!.kept.map((heads) => heads[0])], [3, 125, [125, 60, 60, 60]]);
  });
});

test("coarse caches are pressed too; what cannot be pressed is refused", async () => {
  await withLlm("tiny-neox", { kv: { k: "int8", v: "int4" }, press: { name: "tova", ratio: 0.5 } }, async (llm) => {
    const { ids, stats: { press } } = await llm.generate(await idsOf(llm, 0, 64), { maxNewTokens: 8, ignoreEos: true });
    assert.equal([ids.length, press!.kept[0]![0]], [8, 32]);
    assert.is((await llm.generate([5, 6, 7], { maxNewTokens: 2, press: null })).stats.press, undefined);
  });
  const ask = (options: LoadOptions): Promise<LLM> => LLM.load(folderOf("tiny-neox"), { maxModelLen: 128, ...options });
  await rejects(ask({ kvLayout: { name: "contiguous", reserve: "max" }, press: SNAP }), UsageError, /contiguous cache cannot give memory back: take kvLayout/);
  await rejects(ask({ kv: "kivi4", kvLayout: { name: "paged", blockSize: 32 }, press: SNAP }), UsageError, /kivi4 quantizes keys by blocks/);
  await rejects(ask({ press: { name: "snapvk" } as never }), UsageError, /snapvk.*snapkv/);
  await withLlm("tiny-neox", {}, async (llm) => {
    await rejects(llm.generate([1, 2, 3], { press: SNAP, maxNewTokens: 4 }), UsageError, /snapkv.*16.*3/);
    await rejects(llm.generate([1, 2, 3], { pruneAfter: 5 }), UsageError, /pruneAfter has no effect without keepRatio/);
    await rejects(llm.generate([1, 2, 3], { keepRatio: 0.5, press: SNAP }), UsageError, /keepRatio is a press of its own/);
    await rejects(llm.perplexity([1, 2, 3, 4], { press: SNAP }), UsageError, /reads each window in one pass, which cannot see press snapkv/);
    await rejects(llm.perplexity([1, 2, 3, 4], { protocol: "prefill-continue", context: 500, continuation: 40 }), ContextLengthError, /500 \+ 40, but maxModelLen is 512/);
    await rejects(llm.divergence(llm, [1, 2, 3, 4]), UsageError, /give a press to compare with none/);
    assert.is((await llm.generate([1, 2, 3], { maxNewTokens: 2 })).ids.length, 2, "and the model goes on");
  });
});

test("perplexity sees the press: prefill-continue and decode, beside no press on the same tokens", async () => {
  await withLlm("tiny-qwen2", {}, async (llm) => {
    const ids = await idsOf(llm, 0, 480), protocol = "prefill-continue" as const;
    const plain = await llm.perplexity(ids, { protocol, context: 200, continuation: 40 });
    assert.equal([plain.tokens, plain.windows, plain.stride, plain.press], [80, 2, 240, undefined]);
    const [window] = [await llm.perplexity(ids.slice(0, 240), { protocol: "strided", context: 240 })];
    for (let i = 0; i < 40; i++) assert.ok(Math.abs(window.nlls[199 + i]! - plain.nlls[i]!) < 1e-4, "nlls[0] scores ids[context]");
    const none = await llm.perplexity(ids, { protocol, context: 200, continuation: 40, press: { ...SNAP, ratio: 0 } as PressSpec });
    assert.equal(none.nlls, plain.nlls);
    const pressed = await llm.perplexity(ids, { protocol, context: 200, continuation: 40, press: { name: "knorm", ratio: 0.9 } });
    assert.is(pressed.nlls[0], plain.nlls[0], "the first is scored by the last row of the prompt");
    assert.ok(pressed.meanNll > plain.meanNll + 0.05);
    assert.equal([pressed.press!.events, pressed.kept![0]![0], pressed.press!.seen], [2, 20, 200]);
    const beside = await llm.divergence(llm, ids, { protocol, context: 200, continuation: 40, press: { name: "knorm", ratio: 0.9 } });
    for (let i = 0; i < 80; i++) {
      assert.ok(Math.abs(beside.nlls[i]! - pressed.nlls[i]!) < 1e-5 && Math.abs(beside.baseNlls[i]! - plain.nlls[i]!) < 1e-5);
      assert.ok(beside.klds[i]! > -1e-6);
    }
    assert.ok(beside.klds[0]! < 1e-6 && Math.max(...beside.klds) > 0.01);

    const steps: PressSpec = { name: "knorm_steps", keepRatio: 0.5, pruneAfter: 60 };
    const decoded = await llm.perplexity(ids.slice(0, 300), { protocol: "decode", context: 150 });
    const stepped = await llm.perplexity(ids.slice(0, 300), { protocol: "decode", context: 150, press: steps });
    assert.equal(stepped.nlls.slice(0, 59), decoded.nlls.slice(0, 59));
    assert.not.equal(stepped.nlls[60], decoded.nlls[60]);
    assert.equal([stepped.press!.events, stepped.kept![1]![1]], [2 * 3, 30]); // at 60, 90, 120 of 149
    const both = await llm.divergence(llm, ids.slice(0, 300), { protocol: "decode", context: 150, press: steps });
    for (let i = 0; i < both.tokens; i++) assert.ok(Math.abs(both.nlls[i]! - stepped.nlls[i]!) < 1e-5 && Math.abs(both.baseNlls[i]! - decoded.nlls[i]!) < 1e-5);
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("an abort while a press acts leaves nothing behind", async () => {
  await withLlm("tiny-neox", { press: { name: "knorm_steps", keepRatio: 0.5, pruneAfter: 40 } }, async (llm) => {
    const ids = await idsOf(llm, 0, 100);
    for (let i = 0; i < 12; i++) {
      const abort = new AbortController();
      const running = Promise.allSettled([llm.generate(ids, { maxNewTokens: 60, ignoreEos: true, signal: abort.signal }), llm.generate(ids.slice(i), { maxNewTokens: 30, ignoreEos: true })]);
      let acts = 0;
      const stop = llm.trace.on((event) => { if (event.type === "kept" || event.type === "pressed") { if (acts++ === i % 3) abort.abort(); } });
      setTimeout(() => { abort.abort(); }, 4 * i);
      const [, other] = await running;
      stop();
      assert.is(other.status, "fulfilled");
      assert.is(llm.cacheStats().blocksUsed, 0);
    }
  });
});

const warmUp = withoutWarmUp();
test.after(warmUp);
test.run();
