/**
 * The cache with real keys in it: layouts must not change a bit of the logits, `truncate` must leave no trace, and `keep` must move
 * exactly the entries it was told, of each head by itself, and give the rest of the memory back. The oracle is a model on the host whose
 * cache is a list per head (support/qwen_twin.ts).
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { LLM } from "../../index.ts";
import { KvCache } from "../../models/kv_cache.ts";
import type { KvChoice, KvLayout } from "../../models/options.ts";
import { kvInWords } from "../support/cache.ts";
import { blockTables, entriesOf, withEngine, type Engine } from "../support/engine.ts";
import { uniform } from "../support/gpu.ts";
import { bits, folderOf, relativeError } from "../support/llm.ts";
import { QwenTwin, SequenceTwin } from "../support/qwen_twin.ts";

/** `count` token ids that say nothing. */
const idsOf = (count: number, vocabSize: number): number[] => Array.from({ length: count }, (_, i) => (i * 97 + 11) % vocabSize);

/** Models, the formats of their keys, and the sizes of block held against one as long as the longest sequence. */
const LAYOUTS: readonly (readonly [model: string, kv: KvChoice, blockSizes: readonly number[]])[] = [
  ["tiny-neox", "f16", [16, 7]], ["tiny-qwen2", "f16", [16, 32]], ["qwen2-gqa-tied-f32", "bf16", [8, 1]], ["qwen3-gqa-tied", "f32", [32]],
  ["tiny-neox", { k: "int8", v: "int4" }, [16]],
];
for (const [model, kv, blockSizes] of LAYOUTS) {
  test(`${model} with ${kvInWords(kv)}: paged equals contiguous bit for bit, in blocks of ${blockSizes.join(" and ")}`, async () => {
    const run = async (kvLayout: KvLayout): Promise<Uint32Array> => {
      const llm = await LLM.load(folderOf(model), { kv, kvLayout, maxModelLen: 128, maxSequences: 2, prefillChunk: 24 });
      const prompt = idsOf(60, llm.config.vocabSize);
      const logits = bits(await llm.logits(prompt));
      const { ids } = await llm.generate(prompt, { maxNewTokens: 40, ignoreEos: true });
      await llm.close();
      return Uint32Array.from([...logits, ...ids]);
    };
    const expected = await run({ name: "contiguous", reserve: "max" });
    for (const blockSize of blockSizes) {
      const words = await run({ name: "paged", blockSize });
      assert.ok(words.every((word, i) => word === expected[i]), `blocks of ${blockSize}`);
    }
  });
}


test("keep: every head keeps its own entries, in order, and the blocks of the others come back", async () => {
  await withEngine({ folder: folderOf("tiny-qwen2") }, async (engine) => {
    const { cache, tables, config } = engine;
    const slot = tables.open(150)!;
    await engine.prefill([slot, idsOf(60, config.vocabSize)]);
    const before = [await entriesOf(engine, slot, 1, 0), await entriesOf(engine, slot, 1, 1), await entriesOf(engine, slot, 2, 0)];
    const kept = [Uint32Array.from([0, 3, 17, 18, 40, 59]), Uint32Array.from({ length: 30 }, (_, i) => 2 * i)];
    const free = tables.pool.free;
    assert.ok(await cache.keep(slot, 1, kept));
    assert.is(tables.pool.free - free, 2 * 4 - 1 - 2, "two tables of 4 blocks became one of 1 and one of 2");
    for (const head of [0, 1]) assert.equal(await entriesOf(engine, slot, 1, head), [...kept[head]!].map((entry) => before[head]![entry]!));
    assert.equal(await entriesOf(engine, slot, 2, 0), before[2], "other layers are as they were");
    assert.is(tables.position(slot), 60, "the next token still has position 60");
    assert.ok(await cache.keep(slot, 2, [new Uint32Array(), new Uint32Array()]), "a head may lose everything");
    assert.equal(await entriesOf(engine, slot, 2, 0), []);
    await engine.prefill([slot, [5]]);
    assert.is((await entriesOf(engine, slot, 1, 0)).length, 7, "appending goes on behind the survivors");
    tables.check();
    tables.close(slot);
    assert.is(tables.pool.used, 0);
  });
});

for (const kv of ["f32", { k: "int8", v: "int4" }] as const) test(`keep of everything changes nothing: logits that follow are the same to the bit, ${kvInWords(kv)}`, async () => {
  await withEngine({ folder: folderOf("tiny-neox"), kv }, async ({ cache, tables, prefill, config }) => {
    const ids = idsOf(60, config.vocabSize);
    const [slot, other] = [tables.open(150)!, tables.open(150)!];
    await prefill([slot, ids]);
    await prefill([other, ids]);
    const all = Array.from({ length: tables.kvHeads }, () => Uint32Array.from(ids.keys()));
    for (let layer = 0; layer < tables.layers; layer++) assert.ok(await cache.keep(slot, layer, all));
    assert.equal(bits(await prefill([slot, [5, 6]])), bits(await prefill([other, [5, 6]])));
  });
});

test("a token reads what was stored whether it is decoded or prefilled: coarse formats move the logits, and decoding moves them alike", async () => {
  const logitsOf = async (kv: KvChoice): Promise<{ prefilled: Float32Array; decoded: Float32Array }> => {
    let result: { prefilled: Float32Array; decoded: Float32Array } | undefined;
    await withEngine({ folder: folderOf("tiny-neox"), kv }, async ({ tables, prefill, decode, config }) => {
      const ids = idsOf(40, config.vocabSize);
      const [whole, steps] = [tables.open(150)!, tables.open(150)!];
      const prefilled = (await prefill([whole, ids])).slice(-config.vocabSize);
      await prefill([steps, ids.slice(0, 20)]);
      let decoded: Float32Array = new Float32Array();
      for (const id of ids.slice(20)) decoded = await decode([steps, id]);
      result = { prefilled, decoded };
    });
    return result!;
  };
  const exact = await logitsOf("f32");
  assert.ok(relativeError(exact.decoded, exact.prefilled) < 1e-5);
  let last = 0;
  for (const kv of ["f16", "int8", "int4"] as const) {
    const { prefilled, decoded } = await logitsOf(kv);
    const [coarse, apart] = [relativeError(prefilled, exact.prefilled), relativeError(decoded, prefilled)];
    // Keys from another kernel may be off by a last bit, which now and then is another code.
    assert.ok(apart < coarse / 4, `${kv}: decoding is off by ${apart} of prefill, the format by ${coarse}`);
    assert.ok(coarse > last, `${kv} costs more than the format before it: ${coarse}, ${last}`);
    last = coarse;
  }
});

test("keep of more entries than one grid has workgroups", async () => {
  const gpu = await Gpu.open();
  const [kvHeads, headDim, length, count] = [8, 8, 9000, 8500];
  const cache = await KvCache.create(gpu, {
    layers: 1, kvHeads, headDim, format: "f32", layout: { name: "paged", blockSize: 16 }, slots: 1, maxModelLen: length, memory: null, sequences: 2, rows: 8,
  });
  const tables = blockTables(cache), slot = tables.open(length)!;
  tables.reserve(slot, length);
  tables.advance(slot, length);
  const keys = new Float32Array(cache.view.kPool.buffer.size / 4).map((_, i) => i);
  gpu.upload(cache.view.kPool.buffer, 0, keys);
  const before = Array.from({ length: kvHeads }, (_, head) => entryRows(cache, head));
  const kept = Uint32Array.from({ length: count }, (_, i) => length - count + i);
  assert.ok(await cache.keep(slot, 0, Array.from({ length: kvHeads }, () => kept)));
  const after = await gpu.readF32(cache.view.kPool);
  for (let head = 0; head < kvHeads; head++) {
    const wrong = entryRows(cache, head).findIndex((row, i) => after[row * headDim + 3] !== before[head]![kept[i]!]! * headDim + 3);
    assert.is(wrong, -1, `head ${head}`);
  }
  gpu.close();
});

/** Rows of the pools that hold the entries of a head in slot 0, layer 0. */
function entryRows(cache: KvCache, head: number): number[] {
  const tables = blockTables(cache);
  return Array.from({ length: tables.lengths[head]! }, (_, i) =>
    tables.ids[head * tables.tableWidth + Math.floor(i / tables.blockSize)]! * tables.blockSize + i % tables.blockSize);
}

test("truncate: back across blocks, and on again as if nothing had been there", async () => {
  await withEngine({ folder: folderOf("tiny-neox") }, async ({ cache, tables, prefill, decode, config }) => {
    const ids = idsOf(60, config.vocabSize);
    const slot = tables.open(150)!;
    await prefill([slot, ids.slice(0, 30)]);
    const blocks = tables.pool.used;
    const expected = await prefill([slot, ids.slice(30, 50)]);
    cache.truncate(slot, 30);
    assert.is(tables.pool.used, blocks);
    await prefill([slot, [1, 2, 3, 4, 5, 6, 7, 8, 9]]); // something else first, rolled back in the middle of a block
    for (let i = 0; i < 9; i++) await decode([slot, 10 + i]);
    cache.truncate(slot, 33);
    cache.truncate(slot, 30);
    assert.is(tables.pool.used, blocks);
    assert.equal(bits(await prefill([slot, ids.slice(30, 50)])), bits(expected));
    cache.truncate(slot, 0);
    assert.is(tables.pool.used, 0);
    tables.check();
  });
});

for (const name of ["qwen2-gqa-tied-f32", "qwen3-gqa-tied"]) {
  test(`${name}: any order of append, decode, keep, truncate and close gives the logits of the twin`, async () => {
    const folder = folderOf(name);
    const twin = await QwenTwin.read(folder);
    await withEngine({ folder, rows: 24, slots: 3, layout: { name: "paged", blockSize: 8 } }, async (engine) => {
      const done = new Set<string>();
      for (const seed of [1, 2, 3]) await walk(engine, twin, seed, 60, done);
      assert.equal([...done].sort(), ["close", "decode", "keep", "open", "prefill", "truncate"], "every verb had its turn");
    });
  });
}

/** A seeded walk over the verbs with up to three sequences; after every forward the logits are compared. */
async function walk({ cache, tables, prefill, decode, config }: Engine, twin: QwenTwin, seed: number, steps: number, done: Set<string>): Promise<void> {
  const random = uniform(seed);
  const below = (n: number): number => Math.floor(random() * n);
  const some = (n: number): number[] => Array.from({ length: n }, () => below(config.vocabSize));
  const open = new Map<number, SequenceTwin>();
  const compare = (logits: Float32Array, expected: readonly Float64Array[], what: string): void => {
    const error = relativeError(logits, expected.flatMap((rows) => [...rows]));
    assert.ok(error <= 2e-5, `seed ${seed}, ${what}: off by ${error}`);
  };
  for (let step = 0; step < steps; step++) {
    const all = [...open.keys()].filter((slot) => open.get(slot)!.position < 150);
    const slot = all[below(all.length)];
    const sequence = slot === undefined ? undefined : open.get(slot)!;
    const verb = ["open", "prefill", "prefill", "decode", "decode", "decode", "keep", "keep", "truncate", "close"][below(10)]!;
    if (verb === "open") {
      if (open.size === 3) continue;
      open.set(tables.open(150)!, new SequenceTwin(config));
    } else if (slot === undefined || sequence === undefined) {
      continue;
    } else if (verb === "prefill") {
      const parts = all.map((each) => [each, some(1 + below(8))] as const); // several sequences in one pass
      compare(await prefill(...parts), parts.map(([each, ids]) => twin.forward(open.get(each)!, ids)), `step ${step} ${verb}`);
    } else if (verb === "decode") {
      const parts = all.map((each) => [each, below(config.vocabSize)] as const);
      compare(await decode(...parts), parts.map(([each, id]) => twin.forward(open.get(each)!, [id])), `step ${step} ${verb}`);
    } else if (verb === "keep") {
      const layer = below(config.layers), share = random();
      const kept = sequence.tables[layer]!.map(({ k }) => Uint32Array.from(k.keys()).filter(() => random() < share));
      assert.ok(await cache.keep(slot, layer, kept));
      sequence.keep(layer, kept);
    } else if (verb === "truncate") {
      const position = Math.max(0, sequence.position - below(20));
      try {
        cache.truncate(slot, position);
      } catch (error) {
        assert.match((error as Error).message, /newest without a gap/); // one of those tokens has been evicted
        continue;
      }
      sequence.truncate(position);
    } else if (verb === "close") {
      tables.close(slot);
      open.delete(slot);
    }
    done.add(verb);
    tables.check();
  }
  for (const slot of open.keys()) tables.close(slot);
  assert.is(tables.pool.used, 0);
}

test.run();
