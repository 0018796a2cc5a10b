/** What Markdown reports are put together from: tables, and the sections that all of them have. */

import type { Words } from "../lang/en.ts";
import type { ArmResult, Outcome } from "../measure.ts";
import { bytes, hitRate, memoryUse, metricsOf, number, percent, type Metric } from "../metrics.ts";
import { keysOf, type Key } from "../schema.ts";
import { originInWords, wordsOf, type RunInfo, type Status } from "./json.ts";

export function document(title: string, sections: readonly (readonly [string, readonly string[]])[]): string {
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

export function numberOr(value: number | null | undefined, words: Words): string {
  return value === null || value === undefined ? words.none : number(value);
}

export function percentOr(share: number | null, words: Words): string {
  return share === null ? words.none : percent(share);
}

export function medianOf(arm: ArmResult, { key }: Pick<Metric, "key">): number | null {
  return metricsOf(arm).find((metric) => metric.key === key)!.summary?.median ?? null;
}

/** What to know before any number is read. */
export function notes({ source, environment }: Outcome, status: Status, words: Words): string[] {
  return [
    ...(status === "complete" ? [] : [words.status(words.statuses[status])]),
    ...(source.random ? [words.random] : []),
    ...(environment.adapter.software ? [words.software] : []),
  ];
}

export function memoryTable(arms: readonly ArmResult[], words: Words): string {
  return table(["", ...arms.map(({ name }) => words.arms[name])], [...peakRows(arms, words), ...cacheRows(arms, words)]);
}

/** What the cache took and held, a row for each figure and in it a cell for each arm. */
export function cacheRows(arms: readonly ArmResult[], words: Words): [string, ...string[]][] {
  const { rows: say } = words;
  const uses = arms.map(memoryUse);
  const hasPrefix = arms.some((arm) => arm.name === "paged-prefix");
  return [
    [say.pool, ...uses.map(({ pool }) => bytes(pool))],
    [say.peakTaken, ...uses.map(({ peak }) => bytes(peak))],
    [say.meanTaken, ...uses.map(({ meanReserved }) => bytes(meanReserved))],
    [say.meanLive, ...uses.map(({ meanLive }) => bytes(meanLive))],
    [say.waste, ...uses.map(({ waste, missing }) => (missing === null ? percent(waste!) : `${words.none} (${words.missing[missing]})`))],
    [say.wasteAtPeak, ...uses.map(({ wasteAtPeak }) => percentOr(wasteAtPeak, words))],
    ...(hasPrefix ? [] : [[say.fits, ...arms.map(({ fits }) => String(fits))]] satisfies [string, ...string[]][]),
    [say.peakRunning, ...arms.map(({ cache }) => String(cache.peakRunning))],
    [say.meanRunning, ...arms.map(({ cache }) => number(cache.meanRunning))],
    [say.preemptions, ...arms.map(({ cache }) => String(cache.preemptions))],
    ...(hasPrefix ? [
      [say.hitRate, ...arms.map((arm) => percentOr(hitRate(arm), words))], [say.evicted, ...arms.map(({ cache }) => String(cache.evictedBlocks))],
    ] satisfies [string, ...string[]][] : []),
  ];
}

/** The ledger's peaks, a row for each category. */
export function peakRows(arms: readonly ArmResult[], { rows: say }: Words): [string, ...string[]][] {
  return (["weights", "kv", "activations", "logits", "staging", "total"] as const).map((category) =>
    [say.peak(say.categories[category]), ...arms.map(({ memory }) => bytes(memory.peak[category]))]);
}

/** Keys that an experiment does not look at. */
function unused({ benchmark_memory, shared_prefix }: RunInfo["config"]): readonly Key[] {
  return [
    ...(benchmark_memory ? ["max_tokens" as const] : ["distributions" as const]), ...(shared_prefix === undefined ? ["shared_prefix" as const] : []),
  ];
}

export function configuration(info: RunInfo, arms: readonly ArmResult[]): string {
  const { config, configFile, origins, prompts } = info;
  const words = wordsOf(info), skip = unused(config);
  const originOf = (key: Key): string => {
    const origin = origins[key] ?? "", [, followed] = /^follows (.+)$/.exec(origin) ?? [];
    return followed === undefined ? words.origins[origin] ?? "" : words.follows(followed);
  };
  const rows = keysOf(config.technique).filter((key) => key !== "prompts")
    .map((key) => (skip.includes(key) ? [key, words.notUsed, ""] : [key, config[key] === undefined ? words.notSet : `\`${JSON.stringify(config[key])}\``, originOf(key)]));
  const lengths = arms.flatMap(({ iterations }) => iterations.flatMap(({ requests }) => requests.map(({ promptTokens }) => promptTokens)));
  const tokens = lengths.length === 0 ? "" : words.ofTokens(lengths.reduce((a, b) => Math.min(a, b)), lengths.reduce((a, b) => Math.max(a, b)));
  const source = words.configFile(configFile, prompts.texts.length, tokens, originInWords(prompts.origin, words), prompts.sha256.slice(0, 16));
  return `${table([words.key, words.value, words.from], rows, "text")}\n\n${source}`;
}

export function environment(info: RunInfo, outcome: Outcome): string {
  const { machine, started } = info;
  const { environment: { adapter, kernelFamily, subgroupSize, features, limits }, source, maxModelLen } = outcome;
  const { environment: say } = wordsOf(info);
  const commit = machine.commit === null ? "" : ` (${machine.commit.slice(0, 12)}${machine.modified === true ? `, ${say.modified}` : ""})`;
  return table(["", ""], [
    [say.started, started],
    [say.model, `${source.id}${source.revision === null ? "" : ` @ ${source.revision}`}, ${say.fingerprint(source.fingerprint.slice(0, 16), maxModelLen)}`],
    [say.adapter, `${adapter.description} (${adapter.backend}${adapter.software ? `, ${say.softwareAdapter}` : ""})`],
    [say.kernels, say.family(kernelFamily, subgroupSize)],
    [say.features, features.join(", ")],
    [say.limits, Object.entries(limits).map(([name, value]) => `${name} ${value}`).join(", ")],
    [say.machine, `${machine.cpu}, ${say.cores(machine.cores)}, ${bytes(machine.memoryBytes)}, ${machine.os}`],
    [say.software, `dawnlm ${machine.dawnlm}${commit}, Node ${machine.node}, ${Object.entries(machine.packages).map(([name, version]) => `${name} ${version}`).join(", ")}`],
  ], "text");
}

export function rawSamples({ iterations }: Pick<ArmResult, "iterations">, { raw }: Words): string {
  return table([raw.iteration, raw.wall, raw.ttft, raw.latency, raw.preemptions], iterations.map(({ wallMs, requests, preemptions }, i) => [
    String(i + 1), number(wallMs), requests.map(({ ttft }) => number(ttft)).join(" "), requests.map(({ latency }) => number(latency)).join(" "), String(preemptions),
  ]));
}

export function orderOf({ order }: Outcome, words: Words): string {
  return words.raw.order(order.map((turn, i) => `${i + 1} ${turn.map((name) => words.arms[name]).join(", ")}`).join("; "));
}
