/**
 * The verdict of a round of speculative decoding, made on the GPU: of what a draft proposed, how much stands, and the one token more that a
 * round always gives. Losslessness is decided here: whatever the draft, the tokens follow the distribution of the model that decides,
 * and at temperature 0 they are its likeliest ones. Only ids come back to the host.
 */

import { wgsl } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match, type Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { choiceSlots, SAMPLING_WORDS, type Adjust } from "./sample.ts";

const ROWS = wgsl(new URL("./accept_rows.wgsl", import.meta.url));
const ACCEPT = wgsl(new URL("./accept.wgsl", import.meta.url));
const ROUND = wgsl(new URL("./accept_round.wgsl", import.meta.url));

/** Most tokens that can be drafted for one round. */
export const MAX_DRAFTED = 16;
/** Words per sequence in `rounds`: first row in logits, how many were drafted, position of the last known token, slot. */
export const ROUND_WORDS = 4;
const LAW_WORDS = 8;

export interface AcceptOperands {
  /** f32 [rows, V], raw: row first(s) + i of sequence s follows its last known token (i = 0) or its i-th drafted token. */
  readonly logits: Tensor;
  /** f32 [K, S, V], raw: those the draft chose its tokens from. Absent: a text draft, whose tokens stand for certainty. */
  readonly draftLogits?: Tensor | undefined;
  /** u32 [K, at least S], step-major: what `sample` writes. */
  readonly drafted: Tensor;
  /**
   * u32 [S, ROUND_WORDS]: first row in `logits`; how many were drafted, 0 to K; the position of the last known token, from which
   * randomness follows; the slot in `adjust`.
   */
  readonly rounds: Tensor;
  /** u32 [S, SAMPLING_WORDS], see `packSampling`; the same for both sides. */
  readonly sampling: Tensor;
  /**
   * For rounds in which a sequence has a penalty or a bias, by slot. Tokens drafted before a row count as text in it; accepted and drawn
   * tokens are added to the counts, so `counts` must not know the drafted ones yet.
   */
  readonly adjust?: Adjust | undefined;
  /** 4-byte words of the shape that `acceptScratch` says; overwritten. */
  readonly scratch: Tensor;
  /** u32 [S, K + 2]: a, how many were accepted; these and one more, a + 1 ids; the rest NO_TOKEN. */
  readonly out: Tensor;
}

/** The shape of `AcceptOperands.scratch` for `logits` [rows, V] and `drafted` [k, …] of S = `sequences`. */
export function acceptScratch(rows: number, k: number, sequences: number): Shape {
  return [rows + k * sequences, LAW_WORDS];
}

/**
 * Verdict on the first `extent.rows` sequences. Penalties, biases, temperature, top-k, top-p and min-p apply to both sides alike, and what
 * they leave is p for the model that decides and q for the draft. Temperature 0: a drafted token stands while it is the likeliest. Else d
 * stands with probability min(1, p(d) / q(d)), and the first that does not is replaced by a draw from max(0, p − q), or from p where
 * rounding leaves nothing of that; for a text draft, with probability p(d) or replaced by a draw from p without d. Behind K accepted tokens,
 * and where nothing was drafted, the last id is what `sample` chooses with that seed and position.
 * A row of `logits` that is not finite, or has every token forbidden, ends the round with NO_TOKEN for its id. A row of `draftLogits`
 * like that, or a drafted id outside the vocabulary, is rejected, and a token is drawn from p there.
 */
export function accept(recorder: Recorder, operands: AcceptOperands): void {
  const { logits, draftLogits, drafted, rounds, sampling, adjust, scratch, out } = operands;
  const { rows, V, K, S, pitch } = match("accept", {
    logits: [logits, "rows", "V"], drafted: [drafted, "K", "pitch"], rounds: [rounds, "S", ROUND_WORDS], sampling: [sampling, "S", SAMPLING_WORDS],
    ...(draftLogits && { draftLogits: [draftLogits, "K", "S", "V"] }),
    ...(adjust && { counts: [adjust.counts, "slots", "V"], bias: [adjust.bias, "slots", "V"] }),
  });
  if (K! < 1 || K! > MAX_DRAFTED) throw new Error(`accept: ${K} tokens drafted for a round, which must be 1 to ${MAX_DRAFTED}`);
  if (pitch! < S!) throw new Error(`accept: drafted has room for ${pitch} sequences, but there are ${S}`);
  match("accept", { scratch: [scratch, ...acceptScratch(rows!, K!, S!)], out: [out, S!, K! + 2] });
  const { subgroupSize, family } = recorder.gpu;
  const slots = [ROUND, ...choiceSlots(adjust)];
  const consts = {
    VOCAB: V!, ROWS: rows!, STEPS: K!, SEQUENCES: S!, PITCH: pitch!, HAS_DRAFT: draftLogits !== undefined,
    SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256,
  };
  const tensors = { logits, draft_logits: draftLogits ?? logits, drafted, rounds, sampling, laws: scratch, out, ...adjust };
  recorder.run({ source: ROWS, slots, consts }, tensors, K! + 1 + (draftLogits === undefined ? 0 : K!), { rowsPer: 1 });
  recorder.run({ source: ACCEPT, slots, consts }, tensors, 1, { rowsPer: 1 });
}
