/** Every kernel that a model runs, and which cases of them a run measures. */

import { nearest } from "../../../engine/nearest.ts";
import { ATTENTION } from "./attention.ts";
import { CAPTURE } from "./capture.ts";
import { distinct, type Ask, type KernelCase, type KernelDefinition } from "./case.ts";
import { LOADING } from "./loading.ts";
import { PRESS } from "./press.ts";
import { PRODUCTS } from "./products.ts";
import { ROWS } from "./rows.ts";
import { VOCABULARY } from "./vocabulary.ts";

/** In the order of a step: products first, since they take most of it. */
export const DEFINITIONS: readonly KernelDefinition[] = [...PRODUCTS, ...ATTENTION, ...ROWS, ...VOCABULARY, ...CAPTURE, ...PRESS, ...LOADING];

/** The definitions of these names; those that there are none of go to `problems`, with the nearest that there is. */
export function definitionsOf(names: readonly string[] | null, problems: string[], all: readonly KernelDefinition[] = DEFINITIONS): readonly KernelDefinition[] {
  if (names === null) return all;
  return names.flatMap((name) => {
    const found = all.find((definition) => definition.name === name);
    if (found !== undefined) return [found];
    const [near] = nearest(name, all.map((definition) => definition.name));
    problems.push(`--kernel: there is no kernel "${name}"${near === undefined ? "" : `; did you mean ${near}?`} (--list shows all)`);
    return [];
  });
}

export interface Selection {
  readonly cases: readonly KernelCase[];
  /** What is not measured, and why. */
  readonly leftOut: readonly string[];
}

/** The cases of a run on a device whose bindings hold `maxBinding` bytes. */
export function select(definitions: readonly KernelDefinition[], ask: Ask, maxBinding: number): Selection {
  const fitting = definitions.filter(({ formats, kv }) => (ask.formats === null || formats !== null) && (ask.kv === null || kv !== null));
  const named = (each: KernelCase): boolean => ask.variant === null || (each.variant?.includes(ask.variant) ?? false);
  const made = (of: Ask): KernelCase[] => distinct(fitting.flatMap(({ cases }) => cases(of))).filter(named);
  const wanted = made(ask), cases = wanted.filter(({ binding }) => binding <= maxBinding), large = wanted.filter(({ binding }) => binding > maxBinding);
  const leftOut: string[] = [];
  if (ask.quick) {
    const all = made({ ...ask, quick: false }).length;
    if (all > wanted.length) leftOut.push(`${all - wanted.length} of ${all} cases, since the run is quick: other models, formats, row counts, and variants that the engine does not take here (--no-quick measures them, --kernel one kernel)`);
  }
  if (large.length > 0) {
    const names = [...new Set(large.map(({ kernel, format, shape }) => [kernel, `${shape.rows}x${shape.columns}`, format].filter((part) => part !== null).join(" ")))];
    leftOut.push(`${large.length} ${large.length === 1 ? "case" : "cases"} with an operand larger than the ${maxBinding} bytes that this adapter binds at once: ${names.slice(0, 6).join(", ")}${names.length > 6 ? ", …" : ""}`);
  }
  if (ask.formats !== null || ask.kv !== null) {
    const without = definitions.filter((definition) => !fitting.includes(definition)).map(({ name }) => name);
    if (without.length > 0) leftOut.push(`kernels that have no such format: ${without.join(", ")}`);
  }
  return { cases, leftOut };
}
