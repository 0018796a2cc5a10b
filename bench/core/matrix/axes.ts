/**
 * What is combined with what: the five axes of the matrix, their values by the names that users write, and what each value is when an LLM is
 * loaded or asked. The values are those of the tables of formats, presses and layouts, so a new one is in the matrix by itself.
 */

import type { DraftOptions, KvChoice, KvLayout, LoadOptions, WeightFormat } from "../../../index.ts";
import { WEIGHT_FORMATS } from "../../../kernels/formats.ts";
import { KV_FORMATS } from "../../../kernels/kv_formats.ts";
import type { Press } from "../../../models/press.ts";
import { contiguousExact, contiguousMax, paged } from "../../../techniques/paged_attention/index.ts";
import { PRESS_NAMES, pressOf, type PressName, type PressSpec } from "../../../techniques/press/spec.ts";
import type { LayoutArm } from "../arms.ts";

export const AXES = ["weights", "kv", "press", "layout", "draft"] as const;
export type Axis = (typeof AXES)[number];
/** One value of every axis. */
export type Cell = Readonly<Record<Axis, string>>;

/** The bundled models, which are also what `--model` takes. */
export const MODELS = ["tiny-neox", "tiny-qwen2"] as const;
export type MatrixModel = (typeof MODELS)[number];

const MIXED = "k int8, v int4";

const LAYOUTS: Readonly<Record<LayoutArm, KvLayout>> = {
  "contiguous-max": contiguousMax, "contiguous-exact": contiguousExact, paged: paged(), "paged-prefix": paged(),
};

/** In the order in which tables have them. */
export const VALUES: Readonly<Record<Axis, readonly string[]>> = {
  weights: WEIGHT_FORMATS,
  kv: [...KV_FORMATS, MIXED],
  press: ["none", ...PRESS_NAMES],
  layout: Object.keys(LAYOUTS),
  draft: ["none", "tiny-neox-draft", "prompt-lookup", "self:int8", "self:nf4"],
};

/**
 * What an axis has where a cell does not say: what a user gets who says nothing (the bundled models store f16), but for the prefix cache,
 * which is off, or one cell would begin behind what another has read.
 */
export const DEFAULTS: Cell = { weights: "f16", kv: "f16", press: "none", layout: "paged", draft: "none" };

/** Tokens: the prompts of a batch, new ones behind each, and what a sequence has room for. Awkward numbers, so that blocks and chunks are cut. */
export const SIZES = { prompts: [97, 73], newTokens: 24, maxModelLen: 160, prefillChunk: 64, context: 96, continuation: 32, windows: 3 } as const;

/** Every press small enough to act on those prompts, and then on half of the entries. */
const PRESSES: Readonly<Record<PressName, PressSpec>> = {
  knorm: { name: "knorm", ratio: 0.5 },
  snapkv: { name: "snapkv", ratio: 0.5, window: 16 },
  pyramidkv: { name: "pyramidkv", ratio: 0.5, window: 16 },
  tova: { name: "tova", ratio: 0.5 },
  observed_attention: { name: "observed_attention", ratio: 0.5 },
  expected_attention: { name: "expected_attention", ratio: 0.5 },
  streaming_llm: { name: "streaming_llm", ratio: 0.5 },
  keydiff: { name: "keydiff", ratio: 0.5 },
  lagkv: { name: "lagkv", ratio: 0.5, lagSize: 16 },
  random: { name: "random", ratio: 0.5 },
  adakv: { name: "adakv", press: { name: "snapkv", ratio: 0.5, window: 16 } },
  chunk: { name: "chunk", press: { name: "knorm", ratio: 0.5 }, chunk: 32 },
  chunkkv: { name: "chunkkv", press: { name: "snapkv", ratio: 0.5, window: 16 }, chunk: 8 },
  per_layer: { name: "per_layer", press: { name: "knorm" }, ratios: [0.2, 0.4, 0.6, 0.5] },
  composed: { name: "composed", presses: [{ name: "knorm", ratio: 0.25 }, { name: "snapkv", ratio: 0.25, window: 16 }] },
  rerotate: { name: "rerotate", press: { name: "knorm", ratio: 0.5 } },
  decoding: { name: "decoding", press: { name: "knorm" }, every: 8, target: 48 },
  knorm_steps: { name: "knorm_steps", keepRatio: 0.5, pruneAfter: 64 },
};

/** A press and the same press that evicts nothing; null: none. */
export function pressesOf(value: string): { readonly acting: Press; readonly idle: Press } | null {
  if (value === "none") return null;
  const spec = PRESSES[value as PressName];
  return { acting: pressOf(spec), idle: pressOf(withoutEffect(spec) as PressSpec) };
}

/** As written in the document. */
export function pressText(value: string): string {
  return pressesOf(value)?.acting.name ?? "none";
}

/** Whether it must be shown all queries, so that none of its prompt may come out of a prefix cache. */
export function seesEveryQuery({ stages }: Press): boolean {
  return stages.some(({ needs }) => needs.queryStats !== undefined || needs.attention === true);
}

/** Every share to evict 0, every size to cut back to out of reach. */
function withoutEffect(spec: object): object {
  const changed: Readonly<Record<string, (value: unknown) => unknown>> = {
    ratio: () => 0, ratios: (values) => (values as number[]).map(() => 0), keepRatio: () => 1, target: () => 10 * SIZES.maxModelLen,
    press: (inside) => withoutEffect(inside as object), presses: (inside) => (inside as object[]).map(withoutEffect),
  };
  return Object.fromEntries(Object.entries(spec).map(([key, value]) => [key, changed[key]?.(value) ?? value]));
}

export function kvOf(value: string): KvChoice {
  return value === MIXED ? { k: "int8", v: "int4" } : value as KvChoice;
}

/** Memory is for two sequences of f32 with room for presses to work in, whatever the formats. */
export function loadOptionsOf({ weights, kv, layout, draft }: Omit<Cell, "press">, adapter: string): LoadOptions {
  const drafted: { draft?: DraftOptions } = draft === "none" ? {} : { draft: { model: draft } };
  const { maxModelLen, prefillChunk, prompts } = SIZES;
  return {
    weights: weights as WeightFormat, kv: kvOf(kv), kvLayout: LAYOUTS[layout as LayoutArm], prefixCache: layout === "paged-prefix", ...drafted,
    adapter, maxSequences: prompts.length, maxModelLen, prefillChunk, kvMemory: 4 << 20,
  };
}
