/**
 * Perplexity by its definitions: which tokens of a text are scored with which tokens before them, and what the scores come to. The same
 * model has quite different perplexities under different protocols, so each is named as the tool that made it known. No GPU in here;
 * models/scoring.ts runs the windows.
 */

import { AbortedError, ContextLengthError, UsageError } from "../engine/errors.ts";
import { nearest } from "../engine/nearest.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import type { ModelConfig } from "./config.ts";
import type { DivergenceResult, PerplexityOptions, PerplexityProtocol, PerplexityResult, PressReport, TextPerplexity } from "./options.ts";
import type { Press } from "./press.ts";

export const PROTOCOLS = ["strided", "llama.cpp", "lm-eval-rolling", "decode", "prefill-continue"] as const satisfies readonly PerplexityProtocol[];

/** Fewest tokens of a window in which something is scored. */
const LEAST_CONTEXT: Readonly<Record<PerplexityProtocol, number>> = { strided: 2, "llama.cpp": 3, "lm-eval-rolling": 1, decode: 2, "prefill-continue": 1 };
/** llama.cpp's, and the length in which published figures of small windows come. */
const DEFAULT_CONTEXT = 512;
const DEFAULT_CONTINUATION = 128;
/** Protocols whose scores are made with the cache as a press has left it. */
const SEES_PRESS: readonly PerplexityProtocol[] = ["decode", "prefill-continue"];

export interface CompletePerplexityOptions {
  readonly protocol: PerplexityProtocol;
  readonly context: number;
  /** Tokens from the start of a window to the start of the next. */
  readonly stride: number;
  /** Tokens scored behind the context; 0 but under prefill-continue. */
  readonly continuation: number;
  /** Null: nothing is evicted. */
  readonly press: Press | null;
  readonly maxWindows: number;
  /** What stands before the text; null where nothing does. */
  readonly prefixToken: number | null;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number) => void;
}

type Ids = Pick<ModelConfig, "bosTokenId" | "eosTokenIds" | "vocabSize">;

const NAMES: readonly (keyof PerplexityOptions)[] = ["protocol", "context", "continuation", "press", "stride", "maxWindows", "prefixToken", "signal", "onProgress"];

/** With every default filled in; `press` is what `options.press` comes to. Throws UsageError or ContextLengthError, naming `call`. */
export function completePerplexityOptions(
  call: string, options: PerplexityOptions, config: Ids, maxModelLen: number, press: Press | null = null,
): CompletePerplexityOptions {
  if (options === null || typeof options !== "object") throw new UsageError(`${call}: options must be an object`);
  for (const name of Object.keys(options)) {
    if ((NAMES as readonly string[]).includes(name)) continue;
    const [close] = nearest(name, NAMES);
    throw new UsageError(`${call}: unknown option ${name}${close === undefined ? "" : `; did you mean ${close}?`}`);
  }
  const { protocol = "strided", signal, onProgress } = options;
  if (!PROTOCOLS.includes(protocol)) {
    throw new UsageError(`${call}: protocol must be one of ${PROTOCOLS.join(", ")}, got ${JSON.stringify(protocol)}`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new UsageError(`${call}: signal must be an AbortSignal`);
  if (onProgress !== undefined && typeof onProgress !== "function") throw new UsageError(`${call}: onProgress must be a function`);
  if (press !== null && !SEES_PRESS.includes(protocol)) {
    throw new UsageError(`${call}: protocol ${protocol} reads each window in one pass, which cannot see press ${press.name}: it acts behind the pass, on what is read later. ` +
      `Take protocol prefill-continue or decode, or press null`);
  }
  const whole = (name: "context" | "continuation" | "stride" | "maxWindows", least: number, fallback: number): number => {
    const value = options[name] ?? fallback;
    if (value === fallback || (Number.isSafeInteger(value) && value >= least)) return value;
    throw new UsageError(`${call}: ${name} must be a whole number from ${least} (protocol ${protocol}), got ${String(value)}`);
  };
  if (options.continuation !== undefined && protocol !== "prefill-continue") {
    throw new UsageError(`${call}: continuation has no effect under protocol ${protocol}: leave it out, or take protocol prefill-continue`);
  }
  const continuation = protocol === "prefill-continue" ? whole("continuation", 1, Math.min(DEFAULT_CONTINUATION, Math.ceil(maxModelLen / 5))) : 0;
  const context = whole("context", LEAST_CONTEXT[protocol], Math.max(1, Math.min(DEFAULT_CONTEXT, maxModelLen - continuation)));
  if (context + continuation > maxModelLen) {
    const length = continuation === 0 ? `context is ${context}` : `context and continuation are ${context} + ${continuation}`;
    throw new ContextLengthError(`${call}: ${length}, but maxModelLen is ${maxModelLen}: lower context, or load the model with more`);
  }
  if (options.stride !== undefined && protocol !== "strided") {
    throw new UsageError(`${call}: stride has no effect under protocol ${protocol}: leave it out, or take protocol strided`);
  }
  const stride = whole("stride", 1, context + continuation);
  if (stride > context + continuation) {
    throw new UsageError(`${call}: stride is ${stride}, but context is ${context}: tokens between the windows would never be scored`);
  }
  return {
    protocol, context, continuation, press, stride, signal, maxWindows: whole("maxWindows", 1, Infinity),
    prefixToken: prefixOf(call, protocol, options.prefixToken, config), onProgress: onProgress ?? (() => {}),
  };
}

/** The token before the first, as lm-eval takes it: BOS, or EOS where the model has none. */
function prefixOf(call: string, protocol: PerplexityProtocol, asked: number | undefined, { bosTokenId, eosTokenIds, vocabSize }: Ids): number | null {
  if (protocol !== "lm-eval-rolling") {
    if (asked === undefined) return null;
    throw new UsageError(`${call}: prefixToken has no effect under protocol ${protocol}: leave it out, or take protocol lm-eval-rolling`);
  }
  const token = asked ?? bosTokenId ?? eosTokenIds[0];
  if (token === undefined) {
    throw new UsageError(`${call}: the config names neither a BOS nor an EOS token for protocol lm-eval-rolling to begin with: give prefixToken`);
  }
  if (Number.isInteger(token) && token >= 0 && token < vocabSize) return token;
  throw new UsageError(`${call}: prefixToken ${token} is not an id from 0 to ${vocabSize - 1}`);
}

/** The protocol with its numbers, as a report names it. */
export function protocolName(
  { protocol, context, stride }: { readonly protocol: PerplexityProtocol; readonly context: number; readonly stride?: number },
): string {
  if (protocol === "prefill-continue") return `prefill-continue(${context}, ${(stride ?? context) - context})`;
  return protocol === "strided" ? `hf-strided(${context}, ${stride ?? context})` : `${protocol}(${context})`;
}

/** A run of tokens that the model reads from position 0 on: those from `scored` to `to` are scored, each from all between `from` and it. */
export interface Window { readonly from: number; readonly scored: number; readonly to: number }

/**
 * The windows over a text of `count` tokens, behind the prefix where there is one.
 * - strided: Hugging Face's: a window every `stride` tokens, cut at the end of the text; it scores what no window before it has scored.
 *   The first token of the text is never scored; with stride = context the first of no window is. (The loop in Hugging Face's guide counts a
 *   token too few in every window but the first; here the mean is over the tokens that are scored.)
 * - llama.cpp: disjoint whole windows; each scores what follows its token context / 2, as llama-perplexity does.
 * - lm-eval-rolling: every token is scored once, `context` in a window, from the one before its first on; the last window is filled up
 *   with earlier tokens, as lm-evaluation-harness does.
 * - prefill-continue: disjoint whole windows of context + continuation; each scores the continuation, from the last row of the context on. Where
 *   a press acts, it does so between the two.
 * - decode: disjoint windows, the last cut at the end; each scores all but its first token.
 * Throws UsageError when there are fewer tokens than one window has.
 */
export function windowsOf(call: string, count: number, { protocol, context, continuation, stride, maxWindows }: CompletePerplexityOptions): Window[] {
  const least = context + continuation;
  if (protocol !== "lm-eval-rolling" && count < least) {
    throw new UsageError(`${call}: ${count} tokens are fewer than one window of ${least}: give a longer text or lower context`);
  }
  const windows: Window[] = [];
  let done = 0; // tokens of the text that no later window scores
  for (let start = 0; windows.length < maxWindows && done < count; start += stride) {
    const end = Math.min(start + least, count);
    if (protocol === "prefill-continue") {
      if (end - start < least) break;
      windows.push({ from: start, scored: start + context, to: end });
    } else if (protocol === "llama.cpp") {
      if (end - start < context) break;
      windows.push({ from: start, scored: start + Math.floor(context / 2) + 1, to: end });
    } else if (protocol === "lm-eval-rolling") {
      windows.push({ from: Math.max(0, end - context), scored: start + 1, to: end + 1 }); // one further on: the prefix is token 0
    } else {
      const scored = Math.max(done, start + 1);
      if (scored < end) windows.push({ from: start, scored, to: end });
    }
    done = end;
  }
  return windows;
}

/** Mean of `values` with its standard errors, both null where they are too few to tell. */
export interface Mean {
  readonly mean: number;
  /** Over the values as if they were independent: √(variance / (n − 1)), as llama.cpp has it. */
  readonly error: number | null;
  /** Over windows, whose values hang together: √(W / (W − 1) · Σ (a window's sum of deviations)²) / n. */
  readonly errorOverWindows: number | null;
}

/** `perWindow`: how many of the values each window has, in order. Throws when there are none. */
export function meanOf(values: ArrayLike<number>, perWindow: readonly number[]): Mean {
  const n = values.length;
  if (n === 0) throw new Error("the mean of no values");
  let sum = 0;
  for (let i = 0; i < n; i++) sum += values[i]!;
  const mean = sum / n;
  let squares = 0, ofWindows = 0, at = 0;
  for (const count of perWindow) {
    let deviation = 0;
    for (const end = at + count; at < end; at++) {
      deviation += values[at]! - mean;
      squares += (values[at]! - mean) ** 2;
    }
    ofWindows += deviation ** 2;
  }
  if (at !== n) throw new Error(`${n} values, but windows of ${at}`);
  const windows = perWindow.length;
  return {
    mean, error: n > 1 ? Math.sqrt(squares / n / (n - 1)) : null,
    errorOverWindows: windows > 1 ? Math.sqrt((windows / (windows - 1)) * ofWindows) / n : null,
  };
}

/** What was found out about the scored tokens, window by window. */
export interface Scores {
  readonly nlls: Float32Array;
  readonly hits: Uint8Array;
  readonly tokensPerWindow: readonly number[];
  /** What the press did in each window; empty without one. */
  readonly presses: readonly PressReport[];
}

/** Beside a base model; the arrays are as in DivergenceResult. */
export interface ComparedScores extends Scores, Pick<DivergenceResult, "klds" | "baseNlls" | "baseHits" | "sameTop"> {}

export function perplexityOf(
  { nlls, hits, tokensPerWindow, presses }: Scores, { protocol, context, stride }: CompletePerplexityOptions,
): Omit<PerplexityResult, "text"> {
  const { mean, error, errorOverWindows } = meanOf(nlls, tokensPerWindow);
  const perplexity = Math.exp(mean);
  return {
    protocol, context, stride, perplexity, perplexityError: error === null ? null : perplexity * error, meanNll: mean, standardError: error,
    standardErrorOverWindows: errorOverWindows, accuracy: meanOf(hits, tokensPerWindow).mean, nlls, tokens: nlls.length,
    windows: tokensPerWindow.length, tokensPerWindow, ...pressed(presses),
  };
}

export function divergenceOf(
  { nlls, klds, baseNlls, sameTop, hits, baseHits, tokensPerWindow, presses }: ComparedScores, { protocol, context, stride }: CompletePerplexityOptions,
): DivergenceResult {
  const counts = { tokens: nlls.length, windows: tokensPerWindow.length, tokensPerWindow, ...pressed(presses) };
  return { protocol, context, stride, ...counts, nlls, klds, baseNlls, sameTop, hits, baseHits };
}

/** The reports of all windows as one: sums, but means of what each window has once. */
function pressed(reports: readonly PressReport[]): { readonly press?: PressReport; readonly kept?: PressReport["kept"] } {
  const [first] = reports;
  if (first === undefined) return {};
  const sum = (value: (report: PressReport) => number): number => reports.reduce((total, report) => total + value(report), 0);
  const kept = first.kept.map((heads, layer) => heads.map((_, head) => sum((report) => report.kept[layer]?.[head] ?? 0) / reports.length));
  const press: PressReport = {
    name: first.name, events: sum(({ events }) => events), evicted: sum(({ evicted }) => evicted), kept, seen: sum(({ seen }) => seen) / reports.length,
    freedBytes: sum(({ freedBytes }) => freedBytes), ms: sum(({ ms }) => ms) / reports.length,
  };
  return { press, kept };
}

/** Per word and per byte, as lm-eval counts them: words are what stands between runs of white space, bytes are UTF-8. */
export function textPerplexityOf(nlls: Float32Array, text: string): TextPerplexity {
  let sum = 0;
  for (const nll of nlls) sum += nll;
  const words = text.split(/\s+/).length, bytes = Buffer.byteLength(text);
  const [perWord, perByte] = [sum / words, sum / bytes];
  return { words, bytes, wordPerplexity: Math.exp(perWord), bytePerplexity: Math.exp(perByte), bitsPerByte: perByte / Math.LN2 };
}

export function checkAborted(call: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortedError(`${call} was aborted`, { cause: signal.reason });
}

interface Vocabulary {
  readonly config: Pick<ModelConfig, "vocabSize">;
  readonly tokenizer: Pick<Tokenizer, "kind" | "decode">;
  readonly source: { readonly id: string };
}

/** Throws UsageError for two models whose token ids do not mean the same. Where one has no tokenizer only the sizes are known. */
export async function checkSameVocabulary(call: string, own: Vocabulary, base: Vocabulary): Promise<void> {
  const [size, baseSize] = [own.config.vocabSize, base.config.vocabSize];
  const refuse = (why: string): never => {
    throw new UsageError(`${call}: ${own.source.id} and ${base.source.id} cannot be compared: ${why}`);
  };
  if (size !== baseSize) refuse(`their vocabularies have ${size} and ${baseSize} tokens`);
  if (own.tokenizer.kind === "none" || base.tokenizer.kind === "none") return;
  const ids = Array.from({ length: size }, (_, id) => id);
  if (await own.tokenizer.decode(ids) !== await base.tokenizer.decode(ids)) refuse("the same token ids are different text to them");
}
