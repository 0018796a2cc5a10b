/** The arms of a measurement under presses: no press, and each press at each ratio; beside `all` always `random`, the negative control. */

import { UsageError } from "../../../engine/errors.ts";
import type { NamedPress, Press } from "../../../models/press.ts";
import { attentionRefusal, type PressConfig } from "./press_options.ts";

/** A press by name with its parameters, whatever they are. */
export type Spec = NamedPress & Readonly<Record<string, unknown>>;

/** What techniques/press knows of names; tests give a stand-in. */
export interface PressNames {
  /** Presses that stand alone, which `all` means. */
  readonly all: readonly string[];
  /** Throws UsageError for a text that names no press. */
  readonly parse: (text: string, ratio: number) => Spec;
  readonly make: (spec: Spec) => Press;
}

export const NO_PRESS = "no_press";
export const CONTROL = "random";

export interface Arm {
  /** As the command line calls it. */
  readonly name: string;
  /** Share to evict; null without a press, and where every token may evict. */
  readonly ratio: number | null;
  readonly spec: Spec | null;
  readonly press: Press | null;
  /** It may evict nothing: it was told to. */
  readonly mayIdle: boolean;
}

export const PLAIN_ARM: Arm = { name: NO_PRESS, ratio: null, spec: null, press: null, mayIdle: true };

/**
 * The presses that were asked for, and what a user should know about them. Of `all` those that cannot be had (by the positions or the
 * attention that were asked for) are left out, aloud; one that was named is refused. Throws UsageError.
 */
export function armsOf(config: PressConfig, names: PressNames): { arms: Arm[]; notes: string[] } {
  const { press, ratios, steps, attention } = config, notes: string[] = [];
  if (attention !== null) {
    const does = attention === "flash_attention_2" ? "only refuses presses that need attention weights" : "changes nothing";
    notes.push(`--attn-implementation ${attention} ${does}: `
      + "there is one attention here, and it is the same for every value");
  }
  const common = { ...(config.skipLayers !== null && { skipLayers: config.skipLayers }),
    ...(config.positions !== null && { positions: config.positions }) };
  const build = (name: string, own: Spec): Arm => {
    const spec: Spec = { ...own, ...common }, made = names.make(spec), ratio = steps === null ? ratioOf(spec) : null;
    if (attention === "flash_attention_2" && made.stages.some(({ needs }) => needs.attention === true)) throw attentionRefusal(name);
    return { name, ratio, spec, press: made, mayIdle: ratio === 0 || steps?.keepRatio === 1 };
  };
  if (press === NO_PRESS) return { arms: [], notes };
  if (steps !== null) return { arms: [build("knorm", { name: "knorm_steps", ...steps })], notes };
  if (press !== "all") {
    const asked = (ratios ?? [DEFAULT_RATIO]).map((ratio) => names.parse(press, ratio)); // first, so that a refusal says what was asked for
    // A press that has its ratio in its own text, or has none, is the same at every ratio.
    const isFixed = JSON.stringify(names.parse(press, 0.25)) === JSON.stringify(names.parse(press, 0.5));
    if (isFixed && ratios !== null)
      throw new UsageError(`--compression-ratio: has no effect on ${press}, whose own parameters say what stays`);
    return { arms: asked.map((spec) => build(press, spec)), notes };
  }
  const arms: Arm[] = [];
  for (const name of new Set([...names.all, CONTROL])) {
    try {
      arms.push(...(ratios ?? [DEFAULT_RATIO]).map((ratio) => build(name, names.parse(name, ratio))));
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      notes.push(`${name} is left out: ${error.message}`);
    }
  }
  return { arms, notes };
}

const DEFAULT_RATIO = 0.5;

/** The share that a press, or the first one inside it, evicts; null where none says. */
function ratioOf({ ratio, press, presses }: Readonly<Record<string, unknown>>): number | null {
  if (typeof ratio === "number") return ratio;
  const inside = press ?? (Array.isArray(presses) ? presses[0] : undefined);
  return typeof inside === "object" && inside !== null ? ratioOf(inside as Readonly<Record<string, unknown>>) : null;
}
