/** What the tests of accept share: rounds of many sequences for one dispatch, and what the kernel makes of them. */

import type { Gpu } from "../../engine/gpu.ts";
import { accept, acceptScratch, ROUND_WORDS } from "../../kernels/accept.ts";
import { packSampling, SAMPLING_WORDS, type SamplingParams } from "../../kernels/sample.ts";
import { dispatch, put, release, takeU32 } from "../support/gpu.ts";

export interface Case {
  readonly vocab: number;
  /** Room for tokens of a round. */
  readonly k: number;
  /** [rows, vocab]; `first[s]` is the first row of sequence s. */
  readonly logits: Float32Array;
  readonly first: readonly number[];
  /** [k, sequences, vocab]; null for a text draft. */
  readonly draftLogits: Float32Array | null;
  /** By sequence. */
  readonly drafted: readonly (readonly number[])[];
  readonly positions: readonly number[];
  readonly params: readonly SamplingParams[];
  /** `counts` and `bias` are [slots, vocab]. */
  readonly adjust?: { readonly counts: Uint32Array; readonly bias: Float32Array; readonly slots: readonly number[] } | undefined;
}

export interface Outcome { readonly accepted: number; readonly ids: readonly number[] }

/** The words that `accept` writes, and the counts afterwards. `spare` columns of `drafted` belong to nobody. */
export async function acceptAll(gpu: Gpu, c: Case, spare = 0): Promise<{ words: Uint32Array; counts: Uint32Array }> {
  const { vocab, k, first, drafted, adjust } = c;
  const sequences = drafted.length, rows = c.logits.length / vocab, pitch = sequences + spare;
  const steps = new Uint32Array(k * pitch).fill(1); // also what nobody drafted is a token
  drafted.forEach((ids, s) => ids.forEach((id, i) => { steps[i * pitch + s] = id; }));
  const rounds = drafted.flatMap((ids, s) => [first[s]!, ids.length, c.positions[s]!, adjust?.slots[s] ?? 0]);
  const slots = (adjust?.counts.length ?? 0) / vocab;
  const adjusting = adjust && { counts: await put(gpu, [slots, vocab], adjust.counts, "u32", "counts"), bias: await put(gpu, [slots, vocab], adjust.bias) };
  const tensors = {
    logits: await put(gpu, [rows, vocab], c.logits),
    ...(c.draftLogits && { draftLogits: await put(gpu, [k, sequences, vocab], c.draftLogits) }),
    drafted: await put(gpu, [k, pitch], steps, "u32"), rounds: await put(gpu, [sequences, ROUND_WORDS], rounds, "u32"),
    sampling: await put(gpu, [sequences, SAMPLING_WORDS], packSampling(c.params, sequences), "u32"),
    scratch: await put(gpu, acceptScratch(rows, k, sequences), null, "u32", "scratch"), out: await put(gpu, [sequences, k + 2], null, "u32", "out"),
  };
  await dispatch(gpu, (recorder) => accept(recorder, { ...tensors, adjust: adjusting }), { rows: sequences });
  await takeU32(gpu, tensors.scratch);
  const words = await takeU32(gpu, tensors.out);
  const counts = adjusting === undefined ? new Uint32Array() : await takeU32(gpu, adjusting.counts);
  release(gpu, ...Object.values(tensors), ...Object.values(adjusting ?? {}));
  return { words, counts };
}

/** Sequence s of what `acceptAll` gave. */
export function outcomeOf(words: Uint32Array, k: number, s: number): Outcome {
  const at = s * (k + 2), accepted = words[at]!;
  return { accepted, ids: [...words.subarray(at + 1, at + 2 + accepted)] };
}

/** Total variation between how often each token came and `expected`. */
export function totalVariation(tokens: ArrayLike<number>, expected: readonly number[]): number {
  const counts = new Array<number>(expected.length).fill(0);
  for (let i = 0; i < tokens.length; i++) counts[tokens[i]!]!++;
  return expected.reduce((sum, p, token) => sum + Math.abs(counts[token]! / tokens.length - p), 0) / 2;
}

/** Tokens of a round when each drafted one is accepted with probability α on its own: (1 − α^{k+1}) / (1 − α) (Leviathan et al. 2023). */
export function expectedTokens(alpha: number, k: number): number {
  return (1 - alpha ** (k + 1)) / (1 - alpha);
}
