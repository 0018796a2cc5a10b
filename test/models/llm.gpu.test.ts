/**
 * An LLM's life: what may happen at the same time, what is refused, how things end. Whoever leaves early, be it by a signal, by breaking
 * out of a stream or with the device, leaves the others their text, every block free, and no promise that nobody settles.
 */

import { getEventListeners } from "node:events";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { AbortedError, ContextLengthError, DeviceLostError, LLM, NonFiniteLogitsError, OutOfMemoryError, UsageError } from "../../index.ts";
import { bits, folderOf, withCheckpoint, withGpus, withModel } from "../support/llm.ts";
import { rejects } from "../support/rejects.ts";

const TINY = folderOf("qwen2-mqa");
const OPTIONS = { kv: "f32", maxModelLen: 256, maxSequences: 4, prefillChunk: 24 } as const;
const LONG = { maxNewTokens: 200, ignoreEos: true }, SHORT = { maxNewTokens: 12, ignoreEos: true };
const PROMPT = [1, 2, 3], OTHER = [9, 8, 7, 6, 5];

const pause = (ms: number): Promise<void> => new Promise((resolve) => { setTimeout(resolve, ms); });

const unhandled: unknown[] = [];
process.on("unhandledRejection", (reason) => { unhandled.push(reason); });

test.after.each(async () => {
  await pause(1);
  assert.equal(unhandled.splice(0), [], "rejections that nobody handled");
});

test("aborting: before, in the prefill, while decoding, after; the others go on and every block comes back", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    const alone = await llm.generate(OTHER, SHORT);
    const because = new Error("no longer wanted");
    const early = await rejects(llm.generate(PROMPT, { signal: AbortSignal.abort(because) }), AbortedError, /aborted/);
    assert.is(early.cause, because);
    await rejects(llm.stream(PROMPT, { signal: AbortSignal.abort() }).next(), AbortedError, /aborted/);

    for (const type of ["admitted", "prefill", "decode"] as const) {
      const controller = new AbortController();
      let left = type === "decode" ? 3 : 1;
      const off = llm.trace.on((event) => { if (event.type === type && --left === 0) controller.abort(because); });
      const doomed = llm.generate(Array.from({ length: 100 }, (_, i) => i % 90), { ...LONG, signal: controller.signal });
      const other = llm.generate(OTHER, SHORT);
      assert.is((await rejects(doomed, AbortedError, /aborted/)).cause, because);
      assert.equal((await other).ids, alone.ids, `beside one aborted at ${type}`);
      off();
      controller.abort(); // once more, and after the end
      await llm.logits(PROMPT); // runs after the loop has ended
      assert.is(llm.cacheStats().blocksUsed, 0, type);
    }
    const both = new AbortController();
    const batch = llm.generateBatch([PROMPT, OTHER], { ...LONG, signal: both.signal });
    setTimeout(() => { both.abort(); }, 5);
    await rejects(batch, AbortedError, /aborted/);
    assert.equal((await llm.generate(OTHER, SHORT)).ids, alone.ids);
  });
});

test("a signal that serves many requests is let go of by each", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    const { signal } = new AbortController();
    for (let i = 0; i < 3; i++) await llm.generateBatch([PROMPT, OTHER], { maxNewTokens: 1, signal });
    await rejects(llm.generateBatch([PROMPT, new Array<number>(300).fill(1)], { signal }), ContextLengthError, /300/);
    await pause(0);
    assert.is(getEventListeners(signal, "abort").length, 0);
  });
});

test("a stream gives the text in pieces; leaving it early gives the blocks back", async () => {
  await withModel("tiny-neox", { ...OPTIONS, maxModelLen: 512 }, async (llm) => {
    const { text, ids } = await llm.generate("Anne Elliot was", LONG);
    let streamed = "";
    const seen: number[] = [];
    const stream = llm.stream("Anne Elliot was", LONG);
    let step = await stream.next();
    for (; !step.done; step = await stream.next()) {
      streamed += step.value.text;
      seen.push(step.value.id);
    }
    assert.is(streamed, text);
    assert.equal([step.value.text, step.value.ids], [text, ids], "the stream returns the whole result");
    assert.ok(seen.every((id) => ids.includes(id)));
    for await (const _ of llm.stream("Anne Elliot was", LONG)) break;
    const unread = llm.stream("Anne Elliot was", LONG);
    await unread.next();
    await unread.return(undefined as never);
    llm.stream("Anne Elliot was", LONG); // never asked for anything: never begun
    await llm.logits([1, 2, 3]);
    assert.is(llm.cacheStats().blocksUsed, 0);
    const broken = async (): Promise<void> => { for await (const _ of llm.stream("Anne", LONG)) throw new RangeError("of the reader's own"); };
    await rejects(broken(), RangeError, /own/);
    await rejects(llm.stream([-1]).next(), UsageError, /token -1/);
    await rejects(llm.stream([1], { signal: "soon" } as object).next(), UsageError, /signal must be an AbortSignal/);
  });
});

test("a request may be made in whatever turn the one before it ends", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    for (let turns = 0; turns < 24; turns++) {
      const next = new Promise<unknown>((resolve, reject) => {
        const off = llm.trace.on(({ type }) => {
          if (type !== "finished") return;
          off();
          const begin = (left: number): void => {
            if (left > 0) queueMicrotask(() => { begin(left - 1); });
            else llm.generate(OTHER, { maxNewTokens: 1 }).then(resolve, reject);
          };
          begin(turns);
        });
      });
      await llm.generate(PROMPT, { maxNewTokens: 2, ignoreEos: true });
      const served = await Promise.race([next.then(() => true), pause(5000).then(() => false)]);
      assert.ok(served, `a request ${turns} turns after the last token was never served`);
    }
  });
});

test("the caller's list of ids may change once it has been handed over", async () => {
  await withModel(TINY, { ...OPTIONS, prefillChunk: 4 }, async (llm) => {
    const expected = await llm.generate(OTHER, LONG);
    const logits = bits(await llm.logits(OTHER));
    const ids = [...OTHER];
    const growing = llm.generate(ids, LONG);
    const read = llm.logits(ids);
    ids.push(1, 1, 1);
    ids[0] = 2;
    await llm.generate(PROMPT, SHORT); // joins and leaves, so the batch is written anew in between
    assert.equal((await growing).ids, expected.ids);
    assert.equal(bits(await read), logits);
  });
});

test("logits while text is generated, and the other way round", async () => {
  await withModel(TINY, OPTIONS, async (llm) => {
    const [text, logits] = [await llm.generate(PROMPT, LONG), bits(await llm.logits(OTHER))];
    const results = await Promise.all([llm.logits(OTHER), llm.generate(PROMPT, LONG), llm.logits(OTHER), llm.generate(PROMPT, LONG), llm.logits(OTHER)]);
    for (const i of [0, 2, 4]) assert.equal(bits(results[i] as Float32Array), logits);
    for (const i of [1, 3]) assert.equal((results[i] as typeof text).ids, text.ids);
  });
});

test("close() waits for what runs, frees everything, may be called twice, and ends the rest", async () => {
  const llm = await LLM.load(TINY, OPTIONS);
  const [running, reading] = [llm.generate(PROMPT, LONG), llm.logits(OTHER)];
  await pause(2);
  const closing = llm.close();
  await Promise.all([rejects(llm.generate(PROMPT), UsageError, /closed/), rejects(llm.logits(PROMPT), UsageError, /closed/),
    rejects(llm.stream(PROMPT).next(), UsageError, /closed/), rejects(llm.generateBatch([]), UsageError, /closed/)]);
  await llm.close();
  assert.is(llm.memory().total, 0, "the second call waits as well");
  await closing;
  assert.is((await running).ids.length, 200);
  assert.is((await reading).length, OTHER.length * llm.config.vocabSize);
  await rejects(llm.generate(PROMPT), UsageError, /closed/);
  assert.ok(llm.environment.limits.maxBufferSize! > 0, "what was known is still known");
  assert.is(llm.cacheStats().blocksUsed, 0);
});

test("a device that goes away ends every request with DeviceLostError, then and later", async () => {
  await withGpus({}, async (gpus) => {
    const llm = await LLM.load(TINY, OPTIONS);
    const running: Promise<unknown>[] = [llm.generate(PROMPT, LONG), llm.generate(OTHER, LONG)];
    const off = llm.trace.on(({ type }) => {
      if (type === "prefill") running.push(llm.logits(OTHER)); // waits for the loop
      if (type !== "decode") return;
      off();
      gpus[0]!.device.destroy();
    });
    for (const request of running) await rejects(request, DeviceLostError, /lost|went away/);
    await rejects(llm.generate(PROMPT), DeviceLostError, /lost/);
    await rejects(llm.logits(PROMPT), DeviceLostError, /lost/);
    await llm.close();
    assert.is(llm.memory().total, 0);
  });
});

test("NaN in the logits ends the requests it struck, and nothing of it stays in the cache", async () => {
  const poison = ({ tensors }: Parameters<Parameters<typeof withCheckpoint>[1]>[0]): void => {
    const { data, shape } = tensors.get("model.embed_tokens.weight")!;
    new DataView(data.buffer, data.byteOffset).setUint16(17 * shape[1]! * 2, 0x7fff, true); // NaN in bf16 and f16 alike, in token 17
  };
  await withCheckpoint("qwen2-mqa", poison, async (folder) => {
    await withModel(folder, { ...OPTIONS, kvMemory: 64 * 1024 }, async (llm) => {
      const alone = await llm.generate(PROMPT, SHORT);
      for (let round = 0; round < 3; round++) { // the blocks of the struck ones are taken again
        const good = llm.generate(PROMPT, SHORT);
        const struck = [llm.generate([1, 17], SHORT), llm.generate([...OTHER, 17, 4], { ...SHORT, temperature: 1, topK: 5, topP: 0.9 })];
        for (const [i, length] of [2, 7].entries()) await rejects(struck[i]!, NonFiniteLogitsError, new RegExp(`not finite numbers after ${length} tokens`));
        assert.equal((await good).ids, alone.ids);
        assert.is(llm.cacheStats().blocksUsed, 0);
      }
    });
  });
});

test("mistakes are refused before anything runs", async () => {
  await withModel("tiny-neox", { ...OPTIONS, maxSequences: 2 }, async (llm) => {
    await rejects(llm.generate(""), UsageError, /no tokens/);
    await rejects(llm.generate([]), UsageError, /no tokens/);
    for (const id of [5000, -1, 1.5, NaN]) await rejects(llm.generate([1, id]), UsageError, new RegExp(`token ${id} at index 1`));
    await rejects(llm.generateBatch(["fine", [4096]]), UsageError, /token 4096 at index 0/);
    await rejects(llm.generate("x", { temprature: 1 } as object), UsageError, /did you mean temperature/);
    await rejects(llm.generate("x", { stop: [""] }), UsageError, /none of them empty/);
    await rejects(llm.logits([]), UsageError, /no token ids/);
    await rejects(llm.logits(new Array<number>(257).fill(1)), ContextLengthError, /257 tokens are more than maxModelLen \(256\)/);
    await rejects(llm.generate(new Array<number>(256).fill(1)), ContextLengthError, /256 tokens, but maxModelLen is 256/);
    const other = llm.generate("Anne", SHORT);
    await rejects(llm.generateBatch(["fine", new Array<number>(256).fill(1)]), ContextLengthError, /256/);
    assert.is((await other).ids.length, 12, "a batch that is refused leaves what runs alone");
    assert.is(llm.cacheStats().blocksUsed, 0);
  });
});

test("a model that cannot be loaded leaves nothing on the GPU", async () => {
  const attempts = [
    [TINY, { maxModelLen: 100_000 }, ContextLengthError, /made for at most/], [TINY, { kvMemory: 100 }, OutOfMemoryError, /raise kvMemory/],
    [TINY, { kvMemory: 2 ** 40 }, OutOfMemoryError, /binds at most/], [TINY, { kvLayout: { name: "contiguous", reserve: "max" }, kvMemory: 5000 }, OutOfMemoryError, /maxModelLen/],
    ["tiny-neox", { prefillChunk: 65_535 }, OutOfMemoryError, /lower prefillChunk and maxSequences to \d+/], [TINY, { adapter: "none such" }, UsageError, /none such/],
    ["random:none-such", {}, UsageError, /none-such/], [`${TINY}-gone`, {}, UsageError, /no folder/],
  ] as const;
  await withGpus({}, async (gpus) => {
    for (const [model, options, type, message] of attempts) await rejects(LLM.load(model, options), type, message, JSON.stringify([model, options]));
    assert.ok(gpus.length > 0);
    for (const gpu of gpus) {
      assert.is(gpu.ledger.report().total, 0);
      await gpu.device.lost; // or the test hangs: the device was given back
    }
  });
});

test.run();
