/**
 * Random worlds for the scheduler, its tables and the prefix cache: whatever the sizes, the order of arrival, aborts, forks, presses and
 * depth of the pipeline, every sequence ends with its own tokens, counts add up, and nothing leaks.
 */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BlockPool } from "../../models/blocks.ts";
import { BlockTables } from "../../models/block_tables.ts";
import { ContiguousTables } from "../../models/contiguous_tables.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { PrefixCache } from "../../models/prefix_cache.ts";
import { Scheduler } from "../../models/scheduler.ts";
import { expected, FakeRunner, makeSequence } from "../support/fake_runner.ts";

const MAX_MODEL_LEN = 48;

const world = fc.record({
  layout: fc.constantFrom("paged", "paged", "paged", "max", "exact"),
  blockSize: fc.constantFrom(1, 2, 3, 4, 8),
  slack: fc.integer({ min: 0, max: 30 }), // blocks above what the largest sequence needs
  maxSequences: fc.integer({ min: 1, max: 5 }),
  prefillChunk: fc.integer({ min: 1, max: 40 }),
  layers: fc.integer({ min: 1, max: 2 }),
  kvHeads: fc.integer({ min: 1, max: 2 }),
  /** After the prompt, and from then on after every so many tokens. */
  press: fc.option(fc.record({ every: fc.constantFrom(1, 3, 10, Infinity), share: fc.constantFrom(0, 0.3, 0.7, 1), skipsFirstLayer: fc.boolean() })),
  share: fc.boolean(),
  /** Sequences are forked by somebody else, who holds the copy for a while. */
  fork: fc.boolean(),
  depth: fc.integer({ min: 1, max: 9 }),
  requests: fc.array(fc.record({
    family: fc.nat(2),
    promptTokens: fc.integer({ min: 1, max: 30 }),
    maxNewTokens: fc.integer({ min: 0, max: 40 }),
    ignoreEos: fc.boolean(),
    arrival: fc.nat(12), // number of the turn before which it is added; a turn is a plan, or a step of a decode plan that arrives
    /** Number of the turn in which it is aborted, and whether before a step is scheduled or before it is committed. */
    abort: fc.option(fc.record({ turn: fc.nat(25), late: fc.boolean() }), { freq: 4 }),
  }), { minLength: 1, maxLength: 8, size: "max" }),
  seed: fc.nat(),
});

/** Keeps a share of each table, at least one entry. */
function pressOf({ every, share, skipsFirstLayer }: { every: number; share: number; skipsFirstLayer: boolean }): Press {
  const stage: PressStage = {
    needs: {}, paramCount: 0, params: () => new Float32Array(), score: () => {}, newest: () => 0,
    keep: ({ layer, length }) => (skipsFirstLayer && layer === 0 ? length : Math.max(1, Math.floor(length * share))),
  };
  return {
    name: "fake", positions: "original", ragged: skipsFirstLayer, stages: [stage], check: () => {},
    next: ({ prompt, acted }) => (acted === 0 ? prompt : every === Infinity ? null : prompt + acted * every),
  };
}

test("every sequence ends with its own tokens, counts add up, nothing leaks", () => {
  const seen = new Set<string>();
  fc.assert(fc.property(world, (world) => {
    const { layout, blockSize, maxSequences, prefillChunk, layers, kvHeads, requests, seed } = world;
    const sequences = requests.map(({ promptTokens, maxNewTokens, ignoreEos, family }, id) =>
      makeSequence(id, promptTokens, maxNewTokens, { ignoreEos, family: seed % 100 + family, press: layout === "paged" && world.press && id % 3 !== 2 ? pressOf(world.press) : null }));
    const largest = Math.max(1, ...sequences.map(({ prompt, options }) => Math.min(prompt.length + options.maxNewTokens, MAX_MODEL_LEN)));
    const sizes = { slots: maxSequences + 1, layers, kvHeads };
    const perToken = layers * kvHeads;
    const tables = layout === "paged"
      ? new BlockTables({ ...sizes, pool: new BlockPool(perToken * (Math.ceil(largest / blockSize) + (world.press ? Math.ceil(Math.ceil(largest / blockSize) / layers) : 0)) + world.slack), blockSize, maxBlocksPerTable: Math.ceil(MAX_MODEL_LEN / blockSize) })
      : new ContiguousTables({ ...sizes, entries: perToken * (layout === "max" ? MAX_MODEL_LEN : largest) + 20 * world.slack, reserve: layout, maxTokens: MAX_MODEL_LEN });
    const blocks = tables instanceof BlockTables ? tables : null;
    const prefix = world.share && blocks ? new PrefixCache(blocks.pool, blockSize) : null;
    const scheduler = new Scheduler({ tables, prefix, maxSequences, prefillChunk, maxModelLen: MAX_MODEL_LEN });

    let random = seed;
    const draw = (): number => (random = (random * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    const runner = new FakeRunner(tables);
    runner.depth = world.depth;

    let turn = 0, forked: number | null = null;
    const arrive = (): void => requests.forEach(({ arrival }, i) => { if (arrival === turn) scheduler.add(sequences[i]!); });
    const abort = (late: boolean): void => requests.forEach(({ abort, arrival }, i) => {
      if (abort?.turn !== turn || abort.late !== late || arrival > turn) return;
      if (late) seen.add("aborted under way");
      scheduler.abort(sequences[i]!);
    });
    const between = (): void => {
      abort(true);
      blocks?.check();
      turn++;
      arrive();
    };
    arrive();
    for (;;) {
      abort(false);
      // Nobody else may hold blocks that the sequences need to go on at all.
      if (forked !== null && (scheduler.running === 0 || draw() < 0.5 || blocks!.pool.free < 3 * maxSequences * perToken)) {
        tables.close(forked);
        forked = null;
      }
      const preempted = scheduler.preemptions;
      runner.press(scheduler, () => {
        assert.ok(forked !== null, "no room for a press");
        tables.close(forked);
        forked = null;
      });
      if (scheduler.preemptions > preempted) seen.add("gave way to a press");
      blocks?.check();
      const plan = scheduler.schedule();
      blocks?.check();
      if (plan === null) {
        if (turn > 25) break;
        between();
        continue;
      }
      assert.ok(scheduler.running <= maxSequences);
      if (plan.kind === "mixed") {
        const prompts = plan.parts.filter(({ sequence, start }) => start < sequence.prompt.length);
        const outcomes = runner.mixed(plan);
        between();
        scheduler.commitMixed(plan, outcomes);
        if (prompts.length > 0 && plan.parts.length > prompts.length) seen.add("decoded beside a prompt");
      } else {
        if (runner.decode(scheduler, plan, between) > 1) seen.add("decoded ahead");
      }
      blocks?.check();
      // A sequence that is computed again is no decoding one before its last chunk: its room was reserved when it was admitted.
      const sampled = plan.kind === "decode" ? plan.sequences : plan.parts.filter(({ sample }) => sample).map(({ sequence }) => sequence);
      const decoding = sampled.find(({ status }) => status === "running");
      if (blocks && world.fork && forked === null && decoding !== undefined) {
        forked = blocks.fork(decoding.slot, MAX_MODEL_LEN);
        if (forked !== null) seen.add("forked");
      }
      for (const sequence of sequences) {
        assert.is(sequence.slot >= 0, sequence.status === "running");
        if (sequence.slot >= 0) assert.is(tables.position(sequence.slot), sequence.computed);
      }
      assert.ok(turn < 5000, "no end in sight");
    }
    if (forked !== null) tables.close(forked);
    if (blocks) runner.sync();

    for (const sequence of sequences) {
      const { tokens, reason } = expected(sequence, MAX_MODEL_LEN, layers, kvHeads);
      assert.is(sequence.status, "finished");
      if (sequence.finishReason === "aborted") assert.equal(sequence.generated, tokens.slice(0, sequence.generated.length));
      else assert.equal([sequence.generated, sequence.finishReason], [tokens, reason]);
      seen.add(sequence.finishReason!);
      if (sequence.cachedTokens > 0) seen.add("shared");
      if (sequence.pressing !== null && sequence.preemptions > 0 && sequence.pressing.acted > 0) seen.add("pressed again as before");
    }
    assert.is(scheduler.preemptions, sequences.reduce((sum, sequence) => sum + sequence.preemptions, 0));
    if (scheduler.preemptions > 0) seen.add("preempted");
    if (runner.presses > 0) seen.add("pressed");
    if (blocks === null) assert.is(scheduler.preemptions, 0);
    assert.equal([tables.used, scheduler.waiting, scheduler.running], [0, 0, 0]);
    if (prefix !== null) {
      if (prefix.stats().evictedBlocks > 0) seen.add("evicted");
      prefix.clear();
      blocks!.check();
      assert.equal([prefix.stats().cachedBlocks, blocks!.pool.idle], [0, 0]);
    }
  }), { numRuns: 1000, includeErrorInReport: true });
  // The generator must have reached every branch, or the run proves less than it says.
  for (const rare of ["gave way to a press", "pressed again as before"]) seen.delete(rare); // scheduler.test.ts and press.gpu.test.ts have them
  assert.equal([...seen].sort(), [
    "aborted", "aborted under way", "decoded ahead", "decoded beside a prompt", "evicted", "forked", "length", "preempted", "pressed",
    "shared", "stop",
  ]);
});

test.run();
