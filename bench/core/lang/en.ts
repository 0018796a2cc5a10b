/**
 * Every word of a report, in English. A report is put together from numbers, names and these; lang/zh.ts has the same keys, so that no
 * sentence can be missing in one of them. Numbers come formatted.
 */

import type { ArmName, LayoutArm } from "../arms.ts";
import type { Distribution } from "../lengths.ts";
import { combosEn } from "./combos_en.ts";
import { gatesEn } from "./gates_en.ts";
import { pageEn } from "./page_en.ts";
import { pressEn } from "./press_en.ts";
import { specEn } from "./spec_en.ts";
import { versusEn } from "./versus_en.ts";
import { weightsEn } from "./weights_en.ts";

const metrics = {
  ttft_ms: "TTFT", tpot_ms: "TPOT", itl_p10_ms: "ITL p10", itl_p50_ms: "ITL p50", itl_p90_ms: "ITL p90", itl_p99_ms: "ITL p99",
  latency_ms: "end-to-end latency", output_tokens_per_s: "output throughput", total_tokens_per_s: "total throughput", requests_per_s: "requests",
};
export type MetricKey = keyof typeof metrics;

const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

export const en = {
  metrics,
  arms: { "contiguous-max": "contiguous-max", "contiguous-exact": "contiguous-exact", paged: "paged", "paged-prefix": "paged + prefix cache", ...weightsEn.arms } satisfies Record<ArmName, string>,
  titles: {
    "contiguous-max": "Basic (contiguous-max): every sequence reserves max_model_len tokens; static batches",
    "contiguous-exact": "contiguous-exact: every sequence reserves exactly what it will come to, which no server knows; continuous batching",
    paged: "Optimized (paged): blocks on demand; continuous batching",
    "paged-prefix": "paged + prefix cache: full blocks of equal prefixes are computed once and shared",
    again: "again (A/A): the first layout a second time; what two equal arms differ by is noise",
  } satisfies Record<LayoutArm | "again", string>,
  files: {
    arms: { "contiguous-max": "basic_report", "contiguous-exact": "exact_report", paged: "optimized_report", "paged-prefix": "prefix_report" } satisfies Record<LayoutArm, string>,
    comparison: (level: string, name: string) => `comparison_experiment_${level}_${name}`,
    memory: (level: string, name: string) => `memory_experiment_${level}_${name}`,
    prefix: (level: string, name: string) => `prefix_cache_experiment_${level}_${name}`,
  },
  heads: {
    metrics: "Metrics", memory: "Memory", configuration: "Configuration", environment: "Environment", raw: "Raw samples", verdict: "Verdict", results: "Results",
    claims: "The paper's claims, and what is true here", lengths: "Lengths",
  },
  experiment: (name: string) => `PagedAttention experiment: ${name}`,
  comparison: (level: string, name: string) => `PagedAttention: what paging buys (${level}, ${name})`,
  memoryExperiment: (level: string, name: string) => `PagedAttention: memory (${level}, ${name})`,
  prefixExperiment: (level: string, name: string) => `Prefix caching (${level}, ${name})`,

  unit: "unit", median: "median", change: "change", value: "value", key: "key", from: "from", min: "min", max: "max",
  none: "n/a", notSet: "not set", notUsed: "not used",
  origins: { flag: "flag", file: "file", default: "default" } as Record<string, string>,
  follows: (key: string) => `follows ${key}`,
  against: (to: string, from: string) => `${to} against ${from}`,
  missing: { oneToken: "needs at least two new tokens per request", noIteration: "no iteration was finished", noValue: "no request gave a value", noPass: "no forward pass was run",
    noArm: "an arm has no value", shared: "shared blocks count once, whoever uses them" },
  definitions: "TTFT: arrival to first token, all requests of an iteration arriving at once. TPOT = (latency − TTFT) / (n − 1). ITL: gaps between tokens as the " +
    "host receives them; steps read back together arrive together, so low ITL percentiles describe the read-back, not the device. " +
    "Definitions are vLLM's. Each iteration gives one value: the median over its requests, or a total over its time.",
  overIterations: "Median, percentiles and extremes are over iterations.",
  changesAre: (claim: number) => `Arms show their median over iterations. Changes are taken pair by pair within an iteration, with an interval for their median: the bootstrap's at 95 %, or the exact one of order ` +
    `statistics where that is wider (of fewer than 9 iterations: all of them). A difference is claimed only when at least ${claim} iterations were run and the whole interval lies beyond the noise floor: ` +
    `what two equal arms differed by, or what an arm differs from itself between neighbouring iterations, whichever is more.`,
  tooFew: "too few iterations to tell", noDifference: "no measurable difference",
  range: (from: string, to: string) => `${from} to ${to}`,
  cannotCompare: (label: string, reason: string | null) => `${label}: cannot be compared${reason === null ? "" : ` (${reason})`}`,
  doubtful: (label: string, doubt: string, range: string) => `${label}: ${doubt} (${range} over the iterations)`,
  changed: (label: string, percent: string, higher: boolean, better: boolean, range: string) => `${label}: ${percent} ${higher ? "higher" : "lower"}, ${better ? "better" : "worse"} (${range})`,
  ratio: (label: string, ratio: string, range: string, doubt: string | null) => `${label}: ${ratio} × (${range})${doubt === null ? "" : `, ${doubt}`}`,

  status: (status: string) => `Status: **${status}**.`,
  statuses: { complete: "complete", interrupted: "interrupted", invalid: "invalid" },
  invalid: "INVALID", partial: "PARTIAL", interrupted: "INTERRUPTED",
  nothingConcluded: "the run was interrupted, so nothing is concluded from it",
  random: "Seeded random weights: speed and memory are those of the architecture; the text means nothing and no quality is given.",
  randomShort: "Random weights: the text means nothing.",
  software: "Measured on a **software adapter** (a CPU): ratios carry over to GPUs badly, absolute figures not at all.",
  softwareShort: "software adapter",
  summary: (model: string, adapter: string, software: boolean, prompts: number, iterations: number) =>
    `${model} on ${adapter}${software ? " (software adapter)" : ""}, ${counted(prompts, "prompt")}, medians over ${counted(iterations, "iteration")}`,
  reports: "Reports:",

  engagement: (text: string) => `Engagement: ${text}.`,
  correctness: (text: string) => `Correctness: ${text}.`,
  wasted: (paged: string, contiguous: string) => `of what it had reserved, paged left ${paged} without a token, contiguous-max ${contiguous}`,
  savedNothing: (engagement: string) => `${engagement}: paging saved nothing, so these runs do not compare it with anything`,
  ranWhereOtherCannot: "paged ran from a pool that cannot hold a single sequence of contiguous-max",
  hits: (hit: number, queried: number, percent: string, possible: string) =>
    `${hit} of ${queried} prompt tokens that were looked up came out of the prefix cache (${percent}; the common text alone is ${possible})`,
  noHit: "no prompt token came out of the prefix cache, so these runs say nothing about it",
  notAllRan: "the arms did not all finish an iteration, so what the technique did is not known",
  notCompared: "the arms did not all finish an iteration, so their texts were not compared",
  allSame: (of: number) => `all ${of} texts are the same in every arm and in every iteration, token for token`,
  someSame: (same: number, of: number, token: number, prompt: number) =>
    `${same} of ${of} texts are the same in every arm and in every iteration; the first difference is token ${token} of prompt ${prompt}`,
  greedyDiffers: (correctness: string) => `greedy texts must not depend on where the cache lives, but ${correctness}`,

  budgetHolds: (budget: string) => `A budget of ${budget} for keys and values holds at a time, of sequences like these at their full lengths:`,
  holds: (arm: string, sequences: number, waste: string) => `${arm}: ${counted(sequences, "sequence")}; ${waste} of what it reserved held no token`,
  skipped: (arm: string, needs: number, holds: number) => `${arm}: none. One sequence reserves ${needs} tokens, the budget holds ${holds}; it was not run`,
  tableCost: (running: number) => `What the block table costs at equal batch, ${counted(running, "sequence")} at a time (paged as a multiple of contiguous-exact):`,
  tableCostUneven: "paged and contiguous-exact did not run the same number of sequences at a time, or had to preempt: what the block table costs cannot be told from this run.",
  together: "Layout and batching together (paged against contiguous-max):",
  prefixGain: "What the prefix cache gains (paged + prefix cache against paged):",
  preempted: (arm: string, count: number, iterations: number) =>
    `${arm} pushed sequences out of its full cache ${counted(count, "time")} in ${counted(iterations, "iteration")} and computed them again: the texts stay the same, the time is lost. ` +
    "Raise kv_memory, or lower batch_size or max_model_len.",
  sameKernels: "All arms run the same kernels within the same budget. What paging buys is the part of it that it leaves free: memory for more sequences, not speed by itself.",
  rows: {
    peak: (category: string) => `peak ${category}`,
    categories: { weights: "weights", kv: "kv", activations: "activations", logits: "logits", staging: "staging", total: "total" },
    pool: "KV pool", peakTaken: "KV taken at the peak", meanTaken: "KV taken, mean over forward passes", meanLive: "of it holding tokens",
    waste: "waste: taken but holding none", wasteAtPeak: "waste at the peak", fits: "sequences like these that the budget holds", peakRunning: "most sequences in one step",
    meanRunning: "sequences in a step, mean", preemptions: "preemptions", hitRate: "prefix cache: tokens found of those looked up", evicted: "prefix cache: blocks evicted",
  },
  kvTaken: "KV taken at the peak", kvWaste: "KV waste", fits: "sequences that fit", preemptions: "preemptions", hitRate: "prefix hit rate",
  configFile: (file: string, prompts: number, tokens: string, origin: string, sha: string) =>
    `File: \`${file}\`. Prompts: ${prompts}${tokens} from ${origin}, SHA-256 \`${sha}…\`; the texts stand in the JSON reports.`,
  ofTokens: (from: number, to: number) => ` of ${from} to ${to} tokens`,
  prompts: {
    given: "the config or the command line", file: (path: string) => path, cut: (seed: number) => `assets/texts, cut at sentences by seed ${seed}`,
    drawn: (seed: number) => `assets/texts, cut to the drawn lengths by seed ${seed}`,
  },
  environment: {
    started: "started", model: "model", adapter: "adapter", kernels: "kernels", features: "features", limits: "limits", machine: "machine", software: "software",
    fingerprint: (fingerprint: string, context: number) => `fingerprint ${fingerprint}…, context ${context}`,
    family: (family: string, subgroup: number) => `family ${family}, subgroups of ${subgroup}`,
    cores: (cores: number) => `${cores} cores`, modified: "modified", softwareAdapter: "software",
  },
  coldStart: (weights: string, pipelines: string) => `Cold start: ${weights} ms for weights, ${pipelines} ms for cache and pipelines; in none of the metrics.`,
  raw: { iteration: "iteration", wall: "wall ms", ttft: "TTFT ms of each request", latency: "latency ms of each request", preemptions: "preemptions",
    gaps: (file: string) => `Every request with every gap between tokens stands in \`${file}\`.`,
    order: (order: string) => `Order of the arms, by iteration: ${order}.` },

  memory: {
    intro: (budget: string, tokens: number, requests: number) => `Each arm gets ${budget} for keys and values, room for ${tokens} tokens, and runs as many of ${requests} requests at a time as ` +
      "it can hold: memory alone is the limit. contiguous-max runs static batches, the others batch continuously. contiguous-exact knows every length beforehand, which no server does.",
    distributions: { sharegpt: "ShareGPT-like", alpaca: "Alpaca-like", uniform: "uniform", constant: "constant" } satisfies Record<Distribution, string>,
    shapes: {
      sharegpt: (scale: string) => `log-normal, means of 161.31 (prompt) and 337.99 (output) tokens as the paper gives them for ShareGPT, σ of 1.2 and 0.9, × ${scale}`,
      alpaca: (scale: string) => `log-normal, means of 19.31 (prompt) and 58.45 (output) tokens as the paper gives them for Alpaca, σ of 0.4 and 0.9, × ${scale}`,
      uniform: () => "prompt and output each from 1 token to half of max_model_len", constant: () => "prompt and output an eighth of max_model_len each",
    } satisfies Record<Distribution, (scale: string) => string>,
    synthetic: "All lengths are synthetic, drawn by seed; the spreads σ are ours, as the paper prints no variance. Lengths scale with max_model_len / 2048, since the paper's models " +
      "had a context of 2048; a request longer than max_model_len is drawn again.",
    drawnColumns: ["distribution", "shape", "mean prompt", "mean output", "longest"],
    columns: ["distribution", "arm", "fit by arithmetic", "at a time, most", "at a time, mean", "waste by arithmetic", "waste measured", "waste at the peak", "preemptions", "output tok/s", "TTFT ms"],
    columnsShort: ["distribution", "arm", "fit", "at a time", "waste", "measured", "preempt.", "tok/s", "TTFT ms"],
    columnsAre: "Fit by arithmetic: sequences at their full lengths, in the order of arrival. Waste by arithmetic: over the life of every request, one sample per new token. " +
      "Waste measured: over the forward passes, as the host knows the cache: what steps still in flight write counts as reserved, but not yet as held. Paged sequences start with what their prompts need, so more may run than fit at full length; " +
      "those that no longer fit are preempted.",
    allRequests: (requests: number) => `Where ${requests} ran at a time, that is all there were: the number of requests was the limit, not memory.`,
    claims: "The authors found 20.4 % to 38.2 % of the reserved cache useful in the systems of their day, 96.3 % with paging (figure 2); their announcement says 60–80 % waste before and under 4 % after.",
    claimColumns: ["distribution", "useful, contiguous-max", "the paper's 20.4–38.2 %", "waste, paged, by arithmetic", "under 4 %", "waste, paged, measured", "under 4 %"],
    claimRange: { below: "below the range", within: "within the range", above: "above the range" },
    holds: "holds", holdsNot: "does not hold",
    whyNot: (block: number, mean: string, tokens: string) => `A paged sequence leaves (${block} − 1) / 2 tokens of its last block empty on average, whatever its length: ${mean} tokens of ${tokens} on average here. ` +
      "Short texts in large blocks waste more than 4 %, long ones less; the waste of contiguous-max is what max_model_len makes it.",
    admitted: (name: string, from: number, to: number, fromMean: string, toMean: string) =>
      `${name}: with the memory it frees, paged ran up to ${counted(to, "sequence")} at a time (${toMean} on average) where contiguous-max ran ${from} (${fromMean}).`,
    inDistribution: (name: string, text: string) => `${name}: ${text}`,
    raw: "Every request of every iteration stands in the JSON report.",
  },
  weights: weightsEn,
  press: pressEn,
  spec: specEn,
  gates: gatesEn,
  versus: versusEn,
  combos: combosEn,
  page: pageEn,
};

/** What a language must say. */
export type Words = typeof en;
