/**
 * Speculative decoding in a loaded model: at temperature 0 the same tokens as without, whatever drafts and however many; with sampling the
 * same for the same seed, whatever runs beside it. And what becomes of it among batches, shared prefixes, presses, coarse formats and aborts.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, LLM, UsageError, type GenerateOptions, type GenerateResult, type LoadOptions } from "../../index.ts";
import { rejects } from "../support/rejects.ts";
import { folderOf, withoutWarmUp } from "../support/llm.ts";

const TEXT = readFileSync(new URL("../../assets/texts/persuasion.txt", import.meta.url), "utf8").slice(0, 120_000);
/** One set of sizes for all, so that tests share their pipelines. */
const SIZES: LoadOptions = { weights: "f32", kv: "f32", maxModelLen: 256, maxSequences: 8, prefillChunk: 64 };
const PLAIN = { draft: null } as const;

async function withLlm(options: LoadOptions, body: (llm: LLM, ids: readonly number[]) => Promise<void>, model = "tiny-neox"): Promise<void> {
  const llm = await LLM.load(folderOf(model), { ...SIZES, ...options });
  try {
    await body(llm, await llm.tokenizer.encode(TEXT));
  } finally {
    await llm.close();
    assert.is(llm.memory().total, 0);
  }
}

/** Fails unless the texts are equal up to a token whose logit is as good as the likeliest: arithmetic of another row count may take the other. */
async function sameGreedy(llm: LLM, prompt: readonly number[], plain: readonly number[], got: readonly number[], what: string): Promise<boolean> {
  const at = plain.findIndex((id, i) => id !== got[i]);
  if (at < 0 && got.length === plain.length) return true;
  const logits = (await llm.logits([...prompt, ...plain.slice(0, at)])).slice(-llm.config.vocabSize);
  const gap = logits[plain[at]!]! - logits[got[at]!]!;
  assert.ok(Math.abs(gap) < 1e-3, `${what}: token ${at} is ${got[at]} and not ${plain[at]}, whose logit is ${gap} above`);
  return false;
}

for (const draft of ["tiny-neox-draft", "prompt-lookup", "self:nf4"] as const) {
  test(`${draft}: over a hundred prompts and every k, greedy texts are those without a draft`, async () => {
    await withLlm({ draft: { model: draft, k: 4 } }, async (llm, ids) => {
      const prompts = Array.from({ length: draft === "tiny-neox-draft" ? 16 * 7 : 21 }, (_, i) => ids.slice(97 * i, 97 * i + 3 + i % 40));
      let same = 0, drafted = 0, accepted = 0;
      for (let first = 0; first < prompts.length; first += 7) {
        const some = prompts.slice(first, first + 7), options: GenerateOptions = { maxNewTokens: 14, ignoreEos: true };
        const k = 1 + (first / 7) % 16;
        const plain = await llm.generateBatch(some, { ...options, ...PLAIN }), got = await llm.generateBatch(some, { ...options, draft: { k } });
        for (const [i, { ids: text, stats }] of got.entries()) {
          if (await sameGreedy(llm, some[i]!, plain[i]!.ids, text, `prompt ${first + i}, k ${k}`)) same++;
          const { rounds, draftedAt, tokens, ...counts } = stats.speculation!;
          assert.ok(draftedAt.length <= k && rounds <= 13 && tokens <= 13);
          if (draft !== "prompt-lookup" && k < 6) assert.is(draftedAt.length, k, "the k that was asked for is the k that is drafted");
          drafted += counts.drafted;
          accepted += counts.accepted;
        }
      }
      assert.ok(same >= prompts.length - 2, `${prompts.length - same} texts parted at a tie`);
      assert.ok(drafted > 0 && accepted > 0 && accepted < drafted);
      assert.is(llm.cacheStats().blocksUsed, 0);
    });
  });
}

test("sampling: a seed gives one text, in any batch; nothing drafted gives the text of plain decoding", async () => {
  await withLlm({ draft: { model: "tiny-neox-draft", k: 4 } }, async (llm, ids) => {
    const prompts = [0, 1, 2, 3].map((i) => ids.slice(50 * i, 50 * i + 20 + i));
    const options: GenerateOptions = { maxNewTokens: 24, ignoreEos: true, temperature: 0.9, topP: 0.95, topK: 50, repetitionPenalty: 1.1, seed: 7 };
    const alone = [];
    for (const [i, prompt] of prompts.entries()) alone.push((await llm.generate(prompt, { ...options, seed: 7 + i })).ids);
    assert.equal((await llm.generateBatch(prompts, options)).map((result) => result.ids), alone);
    assert.not.equal((await llm.generate(prompts[0]!, { ...options, seed: 8 })).ids, alone[0]);
    const mixed = await Promise.all([llm.generate(prompts[0]!, options), llm.generate(prompts[1]!, { ...options, ...PLAIN, seed: 8 }), llm.generate(prompts[2]!, { maxNewTokens: 20, ignoreEos: true })]);
    assert.equal(mixed[0].ids, alone[0]);
    assert.equal(mixed[1].ids, (await llm.generate(prompts[1]!, { ...options, ...PLAIN, seed: 8 })).ids, "rounds in which nothing is drafted");
    assert.is(mixed[1].stats.speculation, undefined);
    assert.ok(await sameGreedy(llm, prompts[2]!, (await llm.generate(prompts[2]!, { maxNewTokens: 20, ignoreEos: true, ...PLAIN })).ids, mixed[2].ids, "greedy beside them"));
    const adaptive = await llm.generate(prompts[0]!, { maxNewTokens: 20, ignoreEos: true, draft: { k: "adaptive" } });
    assert.ok(adaptive.stats.speculation!.rounds > 0);
  });
});

test("with shared prefixes, presses, coarse caches, stops, preemption and aborts", async () => {
  const draft = { model: "tiny-neox-draft", k: 4 } as const;
  const kv = { k: "int8", v: "int4" } as const;
  await withLlm({ kv, draft, press: { name: "snapkv", ratio: 0.4, window: 8 } }, async (llm, ids) => {
    for (const press of [{ name: "snapkv", ratio: 0.4, window: 8 }, { name: "decoding", press: { name: "knorm" }, every: 7, target: 40 }, { name: "rerotate", press: { name: "knorm", ratio: 0.5 } }]) {
      const prompt = ids.slice(0, 70), options: GenerateOptions = { maxNewTokens: 30, ignoreEos: true, press };
      const plain = await llm.generate(prompt, { ...options, ...PLAIN }), got = await llm.generate(prompt, options);
      assert.equal(got.stats.press!.kept, plain.stats.press!.kept, press.name);
      const parted = plain.ids.findIndex((id, i) => id !== got.ids[i]);
      assert.ok(parted < 0 || parted > 3, `${press.name}: parted at ${parted}`); // coarse keys of other rows may round otherwise
      assert.ok(got.stats.speculation!.drafted > 0);
    }
    assert.ok((await llm.generate(ids.slice(0, 70), { maxNewTokens: 4 })).stats.cachedTokens > 0);
  });
  await withLlm({ draft, kvMemory: 300 * 16 * 32 * 4 * 2 }, async (llm, ids) => {
    const prompts = [0, 1, 2, 3].map((i) => ids.slice(40 * i, 40 * i + 60)), options: GenerateOptions = { maxNewTokens: 50, ignoreEos: true };
    const plain: (readonly number[])[] = [];
    for (const prompt of prompts) plain.push((await llm.generate(prompt, { ...options, ...PLAIN })).ids);
    const got = await llm.generateBatch(prompts, options);
    for (const [i, { ids: text }] of got.entries()) await sameGreedy(llm, prompts[i]!, plain[i]!, text, `prompt ${i} in a full cache`);
    const stop = [(await llm.tokenizer.decode(plain[0]!)).slice(20, 26)];
    const [a, b] = [await llm.generate(prompts[0]!, { ...options, ...PLAIN, stop }), await llm.generate(prompts[0]!, { ...options, stop })];
    assert.equal([b.text, b.finishReason], [a.text, a.finishReason]);
    for (let i = 0; i < 8; i++) {
      const abort = new AbortController();
      const running = Promise.allSettled([llm.generate(prompts[0]!, { ...options, signal: abort.signal }), llm.generate(prompts[1]!, { ...options, maxNewTokens: 12 })]);
      setTimeout(() => { abort.abort(); }, 6 * i);
      assert.is((await running)[1].status, "fulfilled");
      assert.is(llm.cacheStats().blocksUsed, 0);
    }
  });
});

test("a draft that is the model itself has everything accepted, whatever ends beside it: its cache is never out of step", async () => {
  await withLlm({ draft: { model: "self:f32", k: 3 } }, async (llm, ids) => {
    for (let i = 0; i < 5; i++) {
      const prompts = [0, 1, 2].map((j) => ids.slice(37 * i + 300 * j, 37 * i + 300 * j + 30)), options: GenerateOptions = { maxNewTokens: 30, ignoreEos: true };
      const abort = new AbortController();
      setTimeout(() => { abort.abort(); }, 16 * i);
      const settled = await Promise.allSettled(prompts.map((prompt, j) => llm.generate(prompt, { ...options, ...(j === 1 && { signal: abort.signal }) })));
      for (const [j, result] of settled.entries()) {
        if (j === 1) continue;
        assert.is(result.status, "fulfilled");
        const { drafted, accepted } = (result as PromiseFulfilledResult<GenerateResult>).value.stats.speculation!;
        assert.ok(drafted > 15 && drafted - accepted <= 1, `${accepted} of ${drafted} accepted`); // one may part at a tie
      }
    }
  });
});

test("what cannot go together is refused before anything runs", async () => {
  const load = (options: LoadOptions, model = "tiny-neox"): Promise<LLM> => LLM.load(folderOf(model), { ...SIZES, ...options });
  await rejects(load({ draft: { model: folderOf("qwen2-gqa-tied-f32") } }), UsageError, /draft: .* cannot be compared|vocabular/);
  await rejects(load({ draft: { model: "tiny-neox-draft", k: 0 } }), UsageError, /k/);
  await rejects(load({ draft: { model: "tiny-neox-draft", k: 17 } }), UsageError, /16/);
  await rejects(load({ draft: { model: "self:nf5" as never } }), UsageError, /nf5.*nf4/);
  await rejects(load({ draft: { model: "tiny-neox-draft" }, kv: "kivi4", kvLayout: { name: "paged", blockSize: 32 } }), UsageError, /kivi4.*not accepted/);
  const without = await load({});
  await rejects(without.generate([1, 2], { draft: { k: 3 } }), UsageError, /loaded without one/);
  await rejects(without.speculationCosts(), UsageError, /without a draft/);
  assert.is(without.draft, null);
  await without.close();
  const llm = await load({ draft: { model: "tiny-neox-draft" } });
  assert.equal(llm.draft, { name: "tiny-neox-draft", kind: "model", k: 5 });
  await rejects(llm.generate([1, 2], { logprobs: 2 }), UsageError, /logprobs are not made of drafted tokens/);
  await rejects(llm.generate([1, 2], { draft: { k: 2.5 } }), UsageError, /k/);
  await rejects(llm.generate(Array.from({ length: 300 }, () => 5)), ContextLengthError, /300 tokens/);
  const press = { name: "decoding", press: { name: "observed_attention" }, every: 4, target: 8 };
  await rejects(llm.generate([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], { press }), UsageError, /must see every query/);
  assert.is((await llm.generate([1, 2], { maxNewTokens: 5, ignoreEos: true })).ids.length, 5, "and the model goes on");
  const { decodeMs, draftMs, verifyMs } = await llm.speculationCosts();
  assert.ok(decodeMs > 0 && draftMs > 0 && verifyMs.length === 17 && verifyMs.every((ms) => ms > 0));
  await llm.close();
});

const warmUp = withoutWarmUp();
test.after(warmUp);
test.run();
