/**
 * The experiment with a model whose every time and token is known: which prompts run in which batch, what counts as time, when a run is
 * invalid or interrupted, and what the reports make of it.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ArmName } from "../../bench/core/arms.ts";
import { compare as compareIn, sentence as sentenceIn } from "../../bench/core/compare.ts";
import { en } from "../../bench/core/lang/en.ts";
import type { ArmResult, Outcome } from "../../bench/core/measure.ts";
import { metricsOf, type Metric } from "../../bench/core/metrics.ts";
import { runPagedAttention } from "../../bench/core/paged_attention.ts";
import { armJson, statusOf, type Run } from "../../bench/core/report/json.ts";
import { armMarkdown, comparisonMarkdown } from "../../bench/core/report/markdown.ts";
import { terminalSummary } from "../../bench/core/report/terminal.ts";
import { DEFAULTS, keysOf, type ExperimentConfig } from "../../bench/core/schema.ts";
import type { Change } from "../../bench/core/stats.ts";
import { machine } from "../../bench/core/environment.ts";
import { ContextLengthError, OutOfMemoryError } from "../../engine/errors.ts";
import type { LoadOptions } from "../../models/options.ts";
import { DECODE_MS, ENTRY_BYTES, fakeLoad, PREFILL_MS, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("PagedAttention experiment");

const CONFIG = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", num_prompts: 5, batch_size: 2, max_tokens: 4, max_model_len: 64, temperature: 0, top_p: 1,
} as ExperimentConfig;
const TEXTS = ["a bb ccc", "dddd", "ee f", "ggg hh i jj", "k"];

const compare = (outcome: Outcome) => compareIn(outcome, en);
const sentence = (metric: Pick<Metric, "key" | "better">, change: Change | null): string => sentenceIn({ metric, change }, en);

interface Steps { labels: string[]; hooks: { signal: AbortSignal; onStep: (label: string) => void } }
const steps = (signal = new AbortController().signal): Steps => {
  const labels: string[] = [];
  return { labels, hooks: { signal, onStep: (label) => { labels.push(label); } } };
};
const run = (config: Partial<ExperimentConfig> = {}, fake: FakeOptions = {}, { hooks } = steps()): Promise<Outcome> =>
  runPagedAttention({ ...CONFIG, ...config }, { texts: TEXTS }, fakeLoad(fake), hooks);
const reported = (outcome: Outcome, config: Partial<ExperimentConfig> = {}): Run => ({
  config: { ...CONFIG, ...config }, configFile: "x.yaml", origins: {}, prompts: { texts: TEXTS, origin: { kind: "given" }, sha256: "f".repeat(64) }, outcome, machine: machine(),
  started: "2026-01-01T00:00:00.000Z",
});
const armOf = (outcome: Outcome, name: ArmName): ArmResult => outcome.arms.find((arm) => arm.name === name)!;
const metric = (outcome: Outcome, name: ArmName, key: string): Metric => metricsOf(armOf(outcome, name)).find((one) => one.key === key)!;

test("the arms differ in layout alone: same pool, same batch, same adapter", async () => {
  const loads: LoadOptions[] = [];
  await run({}, { onLoad: (options) => { loads.push(options); } });
  assert.is(loads.length, 4);
  const [max, again, exact, paged] = loads.map(({ onProgress: _, ...rest }) => rest);
  assert.equal(max, { weights: "auto", kv: "f16", kvLayout: { name: "contiguous", reserve: "max" }, prefixCache: false, maxSequences: 2, adapter: "auto", maxModelLen: 64 });
  // A stand-in entry has 8 numbers of 2 bytes each for key and value: 2 sequences × 64 tokens × 32 bytes.
  assert.equal(again, { ...max, kvMemory: 4096 }, "the control is the first arm, with the same pool");
  assert.equal(exact, { ...max, kvLayout: { name: "contiguous", reserve: "exact" }, kvMemory: 4096 });
  assert.equal(paged, { ...max, kvLayout: { name: "paged", blockSize: 16 }, kvMemory: 4096 });
});

test("device and adapter choose where to run, kv_memory the pool of all", async () => {
  const loads: LoadOptions[] = [];
  const onLoad = (options: LoadOptions): void => { loads.push(options); };
  await run({ device: [3], kv_memory: 1 << 20 }, { onLoad });
  await run({ adapter: "software", method: "optimized" }, { onLoad });
  assert.equal(loads.map(({ adapter, kvMemory }) => [adapter, kvMemory]), [[3, 1 << 20], [3, 1 << 20], [3, 1 << 20], [3, 1 << 20], ["software", undefined]]);
});

test("random weights get the seed, others do not", async () => {
  const seeds: unknown[] = [];
  const onLoad = ({ seed }: LoadOptions): void => { seeds.push(seed); };
  await run({ model: "random:pythia-14m", seed: 7, method: "basic" }, { onLoad });
  await run({ seed: 7, method: "basic" }, { onLoad });
  assert.equal(seeds, [7, undefined]);
});

test("warm-up is not measured, arms take turns in an order that repeats with the seed", async () => {
  const first = steps();
  const outcome = await run({ warmup_iterations: 2, warmup_limit: 2, test_iterations: 8, seed: 1 }, {}, first);
  assert.is(first.labels.filter((label) => label.startsWith("warm-up")).length, 2 * 4);
  assert.equal(outcome.arms.map(({ iterations }) => iterations.length), [8, 8, 8, 8]);
  assert.is(outcome.order.length, 8);
  for (const turn of outcome.order) assert.equal([...turn].sort(), ["again", "contiguous-exact", "contiguous-max", "paged"]);
  assert.ok(new Set(outcome.order.map(String)).size > 2, "several orders occur");
  const again = steps();
  await run({ warmup_iterations: 2, warmup_limit: 2, test_iterations: 8, seed: 1 }, {}, again);
  assert.equal(again.labels, first.labels);
  const other = steps();
  await run({ warmup_iterations: 2, warmup_limit: 2, test_iterations: 8, seed: 2 }, {}, other);
  assert.not.equal(other.labels, first.labels);
});

test("static batches wait for each other: waiting counts as time to first token", async () => {
  const { arms } = await run({ method: "basic", test_iterations: 1 }, { stepMs: 3 });
  const [{ requests, wallMs }] = arms[0]!.iterations as [typeof arms[0]["iterations"][0]];
  assert.is(requests.length, 5);
  // Batches of 2, 2 and 1; each really takes 4 steps of 3 ms.
  requests.forEach(({ ttft, latency, tpot }, i) => {
    const waited = ttft - PREFILL_MS;
    assert.ok(waited >= Math.floor(i / 2) * 10 && waited <= wallMs, `request ${i} waited ${waited} ms`);
    assert.ok(Math.abs(latency - ttft - 3 * DECODE_MS) < 1e-9);
    assert.is(tpot, DECODE_MS);
  });
});

test("a prompt has the same seed in both arms, whatever batch it is in", async () => {
  const { identical } = await run({ temperature: 0.8, top_p: 0.9, seed: 4_294_967_294 });
  assert.equal(identical, { same: 5, of: 5, firstDifference: null, required: false });
});

test("metrics are vLLM's, by hand", async () => {
  const outcome = await run({ method: "optimized", test_iterations: 3 });
  // Three waves of 2, 2, 1 at 10 + 3·2 ms each: first tokens after 10, 10, 26, 26, 42.
  assert.equal(metric(outcome, "paged", "tpot_ms").summary!.samples, [2, 2, 2]);
  assert.ok(Math.abs(metric(outcome, "paged", "ttft_ms").summary!.median - 26) < 5);
  assert.ok(Math.abs(metric(outcome, "paged", "latency_ms").summary!.median - 32) < 5);
  for (const key of ["itl_p10_ms", "itl_p50_ms", "itl_p90_ms", "itl_p99_ms"]) assert.is(metric(outcome, "paged", key).summary!.median, 2);
  const iteration = outcome.arms[0]!.iterations[0]!;
  const perSecond = metric(outcome, "paged", "output_tokens_per_s").summary!.samples[0]!;
  assert.ok(Math.abs(perSecond - 20 / iteration.wallMs * 1000) < 1e-9);
  assert.ok(Math.abs(metric(outcome, "paged", "total_tokens_per_s").summary!.samples[0]! / perSecond - (20 + 11) / 20) < 1e-9);
  assert.ok(Math.abs(metric(outcome, "paged", "requests_per_s").summary!.samples[0]! / perSecond - 5 / 20) < 1e-9);
});

test("with one token there is no TPOT and no ITL: null with the reason, nowhere NaN", async () => {
  const outcome = await run({ max_tokens: 1 });
  for (const key of ["tpot_ms", "itl_p50_ms"]) assert.equal([metric(outcome, "paged", key).summary, metric(outcome, "paged", key).missing], [null, "oneToken"]);
  const report = reported(outcome, { max_tokens: 1 });
  const json = JSON.parse(armJson(report, armOf(outcome, "paged"))) as { metrics: Record<string, unknown>; comparison: { pairs: { changesPercent: Record<string, unknown> }[] } };
  assert.equal(json.metrics["tpot_ms"], { unit: "ms", value: null, reason: "needs at least two new tokens per request" });
  assert.equal(json.comparison.pairs[0]!.changesPercent["tpot_ms"], { value: null, reason: "an arm has no value" });
  for (const text of [armMarkdown(report, outcome.arms[0]!), comparisonMarkdown(report)!, terminalSummary(report)]) assert.not.match(text, /NaN|undefined|Infinity/);
});

test("engagement: paging took less, and the accounting says how much", async () => {
  const outcome = await run();
  const comparison = compare(outcome)!;
  assert.is(comparison.invalid, null);
  assert.is(statusOf(reported(outcome)), "complete");
  // 128 entries of 32 bytes reserved by two contiguous sequences; 16 each by two paged ones of at most 8 tokens, of which 7 are cached when the last is sampled.
  assert.equal(outcome.arms.map(({ cache }) => cache.peakReserved), [128, 128, 14, 32]);
  assert.equal(outcome.arms.map(({ poolBytes }) => poolBytes), [4096, 4096, 4096, 4096]);
  assert.is(outcome.budget, 4096);
  // Lengths 7, 5, 6, 8, 5 at their ends: 4 rounds of 31 and no more but 4; paged 16 each.
  assert.equal(outcome.arms.map(({ fits }) => fits), [2, 2, 20, 8]);
  // Prompts of 11 tokens in all, each held with 0 to 3 new ones: 74 of 20 × 16 and of 20 × 64 entries.
  assert.is(comparison.engagement, "of what it had reserved, paged left 76.9 % without a token, contiguous-max 94.2 %");
  assert.is(comparison.equalBatch, 2);
});

test("a run in which paging saved nothing is invalid and concludes nothing", async () => {
  const outcome = await run({}, { reserved: 64 });
  const report = reported(outcome);
  assert.is(statusOf(report), "invalid");
  assert.is((JSON.parse(armJson(report, outcome.arms[0]!)) as { status: string }).status, "invalid");
  const text = comparisonMarkdown(report)!;
  assert.match(text, /\*\*INVALID\*\*: .+paging saved nothing/);
  assert.not.match(text, /\d % (lower|higher)/);
  assert.match(terminalSummary(report), /INVALID/);
});

const spoil = (ids: number[], layout: string): number[] => (layout === "paged" ? ids.map((id, i) => (i === 2 && id % 2 === 0 ? id + 1 : id)) : ids);

test("a greedy text that depends on the layout makes the run invalid and says where", async () => {
  const outcome = await run({}, { spoil });
  assert.is(outcome.identical!.firstDifference!.token, 2);
  assert.ok(outcome.identical!.same < 5);
  assert.match(compare(outcome)!.invalid!, /greedy texts must not depend on where the cache lives, but \d of 5 texts .+token 3 of prompt \d/);
  assert.is(statusOf(reported(outcome)), "invalid");
});

test("with sampling a difference is on record but does not end the run", async () => {
  const outcome = await run({ temperature: 0.8 }, { spoil });
  assert.is(compare(outcome)!.invalid, null);
  assert.match(compare(outcome)!.correctness, /\d of 5 texts are the same .+first difference is token 3/);
});

test("a text that is shorter in one arm differs where it ends", async () => {
  const outcome = await run({}, { spoil: (ids, layout) => (layout === "paged" ? ids.slice(0, 3) : ids) });
  assert.equal(outcome.identical!.firstDifference, { prompt: 0, token: 3 });
});

test("a difference is claimed only when every iteration agrees", () => {
  const ttft = { key: "ttft_ms", better: "lower" } as const;
  assert.is(sentence(ttft, { median: -10, low: -12, high: -8, noise: 0, measurable: true }), "TTFT: 10.0 % lower, better (−12.0 % to −8.0 %)");
  assert.is(sentence({ key: "output_tokens_per_s", better: "higher" }, { median: -10, low: -12, high: -8, noise: 0, measurable: true }), "output throughput: 10.0 % lower, worse (−12.0 % to −8.0 %)");
  assert.is(sentence(ttft, { median: -10, low: -12, high: 1, noise: 0, measurable: false }), "TTFT: no measurable difference (−12.0 % to +1.0 % over the iterations)");
  assert.is(sentence(ttft, null), "TTFT: cannot be compared");
});

test("interrupted: finished iterations stay, the unfinished one is dropped, nothing is concluded", async () => {
  const stop = new AbortController();
  const labels: string[] = [];
  const outcome = await run({ warmup_iterations: 0, test_iterations: 4, method: "basic" }, { stepMs: 1 }, {
    labels, hooks: { signal: stop.signal, onStep: (label) => { labels.push(label); if (labels.length === 3) setTimeout(() => { stop.abort(); }, 3); } },
  });
  assert.is(outcome.status, "interrupted");
  assert.is(outcome.arms[0]!.iterations.length, 2);
  for (const { requests } of outcome.arms[0]!.iterations) assert.is(requests.length, 5);
  assert.match(armMarkdown(reported(outcome), outcome.arms[0]!), /Status: \*\*interrupted\*\*/);
});

test("interrupted with all arms: the comparison is marked partial", async () => {
  const stop = new AbortController();
  const outcome = await run({ test_iterations: 9, warmup_limit: 1 }, { stepMs: 1 }, {
    labels: [], hooks: { signal: stop.signal, onStep: (label) => { if (label.startsWith("iteration 3")) stop.abort(); } },
  });
  assert.equal(outcome.arms.map(({ iterations }) => iterations.length), [2, 2, 2, 2]);
  const text = comparisonMarkdown(reported(outcome))!;
  assert.match(text, /\*\*PARTIAL\*\*/);
  assert.not.match(text, /\d % (lower|higher),/);
});

test("a text that ends at its first token, or before it: no TPOT, throughput stays finite (K12)", async () => {
  for (const eosAfter of [0, 1]) {
    const outcome = await run({ ignore_eos: false }, { eosAfter });
    assert.is(metric(outcome, "paged", "tpot_ms").summary, null);
    assert.is(metric(outcome, "paged", "output_tokens_per_s").summary!.max > 0, eosAfter === 1);
    const report = reported(outcome, { ignore_eos: false });
    for (const text of [armMarkdown(report, outcome.arms[0]!), comparisonMarkdown(report)!, terminalSummary(report)]) assert.not.match(text, /NaN|undefined|Infinity/);
  }
});

test("interrupted before anything was measured: no metric, each with its reason", async () => {
  const stop = new AbortController();
  stop.abort();
  const outcome = await run({}, {}, { labels: [], hooks: { signal: stop.signal, onStep: () => {} } });
  assert.is(outcome.status, "interrupted");
  for (const { summary, missing } of metricsOf(outcome.arms[0]!)) assert.equal([summary, missing], [null, "noIteration"]);
});

test("an error ends the run and all models are closed", async () => {
  const closed: boolean[] = [];
  const load = fakeLoad();
  let loads = 0;
  await assertRejects(runPagedAttention(CONFIG, { texts: TEXTS }, async (model, options) => {
    const llm = await load(model, options);
    const index = loads++;
    closed[index] = false;
    return { ...llm, generateBatch: () => Promise.reject(new Error("broken")), close: async () => { closed[index] = true; } };
  }, steps().hooks), Error, /broken/);
  assert.equal(closed, [true, true, true, true]);
});

test("when the last model does not fit, the others are closed and the way out is named", async () => {
  const load = fakeLoad();
  let closed = 0;
  await assertRejects(runPagedAttention(CONFIG, { texts: TEXTS }, async (model, options) => {
    if (options.kvLayout!.name === "paged") throw new OutOfMemoryError("weights do not fit");
    return { ...await load(model, options), close: async () => { closed++; } };
  }, steps().hooks), OutOfMemoryError, /weights do not fit; all arms are loaded at the same time: lower kv_memory, or run --method basic and --method optimized/);
  assert.is(closed, 3);
});

test("a request without room for all its tokens is refused before anything runs", async () => {
  await assertRejects(run({ max_tokens: 61 }), ContextLengthError, /the longest prompt has 4 tokens; with max_tokens 61 it needs 65, but a sequence has room for 64/);
  assert.is((await run({ max_tokens: 60 })).status, "complete");
});

/** Six sequences of at most 40 tokens run together in a pool of a quarter of their 240. */
const QUARTER = { batch_size: 6, num_prompts: 5, max_tokens: 36, max_model_len: 48, kv_memory: 60 * ENTRY_BYTES, block_size: 4, test_iterations: 5 } as const;

test("a pool of a quarter of the need: texts as in the arms that never preempt, and preemptions in every report with the keys to change (K3)", async () => {
  const outcome = await run(QUARTER), report = reported(outcome, QUARTER);
  const paged = armOf(outcome, "paged");
  assert.equal((["contiguous-max", "again", "contiguous-exact"] as const).map((name) => armOf(outcome, name).cache.preemptions), [0, 0, 0]);
  assert.ok(paged.cache.preemptions >= 5, `${paged.cache.preemptions}`);
  assert.equal(outcome.identical, { same: 5, of: 5, firstDifference: null, required: true });
  assert.is(statusOf(report), "complete");
  const told = new RegExp(`paged pushed sequences out of its full cache ${paged.cache.preemptions} times in 5 iterations .+ Raise kv_memory, or lower batch_size or max_model_len\\.`);
  for (const text of [armMarkdown(report, paged), comparisonMarkdown(report)!, terminalSummary(report)]) {
    assert.match(text, told);
    assert.match(text, new RegExp(`preemptions +[|│].* ${paged.cache.preemptions} [|│]`));
  }
  assert.match(comparisonMarkdown(report)!, /what the block table costs cannot be told from this run/);
  assert.not.match(comparisonMarkdown(report)!, / × \(/);
  const json = JSON.parse(armJson(report, paged)) as Record<string, any>;
  assert.is(json["preemptions"], paged.cache.preemptions);
  assert.is(json["iterations"].reduce((sum: number, one: any) => sum + one.preemptions, 0), paged.cache.preemptions);
  assert.is(json["iterations"].flatMap((one: any) => one.requests).reduce((sum: number, one: any) => sum + one.preemptions, 0), paged.cache.preemptions);
});

test("a pool of less than one sequence of the maximum: contiguous-max and with it its control are skipped, which is said once; alone it is an error", async () => {
  const config = { kv_memory: 50 * ENTRY_BYTES, block_size: 4 };
  const tried: string[] = [];
  const onLoad = ({ kvLayout }: LoadOptions): void => { tried.push(kvLayout!.name === "paged" ? "paged" : `contiguous-${kvLayout!.reserve}`); };
  const outcome = await run(config, { onLoad }), report = reported(outcome, config);
  assert.equal(tried, ["contiguous-max", "contiguous-exact", "paged"], "what could not be loaded is not tried a second time");
  assert.equal(outcome.skipped, [{ name: "contiguous-max", needs: 64, holds: 50 }]);
  assert.equal(outcome.arms.map(({ name }) => name), ["contiguous-exact", "paged"]);
  assert.is(statusOf(report), "complete");
  assert.equal(compare(outcome)!.pairs.map(({ from, to }) => [from, to]), [["contiguous-exact", "paged"]]);
  for (const text of [comparisonMarkdown(report)!, terminalSummary(report)]) {
    assert.is(text.match(/contiguous-max: none\. One sequence reserves 64 tokens, the budget holds 50; it was not run/g)?.length, 1);
    assert.not.match(text, /A\/A|NaN|undefined/);
  }
  await assertRejects(run({ ...config, method: "basic" }), OutOfMemoryError, /needs at least/);
});

test("a request larger than the whole pool is refused before anything runs, with both numbers (K4)", async () => {
  const config = { kv_memory: 20 * ENTRY_BYTES, block_size: 4, max_tokens: 20 };
  await assertRejects(run(config), ContextLengthError, /^contiguous-exact: the longest request, 4 tokens of prompt and 20 new ones, needs a cache of 24 tokens, but kv_memory holds 20: raise kv_memory, or lower max_tokens$/);
  await assertRejects(run({ ...config, method: "optimized" }), ContextLengthError, /^paged: the longest request, .+ needs a cache of 24 tokens, but kv_memory holds 20/);
});

test("an arm that runs out of memory for another reason ends the run", async () => {
  const load = fakeLoad();
  await assertRejects(runPagedAttention({ ...CONFIG, kv_memory: 4096 }, { texts: TEXTS }, async (model, options) => {
    if (options.kvLayout!.name === "contiguous" && options.kvLayout!.reserve === "max") throw new OutOfMemoryError("the weights do not fit");
    return load(model, options);
  }, steps().hooks), OutOfMemoryError, /the weights do not fit/);
});

test("one arm alone has no comparison", async () => {
  const outcome = await run({ method: "optimized" });
  assert.is(compare(outcome), null);
  assert.is(comparisonMarkdown(reported(outcome)), null);
  assert.is((JSON.parse(armJson(reported(outcome), outcome.arms[0]!)) as { comparison: null }).comparison, null);
  assert.match(terminalSummary(reported(outcome)), /│ +paged │/);
});

test("reports hold what a later reader needs", async () => {
  const outcome = await run({}, { random: true });
  const report = reported(outcome);
  const json = JSON.parse(armJson(report, outcome.arms[0]!)) as Record<string, any>;
  assert.equal([json["schemaVersion"], json["status"], json["arm"]], [2, "complete", "contiguous-max"]);
  const looked = Object.entries(report.config).filter(([key]) => (keysOf("PagedAttention") as readonly string[]).includes(key));
  assert.equal(json["config"], JSON.parse(JSON.stringify(Object.fromEntries(looked))));
  assert.match(json["configSha256"], /^[0-9a-f]{64}$/);
  assert.match(json["prompts"].sha256, /^f{64}$/);
  assert.is(json["model"].random, true);
  assert.match(json["model"].note, /the text means nothing/);
  for (const key of ["adapter", "features", "limits", "node", "packages", "commit"]) assert.ok(key in json["environment"], key);
  assert.is(json["iterations"].length, CONFIG.test_iterations);
  assert.is(json["iterations"][0].requests[0].itl.length, 3);
  assert.is(json["order"].length, CONFIG.test_iterations);
  assert.is(json["memory"].peak.staging, 5);
  for (const text of [armMarkdown(report, outcome.arms[0]!), comparisonMarkdown(report)!]) {
    for (const part of ["## Metrics", "## Memory", "## Configuration", "## Environment", "## Raw samples", "Seeded random weights", "software adapter", "a stand-in", "maxBufferSize 1024"]) {
      assert.ok(text.includes(part), `${part} is missing`);
    }
    assert.not.match(text, /perplexity|NaN|undefined/i);
  }
});

test("the same seed gives the same report but for times", async () => {
  const [a, b] = [await run(), await run()];
  const timeless = (outcome: Outcome): unknown => ({
    order: outcome.order, identical: outcome.identical,
    arms: outcome.arms.map(({ iterations, cache, fits }) => ({ cache, fits, tokens: iterations.map(({ requests }) => requests.map(({ promptTokens, newTokens }) => [promptTokens, newTokens])) })),
  });
  assert.equal(timeless(a), timeless(b));
});

async function assertRejects(promise: Promise<unknown>, type: new (...args: never[]) => Error, message: RegExp): Promise<void> {
  const error: unknown = await promise.then(() => undefined, (thrown: unknown) => thrown);
  assert.instance(error, type);
  assert.match((error as Error).message, message);
}

test.run();
