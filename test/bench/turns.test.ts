/**
 * How arms take turns: orders, warm-up, what is kept when a run is stopped, and what a journal saves a second run from doing. No clock but
 * a counter.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FileJournal, type Journal } from "../../bench/core/journal.ts";
import { hasSettled, takeTurns, type Hooks, type TurnsConfig } from "../../bench/core/turns.ts";
import { AbortedError, UsageError } from "../../engine/errors.ts";

const test = suite("turns");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-turns-")); });
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

const ARMS = ["a", "b", "c", "yardstick"];
const CONFIG: TurnsConfig = { seed: 3, warmup_iterations: 1, warmup_limit: 4, test_iterations: 6 };

interface Sample { readonly arm: string; readonly iteration: number; readonly ms: number }
interface Options extends Partial<TurnsConfig> {
  readonly journal?: Journal;
  /** Milliseconds of an arm's call, counted from 0. */
  readonly msOf?: (arm: string, call: number) => number;
  /** Abort when so many samples and rounds were taken. */
  readonly stopAt?: number;
  readonly throws?: { readonly at: number; readonly error: unknown };
  /** Whether `once` notices by itself that it should stop. */
  readonly notices?: boolean;
  readonly yards?: number[];
  readonly arms?: readonly string[];
  readonly label?: string;
}

/** Takes turns and returns what came out, with every call of `once`. */
async function run({ journal, msOf = () => 10, stopAt, throws, notices = true, yards, arms = ARMS, label, ...config }: Options = {}) {
  const calls: Sample[] = [], steps: [string, number, number][] = [], counts = new Map<string, number>();
  const controller = new AbortController();
  const hooks: Hooks = {
    signal: controller.signal, onStep: (...step) => { steps.push(step); }, ...(journal !== undefined && { journal }),
    ...(yards !== undefined && { yardstick: { work: "counting",
      measure: async () => ({ computeMs: yards.push(yards.length), memoryMs: 1, hostMs: 1 }) } }),
  };
  const taken = await takeTurns<string, Sample>({
    arms, nameOf: (arm) => arm, msOf: ({ ms }) => ms, ...(label !== undefined && { label }),
    once: async (arm, iteration) => {
      if (calls.length === stopAt) controller.abort();
      if (controller.signal.aborted && notices) throw new AbortedError();
      if (throws?.at === calls.length) throw throws.error;
      const call = counts.get(arm) ?? 0, sample = { arm, iteration, ms: msOf(arm, call) };
      counts.set(arm, call + 1);
      calls.push(sample);
      return sample;
    },
  }, { ...CONFIG, ...config }, hooks);
  return { taken, calls, steps, measured: calls.filter(({ iteration }) => iteration >= 0) };
}

const journalAt = (name = "journal.jsonl"): FileJournal => FileJournal.create(join(folder, name), {});
const countsOf = (samples: ReadonlyMap<string, readonly unknown[]>): number[] => ARMS.map((arm) => samples.get(arm)!.length);

test("every arm once in each iteration, in an order that varies and is on record", async () => {
  const { taken, measured } = await run({ test_iterations: 40 });
  assert.equal(taken.order.flat(), measured.map(({ arm }) => arm));
  for (const turn of taken.order) assert.equal([...turn].sort(), [...ARMS].sort());
  assert.ok(new Set(taken.order.map(String)).size > 10, "orders vary");
  for (const place of [0, 1, 2, 3]) assert.is(new Set(taken.order.map((turn) => turn[place])).size, 4,
    `every arm comes at place ${place} at times`);
  assert.equal(measured.map(({ iteration }) => iteration), taken.order.flatMap((turn, i) => turn.map(() => i)));
  assert.is(taken.status, "complete");
});

test("the order follows from the seed alone: not from the length of warm-up, nor from where a run is taken up again", async () => {
  const { taken: { order } } = await run();
  for (const other of [{ warmup_iterations: 0, warmup_limit: 0 }, { warmup_iterations: 7, warmup_limit: 9 },
    { msOf: (_: string, call: number) => 1000 / (call + 1) }]) {
    assert.equal((await run(other)).taken.order, order);
  }
  const journal = journalAt();
  await run({ journal, stopAt: 17 });
  assert.equal((await run({ journal })).taken.order, order);
  assert.not.equal((await run({ seed: 4 })).taken.order, order);
});

test("warm-up goes on while an arm gets faster, and ends when none does any more", async () => {
  const slowStart = (arm: string, call: number): number => (arm === "b" ? [900, 400, 200][call] ?? 100 : 50);
  const { taken: { warmUp, samples } } = await run({ msOf: slowStart, warmup_limit: 20 });
  assert.is(warmUp.settled, true);
  // The median of the last three is flat once three calls after the third were alike.
  assert.is(warmUp.rounds, 6);
  assert.equal(warmUp.arms["b"], [900, 400, 200, 100, 100, 100]);
  assert.equal(Object.keys(warmUp.arms), ARMS);
  assert.ok([...samples.values()].flat().every(({ ms, iteration }) => iteration >= 0 && ms <= 100), "no sample of warm-up is kept");
});

test("warm-up stops at its limit and says so; 0 is none; without a limit as many rounds as asked for", async () => {
  const faster = (_: string, call: number): number => 1e6 * 0.5 ** call;
  const limited = (await run({ msOf: faster })).taken.warmUp;
  assert.equal([limited.rounds, limited.settled], [4, false]);
  const none = await run({ msOf: faster, warmup_iterations: 0, warmup_limit: 0 });
  assert.equal([none.taken.warmUp.rounds, none.taken.warmUp.settled, none.calls.length], [0, true, 4 * 6]);
  const calls: string[] = [];
  const fixed = await takeTurns<string, number>({ arms: ["a"], nameOf: (arm) => arm, msOf: (ms) => ms,
    once: async (arm, i) => { calls.push(`${arm}${i}`); return 1000 / calls.length; } },
    { seed: 0, warmup_iterations: 3, test_iterations: 2 }, { signal: new AbortController().signal, onStep: () => {} });
  assert.equal([fixed.warmUp.rounds, calls], [3, ["a-3", "a-2", "a-1", "a0", "a1"]]);
});

test("a fall of less than a twentieth, or of less than a millisecond, is none; one round tells nothing", () => {
  assert.equal([hasSettled([[100]]), hasSettled([[100, 96]]), hasSettled([[100, 80]]), hasSettled([[2, 1.1]]),
    hasSettled([[100, 100], [100, 50]]), hasSettled([[50, 90]])],
    [false, true, false, true, false, true]);
});

test("an abort anywhere keeps whole samples and tells that the run was interrupted", async () => {
  const all = 4 * (2 + 6); // two rounds of warm-up: the second is no faster than the first
  for (const notices of [true, false]) {
    for (let stopAt = 0; stopAt < all; stopAt++) {
      const { taken, measured, steps } = await run({ stopAt, notices });
      // A call that does not notice is finished, and the next one not begun.
      const whole = stopAt + Number(!notices), isLast = whole === all;
      assert.is(taken.status, isLast ? "complete" : "interrupted", `${stopAt}`);
      assert.is(measured.length, Math.max(0, whole - 8), `${stopAt}`);
      assert.equal([...taken.samples.values()].flat().length, measured.length);
      for (const arm of ARMS) assert.equal(taken.samples.get(arm), measured.filter((one) => one.arm === arm));
      assert.is(taken.order.length, whole < 8 ? 0 : Math.min(6, 1 + Math.floor((whole - 8) / 4)), `${stopAt}`);
      assert.is(steps.at(-1)![0], "done");
    }
  }
  assert.is((await run({ stopAt: all })).taken.status, "complete");
});

test("another error than an abort passes through, from warm-up and from an iteration", async () => {
  for (const at of [0, 9, 20]) {
    const error = new UsageError(`at ${at}`);
    await run({ throws: { at, error } }).then(() => assert.unreachable(), (thrown: unknown) => assert.is(thrown, error));
  }
});

test("progress counts every call once and ends at its total", async () => {
  const { steps, calls } = await run({ label: "first: " });
  assert.equal(steps.slice(0, -1).map(([, done]) => done), calls.map((_, i) => i));
  assert.equal([steps[0]![0].slice(0, 18), steps.at(-2)![0].slice(0, 25)],
    ["first: warm-up 1, ", "first: iteration 6 of 6, "].map((text, i) => text.slice(0, [18, 25][i])));
  const [, done, total] = steps.at(-1)!;
  assert.equal([done, total], [calls.length, calls.length]);
});

test("the yardstick is laid on once at the beginning of each iteration, and written down; an arm may have its name", async () => {
  const yards: number[] = [], journal = journalAt();
  const { taken } = await run({ yards, journal });
  assert.equal([taken.yardstick!.work, taken.yardstick!.yards.map(({ computeMs }) => computeMs)], ["counting", [1, 2, 3, 4, 5, 6]]);
  assert.equal(taken.samples.get("yardstick")!.map(({ arm }) => arm), Array(6).fill("yardstick"));
  const again = await run({ yards, journal });
  assert.is(yards.length, 6, "not laid on again");
  assert.equal(again.taken.yardstick, taken.yardstick);
  assert.is((await run()).taken.yardstick, null);
});

test("with a journal a second run takes every sample from it: nothing is called, nothing warmed up", async () => {
  const journal = journalAt(), first = await run({ journal });
  journal.close({ remove: false });
  const again = await run({ journal: FileJournal.open(journal.path) });
  assert.is(again.calls.length, 0);
  assert.equal([again.taken.samples, again.taken.order, again.taken.status], [first.taken.samples, first.taken.order, "complete"]);
  assert.equal([again.taken.warmUp.rounds, again.taken.warmUp.settled], [0, true]);
});

test("a run taken up again calls only for what is missing, after a warm-up of its own", async () => {
  for (const stopAt of [8, 9, 15, 16, 30]) {
    const journal = journalAt(`${stopAt}.jsonl`), first = await run({ journal, stopAt });
    const again = await run({ journal, msOf: () => 20 });
    assert.is(again.measured.length, 24 - (stopAt - 8));
    assert.is(again.calls.length, again.measured.length + 8);
    assert.equal(countsOf(again.taken.samples), [6, 6, 6, 6]);
    for (const arm of ARMS) {
      const before = first.taken.samples.get(arm)!;
      assert.equal(again.taken.samples.get(arm)!.slice(0, before.length), before);
    }
  }
});

test("a run taken up again and stopped at once still tells what the first one measured", async () => {
  const journal = journalAt(), first = await run({ journal, stopAt: 21 });
  for (const stopAt of [0, 3]) {
    const again = await run({ journal, stopAt });
    assert.is(again.taken.status, "interrupted");
    // The whole iterations; the one that was begun waits for the warm-up.
    for (const arm of ARMS) assert.equal(again.taken.samples.get(arm), first.taken.samples.get(arm)!.slice(0, 3));
  }
  assert.equal((await run({ journal })).taken.samples.get("a")!.length, 6);
});

test("measurements of one run do not take each other's samples: their labels keep them apart", async () => {
  const journal = journalAt();
  await run({ journal, label: "one: ", msOf: () => 1 });
  const { measured } = await run({ journal, label: "two: ", msOf: () => 2 });
  assert.is(measured.length, 24);
});

test.run();
