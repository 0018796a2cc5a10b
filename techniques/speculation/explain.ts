/**
 * What speculation did and why it was worth it or not, as numbers: counts of the rounds (models/draft.ts) beside costs measured on the
 * adapter. Several figures go by the name "acceptance rate" and differ; all of them are here, with what their difference consists of.
 * No words: reports put them into their language.
 */

import type { SpeculationStats } from "../../models/draft.ts";
import {
  bestPrediction, costModel, expectedTokens, leastAlpha, longest, predictions, roundCost, type MeasuredCosts, type Prediction,
} from "./cost.ts";

export interface ExplainOptions {
  readonly costs: MeasuredCosts;
  /** Tokens to draft in a round, as it was asked for; default, and for adaptive lengths, the most that any round drafted. */
  readonly k?: number;
  /** Milliseconds per token of the same work with and without speculation, and the relative difference that two equal runs show. */
  readonly measured?: { readonly plainTpot: number; readonly tpot: number; readonly noise?: number };
}

/** An estimated probability with the ends of Wilson's interval of 95 %. */
export interface Share { readonly value: number; readonly low: number; readonly high: number; readonly of: number }

export interface Explanation {
  readonly draft: string;
  readonly k: number;
  readonly rounds: number;
  readonly drafted: number;
  readonly accepted: number;
  /** accepted / drafted; null when nothing was drafted. */
  readonly rate: number | null;
  /** [i] of rounds that drafted an i-th token, the share that accepted it and so all before it. */
  readonly byPosition: readonly { readonly drafted: number; readonly accepted: number; readonly rate: number }[];
  /** α̂: how often the first drafted token is accepted. Rounds of one text hang together, so the truth may lie a little further out. */
  readonly alpha: Share | null;
  /** Tokens per round before the end is cut off, 1 + accepted / rounds: vLLM's mean acceptance length. */
  readonly meanLength: number | null;
  /** (1 − α̂^{K+1}) / (1 − α̂): what it would be if every position were accepted like the first. */
  readonly expectedLength: number | null;
  readonly costs: { readonly c: number; /** [K] */ readonly v: readonly number[] };
  /** For every K whose verify pass was measured, from α̂; empty without one. `best` is the fastest of them. */
  readonly predictions: readonly Prediction[];
  readonly best: Prediction | null;
  /** `predictions` at this K. */
  readonly predicted: Prediction | null;
  /** What the rounds as they were, with their true lengths and acceptances, must gain at the measured costs. */
  readonly counted: Omit<Prediction, "k"> | null;
  readonly measured: { readonly speedUp: number; readonly noise: number } | null;
  readonly source: SourceRate | null;
  /** α from which speculation pays at these costs; null: at none. */
  readonly leastAlpha: number | null;
}

/**
 * The source's acceptance, (tokens per step − 1) / K. In whole numbers it is (accepted − cut) / (drafted + missing): tokens that were
 * accepted and cut off at the end of the text do not count, tokens that were never drafted count as rejected. Neither this nor
 * accepted / drafted is α: of a draft with acceptance α they come to (E[tokens] − 1) / K, which is .538 at α = .8 and K = 5.
 */
export interface SourceRate {
  readonly value: number;
  readonly cut: number;
  readonly missing: number;
  /** (E[tokens] − 1) / K at α̂. */
  readonly ofAlpha: number;
}

/** The numbers of one request, or of several (`together`), at costs measured for one sequence at a time. */
export function explain(stats: SpeculationStats, { costs, k = stats.draftedAt.length, measured }: ExplainOptions): Explanation {
  const { draft, rounds, drafted, accepted, draftedAt, acceptedAt, tokens } = stats;
  const model = costModel(costs);
  const alpha = draftedAt.length === 0 || draftedAt[0] === 0 ? null : shareOf(acceptedAt[0]!, draftedAt[0]!);
  const within = alpha === null ? [] : predictions(alpha.value, model);
  return {
    draft, k, rounds, drafted, accepted, alpha,
    rate: drafted === 0 ? null : accepted / drafted,
    byPosition: draftedAt.map((count, i) => ({ drafted: count, accepted: acceptedAt[i]!, rate: acceptedAt[i]! / count })),
    meanLength: rounds === 0 ? null : 1 + accepted / rounds,
    expectedLength: alpha === null ? null : expectedTokens(alpha.value, k),
    costs: model,
    predictions: within,
    best: alpha === null ? null : bestPrediction(alpha.value, model),
    predicted: within.find((each) => each.k === k) ?? null,
    counted: rounds === 0 || draftedAt.length > longest(model) ? null : countedOf(stats, (length) => roundCost(model, length)),
    measured: measured === undefined ? null : { speedUp: measured.plainTpot / measured.tpot, noise: measured.noise ?? 0 },
    source: alpha === null ? null : {
      value: (tokens / rounds - 1) / k, cut: accepted + rounds - tokens, missing: rounds * k - drafted,
      ofAlpha: (expectedTokens(alpha.value, k) - 1) / k,
    },
    leastAlpha: leastAlpha(model),
  };
}

/** Rounds of i drafted tokens are those that drafted an i-th one and no further. */
function countedOf({ rounds, accepted, draftedAt }: SpeculationStats, costOf: (length: number) => number): Omit<Prediction, "k"> {
  const from = [rounds, ...draftedAt];
  const cost = from.reduce((sum, count, length) => sum + (count - (from[length + 1] ?? 0)) * costOf(length), 0) / rounds;
  const tokens = 1 + accepted / rounds;
  return { tokens, cost, speedUp: tokens / cost };
}

/** Wilson 1927: unlike the normal interval it stays within 0 … 1, and has a width where all or none were accepted. */
export function shareOf(hits: number, of: number, z = 1.96): Share {
  const value = hits / of;
  const middle = (value + z ** 2 / (2 * of)) / (1 + z ** 2 / of);
  const half = z / (1 + z ** 2 / of) * Math.sqrt(value * (1 - value) / of + (z / (2 * of)) ** 2);
  return { value, low: Math.max(0, middle - half), high: Math.min(1, middle + half), of };
}

/** Of several requests with one draft, as if all rounds were of one. Times of rounds that they shared are in the sum once for each. */
export function together(stats: readonly SpeculationStats[]): SpeculationStats {
  const names = new Set(stats.map(({ draft }) => draft));
  if (names.size !== 1) throw new Error(`speculation of ${names.size} drafts (${[...names].join(", ")}) cannot be put together`);
  const sum = (of: (each: SpeculationStats) => number): number => stats.reduce((total, each) => total + of(each), 0);
  const positions = Array.from({ length: Math.max(...stats.map(({ draftedAt }) => draftedAt.length)) }, (_, i) => i);
  return {
    draft: [...names][0]!,
    rounds: sum(({ rounds }) => rounds), drafted: sum(({ drafted }) => drafted), accepted: sum(({ accepted }) => accepted),
    draftedAt: positions.map((i) => sum(({ draftedAt }) => draftedAt[i] ?? 0)),
    acceptedAt: positions.map((i) => sum(({ acceptedAt }) => acceptedAt[i] ?? 0)),
    tokens: sum(({ tokens }) => tokens),
    draftMs: sum(({ draftMs }) => draftMs), verifyMs: sum(({ verifyMs }) => verifyMs), hostMs: sum(({ hostMs }) => hostMs),
  };
}
