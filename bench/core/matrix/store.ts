/** Outcomes on disk, model by model, so that what was tried once need not be tried again after an interruption or for another pair of axes. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UsageError } from "../../../engine/errors.ts";
import { DEFAULTS, pressText, SIZES, VALUES } from "./axes.ts";
import type { TriedModel } from "./composition.ts";
import type { Outcome } from "./trial.ts";

export const OUTCOMES = "outcomes.json";
const SCHEMA_VERSION = 1;

/** Outcomes of other prompts, sizes or presses would not compare. */
function protocol(): string {
  return JSON.stringify([SIZES, DEFAULTS, VALUES.press.map(pressText)]);
}

const FILE = z.object({
  schemaVersion: z.literal(SCHEMA_VERSION), model: z.string(), commit: z.string().nullable(), protocol: z.string(), seconds: z.number(),
  adapter: z.looseObject({}).nullable(),
  outcomes: z.array(z.tuple([z.string(), z.looseObject({ state: z.enum(["ran", "refused", "failed"]) })])),
});

export function outcomesJson({ model, adapter, seconds, outcomes }: TriedModel, commit: string | null): string {
  return `${JSON.stringify({ schemaVersion: SCHEMA_VERSION, model, commit, protocol: protocol(), adapter, seconds, outcomes: [...outcomes] })}\n`;
}

/** What an earlier run left; nothing where there was none. Throws UsageError for a file of another protocol or commit. */
export function readOutcomes(folder: string, model: string, commit: string | null): TriedModel {
  const path = join(folder, OUTCOMES);
  if (!existsSync(path)) return { model, adapter: null, seconds: 0, outcomes: new Map() };
  const refuse = (why: string): UsageError => new UsageError(`--resume: ${path}: ${why}; run without --resume`);
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw refuse(`cannot be read (${(error as Error).message})`);
  }
  const parsed = FILE.safeParse(content);
  if (!parsed.success || parsed.data.model !== model) throw refuse("is no file of outcomes of this model");
  if (parsed.data.protocol !== protocol()) throw refuse("its prompts, sizes or presses are not those of today");
  if (parsed.data.commit !== commit) throw refuse(`it is of commit ${parsed.data.commit ?? "unknown"}, and this is ${commit ?? "unknown"}`);
  const { adapter, seconds, outcomes } = parsed.data;
  return { model, adapter: adapter as TriedModel["adapter"], seconds, outcomes: new Map(outcomes as unknown as [string, Outcome][]) };
}
