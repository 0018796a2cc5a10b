/** Two runs side by side, for a terminal and as JSON: what is different about them, what may be told, and the tables it was told from. */

import Table from "cli-table3";
import type { Words } from "../lang/en.ts";
import { number, signed } from "../metrics.ts";
import { canonical } from "../protocol.ts";
import { PLAIN } from "../report/terminal.ts";
import type { Result } from "../result.ts";
import { CLAIM_ITERATIONS, type Change } from "../stats.ts";
import { FAMILY_LEVEL } from "./chance.ts";
import { ERRORS, type Closed } from "./facts.ts";
import { percentOf, type Floor, type Ratio } from "./floor.ts";
import { PRIMARY, type Effect, type Row } from "./speeds.ts";
import type { Versus } from "./versus.ts";

export interface Side {
  readonly path: string;
  readonly result: Result;
}

/** As many arms must agree before one sentence speaks of all of them. */
const EVERY = 3;
/** A logarithm: a tenth. */
const MOVED = 0.1;
const LONGEST = 80;

const rangeOf = ({ low, high }: { readonly low: number; readonly high: number }, words: Words): string =>
  words.range(signed(low), signed(high));
const inPercent = ({ median, low, high }: Ratio) => ({ median: percentOf(median), low: percentOf(low), high: percentOf(high) });
const floorText = ({ log }: Floor): string => `${percentOf(log).toFixed(1)} %`;
const isBetter = ({ ratio: { median }, better }: Row): boolean => median < 0 === (better === "lower");

/** What may be said, a sentence a line: first what limits it, then speed, quality and facts, then the arms of which nothing is said. */
export function sentences(found: Versus, words: Words): string[] {
  const { versus: say } = words;
  const { rows, effects } = found;
  const judged = [...rows, ...effects].filter((one) => one.say === "none" || one.say === "told");
  const few = [...rows, ...effects].filter((one) => one.say === "tooFew").length;
  const told = [...rows.filter((row) => row.say === "told"), ...effects.filter((effect) => effect.say === "told")];
  return [
    ...[
      [found.interrupted, say.interrupted], [found.invalid, say.invalid], [found.unknownCode, say.unknownCode],
    ].flatMap(([runs, line]) =>
      (runs as readonly string[]).length === 0 ? [] : [(line as (runs: string) => string)((runs as readonly string[]).join(", "))],
    ),
    ...(found.isUnchanged ? [say.unchangedCode] : []),
    ...(found.absolute === "allowed" ? [] : [say.absolute[found.absolute]]),
    ...moved(found, words),
    ...(told.length > 0
      ? [...changes(rows, words), ...effects.filter((effect) => effect.say === "told").map((effect) => effectSentence(effect, words))]
      : [judged.length === 0 ? say.nothingCompared : say.nothing(judged.length)]),
    ...(few > 0 ? [say.tooFewOf(few, CLAIM_ITERATIONS)] : []),
    ...(found.quality.length > 0 && found.quality.every((one) => one.say === "same") ? [say.sameQuality(found.quality.length)] : []),
    ...found.quality
      .filter((one) => one.say === "told")
      .map(({ arm, what, a, b }) => say.qualityTold(arm, say.quality[what], withError(a), withError(b), ERRORS)),
    ...(found.facts.length > 0
      ? [say.factsHead, ...found.facts.map(({ arm, what, a, b }) => `  ${say.fact(arm, what, a ?? say.notThere, b ?? say.notThere)}`)]
      : [say.noFacts]),
    ...found.closed.map((one) => closedSentence(one, words)),
  ];
}

/** A machine that was clearly faster or slower hides a lot, and should be known before any figure is read. */
function moved({ machine }: Versus, { versus: say }: Words): string[] {
  const by = (machine?.parts ?? []).map(({ ratio: { median } }) => median);
  return by.some((one) => Math.abs(one) > MOVED)
    ? [say.machineMoved(signed(percentOf(Math.min(...by))), signed(percentOf(Math.max(...by))))]
    : [];
}

/** One sentence for a metric that every arm changed alike, else one for each arm. */
function changes(rows: readonly Row[], words: Words): string[] {
  const { versus: say, metrics } = words;
  return [...new Set(rows.map(({ metric }) => metric))].flatMap((metric) => {
    const all = rows.filter((row) => row.metric === metric);
    const told = all.filter((row) => row.say === "told");
    const [first] = told;
    if (
      first !== undefined &&
      all.length >= EVERY &&
      told.length === all.length &&
      told.every((row) => isBetter(row) === isBetter(first))
    ) {
      const by = told.map(({ ratio: { median } }) => percentOf(median));
      return [
        say.everyArm(
          all.length, metrics[metric], first.ratio.median > 0, isBetter(first), signed(Math.min(...by)), signed(Math.max(...by)),
        ),
      ];
    }
    return told.map((row) => {
      const { median, ...ends } = inPercent(row.ratio);
      return say.changed(
        row.arm, metrics[metric], `${Math.abs(median).toFixed(1)} %`, median > 0, isBetter(row), rangeOf(ends, words),
        floorText(row.floor),
      );
    });
  });
}

function effectSentence({ arm, baseline, metric, a, b }: Effect, words: Words): string {
  return words.versus.effect(arm, baseline, words.metrics[metric], changeText(a, words), changeText(b, words));
}

const changeText = (change: Pick<Change, "median" | "low" | "high">, words: Words): string =>
  `${signed(change.median)} (${rangeOf(change, words)})`;

function closedSentence({ arm, reasons }: Closed, { versus: say }: Words): string {
  const [first, second] = reasons;
  const alike = second !== undefined && first!.kind === second.kind && first!.reason === second.reason;
  return say.closed(
    arm,
    (alike ? [{ ...second, run: say.both }] : reasons)
      .map(({ run, kind, reason }) =>
        kind === "missing" ? say.reasons.missing(run) : say.reasons[kind](run, reason.replace(/[.。]$/, "")),
      )
      .join(""),
  );
}

const withError = ({ value, error }: { readonly value: number; readonly error: number | null }): string =>
  `${exact(value)}${error === null ? "" : ` ± ${exact(error)}`}`;
/** Four digits: perplexities differ in the last of three. */
const exact = (value: number): string => String(Number(value.toPrecision(4)));

/** What differs in how they were made, a line each. */
function differentLines({ different }: Versus, { versus: say }: Words): string[] {
  const show = (value: unknown): string => {
    const text = value === undefined ? say.notThere : typeof value === "string" ? value : canonical(value);
    return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
  };
  const beside = different.filter(({ key }) => key !== "started");
  return beside.length === 0 ? [say.nothingElse] : [say.different, ...beside.map(({ key, a, b }) => `  ${key}: ${show(a)} → ${show(b)}`)];
}

/** `all`: tables of every metric, not only of those that are judged. */
export function versusText(found: Versus, a: Side, b: Side, { words, all }: { readonly words: Words; readonly all: boolean }): string {
  const { versus: say } = words;
  const { rows, effects, machine, quality } = found;
  const isShown = ({ metric }: Row | Effect): boolean => all || PRIMARY.includes(metric);
  const floorOf = ({ floor }: Row | Effect): string => `${floorText(floor)}${say.because(say.cause[floor.cause])}`;
  const tables = [
    tableOf(
      say.heads.speeds,
      say.columns.speeds,
      rows
        .filter(isShown)
        .map((row) => [
          row.arm, `${words.metrics[row.metric]}, ${row.unit}`, number(row.a), number(row.b), changeText(inPercent(row.ratio), words),
          floorOf(row), say.say[row.say],
        ]),
    ),
    tableOf(
      say.heads.effects,
      say.columns.effects,
      effects
        .filter(isShown)
        .map((one) => [
          one.arm, words.metrics[one.metric], changeText(one.a, words), changeText(one.b, words), one.apart ? say.yes : say.no,
          floorOf(one), say.say[one.say],
        ]),
    ),
    tableOf(
      say.heads.machine,
      say.columns.machine,
      (machine?.parts ?? []).map(({ part, ratio, within }) => [
        say.parts[part], changeText(inPercent(ratio), words), ...within.map((spread) => `${percentOf(spread).toFixed(1)} %`),
      ]),
    ),
    tableOf(
      say.heads.quality,
      say.columns.quality,
      quality
        .filter((one) => one.say !== "same")
        .map((one) => [one.arm, say.quality[one.what], withError(one.a), withError(one.b), say.saysOfQuality[one.say]]),
    ),
  ].flat();
  return [
    say.title(a.result.experiment, a.result.config.experiment_name), say.run("A", a.path, a.result.started),
    say.run("B", b.path, b.result.started), "", ...differentLines(found, words), "", say.verdict,
    ...sentences(found, words).map((line) => `  ${line}`), "", ...tables, say.howTold(`${FAMILY_LEVEL * 100} %`, CLAIM_ITERATIONS),
  ].join("\n");
}

function tableOf(title: string, head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const table = new Table({ ...PLAIN, head: [...head] });
  table.push(...rows.map((row) => [...row]));
  return [title, table.toString(), ""];
}

/** Everything as numbers: changes, intervals and floors in percent. */
export function versusJson(found: Versus, a: Side, b: Side, words: Words): string {
  const side = ({
    path,
    result: {
      started, status, protocolSha256, machine: { commit },
    },
  }: Side) => ({ path, started, status, protocolSha256, commit });
  const plain = <T extends Row | Effect>({ ratio, floor, ...rest }: T) => ({
    ...rest, changePercent: inPercent(ratio), floor: { percent: percentOf(floor.log), cause: floor.cause },
  });
  const { rows, effects, machine, ...rest } = found;
  return JSON.stringify(
    {
      kind: "dawnlm comparison",
      a: side(a),
      b: side(b),
      verdict: sentences(found, words),
      familyLevel: FAMILY_LEVEL,
      ...rest,
      rows: rows.map(plain),
      effects: effects.map(plain),
      machine:
        machine === null
          ? null
          : {
              parts: machine.parts.map(({ part, ratio, within }) => ({
                part, changePercent: inPercent(ratio), withinPercent: within.map(percentOf),
              })),
              floorPercent: percentOf(machine.floor.log),
              unevenPercent: percentOf(machine.uneven.log),
            },
    },
    null,
    2,
  );
}
