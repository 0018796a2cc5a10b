/**
 * −log p of the tokens that truly follow, made on the GPU from logits that never leave it: 8 bytes per token come back, and 16 where
 * another model's logits stand beside them, with the divergence of the two. Perplexity and everything measured about quality is made of it.
 */

import { wgsl, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_WRITE, batchConsts, type Batch } from "./batch.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const NLL = file("./nll.wgsl");
const REDUCE = file("./reduce.wgsl");
const ALONE = file("./nll_alone.wgsl");
const AGAINST = file("./nll_against.wgsl");

/** Words of a result: −log p and flags; with a base also the divergence and the base's −log p. */
export const NLL_WORDS = { alone: 2, against: 4 } as const;
const FLAGS = { HIT: 1, SAME_TOP: 2, BASE_HIT: 4, BROKEN: 8, BASE_BROKEN: 16 } as const;

/** Of one token, in nats. */
export interface Surprise {
  readonly nll: number;
  /** It was the likeliest token (ties to the lowest id). */
  readonly hit: boolean;
  /** A logit was NaN or infinite: the other fields mean nothing. */
  readonly broken: boolean;
}

/** The same beside a base model. */
export interface Comparison extends Surprise {
  /** KL(base‖this) over the whole vocabulary, ≥ 0. */
  readonly kld: number;
  readonly baseNll: number;
  readonly baseHit: boolean;
  readonly sameTop: boolean;
  readonly baseBroken: boolean;
}

export interface NllOperands {
  /** f32 [S, V]; left as they are. */
  readonly logits: Tensor;
  /** u32 [steps, S]: ids of the vocabulary. */
  readonly targets: Tensor;
  /** u32 [steps, S, NLL_WORDS]. */
  readonly out: Tensor;
  /** f32 [S, V], another model's logits of the same samples. */
  readonly base?: Tensor | undefined;
  readonly batch: Batch;
}

/**
 * Sample i of the batch's step s (word 0 of the batch) reads targets[s mod steps][i] and writes out[s mod steps][i]. With `feedback` the
 * target also becomes the next id of its row, whose position moves on: stands before `advance` in a decode step.
 */
export function nll(recorder: Recorder, { logits, targets, out, base, batch }: NllOperands, { feedback }: { feedback: boolean }): void {
  const words = base === undefined ? NLL_WORDS.alone : NLL_WORDS.against;
  const { S, V, steps } = match("nll", {
    logits: [logits, "S", "V"], targets: [targets, "steps", "S"], out: [out, "steps", "S", words], ...(base && { base: [base, "S", "V"] }),
  });
  const { subgroupSize, family } = recorder.gpu;
  recorder.run({
    source: NLL, slots: [REDUCE, base === undefined ? ALONE : AGAINST, ...BATCH_WRITE],
    consts: {
      VOCAB: V!, STEPS: steps!, SAMPLES: S!, WORDS: words, FEEDBACK: feedback, ...FLAGS,
      SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256, ...batchConsts(batch),
    },
  }, { logits, targets, out, batch: batch.tensor, ...(base && { base }) }, 1, { rowsPer: 1 });
}

/** Read what `nll` wrote without a base, from word `offset` on. */
export function unpackSurprise(words: Uint32Array, offset: number): Surprise {
  const flags = words[offset + 1]!;
  return { nll: floatAt(words, offset), hit: (flags & FLAGS.HIT) !== 0, broken: (flags & FLAGS.BROKEN) !== 0 };
}

/** Read what `nll` wrote with a base. */
export function unpackComparison(words: Uint32Array, offset: number): Comparison {
  const flags = words[offset + 1]!;
  return {
    ...unpackSurprise(words, offset), kld: floatAt(words, offset + 2), baseNll: floatAt(words, offset + 3),
    baseHit: (flags & FLAGS.BASE_HIT) !== 0, sameTop: (flags & FLAGS.SAME_TOP) !== 0, baseBroken: (flags & FLAGS.BASE_BROKEN) !== 0,
  };
}

function floatAt(words: Uint32Array, offset: number): number {
  return new Float32Array(words.buffer, words.byteOffset + 4 * offset, 1)[0]!;
}
