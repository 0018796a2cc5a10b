/**
 * The batch of a step as the kernels see it: one u32 buffer that the host writes when the batch changes and the GPU advances between
 * (kernels/batch.wgsl reads it). Rows are tokens; several rows may belong to one sequence.
 */

import type { Consts, WgslFile } from "../engine/kernel.ts";
import { wgsl } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";

/** Words before the arrays; word 0 counts the decode steps. */
export const BATCH_HEADER = 4;
/** Arrays of one word per row, in order. */
const ARRAYS = ["ids", "positions", "sequences", "offsets", "tiles", "samples"] as const;

const ACCESS = wgsl(new URL("./batch.wgsl", import.meta.url));
export const BATCH_READ: readonly WgslFile[] = [ACCESS, wgsl(new URL("./batch_read.wgsl", import.meta.url))];
export const BATCH_WRITE: readonly WgslFile[] = [ACCESS, wgsl(new URL("./batch_write.wgsl", import.meta.url))];

/** The batch buffer and how many rows it has room for. */
export interface Batch { readonly tensor: Tensor; readonly rows: number }

export function batchWords(rows: number): number {
  return BATCH_HEADER + ARRAYS.length * rows;
}

export function batchConsts({ rows }: Batch): Consts {
  return { BATCH_HEADER, BATCH_ROWS: rows };
}

export interface BatchRow { readonly id: number; readonly position: number; readonly sequence: number; readonly offset: number }

/**
 * Lay out a batch. `rows` stand in order, the rows of a sequence side by side; tiles of up to `tileRows` rows never cross sequences, nor
 * positions that are multiples of `border`; `samples` are indices of rows. Returns the words and the number of tiles (rows of the attention grid).
 */
export function layOutBatch(
  capacity: number, rows: readonly BatchRow[], tileRows: number, samples: readonly number[], border = Infinity,
): { words: Uint32Array; tiles: number } {
  if (rows.length > capacity || samples.length > capacity) throw new Error(`a batch of ${rows.length} rows does not fit ${capacity}`);
  const words = new Uint32Array(batchWords(capacity));
  const at = (array: (typeof ARRAYS)[number], index: number): number => BATCH_HEADER + ARRAYS.indexOf(array) * capacity + index;
  rows.forEach(({ id, position, sequence, offset }, row) => {
    words[at("ids", row)] = id;
    words[at("positions", row)] = position;
    words[at("sequences", row)] = sequence;
    words[at("offsets", row)] = offset;
  });
  let tiles = 0;
  for (let first = 0; first < rows.length;) {
    let count = 1;
    while (count < tileRows && rows[first + count]?.sequence === rows[first]!.sequence && rows[first + count]!.position % border !== 0) count++;
    words[at("tiles", tiles++)] = first | (count << 24);
    first += count;
  }
  samples.forEach((row, index) => { words[at("samples", index)] = row; });
  return { words, tiles };
}
