/**
 * One prefill and the decode step behind it, kernel by kernel. Every repetition runs the same request of two tokens three times, in
 * random order: untimed (the wall), with a pair of timestamps around each forward pass as it always runs (the GPU's share of that wall),
 * and with a pass around every dispatch (the kernels). The three must give the same tokens. The last form is slower than a step really is,
 * so its sum is never taken for one: what it costs is measured beside it.
 */

import { AbortedError } from "../../../engine/errors.ts";
import type { GenerateResult, LLM } from "../../../index.ts";
import type { Phase } from "../../../models/step.ts";
import type { TimedDispatch, TimedPass } from "../../../models/llm.ts";
import { randomTokens } from "../load/workload.ts";
import { seeded, shuffled, summarise, type Summary } from "../stats.ts";
import { isHead, workOf, type KernelWork } from "./kernel_work.ts";
import type { MeasureOptions, Profiled } from "./measure.ts";
import type { ProfileConfig } from "./options.ts";

export type KernelProfiled = Profiled & Pick<LLM, "timed" | "trace" | "config">;

/** All dispatches of a phase that run one kernel in one shape. */
export interface KernelRow {
  /** Its file, and the outputs × inputs of a product. */
  readonly kernel: string;
  /** What it does, by the same name whichever kernel does it. */
  readonly does: string;
  readonly dispatches: number;
  /** µs of all of them together, one value for each repetition. */
  readonly micros: Summary;
  /** Of the sum of the medians, from 0 to 1. */
  readonly share: number;
  /** The least it must move and compute; null where that does not follow from its shape. */
  readonly work: KernelWork | null;
}

/** Times in µs, one value for each repetition. */
export interface PhaseKernels {
  /** Forward passes: a prefill has one for each chunk. */
  readonly passes: number;
  readonly dispatches: number;
  /** Those that take longest first. */
  readonly rows: readonly KernelRow[];
  /** With a pass around every dispatch: the dispatches, what lies between them, and the wall (reading the timestamps included). */
  readonly timed: { readonly sum: Summary; readonly between: Summary; readonly wall: Summary };
  /** GPU time of the passes as they always run, and what they take on the wall when nobody times them. */
  readonly gpu: Summary;
  readonly wall: Summary;
  /** Wall less GPU, repetition by repetition: the host's, and the way there and back. Below zero where noise is more than it. */
  readonly host: Summary;
}

export interface KernelProfile {
  readonly status: "complete" | "interrupted";
  /** Why there is none; null when there is. */
  readonly reason: string | null;
  readonly phases: Readonly<Record<Phase, PhaseKernels>> | null;
}

export const NO_TIMESTAMPS = "this device has no timestamp queries (WebGPU's timestamp-query), so no kernel can be timed on it: " +
  "update its driver, or choose another adapter with --adapter";

export const NOT_REACHED: KernelProfile = { status: "interrupted", reason: "interrupted before any was timed", phases: null };

/** One form of the request: what was timed of it by phase, and its times on the wall in ms. */
export interface Reading { readonly passes: Readonly<Record<Phase, readonly TimedPass[]>>; readonly wall: Readonly<Record<Phase, number>> }
/** The three forms of one repetition. */
export interface Repetition { readonly untimed: Reading; readonly whole: Reading; readonly apart: Reading }

export async function measureKernels(
  llm: KernelProfiled, config: ProfileConfig, { signal, onStep }: Pick<MeasureOptions, "signal" | "onStep">,
): Promise<KernelProfile> {
  if (await llm.timed("pass", () => Promise.resolve()) === null) return { status: "complete", reason: NO_TIMESTAMPS, phases: null };
  const { prompt, repetitions, seed } = config;
  const token = randomTokens(llm, seed), random = seeded(seed);
  const done: Repetition[] = [];
  let status: KernelProfile["status"] = "complete";
  try {
    for (let i = -1; i < repetitions; i++) { // the first shows the device the passes it has not seen yet
      onStep(i < 0 ? "kernels: warm-up" : `kernels: repetition ${i + 1} of ${repetitions}`, i + 1, repetitions + 1);
      const ids = Array.from({ length: prompt }, token);
      const generate = (): Promise<GenerateResult> => llm.generate(ids, { maxNewTokens: 2, ignoreEos: true, signal });
      const forms = new Map<keyof Repetition, Reading>(), texts: (readonly number[])[] = [];
      for (const form of shuffled(["untimed", "whole", "apart"] as const, random)) {
        const { ids: text, reading } = await readingOf(llm, form, generate);
        forms.set(form, reading);
        texts.push(text);
      }
      if (texts.some((text) => text.join() !== texts[0]!.join())) {
        throw new Error(`the same request gave other tokens when it was timed: ${texts.map((text) => text.join(" ")).join("; ")}`);
      }
      if (i >= 0) done.push({ untimed: forms.get("untimed")!, whole: forms.get("whole")!, apart: forms.get("apart")! });
    }
  } catch (error) {
    if (!(error instanceof AbortedError && signal.aborted)) throw error;
    status = "interrupted";
  }
  if (done.length === 0) return { status, reason: "interrupted before the first repetition was finished", phases: null };
  const of = (phase: Phase): PhaseKernels => phaseOf(phase, done, llm.config, config);
  return { status, reason: null, phases: { decode: of("decode"), prefill: of("prefill") } };
}

async function readingOf(
  llm: KernelProfiled, form: keyof Repetition, generate: () => Promise<GenerateResult>,
): Promise<{ ids: readonly number[]; reading: Reading }> {
  const phases: Phase[] = [];
  const stop = llm.trace.on(({ type }) => { if (type === "prefill" || type === "decode") phases.push(type); });
  try {
    const timed = form === "untimed" ? { result: await generate(), passes: [] }
      : await llm.timed(form === "whole" ? "pass" : "dispatch", generate);
    const { result: { ids, timings: { ttft, total } }, passes } = timed!;
    if (form !== "untimed" && passes.length !== phases.length) {
      throw new Error(`${phases.length} forward passes ran, but ${passes.length} were timed`);
    }
    const of = (phase: Phase): TimedPass[] => passes.filter((_, i) => phases[i] === phase);
    return { ids, reading: { passes: { prefill: of("prefill"), decode: of("decode") }, wall: { prefill: ttft, decode: total - ttft } } };
  } finally {
    stop();
  }
}

/** One phase over all repetitions, of which there is at least one. */
export function phaseOf(phase: Phase, repetitions: readonly Repetition[], model: LLM["config"], config: ProfileConfig): PhaseKernels {
  const over = (of: (repetition: Repetition) => number): Summary => summarise(repetitions.map(of))!;
  const gpuOf = ({ passes }: Reading): number => total(passes[phase].map(({ nanoseconds }) => nanoseconds)) / 1000;
  const dispatchesOf = ({ apart }: Repetition): TimedDispatch[] => apart.passes[phase].flatMap(({ dispatches }) => dispatches);
  const sumOf = (repetition: Repetition): number => microsOf(dispatchesOf(repetition));
  const byKernel = repetitions.map((repetition) => Map.groupBy(dispatchesOf(repetition), kernelOf));
  const rows = [...byKernel[0]!].map(([kernel, dispatches]) => ({
    kernel, does: doesOf(dispatches[0]!), dispatches: dispatches.length,
    work: workOf(phase, dispatches, [...byKernel[0]!.values()], model, config),
    micros: summarise(byKernel.map((kernels) => microsOf(kernels.get(kernel) ?? [])))!,
  })).sort((a, b) => b.micros.median - a.micros.median);
  const sum = total(rows.map(({ micros }) => micros.median));
  return {
    passes: repetitions[0]!.apart.passes[phase].length, dispatches: dispatchesOf(repetitions[0]!).length,
    rows: rows.map((row) => ({ ...row, share: sum > 0 ? row.micros.median / sum : 0 })),
    timed: {
      sum: over(sumOf), between: over((repetition) => gpuOf(repetition.apart) - sumOf(repetition)),
      wall: over(({ apart }) => apart.wall[phase] * 1000),
    },
    gpu: over(({ whole }) => gpuOf(whole)), wall: over(({ untimed }) => untimed.wall[phase] * 1000),
    host: over(({ untimed, whole }) => untimed.wall[phase] * 1000 - gpuOf(whole)),
  };
}

/** Such as `matvec 1024×512, head`. */
function kernelOf(dispatch: TimedDispatch): string {
  const file = dispatch.kernel.replace(/\.wgsl$/, "");
  const does = doesOf(dispatch);
  return does === file ? file : `${file} ${does.replace(/^product /, "")}`;
}

/** A product by its outputs × inputs, anything else by its file. */
function doesOf({ kernel, consts, recording }: TimedDispatch): string {
  const { N, K, GATED } = consts;
  if (typeof GATED !== "boolean") return kernel.replace(/\.wgsl$/, "");
  return `product ${String(N)}×${String(K)}${GATED ? ", gated" : ""}${isHead(recording) ? ", head" : ""}`;
}

function microsOf(dispatches: readonly TimedDispatch[]): number {
  return total(dispatches.map(({ begin, end }) => end - begin)) / 1000;
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
