/** From the flags of `node bench/matrix.ts` to one checked record. */

import { anyText, choice, list, readFlags, refuse } from "../load/flags.ts";
import { AXES, MODELS, type Axis, type MatrixModel } from "./axes.ts";

export interface MatrixConfig {
  readonly models: readonly MatrixModel[];
  readonly axes: readonly Axis[];
  readonly adapter: string;
  readonly json: boolean;
  readonly resume: boolean;
  readonly outputDir: string;
  readonly save: boolean;
  /** The document to write, with its data beside it; null: none. */
  readonly write: string | null;
}

const RULES = {
  model: list(choice(...MODELS), `one or both of ${MODELS.join(", ")}, separated by commas`),
  axes: list(choice(...AXES), `two or more of ${AXES.join(", ")}, separated by commas`),
  adapter: anyText, outputDir: anyText, write: anyText,
} as const;

/** Throws UsageError with a line for every problem. */
export function matrixConfig(flags: Readonly<Record<string, unknown>>): MatrixConfig {
  const problems: string[] = [], values = readFlags(RULES, flags, problems);
  const { model: models = MODELS, axes = AXES, adapter = "auto", outputDir = "results", write = null } = values;
  const save = flags["save"] !== false, resume = flags["resume"] === true;
  if (values.axes !== undefined && axes.length < 2) problems.push(`--axes: expected ${RULES.axes.words}, got "${axes.join(",")}"`);
  if (resume && !save) problems.push("--resume: goes on with what was saved, so --no-save would have it begin again every time: leave one of them out");
  if (write !== null && !/[^/\\]\.md$/.test(write)) problems.push(`--write: expected the name of a Markdown file (.md), got "${write}"`);
  if (write !== null && (values.model !== undefined || values.axes !== undefined)) {
    problems.push("--write: the document is about all models and all axes: leave --model and --axes out (--resume takes what was tried before)");
  }
  refuse(problems);
  return { models, axes, adapter, json: flags["json"] === true, resume, outputDir, save, write };
}
