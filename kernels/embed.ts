/** Token embeddings: the first step of every forward pass. */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_READ, batchConsts, type Batch } from "./batch.ts";
import { WEIGHT_SLOTS, type Weight } from "./linear.ts";

const EMBED = wgsl(new URL("./embed.wgsl", import.meta.url));

/** x[row] = table[token of row]. table: [V, K] in any weight format, x: [M, K] f32. */
export function embed(recorder: Recorder, { batch, table, x }: { batch: Batch; table: Weight; x: Tensor }): void {
  match("embed", { x: [x, "M", table.columns] });
  for (const { tensor, first, rows } of table.parts) {
    recorder.run({
      source: EMBED,
      slots: [WEIGHT_SLOTS[tensor.dtype as keyof typeof WEIGHT_SLOTS], ...BATCH_READ],
      consts: { K: table.columns, N: rows, FIRST: first, SUBGROUP: recorder.gpu.subgroupSize, ...batchConsts(batch) },
    }, { batch: batch.tensor, weight: tensor, x }, 1, { rowsPer: 1 });
  }
}
