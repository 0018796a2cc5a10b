/**
 * `dawnlm plan`: what a model will take of GPU memory and whether it fits, before any weight is loaded. The arithmetic is
 * models/footprint.ts; here are the model's config (a hub model's config.json is all that is downloaded), the adapter's limits, the
 * memory that is there, and the verdict.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { print, progressBar } from "../../bench/core/cli.ts";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { DawnlmError, ModelFileError, UsageError } from "../../engine/errors.ts";
import { Gpu, type AdapterDescription } from "../../engine/gpu.ts";
import { resolveModel, type ResolvedModel } from "../../engine/hub.ts";
import type { FloatFormat } from "../../kernels/formats.ts";
import { parseConfig, readConfig } from "../../models/config.ts";
import { DEFAULT_LIMITS, footprint, shortage, type DeviceLimits, type Footprint, type PlannedModel, type Shortage } from "../../models/footprint.ts";
import { checkLoadOptions } from "../../models/generate_options.ts";
import type { LoadOptions } from "../../models/options.ts";
import { quantizedSource } from "../../models/quantized_source.ts";
import { presetConfig } from "../../models/presets.ts";
import { sizesOf } from "../../models/sizes.ts";
import { FORMATS } from "../../models/weights.ts";
import { planText } from "./plan_text.ts";

export interface PlanFlags {
  readonly revision?: string;
  readonly weights?: string;
  readonly kv?: string;
  readonly context?: number;
  readonly batch?: number;
  readonly prefillChunk?: number;
  readonly kvMemory?: number;
  readonly adapter: string;
  readonly maxBinding?: number;
  readonly maxBuffer?: number;
  readonly memory?: number;
  readonly json?: boolean;
}

export interface PlannedAdapter extends DeviceLimits {
  /** Null where limits were assumed. */
  readonly adapter: AdapterDescription | null;
}

export interface PlanReport {
  readonly model: {
    readonly id: string; readonly revision: string | null; readonly architecture: string; readonly parameters: number;
    readonly layers: number; readonly kvHeads: number; readonly headDim: number; readonly maxPositions: number;
  };
  readonly adapter: PlannedAdapter;
  readonly options: {
    readonly weights: string; readonly kv: LoadOptions["kv"]; readonly context: number; readonly batch: number; readonly prefillChunk: number;
    readonly kvMemory: number | null;
  };
  readonly footprint: Omit<Footprint, "sizes" | "parameters" | "problems">;
  readonly verdict: Verdict;
  /** What was assumed. */
  readonly notes: readonly string[];
}

export interface Verdict {
  readonly fits: boolean;
  /** What the sum was held against; null when nobody knows how much memory there is. */
  readonly against: { readonly bytes: number; readonly what: string } | null;
  readonly reasons: readonly string[];
  /** What to change so that it fits, or so that more of it runs at once. */
  readonly advice: readonly string[];
}

/** Returns the exit code: 0 fits, 4 does not. Throws UsageError, ModelFileError, GpuError. */
export async function plan(model: string, flags: PlanFlags): Promise<number> {
  const report = await inFlags(() => makePlan(model, flags));
  await print(flags.json === true ? `${JSON.stringify(report)}\n` : planText(report));
  return report.verdict.fits ? 0 : 4;
}

/** The whole plan, in the words of LoadOptions where it fails. Throws UsageError, ModelFileError, GpuError. */
export async function makePlan(model: string, flags: PlanFlags): Promise<PlanReport> {
  const { weights, kv, context, batch, prefillChunk, kvMemory, adapter, revision } = flags;
  const options = checkLoadOptions({ weights, kv, maxModelLen: context, maxSequences: batch, prefillChunk, kvMemory, revision } as LoadOptions);
  if (adapter !== "none" && (flags.maxBinding ?? flags.maxBuffer) !== undefined) {
    throw new UsageError("--max-binding and --max-buffer have no effect on an adapter that is there: give them with --adapter none");
  }
  const { resolved, planned, notes } = await findModel(model, revision);
  sizesOf(planned.config, options, planned.name); // an adapter is opened only for sizes that the model allows
  const device = adapter === "none" ? assumed(flags) : await ask(adapter);
  const made = footprint(planned, options, device);
  const { sizes, parameters, problems, ...rest } = made;
  const { layers, kvHeads, headDim, architecture, maxPositions } = planned.config;
  const reasons = onceForAllLayers(problems.map(spelled));
  return {
    model: {
      id: resolved.id, revision: resolved.kind === "folder" ? resolved.revision : null, architecture, parameters, layers, kvHeads, headDim, maxPositions,
    },
    adapter: device, footprint: rest, notes,
    options: {
      weights: sizes.weights.format, kv: sizes.cache.format, context: sizes.maxModelLen, batch: sizes.maxSequences,
      prefillChunk: sizes.prefillChunk, kvMemory: sizes.cache.memory,
    },
    verdict: judge(made, memoryOf(device, flags.memory), reasons, (format) => footprint(planned, { ...options, weights: format }, device)),
  };
}

/** The config, and how the weights are stored as far as they are on this machine. */
async function findModel(name: string, revision: string | undefined): Promise<{ resolved: ResolvedModel; planned: PlannedModel; notes: readonly string[] }> {
  const bar = progressBar();
  const resolved = await resolveModel(name, { revision, configOnly: true, onProgress: bar.update }).finally(bar.stop);
  if (resolved.kind === "random") return { resolved, planned: { name, config: parseConfig(presetConfig(resolved.name), resolved.id) }, notes: [] };
  const config = await readConfig(resolved.folder);
  const checkpoint = await openWeights(resolved.folder, resolved.revision !== null);
  if (checkpoint === null) {
    const why = config.dtype === null ? "as config.json does not say" : "as config.json says";
    return { resolved, planned: { name, config }, notes: [`the weights are not on this machine: they are taken to be stored in ${config.dtype ?? "f16"}, ${why}`] };
  }
  const { notes } = checkpoint;
  const opened = config.quantization === null ? { tensors: checkpoint.tensors, quantized: undefined }
    : await quantizedSource(checkpoint, config.quantization.stored, config.dtype ?? "f16").finally(() => checkpoint.close());
  await checkpoint.close();
  const { tensors, quantized } = opened;
  // A tensor that is missing, or of another dtype, is for loading to refuse.
  const dtypeOf = (name: string): FloatFormat => FORMATS[tensors.get(name)?.dtype ?? ""] ?? config.dtype ?? "f16";
  return { resolved, planned: { name, config, dtypeOf, ...(quantized && { stored: (weight: string) => quantized.stored(weight) }) }, notes };
}

/** Null when there are none. Of a hub model only a part may have been downloaded; a folder of the user's own is told what it lacks. */
async function openWeights(folder: string, fromHub: boolean): Promise<Checkpoint | null> {
  if (!["model.safetensors", "model.safetensors.index.json"].some((name) => existsSync(join(folder, name)))) return null;
  return Checkpoint.open(folder).catch((error: unknown) => {
    if (fromHub && error instanceof ModelFileError) return null;
    throw error;
  });
}

async function ask(wanted: string): Promise<PlannedAdapter> {
  const gpu = await Gpu.open({ adapter: wanted });
  const { adapter, maxBinding, family } = gpu;
  const maxBuffer = gpu.device.limits.maxBufferSize;
  gpu.close();
  return { adapter, maxBinding, maxBuffer, family };
}

function assumed({ maxBinding = DEFAULT_LIMITS.maxBinding, maxBuffer = Math.max(DEFAULT_LIMITS.maxBuffer, maxBinding) }: PlanFlags): PlannedAdapter {
  if (maxBinding < 2 ** 16 || maxBuffer < maxBinding) {
    throw new UsageError(`--max-binding must be at least 64 KiB and --max-buffer no less than it, got ${maxBinding} and ${maxBuffer} bytes`);
  }
  return { adapter: null, maxBinding, maxBuffer, family: DEFAULT_LIMITS.family };
}

/** What the sum is held against. A software adapter's memory is the machine's own, or what a container may still have of it. */
function memoryOf({ adapter }: PlannedAdapter, given: number | undefined): Verdict["against"] {
  if (given !== undefined) return { bytes: given, what: "given with --memory" };
  if (adapter?.software === true) return { bytes: process.availableMemory(), what: "free in this machine, whose memory the software adapter uses" };
  return null;
}

/** What is wrong with a matrix of one layer is wrong with that of every other: told once. */
function onceForAllLayers(messages: readonly string[]): string[] {
  const kinds = new Map<string, { readonly first: string; others: number }>();
  for (const message of messages) {
    const kind = message.replace(/\.layers\.\d+\./g, ".layers.*."), known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, { first: message, others: 0 });
    else known.others++;
  }
  return [...kinds.values()].map(({ first, others }) => (others === 0 ? first : `${first} (and so in ${others} more layers)`));
}

/** Formats by the room they take, for advice. */
const SMALLER = ["f16", "int8", "nf4"] as const;
type InFormat = (weights: (typeof SMALLER)[number]) => Footprint;

function judge(made: Footprint, against: Verdict["against"], limits: readonly string[], inFormat: InFormat): Verdict {
  const { kv, sizes } = made;
  const reasons = [...limits], advice: string[] = [];
  if (limits.length === 0 && kv.sequences === 0) {
    const least = kv.recentBytes + kv.sequenceBytes;
    const change = least <= kv.mostBytes
      ? `raise --kv-memory to ${least}`
      : `lower --context to ${kv.mostTokens}, or take a smaller --kv format`;
    reasons.push(`keys and values of a sequence of ${sizes.maxModelLen} tokens take ${least} bytes, ` +
      `but the pool has ${kv.poolBytes}, enough for ${kv.longest}: ${change}`);
  }
  const short = against === null ? null : shortage(made, against.bytes);
  if (short !== null) {
    reasons.push(`it needs ${short.neededBytes} bytes at its highest, ${short.missingBytes} more than the ${against!.bytes} ${against!.what}`);
    const smaller = SMALLER.map((weights) => smallerWeights(inFormat, weights, made, against!.bytes));
    const found = [smallerCache(made, short), ...smaller].filter((help) => help !== null);
    advice.push(...found.slice(0, 2).map((help) => `${help} makes it fit`));
    if (found.length === 0) advice.push("lower --context and --batch, take a smaller model, or more memory");
  }
  if (reasons.length === 0 && kv.sequences < sizes.maxSequences) advice.push(wholeBatch(made, against));
  return { fits: reasons.length === 0, against, reasons, advice };
}

function atFullLength(sequences: number): string {
  return `${sequences} sequence${sequences === 1 ? "" : "s"} of full length`;
}

/** What it takes that all sequences are at their full length at the same time; otherwise some wait, or are computed again. */
function wholeBatch({ kv, sizes, peak }: Footprint, against: Verdict["against"]): string {
  if (kv.batchBytes > kv.mostBytes) {
    return `this adapter binds at most ${kv.mostBytes} bytes of keys and values, ${atFullLength(Math.floor((kv.mostBytes - kv.recentBytes) / kv.sequenceBytes))} at a time`;
  }
  const missing = against === null ? 0 : peak.total - kv.poolBytes + kv.batchBytes - against.bytes;
  const holds = `--kv-memory ${Math.ceil(kv.batchBytes / 2 ** 20)}MiB holds ${atFullLength(sizes.maxSequences)} at a time`;
  return missing > 0 ? `${holds}, but then ${missing} bytes are missing` : holds;
}

/** Options that leave room for a sequence at least; null when there is none. */
function smallerCache({ kv }: Footprint, { kvMemory }: Shortage): string | null {
  const kvMiB = Math.floor(Math.min(kvMemory ?? 0, kv.mostBytes) / 2 ** 20);
  const sequences = Math.max(0, Math.floor((kvMiB * 2 ** 20 - kv.recentBytes) / kv.sequenceBytes));
  return sequences === 0 ? null : `--kv-memory ${kvMiB}MiB with room for ${atFullLength(sequences)}`;
}

/** Null when the model does not fit in these weights either, or cannot be loaded in them, as is so with some checkpoints. */
function smallerWeights(inFormat: InFormat, weights: (typeof SMALLER)[number], made: Footprint, bytes: number): string | null {
  try {
    const other = inFormat(weights);
    if (other.problems.length > 0 || other.memory.weights >= made.memory.weights) return null;
    const short = shortage(other, bytes);
    if (short === null) return `--weights ${weights}`;
    const cache = smallerCache(other, short);
    return cache === null ? null : `--weights ${weights} ${cache}`;
  } catch (error) {
    if (error instanceof UsageError) return null;
    throw error;
  }
}

/** Options of the library as this command spells them. */
const FLAGS: Readonly<Record<string, string>> = {
  maxModelLen: "--context", maxSequences: "--batch", prefillChunk: "--prefill-chunk", kvMemory: "--kv-memory",
};

function spelled(message: string): string {
  const named = message.replace(/\b(?:maxModelLen|maxSequences|prefillChunk|kvMemory)\b/g, (name) => FLAGS[name]!);
  return named.replace(/with weights "([\w.-]+)"/g, "with --weights $1");
}

/** Errors of the library in the words of this command. */
async function inFlags<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof DawnlmError) error.message = spelled(error.message);
    throw error;
  }
}
