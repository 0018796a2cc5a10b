/**
 * What may be concluded from a run, in the words of its language: whether the technique acted at all, whether it changed a text it must
 * not change, and sentences about differences. A sentence is claimed only when the iterations agree (stats.ts); nothing else makes one.
 */

import type { ArmName } from "./arms.ts";
import { gatePaging, gatePrefix } from "./gates.ts";
import type { Words } from "./lang/en.ts";
import { hitRate, memoryUse, pairOf, percent, signed, type Metric, type MetricChange, type Pair } from "./metrics.ts";
import type { ArmResult, Identical, Outcome } from "./measure.ts";
import type { Change } from "./stats.ts";

export interface Comparison {
  /** Why nothing can be concluded from these runs; null when the technique acted and changed no greedy text. */
  readonly invalid: string | null;
  readonly engagement: string;
  readonly correctness: string;
  readonly pairs: readonly Pair[];
  /** Sequences in one step, when paged and contiguous-exact ran equally many and preempted none; null when not. */
  readonly equalBatch: number | null;
}

const PAIRS: readonly (readonly [from: ArmName, to: ArmName])[] = [["contiguous-max", "paged"], ["contiguous-exact", "paged"], ["paged", "paged-prefix"]];

/** What of each arm is looked at to compare them. */
export type Compared = Pick<Outcome, "identical" | "arms" | "skipped">;

/** Null unless at least two arms were loaded. */
export function compare(outcome: Compared, words: Words): Comparison | null {
  const { arms, identical } = outcome;
  if (arms.length < 2) return null;
  const arm = (name: ArmName): ArmResult | undefined => arms.find((one) => one.name === name);
  const allRan = arms.every(({ iterations }) => iterations.length > 0);
  const { engagement, closed } = allRan ? engagementOf(outcome, words) : { engagement: words.notAllRan, closed: null };
  const correctness = textsInWords(identical, words);
  const [exact, paged, again] = [arm("contiguous-exact"), arm("paged"), arm("again")], control = again === undefined ? undefined : pairOf(arms[0]!, again);
  return {
    invalid: closed !== null ? closed : identical !== null && identical.required && identical.same < identical.of ? words.greedyDiffers(correctness) : null,
    engagement, correctness,
    pairs: PAIRS.flatMap(([from, to]) => {
      const [a, b] = [arm(from), arm(to)];
      return a === undefined || b === undefined ? [] : [pairOf(a, b, control)];
    }),
    equalBatch: exact !== undefined && paged !== undefined && exact.cache.peakRunning === paged.cache.peakRunning && exact.cache.preemptions + paged.cache.preemptions === 0
      ? paged.cache.peakRunning : null,
  };
}

/** What the technique did in words, and why that is nothing; null when it is something. */
interface Engagement { readonly engagement: string; readonly closed: string | null }

/** Paging acts when less of what it reserves is wasted; a prefix cache when it is hit. */
function engagementOf({ arms, skipped }: Compared, words: Words): Engagement {
  const prefix = arms.find(({ name }) => name === "paged-prefix");
  if (prefix !== undefined) {
    const { queriedTokens, hitTokens } = prefix.cache;
    const engagement = words.hits(hitTokens, queriedTokens, percent(hitRate(prefix) ?? 0), percent(shareable(prefix)));
    return { engagement, closed: gatePrefix(hitTokens, words) };
  }
  const [before, after] = (["contiguous-max", "paged"] as const).map((name) => arms.find((arm) => arm.name === name));
  const paged = memoryUse(after!).waste;
  if (before === undefined) {
    const isSkipped = skipped.some(({ name }) => name === "contiguous-max"), engagement = words.ranWhereOtherCannot;
    return { engagement, closed: paged !== null && isSkipped ? null : words.savedNothing(engagement) };
  }
  const contiguous = memoryUse(before).waste;
  const engagement = words.wasted(paged === null ? words.none : percent(paged), contiguous === null ? words.none : percent(contiguous));
  return { engagement, closed: gatePaging(paged, contiguous, engagement, words) };
}

/** The part of the prompts that the common text makes, in whole blocks: all that a cache can share of prompts that differ behind it. */
function shareable({ iterations, sharedTokens }: ArmResult): number {
  const prompts = iterations.flatMap(({ requests }) => requests.map(({ promptTokens }) => promptTokens));
  const all = prompts.reduce((sum, tokens) => sum + tokens, 0);
  return all === 0 ? 0 : prompts.length * sharedTokens / all;
}

function textsInWords(identical: Identical | null, words: Words): string {
  if (identical === null) return words.notCompared;
  const { same, of, firstDifference } = identical;
  return firstDifference === null ? words.allSame(of) : words.someSame(same, of, firstDifference.token + 1, firstDifference.prompt + 1);
}

/** The sentence about one metric: a difference is claimed only when the iterations agree on its sign and it stands out of the noise (stats.ts). */
export function sentence({ metric, change }: { readonly metric: Pick<Metric, "key" | "better" | "missing">; readonly change: Change | null }, words: Words): string {
  const label = words.metrics[metric.key];
  if (change === null) return words.cannotCompare(label, metric.missing === undefined ? null : words.missing[metric.missing]);
  const { median } = change;
  const doubt = doubtOf(change, words);
  if (doubt !== null) return words.doubtful(label, doubt, rangeOf(change, words));
  return words.changed(label, `${Math.abs(median).toFixed(1)} %`, median > 0, (median < 0) === (metric.better === "lower"), rangeOf(change, words));
}

/** The same as a ratio: what one arm takes as a multiple of the other, with its range. */
export function ratioSentence({ metric, change }: MetricChange, words: Words): string {
  if (change === null) return sentence({ metric, change }, words);
  const ratio = (by: number): string => (1 + by / 100).toFixed(3);
  return words.ratio(words.metrics[metric.key], ratio(change.median), words.range(ratio(change.low), ratio(change.high)), doubtOf(change, words));
}

export function rangeOf({ low, high }: Change, words: Words): string {
  return low === high ? signed(low) : words.range(signed(low), signed(high));
}

/** Why a change is not claimed; null when it is. */
export function doubtOf({ measurable, tooFew }: Change, words: Words): string | null {
  return measurable ? null : tooFew === true ? words.tooFew : words.noDifference;
}

/** A sentence for every arm that had to preempt, naming what to change. */
export function preemptionNotes(arms: readonly ArmResult[], words: Words): string[] {
  return arms.filter(({ cache }) => cache.preemptions > 0).map(({ name, cache, iterations }) => words.preempted(words.arms[name], cache.preemptions, iterations.length));
}
