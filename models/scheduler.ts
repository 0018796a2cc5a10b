/**
 * Decides what runs next (continuous batching, Yu et al. 2022; chunked prefill, Agrawal et al. 2023). While prompts are waiting to be
 * read, a step takes one token of every decoding sequence and fills up with chunks of prompts, in order of arrival; else all decoding
 * sequences advance together, step after step. When the cache is full, the sequence that arrived last gives its memory back and is
 * computed again later, so every sequence finishes. No GPU in here: the runner turns a plan into forward passes and hands the sampled
 * tokens back. Three verbs, schedule, run, commit:
 *
 *   const scheduler = new Scheduler({ tables, maxSequences: 16, prefillChunk: 256, maxModelLen: 4096 });
 *   for (const sequence of sequences) scheduler.add(sequence);
 *   for (;;) {
 *     for (const sequence of scheduler.duePresses()) await press(sequence);
 *     const plan = scheduler.schedule();
 *     if (plan === null) break;                                    // all finished
 *     if (plan.kind === "mixed") {
 *       // forward tokenAt(start … start + count − 1) of every part in one pass; sample after the last row of parts with `sample`
 *       const tokens = await runRows(plan.parts);
 *       scheduler.commitMixed(plan, tokens.map((token) => ({ token, finish: isEos(token) ? "stop" : null })));
 *     } else {
 *       // one row per sequence: the first step feeds tokenAt(computed), each later one what the GPU sampled before it
 *       do submitStep(); while (inFlight < 8 && scheduler.extend(plan, inFlight));
 *       for (const tokens of await arrivedSteps()) scheduler.commitDecode(plan, tokens.map(…));
 *     }
 *   }
 *
 * `scheduler.abort(sequence)` may come at any moment, also between schedule and commit.
 */

import { ContextLengthError, UsageError } from "../engine/errors.ts";
import { BlockTables } from "./block_tables.ts";
import type { CacheTables } from "./cache_tables.ts";
import type { FinishReason } from "./options.ts";
import type { PrefixCache } from "./prefix_cache.ts";
import type { Sequence } from "./sequence.ts";

export interface StepPart {
  readonly sequence: Sequence;
  /** Position of its first token in this step. */
  readonly start: number;
  readonly count: number;
  /** Its last row is the last known token of the sequence: the token after it is sampled. */
  readonly sample: boolean;
}

/** One token of each decoding sequence, then chunks of prompts, together at most `prefillChunk` rows where the decoding ones leave room. */
export interface MixedPlan {
  readonly kind: "mixed";
  readonly parts: readonly StepPart[];
}

/** One token of each sequence and step. Room for the first step is reserved; `extend` reserves for more. */
export interface DecodePlan {
  readonly kind: "decode";
  readonly sequences: readonly Sequence[];
}

export type StepPlan = MixedPlan | DecodePlan;

/** What a step gave one sequence. `finish` is set when a stop condition was met; running into a length limit the scheduler sees itself. */
export interface Outcome {
  /** Null when the row gave none: the sequence must finish then. */
  readonly token: number | null;
  readonly finish: FinishReason | null;
}

export interface SchedulerOptions {
  /** No other user of these tables may hold a slot while sequences run. */
  readonly tables: CacheTables;
  /** Where equal prefixes are found again; only over block tables. */
  readonly prefix?: PrefixCache | null;
  /** Most sequences that hold cache at the same time. */
  readonly maxSequences: number;
  /** Most tokens in one forward pass; a prompt goes on by one token at least, however many sequences decode. */
  readonly prefillChunk: number;
  /** Longest sequence, prompt and continuation, in tokens. */
  readonly maxModelLen: number;
}

export class Scheduler {
  readonly #tables: CacheTables;
  readonly #prefix: PrefixCache | null;
  readonly #maxSequences: number;
  readonly #prefillChunk: number;
  readonly #maxModelLen: number;
  /** A sequence goes from list to list. Each is in order of arrival, and all of #decoding came before #prefilling before #waiting. */
  readonly #waiting: Sequence[] = [];
  readonly #prefilling: Sequence[] = [];
  readonly #decoding: Sequence[] = [];
  #plan: StepPlan | null = null;
  #preemptions = 0;

  constructor({ tables, prefix = null, maxSequences, prefillChunk, maxModelLen }: SchedulerOptions) {
    for (const [name, value] of Object.entries({ maxSequences, prefillChunk, maxModelLen })) {
      if (!Number.isInteger(value) || value < 1) throw new UsageError(`${name} must be a positive whole number, got ${value}`);
    }
    if (tables.slots < maxSequences || tables.maxTokens < maxModelLen) {
      throw new Error(`Scheduler: tables have ${tables.slots} slots of ${tables.maxTokens} tokens, ` +
        `but maxSequences is ${maxSequences} and maxModelLen ${maxModelLen}`);
    }
    if (prefix !== null && !(tables instanceof BlockTables)) throw new Error("Scheduler: prefixes are shared in blocks, but the cache has none");
    this.#tables = tables;
    this.#prefix = prefix;
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
   * prompt and continuation together need more than the whole cache.
   */
  add(sequence: Sequence): void {
    if (sequence.status !== "waiting" || this.#waiting.includes(sequence)) throw new Error(`sequence ${sequence.id} was added before`);
    const { prompt, options: { maxNewTokens } } = sequence;
    if (prompt.length + Math.min(1, maxNewTokens) > this.#maxModelLen) {
      throw new ContextLengthError(`the prompt has ${prompt.length} tokens, but maxModelLen is ${this.#maxModelLen} including at least ` +
        `one new token: shorten the prompt or raise maxModelLen`);
    }
    const limit = this.#limit(sequence);
    const slack = this.#pressSlack(sequence);
    if (limit + slack > this.#tables.capacity) {
      throw new ContextLengthError(`a prompt of ${prompt.length} tokens with up to ${limit - prompt.length} new ones needs a cache of ` +
        `${limit + slack} tokens${slack > 0 ? ` (${slack} of them for the press to work in)` : ""}, but kvMemory holds ${this.#tables.capacity}: ` +
        `raise kvMemory, or lower maxNewTokens or maxModelLen`);
    }
    if (maxNewTokens === 0) this.finish(sequence, "length");
    else this.#waiting.push(sequence);
  }

  /** Ends a sequence wherever it stands and gives its memory back. A finished sequence stays as it is. */
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
   * What to run next; null when every sequence has finished. Reserves room, admits and preempts, but counts nothing as computed: a plan
   * that was not run may be dropped by scheduling again.
   */
  schedule(): StepPlan | null {
    while (!this.#haveRoom()) this.#preempt();
    this.#plan = this.#planMixed() ?? (this.#decoding.length > 0 ? { kind: "decode", sequences: [...this.#decoding] } : null);
    if (this.#plan === null && this.#waiting.length > 0) {
      throw new Error(`Scheduler: nothing runs, yet ${this.#tables.used} cache blocks are in use and sequence ${this.#waiting[0]!.id} cannot start`);
    }
    return this.#plan;
  }

  /** Sequences whose press acts now, before anything is scheduled: `Sequence.pressing.did` must be told. Only while no step is in flight. */
  duePresses(): readonly Sequence[] {
    return [...this.#decoding, ...this.#prefilling].filter((sequence) => sequence.pressing?.next === sequence.computed);
  }

  /** The last-come sequence but this one gives its memory back, for the press of this one; false when it is alone. */
  giveWay(sequence: Sequence): boolean {
    const last = [...this.#decoding, ...this.#prefilling].findLast((other) => other !== sequence);
    if (last === undefined) return false;
    this.#preempt(last);
    return true;
  }

  /**
   * Whether one more step of a plan may follow `inFlight` steps that were submitted and not committed: every sequence is still in it and
   * short of its limit, nobody could join, and there is room, which is then reserved. When not, commit what is in flight and schedule.
   */
  extend(plan: DecodePlan, inFlight: number): boolean {
    if (plan !== this.#plan || this.#decoding.length !== plan.sequences.length || this.#prefilling.length > 0) return false;
    if (plan.sequences.some((sequence) => sequence.status === "finished" || sequence.tokens + inFlight >= this.#limit(sequence))) return false;
    if (plan.sequences.some(({ pressing, computed }) => pressing !== null && pressing.next !== null && computed + inFlight >= pressing.next)) return false;
    if (this.#startable() !== null) return false;
    return plan.sequences.every((sequence) => this.#tables.reserve(sequence.slot, inFlight + 1));
  }

  /** `outcomes`: one for each part with `sample`, in order. */
  commitMixed(plan: MixedPlan, outcomes: readonly Outcome[]): void {
    this.#check(plan, plan.parts.filter((part) => part.sample).length, outcomes.length);
    this.#plan = null;
    let next = 0;
    for (const { sequence, count, sample } of plan.parts) {
      const outcome = sample ? outcomes[next++]! : null;
      if (sequence.status === "finished") continue;
      this.#advance(sequence, count, false);
      if (outcome === null) continue;
      const at = this.#prefilling.indexOf(sequence);
      if (at >= 0) this.#decoding.push(...this.#prefilling.splice(at, 1));
      this.#append(sequence, outcome);
    }
  }

  /** Whether there is room for `tokens` more of a sequence, which is reserved then. Nobody gives way for it. */
  reserve(sequence: Sequence, tokens: number): boolean {
    return sequence.slot >= 0 && this.#tables.reserve(sequence.slot, tokens);
  }

  /** Most tokens that a sequence may still be given. */
  left(sequence: Sequence): number {
    return this.#limit(sequence) - sequence.tokens;
  }

  /**
   * A step of the plan in which each sequence may have got several tokens, in order; none behind one that finishes. The cache holds the
   * keys of all but the last.
   */
  commitRound(plan: DecodePlan, outcomes: readonly (readonly Outcome[])[]): void {
    this.#check(plan, plan.sequences.length, outcomes.length);
    this.#plan = null;
    plan.sequences.forEach((sequence, i) => {
      const got = outcomes[i]!, last = got.at(-1);
      if (sequence.status === "finished" || last === undefined) return;
      // All but the last are in the cache, so they are known before it is told of them.
      for (const { token } of got.slice(0, -1)) sequence.generated.push(token!);
      this.#advance(sequence, got.length, false);
      this.#append(sequence, last);
    });
  }

  /** The oldest step in flight has arrived. `outcomes`: one per sequence of the plan, in order; those of sequences that ended before are ignored. */
  commitDecode(plan: DecodePlan, outcomes: readonly Outcome[]): void {
    this.#check(plan, plan.sequences.length, outcomes.length);
    plan.sequences.forEach((sequence, i) => {
      if (sequence.status === "finished") return;
      this.#advance(sequence, 1, true);
      this.#append(sequence, outcomes[i]!);
    });
  }

  /** Room for the next token of those that decode, and for all tokens known of those that do not yet: a press takes reserved room away. */
  #haveRoom(): boolean {
    return this.#decoding.every((sequence) => this.#tables.reserve(sequence.slot, 1))
      && this.#prefilling.every((sequence) => this.#tables.reserve(sequence.slot, sequence.tokens + 1 - sequence.computed));
  }

  #planMixed(): MixedPlan | null {
    let budget = Math.max(1, this.#prefillChunk - this.#decoding.length);
    const chunks: StepPart[] = [];
    const take = (sequence: Sequence) => {
      const start = sequence.computed, left = sequence.tokens - start;
      const count = Math.min(budget, left, (sequence.pressing?.next ?? Infinity) - start); // what follows reads what the press leaves
      if (count <= 0) throw new Error(`Scheduler: the press of sequence ${sequence.id} is due at ${start} tokens`);
      chunks.push({ sequence, start, count, sample: count === left });
      budget -= count;
    };
    for (const sequence of this.#prefilling) if (budget > 0) take(sequence);
    while (budget > 0) {
      const sequence = this.#admit();
      if (sequence === null) break;
      take(sequence);
    }
    if (chunks.length === 0) return null;
    const decodes = this.#decoding.map((sequence): StepPart => ({ sequence, start: sequence.computed, count: 1, sample: true }));
    return { kind: "mixed", parts: [...decodes, ...chunks] };
  }

  /**
   * The first of the waiting, if a sequence and the cache have room for its tokens and one more, and beyond that a block for every running
   * table to grow by: without these the newcomer would be preempted, and its prefill lost, a few tokens later.
   */
  #startable(): { sequence: Sequence; chain: ReturnType<PrefixCache["match"]> } | null {
    const sequence = this.#waiting[0];
    if (sequence === undefined || this.running >= this.#maxSequences) return null;
    const tables = this.#tables;
    const growing = [...this.#decoding, ...this.#prefilling].map((other) => {
      const soon = Math.min(other.tokens + 1 + tables.blockSize, this.#limit(other));
      return { slot: other.slot, tokens: soon - other.computed };
    });
    // At least one token must go through the model, for its logits, and all that a press must be shown.
    const { next, firstQuery } = sequence.pressing ?? { next: null, firstQuery: Infinity };
    const chain = this.#prefix?.match((i) => sequence.tokenAt(i), Math.min(sequence.tokens - 1, firstQuery, (next ?? Infinity) - 1)) ?? [];
    const shared = tables instanceof BlockTables
      ? chain.reduce((sum, { blocks }) => sum + blocks.reduce((held, id) => held + (tables.pool.owners(id) > 1 ? 1 : 0), 0), 0) : 0;
    return tables.hasRoom(sequence.tokens + 1 + this.#pressSlack(sequence), this.#limit(sequence), growing, shared) ? { sequence, chain } : null;
  }

  #admit(): Sequence | null {
    const next = this.#startable();
    if (next === null) return null;
    const { sequence, chain } = next;
    const tables = this.#tables;
    const slot = tables.open(this.#limit(sequence));
    if (slot === null) return null;
    if (tables instanceof BlockTables && chain.length > 0) tables.adopt(slot, chain.map(({ blocks }) => blocks));
    const cached = chain.length * tables.blockSize;
    if (!tables.reserve(slot, sequence.tokens + 1 - cached)) {
      tables.close(slot);
      return null;
    }
    this.#prefix?.touch(chain);
    if (sequence.preemptions === 0) {
      this.#prefix?.count(sequence.tokens, cached);
      sequence.cachedTokens = cached;
    }
    this.#waiting.shift();
    this.#prefilling.push(sequence);
    sequence.slot = slot;
    sequence.computed = cached;
    sequence.prefixNode = chain.at(-1) ?? null;
    sequence.prefixBlocks = chain.length;
    sequence.admitted = true;
    sequence.status = "running";
    return sequence;
  }

  /** The last-come sequence, or this one, leaves. Its generated tokens are computed again with the prompt, as one longer prompt. */
  #preempt(sequence = (this.#prefilling.at(-1) ?? this.#decoding.at(-1))!): void {
    for (const list of [this.#prefilling, this.#decoding]) if (list.includes(sequence)) list.splice(list.indexOf(sequence), 1);
    this.#leaveCache(sequence);
    sequence.pressing?.reset();
    sequence.computed = 0;
    sequence.status = "waiting";
    sequence.preemptions++;
    this.#preemptions++;
    this.#waiting.unshift(sequence);
  }

  #leaveCache(sequence: Sequence): void {
    if (sequence.slot < 0) return;
    const chain = [];
    for (let node = sequence.prefixNode; node !== null; node = node.parent) if (this.#prefix!.has(node)) chain.unshift(node);
    this.#prefix?.touch(chain);
    sequence.prefixNode = null;
    this.#tables.close(sequence.slot);
    sequence.slot = -1;
  }

  #check(plan: StepPlan, sampled: number, outcomes: number): void {
    if (plan !== this.#plan) throw new Error("Scheduler: the plan committed is not the one scheduled last");
    if (outcomes !== sampled) throw new Error(`Scheduler: ${outcomes} outcomes for a plan that samples ${sampled} sequences`);
  }

  /** `count` more tokens are in the cache; blocks that are full now may be found by others. */
  #advance(sequence: Sequence, count: number, onGpu: boolean): void {
    const tables = this.#tables;
    tables.advance(sequence.slot, count, { onGpu });
    sequence.computed += count;
    if (this.#prefix === null || !(tables instanceof BlockTables)) return;
    while ((sequence.prefixBlocks + 1) * tables.blockSize <= sequence.computed) {
      const parent: typeof sequence.prefixNode = sequence.prefixNode;
      if (parent === null ? sequence.prefixBlocks > 0 : !this.#prefix.has(parent)) return; // what comes before has been given up
      const blocks = tables.blocksAt(sequence.slot, sequence.prefixBlocks);
      if (blocks === null) return;
      sequence.prefixNode = this.#prefix.add(parent, (i) => sequence.tokenAt(i), sequence.prefixBlocks * tables.blockSize, blocks);
      sequence.prefixBlocks++;
    }
  }

  #append(sequence: Sequence, { token, finish }: Outcome): void {
    if (token !== null) sequence.generated.push(token);
    else if (finish === null) throw new Error(`Scheduler: sequence ${sequence.id} neither has a token nor finishes`);
    if (finish !== null) this.finish(sequence, finish);
    else if (sequence.tokens >= this.#limit(sequence)) this.finish(sequence, "length");
  }

  /** Tokens whose room one layer takes at most: survivors of a press move into fresh blocks, layer by layer. */
  #pressSlack(sequence: Sequence): number {
    if (sequence.pressing === null) return 0;
    const { blockSize, layers } = this.#tables;
    return Math.ceil(Math.ceil(this.#limit(sequence) / blockSize) / layers) * blockSize;
  }

  /** Tokens of prompt and continuation at which the sequence ends. */
  #limit(sequence: Sequence): number {
    return Math.min(sequence.prompt.length + sequence.options.maxNewTokens, this.#maxModelLen);
  }
}
