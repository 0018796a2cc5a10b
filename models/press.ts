/**
 * The waist of KV compression (techniques/press has the presses). A press says when it acts on a sequence, how many entries of each layer it
 * keeps, and gives every entry a score; the engine does the rest, the same for all: makes what the press needs to see, selects on the GPU,
 * moves the survivors into fresh blocks in the order of their positions and gives the old blocks back. No press knows of blocks, formats
 * or batches: its kernels read dense tensors of one layer of one sequence.
 */

import { UsageError } from "../engine/errors.ts";
import type { Recorder } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { AttentionShape } from "../kernels/attention.ts";
import type { ModelConfig } from "./config.ts";

/**
 * What becomes of positions once entries are gone. `original`: keys stay as they were rotated and the next token has its true position.
 * `rerotate`: kept keys are rotated to 0, 1, 2, … and the next token follows on the last. `cache-length`: the next token follows on the last,
 * but keys stay where they were: a common mistake, here only to be measured against.
 */
export const POSITION_POLICIES = ["original", "rerotate", "cache-length"] as const;
/** One of `POSITION_POLICIES`. */
export type PositionPolicy = (typeof POSITION_POLICIES)[number];

/** What a stage must be shown. Everything is of one layer of one sequence. */
export interface PressNeeds {
  /** ‖k‖ of every entry, written when it was appended. */
  readonly norms?: boolean;
  readonly keys?: boolean;
  readonly values?: boolean;
  /** Rotated queries of that many of the last tokens. */
  readonly queries?: number;
  /** Mean and covariance of the queries before rotation, of all tokens from position `sinks` on that were read since the press last acted. */
  readonly queryStats?: { readonly sinks: number };
  /** The attention every entry has got from all queries since it was appended, and its position. */
  readonly attention?: boolean;
}

/** Where a sequence stands: tokens. `length`: entries of its longest table. `acted`: how often the press has acted on it. */
export interface PressState {
  readonly prompt: number;
  readonly seen: number;
  readonly length: number;
  readonly acted: number;
}

/** A layer of a sequence that is about to be pressed. `length`: entries of its longest head. */
export interface LayerState extends PressState {
  readonly layer: number;
  readonly layers: number;
  readonly kvHeads: number;
}

/** A way to evict entries from the KV cache: when it acts, how many entries stay, and the score of each. */
export interface Press {
  /** With everything that tells it from others: `snapkv(0.5, window 64, kernel 5)`. */
  readonly name: string;
  readonly positions: PositionPolicy;
  /** Run one after the other each time the press acts; each scores what the one before has left. */
  readonly stages: readonly PressStage[];
  /** Entries in each head of a layer may differ in number, or layers from each other. */
  readonly ragged: boolean;
  /** After how many tokens through the model it acts next, at least `state.seen`; null: never again. Depends on nothing else. */
  next(state: PressState): number | null;
  /** Throws UsageError where the press does not fit the model. */
  check(config: Pick<ModelConfig, "layers" | "kvHeads" | "heads" | "headDim">): void;
}

/** One scoring and selection of a press. Most presses have one. */
export interface PressStage {
  readonly needs: PressNeeds;
  /** Entries to keep in each head of the layer, at most `length` (then the layer is left alone), or `marked`: those that score above 0. */
  keep(layer: LayerState): number | "marked";
  /** Of `kept` entries of a head, how many at the end are surely the newest without a gap: as far as a sequence may be truncated. */
  newest(kept: number): number;
  /** Numbers for the kernels, made when the press acts on a layer; f32 [paramCount], the same for every call. */
  readonly paramCount: number;
  params(layer: LayerState, model: PressModel): Float32Array;
  /** Fill `scores`; entries with the highest are kept, of equal ones the first. Recorded once for each layer. */
  score(recorder: Recorder, operands: PressOperands): void;
}

/** What `params` may need of the model: rotation by position · frequencies[i] of dimensions i and i + frequencies.length. */
export interface PressModel extends AttentionShape { readonly frequencies: readonly number[] }

/** Dense, of one layer of one sequence; a head's entries stand first in its columns, in the order of their positions. H KV heads. */
export interface PressOperands {
  readonly shape: AttentionShape;
  readonly layer: number;
  /** Columns of the tensors below, a multiple of 64. Grids follow the longest head: `{ rowsPer: n }` has ceil(longest / n) rows. */
  readonly columns: number;
  /** u32 [H] entries of each head. */
  readonly lengths: Tensor;
  /** f32 [paramCount] of the stage, at least one. */
  readonly params: Tensor;
  /** f32 [H, columns]. */
  readonly scores: Tensor;
  /** f32 [H, headDim, columns]. */
  readonly keys?: Tensor | undefined;
  readonly values?: Tensor | undefined;
  /** f32 [H, columns]. */
  readonly norms?: Tensor | undefined;
  readonly attention?: Tensor | undefined;
  /** u32 [H, columns]: the position of each entry in the text; with `attention`. */
  readonly positions?: Tensor | undefined;
  /** f32 [needs.queries, heads · headDim], oldest first; fewer tokens than that: the first rows mean nothing (params knows how many). */
  readonly queries?: Tensor | undefined;
  /** f32 [heads, 2·headDim + headDim²]: a shift c, Σ(q − c), Σ(q − c)(q − c)ᵀ row by row; how many: `queryCount`, u32 [1]. */
  readonly queryStats?: Tensor | undefined;
  readonly queryCount?: Tensor | undefined;
  /** A tensor for what passes between the dispatches of a stage; the same name and shape give the same tensor, in every layer. */
  scratch(name: string, shape: readonly number[], dtype: "f32" | "u32"): Tensor;
}

/** A press by name, with its parameters; techniques/press/spec.ts knows which there are. */
export type NamedPress = { readonly name: string } | { readonly name: string; readonly [parameter: string]: unknown };
/** A press as a value, or by name. */
export type PressChoice = Press | NamedPress;

let resolveName: ((named: NamedPress) => Press) | null = null;

/** Says what names mean: index.ts does, which stands above the techniques that this floor may not know. */
export function namePresses(resolve: (named: NamedPress) => Press): void {
  resolveName = resolve;
}

export function isPress(choice: PressChoice): choice is Press {
  return typeof (choice as Press).next === "function" && Array.isArray((choice as Press).stages);
}

/** The press itself. Throws UsageError for a name or a parameter that is not known. */
export function pressFrom(choice: PressChoice): Press {
  if (isPress(choice)) return choice;
  if (resolveName === null) throw new UsageError(`press "${choice.name}" is a name, and names are known to index.ts: import LLM from there, or give a Press`);
  return resolveName(choice);
}

/** What the stages of some presses must be shown, together. */
export interface ShownNeeds {
  readonly norms: boolean;
  readonly keys: boolean;
  readonly values: boolean;
  readonly attention: boolean;
  readonly queries: number;
  readonly queryStats: boolean;
  readonly paramCount: number;
}

export const NO_NEEDS: ShownNeeds = { norms: false, keys: false, values: false, attention: false, queries: 0, queryStats: false, paramCount: 1 };

export function needsOf({ stages }: Press, others: ShownNeeds = NO_NEEDS): ShownNeeds {
  return stages.reduce((sum, { needs, paramCount }) => ({
    norms: sum.norms || needs.norms === true, keys: sum.keys || needs.keys === true, values: sum.values || needs.values === true,
    attention: sum.attention || needs.attention === true, queries: Math.max(sum.queries, needs.queries ?? 0),
    queryStats: sum.queryStats || needs.queryStats !== undefined, paramCount: Math.max(sum.paramCount, paramCount),
  }), others);
}
