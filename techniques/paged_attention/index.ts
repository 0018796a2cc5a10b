/**
 * Paged attention as values (Kwon et al. 2023, arXiv 2309.06180): where keys and values live, and what that costs in reserved memory.
 * The cache itself is models/kv_cache.ts, its blocks models/block_tables.ts; here are the two layouts and the arithmetic of waste.
 */

import type { KvLayout } from "../../models/options.ts";

/** Every sequence reserves room for the longest one, per layer and KV head. The baseline. */
export const contiguous: KvLayout = { name: "contiguous" };

/** Blocks of `blockSize` tokens of one KV head of one layer, taken from one pool as a sequence grows. */
export function paged(blockSize = 16): KvLayout {
  return { name: "paged", blockSize };
}

/** Blocks that a sequence of `tokens` takes in each of its tables (one per layer and KV head). */
export function blocksNeeded(layout: KvLayout, tokens: number): number {
  return layout.name === "contiguous" ? 1 : Math.ceil(tokens / layout.blockSize);
}

/** Entries that a sequence of `tokens` reserves in each of its tables: full blocks, and a contiguous block is as long as the longest sequence. */
export function reservedEntries(layout: KvLayout, tokens: number, maxModelLen: number): number {
  return blocksNeeded(layout, tokens) * (layout.name === "contiguous" ? maxModelLen : layout.blockSize);
}

/** The part of the reserved entries that holds no token, over sequences of these lengths: 1 − live / reserved. 0 when nothing is reserved. */
export function waste(layout: KvLayout, lengths: readonly number[], maxModelLen: number): number {
  const reserved = lengths.reduce((sum, tokens) => sum + reservedEntries(layout, tokens, maxModelLen), 0);
  return reserved === 0 ? 0 : 1 - lengths.reduce((sum, tokens) => sum + tokens, 0) / reserved;
}

/** How many sequences of `tokens` each fit a budget of `entries` per table. */
export function sequencesThatFit(layout: KvLayout, tokens: number, maxModelLen: number, entries: number): number {
  return Math.floor(entries / reservedEntries(layout, tokens, maxModelLen));
}
