/**
 * The fixtures of test/fixtures/quantized (make_quantized.py there says how they were made), and checkpoints in memory: real ones,
 * changed at will, for the readers of quantized layouts.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { convert } from "../../engine/dtype.ts";
import { SafetensorsFile } from "../../engine/safetensors.ts";
import type { TensorData } from "../../engine/safetensors_writer.ts";
import type { TensorSource } from "../../engine/quantized_checkpoint.ts";

export const QUANTIZED = fileURLToPath(new URL("../fixtures/quantized", import.meta.url));
export const GOLDENS = fileURLToPath(new URL("../fixtures/goldens", import.meta.url));

/** A checkpoint of each layout, and the float checkpoint of ../goldens that transformers quantized, null for GPTQ and AWQ. */
export const QUANTIZED_CHECKPOINTS = {
  "neox-nf4": "neox-parallel", "neox-nf4-double": "neox-parallel", "neox-fp4": "neox-parallel", "neox-int8": "neox-parallel",
  "qwen2-nf4": "qwen2-gqa-tied-bf16", "qwen2-nf4-double": "qwen2-gqa-tied-bf16", "qwen2-fp4": "qwen2-gqa-tied-bf16", "qwen2-int8": "qwen2-gqa-tied-bf16",
  "neox-gptq": null, "qwen2-gptq-v2": null, "qwen2-awq": null,
} as const;
export type QuantizedName = keyof typeof QUANTIZED_CHECKPOINTS;

export const quantizedFolder = (name: QuantizedName): string => join(QUANTIZED, name);

export type Tensors = Map<string, TensorData>;

/** All tensors of a safetensors file. */
export async function tensorsOfFile(path: string): Promise<Tensors> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors: Tensors = new Map();
    for (const { name, dtype, shape, byteLength } of file.tensors.values()) {
      tensors.set(name, { name, dtype, shape, data: await file.read(name, 0, byteLength) });
    }
    return tensors;
  } finally {
    await file.close();
  }
}

export function sourceOf(tensors: Tensors, folder = "model"): TensorSource {
  return {
    folder,
    tensors: new Map([...tensors].map(([name, { dtype, shape, data }]) => [name, { dtype, shape, byteLength: data.byteLength }])),
    async *pieces(name) {
      const { data } = tensors.get(name)!;
      const half = Math.floor(data.byteLength / 32) * 16; // in two pieces, as a large tensor comes
      if (half > 0) yield { byteOffset: 0, bytes: data.subarray(0, half) };
      yield { byteOffset: half, bytes: data.subarray(half) };
    },
  };
}

/** A float tensor's numbers. */
export function numbersOf({ dtype, data }: TensorData): Float32Array {
  return new Float32Array(convert(data, dtype.toLowerCase() as "f32" | "f16" | "bf16", "f32").slice().buffer);
}

export interface Case { readonly values: string; readonly type: "nf4" | "fp4" | "int8"; readonly blockSize: number; readonly offset?: number }

/** What bitsandbytes made of single tensors. */
export async function readCases(): Promise<{ cases: readonly Case[]; means: Readonly<Record<string, number>>; tensors: Tensors }> {
  const { cases, means } = JSON.parse(readFileSync(join(QUANTIZED, "cases.json"), "utf8")) as { cases: Case[]; means: Record<string, number> };
  return { cases, means, tensors: await tensorsOfFile(join(QUANTIZED, "cases.safetensors")) };
}

/** golden.json and golden.f32 of a quantized checkpoint: one prompt with all its logits [ids.length, vocabSize], one greedy continuation. */
export function quantizedGolden(name: QuantizedName): {
  readonly vocabSize: number; readonly ids: readonly number[]; readonly logits: Float32Array; readonly prompt: readonly number[]; readonly continuation: readonly number[];
} {
  const folder = quantizedFolder(name);
  const { vocabSize, prompts: [prompt], greedy: [greedy] } = JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as {
    vocabSize: number; prompts: [{ ids: number[] }]; greedy: [{ prompt: number[]; continuation: number[] }];
  };
  const logits = new Float32Array(new Uint8Array(readFileSync(join(folder, "golden.f32"))).buffer);
  if (logits.length !== prompt.ids.length * vocabSize) throw new Error(`${folder}: golden.f32 has ${logits.length} numbers`);
  return { vocabSize, ids: prompt.ids, logits, ...greedy };
}
