/**
 * A model with its cache and runner laid open, for tests of what LLM keeps to itself: logits of every row of a prefill or a decode step,
 * whatever sequences the rows belong to.
 */

import { Checkpoint } from "../../engine/checkpoint.ts";
import { Gpu, type KernelFamily } from "../../engine/gpu.ts";
import { BlockTables } from "../../models/block_tables.ts";
import { readConfig, type ModelConfig } from "../../models/config.ts";
import { KvCache } from "../../models/kv_cache.ts";
import { loadModel } from "../../models/model.ts";
import type { KvChoice, KvLayout, WeightFormat } from "../../models/options.ts";
import { Presser } from "../../models/presser.ts";
import { Runner } from "../../models/runner.ts";
import { GREEDY } from "./fake_runner.ts";

export interface EngineOptions {
  readonly folder: string;
  readonly layout?: KvLayout;
  readonly kv?: KvChoice;
  readonly weights?: "auto" | WeightFormat;
  /** Rows of one pass at most. Default 64. */
  readonly rows?: number;
  readonly slots?: number;
  readonly maxModelLen?: number;
  readonly family?: KernelFamily;
  /** While weights are allocated, pretend that one binding holds no more than this. */
  readonly weightBinding?: number;
}

/** The longest sequence, unless a test wants longer ones. */
export const MAX_MODEL_LEN = 256;

export interface Engine {
  readonly gpu: Gpu;
  readonly config: ModelConfig;
  readonly cache: KvCache;
  readonly tables: BlockTables;
  readonly runner: Runner;
  readonly presser: Presser;
  /** Parts in which the embedding lies on the GPU. */
  readonly embeddingParts: number;
  /** The next tokens of some sequences in one pass; logits [all rows, vocab], sequence after sequence. */
  prefill(...parts: readonly (readonly [slot: number, ids: readonly number[]])[]): Promise<Float32Array>;
  /** The next token of some sequences in one decode step; logits [sequences, vocab]. */
  decode(...parts: readonly (readonly [slot: number, id: number])[]): Promise<Float32Array>;
}

/** Keys and values of a head's entries, in order; of a cache in f32. */
export async function entriesOf({ gpu, cache: { view }, tables }: Engine, slot: number, layer: number, head: number): Promise<{ k: Float32Array; v: Float32Array }[]> {
  const [k, v] = [await gpu.readF32(view.kPool), await gpu.readF32(view.vPool)];
  const table = (slot * tables.layers + layer) * tables.kvHeads + head;
  const D = view.kPool.shape[1]!;
  return Array.from({ length: tables.lengths[table]! }, (_, entry) => {
    const at = (tables.ids[table * tables.tableWidth + Math.floor(entry / tables.blockSize)]! * tables.blockSize + entry % tables.blockSize) * D;
    return { k: k.slice(at, at + D), v: v.slice(at, at + D) };
  });
}

/** The tables of a paged cache. */
export function blockTables({ tables }: KvCache): BlockTables {
  if (!(tables instanceof BlockTables)) throw new Error("this cache is contiguous");
  return tables;
}

/** Open a checkpoint, run `body`, close everything. */
export async function withEngine(options: EngineOptions, body: (engine: Engine) => Promise<void>): Promise<void> {
  const { folder, layout = { name: "paged", blockSize: 16 }, kv = "f32", weights = "auto", rows = 64, slots = 4, maxModelLen = MAX_MODEL_LEN, family, weightBinding } = options;
  const config = await readConfig(folder);
  const checkpoint = await Checkpoint.open(folder);
  const gpu = await Gpu.open(family === undefined ? {} : { family });
  try {
    if (weightBinding !== undefined) Object.defineProperty(gpu, "maxBinding", { value: weightBinding, configurable: true });
    const source = { kind: "checkpoint", name: folder, tensors: checkpoint.tensors, pieces: (name: string) => checkpoint.pieces(name) } as const;
    // A small binding is pretended for the allocation only: what is bound is still checked against the true limit.
    const model = await loadModel(gpu, config, source, {
      format: weights, defaultFormat: "f16", onProgress: (label) => { if (label === "weights") Reflect.deleteProperty(gpu, "maxBinding"); },
    });
    const cache = await KvCache.create(gpu, { ...config, format: kv, layout, slots, maxModelLen, memory: null, sequences: slots, rows });
    const runner = await Runner.create(gpu, model, cache, { rows, samples: rows, maxModelLen, int8: weights === "llm.int8" });
    const presser = new Presser(gpu, config, cache, runner, { slots, maxModelLen });
    await body({ gpu, config, cache, tables: blockTables(cache), runner, presser, embeddingParts: model.embedding.parts.length, ...passes(cache, runner) });
    presser.close();
    cache.close();
    runner.close();
  } finally {
    await checkpoint.close();
    gpu.close();
  }
}

function passes(cache: KvCache, runner: Runner): Pick<Engine, "prefill" | "decode"> {
  const { tables } = cache;
  const rowsOf = (slot: number, ids: readonly number[]) => {
    if (!tables.reserve(slot, ids.length)) throw new Error("the pool is empty");
    const position = tables.position(slot);
    return ids.map((id, offset) => ({ id, position: position + offset, sequence: slot, offset }));
  };
  return {
    prefill: async (...parts) => {
      const rows = parts.flatMap(([slot, ids]) => rowsOf(slot, ids));
      await cache.sync();
      runner.writeBatch("prefill", rows, rows.map((_, row) => row), []);
      await runner.forward(rows.length);
      const logits = await runner.readLogits(rows.length);
      for (const [slot, ids] of parts) tables.advance(slot, ids.length);
      return logits;
    },
    decode: async (...parts) => {
      const rows = parts.flatMap(([slot, id]) => rowsOf(slot, [id]));
      await cache.sync();
      runner.writeBatch("decode", rows, rows.map((_, row) => row), rows.map(() => GREEDY));
      await (await runner.decoder(rows.length))(Math.max(...rows.map(({ position }) => position)) + 1);
      const logits = await runner.readLogits(rows.length); // the step has moved on to its next token, but what went into the head still stands
      for (const [slot] of parts) tables.advance(slot, 1, { onGpu: true });
      return logits;
    },
  };
}
