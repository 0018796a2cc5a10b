/**
 * Rounds of speculative decoding (Leviathan et al. 2023, Chen et al. 2023): the draft proposes up to K tokens for each sequence, the target
 * scores them and the last known one in a single forward, and kernels/accept.ts says on the GPU which of them stand and what follows. Only the
 * verdict comes back: ids of the accepted tokens, and one more. Nothing has to be undone: what was written behind the accepted tokens is not
 * counted, and the next round writes over it. Sequences of a batch are drafted for and accepted each by itself.
 */

import { ContextLengthError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { median } from "../engine/median.ts";
import { Recorder, type Recording } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { accept, acceptScratch, MAX_DRAFTED } from "../kernels/accept.ts";
import type { BatchRow } from "../kernels/batch.ts";
import { placeDrafted } from "../kernels/place_drafted.ts";
import { packSampling, SAMPLING_WORDS } from "../kernels/sample.ts";
import type { CacheTables } from "./cache_tables.ts";
import type { SpeculationCosts } from "./draft.ts";
import { Drafter, type Running } from "./drafter.ts";
import type { Sequence } from "./sequence.ts";
import type { RoundTimes } from "./speculation.ts";

/** What a round is for: a sequence, and how many tokens to draft for it (0: none). */
export interface Wanted { readonly sequence: Sequence; readonly k: number }

export interface Verdict {
  readonly drafted: number;
  readonly accepted: number;
  /** The accepted tokens and the one behind them; NO_TOKEN where logits were not finite. */
  readonly tokens: readonly number[];
}

interface Buffers {
  readonly drafted: Tensor;
  readonly rounds: Tensor;
  readonly sampling: Tensor;
  readonly out: Tensor;
  readonly scratch: Tensor;
  readonly staging: GPUBuffer;
}

export class Speculator {
  readonly #gpu: Gpu;
  readonly #target: Running;
  /** Null: drafts come from the text. */
  readonly #draft: Drafter | null;
  readonly #vocab: number;
  readonly #buffers: Buffers;
  readonly #recordings = new Map<string, Promise<Recording>>();
  #place: Promise<Recording> | null = null;
  #verdictAt = 0;

  /** Rows that one verification may have: sequences and what is drafted for them. */
  get rows(): number { return this.#target.runner.samples; }

  /** Throws UsageError where this adapter cannot bind what tokens of a whole batch would be drawn from. */
  checkDraws(): void {
    if (this.#draft === null) return;
    const { samples } = this.#draft.running.runner, each = MAX_DRAFTED * this.#vocab * 4;
    if (samples * each <= this.#gpu.maxBinding) return;
    throw new UsageError(`generate: to draw drafted tokens for ${samples} sequences takes ${samples * each} bytes, but this adapter binds at most ${this.#gpu.maxBinding}: ` +
      `load with maxSequences ${Math.floor(this.#gpu.maxBinding / each / 8) * 8} or less, or decode with temperature 0`);
  }

  static async create(gpu: Gpu, target: Running, draft: Running | null, vocab: number): Promise<Speculator> {
    const { runner, cache } = target, sequences = draft?.runner.samples ?? cache.tables.slots;
    const words = (label: string, ...shape: number[]): Promise<Tensor> => gpu.tensor("activations", shape, "u32", `speculation: ${label}`);
    const out = await words("verdicts", sequences, MAX_DRAFTED + 2);
    const drafter = draft === null ? null : await Drafter.create(gpu, runner, draft, vocab);
    return new Speculator(gpu, target, drafter, vocab, {
      out, scratch: await words("laws of rows", ...acceptScratch(runner.scored.logits.shape[0]!, MAX_DRAFTED, sequences)),
      rounds: await words("rounds", sequences, 4), sampling: await words("sampling", sequences, SAMPLING_WORDS),
      drafted: drafter === null ? await words("drafted", MAX_DRAFTED, runner.rows) : drafter.drafted,
      staging: await gpu.createBuffer("staging", sequences * (MAX_DRAFTED + 2) * 4, "verdicts", GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST),
    });
  }

  private constructor(gpu: Gpu, target: Running, draft: Drafter | null, vocab: number, buffers: Buffers) {
    this.#gpu = gpu;
    this.#target = target;
    this.#draft = draft;
    this.#vocab = vocab;
    this.#buffers = buffers;
  }

  /**
   * One round. Room for k + 1 tokens of each sequence is reserved in the target's cache. `captured`: for presses. Where the draft's cache has no
   * room, nothing is drafted. `first`: no round stood directly before this one, whose verdict this would be the answer to.
   * Null when a sequence has ended before its tokens were submitted: schedule anew.
   */
  async round(wanted: readonly Wanted[], captured: boolean, first: boolean): Promise<{ verdicts: Verdict[]; times: RoundTimes } | null> {
    const started = performance.now();
    if (first) this.#verdictAt = 0;
    // Those that are drafted for come first: the draft's batch and the target's count them alike.
    const slots = new Map(wanted.map(({ sequence }) => [sequence, sequence.slot])); // as they are now: a sequence may end at any time
    const proposals = new Map<Sequence, readonly number[]>();
    for (const { sequence, k } of wanted) if (k > 0 && this.#draft === null) proposals.set(sequence, propose(sequence, k));
    const counts = new Map(wanted.map(({ sequence, k }) => [sequence, this.#draft === null ? proposals.get(sequence)?.length ?? 0 : k]));
    const drafting = wanted.map(({ sequence }) => sequence).filter((sequence) => counts.get(sequence)! > 0);
    if (this.#draft !== null) for (const sequence of await this.#draft.follow(drafting, slots)) counts.set(sequence, 0);
    const sequences = wanted.map(({ sequence }) => sequence).sort((a, b) => Number(counts.get(b)! > 0) - Number(counts.get(a)! > 0));
    const ks = sequences.map((sequence) => counts.get(sequence)!);
    const draws = sequences.some(({ options }, i) => options.temperature > 0 && ks[i]! > 0);
    const adjusted = sequences.some((sequence) => sequence.adjusted);
    const count = ks.filter((k) => k > 0).length;
    let drafted = started, counted = 0;
    if (this.#draft === null) {
      if (count > 0) this.#placeProposals(sequences, proposals);
    } else if (count > 0) {
      counted = await this.#draft.draft(sequences.slice(0, count), Math.max(...ks), draws, adjusted, slots);
      void this.#gpu.device.queue.onSubmittedWorkDone().then(() => { drafted = performance.now(); }, () => {});
    }

    const { cache, runner } = this.#target;
    await cache.sync();
    const judge = await this.#judge(draws && this.#draft !== null, adjusted), place = await (this.#place ??= this.#recordPlace());
    if (sequences.some(({ status }) => status !== "running")) {
      this.#draft?.keep(sequences.map((sequence, s) => [slots.get(sequence)!, ks[s]!, 0]));
      return null;
    }
    const rows: BatchRow[] = [], rounds = new Uint32Array(sequences.length * 4);
    sequences.forEach((sequence, s) => {
      const { computed } = sequence, slot = slots.get(sequence)!;
      rounds.set([rows.length, ks[s]!, sequence.positionOf(computed), slot], 4 * s);
      for (let i = 0; i <= ks[s]!; i++) rows.push({ id: i === 0 ? sequence.tokenAt(computed) : 0, position: sequence.positionOf(computed + i), sequence: slot, offset: i });
    });
    runner.writeBatch("prefill", rows, rows.map((_, row) => row), []);
    this.#gpu.upload(this.#buffers.rounds.buffer, 0, rounds);
    this.#gpu.upload(this.#buffers.sampling.buffer, 0, packSampling(sequences.map(({ options }) => options), sequences.length));
    const submitted = performance.now();
    await runner.verify(rows.length, sequences.length, captured, place, judge, (encoder) => { this.#copyVerdicts(encoder, sequences.length); });
    const words = await this.#read(sequences.length);
    const arrived = performance.now();

    const verdicts = new Map<Sequence, Verdict>();
    sequences.forEach((sequence, s) => {
      const at = s * (MAX_DRAFTED + 2), accepted = words[at]!;
      verdicts.set(sequence, { drafted: ks[s]!, accepted, tokens: Array.from(words.subarray(at + 1, at + 2 + accepted)) });
    });
    // The draft has read the last known token and what it proposed, but its last proposal.
    this.#draft?.keep(sequences.map((sequence, s) => [slots.get(sequence)!, ks[s]!, Math.min(verdicts.get(sequence)!.accepted + 1, ks[s]!) - counted]));
    const hostMs = submitted - (this.#verdictAt === 0 ? started : this.#verdictAt);
    this.#verdictAt = arrived;
    return {
      verdicts: wanted.map(({ sequence }) => verdicts.get(sequence)!),
      times: { draftMs: drafted - started, verifyMs: arrived - drafted, hostMs },
    };
  }

  /** Where the text proposed: a column for each sequence. */
  #placeProposals(sequences: readonly Sequence[], proposals: ReadonlyMap<Sequence, readonly number[]>): void {
    const { drafted } = this.#buffers, pitch = drafted.shape[1]!;
    const words = new Uint32Array(MAX_DRAFTED * pitch);
    sequences.forEach((sequence, s) => { proposals.get(sequence)?.forEach((id, i) => { words[i * pitch + s] = id; }); });
    this.#gpu.upload(drafted.buffer, drafted.offset, words);
  }

  #recordPlace(): Promise<Recording> {
    const recorder = new Recorder(this.#gpu), { drafted, rounds } = this.#buffers;
    placeDrafted(recorder, { drafted, rounds, batch: this.#target.runner.scored.batch, vocab: this.#vocab });
    return recorder.finish("place drafted tokens");
  }

  #judge(draws: boolean, adjusted: boolean): Promise<Recording> {
    const key = `${draws} ${adjusted}`;
    let recording = this.#recordings.get(key);
    if (recording === undefined) {
      const recorder = new Recorder(this.#gpu), { runner } = this.#target, { drafted, rounds, sampling, out, scratch } = this.#buffers;
      accept(recorder, {
        logits: runner.scored.logits, drafted, rounds, sampling, out, scratch,
        ...(draws && { draftLogits: this.#draft!.logits! }), ...(adjusted && { adjust: runner.adjust! }),
      });
      this.#recordings.set(key, recording = recorder.finish(`accept${draws ? ", drawn" : ""}${adjusted ? ", adjusted" : ""}`));
    }
    return recording;
  }

  /**
   * What rounds cost here with one sequence of `context` tokens: medians of a few tries each. Nothing else may run, and the cache must have
   * room. What the sequence holds means nothing.
   */
  async measure(context: number): Promise<SpeculationCosts> {
    const steps = 12;
    const decodeMs = await this.#timeSteps(this.#target, context, steps), draftMs = this.#draft === null ? 0 : await this.#timeSteps(this.#draft.running, context, steps);
    const { cache, runner } = this.#target, { tables } = cache;
    const slot = openAt(tables, context, MAX_DRAFTED + 1);
    const verifyMs: number[] = [];
    try {
      await cache.sync();
      const judge = await this.#judge(false, false), place = await (this.#place ??= this.#recordPlace());
      for (let rows = 1; rows <= Math.min(MAX_DRAFTED + 1, this.rows); rows++) {
        const tries: number[] = [];
        for (let i = 0; i < 5; i++) {
          const from = performance.now();
          const batch = Array.from({ length: rows }, (_, offset): BatchRow => ({ id: 0, position: context + offset, sequence: slot, offset }));
          runner.writeBatch("prefill", batch, batch.map((_, row) => row), []);
          this.#gpu.upload(this.#buffers.rounds.buffer, 0, Uint32Array.of(0, rows - 1, context, slot));
          this.#gpu.upload(this.#buffers.sampling.buffer, 0, packSampling([{ temperature: 0, topP: 1, topK: 0, seed: 0 }], 1));
          await runner.verify(rows, 1, false, place, judge, (encoder) => { this.#copyVerdicts(encoder, 1); });
          await this.#read(1);
          tries.push(performance.now() - from);
        }
        verifyMs.push(median(tries.slice(1)));
      }
    } finally {
      tables.close(slot);
    }
    return { decodeMs, draftMs, verifyMs, context };
  }

  /** Milliseconds of a decode step, many of them in a row. */
  async #timeSteps({ cache, runner }: Running, context: number, steps: number): Promise<number> {
    const tries: number[] = [];
    for (let i = 0; i < 4; i++) {
      const slot = openAt(cache.tables, context, steps);
      try {
        await cache.sync();
        runner.writeBatch("decode", [{ id: 0, position: context, sequence: slot, offset: 0 }], [0], [{ temperature: 0, topP: 1, topK: 0, seed: 0 }]);
        const step = await runner.drafter(1);
        const from = performance.now();
        for (let n = 0; n < steps; n++) step([context + n + 1]);
        await this.#gpu.sync();
        tries.push((performance.now() - from) / steps);
      } finally {
        cache.tables.close(slot);
      }
    }
    return median(tries.slice(1));
  }

  #copyVerdicts(encoder: GPUCommandEncoder, sequences: number): void {
    const { out, staging } = this.#buffers;
    encoder.copyBufferToBuffer(out.buffer, out.offset, staging, 0, sequences * (MAX_DRAFTED + 2) * 4);
  }

  async #read(sequences: number): Promise<Uint32Array> {
    const { staging } = this.#buffers, bytes = sequences * (MAX_DRAFTED + 2) * 4;
    await this.#gpu.map(staging);
    const words = new Uint32Array(staging.getMappedRange(0, bytes).slice(0));
    staging.unmap();
    this.#gpu.check();
    return words;
  }
}

/** What the text so far proposes to follow it. */
function propose(sequence: Sequence, k: number): readonly number[] {
  const text = sequence.speculation?.text;
  if (text === null || text === undefined) return [];
  return text.propose(Array.from({ length: sequence.tokens }, (_, i) => sequence.tokenAt(i)), k).slice(0, k);
}

/** A slot that holds `context` tokens of whatever lies there, and has room for `more`. Throws when there is no room. */
function openAt(tables: CacheTables, context: number, more: number): number {
  const slot = tables.open(context + more);
  if (slot === null || !tables.reserve(slot, context + more)) {
    if (slot !== null) tables.close(slot);
    throw new ContextLengthError(`speculation: ${context + more} tokens do not fit the KV cache: raise kvMemory`);
  }
  tables.advance(slot, context);
  return slot;
}
