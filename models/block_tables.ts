/**
 * Who owns which block of the KV cache. A block holds `blockSize` tokens of ONE KV head of ONE layer, so a sequence slot has a table per
 * (layer, head) and a press may keep different tokens in each of them. Entry `e` of a table lies at physical entry
 * `ids[table, ⌊e / blockSize⌋] · blockSize + e mod blockSize` of the key and value buffers.
 *
 * Everything here is arithmetic on the host: `ids` and `lengths` are mirrored to the GPU, where attention follows them. The contiguous
 * baseline is this same class with blockSize = the longest sequence and one block per table.
 *
 * Two numbers that look alike are kept apart: `position(slot)` counts the tokens a sequence has seen (the RoPE position of the next),
 * `lengths` counts the entries a table still holds. A press makes the second smaller, never the first.
 */

import type { BlockPool } from "./blocks.ts";

export interface BlockTablesOptions {
  readonly pool: BlockPool;
  /** Tokens per block. */
  readonly blockSize: number;
  /** Sequences that can hold cache at the same time. */
  readonly slots: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly maxBlocksPerTable: number;
}

/** Half-open range of elements. */
export type ElementRange = readonly [first: number, end: number];

/** Physical entries to copy on the GPU, source[i] to target[i]. No target is also a source. */
export interface Gather {
  readonly source: Uint32Array;
  readonly target: Uint32Array;
}

export class BlockTables {
  readonly pool: BlockPool;
  readonly blockSize: number;
  readonly slots: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly maxBlocksPerTable: number;
  /** [slots, layers, kvHeads, maxBlocksPerTable] block ids; what stands behind a table's last block is left over and means nothing. */
  readonly ids: Uint32Array;
  /** [slots, layers, kvHeads] entries in use. */
  readonly lengths: Uint32Array;
  /** [slots, layers, kvHeads] blocks held, reserved ones included. */
  readonly #blocks: Uint32Array;
  /** [slots, layers, kvHeads] how many entries at the end are the newest tokens without a gap: as far as truncate can go back. */
  readonly #newest: Uint32Array;
  /** [slots] tokens seen; null while the slot is closed. */
  readonly #positions: (number | null)[];
  /** Entries in use over all tables: the sum of `lengths`. */
  #live = 0;
  readonly #dirtyIds = new DirtyRange();
  readonly #dirtyLengths = new DirtyRange();

  constructor(options: BlockTablesOptions) {
    const { pool, blockSize, slots, layers, kvHeads, maxBlocksPerTable } = options;
    for (const [name, value] of Object.entries({ blockSize, slots, layers, kvHeads, maxBlocksPerTable })) {
      if (!Number.isInteger(value) || value < 1) throw new Error(`BlockTables: ${name} must be a positive whole number, got ${value}`);
    }
    this.pool = pool;
    this.blockSize = blockSize;
    this.slots = slots;
    this.layers = layers;
    this.kvHeads = kvHeads;
    this.maxBlocksPerTable = maxBlocksPerTable;
    const tables = slots * layers * kvHeads;
    this.ids = new Uint32Array(tables * maxBlocksPerTable);
    this.lengths = new Uint32Array(tables);
    this.#blocks = new Uint32Array(tables);
    this.#newest = new Uint32Array(tables);
    this.#positions = new Array<number | null>(slots).fill(null);
  }

  /** Tokens the slot has seen. */
  position(slot: number): number {
    const position = this.#positions[slot];
    if (position === null || position === undefined) throw new Error(`BlockTables: slot ${slot} of ${this.slots} is not open`);
    return position;
  }

  /** Blocks of a whole sequence that holds `tokens` entries in every table. */
  blocksFor(tokens: number): number {
    return this.layers * this.kvHeads * Math.ceil(tokens / this.blockSize);
  }

  /** The lowest closed slot, opened and empty; null when all are open. */
  open(): number | null {
    const slot = this.#positions.indexOf(null);
    if (slot < 0) return null;
    this.#positions[slot] = 0;
    this.#dirtyLengths.add(...this.#tables(slot));
    return slot;
  }

  /** Gives every block of the slot back. */
  close(slot: number): void {
    const [first, end] = this.#tables(slot);
    for (let table = first; table < end; table++) this.#cut(table, 0);
    // Marked even when nothing was held: the GPU may have advanced the lengths of a sequence that was aborted under way.
    this.#dirtyLengths.add(first, end);
    this.#positions[slot] = null;
  }

  /** Blocks that `reserve(slot, tokens)` takes from the pool; Infinity when a table cannot get that long. */
  shortfall(slot: number, tokens: number): number {
    const [first, end] = this.#tables(slot);
    let missing = 0;
    for (let table = first; table < end; table++) missing += this.#missing(table, tokens);
    return missing;
  }

  /** Makes room for `tokens` more entries in every table of the slot; false and nothing taken when that cannot be had. */
  reserve(slot: number, tokens: number): boolean {
    const fresh = this.pool.allocate(this.shortfall(slot, tokens));
    if (fresh === null) return false;
    const [first, end] = this.#tables(slot);
    let taken = 0;
    for (let table = first; table < end; table++) {
      const blocks = fresh.subarray(taken, taken += this.#missing(table, tokens));
      this.#hold(table, this.#blocks[table]!, blocks);
    }
    return true;
  }

  /**
   * Counts `tokens` that a forward wrote behind the entries of every table, in room reserved before. `onGpu`: the GPU has advanced its
   * own copy of the lengths, so nothing needs to be uploaded.
   */
  advance(slot: number, tokens: number, { onGpu = false }: { onGpu?: boolean } = {}): void {
    if (this.shortfall(slot, tokens) > 0) throw new Error(`BlockTables: slot ${slot} is advanced by ${tokens} tokens without room`);
    const [first, end] = this.#tables(slot);
    for (let table = first; table < end; table++) {
      this.lengths[table]! += tokens;
      this.#newest[table]! += tokens;
    }
    this.#live += tokens * (end - first);
    this.#positions[slot] = this.position(slot) + tokens;
    if (!onGpu) this.#dirtyLengths.add(first, end);
  }

  /**
   * Forgets every token from `position` on: each table loses its position(slot) − position newest entries, and blocks that hold nothing
   * any more (reserved ones too) go back. Throws when a press has already evicted one of those tokens: what would then be cut is older.
   */
  truncate(slot: number, position: number): void {
    const dropped = this.position(slot) - position;
    if (!Number.isInteger(position) || position < 0 || dropped < 0) {
      throw new Error(`BlockTables: slot ${slot} at position ${this.position(slot)} cannot be truncated to ${position}`);
    }
    const [first, end] = this.#tables(slot);
    for (let table = first; table < end; table++) {
      if (this.#newest[table]! >= dropped) continue;
      throw new Error(`BlockTables: truncating slot ${slot} by ${dropped} tokens, but table ${table} has only its ` +
        `${this.#newest[table]} newest without a gap`);
    }
    for (let table = first; table < end; table++) this.#cut(table, this.lengths[table]! - dropped);
    this.#positions[slot] = position;
    this.#dirtyLengths.add(first, end);
  }

  /**
   * Keeps only the entries `kept[head]` (ascending) of one layer. The survivors move into fresh blocks, all taken before the old ones
   * go back, so the gather never reads what it overwrites. Room reserved in this layer is gone afterwards. Null, and nothing changed,
   * when the pool cannot give the fresh blocks.
   */
  keep(slot: number, layer: number, kept: readonly Uint32Array[]): Gather | null {
    this.position(slot);
    if (!(layer >= 0 && layer < this.layers) || kept.length !== this.kvHeads) {
      throw new Error(`BlockTables: keep for layer ${layer} of ${this.layers} with ${kept.length} heads of ${this.kvHeads}`);
    }
    const firstTable = (slot * this.layers + layer) * this.kvHeads;
    kept.forEach((entries, head) => checkAscending(entries, this.lengths[firstTable + head]!, `layer ${layer} head ${head}`));
    const fresh = this.pool.allocate(kept.reduce((sum, entries) => sum + Math.ceil(entries.length / this.blockSize), 0));
    if (fresh === null) return null;

    const survivors = kept.reduce((sum, entries) => sum + entries.length, 0);
    const source = new Uint32Array(survivors), target = new Uint32Array(survivors);
    let copied = 0, taken = 0;
    kept.forEach((entries, head) => {
      const table = firstTable + head;
      const blocks = fresh.subarray(taken, taken += Math.ceil(entries.length / this.blockSize));
      this.#newest[table] = Math.min(this.#newest[table]!, trailingRun(entries, this.lengths[table]!));
      entries.forEach((entry, i) => {
        source[copied] = this.#physical(this.#held(table), entry);
        target[copied++] = this.#physical(blocks, i);
      });
      this.#live += entries.length - this.lengths[table]!;
      this.lengths[table] = entries.length;
      this.pool.release(this.#held(table));
      this.#hold(table, 0, blocks);
    });
    this.#dirtyLengths.add(firstTable, firstTable + this.kvHeads);
    return { source, target };
  }

  /** What the host changed since the last call, as one range of elements per array: upload these, and the GPU's copies are true again. */
  takeDirty(): { ids: ElementRange | null; lengths: ElementRange | null } {
    return { ids: this.#dirtyIds.take(), lengths: this.#dirtyLengths.take() };
  }

  /** Entries that hold a token, entries in blocks taken, and the part of the latter that holds none (0 when nothing is taken). */
  usage(): { liveTokens: number; reservedTokens: number; waste: number } {
    const liveTokens = this.#live;
    const reservedTokens = this.pool.used * this.blockSize;
    return { liveTokens, reservedTokens, waste: reservedTokens === 0 ? 0 : 1 - liveTokens / reservedTokens };
  }

  /** Throws unless every block in use belongs to exactly one table and every length fits its blocks. For tests; walks all tables. */
  check(): void {
    const live = this.lengths.reduce((sum, n) => sum + n, 0);
    if (live !== this.#live) throw new Error(`tables hold ${live} entries, but ${this.#live} are counted`);
    const owner = new Map<number, number>();
    for (let table = 0; table < this.lengths.length; table++) {
      const slot = Math.floor(table / (this.layers * this.kvHeads));
      const held = this.#blocks[table]!, length = this.lengths[table]!;
      if (this.#positions[slot] === null && held > 0) throw new Error(`table ${table} of closed slot ${slot} holds ${held} blocks`);
      if (held > this.maxBlocksPerTable || length > held * this.blockSize || this.#newest[table]! > length) {
        throw new Error(`table ${table}: ${length} entries, ${this.#newest[table]} newest, in ${held} blocks of ${this.blockSize}`);
      }
      for (const id of this.#held(table)) {
        if (owner.has(id)) throw new Error(`block ${id} is in tables ${owner.get(id)} and ${table}`);
        if (!this.pool.isUsed(id)) throw new Error(`block ${id} of table ${table} is free`);
        owner.set(id, table);
      }
    }
    if (owner.size !== this.pool.used || this.pool.free + this.pool.used !== this.pool.total) {
      throw new Error(`tables hold ${owner.size} blocks; pool: ${this.pool.used} used + ${this.pool.free} free of ${this.pool.total}`);
    }
  }

  /** The tables of an open slot: they lie side by side. */
  #tables(slot: number): ElementRange {
    this.position(slot);
    const count = this.layers * this.kvHeads;
    return [slot * count, (slot + 1) * count];
  }

  #missing(table: number, tokens: number): number {
    const blocks = Math.ceil((this.lengths[table]! + tokens) / this.blockSize);
    return blocks > this.maxBlocksPerTable ? Infinity : Math.max(0, blocks - this.#blocks[table]!);
  }

  #held(table: number): Uint32Array {
    const first = table * this.maxBlocksPerTable;
    return this.ids.subarray(first, first + this.#blocks[table]!);
  }

  /** Writes `blocks` as the table's blocks number `from` and following, its last ones. */
  #hold(table: number, from: number, blocks: Uint32Array): void {
    const first = table * this.maxBlocksPerTable + from;
    this.ids.set(blocks, first);
    this.#blocks[table] = from + blocks.length;
    this.#dirtyIds.add(first, first + blocks.length);
  }

  /** Shortens a table to `length` entries and gives the blocks behind them back. */
  #cut(table: number, length: number): void {
    const blocks = Math.ceil(length / this.blockSize);
    this.pool.release(this.#held(table).subarray(blocks));
    this.#blocks[table] = blocks;
    this.#newest[table] = Math.max(0, this.#newest[table]! - (this.lengths[table]! - length));
    this.#live += length - this.lengths[table]!;
    this.lengths[table] = length;
  }

  #physical(blocks: Uint32Array, entry: number): number {
    return blocks[Math.floor(entry / this.blockSize)]! * this.blockSize + entry % this.blockSize;
  }
}

/** The smallest range around everything added since it was last taken. */
class DirtyRange {
  #first = Infinity;
  #end = 0;

  add(first: number, end: number): void {
    if (first === end) return;
    this.#first = Math.min(this.#first, first);
    this.#end = Math.max(this.#end, end);
  }

  take(): ElementRange | null {
    const range = this.#end > 0 ? [this.#first, this.#end] as const : null;
    this.#first = Infinity;
    this.#end = 0;
    return range;
  }
}

function checkAscending(entries: Uint32Array, length: number, where: string): void {
  entries.forEach((entry, i) => {
    if (entry < length && (i === 0 || entry > entries[i - 1]!)) return;
    throw new Error(`BlockTables: ${where} keeps entry ${entry} of ${length} after entry ${entries[i - 1] ?? "none"}`);
  });
}

/** How many of `entries` at their end are the last entries of a table of `length`, without a gap. */
function trailingRun(entries: Uint32Array, length: number): number {
  let run = 0;
  while (run < entries.length && entries[entries.length - 1 - run] === length - 1 - run) run++;
  return run;
}
