/**
 * From samples to the numbers of a report. Definitions are vLLM's: TTFT from arrival to the first token, TPOT = (latency − TTFT) / (n − 1),
 * ITL the gaps between tokens, throughput over the wall time of an iteration. What cannot be given is null with its reason.
 */

import type { ArmName } from "./arms.ts";
import type { MetricKey, Words } from "./lang/en.ts";
import type { ArmResult, Iteration, RequestSample } from "./measure.ts";
import { change, quantile, summarise, type Change, type Summary } from "./stats.ts";

export type Missing = keyof Words["missing"];

export interface Metric {
  readonly key: MetricKey;
  readonly unit: string;
  readonly better: "lower" | "higher";
  /** Over iterations; null when it cannot be given. */
  readonly summary: Summary | null;
  readonly missing?: Missing;
}

type PerIteration = (iteration: Iteration) => number | null;

const medianOf = (value: (request: RequestSample) => number | null): PerIteration => ({ requests }) =>
  quantile(requests.map(value).filter((sample) => sample !== null), 0.5);
const itl = (q: number): PerIteration => ({ requests }) => quantile(requests.flatMap((request) => request.itl), q);
const perSecond = (count: (request: RequestSample) => number): PerIteration => ({ requests, wallMs }) =>
  wallMs > 0 ? requests.reduce((sum, request) => sum + count(request), 0) / wallMs * 1000 : null;

/** One value per iteration: medians over its requests, or totals over its time. */
const METRICS: readonly (Omit<Metric, "summary"> & { readonly of: PerIteration })[] = [
  { key: "ttft_ms", unit: "ms", better: "lower", of: medianOf(({ ttft }) => ttft) },
  { key: "tpot_ms", unit: "ms", better: "lower", of: medianOf(({ tpot }) => tpot), missing: "oneToken" },
  { key: "itl_p10_ms", unit: "ms", better: "lower", of: itl(0.1), missing: "oneToken" },
  { key: "itl_p50_ms", unit: "ms", better: "lower", of: itl(0.5), missing: "oneToken" },
  { key: "itl_p90_ms", unit: "ms", better: "lower", of: itl(0.9), missing: "oneToken" },
  { key: "itl_p99_ms", unit: "ms", better: "lower", of: itl(0.99), missing: "oneToken" },
  { key: "latency_ms", unit: "ms", better: "lower", of: medianOf(({ latency }) => latency) },
  { key: "output_tokens_per_s", unit: "tok/s", better: "higher", of: perSecond(({ newTokens }) => newTokens) },
  { key: "total_tokens_per_s", unit: "tok/s", better: "higher", of: perSecond(({ newTokens, promptTokens }) => newTokens + promptTokens) },
  { key: "requests_per_s", unit: "1/s", better: "higher", of: perSecond(() => 1) },
];

export function metricsOf({ iterations }: Pick<ArmResult, "iterations">): Metric[] {
  return METRICS.map(({ of, missing, ...rest }) => {
    const summary = summarise(iterations.map(of));
    if (summary !== null) return { ...rest, summary };
    return { ...rest, summary, missing: iterations.length === 0 ? "noIteration" : missing ?? "noValue" };
  });
}

/** One value per iteration for every metric, in the order of `metricsOf`; null where an iteration gives none. */
export function samplesOf({ iterations }: Pick<ArmResult, "iterations">): readonly (readonly (number | null)[])[] {
  return METRICS.map(({ of }) => iterations.map(of));
}

/** One metric of two arms. */
export interface MetricChange { readonly metric: Metric; readonly change: Change | null }

export interface Pair { readonly from: ArmName; readonly to: ArmName; readonly changes: readonly MetricChange[] }

/** Every metric of `to` against `from`, iteration by iteration. `control`: of two equal arms; what they differ by is the least that counts. */
export function changesBetween(
  from: Pick<ArmResult, "iterations">, to: Pick<ArmResult, "iterations">, control?: readonly MetricChange[],
): MetricChange[] {
  const [before, after] = [samplesOf(from), samplesOf(to)];
  return metricsOf(from).map((metric, i) => {
    const { low, high } = control?.[i]?.change ?? { low: 0, high: 0 };
    return { metric, change: change(before[i]!, after[i]!, Math.max(Math.abs(low), Math.abs(high))) };
  });
}

export function pairOf(from: ArmResult, to: ArmResult, control?: Pair): Pair {
  return { from: from.name, to: to.name, changes: changesBetween(from, to, control?.changes) };
}

/** What the cache took, in bytes of keys and values. */
export interface MemoryUse {
  readonly pool: number;
  /** The most that was taken at any time. */
  readonly peak: number;
  /** Averages over the forward passes: taken, and of it holding tokens. */
  readonly meanReserved: number;
  readonly meanLive: number;
  /** 1 − live / reserved over the forward passes; null with a reason when there was none, or when sequences share what they hold. */
  readonly waste: number | null;
  readonly wasteAtPeak: number | null;
  readonly missing: Missing | null;
}

/** Shared blocks are reserved once and live in many sequences: of what is shared, "holding no token" has no meaning. */
export function memoryUse({ name, cache, entryBytes, poolBytes }: Pick<ArmResult, "name" | "cache" | "entryBytes" | "poolBytes">): MemoryUse {
  const missing = name === "paged-prefix" ? "shared" : cache.meanReserved === 0 ? "noPass" : null;
  return {
    missing,
    pool: poolBytes, peak: cache.peakReserved * entryBytes, meanReserved: cache.meanReserved * entryBytes, meanLive: cache.meanLive * entryBytes,
    waste: missing !== null ? null : 1 - cache.meanLive / cache.meanReserved,
    wasteAtPeak: missing !== null ? null : 1 - cache.peakLive / cache.peakReserved,
  };
}

/** Tokens found in the prefix cache of those looked up; null when none were. */
export function hitRate({ cache: { queriedTokens, hitTokens } }: Pick<ArmResult, "cache">): number | null {
  return queriedTokens === 0 ? null : hitTokens / queriedTokens;
}

/** 1536 → "1.5 KiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${power === 0 ? Math.round(count) : (count / 2 ** (10 * power)).toFixed(count / 2 ** (10 * power) < 10 ? 2 : 1)} ${units[power]}`;
}

/** Three digits that mean something. */
export function number(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function signed(percent: number): string {
  return `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)} %`;
}

/** 0.873 → "87.3 %". */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
