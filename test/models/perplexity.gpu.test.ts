/**
 * Perplexity and divergence on models: against transformers in double precision (fixtures/perplexity.json), the identities that hold
 * between protocols, chunks and batches, what crosses to the host, and what is refused.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { AbortedError, ContextLengthError, LLM, NonFiniteLogitsError, UsageError } from "../../index.ts";
import { compare } from "../../kernels/reference/nll.ts";
import type { PerplexityOptions } from "../../models/options.ts";
import { near } from "../support/gpu.ts";
import { countCalls, folderOf, withCheckpoint, withGpus, withModel, withoutWarmUp } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

interface Golden {
  readonly perplexity: readonly {
    readonly model: string;
    readonly text: string;
    readonly ids: readonly number[];
    readonly protocols: readonly (Pick<PerplexityOptions, "protocol" | "context" | "stride"> & {
      readonly tokensPerWindow: readonly number[]; readonly meanNll: number; readonly perplexity: number; readonly accuracy: number; readonly nlls: readonly number[];
      readonly text?: Readonly<Record<"words" | "bytes" | "wordPerplexity" | "bytePerplexity" | "bitsPerByte", number>>;
    })[];
  }[];
  readonly divergence: {
    readonly base: string; readonly model: string; readonly ids: readonly number[]; readonly context: number;
    readonly klds: readonly number[]; readonly sameTop: readonly number[];
  };
}
const GOLDEN = JSON.parse(readFileSync(new URL("../fixtures/perplexity.json", import.meta.url), "utf8")) as Golden;

const F32 = { weights: "f32", kv: "f32", kvMemory: 8 << 20 } as const;
/** Without a tokenizer, and quick to load. */
const TINY = folderOf("qwen2-mqa");
const SMALL = { weights: "f32", kv: "f32", maxModelLen: 128, kvMemory: 1 << 20 } as const;
/** Small chunks, few samples, and room for one window of 33 tokens at a time: two layers, one KV head of 16 dimensions. */
const SMALLER = { ...SMALL, maxModelLen: 64, prefillChunk: 16, maxSequences: 3, kvMemory: 2 * 4 * 16 * (16 + 16) * 4 } as const;
const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => (i * i * 7 + i) % 101);

for (const { model, text, ids, protocols } of GOLDEN.perplexity) {
  test(`${model}: every protocol as transformers has it in double precision`, async () => {
    await withModel(model, F32, async (llm) => {
      const { memory } = { memory: llm.memory() };
      for (const { protocol, context, stride, tokensPerWindow, nlls, perplexity, accuracy, text: ofText } of protocols) {
        const options = { protocol, context, ...(stride !== undefined && { stride }) } as PerplexityOptions;
        const got = await llm.perplexity(protocol === "lm-eval-rolling" ? text : ids, options);
        const name = `${model}, ${protocol}`;
        assert.equal(got.tokensPerWindow, tokensPerWindow, name);
        near(got.nlls, nlls, { absolute: 1e-4 }, name);
        near([got.perplexity], [perplexity], { relative: 1e-5 }, name);
        assert.equal([got.accuracy, got.tokens, got.windows, got.protocol], [accuracy, nlls.length, tokensPerWindow.length, protocol], name);
        assert.equal(Object.keys(got.text ?? {}), Object.keys(ofText ?? {}), name);
        if (ofText !== undefined) near(Object.values(got.text!), Object.values(ofText), { relative: 1e-5 }, name);
      }
      assert.equal(await llm.perplexity(text, { context: 48 }), await llm.perplexity(ids, { context: 48 }));
      const { peak: _, ...after } = llm.memory(), { peak: __, ...before } = memory;
      assert.equal(after, before, "what a measurement takes it gives back");
    });
  });
}

test("divergence of two models as transformers has it; both stand as they were, and the other way round is another number", async () => {
  const { base, model, ids, context, klds, sameTop } = GOLDEN.divergence;
  await withModel(base, F32, async (p) => {
    await withModel(model, F32, async (q) => {
      for (const protocol of ["strided", "decode"] as const) {
        const got = await q.divergence(p, ids, { protocol, context });
        near(got.klds, klds, { absolute: 1e-5, relative: 1e-4 }, `${protocol}: divergences`);
        assert.equal([...got.sameTop], sameTop, protocol);
        const [own, other] = [await q.perplexity(ids, { context }), await p.perplexity(ids, { context })];
        near(got.nlls, own.nlls, { absolute: 1e-4 }, `${protocol}: the model's own`);
        near(got.baseNlls, other.nlls, { absolute: 1e-4 }, `${protocol}: the base's`);
        assert.equal([got.hits, got.baseHits].map((hits) => hits.reduce((sum, hit) => sum + hit, 0) / hits.length), [own.accuracy, other.accuracy]);
      }
      // Both at the same time, each way round: neither waits for the other for ever.
      const [forth, back] = await Promise.all([q.divergence(p, ids, { context }), p.divergence(q, ids, { context })]);
      near(forth.nlls, back.baseNlls, { absolute: 1e-4 }, "the same model on both devices");
      assert.ok(back.klds.some((kld, i) => Math.abs(kld - forth.klds[i]!) > 0.1));
      // From logits on the host by the twin.
      const some = ids.slice(0, 20), [ofQ, ofP] = [await q.logits(some), await p.logits(some)], V = q.config.vocabSize;
      const { klds: few } = await q.divergence(p, some, { context: 20 });
      const row = (all: Float32Array, t: number): Float32Array => all.subarray(t * V, (t + 1) * V);
      near(few, some.slice(1).map((target, t) => compare(row(ofQ, t), row(ofP, t), target).kld), { absolute: 1e-6, relative: 1e-5 }, "by the twin");
    });
  });
});

test("identities: a model diverges from itself by nothing; decode is strided token by token; chunks and batches change nothing but rounding", async () => {
  const text = ids(101);
  await withModel(TINY, SMALL, async (llm) => {
    const disjoint = await llm.perplexity(text, { context: 33, stride: 33 });
    assert.equal(await llm.perplexity(text, { context: 33 }), disjoint);
    const decoded = await llm.perplexity(text, { protocol: "decode", context: 33 });
    near(decoded.nlls, disjoint.nlls, { absolute: 2e-4 }, "decode against prefill");
    await withModel(TINY, SMALLER, async (other) => {
      near((await other.perplexity(text, { context: 33 })).nlls, disjoint.nlls, { absolute: 2e-4 }, "in small chunks");
      near((await other.perplexity(text, { protocol: "decode", context: 33 })).nlls, decoded.nlls, { absolute: 2e-4 }, "one at a time");
      for (const protocol of ["strided", "decode"] as const) {
        const { klds, sameTop, tokens } = await llm.divergence(other, text, { protocol, context: 33 });
        assert.ok(klds.length === tokens && klds.every((kld) => kld >= 0 && kld < 1e-8), `${protocol}: ${Math.max(...klds)}`);
        assert.ok(sameTop.every((same) => same === 1), protocol);
      }
      await rejects(llm.divergence(other, ids(100), { context: 80 }), ContextLengthError, /^divergence \(base model\): context is 80, but maxModelLen is 64/);
    });
    // A generation is what it was before.
    const prompt = text.slice(0, 10), before = await llm.generate(prompt, { maxNewTokens: 8, ignoreEos: true });
    const [during] = await Promise.all([llm.generate(prompt, { maxNewTokens: 8, ignoreEos: true }), llm.perplexity(text, { context: 33 }), llm.perplexity(text, { protocol: "decode", context: 20 })]);
    assert.equal([during.ids, (await llm.generate(prompt, { maxNewTokens: 8, ignoreEos: true })).ids], [before.ids, before.ids]);
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("8 bytes per token come back, and 16 beside a base; of the base's logits a batch of rows at a time", async () => {
  const text = ids(97);
  await withGpus({}, async (gpus) => {
    await withModel(TINY, SMALL, async (llm) => {
      await withModel(TINY, SMALL, async (base) => {
        const asked = countCalls(gpus[0]!); // sees the reads of both
        let seen = 0;
        const read = (): readonly number[] => asked.readBack.slice(seen, seen = asked.readBack.length);
        await llm.perplexity(text, { context: 97 });
        assert.equal(read(), [6 * 16 * 8]); // 96 rows in batches of 16
        await llm.perplexity(text, { protocol: "decode", context: 97 });
        assert.equal(read(), [32 * 16 * 8, 32 * 16 * 8, 32 * 16 * 8]);
        await llm.divergence(base, text, { context: 97 });
        assert.equal(read(), [...Array<number>(6).fill(16 * 101 * 4), 6 * 16 * 16]);
        asked.stop();
      });
    });
  });
});

test("logits that are not finite: the token, its window and its place are named", async () => {
  await withCheckpoint("qwen2-mqa", ({ tensors }) => {
    const { data } = tensors.get("model.embed_tokens.weight")!;
    new Uint16Array(data.buffer, data.byteOffset)[64 * 5] = 0x7e00; // token 5 is NaN
  }, async (folder) => {
    await withModel(folder, SMALL, async (llm) => {
      // Each time it stands first of the rows that attend together, so the rows before it do not feel it.
      const text = [...ids(60).map((id) => (id === 5 ? 6 : id)), 5, 9, 9, 9];
      for (const [tokens, options, where] of [
        [text, { context: 32 }, /^perplexity: the model gave logits that are not finite numbers for token 61 of the text \(window 1, position 29\): .*load it with weights "f32"$/],
        [text, { protocol: "decode", context: 32 }, /for token 61 of the text \(window 1, position 29\)/],
        [[...text.slice(1), 9], { protocol: "lm-eval-rolling", context: 32, prefixToken: 1 }, /for token 60 of the text \(window 1, position 29\)/],
      ] as const) await rejects(llm.perplexity(tokens, options), NonFiniteLogitsError, where);
      await withModel(TINY, SMALL, async (good) => {
        await rejects(good.divergence(llm, text, { context: 32 }), NonFiniteLogitsError, /^divergence: the base model gave logits that are not finite numbers for token 61/);
        await rejects(llm.divergence(good, text, { context: 32 }), NonFiniteLogitsError, /^divergence: the model gave/);
      });
      assert.is((await llm.perplexity(text.slice(0, 60), { context: 20 })).windows, 3);
    });
  });
});

test("what cannot be measured is refused before anything runs; an abort leaves the model usable", async () => {
  await withModel(TINY, SMALL, async (llm) => {
    await rejects(llm.perplexity([], {}), UsageError, /^perplexity: no token ids were given$/);
    await rejects(llm.perplexity([1, 2, 101, 3], { context: 4 }), UsageError, /^perplexity: token 101 at index 2 is not an id from 0 to 100$/);
    await rejects(llm.perplexity(ids(20), { context: 32 }), UsageError, /20 tokens are fewer than one window of 32/);
    await rejects(llm.perplexity(ids(20), { context: 129 }), ContextLengthError, /context is 129, but maxModelLen is 128/);
    await rejects(llm.perplexity(ids(20), { protocol: "prefill" as never }), UsageError, /protocol must be one of strided, llama\.cpp, lm-eval-rolling, decode, prefill-continue, got "prefill"/);
    await rejects(llm.divergence(llm, ids(20), { context: 10 }), UsageError, /^divergence: base is this same model: give a press to compare with none, or load the model a second time$/);
    for (const protocol of ["strided", "decode"] as const) {
      const stop = new AbortController(), seen: number[] = [];
      const onProgress = (done: number, total: number): void => { seen.push(done, total); stop.abort(); };
      await rejects(llm.perplexity(ids(128), { protocol, context: 4, signal: stop.signal, onProgress }), AbortedError, /^perplexity was aborted$/);
      assert.equal(seen, protocol === "strided" ? [1, 32] : [16, 32]);
    }
    assert.is((await llm.perplexity(ids(20), { context: 10 })).tokens, 18);
    await withModel("tiny-neox-draft", F32, async (other) => {
      await rejects(other.perplexity("", {}), UsageError, /^perplexity: the text is empty$/);
      assert.is((await other.perplexity("Anne", { protocol: "lm-eval-rolling" })).text?.bytes, 4);
      await rejects(llm.divergence(other, ids(20), { context: 10 }), UsageError, /qwen2-mqa and .*tiny-neox-draft cannot be compared: their vocabularies have 101 and 4096 tokens/);
    });
  });
  await withModel(TINY, { ...SMALL, kvMemory: 2 * 4 * 16 * (16 + 16) * 4 }, async (llm) => {
    for (const protocol of ["strided", "decode"] as const) {
      await rejects(llm.perplexity(ids(100), { protocol, context: 100 }), ContextLengthError, /^perplexity: 99 tokens do not fit the KV cache: raise kvMemory$/);
    }
  });
  const closed = await LLM.load(TINY, SMALL);
  await closed.close();
  await rejects(closed.perplexity(ids(20), { context: 10 }), UsageError, /closed/);
});

test.run();
