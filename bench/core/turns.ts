/**
 * The one way in which arms are measured, whatever they are: they take turns in a seeded random order within each iteration, so that a
 * machine which warms up or is busy for a while favours none of them. Before that they are warmed up until their times no longer fall.
 * Every sample is written down as it is taken (journal.ts), and each iteration begins with a look at how fast the machine itself is just
 * now (engine/yardstick.ts).
 */

import { AbortedError } from "../../engine/errors.ts";
import { median } from "../../engine/median.ts";
import { NO_JOURNAL, type Journal } from "./journal.ts";
import { seeded, shuffled } from "./stats.ts";
import type { Yard } from "../../engine/yardstick.ts";

export interface Hooks {
  readonly signal: AbortSignal;
  readonly onStep: (label: string, done: number, total: number) => void;
  /** Where samples are written down; nowhere without. */
  readonly journal?: Journal;
  /** How fast the machine is; not looked at without. */
  readonly yardstick?: { readonly work: string; measure(): Promise<Yard> };
}

export interface Turns<A, S> {
  readonly arms: readonly A[];
  readonly nameOf: (arm: A) => string;
  /** One sample, as JSON can hold it. Warm-up iterations have negative numbers and are not kept. */
  readonly once: (arm: A, iteration: number) => Promise<S>;
  /** The time that a sample took, by which warm-up is judged. */
  readonly msOf: (sample: S) => number;
  /** Goes before every step's own, and keeps the steps of several measurements of a run apart. */
  readonly label?: string;
}

export interface TurnsConfig {
  readonly seed: number;
  /** Fewest and most rounds of warm-up; without a limit as many as the fewest. */
  readonly warmup_iterations: number;
  readonly warmup_limit?: number;
  readonly test_iterations: number;
}

export interface WarmUp {
  readonly rounds: number;
  /** Whether it ended because no arm was getting faster any more; else at its limit. */
  readonly settled: boolean;
  /** Milliseconds of each round, by arm: the first holds what was compiled or read on first use. */
  readonly arms: Readonly<Record<string, readonly number[]>>;
}

/** How fast the machine was at the beginning of each iteration; `work` names what was done. Null when it was not looked at. */
export type Yards = { readonly work: string; readonly yards: readonly Yard[] } | null;

export interface Taken<S> {
  readonly status: "complete" | "interrupted";
  readonly samples: ReadonlyMap<string, readonly S[]>;
  /** Names in the order in which the arms ran, by iteration. */
  readonly order: readonly (readonly string[])[];
  readonly warmUp: WarmUp;
  readonly yardstick: Yards;
}

/** Rolling medians are over so many rounds. */
const WINDOW = 3;
/** An arm is still warming up when its rolling median fell by more than this share in a round, and by more than a millisecond. */
const FALL = 0.05;

/** A generator of its own for every iteration: the order does not depend on how long warm-up took, or where a run was taken up again. */
function orderOf<A>(arms: readonly A[], seed: number, iteration: number): A[] {
  return shuffled(arms, seeded((seed + Math.imul(iteration, 0x9e37_79b1)) >>> 0));
}

/** Whether no arm got noticeably faster in the last round. */
export function hasSettled(times: readonly (readonly number[])[]): boolean {
  return times.every((all) => {
    if (all.length < 2) return false;
    const now = median(all.slice(-WINDOW)), before = median(all.slice(-WINDOW - 1, -1));
    return before - now <= Math.max(1, FALL * before);
  });
}

/** Throws what `once` throws; an abort ends the measuring with what there is. */
export async function takeTurns<A, S>(
  { arms, nameOf, once, msOf, label = "" }: Turns<A, S>, config: TurnsConfig, { signal, onStep, journal = NO_JOURNAL, yardstick }: Hooks,
): Promise<Taken<S>> {
  const { seed, warmup_iterations: fewest, warmup_limit: most = fewest, test_iterations: tests } = config;
  const names = arms.map(nameOf), times = names.map((): number[] => []), samples = new Map(names.map((name): [string, S[]] => [name, []]));
  const order: string[][] = [], yards: Yard[] = [];
  const total = (): number => (Math.max(fewest, rounds) + tests) * arms.length;
  let rounds = 0, done = 0, settled = fewest === 0, isWarm = false, status: Taken<S>["status"] = "complete";
  const stepOf = (iteration: number, name: string): string => `${label}iteration ${iteration}, ${name}`;
  const warmUp = async (): Promise<void> => {
    while (rounds < fewest || (!settled && rounds < most)) {
      const iteration = rounds < fewest ? rounds - fewest : -1;
      rounds++;
      for (const arm of orderOf(arms, seed, -rounds)) {
        onStep(`${label}warm-up ${rounds}, ${nameOf(arm)}`, done++, total());
        if (signal.aborted) throw new AbortedError("stopped");
        times[names.indexOf(nameOf(arm))]!.push(msOf(await once(arm, iteration)));
      }
      settled = hasSettled(times);
    }
    isWarm = true;
  };
  try {
    for (let i = 0; i < tests; i++) {
      const turn = orderOf(arms, seed, i);
      // What an earlier run wrote down is kept whatever becomes of this one, and needs no warm-up.
      if (!isWarm && names.some((name) => !journal.has(stepOf(i, name)))) await warmUp();
      order.push(turn.map(nameOf));
      // No arm can have this name: theirs stand behind a comma.
      if (yardstick !== undefined) yards.push(await journal.step(`${label}yardstick of iteration ${i}`, () => yardstick.measure()));
      for (const arm of turn) {
        const name = nameOf(arm);
        onStep(`${label}iteration ${i + 1} of ${tests}, ${name}`, done++, total());
        if (signal.aborted && !journal.has(stepOf(i, name))) throw new AbortedError("stopped");
        samples.get(name)!.push(await journal.step(stepOf(i, name), () => once(arm, i)));
      }
    }
  } catch (error) {
    if (!(error instanceof AbortedError)) throw error;
    status = "interrupted";
  }
  onStep("done", total(), total());
  return {
    status, samples, order, yardstick: yardstick === undefined ? null : { work: yardstick.work, yards },
    warmUp: { rounds, settled: settled || rounds === 0, arms: Object.fromEntries(names.map((name, i) => [name, times[i]!])) },
  };
}

/** Of measurements one after the other, whose arms have different names. */
export function warmUpOf(parts: readonly (WarmUp | null)[]): WarmUp | null {
  const all = parts.filter((part) => part !== null);
  if (all.length === 0) return null;
  return {
    rounds: Math.max(...all.map(({ rounds }) => rounds)), settled: all.every(({ settled }) => settled),
    arms: Object.fromEntries(all.flatMap(({ arms }) => Object.entries(arms))),
  };
}

/** Of measurements one after the other, in the order of their iterations. */
export function yardsOf(parts: readonly Yards[]): Yards {
  const all = parts.filter((part) => part !== null);
  return all.length === 0 ? null : { work: all[0]!.work, yards: all.flatMap(({ yards }) => yards) };
}
