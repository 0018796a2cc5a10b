/** Log-probabilities of the tokens just sampled and of the likeliest instead of them, from logits that are still on the GPU. */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_READ, batchConsts, type Batch } from "./batch.ts";
import { LOGPROBS_WORD, NO_TOKEN, SAMPLING_WORDS } from "./sample.ts";

const LOGPROBS = wgsl(new URL("./logprobs.wgsl", import.meta.url));
const REDUCE = wgsl(new URL("./reduce.wgsl", import.meta.url));

/** Most of the likeliest tokens that can be asked for, as in the OpenAI interface. */
export const MAX_LOGPROBS = 20;
/** Words per sample: the chosen token's log-probability and rank, then (token, log-probability) of the likeliest, best first. */
export const LOGPROB_WORDS = 2 + 2 * MAX_LOGPROBS;

/** Natural logarithms of probabilities, of one sample. */
export interface Logprobs {
  readonly logprob: number;
  /** How many tokens were more likely. */
  readonly rank: number;
  /** The likeliest tokens, best first, ties to the lowest index; all of a vocabulary that has fewer than were asked for. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

/**
 * logits: f32 [S, V], as the model gave them (before temperature, penalties and filters). sampling: u32 [S, SAMPLING_WORDS], where
 * `logprobs` says how many of the likeliest are wanted. sampled: u32 [ring, rows of batch]; out: u32 [ring, rows of batch,
 * LOGPROB_WORDS]. Sample i writes out[step mod ring][i] for the token at sampled[step mod ring][i], so it stands after `sample` and before
 * `advance` in the same pass. A sample that wants none, or has no token, writes nothing: what stood there stays.
 */
export function logprobs(recorder: Recorder, operands: { logits: Tensor; sampling: Tensor; sampled: Tensor; out: Tensor; batch: Batch }): void {
  const { logits, sampling, sampled, out, batch } = operands;
  const { V, ring } = match("logprobs", {
    logits: [logits, "S", "V"], sampling: [sampling, "S", SAMPLING_WORDS], sampled: [sampled, "ring", batch.rows],
    out: [out, "ring", batch.rows, LOGPROB_WORDS],
  });
  const { subgroupSize, family } = recorder.gpu;
  recorder.run({
    source: LOGPROBS, slots: [REDUCE, ...BATCH_READ],
    consts: {
      VOCAB: V!, RING: ring!, SAMPLING_WORDS, LOGPROBS_WORD, LOGPROB_WORDS, MAX_LOGPROBS, SUBGROUP: subgroupSize,
      WORKGROUP: family === "software" ? subgroupSize : 256, ...batchConsts(batch),
    },
  }, { logits, sampling, sampled, out, batch: batch.tensor }, 1, { rowsPer: 1 });
}

/** Unpack what `logprobs` wrote for one sample, from word `offset` on; `top` is the number that the sample asked for. */
export function unpackLogprobs(words: Uint32Array, offset: number, top: number): Logprobs {
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  const likeliest = Array.from({ length: Math.min(top, MAX_LOGPROBS) }, (_, i) => ({ id: words[offset + 2 + 2 * i]!, logprob: floats[offset + 3 + 2 * i]! }));
  return { logprob: floats[offset]!, rank: words[offset + 1]!, top: likeliest.filter(({ id }) => id !== NO_TOKEN) };
}
