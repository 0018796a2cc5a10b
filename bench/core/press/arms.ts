/**
 * The arms of the experiments on presses. One LLM serves them all: what differs is what a request asks for, so weights, kernels and pool
 * are not merely equal but the same. No press runs twice, under its own name and as `again`: two equal arms differ by what the machine
 * makes of them, and nothing smaller is told as a difference.
 *
 *   KnormPress   no press · again · one arm for each of `keep_ratios`; at 1.0 the press acts once and keeps everything: what it costs to
 *                have one
 *   KVPress      no press · again · one arm for each of `presses` and `ratios`, `random` always among them: the negative control
 */

import type { GenerateOptions } from "../../../models/options.ts";
import type { PressChoice } from "../../../models/press.ts";
import { parsePress } from "../../../techniques/press/spec.ts";
import type { ExperimentConfig } from "../schema.ts";

export interface PressArm {
  /** The same in every language: `no press`, `no press again`, `keep 0.9`, `snapkv 0.5`. */
  readonly name: string;
  readonly kind: "none" | "again" | "press";
  /** Null without a press. */
  readonly press: string | null;
  /** The share of the entries that it is asked to keep; null without a press. 1: the press that keeps everything. */
  readonly keep: number | null;
  /** What its requests ask for, and the same press where a text is scored. */
  readonly options: Pick<GenerateOptions, "press" | "keepRatio" | "pruneAfter" | "skipLayers">;
  readonly scored: PressChoice | null;
}

/** Compared with in every experiment; evicts at random. */
export const CONTROL_PRESS = "random";

const NONE: readonly PressArm[] = (["none", "again"] as const).map((kind) => ({
  name: kind === "none" ? "no press" : "no press again", kind, press: null, keep: null, options: { press: null }, scored: null,
}));

/** 1 → "1.0", 0.9 → "0.9". */
export function ratioText(ratio: number): string {
  return Number.isInteger(ratio) ? ratio.toFixed(1) : String(ratio);
}

export function pressArms(config: ExperimentConfig): PressArm[] {
  return [...NONE, ...(config.technique === "KnormPress" ? knormArms(config) : capacityArms(config))];
}

function knormArms({ keep_ratios, prune_after: pruneAfter, skip_layers: skipLayers }: ExperimentConfig): PressArm[] {
  return keep_ratios.map((keepRatio) => ({
    name: `keep ${ratioText(keepRatio)}`, kind: "press", press: "knorm", keep: keepRatio, options: { keepRatio, pruneAfter, skipLayers },
    scored: { name: "knorm_steps", keepRatio, pruneAfter, skipLayers },
  }));
}

function capacityArms({ presses, ratios }: ExperimentConfig): PressArm[] {
  const all = presses.includes(CONTROL_PRESS) ? presses : [...presses, CONTROL_PRESS];
  return all.flatMap((press) => ratios.map((ratio): PressArm => {
    const spec = parsePress(press, ratio);
    return { name: `${press} ${ratioText(ratio)}`, kind: "press", press, keep: keepOf(ratio), options: { press: spec }, scored: spec };
  }));
}

/** 1 − ratio without the dust of binary fractions: 0.9 keeps 0.1. */
function keepOf(ratio: number): number {
  return Number((1 - ratio).toPrecision(12));
}
