/**
 * The contiguous cache, which paging is measured against: a sequence takes one stretch of entries when it starts, as long as the longest
 * sequence (`max`) or as long as its request may become (`exact`), and holds it to its end. Each (layer, KV head) has an equal share of
 * the stretch, and its table is one word: the first entry. Stretches are handed out first fit; what lies free in pieces too small for
 * anybody is the external fragmentation of such allocators (Wilson et al. 1995).
 */

import { CacheTables, type CacheUsage, type TableSizes } from "./cache_tables.ts";

export interface ContiguousTablesOptions extends Omit<TableSizes, "tableWidth"> {
  /** Entries of the whole cache. */
  readonly entries: number;
  readonly reserve: "max" | "exact";
  /** Tokens of the longest sequence. */
  readonly maxTokens: number;
}

interface Stretch { readonly first: number; readonly count: number }

export class ContiguousTables extends CacheTables {
  readonly blockSize = 1;
  readonly total: number;
  readonly #exact: boolean;
  readonly maxTokens: number;
  /** Free stretches in order of place, none touching another. */
  #free: Stretch[];
  readonly #taken: (Stretch | null)[];
  #used = 0;

  constructor({ entries, reserve, maxTokens, ...sizes }: ContiguousTablesOptions) {
    super({ ...sizes, tableWidth: 1 });
    this.total = entries;
    this.#exact = reserve === "exact";
    this.maxTokens = maxTokens;
    this.#free = [{ first: 0, count: entries }];
    this.#taken = new Array<Stretch | null>(sizes.slots).fill(null);
  }

  get used(): number { return this.#used; }

  get capacity(): number {
    const most = Math.floor(this.total / (this.layers * this.kvHeads));
    return this.#exact ? Math.min(most, this.maxTokens) : most >= this.maxTokens ? this.maxTokens : 0;
  }

  hasRoom(_tokens: number, longest: number): boolean {
    const count = this.#entries(longest);
    return this.#free.some((stretch) => stretch.count >= count);
  }

  reserve(slot: number, tokens: number): boolean {
    return tokens <= this.room(slot);
  }

  usage(): CacheUsage {
    return { liveTokens: this.live, reservedTokens: this.#used };
  }

  protected room(slot: number): number {
    const [first, end] = this.tables(slot);
    const stretch = this.#taken[slot];
    return stretch === null || stretch === undefined ? 0 : stretch.count / (end - first) - this.lengths[first]!;
  }

  protected cut(table: number, length: number): void {
    this.resize(table, length);
  }

  /** Takes nothing when there is no room: `reserve` says so. */
  protected opened(slot: number, longest: number): void {
    const count = this.#entries(longest);
    const at = this.#free.findIndex((stretch) => stretch.count >= count);
    if (at < 0) return;
    const { first, count: had } = this.#free[at]!;
    this.#free.splice(at, 1, ...(had > count ? [{ first: first + count, count: had - count }] : []));
    this.#taken[slot] = { first, count };
    this.#used += count;
    const [table, end] = this.tables(slot);
    for (let i = table; i < end; i++) this.ids[i] = first + (i - table) * (count / (end - table));
    this.dirtyIds.add(table, end);
  }

  protected closing(slot: number): void {
    const stretch = this.#taken[slot];
    if (stretch === null || stretch === undefined) return;
    this.#taken[slot] = null;
    this.#used -= stretch.count;
    this.#free = merged([...this.#free, stretch]);
  }

  #entries(longest: number): number {
    return this.layers * this.kvHeads * (this.#exact ? Math.min(longest, this.maxTokens) : this.maxTokens);
  }
}

/** Stretches in order of place, neighbours made one. */
function merged(stretches: readonly Stretch[]): Stretch[] {
  const out: Stretch[] = [];
  for (const stretch of stretches.toSorted((a, b) => a.first - b.first)) {
    const last = out.at(-1);
    if (last !== undefined && last.first + last.count === stretch.first) out[out.length - 1] = { first: last.first, count: last.count + stretch.count };
    else out.push(stretch);
  }
  return out;
}
