/**
 * What every run leaves, whatever it measured: one record with its arms in a common shape, so that one page shows it, one command compares
 * two of them and one command runs it again. What only one technique has to tell stands under `detail`. An experiment fills in
 * `ResultBody`; the rest says where, when and of what it was made.
 */

import type { MemoryBytes, Environment, ModelSource } from "../../index.ts";
import type { Machine } from "./environment.ts";
import type { Missing } from "./metrics.ts";
import type { MetricKey } from "./lang/en.ts";
import type { ExperimentConfig, Technique } from "./schema.ts";
import type { Change, Summary } from "./stats.ts";
import type { WarmUp, Yards } from "./turns.ts";

export const RESULT_VERSION = 3;
export const RESULT_KIND = "dawnlm result";

export type Status = "complete" | "interrupted" | "invalid";

/** One metric of an arm, one sample per iteration in the order of the iterations; null where an iteration has none. */
export interface ResultMetric {
  readonly unit: string;
  readonly better: "lower" | "higher";
  readonly samples: readonly (number | null)[];
  readonly summary: Summary | null;
  /** Why there is no summary. */
  readonly missing?: Missing;
}

/** Whether an arm may be spoken of: it did what it was asked to do, and changed no text that it must not change. */
export interface Proof {
  /** `lossless`: greedy texts must be those of the baseline. `lossy`: the cost in quality stands in `quality`. `unchecked`: neither was measured. */
  readonly kind: "lossless" | "lossy" | "unchecked";
  /** Null where it was not looked at, such as for sampled texts. */
  readonly holds: boolean | null;
  /** A sentence. */
  readonly text: string;
}

/** Against the baseline of the group, over the same tokens through the same compressed or quantized cache that was timed. */
export interface ResultQuality {
  readonly perplexity: { readonly value: number; readonly error: number | null };
  /** In percent more than the baseline's, ± one standard error; `claimed` when it is more than two. Null for the baseline itself. */
  readonly change: { readonly percent: number; readonly error: number; readonly claimed: boolean } | null;
  /** Nats per token from the baseline's distribution, and the share of tokens with the same likeliest one. */
  readonly kld: { readonly value: number; readonly error: number | null } | null;
  readonly sameTop: { readonly value: number; readonly error: number | null } | null;
  /** How it was measured: protocol, tokens, windows. */
  readonly protocol: string;
}

export interface ResultArm {
  /** Unique in the run, the same in every language. */
  readonly name: string;
  /** What is compared with each other: a data set and draft, a distribution of lengths; "" where there is but one group. */
  readonly group: string;
  readonly role: "baseline" | "control" | "technique";
  /** What makes it differ from the others, by the names that a config uses. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Why nothing may be concluded from it; null when something may. */
  readonly invalid: string | null;
  /** What the technique did, with its figures, in a sentence; null of a baseline. */
  readonly engagement: string | null;
  readonly proof: Proof | null;
  readonly quality: ResultQuality | null;
  readonly metrics: Readonly<Partial<Record<MetricKey, ResultMetric>>>;
  /** Every metric against the baseline of its group, iteration by iteration, with the A/A control's interval as the floor; empty of a baseline. */
  readonly differences: Readonly<Partial<Record<MetricKey, Change>>>;
  /** The ledger at its highest; null where it was not kept apart from other arms. */
  readonly memory: MemoryBytes | null;
  /** What else is worth a row in a table. */
  readonly facts: readonly { readonly label: string; readonly value: string }[];
  /** Milliseconds before the first measured iteration, in none of the metrics; `firstMs`: the first round of warm-up. */
  readonly coldStart: { readonly weightsMs: number; readonly pipelinesMs: number; readonly firstMs: number | null } | null;
}

/** A drawn figure: a Vega-Lite specification with its data, in words of one language. */
export interface Picture { readonly id: string; readonly title: string; readonly caption: string; readonly spec: Readonly<Record<string, unknown>> }

/** What an experiment tells. */
export interface ResultBody {
  readonly status: Status;
  readonly arms: readonly ResultArm[];
  /** Names of arms as they ran, by iteration. */
  readonly order: readonly (readonly string[])[];
  readonly warmUp: WarmUp | null;
  readonly yardstick: Yards;
  readonly model: ModelSource & { readonly maxModelLen: number };
  readonly environment: Environment;
  readonly prompts: { readonly origin: string; readonly sha256: string; readonly texts: readonly string[] };
  /** Of the texts that quality was measured over; null when it was not. */
  readonly corpus: { readonly name: string; readonly sha256: string | null } | null;
  /** Sentences about the run as a whole. */
  readonly notes: readonly string[];
  /** Figures of the technique's own, beside those that every page has. */
  readonly pictures: readonly Picture[];
  readonly detail: unknown;
}

export interface Result extends ResultBody {
  readonly kind: typeof RESULT_KIND;
  readonly schemaVersion: typeof RESULT_VERSION;
  readonly experiment: Technique;
  readonly started: string;
  readonly ended: string;
  /** When it was taken up again, if it was. */
  readonly resumed: readonly string[];
  readonly config: ExperimentConfig;
  readonly configFile: string;
  readonly configOrigins: Readonly<Record<string, string>>;
  /** What two results must share to be compared (protocol.ts), by name, and its hash. */
  readonly protocol: Readonly<Record<string, unknown>>;
  readonly protocolSha256: string;
  readonly machine: Machine;
}

/** The arm that an arm is measured against; null of a baseline. */
export function baselineOf({ arms }: Pick<ResultBody, "arms">, { group, role }: ResultArm): ResultArm | null {
  return role === "baseline" ? null : arms.find((arm) => arm.group === group && arm.role === "baseline") ?? null;
}
