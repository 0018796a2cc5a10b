/**
 * The PagedAttention experiment: the same prompts, seeds and kernels under two cache layouts.
 *
 *   basic       contiguous: every sequence reserves max_model_len tokens; static batches of batch_size, one after the other
 *   optimized   paged: blocks on demand from a pool of the same size; continuous batching, at most batch_size running
 *
 * Arms run in seeded random order within each iteration, after warm-up. All requests of an iteration arrive at once, so waiting for a
 * batch counts as time to first token. A run is valid only if paging acted (the cache taken at the peak must be smaller) and, when
 * greedy, changed nothing in the texts. Both arms stay loaded, each in an LLM of its own: only so can they take turns within an
 * iteration, which is what keeps a machine that warms up or is busy for a while from favouring one of them.
 */

import { AbortedError, ContextLengthError, OutOfMemoryError } from "../../engine/errors.ts";
import { DTYPE_BYTES } from "../../engine/dtype.ts";
import type { CacheStats, Environment, GenerateOptions, GenerateResult, KvLayout, LoadOptions, MemoryReport, ModelConfig, ModelSource } from "../../index.ts";
import { contiguous, paged, sequencesThatFit } from "../../techniques/paged_attention/index.ts";
import type { Prompts } from "./prompts.ts";
import type { ExperimentConfig } from "./schema.ts";
import { seeded, shuffled } from "./stats.ts";

/** What the experiment needs of an LLM; tests give a stand-in. */
export interface Model {
  readonly config: Pick<ModelConfig, "layers" | "kvHeads" | "headDim">;
  readonly tokenizer: { encode(text: string): number[] | Promise<number[]> };
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  readonly loadTimings: { readonly weightsMs: number; readonly pipelinesMs: number };
  memory(): MemoryReport;
  cacheStats(): CacheStats;
  generateBatch(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<GenerateResult[]>;
  close(): Promise<void>;
}
export type Load = (model: string, options: LoadOptions) => Promise<Model>;

export type ArmName = "basic" | "optimized";

export interface RequestSample {
  readonly promptTokens: number;
  readonly newTokens: number;
  /** Milliseconds since all requests of the iteration arrived. */
  readonly ttft: number;
  readonly latency: number;
  readonly tpot: number | null;
  readonly itl: readonly number[];
}

export interface Iteration { readonly wallMs: number; readonly requests: readonly RequestSample[] }

export interface ArmResult {
  readonly name: ArmName;
  readonly layout: KvLayout;
  readonly iterations: readonly Iteration[];
  readonly memory: MemoryReport;
  readonly cache: CacheStats;
  /** Bytes of one token of one KV head of one layer, keys and values together. */
  readonly entryBytes: number;
  /** Requests as long as the longest of this run that the whole pool would hold at a time. */
  readonly room: { readonly tokens: number; readonly requests: number };
  readonly loadTimings: Model["loadTimings"];
}

export interface Outcome {
  readonly status: "complete" | "interrupted";
  readonly arms: readonly ArmResult[];
  /** Order in which the arms ran in each iteration. */
  readonly order: readonly (readonly ArmName[])[];
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly maxModelLen: number;
  /** Whether both arms wrote the same; null unless both ran. */
  readonly identical: Identical | null;
}

export interface Identical {
  /** Prompts, of all, whose new tokens were the same in every run of both arms. */
  readonly same: number;
  readonly of: number;
  /** Counted from 0; null when there is none. */
  readonly firstDifference: { readonly prompt: number; readonly token: number } | null;
  /** Greedy texts must not depend on where the cache lives: a difference makes the run invalid. */
  readonly required: boolean;
}

export interface Hooks { readonly signal: AbortSignal; readonly onStep: (label: string, done: number, total: number) => void }

const LAYOUTS = { basic: (): KvLayout => contiguous, optimized: ({ block_size }: ExperimentConfig): KvLayout => paged(block_size) };

interface LoadedArm { readonly name: ArmName; readonly layout: KvLayout; readonly llm: Model }

export async function runPagedAttention(config: ExperimentConfig, { texts }: Prompts, load: Load, hooks: Hooks): Promise<Outcome> {
  const names: readonly ArmName[] = config.method === "both" ? ["basic", "optimized"] : [config.method];
  const arms: LoadedArm[] = [];
  try {
    for (const name of names) arms.push(await loadArm(name, config, load, arms[0]));
    const { llm } = arms[0]!;
    const prompts = await Promise.all(texts.map((text) => llm.tokenizer.encode(text)));
    checkLengths(prompts, config, llm.maxModelLen);
    return await measure(config, prompts, arms, hooks);
  } finally {
    for (const { llm } of arms) await llm.close();
  }
}

/** The second arm gets a pool of the same bytes as the first. */
async function loadArm(name: ArmName, c: ExperimentConfig, load: Load, earlier: LoadedArm | undefined): Promise<LoadedArm> {
  const layout = LAYOUTS[name](c);
  const kvMemory = c.kv_memory ?? (earlier && earlier.llm.cacheStats().blocksTotal * earlier.llm.cacheStats().blockSize * entryBytes(earlier.llm, c));
  const llm = await load(c.model, {
    weights: c.weights, kv: c.kv, kvLayout: layout, maxSequences: c.batch_size, adapter: c.adapter ?? c.device?.[0] ?? "auto",
    ...(kvMemory !== undefined && { kvMemory }), ...(c.max_model_len !== undefined && { maxModelLen: c.max_model_len }),
    ...(c.revision !== undefined && { revision: c.revision }), ...(c.model.startsWith("random:") && { seed: c.seed }),
  }).catch((error: unknown) => {
    if (earlier === undefined || !(error instanceof OutOfMemoryError)) throw error;
    throw new OutOfMemoryError(`${error.message}; both arms are loaded at the same time: run --method basic and --method optimized one after the other`, { cause: error });
  });
  return { name, layout, llm };
}

/** Every request must have room for all its tokens, else the arms would not do the work that the config says. */
function checkLengths(prompts: readonly (readonly number[])[], { max_tokens }: ExperimentConfig, maxModelLen: number): void {
  const prompt = longest(prompts);
  if (prompt + max_tokens > maxModelLen) {
    throw new ContextLengthError(`the longest prompt has ${prompt} tokens; with max_tokens ${max_tokens} it needs ${prompt + max_tokens}, ` +
      `but a sequence has room for ${maxModelLen}: lower max_tokens, shorten the prompts or raise max_model_len`);
  }
}

function entryBytes({ config: { headDim } }: Model, { kv }: ExperimentConfig): number {
  return 2 * headDim * DTYPE_BYTES[kv];
}

function longest(prompts: readonly (readonly number[])[]): number {
  return prompts.reduce((most, ids) => Math.max(most, ids.length), 0);
}

function roomOf({ layout, llm }: LoadedArm, tokens: number): ArmResult["room"] {
  const { blocksTotal, blockSize } = llm.cacheStats();
  const entries = Math.floor(blocksTotal / (llm.config.layers * llm.config.kvHeads)) * blockSize;
  return { tokens, requests: sequencesThatFit(layout, tokens, llm.maxModelLen, entries) };
}

async function measure(config: ExperimentConfig, prompts: readonly (readonly number[])[], arms: readonly LoadedArm[], { signal, onStep }: Hooks): Promise<Outcome> {
  const random = seeded(config.seed);
  const iterations = new Map<ArmName, Iteration[]>(arms.map(({ name }) => [name, []]));
  const texts = new Map<ArmName, (readonly number[])[][]>(arms.map(({ name }) => [name, []]));
  const order: ArmName[][] = [];
  const total = (config.warmup_iterations + config.test_iterations) * arms.length;
  let done = 0;
  let status: Outcome["status"] = "complete";
  try {
    for (let i = -config.warmup_iterations; i < config.test_iterations; i++) {
      const turn = shuffled(arms, random);
      if (i >= 0) order.push(turn.map(({ name }) => name));
      for (const { name, llm } of turn) {
        onStep(i < 0 ? `warm-up, ${name}` : `iteration ${i + 1} of ${config.test_iterations}, ${name}`, done++, total);
        const { iteration, tokens } = await runOnce(name, llm, config, prompts, signal);
        if (i >= 0) iterations.get(name)!.push(iteration);
        texts.get(name)!.push(tokens);
      }
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    status = "interrupted";
  }
  onStep("done", total, total);
  const { llm } = arms[0]!;
  return {
    status, order, source: llm.source, environment: llm.environment, maxModelLen: llm.maxModelLen,
    identical: compareTexts([...texts.values()], config.temperature === 0),
    arms: arms.map((arm) => ({
      name: arm.name, layout: arm.layout, iterations: iterations.get(arm.name)!, memory: arm.llm.memory(), cache: arm.llm.cacheStats(),
      entryBytes: entryBytes(arm.llm, config), room: roomOf(arm, longest(prompts) + config.max_tokens), loadTimings: arm.llm.loadTimings,
    })),
  };
}

/** `runs`: new tokens by arm, run and prompt. */
function compareTexts(runs: readonly (readonly (readonly (readonly number[])[])[])[], required: boolean): Identical | null {
  const reference = runs[0]?.[0];
  if (reference === undefined || runs.length < 2 || runs.some((arm) => arm.length === 0)) return null;
  const parted = reference.map((tokens, i) => {
    const other = runs.flat().map((run) => run[i]!).find((ids) => ids.length !== tokens.length || ids.some((id, k) => id !== tokens[k]));
    if (other === undefined) return null;
    const token = tokens.findIndex((id, k) => id !== other[k]);
    return { prompt: i, token: token < 0 ? tokens.length : token };
  });
  const differences = parted.filter((difference) => difference !== null);
  return { same: reference.length - differences.length, of: reference.length, firstDifference: differences[0] ?? null, required };
}

async function runOnce(
  name: ArmName, llm: Model, config: ExperimentConfig, prompts: readonly (readonly number[])[], signal: AbortSignal,
): Promise<{ iteration: Iteration; tokens: (readonly number[])[] }> {
  const { max_tokens, temperature, top_p, seed, batch_size, ignore_eos } = config;
  const options = { maxNewTokens: max_tokens, temperature, topP: top_p, ignoreEos: ignore_eos, signal };
  const started = performance.now();
  const requests: RequestSample[] = [];
  const tokens: (readonly number[])[] = [];
  const step = name === "basic" ? batch_size : prompts.length;
  for (let first = 0; first < prompts.length; first += step) {
    const waited = performance.now() - started;
    // Prompt i is always sampled with seed + i, whatever batch it is in.
    const results = await llm.generateBatch(prompts.slice(first, first + step), { ...options, seed: (seed + first) >>> 0 });
    for (const { ids, promptTokens, timings } of results) {
      requests.push({ promptTokens, newTokens: ids.length, ttft: waited + timings.ttft, latency: waited + timings.total, tpot: timings.tpot, itl: timings.itl });
      tokens.push(ids);
    }
  }
  return { iteration: { wallMs: performance.now() - started, requests }, tokens };
}
