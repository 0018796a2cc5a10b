/** The block pool against a set of ids: all or nothing, no block twice, nothing lost, and our own mistakes are caught. */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BlockPool } from "../../models/blocks.ts";

test("a fresh pool hands out its blocks in order, then null", () => {
  const pool = new BlockPool(4);
  assert.equal([...pool.allocate(3)!], [0, 1, 2]);
  assert.is(pool.allocate(2), null);
  assert.is(pool.free, 1);
  assert.is(pool.used, 3);
  assert.equal([...pool.allocate(1)!], [3]);
  assert.equal([...pool.allocate(0)!], []);
});

test("the block given back last is handed out first", () => {
  const pool = new BlockPool(8);
  const ids = pool.allocate(6)!;
  pool.release([ids[1]!, ids[4]!]);
  assert.equal([...pool.allocate(2)!], [4, 1]);
});

test("releasing a block twice, a free one or a foreign one throws", () => {
  const pool = new BlockPool(4);
  const ids = pool.allocate(2)!;
  pool.release([ids[0]!]);
  for (const wrong of [[ids[0]!], [3], [4], [-1], [1.5], [ids[1]!, ids[1]!]]) {
    assert.throws(() => pool.release(wrong), /not in use/);
  }
});

test("a shared block goes back with its last owner; a kept one is idle until its keeper gives it up", () => {
  const pool = new BlockPool(4);
  const ids = pool.allocate(3)!;
  pool.share(ids.subarray(0, 1));
  pool.release(ids.subarray(0, 1));
  assert.equal([pool.used, pool.owners(ids[0]!)], [3, 1]);
  pool.keep(ids.subarray(1));
  pool.release(ids);
  assert.equal([pool.free, pool.idle, pool.used], [4, 2, 0]);
  assert.throws(() => pool.release([ids[1]!]), /the keeper still has it/);
  assert.throws(() => pool.keep([ids[2]!]), /kept twice/);
  assert.throws(() => pool.share([ids[0]!]), /not in use/);
});

test("a keeper is asked when free blocks do not suffice, and only for what is missing", () => {
  const pool = new BlockPool(4), asked: number[] = [];
  const kept = pool.allocate(3)!;
  pool.keep(kept);
  pool.release(kept);
  pool.setKeeper({ reclaim: (count) => { asked.push(count); pool.giveUp(kept.subarray(0, count)); } });
  assert.is(pool.allocate(1)!.length, 1);
  assert.equal(asked, []);
  assert.is(pool.allocate(2)!.length, 2);
  assert.equal([asked, pool.free, pool.idle], [[2], 1, 1]);
  assert.is(pool.allocate(2), null);
  assert.throws(() => pool.giveUp(kept.subarray(0, 1)), /not kept/);
});

test("a pool of a broken size is refused", () => {
  for (const total of [-1, 2.5, NaN, Infinity]) assert.throws(() => new BlockPool(total), /whole number/);
});

test("random allocations and releases: ids are unique, in range, and free + used = total", () => {
  const step = fc.oneof(fc.record({ allocate: fc.nat(12) }), fc.record({ release: fc.nat(20) }));
  fc.assert(fc.property(fc.integer({ min: 0, max: 40 }), fc.array(step, { maxLength: 60 }), (total, steps) => {
    const pool = new BlockPool(total);
    const held: number[] = [];
    for (const step of steps) {
      if ("allocate" in step) {
        const free = total - held.length;
        const ids = pool.allocate(step.allocate);
        assert.is(ids === null, step.allocate > free);
        if (ids !== null) held.push(...ids);
      } else {
        pool.release(held.splice(step.release % (held.length + 1)));
      }
      assert.is(new Set(held).size, held.length);
      assert.ok(held.every((id) => id >= 0 && id < total && pool.owners(id) === 1));
      assert.is(pool.used, held.length);
      assert.is(pool.free, total - held.length);
    }
  }), { numRuns: 200 });
});

test.run();
