/**
 * GPT-NeoX (Black et al. 2022), the architecture of Pythia: LayerNorm, fused QKV interleaved per head, rotary embedding on the first
 * part of each head, GELU feed-forward, and attention and feed-forward in parallel (or one after the other when
 * `use_parallel_residual` is false). C hidden, H heads, D = C / H, I intermediate, V vocabulary.
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { append, attention, type QkvLayout } from "../kernels/attention.ts";
import { linear } from "../kernels/linear.ts";
import { norm } from "../kernels/norm.ts";
import type { ModelConfig } from "./config.ts";
import type { Model, Step } from "./model.ts";
import { loadWeights, type Declaration, type Loaded, type LoadWeightsOptions, type WeightSource } from "./weights.ts";

type GptNeoxWeights = Loaded<ReturnType<typeof declare>>;

function declare(w: Declaration, c: ModelConfig) {
  const { hiddenSize: C, intermediateSize: I, vocabSize: V } = c;
  const layerNorm = (name: string) => ({ weight: w.vector(`${name}.weight`, C), bias: w.vector(`${name}.bias`, C) });
  const embedIn = w.matrix("gpt_neox.embed_in.weight", [V, C]);
  return {
    embedIn, // [V, C]
    layers: Array.from({ length: c.layers }, (_, i) => {
      const at = `gpt_neox.layers.${i}`;
      return {
        inputLayernorm: layerNorm(`${at}.input_layernorm`),
        postAttentionLayernorm: layerNorm(`${at}.post_attention_layernorm`),
        queryKeyValue: w.matrix(`${at}.attention.query_key_value.weight`, [3 * C, C]), // rows: head, then q k v, then D
        queryKeyValueBias: c.qkvBias ? w.vector(`${at}.attention.query_key_value.bias`, 3 * C) : undefined,
        dense: w.matrix(`${at}.attention.dense.weight`, [C, C]),
        denseBias: c.outputBias ? w.vector(`${at}.attention.dense.bias`, C) : undefined,
        denseHTo4h: w.matrix(`${at}.mlp.dense_h_to_4h.weight`, [I, C]),
        denseHTo4hBias: w.vector(`${at}.mlp.dense_h_to_4h.bias`, I),
        dense4hToH: w.matrix(`${at}.mlp.dense_4h_to_h.weight`, [C, I]),
        dense4hToHBias: w.vector(`${at}.mlp.dense_4h_to_h.bias`, C),
      };
    }),
    finalLayerNorm: layerNorm("gpt_neox.final_layer_norm"),
    embedOut: c.tieEmbeddings ? embedIn : w.matrix("embed_out.weight", [V, C]),
  };
}

export async function loadGptNeox(gpu: Gpu, config: ModelConfig, source: WeightSource, options: Omit<LoadWeightsOptions, "mayIgnore">): Promise<Model> {
  const weights = await loadWeights(gpu, source, (w) => declare(w, config), {
    ...options, mayIgnore: config.tieEmbeddings ? ["embed_out.weight"] : [],
  });
  const { headDim: D } = config;
  const qkv: QkvLayout = {
    width: 3 * config.hiddenSize, q: { first: 0, step: 3 * D }, k: { first: D, step: 3 * D }, v: { first: 2 * D, step: 3 * D },
  };
  return {
    config, qkv, embedding: weights.embedIn, head: weights.embedOut,
    layers: (recorder, step) => { weights.layers.forEach((_, i) => { layer(recorder, config, weights, qkv, i, step); }); },
    finalNorm: (recorder, { activations: { x, normed }, batch }) => {
      norm(recorder, { x, ...weights.finalLayerNorm, y: normed }, { kind: "layer", eps: config.normEps, sampledOf: batch });
    },
  };
}

function layer(recorder: Recorder, c: ModelConfig, weights: GptNeoxWeights, qkvLayout: QkvLayout, index: number, step: Step): void {
  const w = weights.layers[index]!;
  const { rows, activations: { x, normed, qkv, inner } } = step;
  const feedForward = (): void => {
    layerNorm(w.postAttentionLayernorm);
    linear(recorder, { x: normed, weight: w.denseHTo4h, bias: w.denseHTo4hBias, y: inner }, { rows, activation: c.activation === "gelu" ? "gelu" : "gelu_tanh" });
  };
  const layerNorm = (weight: { weight: Tensor; bias: Tensor }): void => {
    norm(recorder, { x, ...weight, y: normed }, { kind: "layer", eps: c.normEps });
  };

  layerNorm(w.inputLayernorm);
  linear(recorder, { x: normed, weight: w.queryKeyValue, ...bias(w.queryKeyValueBias), y: qkv }, { rows });
  if (c.parallelResidual) feedForward(); // x + attention(norm₁ x) + mlp(norm₂ x): both branches read the same x
  attend(recorder, c, qkvLayout, index, step);
  linear(recorder, { x: step.activations.attended, weight: w.dense, ...bias(w.denseBias), y: x }, { rows, residual: true });
  if (!c.parallelResidual) feedForward();
  linear(recorder, { x: inner, weight: w.dense4hToH, bias: w.dense4hToHBias, y: x }, { rows, residual: true });
}

function attend(recorder: Recorder, c: ModelConfig, layout: QkvLayout, index: number, step: Step): void {
  const { view, batch, cosSin, tileRows, activations: { qkv, q, attended } } = step;
  append(recorder, { qkv, q, cosSin, view, batch }, c, layout, index);
  attention(recorder, { q, out: attended, view, batch }, c, index, tileRows);
}

function bias(tensor: Tensor | undefined): { bias?: Tensor } {
  return tensor === undefined ? {} : { bias: tensor };
}
