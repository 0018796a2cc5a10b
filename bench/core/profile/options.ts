/** From the flags of `node bench/profile.ts` to one checked record. */

import { WEIGHT_FORMATS, type WeightFormat } from "../../../kernels/formats.ts";
import type { KvFloat } from "../../../kernels/kv_formats.ts";
import type { LoadOptions, ModelConfig } from "../../../index.ts";
import { anyText, choice, flagOf, list, memory, readFlags, refuse, whole } from "../load/flags.ts";

export interface ProfileConfig {
  readonly model: string;
  /** Tokens of the prompt, and new tokens behind it. */
  readonly prompt: number;
  readonly new: number;
  readonly repetitions: number;
  /** How many requests run at the same time, one row of the table each. */
  readonly concurrency: readonly number[];
  readonly weights: "auto" | WeightFormat;
  readonly kv: KvFloat;
  readonly kvMemory: number | null;
  readonly maxModelLen: number | null;
  readonly prefillChunk: number | null;
  readonly adapter: string;
  readonly seed: number;
  /** Measure the adapter's own bandwidth and speed first. */
  readonly roof: boolean;
  /** Time every dispatch of a decode step and of a prefill. */
  readonly kernels: boolean;
  readonly outputDir: string;
  readonly save: boolean;
}

const RULES = {
  model: anyText, prompt: whole(1, 1_000_000), new: whole(1, 1_000_000), repetitions: whole(1, 1000),
  concurrency: list(whole(1, 1024), "whole numbers from 1 to 1024, separated by commas, each once"),
  weights: choice("auto", ...WEIGHT_FORMATS), kv: choice("f32", "f16", "bf16"), kvMemory: memory, maxModelLen: whole(2), prefillChunk: whole(1, 65_535),
  adapter: anyText, seed: whole(0, 0xffff_ffff), outputDir: anyText,
} as const;

/** What --floors looks at. */
const OF_FLOORS = ["floors", "prompt", "debug"];

/** Throws UsageError with a line for every problem. */
export function profileConfig(flags: Readonly<Record<string, unknown>>, given: readonly string[]): ProfileConfig {
  const problems: string[] = [];
  const values = readFlags(RULES, flags, problems);
  if (flags["floors"] === true) {
    const idle = given.filter((name) => !OF_FLOORS.includes(name));
    const named = idle.map(flagOf).join(", ");
    if (idle.length > 0) problems.push(`--floors: prints what follows from configs and measures nothing, so ${named} would have no effect`);
  }
  refuse(problems);
  return {
    model: values.model ?? "tiny-neox", prompt: values.prompt ?? 512, new: values.new ?? 128, repetitions: values.repetitions ?? 5,
    concurrency: values.concurrency ?? [], weights: values.weights ?? "auto", kv: values.kv ?? "f16", kvMemory: values.kvMemory ?? null,
    maxModelLen: values.maxModelLen ?? null, prefillChunk: values.prefillChunk ?? null, adapter: values.adapter ?? "auto", seed: values.seed ?? 0,
    roof: flags["roof"] === true, kernels: flags["kernels"] === true, outputDir: values.outputDir ?? "results", save: flags["save"] !== false,
  };
}

/** Without a prefix cache: every repetition computes its whole prompt. */
export function loadOptionsOf({ weights, kv, kvMemory, maxModelLen, prefillChunk, adapter, concurrency, model, seed }: ProfileConfig): LoadOptions {
  const most = concurrency.reduce((a, b) => Math.max(a, b), 16);
  return {
    weights, kv, adapter, prefixCache: false, maxSequences: most, ...(kvMemory !== null && { kvMemory }), ...(maxModelLen !== null && { maxModelLen }),
    ...(prefillChunk !== null && { prefillChunk }), ...(model.startsWith("random:") && { seed }),
  };
}

/** What the weights are counted in: as stored is what the checkpoint's config says. */
export function weightsOf({ weights }: Pick<ProfileConfig, "weights">, { dtype }: ModelConfig): WeightFormat {
  return weights === "auto" ? dtype ?? "f16" : weights;
}
