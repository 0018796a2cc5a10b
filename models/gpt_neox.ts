/**
 * GPT-NeoX (Black et al. 2022), the architecture of Pythia: LayerNorm, fused QKV interleaved per head, rotary embedding on the first
 * part of each head, GELU feed-forward, and attention and feed-forward in parallel (or one after the other when
 * `use_parallel_residual` is false). C hidden, H heads, D = C / H, I intermediate, V vocabulary.
 *
 * In parallel both branches read the same x and add to the same x, so a layer is three products' worth of calls: one makes qkv and the
 * inside of the feed-forward, attention runs, and one takes both branches back, since W_o a + W_d h = [W_o W_d] [a; h].
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import { reshape, type Tensor } from "../engine/tensor.ts";
import type { QkvLayout } from "../kernels/attention.ts";
import { foldLayerNorms, linear, SPLIT_STEP, type NormedProduct, type Weight } from "../kernels/linear.ts";
import { norm } from "../kernels/norm.ts";
import type { ModelConfig } from "./config.ts";
import { attend, type Model, type ModelShape, type Step } from "./step.ts";
import { loadWeights, type Declaration, type Loaded, type LoadWeightsOptions, type WeightSource } from "./weights.ts";

interface Product { readonly weight: Weight; readonly bias: Tensor | undefined }

/** A layer with its norms folded into the products behind them. */
type Layer =
  | { readonly parallel: true; readonly qkvUp: NormedProduct; readonly outDown: Product }
  | { readonly parallel: false; readonly qkv: NormedProduct; readonly up: NormedProduct; readonly out: Product; readonly down: Product };

/** Both branches share their calls where the outputs of the first product part between two workgroups; else they run one by one. */
function sharesCalls({ parallelResidual, hiddenSize }: ModelConfig): boolean {
  return parallelResidual && 3 * hiddenSize % SPLIT_STEP === 0;
}

export function declareGptNeox(w: Declaration, c: ModelConfig) {
  const { hiddenSize: C, vocabSize: V } = c;
  const embedIn = w.table("gpt_neox.embed_in.weight", [V, C]);
  return {
    embedIn, // [V, C]
    layers: Array.from({ length: c.layers }, (_, i) => (sharesCalls(c) ? declareShared(w, c, i) : declareApart(w, c, i))),
    finalLayerNorm: { weight: w.vector("gpt_neox.final_layer_norm.weight", C), bias: w.vector("gpt_neox.final_layer_norm.bias", C) },
    embedOut: c.tieEmbeddings ? embedIn : w.table("embed_out.weight", [V, C]),
  };
}

/** Hugging Face names within a layer. */
function namesOf(index: number) {
  const at = `gpt_neox.layers.${index}`;
  return {
    norm: `${at}.input_layernorm`, postNorm: `${at}.post_attention_layernorm`,
    qkv: `${at}.attention.query_key_value`, out: `${at}.attention.dense`, up: `${at}.mlp.dense_h_to_4h`, down: `${at}.mlp.dense_4h_to_h`,
  };
}

function declareShared(w: Declaration, c: ModelConfig, index: number) {
  const { hiddenSize: C, intermediateSize: I } = c;
  const { norm: first, postNorm, qkv, out, up, down } = namesOf(index);
  return {
    shared: true as const,
    gain: w.stackedVector([{ name: `${first}.weight`, size: C }, { name: `${postNorm}.weight`, size: C }]), // [2·C]
    normBias: w.stackedVector([{ name: `${first}.bias`, size: C }, { name: `${postNorm}.bias`, size: C }]), // [2·C]
    qkvUp: w.stacked([{ name: `${qkv}.weight`, rows: 3 * C }, { name: `${up}.weight`, rows: I }], C), // [3·C + I, C]; qkv rows: head, then q k v, then D
    qkvBias: c.qkvBias ? w.vector(`${qkv}.bias`, 3 * C) : undefined,
    upBias: w.vector(`${up}.bias`, I),
    outDown: w.beside([{ name: `${out}.weight`, columns: C }, { name: `${down}.weight`, columns: I }], C), // [C, C + I]
    outDownBias: w.summedVector(c.outputBias ? [`${out}.bias`, `${down}.bias`] : [`${down}.bias`], C),
  };
}

function declareApart(w: Declaration, c: ModelConfig, index: number) {
  const { hiddenSize: C, intermediateSize: I } = c;
  const { norm: first, postNorm, qkv, out, up, down } = namesOf(index);
  return {
    shared: false as const,
    norm: { gain: w.vector(`${first}.weight`, C), normBias: w.vector(`${first}.bias`, C) },
    postNorm: { gain: w.vector(`${postNorm}.weight`, C), normBias: w.vector(`${postNorm}.bias`, C) },
    qkv: w.matrix(`${qkv}.weight`, [3 * C, C]), // rows: head, then q k v, then D
    qkvBias: c.qkvBias ? w.vector(`${qkv}.bias`, 3 * C) : undefined,
    out: { weight: w.matrix(`${out}.weight`, [C, C]), bias: c.outputBias ? w.vector(`${out}.bias`, C) : undefined },
    up: w.matrix(`${up}.weight`, [I, C]),
    upBias: w.vector(`${up}.bias`, I),
    down: { weight: w.matrix(`${down}.weight`, [C, I]), bias: w.vector(`${down}.bias`, C) },
  };
}

type Declared = Loaded<ReturnType<typeof declareShared> | ReturnType<typeof declareApart>>;

async function fold(gpu: Gpu, w: Declared, { hiddenSize: C, intermediateSize: I, normEps: eps }: ModelConfig): Promise<Layer> {
  if (!w.shared) {
    return {
      parallel: false, out: w.out, down: w.down,
      qkv: await foldLayerNorms(gpu, w.qkv, { gain: w.norm.gain, bias: w.norm.normBias, eps }, [{ rows: 3 * C, ...w.norm, bias: w.qkvBias }]),
      up: await foldLayerNorms(gpu, w.up, { gain: w.postNorm.gain, bias: w.postNorm.normBias, eps }, [{ rows: I, ...w.postNorm, bias: w.upBias }]),
    };
  }
  const half = (tensor: Tensor, which: 0 | 1): Tensor => ({ ...tensor, offset: tensor.offset + which * C * 4, shape: [C] });
  const section = (which: 0 | 1) => ({ gain: half(w.gain, which), normBias: half(w.normBias, which) });
  return {
    parallel: true, outDown: { weight: w.outDown, bias: w.outDownBias },
    qkvUp: await foldLayerNorms(gpu, w.qkvUp, { gain: reshape(w.gain, [2, C]), bias: reshape(w.normBias, [2, C]), eps }, [
      { rows: 3 * C, ...section(0), bias: w.qkvBias }, { rows: I, ...section(1), bias: w.upBias },
    ]),
  };
}

export function shapeOfGptNeox(config: ModelConfig): ModelShape {
  const { hiddenSize: C, intermediateSize: I, headDim: D } = config;
  const shared = sharesCalls(config);
  return {
    qkv: { width: 3 * C, q: { first: 0, step: 3 * D }, k: { first: D, step: 3 * D }, v: { first: 2 * D, step: 3 * D } },
    attendedColumns: shared ? C + I : C, // a and h side by side, to be one product's input
    innerColumns: shared ? 0 : I,
  };
}

/** For each product of a layer that norms are folded into: the rows that read each of its norms. */
export function foldsOfGptNeox(config: ModelConfig): readonly (readonly number[])[] {
  const { hiddenSize: C, intermediateSize: I } = config;
  return sharesCalls(config) ? [[3 * C, I]] : [[3 * C], [I]];
}

export async function loadGptNeox(gpu: Gpu, config: ModelConfig, source: WeightSource, options: Omit<LoadWeightsOptions, "mayIgnore">): Promise<Model> {
  const weights = await loadWeights(gpu, source, (w) => declareGptNeox(w, config), {
    ...options, mayIgnore: config.tieEmbeddings ? ["embed_out.weight"] : [],
  });
  const layers: Layer[] = [];
  for (const layer of weights.layers) layers.push(await fold(gpu, layer, config));
  const { normEps: eps } = config;
  const shape = shapeOfGptNeox(config), { qkv } = shape;
  return {
    config, ...shape, embedding: weights.embedIn, head: weights.embedOut,
    layers: (recorder, step) => {
      layers.forEach((layer, i) => {
        if (layer.parallel) parallelLayer(recorder, layer, config, qkv, i, step);
        else sequentialLayer(recorder, layer, config, qkv, i, step);
      });
    },
    finalNorm: (recorder, { activations: { x, normed }, batch }) => {
      norm(recorder, { x, ...weights.finalLayerNorm, y: normed }, { kind: "layer", eps, sampledOf: batch });
    },
  };
}

/** x + attention(norm₁ x) + mlp(norm₂ x) */
function parallelLayer(recorder: Recorder, w: Layer & { parallel: true }, c: ModelConfig, layout: QkvLayout, index: number, step: Step): void {
  const { rows, activations: { x, qkv, attended, scratch } } = step;
  const { hiddenSize: C } = c;
  const second = { from: 3 * C, y: attended, first: C };
  linear(recorder, { x, ...w.qkvUp, y: qkv, second, scratch }, { rows, activation: activationOf(c), activationFrom: 3 * C });
  attend(recorder, step, c, layout, index);
  linear(recorder, { x: attended, ...w.outDown, y: x, scratch }, { rows, residual: true });
}

/** x + attention(norm₁ x), then mlp(norm₂ …) of that; or of the same x, when the residual is parallel. */
function sequentialLayer(recorder: Recorder, w: Layer & { parallel: false }, c: ModelConfig, layout: QkvLayout, index: number, step: Step): void {
  const { rows, activations: { x, qkv, attended, inner, scratch } } = step;
  const feedForward = (): void => { linear(recorder, { x, ...w.up, y: inner, scratch }, { rows, activation: activationOf(c) }); };

  linear(recorder, { x, ...w.qkv, y: qkv, scratch }, { rows });
  if (c.parallelResidual) feedForward();
  attend(recorder, step, c, layout, index);
  linear(recorder, { x: attended, ...w.out, y: x, scratch }, { rows, residual: true });
  if (!c.parallelResidual) feedForward();
  linear(recorder, { x: inner, ...w.down, y: x, scratch }, { rows, residual: true });
}

function activationOf({ activation }: ModelConfig): "gelu" | "gelu_tanh" {
  return activation === "gelu" ? "gelu" : "gelu_tanh";
}
