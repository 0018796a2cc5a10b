/**
 * The arms of `spec_decode`. For each draft one LLM that was loaded with it, and in it: plain decoding, the same again, every K, and the K
 * that adapts. All of them share the target's weights, kernels and cache; they differ in what a request asks for. Plain decoding twice: two
 * equal arms differ by what the machine makes of them, and nothing smaller is told as a speed-up.
 */

import type { SpeculationCosts } from "../../../models/draft.ts";
import type { Model } from "../arms.ts";
import type { ExperimentConfig } from "../schema.ts";
import { draftLengths } from "./k.ts";

/** What is asked of an LLM beside what every experiment asks: one that was loaded with a draft. */
export interface SpeculativeModel extends Model {
  readonly draft: { readonly name: string; readonly kind: "model" | "text" | "self" } | null;
  speculationCosts(): Promise<SpeculationCosts>;
}

export interface SpecArm {
  /** The same in every language: `plain`, `plain again`, `K = 5`, `adaptive`. */
  readonly name: string;
  readonly kind: "none" | "again" | "drafted";
  /** Null without a draft. */
  readonly k: number | "adaptive" | null;
}

export function specArms({ k }: Pick<ExperimentConfig, "k">): SpecArm[] {
  return [
    { name: "plain", kind: "none", k: null }, { name: "plain again", kind: "again", k: null },
    ...draftLengths(k)!.map((one): SpecArm => ({ name: `K = ${one}`, kind: "drafted", k: one })),
    { name: "adaptive", kind: "drafted", k: "adaptive" },
  ];
}
