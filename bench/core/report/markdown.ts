/** Reports in Markdown: one per arm, and the comparison when both ran. Sentences come from the gates of metrics.ts, never from a template's hopes. */

import { bytes, cacheUse, compare, doubtOf, metricsOf, NO_PASS, sentence, signed, type Metric } from "../metrics.ts";
import type { ArmResult } from "../paged_attention.ts";
import { KEYS } from "../schema.ts";
import { CLAIM_ITERATIONS, type Change } from "../stats.ts";
import { statusOf, type Run } from "./json.ts";

const TITLES = { basic: "Basic: contiguous cache, static batches", optimized: "Optimized: paged cache, continuous batching" } as const;
const DEFINITIONS = "TTFT: arrival to first token, all requests of an iteration arriving at once. TPOT = (latency − TTFT) / (n − 1). ITL: gaps between tokens as the " +
  "host receives them; steps read back together arrive together, so low ITL percentiles describe the read-back, not the device. " +
  "Definitions are vLLM's. Each iteration gives one value: the median over its requests, or a total over its time.";

export function armMarkdown(run: Run, arm: ArmResult): string {
  return document(`PagedAttention experiment: ${run.config.experiment_name}`, [
    ["", [`**${TITLES[arm.name]}**`, ...notes(run)]],
    ["Metrics", [table(["", "unit", "median", "p10", "p90", "min", "max"], metricsOf(arm).map(metricRow)), DEFINITIONS, "Median, percentiles and extremes are over iterations."]],
    ["Memory", [memoryTable([arm])]],
    ["Configuration", [configuration(run)]],
    ["Environment", [environment(run), `Cold start: ${number(arm.loadTimings.weightsMs)} ms for weights, ${number(arm.loadTimings.pipelinesMs)} ms for cache and pipelines; in none of the metrics.`]],
    ["Raw samples", [rawSamples(arm), `Every request with every gap between tokens stands in \`${arm.name}_report.json\`.`]],
  ]);
}

export function comparisonMarkdown(run: Run): string | null {
  const comparison = compare(run.outcome);
  if (comparison === null) return null;
  const { arms } = run.outcome;
  const medians = (metric: Metric, index: number): string => number(metricsOf(arms[index]!).find(({ key }) => key === metric.key)!.summary?.median ?? null);
  const verdict = comparison.invalid !== null ? [`**INVALID**: ${comparison.invalid}.`]
    : run.outcome.status !== "complete" ? ["**PARTIAL**: the run was interrupted, so nothing is concluded from it."]
    : comparison.changes.map(({ metric, change }) => `- ${sentence(metric, change)}`);
  return document(`PagedAttention: basic against optimized (${run.config.batch_level}, ${run.config.experiment_name})`, [
    ["", [...arms.map(({ name }) => `- ${TITLES[name]}`), ...notes(run)]],
    ["Verdict", [...verdict, `Engagement: ${comparison.engagement}.`, `Correctness: ${comparison.correctness}.`]],
    ["Metrics", [
      table(["", "unit", "basic", "optimized", "change (median)", "spread over iterations"], comparison.changes.map(({ metric, change }) => [
        metric.label, metric.unit, medians(metric, 0), medians(metric, 1), change === null ? "n/a" : signed(change.median),
        change === null ? metric.reason ?? "n/a" : spread(change),
      ])),
      `Both arms show their median over iterations. Changes are taken pair by pair within an iteration; a difference is claimed only when at least ${CLAIM_ITERATIONS} iterations were run and all agree on its sign.`, DEFINITIONS,
    ]],
    ["Memory", [memoryTable(arms), "Both arms run the same kernels from a pool of the same size. What paging buys is the part of the pool it leaves free: memory for more sequences, not speed by itself."]],
    ["Configuration", [configuration(run)]],
    ["Environment", [environment(run)]],
    ["Raw samples", [
      ...arms.map((arm) => `${arm.name}\n\n${rawSamples(arm)}`),
      `Order of the arms, by iteration: ${run.outcome.order.map((turn, i) => `${i + 1} ${turn.join(", ")}`).join("; ")}.`,
    ]],
  ]);
}

function spread(change: Change): string {
  const doubt = doubtOf(change);
  return `${signed(change.min)} to ${signed(change.max)}${doubt === null ? "" : `, ${doubt}`}`;
}

function notes(run: Run): string[] {
  const { source, environment } = run.outcome;
  const status = statusOf(run);
  return [
    ...(status === "complete" ? [] : [`Status: **${status}**.`]),
    ...(source.random ? ["Seeded random weights: speed and memory are those of the architecture; the text means nothing and no quality is given."] : []),
    ...(environment.adapter.software ? ["Measured on a **software adapter** (a CPU): ratios carry over to GPUs badly, absolute figures not at all."] : []),
  ];
}

function document(title: string, sections: readonly (readonly [string, readonly string[]])[]): string {
  const body = sections.filter(([, parts]) => parts.length > 0).map(([heading, parts]) => `${heading === "" ? "" : `## ${heading}\n\n`}${joined(parts)}`);
  return `# ${title}\n\n${body.join("\n\n")}\n`;
}

/** List items stay together; everything else is a paragraph. */
function joined(parts: readonly string[]): string {
  return parts.reduce((text, part, i) => text + (i === 0 ? "" : part.startsWith("- ") && parts[i - 1]!.startsWith("- ") ? "\n" : "\n\n") + part, "");
}

/** The first column is text; the others are numbers, to the right, unless said otherwise. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], others: "numbers" | "text" = "numbers"): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i === 0 || others === "text" ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

function metricRow({ label, unit, summary, reason }: Metric): string[] {
  if (summary === null) return [label, unit, `null (${reason})`, "", "", "", ""];
  return [label, unit, ...[summary.median, summary.p10, summary.p90, summary.min, summary.max].map(number)];
}

export function number(value: number | null): string {
  if (value === null) return "n/a";
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function memoryTable(arms: readonly ArmResult[]): string {
  const uses = arms.map(cacheUse);
  const rows: [string, ...string[]][] = [
    ...(["weights", "kv", "activations", "logits", "staging", "total"] as const).map((category): [string, ...string[]] =>
      [`peak ${category}`, ...arms.map(({ memory }) => bytes(memory.peak[category]))]),
    ["KV pool", ...uses.map(({ pool }) => bytes(pool))],
    ["KV taken at the peak", ...uses.map(({ peak }) => bytes(peak))],
    ["KV taken, mean over forward passes", ...uses.map(({ meanReserved }) => bytes(meanReserved))],
    ["of it holding tokens", ...uses.map(({ meanLive }) => bytes(meanLive))],
    ["waste: taken but holding none", ...uses.map(({ waste }) => (waste === null ? `n/a (${NO_PASS})` : `${(waste * 100).toFixed(1)} %`))],
    [`requests of ${arms[0]!.room.tokens} tokens that the pool would hold`, ...arms.map(({ room }) => String(room.requests))],
    ["preemptions", ...arms.map(({ cache }) => String(cache.preemptions))],
  ];
  return table(["", ...arms.map(({ name }) => name)], rows);
}

function configuration({ config, configFile, origins, prompts, outcome }: Run): string {
  const rows = KEYS.filter((key) => key !== "prompts")
    .map((key) => [key, config[key] === undefined ? "not set" : `\`${JSON.stringify(config[key])}\``, origins[key] ?? ""]);
  const lengths = outcome.arms.flatMap(({ iterations }) => iterations.flatMap(({ requests }) => requests.map(({ promptTokens }) => promptTokens)));
  const tokens = lengths.length === 0 ? "" : ` of ${lengths.reduce((a, b) => Math.min(a, b))} to ${lengths.reduce((a, b) => Math.max(a, b))} tokens`;
  return `${table(["key", "value", "from"], rows, "text")}\n\nFile: \`${configFile}\`. Prompts: ${prompts.texts.length}${tokens} from ${prompts.origin}, ` +
    `SHA-256 \`${prompts.sha256.slice(0, 16)}…\`; the texts stand in the JSON reports.`;
}

function environment({ outcome, machine, started }: Run): string {
  const { environment: { adapter, kernelFamily, subgroupSize, features, limits }, source, maxModelLen } = outcome;
  return table(["", ""], [
    ["started", started],
    ["model", `${source.id}${source.revision === null ? "" : ` @ ${source.revision}`}, fingerprint ${source.fingerprint.slice(0, 16)}…, context ${maxModelLen}`],
    ["adapter", `${adapter.description} (${adapter.backend}${adapter.software ? ", software" : ""})`],
    ["kernels", `family ${kernelFamily}, subgroups of ${subgroupSize}`],
    ["features", features.join(", ")],
    ["limits", Object.entries(limits).map(([name, value]) => `${name} ${value}`).join(", ")],
    ["machine", `${machine.cpu}, ${machine.cores} cores, ${bytes(machine.memoryBytes)}, ${machine.os}`],
    ["software", `dawnlm ${machine.dawnlm}${machine.commit === null ? "" : ` (${machine.commit.slice(0, 12)}${machine.modified === true ? ", modified" : ""})`}, Node ${machine.node}, ${Object.entries(machine.packages).map(([name, version]) => `${name} ${version}`).join(", ")}`],
  ], "text");
}

function rawSamples({ iterations }: ArmResult): string {
  return table(["iteration", "wall ms", "TTFT ms of each request", "latency ms of each request"], iterations.map(({ wallMs, requests }, i) => [
    String(i + 1), number(wallMs), requests.map(({ ttft }) => number(ttft)).join(" "), requests.map(({ latency }) => number(latency)).join(" "),
  ]));
}
