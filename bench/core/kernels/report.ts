/** What a run of kernel microbenchmarks says: as a table, and as JSON with every sample. */

import Table from "cli-table3";
import type { Gpu } from "../../../engine/gpu.ts";
import type { ProbeResult } from "../../../engine/probe.ts";
import type { Machine } from "../environment.ts";
import { finiteJson } from "../load/report.ts";
import { short } from "../profile/models.ts";
import { caseName, type KernelDefinition } from "./case.ts";
import type { Measured, Outcome } from "./measure.ts";
import type { KernelsConfig } from "./options.ts";
import { bound, type Roof } from "./work.ts";

export const SCHEMA_VERSION = 1;

export type GpuEnvironment = Pick<Gpu, "adapter" | "subgroupSize"> & {
  readonly kernelFamily: string; readonly features: readonly string[]; readonly limits: Readonly<Record<string, number>>;
};

export interface KernelsRun {
  readonly config: KernelsConfig;
  readonly quick: boolean;
  readonly repetitions: number;
  readonly cacheBytes: number;
  readonly measured: Measured;
  readonly leftOut: readonly string[];
  /** Before and behind the run. */
  readonly roof: readonly ProbeResult[] | null;
  readonly environment: GpuEnvironment;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly started: string;
  readonly seconds: number;
}

/**
 * The higher of reading and copying, and of multiply-adds, over all probes: what a kernel cannot pass while it works from memory and in
 * f32. The highest, because whatever else a machine does can only lower a probe.
 */
export function roofOf(probes: readonly ProbeResult[]): Roof {
  return {
    gigabytesPerSecond: Math.max(...probes.flatMap(({ read, copy }) => [read.value, copy.value])),
    gigaflops: Math.max(...probes.map(({ fma }) => fma.value)),
  };
}

/** More than this over the roof is no chance. */
const OVER = 105;

export interface Rates {
  readonly gigabytesPerSecond: number;
  readonly gigaflops: number;
  /** Of what the roof allows for this much work; null without a roof. */
  readonly percentOfRoof: number | null;
  readonly bound: "memory" | "arithmetic" | null;
}

/** Useful bytes and operations per second: those of the floor over the median time. */
export function ratesOf({ case: { work }, seconds }: Outcome, roof: Roof | null): Rates | null {
  if (seconds === null || seconds.median <= 0) return null;
  const limit = roof && bound(work, roof);
  return {
    gigabytesPerSecond: work.bytes / seconds.median / 1e9, gigaflops: work.flops / seconds.median / 1e9,
    percentOfRoof: limit && (100 * limit.seconds) / seconds.median, bound: limit && limit.by,
  };
}

const HEAD = ["kernel", "shape", "rows", "format", "variant", "whose", "µs", "p10 – p90", "GB/s", "GFLOP/s", "% of roof", "bound by", ""];

export function kernelsText(run: KernelsRun): string {
  const { measured: { outcomes, status, clock }, leftOut, roof, environment, config, repetitions, quick, seconds } = run;
  const { adapter, kernelFamily, subgroupSize } = environment, of = roof && roofOf(roof);
  const table = new Table({ head: HEAD, style: { head: [], border: [], compact: true }, colAligns: ["left", "left", "right", "left", "left", "left", ...new Array<"right">(5).fill("right"), "left", "left"] });
  for (const outcome of outcomes) table.push(rowOf(outcome, of, clock));
  const wrong = outcomes.filter((each) => each.status === "wrong"), failed = outcomes.filter((each) => each.status === "failed");
  const compiled = outcomes.flatMap(({ compileMs }) => (compileMs === null ? [] : [compileMs]));
  const over = outcomes.filter((each) => !each.cached && (ratesOf(each, of)?.percentOfRoof ?? 0) > OVER).length;
  const partly = outcomes.filter(({ checked }) => checked !== null && checked.looked < checked.of).length;
  return [
    `Kernels on ${adapter.description || adapter.device} (${adapter.backend}${adapter.software ? ", a software adapter" : ""}), family ${kernelFamily}, subgroups of ${subgroupSize}.`,
    of === null ? "Roof: not measured (--no-roof)."
      : `Roof: ${short(of.gigabytesPerSecond)} GB/s, ${short(of.gigaflops)} GFLOP/s of f32 multiply-adds; ` +
        `a dispatch that waits for the one before costs ${short(Math.min(...roof!.map(({ dispatch }) => dispatch.value)))} µs.`,
    clock === "timestamps" ? "Time: the GPU's timestamps around one compute pass, not quantized."
      : "Time: the wall clock from submit to done, since this adapter has no timestamps; short kernels look slower than they are.",
    `${repetitions} repetitions of ${outcomes.length} cases, interleaved in an order of seed ${config.seed}; medians. ${seconds.toFixed(0)} s in all, ` +
      `of which ${(compiled.reduce((sum, ms) => sum + ms, 0) / 1000).toFixed(1)} s compiling ${compiled.length} cases' pipelines (not in the times).`,
    "", table.toString(), "",
    "*: the variant that the engine takes here. c: measured on memory that a cache may hold. w: by the wall clock, with the host's share.",
    ...(partly > 0 ? [`Checked against the scalar twin: ${outcomes.filter(({ checked }) => checked !== null).length} cases, of ${partly} a sample of the outputs (JSON: "checked").`] : []),
    ...(over > 0 ? [`${over} cases pass the roof on memory that no cache should hold: ` +
      `the roof is too low, since the machine did other things while it was measured, or ` +
      `its caches are larger than ${run.cacheBytes >> 20} MiB; percentages are too high.`] : []),
    ...wrong.map((each) => `WRONG, not timed: ${caseName(each.case)}: ${each.reason}`),
    ...failed.map((each) => `FAILED: ${caseName(each.case)}: ${each.reason?.split("\n")[0]}`),
    ...leftOut.map((each) => `Left out: ${each}.`),
    ...(quick ? ["A quick run: for numbers to rely on, name the kernel."] : []),
    ...(status === "interrupted" ? ["INTERRUPTED: medians are of fewer repetitions than asked for."] : []),
  ].join("\n");
}

function rowOf(outcome: Outcome, roof: Roof | null, clock: string): string[] {
  const { case: { kernel, shape, batch, format, kv, variant, chosen }, status, seconds, cached } = outcome;
  const rates = ratesOf(outcome, roof), us = (value: number): string => short(value * 1e6);
  const times = seconds === null || rates === null ? [status === "wrong" ? "WRONG" : status === "failed" ? "FAILED" : "n/a", "", "", "", "", ""]
    : [us(seconds.median), `${us(seconds.p10)} – ${us(seconds.p90)}`, short(rates.gigabytesPerSecond), short(rates.gigaflops), rates.percentOfRoof === null ? "n/a" : short(rates.percentOfRoof), rates.bound ?? "n/a"];
  const notes = [variant !== null && chosen ? "*" : "", cached && seconds !== null ? "c" : "", clock === "timestamps" && outcome.clock === "wall" ? "w" : ""].join("");
  return [kernel, `${shape.rows}x${shape.columns}`, String(batch), format ?? (kv === null ? "" : `kv ${kv}`), variant ?? "", shortened(shape.origin), ...times, notes];
}

/** The first of several, and how many more. */
function shortened(origin: string): string {
  const [first = "", ...more] = origin.split(", ");
  return more.length === 0 ? first : `${first} +${more.length}`;
}

export function kernelsJson(run: KernelsRun): string {
  const { config, quick, repetitions, cacheBytes, measured, leftOut, roof, environment, machine, started, seconds } = run, of = roof && roofOf(roof);
  return finiteJson({
    schemaVersion: SCHEMA_VERSION, experiment: "kernels", started, seconds, status: measured.status, config, quick, repetitions,
    seed: config.seed, clock: measured.clock,
    timestampQuantization: false, cacheBytes, roof: roof ?? { value: null, reason: "--no-roof" }, leftOut,
    environment: { ...environment, ...machine },
    cases: measured.outcomes.map((outcome) => {
      const { case: { kernel, class: kind, format, kv, variant, chosen, shape: { rows, columns, origin, heads }, batch, work }, seconds: times, ...rest } = outcome;
      return {
        kernel, class: kind, format, kv, variant, chosen, shape: [rows, columns], origin, ...(heads && { heads }), rows: batch, floor: work,
        ...rest,
        seconds: times ?? { value: null, reason: outcome.reason ?? "no repetition was finished" }, ...ratesOf(outcome, of),
      };
    }),
    order: measured.order,
  });
}

/** What --list prints. */
export function listText(definitions: readonly KernelDefinition[]): string {
  const table = new Table({ head: ["kernel", "class", "what", "--shape", "--rows", "formats"], style: { head: [], border: [], compact: true } });
  for (const { name, class: kind, what, shape, batch, formats, kv } of definitions) {
    table.push([name, kind, what, shape, batch, formats?.join(" ") ?? (kv === null ? "" : `--kv ${kv.join(" ")}`)]);
  }
  return table.toString();
}
