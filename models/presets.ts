/**
 * The published config.json of the models that `random:NAME` can build: the true architecture at its true size, with seeded random
 * weights, so that speed and memory can be measured without a download. Written in the spelling of the published files (the older one:
 * rotary_pct, rope_theta, torch_dtype), so they pass through the same reader as a checkpoint; only transformers_version is left out.
 * Sources: huggingface.co/{EleutherAI/pythia-*, Qwen/Qwen2.5-*, deepseek-ai/DeepSeek-R1-Distill-Qwen-*, Qwen/Qwen3-*}/config.json.
 */

import { UsageError } from "../engine/errors.ts";
import { nearest } from "../engine/nearest.ts";

/** A config.json as parsed: keys and values in Hugging Face spelling. */
export type PresetConfig = { [key: string]: unknown };

/**
 * Biderman et al. 2023. The vocabulary is padded for tensor parallel training, so it grows with the model; the files of 14m and 31m give
 * a shorter context than the others.
 */
function pythia(hidden: number, layers: number, heads: number, vocab = 50304, context = 2048): PresetConfig {
  return {
    architectures: ["GPTNeoXForCausalLM"], model_type: "gpt_neox", torch_dtype: "float16",
    bos_token_id: 0, eos_token_id: 0, vocab_size: vocab, max_position_embeddings: context,
    hidden_size: hidden, intermediate_size: 4 * hidden, num_hidden_layers: layers, num_attention_heads: heads,
    hidden_act: "gelu", layer_norm_eps: 1e-5, initializer_range: 0.02,
    rotary_pct: 0.25, rotary_emb_base: 10000, use_parallel_residual: true, tie_word_embeddings: false, use_cache: true,
  };
}

interface QwenSize {
  hidden: number; mlp: number; layers: number; heads: number; kvHeads: number;
  vocab?: number; tied: boolean; context: number; theta?: number; window?: number; maxWindowLayers?: number;
}

function qwen2(size: QwenSize): PresetConfig {
  return {
    architectures: ["Qwen2ForCausalLM"], model_type: "qwen2", torch_dtype: "bfloat16",
    bos_token_id: 151643, eos_token_id: 151643, vocab_size: size.vocab ?? 151936, max_position_embeddings: size.context,
    hidden_size: size.hidden, intermediate_size: size.mlp, num_hidden_layers: size.layers,
    num_attention_heads: size.heads, num_key_value_heads: size.kvHeads,
    hidden_act: "silu", rms_norm_eps: 1e-6, initializer_range: 0.02, attention_dropout: 0,
    rope_theta: size.theta ?? 1000000, tie_word_embeddings: size.tied,
    sliding_window: size.window ?? size.context, use_sliding_window: false, max_window_layers: size.maxWindowLayers ?? size.layers,
    use_mrope: false, use_cache: true,
  };
}

function qwen3(size: QwenSize): PresetConfig {
  return {
    architectures: ["Qwen3ForCausalLM"], model_type: "qwen3", torch_dtype: "bfloat16",
    bos_token_id: 151643, eos_token_id: 151645, vocab_size: 151936, max_position_embeddings: size.context,
    hidden_size: size.hidden, intermediate_size: size.mlp, num_hidden_layers: size.layers,
    num_attention_heads: size.heads, num_key_value_heads: size.kvHeads, head_dim: 128,
    hidden_act: "silu", rms_norm_eps: 1e-6, initializer_range: 0.02, attention_dropout: 0, attention_bias: false,
    rope_theta: 1000000, rope_scaling: null, tie_word_embeddings: size.tied,
    sliding_window: null, use_sliding_window: false, max_window_layers: size.layers, use_cache: true,
  };
}

const presets: ReadonlyMap<string, PresetConfig> = new Map([
  ["pythia-14m", pythia(128, 6, 4, 50304, 512)],
  ["pythia-31m", pythia(256, 6, 8, 50304, 1024)],
  ["pythia-70m", pythia(512, 6, 8)],
  ["pythia-160m", pythia(768, 12, 12)],
  ["pythia-410m", pythia(1024, 24, 16)],
  ["pythia-1b", pythia(2048, 16, 8)],
  ["pythia-1.4b", pythia(2048, 24, 16)],
  ["pythia-2.8b", pythia(2560, 32, 32)],
  ["pythia-6.9b", pythia(4096, 32, 32, 50432)],
  ["pythia-12b", pythia(5120, 36, 40, 50688)],
  ["qwen2.5-0.5b", qwen2({ hidden: 896, mlp: 4864, layers: 24, heads: 14, kvHeads: 2, tied: true, context: 32768 })],
  ["qwen2.5-1.5b", qwen2({ hidden: 1536, mlp: 8960, layers: 28, heads: 12, kvHeads: 2, tied: true, context: 131072 })],
  ["qwen2.5-3b", qwen2({ hidden: 2048, mlp: 11008, layers: 36, heads: 16, kvHeads: 2, tied: true, context: 32768 })],
  ["qwen2.5-7b", qwen2({
    hidden: 3584, mlp: 18944, layers: 28, heads: 28, kvHeads: 4, vocab: 152064, tied: false, context: 131072,
  })],
  ["deepseek-r1-distill-qwen-1.5b", qwen2({
    hidden: 1536, mlp: 8960, layers: 28, heads: 12, kvHeads: 2, tied: false, context: 131072,
    theta: 10000, window: 4096, maxWindowLayers: 21,
  })],
  ["deepseek-r1-distill-qwen-7b", qwen2({
    hidden: 3584, mlp: 18944, layers: 28, heads: 28, kvHeads: 4, vocab: 152064, tied: false, context: 131072,
    theta: 10000, window: 4096,
  })],
  ["qwen3-0.6b", qwen3({ hidden: 1024, mlp: 3072, layers: 28, heads: 16, kvHeads: 8, tied: true, context: 40960 })],
  ["qwen3-1.7b", qwen3({ hidden: 2048, mlp: 6144, layers: 28, heads: 16, kvHeads: 8, tied: true, context: 40960 })],
  ["qwen3-4b", qwen3({ hidden: 2560, mlp: 9728, layers: 36, heads: 32, kvHeads: 8, tied: true, context: 40960 })],
  ["qwen3-8b", qwen3({ hidden: 4096, mlp: 12288, layers: 36, heads: 32, kvHeads: 8, tied: false, context: 40960 })],
]);

/** Every NAME that `random:NAME` knows. */
export const presetNames: readonly string[] = [...presets.keys()];

/** The published config of one model as a fresh object. Throws UsageError with the nearest names for an unknown one. */
export function presetConfig(name: string): PresetConfig {
  const config = presets.get(name.toLowerCase());
  if (config !== undefined) return structuredClone(config);
  const close = nearest(name, presetNames, 3);
  const hint = close.length > 0 ? `did you mean ${close.join(" or ")}? Known: ` : "known: ";
  throw new UsageError(`random:${name} is not a model we have the architecture of; ${hint}${presetNames.join(", ")}`);
}
