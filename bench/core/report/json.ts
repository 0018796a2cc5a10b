/** The JSON of a run: everything a later reader needs to repeat, check or compare it. Keys are English in every language. */

import { createHash } from "node:crypto";
import { compare } from "../compare.ts";
import type { Machine } from "../environment.ts";
import type { Words } from "../lang/en.ts";
import { LANGUAGES } from "../lang/words.ts";
import type { ArmResult, Outcome } from "../measure.ts";
import type { MemoryOutcome } from "../memory_benchmark.ts";
import { hitRate, memoryUse, metricsOf } from "../metrics.ts";
import type { Origin, Prompts } from "../prompts.ts";
import { keysOf, type ExperimentConfig } from "../schema.ts";

export const SCHEMA_VERSION = 2;

/** What every report says, whatever was measured. */
export interface RunInfo {
  readonly config: ExperimentConfig;
  readonly configFile: string;
  /** Where each value of the config came from: `flag`, `file`, `default`, or the key it had to follow. */
  readonly origins: Readonly<Record<string, string>>;
  readonly prompts: Prompts;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
}

/** The layouts, or the prefix cache. */
export interface Run extends RunInfo { readonly outcome: Outcome }
export interface MemoryRun extends RunInfo { readonly memory: MemoryOutcome }

export type Status = "complete" | "interrupted" | "invalid";

export function wordsOf({ config }: Pick<RunInfo, "config">): Words {
  return LANGUAGES[config.lang];
}

export function originInWords(origin: Origin, { prompts }: Words): string {
  return origin.kind === "given" ? prompts.given : origin.kind === "file" ? prompts.file(origin.path) : prompts[origin.kind](origin.seed);
}

/** What every report of the run says, whichever arm it is about. Of the config the keys that the technique looks at. */
export function common({ config: whole, configFile, origins, prompts, machine, started }: RunInfo, { source, environment, maxModelLen }: Outcome, words: Words) {
  const used: readonly string[] = keysOf(whole.technique);
  const known = <T>(record: Readonly<Record<string, T>>): Record<string, T> => Object.fromEntries(Object.entries(record).filter(([key]) => used.includes(key)));
  const config = known(whole as unknown as Record<string, unknown>);
  return {
    schemaVersion: SCHEMA_VERSION, experiment: whole.technique, started,
    config, configFile, configOrigins: known(origins), configSha256: createHash("sha256").update(JSON.stringify(config)).digest("hex"),
    prompts: { origin: originInWords(prompts.origin, words), sha256: prompts.sha256, texts: prompts.texts },
    model: { ...source, maxModelLen, note: source.random ? words.random : null },
    environment: { ...environment, ...machine },
  };
}

export function statusOf({ config, outcome }: Pick<Run, "config" | "outcome">): Status {
  if (outcome.status !== "complete") return outcome.status;
  return (compare(outcome, LANGUAGES[config.lang])?.invalid ?? null) === null ? "complete" : "invalid";
}

/** A memory benchmark with an invalid cell is invalid. */
export function memoryStatusOf({ config, memory }: Pick<MemoryRun, "config" | "memory">): Status {
  const statuses = memory.cells.map(({ outcome }) => statusOf({ config, outcome }));
  return memory.status !== "complete" ? memory.status : statuses.includes("invalid") ? "invalid" : "complete";
}

/** One arm of the layouts. */
export function armJson(run: Run, arm: ArmResult): string {
  const words = wordsOf(run), { outcome } = run;
  return JSON.stringify({
    ...common(run, outcome, words), status: statusOf(run), ...armPart(arm, words), order: outcome.order, budgetBytes: outcome.budget, skipped: outcome.skipped,
    ...(arm.name === "paged" && { comparison: comparisonPart(outcome, words) }),
  }, null, 2);
}

/** Every arm in one file. */
export function comparisonJson(run: Run): string {
  return JSON.stringify({ ...common(run, run.outcome, wordsOf(run)), status: statusOf(run), ...layoutsDetail(run) }, null, 2);
}

/** What that holds beside what every report does. */
export function layoutsDetail(run: Run) {
  return outcomePart(run.outcome, wordsOf(run));
}

export function memoryJson(run: MemoryRun): string {
  return JSON.stringify({ ...common(run, run.memory.cells[0]!.outcome, wordsOf(run)), status: memoryStatusOf(run), ...memoryDetail(run) }, null, 2);
}

/** What that holds beside what every report does. */
export function memoryDetail(run: MemoryRun) {
  const words = wordsOf(run), { cells, budgetTokens } = run.memory;
  return {
    budgetTokens,
    cells: cells.map(({ distribution, lengths, expectedWaste, outcome }) => ({
      distribution, lengths, expectedWaste, status: statusOf({ config: run.config, outcome }), ...outcomePart(outcome, words),
    })),
  };
}

function outcomePart(outcome: Outcome, words: Words) {
  return {
    budgetBytes: outcome.budget, order: outcome.order, skipped: outcome.skipped, arms: outcome.arms.map((arm) => armPart(arm, words)), comparison: comparisonPart(outcome, words),
  };
}

export function armPart(arm: ArmResult, words: Words) {
  const { missing: wasteMissing, ...use } = memoryUse(arm), rate = hitRate(arm);
  return {
    arm: arm.name, layout: arm.layout, batch: arm.batch === null ? "continuous" : `static, ${arm.batch} at a time`, mostSequences: arm.limit,
    metrics: Object.fromEntries(metricsOf(arm).map(({ key, unit, summary, missing }) => [key, { unit, ...(summary ?? { value: null, reason: words.missing[missing!] }) }])),
    memory: arm.memory,
    cache: { ...arm.cache, bytes: { ...use, ...(wasteMissing !== null && { wasteReason: words.missing[wasteMissing] }) }, fits: arm.fits },
    ...(rate !== null && { prefixHitRate: rate }), preemptions: arm.cache.preemptions, loadTimings: arm.loadTimings, iterations: arm.iterations,
  };
}

/** In percent of the first of a pair, iteration by iteration; null when only one arm ran. */
function comparisonPart(outcome: Outcome, words: Words) {
  const comparison = compare(outcome, words);
  if (comparison === null) return null;
  const { invalid, engagement, correctness, pairs, equalBatch } = comparison;
  return {
    invalid, engagement, correctness, texts: outcome.identical, isEqualBatch: equalBatch !== null,
    pairs: pairs.map(({ from, to, changes }) => ({
      from, to, changesPercent: Object.fromEntries(changes.map(({ metric, change }) => [metric.key, change ?? { value: null, reason: words.missing.noArm }])),
    })),
  };
}
