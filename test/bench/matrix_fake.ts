/**
 * Stands in for an LLM in tests of the matrix: what it writes follows from prompt, formats and press alone, so that layouts and drafts are
 * lossless and idle presses are none, and it refuses what the real one refuses. `spoil` makes a technique fail as a bug would.
 */

import { UsageError } from "../../engine/errors.ts";
import type { TraceEvent } from "../../engine/trace.ts";
import { WEIGHT_FORMATS } from "../../kernels/formats.ts";
import { KV_FORMATS, kvBlockWords, kvEncodings } from "../../kernels/kv_formats.ts";
import type { GenerateOptions, GenerateResult, LoadOptions, PressReport } from "../../index.ts";
import type { SpeculationStats } from "../../models/draft.ts";
import type { Press } from "../../models/press.ts";
import { perplexityOf } from "../../models/perplexity.ts";
import type { LoadTried } from "../../bench/core/matrix/command.ts";
import type { Tried } from "../../bench/core/matrix/trial.ts";
import { SIZES } from "../../bench/core/matrix/axes.ts";

export type Spoil =
  /** The technique does nothing. */
  | "keeps floats" | "keeps kv" | "evicts nothing" | "drafts nothing" | "shares nothing" | "reserves all"
  /** The text is another one. */
  | "draft changes text" | "prefix changes text" | "idle press changes text" | "close call"
  | "predicts badly" | "predicts NaN" | "crashes" | "refuses late" | "never ends";

export interface FakeMatrix { readonly spoil?: Spoil; /** Only where this holds. */ readonly where?: (options: LoadOptions, press: Press | null) => boolean; readonly onLoad?: (options: LoadOptions) => void; readonly onClose?: () => void }

const LAYERS = 2, KV_HEADS = 1, HEAD_DIM = 32;

export function fakeTried({ spoil, where = () => true, onLoad, onClose }: FakeMatrix = {}): LoadTried {
  return async (_model, options) => {
    onLoad?.(options);
    const { kvLayout: layout, draft, prefixCache } = options, isPaged = layout?.name === "paged", kv = options.kv!;
    if (kv === "kivi4" && !isPaged) throw new UsageError("kv: kivi4 needs blocks");
    const has = (fault: Spoil, press: Press | null = null): boolean => spoil === fault && where(options, press);
    const known = new Set<string>(), listeners = new Set<(event: TraceEvent) => void>();
    const block = isPaged ? layout.blockSize : 1, { k, v } = kvEncodings(kv, HEAD_DIM);
    const blockBytes = 4 * (kvBlockWords(k, block) + kvBlockWords(v, block)), blocks = 1000;
    // Another text and another quality for every two formats.
    const lossy = 10 * WEIGHT_FORMATS.indexOf(options.weights as "f16") + (typeof kv === "string" ? KV_FORMATS.indexOf(kv as "f16") : KV_FORMATS.length);

    const one = (prompt: readonly number[], { press: choice, maxNewTokens = 1, draft: asked, logprobs }: GenerateOptions): GenerateResult => {
      const press = (choice ?? null) as Press | null, isIdle = press !== null && !/0\.|target 48/.test(press.name.replaceAll("0.2)", ""));
      if (press !== null && !isPaged) {
        if (has("refuses late", press)) for (const listener of listeners) listener({ type: "prefill", sequences: [0], rows: 1 });
        throw new UsageError(`press ${press.name}: a contiguous cache has no blocks`);
      }
      if (has("crashes", press)) throw new TypeError("undefined is not a buffer");
      for (const listener of listeners) listener({ type: "prefill", sequences: [0], rows: prompt.length });
      const drafts = draft !== undefined && asked !== null, cached = prefixCache === true && known.has(String(prompt)) && !has("shares nothing", press);
      known.add(String(prompt));
      const acts = press !== null && !isIdle && !has("evicts nothing", press);
      const wrong = (drafts && has("draft changes text", press)) || (drafts && has("close call", press)) || (cached && has("prefix changes text", press)) || (isIdle && has("idle press changes text", press));
      const start = prompt.length + lossy + (acts ? press.name.length : 0);
      const ids = Array.from({ length: maxNewTokens }, (_, i) => (start * 7 + i * 13 + (wrong && i > 4 ? 1 : 0)) % 1000);
      const evicted = acts ? 10 : 0;
      const report: PressReport = { name: press?.name ?? "", events: Number(acts), evicted, kept: [[5], [5]], seen: prompt.length, freedBytes: 0, ms: 1 };
      const drafted = has("drafts nothing", press) ? 0 : 9;
      const speculation: SpeculationStats = { draft: draft?.model ?? "", rounds: 3, drafted, accepted: 2, draftedAt: [], acceptedAt: [], tokens: 5, draftMs: 1, verifyMs: 1, hostMs: 1 };
      const near = has("close call", press) ? 0.0001 : 2;
      return {
        ids, text: "", promptTokens: prompt.length, finishReason: "length", timings: { ttft: 1, tpot: 1, total: 2, itl: [] },
        ...(logprobs !== undefined && { logprobs: ids.map((id) => ({ id, logprob: -1, rank: 0, top: [{ id, logprob: -1 }, { id: (id + 1) % 1000, logprob: -1 - near }] })) }),
        stats: { preemptions: 0, cachedTokens: cached ? 64 : 0, ...(press !== null && { press: report }), ...(drafts && { speculation }) },
      };
    };
    const llm: Tried = {
      config: { layers: LAYERS, kvHeads: KV_HEADS, headDim: HEAD_DIM },
      tokenizer: { encode: (text) => Array.from({ length: 2000 }, (_, i) => (text.length + i) % 97) },
      environment: { adapter: { vendor: "fake", architecture: "", device: "", description: "a stand-in", backend: "none", software: true }, features: [], limits: {}, kernelFamily: "software", subgroupSize: 8 },
      trace: { on: (listener) => { listeners.add(listener); return () => { listeners.delete(listener); }; } },
      memory: () => {
        const bytes = { weights: 1, kv: (has("keeps kv") ? 3 : 1) * blocks * blockBytes + 100, activations: 1, logits: 1, staging: 1, total: 5 };
        return { ...bytes, peak: bytes };
      },
      cacheStats: () => {
        const max = SIZES.prompts.length * SIZES.maxModelLen, exact = SIZES.prompts.reduce((sum, prompt) => sum + prompt + SIZES.newTokens, 0);
        const reserved = !isPaged && layout?.reserve === "exact" && !has("reserves all") ? exact : max;
        return {
          blockSize: block, blocksTotal: blocks, blocksUsed: 0, peakBlocksUsed: reserved * LAYERS * KV_HEADS / block, meanLiveTokens: 0, meanReservedTokens: 0, preemptions: 0,
          prefix: { queriedTokens: 0, hitTokens: 0, cachedBlocks: 0, evictedBlocks: 0 },
        };
      },
      weightFormats: () => [{ format: has("keeps floats") ? "f16" : options.weights as "f16", matrices: 4, weights: 600, bytes: 600 }, { format: "f16", matrices: 1, weights: 400, bytes: 800 }],
      generate: async (prompt, asked) => one(prompt, asked),
      generateBatch: async (prompts, asked) => {
        if (has("never ends", asked.press as Press | null)) await new Promise(() => {}); // not even when it is told to stop
        return prompts.map((prompt) => one(prompt, asked));
      },
      perplexity: async (_ids, { press }) => {
        const nll = 4 + lossy / 10_000 + (has("predicts badly", press as Press | null) ? 1 : 0), value = has("predicts NaN", press as Press | null) ? NaN : nll;
        return perplexityOf({ nlls: Float32Array.from([value]), hits: new Uint8Array(1), tokensPerWindow: [1], presses: [] }, {
          protocol: "prefill-continue", context: 96, continuation: 32, stride: 128, maxWindows: 1, prefixToken: null, press: null,
        } as unknown as Parameters<typeof perplexityOf>[1]);
      },
      close: async () => { onClose?.(); },
    };
    return llm;
  };
}
