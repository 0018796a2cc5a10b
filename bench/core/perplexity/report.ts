/** A measurement of quality in words for the terminal and as JSON for programs. */

import type { DivergenceResult, MemoryReport, PerplexityResult } from "../../../models/options.ts";
import { protocolName, type Mean } from "../../../models/perplexity.ts";
import type { Environment, ModelSource } from "../../../index.ts";
import type { Machine } from "../environment.ts";
import type { Figure, Quality } from "../quality.ts";
import type { PerplexityConfig } from "./options.ts";

const SCHEMA_VERSION = 1;
const PER_TOKEN = ["nlls", "baseNlls", "klds", "sameTop", "hits", "baseHits"] as const;

export interface PerplexityRun {
  readonly config: PerplexityConfig;
  /** Without --base-weights. */
  readonly perplexity: PerplexityResult | null;
  readonly divergence: { readonly result: DivergenceResult; readonly quality: Quality } | null;
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly memory: MemoryReport;
  readonly textSha256: string;
  readonly seconds: number;
  readonly machine: Machine;
  readonly started: string;
}

export function perplexityText({ config, perplexity, divergence, source, seconds }: PerplexityRun): string {
  const { tokens, windows, ...protocol } = (perplexity ?? divergence!.result);
  const lines = [
    `${source.id}: weights ${config.weights}, kv ${config.kv}, text ${config.text}`,
    `${protocolName(protocol)}: ${tokens} tokens in ${windows} window${windows === 1 ? "" : "s"}, ${(tokens / seconds).toFixed(0)} tokens/s`,
    ...(source.random ? ["random weights: figures of quality mean nothing"] : []), "",
  ];
  const row = (name: string, value: string): void => { lines.push(`${name.padEnd(26)} ${value}`); };
  if (perplexity !== null) {
    const { standardError, standardErrorOverWindows, text } = perplexity;
    row("perplexity", withError({ value: perplexity.perplexity, error: perplexity.perplexityError }));
    row("mean −log p, nats", `${withError({ value: perplexity.meanNll, error: standardError })}${overWindows(standardErrorOverWindows)}`);
    row("likeliest token right", percent(perplexity.accuracy));
    if (text !== undefined) {
      row("word perplexity", `${significant(text.wordPerplexity)} (${text.words} words)`);
      row("byte perplexity", `${significant(text.bytePerplexity)} (${text.bytes} bytes)`);
      row("bits per byte", significant(text.bitsPerByte));
    }
  }
  if (divergence !== null) {
    const { quality } = divergence, { kld, sameTop, logRatio, probabilityChange } = quality;
    row("PPL(Q)", withError(quality.perplexity));
    row(`PPL(base): ${config.base!.weights}, kv ${config.base!.kv}`, withError(quality.basePerplexity));
    row("PPL(Q) / PPL(base)", withError(quality.ratio));
    row("ln(PPL(Q) / PPL(base))", `${figure(logRatio)}${overWindows(logRatio.errorOverWindows)}`);
    row("KLD(base ‖ Q), nats", `${figure(kld)}${overWindows(kld.errorOverWindows)}`);
    row("  median, 90 %, 99 %, max", [kld.median, kld.p90, kld.p99, kld.max].map(significant).join(", "));
    row("same top token", `${percent(sameTop.mean)}${sameTop.error === null ? "" : ` ± ${percent(sameTop.error)}`}`);
    row("change of probability", `mean ${figure(probabilityChange)}, RMS ${significant(probabilityChange.rms)}`);
  }
  return lines.join("\n");
}

export function perplexityJson({ config, perplexity, divergence, ...rest }: PerplexityRun): string {
  const { protocol, context, stride } = (perplexity ?? divergence!.result);
  return JSON.stringify({
    schemaVersion: SCHEMA_VERSION, experiment: "perplexity", config,
    protocol: { name: protocolName({ protocol, context, stride }), protocol, context, stride },
    perplexity: perplexity && { ...perplexity, nlls: Array.from(perplexity.nlls) },
    divergence: divergence && {
      ...divergence.quality,
      perToken: Object.fromEntries(PER_TOKEN.map((name) => [name, Array.from(divergence.result[name])])),
      tokensPerWindow: divergence.result.tokensPerWindow,
    },
    ...rest,
  }, null, 1);
}

export function significant(value: number): string {
  return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(3) : value.toFixed(Math.abs(value) >= 100 ? 2 : 4);
}

/** With the digits that the error leaves standing, two of its own. */
export function withError({ value, error }: Figure): string {
  if (error === null || error === 0 || Math.abs(value) < 1e-3) return error === null ? significant(value) : `${significant(value)} ± ${significant(error)}`;
  const digits = Math.min(Math.max(4, 1 - Math.floor(Math.log10(error))), 9);
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

export function figure({ mean, error }: Mean): string {
  return withError({ value: mean, error });
}

function overWindows(error: number | null): string {
  return error === null ? "" : ` (± ${significant(error)} over windows)`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}
