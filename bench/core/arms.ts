/**
 * The arms of an experiment: one model in several ways, each in an LLM of its own and all loaded at the same time, since only so can they
 * take turns within an iteration, which keeps a machine that warms up or is busy for a while from favouring one of them. Those of
 * PagedAttention differ in where the cache lies; those of quantization and precision (weights/arms.ts) in the numbers of the weights.
 *
 *   contiguous-max     every sequence reserves max_model_len tokens; static batches, one after the other       (--method basic)
 *   contiguous-exact   every sequence reserves exactly what its request will come to; continuous batching
 *   paged              blocks on demand; continuous batching                                                   (--method optimized)
 *   paged-prefix       the same with a prefix cache, which all others run without
 */

import { ContextLengthError, OutOfMemoryError } from "../../engine/errors.ts";
import type { TraceEvent } from "../../engine/trace.ts";
import type { DivergenceResult, PerplexityOptions, PerplexityResult } from "../../models/options.ts";
import type { Outliers } from "../../models/runner.ts";
import type { HeldWeights } from "../../models/weights.ts";
import type { CacheStats, Environment, GenerateOptions, GenerateResult, KvLayout, LoadOptions, MemoryReport, ModelConfig, ModelSource } from "../../index.ts";
import { WEIGHT_FORMATS } from "../../kernels/formats.ts";
import { kvBlockWords, kvEncodings } from "../../kernels/kv_formats.ts";
import { contiguousExact, contiguousMax, paged, reservedEntries } from "../../techniques/paged_attention/index.ts";
import { CacheMeter } from "./meter.ts";
import { LAYOUTS, type ExperimentConfig } from "./schema.ts";

/** What an experiment needs of an LLM; tests give a stand-in. */
export interface Model {
  readonly config: Pick<ModelConfig, "layers" | "kvHeads" | "headDim">;
  readonly tokenizer: { encode(text: string): number[] | Promise<number[]> };
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  readonly loadTimings: { readonly weightsMs: number; readonly pipelinesMs: number };
  readonly trace: { on(listener: (event: TraceEvent) => void): () => void };
  memory(): MemoryReport;
  resetPeak(): void;
  cacheStats(): CacheStats;
  generate(prompt: readonly number[], options: GenerateOptions): Promise<GenerateResult>;
  generateBatch(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<GenerateResult[]>;
  perplexity(ids: readonly number[], options: PerplexityOptions): Promise<PerplexityResult>;
  /** How far its predictions are from those of `base`. */
  divergence(base: Model, ids: readonly number[], options: PerplexityOptions): Promise<DivergenceResult>;
  weightFormats(): readonly HeldWeights[];
  outliers(): Promise<Outliers | null>;
  close(): Promise<void>;
}
export type Load = (model: string, options: LoadOptions) => Promise<Model>;

export const LAYOUT_ARMS = LAYOUTS;
export type LayoutArm = (typeof LAYOUTS)[number];
/** `again`: the first arm a second time, for what two equal arms differ by. */
export const WEIGHT_ARMS = ["basic", "again", "quantized", ...WEIGHT_FORMATS] as const;
export type WeightArm = (typeof WEIGHT_ARMS)[number];
export type ArmName = LayoutArm | WeightArm;

/** What makes an arm: how its LLM is loaded, and how it is given its requests. */
export interface ArmPlan<N extends string = ArmName> {
  readonly name: N;
  readonly layout: KvLayout;
  readonly prefixCache: boolean;
  /** A batch is done before the next one begins; else requests come and go. */
  readonly isStatic: boolean;
  /** Beside what every arm is loaded with. */
  readonly options: Partial<LoadOptions>;
}

const KV_LAYOUTS: Readonly<Record<LayoutArm, (config: ExperimentConfig) => KvLayout>> = {
  "contiguous-max": () => contiguousMax, "contiguous-exact": () => contiguousExact,
  paged: ({ block_size }) => paged(block_size), "paged-prefix": ({ block_size }) => paged(block_size),
};

/** `again` is the first arm a second time: what two equal arms differ by. */
export function layoutArms(names: readonly (LayoutArm | "again")[], config: ExperimentConfig): ArmPlan[] {
  return names.map((name) => ({ name, ...layoutOf(name === "again" ? names[0] as LayoutArm : name, config), options: { weights: config.weights } }));
}

/** How an LLM with a cache of that layout is loaded and given its requests. */
export function layoutOf(name: LayoutArm, config: ExperimentConfig): Pick<ArmPlan, "layout" | "prefixCache" | "isStatic"> {
  return { layout: KV_LAYOUTS[name](config), prefixCache: name === "paged-prefix", isStatic: name === "contiguous-max" };
}

export interface Arm<N extends string = ArmName> {
  readonly name: N;
  readonly layout: KvLayout;
  readonly llm: Model;
  readonly meter: CacheMeter;
  /** Requests in a static batch; null batches continuously. */
  readonly batch: number | null;
  /** Most sequences that may run in one step. */
  readonly limit: number;
  /** Bytes of one token of one KV head of one layer, keys and values together. */
  readonly entryBytes: number;
  readonly poolBytes: number;
  /** Tokens that the pool holds: entries of each table. */
  readonly entries: number;
}

/** An arm that cannot run at all: its pool does not hold one sequence. */
export interface Skipped { readonly name: ArmName; readonly needs: number; readonly holds: number }

export interface Arms {
  readonly loaded: readonly Arm[];
  readonly skipped: readonly Skipped[];
  /** Bytes of keys and values that every arm may use. */
  readonly budget: number;
}

/** Most sequences of a continuous batch when memory alone is to be the limit. */
const MOST_SEQUENCES = 256;

/**
 * Loads every arm with a pool of the same bytes: kv_memory, or what the first arm takes by default, batch_size sequences of max_model_len.
 * `memoryAlone`: continuous arms may run as many sequences as the pool holds. Throws what loading throws; nothing stays loaded then.
 */
export async function loadArms(plans: readonly ArmPlan[], config: ExperimentConfig, load: Load, { memoryAlone = false } = {}): Promise<Arms> {
  const loaded: Arm[] = [];
  let tooSmall: { readonly name: ArmName; readonly error: OutOfMemoryError } | null = null;
  let budget = config.kv_memory;
  try {
    for (const plan of plans) {
      const { name } = plan;
      if (name === "again" && tooSmall !== null) continue;
      const limit = !memoryAlone || (plan.isStatic && budget === undefined) ? config.batch_size : Math.min(config.num_prompts, MOST_SEQUENCES);
      try {
        loaded.push(await loadArm(plan, config, load, budget, limit, loaded.length > 0));
      } catch (error) {
        if (!(error instanceof OutOfMemoryError) || name !== "contiguous-max" || budget === undefined || plans.length === 1) throw error;
        tooSmall = { name, error }; // perhaps: the next arm tells how much a token takes
        continue;
      }
      budget ??= loaded[0]!.poolBytes;
    }
    const skipped = tooSmall === null ? [] : [skip(tooSmall.name, tooSmall.error, loaded[0]!, budget!)];
    return { loaded, skipped, budget: budget! };
  } catch (error) {
    await closeArms(loaded);
    throw error;
  }
}

/** Throws the error when it was another than a budget of less than one sequence. */
function skip(name: ArmName, error: OutOfMemoryError, { llm, entryBytes }: Arm, budget: number): Skipped {
  const holds = entriesOf(llm, budget, entryBytes);
  if (holds >= llm.maxModelLen) throw error;
  return { name, needs: llm.maxModelLen, holds };
}

/** Tokens that `bytes` of keys and values hold. */
export function entriesOf({ config: { layers, kvHeads } }: Pick<Model, "config">, bytes: number, entryBytes: number): number {
  return Math.floor(bytes / (entryBytes * layers * kvHeads));
}

/** `limit`: most sequences in one step. `another`: other arms are loaded already, which the error says when memory runs out. */
export async function loadArm<N extends string>(
  { name, layout, prefixCache, isStatic, options }: ArmPlan<N>, c: ExperimentConfig, load: Load, kvMemory: number | undefined, limit: number, another: boolean,
): Promise<Arm<N>> {
  const kv = options.kv ?? c.kv;
  const llm = await load(c.model, {
    ...options, kv, kvLayout: layout, prefixCache, maxSequences: limit, adapter: c.adapter ?? c.device?.[0] ?? "auto",
    ...(kvMemory !== undefined && { kvMemory }), ...(c.max_model_len !== undefined && { maxModelLen: c.max_model_len }),
    ...(c.revision !== undefined && { revision: c.revision }), ...(c.model.startsWith("random:") && { seed: c.seed }),
  }).catch((error: unknown) => {
    if (!another || !(error instanceof OutOfMemoryError)) throw error;
    const instead = c.technique === "PagedAttention" ? "run --method basic and --method optimized one after the other"
      : c.technique === "combos" ? "leave out some arms" : "give --loading in-turn";
    throw new OutOfMemoryError(`${error.message}; all arms are loaded at the same time: lower kv_memory, or ${instead}`, { cause: error });
  });
  const { blocksTotal, blockSize } = llm.cacheStats();
  const { k, v } = kvEncodings(kv, llm.config.headDim);
  const entryBytes = 4 * (kvBlockWords(k, blockSize) + kvBlockWords(v, blockSize)) / blockSize;
  const entries = Math.floor(blocksTotal / (llm.config.layers * llm.config.kvHeads)) * blockSize;
  return {
    name, layout, llm, limit, entries, entryBytes, poolBytes: blocksTotal * blockSize * entryBytes, meter: new CacheMeter(llm),
    batch: isStatic ? Math.max(1, Math.min(limit, Math.floor(entries / llm.maxModelLen))) : null,
  };
}

export async function closeArms(arms: readonly Pick<Arm, "llm" | "meter">[]): Promise<void> {
  for (const arm of arms) await closeArm(arm);
}

async function closeArm({ llm, meter }: Pick<Arm, "llm" | "meter">): Promise<void> {
  meter.close();
  await llm.close();
}

/**
 * Every request must have room for all its tokens in every arm, else the arms would not do the work that the config says. Throws
 * ContextLengthError with the numbers and the keys to change. `limit` names the key that the new tokens come from.
 */
export function checkRoom(jobs: readonly { readonly ids: readonly number[]; readonly newTokens: number }[], arms: readonly Arm<string>[], limit: string): void {
  const { ids: { length: prompt }, newTokens } = jobs.reduce((most, job) => (job.ids.length + job.newTokens > most.ids.length + most.newTokens ? job : most));
  const tokens = prompt + newTokens;
  for (const { name, layout, llm, entries } of arms) {
    if (tokens > llm.maxModelLen) {
      throw new ContextLengthError(`the longest prompt has ${prompt} tokens; with ${limit} ${newTokens} it needs ${tokens}, ` +
        `but a sequence has room for ${llm.maxModelLen}: lower ${limit}, shorten the prompts or raise max_model_len`);
    }
    const needs = reservedEntries(layout, tokens, llm.maxModelLen);
    if (needs > entries) {
      throw new ContextLengthError(`${name}: the longest request, ${prompt} tokens of prompt and ${newTokens} new ones, needs a cache of ${needs} tokens, ` +
        `but kv_memory holds ${entries}: raise kv_memory, or lower ${layout.name === "contiguous" && layout.reserve === "max" ? "max_model_len" : limit}`);
    }
  }
}
