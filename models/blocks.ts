/**
 * The pool of cache blocks: which of them are free, and how many owners the others have. It knows neither tokens nor GPU buffers; block
 * `i` is the i-th stretch of the key and value buffers, whatever those hold. Block tables (block_tables.ts) take blocks from here, share
 * them and give them back; the prefix cache (prefix_cache.ts) keeps blocks that no sequence needs any more until the room is wanted.
 */

/** Keeps blocks of its own in a pool, and gives them up when asked. */
export interface Keeper {
  /** Gives up at least `count` blocks that nobody else holds, or all it can. */
  reclaim(count: number): void;
}

export class BlockPool {
  readonly total: number;
  /** A stack: the block given back last is handed out first, so a small working set stays in the GPU's caches. */
  readonly #free: Uint32Array;
  #freeCount: number;
  readonly #owners: Uint32Array;
  /** 1 where the keeper is one of the owners. */
  readonly #kept: Uint8Array;
  #idle = 0;
  #keeper: Keeper | null = null;

  constructor(total: number) {
    if (!Number.isInteger(total) || total < 0) throw new Error(`BlockPool: total must be a whole number of blocks, got ${total}`);
    this.total = total;
    this.#free = Uint32Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#freeCount = total;
    this.#owners = new Uint32Array(total);
    this.#kept = new Uint8Array(total);
  }

  /** Blocks that can be had: free ones, and those that only the keeper holds. */
  get free(): number { return this.#freeCount + this.#idle; }
  /** Blocks that some sequence holds. */
  get used(): number { return this.total - this.free; }
  /** Blocks that only the keeper holds. */
  get idle(): number { return this.#idle; }

  owners(id: number): number { return this.#owners[id] ?? 0; }
  isKept(id: number): boolean { return this.#kept[id] === 1; }

  /** A pool has one keeper. */
  setKeeper(keeper: Keeper): void {
    this.#keeper = keeper;
  }

  /** `count` blocks with one owner each, or null and nothing taken when fewer can be had. */
  allocate(count: number): Uint32Array | null {
    if (count > this.free) return null;
    if (count > this.#freeCount) this.#keeper?.reclaim(count - this.#freeCount);
    if (count > this.#freeCount) return null;
    const ids = this.#free.slice(this.#freeCount - count, this.#freeCount).reverse();
    this.#freeCount -= count;
    for (const id of ids) this.#owners[id] = 1;
    return ids;
  }

  /** One more owner for each of these blocks. */
  share(ids: Iterable<number>): void {
    for (const id of ids) {
      this.#checkUsed(id, "shared");
      if (this.#owners[id]!++ === 1 && this.#kept[id] === 1) this.#idle--;
    }
  }

  /** One owner less. Throws when a block has none: two owners who do not know of each other would overwrite each other's keys. */
  release(ids: Iterable<number>): void {
    for (const id of ids) {
      this.#checkUsed(id, "released");
      const left = --this.#owners[id]!;
      if (left === 1 && this.#kept[id] === 1) this.#idle++;
      if (left > 0) continue;
      if (this.#kept[id] === 1) throw new Error(`BlockPool: block ${id} is released by all, but the keeper still has it`);
      this.#free[this.#freeCount++] = id;
    }
  }

  /** The keeper becomes an owner. */
  keep(ids: Iterable<number>): void {
    for (const id of ids) {
      this.#checkUsed(id, "kept");
      if (this.#kept[id] === 1) throw new Error(`BlockPool: block ${id} is kept twice`);
      this.#kept[id] = 1;
      this.#owners[id]!++;
    }
  }

  /** The keeper is no owner any more. */
  giveUp(ids: Iterable<number>): void {
    for (const id of ids) {
      if (this.#kept[id] !== 1) throw new Error(`BlockPool: block ${id} is not kept`);
      this.#kept[id] = 0;
      if (this.#owners[id] === 1) this.#idle--;
      this.release([id]);
    }
  }

  #checkUsed(id: number, what: string): void {
    if ((this.#owners[id] ?? 0) === 0) throw new Error(`BlockPool: block ${id} of ${this.total} is ${what} but not in use`);
  }
}
