/**
 * The loop of generation: schedule, run, commit, until every request has its text. All requests of an LLM share one loop, so whatever
 * is asked for at the same time runs in the same batch. The scheduler decides, the runner computes, this file carries tokens between
 * them and the requests.
 */

import { AbortedError, NonFiniteLogitsError, OutOfMemoryError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { MAX_DRAFTED } from "../kernels/accept.ts";
import type { BatchRow } from "../kernels/batch.ts";
import { NO_TOKEN, packBias, packCounts } from "../kernels/sample.ts";
import type { Logprobs } from "../kernels/logprobs.ts";
import type { KvCache } from "./kv_cache.ts";
import type { Request } from "./request.ts";
import type { Presser } from "./presser.ts";
import type { Runner, Sampled, StepFeatures } from "./runner.ts";
import { Scheduler, type DecodePlan, type MixedPlan, type Outcome, type SchedulerOptions } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import type { Speculator, Wanted } from "./speculator.ts";
import { MAX_IN_FLIGHT } from "./sizes.ts";

export interface GeneratorOptions extends Omit<SchedulerOptions, "tables"> {
  readonly vocabSize: number;
  /** Null: nothing is drafted for anybody. */
  readonly speculator?: Speculator | null;
}

/** How the cache has been used since the start: the most blocks taken, and sums over the forward passes of entries taken and entries in use. */
export interface CacheUse { peakBlocks: number; passes: number; reservedTokens: number; liveTokens: number }

export class Generator {
  readonly scheduler: Scheduler;
  readonly cacheUse: CacheUse = { peakBlocks: 0, passes: 0, reservedTokens: 0, liveTokens: 0 };
  readonly #gpu: Gpu;
  readonly #cache: KvCache;
  readonly #runner: Runner;
  readonly #presser: Presser;
  readonly #speculator: Speculator | null;
  readonly #vocabSize: number;
  readonly #requests = new Map<Sequence, Request>();
  /** Slots for which the sampler holds penalties or biases. */
  readonly #adjustedSlots = new Set<number>();
  /** Sequences whose next rows the GPU already holds, in order: decoding goes on without writing a batch. */
  #onGpu: readonly Sequence[] = [];
  /** The last thing that ran was a round of speculation. */
  #speculating = false;
  /** Whether the loop still looks for work: it falls in the same turn in which the scheduler has none, so nothing is queued unseen. */
  #looping = false;

  constructor(gpu: Gpu, cache: KvCache, runner: Runner, presser: Presser, { vocabSize, speculator = null, ...options }: GeneratorOptions) {
    this.#gpu = gpu;
    this.#cache = cache;
    this.#runner = runner;
    this.#presser = presser;
    this.#speculator = speculator;
    this.#vocabSize = vocabSize;
    this.scheduler = new Scheduler({ tables: cache.tables, ...options });
  }

  /** Queue requests; they run as soon as `lock` grants the device to the loop. Throws ContextLengthError for one that can never run. */
  add(requests: readonly Request[], signal: AbortSignal | undefined, lock: (work: () => Promise<void>) => Promise<void>): void {
    if (signal?.aborted) throw new AbortedError(undefined, { cause: signal.reason });
    if (signal !== undefined) this.#abortOn(signal, requests);
    for (const request of requests) {
      try {
        if (request.sequence.pressing !== null) this.#presser.checkPrompt(request.sequence.pressing);
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
        await this.#press();
        const plan = this.scheduler.schedule();
        this.#notePreemptions(this.scheduler.preemptions - preemptions);
        if (plan === null) break;
        await this.#cache.sync();
        const sequences = plan.kind === "mixed" ? plan.parts.map(({ sequence }) => sequence) : plan.sequences;
        if (sequences.some(({ status }) => status === "finished")) continue; // taken back meanwhile: it has no slot to run in
        if (plan.kind === "mixed") {
          this.#speculating = false;
          await this.#mixed(plan);
        } else await this.#decode(plan);
      }
    } catch (error) {
      for (const request of this.#requests.values()) this.#drop(request, error);
    } finally {
      this.#looping = false;
    }
  }

  /** Let presses act that are due. Sequences that end meanwhile give their memory back when their press has acted. */
  async #press(): Promise<void> {
    for (const sequence of this.scheduler.duePresses()) {
      const { pressing } = sequence;
      if (pressing === null || pressing.next !== sequence.computed || sequence.slot < 0) continue; // one before it has taken its memory
      const { shift } = pressing;
      try {
        await this.#presser.act(sequence.slot, pressing, () => this.scheduler.giveWay(sequence));
      } catch (error) {
        if (!(error instanceof UsageError || error instanceof OutOfMemoryError)) throw error;
        const request = this.#requests.get(sequence); // none when it was taken back meanwhile
        if (request !== undefined) this.#drop(request, error); // its own fault
      }
      if (pressing.shift !== shift) this.#onGpu = []; // the GPU counts positions on from where they were
    }
  }

  async #mixed(plan: MixedPlan): Promise<void> {
    const rows: BatchRow[] = [], samples: number[] = [], sampled: Sequence[] = [];
    for (const { sequence, start, count, sample } of plan.parts) {
      for (let i = 0; i < count; i++) rows.push({ id: sequence.tokenAt(start + i), position: sequence.positionOf(start + i), sequence: sequence.slot, offset: i });
      if (!sample) continue;
      samples.push(rows.length - 1);
      sampled.push(sequence);
    }
    this.#gpu.trace.emit(() => ({ type: "prefill", sequences: plan.parts.map(({ sequence }) => sequence.id), rows: rows.length }));
    this.#noteCacheUse(rows.length);
    this.#onGpu = [];
    for (const { sequence } of plan.parts) await this.#welcome(sequence);
    const features = this.#featuresOf(sampled, plan.parts.map(({ sequence }) => sequence));
    await this.#runner.provide(features);
    this.#runner.writeBatch("prefill", rows, samples, sampled.map(({ options }) => options));
    const got = await this.#runner.prefill(rows.length, samples.length, features);
    this.scheduler.commitMixed(plan, sampled.map((sequence, i) => this.#accept(sequence, got.tokens[i]!, (top) => got.logprobs(i, top))));
    this.#settleFinished();
  }

  /** A sequence that has just been given its slot: what the sampler keeps by slot must be its own. */
  async #welcome(sequence: Sequence): Promise<void> {
    const { admitted, slot, options, prompt, generated } = sequence;
    if (!admitted || sequence.status === "finished") return;
    sequence.admitted = false;
    this.#presser.watch(slot, sequence.pressing);
    const { adjusted } = sequence;
    if (!adjusted && !this.#adjustedSlots.has(slot)) return;
    await this.#runner.provide({ adjusted: true, logprobs: false });
    this.#runner.writeAdjustment(slot, adjusted ? {
      counts: packCounts(this.#vocabSize, prompt, generated), bias: packBias(this.#vocabSize, options.logitBias),
    } : null);
    if (adjusted) this.#adjustedSlots.add(slot);
    else this.#adjustedSlots.delete(slot);
  }

  /**
   * Steps follow each other on the GPU without waiting for the host, which reads their tokens up to MAX_IN_FLIGHT steps later. What a
   * sequence was given behind its end is thrown away; when any sequence ends or another may start, the steps in flight come in first.
   */
  async #decode(plan: DecodePlan): Promise<void> {
    const { sequences } = plan;
    if (this.#speculator !== null && sequences.some(({ speculation }) => speculation !== null)) return this.#speculate(plan, this.#speculator);
    if (sequences.length !== this.#onGpu.length || sequences.some((sequence, i) => sequence !== this.#onGpu[i])) {
      const rows = sequences.map((sequence) => ({
        id: sequence.tokenAt(sequence.computed), position: sequence.positionOf(sequence.computed), sequence: sequence.slot, offset: 0,
      }));
      this.#runner.writeBatch("decode", rows, rows.map((_, i) => i), sequences.map(({ options }) => options));
      this.#onGpu = sequences;
    }
    const submit = await this.#runner.decoder(sequences.length, this.#featuresOf(sequences, sequences));
    const step = (): Promise<Sampled> => {
      this.#gpu.trace.emit(() => ({ type: "decode", sequences: sequences.map(({ id }) => id) }));
      this.#cache.syncTables();
      this.#noteCacheUse((inFlight.length + 1) * sequences.length);
      // Its own key included; sequences that end while steps are in flight are still run by those.
      return submit(Math.max(...sequences.map(({ tokens }) => tokens)) + inFlight.length);
    };
    const inFlight: Promise<Sampled>[] = [];
    inFlight.push(step());
    while (inFlight.length > 0) {
      while (inFlight.length < MAX_IN_FLIGHT && this.scheduler.extend(plan, inFlight.length)) inFlight.push(step());
      const sampled = await inFlight.shift()!;
      this.scheduler.commitDecode(plan, sequences.map((sequence, i) => this.#accept(sequence, sampled.tokens[i]!, (top) => sampled.logprobs(i, top))));
      this.#settleFinished();
    }
  }

  /** One round: tokens are drafted for who wants them, and all sequences of the batch go on by at least one. As many at a time as are verified together. */
  async #speculate(plan: DecodePlan, speculator: Speculator): Promise<void> {
    this.#onGpu = [];
    const groups: Wanted[][] = [[]];
    let rows = 0;
    for (const sequence of plan.sequences) {
      const { speculation, pressing } = sequence;
      const most = Math.min(MAX_DRAFTED, speculator.rows - 1, this.scheduler.left(sequence) - 1, (pressing?.next ?? Infinity) - sequence.computed - 1);
      const asked = speculation?.next(most) ?? 0, k = asked > 0 && this.scheduler.reserve(sequence, asked + 1) ? asked : 0;
      if (rows + k + 1 > speculator.rows) groups.push([]);
      rows = groups.at(-1)!.length === 0 ? k + 1 : rows + k + 1;
      groups.at(-1)!.push({ sequence, k });
    }
    const outcomes = new Map<Sequence, Outcome[]>(plan.sequences.map((sequence) => [sequence, []]));
    for (const group of groups) {
      const wanted = group.filter(({ sequence }) => sequence.status === "running"); // who was taken back meanwhile has no slot
      if (wanted.length === 0) continue;
      const round = await speculator.round(wanted, this.#presser.captures(wanted.map(({ sequence }) => sequence)), !this.#speculating);
      if (round === null) continue;
      this.#speculating = true;
      const { verdicts, times } = round;
      wanted.forEach(({ sequence }, i) => {
        const { drafted, accepted, tokens } = verdicts[i]!, got = outcomes.get(sequence)!;
        for (const token of tokens) {
          const outcome = this.#accept(sequence, token, null);
          got.push(outcome);
          if (outcome.finish !== null) break;
        }
        if (drafted > 0) sequence.speculation?.learn(drafted, accepted, got.length, times);
        this.#gpu.trace.emit(() => ({ type: "speculated", sequence: sequence.id, drafted, accepted }));
      });
    }
    this.scheduler.commitRound(plan, plan.sequences.map((sequence) => outcomes.get(sequence)!));
    this.#settleFinished();
  }

  /** Hand one token to its request. Logits that are not finite end that request alone. */
  #accept(sequence: Sequence, token: number, logprobs: ((top: number) => Logprobs) | null): Outcome {
    const request = this.#requests.get(sequence);
    if (request === undefined) return { token: null, finish: "aborted" };
    const top = sequence.options.logprobs;
    if (token !== NO_TOKEN) return { token, finish: request.accept(token, top === null || logprobs === null ? null : logprobs(top)) };
    request.fail(new NonFiniteLogitsError(
      `the model gave logits that are not finite numbers after ${sequence.prompt.length + request.accepted} tokens: its weights hold NaN or ` +
      `infinite values, or overflow in this format; check the checkpoint or load it with weights "f32"`,
    ));
    this.#requests.delete(sequence);
    return { token: null, finish: "aborted" };
  }

  #featuresOf(sampled: readonly Sequence[], run: readonly Sequence[]): StepFeatures {
    return { adjusted: sampled.some((sequence) => sequence.adjusted), logprobs: sampled.some(({ options }) => options.logprobs !== null), captured: this.#presser.captures(run) };
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

  /** `written`: tokens that this pass and those in flight write, which the host has not counted yet. */
  #noteCacheUse(written: number): void {
    const { tables } = this.#cache;
    const { liveTokens, reservedTokens } = tables.usage();
    const use = this.cacheUse;
    use.peakBlocks = Math.max(use.peakBlocks, tables.used);
    use.passes++;
    use.reservedTokens += reservedTokens;
    use.liveTokens += liveTokens + written * tables.layers * tables.kvHeads;
  }

  #notePreemptions(count: number): void {
    if (count === 0) return;
    const total = this.scheduler.preemptions;
    this.#gpu.trace.emit(() => ({ type: "preempted", count, total }));
    if (total > count) return; // once is enough to know what to change
    process.emitWarning(
      "the KV cache is full: a sequence was pushed out and will be computed again; texts stay the same, but take longer. " +
      "Raise kvMemory, or lower maxSequences, maxModelLen or maxNewTokens", { type: "DawnlmWarning", code: "DAWNLM_PREEMPTION" },
    );
  }
}
