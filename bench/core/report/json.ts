/** The JSON of a run: everything a later reader needs to repeat, check or compare it. */

import { createHash } from "node:crypto";
import { cacheUse, compare, metricsOf, NO_PASS } from "../metrics.ts";
import type { Machine } from "../environment.ts";
import type { ArmResult, Outcome } from "../paged_attention.ts";
import type { Prompts } from "../prompts.ts";
import type { ExperimentConfig } from "../schema.ts";

export const SCHEMA_VERSION = 1;

export interface Run {
  readonly config: ExperimentConfig;
  readonly configFile: string;
  /** Where each value of the config came from: `flag`, `file`, `default`, or the key it had to follow. */
  readonly origins: Readonly<Record<string, string>>;
  readonly prompts: Prompts;
  readonly outcome: Outcome;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
}

/** What every report of the run says, whichever arm it is about. */
function common({ config, configFile, origins, prompts, outcome, machine, started }: Run) {
  const { source, environment, order, maxModelLen } = outcome;
  return {
    schemaVersion: SCHEMA_VERSION, experiment: "PagedAttention", started,
    config, configFile, configOrigins: origins, configSha256: createHash("sha256").update(JSON.stringify(config)).digest("hex"),
    prompts: { origin: prompts.origin, sha256: prompts.sha256, texts: prompts.texts },
    model: { ...source, maxModelLen, note: source.random ? "seeded random weights: speed and memory are those of the architecture, the text means nothing" : null },
    environment: { ...environment, ...machine }, order,
  };
}

export function statusOf(run: Run): "complete" | "interrupted" | "invalid" {
  if (run.outcome.status !== "complete") return run.outcome.status;
  return (compare(run.outcome)?.invalid ?? null) === null ? "complete" : "invalid";
}

export function armJson(run: Run, arm: ArmResult): string {
  const use = cacheUse(arm);
  return JSON.stringify({
    ...common(run), status: statusOf(run), arm: arm.name, layout: arm.layout,
    metrics: Object.fromEntries(metricsOf(arm).map(({ key, unit, summary, reason }) => [key, { unit, ...(summary ?? { value: null, reason }) }])),
    memory: arm.memory, cache: { ...arm.cache, ...use, ...(use.waste === null && { wasteReason: NO_PASS }), room: arm.room }, loadTimings: arm.loadTimings, iterations: arm.iterations,
    ...(arm.name === "optimized" && { comparison: comparisonOf(run) }),
  }, null, 2);
}

/** Optimized against basic, in percent of basic, pair by pair within an iteration; null when only one arm ran. */
function comparisonOf({ outcome }: Run) {
  const comparison = compare(outcome);
  if (comparison === null) return null;
  const { invalid, engagement, correctness, changes } = comparison;
  return {
    invalid, engagement, correctness, texts: outcome.identical,
    changesPercent: Object.fromEntries(changes.map(({ metric, change }) => [metric.key, change ?? { value: null, reason: "an arm has no value" }])),
  };
}
