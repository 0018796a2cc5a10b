/** From the flags of `node bench/perplexity.ts` to one checked record, and the text that it names. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../../engine/errors.ts";
import { WEIGHT_FORMATS, type WeightFormat } from "../../../kernels/formats.ts";
import { KV_FORMATS, type KvFormat } from "../../../kernels/kv_formats.ts";
import type { LoadOptions, PerplexityOptions, PerplexityProtocol } from "../../../models/options.ts";
import type { SampleRequest } from "../datasets/load.ts";
import { anyText, choice, flagOf, memory, readFlags, refuse, whole } from "../load/flags.ts";

/** The bundled texts, which the bundled models never saw. */
const TEXTS: Readonly<Record<string, string>> = { persuasion: "persuasion.txt", sotu: "sotu_heldout.txt" };

/** Protocols as the command line calls them. */
const PROTOCOL_FLAGS = ["hf-strided", "llama.cpp", "lm-eval-rolling", "decode"] as const;

export interface PerplexityConfig {
  readonly model: string;
  readonly weights: "auto" | WeightFormat;
  readonly kv: KvFormat;
  readonly kvMemory: number | null;
  readonly maxModelLen: number | null;
  readonly adapter: string;
  readonly protocol: PerplexityProtocol;
  /** Null: what the library takes. */
  readonly context: number | null;
  readonly stride: number | null;
  readonly maxWindows: number | null;
  /** A bundled text, or a path. */
  readonly text: string;
  /** Instead of it, a document of a data set. */
  readonly sample: SampleRequest | null;
  /** The same model in other formats to compare with; null: none. */
  readonly base: { readonly weights: "auto" | WeightFormat; readonly kv: KvFormat } | null;
  /** A file for the whole result. */
  readonly json: string | null;
}

const weights = choice("auto", ...WEIGHT_FORMATS), kv = choice(...KV_FORMATS);
const RULES = {
  model: anyText, weights, kv, kvMemory: memory, maxModelLen: whole(2), adapter: anyText, protocol: choice(...PROTOCOL_FLAGS), context: whole(1),
  stride: whole(1), maxWindows: whole(1), text: anyText, dataset: anyText, subset: anyText, sampleIdx: whole(0), baseWeights: weights, baseKv: kv, json: anyText,
} as const;

/** Throws UsageError with a line for every problem. */
export function perplexityConfig(flags: Readonly<Record<string, unknown>>): PerplexityConfig {
  const problems: string[] = [];
  const values = readFlags(RULES, flags, problems);
  const named = values.protocol ?? "hf-strided", protocol = named === "hf-strided" ? "strided" : named;
  if (values.stride !== undefined && protocol !== "strided") problems.push(`--stride: has no effect under ${protocol}, whose windows do not overlap`);
  if (values.stride !== undefined && values.context !== undefined && values.stride > values.context) {
    problems.push(`--stride: is ${values.stride}, but --context is ${values.context}: tokens between the windows would never be scored`);
  }
  if (values.baseKv !== undefined && values.baseWeights === undefined) problems.push("--base-kv: has no effect without --base-weights");
  if (values.dataset !== undefined && values.text !== undefined) problems.push("--text: is what --dataset names, too: give one of them");
  if (values.dataset === undefined) {
    for (const name of ["subset", "sampleIdx"] as const) if (values[name] !== undefined) problems.push(`${flagOf(name)}: has no effect without --dataset`);
  }
  refuse(problems);
  return {
    model: values.model ?? "tiny-neox", weights: values.weights ?? "auto", kv: values.kv ?? "f16", kvMemory: values.kvMemory ?? null,
    maxModelLen: values.maxModelLen ?? null, adapter: values.adapter ?? "auto", protocol, context: values.context ?? null, stride: values.stride ?? null,
    maxWindows: values.maxWindows ?? null, text: values.dataset ?? values.text ?? "persuasion",
    sample: values.dataset === undefined ? null : { dataset: values.dataset, subset: values.subset ?? null, index: values.sampleIdx ?? 0 },
    base: values.baseWeights === undefined ? null : { weights: values.baseWeights, kv: values.baseKv ?? "f32" }, json: values.json ?? null,
  };
}

/** Without a prefix cache: windows share nothing that it could find. */
export function loadOptionsOf({ kvMemory, maxModelLen, adapter }: PerplexityConfig, { weights, kv }: Pick<PerplexityConfig, "weights" | "kv">): LoadOptions {
  return { weights, kv, adapter, prefixCache: false, ...(kvMemory !== null && { kvMemory }), ...(maxModelLen !== null && { maxModelLen }) };
}

export function perplexityOptionsOf({ protocol, context, stride, maxWindows }: PerplexityConfig): PerplexityOptions {
  return { protocol, ...(context !== null && { context }), ...(stride !== null && { stride }), ...(maxWindows !== null && { maxWindows }) };
}

/** Throws UsageError when the file cannot be read as text or is empty. */
export function readText({ text }: Pick<PerplexityConfig, "text">): string {
  const bundled = TEXTS[text];
  const path = bundled === undefined ? text : fileURLToPath(new URL(`../../../assets/texts/${bundled}`, import.meta.url));
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? `no such file; the bundled texts are ${Object.keys(TEXTS).join(" and ")}` : code === "EISDIR" ? "is a folder"
      : code?.startsWith("ERR_ENCODING") ? "is not UTF-8 text" : "cannot be read";
    throw new UsageError(`--text ${text}: ${why}`);
  }
  if (content.trim() === "") throw new UsageError(`--text ${text}: is empty`);
  return content;
}
