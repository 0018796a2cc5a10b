/** Puts drafted tokens where the target reads them (kernels/place_drafted.wgsl): they never pass the host. */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { MAX_DRAFTED } from "./accept.ts";
import { BATCH_WRITE, batchConsts, type Batch } from "./batch.ts";

const PLACE = wgsl(new URL("./place_drafted.wgsl", import.meta.url));

/** drafted: u32 [steps, pitch], column s of sequence s; rounds: u32 [S, 4], see `accept`. Grid: one row for each sequence. */
export function placeDrafted(recorder: Recorder, { drafted, rounds, batch, vocab }: { drafted: Tensor; rounds: Tensor; batch: Batch; vocab: number }): void {
  const { steps, pitch } = match("placeDrafted", { drafted: [drafted, "steps", "pitch"], rounds: [rounds, "S", 4] });
  if (steps! > MAX_DRAFTED) throw new Error(`placeDrafted: ${steps} steps, at most ${MAX_DRAFTED}`);
  recorder.run({
    source: PLACE, slots: BATCH_WRITE, consts: { PITCH: pitch!, VOCAB: vocab, WORKGROUP: MAX_DRAFTED, ...batchConsts(batch) },
  }, { drafted, rounds, batch: batch.tensor }, 1, { rowsPer: 1 });
}
