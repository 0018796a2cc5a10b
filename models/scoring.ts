/**
 * Runs the windows of a perplexity protocol through a model's real path, the products, cache and chunks of generation, and scores their
 * tokens on the GPU (kernels/nll.ts): what comes back is a few words per token, never logits. A second model may run beside the first:
 * then its logits cross the host one small batch of rows at a time, which is what lets two devices be compared in flat memory, and the
 * divergence is made on the GPU of the first.
 */

import { ContextLengthError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { BatchRow } from "../kernels/batch.ts";
import type { KvCache } from "./kv_cache.ts";
import { checkAborted, type ComparedScores, type CompletePerplexityOptions, type Scores, type Window } from "./perplexity.ts";
import type { Press } from "./press.ts";
import type { Presser } from "./presser.ts";
import { Pressing } from "./pressing.ts";
import type { Runner } from "./runner.ts";
import { Scorer, STEPS } from "./scorer.ts";
import { Tally } from "./tally.ts";

/** What of a loaded model runs windows. */
export interface Place { readonly gpu: Gpu; readonly cache: KvCache; readonly runner: Runner; readonly presser: Presser }

/**
 * Who reads a window: the model that is measured, which a press may act on, and the base beside it. The base may be the same model without a
 * press; then both read in one pass, the base's rows behind the others.
 */
interface Sides {
  readonly own: Place;
  readonly base: Place | null;
  readonly scorer: Scorer;
  /** Of a base elsewhere whose decode steps need their next tokens. */
  readonly baseScorer: Scorer | null;
  readonly press: Press | null;
}

/** Scores every window of `tokens` (with the prefix, where there is one) in order. Throws NonFiniteLogitsError naming the token. */
export function scoreWindows(
  call: string, own: Place, tokens: readonly number[], windows: readonly Window[], options: CompletePerplexityOptions,
): Promise<Scores> {
  return run(new Tally(call, windows, options, false), own, null, tokens, windows, options);
}

/** The same beside `base`, which reads the same windows without a press: another model, or `own` itself. */
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
  let baseScorer: Scorer | null = null;
  try {
    if (base !== null && base.gpu !== own.gpu && decode) baseScorer = await Scorer.create(base, { against: false, decode });
    if (options.press !== null) own.presser.checkPrompt(new Pressing(options.press, decode ? 1 : options.context));
    const sides = { own, base, scorer, baseScorer, press: options.press };
    for (let done = 0; done < windows.length;) {
      checkAborted(tally.call, options.signal);
      done += decode ? await decodeWindows(sides, tokens, windows, done, tally, options) : await readWindow(sides, tokens, windows, done, tally, options);
      options.onProgress(done, windows.length);
    }
    return tally;
  } finally {
    scorer.close();
    baseScorer?.close();
  }
}

/** A sequence of a window in the cache of a place. */
interface Reader { readonly place: Place; readonly slot: number; readonly pressing: Pressing | null }

/** Opens a sequence of `length` tokens with all its room; null when there is none. */
function open(place: Place, length: number, pressing: Pressing | null = null): Reader | null {
  const { cache: { tables }, presser } = place;
  const slot = tables.open(length);
  if (slot === null) return null;
  if (tables.reserve(slot, length)) {
    presser.watch(slot, pressing);
    return { place, slot, pressing };
  }
  tables.close(slot);
  return null;
}

/** Gives the memory back. */
function close({ place: { cache, presser }, slot }: Reader): void {
  presser.watch(slot, null);
  cache.tables.close(slot);
}

function noRoom(call: string, tokens: number): ContextLengthError {
  return new ContextLengthError(`${call}: ${tokens} tokens do not fit the KV cache: raise kvMemory`);
}

/** Rows of the next tokens of a reader. */
function rowsOf({ slot, pressing }: Reader, ids: readonly number[], from: number): BatchRow[] {
  return ids.map((id, offset) => ({ id, position: from + offset - (pressing?.shift ?? 0), sequence: slot, offset }));
}

/** A press takes reserved room away; and lets it act where it is due. */
async function goOn(call: string, { place: { presser, cache }, slot, pressing }: Reader, read: number, left: number): Promise<void> {
  if (pressing?.next === read) await presser.act(slot, pressing, () => false);
  if (!cache.tables.reserve(slot, left)) throw noRoom(call, read + left);
}

/** Places, each with its readers: two of the same place share its passes. */
function byPlace(readers: readonly Reader[]): Reader[][] {
  return [...Map.groupBy(readers, ({ place }) => place.gpu).values()];
}

/** One window through prefill, in chunks; rows are scored in batches of as many as the model samples at a time. Returns 1. */
async function readWindow(
  { own, base, scorer, press }: Sides, tokens: readonly number[], windows: readonly Window[], index: number, tally: Tally, { context }: CompletePerplexityOptions,
): Promise<number> {
  const { from: first, scored, to } = windows[index]!;
  const readers: Reader[] = [];
  try {
    const pressing = press === null ? null : new Pressing(press, context);
    for (const [place, pressed] of base === null ? [[own, pressing] as const] : [[own, pressing] as const, [base, null] as const]) {
      const reader = open(place, to - 1 - first, pressed);
      if (reader === null) throw noRoom(tally.call, to - 1 - first);
      readers.push(reader);
    }
    const groups = byPlace(readers), beside = base !== null && groups.length === 1;
    const rows = Math.min(...groups.map((group) => Math.floor(group[0]!.place.runner.rows / group.length)));
    const samples = Math.min(...groups.map((group) => group[0]!.place.runner.samples));
    for (let start = first; start < to - 1;) {
      for (const reader of readers) await goOn(tally.call, reader, start - first, to - 1 - start);
      const end = Math.min(start + rows, to - 1, first + (pressing?.next ?? Infinity)), length = end - start;
      const ids = tokens.slice(start, end);
      for (const group of groups) {
        const { cache, runner, presser } = group[0]!.place;
        await cache.sync();
        runner.writeBatch("prefill", group.flatMap((reader) => rowsOf(reader, ids, start - first)), [], []);
        await runner.forward(length * group.length, presser.captures(group));
      }
      // Token t is scored by the row of the token before it.
      for (let group = Math.max(start, scored - 1); group < end; group += STEPS * samples) {
        const last = Math.min(group + STEPS * samples, end);
        const steps = batches(last - group, samples).map(([a, b]) => range(group + a, group + b));
        scorer.expect(steps.map((ats) => ats.map((at) => tokens[at + 1]!)));
        for (const [step, ats] of steps.entries()) {
          const named = ats.map((at) => at - start);
          if (base !== null) {
            base.runner.writeSamples(beside ? named.map((row) => row + length) : named);
            if (beside) await base.runner.keepLogits(named.length, scorer.base);
            else await scorer.against(await base.runner.readLogits(named.length));
          }
          own.runner.writeSamples(named, step);
          await own.runner.score(named.length, scorer.behind);
        }
        const { words, word } = await scorer.read(steps.length);
        steps.forEach((ats, step) => { ats.forEach((at, sample) => { tally.take(index, at + 1, words, word(step, sample)); }); });
      }
      for (const { place, slot } of readers) place.cache.tables.advance(slot, length);
      start = end;
    }
    if (pressing !== null) tally.presses.push(pressing.report());
  } finally {
    for (const reader of readers) close(reader);
  }
  return 1;
}

/** Windows of one length, from `index` on, token by token as one batch: as many as follow each other and have room. Returns how many. */
async function decodeWindows(
  { own, base, scorer, baseScorer, press }: Sides, tokens: readonly number[], windows: readonly Window[], index: number, tally: Tally,
  { signal }: CompletePerplexityOptions,
): Promise<number> {
  const lengthOf = (window: Window | undefined): number => (window === undefined ? 0 : window.to - 1 - window.from);
  const length = lengthOf(windows[index]), beside = base !== null && base.gpu === own.gpu;
  const samples = Math.min(Math.floor(own.runner.samples / (beside ? 2 : 1)), base?.runner.samples ?? Infinity);
  if (samples < 1) throw new UsageError(`${tally.call}: a window and the same without a press take two sequences: load the model with maxSequences 2 or more`);
  const readers: Reader[] = [], baseReaders: Reader[] = [];
  const all = (): Reader[] => [...readers, ...baseReaders];
  try {
    while (readers.length < samples && lengthOf(windows[index + readers.length]) === length) {
      const reader = open(own, length, press === null ? null : new Pressing(press, 1));
      const beneath = base === null || reader === null ? null : open(base, length);
      if (reader !== null && (base === null || beneath !== null)) readers.push(reader);
      else if (reader !== null) close(reader);
      if (beneath !== null) baseReaders.push(beneath);
      if (reader === null || (base !== null && beneath === null)) break;
    }
    const count = readers.length;
    if (count === 0) throw noRoom(tally.call, length);
    const firsts = range(index, index + count).map((window) => windows[window]!.from);
    for (let start = 0; start < length;) {
      checkAborted(tally.call, signal);
      for (const reader of all()) await goOn(tally.call, reader, start, length - start);
      const end = Math.min(start + STEPS, length, ...readers.map(({ pressing }) => pressing?.next ?? Infinity));
      const steppers: ((keys: number) => void)[] = [];
      for (const group of byPlace(all())) {
        const { cache, runner, presser } = group[0]!.place, behind = runner === own.runner ? scorer.behind : baseScorer!.behind;
        await cache.sync();
        const rows = group.flatMap((reader, i) => rowsOf(reader, [tokens[firsts[i % count]! + start]!], start));
        runner.writeBatch("decode", rows, rows.map((_, row) => row), []);
        const captured = presser.captures(group);
        steppers.push(group.length > count
          ? await runner.stepperBeside(group.length, behind, captured, scorer.base, count) : await runner.stepper(count, behind, captured));
      }
      const steps = range(start, end).map((position) => firsts.map((first) => tokens[first + position + 1]!));
      scorer.expect(beside ? steps.map((ids) => [...ids, ...ids]) : steps);
      baseScorer?.expect(steps);
      for (let position = start; position < end; position++) {
        if (base !== null && !beside) {
          steppers[1]!(position + 1);
          await scorer.against(await logitsOf(base, count));
        }
        steppers[0]!(position + 1);
      }
      const { words, word } = await scorer.read(steps.length);
      for (const { place, slot } of all()) place.cache.tables.advance(slot, end - start, { onGpu: true });
      steps.forEach((_, step) => {
        firsts.forEach((first, row) => { tally.take(index + row, first + start + step + 1, words, word(step, row)); });
      });
      start = end;
    }
    for (const { pressing } of readers) if (pressing !== null) tally.presses.push(pressing.report());
    return count;
  } finally {
    for (const reader of all()) close(reader);
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
  const reader = open(own, ids.length);
  if (reader === null) throw noRoom("logits", ids.length);
  const { slot } = reader;
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
    close(reader);
  }
}

/** Half-open ranges of at most `size` that make up 0 … count. */
function batches(count: number, size: number): (readonly [number, number])[] {
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min((i + 1) * size, count)] as const);
}

function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, i) => first + i);
}
