// Every preset is checked by the one number that any wrong size would change: its published parameter count
// (Pythia: table of the paper and model cards; Qwen and DeepSeek: the tensor totals that the hub shows for the safetensors files).
import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../engine/errors.ts";
import { presetConfig, presetNames, type PresetConfig } from "../../models/presets.ts";

const published: Record<string, number> = {
  "pythia-14m": 14_067_712,
  "pythia-31m": 30_494_720,
  "pythia-70m": 70_426_624,
  "pythia-160m": 162_322_944,
  "pythia-410m": 405_334_016,
  "pythia-1b": 1_011_781_632,
  "pythia-1.4b": 1_414_647_808,
  "pythia-2.8b": 2_775_208_960,
  "pythia-6.9b": 6_857_302_016,
  "pythia-12b": 11_846_072_320,
  "qwen2.5-0.5b": 494_032_768,
  "qwen2.5-1.5b": 1_543_714_304,
  "qwen2.5-3b": 3_085_938_688,
  "qwen2.5-7b": 7_615_616_512,
  "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
  "deepseek-r1-distill-qwen-7b": 7_615_616_512,
  "qwen3-0.6b": 596_049_920,
  "qwen3-1.7b": 1_720_574_976,
  "qwen3-4b": 4_022_468_096,
  "qwen3-8b": 8_190_735_360,
};

const number = (config: PresetConfig, key: string): number => {
  const value = config[key];
  if (typeof value !== "number") throw new Error(`${key} is ${value}`);
  return value;
};

/** Parameters of the architecture in transformers' own tensor list; tied embeddings count once. */
function parameters(config: PresetConfig): number {
  const hidden = number(config, "hidden_size");
  const mlp = number(config, "intermediate_size");
  const layers = number(config, "num_hidden_layers");
  const embeddings = number(config, "vocab_size") * hidden * (config["tie_word_embeddings"] === true ? 1 : 2);
  if (config["model_type"] === "gpt_neox") {
    const attention = 3 * hidden * hidden + 3 * hidden + hidden * hidden + hidden;
    const block = attention + (hidden * mlp + mlp) + (mlp * hidden + hidden) + 2 * 2 * hidden;
    return embeddings + layers * block + 2 * hidden;
  }
  const heads = number(config, "num_attention_heads");
  const headDim = config["head_dim"] === undefined ? hidden / heads : number(config, "head_dim");
  const q = heads * headDim;
  const kv = number(config, "num_key_value_heads") * headDim;
  const bias = config["model_type"] === "qwen2" ? q + 2 * kv : 0;
  const qkNorm = config["model_type"] === "qwen3" ? 2 * headDim : 0;
  const attention = hidden * (q + 2 * kv) + bias + q * hidden + qkNorm;
  return embeddings + layers * (attention + 3 * hidden * mlp + 2 * hidden) + hidden;
}

for (const name of presetNames) {
  test(`${name} has the published number of parameters`, () => {
    assert.is(parameters(presetConfig(name)), published[name]);
  });
}

test("every published count belongs to a preset", () => {
  assert.equal([...presetNames].sort(), Object.keys(published).sort());
});

test("heads divide the hidden size, kv heads divide the heads", () => {
  for (const name of presetNames) {
    const config = presetConfig(name);
    const heads = number(config, "num_attention_heads");
    if (config["head_dim"] === undefined) assert.is(number(config, "hidden_size") % heads, 0, name);
    if (config["num_key_value_heads"] !== undefined) assert.is(heads % number(config, "num_key_value_heads"), 0, name);
  }
});

test("fields that no parameter count shows", () => {
  assert.is(presetConfig("pythia-2.8b")["num_attention_heads"], 32); // head_dim 80
  assert.is(presetConfig("pythia-1b")["num_attention_heads"], 8); // head_dim 256
  for (const name of presetNames.filter((n) => n.startsWith("pythia"))) assert.is(presetConfig(name)["rotary_pct"], 0.25);
  assert.is(presetConfig("qwen2.5-7b")["rope_theta"], 1000000);
  assert.is(presetConfig("deepseek-r1-distill-qwen-1.5b")["rope_theta"], 10000);
  assert.is(presetConfig("qwen2.5-0.5b")["num_attention_heads"], 14);
});

test("a caller cannot change a preset for the next one", () => {
  const config = presetConfig("qwen3-0.6b");
  (config["architectures"] as string[]).push("Other");
  config["vocab_size"] = 1;
  assert.is(presetConfig("qwen3-0.6b")["vocab_size"], 151936);
  assert.equal(presetConfig("qwen3-0.6b")["architectures"], ["Qwen3ForCausalLM"]);
});

test("an unknown name is refused with the nearest ones", () => {
  for (const [typed, expected] of [["pythia-2.7b", "pythia-2.8b"], ["qwen2.5-15b", "qwen2.5-1.5b"], ["Qwen3-06b", "qwen3-0.6b"]] as const) {
    assert.throws(() => presetConfig(typed), (error: unknown) => error instanceof UsageError && error.message.includes(`did you mean`)
      && error.message.split("Known")[0]!.includes(expected));
  }
  const far = "zzzzzzzzzzzzzzzzzzzzzzz";
  assert.throws(() => presetConfig(far), (error: unknown) => error instanceof UsageError && !error.message.includes("mean"));
  assert.is(presetConfig("Pythia-70M")["hidden_size"], 512);
});

test.run();
