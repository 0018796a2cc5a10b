/**
 * Max-length waste. "Paging is so many times faster", where the baseline reserves max_model_len for every sequence, so that the same
 * memory holds fewer of them at a time. What is measured is the batch. Three arms with the same kernels and the same bytes of cache: at
 * equal memory, and at the batch that all of them hold.
 */

import { sentence } from "../../../bench/core/compare.ts";
import { gatePaging } from "../../../bench/core/gates.ts";
import { en } from "../../../bench/core/lang/en.ts";
import { percent, signed } from "../../../bench/core/metrics.ts";
import { change, quantile, type Change } from "../../../bench/core/stats.ts";
import { takeTurns } from "../../../bench/core/turns.ts";
import {
  LLM, type CacheStats, type GenerateOptions, type GenerateResult, type KvLayout, type LoadOptions, type TraceEvent,
} from "../../../index.ts";
import { contiguousExact, contiguousMax, paged } from "../../../techniques/paged_attention/index.ts";
import { excerpt, QUIETLY, show, type Exhibit, type Told } from "../hall.ts";

export interface Served {
  readonly tokenizer: { encode(text: string): readonly number[] | Promise<readonly number[]> };
  readonly trace: { on(listener: (event: TraceEvent) => void): () => void };
  cacheStats(): Pick<CacheStats, "meanLiveTokens" | "meanReservedTokens">;
  generateBatch(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<Pick<GenerateResult, "ids" | "timings">[]>;
  close(): Promise<void>;
}

export interface Options {
  readonly load?: (options: LoadOptions) => Promise<Served>;
  /** Bytes of one token in the cache of all layers. */
  readonly tokenBytes?: number;
  readonly requests?: number;
  readonly iterations?: number;
}

/** By the names of the arms. */
type ByArm = Readonly<Record<string, number>>;

/** Output throughput of paged against contiguous-max, and the most sequences in a step. */
export interface AtEqualMemory extends Told { readonly throughput: Change; readonly running: ByArm }

export interface AtEqualBatch extends Told {
  /** Paged against contiguous-max, and against contiguous-exact. */
  readonly throughput: Change;
  readonly tableCost: Change;
  readonly running: ByArm;
  /** Part of what was reserved at equal memory that held no token. */
  readonly waste: ByArm;
  /** What gatePaging says: paging did act, on memory. */
  readonly paging: string | null;
}

interface Arm {
  readonly name: string;
  readonly llm: Served;
  /** Most sequences in a step since it was asked last. */
  takeRunning(): number;
}

const LAYOUTS: readonly (readonly [string, KvLayout])[] = [
  ["contiguous-max", contiguousMax], ["contiguous-exact", contiguousExact], ["paged", paged()],
];
const PROMPT_TOKENS = 32, NEW_TOKENS = 32, MAX_MODEL_LEN = 256;
/** Sequences of MAX_MODEL_LEN that the memory holds. */
const HOLDS = 2;
/** 4 layers, keys and values of 6 heads of 32 dimensions in f16: tiny-neox. */
const TOKEN_BYTES = 4 * 2 * 6 * 32 * 2;

export async function exhibit({
  load = (options) => LLM.load("tiny-neox", options), tokenBytes = TOKEN_BYTES, requests = 12, iterations = 7,
}: Options = {}): Promise<Exhibit<AtEqualMemory, AtEqualBatch>> {
  const arms: Arm[] = [];
  try {
    for (const [name, kvLayout] of LAYOUTS) {
      const kvMemory = HOLDS * MAX_MODEL_LEN * tokenBytes;
      const llm = await load({ kvLayout, kvMemory, prefixCache: false, maxModelLen: MAX_MODEL_LEN, maxSequences: requests });
      arms.push({ name, llm, takeRunning: runningOf(llm) });
    }
    const text = await excerpt(arms[0]!.llm, 0, requests * PROMPT_TOKENS);
    const prompts = Array.from({ length: requests }, (_, i) => text.slice(i * PROMPT_TOKENS, (i + 1) * PROMPT_TOKENS));

    const many = await throughputs(arms, prompts, iterations);
    const waste = Object.fromEntries(arms.map(({ name, llm }) => {
      const { meanLiveTokens, meanReservedTokens } = llm.cacheStats();
      return [name, 1 - meanLiveTokens / meanReservedTokens];
    }));
    const few = await throughputs(arms, prompts.slice(0, HOLDS), iterations);
    const metric = { key: "output_tokens_per_s", better: "higher" } as const;
    const told = (throughput: Change): string => sentence({ metric, change: throughput }, en);
    const atOnce = (running: ByArm): string => arms.map(({ name }) => `${name} ${running[name]}`).join(", ");
    const speed = change(many.of("contiguous-max"), many.of("paged"))!, equal = change(few.of("contiguous-max"), few.of("paged"))!;
    const exact = change(many.of("contiguous-max"), many.of("contiguous-exact"))!;
    const tableCost = change(few.of("contiguous-exact"), few.of("paged"))!;
    const engagement = en.wasted(percent(waste["paged"]!), percent(waste["contiguous-max"]!));
    return {
      misleading: {
        throughput: speed, running: many.running,
        says: `Paged against contiguous-max, same memory, ${requests} requests: ${(1 + speed.median / 100).toFixed(2)} × the throughput ` +
          `(${signed(speed.median)}).\nPaged attention is faster.`,
      },
      honest: {
        throughput: equal, tableCost, running: few.running, waste,
        paging: gatePaging(waste["paged"]!, waste["contiguous-max"]!, engagement, en),
        says: `Sequences in a step, at most: ${atOnce(many.running)}. Paging saves memory: ${engagement}.\n` +
          `contiguous-exact, without any paging, comes to ${signed(exact.median)} against contiguous-max.\n` +
          `With ${HOLDS} requests, a batch that all hold (${atOnce(few.running)}), what is left is the block table. ` +
          `Against contiguous-exact: ${told(tableCost)}.`,
      },
      gate: equal.measurable && equal.median > 0 ? null : `at equal batch, paged against contiguous-max: ${told(equal)}`,
    };
  } finally {
    for (const { llm } of arms) await llm.close();
  }
}

/** Counts from now on. */
function runningOf({ trace }: Served): () => number {
  let most = 0;
  trace.on((event) => { if (event.type === "prefill" || event.type === "decode") most = Math.max(most, event.sequences.length); });
  return () => {
    const found = most;
    most = 0;
    return found;
  };
}

/** Output tokens per second of every arm by iteration, in turns; and the most sequences that ran in a step. */
async function throughputs(arms: readonly Arm[], prompts: readonly (readonly number[])[], iterations: number) {
  const { samples } = await takeTurns<Arm, number>({
    arms, nameOf: ({ name }) => name, msOf: (perSecond) => 1000 / perSecond,
    once: async ({ llm }) => {
      const results = await llm.generateBatch(prompts, { maxNewTokens: NEW_TOKENS, ignoreEos: true });
      const tokens = results.reduce((sum, { ids }) => sum + ids.length, 0);
      return 1000 * tokens / quantile(results.map(({ timings }) => timings.total), 1)!; // all arrived at once: the last one is the end
    },
  }, { seed: 1, warmup_iterations: 2, warmup_limit: 4, test_iterations: iterations }, QUIETLY);
  const running: ByArm = Object.fromEntries(arms.map(({ name, takeRunning }) => [name, takeRunning()]));
  return { of: (name: string) => samples.get(name)!, running };
}

await show(import.meta.url, "Max-length waste", () => exhibit());
