/**
 * Runs the windows of a perplexity protocol through a model's real path, the products, cache and chunks of generation, and scores their
 * tokens on the GPU (kernels/nll.ts): what comes back is a few words per token, never logits. A second model may run beside the first:
 * then its logits cross the host one small batch of rows at a time, which is what lets two devices be compared in flat memory, and the
 * divergence is made on the GPU of the first.
 */

import { ContextLengthError } from "../engine/errors.ts";
import type { Dtype } from "../engine/dtype.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Category } from "../engine/memory.ts";
import { Recorder, type Recording } from "../engine/recorder.ts";
import type { Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { advance } from "../kernels/attention.ts";
import { nll, NLL_WORDS } from "../kernels/nll.ts";
import type { KvCache } from "./kv_cache.ts";
import { checkAborted, type ComparedScores, type CompletePerplexityOptions, type Scores, type Window } from "./perplexity.ts";
import type { Runner } from "./runner.ts";
import { Tally } from "./tally.ts";

/** Batches of scores on the GPU at a time: how often the host waits for the device. */
const STEPS = 32;
/** Bytes of another model's logits that may wait in host memory for their upload. */
const UPLOADS = 32 << 20;

/** What of a loaded model runs windows. */
export interface Place { readonly gpu: Gpu; readonly cache: KvCache; readonly runner: Runner }

interface Buffers { readonly targets: Tensor; readonly out: Tensor; readonly base: Tensor | undefined }

/** The dispatch that scores samples, and its buffers: made for one measurement, closed after it. */
class Scorer {
  readonly behind: Recording;
  readonly #gpu: Gpu;
  readonly #buffers: Buffers;

  /** `decode`: it ends a decode step, in which each sequence goes on with its target. */
  static async create({ gpu, cache, runner }: Place, { against, decode }: { against: boolean; decode: boolean }): Promise<Scorer> {
    const { logits, batch } = runner.scored;
    const [samples, vocab] = logits.shape as [number, number];
    const made: Tensor[] = [];
    const make = async (category: Category, shape: Shape, dtype: Dtype, label: string): Promise<Tensor> => {
      const tensor = await gpu.tensor(category, shape, dtype, label);
      made.push(tensor);
      return tensor;
    };
    try {
      const targets = await make("activations", [STEPS, samples], "u32", "targets");
      const out = await make("logits", [STEPS, samples, against ? NLL_WORDS.against : NLL_WORDS.alone], "u32", "scores");
      const base = against ? await make("logits", [samples, vocab], "f32", "base logits") : undefined;
      const recorder = new Recorder(gpu);
      nll(recorder, { logits, targets, out, batch, base }, { feedback: decode });
      if (decode) advance(recorder, { view: cache.view, batch });
      return new Scorer(gpu, await recorder.finish("score"), { targets, out, base });
    } catch (error) {
      for (const { buffer } of made) gpu.destroyBuffer(buffer);
      throw error;
    }
  }

  private constructor(gpu: Gpu, behind: Recording, buffers: Buffers) {
    this.#gpu = gpu;
    this.behind = behind;
    this.#buffers = buffers;
  }

  /** The ids that samples are scored for in the next steps, at most STEPS; nothing submitted before may still need those of before. */
  expect(steps: readonly (readonly number[])[]): void {
    const width = this.#buffers.targets.shape[1]!;
    const words = new Uint32Array(steps.length * width);
    steps.forEach((ids, step) => { words.set(ids, step * width); });
    this.#gpu.upload(this.#buffers.targets.buffer, 0, words);
  }

  /** The other model's logits of the samples of the next step. */
  async against(logits: Float32Array): Promise<void> {
    this.#gpu.upload(this.#buffers.base!.buffer, 0, logits);
    await this.#gpu.flush(UPLOADS);
  }

  /** What the steps found, step by step; `word(step, sample)` is where a sample's words begin. */
  async read(steps: number): Promise<{ words: Uint32Array; word: (step: number, sample: number) => number }> {
    const [, samples, width] = this.#buffers.out.shape as [number, number, number];
    const words = await this.#gpu.readU32({ ...this.#buffers.out, shape: [steps, samples, width] });
    return { words, word: (step, sample) => (step * samples + sample) * width };
  }

  close(): void {
    for (const tensor of Object.values(this.#buffers)) if (tensor !== undefined) this.#gpu.destroyBuffer(tensor.buffer);
  }
}

/** A model in a measurement; the base has a scorer only where its decode steps need their next tokens. */
interface Side { readonly place: Place; readonly scorer: Scorer | null }
interface Sides { readonly own: Side & { readonly scorer: Scorer }; readonly base: Side | null }

/** Scores every window of `tokens` (with the prefix, where there is one) in order. Throws NonFiniteLogitsError naming the token. */
export function scoreWindows(
  call: string, own: Place, tokens: readonly number[], windows: readonly Window[], options: CompletePerplexityOptions,
): Promise<Scores> {
  return run(new Tally(call, windows, options, false), own, null, tokens, windows, options);
}

/** The same beside `base`, which reads the same windows. */
export async function compareWindows(
  call: string, own: Place, base: Place, tokens: readonly number[], windows: readonly Window[], options: CompletePerplexityOptions,
): Promise<ComparedScores> {
  const tally = new Tally(call, windows, options, true);
  await run(tally, own, base, tokens, windows, options);
  return tally;
}

async function run(
  tally: Tally, own: Place, base: Place | null, tokens: readonly number[], windows: readonly Window[], options: CompletePerplexityOptions,
): Promise<Tally> {
  const decode = options.protocol === "decode";
  const scorer = await Scorer.create(own, { against: base !== null, decode });
  let ofBase: Scorer | null = null;
  try {
    if (base !== null && decode) ofBase = await Scorer.create(base, { against: false, decode });
    const sides = { own: { place: own, scorer }, base: base && { place: base, scorer: ofBase } };
    for (let done = 0; done < windows.length;) {
      checkAborted(tally.call, options.signal);
      done += decode ? await decodeWindows(sides, tokens, windows, done, tally, options.signal) : await readWindow(sides, tokens, windows, done, tally);
      options.onProgress(done, windows.length);
    }
    return tally;
  } finally {
    scorer.close();
    ofBase?.close();
  }
}

/** Opens a sequence of `length` tokens with all its room, or gives null. */
function open({ cache: { tables } }: Place, length: number): number | null {
  const slot = tables.open(length);
  if (slot === null || tables.reserve(slot, length)) return slot;
  tables.close(slot);
  return null;
}

function noRoom(call: string, tokens: number): ContextLengthError {
  return new ContextLengthError(`${call}: ${tokens} tokens do not fit the KV cache: raise kvMemory`);
}

/** One window through prefill, in chunks; rows are scored in batches of as many as the model samples at a time. Returns 1. */
async function readWindow({ own, base }: Sides, tokens: readonly number[], windows: readonly Window[], index: number, tally: Tally): Promise<number> {
  const { from: first, scored, to } = windows[index]!;
  const sides = base === null ? [own] : [own, base];
  const rows = Math.min(...sides.map(({ place }) => place.runner.rows));
  const samples = Math.min(...sides.map(({ place }) => place.runner.samples));
  const slots: (number | null)[] = [];
  try {
    for (const { place } of sides) slots.push(open(place, to - 1 - first));
    if (slots.includes(null)) throw noRoom(tally.call, to - 1 - first);
    for (let start = first; start < to - 1; start += rows) {
      const end = Math.min(start + rows, to - 1), length = end - start;
      for (const [i, { place: { cache, runner } }] of sides.entries()) {
        await cache.sync();
        const batch = tokens.slice(start, end).map((id, offset) => ({ id, position: start - first + offset, sequence: slots[i]!, offset }));
        runner.writeBatch("prefill", batch, [], []);
        await runner.forward(length);
      }
      // Token t is scored by the row of the token before it.
      for (let group = Math.max(start, scored - 1); group < end; group += STEPS * samples) {
        const last = Math.min(group + STEPS * samples, end);
        const steps = batches(last - group, samples).map(([a, b]) => range(group + a, group + b));
        own.scorer.expect(steps.map((ats) => ats.map((at) => tokens[at + 1]!)));
        for (const [step, ats] of steps.entries()) {
          const named = ats.map((at) => at - start);
          if (base !== null) {
            base.place.runner.writeSamples(named);
            await own.scorer.against(await base.place.runner.readLogits(named.length));
          }
          own.place.runner.writeSamples(named, step);
          await own.place.runner.score(named.length, own.scorer.behind);
        }
        const { words, word } = await own.scorer.read(steps.length);
        steps.forEach((ats, step) => { ats.forEach((at, sample) => { tally.take(index, at + 1, words, word(step, sample)); }); });
      }
      sides.forEach(({ place }, i) => { place.cache.tables.advance(slots[i]!, length); });
    }
  } finally {
    sides.forEach(({ place }, i) => { if (typeof slots[i] === "number") place.cache.tables.close(slots[i]); });
  }
  return 1;
}

/** Windows of one length, from `index` on, token by token as one batch: as many as follow each other and have room. Returns how many. */
async function decodeWindows(
  { own, base }: Sides, tokens: readonly number[], windows: readonly Window[], index: number, tally: Tally, signal: AbortSignal | undefined,
): Promise<number> {
  const sides = base === null ? [own] : [own, base];
  const lengthOf = (window: Window | undefined): number => (window === undefined ? 0 : window.to - 1 - window.from);
  const length = lengthOf(windows[index]), samples = Math.min(...sides.map(({ place }) => place.runner.samples));
  const slots: number[][] = sides.map(() => []);
  try {
    while (slots[0]!.length < samples && lengthOf(windows[index + slots[0]!.length]) === length) {
      const opened = sides.map(({ place }) => open(place, length));
      opened.forEach((slot, i) => { if (slot !== null) slots[i]!.push(slot); });
      if (opened.includes(null)) break;
    }
    const count = Math.min(...slots.map((ofSide) => ofSide.length));
    if (count === 0) throw noRoom(tally.call, length);
    const firsts = range(index, index + count).map((window) => windows[window]!.from);
    const steppers = [];
    for (const [i, { place: { cache, runner }, scorer }] of sides.entries()) {
      await cache.sync();
      const rows = firsts.map((first, row) => ({ id: tokens[first]!, position: 0, sequence: slots[i]![row]!, offset: 0 }));
      runner.writeBatch("decode", rows, rows.map((_, row) => row), []);
      steppers.push(await runner.stepper(count, scorer!.behind));
    }
    for (const [start, end] of batches(length, STEPS)) {
      checkAborted(tally.call, signal);
      const steps = range(start, end).map((position) => firsts.map((first) => tokens[first + position + 1]!));
      for (const { scorer } of sides) scorer!.expect(steps);
      for (let position = start; position < end; position++) {
        if (base !== null) {
          steppers[1]!(position + 1);
          await own.scorer.against(await logitsOf(base.place, count));
        }
        steppers[0]!(position + 1);
      }
      const { words, word } = await own.scorer.read(steps.length);
      sides.forEach(({ place: { cache } }, i) => {
        for (const slot of slots[i]!.slice(0, count)) cache.tables.advance(slot, end - start, { onGpu: true });
      });
      steps.forEach((_, step) => {
        firsts.forEach((first, row) => { tally.take(index + row, first + start + step + 1, words, word(step, row)); });
      });
    }
    return count;
  } finally {
    sides.forEach(({ place }, i) => { for (const slot of slots[i]!) place.cache.tables.close(slot); });
  }
}

/** The logits that the last decode step made. */
function logitsOf({ gpu, runner }: Place, count: number): Promise<Float32Array> {
  const { logits } = runner.scored;
  return gpu.readF32({ ...logits, shape: [count, logits.shape[1]!] });
}

/** Logits [T, vocab] of every position of `ids`, written to `out`. */
export async function readAllLogits(own: Place, ids: readonly number[], out: Float32Array): Promise<void> {
  const { runner, cache } = own;
  const slot = open(own, ids.length);
  if (slot === null) throw noRoom("logits", ids.length);
  try {
    for (const [start, end] of batches(ids.length, runner.rows)) {
      await cache.sync();
      runner.writeBatch("prefill", ids.slice(start, end).map((id, i) => ({ id, position: start + i, sequence: slot, offset: i })), [], []);
      await runner.forward(end - start);
      for (const [first, last] of batches(end - start, runner.samples)) {
        runner.writeSamples(range(first, last));
        out.set(await runner.readLogits(last - first), (start + first) * (out.length / ids.length));
      }
      cache.tables.advance(slot, end - start);
    }
  } finally {
    cache.tables.close(slot);
  }
}

/** Half-open ranges of at most `size` that make up 0 … count. */
function batches(count: number, size: number): (readonly [number, number])[] {
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min((i + 1) * size, count)] as const);
}

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}
