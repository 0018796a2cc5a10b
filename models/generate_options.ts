/** The user's options, checked once and completed with defaults, before anything is loaded or run. */

import { UsageError } from "../engine/errors.ts";
import { nearest } from "../engine/nearest.ts";
import { WEIGHT_FORMATS } from "../kernels/formats.ts";
import { MAX_LOGPROBS } from "../kernels/logprobs.ts";
import { KV_ENTRY_FORMATS, KV_FORMATS } from "../kernels/kv_formats.ts";
import type { GenerateOptions, LoadOptions } from "./options.ts";
import { pressFrom, type Press, type PressChoice } from "./press.ts";

type Check = (value: unknown) => string | null;

const whole = (min: number, max = Number.MAX_SAFE_INTEGER): Check => (value) =>
  Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max ? null : `a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? "" : ` to ${max}`}`;
const between = (min: number, max: number, openMin = false): Check => (value) =>
  typeof value === "number" && value <= max && (openMin ? value > min : value >= min) ? null : `a number ${openMin ? "above" : "from"} ${min} to ${max}`;
const oneOf = (...names: readonly string[]): Check => (value) => names.includes(value as string) ? null : `one of ${names.join(", ")}`;
const isA = (type: string): Check => (value) => typeof value === type ? null : `a ${type}`;
const texts: Check = (value) => Array.isArray(value) && value.length <= 64 && value.every((text) => typeof text === "string" && text !== "") ? null : "a list of at most 64 strings, none of them empty";
const layout: Check = (value) => {
  const { name, blockSize, reserve } = (value ?? {}) as { name?: unknown; blockSize?: unknown; reserve?: unknown };
  if (name === "contiguous" && (reserve === "max" || reserve === "exact") && blockSize === undefined) return null;
  return name === "paged" && Number.isSafeInteger(blockSize) && (blockSize as number) >= 1 && reserve === undefined ? null
    : `{ name: "paged", blockSize: 1 or more } or { name: "contiguous", reserve: "max" or "exact" }`;
};

/** One format, alone or with its group, or one for keys and one for values. Whether a group fits, the model says. */
const cacheFormat: Check = (value) => {
  const hasOnly = (each: unknown, ...names: string[]): each is Record<string, unknown> =>
    each !== null && typeof each === "object" && Object.keys(each).length === names.length && names.every((name) => Object.hasOwn(each, name));
  const isFormat = (each: unknown, names: readonly unknown[] = KV_FORMATS): boolean => names.includes(each)
    || (hasOnly(each, "format", "group") && (each.format === "int8" || each.format === "int4") && whole(1)(each.group) === null);
  return isFormat(value) || (hasOnly(value, "k", "v") && isFormat(value.k) && isFormat(value.v, KV_ENTRY_FORMATS)) ? null
    : `one of ${KV_FORMATS.join(", ")}, { format: "int8" or "int4", group: dimensions that share a scale }, or { k, v } with one each, v without kivi4`;
};

const tuning: Check = (value) => {
  const { budgetMs, onReport, ...rest } = (value ?? {}) as { budgetMs?: unknown; onReport?: unknown };
  const good = value !== null && typeof value === "object" && Object.keys(rest).length === 0;
  return good && (budgetMs === undefined || whole(1)(budgetMs) === null) && (onReport === undefined || typeof onReport === "function") ? null
    : "{ budgetMs: milliseconds, onReport: function }, both optional";
};

/** Token ids to finite numbers, or −Infinity to forbid a token. At most as many as the OpenAI interface takes. */
const biases: Check = (value) => {
  const entries = value !== null && typeof value === "object" ? Object.entries(value) : null;
  return entries !== null && entries.length <= 300 && entries.every(([id, bias]) => /^\d+$/.test(id) && (between(-100, 100)(bias) === null || bias === -Infinity))
    ? null : "at most 300 token ids, each with a number from -100 to 100 or -Infinity";
};

/** Its name and parameters are checked where names are known. */
const press: Check = (value) => value !== null && typeof value === "object" && typeof (value as { name?: unknown }).name === "string"
  ? null : 'a press, or its name with parameters, such as { name: "snapkv", ratio: 0.5 }';
const layerNumbers: Check = (value) => Array.isArray(value) && value.every((layer) => whole(0)(layer) === null) ? null : "a list of layer numbers from 0";

const GENERATE: Readonly<Record<keyof GenerateOptions, Check>> = {
  maxNewTokens: whole(0), temperature: between(0, 100), topP: between(0, 1, true), topK: whole(0, 0xffff_ffff), minP: between(0, 1),
  repetitionPenalty: between(0, 100, true), presencePenalty: between(-2, 2), frequencyPenalty: between(-2, 2), logitBias: biases, logprobs: whole(0, MAX_LOGPROBS),
  seed: whole(0, 0xffff_ffff), stop: texts, ignoreEos: isA("boolean"),
  draft: (value) => value === null || (typeof value === "object" && Object.keys(value).join() === "k") ? null : "null, or { k: tokens to draft }",
  press: (value) => value === null ? null : press(value), keepRatio: between(0, 1, true), pruneAfter: whole(1), skipLayers: layerNumbers, signal: (value) => value instanceof AbortSignal ? null : "an AbortSignal",
};
const LOAD: Readonly<Record<keyof LoadOptions, Check>> = {
  weights: oneOf("auto", ...WEIGHT_FORMATS),
  quantizationConfig: (value) => value !== null && typeof value === "object" && !Array.isArray(value) ? null : "an object of BitsAndBytesConfig's keys", kv: cacheFormat, kvLayout: layout, prefixCache: isA("boolean"), kvMemory: whole(1), maxModelLen: whole(2),
  maxSequences: whole(1, 1024), prefillChunk: whole(1, 65_535), adapter: (value) => typeof value === "string" || Number.isSafeInteger(value) ? null : "a name or an index",
  seed: whole(0, 0xffff_ffff), revision: isA("string"), tune: tuning, press,
  draft: (value) => value !== null && typeof value === "object" && typeof (value as { model?: unknown }).model === "string" ? null : 'such as { model: "prompt-lookup", k: 5 }',
  onProgress: isA("function"),
};

/** Throw UsageError for every unknown name and unusable value at once. */
function check<T extends object>(call: string, options: T, checks: Readonly<Record<string, Check>>): void {
  if (options === null || typeof options !== "object") throw new UsageError(`${call}: options must be an object`);
  const problems = Object.entries(options).flatMap(([name, value]) => {
    const problem = Object.hasOwn(checks, name) ? value === undefined ? null : checks[name]!(value) : undefined;
    if (problem === null) return [];
    if (problem !== undefined) return [`${name} must be ${problem}, got ${describe(value)}`];
    const [close] = nearest(name, Object.keys(checks));
    return [`unknown option ${name}${close === undefined ? "" : `; did you mean ${close}?`}`];
  });
  if (problems.length > 0) throw new UsageError(`${call}: ${problems.join("; ")}`);
}

function describe(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint" || value === undefined) return String(value);
  try {
    return JSON.stringify(value)?.slice(0, 60) ?? typeof value;
  } catch {
    return typeof value; // an object that contains itself
  }
}

export function checkLoadOptions(options: LoadOptions): LoadOptions {
  check("LLM.load", options, LOAD);
  if (options.prefixCache === true && options.kvLayout?.name === "contiguous") {
    throw new UsageError("LLM.load: prefixCache shares blocks, but a contiguous cache has none: leave it out, or take kvLayout { name: \"paged\", blockSize: 16 }");
  }
  return options;
}

/** With every default filled in; `logprobs` is null when none are wanted, and `press` when nothing is evicted. */
export type CompleteGenerateOptions = Required<Omit<GenerateOptions, "signal" | "logprobs" | "press" | "draft" | "keepRatio" | "pruneAfter" | "skipLayers">> & {
  /** Undefined: as the model was loaded. */
  readonly draft?: GenerateOptions["draft"];
  readonly signal: AbortSignal | undefined; readonly logprobs: number | null; readonly press: Press | null;
};

function pressOf({ press, keepRatio, pruneAfter, skipLayers }: GenerateOptions, named: (choice: PressChoice) => Press, usual: Press | null): Press | null {
  if (keepRatio === undefined) {
    if (pruneAfter !== undefined || skipLayers !== undefined) {
      throw new UsageError(`generate: ${pruneAfter === undefined ? "skipLayers" : "pruneAfter"} has no effect without keepRatio: give keepRatio, or a press`);
    }
    return press === undefined ? usual : press === null ? null : named(press);
  }
  if (press !== undefined) throw new UsageError("generate: keepRatio is a press of its own (knorm_steps): leave it or press out");
  const steps = { name: "knorm_steps", keepRatio, ...(pruneAfter !== undefined && { pruneAfter }), ...(skipLayers !== undefined && { skipLayers }) };
  return named(steps);
}

/**
 * Also refuses options that would have no effect: top-k, top-p or a seed of a greedy generation change nothing only when they are at their
 * defaults. `named` calls presses into being, `usual` is that of requests that say nothing.
 */
export function completeGenerateOptions(options: GenerateOptions, named: (choice: PressChoice) => Press = pressFrom, usual: Press | null = null): CompleteGenerateOptions {
  check("generate", options, GENERATE);
  const complete = {
    maxNewTokens: options.maxNewTokens ?? 128, temperature: options.temperature ?? 0, topP: options.topP ?? 1, topK: options.topK ?? 0, minP: options.minP ?? 0,
    repetitionPenalty: options.repetitionPenalty ?? 1, presencePenalty: options.presencePenalty ?? 0, frequencyPenalty: options.frequencyPenalty ?? 0,
    logitBias: options.logitBias ?? {}, logprobs: options.logprobs ?? null,
    seed: options.seed ?? 0, stop: options.stop ?? [], ignoreEos: options.ignoreEos ?? false, signal: options.signal,
    press: pressOf(options, named, usual), ...(options.draft !== undefined && { draft: options.draft }),
  };
  if (complete.temperature === 0 && (complete.topK !== 0 || complete.topP !== 1 || complete.minP !== 0)) {
    throw new UsageError("generate: topK, topP and minP have no effect at temperature 0 (greedy): raise temperature or leave them out");
  }
  return complete;
}
