/** The next token of every sampled row, chosen on the GPU; the host reads back token ids only. */

import { wgsl, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_WRITE, batchConsts, type Batch } from "./batch.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const SAMPLE = file("./sample.wgsl");
const PLAIN = file("./logit_plain.wgsl");
const ADJUSTED = file("./logit_adjusted.wgsl");
const CHOICE = [file("./reduce.wgsl"), file("./limits.wgsl"), file("./gumbel.wgsl")];

/** What the sampler writes for a row with a NaN or infinite logit, or one in which every token is forbidden. */
export const NO_TOKEN = 0xffff_ffff;
/** In a token's count: the prompt holds it. The bits below count how often the text does. */
export const IN_PROMPT = 0x8000_0000;
/**
 * Words per sample in the sampling buffer: temperature, top_p, top_k, seed; the greatest distance that min-p keeps, repetition, presence
 * and frequency penalty; 1 + the number of logprobs (0: none wanted), and three that pad a sample to 16 bytes.
 */
export const SAMPLING_WORDS = 12;
/** Which of them holds 1 + the number of logprobs. */
export const LOGPROBS_WORD = 8;

const LARGEST = 3.4028234663852886e38;
const LEAST_NORMAL = 2 ** -126;

/**
 * How one row's token is chosen (the user's view of the words: models/options.ts). Order, as in transformers: penalties and bias,
 * temperature, top-k, top-p of what top-k left, min-p; vLLM puts min-p before top-k, which differs only in what top-p's share is of.
 */
export interface SamplingParams {
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly seed: number;
  /** Keep tokens at least this share as likely as the likeliest; 0 (default) is off, 1 keeps only those that tie with it. */
  readonly minP?: number;
  /** Have effect only where `sample` is given `adjust`. Defaults 1, 0 and 0: no penalty. */
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  /** How many of the likeliest tokens `logprobs` (kernels/logprobs.ts) names, 0 to 20; null or absent leaves the row out altogether. */
  readonly logprobs?: number | null;
}

/** Pack the parameters of each sample, in order. */
export function packSampling(samples: readonly SamplingParams[], capacity: number): Uint32Array {
  const words = new Uint32Array(capacity * SAMPLING_WORDS);
  const floats = new Float32Array(words.buffer);
  samples.forEach(({ temperature, topP, topK, seed, minP = 0, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, logprobs = null }, index) => {
    const at = index * SAMPLING_WORDS;
    floats[at] = temperature;
    floats[at + 1] = topP;
    words[at + 2] = topK;
    words[at + 3] = seed;
    floats[at + 4] = minP > 0 ? 0 - Math.log(minP) : LARGEST; // 0 − 0 is +0: the kernel compares bits, and −0 has one
    floats[at + 5] = Math.max(repetitionPenalty, LEAST_NORMAL); // else a tiny one would be 0 on the GPU, and divide
    floats[at + 6] = presencePenalty;
    floats[at + 7] = frequencyPenalty;
    words[at + LOGPROBS_WORD] = logprobs === null ? 0 : logprobs + 1;
  });
  return words;
}

/** The row of `Adjust.counts` of a sequence that has this prompt and so far this text: u32 [vocab]. Throws on an id outside the vocabulary. */
export function packCounts(vocab: number, prompt: Iterable<number>, text: Iterable<number>): Uint32Array {
  const counts = new Uint32Array(vocab);
  for (const id of text) counts[inside(vocab, id)]!++;
  for (const id of prompt) counts[id] = (counts[inside(vocab, id)]! | IN_PROMPT) >>> 0;
  return counts;
}

/** The row of `Adjust.bias` for biases by token id: f32 [vocab]; −Infinity forbids a token. Throws on an id outside the vocabulary. */
export function packBias(vocab: number, logitBias: Readonly<Record<number, number>>): Float32Array {
  const bias = new Float32Array(vocab);
  for (const [id, value] of Object.entries(logitBias)) bias[inside(vocab, Number(id))] = value;
  return bias;
}

function inside(vocab: number, id: number): number {
  if (Number.isInteger(id) && id >= 0 && id < vocab) return id;
  throw new Error(`token ${id} is not one of a vocabulary of ${vocab}`);
}

/**
 * What penalties and biases are made of, one row for every sequence slot of the batch: `counts` u32 [slots, V] (IN_PROMPT | times in the
 * text), to which the sampler adds each token it chooses, and `bias` f32 [slots, V].
 */
export interface Adjust { readonly counts: Tensor; readonly bias: Tensor }

/** What kernels that choose tokens are made of, with penalties and biases or without. They define `raw_logit` and `also_counted`. */
export function choiceSlots(adjust: Adjust | undefined): readonly WgslFile[] {
  return [...CHOICE, adjust === undefined ? PLAIN : ADJUSTED];
}

export interface SampleOperands {
  /** f32 [S, V]; left as they are. */
  readonly logits: Tensor;
  /** u32 [S, SAMPLING_WORDS], see `packSampling`. */
  readonly sampling: Tensor;
  /** u32 [ring, rows of batch]. */
  readonly sampled: Tensor;
  readonly batch: Batch;
  /**
   * For batches in which a row has a penalty or a bias; rows with neither choose as without it. A sequence may then have one sample in a
   * step, as two would count at the same time. Without it nothing is paid for it.
   */
  readonly adjust?: Adjust | undefined;
}

/**
 * Sample i writes sampled[step mod ring][i]; with `feedback` the token also becomes the next id of its row, whose position moves on, so
 * that the next step needs nothing from the host.
 */
export function sample(recorder: Recorder, operands: SampleOperands, { feedback }: { feedback: boolean }): void {
  const { logits, sampling, sampled, batch, adjust } = operands;
  const { V, ring } = match("sample", {
    logits: [logits, "S", "V"], sampling: [sampling, "S", SAMPLING_WORDS], sampled: [sampled, "ring", batch.rows],
    ...(adjust && { counts: [adjust.counts, "slots", "V"], bias: [adjust.bias, "slots", "V"] }),
  });
  const { subgroupSize, family } = recorder.gpu;
  recorder.run({
    source: SAMPLE, slots: [...choiceSlots(adjust), ...BATCH_WRITE],
    consts: {
      VOCAB: V!, RING: ring!, FEEDBACK: feedback, SUBGROUP: subgroupSize, WORKGROUP: family === "software" ? subgroupSize : 256, ...batchConsts(batch),
    },
  }, { logits, sampling, sampled, batch: batch.tensor, ...adjust }, 1, { rowsPer: 1 });
}
