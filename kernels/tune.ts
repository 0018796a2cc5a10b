/**
 * The timed search: which variant of the matrix product is fastest on this device for the shapes of a model. It runs only when asked. A
 * candidate is first checked against the scalar twin on the very device and buffers it is then timed on; one that is wrong, or does not
 * compile, is never timed. Weights rotate over more memory than the last-level cache holds, or the search would measure the cache.
 */

import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit, type Recording } from "../engine/recorder.ts";
import { Timestamps } from "../engine/timestamps.ts";
import { linear } from "./linear.ts";
import { candidates, chooseVariant, shapeKey, staticVariant, traitsOf, tunedVariants, type LinearShape, type Variant } from "./linear_variants.ts";
import { check, isTunable, TuningBuffers, type TunableShape } from "./tune_check.ts";
import { readTuning, writeTuning, type Tuned } from "./tuning_cache.ts";

export interface TuneOptions {
  /** Milliseconds for the whole search, counted from its start. Default 30,000, on a software adapter 2,000. */
  readonly budgetMs?: number;
  /** Bytes of the device's last-level cache. Default 64 MiB, which is more than any GPU of today has per die. */
  readonly cacheBytes?: number;
  /** Where winners are kept between runs; null keeps them for this Gpu only. Default: the user's cache folder. */
  readonly folder?: string | null;
  /** What is tried for a shape. Default: every variant that fits, the static rule's choice first. */
  readonly candidates?: (shape: LinearShape) => readonly Variant[];
  /** Makes the product; tests put a wrong one in its place. */
  readonly launch?: typeof linear;
}

/** What the search found for one shape of matrix product. Times in milliseconds. */
export interface ShapeResult {
  readonly shape: LinearShape;
  /** Null when not one candidate was right, or the time was over before the first. */
  readonly winner: Variant | null;
  readonly ms: number | null;
  /** Of the variant that the rules choose, where it was timed. */
  readonly staticMs: number | null;
  readonly timed: number;
  /** Candidates that were wrong or did not run, and why. */
  readonly rejected: readonly { readonly variant: Variant; readonly reason: string }[];
  /** The time was over before every candidate had its turn. */
  readonly cutShort: boolean;
}

/** What a search for the fastest kernels found and took. */
export interface TuneReport {
  readonly results: readonly ShapeResult[];
  /** How time was taken. */
  readonly clock: "timestamps" | "wall";
  readonly seconds: number;
  /** The file with the winners, or null. */
  readonly file: string | null;
}

const SOFTWARE_BUDGET = 2_000;
const DISPATCHES = 20;
const REPEATS = 3;

/** Take the winners of earlier searches on this device into use; times nothing. Returns how many, and why some are not used. */
export async function loadTuning(gpu: Gpu, folder?: string): Promise<{ readonly count: number; readonly note: string | null }> {
  const { tuned, note } = await readTuning(gpu, folder);
  const variants = tunedVariants(gpu);
  for (const { shape, variant } of tuned) variants.set(shapeKey(shape), variant);
  return { count: tuned.length, note };
}

/**
 * Time the variants of each shape, take the fastest right ones into use for this Gpu and keep them. A recording made before goes on as
 * it was. Throws what the device reports: a latched error, its loss, out of memory.
 */
export async function tune(gpu: Gpu, shapes: readonly LinearShape[], options: TuneOptions = {}): Promise<TuneReport> {
  const { cacheBytes = 64 << 20, folder, budgetMs = gpu.adapter.software ? SOFTWARE_BUDGET : 30_000, launch = linear } = options;
  const start = performance.now();
  const deadline = start + budgetMs;
  // Weights in codes go by the rules: there is no pattern of codes to check their variants with.
  const distinct = [...new Map(shapes.filter(isTunable).map((shape) => [shapeKey(shape), shape])).values()];
  const clock = await Clock.create(gpu);
  const results: ShapeResult[] = [];
  try {
    for (const [i, shape] of distinct.entries()) {
      // What one shape leaves of its share, the others have.
      const share = performance.now() + (deadline - performance.now()) / (distinct.length - i);
      const variants = options.candidates?.(shape) ?? inOrder(gpu, shape);
      results.push(performance.now() < deadline ? await search(gpu, shape, { variants, launch, cacheBytes, deadline: share, clock }) : untried(shape));
    }
  } finally {
    clock.close();
  }
  const found = results.flatMap(({ shape, winner, ms }): Tuned[] => (winner === null ? [] : [{ shape, variant: winner, ms: ms! }]));
  const inUse = tunedVariants(gpu);
  for (const { shape, variant } of found) inUse.set(shapeKey(shape), variant);
  const file = folder === null || found.length === 0 ? null : await writeTuning(gpu, found, folder);
  return { results, clock: clock.kind, seconds: (performance.now() - start) / 1000, file };
}

const untried = (shape: LinearShape): ShapeResult => ({ shape, winner: null, ms: null, staticMs: null, timed: 0, rejected: [], cutShort: true });

/** The variant in use and the rule's own first, so that even a search cut short compares with them; the others evenly spread. */
function inOrder(gpu: Gpu, shape: LinearShape): Variant[] {
  const traits = traitsOf(gpu);
  const room = TuningBuffers.roomFor(gpu, shape);
  const first = [staticVariant(shape, traits, room), chooseVariant(gpu, shape, room)];
  const others = candidates(shape, traits);
  // A stride that shares no factor with the count visits all, and neighbours differ in every axis: a short search sees a bit of everything.
  const stride = [7, 11, 13, 17].find((step) => others.length % step !== 0) ?? 1;
  const spread = others.map((_, i) => others[(i * stride) % others.length]!);
  return [...new Map([...first, ...spread].map((variant) => [JSON.stringify(variant), variant])).values()];
}

interface SearchOptions {
  readonly variants: readonly Variant[];
  readonly launch: typeof linear;
  readonly cacheBytes: number;
  readonly deadline: number;
  readonly clock: Clock;
}

async function search(gpu: Gpu, shape: TunableShape, { variants, launch, cacheBytes, deadline, clock }: SearchOptions): Promise<ShapeResult> {
  const buffers = await TuningBuffers.create(gpu, shape, cacheBytes);
  const rejected: { variant: Variant; reason: string }[] = [];
  const rule = JSON.stringify(staticVariant(shape, traitsOf(gpu), buffers.room));
  let [winner, ms, staticMs, timed]: [Variant | null, number, number | null, number] = [null, Infinity, null, 0];
  let cutShort = false;
  try {
    for (const variant of variants) {
      if (performance.now() >= deadline) {
        cutShort = true;
        break;
      }
      let recording: Recording;
      try {
        const recorder = new Recorder(gpu);
        for (let i = 0; i < Math.max(DISPATCHES, buffers.weights.length); i++) {
          launch(recorder, buffers.operands(i), { rows: shape.rows, variant });
        }
        recording = await recorder.finish(`tune ${shapeKey(shape)}`);
      } catch (error) {
        gpu.check(); // the device's own errors are nobody's candidate's
        rejected.push({ variant, reason: String((error as Error).message) });
        continue;
      }
      const fault = await check(gpu, buffers, recording, variant.kernel === "matmul_matrix");
      if (fault !== null) {
        rejected.push({ variant, reason: fault });
        continue;
      }
      const best = await clock.time(recording, buffers.rows, ms, deadline);
      timed++;
      if (JSON.stringify(variant) === rule) staticMs = best;
      if (best < ms) [winner, ms] = [variant, best];
    }
  } finally {
    buffers.close();
  }
  return { shape, winner, ms: winner === null ? null : ms, staticMs, timed, rejected, cutShort };
}

/** Milliseconds of one dispatch: by the GPU's timestamps where it has them, else by the wall clock. */
class Clock {
  readonly #gpu: Gpu;
  readonly #timestamps: Timestamps | null;

  static async create(gpu: Gpu): Promise<Clock> {
    // A software adapter's timestamps are the wall clock anyway.
    return new Clock(gpu, gpu.adapter.software ? null : await Timestamps.create(gpu, 1));
  }

  private constructor(gpu: Gpu, timestamps: Timestamps | null) {
    this.#gpu = gpu;
    this.#timestamps = timestamps;
  }

  get kind(): "timestamps" | "wall" { return this.#timestamps === null ? "wall" : "timestamps"; }

  close(): void { this.#timestamps?.destroy(); }

  /** The least of three runs; a candidate that is twice as slow as `best` has had its chance after one. */
  async time(recording: Recording, rows: number, best: number, deadline: number): Promise<number> {
    let least = Infinity;
    for (let run = 0; run < REPEATS; run++) {
      const ms = (this.#timestamps === null ? await this.#wall(recording, rows) : await this.#stamped(recording, rows, this.#timestamps)) / recording.dispatches;
      least = Math.min(least, ms);
      if (least > 2 * best || performance.now() > deadline) break;
    }
    return least;
  }

  async #wall(recording: Recording, rows: number): Promise<number> {
    const start = performance.now();
    submit(this.#gpu, recording, { rows, tiles: 0 });
    await this.#gpu.sync();
    return performance.now() - start;
  }

  async #stamped(recording: Recording, rows: number, timestamps: Timestamps): Promise<number> {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: "tune" });
    const pass = encoder.beginComputePass({ timestampWrites: timestamps.writes(0) });
    recording.encode(pass, { rows, tiles: 0 });
    pass.end();
    timestamps.resolve(encoder, 1);
    device.queue.submit([encoder.finish()]);
    const [[begin, end]] = await timestamps.read(1) as [readonly [number, number]];
    return (end - begin) / 1e6;
  }
}
