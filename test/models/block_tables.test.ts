/**
 * Block tables against a model: every table as a plain array of token labels. The pool's memory is simulated as an array of labels too,
 * written through ids and lengths as a kernel would, so a wrong id, length or gather shows as a wrong label. A mirror that receives only
 * the dirty ranges stands for the GPU's copies.
 */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { REFILL_BLOCK } from "../../kernels/kv_formats.ts";
import { BlockPool } from "../../models/blocks.ts";
import { BlockTables } from "../../models/block_tables.ts";
import type { BlockTablesOptions, Gather } from "../../models/block_tables.ts";

type Sizes = Omit<BlockTablesOptions, "pool"> & { total: number };

function makeTables({ total, ...sizes }: Sizes): BlockTables {
  return new BlockTables({ pool: new BlockPool(total), ...sizes });
}

function takeDirty(tables: BlockTables) {
  return { ids: tables.takeDirtyIds(), lengths: tables.takeDirtyLengths() };
}

const small: Sizes = { total: 24, blockSize: 4, slots: 2, layers: 2, kvHeads: 2, maxBlocksPerTable: 4 };

/** The cache as a GPU would hold it: memory for entries, and copies of ids and lengths kept up to date by dirty ranges alone. */
class FakeGpu {
  readonly tables: BlockTables;
  readonly memory: (string | undefined)[];
  readonly ids: Uint32Array;
  readonly lengths: Uint32Array;

  constructor(tables: BlockTables) {
    this.tables = tables;
    this.memory = new Array<string | undefined>(tables.pool.total * tables.blockSize);
    this.ids = new Uint32Array(tables.ids.length);
    this.lengths = new Uint32Array(tables.lengths.length);
  }

  upload(): void {
    const { ids, lengths } = takeDirty(this.tables);
    if (ids) this.ids.set(this.tables.ids.subarray(...ids), ids[0]);
    if (lengths) this.lengths.set(this.tables.lengths.subarray(...lengths), lengths[0]);
    const copies = this.tables.takeCopies();
    if (copies) this.gather(copies);
  }

  /** Where entry `entry` of a table lies. */
  entry(table: number, entry: number): number {
    const { blockSize, maxBlocksPerTable } = this.tables;
    return this.ids[table * maxBlocksPerTable + Math.floor(entry / blockSize)]! * blockSize + entry % blockSize;
  }

  /** A forward of one token: writes behind the last entry of every table of the slot and advances the lengths, all on the GPU. */
  forward(slot: number, token: number): void {
    const { layers, kvHeads } = this.tables;
    for (let table = slot * layers * kvHeads; table < (slot + 1) * layers * kvHeads; table++) {
      this.memory[this.entry(table, this.lengths[table]!)] = `${table % (layers * kvHeads)}:${token}`;
      this.lengths[table]! += 1;
    }
  }

  gather({ source, target }: Gather): void {
    const values = Array.from(source, (entry) => this.memory[entry]);
    target.forEach((entry, i) => { this.memory[entry] = values[i]; });
  }

  contents(table: number): (string | undefined)[] {
    return Array.from({ length: this.lengths[table]! }, (_, i) => this.memory[this.entry(table, i)]);
  }
}

test("a slot's life: open, reserve, advance, close", () => {
  const tables = makeTables(small);
  assert.is(tables.open(20), 0);
  assert.is(tables.open(20), 1);
  assert.is(tables.open(20), null);
  assert.is(tables.blocksFor(5), 8);
  assert.is(tables.shortfall(0, 5), 8);
  assert.ok(tables.reserve(0, 5));
  assert.is(tables.pool.used, 8);
  assert.is(tables.shortfall(0, 8), 0);
  tables.advance(0, 5);
  assert.is(tables.position(0), 5);
  assert.equal([...tables.lengths], [5, 5, 5, 5, 0, 0, 0, 0]);
  tables.check();
  tables.close(0);
  assert.is(tables.pool.free, 24);
  assert.throws(() => tables.position(0), /slot 0 of 2 is not open/);
  assert.throws(() => tables.close(0), /not open/);
  assert.is(tables.open(20), 0);
  assert.is(tables.position(0), 0);
});

test("reserve is all or nothing, and false past the longest table", () => {
  const tables = makeTables({ ...small, total: 23 });
  tables.open(20), tables.open(20);
  assert.ok(tables.reserve(0, 16));
  assert.not.ok(tables.reserve(1, 5)); // needs 8, has 7
  assert.is(tables.pool.free, 7);
  assert.ok(tables.reserve(1, 4));
  assert.is(tables.shortfall(0, 17), Infinity);
  assert.not.ok(tables.reserve(0, 17));
  tables.check();
});

test("advance without reserved room throws and changes nothing", () => {
  const tables = makeTables(small);
  tables.open(20);
  tables.reserve(0, 4);
  assert.throws(() => tables.advance(0, 5), /without room/);
  assert.is(tables.position(0), 0);
  tables.check();
});

test("a fork shares every block; whoever writes first gets a copy of the last", () => {
  const tables = makeTables(small), gpu = new FakeGpu(tables);
  const [slot] = [tables.open(20)!];
  tables.reserve(slot, 6);
  gpu.upload();
  for (let token = 0; token < 6; token++) gpu.forward(slot, token);
  tables.advance(slot, 6, { onGpu: true });
  const copy = tables.fork(slot, 20)!;
  assert.is(tables.pool.used, 8);
  tables.check();
  assert.is(tables.shortfall(copy, 1), 4, "the last block of each table");
  assert.ok(tables.reserve(copy, 1));
  tables.check();
  gpu.upload();
  gpu.forward(copy, 66);
  tables.advance(copy, 1, { onGpu: true });
  assert.is(tables.shortfall(slot, 1), 0, "the first owner is alone with the old block now");
  gpu.forward(slot, 6);
  tables.advance(slot, 1, { onGpu: true });
  assert.equal(gpu.contents(0), [0, 1, 2, 3, 4, 5, 6].map((token) => `0:${token}`));
  assert.equal(gpu.contents(4), [0, 1, 2, 3, 4, 5, 66].map((token) => `0:${token}`));
  tables.close(slot);
  assert.is(tables.pool.used, 8, "the copy still needs the shared first blocks");
  tables.close(copy);
  assert.is(tables.pool.used, 0);
  assert.is(tables.fork(tables.open(20)!, 20), 1);
  assert.is(tables.fork(0, 20), null, "no slot is left");
});

test("usage of an empty cache", () => {
  assert.equal(makeTables(small).usage(), { liveTokens: 0, reservedTokens: 0 });
});

test("truncate gives whole and reserved blocks back, and may go back across blocks", () => {
  const tables = makeTables(small);
  tables.open(20);
  tables.reserve(0, 16);
  tables.advance(0, 10);
  tables.truncate(0, 10);
  assert.is(tables.pool.used, 12); // the spare fourth blocks are gone
  tables.truncate(0, 4);
  assert.is(tables.pool.used, 4);
  assert.is(tables.position(0), 4);
  assert.throws(() => tables.truncate(0, 5), /cannot be truncated to 5/);
  assert.throws(() => tables.truncate(0, -1), /cannot be truncated/);
  tables.truncate(0, 0);
  assert.is(tables.pool.used, 0);
  tables.check();
});

test("after keep, lengths and position differ, blocks are free again, and truncate goes back only to the gap", () => {
  const tables = makeTables(small);
  const gpu = new FakeGpu(tables);
  tables.open(20);
  tables.reserve(0, 10);
  gpu.upload();
  for (let token = 0; token < 10; token++) gpu.forward(0, token);
  tables.advance(0, 10, { onGpu: true });
  assert.is(tables.pool.used, 12);

  const gather = tables.keep(0, 1, [Uint32Array.of(0, 3, 8, 9), Uint32Array.of(1, 2, 5, 7, 8, 9)])!;
  gpu.gather(gather);
  gpu.upload();
  assert.is(tables.pool.used, 6 + 1 + 2);
  assert.is(tables.position(0), 10);
  assert.equal([...tables.lengths.subarray(0, 4)], [10, 10, 4, 6]);
  assert.equal(gpu.contents(2), ["2:0", "2:3", "2:8", "2:9"]);
  assert.equal(gpu.contents(3), ["3:1", "3:2", "3:5", "3:7", "3:8", "3:9"]);
  assert.equal(gpu.contents(0).length, 10);

  assert.throws(() => tables.truncate(0, 7), /truncating slot 0 by 3 tokens, but table 2 has only its 2 newest/);
  assert.is(tables.position(0), 10);
  tables.truncate(0, 8);
  gpu.upload();
  assert.equal(gpu.contents(2), ["2:0", "2:3"]);
  assert.equal(gpu.contents(3), ["3:1", "3:2", "3:5", "3:7"]);
  assert.throws(() => tables.truncate(0, 7), /only its 0 newest/);
  tables.check();
});

test("keep copies between blocks that do not overlap, and is null when the pool is too full", () => {
  const tables = makeTables({ ...small, total: 9, slots: 1 });
  tables.open(20);
  tables.reserve(0, 8);
  tables.advance(0, 8);
  const all = Uint32Array.from({ length: 8 }, (_, i) => i);
  assert.is(tables.keep(0, 0, [all, all]), null); // needs 4 fresh, 1 is free
  assert.equal([...tables.lengths], [8, 8, 8, 8]);
  assert.is(tables.pool.free, 1);
  const { source, target } = tables.keep(0, 0, [Uint32Array.of(6), new Uint32Array()])!;
  assert.is(source.length, 1);
  assert.not.ok(source.some((entry) => target.includes(entry)));
  assert.equal([...tables.lengths], [1, 0, 8, 8]);
  tables.check();
});

test("keep refuses entries that are out of range, repeated or unordered, and a wrong layer or number of heads", () => {
  const tables = makeTables(small);
  tables.open(20);
  tables.reserve(0, 8);
  tables.advance(0, 8);
  const one = Uint32Array.of(0);
  for (const wrong of [[8], [1, 1], [3, 2]]) assert.throws(() => tables.keep(0, 0, [one, Uint32Array.from(wrong)]), /head 1 keeps entry/);
  assert.throws(() => tables.keep(0, 0, [one]), /1 heads of 2/);
  assert.throws(() => tables.keep(0, 2, [one, one]), /layer 2 of 2/);
  assert.throws(() => tables.keep(1, 0, [one, one]), /not open/);
  assert.is(tables.pool.used, 8);
  tables.check();
});

test("only what the host changed is dirty", () => {
  const tables = makeTables(small);
  assert.equal(takeDirty(tables), { ids: null, lengths: null });
  tables.open(20);
  tables.open(20);
  takeDirty(tables);
  tables.reserve(1, 4);
  assert.equal(takeDirty(tables), { ids: [16, 29], lengths: null });
  tables.advance(1, 3);
  assert.equal(takeDirty(tables), { ids: null, lengths: [4, 8] });
  tables.advance(1, 1, { onGpu: true });
  assert.ok(tables.reserve(1, 0));
  assert.equal(takeDirty(tables), { ids: null, lengths: null });
  tables.close(0);
  assert.equal(takeDirty(tables), { ids: null, lengths: [0, 4] });
});

/** One random step; numbers are reduced to what is possible at that moment. */
const step = fc.record({
  verb: fc.constantFrom("close", "reserve", "forward", "forward", "forward", "truncate", "truncate", "keep", "keep"),
  slot: fc.nat(2),
  amount: fc.nat(9),
  layer: fc.nat(1),
  mask: fc.array(fc.boolean(), { minLength: 48, maxLength: 48 }),
});

const sizes = fc.record({
  total: fc.integer({ min: 4, max: 80 }),
  blockSize: fc.integer({ min: 1, max: 6 }),
  slots: fc.integer({ min: 1, max: 3 }),
  layers: fc.integer({ min: 1, max: 2 }),
  kvHeads: fc.integer({ min: 1, max: 3 }),
  maxBlocksPerTable: fc.integer({ min: 1, max: 5 }),
});

test("random lives of several slots: contents, counts and the mirror agree with the model after every step", () => {
  const seen = new Set<string>();
  fc.assert(fc.property(sizes, fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), (sizes, steps) => {
    const tables = makeTables(sizes), gpu = new FakeGpu(tables);
    const perSlot = sizes.layers * sizes.kvHeads;
    /** What each open slot has seen, and which of it each of its tables still holds. */
    const model = new Map<number, { position: number; held: number[][] }>();
    const note = (what: string) => seen.add(what);

    for (const { verb, slot, amount, layer: anyLayer, mask } of steps) {
      const state = model.get(slot);
      if (state === undefined) { // what came is a new sequence, if there is a slot for it
        assert.throws(() => tables.position(slot), /not open/);
        const expected = Array.from({ length: sizes.slots }, (_, i) => i).find((i) => !model.has(i)) ?? null;
        assert.is(tables.open(20), expected);
        if (expected !== null) model.set(expected, { position: 0, held: Array.from({ length: perSlot }, () => []) });
      } else if (verb === "close") {
        tables.close(slot);
        model.delete(slot);
        note("close");
      } else if (verb === "reserve" || verb === "forward") {
        const before = tables.pool.used, missing = tables.shortfall(slot, amount);
        const got = tables.reserve(slot, amount);
        assert.is(got, missing <= sizes.total - before);
        assert.is(tables.pool.used, before + (got ? missing : 0));
        note(got ? "reserved" : "no room");
        if (got && verb === "forward") {
          gpu.upload();
          for (let i = 0; i < amount; i++) {
            gpu.forward(slot, state.position);
            state.held.forEach((entries) => entries.push(state.position));
            state.position++;
          }
          tables.advance(slot, amount, { onGpu: true });
        }
      } else if (verb === "truncate") {
        const target = Math.max(0, state.position - amount);
        const dropped = Array.from({ length: state.position - target }, (_, i) => target + i);
        const possible = state.held.every((entries) => dropped.every((token) => entries.includes(token)));
        if (possible) {
          tables.truncate(slot, target);
          state.held = state.held.map((entries) => entries.filter((token) => token < target));
          state.position = target;
          const blocks = state.held.reduce((sum, entries) => sum + Math.ceil(entries.length / sizes.blockSize), 0);
          if (model.size === 1) assert.is(tables.pool.used, blocks); // no spare block is left
        } else {
          assert.throws(() => tables.truncate(slot, target), /newest/);
        }
        note(possible ? "truncated" : "truncate refused");
      } else {
        const layer = anyLayer % sizes.layers;
        const heads = state.held.slice(layer * sizes.kvHeads, (layer + 1) * sizes.kvHeads);
        const kept = heads.map((entries, head) => entries.map((_, i) => i).filter((i) => mask[(i * 7 + head) % mask.length]!));
        const needed = kept.reduce((sum, entries) => sum + Math.ceil(entries.length / sizes.blockSize), 0);
        const fits = needed <= tables.pool.free;
        const gather = tables.keep(slot, layer, kept.map((entries) => Uint32Array.from(entries)));
        assert.is(gather !== null, fits);
        if (gather !== null) {
          gpu.gather(gather);
          const sources = new Set(gather.source);
          assert.not.ok(gather.target.some((entry) => sources.has(entry)));
          kept.forEach((entries, head) => {
            state.held[layer * sizes.kvHeads + head] = entries.map((i) => heads[head]![i]!);
          });
        }
        note(fits ? "kept" : "keep without room");
      }

      tables.check();
      gpu.upload();
      assert.equal(gpu.lengths, tables.lengths);
      let live = 0;
      for (const [slot, { position, held }] of model) {
        assert.is(tables.position(slot), position);
        held.forEach((entries, i) => {
          const table = slot * perSlot + i;
          live += entries.length;
          assert.equal(gpu.contents(table), entries.map((token) => `${i}:${token}`));
        });
      }
      const usage = tables.usage();
      assert.is(usage.liveTokens, live);
      assert.is(usage.reservedTokens, tables.pool.used * sizes.blockSize);
    }
    for (const slot of model.keys()) tables.close(slot);
    assert.is(tables.pool.free, sizes.total);
  }), { numRuns: 300 });
  // The generator must have reached every branch, or the run proves less than it says.
  assert.equal([...seen].sort(),
    ["close", "keep without room", "kept", "no room", "reserved", "truncate refused", "truncated"]);
});

test("tails: what a fork copies and what a truncate reopens, in order", () => {
  const tables = makeTables({ ...small, tails: true });
  const slot = tables.open(16)!;
  assert.ok(tables.reserve(slot, 10));
  tables.advance(slot, 10);
  tables.truncate(slot, 9);
  assert.equal(tables.tails!.take(), [], "the newest block still has its tail");
  const block = (table: number, index: number): number => tables.ids[table * tables.tableWidth + index]!;
  const [second, first] = [0, 1, 2, 3].map((table) => [block(table, 1), block(table, 0)] as const).reduce<[number[], number[]]>(
    ([a, b], [x, y]) => [[...a, REFILL_BLOCK + x], [...b, REFILL_BLOCK + y]], [[], []]);
  tables.truncate(slot, 8);
  assert.equal(tables.tails!.take(), [], "a table that ends with a block has no tail");
  tables.truncate(slot, 7);
  const copy = tables.fork(slot, 16)!;
  tables.truncate(slot, 2);
  assert.equal(tables.tails!.take().map(({ table, source }) => [[...table], [...source]]), [
    [[0, 1, 2, 3], second], [[4, 5, 6, 7], [0, 1, 2, 3]], [[0, 1, 2, 3], first],
  ]);
  assert.equal(tables.tails!.take(), []);
  tables.close(slot);
  tables.close(copy);
  tables.check();
  const others = makeTables(small), open = others.open(16)!;
  assert.ok(others.reserve(open, 10));
  others.advance(open, 10);
  others.truncate(open, 3);
  assert.equal(others.tails, null, "formats of entries have none");
});

test.run();
