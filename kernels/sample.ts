/** The next token of every sampled row, chosen on the GPU; the host reads back token ids only. */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_WRITE, batchConsts, type Batch } from "./batch.ts";

const SAMPLE = wgsl(new URL("./sample.wgsl", import.meta.url));

/** What the sampler writes for a row with a NaN or infinite logit. */
export const NO_TOKEN = 0xffff_ffff;
/** Words per sample in the sampling buffer: temperature, top_p, top_k, seed. */
export const SAMPLING_WORDS = 4;

export interface SamplingParams { readonly temperature: number; readonly topP: number; readonly topK: number; readonly seed: number }

/** Pack the parameters of each sample, in order. */
export function packSampling(samples: readonly SamplingParams[], capacity: number): Uint32Array {
  const words = new Uint32Array(capacity * SAMPLING_WORDS);
  const floats = new Float32Array(words.buffer);
  samples.forEach(({ temperature, topP, topK, seed }, index) => {
    const at = index * SAMPLING_WORDS;
    floats[at] = temperature;
    floats[at + 1] = topP;
    words[at + 2] = topK;
    words[at + 3] = seed;
  });
  return words;
}

/**
 * logits: [S, V] f32, sampling: u32 [S, 4], sampled: u32 [ring, rows of batch]. Sample i writes sampled[step mod ring][i]; with
 * `feedback` the token also becomes the next id of its row, whose position moves on, so that the next step needs nothing from the host.
 */
export function sample(recorder: Recorder, operands: { logits: Tensor; sampling: Tensor; sampled: Tensor; batch: Batch }, { feedback }: { feedback: boolean }): void {
  const { logits, sampling, sampled, batch } = operands;
  const { V, ring } = match("sample", {
    logits: [logits, "S", "V"], sampling: [sampling, "S", SAMPLING_WORDS], sampled: [sampled, "ring", batch.rows],
  });
  const { subgroupSize, family } = recorder.gpu;
  recorder.run({
    source: SAMPLE, slots: BATCH_WRITE,
    consts: {
      VOCAB: V!, RING: ring!, FEEDBACK: feedback, SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256, ...batchConsts(batch),
    },
  }, { logits, sampling, sampled, batch: batch.tensor }, 1, { rowsPer: 1 });
}
