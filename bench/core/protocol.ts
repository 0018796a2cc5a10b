/**
 * What two runs must share to be compared: everything that defines the work, and nothing that says where, when, how often or under what
 * name it was done. A model is what its fingerprint says wherever it lies, texts are what their hashes say.
 */

import { createHash } from "node:crypto";
import { RESULT_VERSION, type ResultBody } from "./result.ts";
import { keysOf, type ExperimentConfig } from "./schema.ts";

/** Counts up when a metric comes to mean something else (metrics.ts). */
const METRICS_VERSION = 1;

/** Keys of a config that do not change the work, or whose meaning stands in the protocol by another name. */
const NOT_WORK: readonly string[] = [
  "experiment_name",
  "batch_level",
  "output_dir",
  "save_results",
  "lang",
  "device",
  "adapter",
  "loading", // where, and under what name
  "test_iterations",
  "warmup_iterations",
  "warmup_limit", // how often
  "model",
  "revision",
  "prompts",
  "prompts_file",
  "perplexity_text",
  "max_model_len",
  "arms", // by fingerprint, by hash, as they came out
];

/** Everything that defines the work, by name. */
export function protocolOf(
  config: ExperimentConfig,
  { model, prompts, corpus, arms }: Pick<ResultBody, "model" | "prompts" | "corpus" | "arms">,
): Record<string, unknown> {
  const work = keysOf(config.technique).filter((key) => !NOT_WORK.includes(key) && config[key] !== undefined);
  return {
    schema_version: RESULT_VERSION, metrics_version: METRICS_VERSION, ...Object.fromEntries(work.map((key) => [key, config[key]])),
    model: model.fingerprint, max_model_len: model.maxModelLen, prompts: prompts.sha256,
    corpus: corpus === null ? null : (corpus.sha256 ?? corpus.name),
    arms: Object.fromEntries(arms.map(({ name, group, role, settings }) => [name, { group, role, settings }])),
  };
}

/** JSON in which the order of keys does not matter. */
export function canonical(value: unknown): string {
  return (
    JSON.stringify(value, (_, part: unknown) =>
      isRecord(part) ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1))) : part,
    ) ?? "null"
  );
}

/** Hexadecimal, over canonical JSON: the same before it was written and after it was read. */
export function sha256Of(value: unknown): string {
  return createHash("sha256").update(canonical(value)).digest("hex");
}

/** `undefined` where one side has no such key. */
export interface Difference {
  readonly key: string;
  readonly a: unknown;
  readonly b: unknown;
}

/** Where two records differ, by dotted names. Lists differ as a whole. */
export function differences(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>, prefix = ""): Difference[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => {
    const [from, to] = [a, b].map((record) => (Object.hasOwn(record, key) ? record[key] : undefined));
    const name = `${prefix}${key}`;
    if (isRecord(from) && isRecord(to)) return differences(from, to, `${name}.`);
    return canonical(from) === canonical(to) && (from === undefined) === (to === undefined) ? [] : [{ key: name, a: from, b: to }];
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
