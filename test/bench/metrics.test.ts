/** Every metric of two iterations worked out by hand, what has no value, and when a run may be compared at all. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { bytes, cacheUse, compare, metricsOf, sentence, signed } from "../../bench/core/metrics.ts";
import type { ArmName, ArmResult, Identical, Iteration } from "../../bench/core/paged_attention.ts";

/** One request of 3 tokens and one of 2; the second waits 100 ms. */
const iteration = (scale: number): Iteration => ({
  wallMs: 200 * scale,
  requests: [
    { promptTokens: 5, newTokens: 3, ttft: 10 * scale, latency: 50 * scale, tpot: 20 * scale, itl: [10 * scale, 30 * scale] },
    { promptTokens: 7, newTokens: 2, ttft: 110 * scale, latency: 150 * scale, tpot: 40 * scale, itl: [40 * scale] },
  ],
});

const NO_BYTES = { weights: 0, kv: 0, activations: 0, logits: 0, staging: 0, total: 0 };
const arm = (name: ArmName, peakBlocksUsed: number, iterations: readonly Iteration[] = [iteration(1), iteration(3)]): ArmResult => ({
  name, iterations, layout: { name: "contiguous" }, entryBytes: 32, room: { tokens: 10, requests: 2 }, loadTimings: { weightsMs: 1, pipelinesMs: 1 },
  memory: { ...NO_BYTES, peak: NO_BYTES },
  cache: { blockSize: 16, blocksTotal: 8, blocksUsed: 0, peakBlocksUsed, preemptions: 0, meanLiveTokens: 12, meanReservedTokens: 48 },
});
const value = (result: ArmResult, key: string): number | null => metricsOf(result).find((metric) => metric.key === key)!.summary?.median ?? null;
const near = (actual: number | null, expected: number): void => {
  assert.ok(actual !== null && Math.abs(actual - expected) < 1e-9, `${actual} is not ${expected}`);
};

test("one iteration: medians over its requests, percentiles over all its gaps, totals over its time", () => {
  const once = arm("basic", 8, [iteration(1)]);
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
  near(value(arm("basic", 8), "ttft_ms"), 120);
  assert.equal(metricsOf(arm("basic", 8))[0]!.summary!.samples, [60, 180]);
});

test("what cannot be given is null with its reason", () => {
  const request = { promptTokens: 5, newTokens: 1, ttft: 10, latency: 10, tpot: null, itl: [] };
  for (const { key, summary, reason } of metricsOf(arm("basic", 8, [{ wallMs: 0, requests: [request] }]))) {
    const expected = /^(tpot|itl)/.test(key) ? "needs at least two new tokens per request" : /_per_s$/.test(key) ? "no request gave a value" : undefined;
    assert.is(reason, expected, key);
    assert.is(summary === null, expected !== undefined, key);
  }
  for (const { summary, reason } of metricsOf(arm("basic", 8, []))) assert.equal([summary, reason], [null, "no iteration was finished"]);
});

test("the cache in bytes, and its waste", () => {
  assert.equal(cacheUse(arm("basic", 8)), { pool: 8 * 16 * 32, peak: 8 * 16 * 32, meanReserved: 48 * 32, meanLive: 12 * 32, waste: 0.75 });
  const idle = arm("basic", 0);
  assert.is(cacheUse({ ...idle, cache: { ...idle.cache, meanLiveTokens: 0, meanReservedTokens: 0 } }).waste, null);
});

const invalid = (arms: readonly ArmResult[], identical: Identical | null = null): string | null => compare({ arms, identical })!.invalid;

test("a comparison needs both arms", () => {
  assert.is(compare({ arms: [arm("optimized", 2)], identical: null }), null);
});

test("paging must have taken less at its peak", () => {
  assert.is(invalid([arm("basic", 8), arm("optimized", 7)]), null);
  for (const peak of [8, 9, 0]) {
    assert.match(invalid([arm("basic", 8), arm("optimized", peak)])!, /paging saved nothing, so these runs do not compare it with anything$/);
  }
});

test("an arm that finished nothing is no evidence against paging", () => {
  for (const arms of [[arm("basic", 8, []), arm("optimized", 2)], [arm("basic", 8), arm("optimized", 0, [])]]) {
    assert.is(invalid(arms), null);
    assert.match(compare({ arms, identical: null })!.engagement, /did not both finish an iteration/);
  }
});

test("texts that differ end the comparison only where they must not", () => {
  const arms = [arm("basic", 8), arm("optimized", 2)];
  const identical = { same: 1, of: 2, firstDifference: { prompt: 1, token: 4 } };
  assert.is(invalid(arms, { ...identical, required: false }), null);
  assert.match(invalid(arms, { ...identical, required: true })!, /1 of 2 texts are the same .+first difference is token 5 of prompt 2$/);
});

test("changes are of optimized against basic", () => {
  const [ttft] = compare({ arms: [arm("basic", 8, [iteration(2)]), arm("optimized", 2, [iteration(1)])], identical: null })!.changes;
  near(ttft!.change!.median, -50);
  const unfinished = compare({ arms: [arm("basic", 8), arm("optimized", 2, [iteration(1)])], identical: null })!.changes[0]!.change!;
  near(unfinished.max, 0); // the second iteration has no partner
});

test("words and numbers", () => {
  const sizes = ["0 B", "1 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "1.00 MiB", "1024.0 TiB"];
  assert.equal([0, 1, 1023, 1024, 1536, 10240, 2 ** 20, 2 ** 50].map(bytes), sizes);
  assert.is(bytes(700 / 3), "233 B");
  assert.equal([signed(1), signed(-1), signed(0)], ["+1.0 %", "−1.0 %", "+0.0 %"]);
  assert.is(sentence({ label: "TPOT", better: "lower", reason: "one token" }, null), "TPOT: cannot be compared (one token)");
});

test.run();
