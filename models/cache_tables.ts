/**
 * What is the same wherever keys and values live: a sequence slot has a table per (layer, KV head) with a length, because a press may keep
 * different tokens in each of them. Two kinds: block_tables.ts (paged) and contiguous_tables.ts (the baseline). Everything here is
 * arithmetic on the host; `ids` and `lengths` are mirrored to the GPU, where attention follows them.
 *
 * Two numbers that look alike are kept apart: `position(slot)` counts the tokens a sequence has seen (the RoPE position of the next),
 * `lengths` counts the entries a table still holds. A press makes the second smaller, never the first.
 */

export interface TableSizes {
  /** Sequences that can hold cache at the same time. */
  readonly slots: number;
  readonly layers: number;
  readonly kvHeads: number;
  /** Words of a table in `ids`. */
  readonly tableWidth: number;
}

/** Half-open range of elements. */
export type ElementRange = readonly [first: number, end: number];

/** Entries of one KV head of one layer that hold a token, and that are taken. */
export interface CacheUsage { readonly liveTokens: number; readonly reservedTokens: number }

export abstract class CacheTables {
  readonly slots: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly tableWidth: number;
  /** [slots, layers, kvHeads, tableWidth]: where a table's entries lie; what stands behind a table's last block means nothing. */
  readonly ids: Uint32Array;
  /** [slots, layers, kvHeads] entries in use. */
  readonly lengths: Uint32Array;
  /** [slots, layers, kvHeads] how many entries at the end are the newest tokens without a gap: as far as truncate can go back. */
  protected readonly newest: Uint32Array;
  /** Entries in use over all tables: the sum of `lengths`. */
  protected live = 0;
  protected readonly dirtyIds = new DirtyRange();
  protected readonly dirtyLengths = new DirtyRange();
  /** [slots] tokens seen; null while the slot is closed. */
  readonly #positions: (number | null)[];

  constructor({ slots, layers, kvHeads, tableWidth }: TableSizes) {
    for (const [name, value] of Object.entries({ slots, layers, kvHeads, tableWidth })) {
      if (!Number.isInteger(value) || value < 1) throw new Error(`cache tables: ${name} must be a positive whole number, got ${value}`);
    }
    this.slots = slots;
    this.layers = layers;
    this.kvHeads = kvHeads;
    this.tableWidth = tableWidth;
    const tables = slots * layers * kvHeads;
    this.ids = new Uint32Array(tables * tableWidth);
    this.lengths = new Uint32Array(tables);
    this.newest = new Uint32Array(tables);
    this.#positions = new Array<number | null>(slots).fill(null);
  }

  /** Tokens that one block holds, of one KV head of one layer: the unit in which `total` and `used` count. */
  abstract readonly blockSize: number;
  abstract readonly total: number;
  abstract get used(): number;
  /** Tokens of the longest sequence that a table can describe. */
  abstract readonly maxTokens: number;
  /** Tokens of the longest sequence that fits when it has the cache to itself. */
  abstract readonly capacity: number;

  /**
   * Whether a new sequence of `tokens`, which may come to `longest`, can start with `shared` of its blocks already held by others, when
   * those that run grow as `growing` says.
   */
  abstract hasRoom(tokens: number, longest: number, growing: Iterable<{ readonly slot: number; readonly tokens: number }>, shared?: number): boolean;
  /** Makes room for `tokens` more entries in every table of the slot; false and nothing taken when that cannot be had. */
  abstract reserve(slot: number, tokens: number): boolean;
  abstract usage(): CacheUsage;
  /** Entries that fit every table of the slot without taking more memory. */
  protected abstract room(slot: number): number;
  /** Shortens a table to `length` entries and gives back what lies behind. */
  protected abstract cut(table: number, length: number): void;
  /** Called after a slot was opened, and before it is closed. */
  protected abstract opened(slot: number, longest: number): void;
  protected abstract closing(slot: number): void;

  /** Tokens the slot has seen. */
  position(slot: number): number {
    const position = this.#positions[slot];
    if (position === null || position === undefined) throw new Error(`cache tables: slot ${slot} of ${this.slots} is not open`);
    return position;
  }

  /** Entries of one KV head of one layer of an open slot. */
  lengthOf(slot: number, layer: number, head: number): number {
    const [first] = this.tables(slot);
    return this.lengths[first + layer * this.kvHeads + head]!;
  }

  /** Entries of all tables of an open slot. */
  entriesOf(slot: number): number {
    return this.lengths.subarray(...this.tables(slot)).reduce((sum, length) => sum + length, 0);
  }

  /** The lowest closed slot, or `wanted`, opened and empty, for a sequence of at most `longest` tokens; null when it, or all, are open. */
  open(longest: number, wanted?: number): number | null {
    const slot = wanted ?? this.#positions.indexOf(null);
    if (slot < 0 || this.#positions[slot] !== null) return null;
    this.#positions[slot] = 0;
    this.dirtyLengths.add(...this.tables(slot));
    this.opened(slot, longest);
    return slot;
  }

  /** Gives all memory of the slot back. */
  close(slot: number): void {
    const [first, end] = this.tables(slot);
    for (let table = first; table < end; table++) this.cut(table, 0);
    this.closing(slot);
    // Marked even when nothing was held: the GPU may have advanced the lengths of a sequence that was aborted under way.
    this.dirtyLengths.add(first, end);
    this.#positions[slot] = null;
  }

  /**
   * Counts `tokens` that a forward wrote behind the entries of every table, in room reserved before. `onGpu`: the GPU has advanced its
   * own copy of the lengths, so nothing needs to be uploaded.
   */
  advance(slot: number, tokens: number, { onGpu = false }: { onGpu?: boolean } = {}): void {
    if (tokens > this.room(slot)) throw new Error(`cache tables: slot ${slot} is advanced by ${tokens} tokens without room`);
    const [first, end] = this.tables(slot);
    for (let table = first; table < end; table++) {
      this.lengths[table]! += tokens;
      this.newest[table]! += tokens;
    }
    this.live += tokens * (end - first);
    this.moveTo(slot, this.position(slot) + tokens);
    if (!onGpu) this.dirtyLengths.add(first, end);
  }

  /**
   * Forgets every token from `position` on: each table loses its position(slot) − position newest entries. Throws when a press has
   * already evicted one of those tokens: what would then be cut is older.
   */
  truncate(slot: number, position: number): void {
    const dropped = this.position(slot) - position;
    if (!Number.isInteger(position) || position < 0 || dropped < 0) {
      throw new Error(`cache tables: slot ${slot} at position ${this.position(slot)} cannot be truncated to ${position}`);
    }
    const [first, end] = this.tables(slot);
    for (let table = first; table < end; table++) {
      if (this.newest[table]! >= dropped) continue;
      throw new Error(`cache tables: truncating slot ${slot} by ${dropped} tokens, but table ${table} has only its ` +
        `${this.newest[table]} newest without a gap`);
    }
    for (let table = first; table < end; table++) this.cut(table, this.lengths[table]! - dropped);
    this.moveTo(slot, position);
    this.dirtyLengths.add(first, end);
  }

  /** What the host changed in `ids` since the last call: upload it before a step that was reserved for since then. */
  takeDirtyIds(): ElementRange | null {
    return this.dirtyIds.take();
  }

  /** The same of `lengths`; only while no step is in flight, since the GPU advances its copy and the host's lags behind. */
  takeDirtyLengths(): ElementRange | null {
    return this.dirtyLengths.take();
  }

  isOpen(slot: number): boolean {
    return this.#positions[slot] !== null;
  }

  /** The tables of an open slot: they lie side by side. */
  protected tables(slot: number): ElementRange {
    this.position(slot);
    const count = this.layers * this.kvHeads;
    return [slot * count, (slot + 1) * count];
  }

  /** Sets the length of a table whose memory is in order. */
  protected resize(table: number, length: number): void {
    const lost = this.lengths[table]! - length;
    this.newest[table] = Math.max(0, this.newest[table]! - lost);
    this.live -= lost;
    this.lengths[table] = length;
  }

  protected moveTo(slot: number, position: number): void {
    this.#positions[slot] = position;
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
