/**
 * The experiment seen from the model: which calls it gets, in which order and with which seeds, and what becomes of a run that is stopped
 * or fails at an awkward moment. What the numbers mean is in paged_attention.test.ts.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Load } from "../../bench/core/arms.ts";
import { compare } from "../../bench/core/compare.ts";
import { en } from "../../bench/core/lang/en.ts";
import type { Outcome } from "../../bench/core/measure.ts";
import { runPagedAttention } from "../../bench/core/paged_attention.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { DeviceLostError } from "../../engine/errors.ts";
import type { GenerateOptions, KvLayout } from "../../models/options.ts";
import { fakeLoad } from "../support/fake_llm.ts";

const test = suite("experiment");

const CONFIG = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", num_prompts: 5, batch_size: 2, max_tokens: 4, max_model_len: 64,
  warmup_iterations: 1, test_iterations: 6, seed: 40,
} as ExperimentConfig;
/** Static batches of 2 that 5 prompts make. */
const BATCHES = 3;
const ARMS = ["contiguous-max", "again", "contiguous-exact", "paged"];
const isStatic = (arm: string): boolean => arm === "contiguous-max" || arm === "again";
const TEXTS = ["a bb ccc", "dddd", "ee f", "ggg hh i jj", "k"];

/** `arm`: whose model was called. */
interface Call { readonly arm: string; readonly prompts: readonly string[]; readonly options: GenerateOptions }

const layoutName = (layout: KvLayout): string => (layout.name === "paged" ? "paged" : `contiguous-${layout.reserve}`);

/** Run, calling `before` at every batch. */
async function run(
  config: Partial<ExperimentConfig>, before: (call: Call, count: number, stop: AbortController) => void = () => {},
): Promise<{ outcome: Outcome; calls: Call[] }> {
  const calls: Call[] = [];
  const stop = new AbortController();
  const inner = fakeLoad(), layouts = new Set<string>();
  const load: Load = async (model, options) => {
    const llm = await inner(model, options), layout = layoutName(options.kvLayout!);
    // Every arm has a model of its own: the second with a layout that was there before is the control.
    const arm = layouts.has(layout) ? "again" : layout;
    layouts.add(layout);
    return {
      ...llm,
      generateBatch: (prompts, generate) => {
        const call = { arm, prompts: prompts.map(String), options: generate };
        calls.push(call);
        before(call, calls.length, stop);
        return llm.generateBatch(prompts, generate);
      },
    };
  };
  const outcome = await runPagedAttention({ ...CONFIG, ...config }, { texts: TEXTS }, load, { signal: stop.signal, onStep: () => {} });
  return { outcome, calls };
}

test("static batches for the first arm and its control, all requests at once for the others, the same work and settings for all", async () => {
  const { calls } = await run({ test_iterations: 1, warmup_iterations: 0 });
  const of = (arm: string): Call[] => calls.filter((call) => call.arm === arm);
  for (const arm of ["contiguous-max", "again"]) assert.equal(of(arm).map(({ prompts }) => prompts.length), [2, 2, 1]);
  for (const arm of ["contiguous-exact", "paged"]) assert.equal(of(arm).map(({ prompts }) => prompts.length), [5]);
  assert.equal(of("contiguous-max").flatMap(({ prompts }) => prompts), of("paged")[0]!.prompts);
  assert.equal(of("again"), of("contiguous-max").map((call) => ({ ...call, arm: "again" })), "the control does exactly what the first arm does");
  for (const { options: { maxNewTokens, temperature, topP, ignoreEos } } of calls) {
    assert.equal([maxNewTokens, temperature, topP, ignoreEos], [4, 0.8, 0.95, true]);
  }
});

test("prompt i is sampled with seed + i, in every batch, arm and iteration; seeds wrap at 2³²", async () => {
  const seedsOf = async (seed: number): Promise<Map<string, Set<number>>> => {
    const seeds = new Map<string, Set<number>>();
    for (const { prompts, options } of (await run({ seed })).calls) {
      prompts.forEach((prompt, i) => { seeds.set(prompt, (seeds.get(prompt) ?? new Set()).add((options.seed! + i) >>> 0)); });
    }
    return seeds;
  };
  const { calls } = await run({ seed: 0xffff_fffe });
  for (const { options } of calls) assert.ok(options.seed! <= 0xffff_ffff, "a model takes no larger seed");
  assert.equal([...(await seedsOf(40)).values()].map((seeds) => [...seeds]), [[40], [41], [42], [43], [44]]);
  assert.equal([...(await seedsOf(0xffff_fffe)).values()].map((seeds) => [...seeds]), [[0xffff_fffe], [0xffff_ffff], [0], [1], [2]]);
});

test("the order on record is the order in which the arms ran, without warm-up", async () => {
  const { outcome, calls } = await run({ warmup_iterations: 2, warmup_limit: 2 });
  const turns: string[] = [];
  for (let i = 0; i < calls.length; i += isStatic(calls[i]!.arm) ? BATCHES : 1) turns.push(calls[i]!.arm);
  assert.equal(outcome.order.flat(), turns.slice(2 * ARMS.length));
  assert.is(outcome.order.length, 6);
  for (const turn of outcome.order) assert.equal([...turn].sort(), [...ARMS].sort());
  assert.ok(outcome.order.some((turn) => turn.indexOf("again") < turn.indexOf("contiguous-max")), "the control does not always come second");
});

test("stopped in the middle of an iteration: what was finished stays, whichever arm it was", async () => {
  for (let at = 2; at <= 3 * (2 * BATCHES + 2) + 1; at++) { // every place of three iterations
    const { outcome, calls } = await run({ warmup_iterations: 0 }, (_, count, stop) => { if (count === at) stop.abort(); });
    assert.is(outcome.status, "interrupted");
    assert.is(calls.length, at, "nothing runs after the stop");
    const finished = calls.slice(0, -1).map(({ arm }) => arm);
    const expected = ARMS.map((name) => Math.floor(finished.filter((arm) => arm === name).length / (isStatic(name) ? BATCHES : 1)));
    assert.equal(outcome.arms.map(({ iterations }) => iterations.length), expected, `stopped in call ${at}`);
    for (const { iterations } of outcome.arms) for (const { requests } of iterations) assert.is(requests.length, 5);
  }
});

test("stopped before every arm had its turn: no word on what paging saved", async () => {
  // In the second batch the first arm is either in the middle of its iteration, or done and this is the other's first.
  const { outcome } = await run({ warmup_iterations: 0 }, (_, count, stop) => { if (count === 2) stop.abort(); });
  assert.is(outcome.status, "interrupted");
  assert.ok(outcome.arms.some(({ iterations }) => iterations.length === 0));
  const comparison = compare(outcome, en)!;
  assert.is(comparison.invalid, null);
  assert.not.match(comparison.engagement, /0 B|saved nothing/);
});

test("a device that fails while the user stops the run is still told", async () => {
  const failed = run({}, (_, count, stop) => {
    if (count < 4) return;
    stop.abort();
    throw new DeviceLostError("the device was lost");
  });
  const error: unknown = await failed.then(() => null, (thrown: unknown) => thrown);
  assert.instance(error, DeviceLostError);
});

test.run();
