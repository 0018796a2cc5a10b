/**
 * GPT-NeoX (Black et al. 2022), the architecture of Pythia: LayerNorm, fused QKV interleaved per head, rotary embedding on the first
 * part of each head, GELU feed-forward, and attention and feed-forward in parallel (or one after the other when
 * `use_parallel_residual` is false). C hidden, H heads, D = C / H, I intermediate, V vocabulary.
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { QkvLayout } from "../kernels/attention.ts";
import { foldLayerNorm, linear, type NormedProduct, type Weight } from "../kernels/linear.ts";
import { norm } from "../kernels/norm.ts";
import type { ModelConfig } from "./config.ts";
import { attend, type Model, type Step } from "./step.ts";
import { loadWeights, type Declaration, type LoadWeightsOptions, type WeightSource } from "./weights.ts";

/** A layer with both norms folded into the products that follow them. */
interface FoldedLayer {
  readonly queryKeyValue: NormedProduct;
  readonly denseHTo4h: NormedProduct;
  readonly dense: Weight;
  readonly denseBias: Tensor | undefined;
  readonly dense4hToH: Weight;
  readonly dense4hToHBias: Tensor;
}

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
  const eps = config.normEps;
  const layers = await Promise.all(weights.layers.map(async (w) => ({
    queryKeyValue: await foldLayerNorm(gpu, { weight: w.queryKeyValue, bias: w.queryKeyValueBias, norm: w.inputLayernorm, eps }),
    denseHTo4h: await foldLayerNorm(gpu, { weight: w.denseHTo4h, bias: w.denseHTo4hBias, norm: w.postAttentionLayernorm, eps }),
    dense: w.dense, denseBias: w.denseBias, dense4hToH: w.dense4hToH, dense4hToHBias: w.dense4hToHBias,
  })));
  const { headDim: D } = config;
  const qkv: QkvLayout = {
    width: 3 * config.hiddenSize, q: { first: 0, step: 3 * D }, k: { first: D, step: 3 * D }, v: { first: 2 * D, step: 3 * D },
  };
  return {
    config, qkv, embedding: weights.embedIn, head: weights.embedOut,
    layers: (recorder, step) => { layers.forEach((w, i) => { layer(recorder, w, config, qkv, i, step); }); },
    finalNorm: (recorder, { activations: { x, normed }, batch }) => {
      norm(recorder, { x, ...weights.finalLayerNorm, y: normed }, { kind: "layer", eps, sampledOf: batch });
    },
  };
}

function layer(recorder: Recorder, w: FoldedLayer, c: ModelConfig, qkvLayout: QkvLayout, index: number, step: Step): void {
  const { rows, activations: { x, qkv, attended, inner } } = step;
  const feedForward = (): void => {
    linear(recorder, { x, ...w.denseHTo4h, y: inner }, { rows, activation: c.activation === "gelu" ? "gelu" : "gelu_tanh" });
  };

  linear(recorder, { x, ...w.queryKeyValue, y: qkv }, { rows });
  if (c.parallelResidual) feedForward(); // x + attention(norm₁ x) + mlp(norm₂ x): both branches read the same x
  attend(recorder, step, c, qkvLayout, index);
  linear(recorder, { x: attended, weight: w.dense, bias: w.denseBias, y: x }, { rows, residual: true });
  if (!c.parallelResidual) feedForward();
  linear(recorder, { x: inner, weight: w.dense4hToH, bias: w.dense4hToHBias, y: x }, { rows, residual: true });
}
