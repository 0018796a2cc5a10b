/**
 * Results of runs that never took place: arms of every kind (baseline and control, lossless and lossy, invalid, without some metrics, in two
 * groups) with seeded samples on a machine that drifts, so that pages, comparisons and replays are tested without measuring anything. Two
 * seeds are two runs of the same config; `speed` is a true difference between them.
 */

import { createHash } from "node:crypto";
import type { Machine } from "../../bench/core/environment.ts";
import type { MetricKey } from "../../bench/core/lang/en.ts";
import type { Missing } from "../../bench/core/metrics.ts";
import { RESULT_KIND, RESULT_VERSION, type Proof, type Result, type ResultArm, type ResultMetric,
  type ResultQuality } from "../../bench/core/result.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { change, seeded, shuffled, summarise } from "../../bench/core/stats.ts";
import type { Environment, MemoryBytes } from "../../index.ts";

export interface FakeArm {
  readonly name: string;
  readonly group?: string;
  readonly role?: ResultArm["role"];
  readonly settings?: Readonly<Record<string, unknown>>;
  /** How many times as many tokens it decodes in the same time as an arm that names none. */
  readonly speed?: number;
  /** How many times as long it takes to its first token. */
  readonly ttft?: number;
  readonly invalid?: string;
  readonly engagement?: string;
  readonly proof?: Proof;
  readonly quality?: ResultQuality;
  /** Metrics that it has no value of, and why. */
  readonly missing?: Readonly<Partial<Record<MetricKey, Missing>>>;
  /** How many times as much of its memory keys and values take. */
  readonly kv?: number;
  /** How many times as much of its memory weights take. */
  readonly weights?: number;
  readonly facts?: ResultArm["facts"];
}

export interface FakeRun {
  /** Another seed is another run of the same config: other noise, the same truth. Default 1. */
  readonly seed?: number;
  /** How many times as fast the software is. Default 1. */
  readonly speed?: number;
  /** How many times as fast the machine is: samples and yardstick alike. Default 1. */
  readonly machineSpeed?: number;
  /** Standard deviation of a sample, a share of it. Default 0.01. */
  readonly noise?: number;
  readonly iterations?: number;
  readonly arms?: readonly FakeArm[];
}

export type FakeOverrides = FakeRun & Partial<Omit<Result, "arms">>;

const UNITS: Readonly<Record<MetricKey, readonly [unit: string, better: "lower" | "higher"]>> = {
  ttft_ms: ["ms", "lower"], tpot_ms: ["ms", "lower"], itl_p10_ms: ["ms", "lower"], itl_p50_ms: ["ms", "lower"],
  itl_p90_ms: ["ms", "lower"], itl_p99_ms: ["ms", "lower"],
  latency_ms: ["ms", "lower"], output_tokens_per_s: ["tok/s", "higher"], total_tokens_per_s: ["tok/s", "higher"],
  requests_per_s: ["1/s", "higher"],
};
const KEYS = Object.keys(UNITS) as readonly MetricKey[];
const PROMPT_TOKENS = 512, NEW_TOKENS = 64, REQUESTS = 4, TTFT_MS = 61, TPOT_MS = 7.4, MIB = 2 ** 20;
const MEMORY = { weights: 134 * MIB, kv: 24 * MIB, activations: 6.5 * MIB, logits: 1.5 * MIB, staging: 0.5 * MIB };

export const LOSSLESS: Proof = { kind: "lossless", holds: true, text: "all 28 greedy texts are those of the baseline, token for token" };
export const LOSSY: Proof = { kind: "lossy", holds: true, text: "quality was measured through the compressed cache that was timed" };

/** `percent` more perplexity than the baseline's 31.4, ± `error`. */
export function fakeQuality(percent: number | null, error = 0.4): ResultQuality {
  const more = percent ?? 0;
  return {
    perplexity: { value: 31.4 * (1 + more / 100), error: 0.9 },
    change: percent === null ? null : { percent, error, claimed: Math.abs(percent) > 2 * error },
    kld: percent === null ? null : { value: Math.abs(more) / 90 + 0.001, error: 0.002 },
    sameTop: percent === null ? null : { value: Math.max(0.4, 1 - Math.abs(more) / 60), error: 0.006 },
    protocol: "prefill-continue, 16 windows of 512 + 128 tokens",
  };
}

function groupOf(group: string): FakeArm[] {
  const own = (name: string, arm: Omit<FakeArm, "name">): FakeArm => ({ name: `${group} ${name}`, group, ...arm });
  return [
    own("none", { role: "baseline", quality: fakeQuality(null), settings: { press: null } }),
    own("none again", { role: "control", quality: fakeQuality(null), settings: { press: null }, proof: LOSSLESS,
      engagement: "nothing was to be done" }),
    own("snapkv 0.5", {
      speed: 1.24, ttft: 1.12, kv: 0.55, quality: fakeQuality(1.9), proof: LOSSY, settings: { press: "snapkv", ratio: 0.5 },
      engagement: "256 of 512 entries evicted per layer and head, 28 times", facts: [{ label: "entries kept", value: "256 of 512" }],
    }),
    own("streaming_llm 0.5", { speed: 1.25, ttft: 1.0, kv: 0.55, quality: fakeQuality(9.6, 1.1), proof: LOSSY,
      settings: { press: "streaming_llm", ratio: 0.5 }, engagement: "256 of 512 entries evicted per layer and head" }),
    own("lagkv 0.1", { kv: 0.92, quality: fakeQuality(0.3), proof: LOSSY, settings: { press: "lagkv", ratio: 0.1 },
      engagement: "51 of 512 entries evicted per layer and head" }),
    own("prompt-lookup", { speed: 1.09, proof: LOSSLESS, settings: { draft: "prompt-lookup", k: 4 },
      engagement: "412 tokens drafted, 198 accepted" }),
  ];
}

/** Arms of every kind, in two groups. */
export const FAKE_ARMS: readonly FakeArm[] = [
  ...groupOf("wikitext-2"),
  { name: "wikitext-2 knorm 0.0", group: "wikitext-2", speed: 1.02, settings: { press: "knorm", ratio: 0 },
    invalid: "nothing was evicted in 0 events of 512 prompt tokens and 64 new ones", quality: fakeQuality(0.0001) },
  {
    name: "wikitext-2 broken draft", group: "wikitext-2", speed: 1.8, settings: { draft: "self:nf4", k: 4 },
    engagement: "640 tokens drafted, 611 accepted",
    proof: { kind: "lossless", holds: false, text: "3 of 28 texts are not the baseline's; the first difference is token 17 of prompt 2" },
  },
  ...groupOf("pg-19"),
  { name: "pg-19 self:nf4", group: "pg-19", speed: 0.71, weights: 1.3, settings: { draft: "self:nf4", k: 4 }, proof: LOSSLESS,
    engagement: "640 tokens drafted, 431 accepted", missing: { tpot_ms: "oneToken", itl_p10_ms: "oneToken" } },
];

/** As many drafts and their K as a sweep of speculation has, in each of two data sets; K 5 is the fastest. */
export function sweepArms(perGroup = 11, groups: readonly string[] = ["wikitext-2", "pg-19"]): FakeArm[] {
  return groups.flatMap((group): FakeArm[] => Array.from({ length: perGroup }, (_, i): FakeArm => {
    if (i < 2) return { name: `${group} plain${i === 0 ? "" : " again"}`, group, role: i === 0 ? "baseline" : "control", settings: {} };
    const k = i + 1;
    return { name: `${group} draft-70m K=${k}`, group, settings: { draft: "draft-70m", k },
      speed: Math.max(0.3, 1.3 - 0.08 * Math.abs(k - 5)), proof: LOSSLESS, engagement: `${k * 90} tokens drafted, ${k * 50} accepted` };
  }));
}

const ENVIRONMENT: Environment = {
  adapter: { vendor: "mesa", architecture: "software", device: "0x0000", description: "llvmpipe (LLVM 15.0.6, 256 bits)",
    backend: "vulkan", software: true },
  features: ["shader-f16", "subgroups", "timestamp-query"], limits: { maxStorageBufferBindingSize: 128 * MIB, maxBufferSize: 2048 * MIB },
  kernelFamily: "software", subgroupSize: 8,
};
const MACHINE: Machine = {
  dawnlm: "0.1.0", commit: "3f1c0de5a7b94e2d8c6f0a1b2c3d4e5f60718293", modified: false, node: "v24.21.0", os: "Linux 6.1.0 x64",
  cpu: "A fake processor", cores: 2,
  memoryBytes: 8 * 2 ** 30, packages: { webgpu: "0.6.2", tokenizers: "0.23.2" },
};
const BEGINNINGS = ["In the beginning", "It is a truth", "Call me", "The sky above"];
const PROMPTS = Array.from({ length: REQUESTS }, (_, i) => `${BEGINNINGS[i]} there was a prompt, and it was number ${i + 1} & it said "<less>".`);
const sha = (value: unknown): string => createHash("sha256").update(JSON.stringify(value)).digest("hex");

/** A complete run, as an experiment would leave it. Whatever is named is put in its place. */
export function fakeResult({ seed = 1, speed = 1, machineSpeed = 1, noise = 0.01, iterations = 7, arms = FAKE_ARMS,
  ...rest }: FakeOverrides = {}): Result {
  const config = {
    ...DEFAULTS, experiment_name: "fake", technique: "KVPress", batch_level: "small", num_prompts: REQUESTS, max_tokens: NEW_TOKENS,
    temperature: 0, top_p: 1, test_iterations: iterations, ...rest.config,
  } as ExperimentConfig;
  const drift = Array.from({ length: iterations }, (_, i) => (1 + 0.01 * Math.sin(i * 1.3 + seed)) / machineSpeed);
  const made = armsOf(arms, { seed, speed, noise, drift });
  const names = arms.map(({ name }) => name), random = seeded(seed + 77);
  const protocol = { experiment: config.technique, max_tokens: config.max_tokens, prompts: sha(PROMPTS), model: "tiny-neox", arms: names };
  return {
    kind: RESULT_KIND, schemaVersion: RESULT_VERSION, experiment: config.technique, status: "complete",
    started: "2026-01-02T03:04:05.000Z", ended: "2026-01-02T03:09:41.000Z", resumed: [],
    configFile: "configs/KVPress/fake.yaml", configOrigins: { experiment_name: "file", technique: "file", batch_level: "flag",
      max_tokens: "file", temperature: "flag", top_p: "follows temperature" },
    protocol, protocolSha256: sha(protocol), machine: MACHINE,
    order: drift.map(() => shuffled(names, random)), model: { id: "tiny-neox", revision: null, random: false, fingerprint: "ab".repeat(32),
      maxModelLen: 1024 }, environment: ENVIRONMENT,
    warmUp: { rounds: 3, settled: true, arms: Object.fromEntries(names.map((name) => [name, [911.5, 541.2, 539.8]])) },
    yardstick: { work: "software 1",
      yards: drift.map((factor) => ({ computeMs: 2.1 * factor * (1 + 0.008 * random()), memoryMs: 3.4 * factor * (1 + 0.02 * random()),
      hostMs: 1.9 * factor * (1 + 0.004 * random()) })) },
    prompts: { origin: "assets/texts, cut at sentences by seed 0", sha256: sha(PROMPTS), texts: PROMPTS },
    corpus: { name: "persuasion", sha256: sha("persuasion") },
    notes: ["Measured on a software adapter (a CPU): ratios carry over to GPUs badly, absolute figures not at all."], pictures: [],
    detail: { kind: "fake" },
    ...rest, config, arms: made,
  };
}

interface Truth { readonly seed: number; readonly speed: number; readonly noise: number; readonly drift: readonly number[] }

function armsOf(arms: readonly FakeArm[], truth: Truth): ResultArm[] {
  const measured = arms.map((arm, i) => metricsOf(arm, i, truth));
  const find = (group: string, role: ResultArm["role"]): number =>
    arms.findIndex((arm) => (arm.group ?? "") === group && arm.role === role);
  return arms.map((arm, i): ResultArm => {
    const { name, group = "", role = "technique", settings = {}, invalid, engagement, proof, quality, kv = 1, weights = 1,
      facts = [] } = arm;
    const base = measured[find(group, "baseline")], control = measured[find(group, "control")];
    const differences = role === "baseline" || base === undefined ? [] : KEYS.flatMap((key) => {
      const from = base[key].samples, equal = role === "control" ? null : change(from, control?.[key].samples ?? []);
      const found = change(from, measured[i]![key].samples, equal === null ? 0 : Math.max(Math.abs(equal.low), Math.abs(equal.high)));
      return found === null ? [] : [[key, found] as const];
    });
    return {
      name, group, role, settings, invalid: invalid ?? null, engagement: engagement ?? null, proof: proof ?? null,
      quality: quality ?? null, metrics: measured[i]!,
      differences: Object.fromEntries(differences), memory: memoryOf(kv, weights), facts,
      coldStart: { weightsMs: 320 + i, pipelinesMs: 2140 + i, firstMs: 911.5 },
    };
  });
}

function memoryOf(kv: number, weights: number): MemoryBytes {
  const held = { ...MEMORY, kv: Math.round(MEMORY.kv * kv), weights: Math.round(MEMORY.weights * weights) };
  return { ...held, total: Object.values(held).reduce((sum, one) => sum + one, 0) };
}

function metricsOf({ speed: own = 1, ttft: slower = 1, missing = {} }: FakeArm, arm: number,
  { seed, speed, noise, drift }: Truth): Record<MetricKey, ResultMetric> {
  const random = seeded(seed * 1009 + arm);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const iterations = drift.map((factor): Record<MetricKey, number> => {
    const time = (ms: number): number => ms * factor / speed * Math.max(0.2, 1 + noise * normal());
    const ttft = time(TTFT_MS * slower), tpot = time(TPOT_MS / own), latency = ttft + (NEW_TOKENS - 1) * tpot, wall = latency * 1.02 / 1000;
    return {
      ttft_ms: ttft, tpot_ms: tpot, itl_p10_ms: tpot * 0.93, itl_p50_ms: tpot * 0.99, itl_p90_ms: tpot * 1.08, itl_p99_ms: tpot * 1.3,
      latency_ms: latency,
      output_tokens_per_s: REQUESTS * NEW_TOKENS / wall, total_tokens_per_s: REQUESTS * (NEW_TOKENS + PROMPT_TOKENS) / wall,
      requests_per_s: REQUESTS / wall,
    };
  });
  return Object.fromEntries(KEYS.map((key) => {
    const [unit, better] = UNITS[key], why = missing[key], samples = iterations.map((one) => (why === undefined ? one[key] : null));
    return [key, { unit, better, samples, summary: summarise(samples), ...(why !== undefined && { missing: why }) }];
  })) as unknown as Record<MetricKey, ResultMetric>;
}
