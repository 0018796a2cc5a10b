/**
 * Send requests at their times and note what becomes of them. Three moments come before a request's first token: it *arrives* when the
 * schedule says so; it is *handled* when this thread, which it shares with the engine, gets to it (the difference is its lateness);
 * and it is *sent* when --max-concurrency lets it (the difference is its time in the queue). Latencies count from the sending, as
 * vLLM's do, whose clock starts behind the semaphore too; lateness and queue are reported apart.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { AbortedError, ContextLengthError, NonFiniteLogitsError } from "../../../engine/errors.ts";
import type { FinishReason, GenerateOptions, GenerateResult } from "../../../index.ts";
import type { Asked } from "./workload.ts";

/** Milliseconds of a clock that never goes back. Tests have one of their own. */
export interface Clock {
  now(): number;
  /** Resolves at `time`, or at once when that is past; rejects with AbortedError when the signal fires. */
  until(time: number, signal: AbortSignal): Promise<void>;
}

export const realClock: Clock = {
  now: () => performance.now(),
  until: async (time, signal) => {
    try {
      // A timer may fire a little early.
      for (let left = time - performance.now(); left > 0; left = time - performance.now()) await sleep(left, undefined, { signal });
    } catch (error) {
      throw new AbortedError(undefined, { cause: error });
    }
    if (signal.aborted) throw new AbortedError(undefined, { cause: signal.reason });
  },
};

export interface Sample {
  readonly request: number;
  readonly promptTokens: number;
  readonly askedTokens: number;
  readonly seed: number;
  /** Milliseconds since the first arrival, by the schedule. */
  readonly arrival: number;
  /** From arrival to handling, and from handling to sending; milliseconds. */
  readonly late: number;
  readonly queued: number;
  /** Milliseconds since the first arrival. */
  readonly sent: number;
  /** Null for a request that failed. */
  readonly outcome: Finished | null;
  readonly error: string | null;
}

export interface Finished {
  readonly newTokens: number;
  readonly finishReason: FinishReason;
  /** Milliseconds from sending to the first token; null when there was none. */
  readonly ttft: number | null;
  /** (e2el − ttft) / (newTokens − 1); null for fewer than two tokens. */
  readonly tpot: number | null;
  /** Every gap between two tokens. */
  readonly itl: readonly number[];
  /** Milliseconds from sending to the last token. */
  readonly e2el: number;
  /** When the result was there: milliseconds since the first arrival. */
  readonly completed: number;
  readonly cachedTokens: number;
  readonly preemptions: number;
}

export interface Driven {
  readonly status: "complete" | "interrupted";
  /** Of requests that finished or failed, in the order of arrival. */
  readonly samples: readonly Sample[];
  /** Requests that were sent but did not finish, or were never sent, because of the interruption. */
  readonly unfinished: number;
}

export interface Target { generate(ids: readonly number[], options: GenerateOptions): Promise<GenerateResult> }

export interface DriveOptions {
  /** Milliseconds from the start, ascending; one for each request. */
  readonly arrivals: readonly number[];
  readonly maxConcurrency: number | null;
  readonly sampling: Pick<GenerateOptions, "temperature" | "ignoreEos">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly onStep: (label: string, done: number, total: number) => void;
}

/** Run all requests. Throws what ends the run as a whole, such as a lost device; the failure of one request is a sample. */
export async function drive(llm: Target, requests: readonly Asked[], options: DriveOptions): Promise<Driven> {
  const { arrivals, clock, sampling, onStep } = options;
  const samples: Sample[] = [];
  const broken = new AbortController();
  const signal = AbortSignal.any([options.signal, broken.signal]);
  const gate = new Gate(options.maxConcurrency ?? Infinity);
  const start = clock.now();
  const since = (): number => clock.now() - start;

  const run = async (i: number): Promise<void> => {
    const { ids, maxNewTokens, seed } = requests[i]!;
    const arrival = arrivals[i]!, handled = since();
    const place = gate.enter();
    if (place !== null) await place;
    try {
      if (signal.aborted) return;
      const sent = since();
      const waited = { arrival, late: handled - arrival, queued: sent - handled, sent };
      const known = { request: i, promptTokens: ids.length, askedTokens: maxNewTokens, seed, ...waited };
      try {
        const result = await llm.generate(ids, { ...sampling, maxNewTokens, seed, signal });
        samples.push({ ...known, outcome: finished(result, since()), error: null });
      } catch (error) {
        if (error instanceof AbortedError && signal.aborted) return;
        if (!(error instanceof NonFiniteLogitsError || error instanceof ContextLengthError)) throw error;
        samples.push({ ...known, outcome: null, error: error.message });
      }
      onStep("requests", samples.length, requests.length);
    } finally {
      gate.leave();
    }
  };

  const running: Promise<void>[] = [];
  let failure: unknown = null;
  try {
    for (let i = 0; i < requests.length; i++) {
      await clock.until(start + arrivals[i]!, signal);
      running.push(run(i).catch((error: unknown) => {
        failure ??= error;
        broken.abort();
      }));
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
  }
  await Promise.all(running);
  if (failure !== null) throw failure as Error;
  samples.sort((a, b) => a.request - b.request);
  const unfinished = requests.length - samples.length;
  return { status: options.signal.aborted && unfinished > 0 ? "interrupted" : "complete", samples, unfinished };
}

function finished({ ids, finishReason, timings, stats }: GenerateResult, completed: number): Finished {
  const { ttft, tpot, total, itl } = timings;
  return {
    newTokens: ids.length, finishReason, ttft: ids.length === 0 ? null : ttft, tpot: ids.length < 2 ? null : tpot, itl, e2el: total, completed,
    cachedTokens: stats.cachedTokens, preemptions: stats.preemptions,
  };
}

/** Lets in as many as it has places for, first come first. */
class Gate {
  #places: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) { this.#places = places; }

  /** Null where there is a place at once: then nothing else may run before the request is sent. */
  enter(): Promise<void> | null {
    if (this.#places === 0) return new Promise<void>((resolve) => { this.#waiting.push(resolve); });
    this.#places--;
    return null;
  }

  /** The place goes to whoever waits longest. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#places++;
    else next();
  }
}
