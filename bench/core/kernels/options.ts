/** From the flags of `node bench/kernels.ts` to one checked record. */

import { WEIGHT_FORMATS } from "../../../kernels/formats.ts";
import { KV_FORMATS } from "../../../kernels/kv_formats.ts";
import { anyText, list, readFlags, refuse, whole, type Rule } from "../load/flags.ts";
import type { KernelDefinition, Shape } from "./case.ts";
import { DEFINITIONS, definitionsOf } from "./registry.ts";

export interface KernelsConfig {
  /** Null: all. */
  readonly kernels: readonly string[] | null;
  readonly formats: readonly string[] | null;
  readonly kv: readonly string[] | null;
  readonly shapes: readonly Shape[] | null;
  readonly rows: readonly number[] | null;
  readonly variant: string | null;
  /** Null: where no kernel was named. */
  readonly quick: boolean | null;
  /** Null: as many as a quick run, or another, has. */
  readonly repetitions: number | null;
  readonly adapter: string;
  readonly seed: number;
  readonly roof: boolean;
  readonly json: boolean;
  readonly list: boolean;
  readonly outputDir: string;
  readonly save: boolean;
}

const MOST = 10_000_000;

/** Several ROWSxCOLS. */
const shapes: Rule<readonly Shape[]> = {
  words: "ROWSxCOLS such as 4096x1024, several separated by commas, each once",
  read: (text) => {
    const found = text.split(/[,\s]+/).filter((part) => part !== "").map((part): Shape | null => {
      const [, rows, columns] = /^(\d{1,8})[x×](\d{1,8})$/i.exec(part) ?? [];
      const [R, C] = [Number(rows), Number(columns)];
      return R >= 1 && C >= 1 && R <= MOST && C <= MOST ? { rows: R, columns: C, origin: "--shape" } : null;
    });
    const distinct = new Set(found.map((shape) => shape && `${shape.rows}x${shape.columns}`));
    return found.length === 0 || found.includes(null) || distinct.size < found.length ? undefined : (found as Shape[]);
  },
};

const names = (of: readonly string[]): Rule<readonly string[]> => list(
  { words: "", read: (text: string) => of.find((name) => name === text) }, `one or more of ${of.join(", ")}, separated by commas, each once`,
);

const RULES = {
  kernel: list(anyText, "names of kernels, separated by commas, each once"), format: names(WEIGHT_FORMATS), kv: names(KV_FORMATS),
  shape: shapes,
  rows: list(whole(1, 65_535), "whole numbers from 1 to 65535, separated by commas, each once"), variant: anyText,
  repetitions: whole(1, 10_000),
  adapter: anyText, seed: whole(0, 0xffff_ffff), outputDir: anyText,
} as const;

/** Throws UsageError with a line for every problem. */
export function kernelsConfig(flags: Readonly<Record<string, unknown>>, definitions: readonly KernelDefinition[] = DEFINITIONS): KernelsConfig {
  const problems: string[] = [];
  const values = readFlags(RULES, flags, problems);
  const kernels = values.kernel ?? null, chosen = definitionsOf(kernels, problems, definitions);
  for (const [flag, given] of [["--shape", values.shape], ["--rows", values.rows], ["--variant", values.variant]] as const) {
    if (given !== undefined && flags["kernel"] === undefined) problems.push(`${flag}: means something else for every kernel, so it needs --kernel (--list says what it means)`);
  }
  if (kernels !== null) {
    for (const definition of chosen) check(definition, values, problems);
  }
  refuse(problems);
  return {
    kernels, formats: values.format ?? null, kv: values.kv ?? null, shapes: values.shape ?? null, rows: values.rows ?? null,
    variant: values.variant ?? null,
    quick: typeof flags["quick"] === "boolean" ? flags["quick"] : null, repetitions: values.repetitions ?? null,
    adapter: values.adapter ?? "auto", seed: values.seed ?? 0,
    roof: flags["roof"] !== false, json: flags["json"] === true, list: flags["list"] === true, outputDir: values.outputDir ?? "results",
    save: flags["save"] !== false,
  };
}

interface Given { readonly format?: readonly string[]; readonly kv?: readonly string[]; readonly shape?: readonly Shape[]; readonly rows?: readonly number[]; readonly variant?: string }

/** What was given and would have no effect on this kernel, or does not fit it. */
function check({ name, formats, kv, variants, batch, batches, within = false, multiple, shape: meaning }: KernelDefinition, given: Given, problems: string[]): void {
  for (const [flag, asked, has, what] of [["--format", given.format, formats, "weight formats"], ["--kv", given.kv, kv, "cache formats"]] as const) {
    if (asked === undefined) continue;
    const unknown = asked.filter((each) => !has?.includes(each));
    if (has === null) problems.push(`${flag}: ${name} has no ${what}`);
    else if (unknown.length > 0) problems.push(`${flag}: ${name} does not take ${unknown.join(", ")}; it takes ${has.join(", ")}`);
  }
  if (given.variant !== undefined && !variants) problems.push(`--variant: ${name} has one variant only`);
  if (given.rows !== undefined && batch === "not used") problems.push(`--rows: ${name} has no rows of a batch`);
  const outside = (batch === "not used" ? [] : given.rows ?? []).filter((rows) => rows < batches[0] || rows > batches[1]);
  if (outside.length > 0) problems.push(`--rows: ${name} takes ${batches[0]}${batches[1] >= 65_535 ? " or more" : ` to ${batches[1]}`} (${batch}), got ${outside.join(", ")}`);
  for (const { rows, columns } of given.shape ?? []) {
    const more = within ? given.rows?.filter((count) => count > rows) ?? [] : [];
    if (more.length > 0) problems.push(`--rows: ${more.join(", ")} ${batch} are more than the ${rows} entries of ${rows}x${columns} (${name})`);
    if (columns % multiple !== 0) problems.push(`--shape: columns of ${name} come in multiples of ${multiple} (${meaning}), got ${rows}x${columns}`);
  }
}
