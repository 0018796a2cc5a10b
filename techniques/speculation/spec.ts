/**
 * Drafts as plain data: what options, config files and command lines say, checked and completed. Every mistake is a UsageError that names
 * what was written, what is nearest to it and what is allowed. index.ts hands `DRAFTS` down to the models.
 */

import { UsageError } from "../../engine/errors.ts";
import { nearest } from "../../engine/nearest.ts";
import { WEIGHT_FORMATS, type WeightFormat } from "../../kernels/formats.ts";
import { MAX_DRAFTED } from "../../kernels/accept.ts";
import type { DraftKinds, DraftOptions } from "../../models/draft.ts";
import { AdaptiveLength, fixedLength } from "./adaptive.ts";
import { costModel } from "./cost.ts";
import { MAX_NGRAM, NGRAM, promptLookup } from "./prompt_lookup.ts";

/** Tokens drafted in a round where nothing else is said. */
export const DEFAULT_K = 5;
const PROMPT_LOOKUP = "prompt-lookup";
const SELF = "self:";

/** With the default of `k`, and of `ngram` where there are n-grams. */
export type CompleteDraftOptions = Required<Pick<DraftOptions, "model" | "k">> & DraftOptions;

/** What a checked `model` stands for. */
export function draftKindOf({ model }: Pick<DraftOptions, "model">): "model" | "text" | "self" {
  return model === PROMPT_LOOKUP ? "text" : model.startsWith(SELF) ? "self" : "model";
}

/** Of a checked `self:FORMAT`. */
export function selfFormatOf({ model }: Pick<DraftOptions, "model">): WeightFormat | null {
  return WEIGHT_FORMATS.find((format) => model === SELF + format) ?? null;
}

/**
 * `options` completed, with the names of drafts as they are written here (`Prompt_Lookup` is prompt-lookup; a folder of such a name needs
 * `./` before it). Throws UsageError for everything that is wrong at once: an unknown key or self: format, a K or n-gram out of range, a
 * key without effect. Whether a model of another name exists, loading tells.
 */
export function draftOptionsOf(options: DraftOptions): CompleteDraftOptions {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new UsageError(`draft must be an object such as { model: "prompt-lookup", k: 5 }, not ${show(options)}`);
  }
  const problems: string[] = [];
  for (const key of Object.keys(options)) {
    if (KEYS.includes(key)) continue;
    const [close] = nearest(key, KEYS);
    problems.push(`has no ${show(key)}${close === undefined ? ";" : `, did you mean ${close}?`} there are ${KEYS.join(", ")}`);
  }
  const { model: written, k = DEFAULT_K, weights, ngram } = options;
  const model = modelName(written, problems);
  const kind = draftKindOf({ model });
  problems.push(...problemsOfK(k));
  if (weights !== undefined) {
    if (kind === "text") problems.push(`weights has no effect with ${PROMPT_LOOKUP}, which has no weights: leave it out`);
    else if (kind === "self") problems.push(`weights has no effect with ${model}, which names a format already: leave it out`);
    else if (!["auto", ...WEIGHT_FORMATS].includes(weights)) {
      problems.push(`weights must be one of auto, ${WEIGHT_FORMATS.join(", ")}, not ${show(weights)}${guess(weights)}`);
    }
  }
  if (ngram !== undefined) {
    if (kind !== "text") problems.push(`ngram has no effect with ${model || "a model"}, it is ${PROMPT_LOOKUP}'s: leave it out`);
    else if (!isWhole(ngram, MAX_NGRAM)) {
      problems.push(`ngram must be a whole number from 1 to ${MAX_NGRAM}, the longest n-gram that is looked for, not ${show(ngram)}`);
    }
  }
  if (problems.length > 0) throw new UsageError(`draft: ${problems.join("; ")}`);
  return { model, k, ...(weights !== undefined && { weights }), ...(kind === "text" && { ngram: ngram ?? NGRAM }) };
}

const KEYS: readonly string[] = ["model", "k", "weights", "ngram"] satisfies readonly (keyof DraftOptions)[];

/** A number of tokens to draft, wherever it is said; `where` begins the message of the UsageError that refuses one. */
export function checkK(k: unknown, where = "draft"): asserts k is number | "adaptive" {
  const [problem] = problemsOfK(k);
  if (problem !== undefined) throw new UsageError(`${where}: ${problem}`);
}

function problemsOfK(k: unknown): string[] {
  if (k === "adaptive" || isWhole(k, MAX_DRAFTED)) return [];
  const hint = k === 0 ? ": for plain decoding of a request give draft: null"
    : typeof k === "string" && nearest(k, ["adaptive"]).length > 0 ? "; did you mean adaptive?" : "";
  return [`k must be a whole number from 1 to ${MAX_DRAFTED} or "adaptive", not ${show(k)}${hint}`];
}

/** As it is written here; "" and a problem for what is none. */
function modelName(written: unknown, problems: string[]): string {
  if (typeof written !== "string" || written.trim() === "") {
    problems.push(`needs a model: a folder, a bundled name or a hub id, ${PROMPT_LOOKUP}, or ${SELF}FORMAT, not ${show(written)}`);
    return "";
  }
  const name = written.trim().toLowerCase().replaceAll(/[_ ]/g, "-");
  if (name === PROMPT_LOOKUP) return name;
  if (!name.startsWith(SELF) && name !== "self") return written;
  const format = written.trim().toLowerCase().slice(SELF.length);
  if (!WEIGHT_FORMATS.some((each) => each === format)) {
    const allowed = WEIGHT_FORMATS.map((each) => SELF + each).join(", ");
    problems.push(`${show(written)} names no format of weights${guess(format)}; there are ${allowed}`);
  }
  return SELF + format;
}

function isWhole(value: unknown, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most;
}

function guess(format: unknown): string {
  const [close] = nearest(String(format), WEIGHT_FORMATS);
  return close === undefined ? "" : `, did you mean ${close}?`;
}

function show(value: unknown): string {
  return typeof value === "string" || (typeof value === "object" && value !== null) ? JSON.stringify(value) : String(value);
}

/** What models/draft.ts is told. Adaptive lengths need measured costs: an Error without, since nothing could be weighed. */
export const DRAFTS: DraftKinds = {
  check: draftOptionsOf,
  selfFormat: selfFormatOf,
  text(options) {
    return draftKindOf(options) === "text" ? () => promptLookup({ ngram: options.ngram ?? NGRAM }) : null;
  },
  length(k, costs) {
    if (k !== "adaptive") return fixedLength(k);
    if (costs === null) throw new Error("draft length: an adaptive one needs the costs that were measured on this adapter");
    return new AdaptiveLength(costModel(costs), { most: MAX_DRAFTED });
  },
};
