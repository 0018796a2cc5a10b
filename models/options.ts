/**
 * The words in which a user asks for a model and for text, and in which the answer comes: plain data, no behaviour.
 * Bench and the command line build these records; models/llm.ts consumes them.
 */

import type { TuneReport } from "../kernels/tune.ts";

export type WeightFormat = "f32" | "f16" | "bf16";
export type KvFormat = "f32" | "f16" | "bf16";

/**
 * Where keys and values live. `paged`: blocks of `blockSize` tokens on demand, found through a table. `contiguous`: one stretch per
 * sequence, taken when it starts: of `maxModelLen` tokens (`max`), or of exactly the tokens its request may come to (`exact`).
 */
export type KvLayout = { readonly name: "paged"; readonly blockSize: number } | { readonly name: "contiguous"; readonly reserve: "max" | "exact" };

export interface LoadOptions {
  /** `auto` keeps the format the checkpoint stores. */
  weights?: "auto" | WeightFormat;
  /** Number format of the KV cache. Default f16. */
  kv?: KvFormat;
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
  onProgress?: (progress: LoadProgress) => void;
}

export interface LoadProgress {
  readonly stage: "download" | "weights" | "pipelines";
  readonly label: string;
  readonly loaded: number;
  readonly total: number;
}

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
  /** Generate exactly maxNewTokens (benchmarks). */
  ignoreEos?: boolean;
  signal?: AbortSignal;
}

export type FinishReason = "stop" | "length" | "aborted";

/** Milliseconds, as vLLM defines them: tpot = (total − ttft) / (n − 1), null for fewer than two tokens; itl has n − 1 entries. */
export interface Timings {
  readonly ttft: number;
  readonly tpot: number | null;
  readonly total: number;
  readonly itl: readonly number[];
}

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

export interface GenerateStats {
  /** Times this sequence was pushed out of the cache and recomputed. */
  readonly preemptions: number;
  /** Prompt tokens whose keys and values came out of the prefix cache. */
  readonly cachedTokens: number;
}

/** Bytes by category; `total` is their sum; `peak` holds the highest value each has had. */
export interface MemoryReport extends MemoryBytes { readonly peak: MemoryBytes }
export interface MemoryBytes {
  readonly weights: number;
  readonly kv: number;
  readonly activations: number;
  readonly logits: number;
  readonly staging: number;
  readonly total: number;
}
