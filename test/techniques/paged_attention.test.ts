/** The arithmetic of reserved memory, by hand and against each other. */
import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { blocksNeeded, contiguous, paged, reservedEntries, sequencesThatFit, waste } from "../../techniques/paged_attention/index.ts";

test("the layouts are plain values", () => {
  assert.equal(contiguous, { name: "contiguous" });
  assert.equal(paged(), { name: "paged", blockSize: 16 });
  assert.equal(paged(32), { name: "paged", blockSize: 32 });
});

test("paged takes whole blocks, contiguous the longest sequence", () => {
  assert.equal([0, 1, 16, 17, 32].map((tokens) => blocksNeeded(paged(), tokens)), [0, 1, 1, 2, 2]);
  assert.equal([1, 16, 17].map((tokens) => reservedEntries(paged(), tokens, 512)), [16, 16, 32]);
  assert.is(reservedEntries(contiguous, 17, 512), 512);
});

test("waste is what is reserved and holds no token", () => {
  assert.is(waste(contiguous, [128], 512), 0.75);
  assert.is(waste(paged(), [16, 32], 512), 0);
  assert.is(waste(paged(), [1, 17], 512), 1 - 18 / 48);
  assert.is(waste(paged(), [], 512), 0);
});

test("over all lengths a paged sequence wastes (B − 1) / 2 entries on average", () => {
  for (const block of [1, 16, 64]) {
    const lengths = Array.from({ length: 8 * block }, (_, i) => i + 1);
    const wasted = lengths.map((tokens) => reservedEntries(paged(block), tokens, 8 * block) - tokens);
    assert.is(Math.max(...wasted), block - 1);
    assert.is(wasted.reduce((a, b) => a + b) / wasted.length, (block - 1) / 2);
  }
});

test("paging never reserves more than contiguous when the maximum is a whole number of blocks", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 40 }), fc.nat(), (block, blocks, n) => {
    const most = block * blocks, tokens = 1 + n % most;
    assert.ok(reservedEntries(paged(block), tokens, most) <= reservedEntries(contiguous, tokens, most));
    assert.ok(sequencesThatFit(paged(block), tokens, most, 10 * most) >= sequencesThatFit(contiguous, tokens, most, 10 * most));
    const share = waste(paged(block), [tokens], most);
    assert.ok(share >= 0 && share < 1);
  }));
});

test("how many sequences fit a pool", () => {
  assert.is(sequencesThatFit(contiguous, 100, 512, 2048), 4);
  assert.is(sequencesThatFit(paged(), 100, 512, 2048), 18);
  assert.is(sequencesThatFit(paged(), 512, 512, 100), 0);
});

test.run();
