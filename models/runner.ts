/**
 * Runs forward passes: lays batches out, replays recordings, reads sampled tokens back. It knows buffers and recordings, not requests;
 * models/llm.ts says what to run. A pass is recorded once per (phase, row class) and replayed; in steady decoding the GPU feeds each
 * step from the one before, several steps are in flight, and the host only receives token ids.
 */

import { GpuError, OutOfMemoryError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit, type Extent, type Recording } from "../engine/recorder.ts";
import { numel } from "../engine/shape.ts";
import { byteLength, type Tensor } from "../engine/tensor.ts";
import { advance, prefillTileRows, type Splits } from "../kernels/attention.ts";
import { layOutBatch, type Batch, type BatchRow } from "../kernels/batch.ts";
import { embed } from "../kernels/embed.ts";
import { readOutlierCounts } from "../kernels/int8.ts";
import { linear, rowsClass, ROWS_CLASSES, type RowsClass } from "../kernels/linear.ts";
import { LOGPROB_WORDS, logprobs, unpackLogprobs, type Logprobs } from "../kernels/logprobs.ts";
import { packSampling, sample, type Adjust, type SamplingParams } from "../kernels/sample.ts";
import type { KvCache } from "./kv_cache.ts";
import type { PassTimer } from "./pass_timer.ts";
import { cosSinTable } from "./rope.ts";
import { onDemandBuffers, runnerBuffers, runnerProblems, type BufferShape, type RunnerSizes } from "./sizes.ts";
import type { Activations, Capture, Model, Phase, Step } from "./step.ts";

/**
 * What a batch asks beyond the plain: penalties or biases for some row, log-probabilities of some row, and to be captured for the press of some
 * sequence.
 */
export interface StepFeatures { readonly adjusted: boolean; readonly logprobs: boolean; readonly captured: boolean }
const PLAIN: StepFeatures = { adjusted: false, logprobs: false, captured: false };

/** What a step gave its samples. */
export interface Sampled {
  /** NO_TOKEN where logits were not finite. */
  readonly tokens: Uint32Array;
  /** Of a sample that asked for the `top` likeliest. */
  logprobs(sample: number, top: number): Logprobs;
}

/** `columns`: distinct column numbers, over the inputs of all products. */
export interface Outliers { readonly elements: number; readonly columns: number }

export class Runner {
  readonly rows: number;
  readonly samples: number;
  /** Where captured steps leave what presses are to be shown. Who sets it calls `forget` too. */
  capture: Capture | null = null;
  /** Times the passes that are submitted, while somebody wants it. */
  timer: PassTimer | null = null;
  readonly cosSin: Tensor;
  /** Rows sampled in one pass at most; buffers have room for `samples`, a multiple of 8. */
  readonly #mostSamples: number;
  readonly #gpu: Gpu;
  readonly #model: Model;
  readonly #cache: KvCache;
  readonly #batch: Batch;
  readonly #activations: Activations;
  /** How decoding splits long rows; null when no sequence gets so long. */
  readonly #splits: Splits | null;
  readonly #logits: Tensor;
  readonly #sampling: Tensor;
  readonly #sampled: Tensor;
  readonly #staging: GPUBuffer[];
  /** Made when they are first needed: penalties and biases by slot, log-probabilities of the last steps and the buffers to read them with. */
  #adjust: Adjust | null = null;
  #logprobs: { readonly out: Tensor; readonly staging: GPUBuffer[] } | null = null;
  readonly #recordings = new Map<string, Promise<Recording>>();
  /** Decode steps since the batch was last written: the GPU's own counter, mirrored. */
  #step = 0;
  #tiles = 0;

  /** Throws OutOfMemoryError when the rows of a pass, or what is kept for them, are more than one binding of this adapter. */
  static async create(gpu: Gpu, model: Model, cache: KvCache, sizes: RunnerSizes): Promise<Runner> {
    const buffers = runnerBuffers(model.config, model, gpu.family, sizes);
    const { rows, samples, splits } = buffers;
    const [problem] = runnerProblems(buffers, gpu.maxBinding);
    if (problem !== undefined) throw new OutOfMemoryError(problem);
    const { x, normed, qkv, q, attended, inner } = buffers.activations;
    const scratch = buffers.int8 && {
      codes: await make(gpu, buffers.int8.codes), magnitudes: await make(gpu, buffers.int8.magnitudes), outliers: await make(gpu, buffers.int8.outliers),
      counts: await make(gpu, buffers.int8.counts),
    };
    const activations: Activations = {
      ...(scratch && { scratch }),
      x: await make(gpu, x), normed: await make(gpu, normed), qkv: await make(gpu, qkv), q: await make(gpu, q), attended: await make(gpu, attended),
      inner: await make(gpu, inner),
    };
    return new Runner(gpu, model, cache, {
      rows, samples, mostSamples: sizes.samples, activations, staging: await stagingBuffers(gpu, buffers.staging),
      splits: splits && { ...splits, partials: await make(gpu, splits.partials) },
      batch: { tensor: await make(gpu, buffers.batch), rows },
      cosSin: await cosSinTable(gpu, model.config, sizes.maxModelLen),
      logits: await make(gpu, buffers.logits), sampling: await make(gpu, buffers.sampling), sampled: await make(gpu, buffers.sampled),
    });
  }

  private constructor(gpu: Gpu, model: Model, cache: KvCache, made: {
    rows: number; samples: number; mostSamples: number; activations: Activations; splits: Splits | null; staging: GPUBuffer[]; batch: Batch;
    cosSin: Tensor; logits: Tensor; sampling: Tensor; sampled: Tensor;
  }) {
    this.#gpu = gpu;
    this.#model = model;
    this.#cache = cache;
    this.rows = made.rows;
    this.samples = made.samples;
    this.#mostSamples = made.mostSamples;
    this.#activations = made.activations;
    this.#splits = made.splits;
    this.#staging = made.staging;
    this.#batch = made.batch;
    this.cosSin = made.cosSin;
    this.#logits = made.logits;
    this.#sampling = made.sampling;
    this.#sampled = made.sampled;
  }

  /**
   * Compile what generation will need, and run each recording once: drivers finish compiling at the first dispatch, which is no part of
   * anybody's time to first token. The rows are zeros in sequence 0, whose blocks and lengths are written before they are ever read.
   */
  async prepare(): Promise<void> {
    const upTo = (rows: number): readonly RowsClass[] => ROWS_CLASSES.slice(0, ROWS_CLASSES.indexOf(rowsClass(rows)) + 1);
    const recordings = await Promise.all([
      ...upTo(this.rows).map((rows) => this.#layers("prefill", rows)),
      ...upTo(this.#mostSamples).flatMap((rows) => [this.#layers("decode", rows), this.#head(rows), ...(this.#splits ? [this.#layers("decode", rows, this.#splits)] : [])]),
      this.#tail("prefill", PLAIN), this.#tail("decode", PLAIN),
    ]);
    for (const recording of recordings) submit(this.#gpu, recording, { rows: 1, tiles: 1 });
    await this.#gpu.sync();
    const counts = this.#activations.scratch?.counts;
    if (counts !== undefined) this.#gpu.upload(counts.buffer, counts.offset, new Uint32Array(numel(counts.shape))); // these rows were nobody's
  }

  /** What LLM.int8() left as it was since the model was loaded; null where it is not used. */
  async outliers(): Promise<Outliers | null> {
    const { scratch } = this.#activations;
    if (scratch === undefined) return null;
    const bytes = await this.#gpu.read(scratch.counts);
    const { elements, columns } = readOutlierCounts(new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
    return { elements, columns: columns.length };
  }

  /** Record everything anew when it is next needed: other kernel variants are in use now. */
  forget(): void {
    this.#recordings.clear();
  }

  /**
   * Write a new batch: its rows, which of them are sampled and how. Forgets the decode steps before it, none of which may be in flight; `step`
   * counts on from there.
   */
  writeBatch(phase: Phase, rows: readonly BatchRow[], samples: readonly number[], sampling: readonly SamplingParams[], step = 0): void {
    const tileRows = phase === "prefill" ? prefillTileRows(this.#model.config) : 1;
    const { words, tiles } = layOutBatch(this.rows, rows, tileRows, samples, tileBorder(this.#cache));
    words[0] = step;
    this.#gpu.upload(this.#batch.tensor.buffer, this.#batch.tensor.offset, words);
    if (sampling.length > 0) this.#gpu.upload(this.#sampling.buffer, this.#sampling.offset, packSampling(sampling, this.samples));
    this.#step = step;
    this.#tiles = tiles;
  }

  /** Make ready what `features` need. */
  async provide({ adjusted, logprobs }: Omit<StepFeatures, "captured">): Promise<void> {
    const buffers = onDemandBuffers(this.#model.config, this.#cache.tables.slots, this.rows, this.samples);
    if (adjusted) this.#adjust ??= { counts: await make(this.#gpu, buffers.adjust.counts), bias: await make(this.#gpu, buffers.adjust.bias) };
    if (logprobs) {
      this.#logprobs ??= { out: await make(this.#gpu, buffers.logprobs.out), staging: await stagingBuffers(this.#gpu, buffers.logprobs.staging) };
    }
  }

  /** What the sampler adds to the logits of the sequence in `slot` (kernels/sample.ts packs it); null takes away what was there. After `provide`. */
  writeAdjustment(slot: number, rows: { readonly counts: Uint32Array; readonly bias: Float32Array } | null): void {
    const { vocabSize } = this.#model.config;
    const { counts, bias } = rows ?? { counts: new Uint32Array(vocabSize), bias: new Float32Array(vocabSize) };
    this.#gpu.upload(this.#adjust!.counts.buffer, slot * vocabSize * 4, counts);
    this.#gpu.upload(this.#adjust!.bias.buffer, slot * vocabSize * 4, bias);
  }

  /** Forward the written batch and sample its samples. */
  async prefill(rows: number, samples: number, features = PLAIN): Promise<Sampled> {
    const recordings = [await this.#layers("prefill", rowsClass(rows), null, features.captured)];
    if (samples > 0) recordings.push(await this.#head(rowsClass(samples)), await this.#tail("prefill", features));
    const receive = this.#submit(recordings, [rows, samples, samples], samples, features);
    if (samples === 0) await this.#gpu.sync();
    return receive();
  }

  /**
   * A function that submits one decode step of the written batch of `sequences` rows, the longest of which has `keys` keys then, and
   * promises what it samples. At most MAX_IN_FLIGHT steps may be waiting; they arrive in order.
   */
  async decoder(sequences: number, features = PLAIN): Promise<(keys: number) => Promise<Sampled>> {
    const step = await this.#decodeStep(sequences, await this.#tail("decode", features), features.captured);
    return (keys) => {
      const receive = this.#submit(step(keys), [sequences, sequences, sequences], sequences, features);
      this.#step++;
      const sampled = receive();
      sampled.catch(() => {}); // awaited later, in order; an earlier failure must not leave this one unhandled
      return sampled;
    };
  }

  /**
   * Submits decode steps together, as many as there are `keys`, the keys of the longest row of each. Nothing is read back: what they sample stands
   * on the GPU, in `sampled`, step by step from the last `writeBatch` on. `behind` may copy what a step has left.
   */
  async drafter(sequences: number, features = PLAIN): Promise<(keys: readonly number[], behind?: (encoder: GPUCommandEncoder, step: number) => void) => void> {
    const step = await this.#decodeStep(sequences, await this.#tail("decode", features), features.captured);
    const rows = [sequences, sequences, sequences];
    return (keys, behind) => {
      const { device } = this.#gpu;
      const encoder = device.createCommandEncoder();
      let pass = encoder.beginComputePass();
      for (const [i, longest] of keys.entries()) {
        this.#encode(pass, step(longest), rows);
        if (behind !== undefined) {
          pass.end();
          behind(encoder, this.#step);
          if (i + 1 < keys.length) pass = encoder.beginComputePass();
        }
        this.#step++;
      }
      if (behind === undefined) pass.end();
      device.queue.submit([encoder.finish()]);
    };
  }

  /** Forward the written batch and sample its samples, which stay on the GPU as step 0. */
  async choose(rows: number, samples: number, features = PLAIN, behind?: (encoder: GPUCommandEncoder) => void): Promise<void> {
    const recordings = [await this.#layers("prefill", rowsClass(rows), null, features.captured), await this.#head(rowsClass(samples)), await this.#tail("prefill", features)];
    void this.#submit(recordings, [rows, samples, samples], 0, PLAIN, behind);
  }

  /** Run something on the written batch, with a grid that follows `rows`. */
  apply(recording: Recording, rows: number): void {
    void this.#submit([recording], [rows], 0, PLAIN);
  }

  /**
   * Forward the written batch of `sequences`, all its rows samples, with `before` in front and `behind` after the head, whose grids follow the
   * sequences; `copy` takes what they leave.
   */
  async verify(rows: number, sequences: number, captured: boolean, before: Recording, behind: Recording, copy: (encoder: GPUCommandEncoder) => void): Promise<void> {
    const recordings = [before, await this.#layers("prefill", rowsClass(rows), null, captured), await this.#head(rowsClass(rows)), behind];
    void this.#submit(recordings, [sequences, rows, rows, sequences], 0, PLAIN, copy);
  }

  /** The same with `behind` after the head in place of sampling and advancing; nothing is read back. */
  async stepper(sequences: number, behind: Recording, captured = false): Promise<(keys: number) => void> {
    const step = await this.#decodeStep(sequences, behind, captured);
    return (keys) => { void this.#submit(step(keys), [sequences, sequences, sequences], 0, PLAIN); };
  }

  /** The same where what stands behind the head is given the logits of the rows from `first` on as well, in `base`. */
  async stepperBeside(sequences: number, behind: Recording, captured: boolean, base: Tensor, first: number): Promise<(keys: number) => void> {
    const step = await this.#decodeStep(sequences, null, captured);
    return (keys) => {
      void this.#submit(step(keys), [sequences, sequences], 0, PLAIN, (encoder) => { this.copyLogits(encoder, base, first, sequences - first); });
      void this.#submit([behind], [sequences], 0, PLAIN);
    };
  }

  /** The recordings of a decode step by the keys of its longest row. */
  async #decodeStep(sequences: number, behind: Recording | null, captured: boolean): Promise<(keys: number) => readonly Recording[]> {
    const kind = rowsClass(sequences), head = await this.#head(kind);
    const rest = behind === null ? [head] : [head, behind];
    const short = [await this.#layers("decode", kind, null, captured), ...rest];
    const long = this.#splits === null ? short : [await this.#layers("decode", kind, this.#splits, captured), ...rest];
    const longest = this.#splits?.keys ?? Infinity;
    return (keys) => (keys > longest ? long : short);
  }

  /** What `behind` of `stepper` and `score` finds: logits [samples, vocab] of the batch's samples. */
  get scored(): { readonly logits: Tensor; readonly batch: Batch } {
    return { logits: this.#logits, batch: this.#batch };
  }

  /** u32 [steps, rows]: what decode steps have sampled. */
  get sampled(): Tensor { return this.#sampled; }

  /** Penalties and biases by slot, after `provide`. */
  get adjust(): Adjust | null { return this.#adjust; }

  /** Logits of the samples of the batch forwarded last, then `behind`. */
  async score(samples: number, behind: Recording): Promise<void> {
    void this.#submit([await this.#head(rowsClass(samples)), behind], [samples, samples], 0, PLAIN);
  }

  /** Logits [count, vocab] of the rows `first` … of the batch forwarded last, which must still be in `x`: those named as its samples. */
  async readLogits(samples: number): Promise<Float32Array> {
    const head = await this.#head(rowsClass(samples));
    void this.#submit([head], [samples], 0, PLAIN);
    return this.#gpu.readF32({ ...this.#logits, shape: [samples, this.#model.config.vocabSize] });
  }

  /** The same, to the first rows of `target` [rows, vocab] on the GPU. */
  async keepLogits(samples: number, target: Tensor): Promise<void> {
    void this.#submit([await this.#head(rowsClass(samples))], [samples], 0, PLAIN, (encoder) => { this.copyLogits(encoder, target, 0, samples); });
  }

  /** Logits of the samples `first` … of the step before, to the first rows of `target` [rows, vocab]. */
  copyLogits(encoder: GPUCommandEncoder, target: Tensor, first: number, count: number): void {
    const rowBytes = this.#model.config.vocabSize * 4;
    encoder.copyBufferToBuffer(this.#logits.buffer, this.#logits.offset + first * rowBytes, target.buffer, target.offset, count * rowBytes);
  }

  /** Name other rows of the batch as its samples, and the step as `step`, without touching the rest. */
  writeSamples(rows: readonly number[], step = 0): void {
    const { words } = layOutBatch(this.rows, [], 1, rows);
    const first = words.length - this.rows, { buffer, offset } = this.#batch.tensor;
    this.#gpu.upload(buffer, offset + first * 4, words.subarray(first));
    this.#gpu.upload(buffer, offset, new Uint32Array([step]));
  }

  /** Forward the written batch without sampling anything. */
  async forward(rows: number, captured = false): Promise<void> {
    void this.#submit([await this.#layers("prefill", rowsClass(rows), null, captured)], [rows], 0, PLAIN);
  }

  /** Dispatches of one decode step for a batch of `sequences`, none of them long enough to be split. */
  async dispatchesPerDecode(sequences: number): Promise<number> {
    const kind = rowsClass(sequences);
    const recordings = await Promise.all([this.#layers("decode", kind), this.#head(kind), this.#tail("decode", PLAIN)]);
    return recordings.reduce((sum, { dispatches }) => sum + dispatches, 0);
  }

  close(): void {
    const { x, normed, qkv, q, attended, inner } = this.#activations;
    for (const { buffer } of [x, normed, qkv, q, attended, inner, this.#batch.tensor, this.cosSin, this.#logits, this.#sampling, this.#sampled]) {
      this.#gpu.destroyBuffer(buffer);
    }
    for (const tensor of [this.#splits?.partials, this.#adjust?.counts, this.#adjust?.bias, this.#logprobs?.out]) if (tensor !== undefined) this.#gpu.destroyBuffer(tensor.buffer);
    for (const buffer of [...this.#staging, ...(this.#logprobs?.staging ?? [])]) this.#gpu.destroyBuffer(buffer);
  }

  /** Encode the recordings as one pass, each with its number of rows, and submit. The function returned brings what was sampled. */
  #submit(
    recordings: readonly Recording[], rows: readonly number[], samples: number, features: StepFeatures, behind?: (encoder: GPUCommandEncoder) => void,
  ): () => Promise<Sampled> {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    const timed = this.timer?.encode(encoder, recordings.map((recording, i) => [recording, this.#extent(rows[i]!)])) ?? null;
    if (timed === null) {
      const pass = encoder.beginComputePass();
      this.#encode(pass, recordings, rows);
      pass.end();
    }
    behind?.(encoder);
    const pool = features.logprobs ? this.#logprobs!.staging : this.#staging;
    const staging = samples > 0 ? pool.shift() : undefined;
    if (samples > 0 && staging === undefined) throw new GpuError("more steps are in flight than there are buffers to read them back with");
    if (staging !== undefined) {
      const row = (this.#step % this.#sampled.shape[0]!) * this.rows;
      encoder.copyBufferToBuffer(this.#sampled.buffer, this.#sampled.offset + row * 4, staging, 0, samples * 4);
      if (features.logprobs) {
        encoder.copyBufferToBuffer(this.#logprobs!.out.buffer, row * LOGPROB_WORDS * 4, staging, samples * 4, samples * LOGPROB_WORDS * 4);
      }
    }
    device.queue.submit([encoder.finish()]);
    const clocked = timed?.();
    return async () => {
      if (clocked !== undefined) await clocked; // else the next pass would run untimed
      if (staging === undefined) return { tokens: new Uint32Array(), logprobs: () => { throw new Error("nothing was sampled"); } };
      await this.#gpu.map(staging);
      const words = new Uint32Array(staging.getMappedRange(0, samples * 4 * (features.logprobs ? 1 + LOGPROB_WORDS : 1)).slice(0));
      staging.unmap();
      pool.push(staging);
      this.#gpu.check();
      return { tokens: words.subarray(0, samples), logprobs: (sample, top) => unpackLogprobs(words, samples + sample * LOGPROB_WORDS, top) };
    };
  }

  /** Recordings one after the other, each with its number of rows. */
  #encode(pass: GPUComputePassEncoder, recordings: readonly Recording[], rows: readonly number[]): void {
    recordings.forEach((recording, i) => { recording.encode(pass, this.#extent(rows[i]!)); });
  }

  #extent(rows: number): Extent {
    return { rows, tiles: this.#tiles };
  }

  #recorded(key: string, body: (recorder: Recorder) => void): Promise<Recording> {
    let recording = this.#recordings.get(key);
    if (recording === undefined) {
      const recorder = new Recorder(this.#gpu);
      body(recorder);
      this.#recordings.set(key, recording = recorder.finish(key));
    }
    return recording;
  }

  #stepOf(phase: Phase, rows: RowsClass, splits: Splits | null, captured = false): Step {
    const tileRows = phase === "prefill" ? prefillTileRows(this.#model.config) : 1;
    return { batch: this.#batch, view: this.#cache.view, cosSin: this.cosSin, rows, phase, tileRows, splits, activations: this.#activations, capture: captured ? this.capture : null };
  }

  #layers(phase: Phase, rows: RowsClass, splits: Splits | null = null, captured = false): Promise<Recording> {
    return this.#recorded(`layers, ${phase}, ${rows}${splits === null ? "" : ", split"}${captured ? ", captured" : ""}`, (recorder) => {
      const step = this.#stepOf(phase, rows, splits, captured);
      embed(recorder, { batch: this.#batch, table: this.#model.embedding, x: this.#activations.x });
      this.#model.layers(recorder, step);
    });
  }

  /** Final norm and logits of the sampled rows. */
  #head(rows: RowsClass): Promise<Recording> {
    return this.#recorded(`head, ${rows}`, (recorder) => {
      const { normed } = this.#activations;
      const { hiddenSize, vocabSize } = this.#model.config;
      this.#model.finalNorm(recorder, this.#stepOf("decode", rows, null));
      const sampledRows: Tensor = { ...normed, shape: [this.samples, hiddenSize] };
      linear(recorder, { x: sampledRows, weight: this.#model.head, y: { ...this.#logits, shape: [this.samples, vocabSize] } }, { rows });
    });
  }

  /** Sampling, and after a decode step the advance to the next. */
  #tail(phase: Phase, features: StepFeatures): Promise<Recording> {
    return this.#recorded(`tail, ${phase}${features.adjusted ? ", adjusted" : ""}${features.logprobs ? ", logprobs" : ""}`, (recorder) => {
      const operands = { logits: this.#logits, sampling: this.#sampling, sampled: this.#sampled, batch: this.#batch };
      sample(recorder, { ...operands, ...(features.adjusted && { adjust: this.#adjust! }) }, { feedback: phase === "decode" });
      if (features.logprobs) logprobs(recorder, { ...operands, out: this.#logprobs!.out });
      if (phase === "decode") advance(recorder, { view: this.#cache.view, batch: this.#batch });
    });
  }
}

/** Rows that attend together have one block of their own, where they read other keys there than before it. */
function tileBorder({ view }: KvCache): number {
  return view.k.format === "kivi4" ? view.blockSize : Infinity;
}

function make(gpu: Gpu, { category, shape, dtype, label }: BufferShape): Promise<Tensor> {
  return gpu.tensor(category, shape, dtype, label);
}

async function stagingBuffers(gpu: Gpu, shapes: readonly BufferShape[]): Promise<GPUBuffer[]> {
  const buffers: GPUBuffer[] = [];
  for (const shape of shapes) buffers.push(await gpu.createBuffer(shape.category, byteLength(shape), shape.label, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST));
  return buffers;
}
