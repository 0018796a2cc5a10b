/**
 * A model that drafts for another on the same device. It has a cache and a runner of its own; its slots are the target's. Before it drafts it
 * reads what it has missed of a sequence, the whole prompt at first. What it drafts stays on the GPU.
 */

import type { Gpu } from "../engine/gpu.ts";
import { Recorder, type Recording } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { MAX_DRAFTED } from "../kernels/accept.ts";
import type { BatchRow } from "../kernels/batch.ts";
import { placeDrafted } from "../kernels/place_drafted.ts";
import type { Adjust } from "../kernels/sample.ts";
import type { KvCache } from "./kv_cache.ts";
import type { Runner } from "./runner.ts";
import type { Sequence } from "./sequence.ts";

/** What the draft draws with differs from what its tokens are judged with. */
const DRAFT_SEED = 0x5bd1e995;

/** A model that can run. */
export interface Running { readonly cache: KvCache; readonly runner: Runner }

/** Slots of sequences as they were when a round began: a sequence may end at any time. */
export type Slots = ReadonlyMap<Sequence, number>;

/** What the draft's cache holds of the sequence in a slot. */
interface Held { readonly sequence: Sequence; readonly preemptions: number }

export class Drafter {
  readonly #gpu: Gpu;
  readonly #target: Runner;
  readonly #draft: Running;
  readonly #vocab: number;
  /** As `rounds` of kernels/place_drafted.ts, for the draft's own batch. */
  readonly #chain: Tensor;
  #next: Promise<Recording> | null = null;
  /** What drafted tokens were drawn from; made when anything is drawn. */
  #logits: Tensor | null = null;
  readonly #held = new Map<number, Held>();

  static async create(gpu: Gpu, target: Runner, draft: Running, vocab: number): Promise<Drafter> {
    return new Drafter(gpu, target, draft, vocab, await gpu.tensor("activations", [draft.runner.samples, 4], "u32", "speculation: chained steps"));
  }

  private constructor(gpu: Gpu, target: Runner, draft: Running, vocab: number, chain: Tensor) {
    this.#gpu = gpu;
    this.#target = target;
    this.#draft = draft;
    this.#vocab = vocab;
    this.#chain = chain;
  }

  get running(): Running { return this.#draft; }

  /** u32 [MAX_DRAFTED, rows]: token by token, a column for each sequence. */
  get drafted(): Tensor {
    const { sampled } = this.#draft.runner;
    return { ...sampled, shape: [MAX_DRAFTED, sampled.shape[1]!] };
  }

  /** f32 [MAX_DRAFTED, samples, vocab]; null while nothing was drawn. */
  get logits(): Tensor | null { return this.#logits; }

  /** Of what the draft has read in the last round, keep `count` tokens in a slot; the GPU has counted all. */
  keep(slots: readonly (readonly [slot: number, drafted: number, count: number])[]): void {
    for (const [slot, drafted, count] of slots) if (drafted > 0) this.#draft.cache.tables.advance(slot, count);
  }

  /** Let the draft read what it lacks of each sequence, all but the last token or the last two, and reserve room for what it will draft. Returns those without room. */
  async follow(sequences: readonly Sequence[], slots: Slots): Promise<Sequence[]> {
    const { cache: { tables }, cache, runner } = this.#draft;
    for (const [slot, { sequence, preemptions }] of this.#held) {
      if (sequence.slot === slot && sequence.preemptions === preemptions && sequence.status === "running") continue;
      tables.close(slot);
      this.#held.delete(slot);
    }
    const left: Sequence[] = [], lacking: { sequence: Sequence; slot: number; from: number; to: number }[] = [];
    for (const sequence of sequences) {
      const slot = slots.get(sequence)!;
      if (!this.#held.has(slot)) {
        if (tables.open(tables.maxTokens, slot) === null) { left.push(sequence); continue; }
        this.#held.set(slot, { sequence, preemptions: sequence.preemptions });
      }
      // Of a round that was given up, the draft may have read the last token already.
      if (tables.position(slot) > sequence.computed) tables.truncate(slot, sequence.computed);
      const from = tables.position(slot);
      if (!tables.reserve(slot, Math.min(tables.maxTokens - from, sequence.computed - from + MAX_DRAFTED))) { left.push(sequence); continue; }
      if (from < sequence.computed - (from > 0 ? 1 : 0)) lacking.push({ sequence, slot, from, to: sequence.computed });
    }
    while (lacking.length > 0) {
      const rows: BatchRow[] = [], read: { slot: number; count: number }[] = [];
      while (lacking.length > 0 && rows.length < runner.rows) {
        const part = lacking[0]!, { sequence, slot } = part, count = Math.min(part.to - part.from, runner.rows - rows.length);
        for (let i = 0; i < count; i++) rows.push({ id: sequence.tokenAt(part.from + i), position: part.from + i, sequence: slot, offset: i });
        read.push({ slot, count });
        part.from += count;
        if (part.from === part.to) lacking.shift();
      }
      await cache.sync();
      runner.writeBatch("prefill", rows, [], []);
      await runner.forward(rows.length);
      for (const { slot, count } of read) tables.advance(slot, count);
    }
    return left;
  }

  /**
   * Draft `most` tokens for each of these sequences, in `drafted`. `draws`: what they are drawn from is kept in `logits`. Returns how many of the
   * tokens read on the way the host has counted in each slot.
   */
  async draft(drafting: readonly Sequence[], most: number, draws: boolean, adjusted: boolean, slots: Slots): Promise<number> {
    const { cache, runner } = this.#draft, count = drafting.length;
    if (adjusted) await this.#shareAdjustments(drafting.map((sequence) => slots.get(sequence)!));
    const features = { adjusted, logprobs: false, captured: false };
    const sampling = drafting.map(({ options }) => ({ ...options, seed: (options.seed ^ DRAFT_SEED) >>> 0, logprobs: null }));
    const logits = draws ? this.#logits ??= await this.#makeLogits() : null;
    const keepLogits = logits === null ? undefined : (encoder: GPUCommandEncoder, step: number): void => {
      runner.copyLogits(encoder, { ...logits, offset: step * logits.shape[1]! * this.#vocab * 4 }, 0, count);
    };
    const rowOf = (sequence: Sequence, at: number, offset: number): BatchRow => (
      { id: at < sequence.tokens ? sequence.tokenAt(at) : 0, position: at, sequence: slots.get(sequence)!, offset }
    );
    let counted = 0;
    await cache.sync();
    const lacks = drafting.map((sequence) => sequence.computed - cache.tables.position(slots.get(sequence)!));
    const each = drafting.map((_, s) => s);
    if (lacks.some((tokens) => tokens > 0)) {
      // Some have had all accepted, and the draft has yet to read its own last proposal: it does so together with the token behind it.
      const rows = drafting.flatMap((sequence, s) => Array.from({ length: lacks[s]! + 1 }, (_, i) => rowOf(sequence, sequence.computed - lacks[s]! + i, i)));
      let last = -1;
      runner.writeBatch("prefill", rows, lacks.map((tokens) => (last += tokens + 1)), sampling);
      await runner.choose(rows.length, count, features, keepLogits && ((encoder) => { keepLogits(encoder, 0); }));
      drafting.forEach((sequence, s) => { cache.tables.advance(slots.get(sequence)!, lacks[s]! + 1); });
      counted = 1;
      await cache.sync();
    }
    runner.writeBatch("decode", drafting.map((sequence) => rowOf(sequence, sequence.computed + counted, 0)), each, sampling, counted);
    if (counted > 0) {
      // Sequence s goes on in row s with what was chosen in step 0.
      this.#gpu.upload(this.#chain.buffer, 0, Uint32Array.from(each.flatMap((s) => [s - 1, 1, 0, 0])));
      runner.apply(await (this.#next ??= this.#recordNext()), count);
    }
    const step = await runner.drafter(count, features);
    const longest = Math.max(...drafting.map(({ tokens }) => tokens));
    if (counted < most) step(Array.from({ length: most - counted }, (_, i) => longest + counted + i), keepLogits);
    return counted;
  }

  #makeLogits(): Promise<Tensor> {
    return this.#gpu.tensor("logits", [MAX_DRAFTED, this.#draft.runner.samples, this.#vocab], "f32", "speculation: draft logits");
  }

  /** The draft is penalized and biased as the target: its rows begin every round as the target's stand. */
  async #shareAdjustments(slots: readonly number[]): Promise<void> {
    const { runner } = this.#draft;
    await runner.provide({ adjusted: true, logprobs: false });
    const [from, to] = [this.#target.adjust!, runner.adjust!], rowBytes = this.#vocab * 4;
    const encoder = this.#gpu.device.createCommandEncoder();
    for (const slot of slots) {
      for (const name of ["counts", "bias"] as const satisfies readonly (keyof Adjust)[]) {
        encoder.copyBufferToBuffer(from[name].buffer, from[name].offset + slot * rowBytes, to[name].buffer, to[name].offset + slot * rowBytes, rowBytes);
      }
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
  }

  #recordNext(): Promise<Recording> {
    const recorder = new Recorder(this.#gpu);
    placeDrafted(recorder, { drafted: this.drafted, rounds: this.#chain, batch: this.#draft.runner.scored.batch, vocab: this.#vocab });
    return recorder.finish("go on with what was drafted");
  }
}
