/**
 * GPU times of the forward passes that really run: it stands where the runner encodes a pass and replays the same recordings, as they are
 * or with a pass around each dispatch. Such passes have a price of their own, so their sum is no time of a step; both are on offer.
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Consts } from "../engine/kernel.ts";
import type { Extent, Recording } from "../engine/recorder.ts";
import { Timestamps } from "../engine/timestamps.ts";

/** What gets a time: a whole pass, or every dispatch in it. */
export type Grain = "pass" | "dispatch";

/** One dispatch of a pass, on the GPU's clock. */
export interface TimedDispatch {
  /** File of the kernel, and the constants it was specialised by. */
  readonly kernel: string;
  readonly consts: Consts;
  /** Label of the recording that it belongs to, and the rows on which that was run. */
  readonly recording: string;
  readonly rows: number;
  /** Nanoseconds after the pass began. */
  readonly begin: number;
  readonly end: number;
}

/** One forward pass, on the GPU's clock. */
export interface TimedPass {
  /** GPU time from its first begin to its last end. */
  readonly nanoseconds: number;
  /** In order; none when it was timed as a whole. */
  readonly dispatches: readonly TimedDispatch[];
}

/** Far more than any model has in a pass: the largest have some hundreds. */
const MOST_DISPATCHES = 4096;

export class PassTimer {
  readonly #grain: Grain;
  readonly #timestamps: Timestamps;
  readonly #passes: TimedPass[] = [];
  /** A pass is encoded or submitted, and its times have not been read. */
  #busy = false;
  #reading: Promise<void> = Promise.resolve();
  #failure: unknown = null;
  #closed = false;

  /** Null where the device has no timestamp queries. */
  static async create(gpu: Gpu, grain: Grain): Promise<PassTimer | null> {
    const timestamps = await Timestamps.create(gpu, grain === "pass" ? 1 : MOST_DISPATCHES);
    return timestamps === null ? null : new PassTimer(grain, timestamps);
  }

  private constructor(grain: Grain, timestamps: Timestamps) {
    this.#grain = grain;
    this.#timestamps = timestamps;
  }

  /**
   * Append these recordings, timed. The function returned is to be called once they are submitted, and says when their times have been
   * read. Null, with nothing appended, until those of the pass before have been, or when there are more dispatches than there is room for:
   * they must run as always then.
   */
  encode(encoder: GPUCommandEncoder, recordings: readonly (readonly [Recording, Extent])[]): (() => Promise<void>) | null {
    const dispatches = recordings.flatMap(([{ label: recording, dispatched }, { rows }]) =>
      dispatched.map(({ label: kernel, consts }) => ({ kernel, consts, recording, rows })));
    if (this.#busy || this.#closed || dispatches.length === 0 || dispatches.length > MOST_DISPATCHES) return null;
    this.#busy = true;
    const whole = this.#grain === "pass";
    if (whole) {
      const pass = encoder.beginComputePass({ timestampWrites: this.#timestamps.writes(0) });
      for (const [recording, extent] of recordings) recording.encode(pass, extent);
      pass.end();
    } else {
      let first = 0;
      for (const [recording, extent] of recordings) {
        recording.encodeTimed(encoder, extent, this.#timestamps, first);
        first += recording.dispatches;
      }
    }
    const count = whole ? 1 : dispatches.length;
    this.#timestamps.resolve(encoder, count);
    return () => this.#reading = this.#take(count, whole ? [] : dispatches);
  }

  /** Never rejects: a pass is not at fault for a clock that is. */
  async #take(count: number, dispatches: readonly Omit<TimedDispatch, "begin" | "end">[]): Promise<void> {
    try {
      const times = await this.#timestamps.read(count);
      this.#passes.push({
        nanoseconds: Math.max(...times.map(([, end]) => end)),
        dispatches: dispatches.map((dispatch, i) => ({ ...dispatch, begin: times[i]![0], end: times[i]![1] })),
      });
    } catch (error) {
      this.#failure ??= error;
    }
    this.#busy = false;
  }

  /** The passes that were timed, in order. Throws what kept one from being read. */
  async read(): Promise<readonly TimedPass[]> {
    await this.#reading;
    if (this.#failure !== null) throw this.#failure;
    return [...this.#passes];
  }

  /** Give the memory back, once what is being read has been. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#reading;
    this.#timestamps.destroy();
  }
}
