/** What a load test says: a block in the terminal in the order of `vllm bench serve`, a JSON with every sample, and Markdown. */

import type { CacheStats, Environment, MemoryReport, ModelSource } from "../../../index.ts";
import type { Machine } from "../environment.ts";
import type { Driven } from "./drive.ts";
import type { Distribution, LoadMetrics, Maybe } from "./metrics.ts";
import type { Latency, LoadConfig } from "./options.ts";
import type { Workload } from "./workload.ts";

export const SCHEMA_VERSION = 1;

export interface LoadRun {
  readonly config: LoadConfig;
  readonly workload: Workload;
  readonly arrivals: readonly number[];
  readonly driven: Driven;
  readonly metrics: LoadMetrics;
  readonly source: ModelSource;
  readonly maxModelLen: number;
  readonly environment: Environment;
  readonly memory: MemoryReport;
  readonly cache: CacheStats;
  readonly loadTimings: { readonly weightsMs: number; readonly pipelinesMs: number };
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
}

export const DEFINITIONS = [
  "TTFT: from sending a request to its first token. TPOT: (E2EL − TTFT) / (n − 1), without the first token. " +
    "ITL: every gap between two tokens. E2EL: from sending to the last token.",
  "The clock of a request starts when it is sent, behind --max-concurrency, as in vllm bench serve; " +
    "waiting for a place before that is in no latency and stands as queueing delay.",
  "Rates are over the time from the first arrival to the last completion. " +
    "Percentiles are interpolated linearly (numpy's default); std is that of a population.",
  "Tokens are timed when this process receives them; the engine keeps several steps under way, so tokens may come in groups and " +
    "low ITL percentiles describe the read-back, not the device.",
];

const TITLES: Readonly<Record<Latency, readonly [title: string, name: string]>> = {
  ttft: ["Time to First Token", "TTFT"], tpot: ["Time per Output Token (excl. 1st token)", "TPOT"],
  itl: ["Inter-token Latency", "ITL"], e2el: ["End-to-end Latency", "E2EL"],
};

type Row = readonly [label: string, value: string];
interface Section { readonly title: string; readonly rows: readonly Row[] }

const decimals = (value: number): string => value.toFixed(2);
const shown = (figure: Maybe<number>): string => (figure.value === null ? `n/a (${figure.reason})` : decimals(figure.value));

function sections({ config, metrics: m, driven }: LoadRun): Section[] {
  const spread = (title: string, name: string, latency: Maybe<Distribution>): Section => ({
    title, rows: latency.value === null ? [[`${name} (ms):`, `n/a (${latency.reason})`]] : distributionRows(name, latency.value),
  });
  return [
    { title: "", rows: [
      ["Successful requests:", String(m.completed)], ["Failed requests:", String(m.failed)],
      ...(driven.unfinished > 0 ? [["Unfinished requests (interrupted):", String(driven.unfinished)] as const] : []),
      ...(config.maxConcurrency === null ? [] : [["Maximum request concurrency:", String(config.maxConcurrency)] as const]),
      ["Request rate configured (RPS):", config.requestRate === null ? "inf" : decimals(config.requestRate)],
      ...(config.requestRate === null ? [] : [["Request rate achieved (RPS):", shown(m.achievedRate)] as const]),
      ["Benchmark duration (s):", decimals(m.durationMs / 1000)],
      ["Total input tokens:", String(m.promptTokens)], ["Total generated tokens:", String(m.newTokens)],
      ["Request throughput (req/s):", shown(m.requestsPerSecond)],
      ...(Object.keys(config.goodput).length === 0 ? [] : [["Request goodput (req/s):", shown(m.goodput)] as const]),
      ["Output token throughput (tok/s):", shown(m.outputTokensPerSecond)],
      ["Peak output token throughput (tok/s):", shown(m.peakOutputTokensPerSecond)],
      ["Peak concurrent requests:", String(m.peakConcurrency)],
      ["Total token throughput (tok/s):", shown(m.totalTokensPerSecond)],
    ] },
    ...config.percentileMetrics.map((name) => spread(...TITLES[name], m.latencies[name])),
    { title: "Outside the latencies", rows: [
      ["Median queueing delay (ms):", m.queued.value === null ? `n/a (${m.queued.reason})` : decimals(m.queued.value.median)],
      ["Max queueing delay (ms):", m.queued.value === null ? `n/a (${m.queued.reason})` : decimals(m.queued.value.max)],
      ["Median lateness of arrivals (ms):", m.late.value === null ? `n/a (${m.late.reason})` : decimals(m.late.value.median)],
      ["Max lateness of arrivals (ms):", m.late.value === null ? `n/a (${m.late.reason})` : decimals(m.late.value.max)],
      ["Input tokens from the prefix cache:", String(m.cachedTokens)], ["Preemptions:", String(m.preemptions)],
    ] },
  ];
}

function distributionRows(name: string, { mean, median, std, percentiles }: Distribution): Row[] {
  return [
    [`Mean ${name} (ms):`, decimals(mean)], [`Median ${name} (ms):`, decimals(median)], [`Std ${name} (ms):`, decimals(std)],
    ...percentiles.map(({ p, value }): Row => [`P${p} ${name} (ms):`, decimals(value)]),
  ];
}

const WIDTH = 56, LABEL = 42;

export function terminalReport(run: LoadRun): string {
  const rule = (title: string, fill: string): string => {
    const left = Math.floor((WIDTH - title.length) / 2);
    return `${fill.repeat(left)}${title}${fill.repeat(WIDTH - title.length - left)}`;
  };
  return [
    rule(" Serving Benchmark Result ", "="),
    ...sections(run).flatMap(({ title, rows }) => [
      ...(title === "" ? [] : [rule(title, "-")]), ...rows.map(([label, value]) => `${label.padEnd(LABEL)}${value}`),
    ]),
    rule("", "="), ...notes(run),
  ].join("\n");
}

function notes({ source, environment: { adapter }, driven, metrics }: LoadRun): string[] {
  const errors = [...new Set(driven.samples.flatMap(({ error }) => error ?? []))];
  return [
    `${source.id} on ${adapter.description}${adapter.software ? " (software adapter: a CPU, whose absolute figures say nothing about a GPU)" : ""}`,
    ...(driven.status === "interrupted" ? ["INTERRUPTED: the figures are those of the requests that had finished"] : []),
    ...(metrics.drift === null ? [] : [`WARNING: ${metrics.drift}`]),
    ...errors.slice(0, 10).map((error) => `failed: ${error}`),
    ...(source.random ? ["Random weights: the text means nothing"] : []),
  ];
}

export function loadMarkdown(run: LoadRun): string {
  const { config, workload, source, environment: { adapter, kernelFamily }, machine, driven, maxModelLen, started } = run;
  const line = (row: Row): string => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const table = (head: Row, rows: readonly Row[]): string => [head, ["---", "---:"] as const, ...rows].map(line).join("\n");
  const commit = machine.commit === null ? "" : ` (${machine.commit.slice(0, 12)}${machine.modified === true ? ", modified" : ""})`;
  return [
    `# Load test: ${source.id}`, ...notes(run).slice(1).map((note) => `**${note}**`),
    ...sections(run).map(({ title, rows }) => table([title, ""], rows.map(([label, value]) => [label.replace(/:$/, ""), value]))),
    ...DEFINITIONS,
    "## Configuration", table(["option", "value"], Object.entries(config).map(([key, value]) => [key, `\`${JSON.stringify(value)}\``])),
    `Prompts: ${workload.requests.length} of ${workload.origin}, SHA-256 \`${workload.sha256.slice(0, 16)}…\`.`,
    "## Environment", table(["", ""], [
      ["started", started], ["status", driven.status], ["model", `${source.id}, fingerprint ${source.fingerprint.slice(0, 16)}…, context ${maxModelLen}`],
      ["adapter", `${adapter.description} (${adapter.backend}${adapter.software ? ", software" : ""}), kernels ${kernelFamily}`],
      ["machine", `${machine.cpu}, ${machine.cores} cores, ${machine.os}`],
      ["software", `dawnlm ${machine.dawnlm}${commit}, Node ${machine.node}`],
    ]),
    "Every request, with every gap between its tokens, stands in the JSON beside this file.",
  ].join("\n\n") + "\n";
}

export function loadJson(run: LoadRun): string {
  const { config, workload, arrivals, driven, metrics, source, maxModelLen, environment, machine, memory, cache, loadTimings, started } = run;
  return finiteJson({
    schemaVersion: SCHEMA_VERSION, experiment: "load", started, status: driven.status, config,
    seeds: { schedule: config.seed, sampling: "seed + request" },
    workload: {
      origin: workload.origin, sha256: workload.sha256, promptTokens: workload.requests.map(({ ids }) => ids.length),
      newTokens: workload.requests.map(({ maxNewTokens }) => maxNewTokens),
    },
    arrivalsMs: arrivals, metrics, unfinished: driven.unfinished, definitions: DEFINITIONS,
    model: { ...source, maxModelLen }, environment: { ...environment, ...machine }, memory, cache, loadTimings, samples: driven.samples,
  });
}

/** JSON of a value in which every number must be finite: JSON itself would write null for the others, and say nothing. */
export function finiteJson(value: unknown): string {
  return JSON.stringify(value, (key, item: unknown) => {
    if (typeof item === "number" && !Number.isFinite(item)) throw new Error(`${key} is ${item}, which no report may hold`);
    return item;
  }, 2);
}
