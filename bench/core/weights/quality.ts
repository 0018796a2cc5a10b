/**
 * What an arm's weights cost in quality: perplexity over windows of a text, and how far its next-token distributions lie from another
 * model's at the same places. Both run through the kernels and the cache that are timed.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createHash } from "node:crypto";
import { UsageError } from "../../../engine/errors.ts";
import type { PerplexityProtocol } from "../../../models/options.ts";
import type { Mean } from "../../../models/perplexity.ts";
import type { Model } from "../arms.ts";
import { qualityOf } from "../quality.ts";
import type { ExperimentConfig } from "../schema.ts";

/** A mean and its standard error: over tokens as if they were independent, or over windows, whichever is larger. */
export interface Estimate { readonly value: number; readonly standardError: number }

export interface Perplexity extends Estimate {
  readonly meanNll: number;
  /** Tokens that were scored, and windows they stood in. */
  readonly tokens: number;
  readonly windows: number;
}

/** One model's next-token distributions against another's, at the same places. */
export interface Divergence {
  /** KL(other ‖ this) in nats per token. */
  readonly kld: Estimate & { readonly median: number; readonly p99: number; readonly max: number };
  /** Share of places where both put the same token first. */
  readonly topOne: Estimate;
  /** Perplexity of this over that of the other; the error is that of the paired difference. */
  readonly ratio: Estimate;
}

export interface Corpus {
  readonly name: string;
  readonly sha256: string;
  readonly ids: readonly number[];
  readonly options: { readonly protocol: PerplexityProtocol; readonly context: number; readonly stride?: number };
}

const BUNDLED: Readonly<Record<string, string>> = { persuasion: "persuasion.txt", sotu: "sotu_heldout.txt" };

/** The tokens that the windows of a config take of its text. Throws UsageError when the text cannot be read or is shorter than a window. */
export async function corpusOf(config: ExperimentConfig, tokenizer: Model["tokenizer"]): Promise<Corpus> {
  const { perplexity_text: name, perplexity_protocol, perplexity_context: context, perplexity_stride, perplexity_windows: windows } = config;
  const stride = perplexity_stride ?? context, protocol = perplexity_protocol === "hf-strided" ? "strided" : perplexity_protocol;
  const text = readText(name);
  const all = await tokenizer.encode(text);
  if (all.length < context) throw new UsageError(`perplexity_text ${name}: has ${all.length} tokens, but perplexity_context is ${context}: lower it, or give a longer text`);
  const needed = protocol === "strided" ? context + (windows - 1) * stride : windows * context;
  return {
    name, sha256: createHash("sha256").update(text).digest("hex"), ids: all.slice(0, needed),
    options: { protocol, context, ...(protocol === "strided" && { stride }) },
  };
}

function readText(name: string): string {
  const path = Object.hasOwn(BUNDLED, name) ? fileURLToPath(new URL(`../../../assets/texts/${BUNDLED[name]}`, import.meta.url)) : name;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "no such file, and not one of the bundled texts (persuasion, sotu)" : code?.startsWith("ERR_ENCODING") ? "is not UTF-8 text" : "cannot be read";
    throw new UsageError(`perplexity_text ${name}: ${why}`);
  }
}

export async function perplexityOf(llm: Model, { ids, options }: Corpus, signal: AbortSignal): Promise<Perplexity> {
  const result = await llm.perplexity(ids, { ...options, signal });
  const { perplexity: value, meanNll: mean, standardError: error, standardErrorOverWindows: errorOverWindows, tokens, windows } = result;
  return { value, standardError: value * largerError({ mean, error, errorOverWindows }), meanNll: mean, tokens, windows };
}

/** `llm` against `base`. */
export async function divergenceOf(base: Model, llm: Model, { ids, options }: Corpus, signal: AbortSignal): Promise<Divergence> {
  const { kld, sameTop, logRatio, ratio } = qualityOf(await llm.divergence(base, ids, { ...options, signal }));
  return {
    kld: { value: kld.mean, standardError: largerError(kld), median: kld.median, p99: kld.p99, max: kld.max },
    topOne: { value: sameTop.mean, standardError: largerError(sameTop) }, ratio: { value: ratio.value, standardError: ratio.value * largerError(logRatio) },
  };
}

/** Tokens of a window hang together and windows are few: neither error is known to be the right one, so the larger one is told. */
function largerError({ error, errorOverWindows }: Mean): number {
  return Math.max(error ?? 0, errorOverWindows ?? 0);
}
