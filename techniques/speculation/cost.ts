/**
 * What a round of speculation gains and what it costs. Time is counted in plain decode steps: a draft step takes c of them, and the verify
 * pass over K drafted tokens takes v(K), which is 1 only on a device that computes K + 1 rows in the time of one. Leviathan et al. 2023
 * assume that; here both are measured (`llm.speculationCosts()`).
 */

import type { SpeculationCosts } from "../../models/draft.ts";

/** What is measured on an adapter, for one sequence. */
export type MeasuredCosts = Pick<SpeculationCosts, "decodeMs" | "draftMs" | "verifyMs">;

export interface CostModel {
  readonly c: number;
  /** [K] of K drafted tokens, K + 1 rows; v[0] is 1, a round that drafts nothing being a plain step. */
  readonly v: readonly number[];
}

export function costModel({ decodeMs, draftMs, verifyMs }: MeasuredCosts): CostModel {
  if (!(decodeMs > 0) || !(draftMs >= 0) || verifyMs.length < 2 || !verifyMs.every((ms) => ms > 0)) {
    const told = `decode ${decodeMs} ms, draft ${draftMs} ms and verify [${verifyMs.join(", ")}] ms`;
    throw new Error(`speculation costs: ${told} are not times of one row and more`);
  }
  return { c: draftMs / decodeMs, v: verifyMs.map((ms, k) => (k === 0 ? 1 : ms / decodeMs)) };
}

/** The largest K whose verify pass was measured. */
export function longest({ v }: CostModel): number {
  return v.length - 1;
}

/** E[tokens of a round] = 1 + α + … + α^K = (1 − α^{K+1}) / (1 − α): a token is accepted with probability α if those before it were. */
export function expectedTokens(alpha: number, k: number): number {
  let [sum, power] = [1, 1];
  for (let i = 0; i < k; i++) sum += power *= alpha;
  return sum;
}

/** Decode steps that a round of k drafted tokens takes: K·c + v(K). */
export function roundCost({ c, v }: CostModel, k: number): number {
  const verify = v[k];
  if (verify === undefined) throw new Error(`speculation costs: verifying ${k} tokens was not measured, only up to ${v.length - 1}`);
  return k * c + verify;
}

/** Tokens per time, relative to plain decoding. */
export function speedUp(alpha: number, k: number, model: CostModel): number {
  return expectedTokens(alpha, k) / roundCost(model, k);
}

export interface Prediction { readonly k: number; readonly tokens: number; readonly cost: number; readonly speedUp: number }

/** For K = 1 … most. */
export function predictions(alpha: number, model: CostModel, most = longest(model)): Prediction[] {
  return Array.from({ length: Math.max(1, Math.min(most, longest(model))) }, (_, i) => {
    const [tokens, cost] = [expectedTokens(alpha, i + 1), roundCost(model, i + 1)];
    return { k: i + 1, tokens, cost, speedUp: tokens / cost };
  });
}

/** Of predictions for K = 1 … `most`, the fastest; of equal ones the shortest. A K below 1 is no speculation and not considered. */
export function bestPrediction(alpha: number, model: CostModel, most = longest(model)): Prediction {
  return predictions(alpha, model, most).reduce((best, each) => (each.speedUp > best.speedUp ? each : best));
}

/** The α from which some K is faster than plain decoding; null when not even a draft that is always right would be. */
export function leastAlpha(model: CostModel): number | null {
  const helps = (alpha: number): boolean => bestPrediction(alpha, model).speedUp > 1;
  if (!helps(1)) return null;
  // More acceptance is never slower, so halving finds the edge.
  let [low, high] = [0, 1];
  if (helps(low)) return low;
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (helps(middle)) high = middle;
    else low = middle;
  }
  return high;
}
