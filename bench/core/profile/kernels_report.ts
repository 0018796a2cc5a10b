/** What a profile says of kernels: a table for the decode step and one for the prefill, and the same as JSON. */

import type { Phase } from "../../../models/step.ts";
import type { Summary } from "../stats.ts";
import { columns } from "./columns.ts";
import type { KernelProfile, KernelRow, PhaseKernels } from "./kernels.ts";
import { short } from "./models.ts";
import type { ProfileRun } from "./report.ts";

/** The decode step is what most tokens cost, so it comes first. */
export const PHASES: readonly Phase[] = ["decode", "prefill"];

/** Where the wall time of a phase goes beside the GPU. */
export interface Host {
  /** Of the wall time, from 0 to 1; null where some repetition had none, so that it is no more than the noise. */
  readonly share: number | null;
  /** µs of CPU time of this thread; null where it was not measured. */
  readonly cpu: Summary | null;
  /** µs of wall time of a token in steady decoding, where several steps are in flight; null for a prefill. */
  readonly steady: number | null;
}

/** How many times as long it took with a pass around every dispatch. */
export interface Cost { readonly gpu: number; readonly wall: number }

export function hostOf(phase: Phase, { wall, host: { median, min } }: PhaseKernels, { decode, host }: ProfileRun["profile"]): Host {
  return {
    share: min > 0 ? median / wall.median : null, cpu: phase === "decode" ? host.perToken : host.perPrefill,
    steady: phase === "prefill" || decode === null ? null : 1e6 / decode.median,
  };
}

/** Null where the GPU's clock moved too little to tell. */
export function costOf({ timed, gpu, wall }: PhaseKernels): Cost | null {
  if (!(gpu.median > 0 && wall.median > 0)) return null;
  return { gpu: (timed.sum.median + timed.between.median) / gpu.median, wall: timed.wall.median / wall.median };
}

export function titleOf(phase: Phase, prompt: number): string {
  return phase === "decode" ? `decode step behind ${prompt} tokens` : `prefill of ${prompt} tokens`;
}

export function kernelLines(kernels: KernelProfile, run: ProfileRun): string[] {
  const { phases, reason } = kernels;
  if (phases === null) return [`Kernels: ${reason}`];
  return [
    ...PHASES.flatMap((phase) => [...phaseLines(phase, phases[phase], run), ""]),
    "A row's time is that of its dispatches, each in a pass of its own, median of the repetitions; the shares are those of the rows among " +
    "each other. MB and the rates: the least that its shape asks for, over the time it took.",
    ...(run.environment.adapter.software
      ? ["This is a software adapter: its GPU time is CPU time of the same cores that run this program, so what the host and the GPU take, " +
        "they take from each other."] : []),
  ];
}

function phaseLines(phase: Phase, kernels: PhaseKernels, run: ProfileRun): string[] {
  const { timed, gpu, wall, passes, dispatches, rows, host: rest } = kernels;
  const host = hostOf(phase, kernels, run.profile), cost = costOf(kernels);
  return columns([
    [`${titleOf(phase, run.config.prompt)}${passes > 1 ? `, in ${passes} chunks` : ""}`,
      "dispatches", "µs", "min", "max", "share", "MB", "GB/s", "GFLOP/s"],
    ...rows.map(rowCells),
    ["all dispatches, each in a pass of its own", String(dispatches), ...spread(timed.sum)],
    ["between these passes", "", ...spread(timed.between)],
    [`GPU time as it always runs, ${passes === 1 ? "one pass" : `${passes} passes`}`, "", ...spread(gpu)],
    ["wall time, untimed", "", ...spread(wall)],
    host.share === null ? ["host's share: wall less GPU, no more than the noise", "", ...spread(rest)]
      : ["host's share: wall less GPU", "", ...spread(rest), percent(host.share)],
    [`CPU time of this thread${phase === "decode" ? ", a token in steady decoding" : " before the first token"}`, "", ...spread(host.cpu)],
    ...(host.steady === null ? [] : [["wall time, a token in steady decoding", "", short(host.steady)]]),
  ]).concat(cost === null ? [] : [
    `Timing every dispatch made it ${cost.gpu.toFixed(2)} x as long on the GPU and ${cost.wall.toFixed(2)} x on the wall: ` +
    "take no sum of rows for its time.",
  ]);
}

function spread(summary: Summary | null): string[] {
  return summary === null ? ["n/a"] : [summary.median, summary.min, summary.max].map(short);
}

function rowCells({ kernel, dispatches, micros, share, work }: KernelRow): string[] {
  const seconds = micros.median / 1e6;
  const rates = work === null || !(seconds > 0) ? [] : [work.bytes / seconds / 1e9, work.flops / seconds / 1e9];
  const known = work === null ? [] : [work.bytes / 1e6, ...rates].map(short);
  return [`  ${kernel}`, String(dispatches), ...spread(micros), percent(share), ...known];
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function kernelsJson({ status, reason, phases }: KernelProfile, run: ProfileRun): unknown {
  if (phases === null) return { status, value: null, reason };
  const of = (phase: Phase): unknown => {
    const { passes, dispatches, rows, timed, gpu, wall, host } = phases[phase];
    return {
      title: titleOf(phase, run.config.prompt), passes, dispatches, rows,
      microseconds: { dispatches: timed.sum, between: timed.between, gpu, wall, wallLessGpu: host, timedWall: timed.wall },
      host: hostOf(phase, phases[phase], run.profile), timingCost: costOf(phases[phase]),
    };
  };
  return { status, softwareAdapter: run.environment.adapter.software, ...Object.fromEntries(PHASES.map((phase) => [phase, of(phase)])) };
}
