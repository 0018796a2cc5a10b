/**
 * The arms of `combos`: any combination of weight format, KV format, cache layout, press and draft, as the config names them. The first
 * one is the baseline and runs twice. Arms that are loaded alike share one LLM; what a press does is asked for with each request.
 */

import type { GenerateOptions } from "../../../models/options.ts";
import type { LoadOptions } from "../../../index.ts";
import { parsePress } from "../../../techniques/press/spec.ts";
import { layoutOf, type ArmPlan } from "../arms.ts";
import { ARM_SETTINGS, type ArmSettings, type ExperimentConfig } from "../schema.ts";

export interface ComboArm {
  readonly name: string;
  readonly role: "baseline" | "control" | "technique";
  readonly settings: ArmSettings;
  /** What its requests ask for. */
  readonly request: Pick<GenerateOptions, "press" | "draft">;
}

/** The share that a press evicts where an arm does not say. */
const RATIO = 0.5;
/** Tokens drafted per round where an arm does not say. */
const K = 5;

export function comboArms({ arms }: Pick<ExperimentConfig, "arms">): ComboArm[] {
  return Object.entries(arms!).flatMap(([name, raw], i): ComboArm[] => {
    const settings = ARM_SETTINGS.parse(raw), request = requestOf(settings);
    const arm: ComboArm = { name, role: i === 0 ? "baseline" : "technique", settings, request };
    return i === 0 ? [arm, { ...arm, name: controlOf(name), role: "control" }] : [arm];
  });
}

/** The baseline a second time: what two equal arms differ by. */
export function controlOf(baseline: string): string {
  return `${baseline} again`;
}

function requestOf({ press, ratio = RATIO, draft, k = K }: ArmSettings): ComboArm["request"] {
  return { press: press === undefined ? null : parsePress(press, ratio), draft: draft === undefined ? null : { k } };
}

/** How an arm's LLM is loaded; arms with the same key can share it. */
export function planOf({ settings }: ComboArm, config: ExperimentConfig): ArmPlan<string> & { readonly key: string } {
  const { weights = config.weights, kv = config.kv, layout = "paged", draft } = settings;
  const options: Partial<LoadOptions> = { weights, kv, ...(draft !== undefined && { draft: { model: draft } }) };
  const key = JSON.stringify([weights, kv, layout, draft ?? null]);
  return { name: key, key, ...layoutOf(layout, config), options };
}

/** Arms with the same key must write the same greedy texts: what they differ in may change speed and memory, but no number. */
export function lossyKey({ settings: { weights, kv, press, ratio = RATIO } }: ComboArm, config: ExperimentConfig): string {
  return JSON.stringify([weights ?? config.weights, kv ?? config.kv, press === undefined ? null : [press, ratio]]);
}
