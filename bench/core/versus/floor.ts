/**
 * Below what a difference between two runs means nothing, and of which cause: how much equal arms differed, how much an arm differed from
 * itself, and how much the machine itself was another one. All in logarithms of ratios, so that twice as fast weighs what half as fast
 * does; percents are for reading.
 */

import type { Yard } from "../../../engine/yardstick.ts";
import type { MetricKey } from "../lang/en.ts";
import type { Result, ResultArm } from "../result.ts";
import { bootstrapMedians, middle, quantile, restlessness } from "../stats.ts";
import type { Yards } from "../turns.ts";

/** A ratio of medians, B to A, with the interval of its bootstrap, in logarithms. */
export interface Ratio {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

/**
 * `control`: equal arms; `restless`: one arm; `machine`: the yardsticks; `uneven`: their parts against each other; `drift`: a baseline of
 * unchanged code.
 */
export type Cause = "control" | "restless" | "machine" | "uneven" | "drift" | "none";
export interface Floor {
  readonly log: number;
  readonly cause: Cause;
}

export const percentOf = (log: number): number => Math.expm1(log) * 100;
export const logOf = (percent: number): number => Math.log1p(Math.max(percent, -99.99) / 100);
/** The end of an interval that lies farther from no change. */
export const farEnd = ({ low, high }: Ratio): number => Math.max(Math.abs(low), Math.abs(high));
export const isBeyond = ({ low, high }: Ratio, floor: number): boolean => low > floor || high < -floor;

export function highest(floors: readonly Floor[]): Floor {
  return floors.reduce((most, floor) => (floor.log > most.log ? floor : most), { log: 0, cause: "none" });
}

/** Samples as logarithms, by iteration. Only what is more than nothing has one. */
export function logsOf(samples: readonly (number | null)[]): (number | null)[] {
  return samples.map((sample) => (sample === null || sample <= 0 ? null : Math.log(sample)));
}

export const present = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);

/** Of two groups of logarithms that are resampled apart; null where one is empty. */
export function ratioOf(a: readonly (number | null)[], b: readonly (number | null)[]): Ratio | null {
  const [from, to] = [present(a), present(b)];
  if (from.length === 0 || to.length === 0) return null;
  const before = bootstrapMedians(from, 0);
  const after = bootstrapMedians(to, 1);
  const [low, high] = middle(after.map((value, i) => value - before[i]!));
  return { median: quantile(to, 0.5)! - quantile(from, 0.5)!, low, high };
}

/** How much two equal arms of a run differed: those of the arm's own group, else of any. */
export function controlFloor({ arms }: Pick<Result, "arms">, { group }: Pick<ResultArm, "group">, key: MetricKey): Floor {
  const controls = arms.filter(({ role, invalid }) => role === "control" && invalid === null);
  const own = controls.filter((arm) => arm.group === group);
  return highest(
    (own.length > 0 ? own : controls).flatMap(({ differences: { [key]: change } }) =>
      change === undefined ? [] : [{ log: Math.max(Math.abs(logOf(change.low)), Math.abs(logOf(change.high))), cause: "control" as const }],
    ),
  );
}

export function restFloor(samples: readonly (number | null)[]): Floor {
  return { log: logOf(restlessness(samples)), cause: "restless" };
}

const PARTS = ["computeMs", "memoryMs", "hostMs"] as const satisfies readonly (keyof Yard)[];
export type Part = (typeof PARTS)[number];
/** Work of another kind than the yardstick's may suffer half as much again from what slowed it. */
const MARGIN = 1.5;

/** What the machine did between two runs and within each. */
export interface MachineShift {
  readonly parts: readonly {
    readonly part: Part;
    readonly ratio: Ratio;
    /** Half of what lies between p10 and p90. */
    readonly within: readonly [a: number, b: number];
  }[];
  readonly floor: Floor;
  /** How differently its parts changed: arms that lean on them differently change against each other by as much. */
  readonly uneven: Floor;
}

/** `none`: a run did not look at its machine; `otherWork`: the yardsticks are not of the same length. */
export function machineShift(a: Yards, b: Yards): MachineShift | "none" | "otherWork" {
  if (a === null || b === null) return "none";
  if (a.work !== b.work) return "otherWork";
  const parts = PARTS.flatMap((part) => {
    const [from, to] = [a, b].map(({ yards }) => logsOf(yards.map((yard) => yard[part]))) as [(number | null)[], (number | null)[]];
    const ratio = ratioOf(from, to);
    return ratio === null ? [] : [{ part, ratio, within: [spreadOf(from), spreadOf(to)] as const }];
  });
  if (parts.length < PARTS.length) return "none";
  const moved = parts.map(({ ratio }) => ratio.median);
  return {
    parts, floor: { log: Math.max(...parts.map(({ ratio, within }) => Math.max(MARGIN * farEnd(ratio), ...within))), cause: "machine" },
    uneven: { log: Math.max(...moved) - Math.min(...moved), cause: "uneven" },
  };
}

function spreadOf(values: readonly (number | null)[]): number {
  const there = present(values);
  return (quantile(there, 0.9)! - quantile(there, 0.1)!) / 2;
}
