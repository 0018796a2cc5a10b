/**
 * What a run of speculation should have gained by arithmetic (techniques/speculation/cost.ts): its rounds with their true lengths, priced
 * with what drafting and verifying cost on this adapter, and the plain steps between them, where the draft proposed nothing. What the end
 * of the text cut off was paid for and does not count.
 */

import { longest, roundCost, type CostModel } from "../../../techniques/speculation/cost.ts";
import type { SpeculationStats } from "../../../models/draft.ts";

/**
 * Times faster than plain decoding at `decoded` tokens, the first of each request left out. Null without any, or where a round was longer
 * than was measured.
 */
export function predictedSpeedUp(
  { rounds, draftedAt, tokens }: Pick<SpeculationStats, "rounds" | "draftedAt" | "tokens">, decoded: number, model: CostModel,
): number | null {
  if (decoded <= 0 || draftedAt.length > longest(model)) return null;
  const from = [rounds, ...draftedAt];
  const steps = from.reduce((sum, count, length) => sum + (count - (from[length + 1] ?? 0)) * roundCost(model, length), 0);
  return decoded / (steps + decoded - tokens);
}
