/**
 * The KV cache on the GPU: one pool of keys and one of values for all layers, heads and sequences, and the mirrors of the block tables
 * that say whose is what (models/block_tables.ts decides, without a GPU). Four verbs, behind which every technique lives:
 * `append` (kernels/attention.ts writes a forward's keys and values), `view` (what attention reads), `keep` and `truncate`.
 */

import { DTYPE_BYTES } from "../engine/dtype.ts";
import { OutOfMemoryError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { gather, type KvView } from "../kernels/attention.ts";
import { BlockPool } from "./blocks.ts";
import { BlockTables } from "./block_tables.ts";
import type { KvFormat, KvLayout } from "./options.ts";

export interface KvCacheOptions {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly format: KvFormat;
  readonly layout: KvLayout;
  /** Sequences that may hold cache at the same time. */
  readonly slots: number;
  /** Longest sequence in tokens. */
  readonly maxModelLen: number;
  /** Bytes for keys and values together; null: enough for `sequences` of maxModelLen each, at most 1 GiB. */
  readonly memory: number | null;
  readonly sequences: number;
}

const DEFAULT_MEMORY = 1 << 30;

export class KvCache {
  readonly tables: BlockTables;
  readonly view: KvView;
  readonly #gpu: Gpu;
  readonly #headDim: number;

  /** Throws OutOfMemoryError when `memory` does not hold a single token, or more than the adapter can bind. */
  static async create(gpu: Gpu, options: KvCacheOptions): Promise<KvCache> {
    const { layers, kvHeads, headDim, format, layout, slots, maxModelLen } = options;
    const blockSize = layout.name === "paged" ? layout.blockSize : maxModelLen;
    const tableBlocks = Math.ceil(maxModelLen / blockSize);
    const blocks = blockCount(gpu, options, blockSize, tableBlocks);
    const pool = (name: string): Promise<Tensor> => gpu.tensor("kv", [blocks * blockSize, headDim], format, name);
    const layerNumbers = await gpu.tensor("kv", [layers, 64], "u32", "layer numbers");
    gpu.upload(layerNumbers.buffer, 0, new Uint32Array(layers * 64).map((_, i) => Math.floor(i / 64)));
    const tables = new BlockTables({ pool: new BlockPool(blocks), blockSize, slots, layers, kvHeads, maxBlocksPerTable: tableBlocks });
    return new KvCache(gpu, headDim, tables, {
      format, blockSize, tableBlocks, layers, kvHeads, layerNumbers,
      kPool: await pool("keys"), vPool: await pool("values"),
      tables: await gpu.tensor("kv", [slots, layers, kvHeads, tableBlocks], "u32", "block tables"),
      lengths: await gpu.tensor("kv", [slots, layers, kvHeads], "u32", "cache lengths"),
    });
  }

  private constructor(gpu: Gpu, headDim: number, tables: BlockTables, view: KvView) {
    this.#gpu = gpu;
    this.#headDim = headDim;
    this.tables = tables;
    this.view = view;
  }

  /** Bring the GPU's tables and lengths up to date with the host's decisions. Writes nothing when nothing changed. */
  sync(): void {
    const { ids, lengths } = this.tables.takeDirty();
    if (ids !== null) this.#gpu.upload(this.view.tables.buffer, ids[0] * 4, this.tables.ids.subarray(...ids));
    if (lengths !== null) this.#gpu.upload(this.view.lengths.buffer, lengths[0] * 4, this.tables.lengths.subarray(...lengths));
  }

  /**
   * Keep only the entries `kept[head]` (ascending) of one layer of a sequence; survivors move into fresh blocks and the old blocks go
   * back to the pool. False, and nothing changed, when the pool has no fresh blocks for them.
   */
  async keep(slot: number, layer: number, kept: readonly Uint32Array[]): Promise<boolean> {
    const free = this.tables.pool.free;
    const moves = this.tables.keep(slot, layer, kept);
    if (moves === null) return false;
    const count = moves.source.length;
    if (count > 0) {
      const pairs = new Uint32Array(2 * count).map((_, i) => (i % 2 === 0 ? moves.source : moves.target)[i >> 1]!);
      const tensor = await this.#gpu.tensor("staging", [count, 2], "u32", "kept entries");
      try {
        this.#gpu.upload(tensor.buffer, 0, pairs);
        const recorder = new Recorder(this.#gpu);
        gather(recorder, { moves: tensor, view: this.view, headDim: this.#headDim });
        const recording = await recorder.finish("keep");
        submit(this.#gpu, recording, { rows: 0, tiles: 0 });
        await this.#gpu.sync();
      } finally {
        this.#gpu.destroyBuffer(tensor.buffer);
      }
    }
    this.sync();
    this.#gpu.trace.emit(() => ({ type: "kept", slot, layer, kept: count, freedBlocks: this.tables.pool.free - free }));
    return true;
  }

  /** Forget everything from `position` on: what speculation rolls back. */
  truncate(slot: number, position: number): void {
    this.tables.truncate(slot, position);
    this.sync();
  }

  close(): void {
    for (const { buffer } of [this.view.kPool, this.view.vPool, this.view.tables, this.view.lengths, this.view.layerNumbers]) this.#gpu.destroyBuffer(buffer);
  }
}

function blockCount(gpu: Gpu, { layers, kvHeads, headDim, format, layout, memory, sequences }: KvCacheOptions, blockSize: number, tableBlocks: number): number {
  const blockBytes = blockSize * headDim * DTYPE_BYTES[format];
  const perSequence = layers * kvHeads * tableBlocks;
  const bindable = Math.floor(gpu.maxBinding / blockBytes);
  const wanted = memory === null
    ? Math.min(sequences * perSequence, Math.max(perSequence, Math.floor(DEFAULT_MEMORY / (2 * blockBytes))))
    : Math.floor(memory / (2 * blockBytes));
  const blocks = memory === null ? Math.min(wanted, bindable) : wanted;
  if (blocks < layers * kvHeads) {
    throw new OutOfMemoryError(
      `the KV cache needs at least ${layers * kvHeads * 2 * blockBytes} bytes (one block of ${blockSize} tokens for each of ${layers} layers and ` +
      `${kvHeads} KV heads), but ${memory ?? gpu.maxBinding} are allowed: raise kvMemory${layout.name === "contiguous" ? " or lower maxModelLen" : ""}`,
    );
  }
  if (blocks > bindable) {
    throw new OutOfMemoryError(
      `a KV cache of ${memory} bytes does not fit this adapter, which binds at most ${gpu.maxBinding} bytes each of keys and values: ` +
      `lower kvMemory to ${2 * bindable * blockBytes} or less`,
    );
  }
  return Math.min(blocks, layout.name === "contiguous" ? sequences * perSequence : blocks);
}
