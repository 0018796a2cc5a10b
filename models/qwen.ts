/**
 * Qwen2 (Yang et al. 2024) and Qwen3: RMSNorm, grouped-query attention with rotary embedding on whole heads, gated SiLU feed-forward.
 * Qwen2 has biases on q, k and v; Qwen3 has none but normalises queries and keys per head. C hidden, H query heads, G KV heads,
 * D head dimension, I intermediate, V vocabulary.
 */

import type { Gpu } from "../engine/gpu.ts";
import type { Recorder } from "../engine/recorder.ts";
import { reshape } from "../engine/tensor.ts";
import type { QkvLayout } from "../kernels/attention.ts";
import { linear } from "../kernels/linear.ts";
import { norm } from "../kernels/norm.ts";
import type { ModelConfig } from "./config.ts";
import { attend, type Model, type ModelShape, type Step } from "./step.ts";
import { loadWeights, type Declaration, type Loaded, type LoadWeightsOptions, type WeightSource } from "./weights.ts";

type QwenWeights = Loaded<ReturnType<typeof declareQwen>>;

export function declareQwen(w: Declaration, c: ModelConfig) {
  const { hiddenSize: C, intermediateSize: I, vocabSize: V, headDim: D } = c;
  const [queries, keys] = [c.heads * D, c.kvHeads * D];
  const embedTokens = w.table("model.embed_tokens.weight", [V, C]);
  return {
    embedTokens, // [V, C]
    layers: Array.from({ length: c.layers }, (_, i) => {
      const at = `model.layers.${i}`;
      const attn = `${at}.self_attn`;
      return {
        inputLayernorm: w.vector(`${at}.input_layernorm.weight`, C),
        qkv: w.stacked([ // [H·D + 2·G·D, C]
          { name: `${attn}.q_proj.weight`, rows: queries }, { name: `${attn}.k_proj.weight`, rows: keys }, { name: `${attn}.v_proj.weight`, rows: keys },
        ], C),
        qkvBias: c.qkvBias ? w.stackedVector([
          { name: `${attn}.q_proj.bias`, size: queries }, { name: `${attn}.k_proj.bias`, size: keys }, { name: `${attn}.v_proj.bias`, size: keys },
        ]) : undefined,
        headNorm: c.qkNorm ? w.stackedVector([{ name: `${attn}.q_norm.weight`, size: D }, { name: `${attn}.k_norm.weight`, size: D }]) : undefined, // [2·D]
        oProj: w.matrix(`${attn}.o_proj.weight`, [C, queries]),
        oProjBias: c.outputBias ? w.vector(`${attn}.o_proj.bias`, C) : undefined,
        postAttentionLayernorm: w.vector(`${at}.post_attention_layernorm.weight`, C),
        gateUp: w.gated(`${at}.mlp.gate_proj.weight`, `${at}.mlp.up_proj.weight`, [I, C]),
        downProj: w.matrix(`${at}.mlp.down_proj.weight`, [C, I]),
      };
    }),
    norm: w.vector("model.norm.weight", C),
    lmHead: c.tieEmbeddings ? embedTokens : w.table("lm_head.weight", [V, C]),
  };
}

export function shapeOfQwen({ heads, kvHeads, headDim: D, intermediateSize }: ModelConfig): ModelShape {
  return {
    qkv: {
      width: (heads + 2 * kvHeads) * D,
      q: { first: 0, step: D }, k: { first: heads * D, step: D }, v: { first: (heads + kvHeads) * D, step: D },
    },
    attendedColumns: heads * D, innerColumns: intermediateSize,
  };
}

export async function loadQwen(gpu: Gpu, config: ModelConfig, source: WeightSource, options: Omit<LoadWeightsOptions, "mayIgnore">): Promise<Model> {
  const weights = await loadWeights(gpu, source, (w) => declareQwen(w, config), {
    ...options, mayIgnore: config.tieEmbeddings ? ["lm_head.weight"] : [],
  });
  const { normEps: eps } = config;
  const shape = shapeOfQwen(config), { qkv } = shape;
  return {
    config, ...shape, embedding: weights.embedTokens, head: weights.lmHead,
    layers: (recorder, step) => { weights.layers.forEach((_, i) => { layer(recorder, config, weights, qkv, i, step); }); },
    finalNorm: (recorder, { activations: { x, normed }, batch }) => {
      norm(recorder, { x, weight: weights.norm, y: normed }, { kind: "rms", eps, sampledOf: batch });
    },
  };
}

function layer(recorder: Recorder, c: ModelConfig, weights: QwenWeights, layout: QkvLayout, index: number, step: Step): void {
  const w = weights.layers[index]!;
  const { rows, activations: { x, qkv, attended, inner, scratch } } = step;
  const { normEps: eps } = c;

  linear(recorder, { x, norm: { kind: "rms", gain: w.inputLayernorm, eps }, weight: w.qkv, bias: w.qkvBias, y: qkv, scratch }, { rows });
  attend(recorder, step, c, layout, index, w.headNorm && { weights: reshape(w.headNorm, [2, c.headDim]), eps });
  linear(recorder, { x: attended, weight: w.oProj, bias: w.oProjBias, y: x, scratch }, { rows, residual: true });
  linear(recorder, { x, norm: { kind: "rms", gain: w.postAttentionLayernorm, eps }, weight: w.gateUp, y: inner, scratch }, { rows });
  linear(recorder, { x: inner, weight: w.downProj, y: x, scratch }, { rows, residual: true });
}
