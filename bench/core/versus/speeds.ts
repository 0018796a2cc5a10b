/**
 * What may be told about speed from two runs. Two tables: every arm against itself in the other run, which only a machine that stayed the
 * same can show; and what every technique did to the baseline beside it, which does not depend on the machine. Both are one family
 * (chance.ts): a difference is told when its interval lies beyond its noise floor as a whole, both runs have iterations enough, and chance
 * would hardly make any of the family differ by so much.
 */

import type { MetricKey } from "../lang/en.ts";
import { canonical } from "../protocol.ts";
import { baselineOf, type Result, type ResultArm } from "../result.ts";
import { CLAIM_ITERATIONS, type Change } from "../stats.ts";
import { FAMILY_LEVEL, familyChances, type Series } from "./chance.ts";
import {
  controlFloor, farEnd, highest, isBeyond, logOf, logsOf, machineShift, present, ratioOf, restFloor, type Floor, type MachineShift,
  type Ratio,
} from "./floor.ts";

/** What claims are made of. The others follow from them, or are too restless to be; they are shown. */
export const PRIMARY: readonly MetricKey[] = ["output_tokens_per_s", "ttft_ms", "tpot_ms"];

/**
 * `told`: a difference; `none`: none that can be measured; `tooFew`: iterations; `shown`: nothing is claimed of this metric; `machine`:
 * nothing absolute may be said, as it is not known whether the machine was the same.
 */
export type Say = "told" | "none" | "tooFew" | "shown" | "machine";

interface Compared {
  readonly arm: string;
  readonly group: string;
  readonly metric: MetricKey;
  readonly better: "lower" | "higher";
  /** Iterations that have a value, in A and in B. */
  readonly counts: readonly [a: number, b: number];
  /** B to A; of an effect, the ratio of the two effects. */
  readonly ratio: Ratio;
  readonly floor: Floor;
  /** Family-wise; null where it was not looked at. */
  readonly chance: number | null;
  readonly say: Say;
}

/** An arm against itself. */
export interface Row extends Compared {
  readonly role: ResultArm["role"];
  readonly unit: string;
  /** Medians. */
  readonly a: number;
  readonly b: number;
}

/** What an arm differs from its own baseline, in each run, paired by iteration. */
export interface Effect extends Compared {
  readonly baseline: string;
  readonly a: Change;
  readonly b: Change;
  /** Whether the two intervals have nothing in common. */
  readonly apart: boolean;
}

/** Whether what was measured in two runs may be compared as such, and why not. */
export type Absolute = "allowed" | "noYardstick" | "otherWork" | "otherMachine";

export interface Speeds {
  readonly absolute: Absolute;
  /** Null when it is not known. */
  readonly machine: MachineShift | null;
  /** The same code on the same machine: what the baseline changed is drift. */
  readonly isUnchanged: boolean;
  readonly rows: readonly Row[];
  readonly effects: readonly Effect[];
}

/** `names`: arms of which something may be said in both runs. `isUnchanged`, `isSameMachine`: as far as the results tell. */
export function speedsOf(
  a: Result, b: Result, names: readonly string[],
  { isUnchanged, isSameMachine }: { readonly isUnchanged: boolean; readonly isSameMachine: boolean },
): Speeds {
  const found = machineShift(a.yardstick, b.yardstick);
  const machine = typeof found === "string" ? null : found;
  const absolute: Absolute = !isSameMachine
    ? "otherMachine"
    : found === "none"
      ? "noYardstick"
      : found === "otherWork"
        ? "otherWork"
        : "allowed";
  const known: Known = { machine, absolute, drifts: isUnchanged ? new Map() : null };
  const rows = names.flatMap((name) => rowsOf(a, b, name, known));
  const effects = names.flatMap((name) => effectsOf(a, b, name, names, machine));
  const family = [...rows, ...effects].filter(({ row: { say } }) => say === "none" || say === "told");
  const candidates = family.filter(({ row: { say } }) => say === "told");
  // Nothing lies beyond its floor most times: then there is no chance to look at.
  const chances = new Map(
    candidates.length === 0
      ? []
      : familyChances(family.map(({ series }) => series)).map((chance, i) => [family[i]!.row as Compared, chance]),
  );
  const judged = <T extends Compared>(row: T): T => {
    const chance = chances.get(row) ?? null;
    return { ...row, chance, ...(row.say === "told" && chance! > FAMILY_LEVEL && { say: "none" }) };
  };
  return { absolute, machine, isUnchanged, rows: rows.map(({ row }) => judged(row)), effects: effects.map(({ row }) => judged(row)) };
}

/** `drifts`: what baselines changed, as far as it was looked at; null when that may be their code. */
interface Known {
  readonly machine: MachineShift | null;
  readonly absolute: Absolute;
  readonly drifts: Map<string, Ratio | null> | null;
}
interface Found<T> {
  readonly row: T;
  readonly series: Series;
}

export const armOf = ({ arms }: Pick<Result, "arms">, name: string): ResultArm | undefined => arms.find((arm) => arm.name === name);

function rowsOf(a: Result, b: Result, name: string, { machine, absolute, drifts }: Known): Found<Row>[] {
  const [from, to] = [armOf(a, name)!, armOf(b, name)!];
  return metricsOf(from).flatMap((metric): Found<Row>[] => {
    const [before, after] = [from.metrics[metric]!, to.metrics[metric]];
    const logs = [logsOf(before.samples), logsOf(after?.samples ?? [])] as const;
    const ratio = ratioOf(...logs);
    if (ratio === null || before.summary === null || after === undefined || after.summary === null) return [];
    const drift = drifts === null ? null : driftOf(a, b, { arm: from, metric, drifts });
    const floor = highest([
      controlFloor(a, from, metric), controlFloor(b, to, metric), restFloor(before.samples), restFloor(after.samples),
      ...(machine === null ? [] : [machine.floor]), ...(drift === null ? [] : [{ log: farEnd(drift), cause: "drift" as const }]),
    ]);
    const counts = countsOf(...logs);
    const { unit, better } = before;
    const say = !PRIMARY.includes(metric) ? "shown" : absolute !== "allowed" ? "machine" : sayOf(counts, isBeyond(ratio, floor.log));
    const row = {
      arm: name, group: from.group, role: from.role, metric, unit, better, counts, a: before.summary.median, b: after.summary.median,
      ratio, floor, chance: null, say,
    };
    return [{ row, series: { a: logs[0], b: logs[1], floor: floor.log } }];
  });
}

/** What the baseline of an arm's group changed; the arm itself where it is one. */
function driftOf(
  a: Result, b: Result,
  { arm, metric, drifts }: { readonly arm: ResultArm; readonly metric: MetricKey; readonly drifts: Map<string, Ratio | null> },
): Ratio | null {
  const baseline = baselineOf(a, arm) ?? arm;
  const key = canonical([baseline.name, metric]);
  const before = drifts.get(key);
  if (before !== undefined) return before;
  const drift = ratioOf(logsOf(baseline.metrics[metric]?.samples ?? []), logsOf(armOf(b, baseline.name)?.metrics[metric]?.samples ?? []));
  drifts.set(key, drift);
  return drift;
}

function effectsOf(a: Result, b: Result, name: string, names: readonly string[], machine: MachineShift | null): Found<Effect>[] {
  const [from, to] = [armOf(a, name)!, armOf(b, name)!];
  const bases = [baselineOf(a, from), baselineOf(b, to)] as const;
  if (from.role !== "technique" || bases[0] === null || bases[1] === null || !names.includes(bases[0].name)) return [];
  return metricsOf(from).flatMap((metric): Found<Effect>[] => {
    const changes = [from, to].map(({ differences: { [metric]: change } }) => change);
    const logs = [effectLogs(bases[0]!, from, metric), effectLogs(bases[1]!, to, metric)] as const;
    const ratio = ratioOf(...logs);
    if (changes[0] === undefined || changes[1] === undefined || ratio === null) return [];
    const floor = highest([
      controlFloor(a, from, metric), controlFloor(b, to, metric),
      ...changes.map((change) => ({ log: logOf(change!.noise), cause: "restless" as const })),
      ...(machine === null ? [] : [machine.uneven]),
    ]);
    const counts = countsOf(...logs);
    const apart = changes[0].high < changes[1].low || changes[1].high < changes[0].low;
    const say = PRIMARY.includes(metric) ? sayOf(counts, apart && isBeyond(ratio, floor.log)) : "shown";
    const row = {
      arm: name, group: from.group, baseline: bases[0]!.name, metric, better: from.metrics[metric]!.better, counts, a: changes[0],
      b: changes[1], apart, ratio, floor, chance: null, say,
    };
    return [{ row, series: { a: logs[0], b: logs[1], floor: floor.log } }];
  });
}

/** An arm to its baseline, by iteration. */
function effectLogs(base: ResultArm, arm: ResultArm, metric: MetricKey): (number | null)[] {
  const own = logsOf(arm.metrics[metric]?.samples ?? []);
  const other = logsOf(base.metrics[metric]?.samples ?? []);
  return own.map((value, i) => (value === null || (other[i] ?? null) === null ? null : value - other[i]!));
}

const metricsOf = ({ metrics }: ResultArm): MetricKey[] => Object.keys(metrics) as MetricKey[];

function countsOf(a: readonly (number | null)[], b: readonly (number | null)[]): readonly [number, number] {
  return [present(a).length, present(b).length];
}

function sayOf(counts: readonly [number, number], isBeyondFloor: boolean): Say {
  return Math.min(...counts) < CLAIM_ITERATIONS ? "tooFew" : isBeyondFloor ? "told" : "none";
}
