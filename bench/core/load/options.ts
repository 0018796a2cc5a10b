/** From the flags of `node bench/load.ts`, which are named as in `vllm bench serve` where that has them, to one checked record. */

import type { KvFormat, KvLayout, LoadOptions, WeightFormat } from "../../../index.ts";
import { WEIGHT_FORMATS } from "../../../kernels/formats.ts";
import { KV_FORMATS } from "../../../kernels/kv_formats.ts";
import { anyText, choice, flagOf, list, memory, readFlags, real, refuse, whole, type Rule } from "./flags.ts";

export const LATENCIES = ["ttft", "tpot", "itl", "e2el"] as const;
export type Latency = (typeof LATENCIES)[number];
/** What a goodput may ask for, as vLLM has it: most milliseconds. */
export const SLOS = ["ttft", "tpot", "e2el"] as const;
export type Slo = (typeof SLOS)[number];

const LAYOUTS = { paged: "paged", "contiguous-max": "max", "contiguous-exact": "exact" } as const;
type LayoutName = keyof typeof LAYOUTS;

export interface LoadConfig {
  readonly model: string;
  readonly numPrompts: number;
  /** Requests per second; null: all at once. */
  readonly requestRate: number | null;
  readonly burstiness: number;
  readonly maxConcurrency: number | null;
  readonly inputLen: number;
  readonly outputLen: number;
  /** Lengths are drawn uniformly from len · (1 ± ratio). */
  readonly rangeRatio: number;
  /** Tokens that all random prompts begin with, beside their input length. */
  readonly prefixLen: number;
  readonly promptsFile: string | null;
  readonly goodput: Readonly<Partial<Record<Slo, number>>>;
  readonly percentileMetrics: readonly Latency[];
  readonly metricPercentiles: readonly number[];
  readonly seed: number;
  readonly temperature: number;
  readonly ignoreEos: boolean;
  readonly numWarmups: number;
  readonly kvLayout: LayoutName;
  readonly blockSize: number | null;
  readonly prefixCache: boolean;
  readonly kvMemory: number | null;
  readonly maxModelLen: number | null;
  readonly maxNumSeqs: number;
  readonly weights: "auto" | WeightFormat;
  readonly kv: KvFormat;
  readonly adapter: string;
  readonly outputDir: string;
  readonly save: boolean;
}

const rate: Rule<number | null> = {
  words: "requests per second (a number above 0), or inf",
  read: (text) => (/^inf$/i.test(text) ? null : real(0, { open: true }).read(text)),
};

const slos: Rule<Readonly<Partial<Record<Slo, number>>>> = {
  words: `most milliseconds by name, each once, such as "ttft:200 tpot:50 e2el:2000"`,
  read: (text) => {
    const pairs = text.trim().split(/\s+/).map((item) => {
      const [, name = "", limit = ""] = /^(\w+):(.+)$/.exec(item) ?? [];
      return [choice(...SLOS).read(name), real(0, { open: true }).read(limit)] as const;
    });
    const names = new Set(pairs.map(([name]) => name));
    const bad = pairs.some(([name, limit]) => name === undefined || limit === undefined) || names.size < pairs.length;
    return bad ? undefined : Object.fromEntries(pairs);
  },
};

const RULES = {
  model: anyText, numPrompts: whole(1, 1_000_000), requestRate: rate, burstiness: real(0, { open: true }), maxConcurrency: whole(1),
  inputLen: whole(1, 1_000_000), randomInputLen: whole(1, 1_000_000), outputLen: whole(1, 1_000_000), randomOutputLen: whole(1, 1_000_000),
  randomRangeRatio: real(0, { max: 1, openMax: true }), randomPrefixLen: whole(0, 1_000_000), promptsFile: anyText, goodput: slos,
  percentileMetrics: list(choice(...LATENCIES), `some of ${LATENCIES.join(", ")}, separated by commas`),
  metricPercentiles: list(real(0, { max: 100 }), "numbers from 0 to 100, separated by commas, each once"),
  seed: whole(0, 0xffff_ffff), temperature: real(0, { max: 100 }), numWarmups: whole(0, 10_000),
  kvLayout: choice(...(Object.keys(LAYOUTS) as LayoutName[])),
  blockSize: whole(1), kvMemory: memory, maxModelLen: whole(2), maxNumSeqs: whole(1, 1024), weights: choice("auto", ...WEIGHT_FORMATS),
  kv: choice(...KV_FORMATS), adapter: anyText, outputDir: anyText,
} as const;

/** `flags` as commander gives them: texts by name. Throws UsageError with a line for every problem. */
export function loadConfig(flags: Readonly<Record<string, unknown>>): LoadConfig {
  const problems: string[] = [];
  const given = readFlags(RULES, flags, problems);
  const both = (a: keyof typeof given, b: keyof typeof given, why: string): void => {
    if (given[a] !== undefined && given[b] !== undefined) problems.push(`${flagOf(b)}: ${why}`);
  };
  both("inputLen", "randomInputLen", "is the same as --input-len; give one of them");
  both("outputLen", "randomOutputLen", "is the same as --output-len; give one of them");
  for (const random of ["inputLen", "randomInputLen", "randomPrefixLen"] as const) {
    both("promptsFile", random, "makes random prompts, but --prompts-file gives them; keep one");
  }
  if (given.burstiness !== undefined && (given.requestRate ?? null) === null) {
    problems.push("--burstiness: has no effect without a --request-rate: all requests arrive at once");
  }
  const kvLayout = given.kvLayout ?? "paged";
  if (kvLayout !== "paged" && given.blockSize !== undefined) problems.push(`--block-size: has no effect on a cache that is ${kvLayout}`);
  refuse(problems);
  return {
    model: given.model ?? "tiny-neox", numPrompts: given.numPrompts ?? 32, requestRate: given.requestRate ?? null, burstiness: given.burstiness ?? 1,
    maxConcurrency: given.maxConcurrency ?? null, inputLen: given.inputLen ?? given.randomInputLen ?? 128,
    outputLen: given.outputLen ?? given.randomOutputLen ?? 64, rangeRatio: given.randomRangeRatio ?? 0, prefixLen: given.randomPrefixLen ?? 0,
    promptsFile: given.promptsFile ?? null, goodput: given.goodput ?? {}, percentileMetrics: given.percentileMetrics ?? LATENCIES,
    metricPercentiles: given.metricPercentiles ?? [50, 90, 99], seed: given.seed ?? 0, temperature: given.temperature ?? 0,
    ignoreEos: flags["ignoreEos"] === true, numWarmups: given.numWarmups ?? 1, kvLayout, blockSize: kvLayout === "paged" ? given.blockSize ?? 16 : null,
    prefixCache: kvLayout === "paged" && flags["prefixCache"] !== false, kvMemory: given.kvMemory ?? null, maxModelLen: given.maxModelLen ?? null,
    maxNumSeqs: given.maxNumSeqs ?? 16, weights: given.weights ?? "auto", kv: given.kv ?? "f16", adapter: given.adapter ?? "auto",
    outputDir: given.outputDir ?? "results", save: flags["save"] !== false,
  };
}

export function loadOptionsOf(config: LoadConfig): LoadOptions {
  const { kvLayout, blockSize, prefixCache, kvMemory, maxModelLen, maxNumSeqs, weights, kv, adapter, model, seed } = config;
  const layout: KvLayout = kvLayout === "paged" ? { name: "paged", blockSize: blockSize! } : { name: "contiguous", reserve: LAYOUTS[kvLayout] };
  return {
    weights, kv, kvLayout: layout, maxSequences: maxNumSeqs, adapter, ...(kvLayout === "paged" && { prefixCache }),
    ...(kvMemory !== null && { kvMemory }), ...(maxModelLen !== null && { maxModelLen }), ...(model.startsWith("random:") && { seed }),
  };
}
