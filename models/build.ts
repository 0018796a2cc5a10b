/** Puts a model together: its weights, cache, runner and draft on the GPU, in the order they are needed, and the loop that generates. */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Checkpoint } from "../engine/checkpoint.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { ResolvedModel } from "../engine/hub.ts";
import { noTokenizer } from "../engine/no_tokenizer.ts";
import type { Tensor } from "../engine/tensor.ts";
import { gptTokenizer, loadTokenizer, type Tokenizer } from "../engine/tokenizer.ts";
import { askedShapes } from "../kernels/linear_variants.ts";
import { loadTuning, tune } from "../kernels/tune.ts";
import type { Weight } from "../kernels/weights.ts";
import { BlockTables } from "./block_tables.ts";
import type { ModelConfig } from "./config.ts";
import { loadDraft, type PlannedDraft } from "./draft_model.ts";
import { Generator } from "./generator.ts";
import { KvCache } from "./kv_cache.ts";
import { loadModel } from "./model.ts";
import type { LoadOptions } from "./options.ts";
import { PrefixCache } from "./prefix_cache.ts";
import { pressFrom, type Press } from "./press.ts";
import { Presser } from "./presser.ts";
import { Runner } from "./runner.ts";
import type { LoadSizes } from "./sizes.ts";
import { sourceOf } from "./source.ts";
import { Speculator } from "./speculator.ts";
import type { Model } from "./step.ts";
import type { HeldWeights } from "./weights.ts";

/** Where a model's weights came from. */
export interface ModelSource {
  readonly id: string;
  /** Commit of a hub model; null for a folder and for random weights. */
  readonly revision: string | null;
  /** Seeded random weights of a true architecture: good for speed and memory, meaningless for quality. */
  readonly random: boolean;
  /** SHA-256 over headers and sizes of the checkpoint's files, or over config and seed of random weights. */
  readonly fingerprint: string;
}

/** More than the last-level cache of any GPU of today has per die. */
const TUNING_CACHE_BYTES = 64 << 20;

export interface Parts {
  gpu: Gpu; model: Model; cache: KvCache; prefix: PrefixCache | null; runner: Runner; presser: Presser; press: Press | null; speculator: Speculator | null; drafted: PlannedDraft | null; generator: Generator; tokenizer: Tokenizer;
  source: ModelSource; held: readonly HeldWeights[]; maxModelLen: number; notes: readonly string[]; loadTimings: { weightsMs: number; pipelinesMs: number };
}

export async function tokenizerOf(resolved: ResolvedModel, config: ModelConfig): Promise<Tokenizer> {
  if (resolved.kind === "random") return gptTokenizer(config.vocabSize);
  return existsSync(join(resolved.folder, "tokenizer.json")) ? loadTokenizer(resolved.folder) : noTokenizer(resolved.folder, config.vocabSize);
}

/** Everything that lives on the GPU, in the order it is needed. */
export async function build(
  gpu: Gpu, resolved: ResolvedModel, config: ModelConfig, checkpoint: Checkpoint | null, tokenizer: Tokenizer, sizes: LoadSizes, drafted: PlannedDraft | null,
  options: LoadOptions,
): Promise<Parts> {
  const { onProgress } = options;
  const started = performance.now();
  const tuning = gpu.adapter.software || process.env["DAWNLM_TUNING"] === "off" ? { note: null } : await loadTuning(gpu);
  const seed = options.seed ?? 0;
  const shared = new Map<string, Weight | Tensor>();
  const held: HeldWeights[] = [];
  const model = await loadModel(gpu, config, await sourceOf(checkpoint, config, sizes, seed), {
    onHeld: (weights) => { held.push(weights); },
    ...sizes.weights, ...(drafted?.info.kind === "self" && { shared }),
    ...(onProgress && { onProgress: (label, loaded, total) => { onProgress({ stage: "weights", label, loaded, total }); } }),
  });
  const weightsMs = performance.now() - started;

  const { maxModelLen, maxSequences, prefillChunk } = sizes;
  const cache = await KvCache.create(gpu, sizes.cache);
  const prefix = options.prefixCache !== false && cache.tables instanceof BlockTables ? new PrefixCache(cache.tables.pool, cache.tables.blockSize) : null;
  const runner = await Runner.create(gpu, model, cache, sizes.runner);
  const presser = new Presser(gpu, config, cache, runner, { slots: sizes.cache.slots, maxModelLen });
  const press = options.press === undefined ? null : pressFrom(options.press);
  if (press !== null) {
    presser.check(press);
    await presser.provide(press);
  }
  onProgress?.({ stage: "pipelines", label: "pipelines", loaded: 0, total: 1 });
  await runner.prepare();
  if (options.tune !== undefined) {
    const { onReport, ...limits } = options.tune;
    // A model smaller than the cache stays in it.
    const cacheBytes = Math.min(TUNING_CACHE_BYTES, gpu.ledger.report().weights / 2);
    const report = await tune(gpu, askedShapes(gpu), { ...limits, cacheBytes });
    onReport?.(report);
    runner.forget();
    await runner.prepare();
  }
  let speculator: Speculator | null = null;
  if (drafted !== null) {
    const draft = await loadDraft(gpu, drafted, checkpoint, options, shared);
    speculator = await Speculator.create(gpu, { cache, runner }, draft, config.vocabSize);
  }
  onProgress?.({ stage: "pipelines", label: "pipelines", loaded: 1, total: 1 });

  const fingerprint = checkpoint === null
    ? createHash("sha256").update(JSON.stringify([resolved.id, config, seed])).digest("hex")
    : await checkpoint.fingerprint();
  return {
    gpu, model, held, cache, prefix, runner, presser, press, speculator, drafted, tokenizer, maxModelLen, notes: [...sizes.notes, ...checkpoint?.notes ?? [], ...(tuning.note === null ? [] : [tuning.note])],
    generator: new Generator(gpu, cache, runner, presser, { prefix, speculator, maxSequences, prefillChunk, maxModelLen, vocabSize: config.vocabSize }),
    source: { id: resolved.id, revision: resolved.kind === "folder" ? resolved.revision : null, random: resolved.kind === "random", fingerprint },
    loadTimings: { weightsMs, pipelinesMs: performance.now() - started - weightsMs },
  };
}
