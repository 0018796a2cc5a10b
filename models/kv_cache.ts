/**
 * The KV cache on the GPU: one pool of keys and one of values for all layers, heads and sequences, and the mirrors of the block tables
 * that say whose is what (models/block_tables.ts decides, without a GPU). Four verbs, behind which every technique lives:
 * `append` (kernels/attention.ts writes a forward's keys and values), `view` (what attention reads), `keep` and `truncate`.
 */

import { OutOfMemoryError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { gather, refill, type KvView } from "../kernels/attention.ts";
import type { KvNotes } from "../kernels/kv_notes.ts";
import { BlockPool } from "./blocks.ts";
import { BlockTables, type Gather } from "./block_tables.ts";
import type { CacheTables } from "./cache_tables.ts";
import { ContiguousTables } from "./contiguous_tables.ts";
import { planCache, type BufferShape, type KvCacheOptions } from "./sizes.ts";

export type { KvCacheOptions } from "./sizes.ts";

export class KvCache {
  readonly tables: CacheTables;
  /** Bytes of a block, its keys, its values and the notes beside them. */
  readonly #blockBytes: number;
  #view: KvView;
  readonly #gpu: Gpu;

  /** Throws UsageError for a format that does not fit headDim, and OutOfMemoryError when `memory` does not hold a single token, or more than the adapter can bind. */
  static async create(gpu: Gpu, options: KvCacheOptions): Promise<KvCache> {
    const { layers, kvHeads, layout, slots, maxModelLen } = options;
    const { blocks, blockSize, blockBytes, tableBlocks, recentRows, encodings, buffers, problems } = planCache(gpu.maxBinding, options);
    if (problems[0] !== undefined) throw new OutOfMemoryError(problems[0]);
    const make = ({ category, shape, dtype, label }: BufferShape): Promise<Tensor> => gpu.tensor(category, shape, dtype, label);
    const layerNumbers = await make(buffers.layerNumbers);
    gpu.upload(layerNumbers.buffer, 0, new Uint32Array(layers * 64).map((_, i) => Math.floor(i / 64)));
    const sizes = { slots, layers, kvHeads };
    const tables = layout.name === "paged"
      ? new BlockTables({ ...sizes, pool: new BlockPool(blocks), blockSize, maxBlocksPerTable: tableBlocks, tails: encodings.k.format === "kivi4" })
      : new ContiguousTables({ ...sizes, entries: blocks, reserve: layout.reserve, maxTokens: maxModelLen });
    return new KvCache(gpu, tables, blockBytes, {
      ...encodings, layout: layout.name, blockSize, tableBlocks, layers, kvHeads, recentRows, layerNumbers,
      kPool: await make(buffers.keys), vPool: await make(buffers.values), tables: await make(buffers.tables), lengths: await make(buffers.lengths),
    });
  }

  private constructor(gpu: Gpu, tables: CacheTables, blockBytes: number, view: KvView) {
    this.#gpu = gpu;
    this.tables = tables;
    this.#blockBytes = blockBytes;
    this.#view = view;
  }

  get view(): KvView { return this.#view; }

  get blockBytes(): number { return this.#blockBytes + (this.#view.notes?.words ?? 0) * 4 * this.#view.blockSize; }

  /** What is written down beside entries from now on; what stands in the cache already has no such notes. Recordings made with the old view must go. */
  setNotes(notes: KvNotes | null): void {
    if (this.#view.notes !== undefined) this.#gpu.destroyBuffer(this.#view.notes.tensor.buffer);
    this.#view = { ...this.#view, notes: notes ?? undefined };
  }

  /**
   * Bring the GPU's tables and lengths up to date with the host's decisions, and make the copies they ask for. Only while no step is in
   * flight: the GPU advances its lengths by itself, and the host's lag behind.
   */
  async sync(): Promise<void> {
    this.syncTables();
    const lengths = this.tables.takeDirtyLengths();
    if (lengths !== null) this.#gpu.upload(this.view.lengths.buffer, lengths[0] * 4, this.tables.lengths.subarray(...lengths));
    if (!(this.tables instanceof BlockTables)) return;
    const copies = this.tables.takeCopies();
    if (copies !== null) await this.#gather(copies);
    for (const { table, source } of this.tables.tails?.take() ?? []) await this.#move("tails", table, source, refill);
  }

  /** The tables alone, which may be done between steps that are in flight: they keep their blocks and get more behind them. */
  syncTables(): void {
    const ids = this.tables.takeDirtyIds();
    if (ids !== null) this.#gpu.upload(this.view.tables.buffer, ids[0] * 4, this.tables.ids.subarray(...ids));
  }

  /**
   * Keep only the entries `kept[head]` (ascending) of one layer of a sequence; survivors move into fresh blocks and the old blocks go
   * back to the pool. False, and nothing changed, when the pool has no fresh blocks for them. Throws UsageError for a contiguous cache,
   * which cannot give back a part of a stretch, and for keys in kivi4, whose blocks cannot be taken apart.
   */
  async keep(slot: number, layer: number, kept: readonly Uint32Array[]): Promise<boolean> {
    const { tables } = this;
    if (!(tables instanceof BlockTables)) throw new UsageError("a contiguous cache cannot give memory back: take a paged kvLayout");
    if (this.view.k.format === "kivi4") {
      throw new UsageError("kv: kivi4 quantizes keys by blocks, and tokens that an eviction leaves of several blocks fit into none: take another format for keys");
    }
    const free = tables.pool.free;
    const moves = tables.keep(slot, layer, kept);
    if (moves === null) return false;
    await this.#gather(moves);
    await this.sync();
    this.#gpu.trace.emit(() => ({ type: "kept", slot, layer, kept: moves.source.length, freedBlocks: tables.pool.free - free }));
    return true;
  }

  /**
   * Forget everything from `position` on: what speculation rolls back. The GPU learns of it at the next `sync`. In kivi4 keys of a block that
   * was full and is not any more stay as they were quantized, and are quantized from that when it is full again.
   */
  truncate(slot: number, position: number): void {
    this.tables.truncate(slot, position);
  }

  #gather({ source, target }: Gather): Promise<void> {
    return this.#move("entries", source, target, gather);
  }

  /** Run `kernel` over the pairs of `first` and `second`. */
  async #move(what: string, first: Uint32Array, second: Uint32Array, kernel: typeof gather): Promise<void> {
    if (first.length === 0) return;
    const pairs = new Uint32Array(2 * first.length).map((_, i) => (i % 2 === 0 ? first : second)[i >> 1]!);
    const tensor = await this.#gpu.tensor("staging", [first.length, 2], "u32", `copied ${what}`);
    try {
      this.#gpu.upload(tensor.buffer, 0, pairs);
      const recorder = new Recorder(this.#gpu);
      kernel(recorder, { moves: tensor, view: this.view });
      submit(this.#gpu, await recorder.finish(`copy ${what}`), { rows: 0, tiles: 0 });
      await this.#gpu.sync();
    } finally {
      this.#gpu.destroyBuffer(tensor.buffer);
    }
  }

  close(): void {
    this.setNotes(null);
    for (const { buffer } of [this.view.kPool, this.view.vPool, this.view.tables, this.view.lengths, this.view.layerNumbers]) this.#gpu.destroyBuffer(buffer);
  }
}
