/**
 * The scheduler with a fake runner in place of the GPU (test/support/fake_runner.ts): what is planned, admitted, preempted, refused and
 * thrown away. Random worlds are in scheduler_worlds.test.ts.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, UsageError } from "../../engine/errors.ts";
import { BlockPool } from "../../models/blocks.ts";
import { BlockTables } from "../../models/block_tables.ts";
import { ContiguousTables } from "../../models/contiguous_tables.ts";
import { PrefixCache } from "../../models/prefix_cache.ts";
import { Scheduler } from "../../models/scheduler.ts";
import type { DecodePlan, MixedPlan, StepPlan } from "../../models/scheduler.ts";
import { Sequence } from "../../models/sequence.ts";
import { expected, FakeRunner, GREEDY, makeSequence } from "../support/fake_runner.ts";

interface Setup {
  total?: number; blockSize?: number; maxSequences?: number; prefillChunk?: number; maxModelLen?: number; layers?: number; kvHeads?: number; share?: boolean;
}

function setUp({ total = 64, blockSize = 4, maxSequences = 4, prefillChunk = 8, maxModelLen = 64, layers = 1, kvHeads = 2, share = false }: Setup = {}) {
  const maxBlocksPerTable = Math.ceil(maxModelLen / blockSize);
  const tables = new BlockTables({ pool: new BlockPool(total), blockSize, slots: maxSequences + 1, layers, kvHeads, maxBlocksPerTable });
  const prefix = share ? new PrefixCache(tables.pool, blockSize) : null;
  return { tables, prefix, scheduler: new Scheduler({ tables, prefix, maxSequences, prefillChunk, maxModelLen }) };
}

function runAll(scheduler: Scheduler, runner: FakeRunner): void {
  for (let plan = scheduler.schedule(); plan !== null; plan = scheduler.schedule()) {
    runner.run(scheduler, plan);
    if (runner.tables instanceof BlockTables) runner.tables.check();
  }
}

/** Runs the plans and returns them, a decode plan with the number of its steps. */
function plansOf(scheduler: Scheduler, runner: FakeRunner): unknown[] {
  const plans: unknown[] = [];
  for (let plan = scheduler.schedule(); plan !== null; plan = scheduler.schedule()) {
    if (plan.kind === "decode") plans.push({ ...brief(plan), steps: runner.decode(scheduler, plan) });
    else {
      plans.push(brief(plan));
      runner.run(scheduler, plan);
    }
  }
  return plans;
}

/** A plan as numbers: parts of a mixed one as [id, start, count, sample], a decode plan as ids. */
function brief(plan: StepPlan): object {
  if (plan.kind === "decode") return { decode: plan.sequences.map((sequence) => sequence.id) };
  return { mixed: plan.parts.map(({ sequence, start, count, sample }) => [sequence.id, start, count, sample]) };
}

test("one sequence from prompt to its last token", () => {
  const { scheduler, tables } = setUp();
  const sequence = makeSequence(1, 10, 6), runner = new FakeRunner(tables);
  scheduler.add(sequence);
  assert.equal(plansOf(scheduler, runner), [{ mixed: [[1, 0, 8, false]] }, { mixed: [[1, 8, 2, true]] }, { decode: [1], steps: 5 }]);
  assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.equal([sequence.status, sequence.finishReason, sequence.slot, sequence.computed], ["finished", "length", -1, 15]);
  assert.is(tables.pool.free, tables.pool.total);
});

test("decodes come first, then chunks of prompts in order of arrival, up to the budget", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 8, maxSequences: 3 });
  for (const [id, length] of [[1, 3], [2, 9], [3, 2], [4, 1]] as const) scheduler.add(makeSequence(id, length, 3));
  assert.equal(plansOf(scheduler, new FakeRunner(tables)), [
    { mixed: [[1, 0, 3, true], [2, 0, 5, false]] },
    { mixed: [[1, 3, 1, true], [2, 5, 4, true], [3, 0, 2, true]] },
    { decode: [1, 2, 3], steps: 1 },
    { mixed: [[2, 10, 1, true], [3, 3, 1, true], [4, 0, 1, true]] },
    { decode: [4], steps: 2 },
  ]);
});

test("a prompt goes on by a token at least, however many sequences decode", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 1, maxSequences: 3 });
  const sequences = [1, 2, 3].map((id) => makeSequence(id, 2, 9));
  for (const sequence of sequences) scheduler.add(sequence);
  const plans = plansOf(scheduler, new FakeRunner(tables));
  assert.equal(plans.slice(2, 6), [
    { mixed: [[1, 2, 1, true], [2, 0, 1, false]] }, { mixed: [[1, 3, 1, true], [2, 1, 1, true]] },
    { mixed: [[1, 4, 1, true], [2, 2, 1, true], [3, 0, 1, false]] }, { mixed: [[1, 5, 1, true], [2, 3, 1, true], [3, 1, 1, true]] },
  ]);
  for (const sequence of sequences) assert.equal(sequence.generated, expected(sequence, 64).tokens);
});

test("steps in flight end where the nearest sequence does, and where the pool does", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 16 });
  const runner = new FakeRunner(tables);
  runner.depth = 16;
  scheduler.add(makeSequence(1, 2, 4));
  scheduler.add(makeSequence(2, 2, 20));
  runner.run(scheduler, scheduler.schedule()!);
  assert.is(runner.decode(scheduler, scheduler.schedule() as DecodePlan), 3);

  const tight = setUp({ total: 14, prefillChunk: 16 }); // 2 tables of 7 blocks of 4: two sequences cannot both reach 15 entries
  const tightRunner = new FakeRunner(tight.tables);
  tightRunner.depth = 16;
  for (const id of [1, 2]) tight.scheduler.add(makeSequence(id, 3, 20));
  tightRunner.run(tight.scheduler, tight.scheduler.schedule()!);
  assert.is(tightRunner.decode(tight.scheduler, tight.scheduler.schedule() as DecodePlan), 9);
  assert.is(tight.scheduler.preemptions, 0);
});

test("steps in flight come in before a newcomer starts", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 16 });
  const runner = new FakeRunner(tables);
  scheduler.add(makeSequence(1, 2, 40));
  runner.run(scheduler, scheduler.schedule()!);
  let turns = 0;
  const steps = runner.decode(scheduler, scheduler.schedule() as DecodePlan, () => { if (++turns === 3) scheduler.add(makeSequence(2, 5, 4)); });
  assert.is(steps, 3 + runner.depth - 1, "those submitted before it came");
  assert.equal(brief(scheduler.schedule()!), { mixed: [[1, 2 + steps, 1, true], [2, 0, 5, true]] });
});

test("a full pool preempts the last-come, which recomputes prompt and continuation and ends the same", () => {
  const { scheduler, tables } = setUp({ total: 14, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2].map((id) => makeSequence(id, 3, 20));
  for (const sequence of sequences) scheduler.add(sequence);
  runner.run(scheduler, scheduler.schedule()!);
  runner.run(scheduler, scheduler.schedule()!);
  const plan = scheduler.schedule()!;
  assert.equal(brief(plan), { decode: [1] });
  assert.equal([sequences[1]!.status, sequences[1]!.slot, sequences[1]!.computed, sequences[1]!.preemptions], ["waiting", -1, 0, 1]);
  assert.equal([scheduler.preemptions, scheduler.waiting, scheduler.running], [1, 1, 1]);
  runner.run(scheduler, plan);
  assert.is(sequences[0]!.status, "finished");
  assert.equal(brief(scheduler.schedule()!), { mixed: [[2, 0, 13, true]] });
  runAll(scheduler, runner);
  for (const sequence of sequences) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.is(tables.pool.free, 14);
});

test("a sequence whose prompt is still being read is the first to be preempted", () => {
  const { scheduler, tables } = setUp({ total: 12, kvHeads: 1, prefillChunk: 2, maxSequences: 2 });
  const runner = new FakeRunner(tables);
  const [first, second] = [makeSequence(1, 3, 30), makeSequence(2, 24, 4)];
  scheduler.add(first);
  for (let i = 0; i < 2; i++) runner.run(scheduler, scheduler.schedule()!);
  assert.is(first.generated.length, 1);
  scheduler.add(second); // its prompt takes 7 blocks at once and many steps
  runAll(scheduler, runner);
  assert.equal([first.preemptions, second.preemptions > 0], [0, true]);
  for (const sequence of [first, second]) assert.equal(sequence.generated, expected(sequence, 64).tokens);
});

test("admission takes blocks for the prompt and one more, and leaves every running table a block to grow by", () => {
  const { scheduler, tables } = setUp({ total: 10, kvHeads: 1, maxSequences: 3, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  for (const id of [1, 2, 3]) scheduler.add(makeSequence(id, 8, 12));
  // 3 blocks each; the third would leave one block for two sequences that will each want one soon
  assert.equal(brief(scheduler.schedule()!), { mixed: [[1, 0, 8, true], [2, 0, 8, true]] });
  assert.is(tables.pool.used, 6);
  runAll(scheduler, runner);
  assert.is(scheduler.preemptions, 0);
});

for (const [reserve, started] of [["max", 3], ["exact", 4]] as const) {
  test(`contiguous, ${reserve}: a sequence takes its stretch when it starts, so as many run as there is room for, and none is preempted`, () => {
    const tables = new ContiguousTables({ entries: 3 * 128, reserve, maxTokens: 64, slots: 4, layers: 1, kvHeads: 2 });
    const scheduler = new Scheduler({ tables, maxSequences: 4, prefillChunk: 32, maxModelLen: 64 });
    const sequences = [1, 2, 3, 4].map((id) => makeSequence(id, 2, id === 1 ? 60 : 40));
    for (const sequence of sequences) scheduler.add(sequence);
    const plan = scheduler.schedule() as MixedPlan;
    assert.is(plan.parts.length, started);
    assert.is(tables.used, reserve === "max" ? 3 * 128 : 2 * (62 + 3 * 42));
    runAll(scheduler, new FakeRunner(tables));
    assert.is(scheduler.preemptions, 0);
    assert.is(tables.used, 0);
    for (const sequence of sequences) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  });
}

test("prompts that begin alike: full blocks are found again, computed once, and all texts are their own", () => {
  const { scheduler, tables, prefix } = setUp({ share: true, prefillChunk: 64 });
  const runner = new FakeRunner(tables);
  const first = makeSequence(1, 18, 6, { family: 9 });
  scheduler.add(first);
  runAll(scheduler, runner);
  assert.is(runner.prefilled, 18);
  const cached = prefix!.stats().cachedBlocks;
  assert.is(cached, 2 * 5, "23 tokens were computed: five full blocks in both heads");
  assert.equal([tables.pool.used, tables.pool.idle, tables.pool.free], [0, cached, 64]);

  const second = makeSequence(2, 18, 6, { family: 9 }), third = makeSequence(3, 11, 6, { family: 9 }), other = makeSequence(4, 18, 6);
  for (const sequence of [second, third, other]) scheduler.add(sequence);
  const plan = scheduler.schedule() as MixedPlan;
  assert.equal(brief(plan), { mixed: [[2, 16, 2, true], [3, 8, 3, true], [4, 0, 18, true]] });
  assert.is(tables.pool.owners(tables.ids[0]!), 3, "the cache and two sequences");
  runner.run(scheduler, plan);
  runAll(scheduler, runner);
  assert.equal([first, second, third, other].map(({ cachedTokens }) => cachedTokens), [0, 16, 8, 0]);
  assert.equal({ ...prefix!.stats(), cachedBlocks: 0 }, { queriedTokens: 18 + 18 + 11 + 18, hitTokens: 24, cachedBlocks: 0, evictedBlocks: 0 });
  for (const sequence of [first, second, third, other]) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  tables.check();
});

test("a prompt that is cached whole still sends its last token through the model", () => {
  const { scheduler, tables } = setUp({ share: true, prefillChunk: 64 });
  const runner = new FakeRunner(tables);
  for (const id of [1, 2]) {
    scheduler.add(makeSequence(id, 8, 3, { family: 5 }));
    const plan = scheduler.schedule()!;
    assert.equal(brief(plan), { mixed: [[id, id === 1 ? 0 : 4, id === 1 ? 8 : 4, true]] });
    runner.run(scheduler, plan);
    runAll(scheduler, runner);
  }
});

test("cached blocks are given up when room is wanted, least recently used first", () => {
  const { scheduler, tables, prefix } = setUp({ share: true, total: 16, kvHeads: 1, prefillChunk: 64, maxModelLen: 60 });
  const runner = new FakeRunner(tables);
  const alone = (id: number, family: number, tokens: number): number => {
    const sequence = makeSequence(id, tokens, 1, { family });
    scheduler.add(sequence);
    runAll(scheduler, runner);
    return sequence.cachedTokens;
  };
  alone(1, 1, 24), alone(2, 2, 24); // six blocks each
  assert.is(alone(3, 1, 24), 20, "the first is used again");
  assert.is(alone(4, 3, 28), 0); // eight blocks: four from the free ones, four from the second prompt
  assert.is(prefix!.stats().evictedBlocks, 4);
  assert.equal([alone(5, 2, 24), alone(6, 1, 24)], [8, 8], "each has lost its end in turn");
  tables.check();
});

test("a preempted sequence finds its own blocks again while nobody took them", () => {
  const { scheduler, tables } = setUp({ share: true, total: 14, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2].map((id) => makeSequence(id, 3, 20));
  for (const sequence of sequences) scheduler.add(sequence);
  runAll(scheduler, runner);
  assert.is(scheduler.preemptions, 1);
  for (const sequence of sequences) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.is(sequences[1]!.cachedTokens, 0, "its second start does not count as a hit");
});

test("steady decoding uploads nothing until a block is added", () => {
  const { scheduler, tables } = setUp();
  const runner = new FakeRunner(tables);
  scheduler.add(makeSequence(1, 4, 12));
  runner.run(scheduler, scheduler.schedule()!);
  const plan = scheduler.schedule() as DecodePlan;
  tables.takeDirtyLengths(); // of the prompt
  const uploads: boolean[] = [];
  do uploads.push(tables.takeDirtyIds() !== null);
  while (scheduler.extend(plan, uploads.length));
  // The second block when the prompt came, the third and fourth when entries 8 and 12 need them.
  assert.equal(uploads.map((dirty, i) => dirty ? i : -1).filter((i) => i >= 0), [4, 8]);
  assert.is(uploads.length, 11);
  assert.is(tables.takeDirtyLengths(), null);
});

test("a preempted sequence is first in the queue: the next does not overtake it", () => {
  const { scheduler, tables } = setUp({ total: 8, kvHeads: 1, maxSequences: 3, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2, 3, 4].map((id) => makeSequence(id, 7, 16));
  for (const sequence of sequences) scheduler.add(sequence);
  for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) {
    const youngest = Math.max(...sequences.filter(({ status }) => status === "running").map(({ id }) => id));
    const overtaken = sequences.filter(({ id, status }) => status === "waiting" && id < youngest);
    assert.equal(overtaken, []);
    runner.run(scheduler, plan);
  }
  // The first is never pushed out; the others once each, not again and again with the same blocks going to and fro.
  assert.equal(sequences.map((sequence) => sequence.preemptions), [0, 1, 1, 1]);
});

test("what can never run is refused with both numbers", () => {
  const { scheduler } = setUp({ total: 16, maxModelLen: 40 });
  const refusal = (sequence: Sequence) => {
    try { scheduler.add(sequence); } catch (error) {
      assert.instance(error, ContextLengthError);
      return (error as Error).message;
    }
    return "accepted";
  };
  assert.match(refusal(makeSequence(1, 41)), /prompt has 41 tokens, but maxModelLen is 40.*raise maxModelLen/);
  assert.match(refusal(makeSequence(2, 40)), /prompt has 40 tokens, but maxModelLen is 40/);
  assert.match(refusal(makeSequence(3, 30, 5)), /30 tokens with up to 5 new ones needs a cache of 35 tokens, but kvMemory holds 32: raise/);
  assert.match(refusal(makeSequence(4, 20, 2 ** 31)), /up to 20 new ones needs a cache of 40 tokens/);
  assert.is(refusal(makeSequence(5, 24, 8)), "accepted");
  assert.is(scheduler.waiting, 1);
  assert.throws(() => new Sequence(6, [], GREEDY), (error: unknown) => error instanceof UsageError);
});

test("past maxModelLen a sequence ends with reason length", () => {
  const { scheduler, tables } = setUp({ maxModelLen: 12 });
  const sequence = makeSequence(1, 9, 100);
  scheduler.add(sequence);
  runAll(scheduler, new FakeRunner(tables));
  assert.equal(sequence.generated, expected(sequence, 12).tokens);
  assert.is(sequence.generated.length, 3);
  assert.is(sequence.finishReason, "length");
});

test("no new tokens wanted: finished at once", () => {
  const { scheduler } = setUp();
  const sequence = makeSequence(1, 5, 0);
  scheduler.add(sequence);
  assert.equal([sequence.status, sequence.finishReason], ["finished", "length"]);
  assert.is(scheduler.schedule(), null);
});

test("a stop is seen late: what was computed behind it is dropped, the others keep their tokens", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 16 });
  const runner = new FakeRunner(tables);
  const [first, second] = [makeSequence(1, 3, 12), makeSequence(2, 3, 12)];
  scheduler.add(first), scheduler.add(second);
  runner.run(scheduler, scheduler.schedule()!);
  const plan = scheduler.schedule() as DecodePlan;
  let turns = 0;
  const steps = runner.decode(scheduler, plan, () => { if (++turns === 3) scheduler.finish(first, "stop"); });
  assert.equal([first.generated.length, first.finishReason, first.slot], [1 + 2, "stop", -1]);
  assert.equal([steps, second.generated.length], [2 + runner.depth, 1 + 2 + runner.depth]);
  runAll(scheduler, runner);
  assert.equal(second.generated, expected(second, 64).tokens);
  assert.is(tables.pool.free, 64);
});

test("abort: before start, in prefill, in decode, while steps are in flight, after the end, twice", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 4 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2, 3, 4, 5].map((id) => makeSequence(id, id === 2 ? 6 : 3, 12));
  const [waiting, inPrefill, inDecode, underWay, survivor] = sequences as [Sequence, Sequence, Sequence, Sequence, Sequence];
  scheduler.add(waiting);
  scheduler.abort(waiting);
  assert.is(scheduler.schedule(), null);

  scheduler.add(inPrefill);
  const chunk = scheduler.schedule() as MixedPlan;
  scheduler.commitMixed(chunk, runner.mixed(chunk));
  assert.is(inPrefill.computed, 4);
  const cancelled = scheduler.schedule() as MixedPlan;
  const late = runner.mixed(cancelled);
  scheduler.abort(inPrefill);
  scheduler.abort(inPrefill);
  assert.is(tables.pool.free, 64);
  scheduler.commitMixed(cancelled, late);
  assert.equal(inPrefill.generated, []);

  for (const sequence of [inDecode, underWay, survivor]) scheduler.add(sequence);
  let plan = scheduler.schedule();
  for (; plan?.kind === "mixed"; plan = scheduler.schedule()) runner.run(scheduler, plan);
  scheduler.abort(inDecode);
  plan = scheduler.schedule();
  assert.equal(brief(plan!), { decode: [4, 5] });
  const had = underWay.generated.length;
  runner.decode(scheduler, plan as DecodePlan, () => { scheduler.abort(underWay); });
  assert.is(underWay.generated.length, had);
  assert.is(tables.pool.used, tables.blocksFor(survivor.computed));
  runAll(scheduler, runner);
  scheduler.abort(survivor);
  assert.equal(sequences.map((sequence) => sequence.finishReason), ["aborted", "aborted", "aborted", "aborted", "length"]);
  assert.equal(survivor.generated, expected(survivor, 64).tokens);
  assert.is(tables.pool.free, 64);
});

test("a runner that commits the wrong thing is told so", () => {
  const { scheduler, tables } = setUp();
  const runner = new FakeRunner(tables), sequence = makeSequence(1, 3);
  scheduler.add(sequence);
  assert.throws(() => scheduler.add(sequence), /added before/);
  const stale = scheduler.schedule() as MixedPlan;
  const mixed = scheduler.schedule() as MixedPlan;
  assert.throws(() => scheduler.commitMixed(stale, [{ token: 1, finish: null }]), /not the one scheduled last/);
  assert.throws(() => scheduler.commitMixed(mixed, []), /0 outcomes for a plan that samples 1/);
  runner.run(scheduler, mixed);
  assert.throws(() => scheduler.commitMixed(mixed, [{ token: 1, finish: null }]), /not the one scheduled last/);
  const decode = scheduler.schedule() as DecodePlan;
  assert.throws(() => scheduler.commitDecode(decode, [{ token: null, finish: null }]), /sequence 1 neither has a token nor finishes/);
  scheduler.schedule();
  assert.not.ok(scheduler.extend(decode, 1), "of an old plan");
});

test("blocks held behind the scheduler's back are an error, not a silent stop", () => {
  const { scheduler, tables } = setUp({ total: 8, maxSequences: 2 });
  tables.reserve(tables.open(16)!, 16);
  scheduler.add(makeSequence(1, 3, 4));
  assert.throws(() => scheduler.schedule(), /8 cache blocks are in use and sequence 1 cannot start/);
});

test("for the press of a sequence the one that came last gives way, and nobody else can", () => {
  const { scheduler, tables } = setUp();
  const [first, second] = [makeSequence(1, 6, 5), makeSequence(2, 6, 5)], runner = new FakeRunner(tables);
  for (const sequence of [first, second]) scheduler.add(sequence);
  runner.run(scheduler, scheduler.schedule()!);
  assert.equal([first.status, second.status], ["running", "running"]);
  assert.ok(scheduler.giveWay(first));
  assert.equal([second.status, second.slot, second.computed, scheduler.waiting], ["waiting", -1, 0, 1]);
  assert.not.ok(scheduler.giveWay(first), "it is alone");
  runAll(scheduler, runner);
  for (const sequence of [first, second]) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.is(tables.pool.used, 0);
});

test("sizes that cannot work are refused", () => {
  const { tables } = setUp();
  for (const wrong of [{ prefillChunk: 0 }, { maxSequences: 1.5 }, { maxModelLen: NaN }]) {
    const options = { tables, maxSequences: 4, prefillChunk: 8, maxModelLen: 64, ...wrong };
    assert.throws(() => new Scheduler(options), (error: unknown) => error instanceof UsageError);
  }
  assert.throws(() => new Scheduler({ tables, maxSequences: 6, prefillChunk: 8, maxModelLen: 64 }), /5 slots/);
  assert.throws(() => new Scheduler({ tables, maxSequences: 4, prefillChunk: 8, maxModelLen: 65 }), /64 tokens/);
});

test("prefixes are shared in blocks only", () => {
  const tables = new ContiguousTables({ entries: 512, reserve: "max", maxTokens: 64, slots: 4, layers: 1, kvHeads: 2 });
  const prefix = new PrefixCache(new BlockPool(4), 4);
  assert.throws(() => new Scheduler({ tables, prefix, maxSequences: 4, prefillChunk: 8, maxModelLen: 64 }), /the cache has none/);
});

test.run();
