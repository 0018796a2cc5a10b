/**
 * What two models' predictions of the same tokens say about the distance between them: the statistics that llama-perplexity prints under
 * --kl-divergence, by its names, with its errors. `LLM.divergence` measures, this counts.
 */

import type { DivergenceResult } from "../../models/options.ts";
import { meanOf, type Mean } from "../../models/perplexity.ts";
import { quantile } from "./stats.ts";

/** A figure and its standard error; null where there are too few tokens to tell. */
export interface Figure { readonly value: number; readonly error: number | null }

/** The model is Q and the base is P. Errors are over tokens, as llama.cpp has them; those over windows stand beside the means. */
export interface Quality {
  readonly tokens: number;
  readonly windows: number;
  /** PPL(Q), PPL(base) and their ratio; errors by the delta method, that of the ratio from the differences token by token. */
  readonly perplexity: Figure;
  readonly basePerplexity: Figure;
  readonly ratio: Figure;
  /** ln(PPL(Q) / PPL(base)): the mean of differences of −log p. */
  readonly logRatio: Mean;
  /** KL(P‖Q) in nats per token. */
  readonly kld: Mean & { readonly median: number; readonly p90: number; readonly p99: number; readonly max: number };
  /** Share of tokens at which both models find the same token likeliest. */
  readonly sameTop: Mean;
  /** Q(t) − P(t) of the token t that truly follows, from −1 to 1: mean, and root of the mean square. */
  readonly probabilityChange: Mean & { readonly rms: number };
  /** Share of tokens that the model, and the base, find likeliest. */
  readonly accuracy: Mean;
  readonly baseAccuracy: Mean;
}

/** Throws when there are no tokens. */
export function qualityOf(result: Omit<DivergenceResult, "protocol" | "context" | "stride">): Quality {
  const { nlls, baseNlls, klds, sameTop, hits, baseHits, tokensPerWindow: windows } = result;
  const each = (value: (i: number) => number): Float64Array => Float64Array.from({ length: nlls.length }, (_, i) => value(i));
  const logRatio = meanOf(each((i) => nlls[i]! - baseNlls[i]!), windows);
  const change = each((i) => Math.exp(-nlls[i]!) - Math.exp(-baseNlls[i]!));
  const sorted = Array.from(Float64Array.from(klds).sort());
  const at = (share: number): number => quantile(sorted, share)!;
  return {
    tokens: nlls.length, windows: windows.length,
    perplexity: exponential(meanOf(nlls, windows)), basePerplexity: exponential(meanOf(baseNlls, windows)), ratio: exponential(logRatio), logRatio,
    kld: { ...meanOf(klds, windows), median: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) },
    sameTop: meanOf(sameTop, windows),
    probabilityChange: { ...meanOf(change, windows), rms: Math.sqrt(meanOf(change.map((value) => value ** 2), windows).mean) },
    accuracy: meanOf(hits, windows), baseAccuracy: meanOf(baseHits, windows),
  };
}

/** e to a mean; the delta method carries its error over. */
function exponential({ mean, error }: Mean): Figure {
  const value = Math.exp(mean);
  return { value, error: error === null ? null : value * error };
}
