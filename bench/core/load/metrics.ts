/**
 * From samples to the figures of `vllm bench serve` (vllm/benchmarks/serve.py, calculate_metrics), over the requests that finished:
 *
 *   TTFT   from sending to the first token            ITL    every gap between two tokens, of all requests together
 *   TPOT   (E2EL − TTFT) / (n − 1), for n > 1 tokens  E2EL   from sending to the last token
 *
 * Percentiles are interpolated linearly, the spread is that of a population, rates are over the time from the first arrival to the last
 * completion. One thing differs: where vLLM would give 0 for want of a value, there is null here, with its reason.
 */

import { quantile } from "../stats.ts";
import type { Finished, Sample } from "./drive.ts";
import type { Latency, LoadConfig } from "./options.ts";

export interface Distribution {
  readonly mean: number;
  readonly median: number;
  readonly std: number;
  readonly min: number;
  readonly max: number;
  readonly percentiles: readonly { readonly p: number; readonly value: number }[];
}

/** A figure, or why there is none. */
export type Maybe<T> = { readonly value: T } | { readonly value: null; readonly reason: string };

export interface LoadMetrics {
  readonly completed: number;
  readonly failed: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly cachedTokens: number;
  readonly preemptions: number;
  /** Milliseconds from the first arrival to the last completion. */
  readonly durationMs: number;
  readonly requestsPerSecond: Maybe<number>;
  /** Requests per second that met every SLO. */
  readonly goodput: Maybe<number>;
  readonly outputTokensPerSecond: Maybe<number>;
  /** The most tokens in one of the seconds since the first sending. */
  readonly peakOutputTokensPerSecond: Maybe<number>;
  readonly peakConcurrency: number;
  readonly totalTokensPerSecond: Maybe<number>;
  readonly latencies: Readonly<Record<Latency, Maybe<Distribution>>>;
  /** What no latency holds: time in the queue, and lateness of the generator itself. */
  readonly queued: Maybe<Distribution>;
  readonly late: Maybe<Distribution>;
  /** Requests per second as they were handled; null for fewer than two. */
  readonly achievedRate: Maybe<number>;
  /** Why the figures may not be those of the load that was asked for; null when they are. */
  readonly drift: string | null;
}

const NONE_FINISHED = "no request finished";

export type Settings = Pick<LoadConfig, "goodput" | "metricPercentiles" | "requestRate">;

export function metricsOf(samples: readonly Sample[], { goodput, metricPercentiles, requestRate }: Settings): LoadMetrics {
  const done = samples.flatMap(({ outcome, ...sample }) => (outcome === null ? [] : [{ ...sample, ...outcome }]));
  const durationMs = done.reduce((last, { completed }) => Math.max(last, completed), 0);
  const sum = (of: (request: (typeof done)[number]) => number): number => done.reduce((total, request) => total + of(request), 0);
  const none = (reason: string): string => (done.length === 0 ? NONE_FINISHED : reason);
  const perSecond = (count: number): Maybe<number> =>
    durationMs > 0 ? { value: (count / durationMs) * 1000 } : { value: null, reason: none("no time passed") };
  const spread = (values: readonly number[], reason: string): Maybe<Distribution> => distribution(values, metricPercentiles, none(reason));
  const [promptTokens, newTokens] = [sum((request) => request.promptTokens), sum((request) => request.newTokens)];
  const late = distribution(samples.map((sample) => sample.late), metricPercentiles, NONE_FINISHED);
  return {
    completed: done.length, failed: samples.length - done.length, promptTokens, newTokens, cachedTokens: sum((request) => request.cachedTokens),
    preemptions: sum((request) => request.preemptions), durationMs,
    requestsPerSecond: perSecond(done.length),
    goodput: Object.keys(goodput).length === 0 ? { value: null, reason: "no --goodput was given" }
      : perSecond(done.filter((request) => isGood(request, goodput)).length),
    outputTokensPerSecond: perSecond(newTokens),
    peakOutputTokensPerSecond: newTokens === 0 ? { value: null, reason: "no token was generated" } : { value: mostInASecond(done) },
    peakConcurrency: mostTogether(done), totalTokensPerSecond: perSecond(promptTokens + newTokens),
    latencies: {
      ttft: spread(done.flatMap(({ ttft }) => ttft ?? []), "no request gave a token"),
      tpot: spread(done.flatMap(({ tpot }) => tpot ?? []), "no request gave more than one token"),
      itl: spread(done.flatMap(({ itl }) => itl), "no request gave more than one token"),
      e2el: spread(done.map(({ e2el }) => e2el), NONE_FINISHED),
    },
    queued: distribution(samples.map(({ queued }) => queued), metricPercentiles, NONE_FINISHED),
    late, achievedRate: achieved(samples), drift: driftOf(late, requestRate),
  };
}

export function distribution(values: readonly number[], percentiles: readonly number[], reason: string): Maybe<Distribution> {
  if (values.length === 0) return { value: null, reason };
  const at = (q: number): number => quantile(values, q)!;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  return { value: { mean, median: at(0.5), std, min: at(0), max: at(1), percentiles: percentiles.map((p) => ({ p, value: at(p / 100) })) } };
}

/** As vLLM has it, a request of one token meets any limit of TPOT; one without a token meets none of TTFT. */
function isGood({ ttft, tpot, e2el }: Finished, limits: LoadConfig["goodput"]): boolean {
  return (limits.ttft === undefined || (ttft !== null && ttft <= limits.ttft)) && (limits.tpot === undefined || (tpot ?? 0) <= limits.tpot)
    && (limits.e2el === undefined || e2el <= limits.e2el);
}

type Done = Finished & Pick<Sample, "sent">;

function mostInASecond(done: readonly Done[]): number {
  const first = done.reduce((earliest, { sent }) => Math.min(earliest, sent), Infinity);
  const seconds = new Map<number, number>();
  for (const { sent, ttft, itl } of done) {
    if (ttft === null) continue;
    let time = sent - first + ttft;
    for (const gap of [0, ...itl]) {
      time += gap;
      const second = Math.floor(time / 1000);
      seconds.set(second, (seconds.get(second) ?? 0) + 1);
    }
  }
  return [...seconds.values()].reduce((most, tokens) => Math.max(most, tokens), 0);
}

/** Most requests that ran at the same time; one that ends when another begins does not overlap it. */
function mostTogether(done: readonly Done[]): number {
  const events = done.flatMap(({ sent, e2el }) => [[sent, 1], [sent + e2el, -1]] as const).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let now = 0, most = 0;
  for (const [, change] of events) most = Math.max(most, now += change);
  return most;
}

function achieved(samples: readonly Sample[]): Maybe<number> {
  const handled = samples.map(({ arrival, late }) => arrival + late);
  const span = handled.reduce((last, time) => Math.max(last, time), 0) - handled.reduce((first, time) => Math.min(first, time), Infinity);
  return handled.length < 2 || !(span > 0) ? { value: null, reason: "fewer than two arrivals" } : { value: ((handled.length - 1) / span) * 1000 };
}

/** Lateness matters when requests come later by a share of the gap between them: then the load was burstier, or lighter, than asked for. */
function driftOf(late: Maybe<Distribution>, rate: number | null): string | null {
  if (late.value === null || rate === null) return null;
  const gap = 1000 / rate;
  const { median, max } = late.value;
  if (median <= 0.1 * gap && max <= gap) return null;
  return `requests were handled ${median.toFixed(1)} ms late (median; at most ${max.toFixed(1)} ms), but should arrive every ${gap.toFixed(1)} ms: ` +
    "the generator shares a thread with the engine, so arrivals came in larger bursts than asked for, and the time before they were handled " +
    "is in no latency; lower --request-rate";
}
