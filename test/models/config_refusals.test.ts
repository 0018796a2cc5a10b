/**
 * Every kind of config.json that is refused, with the line it must give (C9 of the fault matrix): the message is part of the interface, so
 * the whole of it is compared, and a file with one fault must give one line.
 */
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ModelFileError } from "../../engine/errors.ts";
import { parseConfig } from "../../models/config.ts";

const SIZES = { vocab_size: 96, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 128 };
const NEOX = { ...SIZES, model_type: "gpt_neox" };
const QWEN = { ...SIZES, model_type: "qwen2", num_key_value_heads: 2 };
const { hidden_size: _, ...NEOX_WITHOUT_HIDDEN } = NEOX;

/** What is wrong, and the whole message. */
const REFUSED: [name: string, config: unknown, message: string][] = [
  ["not an object", [1], "config.json: expected a JSON object, found [1]"],
  ["unknown architecture", { ...SIZES, model_type: "llama" }, 'model_type: expected one of gpt_neox, qwen2, qwen3, found "llama"'],
  ["no architecture", SIZES, "model_type: expected one of gpt_neox, qwen2, qwen3, found nothing"],
  ["not a language model", { ...QWEN, architectures: ["Qwen2ForSequenceClassification"] },
    'architectures: expected one of GPTNeoXForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, found ["Qwen2ForSequenceClassification"]'],
  ["unknown class alone", { ...SIZES, architectures: ["LlamaForCausalLM"] },
    'architectures: expected one of GPTNeoXForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, found ["LlamaForCausalLM"]'],
  ["two architectures", { ...QWEN, architectures: ["Qwen3ForCausalLM"] },
    'architectures: expected Qwen2ForCausalLM, as model_type says, found ["Qwen3ForCausalLM"]'],
  ["a missing size", NEOX_WITHOUT_HIDDEN,
    "hidden_size: expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 65536, found nothing"],
  ["a negative size", { ...NEOX, vocab_size: -96 }, "vocab_size: expected an integer from 1 to 16777216, found -96"],
  ["a zero size", { ...NEOX, num_attention_heads: 0 }, "num_attention_heads: expected an integer from 1 to 1024, found 0"],
  ["a million layers", { ...NEOX, num_hidden_layers: 1e6 }, "num_hidden_layers: expected an integer from 1 to 1024, found 1000000"],
  ["a fractional size", { ...NEOX, max_position_embeddings: 20.5 },
    "max_position_embeddings: expected an integer from 1 to 16777216, found 20.5"],
  ["a size as text", { ...NEOX, num_hidden_layers: "2" }, 'num_hidden_layers: expected an integer from 1 to 1024, found "2"'],
  ["hidden_size not a multiple of 8", { ...NEOX, hidden_size: 100 },
    "hidden_size: expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 65536, found 100"],
  ["intermediate_size not a multiple of 8", { ...NEOX, intermediate_size: 129 },
    "intermediate_size: expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 1048576, found 129"],
  ["heads do not divide hidden_size", { ...NEOX, num_attention_heads: 3 },
    "hidden_size: expected a multiple of num_attention_heads (3), found 64"],
  ["head_dim not a multiple of 8, derived", { ...NEOX, num_attention_heads: 16 },
    "head_dim (hidden_size / num_attention_heads): expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 512, found 4"],
  ["head_dim not a multiple of 8, stated", { ...QWEN, model_type: "qwen3", head_dim: 12 },
    "head_dim: expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 512, found 12"],
  ["KV heads do not divide heads", { ...QWEN, num_key_value_heads: 3 },
    "num_key_value_heads: expected a divisor of num_attention_heads (4); when absent, it is 32, found 3"],
  ["KV heads absent and 32 do not fit", { ...SIZES, model_type: "qwen2" },
    "num_key_value_heads: expected a divisor of num_attention_heads (4); when absent, it is 32, found 32"],
  ["norm epsilon", { ...QWEN, rms_norm_eps: 0 }, "rms_norm_eps: expected a number above 0, at most 1, found 0"],
  ["activation", { ...NEOX, hidden_act: "relu" },
    'hidden_act: expected one of gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh, found "relu"'],
  ["activation of the other family", { ...QWEN, hidden_act: "gelu" }, 'hidden_act: expected one of silu, swish, found "gelu"'],
  ["activation named like a method", { ...QWEN, hidden_act: "toString" }, 'hidden_act: expected one of silu, swish, found "toString"'],
  ["activation in a list", { ...NEOX, hidden_act: ["gelu"] },
    'hidden_act: expected one of gelu, gelu_python, gelu_new, gelu_fast, gelu_pytorch_tanh, found ["gelu"]'],
  ["a flag as text", { ...NEOX, use_parallel_residual: "no" }, 'use_parallel_residual: expected true or false, found "no"'],
  ["tie flag null", { ...NEOX, tie_word_embeddings: null }, "tie_word_embeddings: expected true or false, found null"],
  ["RoPE type, old", { ...QWEN, rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 32768 } },
    'rope_scaling.type: expected "default" (plain RoPE, the only type supported), found "yarn"'],
  ["RoPE type, new", { ...QWEN, rope_parameters: { rope_type: "llama3", rope_theta: 10000, factor: 8 } },
    'rope_parameters.rope_type: expected "default" (plain RoPE, the only type supported), found "llama3"'],
  ["RoPE factor without a type", { ...QWEN, rope_parameters: { rope_theta: 10000, factor: 2 } },
    "rope_parameters.factor: expected only rope_type, rope_theta and partial_rotary_factor, found 2"],
  ["RoPE per layer type", { ...QWEN, rope_parameters: { full_attention: { rope_theta: 10000 } } },
    'rope_parameters.full_attention: expected only rope_type, rope_theta and partial_rotary_factor, found {"rope_theta":10000}'],
  ["RoPE parameters as text", { ...QWEN, rope_parameters: "default" }, 'rope_parameters: expected null or an object, found "default"'],
  ["spellings of theta disagree", { ...QWEN, rope_parameters: { rope_theta: 10000 }, rope_theta: 1e6 },
    "rope_theta: expected 10000, as rope_parameters.rope_theta says, found 1000000"],
  ["spellings of the rotary part disagree", { ...NEOX, rope_parameters: { partial_rotary_factor: 0.5 }, rotary_pct: 0.25 },
    "rotary_pct: expected 0.5, as rope_parameters.partial_rotary_factor says, found 0.25"],
  ["spellings of the RoPE type disagree", { ...NEOX, rope_scaling: { rope_type: "default", type: "linear" } },
    'rope_scaling.type: expected "default", as rope_scaling.rope_type says, found "linear"'],
  ["spellings of dtype disagree", { ...NEOX, dtype: "float16", torch_dtype: "bfloat16" },
    'torch_dtype: expected "float16", as dtype says, found "bfloat16"'],
  ["theta", { ...QWEN, rope_theta: -1 }, "rope_theta: expected a number above 0, at most 1000000000000, found -1"],
  ["odd rotary dims", { ...NEOX, rotary_pct: 0.2 },
    'rotary_pct: expected a part of head_dim (16) that is an even number of dims, at least 2, found "0.2: 3 dims"'],
  ["no rotary dims", { ...NEOX, rotary_pct: 0.01 },
    'rotary_pct: expected a part of head_dim (16) that is an even number of dims, at least 2, found "0.01: 0 dims"'],
  ["more than a head", { ...NEOX, rotary_pct: 1.5 }, "rotary_pct: expected a number above 0, at most 1, found 1.5"],
  ["part of a Qwen head", { ...QWEN, partial_rotary_factor: 0.5 },
    "partial_rotary_factor: expected 1 (this architecture rotates whole heads), found 0.5"],
  ["sliding window", { ...QWEN, use_sliding_window: true, sliding_window: 16, max_window_layers: 1 },
    "use_sliding_window: expected false, or max_window_layers of at least 2 (sliding windows are not supported), found true"],
  ["sliding layer", { ...QWEN, layer_types: ["full_attention", "sliding_attention"] },
    'layer_types: expected "full_attention" in every layer, found "sliding_attention"'],
  ["layer types of another depth", { ...QWEN, layer_types: ["full_attention"] },
    "layer_types: expected 2 entries (num_hidden_layers), found 1"],
  ["multimodal RoPE", { ...QWEN, use_mrope: true }, "use_mrope: expected false (multimodal RoPE is not supported), found true"],
  ["quantized in a way that we do not read", { ...QWEN, quantization_config: { quant_method: "fp8" } },
    "quantization_config.quant_method: expected bitsandbytes, gptq or awq (take a checkpoint that was quantized so, or the original one), "
      + 'found "fp8"'],
  ["end-of-text id outside the vocabulary", { ...QWEN, eos_token_id: [5, 96] },
    "eos_token_id: expected an integer from 0 to 95, found 96"],
];

for (const [name, config, message] of REFUSED) {
  test(`refuses: ${name}`, () => {
    const whole = message.startsWith("config.json") ? message : `config.json: ${message}`;
    assert.is(problemsOf(() => parseConfig(config, "config.json")), whole);
  });
}

test("reports all problems of a checkpoint at once, each once", () => {
  const config = { ...NEOX, vocab_size: 0, hidden_size: "wide", num_attention_heads: null, rotary_pct: 2, eos_token_id: -1 };
  assert.equal(problemsOf(() => parseConfig(config, "m/config.json", { bos_token_id: "x" })).split("\n"), [
    "m/config.json: vocab_size: expected an integer from 1 to 16777216, found 0",
    'm/config.json: hidden_size: expected a multiple of 8 (kernels load 8 weights at a time) from 8 to 65536, found "wide"',
    "m/config.json: num_attention_heads: expected an integer from 1 to 1024, found null",
    "m/config.json: rotary_pct: expected a number above 0, at most 1, found 2",
    `${join("m", "generation_config.json")}: bos_token_id: expected an integer from 0 to 16777215, found "x"`,
    "m/config.json: eos_token_id: expected an integer from 0 to 16777215, found -1",
  ]);
});

function problemsOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.instance(error, ModelFileError);
    return (error as Error).message;
  }
  assert.unreachable("accepted");
  return "";
}

test.run();
