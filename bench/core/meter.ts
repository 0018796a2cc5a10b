/**
 * How a model uses its cache while it is measured. The model counts from its loading on; a meter listens to its forward passes and takes
 * differences, so that warm-up and other workloads stay out, and the moment of the highest use is known with what it held.
 */

import type { TraceEvent } from "../../engine/trace.ts";
import type { CacheStats } from "../../index.ts";

/** In entries (one token of one KV head of one layer), over the forward passes that were measured. */
export interface CacheUse {
  readonly passes: number;
  /** The most that was reserved in any pass, and the most that then held tokens. */
  readonly peakReserved: number;
  readonly peakLive: number;
  readonly meanReserved: number;
  readonly meanLive: number;
  /** Sequences in one pass. */
  readonly peakRunning: number;
  readonly meanRunning: number;
  readonly preemptions: number;
  readonly queriedTokens: number;
  readonly hitTokens: number;
  readonly evictedBlocks: number;
}

/** Several stretches as one. */
export function together(uses: readonly CacheUse[]): CacheUse {
  const sum = (value: (use: CacheUse) => number): number => uses.reduce((all, use) => all + value(use), 0);
  const passes = sum((use) => use.passes), mean = (value: (use: CacheUse) => number): number => sum((use) => value(use) * use.passes) / Math.max(1, passes);
  const fuller = (a: CacheUse, b: CacheUse): boolean => a.peakReserved > b.peakReserved || (a.peakReserved === b.peakReserved && a.peakLive > b.peakLive);
  const peak = uses.reduce<CacheUse | null>((most, use) => (most === null || fuller(use, most) ? use : most), null);
  return {
    passes, peakReserved: peak?.peakReserved ?? 0, peakLive: peak?.peakLive ?? 0, meanReserved: mean((use) => use.meanReserved), meanLive: mean((use) => use.meanLive),
    peakRunning: Math.max(0, ...uses.map((use) => use.peakRunning)), meanRunning: mean((use) => use.meanRunning), preemptions: sum((use) => use.preemptions),
    queriedTokens: sum((use) => use.queriedTokens), hitTokens: sum((use) => use.hitTokens), evictedBlocks: sum((use) => use.evictedBlocks),
  };
}

interface Metered {
  readonly trace: { on(listener: (event: TraceEvent) => void): () => void };
  cacheStats(): CacheStats;
}

const COUNTED = ["preemptions", "queriedTokens", "hitTokens", "evictedBlocks"] as const;

const zero = () => ({ passes: 0, peakReserved: 0, peakLive: 0, reserved: 0, live: 0, peakRunning: 0, running: 0, preemptions: 0, queriedTokens: 0, hitTokens: 0, evictedBlocks: 0 });

export class CacheMeter {
  readonly #llm: Metered;
  readonly #off: () => void;
  /** All passes of the model so far, and what they added up to: the model tells averages. */
  #passes = 0;
  #reserved = 0;
  #live = 0;
  /** Sequences of the pass whose use of the cache is not known yet: the model notes it just after it tells of the pass. */
  #running = 0;
  #sums = zero();
  /** The counters when measuring began; null while nothing is measured. */
  #before: Record<(typeof COUNTED)[number], number> | null = null;

  constructor(llm: Metered) {
    this.#llm = llm;
    this.#off = llm.trace.on((event) => {
      if (event.type !== "prefill" && event.type !== "decode") return;
      this.#settle();
      this.#passes++;
      this.#running = event.sequences.length;
    });
  }

  /** Measure from here to `stop`. */
  start(): void {
    this.#settle();
    this.#before = this.#counters();
  }

  /** Returns how often a sequence was preempted since `start`. */
  stop(): number {
    this.#settle();
    const before = this.#before, now = this.#counters();
    if (before === null) throw new Error("a meter was stopped that had not been started");
    for (const name of COUNTED) this.#sums[name] += now[name] - before[name];
    this.#before = null;
    return now.preemptions - before.preemptions;
  }

  /** What was measured since the last call. */
  take(): CacheUse {
    const { reserved, live, running, ...rest } = this.#sums;
    this.#sums = zero();
    const passes = Math.max(1, rest.passes);
    return { ...rest, meanReserved: reserved / passes, meanLive: live / passes, meanRunning: running / passes };
  }

  close(): void {
    this.#off();
  }

  #counters(): Record<(typeof COUNTED)[number], number> {
    const { preemptions, prefix: { queriedTokens, hitTokens, evictedBlocks } } = this.#llm.cacheStats();
    return { preemptions, queriedTokens, hitTokens, evictedBlocks };
  }

  /** Averages times passes are whole numbers of entries but for rounding. */
  #settle(): void {
    const { meanReservedTokens, meanLiveTokens } = this.#llm.cacheStats();
    const reserved = Math.round(meanReservedTokens * this.#passes), live = Math.round(meanLiveTokens * this.#passes);
    const [passReserved, passLive, running] = [reserved - this.#reserved, live - this.#live, this.#running];
    this.#reserved = reserved;
    this.#live = live;
    this.#running = 0;
    if (this.#before === null || running === 0) return;
    const sums = this.#sums;
    sums.passes++;
    sums.reserved += passReserved;
    sums.live += passLive;
    sums.running += running;
    sums.peakRunning = Math.max(sums.peakRunning, running);
    // Of passes that reserve the same, the fullest: a stretch is taken empty.
    if (passReserved > sums.peakReserved || (passReserved === sums.peakReserved && passLive > sums.peakLive)) [sums.peakReserved, sums.peakLive] = [passReserved, passLive];
  }
}
