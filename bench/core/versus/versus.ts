/**
 * Two results side by side: refused where they did not do the same work, or are one run; else what differs in how they were made, what may
 * be told about speed (speeds.ts), and what is different as a matter of fact (facts.ts).
 */

import { UsageError } from "../../../engine/errors.ts";
import { canonical, differences, type Difference } from "../protocol.ts";
import type { Result } from "../result.ts";
import {
  armsOf, circumstances, factsOf, isSameMachine, isUnchanged, qualityOf, type Closed, type Fact, type Quality, type RunName,
} from "./facts.ts";
import { speedsOf, type Speeds } from "./speeds.ts";

export interface Versus extends Speeds {
  readonly different: readonly Difference[];
  /** Runs that ended early, those with nothing valid in them, and those whose code no commit tells. */
  readonly interrupted: readonly RunName[];
  readonly invalid: readonly RunName[];
  readonly unknownCode: readonly RunName[];
  readonly closed: readonly Closed[];
  readonly facts: readonly Fact[];
  readonly quality: readonly Quality[];
}

/** Throws UsageError when the two are one run, or when they did not do the same work, with a line for everything that differs. */
export function versus(a: Result, b: Result): Versus {
  refuseSameRun(a, b);
  refuseOtherWork(a, b);
  const { open, closed } = armsOf(a, b);
  const runs = [["A", a], ["B", b]] as const;
  const those = (is: (result: Result) => boolean): RunName[] => runs.filter(([, result]) => is(result)).map(([name]) => name);
  return {
    ...speedsOf(a, b, open, { isUnchanged: isUnchanged(a, b), isSameMachine: isSameMachine(a, b) }), different: circumstances(a, b),
    interrupted: those(({ status }) => status === "interrupted"), invalid: those(({ status }) => status === "invalid"),
    unknownCode: those(({ machine: { commit, modified } }) => commit === null || modified !== false), closed, facts: factsOf(a, b, open),
    quality: qualityOf(a, b, open),
  };
}

/** Two runs never give the same samples to the last digit. */
function refuseSameRun(a: Result, b: Result): void {
  const samples = ({ arms }: Result): string =>
    canonical(arms.map(({ name, metrics }) => [name, Object.entries(metrics).map(([key, { samples: taken }]) => [key, taken])]));
  const hasSamples = a.arms.some(({ metrics }) =>
    Object.values(metrics).some((metric) => metric.samples.some((sample) => sample !== null)),
  );
  if (canonical(a) !== canonical(b) && !(hasSamples && samples(a) === samples(b))) return;
  throw new UsageError("both are the same run: every sample is the same to the last digit; give the results of two runs");
}

/** An arm that a run which ended early did not come to is no other work. */
function refuseOtherWork(a: Result, b: Result): void {
  const all = [a, b].flatMap(({ protocol: { arms } }) => Object.keys(arms ?? {})).map((name) => `arms.${name}`);
  const unreached = ({ key, a: from, b: to }: Difference): boolean =>
    all.includes(key) && ((from === undefined && a.status === "interrupted") || (to === undefined && b.status === "interrupted"));
  const found = differences(a.protocol, b.protocol).filter((difference) => !unreached(difference));
  if (found.length === 0) return;
  const value = (of: unknown): string => (of === undefined ? "not there" : shortened(canonical(of)));
  throw new UsageError(
    [
      "they did not do the same work, and cannot be compared:",
      ...found.map(({ key, a: from, b: to }) => `${key}: A ${value(from)}, B ${value(to)}`),
    ].join("\n"),
  );
}

const LONGEST = 100;
const shortened = (text: string): string => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST - 1)}…`);
