/** The arithmetic of reserved memory, by hand and against each other. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { contiguousExact, contiguousMax, lifetimeWaste, paged, reservedEntries, sequencesThatFit, waste, type Lengths } from "../../techniques/paged_attention/index.ts";

test("the layouts are plain values", () => {
  assert.equal([contiguousMax, contiguousExact], [{ name: "contiguous", reserve: "max" }, { name: "contiguous", reserve: "exact" }]);
  assert.equal(paged(), { name: "paged", blockSize: 16 });
  assert.equal(paged(32), { name: "paged", blockSize: 32 });
});

test("paged takes whole blocks as it grows, exact its end from the start, max the longest sequence", () => {
  assert.equal([0, 1, 16, 17, 32].map((tokens) => reservedEntries(paged(), tokens, 512, 100)), [0, 16, 16, 32, 32]);
  assert.equal([1, 17].map((tokens) => reservedEntries(contiguousExact, tokens, 512, 100)), [100, 100]);
  assert.is(reservedEntries(contiguousExact, 17, 512), 17);
  assert.is(reservedEntries(contiguousMax, 17, 512, 100), 512);
});

test("waste is what is reserved and holds no token", () => {
  assert.is(waste(contiguousMax, [128], 512), 0.75);
  assert.is(waste(contiguousExact, [128, 5], 512), 0);
  assert.is(waste(paged(), [16, 32], 512), 0);
  assert.is(waste(paged(), [1, 17], 512), 1 - 18 / 48);
  assert.is(waste(paged(), [], 512), 0);
});

test("waste over the life of a request counts it at every length it had", () => {
  // 3 tokens of prompt and 2 new ones: 3, then 4 are held.
  assert.is(lifetimeWaste(contiguousMax, [{ prompt: 3, output: 2 }], 10), 1 - 7 / 20);
  assert.is(lifetimeWaste(contiguousExact, [{ prompt: 3, output: 2 }], 10), 1 - 7 / 10);
  assert.is(lifetimeWaste(paged(4), [{ prompt: 3, output: 2 }], 10), 1 - 7 / 8);
  assert.is(lifetimeWaste(paged(4), [{ prompt: 4, output: 2 }], 10), 1 - 9 / 12);
  assert.is(lifetimeWaste(paged(), [], 10), 0);
});

test("over all lengths a paged sequence wastes (B − 1) / 2 entries on average", () => {
  for (const block of [1, 16, 64]) {
    const lengths = Array.from({ length: 8 * block }, (_, i) => i + 1);
    const wasted = lengths.map((tokens) => reservedEntries(paged(block), tokens, 8 * block) - tokens);
    assert.is(Math.max(...wasted), block - 1);
    assert.is(wasted.reduce((a, b) => a + b) / wasted.length, (block - 1) / 2);
  }
});

test("paging never reserves more than the maximum when that is a whole number of blocks, nor a block more than exact", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 40 }), fc.array(fc.nat(), { minLength: 1, maxLength: 8 }), (block, blocks, numbers) => {
    const most = block * blocks, lengths = numbers.map((n) => 1 + n % most);
    for (const tokens of lengths) {
      assert.ok(reservedEntries(paged(block), tokens, most) <= reservedEntries(contiguousMax, tokens, most));
      assert.ok(reservedEntries(paged(block), tokens, most) < reservedEntries(contiguousExact, tokens, most) + block);
    }
    const fits = [contiguousMax, paged(block), contiguousExact].map((layout) => sequencesThatFit(layout, lengths, most, 10 * most));
    assert.ok(fits[0]! <= fits[1]! && fits[1]! <= fits[2]!, fits.join());
    const requests: Lengths[] = lengths.map((tokens) => ({ prompt: tokens, output: most - tokens + 1 }));
    for (const share of [waste(paged(block), lengths, most), lifetimeWaste(paged(block), requests, most + 1)]) assert.ok(share >= 0 && share < 1);
  }));
});

test("how many sequences fit a budget, one after the other and over again", () => {
  assert.is(sequencesThatFit(contiguousMax, [100], 512, 2048), 4);
  assert.is(sequencesThatFit(paged(), [100], 512, 2048), 18);
  assert.is(sequencesThatFit(paged(), [512], 512, 100), 0);
  assert.is(sequencesThatFit(contiguousExact, [10, 30], 512, 89), 4); // 10, 30, 10, 30
  assert.is(sequencesThatFit(contiguousExact, [10, 30], 512, 90), 5);
  assert.is(sequencesThatFit(contiguousExact, [], 512, 90), 0);
});

test("counting in rounds is counting one by one", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 }), fc.integer({ min: 0, max: 2000 }), (lengths, entries) => {
    let left = entries, count = 0;
    while ((left -= lengths[count % lengths.length]!) >= 0) count++;
    assert.is(sequencesThatFit(contiguousExact, lengths, 512, entries), count);
  }));
});

test.run();
