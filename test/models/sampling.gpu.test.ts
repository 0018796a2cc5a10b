/**
 * Sampling options end to end: each against the model's own logits with the option applied by hand, alone and beside other requests. The
 * kernels are tested against their twins in test/kernels/sample.gpu.test.ts and logprobs.gpu.test.ts.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError, type GenerateOptions, type GenerateResult, type LLM } from "../../index.ts";
import { withModel, withoutWarmUp } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

// What is tested here does not depend on what is compiled beforehand, and compiling takes most of the time on a fresh machine.
test.after(withoutWarmUp());

const OPTIONS = { kv: "f32", maxModelLen: 512, maxSequences: 8 } as const;
const PROMPT = "It was a dark night, a very dark night, and the";
const FREE: GenerateOptions = { maxNewTokens: 40, ignoreEos: true };

/** Logits of every step of a generation, teacher-forced. */
async function stepsOf(llm: LLM, prompt: readonly number[], { ids }: GenerateResult): Promise<Float32Array[]> {
  const V = llm.config.vocabSize;
  const rows = await llm.logits([...prompt, ...ids.slice(0, -1)]);
  return ids.map((_, i) => rows.subarray((prompt.length - 1 + i) * V, (prompt.length + i) * V));
}

function argmax(row: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}

test("penalties and biases: every greedy token is the argmax of the logits with them applied by hand", async () => {
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    const prompt = await llm.tokenizer.encode(PROMPT);
    const plain = await llm.generate(prompt, FREE);
    const common = plain.ids[3]!;
    const cases: GenerateOptions[] = [
      { repetitionPenalty: 1.3 }, { presencePenalty: 1.5 }, { frequencyPenalty: 0.8 }, { logitBias: { [common]: -Infinity } }, { logitBias: { [common]: 3, 7: -2 } },
      { repetitionPenalty: 0.9, presencePenalty: -0.5, frequencyPenalty: 0.3, logitBias: { 11: 4 } },
    ];
    for (const options of cases) {
      const result = await llm.generate(prompt, { ...FREE, ...options });
      assert.not.equal(result.ids, plain.ids, `${JSON.stringify(options)} changed nothing`);
      const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logitBias = {} } = options;
      (await stepsOf(llm, prompt, result)).forEach((row, step) => {
        const text = result.ids.slice(0, step);
        const adjusted = Float64Array.from(row, (value, id) => {
          const times = text.filter((other) => other === id).length;
          if (times > 0 || prompt.includes(id)) value = value > 0 ? value / repetitionPenalty : value * repetitionPenalty;
          return value - times * frequencyPenalty - (times > 0 ? presencePenalty : 0) + (logitBias[id] ?? 0);
        });
        const best = argmax(adjusted), chosen = result.ids[step]!;
        assert.ok(chosen === best || adjusted[best]! - adjusted[chosen]! < 1e-3, `${JSON.stringify(options)}, step ${step}: ${chosen} instead of ${best}`);
      });
    }
    assert.equal((await llm.generate(prompt, FREE)).ids, plain.ids, "a plain request in the same slot afterwards");
  });
});

test("penalties beside other requests, and across preemption: every text is the one it has alone", async () => {
  const requests: GenerateOptions[] = [
    FREE, { ...FREE, repetitionPenalty: 1.4 }, { ...FREE, temperature: 0.8, minP: 0.05, seed: 9, presencePenalty: 0.6 }, { ...FREE, logitBias: { 5: 2 } },
  ];
  let alone: (readonly number[])[] = [];
  for (const kvMemory of [undefined, 24 * 11 * 2 * 16 * 32 * 4]) {
    await withModel("tiny-neox", { ...OPTIONS, ...(kvMemory !== undefined && { kvMemory }) }, async (llm) => {
      if (kvMemory === undefined) for (const options of requests) alone.push((await llm.generate(PROMPT, options)).ids);
      const together = await Promise.all(requests.map((options) => llm.generate(PROMPT, options)));
      assert.equal(together.map(({ ids }) => ids), alone);
      if (kvMemory !== undefined) assert.ok(llm.cacheStats().preemptions > 0);
    });
  }
});

test("log-probabilities: of the chosen and the likeliest tokens, from the raw logits, in one pass with the rest", async () => {
  await withModel("tiny-qwen2", OPTIONS, async (llm) => {
    const prompt = await llm.tokenizer.encode(PROMPT);
    const [result, plain] = await Promise.all([
      llm.generate(prompt, { ...FREE, temperature: 1.2, seed: 3, logprobs: 5, presencePenalty: 1 }), llm.generate(prompt, FREE),
    ]);
    assert.is(plain.logprobs, undefined);
    assert.equal(result.logprobs!.map(({ id }) => id), result.ids);
    (await stepsOf(llm, prompt, result)).forEach((row, step) => {
      const top = row[argmax(row)]!;
      const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value - top), 0)) + top;
      const { id, logprob, rank, top: likeliest } = result.logprobs![step]!;
      assert.ok(Math.abs(logprob - (row[id]! - total)) < 1e-3, `step ${step}: ${logprob} instead of ${row[id]! - total}`);
      assert.is(likeliest.length, 5);
      const greater = row.filter((value) => value > row[id]! + 1e-4).length, near = row.filter((value) => Math.abs(value - row[id]!) <= 1e-4).length;
      assert.ok(rank >= greater && rank < greater + near, `step ${step}: rank ${rank}`);
      likeliest.forEach((each, i) => {
        assert.ok(Math.abs(each.logprob - (row[each.id]! - total)) < 1e-3);
        assert.ok(i === 0 || each.logprob <= likeliest[i - 1]!.logprob);
      });
    });
    const { logprobs } = await llm.generate(prompt, { ...FREE, logprobs: 0 });
    assert.ok(logprobs!.length === 40 && logprobs!.every(({ rank, top }) => rank === 0 && top.length === 0), "greedy takes the likeliest; none beside it was asked for");
  });
});

test("a seed gives the same text alone, in a batch, and in another place of it", async () => {
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    const sampled: GenerateOptions = { ...FREE, temperature: 1, topP: 0.95, minP: 0.02, seed: 42 };
    const alone = (await llm.generate(PROMPT, sampled)).ids;
    const others = [1, 2, 3, 4].map((seed) => llm.generate(PROMPT, { ...sampled, seed }));
    const last = llm.generate(PROMPT, sampled);
    assert.equal((await last).ids, alone);
    assert.is(new Set((await Promise.all(others)).map(({ ids }) => ids.join())).size, 4);
  });
});

test("bad sampling options are refused with their range, before anything runs", async () => {
  await withModel("tiny-neox", OPTIONS, async (llm) => {
    const cases: [GenerateOptions, RegExp][] = [
      [{ minP: 1.5, temperature: 1 }, /minP must be a number from 0 to 1, got 1.5/], [{ minP: 0.1 }, /minP have no effect at temperature 0/],
      [{ repetitionPenalty: 0 }, /repetitionPenalty must be a number above 0 to 100/], [{ presencePenalty: 3 }, /presencePenalty must be a number from -2 to 2/],
      [{ frequencyPenalty: NaN }, /frequencyPenalty must be/], [{ logprobs: 21 }, /logprobs must be a whole number from 0 to 20/],
      [{ logitBias: { 999999: 1 } }, /logitBias: token 999999/], [{ logitBias: { 5: Infinity } }, /logitBias must be at most 300 token ids/],
      [{ logitBias: { apple: 1 } as never }, /logitBias must be/],
    ];
    for (const [options, message] of cases) await rejects(llm.generate(PROMPT, options), UsageError, message);
  });
});

test.run();
