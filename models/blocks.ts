/**
 * The pool of cache blocks: which of them are free, and nothing else. It knows neither tokens nor GPU buffers; block `i` is the i-th
 * stretch of the key and value buffers, whatever those hold. Block tables (block_tables.ts) take blocks from here and give them back.
 */

export class BlockPool {
  readonly total: number;
  /** A stack: the block given back last is handed out first, so a small working set stays in the GPU's caches. */
  readonly #free: Uint32Array;
  #freeCount: number;
  readonly #used: Uint8Array;

  constructor(total: number) {
    if (!Number.isInteger(total) || total < 0) throw new Error(`BlockPool: total must be a whole number of blocks, got ${total}`);
    this.total = total;
    this.#free = Uint32Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#freeCount = total;
    this.#used = new Uint8Array(total);
  }

  get free(): number { return this.#freeCount; }
  get used(): number { return this.total - this.#freeCount; }

  isUsed(id: number): boolean { return this.#used[id] === 1; }

  /** `count` blocks, or null and nothing taken when fewer are free. */
  allocate(count: number): Uint32Array | null {
    if (count > this.#freeCount) return null;
    const ids = this.#free.slice(this.#freeCount - count, this.#freeCount).reverse();
    this.#freeCount -= count;
    for (const id of ids) this.#used[id] = 1;
    return ids;
  }

  /** Gives blocks back. Throws when one of them is not in use: two owners of a block would overwrite each other's keys. */
  release(ids: Iterable<number>): void {
    for (const id of ids) {
      if (!this.isUsed(id)) throw new Error(`BlockPool: block ${id} of ${this.total} is released but not in use`);
      this.#used[id] = 0;
      this.#free[this.#freeCount++] = id;
    }
  }
}
