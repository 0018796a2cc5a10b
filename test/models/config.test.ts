/**
 * config.json to ModelConfig: published files in both spellings, the defaults of transformers, reading from a folder. What is refused, and
 * in which words, stands in config_refusals.test.ts.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ModelFileError } from "../../engine/errors.ts";
import { parseConfig, readConfig } from "../../models/config.ts";
import type { ModelConfig } from "../../models/config.ts";
import { goldenVariants } from "../support/goldens.ts";

type Fields = Record<string, unknown>;

// --- published files ---------------------------------------------------------------------------------------------------------------

const PYTHIA_2_8B = {
  architectures: ["GPTNeoXForCausalLM"], bos_token_id: 0, eos_token_id: 0, hidden_act: "gelu", hidden_size: 2560,
  initializer_range: 0.02, intermediate_size: 10240, layer_norm_eps: 1e-5, max_position_embeddings: 2048, model_type: "gpt_neox",
  num_attention_heads: 32, num_hidden_layers: 32, rotary_emb_base: 10000, rotary_pct: 0.25, tie_word_embeddings: false,
  torch_dtype: "float16", transformers_version: "4.24.0", use_cache: true, use_parallel_residual: true, vocab_size: 50304,
};
const QWEN25_1_5B_INSTRUCT = {
  architectures: ["Qwen2ForCausalLM"], attention_dropout: 0, bos_token_id: 151643, eos_token_id: 151645, hidden_act: "silu",
  hidden_size: 1536, initializer_range: 0.02, intermediate_size: 8960, max_position_embeddings: 32768, max_window_layers: 21,
  model_type: "qwen2", num_attention_heads: 12, num_hidden_layers: 28, num_key_value_heads: 2, rms_norm_eps: 1e-6, rope_theta: 1000000,
  sliding_window: 32768, tie_word_embeddings: true, torch_dtype: "bfloat16", transformers_version: "4.43.1", use_cache: true,
  use_sliding_window: false, vocab_size: 151936,
};
const DEEPSEEK_R1_DISTILL_QWEN_1_5B = {
  ...QWEN25_1_5B_INSTRUCT, eos_token_id: 151643, max_position_embeddings: 131072, rope_theta: 10000, sliding_window: 4096,
  tie_word_embeddings: false, transformers_version: "4.44.0", use_mrope: false,
};
const QWEN3_0_6B = {
  architectures: ["Qwen3ForCausalLM"], attention_bias: false, attention_dropout: 0, bos_token_id: 151643, eos_token_id: 151645,
  head_dim: 128, hidden_act: "silu", hidden_size: 1024, initializer_range: 0.02, intermediate_size: 3072, max_position_embeddings: 40960,
  max_window_layers: 28, model_type: "qwen3", num_attention_heads: 16, num_hidden_layers: 28, num_key_value_heads: 8, rms_norm_eps: 1e-6,
  rope_scaling: null, rope_theta: 1000000, sliding_window: null, tie_word_embeddings: true, torch_dtype: "bfloat16",
  transformers_version: "4.51.0", use_cache: true, use_sliding_window: false, vocab_size: 151936,
};

const QWEN25_RECORD: ModelConfig = {
  architecture: "qwen2", vocabSize: 151936, hiddenSize: 1536, layers: 28, heads: 12, kvHeads: 2, headDim: 128, intermediateSize: 8960,
  maxPositions: 32768, normEps: 1e-6, activation: "silu", parallelResidual: false, rotaryDims: 128, ropeTheta: 1e6, qkvBias: true,
  outputBias: false, qkNorm: false, tieEmbeddings: true, dtype: "bf16", bosTokenId: 151643, eosTokenIds: [151645, 151643],
  modelType: "qwen2", quantization: null,
};

const PUBLISHED: { name: string; config: Fields; generation?: Fields; record: ModelConfig }[] = [
  {
    name: "Pythia 2.8B", config: PYTHIA_2_8B,
    record: {
      architecture: "gpt_neox", vocabSize: 50304, hiddenSize: 2560, layers: 32, heads: 32, kvHeads: 32, headDim: 80,
      intermediateSize: 10240, maxPositions: 2048, normEps: 1e-5, activation: "gelu", parallelResidual: true, rotaryDims: 20,
      ropeTheta: 10000, qkvBias: true, outputBias: true, qkNorm: false, tieEmbeddings: false, dtype: "f16", bosTokenId: 0,
      eosTokenIds: [0], modelType: "gpt_neox", quantization: null,
    },
  },
  {
    name: "Qwen2.5 1.5B Instruct", config: QWEN25_1_5B_INSTRUCT,
    generation: { bos_token_id: 151643, do_sample: true, eos_token_id: [151645, 151643], pad_token_id: 151643, temperature: 0.7 },
    record: QWEN25_RECORD,
  },
  {
    name: "DeepSeek R1 Distill Qwen 1.5B", config: DEEPSEEK_R1_DISTILL_QWEN_1_5B,
    generation: { _from_model_config: true, bos_token_id: 151646, eos_token_id: 151643, do_sample: true },
    record: { ...QWEN25_RECORD, maxPositions: 131072, ropeTheta: 10000, tieEmbeddings: false, bosTokenId: 151646, eosTokenIds: [151643] },
  },
  {
    name: "Qwen3 0.6B", config: QWEN3_0_6B,
    record: {
      ...QWEN25_RECORD, architecture: "qwen3", hiddenSize: 1024, heads: 16, kvHeads: 8, intermediateSize: 3072, maxPositions: 40960,
      qkvBias: false, qkNorm: true, eosTokenIds: [151645], modelType: "qwen3", quantization: null,
    },
  },
];

for (const { name, config, generation, record } of PUBLISHED) {
  test(`reads the published file of ${name}`, () => {
    const read = parseConfig(config, "config.json", generation);
    assert.equal(read, record);
    assert.ok(Object.isFrozen(read) && Object.isFrozen(read.eosTokenIds));
  });

  test(`reads ${name} in today's spelling as the same record`, () => {
    const { rotary_pct, rotary_emb_base, rope_theta, torch_dtype, rope_scaling: _, ...rest } = config;
    const partial = rotary_pct === undefined ? {} : { partial_rotary_factor: rotary_pct };
    const rope_parameters = { rope_type: "default", rope_theta: rope_theta ?? rotary_emb_base, ...partial };
    assert.equal(parseConfig({ ...rest, rope_parameters, dtype: torch_dtype }, "config.json", generation), record);
    assert.equal(parseConfig({ ...config, rope_parameters, dtype: torch_dtype }, "config.json", generation), record, "both, agreeing");
  });
}

// --- absent fields, variants -------------------------------------------------------------------------------------------------------

const SIZES = { vocab_size: 96, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 128 };
const parse = (fields: Fields, generation?: unknown) => parseConfig({ ...SIZES, ...fields }, "config.json", generation);

test("fills absent fields as transformers does", () => {
  assert.equal(parse({ model_type: "gpt_neox" }), {
    architecture: "gpt_neox", vocabSize: 96, hiddenSize: 64, layers: 2, heads: 4, kvHeads: 4, headDim: 16, intermediateSize: 128,
    maxPositions: 2048, normEps: 1e-5, activation: "gelu", parallelResidual: true, rotaryDims: 4, ropeTheta: 10000, qkvBias: true,
    outputBias: true, qkNorm: false, tieEmbeddings: false, dtype: null, bosTokenId: 0, eosTokenIds: [2], modelType: "gpt_neox", quantization: null,
  });
  assert.equal(parse({ architectures: ["Qwen3ForCausalLM"], num_key_value_heads: null }), {
    architecture: "qwen3", vocabSize: 96, hiddenSize: 64, layers: 2, heads: 4, kvHeads: 4, headDim: 128, intermediateSize: 128,
    maxPositions: 32768, normEps: 1e-6, activation: "silu", parallelResidual: false, rotaryDims: 128, ropeTheta: 10000, qkvBias: false,
    outputBias: false, qkNorm: true, tieEmbeddings: false, dtype: null, bosTokenId: null, eosTokenIds: [], modelType: "qwen3", quantization: null,
  });
});

test("reads the flags of each architecture", () => {
  const neox = parse({
    model_type: "gpt_neox", attention_bias: false, use_parallel_residual: false, hidden_act: "gelu_new", rotary_pct: 1,
  });
  assert.equal([neox.qkvBias, neox.outputBias, neox.parallelResidual], [false, false, false]);
  assert.equal([neox.activation, neox.rotaryDims], ["gelu_tanh", 16]);
  const qwen3 = parse({ model_type: "qwen3", attention_bias: true, num_key_value_heads: 2 });
  assert.equal([qwen3.qkvBias, qwen3.outputBias], [true, true]);
  const qwen2 = parse({ model_type: "qwen2", attention_bias: true, num_key_value_heads: 1, head_dim: 32 });
  assert.equal([qwen2.qkvBias, qwen2.outputBias, qwen2.headDim], [true, false, 32], "Qwen2 has no such flag");
});

test("end-of-text ids: null is none, generation_config.json goes first", () => {
  assert.equal(parse({ model_type: "gpt_neox", eos_token_id: null }).eosTokenIds, []);
  assert.equal(parse({ model_type: "gpt_neox", eos_token_id: [5, 6] }, { eos_token_id: null }).eosTokenIds, [5, 6]);
  assert.equal(parse({ model_type: "gpt_neox", eos_token_id: 5 }, { eos_token_id: [7, 8], bos_token_id: 9 }).eosTokenIds, [7, 8]);
});

test("accepts windows that no layer uses, plain RoPE under its old name, and a checkpoint with code of its own", () => {
  parse({ model_type: "qwen2", num_key_value_heads: 2, use_sliding_window: true, sliding_window: 16, max_window_layers: 2 });
  parse({ model_type: "qwen2", num_key_value_heads: 2, use_sliding_window: true, sliding_window: null, max_window_layers: 0 });
  parse({ model_type: "qwen2", num_key_value_heads: 2, use_sliding_window: true, layer_types: ["full_attention", "full_attention"] });
  parse({ model_type: "gpt_neox", rope_scaling: { type: "default" } });
  parse({ model_type: "gpt_neox", auto_map: { AutoModelForCausalLM: "modeling_evil.Evil" }, trust_remote_code: true });
});

// --- files -------------------------------------------------------------------------------------------------------------------------

test("files: missing, not JSON, too large, a folder", async () => {
  const folder = await mkdtemp(join(tmpdir(), "dawnlm-config-"));
  const file = join(folder, "config.json");
  const refused = async (pattern: RegExp) => {
    const error = await readConfig(folder).then(() => assert.unreachable("accepted"), (thrown: unknown) => thrown);
    assert.instance(error, ModelFileError);
    assert.match((error as Error).message, pattern);
    assert.not.match((error as Error).message, /\n/);
  };
  try {
    await refused(/config\.json: expected the configuration of a Hugging Face checkpoint, found no such file/);
    await writeFile(file, '{"model_type":\n"gpt_neox",');
    await refused(/config\.json: expected JSON, found /);
    await writeFile(file, `{"a":"${"x".repeat(2 ** 20)}"}`);
    await refused(/config\.json: expected at most 1048576 bytes of configuration, found 1048584/);
    await writeFile(file, JSON.stringify({ ...SIZES, model_type: "gpt_neox" }));
    assert.is((await readConfig(folder)).hiddenSize, 64);
    await writeFile(join(folder, "generation_config.json"), "[]");
    await refused(/generation_config\.json: expected a JSON object, found \[\]/);
    await rm(file);
    await refused(/no such file/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("reads the bundled models", async () => {
  const all = { vocabSize: 4096, maxPositions: 2048, headDim: 32, dtype: "f16", bosTokenId: 0, eosTokenIds: [0] };
  const neox = { architecture: "gpt_neox", layers: 4, hiddenSize: 192, heads: 6, kvHeads: 6, rotaryDims: 8, tieEmbeddings: false };
  for (const [name, expected] of Object.entries({
    "tiny-neox": { ...all, ...neox },
    "tiny-neox-draft": { ...all, ...neox, layers: 2, hiddenSize: 96, heads: 3, kvHeads: 3 },
    "tiny-qwen2": { ...all, ...neox, architecture: "qwen2", kvHeads: 2, rotaryDims: 32, tieEmbeddings: true },
  })) {
    const config = await readConfig(fileURLToPath(new URL(`../../assets/models/${name}`, import.meta.url)));
    assert.equal(pick(config, expected), expected, name);
  }
});

test("reads the configs of the goldens, and every golden is whole", async () => {
  const TINY: Record<string, Partial<ModelConfig>> = {
    "neox-parallel": { parallelResidual: true, rotaryDims: 4, dtype: "f32", qkvBias: true },
    "neox-sequential-rotary50": { parallelResidual: false, rotaryDims: 8, dtype: "f16", normEps: 1e-2 },
    "neox-rotary100-tied": { rotaryDims: 16, tieEmbeddings: true, dtype: "bf16" },
    "neox-head80": { headDim: 80, rotaryDims: 20, hiddenSize: 160 },
    "neox-no-attention-bias": { qkvBias: false, outputBias: false, activation: "gelu_tanh" },
    "qwen2-gqa-tied-f32": { kvHeads: 2, tieEmbeddings: true, ropeTheta: 1e6, dtype: "f32" },
    "qwen2-gqa-tied-f16": { kvHeads: 2, tieEmbeddings: true, ropeTheta: 1e6, dtype: "f16" },
    "qwen2-gqa-tied-bf16": { kvHeads: 2, tieEmbeddings: true, ropeTheta: 1e6, dtype: "bf16" },
    "qwen2-mqa": { kvHeads: 1, tieEmbeddings: false, ropeTheta: 1e4 },
    "qwen2-mha": { kvHeads: 4, ropeTheta: 1e6 },
    "qwen3-gqa-tied": { headDim: 32, qkNorm: true, tieEmbeddings: true, qkvBias: false },
    "qwen3-attention-bias": { headDim: 24, qkNorm: true, qkvBias: true, outputBias: true, tieEmbeddings: false },
  };
  const goldens = goldenVariants();
  assert.equal(goldens.map(({ name }) => name), [...Object.keys(TINY), "tiny-neox", "tiny-neox-draft", "tiny-qwen2"].sort());
  for (const golden of goldens) {
    const config = await readConfig(golden.folder);
    const expected = TINY[golden.name];
    if (expected) assert.equal(pick(config, expected), expected, golden.name);
    else assert.is(basename(golden.folder), golden.name);
    assert.is(golden.vocabSize, config.vocabSize);
    assert.equal(golden.prompts.map(({ ids, firstRow }) => [ids.length, firstRow]), expected ? [[77, 0], [130, 0]] : [[64, 56]]);
    for (const { ids, firstRow, logits } of golden.prompts) {
      assert.is(logits.length, (ids.length - firstRow) * golden.vocabSize);
      assert.ok(logits.every(Number.isFinite) && new Set(logits).size > logits.length / 2, "logits are numbers, and differ");
    }
    assert.ok(golden.greedy.length > 0 && golden.greedy.every(({ continuation }) => continuation.length === 40));
  }
});

function pick<T extends object>(from: ModelConfig, like: T): Partial<ModelConfig> {
  return Object.fromEntries(Object.keys(like).map((key) => [key, from[key as keyof ModelConfig]]));
}

test.run();
