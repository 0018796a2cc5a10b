/**
 * Presses by name, as plain data that survives JSON: what options, config files and command lines say. Every mistake in them is a
 * UsageError that names what was written, what is nearest to it and what is allowed.
 */

import { UsageError } from "../../engine/errors.ts";
import type { PositionPolicy, Press } from "../../models/press.ts";
import type { ExpectedAttentionOptions } from "./expected_attention.ts";
import type { LagKvOptions } from "./lagkv.ts";
import { withSkippedLayers } from "./per_layer.ts";
import { parseValue } from "./press_text.ts";
import { entryOf, PRESS_NAMES, type Parameter, type PressName } from "./presses.ts";
import type { PyramidKvOptions } from "./pyramidkv.ts";
import type { RandomOptions } from "./random.ts";
import { withPositions } from "./rerotate.ts";
import type { SnapKvOptions } from "./snapkv.ts";
import type { StreamingLlmOptions } from "./streaming_llm.ts";
import { namesNear } from "./traits.ts";

export { PRESS_NAMES, PRESS_TABLE, type PressName } from "./presses.ts";

interface Common {
  /** Layers that are left alone. */
  readonly skipLayers?: readonly number[];
  readonly positions?: PositionPolicy;
}

/** `ratio` is the share that is evicted, in [0, 1). */
export type ScorerSpec = Common & { readonly ratio: number } & (
  | { readonly name: "knorm" | "tova" | "observed_attention" | "keydiff" }
  | { readonly name: "random" } & RandomOptions
  | { readonly name: "streaming_llm" } & StreamingLlmOptions
  | { readonly name: "snapkv" } & SnapKvOptions
  | { readonly name: "pyramidkv" } & PyramidKvOptions
  | { readonly name: "expected_attention" } & ExpectedAttentionOptions
  | { readonly name: "lagkv" } & LagKvOptions
);

type Inside<S> = S extends { readonly ratio: number } ? Omit<S, "ratio"> & { readonly ratio?: number } : S;

/** Presses that take presses, and knorm_steps, which has a ratio of its own kind. */
export type WrapperSpec = Common & (
  | { readonly name: "adakv"; readonly press: PressSpec; readonly alpha?: number }
  | { readonly name: "chunk" | "chunkkv"; readonly press: PressSpec; readonly chunk?: number }
  /** The press inside goes without a ratio. */
  | { readonly name: "per_layer"; readonly press: Inside<PressSpec>; readonly ratios: readonly number[] }
  | { readonly name: "composed"; readonly presses: readonly PressSpec[] }
  | { readonly name: "rerotate"; readonly press: PressSpec }
  /** The press inside goes without a ratio, unless `prefill` is true. */
  | { readonly name: "decoding"; readonly press: Inside<PressSpec>; readonly every?: number; readonly target?: number; readonly prefill?: boolean }
  | { readonly name: "knorm_steps"; readonly keepRatio: number; readonly pruneAfter?: number; readonly chunk?: number }
);

/** A press by name with its parameters, as plain data that survives JSON. */
export type PressSpec = ScorerSpec | WrapperSpec;

type Fields = Readonly<Record<string, unknown>>;
const COMMON: Readonly<Record<string, Parameter>> = {
  skipLayers: { kind: "layers", optional: true, text: "layers that are left alone" },
  positions: { kind: "positions", optional: true, text: "original, rerotate, or the common mistake cache-length" },
};

/**
 * The press that `spec` names. Names may have hyphens for underscores. Throws UsageError for an unknown press or parameter, for one that is
 * missing or out of range, and for presses that do not go together.
 */
export function pressOf(spec: PressSpec): Press {
  return build(spec, "press", undefined);
}

/** What `text` names, written like a call: `snapkv`, `adakv(snapkv)`, `decoding(knorm, every=64)`; `ratio` for every press that takes one. */
export function parsePress(text: string, ratio: number): PressSpec {
  const spec = withRatio(parseValue(text), ratio, false);
  pressOf(spec as PressSpec);
  return spec as PressSpec;
}

/** The table's name for what a user wrote. Throws UsageError with the nearest. */
export function pressName(written: unknown, where = "press"): PressName {
  const name = String(written).toLowerCase().replaceAll("-", "_");
  const found = PRESS_NAMES.find((each) => each === name);
  if (found !== undefined) return found;
  throw new UsageError(`${where}: unknown press ${JSON.stringify(written)}${namesNear(name, PRESS_NAMES)}`);
}

function build(spec: unknown, where: string, overridden: number | undefined): Press {
  if (typeof spec !== "object" || spec === null || Array.isArray(spec)) {
    throw new UsageError(`${where} must be an object such as { name: "snapkv", ratio: 0.5 }, not ${JSON.stringify(spec)}`);
  }
  const { name: written, ...fields } = spec as Fields;
  if (written === undefined) throw new UsageError(`${where} has no name; there are ${PRESS_NAMES.join(", ")}`);
  const name = pressName(written, where);
  const entry = entryOf(name);
  const allowed: Readonly<Record<string, Parameter>> = { ...entry.parameters, ...COMMON };
  const unknown = Object.keys(fields).find((field) => !Object.hasOwn(allowed, field));
  if (unknown !== undefined) {
    throw new UsageError(`${where}: ${name} has no parameter ${JSON.stringify(unknown)}${namesNear(unknown, Object.keys(allowed))}`);
  }
  if (overridden !== undefined && fields["ratio"] !== undefined) {
    throw new UsageError(`${where}: the ratio of ${name} has no effect here, leave it out`);
  }
  const within = entry.overrides === undefined ? overridden : entry.overrides(fields);
  const given = { ...fields, ...("ratio" in entry.parameters && overridden !== undefined && { ratio: overridden }) };
  for (const [field, { optional, text }] of Object.entries(entry.parameters)) {
    if (optional !== true && given[field as keyof typeof given] === undefined) throw new UsageError(`${where}: ${name} needs ${field}: ${text}`);
  }
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined).map(([field, value]) => (
    [field, valueOf(value, allowed[field]!, `${where}: ${field} of ${name}`, `${where}.${field}`, within)]
  )));
  const { skipLayers, positions, ...own } = options as Fields & Common;
  if (entry.common === "own") return (entry.make as (options: Fields) => Press)(options);
  const press = (entry.make as (options: Fields) => Press)(own);
  return withPositions(withSkippedLayers(press, skipLayers ?? []), positions ?? press.positions);
}

/** `value`, checked against what the parameter may be; presses are made. */
function valueOf(value: unknown, parameter: Parameter, what: string, where: string, within: number | undefined): unknown {
  const { kind } = parameter;
  switch (kind) {
    case "press": return build(value, where, within);
    case "presses":
      if (!Array.isArray(value)) throw new UsageError(`${what} must be a list of presses, not ${JSON.stringify(value)}`);
      return value.map((each, index) => build(each, `${where}[${index}]`, within));
    case "boolean":
      if (typeof value !== "boolean") throw new UsageError(`${what} must be true or false, not ${JSON.stringify(value)}`);
      return value;
    case "layers":
      if (!Array.isArray(value) || !value.every((each) => Number.isSafeInteger(each) && each >= 0)) {
        throw new UsageError(`${what} must be a list of layers, such as [0, 1], not ${JSON.stringify(value)}`);
      }
      return value;
    case "ratios":
      if (!Array.isArray(value) || !value.every((each) => typeof each === "number" && each >= 0 && each < 1)) {
        throw new UsageError(`${what} must be a list of ratios in [0, 1), one for each layer, not ${JSON.stringify(value)}`);
      }
      return value;
    case "positions": return value; // withPositions knows them
    default: return numberOf(value, parameter, what);
  }
}

function numberOf(value: unknown, { kind, least, most, above, below, text }: Parameter & { kind: "integer" | "number" }, what: string): number {
  const low = least !== undefined ? `[${least}` : above !== undefined ? `(${above}` : "(−∞";
  const high = most !== undefined ? `${most}]` : below !== undefined ? `${below})` : "∞)";
  const fits = typeof value === "number" && Number.isFinite(value) && (kind === "number" || Number.isSafeInteger(value))
    && !(value < (least ?? -Infinity)) && !(value <= (above ?? -Infinity)) && !(value > (most ?? Infinity)) && !(value >= (below ?? Infinity));
  if (fits) return value;
  const [article, given] = [kind === "integer" ? "an integer" : "a number", typeof value === "number" ? String(value) : JSON.stringify(value)];
  throw new UsageError(`${what} must be ${article} in ${low}, ${high}, not ${given}: ${text}`);
}

/** The parsed text with `ratio` wherever a press takes one, has none and is not overridden; keepRatio is what it leaves. */
function withRatio(parsed: unknown, ratio: number, overridden: boolean): unknown {
  if (typeof parsed !== "object" || parsed === null) return parsed;
  const { name: written, ...given } = parsed as Fields;
  const name = pressName(written);
  const { parameters, overrides } = entryOf(name);
  // One press in brackets may be a list of one.
  const { press: only, ...others } = given;
  const fields: Fields = "presses" in parameters && only !== undefined ? { presses: [only], ...others } : given;
  const within = overrides === undefined ? overridden : overrides(fields) !== undefined;
  const inner = (value: unknown): unknown => withRatio(value, ratio, within);
  const filled = Object.fromEntries(Object.entries(fields).map(([field, value]) => {
    const kind = parameters[field]?.kind;
    return [field, kind === "press" ? inner(value) : kind === "presses" && Array.isArray(value) ? value.map(inner) : value];
  }));
  // 1 − ratio as a decimal again: 1 − 0.9 is not 0.1 in binary.
  const kept = Number((1 - ratio).toFixed(12));
  return {
    name,
    ...("ratio" in parameters && !overridden && { ratio }),
    ...("keepRatio" in parameters && { keepRatio: kept }),
    ...filled,
  };
}
