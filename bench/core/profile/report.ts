/** What a profile says: rates, the distance from the floor, and the host's time, as a table in the terminal and as JSON. */

import type { ProbeResult } from "../../../engine/probe.ts";
import type { Environment, MemoryReport, ModelConfig, ModelSource } from "../../../index.ts";
import type { Machine } from "../environment.ts";
import { finiteJson } from "../load/report.ts";
import type { Summary } from "../stats.ts";
import { columns } from "./columns.ts";
import type { Floor, Work } from "./floors.ts";
import { KIND_NAMES, KINDS, type Kind } from "./host.ts";
import type { KernelProfile } from "./kernels.ts";
import { kernelLines, kernelsJson } from "./kernels_report.ts";
import type { Profile } from "./measure.ts";
import { short } from "./models.ts";
import type { ProfileConfig } from "./options.ts";

export const SCHEMA_VERSION = 1;
/** µs of host time per layer and decoded token that we want to stay under. */
export const HOST_BAR = 20;
/** How many times the throughput of one after another the largest concurrency should give. */
export const CONCURRENCY_BAR = 3;

export interface ProfileRun {
  readonly config: ProfileConfig;
  readonly profile: Profile;
  /** Null when --kernels was not given. */
  readonly kernels: KernelProfile | null;
  readonly floor: Floor;
  readonly roof: ProbeResult | null;
  readonly model: ModelConfig;
  readonly source: ModelSource;
  readonly environment: Environment;
  readonly memory: MemoryReport;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
}

/** Useful bytes and operations per second: those of the floor over the time it took. */
export interface Achieved { readonly gigabytesPerSecond: number; readonly gigaflops: number }

/** `seconds` for the whole of `work`; null when it was not measured. */
export function achieved({ bytes, flops }: Work, seconds: number | null): Achieved | null {
  return seconds === null || !(seconds > 0) ? null : { gigabytesPerSecond: bytes / seconds / 1e9, gigaflops: flops / seconds / 1e9 };
}

/** Seconds of one decode step and one prefill, by the medians. */
function seconds({ profile: { decode, prefill }, config }: ProfileRun): { decode: number | null; prefill: number | null } {
  return { decode: decode === null ? null : 1 / decode.median, prefill: prefill === null ? null : config.prompt / prefill.median };
}

/** Throughput of the last row of concurrency over that of the first, repetition by repetition; null when it cannot be given. */
export function gain({ concurrency }: Profile): number | null {
  const [first, last] = [concurrency[0]?.tokensPerSecond, concurrency.at(-1)?.tokensPerSecond];
  if (first == null || last == null || concurrency.length < 2) return null;
  const ratios = first.samples.slice(0, last.samples.length).map((rate, i) => last.samples[i]! / rate).sort((a, b) => a - b);
  return ratios[Math.floor(ratios.length / 2)]!;
}

/** The kinds of host time, from the repetition whose sum is the median one. */
export function hostKinds({ host: { repetitions } }: Profile): Readonly<Record<Kind, number>> | null {
  return [...repetitions].sort((a, b) => a.perToken - b.perToken)[Math.floor((repetitions.length - 1) / 2)]?.byKind ?? null;
}

export function statusOf({ profile, kernels }: Pick<ProfileRun, "profile" | "kernels">): Profile["status"] {
  return kernels?.status === "interrupted" ? "interrupted" : profile.status;
}

export function profileText(run: ProfileRun): string {
  const { config, profile, floor, roof, model, source, environment: { adapter, kernelFamily }, memory } = run;
  const { prompt, new: count } = config;
  const time = seconds(run);
  const rows: string[][] = [["", "median", "min", "max"], ...[
    [`pp${prompt}, tok/s`, profile.prefill] as const, [`tg${count} @ d${prompt}, tok/s`, profile.decode] as const,
    ...profile.concurrency.map(({ atATime, requests, tokensPerSecond }) =>
      [`${requests} requests of ${prompt} + ${count + 1} tokens, ${atATime} at a time, new tok/s`, tokensPerSecond] as const),
  ].map(([label, summary]) => [label, ...spread(summary)])];
  const times = gain(profile);
  const lines = [
    `${source.id} on ${adapter.description}${adapter.software ? " (software adapter)" : ""}, kernels ${kernelFamily}, batch 1, ` +
    `${profile.prefill?.samples.length ?? 0} repetitions${statusOf(run) === "interrupted" ? ", INTERRUPTED" : ""}`, "", ...columns(rows),
    ...(times === null ? [] : [gainLine(profile, times)]), "",
    ...columns([
      ["floor", "MB", "of it KV", "GFLOP", "GB/s reached", "GFLOP/s reached"],
      workRow("decode step", floor.decode, time.decode), workRow(`prefill of ${prompt}`, floor.prefill, time.prefill),
    ]),
    "Bytes and operations are the least that the model needs; reached: those over the time measured. " +
    `Weights on the GPU: ${short(memory.weights / 1e6)} MB.`,
    ...(roof === null ? [] : [roofLine(roof, floor, time.decode, time.prefill)]),
    `Dispatches of a decode step: ${dispatchesOf(profile)} (floor ${floor.decode.dispatches}); ` +
    `host calls: ${callsOf(profile)} (floor ${floor.decode.hostCalls})`, "",
    ...hostLines(profile, model.layers),
    ...(run.kernels === null ? [] : ["", ...kernelLines(run.kernels, run)]),
  ];
  return lines.join("\n");
}

function gainLine({ concurrency }: Profile, times: number): string {
  return `${concurrency.at(-1)!.atATime} at a time against ${concurrency[0]!.atATime}: ${times.toFixed(2)} x (bar: ${CONCURRENCY_BAR} x)`;
}

function hostLines(profile: Profile, layers: number): string[] {
  const { perToken, isCpu, pollsPerToken } = profile.host;
  const kinds = hostKinds(profile);
  if (perToken === null || kinds === null) return ["Host time: no decode step was measured"];
  const row = (label: string, micros: number): string[] => [label, micros.toFixed(1), (micros / layers).toFixed(2)];
  return [
    ...columns([
      [`host time of one decoded token (${isCpu ? "CPU time of this thread" : "wall time: this system has no thread clock"})`, "µs", "µs per layer"],
      ...KINDS.map((kind) => row(KIND_NAMES[kind], kinds[kind])),
      row("all, median", perToken.median), row("all, least of the repetitions", perToken.min),
    ]),
    `Bar: ${HOST_BAR} µs per layer (${layers} layers). Not counted: looking for finished work that is not there, ` +
    `which Dawn did ${pollsPerToken!.median.toFixed(0)} times per token.`,
  ];
}

function roofLine({ read, fma }: ProbeResult, floor: Floor, decode: number | null, prefill: number | null): string {
  const share = (part: number | undefined, of: number): string => (part === undefined ? "n/a" : `${((100 * part) / of).toFixed(0)} %`);
  return `Roof of this adapter: ${short(read.value)} GB/s read, ${short(fma.value)} GFLOP/s in registers; ` +
    `decoding reads at ${share(achieved(floor.decode, decode)?.gigabytesPerSecond, read.value)} of it, ` +
    `prefill computes at ${share(achieved(floor.prefill, prefill)?.gigaflops, fma.value)}.`;
}

function workRow(label: string, work: Work, time: number | null): string[] {
  const reached = achieved(work, time);
  const figures = [work.bytes / 1e6, work.kvBytes / 1e6, work.flops / 1e9].map(short);
  return [label, ...figures, ...(reached === null ? ["n/a", "n/a"] : [short(reached.gigabytesPerSecond), short(reached.gigaflops)])];
}

function spread(summary: Summary | null): string[] {
  return summary === null ? ["n/a", "n/a", "n/a"] : [summary.median, summary.min, summary.max].map(short);
}

/** As they were counted; a long sequence takes more than the engine says of a step in general, since its attention is split. */
function dispatchesOf({ callsPerStep, dispatches }: Profile): string {
  return (callsPerStep["dispatchWorkgroups"] ?? dispatches).toFixed(0);
}

function callsOf({ callsPerStep }: Profile): string {
  return Object.values(callsPerStep).reduce((sum, calls) => sum + calls, 0).toFixed(0);
}

export function profileJson(run: ProfileRun): string {
  const { config, profile, floor, roof, model, source, environment, memory, machine, started } = run;
  const time = seconds(run);
  const { repetitions } = profile.host;
  return finiteJson({
    schemaVersion: SCHEMA_VERSION, experiment: "profile", started, status: statusOf(run), config, model: { ...source, layers: model.layers },
    prefillTokensPerSecond: orReason(profile.prefill), decodeTokensPerSecond: orReason(profile.decode),
    concurrency: profile.concurrency, concurrencyGain: gain(profile),
    floor, reached: { decode: achieved(floor.decode, time.decode), prefill: achieved(floor.prefill, time.prefill) }, roof,
    /** As the engine states them for a short sequence; those counted are among the calls. */
    dispatchesStated: profile.dispatches, callsPerStep: profile.callsPerStep,
    host: {
      clock: profile.host.isCpu ? "thread CPU time" : "wall time", microsecondsPerToken: orReason(profile.host.perToken), layers: model.layers,
      pollsPerToken: profile.host.pollsPerToken, repetitions,
      microsecondsPerPrefill: orReason(profile.host.perPrefill),
    },
    kernels: run.kernels === null ? null : kernelsJson(run.kernels, run),
    memory, environment: { ...environment, ...machine },
  });
}

function orReason(summary: Summary | null): Summary | { value: null; reason: string } {
  return summary ?? { value: null, reason: "no repetition was finished" };
}
