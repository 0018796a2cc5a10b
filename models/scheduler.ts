/**
 * Who runs in the next step, and in which cache blocks. Sequences come first, are served first: a prompt is prefilled in chunks as soon
 * as the cache has room for it, otherwise everything that runs decodes together. When the cache is full the sequence that came last
 * gives its blocks back and is computed again later, so every sequence finishes. No GPU in here: the runner turns a plan into forward
 * passes and hands the sampled tokens back. Three verbs, schedule, run, commit:
 *
 *   const scheduler = new Scheduler({ tables, maxSequences: 16, prefillChunk: 256, maxModelLen: 4096 });
 *   for (const sequence of sequences) scheduler.add(sequence);
 *   for (;;) {
 *     const plan = scheduler.schedule({ lookahead: 8 });
 *     if (plan === null) break;                                    // all finished
 *     upload(tables.takeDirty());
 *     if (plan.kind === "prefill") {
 *       // forward tokenAt(start … start + count − 1) of every part in one pass; sample after the last row of parts with `sample`
 *       const tokens = await runPrefill(plan.parts);
 *       scheduler.commitPrefill(plan, tokens.map((token) => ({ tokens: [token], finish: isEos(token) ? "stop" : undefined })));
 *     } else {
 *       // `steps` passes, one row per sequence: the first feeds tokenAt(computed), each later one what the GPU sampled before it
 *       const rows = await runDecode(plan.sequences, plan.steps);
 *       scheduler.commitDecode(plan, rows.map((tokens) => {
 *         const eos = tokens.findIndex(isEos);                     // tokens behind a stop are thrown away
 *         return eos < 0 ? { tokens } : { tokens: tokens.slice(0, eos + 1), finish: "stop" };
 *       }));
 *     }
 *   }
 *
 * `scheduler.abort(sequence)` may come at any moment, also between schedule and commit.
 */

import { ContextLengthError, UsageError } from "../engine/errors.ts";
import type { BlockTables } from "./block_tables.ts";
import type { FinishReason } from "./options.ts";
import type { Sequence } from "./sequence.ts";

export interface PrefillPart {
  readonly sequence: Sequence;
  /** Position of the first token of the chunk. */
  readonly start: number;
  readonly count: number;
  /** The chunk ends the prompt: the token after its last row is sampled. */
  readonly sample: boolean;
}

/** Chunks of prompts, oldest sequence first, at most `prefillChunk` rows together. */
export interface PrefillPlan {
  readonly kind: "prefill";
  readonly parts: readonly PrefillPart[];
}

/** One token per sequence and step; room for `steps` steps is reserved, so no host decision is needed between them. */
export interface DecodePlan {
  readonly kind: "decode";
  readonly sequences: readonly Sequence[];
  readonly steps: number;
}

export type StepPlan = PrefillPlan | DecodePlan;

/** What a run gave one sequence. `finish` is set when a stop condition was met; running into a length limit the scheduler sees itself. */
export interface Outcome {
  readonly tokens: readonly number[];
  readonly finish?: FinishReason | undefined;
}

export interface SchedulerOptions {
  /** No other user of these tables may hold a slot while sequences run. */
  readonly tables: BlockTables;
  /** Most sequences that hold cache at the same time. */
  readonly maxSequences: number;
  /** Most prompt tokens in one forward pass. */
  readonly prefillChunk: number;
  /** Longest sequence, prompt and continuation, in tokens. */
  readonly maxModelLen: number;
}

export class Scheduler {
  readonly #tables: BlockTables;
  readonly #maxSequences: number;
  readonly #prefillChunk: number;
  readonly #maxModelLen: number;
  /** A sequence goes from list to list. Each is in order of arrival, and all of #decoding came before #prefilling before #waiting. */
  readonly #waiting: Sequence[] = [];
  readonly #prefilling: Sequence[] = [];
  readonly #decoding: Sequence[] = [];
  #plan: StepPlan | null = null;
  #preemptions = 0;

  constructor({ tables, maxSequences, prefillChunk, maxModelLen }: SchedulerOptions) {
    for (const [name, value] of Object.entries({ maxSequences, prefillChunk, maxModelLen })) {
      if (!Number.isInteger(value) || value < 1) throw new UsageError(`${name} must be a positive whole number, got ${value}`);
    }
    if (tables.slots < maxSequences || tables.maxBlocksPerTable * tables.blockSize < maxModelLen) {
      throw new Error(`Scheduler: tables have ${tables.slots} slots of ${tables.maxBlocksPerTable * tables.blockSize} tokens, ` +
        `but maxSequences is ${maxSequences} and maxModelLen ${maxModelLen}`);
    }
    this.#tables = tables;
    this.#maxSequences = maxSequences;
    this.#prefillChunk = prefillChunk;
    this.#maxModelLen = maxModelLen;
  }

  get waiting(): number { return this.#waiting.length; }
  get running(): number { return this.#prefilling.length + this.#decoding.length; }
  /** Times any sequence was pushed out of the cache so far. */
  get preemptions(): number { return this.#preemptions; }

  /**
   * Queues a sequence. Throws ContextLengthError when it could never run: the prompt leaves no room for a new token in maxModelLen, or
   * prompt and continuation together need more blocks than the whole pool has.
   */
  add(sequence: Sequence): void {
    if (sequence.status !== "waiting" || this.#waiting.includes(sequence)) throw new Error(`sequence ${sequence.id} was added before`);
    const { prompt, options: { maxNewTokens } } = sequence;
    if (prompt.length + Math.min(1, maxNewTokens) > this.#maxModelLen) {
      throw new ContextLengthError(`the prompt has ${prompt.length} tokens, but maxModelLen is ${this.#maxModelLen} including at least ` +
        `one new token: shorten the prompt or raise maxModelLen`);
    }
    const { pool, layers, kvHeads, blockSize } = this.#tables;
    const limit = this.#limit(sequence);
    if (this.#tables.blocksFor(limit) > pool.total) {
      const capacity = Math.floor(pool.total / (layers * kvHeads)) * blockSize;
      throw new ContextLengthError(`a prompt of ${prompt.length} tokens with up to ${limit - prompt.length} new ones needs a cache of ` +
        `${limit} tokens, but kvMemory holds ${capacity}: raise kvMemory, or lower maxNewTokens or maxModelLen`);
    }
    if (maxNewTokens === 0) this.finish(sequence, "length");
    else this.#waiting.push(sequence);
  }

  /** Ends a sequence wherever it stands and gives its blocks back. A finished sequence stays as it is. */
  finish(sequence: Sequence, reason: FinishReason): void {
    if (sequence.status === "finished") return;
    for (const list of [this.#waiting, this.#prefilling, this.#decoding]) {
      const at = list.indexOf(sequence);
      if (at >= 0) list.splice(at, 1);
    }
    this.#leaveCache(sequence);
    sequence.status = "finished";
    sequence.finishReason = reason;
  }

  /** `finish` on the caller's wish. A plan under way may still run with the sequence in it; its outcome is ignored. */
  abort(sequence: Sequence): void {
    this.finish(sequence, "aborted");
  }

  /**
   * What to run next; null when every sequence has finished. At most `lookahead` decode steps are planned. Reserves blocks, admits and
   * preempts, but counts nothing as computed: a plan that was not run may be dropped by scheduling again.
   */
  schedule({ lookahead = 1 }: { lookahead?: number } = {}): StepPlan | null {
    this.#plan = this.#planPrefill() ?? this.#planDecode(lookahead);
    if (this.#plan === null && this.#waiting.length > 0) {
      throw new Error(`Scheduler: nothing runs, yet ${this.#tables.pool.used} cache blocks are in use and sequence ` +
        `${this.#waiting[0]!.id} cannot start`);
    }
    return this.#plan;
  }

  /** `outcomes`: one for each part with `sample`, in order, with one token, or none if `finish` is set. */
  commitPrefill(plan: PrefillPlan, outcomes: readonly Outcome[]): void {
    this.#close(plan, plan.parts.filter((part) => part.sample).length, outcomes.length);
    let next = 0;
    for (const { sequence, count, sample } of plan.parts) {
      const outcome = sample ? outcomes[next++]! : null;
      if (sequence.status === "finished") continue;
      this.#tables.advance(sequence.slot, count);
      sequence.computed += count;
      if (outcome === null) continue;
      this.#prefilling.splice(this.#prefilling.indexOf(sequence), 1);
      this.#decoding.push(sequence);
      this.#append(sequence, outcome, 1);
    }
  }

  /**
   * `outcomes`: one per sequence of the plan, in order. `ran`: steps that were run, if fewer than planned. A sequence that goes on must
   * have a token for each of them; one with `finish` may have fewer (its stop condition was seen late; what was run behind it is lost).
   */
  commitDecode(plan: DecodePlan, outcomes: readonly Outcome[], ran = plan.steps): void {
    this.#close(plan, plan.sequences.length, outcomes.length);
    if (ran < 1 || ran > plan.steps) throw new Error(`Scheduler: ${ran} decode steps were run, but ${plan.steps} were planned`);
    plan.sequences.forEach((sequence, i) => {
      if (sequence.status === "finished") return;
      this.#tables.advance(sequence.slot, ran, { onGpu: true });
      sequence.computed += ran;
      this.#append(sequence, outcomes[i]!, ran);
    });
  }

  #planPrefill(): PrefillPlan | null {
    const parts: PrefillPart[] = [];
    let rows = this.#prefillChunk;
    const take = (sequence: Sequence) => {
      const start = sequence.computed, left = sequence.tokens - start, count = Math.min(rows, left);
      parts.push({ sequence, start, count, sample: count === left });
      rows -= count;
    };
    for (const sequence of this.#prefilling) if (rows > 0) take(sequence);
    while (rows > 0) {
      const sequence = this.#admit();
      if (sequence === null) break;
      take(sequence);
    }
    return parts.length > 0 ? { kind: "prefill", parts } : null;
  }

  /**
   * Starts the first of the waiting if a slot is free and the pool has blocks for its tokens and one more, and beyond that a block for
   * every running table to grow by: without these the newcomer would be preempted, and its prefill lost, a few tokens later.
   */
  #admit(): Sequence | null {
    const sequence = this.#waiting[0];
    if (sequence === undefined || this.running >= this.#maxSequences) return null;
    const tables = this.#tables;
    const growth = [...this.#decoding, ...this.#prefilling].reduce((sum, other) => {
      const soon = Math.min(other.tokens + 1 + tables.blockSize, this.#limit(other));
      return sum + tables.shortfall(other.slot, soon - other.computed);
    }, 0);
    if (tables.blocksFor(sequence.tokens + 1) + growth > tables.pool.free) return null;
    const slot = tables.open();
    if (slot === null) return null;
    tables.reserve(slot, sequence.tokens + 1);
    this.#waiting.shift();
    this.#prefilling.push(sequence);
    sequence.slot = slot;
    sequence.status = "running";
    return sequence;
  }

  #planDecode(lookahead: number): DecodePlan | null {
    while (this.#decoding.length > 0) {
      let steps = Math.min(lookahead, ...this.#decoding.map((sequence) => this.#limit(sequence) - sequence.tokens));
      while (steps > 1 && !this.#hasRoom(steps)) steps--;
      if (this.#hasRoom(steps)) {
        for (const sequence of this.#decoding) this.#tables.reserve(sequence.slot, steps);
        return { kind: "decode", sequences: [...this.#decoding], steps };
      }
      this.#preempt(this.#decoding.pop()!);
    }
    return null;
  }

  #hasRoom(steps: number): boolean {
    const needed = this.#decoding.reduce((sum, sequence) => sum + this.#tables.shortfall(sequence.slot, steps), 0);
    return needed <= this.#tables.pool.free;
  }

  /** The tokens generated so far are computed again with the prompt, as one longer prompt. */
  #preempt(sequence: Sequence): void {
    this.#leaveCache(sequence);
    sequence.computed = 0;
    sequence.status = "waiting";
    sequence.preemptions++;
    this.#preemptions++;
    this.#waiting.unshift(sequence);
  }

  #leaveCache(sequence: Sequence): void {
    if (sequence.slot < 0) return;
    this.#tables.close(sequence.slot);
    sequence.slot = -1;
  }

  /** Only the latest plan can be committed, once, and completely. */
  #close(plan: StepPlan, sampled: number, outcomes: number): void {
    if (plan !== this.#plan) throw new Error("Scheduler: the plan committed is not the one scheduled last");
    if (outcomes !== sampled) throw new Error(`Scheduler: ${outcomes} outcomes for a plan that samples ${sampled} sequences`);
    this.#plan = null;
  }

  #append(sequence: Sequence, { tokens, finish }: Outcome, ran: number): void {
    if (tokens.length > ran || (finish === undefined && tokens.length < ran)) {
      throw new Error(`Scheduler: ${tokens.length} tokens for sequence ${sequence.id} after ${ran} steps (finish: ${finish ?? "no"})`);
    }
    sequence.generated.push(...tokens);
    if (finish !== undefined) this.finish(sequence, finish);
    else if (sequence.tokens >= this.#limit(sequence)) this.finish(sequence, "length");
  }

  /** Tokens of prompt and continuation at which the sequence ends. */
  #limit(sequence: Sequence): number {
    return Math.min(sequence.prompt.length + sequence.options.maxNewTokens, this.#maxModelLen);
  }
}
