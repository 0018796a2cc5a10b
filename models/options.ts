/**
 * The words in which a user asks for a model and for text, and in which the answer comes: plain data, no behaviour.
 * Bench and the command line build these records; models/llm.ts consumes them.
 */

import type { WeightFormat } from "../kernels/formats.ts";
import type { KvChoice } from "../kernels/kv_formats.ts";
import type { TuneReport } from "../kernels/tune.ts";
import type { DraftOptions, SpeculationStats } from "./draft.ts";
import type { PressChoice } from "./press.ts";

export type { WeightFormat } from "../kernels/formats.ts";
export type { KvChoice, KvFormat, KvNumbers } from "../kernels/kv_formats.ts";

/**
 * Where keys and values live. `paged`: blocks of `blockSize` tokens on demand, found through a table. `contiguous`: one stretch per
 * sequence, taken when it starts: of `maxModelLen` tokens (`max`), or of exactly the tokens its request may come to (`exact`).
 */
export type KvLayout = { readonly name: "paged"; readonly blockSize: number } | { readonly name: "contiguous"; readonly reserve: "max" | "exact" };

/** Options of `LLM.load`; all have defaults. */
export interface LoadOptions {
  /** `auto` keeps the format the checkpoint stores. */
  weights?: "auto" | WeightFormat;
  /**
   * The same in the keys of transformers' BitsAndBytesConfig (`load_in_8bit`, `load_in_4bit`, `bnb_4bit_quant_type`, …), instead of
   * `weights`. A key that would have no effect is refused.
   */
  quantizationConfig?: Readonly<Record<string, unknown>>;
  /**
   * Number format of the KV cache: a name, `{ format: "int4", group: 16 }` where int8 and int4 shall share a scale among fewer or more
   * dimensions than the largest of 32, 16 and 8 that divides head_dim, or `{ k, v }` with one for keys and one for values. Default f16.
   * `kivi4` has values in int4 and keys in 4 bits with a scale for each channel of a block, the newest keys of each sequence in f16 until
   * their block is full; a paged cache only, in blocks of a multiple of 8 tokens: with 32, KIVI's group, a token takes the bytes of int4.
   */
  kv?: KvChoice;
  /** Default paged with blocks of 16 tokens. */
  kvLayout?: KvLayout;
  /** Keep full blocks of earlier prompts and texts while there is room, and start new requests behind what they share. Default: true when paged. */
  prefixCache?: boolean;
  /** Bytes of GPU memory for keys and values together. Default: enough for 8 sequences of maxModelLen, at most 1 GiB. */
  kvMemory?: number;
  /** Longest sequence (prompt and continuation) in tokens. Default: what the model's config allows, at most 4,096. */
  maxModelLen?: number;
  /** Most sequences that run in one step. Default 16. */
  maxSequences?: number;
  /** Most prompt tokens in one forward pass; longer prompts are prefilled in chunks. Default 256. */
  prefillChunk?: number;
  /** `auto` prefers a GPU over the software adapter; else `software`, an index of `dawnlm doctor`, or part of an adapter's name. */
  adapter?: string | number;
  /**
   * Before use, time the variants of this model's matrix products on this device, each checked first, and keep the winners for later runs,
   * which take them by themselves (not on the software adapter; the environment variable DAWNLM_TUNING=off forbids it). At most `budgetMs`
   * milliseconds, by default 30,000, and 2,000 on the software adapter.
   */
  tune?: { readonly budgetMs?: number; readonly onReport?: (report: TuneReport) => void };
  /** Seed of `random:` weights. Default 0. */
  seed?: number;
  /** A commit, branch or tag of a hub model. Default `main`. */
  revision?: string;
  /** What drafts tokens for speculative decoding: another model of the same tokenizer, the text itself, or this model in another weight format. */
  draft?: DraftOptions;
  /** What becomes of the KV cache of requests that say nothing else: a press, or its name with its parameters. Default: nothing is evicted. */
  press?: PressChoice;
  onProgress?: (progress: LoadProgress) => void;
}

/** How far loading is. */
export interface LoadProgress {
  readonly stage: "download" | "weights" | "pipelines";
  readonly label: string;
  readonly loaded: number;
  readonly total: number;
}

/** Options of `generate`, `stream` and `generateBatch`. Without any: greedy, until the model's end of text or 128 tokens. */
export interface GenerateOptions {
  /** Default 128; never past maxModelLen (then the finish reason is `length`). */
  maxNewTokens?: number;
  /** 0 is greedy (the default); else logits are divided by it before sampling. */
  temperature?: number;
  /** Keep the smallest set of most likely tokens whose probabilities add up to at least this. (0, 1], default 1. */
  topP?: number;
  /** Keep the k most likely tokens; 0 (default) keeps all. */
  topK?: number;
  /** Keep tokens whose probability is at least this share of the most likely one's. [0, 1], default 0 keeps all. */
  minP?: number;
  /** Logits of tokens in prompt or text so far are divided by it where positive, else multiplied (CTRL, Keskar et al. 2019). Default 1. */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that the text so far holds (not the prompt), as OpenAI defines it. [−2, 2], default 0. */
  presencePenalty?: number;
  /** Subtracted once for every time the text so far holds the token. [−2, 2], default 0. */
  frequencyPenalty?: number;
  /** Added to the logits of token ids. */
  logitBias?: Readonly<Record<number, number>>;
  /** Log-probabilities of each new token and of the n most likely ones instead of it, before temperature, penalties and filters. 0 to 20. */
  logprobs?: number;
  /** Same seed, same text on the same adapter. Default 0. */
  seed?: number;
  /** Text ends before the first of these strings. */
  stop?: readonly string[];
  /** How many tokens to draft in a round, where the model was loaded with a draft; null: none. */
  draft?: { readonly k: number | "adaptive" } | null;
  /** Instead of the press that the model was loaded with; null: none. */
  press?: PressChoice | null;
  /**
   * KnormPress (Devoto et al. 2024) after every token: once a layer holds at least `pruneAfter` tokens (default 512), keep this share of them in
   * each KV head, those with the smallest keys. `skipLayers` are left alone. The press `knorm_steps` by other names.
   */
  keepRatio?: number;
  pruneAfter?: number;
  skipLayers?: readonly number[];
  /** Generate exactly maxNewTokens (benchmarks). */
  ignoreEos?: boolean;
  signal?: AbortSignal;
}

/** `stop`: an end-of-text token or a stop text; `length`: as many tokens as were asked for, or as fit; `aborted`: by the signal. */
export type FinishReason = "stop" | "length" | "aborted";

/** Milliseconds, as vLLM defines them: tpot = (total − ttft) / (n − 1), null for fewer than two tokens; itl has n − 1 entries. */
export interface Timings {
  readonly ttft: number;
  readonly tpot: number | null;
  readonly total: number;
  readonly itl: readonly number[];
}

/** A finished request. */
export interface GenerateResult {
  /** New tokens only. */
  readonly ids: readonly number[];
  readonly text: string;
  readonly promptTokens: number;
  readonly finishReason: FinishReason;
  /** One for each of `ids`; only when asked for. */
  readonly logprobs?: readonly TokenLogprobs[];
  readonly timings: Timings;
  readonly stats: GenerateStats;
}

/** Natural logarithms of probabilities. */
export interface TokenLogprobs {
  readonly id: number;
  readonly logprob: number;
  /** How many tokens were more likely. */
  readonly rank: number;
  /** The most likely tokens, best first. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/** What happened to a request, counted where it happened. */
export interface GenerateStats {
  /** Times this sequence was pushed out of the cache and recomputed. */
  readonly preemptions: number;
  /** Prompt tokens whose keys and values came out of the prefix cache. */
  readonly cachedTokens: number;
  /** What the press did; absent without one. */
  readonly press?: PressReport;
  /** What was drafted and accepted; absent without a draft. */
  readonly speculation?: SpeculationStats;
}

/** What a press has done to a sequence, or to the windows of a measurement (then `kept`, `seen` and `ms` are means over the windows, the rest sums). */
export interface PressReport {
  readonly name: string;
  /** Times that it acted. */
  readonly events: number;
  /** Entries, of one KV head of one layer each, that it evicted. */
  readonly evicted: number;
  /** [layers, kvHeads] entries left after its last act; empty before the first. */
  readonly kept: readonly (readonly number[])[];
  /** Tokens read by then. */
  readonly seen: number;
  /** Bytes of the blocks that its entries need no more; where a prefix is shared, they stay with whoever else has them. */
  readonly freedBytes: number;
  /** Wall time of its acts. */
  readonly ms: number;
}

/** Named as the tools that made them known (models/perplexity.ts has the definitions); `strided` is Hugging Face's. */
export type PerplexityProtocol = "strided" | "llama.cpp" | "lm-eval-rolling" | "decode" | "prefill-continue";

/** Options of `perplexity` and `divergence`. */
export interface PerplexityOptions {
  /** Default strided. */
  protocol?: PerplexityProtocol;
  /** Tokens of a window, the most a token is predicted from and one. Default 512, or maxModelLen where that is less. */
  context?: number;
  /** Only of `prefill-continue`: tokens that are scored behind the context of each window. Default 128. */
  continuation?: number;
  /** Instead of the press that the model was loaded with; null: none. Only under `decode` and `prefill-continue`: a single pass sees no press. */
  press?: PressChoice | null;
  /** Only of `strided`: tokens from window to window. Default context: windows that do not overlap. */
  stride?: number;
  /** Only the first windows of the text. Default all. */
  maxWindows?: number;
  /** Only of `lm-eval-rolling`: the token before the text. Default the config's BOS, or EOS where it has none. */
  prefixToken?: number;
  signal?: AbortSignal;
  /** Called between windows. */
  onProgress?: (done: number, total: number) => void;
}

/** How well the model predicted a text. */
export interface PerplexityResult {
  readonly protocol: PerplexityProtocol;
  readonly context: number;
  /** Tokens from window to window; under `prefill-continue` context + continuation. */
  readonly stride: number;
  /** e to the meanNll: weighted by tokens, not by windows. */
  readonly perplexity: number;
  /** perplexity · standardError (the delta method), as llama.cpp prints it. */
  readonly perplexityError: number | null;
  /** Natural logarithms: nats per token. */
  readonly meanNll: number;
  /** Of meanNll, over tokens as if they were independent, as llama.cpp has it; null for a single token. */
  readonly standardError: number | null;
  /** Of meanNll, over windows, within which tokens hang together; null for a single window. Also windows of one text resemble each other. */
  readonly standardErrorOverWindows: number | null;
  /** Share of tokens that were the likeliest. */
  readonly accuracy: number;
  /** −log p of each scored token, in the order of the text. */
  readonly nlls: Float32Array;
  readonly tokens: number;
  readonly windows: number;
  readonly tokensPerWindow: readonly number[];
  /** What the press did, and what it left: `press.kept`; absent without one. */
  readonly press?: PressReport;
  readonly kept?: PressReport["kept"];
  /** Under `lm-eval-rolling`, which scores every token, when text was given. */
  readonly text?: TextPerplexity;
}

/** Of the text that was scored, as lm-eval counts words (what white space parts) and bytes (UTF-8). */
export interface TextPerplexity {
  readonly words: number;
  readonly bytes: number;
  readonly wordPerplexity: number;
  readonly bytePerplexity: number;
  readonly bitsPerByte: number;
}

/** Token by token beside a base model; all arrays have one element per scored token. bench/core/quality.ts has its statistics. */
export interface DivergenceResult extends Pick<PerplexityResult, "protocol" | "context" | "stride" | "nlls" | "tokens" | "windows" | "tokensPerWindow" | "press" | "kept"> {
  /** KL(base‖this) over the whole vocabulary, in nats. */
  readonly klds: Float32Array;
  readonly baseNlls: Float32Array;
  /** 1 where the likeliest token of both models is the same. */
  readonly sameTop: Uint8Array;
  /** 1 where it is the token that truly follows. */
  readonly hits: Uint8Array;
  readonly baseHits: Uint8Array;
}

/** Bytes by category; `total` is their sum; `peak` holds the highest value each has had. */
export interface MemoryReport extends MemoryBytes { readonly peak: MemoryBytes }
/** GPU memory in bytes, by what owns it. */
export interface MemoryBytes {
  readonly weights: number;
  readonly kv: number;
  readonly activations: number;
  readonly logits: number;
  readonly staging: number;
  readonly total: number;
}
