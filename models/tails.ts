/**
 * Which tails of tables must be written anew before the next step. In kivi4 the keys of a block that is not full lie outside of it, as the
 * tail of their table (kernels/kv/kivi.wgsl); the GPU keeps it up to date, but for what the host does to tables. No GPU in here.
 */

import { REFILL_BLOCK } from "../kernels/kv_formats.ts";

/** Tails to write on the GPU, each from that of another table, or from a block: REFILL_BLOCK + its id. */
export interface TailMoves {
  readonly table: Uint32Array;
  readonly source: Uint32Array;
}

export class Tails {
  readonly #blockSize: number;
  /** In the order in which they must be made: a later one may read what an earlier one writes. */
  readonly #moves: TailMoves[] = [];

  constructor(blockSize: number) { this.#blockSize = blockSize; }

  /** The `count` tables from `to` on are copies of those from `from` on. */
  forked(from: number, to: number, count: number): void {
    this.#moves.push({ table: Uint32Array.from({ length: count }, (_, i) => to + i), source: Uint32Array.from({ length: count }, (_, i) => from + i) });
  }

  /**
   * Tables from `first` on had lengths `before` and have `after`; `blockAt(table, index)` is a block. Where a table ends within a block again that
   * was full, its tail is of a later block, or of none.
   */
  truncated(first: number, before: Uint32Array, after: Uint32Array, blockAt: (table: number, index: number) => number): void {
    const reopened = [...after.keys()].filter((i) => after[i]! % this.#blockSize !== 0 && this.#block(after[i]!) < this.#block(before[i]!));
    if (reopened.length === 0) return;
    this.#moves.push({
      table: Uint32Array.from(reopened, (i) => first + i), source: Uint32Array.from(reopened, (i) => REFILL_BLOCK + blockAt(first + i, this.#block(after[i]!))),
    });
  }

  /** What was recorded since the last call. */
  take(): readonly TailMoves[] {
    return this.#moves.splice(0);
  }

  #block(length: number): number {
    return Math.floor(length / this.#blockSize);
  }
}
