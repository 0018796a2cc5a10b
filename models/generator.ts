/**
 * The loop of generation: schedule, run, commit, until every request has its text. All requests of an LLM share one loop, so whatever
 * is asked for at the same time runs in the same batch. The scheduler decides, the runner computes, this file carries tokens between
 * them and the requests.
 */

import { AbortedError, NonFiniteLogitsError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { BatchRow } from "../kernels/batch.ts";
import { NO_TOKEN, type SamplingParams } from "../kernels/sample.ts";
import type { KvCache } from "./kv_cache.ts";
import type { FinishReason } from "./options.ts";
import type { Request } from "./request.ts";
import { MAX_IN_FLIGHT, type Runner } from "./runner.ts";
import { Scheduler, type DecodePlan, type Outcome, type PrefillPlan } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";

export interface GeneratorOptions { readonly maxSequences: number; readonly prefillChunk: number; readonly maxModelLen: number }

/** How the cache has been used since the start: the most blocks taken, and sums over the forward passes of entries taken and entries in use. */
export interface CacheUse { peakBlocks: number; passes: number; reservedTokens: number; liveTokens: number }

export class Generator {
  readonly scheduler: Scheduler;
  readonly cacheUse: CacheUse = { peakBlocks: 0, passes: 0, reservedTokens: 0, liveTokens: 0 };
  readonly #gpu: Gpu;
  readonly #cache: KvCache;
  readonly #runner: Runner;
  readonly #requests = new Map<Sequence, Request>();
  /** Sequences whose next rows the GPU already holds, in order: decoding goes on without writing a batch. */
  #onGpu: readonly Sequence[] = [];
  /** Whether the loop still looks for work: it falls in the same turn in which the scheduler has none, so nothing is queued unseen. */
  #looping = false;

  constructor(gpu: Gpu, cache: KvCache, runner: Runner, options: GeneratorOptions) {
    this.#gpu = gpu;
    this.#cache = cache;
    this.#runner = runner;
    this.scheduler = new Scheduler({ tables: cache.tables, ...options });
  }

  /** Queue requests; they run as soon as `lock` grants the device to the loop. Throws ContextLengthError for one that can never run. */
  add(requests: readonly Request[], signal: AbortSignal | undefined, lock: (work: () => Promise<void>) => Promise<void>): void {
    if (signal?.aborted) throw new AbortedError(undefined, { cause: signal.reason });
    if (signal !== undefined) this.#abortOn(signal, requests);
    for (const request of requests) {
      try {
        this.scheduler.add(request.sequence);
      } catch (error) {
        for (const queued of requests) this.#drop(queued, error);
        throw error;
      }
      this.#requests.set(request.sequence, request);
      this.#gpu.trace.emit(() => ({ type: "admitted", sequence: request.sequence.id, promptTokens: request.sequence.prompt.length }));
    }
    this.#settleFinished(); // a request for no tokens is finished before anything runs
    if (this.#looping) return;
    this.#looping = true;
    void lock(() => this.#loop());
  }

  /** A signal may serve many requests, so it is let go of once these are settled. */
  #abortOn(signal: AbortSignal, requests: readonly Request[]): void {
    const abort = (): void => {
      for (const request of requests) this.#drop(request, new AbortedError(undefined, { cause: signal.reason }));
    };
    signal.addEventListener("abort", abort);
    void Promise.allSettled(requests.map(({ result }) => result)).then(() => { signal.removeEventListener("abort", abort); });
  }

  /** Never rejects: what goes wrong goes to the requests. */
  async #loop(): Promise<void> {
    this.#onGpu = [];
    try {
      for (;;) {
        const { preemptions } = this.scheduler;
        const plan = this.scheduler.schedule({ lookahead: MAX_IN_FLIGHT });
        const count = this.scheduler.preemptions - preemptions;
        if (count > 0) this.#gpu.trace.emit(() => ({ type: "preempted", count, total: this.scheduler.preemptions }));
        if (plan === null) break;
        this.#noteCacheUse(plan.kind === "decode" ? plan.steps : 1);
        this.#cache.sync();
        if (plan.kind === "prefill") await this.#prefill(plan);
        else await this.#decode(plan);
        this.#settleFinished();
      }
    } catch (error) {
      for (const request of this.#requests.values()) this.#drop(request, error);
    } finally {
      this.#looping = false;
    }
  }

  async #prefill(plan: PrefillPlan): Promise<void> {
    const rows: BatchRow[] = [], samples: number[] = [], sampled: Sequence[] = [];
    for (const { sequence, start, count, sample } of plan.parts) {
      for (let i = 0; i < count; i++) rows.push({ id: sequence.tokenAt(start + i), position: start + i, sequence: sequence.slot, offset: i });
      if (!sample) continue;
      samples.push(rows.length - 1);
      sampled.push(sequence);
    }
    this.#gpu.trace.emit(() => ({ type: "prefill", sequences: plan.parts.map(({ sequence }) => sequence.id), rows: rows.length }));
    this.#onGpu = [];
    this.#runner.writeBatch("prefill", rows, samples, sampled.map(samplingOf));
    const tokens = await this.#runner.prefill(rows.length, samples.length);
    this.scheduler.commitPrefill(plan, sampled.map((sequence, i) => outcomeOf([tokens[i]!], this.#accept(sequence, tokens[i]!))));
  }

  async #decode(plan: DecodePlan): Promise<void> {
    const { sequences, steps } = plan;
    this.#gpu.trace.emit(() => ({ type: "decode", sequences: sequences.map(({ id }) => id), steps }));
    if (sequences.length !== this.#onGpu.length || sequences.some((sequence, i) => sequence !== this.#onGpu[i])) {
      const rows = sequences.map((sequence) => ({
        id: sequence.tokenAt(sequence.computed), position: sequence.computed, sequence: sequence.slot, offset: 0,
      }));
      this.#runner.writeBatch("decode", rows, rows.map((_, i) => i), sequences.map(samplingOf));
      this.#onGpu = sequences;
    }
    const tokens: number[][] = sequences.map(() => []);
    const finish: (FinishReason | null)[] = sequences.map(() => null);
    await this.#runner.decode(sequences.length, steps, (arrived) => {
      sequences.forEach((sequence, i) => {
        if (finish[i] !== null) return;
        tokens[i]!.push(arrived[i]!);
        finish[i] = this.#accept(sequence, arrived[i]!);
      });
    });
    this.scheduler.commitDecode(plan, tokens.map((ids, i) => outcomeOf(ids, finish[i]!)));
  }

  /** Hand one token to its request. Logits that are not finite end that request alone. */
  #accept(sequence: Sequence, token: number): FinishReason | null {
    const request = this.#requests.get(sequence);
    if (request === undefined) return "aborted";
    if (token !== NO_TOKEN) return request.accept(token);
    request.fail(new NonFiniteLogitsError(
      `the model gave logits that are not finite numbers after ${sequence.prompt.length + request.accepted} tokens: its weights hold NaN or ` +
      `infinite values, or overflow in this format; check the checkpoint or load it with weights "f32"`,
    ));
    this.#requests.delete(sequence);
    return "aborted";
  }

  #settleFinished(): void {
    for (const [sequence, request] of this.#requests) {
      if (sequence.status !== "finished") continue;
      this.#requests.delete(sequence);
      this.#gpu.trace.emit(() => ({ type: "finished", sequence: sequence.id, reason: sequence.finishReason!, tokens: request.accepted }));
      request.finish(sequence.finishReason!);
    }
  }

  #drop(request: Request, error: unknown): void {
    this.#requests.delete(request.sequence);
    this.scheduler.abort(request.sequence);
    request.fail(error);
  }

  #noteCacheUse(passes: number): void {
    const { liveTokens, reservedTokens } = this.#cache.tables.usage();
    const use = this.cacheUse;
    use.peakBlocks = Math.max(use.peakBlocks, this.#cache.tables.pool.used);
    use.passes += passes;
    use.reservedTokens += passes * reservedTokens;
    use.liveTokens += passes * liveTokens;
  }
}

function samplingOf({ options: { temperature, topP, topK, seed } }: Sequence): SamplingParams {
  return { temperature, topP, topK, seed };
}

function outcomeOf(tokens: readonly number[], finish: FinishReason | null): Outcome {
  return finish === null ? { tokens } : { tokens: tokens.filter((token) => token !== NO_TOKEN), finish };
}
