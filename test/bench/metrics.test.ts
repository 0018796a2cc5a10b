/** Every metric of two iterations worked out by hand, what has no value, and when a run may be compared at all. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { ArmName } from "../../bench/core/arms.ts";
import { compare as compareIn, preemptionNotes, ratioSentence, sentence, type Compared } from "../../bench/core/compare.ts";
import { en } from "../../bench/core/lang/en.ts";
import type { ArmResult, Identical, Iteration } from "../../bench/core/measure.ts";
import { bytes, hitRate, memoryUse, metricsOf, signed } from "../../bench/core/metrics.ts";

const compare = (outcome: Omit<Compared, "skipped">, skipped: Compared["skipped"] = []) => compareIn({ ...outcome, skipped }, en);

const STATS = { cachedTokens: 0, preemptions: 0 };

/** One request of 3 tokens and one of 2; the second waits 100 ms. */
const iteration = (scale: number): Iteration => ({
  wallMs: 200 * scale, preemptions: 0,
  requests: [
    { promptTokens: 5, newTokens: 3, ...STATS, ttft: 10 * scale, latency: 50 * scale, tpot: 20 * scale, itl: [10 * scale, 30 * scale] },
    { promptTokens: 7, newTokens: 2, ...STATS, ttft: 110 * scale, latency: 150 * scale, tpot: 40 * scale, itl: [40 * scale] },
  ],
});

const NO_BYTES = { weights: 0, kv: 0, activations: 0, logits: 0, staging: 0, total: 0 };
const CACHE = {
  passes: 4, peakReserved: 128, peakLive: 32, meanReserved: 48, meanLive: 12, peakRunning: 2, meanRunning: 1.5, preemptions: 0, queriedTokens: 0, hitTokens: 0, evictedBlocks: 0,
};
/** `waste`: the part of the cache that held no token. */
const arm = (name: ArmName, waste: number, iterations: readonly Iteration[] = [iteration(1), iteration(3)], cache: Partial<typeof CACHE> = {}): ArmResult => ({
  name, iterations, layout: { name: "paged", blockSize: 16 }, batch: null, limit: 2, entryBytes: 32, poolBytes: 4096, fits: 2, sharedTokens: 0,
  loadTimings: { weightsMs: 1, pipelinesMs: 1 }, memory: { ...NO_BYTES, peak: NO_BYTES }, cache: { ...CACHE, meanLive: 48 * (1 - waste), ...cache },
});
const [MAX, PAGED] = ["contiguous-max", "paged"] as const;
const value = (result: ArmResult, key: string): number | null => metricsOf(result).find((metric) => metric.key === key)!.summary?.median ?? null;
const near = (actual: number | null, expected: number): void => {
  assert.ok(actual !== null && Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);
};

test("one iteration: medians over its requests, percentiles over all its gaps, totals over its time", () => {
  const once = arm(MAX, 0.75, [iteration(1)]);
  near(value(once, "ttft_ms"), 60); // of 10 and 110
  near(value(once, "latency_ms"), 100); // of 50 and 150
  near(value(once, "tpot_ms"), 30); // (50 − 10) / 2 and (150 − 110) / 1
  near(value(once, "itl_p10_ms"), 14); // of 10, 30, 40
  near(value(once, "itl_p50_ms"), 30);
  near(value(once, "itl_p90_ms"), 38);
  near(value(once, "itl_p99_ms"), 39.8);
  near(value(once, "output_tokens_per_s"), 25); // 5 in 0.2 s
  near(value(once, "total_tokens_per_s"), 85); // 5 + 12
  near(value(once, "requests_per_s"), 10);
});

test("several iterations: the median over them, with every value kept", () => {
  near(value(arm(MAX, 0.75), "ttft_ms"), 120);
  assert.equal(metricsOf(arm(MAX, 0.75))[0]!.summary!.samples, [60, 180]);
});

test("what cannot be given is null with its reason", () => {
  const request = { promptTokens: 5, newTokens: 1, ...STATS, ttft: 10, latency: 10, tpot: null, itl: [] };
  for (const { key, summary, missing } of metricsOf(arm(MAX, 0.75, [{ wallMs: 0, preemptions: 0, requests: [request] }]))) {
    const expected = /^(tpot|itl)/.test(key) ? "oneToken" : /_per_s$/.test(key) ? "noValue" : undefined;
    assert.is(missing, expected, key);
    assert.is(summary === null, expected !== undefined, key);
  }
  for (const { summary, missing } of metricsOf(arm(MAX, 0.75, []))) assert.equal([summary, missing], [null, "noIteration"]);
});

test("the cache in bytes, and its waste", () => {
  assert.equal(memoryUse(arm(MAX, 0.75)), { missing: null, pool: 4096, peak: 128 * 32, meanReserved: 48 * 32, meanLive: 12 * 32, waste: 0.75, wasteAtPeak: 0.75 });
  const idle = arm(MAX, 0, [], { meanReserved: 0, peakReserved: 0, meanLive: 0, peakLive: 0 });
  assert.equal([memoryUse(idle).waste, memoryUse(idle).wasteAtPeak, memoryUse(idle).missing], [null, null, "noPass"]);
  assert.equal([memoryUse(arm("paged-prefix", -1)).waste, memoryUse(arm("paged-prefix", -1)).missing], [null, "shared"]);
});

test("the hit rate is of the tokens that were looked up", () => {
  assert.is(hitRate(arm(PAGED, 0)), null);
  assert.is(hitRate(arm("paged-prefix", 0, [], { queriedTokens: 200, hitTokens: 150 })), 0.75);
});

const invalid = (arms: readonly ArmResult[], identical: Identical | null = null): string | null => compare({ arms, identical })!.invalid;

test("a comparison needs two arms", () => {
  assert.is(compare({ arms: [arm(PAGED, 0.1)], identical: null }), null);
});

test("paging must have wasted less of what it reserved", () => {
  assert.is(invalid([arm(MAX, 0.8), arm(PAGED, 0.7)]), null);
  for (const waste of [0.8, 0.9]) assert.match(invalid([arm(MAX, 0.8), arm(PAGED, waste)])!, /paging saved nothing, so these runs do not compare it with anything$/);
  assert.match(invalid([arm(MAX, 0.8), arm(PAGED, 0, undefined, { meanReserved: 0, meanLive: 0 })])!, /paging saved nothing/);
});

test("a prefix cache that was never hit says nothing", () => {
  const pair = (hitTokens: number): ArmResult[] => [arm(PAGED, 0.1), arm("paged-prefix", 0.1, undefined, { queriedTokens: 100, hitTokens })];
  assert.match(invalid(pair(0))!, /^no prompt token came out of the prefix cache/);
  assert.is(invalid(pair(16)), null);
  assert.match(compare({ arms: pair(16), identical: null })!.engagement, /^16 of 100 prompt tokens .+\(16\.0 %;/);
});

test("where contiguous-max cannot run at all, paging has acted by running", () => {
  const skipped = [{ name: MAX, needs: 512, holds: 100 }] as const;
  const arms = [arm("contiguous-exact", 0.2), arm(PAGED, 0.3)];
  assert.is(compare({ arms, identical: null }, skipped)!.invalid, null);
  assert.match(compare({ arms, identical: null }, skipped)!.engagement, /cannot hold a single sequence of contiguous-max/);
});

test("an arm that finished nothing is no evidence against paging", () => {
  for (const arms of [[arm(MAX, 0.8, []), arm(PAGED, 0.1)], [arm(MAX, 0.1), arm(PAGED, 0.8, [])]]) {
    assert.is(invalid(arms), null);
    assert.match(compare({ arms, identical: null })!.engagement, /did not all finish an iteration/);
  }
});

test("texts that differ end the comparison only where they must not", () => {
  const arms = [arm(MAX, 0.8), arm(PAGED, 0.1)];
  const identical = { same: 1, of: 2, firstDifference: { prompt: 1, token: 4 } };
  assert.is(invalid(arms, { ...identical, required: false }), null);
  assert.match(invalid(arms, { ...identical, required: true })!, /1 of 2 texts are the same .+first difference is token 5 of prompt 2$/);
});

test("changes are of paged against contiguous-max, iteration by iteration", () => {
  const [ttft] = compare({ arms: [arm(MAX, 0.8, [iteration(2)]), arm(PAGED, 0.1, [iteration(1)])], identical: null })!.pairs[0]!.changes;
  near(ttft!.change!.median, -50);
  const unfinished = compare({ arms: [arm(MAX, 0.8), arm(PAGED, 0.1, [iteration(1)])], identical: null })!.pairs[0]!.changes[0]!.change!;
  near(unfinished.high, 0); // the second iteration has no partner
});

test("the cost of the table is told only at equal batch and without preemption", () => {
  const equal = (paged: Partial<typeof CACHE>): number | null =>
    compare({ arms: [arm(MAX, 0.8), arm("contiguous-exact", 0.2), arm(PAGED, 0.1, undefined, paged)], identical: null })!.equalBatch;
  assert.equal([equal({}), equal({ peakRunning: 3 }), equal({ preemptions: 1 })], [2, null, null]);
  const change = { median: 2, low: -1, high: 5, noise: 0, measurable: false };
  assert.is(ratioSentence({ metric: { key: "tpot_ms", unit: "ms", better: "lower", summary: null }, change }, en), "TPOT: 1.020 × (0.990 to 1.050), no measurable difference");
});

test("preemptions are told with the keys to change, and only where there were any", () => {
  assert.equal(preemptionNotes([arm(MAX, 0.8)], en), []);
  const [note] = preemptionNotes([arm(MAX, 0.8), arm(PAGED, 0.1, undefined, { preemptions: 3 })], en);
  assert.match(note!, /^paged pushed sequences out of its full cache 3 times in 2 iterations .+Raise kv_memory, or lower batch_size or max_model_len\.$/);
});

test("words and numbers", () => {
  const sizes = ["0 B", "1 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "1.00 MiB", "1024.0 TiB"];
  assert.equal([0, 1, 1023, 1024, 1536, 10240, 2 ** 20, 2 ** 50].map(bytes), sizes);
  assert.is(bytes(700 / 3), "233 B");
  assert.equal([signed(1), signed(-1), signed(0)], ["+1.0 %", "−1.0 %", "+0.0 %"]);
  assert.is(sentence({ metric: { key: "tpot_ms", better: "lower", missing: "oneToken" }, change: null }, en), "TPOT: cannot be compared (needs at least two new tokens per request)");
});

test.run();
