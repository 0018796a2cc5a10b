/**
 * From samples to the numbers of a report. Definitions are vLLM's: TTFT from arrival to the first token, TPOT = (latency − TTFT) / (n − 1),
 * ITL the gaps between tokens, throughput over the wall time of an iteration. What cannot be given is null with its reason.
 */

import type { ArmResult, Identical, Iteration, Outcome, RequestSample } from "./paged_attention.ts";
import { change, quantile, summarise, type Change, type Summary } from "./stats.ts";

export interface Metric {
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly better: "lower" | "higher";
  /** Over iterations; null when it cannot be given. */
  readonly summary: Summary | null;
  readonly reason?: string;
}

type PerIteration = (iteration: Iteration) => number | null;

const medianOf = (value: (request: RequestSample) => number | null): PerIteration => ({ requests }) =>
  quantile(requests.map(value).filter((sample) => sample !== null), 0.5);
const itl = (q: number): PerIteration => ({ requests }) => quantile(requests.flatMap((request) => request.itl), q);
const perSecond = (count: (request: RequestSample) => number): PerIteration => ({ requests, wallMs }) =>
  wallMs > 0 ? requests.reduce((sum, request) => sum + count(request), 0) / wallMs * 1000 : null;

const ONE_TOKEN = "needs at least two new tokens per request";

/** One value per iteration: medians over its requests, or totals over its time. */
const METRICS: readonly (Omit<Metric, "summary" | "reason"> & { readonly of: PerIteration; readonly missing?: string })[] = [
  { key: "ttft_ms", label: "TTFT", unit: "ms", better: "lower", of: medianOf(({ ttft }) => ttft) },
  { key: "tpot_ms", label: "TPOT", unit: "ms", better: "lower", of: medianOf(({ tpot }) => tpot), missing: ONE_TOKEN },
  { key: "itl_p10_ms", label: "ITL p10", unit: "ms", better: "lower", of: itl(0.1), missing: ONE_TOKEN },
  { key: "itl_p50_ms", label: "ITL p50", unit: "ms", better: "lower", of: itl(0.5), missing: ONE_TOKEN },
  { key: "itl_p90_ms", label: "ITL p90", unit: "ms", better: "lower", of: itl(0.9), missing: ONE_TOKEN },
  { key: "itl_p99_ms", label: "ITL p99", unit: "ms", better: "lower", of: itl(0.99), missing: ONE_TOKEN },
  { key: "latency_ms", label: "end-to-end latency", unit: "ms", better: "lower", of: medianOf(({ latency }) => latency) },
  { key: "output_tokens_per_s", label: "output throughput", unit: "tok/s", better: "higher", of: perSecond(({ newTokens }) => newTokens) },
  { key: "total_tokens_per_s", label: "total throughput", unit: "tok/s", better: "higher", of: perSecond(({ newTokens, promptTokens }) => newTokens + promptTokens) },
  { key: "requests_per_s", label: "requests", unit: "1/s", better: "higher", of: perSecond(() => 1) },
];

export function metricsOf({ iterations }: Pick<ArmResult, "iterations">): Metric[] {
  return METRICS.map(({ of, missing, ...rest }) => {
    const summary = summarise(iterations.map(of));
    if (summary !== null) return { ...rest, summary };
    return { ...rest, summary, reason: iterations.length === 0 ? "no iteration was finished" : missing ?? "no request gave a value" };
  });
}

export const NO_PASS = "no forward pass was run";

/** What the cache took, in bytes of keys and values. */
export interface CacheUse {
  readonly pool: number;
  /** The most that was taken at any time. */
  readonly peak: number;
  /** Averages over the forward passes: taken, and of it holding tokens. */
  readonly meanReserved: number;
  readonly meanLive: number;
  /** 1 − live / reserved over the forward passes; null when there was none. */
  readonly waste: number | null;
}

export function cacheUse({ cache, entryBytes }: Pick<ArmResult, "cache" | "entryBytes">): CacheUse {
  return {
    pool: cache.blocksTotal * cache.blockSize * entryBytes, peak: cache.peakBlocksUsed * cache.blockSize * entryBytes,
    meanReserved: cache.meanReservedTokens * entryBytes, meanLive: cache.meanLiveTokens * entryBytes,
    waste: cache.meanReservedTokens === 0 ? null : 1 - cache.meanLiveTokens / cache.meanReservedTokens,
  };
}

export interface Comparison {
  /** Why nothing can be concluded from these runs; null when paging acted (it took less of the cache at its peak) and changed no greedy text. */
  readonly invalid: string | null;
  readonly engagement: string;
  readonly correctness: string;
  readonly changes: readonly { readonly metric: Metric; readonly change: Change | null }[];
}

/** Optimized against basic; null unless both arms ran. */
export function compare({ arms, identical }: Pick<Outcome, "arms" | "identical">): Comparison | null {
  const [basic, optimized] = [arms.find(({ name }) => name === "basic"), arms.find(({ name }) => name === "optimized")];
  if (basic === undefined || optimized === undefined) return null;
  const [before, after] = [cacheUse(basic), cacheUse(optimized)];
  const bothRan = basic.iterations.length > 0 && optimized.iterations.length > 0;
  const engagement = bothRan ? `paged took ${bytes(after.peak)} of cache at its peak, contiguous ${bytes(before.peak)}`
    : "the arms did not both finish an iteration, so what paging saved is not known";
  const correctness = textsInWords(identical);
  return {
    invalid: bothRan && !(after.peak > 0 && after.peak < before.peak) ? `${engagement}: paging saved nothing, so these runs do not compare it with anything`
      : identical !== null && identical.required && identical.same < identical.of ? `greedy texts must not depend on where the cache lives, but ${correctness}`
      : null,
    engagement, correctness,
    changes: metricsOf(basic).map((metric, i) => ({ metric, change: change(basic.iterations.map(METRICS[i]!.of), optimized.iterations.map(METRICS[i]!.of)) })),
  };
}

function textsInWords(identical: Identical | null): string {
  if (identical === null) return "the arms did not both finish an iteration, so their texts were not compared";
  const { same, of, firstDifference } = identical;
  if (firstDifference === null) return `all ${of} texts are the same in both arms and in every iteration, token for token`;
  const { prompt, token } = firstDifference;
  return `${same} of ${of} texts are the same in both arms and in every iteration; the first difference is token ${token + 1} of prompt ${prompt + 1}`;
}

/** 1536 → "1.5 KiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${power === 0 ? Math.round(count) : (count / 2 ** (10 * power)).toFixed(count / 2 ** (10 * power) < 10 ? 2 : 1)} ${units[power]}`;
}

/** The sentence about one metric: a difference is claimed only when every iteration agrees on its sign. */
export function sentence({ label, better, reason }: Pick<Metric, "label" | "better" | "reason">, difference: Change | null): string {
  if (difference === null) return `${label}: cannot be compared${reason === undefined ? "" : ` (${reason})`}`;
  const { median, min, max } = difference;
  const range = `${signed(min)} to ${signed(max)}`;
  const doubt = doubtOf(difference);
  if (doubt !== null) return `${label}: ${doubt} (${range} over the iterations)`;
  const improved = (median < 0) === (better === "lower");
  return `${label}: ${Math.abs(median).toFixed(1)} % ${median < 0 ? "lower" : "higher"}, ${improved ? "better" : "worse"} (${range})`;
}

/** Why a change is not claimed; null when it is. */
export function doubtOf({ measurable, tooFew }: Change): string | null {
  return measurable ? null : tooFew === true ? "too few iterations to tell" : "no measurable difference";
}

export function signed(percent: number): string {
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)} %`;
}
