/**
 * Stands in for LLM in tests of the benchmark: words are tokens, the next token follows from prompt, seed and position, and every step
 * takes a fixed time on a clock of its own. A small server: continuous batching, the youngest pushed out when the cache is full, reserved
 * and live entries counted as the real one does, with one layer and one KV head, and a prefix cache that never forgets.
 */

import { AbortedError, ContextLengthError, OutOfMemoryError } from "../../engine/errors.ts";
import type { TraceEvent } from "../../engine/trace.ts";
import type { CacheStats, Environment, GenerateOptions, GenerateResult, KvLayout, LoadOptions, MemoryBytes, MemoryReport, ModelSource, WeightFormat } from "../../index.ts";
import type { Load, Model } from "../../bench/core/arms.ts";
import { checkAborted, completePerplexityOptions, perplexityOf, windowsOf } from "../../models/perplexity.ts";
import type { PerplexityOptions } from "../../models/options.ts";
import { parseQuantizationConfig } from "../../models/quantization_config.ts";
import { contiguousMax, reservedEntries } from "../../techniques/paged_attention/index.ts";

export interface FakeOptions {
  /** Milliseconds a step really takes; an abort is noticed between steps. Default 0. */
  readonly stepMs?: number;
  readonly random?: boolean;
  /** Change the tokens of a layout, as a bug would. */
  readonly spoil?: (ids: number[], layout: "paged" | "contiguous") => number[];
  /** Entries that every sequence reserves, whatever the layout, instead of what it needs. */
  readonly reserved?: number;
  /** Texts end after this many tokens, unless told to ignore it. */
  readonly eosAfter?: number;
  /** The prefix cache finds nothing. */
  readonly forgetful?: boolean;
  readonly onLoad?: (options: LoadOptions) => void;
  /** Weights stay in f16 whatever is asked for. */
  readonly keepsFloats?: boolean;
  /** More models than this at a time do not fit. */
  readonly mostModels?: number;
}

/** Milliseconds of a step that reads prompts, and of one that does not. */
export const PREFILL_MS = 10, DECODE_MS = 2;
/** Bytes of an entry in f16: 8 numbers each for key and value. */
export const ENTRY_BYTES = 32;

const BYTES: MemoryBytes = { weights: 1000, kv: 2000, activations: 300, logits: 40, staging: 5, total: 3345 };

/** Bytes per weight, and how far the next-token distributions are off, of 500 weights. `auto` is f16. */
const FORMATS: Readonly<Record<WeightFormat, { readonly bytes: number; readonly error: number }>> = {
  f32: { bytes: 4, error: 0 }, f16: { bytes: 2, error: 0 }, bf16: { bytes: 2, error: 0.001 }, int8: { bytes: 1.1, error: 0.002 }, "llm.int8": { bytes: 1.1, error: 0.004 },
  nf4: { bytes: 0.6, error: 0.05 }, "nf4-double": { bytes: 0.56, error: 0.051 }, fp4: { bytes: 0.6, error: 0.1 }, "fp4-double": { bytes: 0.56, error: 0.101 },
};
const WEIGHTS = 500, VOCAB = 64;

export function fakeLoad(fake: FakeOptions = {}): Load {
  let models = 0;
  return async (model, options) => {
    fake.onLoad?.(options);
    if (models >= (fake.mostModels ?? Infinity)) throw new OutOfMemoryError("the weights do not fit");
    models++;
    options.onProgress?.({ stage: "weights", label: model, loaded: 1, total: 2 });
    return fakeModel(model, options, fake, () => { models--; });
  };
}

/** Next-token distribution behind a token at a place, off by `error`. */
function logProbabilities(id: number, place: number, error: number): number[] {
  const logits = Array.from({ length: VOCAB }, (_, token) => Math.cos(id + 3 * token) + error * Math.sin(7 * token + 11 * place + id));
  const norm = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
  return logits.map((logit) => logit - norm);
}

/** What a protocol scores: the token `to` behind the one at `at`. */
function placesOf(ids: readonly number[], options: PerplexityOptions) {
  const complete = completePerplexityOptions("perplexity", options, { bosTokenId: 0, eosTokenIds: [0], vocabSize: VOCAB }, 1024);
  checkAborted("perplexity", complete.signal);
  const tokens = complete.prefixToken === null ? ids : [complete.prefixToken, ...ids];
  const places = windowsOf("perplexity", ids.length, complete).flatMap(({ scored, to }, window) =>
    Array.from({ length: to - scored }, (_, i) => ({ window, at: scored + i - 1, to: tokens[scored + i]! })));
  return { complete, places };
}

function perWindow(places: readonly { readonly window: number }[]): number[] {
  return [...Map.groupBy(places, ({ window }) => window).values()].map(({ length }) => length);
}

/** A request on its way. */
interface Job {
  readonly id: number;
  readonly prompt: readonly number[];
  readonly ids: readonly number[];
  readonly arrived: number;
  readonly times: number[];
  readonly signal: AbortSignal | undefined;
  preemptions: number;
  cached: number;
  /** Tokens in the cache; null while it waits. */
  live: number | null;
  readonly settle: { resolve: (result: GenerateResult) => void; reject: (error: unknown) => void };
}

function fakeModel(model: string, options: LoadOptions, fake: FakeOptions, onClose: () => void): Model {
  const asked = options.quantizationConfig === undefined ? options.weights : parseQuantizationConfig(options.quantizationConfig, "quantizationConfig").weights;
  const format = fake.keepsFloats === true || asked === undefined || asked === "auto" ? "f16" : asked;
  const { bytes, error } = FORMATS[format];
  const weights = bytes * WEIGHTS, memory: MemoryBytes = { ...BYTES, weights, total: BYTES.total - BYTES.weights + weights };
  const layout: KvLayout = options.kvLayout ?? contiguousMax;
  const maxModelLen = options.maxModelLen ?? 512, slots = options.maxSequences ?? 16, blockSize = layout.name === "paged" ? layout.blockSize : 1;
  const blocksTotal = Math.floor(options.kvMemory === undefined ? (slots * maxModelLen) / blockSize : options.kvMemory / (ENTRY_BYTES * blockSize));
  if (layout.name === "contiguous" && layout.reserve === "max" && blocksTotal < maxModelLen) {
    throw new OutOfMemoryError(`the KV cache needs at least ${maxModelLen * ENTRY_BYTES} bytes, but ${options.kvMemory} are allowed`);
  }
  const listeners = new Set<(event: TraceEvent) => void>();
  const waiting: Job[] = [], running: Job[] = [];
  const use = { passes: 0, live: 0, reserved: 0, peak: 0, preemptions: 0, queried: 0, hit: 0 };
  const known = new Set<string>();
  let clock = 0, requests = 0, isLooping = false;

  const reservedBy = ({ prompt, ids }: Job, tokens: number): number => fake.reserved ?? reservedEntries(layout, tokens, maxModelLen, prompt.length + ids.length);
  const taken = (): number => running.reduce((sum, job) => sum + reservedBy(job, job.live!), 0);
  const fits = (job: Job, tokens: number): boolean => taken() + reservedBy(job, tokens) <= blocksTotal * blockSize;

  /** Tokens of the longest known prefix in whole blocks; at least one is left to read. */
  const lookUp = (prompt: readonly number[]): number => {
    let found = 0;
    for (let end = blockSize; end < prompt.length && known.has(String(prompt.slice(0, end))); end += blockSize) found = end;
    return fake.forgetful === true ? 0 : found;
  };

  const preempt = (): void => {
    const job = running.pop()!;
    job.live = null;
    job.preemptions++;
    use.preemptions++;
    waiting.unshift(job);
  };

  /** Admit what fits, then a token for everybody. */
  const step = (): void => {
    for (let i = 0; i < running.length;) {
      const job = running[i]!;
      const before = reservedBy(job, job.live!), after = reservedBy(job, job.live! + 1);
      if (taken() - before + after > blocksTotal * blockSize && running.length > 1) preempt();
      else {
        job.live!++;
        i++;
      }
    }
    let share = 0, isPrefill = false;
    while (running.length < slots && waiting.length > 0 && fits(waiting[0]!, waiting[0]!.prompt.length + waiting[0]!.times.length)) {
      const job = waiting.shift()!;
      isPrefill = true;
      if (options.prefixCache === true && layout.name === "paged" && job.preemptions === 0) {
        job.cached = lookUp(job.prompt);
        use.queried += job.prompt.length;
        use.hit += job.cached;
        for (let end = blockSize; end <= job.prompt.length; end += blockSize) known.add(String(job.prompt.slice(0, end)));
      }
      share = Math.max(share, 1 - job.cached / Math.max(1, job.prompt.length));
      job.live = job.prompt.length + job.times.length;
      running.push(job);
    }
    const sequences = running.map(({ id }) => id);
    for (const listener of listeners) listener(isPrefill ? { type: "prefill", sequences, rows: sequences.length } : { type: "decode", sequences });
    use.passes++;
    use.live += running.reduce((sum, job) => sum + job.live!, 0);
    use.reserved += taken();
    use.peak = Math.max(use.peak, taken());
    clock += isPrefill ? PREFILL_MS * share : DECODE_MS;
    for (const job of [...running]) {
      job.times.push(clock);
      if (job.times.length < job.ids.length) continue;
      running.splice(running.indexOf(job), 1);
      job.settle.resolve(resultOf(job));
    }
  };

  const drop = (): void => {
    for (const list of [waiting, running]) {
      for (const job of list.filter(({ signal }) => signal?.aborted === true)) {
        list.splice(list.indexOf(job), 1);
        job.settle.reject(new AbortedError());
      }
    }
  };
  const loop = async (): Promise<void> => {
    isLooping = true;
    await Promise.resolve(); // requests of the same turn start together
    for (;;) {
      if (fake.stepMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fake.stepMs));
      drop();
      if (running.length + waiting.length === 0) break;
      step();
    }
    isLooping = false;
  };

  const generate = (prompt: readonly number[], { maxNewTokens = 128, seed = 0, ignoreEos = false, signal }: GenerateOptions): Promise<GenerateResult> => {
    const count = ignoreEos ? maxNewTokens : Math.min(maxNewTokens, fake.eosAfter ?? Infinity);
    if (reservedEntries(layout, prompt.length + count, maxModelLen) > blocksTotal * blockSize) return Promise.reject(new ContextLengthError("the request is larger than the cache"));
    const { promise, resolve, reject } = Promise.withResolvers<GenerateResult>();
    const start = prompt.reduce((hash, id) => (hash * 31 + id) % 9973, seed);
    const ids = Array.from({ length: count }, (_, i) => (start * 7 + i * 13) % 1000);
    const job: Job = { id: requests++, prompt, ids: fake.spoil?.(ids, layout.name) ?? ids, arrived: clock, times: [], signal, preemptions: 0, cached: 0, live: null, settle: { resolve, reject } };
    if (count === 0) resolve(resultOf(job));
    else waiting.push(job);
    if (!isLooping) void loop();
    return promise;
  };

  return {
    config: { layers: 1, kvHeads: 1, headDim: 8 },
    tokenizer: { encode: (text: string) => text.split(" ").map((word) => Math.min(word.length, VOCAB - 1)) },
    source: { id: model, revision: null, random: fake.random ?? false, fingerprint: "0123456789abcdef0123456789abcdef" } satisfies ModelSource,
    environment: ENVIRONMENT,
    maxModelLen,
    loadTimings: { weightsMs: 5, pipelinesMs: 7 },
    trace: { on: (listener) => { listeners.add(listener); return () => { listeners.delete(listener); }; } },
    memory: (): MemoryReport => ({ ...memory, peak: memory }),
    resetPeak: () => {},
    perplexity: (ids, perplexity) => {
      const { complete, places } = placesOf(ids, perplexity);
      const nlls = Float32Array.from(places, ({ at, to }) => -logProbabilities(ids[at]!, at, error)[to]!);
      return Promise.resolve(perplexityOf({ nlls, hits: new Uint8Array(places.length), tokensPerWindow: perWindow(places), presses: [] }, complete));
    },
    divergence: (base, ids, perplexity) => {
      const { complete: { protocol, context, stride }, places } = placesOf(ids, perplexity), other = FORMATS[base.weightFormats()[0]!.format as WeightFormat].error;
      const pairs = places.map(({ at, to }) => ({ p: logProbabilities(ids[at]!, at, other), q: logProbabilities(ids[at]!, at, error), to }));
      const tokensPerWindow = perWindow(places);
      return Promise.resolve({
        protocol, context, stride, tokens: places.length, windows: tokensPerWindow.length, tokensPerWindow,
        nlls: Float32Array.from(pairs, ({ q, to }) => -q[to]!), baseNlls: Float32Array.from(pairs, ({ p, to }) => -p[to]!),
        klds: Float32Array.from(pairs, ({ p, q }) => p.reduce((sum, log, k) => sum + Math.exp(log) * (log - q[k]!), 0)),
        sameTop: Uint8Array.from(pairs, ({ p, q }) => Number(p.indexOf(Math.max(...p)) === q.indexOf(Math.max(...q)))),
        hits: new Uint8Array(places.length), baseHits: new Uint8Array(places.length),
      });
    },
    weightFormats: () => [{ format, matrices: 5, weights: WEIGHTS, bytes: weights }],
    outliers: () => Promise.resolve(format === "llm.int8" ? { elements: 12, columns: 3 } : null),
    cacheStats: (): CacheStats => ({
      blockSize, blocksTotal, blocksUsed: 0, peakBlocksUsed: Math.ceil(use.peak / blockSize), preemptions: use.preemptions,
      meanLiveTokens: use.live / Math.max(1, use.passes), meanReservedTokens: use.reserved / Math.max(1, use.passes),
      prefix: { queriedTokens: use.queried, hitTokens: use.hit, cachedBlocks: known.size, evictedBlocks: 0 },
    }),
    generate,
    generateBatch: (prompts, batch) => Promise.all(prompts.map((prompt, i) => generate(prompt, { ...batch, seed: ((batch.seed ?? 0) + i) >>> 0 }))),
    close: () => {
      onClose();
      return Promise.resolve();
    },
  };
}

function resultOf({ ids, prompt, arrived, times, preemptions, cached }: Job): GenerateResult {
  const ttft = (times[0] ?? arrived) - arrived, total = (times.at(-1) ?? arrived) - arrived;
  return {
    ids, text: "", promptTokens: prompt.length, finishReason: "length", stats: { preemptions, cachedTokens: cached },
    timings: { ttft, total, tpot: ids.length > 1 ? (total - ttft) / (ids.length - 1) : null, itl: times.slice(1).map((time, i) => time - times[i]!) },
  };
}

const ENVIRONMENT: Environment = {
  adapter: { vendor: "fake", architecture: "", device: "", description: "a stand-in", backend: "none", software: true },
  features: ["shader-f16"], limits: { maxBufferSize: 1024 }, kernelFamily: "software", subgroupSize: 8,
};
