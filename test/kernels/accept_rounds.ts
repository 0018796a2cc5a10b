/** Rounds as they come in one batch, for the tests of accept: every kind of sampling and length, drafted as a model or a text would. */

import type { Round } from "../../kernels/reference/accept.ts";
import { sample, type AdjustRow } from "../../kernels/reference/sample.ts";
import { IN_PROMPT, type SamplingParams } from "../../kernels/sample.ts";
import { numbers, shuffled, uniform } from "../support/gpu.ts";
import type { Case } from "./accept_case.ts";

const CHOICES: readonly Partial<SamplingParams>[] = [
  { temperature: 0 }, {}, { topK: 5 }, { topP: 0.9 }, { topK: 40, topP: 0.8, minP: 0.02 }, { temperature: 0.3 }, { temperature: 1.7, minP: 0.1 },
];
const PENALTIES: readonly Partial<SamplingParams>[] = [
  {}, { repetitionPenalty: 2 }, { presencePenalty: 4 }, { frequencyPenalty: 3 }, { repetitionPenalty: 1.1, presencePenalty: -0.5, frequencyPenalty: 0.3 },
];

/** What a round of sequence s sees of counts and biases before it. */
export function adjustOf({ adjust, vocab }: Case, s: number): AdjustRow | undefined {
  const at = adjust && adjust.slots[s]! * vocab;
  return at === undefined ? undefined : { counts: adjust!.counts.slice(at, at + vocab), bias: adjust!.bias.subarray(at, at + vocab) };
}

/** Add the ids of the vocabulary to `counts`. */
export function counted(counts: Uint32Array, ids: readonly number[]): void {
  for (const id of ids) if (id < counts.length) counts[id]!++;
}

/** Sequence s as the twin takes it. */
export function roundOf(c: Case, s: number): Round {
  const { vocab, logits, draftLogits } = c, drafted = c.drafted[s]!, sequences = c.drafted.length;
  const row = (array: Float32Array, index: number): Float32Array => array.subarray(index * vocab, (index + 1) * vocab);
  return {
    rows: Array.from({ length: drafted.length + 1 }, (_, i) => row(logits, c.first[s]! + i)),
    draftRows: draftLogits && drafted.map((_, i) => row(draftLogits, i * sequences + s)),
    drafted, position: c.positions[s]!, params: c.params[s]!, adjust: adjustOf(c, s),
  };
}

/**
 * Rounds of 0 to k drafted tokens. A draft's logits are the target's with some noise, and its tokens chosen from them as the draft would;
 * a text's tokens are the likeliest with some that are not.
 */
export function mixedRounds(
  { vocab, text, adjust, sequences, k, seed }: { vocab: number; text: boolean; adjust: boolean; sequences: number; k: number; seed: number },
): Case {
  const random = uniform(seed), slots = sequences + 3;
  const params = Array.from({ length: sequences }, (_, s): SamplingParams => ({
    temperature: 0.9, topP: 1, topK: 0, seed: Math.floor(random() * 2 ** 32), ...CHOICES[s % CHOICES.length], ...(adjust && PENALTIES[s % PENALTIES.length]),
  }));
  const base = numbers(sequences * vocab, seed + 1), change = numbers(sequences * (k + 1) * vocab, seed + 4, 0.2);
  const noise = numbers(sequences * (k + 1) * vocab, seed + 2, 0.2);
  // The rows of a round are much alike: what was drafted before is likely again, so that counting it must show.
  const logits = change.map((value, at) => value + base[Math.floor(at / vocab / (k + 1)) * vocab + (at % vocab)]!);
  const order = shuffled(sequences, seed); // rounds stand in `logits` in any order
  const c: Case = {
    vocab, k, logits, params, first: order.map((at) => at * (k + 1)), draftLogits: text ? null : new Float32Array(k * sequences * vocab),
    drafted: params.map(() => []), positions: params.map(() => Math.floor(random() * 5000)),
    adjust: adjust ? {
      counts: Uint32Array.from({ length: slots * vocab }, () => (random() < 0.2 ? IN_PROMPT : 0) + (random() < 0.2 ? Math.floor(random() * 4) : 0)),
      bias: Float32Array.from({ length: slots * vocab }, () => (random() < 0.1 ? -Infinity : random() < 0.2 ? 2 * random() - 1 : 0)),
      slots: shuffled(slots, seed + 3).slice(0, sequences),
    } : undefined,
  };
  params.forEach((each, s) => {
    const drafted = c.drafted[s] as number[], row = adjustOf(c, s);
    const length = (s * 5) % (k + 1);
    for (let i = 0; i < length; i++) {
      const at = (c.first[s]! + i) * vocab;
      const noisy = logits.slice(at, at + vocab).map((logit, token) => logit + noise[at + token]!);
      c.draftLogits?.set(noisy, (i * sequences + s) * vocab);
      const ofDraft = { ...each, seed: (each.seed ^ 0x5bd1e995) >>> 0, temperature: text ? 0.3 * Math.min(each.temperature, 1) : each.temperature };
      const { token } = sample(noisy, ofDraft, c.positions[s]! + i + 1, row);
      drafted.push(random() < 0.08 ? Math.floor(random() * vocab) : token);
      if (row) counted(row.counts as Uint32Array, [drafted[i]!]);
    }
  });
  return c;
}
