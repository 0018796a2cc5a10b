import { test } from "uvu";
import * as assert from "uvu/assert";
import { BlockPool } from "../../models/blocks.ts";
import { PrefixCache } from "../../models/prefix_cache.ts";

const token = (i: number): number => 100 + i;

/** A pool of `total` blocks and a cache of one-token blocks, one per token. */
function setUp(total: number) {
  const pool = new BlockPool(total);
  const cache = new PrefixCache(pool, 1);
  /** Some sequence computes `count` tokens in blocks of its own and adds them below `parent`. */
  const compute = (first: number, count: number, parent = cache.match(token, first).at(-1) ?? null) => {
    const blocks = pool.allocate(count)!;
    blocks.forEach((block, i) => { parent = cache.add(parent, token, first + i, Uint32Array.of(block)); });
    return blocks;
  };
  return { pool, cache, compute };
}

test("every block that counts as free can be had, though blocks in use stand below idle ones in the tree", () => {
  const { pool, cache, compute } = setUp(8);
  const first = compute(0, 3);
  const second = compute(0, 5); // knows nothing of the first: its blocks 0 … 2 are its own, the cache keeps the first's
  pool.release(first);
  assert.equal([pool.free, pool.idle, cache.stats().cachedBlocks], [3, 3, 5]);

  const fresh = pool.allocate(3);
  assert.is(fresh?.length, 3);
  assert.equal([pool.free, pool.idle, cache.stats().cachedBlocks, cache.stats().evictedBlocks], [0, 0, 0, 5]);
  assert.equal(cache.match(token, 5), []);
  pool.release(second);
  pool.release(fresh!);
  assert.is(pool.free, 8);
});

test("leaves go before what lies above them, and no more of them than are wanted", () => {
  const { pool, cache, compute } = setUp(6);
  pool.release(compute(0, 4));
  assert.is(cache.match(token, 4).length, 4);
  const fresh = pool.allocate(4)!;
  assert.equal([cache.match(token, 4).length, pool.idle], [2, 2]);
  pool.release(fresh);
});

test("a node that was given up does not come back by being used", () => {
  const { pool, cache, compute } = setUp(4);
  pool.release(compute(0, 4));
  const chain = cache.match(token, 4);
  pool.release(pool.allocate(2)!);
  cache.touch(chain);
  assert.equal(chain.map((node) => cache.has(node)), [true, true, false, false]);
  cache.clear();
  assert.equal([pool.idle, pool.free, cache.stats().cachedBlocks], [0, 4, 0]);
});

test.run();
