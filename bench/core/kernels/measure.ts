/**
 * The run: every case is prepared and compiled, then checked against its twin on the buffers it is timed on, and only then timed. A wrong
 * one is never timed. A repetition is one compute pass with enough calls to stand far above the clock's resolution; those of all
 * cases (of a large run: of each two hundred, which stand side by side in its table) go in a seeded random order, so that what changes on
 * the machine meanwhile meets all alike.
 */

import { DawnlmError } from "../../../engine/errors.ts";
import type { Gpu } from "../../../engine/gpu.ts";
import { Recorder, submit, type Recording } from "../../../engine/recorder.ts";
import { Timestamps } from "../../../engine/timestamps.ts";
import { seeded, shuffled, summarise, type Summary } from "../stats.ts";
import { caseName, type KernelCase, type Prepared, type Verdict } from "./case.ts";
import { Workbench } from "./workbench.ts";

export type Clock = "timestamps" | "wall";

/** What became of a case. */
export interface Outcome {
  readonly case: KernelCase;
  readonly status: "measured" | "wrong" | "failed" | "unfinished";
  /** Why it is wrong or failed. */
  readonly reason: string | null;
  readonly checked: Verdict | null;
  /** Milliseconds until its pipelines were ready; null where an earlier case had compiled them. */
  readonly compileMs: number | null;
  readonly kernels: readonly string[];
  readonly clock: Clock;
  /** In one pass. */
  readonly calls: number;
  /** Seconds of one call. */
  readonly seconds: Summary | null;
  /** What is gone over again and again takes less than the last-level cache: it may have been measured, and not memory. */
  readonly cached: boolean;
}

export interface Measured {
  readonly outcomes: readonly Outcome[];
  readonly status: "complete" | "interrupted";
  readonly clock: Clock;
  /** Of each repetition, the cases in the order in which they ran, as indices of `outcomes`. */
  readonly order: readonly (readonly number[])[];
}

export interface MeasureOptions {
  readonly repetitions: number;
  readonly seed: number;
  /** Bytes of the last-level cache. */
  readonly cacheBytes: number;
  readonly signal: AbortSignal;
  readonly onStep: (label: string, done: number, total: number) => void;
}

/** Milliseconds of a pass: on a GPU a thousand times the resolution of its clock; a software adapter has none finer than the host's. */
const PASS_MS = { gpu: 1, software: 4 } as const;
const MOST_CALLS = 256;
/** Calls that are recorded for a case, each of which is a bind group. */
const MOST_RECORDED = 2048;
/** Cases whose repetitions are interleaved. All of them stay in memory, and searches of variants have thousands. */
const GROUP = 200;
const WARM_UPS = 1;
const CALIBRATIONS = 3;

/** Throws what the device reports: a latched error, its loss. Memory is given back whatever happens. */
export async function measure(gpu: Gpu, cases: readonly KernelCase[], options: MeasureOptions): Promise<Measured> {
  const timestamps = await Timestamps.create(gpu, 1), random = seeded(options.seed);
  const outcomes: Outcome[] = [], order: (readonly number[])[] = [];
  try {
    for (let first = 0; first < cases.length && !options.signal.aborted; first += GROUP) {
      const group = await measureGroup(gpu, timestamps, cases.slice(first, first + GROUP), random, { ...options, onStep: (label, done) => options.onStep(label, 2 * first + done, 2 * cases.length) });
      outcomes.push(...group.outcomes);
      order.push(...group.order.map((round) => round.map((i) => first + i)));
    }
    return { outcomes, status: options.signal.aborted ? "interrupted" : "complete", clock: timestamps === null ? "wall" : "timestamps", order };
  } finally {
    timestamps?.destroy();
  }
}

async function measureGroup(
  gpu: Gpu, timestamps: Timestamps | null, cases: readonly KernelCase[], random: () => number,
  { repetitions, cacheBytes, signal, onStep }: MeasureOptions,
): Promise<Pick<Measured, "outcomes" | "order">> {
  const bench = new Workbench(gpu, { cacheBytes, largest: cases.reduce((most, { binding }) => Math.max(most, binding), 0) });
  const order: number[][] = [];
  try {
    const timed: Timed[] = [];
    for (const [i, each] of cases.entries()) {
      if (signal.aborted) break;
      onStep(`checking ${caseName(each)}`, i, 0);
      timed.push(await Timed.create(bench, timestamps, each, repetitions + WARM_UPS));
    }
    const right = timed.flatMap((each, i) => (each.isRight ? [i] : []));
    for (let round = -WARM_UPS; round < repetitions && !signal.aborted; round++) {
      onStep(round < 0 ? "warming up" : `repetition ${round + 1} of ${repetitions}`, cases.length + Math.floor((cases.length * (round + WARM_UPS)) / (repetitions + WARM_UPS)), 0);
      const ran: number[] = [];
      for (const i of shuffled(right, random)) {
        if (signal.aborted) break;
        await timed[i]!.time(round >= 0);
        ran.push(i);
      }
      if (round >= 0) order.push(ran);
    }
    return { outcomes: timed.map((each) => each.outcome(cacheBytes)), order };
  } finally {
    await bench.close();
  }
}

interface Early extends Pick<Outcome, "reason" | "checked" | "compileMs" | "kernels"> { readonly status: "right" | "wrong" | "failed" }

/** A case on its way: what was prepared, what was recorded, and its samples. */
class Timed {
  readonly #bench: Workbench;
  readonly #timestamps: Timestamps | null;
  readonly #case: KernelCase;
  readonly #prepared: Prepared | null;
  readonly #early: Early;
  /** Each goes over other copies; passes take them in turn. */
  readonly #recordings: readonly Recording[];
  readonly #calls: number;
  readonly #seconds: number[] = [];
  #turn = 0;

  static async create(bench: Workbench, timestamps: Timestamps | null, each: KernelCase, passes: number): Promise<Timed> {
    const { gpu } = bench;
    const failed = (reason: string): Timed => new Timed(bench, timestamps, each, null, { status: "failed", reason, checked: null, compileMs: null, kernels: [] }, [], 1);
    let prepared: Prepared, first: Recording | null = null, compileMs: number | null = null;
    try {
      prepared = await each.prepare(bench);
      const known = gpu.pipelines.size, started = performance.now();
      if (prepared.record !== undefined) first = await record(gpu, prepared, 0, 1, caseName(each));
      if (gpu.pipelines.size > known) compileMs = performance.now() - started;
    } catch (error) {
      gpu.check(); // the device's own errors are nobody's case's
      if (error instanceof DawnlmError) return failed(error.message);
      throw error;
    }
    prepared.spoil();
    if (first !== null) submit(gpu, first, prepared.extent);
    else await prepared.run!();
    await gpu.sync();
    const checked = await prepared.compare();
    const early = { status: checked.wrong === null ? "right" as const : "wrong" as const, reason: checked.wrong, checked, compileMs, kernels: [...new Set(first?.kernels ?? [])] };
    if (checked.wrong !== null || first === null) return new Timed(bench, timestamps, each, prepared, early, [], 1);
    // The first passes of a pipeline are slow: caches are cold, and drivers finish compiling.
    let seconds = Infinity;
    for (let i = 0; i < CALIBRATIONS; i++) seconds = Math.min(seconds, await timePass(bench, timestamps, first, prepared));
    const calls = Math.min(MOST_CALLS, Math.max(1, Math.ceil(PASS_MS[gpu.adapter.software ? "software" : "gpu"] / 1000 / Math.max(seconds, 1e-7))));
    const recordings: Recording[] = [];
    // As many as there are passes, so that each finds copies that none has touched, where there are so many.
    const enough = Math.max(1, Math.min(passes, Math.floor(MOST_RECORDED / calls), Math.ceil(prepared.copies / calls)));
    for (let copy = 0; recordings.length < enough; copy += calls) recordings.push(await record(gpu, prepared, copy, calls, caseName(each)));
    return new Timed(bench, timestamps, each, prepared, early, recordings, calls);
  }

  private constructor(
    bench: Workbench, timestamps: Timestamps | null, each: KernelCase, prepared: Prepared | null, early: Early,
    recordings: readonly Recording[], calls: number,
  ) {
    this.#bench = bench;
    this.#timestamps = timestamps;
    this.#case = each;
    this.#prepared = prepared;
    this.#early = early;
    this.#recordings = recordings;
    this.#calls = calls;
  }

  get isRight(): boolean { return this.#early.status === "right"; }

  /** One pass; `counts` says whether it is a sample. */
  async time(counts: boolean): Promise<void> {
    const prepared = this.#prepared!;
    const recording = this.#recordings[this.#turn++ % Math.max(1, this.#recordings.length)];
    let seconds: number;
    if (recording !== undefined) seconds = await timePass(this.#bench, this.#timestamps, recording, prepared) / this.#calls;
    else {
      const started = performance.now();
      await prepared.run!();
      await this.#bench.gpu.sync();
      seconds = (performance.now() - started) / 1000;
    }
    if (counts) this.#seconds.push(seconds);
  }

  outcome(cacheBytes: number): Outcome {
    const { status, ...early } = this.#early;
    const seconds = summarise(this.#seconds), prepared = this.#prepared;
    // Passes that each go over copies of their own find them in no cache; else all that is gone over must be more than one holds.
    const gone = prepared === null ? 0 : (prepared.footprint / prepared.copies) * Math.min(prepared.copies, this.#recordings.length * this.#calls);
    const passes = this.#seconds.length + WARM_UPS;
    const fresh = prepared !== null && this.#recordings.length >= passes && passes * this.#calls <= prepared.copies;
    return {
      ...early, case: this.#case, status: status !== "right" ? status : seconds === null ? "unfinished" : "measured",
      clock: this.#timestamps === null || prepared?.record === undefined ? "wall" : "timestamps", calls: this.#calls, seconds,
      cached: !fresh && gone < cacheBytes,
    };
  }
}

/** `calls` calls on the copies from `first` on. */
async function record(gpu: Gpu, prepared: Prepared, first: number, calls: number, label: string): Promise<Recording> {
  const recorder = new Recorder(gpu);
  for (let call = 0; call < calls; call++) prepared.record!(recorder, (first + call) % prepared.copies);
  return recorder.finish(label);
}

/** Seconds of one pass: by timestamps, else from submit until it is done. */
async function timePass({ gpu }: Workbench, timestamps: Timestamps | null, recording: Recording, { extent }: Prepared): Promise<number> {
  if (timestamps === null) {
    const started = performance.now();
    submit(gpu, recording, extent);
    await gpu.sync();
    return (performance.now() - started) / 1000;
  }
  const encoder = gpu.device.createCommandEncoder({ label: recording.label });
  const pass = encoder.beginComputePass({ label: recording.label, timestampWrites: timestamps.writes(0) });
  recording.encode(pass, extent);
  pass.end();
  timestamps.resolve(encoder, 1);
  gpu.device.queue.submit([encoder.finish()]);
  const [[begin, end]] = await timestamps.read(1) as [readonly [number, number]];
  return (end - begin) / 1e9;
}
