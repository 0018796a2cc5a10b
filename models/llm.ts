/**
 * A language model to use: load it, ask it for text or for logits, close it. Read this file first. The way of a token:
 * text → tokenizer → Request and Sequence → Generator (schedule, run, commit) → Runner → the model's layers → sampler → text.
 */

import { Checkpoint } from "../engine/checkpoint.ts";
import { ContextLengthError, UsageError } from "../engine/errors.ts";
import { Gpu, type AdapterDescription } from "../engine/gpu.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import type { Trace } from "../engine/trace.ts";
import { build, tokenizerOf, type ModelSource, type Parts } from "./build.ts";
import type { ModelConfig } from "./config.ts";
import { draftKinds, type SpeculationCosts } from "./draft.ts";
import { planDraft, type DraftInfo, type PlannedDraft } from "./draft_model.ts";
import { checkLoadOptions, completeGenerateOptions, type CompleteGenerateOptions } from "./generate_options.ts";
import type { Generator } from "./generator.ts";
import type { KvCache } from "./kv_cache.ts";
import type {
  DivergenceResult, GenerateOptions, GenerateResult, LoadOptions, MemoryReport, PerplexityOptions, PerplexityResult,
} from "./options.ts";
import { checkAborted, checkSameVocabulary, completePerplexityOptions, divergenceOf, perplexityOf, textPerplexityOf, windowsOf } from "./perplexity.ts";
import { PassTimer, type Grain, type TimedPass } from "./pass_timer.ts";
import type { PrefixCache, PrefixStats } from "./prefix_cache.ts";
import { pressFrom, type Press, type PressChoice } from "./press.ts";
import type { Presser } from "./presser.ts";
import { Request } from "./request.ts";
import type { Outliers, Runner } from "./runner.ts";
import { compareWindows, readAllLogits, scoreWindows, type Place } from "./scoring.ts";
import { sizesOf, withVerification } from "./sizes.ts";
import { configOf, resolve } from "./source.ts";
import { Speculation } from "./speculation.ts";
import type { Speculator } from "./speculator.ts";
import type { HeldWeights } from "./weights.ts";

export type { ModelSource } from "./build.ts";
export type { Grain, TimedDispatch, TimedPass } from "./pass_timer.ts";

/** What a model runs on: the adapter, the features and limits that were asked of it, and the kernels that were chosen for it. */
export interface Environment {
  readonly adapter: AdapterDescription;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly kernelFamily: string;
  readonly subgroupSize: number;
}

/** What the KV cache holds and has held. */
export interface CacheStats {
  /** Tokens of one KV head of one layer in a block; 1 where the cache is contiguous. */
  readonly blockSize: number;
  readonly blocksTotal: number;
  readonly blocksUsed: number;
  readonly peakBlocksUsed: number;
  /** Token entries (of one KV head of one layer) in use and taken, on average over the forward passes so far; 0 before the first. */
  readonly meanLiveTokens: number;
  readonly meanReservedTokens: number;
  readonly preemptions: number;
  /** All zero without a prefix cache. */
  readonly prefix: PrefixStats;
}

const NO_PREFIX_CACHE: PrefixStats = { queriedTokens: 0, hitTokens: 0, cachedBlocks: 0, evictedBlocks: 0 };

/** Tokens in the cache when costs of speculation are measured: those of a prompt of middling length. */
const COST_CONTEXT = 256;

/** A model on a GPU. Load it with `LLM.load` and free it with `close`. */
export class LLM {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly source: ModelSource;
  /** Longest sequence in tokens, prompt and continuation together. */
  readonly maxModelLen: number;
  readonly loadTimings: { readonly weightsMs: number; readonly pipelinesMs: number };
  /** What a user should know about the files that were chosen. */
  readonly notes: readonly string[];
  readonly #gpu: Gpu;
  readonly #held: readonly HeldWeights[];
  readonly #cache: KvCache;
  readonly #prefix: PrefixCache | null;
  readonly #runner: Runner;
  readonly #presser: Presser;
  readonly #generator: Generator;
  /** Presses by what they were asked for as, so that what was compiled for one serves the next request too; and that of requests that say nothing. */
  readonly #presses = new Map<string, Press>();
  readonly #press: Press | null;
  readonly #speculator: Speculator | null;
  readonly #drafted: PlannedDraft | null;
  #costs: SpeculationCosts | null = null;
  #requests = 0;
  static #loaded = 0;
  readonly #serial = LLM.#loaded++;
  #closed: Promise<void> | null = null;
  /** The device does one thing at a time: the loop of generation, or a pass for logits. */
  #lock: Promise<unknown> = Promise.resolve();

  /**
   * `model`: a folder, a bundled name, a hub id, or `random:NAME`. Throws UsageError, ModelFileError, GpuError or OutOfMemoryError;
   * nothing is left on the GPU then.
   */
  static async load(model: string, options: LoadOptions = {}): Promise<LLM> {
    checkLoadOptions(options);
    const resolved = await resolve(model, options), config = await configOf(resolved);
    const plain = sizesOf(config, options, model);
    const tokenizer = await tokenizerOf(resolved, config);
    if (tokenizer.vocabSize > config.vocabSize) {
      throw new UsageError(`${model}: the tokenizer has ${tokenizer.vocabSize} ids, but the model's vocab_size is ${config.vocabSize}`);
    }
    const drafted = options.draft === undefined ? null : await planDraft(options.draft, { resolved, config, tokenizer, sizes: plain, name: model }, options, tokenizerOf);
    const sizes = drafted === null ? plain : withVerification(plain, drafted.info.k);
    const checkpoint = resolved.kind === "folder" ? await Checkpoint.open(resolved.folder) : null;
    try {
      const gpu = await Gpu.open(options.adapter === undefined ? {} : { adapter: options.adapter });
      try {
        return new LLM(await build(gpu, resolved, config, checkpoint, tokenizer, sizes, drafted, options));
      } catch (error) {
        gpu.close();
        throw error;
      }
    } finally {
      await checkpoint?.close();
    }
  }

  private constructor(parts: Parts) {
    this.config = parts.model.config;
    this.tokenizer = parts.tokenizer;
    this.source = parts.source;
    this.maxModelLen = parts.maxModelLen;
    this.loadTimings = parts.loadTimings;
    this.notes = parts.notes;
    this.#gpu = parts.gpu;
    this.#held = parts.held;
    this.#cache = parts.cache;
    this.#prefix = parts.prefix;
    this.#runner = parts.runner;
    this.#presser = parts.presser;
    this.#press = parts.press;
    this.#speculator = parts.speculator;
    this.#drafted = parts.drafted;
    this.#generator = parts.generator;
  }

  /** Text that follows a prompt, given as text or as token ids. */
  async generate(prompt: string | readonly number[], options: GenerateOptions = {}): Promise<GenerateResult> {
    return (await this.generateBatch([prompt], options))[0]!;
  }

  /**
   * Continue several prompts together, whatever their lengths. Prompt i is sampled with seed + i. Rejects as a whole if one of them
   * cannot run.
   */
  async generateBatch(prompts: readonly (string | readonly number[])[], options: GenerateOptions = {}): Promise<GenerateResult[]> {
    const requests = await this.#requestsFor(prompts, options);
    return Promise.all(requests.map(({ result }) => result));
  }

  /** The pieces of a text as they are generated; the generator returns the whole result. Leaving the loop early aborts the request. */
  async *stream(prompt: string | readonly number[], options: GenerateOptions = {}): AsyncGenerator<{ text: string; id: number }, GenerateResult> {
    completeGenerateOptions(options, (choice) => this.#pressFrom(choice)); // before its signal is used
    const pieces: { text: string; id: number }[] = [];
    let wake = (): void => {};
    const leave = new AbortController();
    const signal = options.signal === undefined ? leave.signal : AbortSignal.any([leave.signal, options.signal]);
    const [request] = await this.#requestsFor([prompt], { ...options, signal }, (piece) => { pieces.push(piece); wake(); });
    let done = false;
    const finished = request!.result.finally(() => { done = true; wake(); });
    finished.catch(() => {}); // thrown below, once the pieces before it are out
    try {
      for (;;) {
        while (pieces.length > 0) yield pieces.shift()!;
        if (done) break;
        await new Promise<void>((resolve) => { wake = resolve; });
      }
      return await finished;
    } finally {
      if (!done) leave.abort();
    }
  }

  /** Logits [T, vocab] of every position of `tokens`, teacher-forced through the real cache in chunks. */
  async logits(tokens: readonly number[]): Promise<Float32Array> {
    this.#open();
    const ids = [...tokens]; // the caller's list may change while it is read in chunks
    this.#checkIds(ids, "logits");
    if (ids.length === 0) throw new UsageError("logits: no token ids were given");
    if (ids.length > this.maxModelLen) throw new ContextLengthError(`logits: ${ids.length} tokens are more than maxModelLen (${this.maxModelLen})`);
    const out = new Float32Array(ids.length * this.config.vocabSize);
    await this.#exclusively(() => readAllLogits(this.#place, ids, out));
    return out;
  }

  /**
   * How well the model predicts a text, given as text or as token ids, by one of the protocols of models/perplexity.ts: through the kernels,
   * formats and cache of generation. Logits stay on the GPU. Nothing else runs meanwhile. Throws UsageError, ContextLengthError,
   * NonFiniteLogitsError naming the token, or AbortedError.
   */
  async perplexity(text: string | readonly number[], options: PerplexityOptions = {}): Promise<PerplexityResult> {
    const { ids, tokens, windows, complete } = await this.#windowsFor("perplexity", text, options);
    const scores = await this.#exclusively(() => scoreWindows("perplexity", this.#place, tokens, windows, complete));
    const result = perplexityOf(scores, complete);
    if (typeof text !== "string" || complete.prefixToken === null) return result;
    const whole = result.tokens === ids.length;
    return { ...result, text: textPerplexityOf(result.nlls, whole ? text : await this.tokenizer.decode(ids.slice(0, result.tokens))) };
  }

  /**
   * How far this model's predictions are from those of `base`, which reads the same windows at the same time: in any format, on any device,
   * with the same vocabulary. Neither does anything else meanwhile. Without a press in the base: `base` may be this same model then, and the
   * result is what the press does to it.
   */
  async divergence(base: LLM, text: string | readonly number[], options: PerplexityOptions = {}): Promise<DivergenceResult> {
    if (!(base instanceof LLM)) throw new UsageError("divergence: base must be an LLM");
    if (base === this) return this.#divergenceOfPress(text, options);
    base.#open();
    await checkSameVocabulary("divergence", this, base);
    completePerplexityOptions("divergence (base model)", { ...options, press: null }, base.config, base.maxModelLen);
    const { tokens, windows, complete } = await this.#windowsFor("divergence", text, options);
    // Always in the same order, or two measurements could wait for each other.
    const [first, second] = this.#serial < base.#serial ? [this, base] : [base, this];
    return divergenceOf(await first.#exclusively(() => second.#exclusively(() => compareWindows("divergence", this.#place, base.#place, tokens, windows, complete))), complete);
  }

  async #divergenceOfPress(text: string | readonly number[], options: PerplexityOptions): Promise<DivergenceResult> {
    if ((options?.press ?? (options?.press === undefined ? this.#press : null)) === null) {
      throw new UsageError("divergence: base is this same model: give a press to compare with none, or load the model a second time");
    }
    const { tokens, windows, complete } = await this.#windowsFor("divergence", text, options);
    return divergenceOf(await this.#exclusively(() => compareWindows("divergence", this.#place, this.#place, tokens, windows, complete)), complete);
  }

  async #windowsFor(call: string, text: string | readonly number[], options: PerplexityOptions) {
    this.#open();
    const { press: choice } = options ?? {};
    const press = choice === undefined ? this.#press : choice === null ? null : this.#pressFrom(choice);
    const complete = completePerplexityOptions(call, options, this.config, this.maxModelLen, press);
    checkAborted(call, complete.signal);
    const ids = typeof text === "string" ? await this.tokenizer.encode(text) : [...text];
    this.#open();
    if (ids.length === 0) throw new UsageError(`${call}: ${typeof text === "string" ? "the text is empty" : "no token ids were given"}`);
    this.#checkIds(ids, call);
    if (press !== null) await this.#providePress(press);
    const { prefixToken } = complete;
    return { ids, complete, windows: windowsOf(call, ids.length, complete), tokens: prefixToken === null ? ids : [prefixToken, ...ids] };
  }

  get #place(): Place {
    return { gpu: this.#gpu, cache: this.#cache, runner: this.#runner, presser: this.#presser };
  }

  /** Bytes of GPU memory by category; all zero after close(). */
  memory(): MemoryReport {
    return this.#gpu.ledger.report();
  }

  /** Count peaks of memory from now on. */
  resetPeak(): void {
    this.#gpu.ledger.resetPeak();
  }

  /** What the matrices are held in, by number format; vectors are left out. */
  weightFormats(): readonly HeldWeights[] {
    const byFormat = new Map<string, HeldWeights>();
    for (const { format, matrices, weights, bytes } of this.#held) {
      const sum = byFormat.get(format) ?? { matrices: 0, weights: 0, bytes: 0 };
      byFormat.set(format, { format, matrices: sum.matrices + matrices, weights: sum.weights + weights, bytes: sum.bytes + bytes });
    }
    return [...byFormat.values()];
  }

  /** Activations that LLM.int8() multiplied as they were, and the columns that had any; null where it is not used. */
  outliers(): Promise<Outliers | null> {
    this.#open();
    return this.#exclusively(() => this.#runner.outliers());
  }

  cacheStats(): CacheStats {
    const { tables } = this.#cache;
    const { cacheUse, scheduler } = this.#generator;
    const passes = Math.max(1, cacheUse.passes);
    return {
      blockSize: tables.blockSize, blocksTotal: tables.total, blocksUsed: tables.used, peakBlocksUsed: cacheUse.peakBlocks,
      meanLiveTokens: cacheUse.liveTokens / passes, meanReservedTokens: cacheUse.reservedTokens / passes, preemptions: scheduler.preemptions,
      prefix: this.#prefix?.stats() ?? NO_PREFIX_CACHE,
    };
  }

  /** What drafts tokens here; null: nothing. */
  get draft(): DraftInfo | null {
    return this.#drafted?.info ?? null;
  }

  /** What a round of speculation costs on this adapter, measured once while nothing else runs. Throws UsageError without a draft. */
  async speculationCosts(): Promise<SpeculationCosts> {
    this.#open();
    const speculator = this.#speculator;
    if (speculator === null) throw new UsageError("speculationCosts: the model was loaded without a draft");
    return this.#costs ??= await this.#exclusively(() => speculator.measure(Math.min(COST_CONTEXT, Math.floor(this.maxModelLen / 2))));
  }

  get environment(): Environment {
    const { adapter, device, family, subgroupSize } = this.#gpu;
    const limits = Object.fromEntries([
      "maxBufferSize", "maxStorageBufferBindingSize", "maxComputeWorkgroupStorageSize", "maxComputeInvocationsPerWorkgroup",
    ].map((name) => [name, device.limits[name as keyof GPUSupportedLimits] as number]));
    return { adapter, features: [...device.features].sort(), limits, kernelFamily: family, subgroupSize };
  }

  /** What happens inside, as events: prefills, decodes, evictions. */
  get trace(): Trace {
    return this.#gpu.trace;
  }

  /** Dispatches of one decode step for a batch of `sequences`. */
  dispatchesPerDecode(sequences = 1): Promise<number> {
    return this.#runner.dispatchesPerDecode(sequences);
  }

  /**
   * Run `work`, such as a call of generate, and time on the GPU the forward passes that it causes: each as it always runs ("pass"), or every
   * dispatch in a pass of its own ("dispatch"), which is slower, though it computes the same. One at a time: a pass that is submitted while
   * another is under way runs untimed and is left out. Null, and `work` is not run, where the device has no timestamp queries. Nothing else
   * should run meanwhile. Throws UsageError when it is at it already, GpuError when the device's clock cannot be trusted.
   */
  async timed<T>(grain: Grain, work: () => Promise<T>): Promise<{ readonly result: T; readonly passes: readonly TimedPass[] } | null> {
    this.#open();
    const timer = await PassTimer.create(this.#gpu, grain);
    if (timer === null) return null;
    try {
      this.#open();
      if (this.#runner.timer !== null) throw new UsageError("timed: passes are being timed already; await that first");
      this.#runner.timer = timer;
      const result = await work();
      return { result, passes: await timer.read() };
    } finally {
      if (this.#runner.timer === timer) this.#runner.timer = null;
      if (this.#closed === null) await timer.close();
    }
  }

  /** Wait for what is running, then free everything on the GPU. Safe to call twice. */
  close(): Promise<void> {
    return this.#closed ??= this.#lock.then(() => { this.#gpu.close(); });
  }

  async #requestsFor(
    prompts: readonly (string | readonly number[])[], options: GenerateOptions, onPiece?: (piece: { text: string; id: number }) => void,
  ): Promise<Request[]> {
    this.#open();
    const complete = completeGenerateOptions(options, (choice) => this.#pressFrom(choice), this.#press);
    this.#checkIds(Object.keys(complete.logitBias).map(Number), "generate: logitBias");
    const encoded = await Promise.all(prompts.map((prompt) => typeof prompt === "string" ? this.tokenizer.encode(prompt) : [...prompt]));
    this.#open();
    if (complete.press !== null) await this.#providePress(complete.press);
    const speculate = await this.#speculation(complete);
    const requests = encoded.map((ids, i) => {
      this.#checkIds(ids, "generate");
      const seed = (complete.seed + i) >>> 0;
      const request = new Request(this.#requests++, ids, { ...complete, seed }, {
        decoder: this.tokenizer.decoder({ skipSpecial: true }), eos: this.config.eosTokenIds, ...(onPiece && { onPiece }),
      });
      request.sequence.speculation = speculate?.() ?? null;
      return request;
    });
    this.#generator.add(requests, complete.signal, (work) => this.#exclusively(work));
    return requests;
  }

  /** What drafts for each of the requests; null: nothing. Throws UsageError for what cannot go together. */
  async #speculation({ draft: wanted, logprobs, press, temperature }: CompleteGenerateOptions): Promise<(() => Speculation) | null> {
    const drafted = this.#drafted;
    if (drafted === null) {
      if (wanted === undefined || wanted === null) return null;
      throw new UsageError("generate: draft says how much to draft, but the model was loaded without one: load it with a draft");
    }
    if (wanted === null) return null;
    if (logprobs !== null) throw new UsageError("generate: logprobs are not made of drafted tokens: give draft null for this request");
    if (press !== null && press.next({ prompt: 1, seen: 1, length: 1, acted: 1 }) !== null && press.stages.some(({ needs }) => needs.queryStats !== undefined || needs.attention === true)) {
      throw new UsageError(`generate: press ${press.name} must see every query, and would see those of tokens that are not accepted: give draft null, or a press that acts on the prompt alone`);
    }
    if (temperature > 0) this.#speculator!.checkDraws();
    const k = wanted?.k ?? drafted.info.k, kinds = draftKinds();
    kinds.check({ model: drafted.info.name, k });
    const costs = k === "adaptive" ? await this.speculationCosts() : null;
    return () => new Speculation(drafted.info.name, kinds.length(k, costs), drafted.text?.() ?? null);
  }

  #pressFrom(choice: PressChoice): Press {
    const key = typeof (choice as Press).next === "function" ? null : JSON.stringify(choice);
    const known = key === null ? undefined : this.#presses.get(key);
    if (known !== undefined) return known;
    const press = pressFrom(choice);
    this.#presser.check(press);
    if (key !== null) this.#presses.set(key, press);
    return press;
  }

  /** Make ready what the press needs: nothing else runs meanwhile, and nobody starts behind entries without the notes that it wants. */
  async #providePress(press: Press): Promise<void> {
    if (this.#presser.provides(press)) return;
    await this.#exclusively(async () => {
      this.#open();
      if (await this.#presser.provide(press)) this.#prefix?.clear();
    });
  }

  #checkIds(ids: readonly number[], call: string): void {
    const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= this.config.vocabSize);
    if (wrong >= 0) throw new UsageError(`${call}: token ${ids[wrong]} at index ${wrong} is not an id from 0 to ${this.config.vocabSize - 1}`);
  }

  #open(): void {
    if (this.#closed !== null) throw new UsageError("this LLM is closed");
    this.#gpu.check();
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#lock.then(work);
    this.#lock = run.catch(() => {});
    return run;
  }
}
