/**
 * Paged attention as values (Kwon et al. 2023, arXiv 2309.06180): where keys and values live, and what that costs in reserved memory.
 * The cache itself is models/kv_cache.ts, its blocks models/block_tables.ts; here are the layouts and the arithmetic of waste. Lengths are
 * in tokens, budgets and reservations in entries: the room of one token in the table of one KV head of one layer.
 */

import type { KvLayout } from "../../models/options.ts";

/** Every sequence reserves room for the longest one. The baseline: nobody knows beforehand how long a text will get. */
export const contiguousMax: KvLayout = { name: "contiguous", reserve: "max" };

/** Every sequence reserves exactly what it will come to. No server knows that; it is what contiguous memory could do at best. */
export const contiguousExact: KvLayout = { name: "contiguous", reserve: "exact" };

/** Blocks of `blockSize` tokens of one KV head of one layer, taken from one pool as a sequence grows. */
export function paged(blockSize = 16): KvLayout {
  return { name: "paged", blockSize };
}

/** What a request comes to. */
export interface Lengths { readonly prompt: number; readonly output: number }

/** Entries that a sequence of `tokens`, which will come to `final`, holds in each of its tables. */
export function reservedEntries(layout: KvLayout, tokens: number, maxModelLen: number, final = tokens): number {
  if (layout.name === "paged") return Math.ceil(tokens / layout.blockSize) * layout.blockSize;
  return layout.reserve === "max" ? maxModelLen : final;
}

/** The part of the reserved entries that holds no token, over sequences of these lengths: 1 − live / reserved. 0 when nothing is reserved. */
export function waste(layout: KvLayout, lengths: readonly number[], maxModelLen: number): number {
  return share(lengths.map((tokens) => [tokens, reservedEntries(layout, tokens, maxModelLen)]));
}

/**
 * The same over the lives of requests, one sample per new token: a sequence of prompt + i tokens counts for every i below its output. It is
 * what an average over the forward passes of a server comes to, whatever runs together.
 */
export function lifetimeWaste(layout: KvLayout, requests: readonly Lengths[], maxModelLen: number): number {
  return share(requests.flatMap(({ prompt, output }) => Array.from({ length: output }, (_, i) => {
    return [prompt + i, reservedEntries(layout, prompt + i, maxModelLen, prompt + output)] as const;
  })));
}

/** 1 − Σ live / Σ reserved. */
function share(samples: readonly (readonly [live: number, reserved: number])[]): number {
  const [live, reserved] = samples.reduce(([a, b], [c, d]) => [a + c, b + d] as const, [0, 0] as const);
  return reserved === 0 ? 0 : 1 - live / reserved;
}

/** How many sequences of these lengths, taken in order and over again, a budget of `entries` per table holds at a time. */
export function sequencesThatFit(layout: KvLayout, lengths: readonly number[], maxModelLen: number, entries: number): number {
  const reserved = lengths.map((tokens) => reservedEntries(layout, tokens, maxModelLen));
  const round = reserved.reduce((sum, taken) => sum + taken, 0);
  if (round === 0) return 0;
  const rounds = Math.floor(entries / round);
  let left = entries - rounds * round;
  const more = reserved.findIndex((taken) => (left -= taken) < 0);
  return rounds * lengths.length + Math.max(0, more);
}
