/**
 * The load generator without a GPU: its schedule, what it sends when, and every figure against values worked out by hand, on a clock that
 * only moves when nothing else can. What the command writes and refuses is in load_command.test.ts.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { arrivalTimes, gammaSampler } from "../../bench/core/load/arrivals.ts";
import { drive, type Clock, type Driven, type DriveOptions, type Sample } from "../../bench/core/load/drive.ts";
import { distribution, metricsOf, type LoadMetrics, type Maybe } from "../../bench/core/load/metrics.ts";
import { makeWorkload } from "../../bench/core/load/workload.ts";
import { loadConfig } from "../../bench/core/load/options.ts";
import { seeded } from "../../bench/core/stats.ts";
import { AbortedError, ContextLengthError, GpuError, NonFiniteLogitsError } from "../../engine/errors.ts";
import type { GenerateOptions, GenerateResult } from "../../index.ts";

const test = suite("load generator");

/** A clock that stands until every promise has gone as far as it can, then jumps to the next time somebody waits for. */
class JumpingClock implements Clock {
  time = 1000;
  readonly #waiting: { time: number; wake: () => void }[] = [];

  now(): number { return this.time; }

  until(time: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => { reject(new AbortedError()); };
      if (signal?.aborted === true) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.push({ time, wake: resolve });
    });
  }

  async run<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const watched = work.finally(() => { done = true; });
    watched.catch(() => {});
    while (!done) {
      await new Promise((resolve) => setImmediate(resolve));
      this.#waiting.sort((a, b) => a.time - b.time);
      const next = done ? undefined : this.#waiting.shift();
      if (next === undefined) continue;
      this.time = Math.max(this.time, next.time);
      next.wake();
    }
    return watched;
  }
}

/** What a request takes: milliseconds to its first token and between the others. */
interface Plan { readonly ttft: number; readonly gaps: readonly number[]; readonly fails?: Error; readonly blocks?: number; readonly tokens?: 0 }

/** Requests take what their first id says; `running` is how many there are now and were at most. */
function standIn(clock: JumpingClock, plans: readonly Plan[]) {
  const running = { now: 0, most: 0 };
  const calls: GenerateOptions[] = [];
  return {
    running, calls,
    async generate(ids: readonly number[], options: GenerateOptions): Promise<GenerateResult> {
      const { ttft, gaps, fails, blocks = 0, tokens } = plans[ids[0]!]!;
      calls.push(options);
      running.most = Math.max(running.most, ++running.now);
      try {
        const arrived = clock.now();
        clock.time += blocks; // the engine keeps the thread
        await clock.until(arrived + blocks + ttft, options.signal);
        if (fails !== undefined) throw fails;
        for (const gap of gaps) await clock.until(clock.now() + gap, options.signal);
        const total = clock.now() - arrived;
        const count = tokens ?? gaps.length + 1;
        return {
          ids: Array.from({ length: count }, () => 1), text: "", promptTokens: ids.length, finishReason: "length",
          timings: { ttft: blocks + ttft, total, itl: gaps, tpot: count > 1 ? (total - ttft) / (count - 1) : null }, stats: { preemptions: 0, cachedTokens: 2 },
        };
      } finally {
        running.now--;
      }
    },
  };
}

interface Setting { readonly arrivals?: readonly number[]; readonly maxConcurrency?: number; readonly promptTokens?: readonly number[]; readonly abortAt?: number }

async function driven(plans: readonly Plan[], { arrivals, maxConcurrency, promptTokens, abortAt }: Setting = {}) {
  const clock = new JumpingClock();
  const llm = standIn(clock, plans);
  const stop = new AbortController();
  const requests = plans.map((_, i) => ({ ids: Array.from({ length: promptTokens?.[i] ?? 4 }, () => i), maxNewTokens: 3, seed: 7 + i }));
  const options: DriveOptions = {
    arrivals: arrivals ?? plans.map(() => 0), maxConcurrency: maxConcurrency ?? null, sampling: { temperature: 0, ignoreEos: true }, clock, signal: stop.signal, onStep: () => {},
  };
  if (abortAt !== undefined) void clock.until(1000 + abortAt).then(() => { stop.abort(); });
  const result: Driven = await clock.run(drive(llm, requests, options));
  return { ...result, llm };
}

const SETTINGS = { goodput: {}, metricPercentiles: [50, 90, 99], requestRate: null } as const;
const near = (actual: number, expected: number, what = ""): void => { assert.ok(Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${what} ${actual}, expected ${expected}`); };
const given = <T>(figure: Maybe<T>): T => {
  if ("reason" in figure) throw new Error(`no value: ${figure.reason}`);
  return figure.value;
};

/** First token after 50, 100 and 40 ms; n = 3, 2 and 1 tokens. */
const THREE: readonly Plan[] = [{ ttft: 50, gaps: [10, 30] }, { ttft: 100, gaps: [20] }, { ttft: 40, gaps: [] }];
const three = () => driven(THREE, { arrivals: [0, 100, 200], promptTokens: [5, 7, 8] });

test("every figure is vLLM's, worked out by hand", async () => {
  const { samples, status } = await three();
  assert.is(status, "complete");
  assert.equal(samples.map(({ sent, outcome }) => [sent, outcome!.completed, outcome!.e2el]), [[0, 90, 90], [100, 220, 120], [200, 240, 40]]);
  const m = metricsOf(samples, SETTINGS);
  assert.equal([m.completed, m.failed, m.promptTokens, m.newTokens, m.cachedTokens, m.durationMs, m.peakConcurrency], [3, 0, 20, 6, 6, 240, 2]);
  near(given(m.requestsPerSecond), 3 / 0.24);
  near(given(m.outputTokensPerSecond), 6 / 0.24);
  near(given(m.totalTokensPerSecond), 26 / 0.24);
  near(given(m.peakOutputTokensPerSecond), 6);
  const ttft = given(m.latencies.ttft);
  near(ttft.mean, 190 / 3);
  near(ttft.median, 50);
  near(ttft.std, Math.sqrt(((50 - 190 / 3) ** 2 + (100 - 190 / 3) ** 2 + (40 - 190 / 3) ** 2) / 3));
  assert.equal(ttft.percentiles.map(({ p }) => p), [50, 90, 99]);
  [50, 90, 99].forEach((expected, i) => { near(ttft.percentiles[i]!.value, expected); }); // of 40, 50, 100, interpolated
  assert.equal([given(m.latencies.tpot).mean, given(m.latencies.tpot).max], [20, 20]); // (90 − 50) / 2 and (120 − 100) / 1
  near(given(m.latencies.itl).mean, 20);
  near(given(m.latencies.itl).percentiles[1]!.value, 28); // of 10, 20, 30
  near(given(m.latencies.e2el).mean, 250 / 3);
  near(given(m.latencies.e2el).median, 90);
});

test("goodput counts requests that meet every limit; one token meets any limit of TPOT", async () => {
  const { samples } = await three();
  const good = (goodput: Record<string, number>): number => given(metricsOf(samples, { ...SETTINGS, goodput }).goodput) * 0.24;
  near(good({ ttft: 60 }), 2);
  near(good({ ttft: 50 }), 2, "a limit is met when it is reached:");
  near(good({ tpot: 15 }), 1);
  near(good({ tpot: 20, e2el: 100 }), 2);
  near(good({ ttft: 45, tpot: 20, e2el: 39 }), 0);
  assert.equal(metricsOf(samples, SETTINGS).goodput, { value: null, reason: "no --goodput was given" });
});

test("at most --max-concurrency run; latencies start behind the queue, which is told apart", async () => {
  const plans = Array.from({ length: 6 }, () => ({ ttft: 60, gaps: [40] }));
  const { samples, llm } = await driven(plans, { maxConcurrency: 2 });
  assert.is(llm.running.most, 2);
  assert.equal(samples.map(({ sent }) => sent), [0, 0, 100, 100, 200, 200]);
  assert.equal(samples.map(({ queued }) => queued), [0, 0, 100, 100, 200, 200]);
  const m = metricsOf(samples, SETTINGS);
  assert.equal([given(m.latencies.ttft).max, given(m.latencies.e2el).max, given(m.queued).max, m.durationMs], [60, 100, 200, 300]);
  assert.equal([m.peakConcurrency, given(m.late).max], [2, 0]);
  assert.is((await driven(plans)).llm.running.most, 6);
});

test("each request gets its own seed and length", async () => {
  const { llm } = await three();
  assert.equal(llm.calls.map(({ seed, maxNewTokens, temperature, ignoreEos }) => [seed, maxNewTokens, temperature, ignoreEos]), [[7, 3, 0, true], [8, 3, 0, true], [9, 3, 0, true]]);
});

test("when the engine keeps the thread, arrivals are late: noted, out of the latencies, and a warning", async () => {
  const { samples } = await driven([{ ttft: 10, gaps: [], blocks: 250 }, { ttft: 10, gaps: [] }, { ttft: 10, gaps: [] }], { arrivals: [0, 100, 200] });
  assert.equal(samples.map(({ late, queued }) => [late, queued]), [[0, 0], [150, 0], [50, 0]]);
  const m = metricsOf(samples, { ...SETTINGS, requestRate: 10 });
  assert.equal([given(m.late).median, given(m.late).max, given(m.latencies.ttft).median], [50, 150, 10]);
  assert.match(m.drift!, /50\.0 ms late \(median; at most 150\.0 ms\), but should arrive every 100\.0 ms/);
  assert.is(metricsOf((await three()).samples, { ...SETTINGS, requestRate: 10 }).drift, null);
  near(given(m.achievedRate), 2 / 0.25);
});

test("a request that fails is counted, and the others go on", async () => {
  const { samples, status } = await driven([{ ttft: 5, gaps: [5] }, { ttft: 5, gaps: [], fails: new NonFiniteLogitsError("not finite") }, { ttft: 5, gaps: [5] }]);
  assert.is(status, "complete");
  assert.equal(samples.map(({ error }) => error), [null, "not finite", null]);
  const m = metricsOf(samples, SETTINGS);
  assert.equal([m.completed, m.failed], [2, 1]);
});

test("a lost device ends the run and stops the others", async () => {
  const plans: Plan[] = [{ ttft: 1000, gaps: [] }, { ttft: 5, gaps: [], fails: new GpuError("lost") }, { ttft: 5, gaps: [] }];
  await driven(plans, { arrivals: [0, 0, 500], maxConcurrency: 2 }).then(() => assert.unreachable(), (error: Error) => { assert.is(error.message, "lost"); });
});

test("interrupted: what had finished stays, what had not is counted", async () => {
  const { samples, status, unfinished } = await driven([{ ttft: 50, gaps: [] }, { ttft: 500, gaps: [] }, { ttft: 50, gaps: [] }, { ttft: 50, gaps: [] }], { arrivals: [0, 0, 0, 900], maxConcurrency: 2, abortAt: 220 });
  assert.is(status, "interrupted");
  assert.equal(samples.map(({ request }) => request), [0, 2]);
  assert.is(unfinished, 2);
});

const allFigures = ({ requestsPerSecond, goodput, outputTokensPerSecond, peakOutputTokensPerSecond, totalTokensPerSecond, latencies, queued, late, achievedRate }: LoadMetrics): Maybe<unknown>[] =>
  [requestsPerSecond, goodput, outputTokensPerSecond, peakOutputTokensPerSecond, totalTokensPerSecond, ...Object.values(latencies), queued, late, achievedRate];

test("no token, one token, no request, no time: null with a reason, never a number that is none", async () => {
  const nothing = (await driven([{ ttft: 0, gaps: [], tokens: 0 }])).samples;
  const one = (await driven([{ ttft: 5, gaps: [] }])).samples;
  for (const samples of [nothing, one, [] as Sample[]]) {
    const m = metricsOf(samples, { ...SETTINGS, goodput: { ttft: 10, tpot: 1 }, requestRate: 5 });
    for (const figure of allFigures(m)) if (figure.value === null) assert.ok("reason" in figure && figure.reason !== "");
    assert.is(m.latencies.tpot.value, null);
    assert.is(m.latencies.itl.value, null);
    JSON.stringify(m, (_, value: unknown) => {
      if (typeof value === "number") assert.ok(Number.isFinite(value));
      return value;
    });
  }
  assert.equal(metricsOf(nothing, SETTINGS).latencies.ttft, { value: null, reason: "no request gave a token" });
  assert.equal(metricsOf(nothing, SETTINGS).requestsPerSecond, { value: null, reason: "no time passed" });
  assert.equal(metricsOf(one, SETTINGS).latencies.tpot, { value: null, reason: "no request gave more than one token" });
  assert.is(given(metricsOf(one, SETTINGS).latencies.ttft).std, 0);
  assert.equal(metricsOf([], SETTINGS).latencies.ttft, { value: null, reason: "no request finished" });
});

test("percentiles are numpy's, of unsorted values", () => {
  const { percentiles } = given(distribution([15, 20, 35, 40, 50].reverse(), [0, 40, 100], "")); // numpy.percentile gives 15, 29, 50
  percentiles.forEach(({ value }, i) => { near(value, [15, 29, 50][i]!); });
});

test("gaps have the mean of the rate and the variance of their burstiness", () => {
  for (const burstiness of [0.25, 1, 4]) {
    const rate = 8;
    const times = arrivalTimes(40_001, rate, burstiness, 3);
    const gaps = times.slice(1).map((time, i) => time - times[i]!);
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
    assert.is(times[0], 0);
    assert.ok(gaps.every((gap) => gap >= 0));
    assert.ok(Math.abs(mean / (1000 / rate) - 1) < 0.03, `burstiness ${burstiness}: mean ${mean}`);
    assert.ok(Math.abs((variance * burstiness) / (1000 / rate) ** 2 - 1) < 0.08, `burstiness ${burstiness}: variance ${variance}`);
    if (burstiness !== 1) continue;
    for (const t of [0.5, 1, 2]) { // exponential gaps: P(gap > t · mean) = e^−t
      const share = gaps.filter((gap) => gap > t * (1000 / rate)).length / gaps.length;
      assert.ok(Math.abs(share - Math.exp(-t)) < 0.01, `${share} of the gaps are longer than ${t} means`);
    }
  }
});

test("very regular and very bursty arrivals stay finite", () => {
  const regular = arrivalTimes(100, 10, 1e6, 0);
  assert.ok(regular.every((time, i) => Math.abs(time - 100 * i) < 20));
  assert.ok(arrivalTimes(1000, 10, 0.001, 0).every(Number.isFinite));
  assert.equal(arrivalTimes(3, null, 1, 0), [0, 0, 0]);
  const draw = gammaSampler(1, seeded(1));
  assert.ok(Array.from({ length: 1000 }, draw).every((value) => value > 0 && Number.isFinite(value)));
});

test("a seed gives the same schedule and the same prompts again, another seed others", async () => {
  assert.equal(arrivalTimes(50, 4, 1, 9), arrivalTimes(50, 4, 1, 9));
  assert.not.equal(arrivalTimes(50, 4, 1, 9), arrivalTimes(50, 4, 1, 10));
  const workload = (seed: string) => makeWorkload(loadConfig({ seed, numPrompts: "5", randomRangeRatio: "0.5", inputLen: "20", outputLen: "10" }), WORDS);
  const [a, b, c] = await Promise.all([workload("9"), workload("9"), workload("10")]);
  assert.equal(a, b);
  assert.is.not(a.sha256, c.sha256);
});

const WORDS = { config: { vocabSize: 120, eosTokenIds: [2], bosTokenId: 0 }, tokenizer: { vocabSize: 100, encode: (text: string) => text.split(" ").map((word) => word.length) }, maxModelLen: 64 };

test("random prompts have the lengths asked for, no control token, and a common prefix only when asked", async () => {
  const make = (flags: Record<string, string>) => makeWorkload(loadConfig({ numPrompts: "200", inputLen: "20", outputLen: "10", ...flags }), WORDS);
  const exact = await make({});
  assert.ok(exact.requests.every(({ ids, maxNewTokens }) => ids.length === 20 && maxNewTokens === 10));
  const ids = new Set(exact.requests.flatMap((request) => request.ids));
  assert.ok(!ids.has(0) && !ids.has(2) && [...ids].every((id) => id < 100) && ids.size === 98);
  const varied = (await make({ randomRangeRatio: "0.5" })).requests;
  const [lengths, outputs] = [varied.map((request) => request.ids.length), varied.map(({ maxNewTokens }) => maxNewTokens)];
  assert.equal([Math.min(...lengths), Math.max(...lengths), Math.min(...outputs), Math.max(...outputs)], [10, 30, 5, 15]);
  const shared = (await make({ randomPrefixLen: "8" })).requests.map((request) => request.ids);
  assert.ok(shared.every((prompt) => prompt.length === 28 && prompt.slice(0, 8).join() === shared[0]!.slice(0, 8).join()));
  assert.is(new Set(shared.map((prompt) => prompt.slice(8, 14).join())).size, 200);
});

test("requests that would not fit are refused before anything runs, with both numbers", async () => {
  await makeWorkload(loadConfig({ inputLen: "60", outputLen: "10" }), WORDS).then(() => assert.unreachable(), (error: Error) => {
    assert.instance(error, ContextLengthError);
    assert.match(error.message, /prompt 1 has 60 tokens; with 10 new ones it needs 70, but a sequence has room for 64/);
  });
});

test.run();
