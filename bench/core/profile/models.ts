/** The models whose floors stand in docs/floors.md, and the table that `node bench/profile.ts --floors` prints of them. */

import { fileURLToPath } from "node:url";
import type { ModelConfig } from "../../../index.ts";
import type { FloatFormat } from "../../../kernels/formats.ts";
import { parseConfig, readConfig } from "../../../models/config.ts";
import { presetConfig } from "../../../models/presets.ts";
import { floorOf, type FloorOptions } from "./floors.ts";

const BUNDLED = ["tiny-neox-draft", "tiny-neox", "tiny-qwen2"];
const PRESETS = [
  "pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-1.4b", "pythia-2.8b", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen3-0.6b", "qwen3-8b",
];

/** The model of the side-by-side with other programs: shaped like Qwen2, random weights. */
const PEER = {
  architectures: ["Qwen2ForCausalLM"], model_type: "qwen2", torch_dtype: "float16", vocab_size: 4096, max_position_embeddings: 2048,
  hidden_size: 896, intermediate_size: 2432, num_hidden_layers: 8, num_attention_heads: 14, num_key_value_heads: 2, tie_word_embeddings: false,
  bos_token_id: 0, eos_token_id: 0,
};

export async function floorModels(): Promise<{ readonly name: string; readonly config: ModelConfig }[]> {
  const folder = (name: string): string => fileURLToPath(new URL(`../../../assets/models/${name}`, import.meta.url));
  const bundled = BUNDLED.map(async (name) => ({ name, config: await readConfig(folder(name)) }));
  return [
    ...await Promise.all(bundled),
    { name: "74 M peer", config: parseConfig(PEER, "74 M peer") },
    ...PRESETS.map((name) => ({ name, config: parseConfig(presetConfig(name), name) })),
  ];
}

/** Weights as published (f16 or bf16), KV in f16. */
export async function floorsTable({ context, prompt }: Pick<FloorOptions, "context" | "prompt">): Promise<string> {
  const head = [
    "model", "weights, MB", "KV, MB", "bytes of a step, MB", "GFLOP of a step", "steps/s per 100 GB/s", "dispatches", "host calls",
    `GFLOP of a prefill of ${prompt}`, "FLOP per byte, decode", "FLOP per byte, prefill",
  ];
  const rows = (await floorModels()).map(({ name, config }) => {
    const weights: FloatFormat = config.dtype ?? "f16";
    const { decode, prefill } = floorOf(config, { weights, kv: "f16", context, prompt });
    return [
      name, ...[decode.weightBytes / 1e6, decode.kvBytes / 1e6, decode.bytes / 1e6, decode.flops / 1e9, 100e9 / decode.bytes].map(short),
      String(decode.dispatches), String(decode.hostCalls),
      ...[prefill.flops / 1e9, decode.flops / decode.bytes, prefill.flops / prefill.bytes].map(short),
    ];
  });
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

/** Three digits. */
export function short(value: number): string {
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}
