/** Token embeddings: the first step of every forward pass. */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_READ, batchConsts, type Batch } from "./batch.ts";
import { readerOf, type Weight } from "./weights.ts";

const EMBED = wgsl(new URL("./embed.wgsl", import.meta.url));

/** x[row] = table[token of row]. table: [V, K] in any weight format, x: [M, K] f32. */
export function embed(recorder: Recorder, { batch, table, x }: { batch: Batch; table: Weight; x: Tensor }): void {
  match("embed", { x: [x, "M", table.columns] });
  for (const part of table.parts) {
    const { slots, consts, tensors } = readerOf(table, part);
    recorder.run({
      source: EMBED,
      slots: [...slots, ...BATCH_READ],
      consts: { ...consts, K: table.columns, N: part.rows, FIRST: part.first, SUBGROUP: recorder.gpu.subgroupSize, ...batchConsts(batch) },
    }, { batch: batch.tensor, ...tensors, x }, 1, { rowsPer: 1 });
  }
}
