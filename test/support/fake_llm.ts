/**
 * Stands in for LLM in tests of the benchmark: words are tokens, the next token follows from prompt, seed and position, and every step
 * takes a fixed time on a clock of its own. What the cache takes is counted as the real one does, with one layer and one KV head.
 */

import { AbortedError } from "../../engine/errors.ts";
import type { CacheStats, Environment, GenerateOptions, GenerateResult, LoadOptions, MemoryBytes, MemoryReport, ModelSource } from "../../index.ts";
import type { Load, Model } from "../../bench/core/paged_attention.ts";
import { contiguous, reservedEntries } from "../../techniques/paged_attention/index.ts";

export interface FakeOptions {
  /** Milliseconds a step really takes; an abort is noticed between steps. Default 0. */
  readonly stepMs?: number;
  readonly random?: boolean;
  /** Change the tokens of a layout, as a bug would. */
  readonly spoil?: (ids: number[], layout: "paged" | "contiguous") => number[];
  /** Entries reserved by both layouts instead of what they need. */
  readonly reserved?: number;
  readonly onLoad?: (options: LoadOptions) => void;
}

export const PREFILL_MS = 10, DECODE_MS = 2;

const BYTES: MemoryBytes = { weights: 1000, kv: 2000, activations: 300, logits: 40, staging: 5, total: 3345 };

export function fakeLoad(fake: FakeOptions = {}): Load {
  return async (model, options) => {
    fake.onLoad?.(options);
    options.onProgress?.({ stage: "weights", label: model, loaded: 1, total: 2 });
    return fakeModel(model, options, fake);
  };
}

function fakeModel(model: string, options: LoadOptions, fake: FakeOptions): Model & { closed: boolean } {
  const layout = options.kvLayout ?? contiguous;
  const maxModelLen = options.maxModelLen ?? 512, blockSize = layout.name === "paged" ? layout.blockSize : maxModelLen;
  const slots = options.maxSequences ?? 16, blocksTotal = Math.max(1, Math.floor((slots * maxModelLen) / blockSize));
  let peak = 0, passes = 0, live = 0, reserved = 0;
  return {
    closed: false,
    config: { layers: 1, kvHeads: 1, headDim: 8 },
    tokenizer: { encode: (text: string) => text.split(" ").map((word) => word.length) },
    source: { id: model, revision: null, random: fake.random ?? false, fingerprint: "0123456789abcdef0123456789abcdef" } satisfies ModelSource,
    environment: ENVIRONMENT,
    maxModelLen,
    loadTimings: { weightsMs: 5, pipelinesMs: 7 },
    memory: (): MemoryReport => ({ ...BYTES, peak: BYTES }),
    cacheStats: (): CacheStats => ({
      blockSize, blocksTotal, blocksUsed: 0, peakBlocksUsed: Math.ceil(peak / blockSize), preemptions: 0,
      meanLiveTokens: live / Math.max(1, passes), meanReservedTokens: reserved / Math.max(1, passes),
    }),
    async generateBatch(prompts: readonly (readonly number[])[], generate: GenerateOptions): Promise<GenerateResult[]> {
      const count = generate.maxNewTokens!;
      const steps = Math.ceil(prompts.length / slots) * count;
      for (let step = 0; step < steps; step++) {
        if (fake.stepMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fake.stepMs));
        if (generate.signal?.aborted === true) throw new AbortedError();
      }
      const together = prompts.slice(0, slots).map((ids) => ids.length + count);
      const taken = fake.reserved ?? together.reduce((sum, tokens) => sum + reservedEntries(layout, tokens, maxModelLen), 0);
      peak = Math.max(peak, taken);
      passes += steps;
      live += steps * together.reduce((sum, tokens) => sum + tokens, 0);
      reserved += steps * taken;
      return prompts.map((prompt, i) => resultOf(prompt, ((generate.seed ?? 0) + i) >>> 0, count, Math.floor(i / slots) * (PREFILL_MS + count * DECODE_MS), layout.name, fake));
    },
    close() {
      this.closed = true;
      return Promise.resolve();
    },
  };
}

function resultOf(prompt: readonly number[], seed: number, count: number, waited: number, layout: "paged" | "contiguous", { spoil }: FakeOptions): GenerateResult {
  const start = prompt.reduce((hash, id) => (hash * 31 + id) % 9973, seed);
  const ids = Array.from({ length: count }, (_, i) => (start * 7 + i * 13) % 1000);
  const ttft = waited + PREFILL_MS, itl = Array.from({ length: count - 1 }, () => DECODE_MS);
  return {
    ids: spoil?.(ids, layout) ?? ids, text: "", promptTokens: prompt.length, finishReason: "length",
    timings: { ttft, total: ttft + itl.length * DECODE_MS, tpot: count > 1 ? DECODE_MS : null, itl }, stats: { preemptions: 0 },
  };
}

const ENVIRONMENT: Environment = {
  adapter: { vendor: "fake", architecture: "", device: "", description: "a stand-in", backend: "none", software: true },
  features: ["shader-f16"], limits: { maxBufferSize: 1024 }, kernelFamily: "software", subgroupSize: 8,
};
