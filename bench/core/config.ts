/**
 * From a YAML file and flags to one checked record. Flags win over the file, the file over the defaults; whatever is wrong is reported
 * all at once, each with the place it came from.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../engine/errors.ts";
import { nearest } from "../../engine/nearest.ts";
import { problemsOf } from "./problems.ts";
import { DEFAULTS, show, TECHNIQUE_NAMES, TECHNIQUES, withoutEffect, type ExperimentConfig, type Key, type Problem, type Technique } from "./schema.ts";
import { readYamlFile, type YamlFile } from "./yaml_file.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Techniques by every name they go by. */
const NAMES: Readonly<Record<string, Technique>> = {
  pagedattention: "PagedAttention", paged_attention: "PagedAttention", 量化: "量化", quantization: "量化", precision: "precision",
  knormpress: "KnormPress", kvpress: "KVPress", spec_decode: "spec_decode", speculation: "spec_decode", combos: "combos", combinations: "combos",
};
const techniqueOf = (name: unknown): Technique | undefined => (typeof name === "string" && Object.hasOwn(NAMES, name.toLowerCase()) ? NAMES[name.toLowerCase()] : undefined);
const LEVELS = ["small", "medium", "large"];
/** The presets that stand for a technique's levels where these have names of their own. */
const PRESETS: Readonly<Partial<Record<Technique, readonly string[]>>> = { KnormPress: ["quick", "standard", "full"], combos: ["small", "medium", "large"] };

/** What is reserved and wasted comes out the same every time, and a run over every distribution takes long: more iterations are asked for. */
const MEMORY_ITERATIONS = 1;

export interface ConfigRequest {
  readonly config?: string | undefined;
  readonly technique?: string | undefined;
  readonly batchLevel?: string | undefined;
  /** Values of flags by key. */
  readonly flags: Readonly<Partial<Record<Key, unknown>>>;
}

export interface LoadedConfig {
  readonly config: ExperimentConfig;
  /** The file it came from, as the user named it. */
  readonly file: string;
  /** Where each value came from: `flag`, `file`, `default`, or the key it had to follow. */
  readonly origins: Readonly<Record<string, string>>;
}

/** Throws UsageError with one line per problem. */
export function loadConfig({ config, technique, batchLevel, flags }: ConfigRequest): LoadedConfig {
  const path = config ?? defaultFile(technique ?? "PagedAttention", batchLevel ?? "medium");
  const file = readYamlFile(path);
  const fromFlags: Readonly<Record<string, unknown>> = {
    ...flags, ...(config !== undefined && batchLevel !== undefined && { batch_level: batchLevel }),
    ...(techniqueOf(technique) !== undefined && !Object.hasOwn(file.values, "technique") && { technique: techniqueOf(technique) }),
  };
  const named = techniqueOf(file.values["technique"]);
  const { values, origins } = settle([DEFAULTS, { ...file.values, ...(named !== undefined && { technique: named }) }, fromFlags]);
  const written = (key: string): string | null => (Object.hasOwn(fromFlags, key) ? null : file.written(key));
  const problems = problemsOf(values, nearest, (key, value) => show(value, written(key)));
  if (technique !== undefined && config !== undefined && techniqueOf(technique) !== values["technique"]) {
    problems.push({ key: "technique", message: `--technique ${technique} does not fit this file` });
  }
  const runs = TECHNIQUES.find((name) => name === values["technique"]);
  if (runs !== undefined) problems.push(...withoutEffect(runs, Object.keys(origins).filter((key) => origins[key] === "file" || origins[key] === "flag")));
  if (problems.length > 0) throw new UsageError(inWords(problems, file, fromFlags));
  return { config: Object.freeze(values) as unknown as ExperimentConfig, file: path, origins };
}

const ORIGINS = ["default", "file", "flag"];

/**
 * One value per key, the strongest source last. Where two keys cannot both hold, the one from the weaker source gives way: `--temperature 0`
 * need not also undo the file's top_p. Keys of the same source are left for problemsOf() to refuse.
 */
function settle(sources: readonly Readonly<Record<string, unknown>>[]): { values: Record<string, unknown>; origins: Record<string, string> } {
  const values: Record<string, unknown> = Object.fromEntries(sources.flatMap((source) => Object.entries(source)));
  const strength = new Map(Object.keys(values).map((key) => [key, sources.findLastIndex((source) => Object.hasOwn(source, key))]));
  const origins = Object.fromEntries([...strength].map(([key, source]) => [key, ORIGINS[source]!]));
  const follow = (key: Key, stronger: Key, value: unknown): void => {
    if ((strength.get(key) ?? 0) >= (strength.get(stronger) ?? 0)) return;
    if (value === undefined) delete values[key];
    else values[key] = value;
    strength.set(key, strength.get(stronger)!);
    origins[key] = `follows ${stronger}`;
  };
  if (values["temperature"] === 0) follow("top_p", "temperature", 1);
  if (values["method"] === "basic") {
    if (values["technique"] === "PagedAttention") follow("block_size", "method", DEFAULTS.block_size);
    for (const key of ["quantization_config", "quantize_to"] as const) follow(key, "method", undefined);
  }
  if (values["perplexity_windows"] === 0) {
    for (const key of ["perplexity_text", "perplexity_protocol", "perplexity_context"] as const) follow(key, "perplexity_windows", DEFAULTS[key]);
    follow("perplexity_stride", "perplexity_windows", undefined);
  }
  if (values["perplexity_protocol"] !== "hf-strided") follow("perplexity_stride", "perplexity_protocol", undefined);
  // Of two experiments the one asked for later runs; what only the other needs gives way with it.
  const isMemory = values["benchmark_memory"] === true, isPrefix = values["shared_prefix"] !== undefined;
  if (isMemory && isPrefix) {
    follow("benchmark_memory", "shared_prefix", false);
    if (values["benchmark_memory"] === true) follow("shared_prefix", "benchmark_memory", undefined);
  }
  const experiment = values["benchmark_memory"] === true ? "benchmark_memory" : values["shared_prefix"] !== undefined ? "shared_prefix" : null;
  if (experiment !== "benchmark_memory") follow("distributions", "benchmark_memory", undefined);
  if (experiment !== null) {
    follow("method", experiment, DEFAULTS.method);
    for (const key of ["prompts", "prompts_file"] as const) follow(key, experiment, undefined);
  }
  if (experiment === "benchmark_memory") {
    follow("max_tokens", experiment, DEFAULTS.max_tokens);
    follow("test_iterations", experiment, MEMORY_ITERATIONS);
    follow("ignore_eos", experiment, true);
  }
  const [fewest, most] = [values["warmup_iterations"], values["warmup_limit"]];
  if (typeof fewest === "number" && typeof most === "number" && (fewest > most || fewest === 0)) follow("warmup_limit", "warmup_iterations", fewest);
  for (const [a, b] of [["prompts", "prompts_file"], ["device", "adapter"], ["quantization_config", "quantize_to"]] as const) {
    if (values[a] === undefined || values[b] === undefined) continue;
    follow(a, b, undefined);
    if (values[a] !== undefined) follow(b, a, undefined);
  }
  if (Array.isArray(values["prompts"]) && values["prompts"].length > 0) follow("num_prompts", "prompts", values["prompts"].length);
  const [batch, prompts] = [values["batch_size"], values["num_prompts"]];
  if (typeof batch === "number" && typeof prompts === "number" && prompts >= 1 && batch > prompts) follow("batch_size", "num_prompts", prompts);
  return { values, origins: Object.fromEntries(Object.entries(origins).filter(([key]) => Object.hasOwn(values, key))) };
}

/** Problems of the file in its order, then those of flags; one on a line. */
function inWords(problems: readonly Problem[], file: YamlFile, flags: Readonly<Record<string, unknown>>): string {
  const placed = problems.map(({ key, message, unknown = false }) => {
    if (Object.hasOwn(flags, key)) return { order: Infinity, text: `--${key.replaceAll("_", "-")}: ${message}` };
    const position = file.position(key, unknown ? "key" : "value");
    if (position === null) return { order: 0, text: `${file.path}  ${key}: ${message}` };
    return { order: position.line * 1e6 + position.col, text: `${file.path}:${position.line}:${position.col}  ${key}: ${message}` };
  });
  return placed.sort((a, b) => (a.order === b.order ? 0 : a.order - b.order)).map(({ text }) => text).join("\n");
}

function defaultFile(technique: string, level: string): string {
  const name = techniqueOf(technique);
  if (name === undefined) {
    const [close] = nearest(technique, ["PagedAttention", "quantization", "precision", "KnormPress", "KVPress", "spec_decode", "combos"]);
    throw new UsageError(`--technique: expected ${TECHNIQUE_NAMES}, got "${technique}"${close === undefined ? "" : `; did you mean ${close}?`}`);
  }
  if (!LEVELS.includes(level)) {
    const [close] = nearest(level, LEVELS);
    throw new UsageError(`--batch-level: expected small, medium or large, got "${level}"${close === undefined ? "" : `; did you mean ${close}?`}`);
  }
  const preset = PRESETS[name]?.[LEVELS.indexOf(level)] ?? `${level}_default`;
  const file = join("configs", name, `${name === "combos" ? "everything" : name.toLowerCase()}_${preset}.yaml`);
  return existsSync(file) ? file : join(ROOT, file);
}
