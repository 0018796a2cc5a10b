/**
 * From the flags of `node bench/perplexity.ts` to a measurement under presses. The flags are those of the fourth source and mean:
 *   text     one document of --dataset (--sample-idx), read from its first token on
 *   quality  without --ppl-apply-press the plain perplexity of the model, which no press takes part in, by any protocol. With it, that
 *            under
 *            each press beside no press on the same tokens: prefill-continue(C, T), where C tokens are read, the press acts once, and T
 *            more are
 *            scored, the first of them by what was read before (C = --context 512, T = --continuation 128), or decode, where a press acts
 *            after
 *            tokens of its own choice. One forward pass over a whole window cannot see a press: what a press removes has been attended to
 *            by
 *            then. Windows do not overlap.
 *   speed    the first --context-limit tokens less --max-new-tokens are the prompt, that many new tokens are generated, each arm in turn
 *   limit    --context-limit is the longest that the model ever sees of the text at once: a window, or a prompt with its continuation
 */

import { UsageError } from "../../../engine/errors.ts";
import { WEIGHT_FORMATS, type WeightFormat } from "../../../kernels/formats.ts";
import { KV_FORMATS, type KvFormat } from "../../../kernels/kv_formats.ts";
import type { PerplexityProtocol } from "../../../models/options.ts";
import { POSITION_POLICIES, type PositionPolicy } from "../../../models/press.ts";
import { anyText, choice, list, memory, readFlags, real, refuse, whole } from "../load/flags.ts";
import type { SampleRequest } from "../datasets/load.ts";

const PROTOCOL_FLAGS = ["hf-strided", "llama.cpp", "lm-eval-rolling", "decode", "prefill-continue"] as const;
export const ATTENTION_IMPLEMENTATIONS = ["eager", "sdpa", "flash_attention_2"] as const;

export interface PressConfig {
  readonly model: string;
  readonly weights: "auto" | WeightFormat;
  readonly kv: KvFormat;
  readonly kvMemory: number | null;
  readonly adapter: string;
  readonly sample: SampleRequest;
  /** `no_press`, `all`, or a press as techniques/press/spec.ts reads it. */
  readonly press: string;
  /** Null: not given. */
  readonly ratios: readonly number[] | null;
  /** KnormPress after every token, instead of a ratio. */
  readonly steps: { readonly keepRatio: number; readonly pruneAfter: number } | null;
  /** Null: as the press has it. */
  readonly skipLayers: readonly number[] | null;
  readonly positions: PositionPolicy | null;
  readonly attention: (typeof ATTENTION_IMPLEMENTATIONS)[number] | null;
  readonly contextLimit: number;
  /** Null under --speed-only. */
  readonly quality: QualityConfig | null;
  /** Null with --max-new-tokens 0. */
  readonly speed: SpeedConfig | null;
  readonly outputDir: string;
  /** A file for the whole result instead of one under `outputDir`. */
  readonly json: string | null;
}

export interface QualityConfig {
  readonly applyPress: boolean;
  readonly protocol: PerplexityProtocol;
  /** Null: chosen when the text is known. */
  readonly context: number | null;
  readonly continuation: number | null;
  readonly stride: number | null;
  readonly maxWindows: number;
}

export interface SpeedConfig {
  readonly maxNewTokens: number;
  /** From here on an end-of-text token ends the count. */
  readonly minNewTokens: number;
  readonly decodeOnly: boolean;
  readonly repetitions: number;
}

const RATIO = real(0, { max: 1, openMax: true });
const weights = choice("auto", ...WEIGHT_FORMATS), kv = choice(...KV_FORMATS);
const RULES = {
  model: anyText, weights, kv, kvMemory: memory, maxModelLen: whole(2), adapter: anyText, text: anyText, dataset: anyText, subset: anyText,
  sampleIdx: whole(0),
  press: anyText, compressionRatio: list(RATIO, `shares to evict, each ${RATIO.words}, separated by commas`),
  keepRatio: real(0, { max: 1, open: true }), pruneAfter: whole(1),
  skipLayers: list(whole(0), "layers, separated by commas"), positions: choice(...POSITION_POLICIES),
  attnImplementation: choice(...ATTENTION_IMPLEMENTATIONS),
  contextLimit: whole(3), maxNewTokens: whole(0), minNewTokens: whole(1), repetitions: whole(1, 1000), protocol: choice(...PROTOCOL_FLAGS),
  context: whole(1),
  continuation: whole(1), stride: whole(1), maxWindows: whole(1), outputDir: anyText, json: anyText,
} as const;

const PRESS_FLAGS = [
  "press", "compressionRatio", "keepRatio", "pruneAfter", "skipLayers", "positions", "attnImplementation", "contextLimit", "maxNewTokens",
  "minNewTokens", "speedOnly",
  "speedDecodeOnly", "pplApplyPress", "repetitions", "continuation", "outputDir",
];

/** Whether these flags ask for this measurement, or for the plain one (options.ts). */
export function asksForPresses(flags: Readonly<Record<string, unknown>>): boolean {
  return PRESS_FLAGS.some((name) => flags[name] !== undefined) || (flags["dataset"] !== undefined && flags["baseWeights"] === undefined);
}

/** Throws UsageError with a line for every problem. */
export function pressConfig(flags: Readonly<Record<string, unknown>>): PressConfig {
  const problems: string[] = [];
  const values = readFlags(RULES, flags, problems);
  const applyPress = flags["pplApplyPress"] === true, speedOnly = flags["speedOnly"] === true,
    decodeOnly = flags["speedDecodeOnly"] === true;
  const complain = (name: string, why: string): void => { problems.push(`--${name}: ${why}`); };
  const idle = (given: unknown, name: string, without: string): void => {
    if (given !== undefined && given !== false) complain(name, `has no effect ${without}`);
  };

  const isSteps = values.keepRatio !== undefined, press = values.press ?? (isSteps ? "knorm" : "no_press");
  if (flags["baseWeights"] !== undefined || flags["baseKv"] !== undefined) {
    complain("base-weights", "compares number formats, and here presses are compared with none: one at a time");
  }
  if (values.text !== undefined && values.dataset !== undefined) complain("text", "is what --dataset names, too: give one of them");
  if (isSteps && press !== "knorm")
    complain("keep-ratio", `prunes by norms after every token, as knorm; ${press} cannot: give --compression-ratio`);
  if (isSteps && values.compressionRatio !== undefined) {
    complain("compression-ratio", "is the share that is evicted once, --keep-ratio what stays after every token: give one of them");
  }
  if (!isSteps) idle(values.pruneAfter, "prune-after", "without --keep-ratio");
  if (press === "no_press") {
    idle(values.skipLayers, "skip-layers", "with --press no_press");
    idle(values.compressionRatio, "compression-ratio", "with --press no_press");
    idle(values.positions, "positions", "with --press no_press");
    idle(applyPress, "ppl-apply-press", "with --press no_press: name a press, or all");
  }
  const protocol = protocolOf(values.protocol, applyPress, isSteps, speedOnly, complain);
  if (protocol !== "strided") idle(values.stride, "stride", `under ${protocol}, whose windows do not overlap`);
  if (protocol !== "prefill-continue") idle(values.continuation, "continuation", `under ${protocol}`);
  if (speedOnly) {
    const ofQuality = { "ppl-apply-press": applyPress, protocol: values.protocol, context: values.context,
      "max-windows": values.maxWindows };
    for (const [name, given] of Object.entries(ofQuality)) idle(given, name, "with --speed-only");
  }
  if (values.json !== undefined) idle(values.outputDir, "output-dir", "with --json, which names the file");
  const maxNewTokens = values.maxNewTokens ?? 200, minNewTokens = values.minNewTokens ?? maxNewTokens,
    contextLimit = values.contextLimit ?? 4096;
  if (maxNewTokens === 0) {
    if (speedOnly) complain("speed-only", "leaves nothing to do with --max-new-tokens 0");
    const ofSpeed = { "min-new-tokens": values.minNewTokens, "speed-decode-only": decodeOnly, repetitions: values.repetitions };
    for (const [name, given] of Object.entries(ofSpeed)) idle(given, name, "with --max-new-tokens 0");
  } else if (minNewTokens > maxNewTokens) complain("min-new-tokens", `is ${minNewTokens}, but --max-new-tokens is ${maxNewTokens}`);
  if (decodeOnly && maxNewTokens === 1) complain("speed-decode-only", "needs two new tokens: the first one comes out of the prefill");
  if (maxNewTokens >= contextLimit)
    complain("max-new-tokens", `is ${maxNewTokens}, which leaves no prompt within --context-limit ${contextLimit}`);
  if (values.context !== undefined && values.context + (values.continuation ?? 0) > contextLimit) {
    complain("context", `a window of it is longer than --context-limit ${contextLimit}`);
  }
  refuse(problems);
  return {
    model: values.model ?? "tiny-neox", weights: values.weights ?? "auto", kv: values.kv ?? "f16", kvMemory: values.kvMemory ?? null,
    adapter: values.adapter ?? "auto",
    sample: { dataset: values.dataset ?? values.text ?? "pg19-sample", subset: values.subset ?? null, index: values.sampleIdx ?? 0 },
    press, ratios: values.compressionRatio ?? null, steps: isSteps ? { keepRatio: values.keepRatio!, pruneAfter: values.pruneAfter ?? 512 }
      : null,
    skipLayers: values.skipLayers ?? null, positions: values.positions ?? null, attention: values.attnImplementation ?? null,
    contextLimit: Math.min(contextLimit, values.maxModelLen ?? Infinity),
    quality: speedOnly ? null : {
      applyPress, protocol, context: values.context ?? null, continuation: values.continuation ?? null, stride: values.stride ?? null,
      maxWindows: values.maxWindows ?? 16,
    },
    speed: maxNewTokens === 0 ? null : { maxNewTokens, minNewTokens, decodeOnly, repetitions: values.repetitions ?? 3 },
    outputDir: values.outputDir ?? "results", json: values.json ?? null,
  };
}

/** The protocol asked for, or what fits; a pass that cannot see a press is refused with the reason. */
function protocolOf(
  named: (typeof PROTOCOL_FLAGS)[number] | undefined, applyPress: boolean, isSteps: boolean, speedOnly: boolean,
  complain: (name: string, why: string) => void,
): PerplexityProtocol {
  const asked = named ?? (applyPress ? (isSteps ? "decode" : "prefill-continue") : "hf-strided");
  if (applyPress && !speedOnly && asked !== "decode" && asked !== "prefill-continue") {
    complain("protocol",
    `${asked} reads a window in one forward pass, which cannot see a press: every token has attended to all before it by the time `
      + "a press removes any. Take prefill-continue or decode, or leave out --ppl-apply-press");
  }
  if (applyPress && isSteps && asked === "prefill-continue") {
    complain("protocol", "--keep-ratio prunes after every token, and prefill-continue lets a press act once: take decode");
  }
  return asked === "hf-strided" ? "strided" : asked;
}

/** Throws UsageError where a press is shown attention weights by an implementation that has none. */
export function attentionRefusal(name: string): UsageError {
  return new UsageError(
    `--attn-implementation flash_attention_2: ${name} needs attention weights, and this is a layout that cannot give them: `
    + "take eager, or another press");
}
