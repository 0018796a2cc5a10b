/**
 * Runs forward passes: lays batches out, replays recordings, reads sampled tokens back. It knows buffers and recordings, not requests;
 * models/llm.ts says what to run. A pass is recorded once per (phase, row class) and replayed; in steady decoding the GPU feeds each
 * step from the one before, several steps are in flight, and the host only receives token ids.
 */

import { GpuError, OutOfMemoryError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit, type Recording } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { advance, prefillTileRows } from "../kernels/attention.ts";
import { batchWords, layOutBatch, type Batch, type BatchRow } from "../kernels/batch.ts";
import { embed } from "../kernels/embed.ts";
import { linear, rowsClass, type RowsClass } from "../kernels/linear.ts";
import { packSampling, sample, SAMPLING_WORDS, type SamplingParams } from "../kernels/sample.ts";
import type { KvCache } from "./kv_cache.ts";
import { cosSinTable } from "./rope.ts";
import type { Activations, Model, Phase, Step } from "./step.ts";

/** Decode steps that may be in flight, which is also how many steps back a sampled token is kept on the GPU. */
export const MAX_IN_FLIGHT = 8;

/** Throws OutOfMemoryError when f32 [rows, columns] is more than one binding of this adapter. */
function checkBindable({ maxBinding }: Gpu, rows: number, columns: number, what: string, knobs: string): void {
  if (rows * columns * 4 <= maxBinding) return;
  const most = Math.floor(maxBinding / (4 * columns) / 8) * 8;
  throw new OutOfMemoryError(`${rows} rows of ${what} take ${rows * columns * 4} bytes, but this adapter binds at most ${maxBinding}: lower ${knobs} to ${most} or less`);
}

/** Rows sampled in one pass at most, also the rows of logits that are kept: all sequences of a batch, or a slice of `logits`. */
export interface RunnerOptions { readonly rows: number; readonly samples: number; readonly maxModelLen: number }

export class Runner {
  readonly rows: number;
  readonly samples: number;
  readonly #gpu: Gpu;
  readonly #model: Model;
  readonly #cache: KvCache;
  readonly #batch: Batch;
  readonly #activations: Activations;
  readonly #cosSin: Tensor;
  readonly #logits: Tensor;
  readonly #sampling: Tensor;
  readonly #sampled: Tensor;
  readonly #staging: GPUBuffer[];
  readonly #recordings = new Map<string, Promise<Recording>>();
  /** Decode steps since the batch was last written: the GPU's own counter, mirrored. */
  #step = 0;
  #tiles = 0;

  static async create(gpu: Gpu, model: Model, cache: KvCache, options: RunnerOptions): Promise<Runner> {
    const rows = Math.ceil(options.rows / 8) * 8, samples = Math.ceil(options.samples / 8) * 8;
    const { hiddenSize, heads, headDim, vocabSize } = model.config;
    const widest = Math.max(hiddenSize, model.qkv.width, heads * headDim, model.attendedColumns, model.innerColumns);
    checkBindable(gpu, rows, widest, "activations", "prefillChunk and maxSequences");
    checkBindable(gpu, samples, vocabSize, "logits", "maxSequences");
    const f32 = (columns: number, label: string): Promise<Tensor> => gpu.tensor("activations", [rows, columns], "f32", label);
    const activations: Activations = {
      x: await f32(hiddenSize, "x"), normed: await f32(hiddenSize, "normed"), qkv: await f32(model.qkv.width, "qkv"),
      q: await f32(heads * headDim, "q"), attended: await f32(model.attendedColumns, "attended"), inner: await f32(model.innerColumns, "inner"),
    };
    const staging: GPUBuffer[] = [];
    for (let i = 0; i < MAX_IN_FLIGHT; i++) {
      staging.push(await gpu.createBuffer("staging", samples * 4, `sampled ${i}`, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST));
    }
    const words = await gpu.tensor("activations", [batchWords(rows)], "u32", "batch");
    return new Runner(gpu, model, cache, {
      rows, samples, activations, staging, batch: { tensor: words, rows },
      cosSin: await cosSinTable(gpu, model.config, options.maxModelLen),
      logits: await gpu.tensor("logits", [samples, vocabSize], "f32", "logits"),
      sampling: await gpu.tensor("activations", [samples, SAMPLING_WORDS], "u32", "sampling"),
      sampled: await gpu.tensor("activations", [MAX_IN_FLIGHT, rows], "u32", "sampled"),
    });
  }

  private constructor(gpu: Gpu, model: Model, cache: KvCache, made: {
    rows: number; samples: number; activations: Activations; staging: GPUBuffer[]; batch: Batch;
    cosSin: Tensor; logits: Tensor; sampling: Tensor; sampled: Tensor;
  }) {
    this.#gpu = gpu;
    this.#model = model;
    this.#cache = cache;
    this.rows = made.rows;
    this.samples = made.samples;
    this.#activations = made.activations;
    this.#staging = made.staging;
    this.#batch = made.batch;
    this.#cosSin = made.cosSin;
    this.#logits = made.logits;
    this.#sampling = made.sampling;
    this.#sampled = made.sampled;
  }

  /**
   * Compile what generation will need, and run each recording once: drivers finish compiling at the first dispatch, which is no part of
   * anybody's time to first token. The rows are zeros in sequence 0, whose blocks and lengths are written before they are ever read.
   */
  async prepare(): Promise<void> {
    const classes: RowsClass[] = ["one", "few", "many"];
    const recordings = await Promise.all([
      ...classes.flatMap((rows) => [this.#layers("prefill", rows), this.#layers("decode", rows), this.#head(rows)]),
      this.#tail("prefill"), this.#tail("decode"),
    ]);
    for (const recording of recordings) submit(this.#gpu, recording, { rows: 1, tiles: 1 });
    await this.#gpu.sync();
  }

  /** Write a new batch: its rows, which of them are sampled and how. Forgets the decode steps before it. */
  writeBatch(phase: Phase, rows: readonly BatchRow[], samples: readonly number[], sampling: readonly SamplingParams[]): void {
    const tileRows = phase === "prefill" ? prefillTileRows(this.#model.config) : 1;
    const { words, tiles } = layOutBatch(this.rows, rows, tileRows, samples);
    this.#gpu.upload(this.#batch.tensor.buffer, this.#batch.tensor.offset, words);
    if (sampling.length > 0) this.#gpu.upload(this.#sampling.buffer, this.#sampling.offset, packSampling(sampling, this.samples));
    this.#step = 0;
    this.#tiles = tiles;
  }

  /** Forward the written batch and sample its samples. Returns one token per sample, NO_TOKEN where logits were not finite. */
  async prefill(rows: number, samples: number): Promise<Uint32Array> {
    const recordings = [await this.#layers("prefill", rowsClass(rows))];
    if (samples > 0) recordings.push(await this.#head(rowsClass(samples)), await this.#tail("prefill"));
    const staging = this.#submit(recordings, [rows, samples, samples], samples);
    if (staging === null) {
      await this.#gpu.sync();
      return new Uint32Array();
    }
    return this.#receive(staging, samples);
  }

  /**
   * `steps` decode steps of the written batch of `sequences` rows, all submitted at once. `onTokens` gets the tokens of each step as
   * they arrive, in order.
   */
  async decode(sequences: number, steps: number, onTokens: (tokens: Uint32Array) => void): Promise<void> {
    if (steps > MAX_IN_FLIGHT) throw new Error(`${steps} decode steps are more than ${MAX_IN_FLIGHT}, which may be in flight`);
    const kind = rowsClass(sequences);
    const recordings = [await this.#layers("decode", kind), await this.#head(kind), await this.#tail("decode")];
    const arriving: Promise<Uint32Array>[] = [];
    for (let i = 0; i < steps; i++) {
      const staging = this.#submit(recordings, [sequences, sequences, sequences], sequences)!;
      this.#step++;
      const tokens = this.#receive(staging, sequences);
      tokens.catch(() => {}); // awaited below, in order; an earlier failure must not leave this one unhandled
      arriving.push(tokens);
    }
    for (const tokens of arriving) onTokens(await tokens);
  }

  /** Logits [count, vocab] of the rows `first` … of the batch forwarded last, which must still be in `x`: those named as its samples. */
  async readLogits(samples: number): Promise<Float32Array> {
    const head = await this.#head(rowsClass(samples));
    this.#submit([head], [samples], 0);
    return this.#gpu.readF32({ ...this.#logits, shape: [samples, this.#model.config.vocabSize] });
  }

  /** Name other rows of the batch as its samples, without touching the rest. */
  writeSamples(rows: readonly number[]): void {
    const { words } = layOutBatch(this.rows, [], 1, rows);
    const first = words.length - this.rows;
    this.#gpu.upload(this.#batch.tensor.buffer, this.#batch.tensor.offset + first * 4, words.subarray(first));
  }

  /** Forward the written batch without sampling anything. */
  async forward(rows: number): Promise<void> {
    this.#submit([await this.#layers("prefill", rowsClass(rows))], [rows], 0);
  }

  /** Dispatches of one decode step for a batch of `sequences`. */
  async dispatchesPerDecode(sequences: number): Promise<number> {
    const kind = rowsClass(sequences);
    const recordings = await Promise.all([this.#layers("decode", kind), this.#head(kind), this.#tail("decode")]);
    return recordings.reduce((sum, { dispatches }) => sum + dispatches, 0);
  }

  close(): void {
    const { x, normed, qkv, q, attended, inner } = this.#activations;
    for (const { buffer } of [x, normed, qkv, q, attended, inner, this.#batch.tensor, this.#cosSin, this.#logits, this.#sampling, this.#sampled]) {
      this.#gpu.destroyBuffer(buffer);
    }
    for (const buffer of this.#staging) this.#gpu.destroyBuffer(buffer);
  }

  /** Encode the recordings as one pass, each with its number of rows, and submit. With `samples`, the sampled tokens are copied for the host. */
  #submit(recordings: readonly Recording[], rows: readonly number[], samples: number): GPUBuffer | null {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    recordings.forEach((recording, i) => { recording.encode(pass, { rows: rows[i]!, tiles: this.#tiles }); });
    pass.end();
    let staging: GPUBuffer | null = null;
    if (samples > 0) {
      staging = this.#staging.shift() ?? null;
      if (staging === null) throw new GpuError("more steps are in flight than there are buffers to read them back with");
      const row = (this.#step % MAX_IN_FLIGHT) * this.rows * 4;
      encoder.copyBufferToBuffer(this.#sampled.buffer, this.#sampled.offset + row, staging, 0, samples * 4);
    }
    device.queue.submit([encoder.finish()]);
    return staging;
  }

  async #receive(staging: GPUBuffer, samples: number): Promise<Uint32Array> {
    await this.#gpu.map(staging);
    const tokens = new Uint32Array(staging.getMappedRange(0, samples * 4).slice(0));
    staging.unmap();
    this.#staging.push(staging);
    this.#gpu.check();
    return tokens;
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

  #stepOf(phase: Phase, rows: RowsClass): Step {
    const tileRows = phase === "prefill" ? prefillTileRows(this.#model.config) : 1;
    return { batch: this.#batch, view: this.#cache.view, cosSin: this.#cosSin, rows, phase, tileRows, activations: this.#activations };
  }

  #layers(phase: Phase, rows: RowsClass): Promise<Recording> {
    return this.#recorded(`layers, ${phase}, ${rows}`, (recorder) => {
      const step = this.#stepOf(phase, rows);
      embed(recorder, { batch: this.#batch, table: this.#model.embedding, x: this.#activations.x });
      this.#model.layers(recorder, step);
    });
  }

  /** Final norm and logits of the sampled rows. */
  #head(rows: RowsClass): Promise<Recording> {
    return this.#recorded(`head, ${rows}`, (recorder) => {
      const { normed } = this.#activations;
      const { hiddenSize, vocabSize } = this.#model.config;
      this.#model.finalNorm(recorder, this.#stepOf("decode", rows));
      const sampledRows: Tensor = { ...normed, shape: [this.samples, hiddenSize] };
      linear(recorder, { x: sampledRows, weight: this.#model.head, y: { ...this.#logits, shape: [this.samples, vocabSize] } }, { rows });
    });
  }

  /** Sampling, and after a decode step the advance to the next. */
  #tail(phase: Phase): Promise<Recording> {
    return this.#recorded(`tail, ${phase}`, (recorder) => {
      sample(recorder, { logits: this.#logits, sampling: this.#sampling, sampled: this.#sampled, batch: this.#batch }, { feedback: phase === "decode" });
      if (phase === "decode") advance(recorder, { view: this.#cache.view, batch: this.#batch });
    });
  }
}
