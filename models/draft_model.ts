/** Loads what LoadOptions.draft names: another model of the same tokenizer beside the target, the target's own weights in another format, or nothing but a function of the text. */

import { Checkpoint } from "../engine/checkpoint.ts";
import { ContextLengthError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { ResolvedModel } from "../engine/hub.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import { MAX_DRAFTED } from "../kernels/accept.ts";
import { kvEncodings } from "../kernels/kv_formats.ts";
import type { Weight } from "../kernels/weights.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { draftKinds, type DraftOptions, type TextDraft } from "./draft.ts";
import { KvCache } from "./kv_cache.ts";
import { loadModel } from "./model.ts";
import type { LoadOptions } from "./options.ts";
import { checkSameVocabulary } from "./perplexity.ts";
import { Runner } from "./runner.ts";
import { sizesOf, type LoadSizes } from "./sizes.ts";
import { configOf, resolve, sourceOf } from "./source.ts";
import type { Running } from "./drafter.ts";

/** The draft that was loaded: a model, a text draft such as prompt lookup, or the model itself in another format; `k` as it was asked for. */
export interface DraftInfo { readonly name: string; readonly kind: "model" | "text" | "self"; readonly k: number | "adaptive" }

/** What is known of a draft before anything is on the GPU. */
export interface PlannedDraft {
  readonly info: DraftInfo;
  readonly text: (() => TextDraft) | null;
  /** Null of a text draft. */
  readonly model: { readonly resolved: ResolvedModel; readonly config: ModelConfig; readonly sizes: LoadSizes } | null;
}

interface Target { readonly resolved: ResolvedModel; readonly config: ModelConfig; readonly tokenizer: Tokenizer; readonly sizes: LoadSizes; readonly name: string }

/** Throws UsageError for a draft that does not fit the target, and ContextLengthError for one that was made for shorter texts. */
export async function planDraft(
  asked: DraftOptions, target: Target, options: LoadOptions, tokenizerOf: (resolved: ResolvedModel, config: ModelConfig) => Promise<Tokenizer>,
): Promise<PlannedDraft> {
  const kinds = draftKinds(), draft = kinds.check(asked), text = kinds.text(draft);
  if (kvEncodings(target.sizes.cache.format, target.config.headDim).k.format === "kivi4") {
    throw new UsageError("draft: kivi4 quantizes keys when their block is full, and keys of tokens that are not accepted cannot be taken out again: take another kv format for keys");
  }
  const info = { name: draft.model, k: draft.k };
  if (text !== null) return { info: { ...info, kind: "text" }, text, model: null };
  const weights = kinds.selfFormat(draft);
  const { kvMemory: _own, press: _press, quantizationConfig: _keys, draft: _draft, ...shared } = options;
  const maxModelLen = target.sizes.maxModelLen;
  if (weights !== null) {
    const sizes = sizesOf(target.config, { ...shared, weights, maxModelLen }, draft.model);
    return { info: { ...info, kind: "self" }, text: null, model: { resolved: target.resolved, config: target.config, sizes } };
  }
  const { onProgress } = options;
  const resolved = await resolve(draft.model, { ...(onProgress && { onProgress }) }), config = await configOf(resolved);
  if (config.maxPositions < maxModelLen) {
    throw new ContextLengthError(`draft: ${draft.model} was made for at most ${config.maxPositions} positions, but maxModelLen is ${maxModelLen}: load with maxModelLen ${config.maxPositions} or less`);
  }
  const { weights: _target, ...rest } = shared;
  const sizes = sizesOf(config, { ...rest, ...(draft.weights !== undefined && { weights: draft.weights }), maxModelLen }, draft.model);
  await checkSameVocabulary("draft", { config, tokenizer: await tokenizerOf(resolved, config), source: { id: draft.model } }, {
    config: target.config, tokenizer: target.tokenizer, source: { id: target.name },
  });
  return { info: { ...info, kind: "model" }, text: null, model: { resolved, config, sizes } };
}

/** The draft on the GPU, beside its target. `shared`: what the target holds in floats, which its own weights in another format share. */
export async function loadDraft(
  gpu: Gpu, { info, model }: PlannedDraft, targetCheckpoint: Checkpoint | null, options: LoadOptions, shared: Map<string, Weight | Tensor>,
): Promise<Running | null> {
  if (model === null) return null;
  const { resolved, config, sizes } = model;
  const own = info.kind === "self" ? targetCheckpoint : resolved.kind === "folder" ? await Checkpoint.open(resolved.folder) : null;
  try {
    const loaded = await loadModel(gpu, config, await sourceOf(own, config, sizes, options.seed ?? 0), { ...sizes.weights, ...(info.kind === "self" && { shared }) });
    const cache = await KvCache.create(gpu, sizes.cache);
    const runner = await Runner.create(gpu, loaded, cache, { ...sizes.runner, ring: MAX_DRAFTED });
    await runner.prepare();
    return { cache, runner };
  } finally {
    if (own !== targetCheckpoint) await own?.close();
  }
}
