/** A model with its cache and runner laid open, for tests of what LLM keeps to itself. */

import { fileURLToPath } from "node:url";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { Gpu } from "../../engine/gpu.ts";
import { readConfig } from "../../models/config.ts";
import { KvCache } from "../../models/kv_cache.ts";
import { loadModel } from "../../models/model.ts";
import type { KvLayout } from "../../models/options.ts";
import { Runner } from "../../models/runner.ts";

export interface Engine {
  readonly gpu: Gpu;
  readonly cache: KvCache;
  readonly runner: Runner;
  /** Run the next tokens of a sequence; logits [ids.length, vocab]. */
  forward(slot: number, ids: readonly number[]): Promise<Float32Array>;
}

/** Open a bundled model with KV in f32, run `body`, close everything. */
export async function withEngine(name: string, layout: KvLayout, body: (engine: Engine) => Promise<void>): Promise<void> {
  const folder = fileURLToPath(new URL(`../../assets/models/${name}`, import.meta.url));
  const config = await readConfig(folder);
  const checkpoint = await Checkpoint.open(folder);
  const gpu = await Gpu.open();
  try {
    const source = { kind: "checkpoint", name: folder, tensors: checkpoint.tensors, pieces: (tensor: string) => checkpoint.pieces(tensor) } as const;
    const model = await loadModel(gpu, config, source, { format: "auto", defaultFormat: "f16" });
    const cache = await KvCache.create(gpu, { ...config, format: "f32", layout, slots: 4, maxModelLen: 256, memory: null, sequences: 4 });
    const runner = await Runner.create(gpu, model, cache, { rows: 64, samples: 64, maxModelLen: 256 });
    await body({
      gpu, cache, runner,
      forward: async (slot, ids) => {
        if (!cache.tables.reserve(slot, ids.length)) throw new Error("the pool is empty");
        const position = cache.tables.position(slot);
        cache.sync();
        runner.writeBatch("prefill", ids.map((id, i) => ({ id, position: position + i, sequence: slot, offset: i })), ids.map((_, i) => i), []);
        await runner.forward(ids.length);
        const logits = await runner.readLogits(ids.length);
        cache.tables.advance(slot, ids.length);
        return logits;
      },
    });
    cache.close();
    runner.close();
  } finally {
    await checkpoint.close();
    gpu.close();
  }
}
