/**
 * The cache with real keys in it: layouts must not change a bit of the logits, `truncate` must leave no trace, and `keep` must move
 * exactly the entries it was told, of each head by itself, and give the rest of the memory back.
 */

import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM } from "../../index.ts";
import type { KvLayout } from "../../models/options.ts";
import { withEngine, type Engine } from "../support/engine.ts";

const IDS = Array.from({ length: 60 }, (_, i) => (i * 97 + 11) % 4096);
const PAGED: KvLayout = { name: "paged", blockSize: 16 };

const bundled = (name: string): string => fileURLToPath(new URL(`../../assets/models/${name}`, import.meta.url));
const bits = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length);

for (const model of ["tiny-neox", "tiny-qwen2"]) {
  test(`${model}: paged equals contiguous bit for bit, whatever the block`, async () => {
    let expected: Uint32Array | undefined;
    for (const kvLayout of [{ name: "contiguous" }, PAGED, { name: "paged", blockSize: 7 }] as const) {
      const llm = await LLM.load(model, { kvLayout, maxModelLen: 128, maxSequences: 2 });
      const logits = bits(await llm.logits(IDS));
      const { ids } = await llm.generate(IDS, { maxNewTokens: 40, ignoreEos: true });
      await llm.close();
      const all = Uint32Array.from([...logits, ...ids]);
      expected ??= all;
      assert.ok(all.every((word, i) => word === expected![i]), `${kvLayout.name} ${"blockSize" in kvLayout ? kvLayout.blockSize : ""}`);
    }
  });
}

/** Keys and values of a table of one layer, [entries, headDim], as the GPU holds them. */
async function entriesOf({ gpu, cache }: Engine, slot: number, layer: number, head: number): Promise<{ k: Float32Array; v: Float32Array }[]> {
  const { tables, view } = cache;
  const [k, v] = [await gpu.readF32(view.kPool), await gpu.readF32(view.vPool)];
  const table = (slot * tables.layers + layer) * tables.kvHeads + head;
  const D = view.kPool.shape[1]!;
  return Array.from({ length: tables.lengths[table]! }, (_, entry) => {
    const at = (tables.ids[table * tables.maxBlocksPerTable + Math.floor(entry / tables.blockSize)]! * tables.blockSize + entry % tables.blockSize) * D;
    return { k: k.slice(at, at + D), v: v.slice(at, at + D) };
  });
}

test("keep: every head keeps its own entries, in order, and the blocks of the others come back", async () => {
  await withEngine({ folder: bundled("tiny-qwen2") }, async (engine) => {
    const { cache, prefill } = engine;
    const slot = cache.tables.open()!;
    await prefill([slot, IDS]);
    const before = [await entriesOf(engine, slot, 1, 0), await entriesOf(engine, slot, 1, 1), await entriesOf(engine, slot, 2, 0)];
    const kept = [Uint32Array.from([0, 3, 17, 18, 40, 59]), Uint32Array.from({ length: 30 }, (_, i) => 2 * i)];
    const free = cache.tables.pool.free;
    assert.ok(await cache.keep(slot, 1, kept));
    assert.is(cache.tables.pool.free - free, 2 * 4 - 1 - 2, "two tables of 4 blocks became one of 1 and one of 2");
    for (const head of [0, 1]) {
      const after = await entriesOf(engine, slot, 1, head);
      assert.equal(after, [...kept[head]!].map((entry) => before[head]![entry]!));
    }
    assert.equal(await entriesOf(engine, slot, 2, 0), before[2], "other layers are as they were");
    assert.is(cache.tables.position(slot), 60, "the next token still has position 60");
    cache.tables.check();
    const evicted = await prefill([slot, [5]]);

    // Appending goes on behind the survivors, and what was evicted changes the logits.
    const other = cache.tables.open()!;
    await prefill([other, IDS]);
    const whole = await prefill([other, [5]]);
    assert.ok(Math.max(...evicted.map((value, i) => Math.abs(value - whole[i]!))) > 1e-3);
    assert.is((await entriesOf(engine, slot, 1, 0)).length, 7);
    cache.tables.close(slot);
    cache.tables.close(other);
    assert.is(cache.tables.pool.used, 0);
  });
});

test("keep of everything changes nothing: logits that follow are the same to the bit", async () => {
  await withEngine({ folder: bundled("tiny-neox") }, async ({ cache, prefill }) => {
    const [slot, other] = [cache.tables.open()!, cache.tables.open()!];
    await prefill([slot, IDS]);
    await prefill([other, IDS]);
    const all = Array.from({ length: cache.tables.kvHeads }, () => Uint32Array.from(IDS.keys()));
    for (let layer = 0; layer < cache.tables.layers; layer++) assert.ok(await cache.keep(slot, layer, all));
    assert.equal(bits(await prefill([slot, [5, 6]])), bits(await prefill([other, [5, 6]])));
  });
});

test("truncate: back across blocks, and on again as if nothing had been there", async () => {
  await withEngine({ folder: bundled("tiny-neox") }, async ({ cache, prefill }) => {
    const slot = cache.tables.open()!;
    await prefill([slot, IDS.slice(0, 30)]);
    const blocks = cache.tables.pool.used;
    const expected = await prefill([slot, IDS.slice(30, 50)]);
    cache.truncate(slot, 30);
    assert.is(cache.tables.pool.used, blocks);
    await prefill([slot, [1, 2, 3, 4, 5, 6, 7, 8, 9]]); // something else first, rolled back in the middle of a block
    cache.truncate(slot, 33);
    cache.truncate(slot, 30);
    assert.equal(bits(await prefill([slot, IDS.slice(30, 50)])), bits(expected));
    cache.tables.check();
  });
});

test.run();
