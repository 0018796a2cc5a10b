/**
 * The scheduler with a fake runner in place of the GPU. The runner keeps a cache of (position, token) pairs that it writes and reads
 * through mirrored ids and lengths only, checks before every sampled token that each table holds what it must, and samples a pure
 * function of the tokens so far. Whatever pool, batch, chunk or order is drawn, every sequence must end with the same tokens.
 */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, UsageError } from "../../engine/errors.ts";
import { BlockPool } from "../../models/blocks.ts";
import { BlockTables } from "../../models/block_tables.ts";
import type { FinishReason } from "../../models/options.ts";
import { Scheduler } from "../../models/scheduler.ts";
import type { DecodePlan, Outcome, PrefillPlan, StepPlan } from "../../models/scheduler.ts";
import { Sequence } from "../../models/sequence.ts";

const greedy = { maxNewTokens: 8, temperature: 0, topP: 1, topK: 0, seed: 0, ignoreEos: false };

function makeSequence(id: number, promptTokens: number, maxNewTokens = 8, ignoreEos = true): Sequence {
  const prompt = Array.from({ length: promptTokens }, (_, i) => (id * 31 + i * 7) % 997);
  return new Sequence(id, prompt, { ...greedy, maxNewTokens, ignoreEos });
}

interface Setup {
  total?: number; blockSize?: number; maxSequences?: number; prefillChunk?: number; maxModelLen?: number; layers?: number; kvHeads?: number;
}

function setUp({ total = 64, blockSize = 4, maxSequences = 4, prefillChunk = 8, maxModelLen = 64, layers = 1, kvHeads = 2 }: Setup = {}) {
  const maxBlocksPerTable = Math.ceil(maxModelLen / blockSize);
  const tables = new BlockTables({ pool: new BlockPool(total), blockSize, slots: maxSequences + 1, layers, kvHeads, maxBlocksPerTable });
  return { tables, scheduler: new Scheduler({ tables, maxSequences, prefillChunk, maxModelLen }) };
}

/** The fake model: next token after `tokens`. */
function nextToken(tokens: readonly number[]): number {
  return tokens.reduce((hash, token) => (hash * 33 + token + 1) % 1009, 7);
}

const isEos = (token: number) => token % 19 === 0;

/** What a sequence must generate, computed alone and without a cache. */
function expected(sequence: Sequence, maxModelLen: number): { tokens: number[]; reason: FinishReason } {
  const tokens: number[] = [];
  while (tokens.length < sequence.options.maxNewTokens && sequence.prompt.length + tokens.length < maxModelLen) {
    tokens.push(nextToken([...sequence.prompt, ...tokens]));
    if (isEos(tokens.at(-1)!) && !sequence.options.ignoreEos) return { tokens, reason: "stop" };
  }
  return { tokens, reason: "length" };
}

/** Tokens up to the first EOS. */
function untilStop(sequence: Sequence, tokens: number[]): Outcome {
  const eos = sequence.options.ignoreEos ? -1 : tokens.findIndex(isEos);
  return eos < 0 ? { tokens } : { tokens: tokens.slice(0, eos + 1), finish: "stop" };
}

class FakeRunner {
  readonly tables: BlockTables;
  /** Runs after the prompt of a sequence is in the cache: the place of a press. */
  readonly press: ((sequence: Sequence) => void) | undefined;
  prefilled = 0;
  readonly #memory: { position: number; token: number }[] = [];
  readonly #ids: Uint32Array;
  readonly #lengths: Uint32Array;

  constructor(tables: BlockTables, press?: (sequence: Sequence, runner: FakeRunner) => void) {
    this.tables = tables;
    this.press = press && ((sequence) => press(sequence, this));
    this.#ids = new Uint32Array(tables.ids.length);
    this.#lengths = new Uint32Array(tables.lengths.length);
  }

  upload(): void {
    const { ids, lengths } = this.tables.takeDirty();
    if (ids) this.#ids.set(this.tables.ids.subarray(...ids), ids[0]);
    if (lengths) this.#lengths.set(this.tables.lengths.subarray(...lengths), lengths[0]);
    assert.equal(this.#lengths, this.tables.lengths);
  }

  prefill(plan: PrefillPlan): Outcome[] {
    this.upload();
    const outcomes: Outcome[] = [];
    for (const { sequence, start, count, sample } of plan.parts) {
      assert.is(start, this.tables.position(sequence.slot));
      const history = Array.from({ length: start + count }, (_, i) => sequence.tokenAt(i));
      for (let i = start; i < start + count; i++) this.#write(sequence.slot, i, history[i]!);
      this.prefilled += count;
      if (sample) outcomes.push(untilStop(sequence, [this.#sample(sequence.slot, history)]));
    }
    this.#lengths.set(this.tables.lengths); // a prefill leaves the lengths to the host
    return outcomes;
  }

  decode(plan: DecodePlan, ran = plan.steps): Outcome[] {
    this.upload();
    const rows = plan.sequences.map((sequence) => {
      assert.is(sequence.computed, sequence.tokens - 1);
      const history = [...sequence.prompt, ...sequence.generated];
      for (let step = 0; step < ran; step++) {
        this.#write(sequence.slot, history.length - 1, history.at(-1)!);
        history.push(this.#sample(sequence.slot, history));
      }
      return history.slice(sequence.tokens);
    });
    return rows.map((tokens, i) => untilStop(plan.sequences[i]!, tokens));
  }

  run(scheduler: Scheduler, plan: StepPlan, ran?: number): void {
    if (plan.kind === "decode") scheduler.commitDecode(plan, this.decode(plan, ran), ran);
    else {
      scheduler.commitPrefill(plan, this.prefill(plan));
      for (const { sequence, sample } of plan.parts) if (sample && sequence.status === "running") this.press?.(sequence);
    }
  }

  gather({ source, target }: { source: Uint32Array; target: Uint32Array }): void {
    const values = Array.from(source, (entry) => this.#memory[entry]!);
    target.forEach((entry, i) => { this.#memory[entry] = values[i]!; });
  }

  #tablesOf(slot: number): number[] {
    const count = this.tables.layers * this.tables.kvHeads;
    return Array.from({ length: count }, (_, i) => slot * count + i);
  }

  #entry(table: number, entry: number): number {
    const { blockSize, maxBlocksPerTable } = this.tables;
    return this.#ids[table * maxBlocksPerTable + Math.floor(entry / blockSize)]! * blockSize + entry % blockSize;
  }

  #write(slot: number, position: number, token: number): void {
    for (const table of this.#tablesOf(slot)) {
      this.#memory[this.#entry(table, this.#lengths[table]!)] = { position, token };
      this.#lengths[table]! += 1;
    }
  }

  /** The token after `history`, once every table has been found to hold it: all of it, or with a press some of it in order. */
  #sample(slot: number, history: readonly number[]): number {
    for (const table of this.#tablesOf(slot)) {
      const entries = Array.from({ length: this.#lengths[table]! }, (_, i) => this.#memory[this.#entry(table, i)]!);
      entries.forEach(({ position, token }, i) => {
        assert.is(token, history[position], `table ${table} entry ${i} holds another token than position ${position}`);
        assert.ok(i === 0 || position > entries[i - 1]!.position);
      });
      assert.is(entries.at(-1)!.position, history.length - 1);
      if (this.press === undefined) assert.is(entries.length, history.length);
    }
    return nextToken(history);
  }
}

function runAll(scheduler: Scheduler, runner: FakeRunner, lookahead = 4): void {
  for (let plan = scheduler.schedule({ lookahead }); plan !== null; plan = scheduler.schedule({ lookahead })) {
    runner.run(scheduler, plan);
    runner.tables.check();
  }
}

/** A plan as numbers: prefill parts as [id, start, count, sample], decode as ids and steps. */
function brief(plan: StepPlan | null): unknown {
  if (plan === null) return null;
  if (plan.kind === "decode") return { decode: plan.sequences.map((sequence) => sequence.id), steps: plan.steps };
  return { prefill: plan.parts.map(({ sequence, start, count, sample }) => [sequence.id, start, count, sample]) };
}

test("one sequence from prompt to its last token", () => {
  const { scheduler, tables } = setUp();
  const sequence = makeSequence(1, 10, 6), runner = new FakeRunner(tables);
  scheduler.add(sequence);
  const plans: unknown[] = [];
  for (let plan = scheduler.schedule({ lookahead: 4 }); plan; plan = scheduler.schedule({ lookahead: 4 })) {
    plans.push(brief(plan));
    runner.run(scheduler, plan);
  }
  assert.equal(plans, [
    { prefill: [[1, 0, 8, false]] },
    { prefill: [[1, 8, 2, true]] },
    { decode: [1], steps: 4 },
    { decode: [1], steps: 1 },
  ]);
  assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.equal([sequence.status, sequence.finishReason, sequence.slot, sequence.computed], ["finished", "length", -1, 15]);
  assert.is(tables.pool.free, tables.pool.total);
});

test("chunks of several prompts share a forward, first come first served", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 8, maxSequences: 3 });
  const runner = new FakeRunner(tables);
  for (const [id, length] of [[1, 3], [2, 9], [3, 2], [4, 1]] as const) scheduler.add(makeSequence(id, length, 2));
  const step = () => {
    const plan = scheduler.schedule();
    if (plan) runner.run(scheduler, plan);
    return brief(plan);
  };
  assert.equal(step(), { prefill: [[1, 0, 3, true], [2, 0, 5, false]] });
  assert.equal(step(), { prefill: [[2, 5, 4, true], [3, 0, 2, true]] });
  assert.equal([scheduler.running, scheduler.waiting], [3, 1]);
  assert.equal(step(), { decode: [1, 2, 3], steps: 1 });
  assert.equal(step(), { prefill: [[4, 0, 1, true]] });
  assert.equal(step(), { decode: [4], steps: 1 });
  assert.is(step(), null);
});

test("lookahead ends where the nearest sequence does, and where the pool does", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 16 });
  const runner = new FakeRunner(tables);
  scheduler.add(makeSequence(1, 2, 4));
  scheduler.add(makeSequence(2, 2, 20));
  runner.run(scheduler, scheduler.schedule()!);
  assert.equal(brief(scheduler.schedule({ lookahead: 16 })), { decode: [1, 2], steps: 3 });

  const tight = setUp({ total: 14, prefillChunk: 16 }); // 2 tables of 7 blocks of 4: two sequences cannot both reach 15 entries
  const tightRunner = new FakeRunner(tight.tables);
  for (const id of [1, 2]) tight.scheduler.add(makeSequence(id, 3, 20));
  tightRunner.run(tight.scheduler, tight.scheduler.schedule()!);
  assert.equal(brief(tight.scheduler.schedule({ lookahead: 16 })), { decode: [1, 2], steps: 9 });
  assert.is(tight.scheduler.preemptions, 0);
});

test("a full pool preempts the last-come, which recomputes prompt and continuation and ends the same", () => {
  const { scheduler, tables } = setUp({ total: 14, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2].map((id) => makeSequence(id, 3, 20));
  for (const sequence of sequences) scheduler.add(sequence);
  runner.run(scheduler, scheduler.schedule()!);
  runner.run(scheduler, scheduler.schedule({ lookahead: 16 })!);
  const plan = scheduler.schedule({ lookahead: 16 });
  assert.equal(brief(plan), { decode: [1], steps: 10 });
  assert.equal([sequences[1]!.status, sequences[1]!.slot, sequences[1]!.computed, sequences[1]!.preemptions], ["waiting", -1, 0, 1]);
  assert.equal([scheduler.preemptions, scheduler.waiting, scheduler.running], [1, 1, 1]);
  runner.run(scheduler, plan!);
  assert.is(sequences[0]!.status, "finished");
  assert.equal(brief(scheduler.schedule()), { prefill: [[2, 0, 13, true]] });
  runAll(scheduler, runner);
  for (const sequence of sequences) assert.equal(sequence.generated, expected(sequence, 64).tokens);
  assert.is(tables.pool.free, 14);
});

test("admission takes blocks for the prompt and one more, and leaves every running table a block to grow by", () => {
  const { scheduler, tables } = setUp({ total: 10, kvHeads: 1, maxSequences: 3, prefillChunk: 32 });
  const runner = new FakeRunner(tables);
  for (const id of [1, 2, 3]) scheduler.add(makeSequence(id, 8, 12));
  // 3 blocks each; the third would leave one block for two sequences that will each want one soon
  assert.equal(brief(scheduler.schedule()), { prefill: [[1, 0, 8, true], [2, 0, 8, true]] });
  assert.is(tables.pool.used, 6);
  runner.run(scheduler, scheduler.schedule()!);
  assert.equal(brief(scheduler.schedule()), { decode: [1, 2], steps: 1 });
  runAll(scheduler, runner);
  assert.is(scheduler.preemptions, 0);
});

test("contiguous: one block per table is all a sequence ever takes, so as many run as there are blocks for", () => {
  const { scheduler, tables } = setUp({ total: 6, blockSize: 64, kvHeads: 2, maxSequences: 4, prefillChunk: 32 });
  for (const id of [1, 2, 3, 4]) scheduler.add(makeSequence(id, 2, 40));
  assert.equal(brief(scheduler.schedule()), { prefill: [[1, 0, 2, true], [2, 0, 2, true], [3, 0, 2, true]] });
  runAll(scheduler, new FakeRunner(tables));
  assert.is(scheduler.preemptions, 0);
});

test("steady decoding uploads nothing until a block is added", () => {
  const { scheduler, tables } = setUp();
  const runner = new FakeRunner(tables);
  scheduler.add(makeSequence(1, 4, 12));
  runner.run(scheduler, scheduler.schedule()!);
  const uploads: boolean[] = [];
  for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) {
    const { ids, lengths } = tables.takeDirty();
    uploads.push(ids !== null || lengths !== null);
    if (plan.kind === "decode") scheduler.commitDecode(plan, [{ tokens: [1] }]);
  }
  // The prefill's lengths; then only the third and fourth block, when entries 8 and 12 need them.
  assert.equal(uploads.map((dirty, i) => dirty ? i : -1).filter((i) => i >= 0), [0, 4, 8]);
  assert.is(uploads.length, 11);
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
  assert.throws(() => new Sequence(6, [], greedy), (error: unknown) => error instanceof UsageError);
});

test("past maxModelLen a sequence ends with reason length", () => {
  const { scheduler, tables } = setUp({ maxModelLen: 12 });
  const sequence = makeSequence(1, 9, 100);
  scheduler.add(sequence);
  runAll(scheduler, new FakeRunner(tables), 8);
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

test("a stop seen late: tokens behind it are dropped, the others go on", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 16 });
  const runner = new FakeRunner(tables);
  const [first, second] = [makeSequence(1, 3, 12), makeSequence(2, 3, 12)];
  scheduler.add(first), scheduler.add(second);
  runner.run(scheduler, scheduler.schedule()!);
  const plan = scheduler.schedule({ lookahead: 6 }) as DecodePlan;
  const [cut, whole] = runner.decode(plan);
  scheduler.commitDecode(plan, [{ tokens: cut!.tokens.slice(0, 2), finish: "stop" }, whole!]);
  assert.equal([first.generated.length, first.finishReason, first.slot], [3, "stop", -1]);
  assert.is(second.generated.length, 7);
  runAll(scheduler, runner);
  assert.equal(second.generated, expected(second, 64).tokens);
  assert.is(tables.pool.free, 64);
});

test("abort: before start, in prefill, in decode, between schedule and commit, after the end, twice", () => {
  const { scheduler, tables } = setUp({ prefillChunk: 4 });
  const runner = new FakeRunner(tables);
  const sequences = [1, 2, 3, 4, 5].map((id) => makeSequence(id, id === 2 ? 6 : 3, 6));
  const [waiting, inPrefill, inDecode, underWay, survivor] = sequences as [Sequence, Sequence, Sequence, Sequence, Sequence];
  scheduler.add(waiting);
  scheduler.abort(waiting);
  assert.is(scheduler.schedule(), null);

  scheduler.add(inPrefill);
  const chunk = scheduler.schedule() as PrefillPlan;
  const outcomes = runner.prefill(chunk);
  scheduler.commitPrefill(chunk, outcomes);
  assert.is(inPrefill.computed, 4);
  const cancelled = scheduler.schedule() as PrefillPlan;
  const late = runner.prefill(cancelled);
  scheduler.abort(inPrefill);
  scheduler.abort(inPrefill);
  assert.is(tables.pool.free, 64);
  scheduler.commitPrefill(cancelled, late);
  assert.equal(inPrefill.generated, []);

  for (const sequence of [inDecode, underWay, survivor]) scheduler.add(sequence);
  for (let plan = scheduler.schedule(); plan?.kind === "prefill"; plan = scheduler.schedule()) runner.run(scheduler, plan);
  scheduler.abort(inDecode);
  const plan = scheduler.schedule({ lookahead: 2 }) as DecodePlan;
  assert.equal(brief(plan), { decode: [4, 5], steps: 2 });
  const rows = runner.decode(plan);
  scheduler.abort(underWay);
  scheduler.commitDecode(plan, rows);
  assert.is(underWay.generated.length, 1);
  assert.is(survivor.generated.length, 3);
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
  const stale = scheduler.schedule() as PrefillPlan;
  const prefill = scheduler.schedule() as PrefillPlan;
  assert.throws(() => scheduler.commitPrefill(stale, [{ tokens: [1] }]), /not the one scheduled last/);
  assert.throws(() => scheduler.commitPrefill(prefill, []), /0 outcomes for a plan that samples 1/);
  runner.run(scheduler, prefill);
  assert.throws(() => scheduler.commitPrefill(prefill, [{ tokens: [1] }]), /not the one scheduled last/);
  const decode = scheduler.schedule({ lookahead: 3 }) as DecodePlan;
  assert.throws(() => scheduler.commitDecode(decode, [{ tokens: [1, 2, 3, 4] }], 4), /4 decode steps were run, but 3 were planned/);
  const again = scheduler.schedule({ lookahead: 3 }) as DecodePlan;
  assert.throws(() => scheduler.commitDecode(again, [{ tokens: [1, 2] }]), /2 tokens for sequence 1 after 3 steps/);
});

test("blocks held behind the scheduler's back are an error, not a silent stop", () => {
  const { scheduler, tables } = setUp({ total: 8, maxSequences: 2 });
  tables.reserve(tables.open()!, 16);
  scheduler.add(makeSequence(1, 3, 4));
  assert.throws(() => scheduler.schedule(), /8 cache blocks are in use and sequence 1 cannot start/);
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

const world = fc.record({
  blockSize: fc.constantFrom(1, 2, 3, 4, 8, 48), // 48 = maxModelLen: the contiguous layout
  slack: fc.integer({ min: 0, max: 30 }), // blocks above what the largest sequence needs
  maxSequences: fc.integer({ min: 1, max: 5 }),
  prefillChunk: fc.integer({ min: 1, max: 40 }),
  layers: fc.integer({ min: 1, max: 2 }),
  kvHeads: fc.integer({ min: 1, max: 2 }),
  press: fc.boolean(),
  requests: fc.array(fc.record({
    promptTokens: fc.integer({ min: 1, max: 30 }),
    maxNewTokens: fc.integer({ min: 0, max: 40 }),
    ignoreEos: fc.boolean(),
    arrival: fc.nat(12), // number of the step before which it is added
    /** Number of the step in which it is aborted, and whether before the step is scheduled or before it is committed. */
    abort: fc.option(fc.record({ step: fc.nat(25), late: fc.boolean() }), { freq: 4 }),
  }), { minLength: 1, maxLength: 8, size: "max" }),
  lookaheads: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }),
  stopShort: fc.boolean(), // run fewer steps than planned
  seed: fc.nat(),
});

test("random worlds: every sequence ends with its own tokens, nothing leaks, whatever the sizes, order, aborts and presses", () => {
  const maxModelLen = 48, seen = new Set<string>();
  fc.assert(fc.property(world, (world) => {
    const { blockSize, maxSequences, prefillChunk, layers, kvHeads, requests, lookaheads, seed } = world;
    const sequences = requests.map(({ promptTokens, maxNewTokens, ignoreEos }, id) =>
      makeSequence(seed % 100 + id, promptTokens, maxNewTokens, ignoreEos));
    const largest = Math.max(...sequences.map(({ prompt, options }) => Math.min(prompt.length + options.maxNewTokens, maxModelLen)));
    const total = layers * kvHeads * Math.ceil(largest / blockSize) + world.slack;
    const { scheduler, tables } = setUp({ total, blockSize, maxSequences, prefillChunk, maxModelLen, layers, kvHeads });

    let random = seed;
    const draw = () => (random = (random * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    /** Keeps random entries, others in each head. */
    const press = (sequence: Sequence, runner: FakeRunner) => {
      for (let layer = 0; layer < layers; layer++) {
        const kept = Array.from({ length: kvHeads }, (_, head) => {
          const length = tables.lengths[(sequence.slot * layers + layer) * kvHeads + head]!;
          return Uint32Array.from(Array.from({ length }, (_, i) => i).filter(() => draw() < 0.5));
        });
        const gather = tables.keep(sequence.slot, layer, kept);
        if (gather) runner.gather(gather);
        seen.add(gather ? "pressed" : "no room for the press");
      }
    };
    const runner = new FakeRunner(tables, world.press ? press : undefined);

    for (let step = 0; ; step++) {
      requests.forEach(({ arrival, abort }, i) => {
        if (arrival === step) scheduler.add(sequences[i]!);
        if (abort?.step === step && !abort.late && arrival <= step) scheduler.abort(sequences[i]!);
      });
      const plan = scheduler.schedule({ lookahead: lookaheads[step % lookaheads.length]! });
      tables.check();
      if (plan === null && step > 25) break;
      if (plan === null) continue;
      const abortLate = () => requests.forEach(({ abort, arrival }, i) => {
        if (abort?.step === step && abort.late && arrival <= step) scheduler.abort(sequences[i]!), seen.add("aborted under way");
      });
      if (plan.kind === "prefill") {
        assert.ok(plan.parts.reduce((sum, part) => sum + part.count, 0) <= prefillChunk);
        const outcomes = runner.prefill(plan);
        abortLate();
        scheduler.commitPrefill(plan, outcomes);
        for (const { sequence, sample } of plan.parts) if (sample && sequence.status === "running") runner.press?.(sequence);
      } else {
        if (plan.steps > 1) seen.add("decoded ahead");
        const ran = world.stopShort ? Math.ceil(plan.steps / 2) : plan.steps;
        const outcomes = runner.decode(plan, ran);
        abortLate();
        scheduler.commitDecode(plan, outcomes, ran);
      }
      tables.check();
      assert.ok(scheduler.running <= maxSequences);
      for (const sequence of sequences) {
        assert.is(sequence.slot >= 0, sequence.status === "running");
        if (sequence.slot >= 0) assert.is(tables.position(sequence.slot), sequence.computed);
      }
      assert.ok(step < 5000, "no end in sight");
    }

    for (const sequence of sequences) {
      const { tokens, reason } = expected(sequence, maxModelLen);
      assert.is(sequence.status, "finished");
      if (sequence.finishReason === "aborted") assert.equal(sequence.generated, tokens.slice(0, sequence.generated.length));
      else assert.equal([sequence.generated, sequence.finishReason], [tokens, reason]);
      seen.add(sequence.finishReason!);
    }
    assert.is(scheduler.preemptions, sequences.reduce((sum, sequence) => sum + sequence.preemptions, 0));
    if (scheduler.preemptions > 0) seen.add("preempted");
    if (blockSize === maxModelLen) assert.is(scheduler.preemptions, 0);
    assert.equal([tables.pool.free, scheduler.waiting, scheduler.running], [total, 0, 0]);
  }), { numRuns: 300 });
  assert.equal([...seen].sort(),
    ["aborted", "aborted under way", "decoded ahead", "length", "no room for the press", "preempted", "pressed", "stop"]);
});

test.run();
