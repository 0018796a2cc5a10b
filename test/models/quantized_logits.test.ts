/**
 * Quantized checkpoints mean what their makers meant: a scalar model with the decoded weights says what transformers says in double
 * precision. No GPU. (That the kernels compute with the same weights is tested beside them.)
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { openQuantized } from "../../engine/quantized_checkpoint.ts";
import { writeSafetensors, type TensorData } from "../../engine/safetensors_writer.ts";
import { decode } from "../../kernels/reference/quantize.ts";
import { readConfig } from "../../models/config.ts";
import { quantizedFolder, quantizedGolden, sourceOf, tensorsOfFile, type QuantizedName } from "../support/quantized.ts";
import { QwenTwin, SequenceTwin } from "../support/qwen_twin.ts";

const NAMES: readonly QuantizedName[] = ["qwen2-nf4", "qwen2-nf4-double", "qwen2-fp4", "qwen2-int8", "qwen2-gptq-v2", "qwen2-awq"];

for (const name of NAMES) {
  test(`${name}: logits of the decoded weights`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "dawnlm-decoded-"));
    try {
      await writeDecoded(quantizedFolder(name), folder);
      const { ids, logits } = quantizedGolden(name);
      const twin = await QwenTwin.read(folder);
      const found = twin.forward(new SequenceTwin(twin.config), ids);
      const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const error = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i]!)), 0) / largest;
      assert.ok(error < 2e-6, `off by ${error} of the largest logit`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

/** The checkpoint in f32, rounded from the double precision of `decode`. */
async function writeDecoded(from: string, to: string): Promise<void> {
  const tensors = await tensorsOfFile(join(from, "model.safetensors"));
  const { matrices, owners, read } = await openQuantized(sourceOf(tensors), (await readConfig(from)).quantization!.stored);
  const all: TensorData[] = [...tensors.values()].filter((tensor) => !owners.has(tensor.name));
  for (const [matrix, { shape }] of matrices) {
    all.push({ name: matrix, dtype: "F32", shape, data: new Uint8Array(Float32Array.from(decode(await read(matrix))).buffer) });
  }
  await writeSafetensors(join(to, "model.safetensors"), all);
  const { quantization_config: _, ...config } = JSON.parse(readFileSync(join(from, "config.json"), "utf8")) as Record<string, unknown>;
  writeFileSync(join(to, "config.json"), JSON.stringify(config));
}

test.run();
