/**
 * What the scorers share that act once, when the prompt has been read: when that is, how many entries a ratio leaves, and what is refused
 * before anything runs.
 */

import { UsageError } from "../../engine/errors.ts";
import { f32, wgsl, type Consts, type WgslFile } from "../../engine/kernel.ts";
import type { Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { LayerState, Press, PressOperands, PressStage, PressState } from "../../models/press.ts";
import { checkRatio, keptOf } from "./ratio.ts";

const PROTECT = wgsl(new URL("./protect.wgsl", import.meta.url));

/** The `keep` of a scorer: what `ratio` leaves of a head. */
export function keepOf(ratio: number): (layer: { readonly length: number }) => number {
  return ({ length }) => keptOf(length, ratio);
}

/**
 * A press of one stage that acts once, when the prompt has been read. `parameters` are named behind the ratio. Throws UsageError for a
 * ratio outside [0, 1); `next` throws it for a prompt of no more than `moreThan` tokens.
 */
export function prefillPress(
  name: string, ratio: number, stage: PressStage, { parameters = {}, moreThan = 0, ragged = false }: PrefillOptions = {},
): Press {
  checkRatio(ratio, `${name}: ratio`);
  const named = Object.entries(parameters).filter(([, value]) => value !== false).map(([key, value]) => (value === true ? `, ${key}` : `, ${key} ${value}`));
  return {
    name: `${name}(${ratio}${named.join("")})`, positions: "original", stages: [stage], ragged,
    next({ prompt, seen, acted }: PressState) {
      if (acted > 0) return null;
      if (ratio > 0) requireMore(name, moreThan, { prompt, seen: prompt, acted });
      return Math.max(prompt, seen);
    },
    check() { /* fits every model */ },
  };
}

export interface PrefillOptions {
  readonly parameters?: Readonly<Record<string, number | boolean>>;
  readonly moreThan?: number;
  readonly ragged?: boolean;
}

/** Throws UsageError unless more than `count` tokens have been read. */
export function requireMore(name: string, count: number, { prompt, seen, acted }: Pick<LayerState, "prompt" | "seen" | "acted">): void {
  if (seen > count) return;
  const has = acted === 0 && seen === prompt ? `the prompt has ${prompt}` : `${seen} have been read`;
  throw new UsageError(`${name} needs more than ${count} tokens, ${has}: give it a longer text, or a press that needs fewer`);
}

/** Throws UsageError unless `value` is an integer of at least `least`. */
export function requireCount(value: number, least: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < least) throw new UsageError(`${what} must be an integer of at least ${least}, not ${String(value)}`);
}

/** Invocations of a workgroup that has one for each entry. */
export const ENTRIES = 64;

export interface EntryKernel { readonly source: WgslFile; readonly slots?: readonly WgslFile[]; readonly consts?: Consts; readonly per?: number }

/**
 * One invocation for each entry of each of `per` (the KV heads, unless said otherwise): group.x is which, group.y · 64 + its number the
 * entry.
 */
export function perEntry(
  recorder: Recorder, { shape, columns, lengths }: PressOperands, { source, slots = [], consts = {}, per = shape.kvHeads }: EntryKernel,
  tensors: Readonly<Record<string, Tensor>>,
): void {
  recorder.run({ source, slots, consts: { COLUMNS: columns, ...consts } }, { lengths, ...tensors }, per, { rowsPer: ENTRIES });
}

/** Lanes of a workgroup that reduces over entries. */
export function reducingLanes({ gpu: { family, subgroupSize } }: Recorder): { SUBGROUP: number; WORKGROUP: number } {
  return { SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256 };
}

/**
 * By how much the scores of protected newest entries rise from one to the next, so that a budget smaller than they are leaves the newest of
 * them; too little to change anything else.
 */
export const RISE = 2 ** -20;

/**
 * Score the first or the newest so many entries of every head 1 above the greatest score that any other entry of the layer has (0 where
 * there is none).
 */
export function protect(recorder: Recorder, { shape, columns, lengths, scores }: PressOperands, which: { first: number } | { newest: number }): void {
  const [first, newest] = "first" in which ? [which.first, 0] : [0, which.newest];
  recorder.run({
    source: PROTECT, slots: [], consts: { HEADS: shape.kvHeads, COLUMNS: columns, FIRST: first, NEWEST: newest, RISE: f32(RISE), ...reducingLanes(recorder) },
  }, { lengths, scores }, 1);
}
