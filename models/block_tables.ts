/**
 * Who owns which block of the paged KV cache (Kwon et al. 2023). A block holds `blockSize` tokens of ONE KV head of ONE layer. Entry `e` of
 * a table lies at physical entry `ids[table, ⌊e / blockSize⌋] · blockSize + e mod blockSize` of the key and value buffers.
 *
 * Blocks may have several owners: sequences that share a prefix, a sequence and its fork, the prefix cache. Nobody writes into a block
 * that another owns too: `reserve` first gives the sequence a copy of it (copy on write).
 */

import type { BlockPool } from "./blocks.ts";
import { CacheTables, type CacheUsage, type TableSizes } from "./cache_tables.ts";
import { Tails } from "./tails.ts";

export interface BlockTablesOptions extends Omit<TableSizes, "tableWidth"> {
  readonly pool: BlockPool;
  /** Tokens per block. */
  readonly blockSize: number;
  readonly maxBlocksPerTable: number;
  /** Keys of a block that is not full lie outside of it, in tails (models/tails.ts). */
  readonly tails?: boolean;
}

/** Physical entries to copy on the GPU, source[i] to target[i]. No target is also a source. */
export interface Gather {
  readonly source: Uint32Array;
  readonly target: Uint32Array;
}

export class BlockTables extends CacheTables {
  readonly pool: BlockPool;
  readonly blockSize: number;
  readonly maxBlocksPerTable: number;
  readonly tails: Tails | null;
  /** [slots, layers, kvHeads] blocks held, reserved ones included. */
  readonly #blocks: Uint32Array;
  /** [slots] what `room` would find, or −1 when it must look: decoding asks for every token. */
  readonly #room: Int32Array;
  /** Copies that the GPU has still to make, and the blocks they come from, which stay owned until then. */
  #copies: { source: number[]; target: number[]; blocks: number[] } = { source: [], target: [], blocks: [] };

  constructor({ pool, blockSize, maxBlocksPerTable, tails = false, ...sizes }: BlockTablesOptions) {
    super({ ...sizes, tableWidth: maxBlocksPerTable });
    if (!Number.isInteger(blockSize) || blockSize < 1) throw new Error(`BlockTables: blockSize must be a positive whole number, got ${blockSize}`);
    this.pool = pool;
    this.blockSize = blockSize;
    this.maxBlocksPerTable = maxBlocksPerTable;
    this.tails = tails ? new Tails(blockSize) : null;
    this.#blocks = new Uint32Array(this.lengths.length);
    this.#room = new Int32Array(sizes.slots).fill(-1);
  }

  get total(): number { return this.pool.total; }
  get used(): number { return this.pool.used; }
  get maxTokens(): number { return this.maxBlocksPerTable * this.blockSize; }
  get capacity(): number { return Math.floor(this.pool.total / (this.layers * this.kvHeads)) * this.blockSize; }

  /** Blocks of a whole sequence that holds `tokens` entries in every table. */
  blocksFor(tokens: number): number {
    return this.layers * this.kvHeads * Math.ceil(tokens / this.blockSize);
  }

  hasRoom(tokens: number, _longest: number, growing: Iterable<{ readonly slot: number; readonly tokens: number }>, shared = 0): boolean {
    let needed = this.blocksFor(tokens) - shared;
    for (const { slot, tokens: more } of growing) needed += this.shortfall(slot, more);
    return needed <= this.pool.free;
  }

  /** Blocks that `reserve(slot, tokens)` takes from the pool; Infinity when a table cannot get that long. */
  shortfall(slot: number, tokens: number): number {
    if (tokens <= this.room(slot) && tokens >= 0) return 0;
    const [first, end] = this.tables(slot);
    let missing = 0;
    for (let table = first; table < end; table++) missing += this.#missing(table, tokens) + (this.#lastIsShared(table) ? 1 : 0);
    return missing;
  }

  reserve(slot: number, tokens: number): boolean {
    if (tokens <= this.room(slot)) return true;
    const fresh = this.pool.allocate(this.shortfall(slot, tokens));
    if (fresh === null) return false;
    const [first, end] = this.tables(slot);
    let taken = 0;
    for (let table = first; table < end; table++) {
      if (this.#lastIsShared(table)) this.#copyLast(table, fresh[taken++]!);
      const blocks = fresh.subarray(taken, taken += this.#missing(table, tokens));
      this.#hold(table, this.#blocks[table]!, blocks);
    }
    this.#room[slot] = -1;
    return true;
  }

  override advance(slot: number, tokens: number, options?: { onGpu?: boolean }): void {
    super.advance(slot, tokens, options);
    this.#room[slot]! -= tokens;
  }

  override truncate(slot: number, position: number): void {
    const [first, end] = this.tables(slot);
    const before = this.lengths.slice(first, end);
    super.truncate(slot, position);
    this.#room[slot] = -1;
    this.tails?.truncated(first, before, this.lengths.subarray(first, end), (table, index) => this.ids[table * this.tableWidth + index]!);
  }

  /** A second sequence with the same tokens, sharing every block that holds any; null when no slot is free. */
  fork(slot: number, longest: number): number | null {
    const position = this.position(slot);
    const copy = this.open(longest);
    if (copy === null) return null;
    const [from] = this.tables(slot), [to, end] = this.tables(copy);
    for (let table = to; table < end; table++) {
      const original = from + table - to, length = this.lengths[original]!;
      const blocks = this.#held(original).slice(0, Math.ceil(length / this.blockSize));
      this.pool.share(blocks);
      this.#hold(table, 0, blocks);
      this.resize(table, length);
      this.newest[table] = this.newest[original]!;
    }
    this.moveTo(copy, position);
    this.tails?.forked(from, to, end - to);
    this.#room[slot] = this.#room[copy] = -1; // a shared last block must be copied before it is written
    return copy;
  }

  /** An empty slot begins with these full blocks, each [layers, kvHeads], which others may hold too. */
  adopt(slot: number, chain: readonly Uint32Array[]): void {
    if (this.position(slot) !== 0) throw new Error(`BlockTables: slot ${slot} adopts blocks, but is at position ${this.position(slot)}`);
    const [first, end] = this.tables(slot);
    for (const blocks of chain) this.pool.share(blocks);
    for (let table = first; table < end; table++) {
      this.#hold(table, 0, Uint32Array.from(chain, (blocks) => blocks[table - first]!));
      this.resize(table, chain.length * this.blockSize);
      this.newest[table] = this.lengths[table]!;
    }
    this.moveTo(slot, chain.length * this.blockSize);
    this.dirtyLengths.add(first, end);
    this.#room[slot] = -1;
  }

  /** The blocks [layers, kvHeads] that hold tokens index · blockSize and following; null when a press has moved them. */
  blocksAt(slot: number, index: number): Uint32Array | null {
    const [first, end] = this.tables(slot);
    const position = this.position(slot);
    for (let table = first; table < end; table++) if (this.lengths[table] !== position) return null;
    return Uint32Array.from({ length: end - first }, (_, i) => this.ids[(first + i) * this.tableWidth + index]!);
  }

  /**
   * Keeps only the entries `kept[head]` (ascending) of one layer. The survivors move into fresh blocks, all taken before the old ones
   * go back, so the gather never reads what it overwrites. Room reserved in this layer is gone afterwards. Null, and nothing changed,
   * when the pool cannot give the fresh blocks.
   */
  keep(slot: number, layer: number, kept: readonly Uint32Array[]): Gather | null {
    const firstTable = this.#tablesOfLayer(slot, layer, kept.length);
    kept.forEach((entries, head) => checkAscending(entries, this.lengths[firstTable + head]!, `layer ${layer} head ${head}`));
    const old = kept.map((_, head) => this.#held(firstTable + head).slice());
    const newest = kept.map((entries, head) => trailingRun(entries, this.lengths[firstTable + head]!));
    const fresh = this.shrink(slot, layer, kept.map(({ length }) => length), newest);
    if (fresh === null) return null;
    const entriesIn = (blocks: readonly Uint32Array[]): Uint32Array =>
      Uint32Array.from(kept.flatMap((entries, head) => Array.from(entries, (entry, i) => this.#physical(blocks[head]!, blocks === old ? entry : i))));
    return { source: entriesIn(old), target: entriesIn(fresh) };
  }

  /**
   * The same where only the GPU knows which entries survive: `counts[head]` of them, the last `newest[head]` of which surely are the newest
   * without a gap. Returns the fresh blocks of each head, in which the caller must put the survivors in order before anything is done that was
   * decided after this call: the old blocks may have been given to somebody else by then.
   */
  shrink(slot: number, layer: number, counts: readonly number[], newest: readonly number[]): readonly Uint32Array[] | null {
    const firstTable = this.#tablesOfLayer(slot, layer, counts.length);
    counts.forEach((count, head) => {
      const length = this.lengths[firstTable + head]!;
      if (!(count <= length)) throw new Error(`BlockTables: layer ${layer} head ${head} keeps ${count} entries of ${length}`);
    });
    const fresh = this.pool.allocate(counts.reduce((sum, count) => sum + Math.ceil(count / this.blockSize), 0));
    if (fresh === null) return null;
    let taken = 0;
    const byHead = counts.map((count) => fresh.slice(taken, taken += Math.ceil(count / this.blockSize)));
    counts.forEach((count, head) => {
      const table = firstTable + head;
      this.newest[table] = Math.min(this.newest[table]!, newest[head]!, count);
      this.live += count - this.lengths[table]!;
      this.lengths[table] = count;
      this.pool.release(this.#held(table));
      this.#hold(table, 0, byHead[head]!);
    });
    this.dirtyLengths.add(firstTable, firstTable + this.kvHeads);
    this.#room[slot] = -1;
    return byHead;
  }

  /** Whether the pool has room to shrink these layers of a slot one after the other, each by what those before it have given back. */
  canShrink(slot: number, layers: readonly { readonly layer: number; readonly counts: readonly number[] }[]): boolean {
    let free = this.pool.free;
    return layers.every(({ layer, counts }) => {
      const fresh = counts.reduce((sum, count) => sum + Math.ceil(count / this.blockSize), 0);
      if (fresh > free) return false;
      const firstTable = this.#tablesOfLayer(slot, layer, counts.length);
      const owned = (id: number): number => (this.pool.owners(id) - (this.pool.isKept(id) ? 1 : 0) === 1 ? 1 : 0);
      free -= fresh;
      for (let head = 0; head < this.kvHeads; head++) free += this.#held(firstTable + head).reduce((sum, id) => sum + owned(id), 0);
      return true;
    });
  }

  /** The first table of a layer; those of its heads follow. */
  #tablesOfLayer(slot: number, layer: number, heads: number): number {
    this.position(slot);
    if (!(layer >= 0 && layer < this.layers) || heads !== this.kvHeads) {
      throw new Error(`BlockTables: keep for layer ${layer} of ${this.layers} with ${heads} heads of ${this.kvHeads}`);
    }
    return (slot * this.layers + layer) * this.kvHeads;
  }

  /** Entries that `reserve` wants copied since the last call, before the next step runs; null when there are none. */
  takeCopies(): Gather | null {
    const { source, target, blocks } = this.#copies;
    if (source.length === 0) return null;
    this.#copies = { source: [], target: [], blocks: [] };
    this.pool.release(blocks);
    return { source: Uint32Array.from(source), target: Uint32Array.from(target) };
  }

  /** An entry that sequences share counts as live for each of them, so live may be more than reserved. */
  usage(): CacheUsage {
    return { liveTokens: this.live, reservedTokens: this.pool.used * this.blockSize };
  }

  /** Throws unless owners add up, every length fits its blocks, and nobody could write into a shared block. For tests; walks all tables. */
  check(): void {
    const live = this.lengths.reduce((sum, n) => sum + n, 0);
    if (live !== this.live) throw new Error(`tables hold ${live} entries, but ${this.live} are counted`);
    const owners = new Uint32Array(this.pool.total);
    for (let table = 0; table < this.lengths.length; table++) {
      const slot = Math.floor(table / (this.layers * this.kvHeads));
      const held = this.#blocks[table]!, length = this.lengths[table]!;
      if (!this.isOpen(slot) && held > 0) throw new Error(`table ${table} of closed slot ${slot} holds ${held} blocks`);
      if (held > this.maxBlocksPerTable || length > held * this.blockSize || this.newest[table]! > length) {
        throw new Error(`table ${table}: ${length} entries, ${this.newest[table]} newest, in ${held} blocks of ${this.blockSize}`);
      }
      this.#held(table).forEach((id, i) => {
        owners[id]!++;
        if (i * this.blockSize >= length && this.pool.owners(id) > 1) throw new Error(`block ${id}, reserved for table ${table}, has another owner`);
      });
      if (this.isOpen(slot) && this.#lastIsShared(table) && this.#room[slot]! > 0) throw new Error(`slot ${slot} may write into a shared block`);
    }
    for (const id of this.#copies.blocks) owners[id]!++;
    let used = 0;
    owners.forEach((count, id) => {
      if (this.pool.owners(id) !== count + (this.pool.isKept(id) ? 1 : 0)) {
        throw new Error(`block ${id} is in ${count} tables${this.pool.isKept(id) ? " and kept" : ""}, but has ${this.pool.owners(id)} owners`);
      }
      if (count > 0) used++;
    });
    if (used !== this.pool.used || this.pool.free + this.pool.used !== this.pool.total) {
      throw new Error(`tables hold ${used} blocks; pool: ${this.pool.used} used + ${this.pool.free} free of ${this.pool.total}`);
    }
  }

  protected room(slot: number): number {
    const known = this.#room[slot]!;
    if (known >= 0) return known;
    const [first, end] = this.tables(slot);
    let room = Infinity;
    for (let table = first; table < end; table++) {
      room = Math.min(room, this.#lastIsShared(table) ? 0 : this.#blocks[table]! * this.blockSize - this.lengths[table]!);
    }
    return this.#room[slot] = room;
  }

  protected cut(table: number, length: number): void {
    const blocks = Math.ceil(length / this.blockSize);
    this.pool.release(this.#held(table).subarray(blocks));
    this.#blocks[table] = blocks;
    this.resize(table, length);
  }

  protected opened(slot: number): void {
    this.#room[slot] = -1;
  }

  protected closing(slot: number): void {
    this.#room[slot] = -1;
  }

  #missing(table: number, tokens: number): number {
    const blocks = Math.ceil((this.lengths[table]! + tokens) / this.blockSize);
    return blocks > this.maxBlocksPerTable ? Infinity : Math.max(0, blocks - this.#blocks[table]!);
  }

  /** The block that the next entry goes into holds entries already, and somebody else owns it too. */
  #lastIsShared(table: number): boolean {
    const length = this.lengths[table]!;
    return length % this.blockSize !== 0 && this.pool.owners(this.ids[table * this.tableWidth + Math.floor(length / this.blockSize)]!) > 1;
  }

  #copyLast(table: number, fresh: number): void {
    const length = this.lengths[table]!;
    const index = Math.floor(length / this.blockSize), at = table * this.tableWidth + index;
    const old = this.ids[at]!;
    for (let i = 0; i < length % this.blockSize; i++) {
      this.#copies.source.push(old * this.blockSize + i);
      this.#copies.target.push(fresh * this.blockSize + i);
    }
    this.#copies.blocks.push(old);
    this.ids[at] = fresh;
    this.dirtyIds.add(at, at + 1);
  }

  #held(table: number): Uint32Array {
    const first = table * this.tableWidth;
    return this.ids.subarray(first, first + this.#blocks[table]!);
  }

  /** Writes `blocks` as the table's blocks number `from` and following, its last ones. */
  #hold(table: number, from: number, blocks: Uint32Array): void {
    const first = table * this.tableWidth + from;
    this.ids.set(blocks, first);
    this.#blocks[table] = from + blocks.length;
    this.dirtyIds.add(first, first + blocks.length);
  }

  #physical(blocks: Uint32Array, entry: number): number {
    return blocks[Math.floor(entry / this.blockSize)]! * this.blockSize + entry % this.blockSize;
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
