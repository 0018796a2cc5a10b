/** Where a greedy text parts from that of plain decoding, and how close the two tokens were there: the first such place of every arm. */

import { AbortedError } from "../../../engine/errors.ts";
import type { ExperimentConfig } from "../schema.ts";
import type { SpeculativeModel } from "./arms.ts";
import { optionsOf, type SpecArmResult } from "./measure.ts";

export interface TextDivergence {
  readonly arm: string;
  /** Counted from 0. */
  readonly iteration: number;
  readonly prompt: number;
  readonly token: number;
  /** Texts of this arm that are another than plain decoding's, of all. */
  readonly differing: number;
  readonly of: number;
  /** By how much plain decoding preferred its own token, in its logits; null when the other is not among its first 20, or it ends there. */
  readonly gap: number | null;
}

const MOST_TOP = 20;

/** Texts of every arm against those of plain decoding in its first iteration; plain decoding in later ones too. */
export async function divergencesOf(
  llm: SpeculativeModel, arms: readonly SpecArmResult[], prompts: readonly (readonly number[])[], config: ExperimentConfig,
  signal: AbortSignal,
): Promise<TextDivergence[]> {
  const base = arms.find(({ kind }) => kind === "none")?.texts[0];
  if (base === undefined) return [];
  const found: TextDivergence[] = [];
  for (const { name, texts } of arms) {
    const places = texts.flatMap((own, iteration) => own.flatMap((ids, prompt) => {
      const token = partsAt(ids, base[prompt]!);
      return token === null ? [] : [{ arm: name, iteration, prompt, token }];
    }));
    const [first] = places;
    if (first === undefined) continue;
    const { iteration, prompt, token } = first, of = texts.length * base.length;
    const gap = await gapOf(llm, prompts[prompt]!, prompt, token, texts[iteration]![prompt]![token], config, signal);
    found.push({ ...first, differing: places.length, of, gap });
  }
  return found;
}

/** The first place at which two texts differ, the end of the shorter one included; null when they are the same. */
export function partsAt(ids: readonly number[], others: readonly number[]): number | null {
  const at = ids.findIndex((id, i) => id !== others[i]);
  return at >= 0 ? at : ids.length === others.length ? null : ids.length;
}

async function gapOf(
  llm: SpeculativeModel, ids: readonly number[], prompt: number, token: number, other: number | undefined, config: ExperimentConfig,
  signal: AbortSignal,
): Promise<number | null> {
  try {
    const options = optionsOf({ k: null }, { ...config, max_tokens: token + 1 }, prompt, signal);
    const { logprobs } = await llm.generate(ids, { ...options, logprobs: MOST_TOP });
    const here = logprobs?.[token], [best] = here?.top ?? [], rival = here?.top.find(({ id }) => id === other);
    return best === undefined || rival === undefined ? null : best.logprob - rival.logprob;
  } catch (error) {
    if (error instanceof AbortedError) return null;
    throw error;
  }
}
