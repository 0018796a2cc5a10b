/**
 * What a model will take of GPU memory, before anything is loaded: the loader's steps on a ledger without a device. Weights are counted
 * from the model's own declarations, everything else from the lists of buffers that the loader makes (sizes.ts), so what stands here is
 * what `LLM.memory()` reads afterwards. Not in it: compiled shaders, the driver's own memory, and copies of the host.
 */

import type { KernelFamily } from "../engine/gpu.ts";
import { bufferBytes, Ledger } from "../engine/memory.ts";
import { numel } from "../engine/shape.ts";
import { byteLength } from "../engine/tensor.ts";
import { isDouble, type FloatFormat } from "../kernels/formats.ts";
import type { Quantized } from "../kernels/weights.ts";
import type { ModelConfig } from "./config.ts";
import { declared, type Declared } from "./model.ts";
import type { LoadOptions, MemoryBytes } from "./options.ts";
import { needsOf, pressFrom } from "./press.ts";
import { pressBuffers } from "./press_buffers.ts";
import { onDemandBuffers, planCache, runnerBuffers, runnerProblems, sizesOf, type BufferShape, type CachePlan, type LoadSizes } from "./sizes.ts";
import { chunkBytes } from "./quantized_weights.ts";
import { isVector, planBytes, planOf, type PlanOptions, type Request, type StoredQuantized, type WeightPlan } from "./weight_plans.ts";

/** What of an adapter decides what fits, in bytes. */
export interface DeviceLimits { readonly maxBinding: number; readonly maxBuffer: number; readonly family: KernelFamily }

/** Where there is no device to ask: what every implementation of WebGPU grants, and the kernels of a GPU. */
export const DEFAULT_LIMITS: DeviceLimits = { maxBinding: 128 << 20, maxBuffer: 256 << 20, family: "gpu" };

export const WEIGHT_GROUPS = ["embedding", "layers", "head"] as const;
export interface WeightGroup {
  readonly group: (typeof WEIGHT_GROUPS)[number];
  readonly parameters: number;
  readonly bytes: number;
  /** Of its matrices; vectors are f32. */
  readonly formats: readonly string[];
}

export interface KvFootprint {
  /** Keys and values of one token in all layers and KV heads. */
  readonly tokenBytes: number;
  /** The pools of keys and values; `memory.kv` has the tables beside them too. */
  readonly poolBytes: number;
  /** Of them for keys that are not quantized yet, of all sequences and of a step: kivi4 alone has such. */
  readonly recentBytes: number;
  /** A sequence of maxModelLen tokens, in whole blocks, and how many such the pools hold at a time. */
  readonly sequenceBytes: number;
  readonly sequences: number;
  /** The pools for maxSequences of them. */
  readonly batchBytes: number;
  /** Tokens of the longest sequence that the pools hold when it has them to itself, and that the largest pools would. */
  readonly longest: number;
  readonly mostTokens: number;
  /** The most that the pools can be on this adapter: each is seen whole by a kernel. */
  readonly mostBytes: number;
}

export interface Footprint {
  readonly parameters: number;
  readonly sizes: LoadSizes;
  readonly groups: readonly WeightGroup[];
  /** After loading, and while generating: decoding allocates nothing. */
  readonly memory: MemoryBytes;
  /** The highest of each category from the first weight to the last token. */
  readonly peak: MemoryBytes;
  /** The most that staging takes while weights are loaded; it is given back. */
  readonly loadStaging: number;
  readonly kv: KvFootprint;
  /** What comes on top once somebody asks for it. */
  readonly onDemand: readonly { readonly what: string; readonly bytes: number }[];
  /** Why the adapter cannot hold it, in the words in which loading refuses, with what to change. */
  readonly problems: readonly string[];
}

/** A model as far as it is known before it is loaded. */
export interface PlannedModel {
  /** For messages. */
  readonly name: string;
  readonly config: ModelConfig;
  /** How a checkpoint stores its floats, and which matrices it stores in codes. Without them `auto` is the config's dtype. */
  readonly dtypeOf?: (name: string) => FloatFormat;
  readonly stored?: (name: string) => StoredQuantized | undefined;
}

/** Throws what loading would for sizes and formats that the model does not allow: ContextLengthError, UsageError. */
export function footprint(planned: PlannedModel, options: LoadOptions, limits: DeviceLimits): Footprint {
  const { config, name } = planned;
  const sizes = sizesOf(config, options, name);
  const model = declared(config);
  const cache = planCache(limits.maxBinding, sizes.cache);
  const runner = runnerBuffers(config, model.shape, limits.family, sizes.runner);
  const onDemand = onDemandBuffers(config, sizes.cache.slots, runner.rows, runner.samples);
  const { activations, int8, splits, batch, cosSin, logits, sampling, sampled, staging } = runner;
  const others = [
    ...Object.values(cache.buffers), ...Object.values(activations), ...(int8 === null ? [] : Object.values(int8)), ...(splits === null ? [] : [splits.partials]),
    batch, cosSin, logits, sampling, sampled, ...staging, ...ofPress(config, sizes, cache, runner.rows, options.press),
  ];

  const ledger = new Ledger();
  const problems: string[] = [];
  const groups = loadWeights(ledger, planned, model, limits, { ...sizes.weights, int8: sizes.runner.int8 }, problems);
  const loadStaging = ledger.report().peak.staging;
  for (const buffer of others) ledger.add(buffer.category, bytesOf(buffer));

  problems.push(...cache.problems, ...runnerProblems(runner, limits.maxBinding));
  const { peak, ...memory } = ledger.report();
  const { perSequence, blockBytes, blockSize, blocks, recentBytes } = cache;
  const sequenceBytes = perSequence * blockBytes;
  const tokensOf = (all: number): number => Math.floor(all / (config.layers * config.kvHeads)) * blockSize;
  return {
    parameters: groups.reduce((sum, { parameters }) => sum + parameters, 0),
    sizes, groups, memory, peak, loadStaging, problems,
    kv: {
      tokenBytes: blockBytes / blockSize * config.layers * config.kvHeads, poolBytes: recentBytes + blocks * blockBytes, recentBytes,
      sequenceBytes, sequences: Math.floor(blocks / perSequence), batchBytes: recentBytes + sizes.maxSequences * sequenceBytes, mostBytes: recentBytes + cache.bindable * blockBytes,
      longest: Math.min(tokensOf(blocks), sizes.maxModelLen), mostTokens: tokensOf(cache.bindable),
    },
    onDemand: [
      { what: "penalties and biases", bytes: sum(Object.values(onDemand.adjust)) },
      { what: "log-probabilities", bytes: sum([onDemand.logprobs.out, ...onDemand.logprobs.staging]) },
      { what: "LLM.logits()", bytes: bytesOf(logits) },
    ],
  };
}

/** What the press that is loaded with the model works in; what it makes when it first acts is not known before. */
function ofPress(config: ModelConfig, { cache: { slots }, maxModelLen }: LoadSizes, { blocks, blockSize, tableBlocks }: CachePlan, rows: number, choice: LoadOptions["press"]): BufferShape[] {
  if (choice === undefined) return [];
  const { always, shown, captured, notes } = pressBuffers(config, needsOf(pressFrom(choice)), { slots, maxModelLen, tableBlocks, entries: blocks * blockSize, rows });
  return [...Object.values(always), ...Object.values(shown), ...Object.values(captured), notes].filter((buffer) => buffer !== null);
}

/** Weights one after the other, as they are loaded, then the norms that are folded into products. */
function loadWeights(
  ledger: Ledger, planned: PlannedModel, { requests, folds }: Declared, limits: DeviceLimits, options: PlanOptions & { readonly int8: boolean }, problems: string[],
): WeightGroup[] {
  const { int8 } = options;
  const made = new Map<WeightGroup["group"], { parameters: number; bytes: number; formats: Set<string> }>(
    WEIGHT_GROUPS.map((group) => [group, { parameters: 0, bytes: 0, formats: new Set() }]),
  );
  const add = (group: WeightGroup["group"], bytes: number): void => {
    ledger.add("weights", bufferBytes(bytes));
    made.get(group)!.bytes += bufferBytes(bytes);
  };
  const encoding = new EncodingStaging(ledger);
  for (const request of requests) {
    const group = groupOf(request.sources[0]!.name);
    const plan = planOf(request, options, planned.dtypeOf, planned.stored);
    const { codes, scales } = planBytes(request, plan);
    problems.push(...unloadable(request, plan, codes, limits));
    add(group, codes);
    if (plan.kind !== "float") add(group, scales);
    if (plan.kind === "encode") {
      for (const [section, { name }] of request.sources.entries()) {
        encoding.section(limits, plan.quantized, section, planned.dtypeOf?.(name) ?? options.defaultFormat);
      }
    }
    made.get(group)!.parameters += request.sources.reduce((total, { shape }) => total + numel(shape), 0);
    if (!isVector(request)) made.get(group)!.formats.add(plan.kind === "float" ? plan.format : plan.quantized.format);
  }
  encoding.close();
  for (let layer = 0; layer < planned.config.layers; layer++) {
    for (const sections of folds) {
      const bytes = 4 * sections.reduce((rows, section) => rows + section, 0);
      add("layers", bytes); // W·bias + bias; the bias alone where LLM.int8() takes what the norm gives
      if (int8) continue;
      add("layers", bytes); // W·gain
      passing(ledger, 2 * sections.length * bufferBytes(bytes));
    }
  }
  return WEIGHT_GROUPS.map((group) => ({ group, ...made.get(group)!, formats: [...made.get(group)!.formats] }));
}

/** Weights are cut by rows where they are more than a binding, but not where they are codes, and never into several buffers. */
function unloadable({ sources, quantizable }: Request, plan: WeightPlan, bytes: number, { maxBinding, maxBuffer }: DeviceLimits): string[] {
  const name = sources.map((source) => source.name).join(" + ");
  if (plan.kind !== "float" && bytes > maxBinding) {
    return [`${name} takes ${bytes} bytes in ${plan.quantized.format}, but this adapter binds at most ${maxBinding}: load it in floats, which are cut by rows`];
  }
  if (bytes <= maxBuffer) return [];
  const wide = plan.kind === "float" && plan.format === "f32";
  const advice = quantizable ? 'load with weights "nf4"' : wide ? 'load with weights "f16"' : "no weight format makes it smaller";
  return [`${name} takes ${bytes} bytes, more than one buffer can hold on this adapter (${maxBuffer}): ${advice}`];
}

/** What quantized_weights.ts takes of staging while it encodes: the floats of a chunk, and a counter for each matrix, to the end. */
class EncodingStaging {
  readonly #ledger: Ledger;
  #chunk = 0;
  #counters = 0;

  constructor(ledger: Ledger) { this.#ledger = ledger; }

  section(limits: DeviceLimits, quantized: Quantized, section: number, format: FloatFormat): void {
    const bytes = chunkBytes(limits, quantized, section, format);
    if (bytes > this.#chunk) {
      this.#ledger.remove("staging", this.#chunk);
      this.#ledger.add("staging", this.#chunk = bufferBytes(bytes));
    }
    this.#ledger.add("staging", COUNTER);
    this.#counters += COUNTER;
    const { rows, columns } = quantized.sections[section]!;
    const magnitudes = isDouble(quantized.format) ? bufferBytes(4 * Math.ceil(rows * columns / quantized.blockSize)) : 0;
    passing(this.#ledger, magnitudes + PIECE);
    passing(this.#ledger, 2 * magnitudes); // they are read back
  }

  close(): void {
    if (this.#counters > 0) passing(this.#ledger, COUNTER); // one after the other is read
    this.#ledger.remove("staging", this.#chunk + this.#counters);
  }
}

/** Bytes of a counter, and of the seven numbers that say where a piece goes. */
const COUNTER = bufferBytes(4), PIECE = bufferBytes(28);

/** Staging that is there for a moment only. */
function passing(ledger: Ledger, bytes: number): void {
  ledger.add("staging", bytes);
  ledger.remove("staging", bytes);
}

function groupOf(name: string): WeightGroup["group"] {
  return /\.layers\.\d+\./.test(name) ? "layers" : /\.embed_(?:in|tokens)\./.test(name) ? "embedding" : "head";
}

function bytesOf(buffer: BufferShape): number {
  return bufferBytes(byteLength(buffer));
}

function sum(buffers: readonly BufferShape[]): number {
  return buffers.reduce((total, buffer) => total + bytesOf(buffer), 0);
}

/** A footprint against the memory there is: what of it is missing, and what would make it fit. */
export interface Shortage {
  readonly neededBytes: number;
  readonly missingBytes: number;
  /** Bytes for keys and values with which everything else fits, when a sequence of full length still does; else null. */
  readonly kvMemory: number | null;
}

/** Null when the footprint fits `bytes`. */
export function shortage({ peak, memory, kv }: Footprint, bytes: number): Shortage | null {
  if (peak.total <= bytes) return null;
  const room = bytes - (memory.total - kv.poolBytes);
  const loads = peak.total === memory.total; // else it is loading that takes most, and a smaller cache changes nothing
  return { neededBytes: peak.total, missingBytes: peak.total - bytes, kvMemory: loads && room >= kv.recentBytes + kv.sequenceBytes ? room : null };
}
