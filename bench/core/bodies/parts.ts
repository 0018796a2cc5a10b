/**
 * What the bodies of all experiments are put together from (result.ts). An experiment keeps its own record and its own verdict; here and
 * beside this file they are told in the common shape, so that page, comparison and replay need to know no technique. Nothing is judged
 * here: every figure and sentence is one that the reports in Markdown have too.
 */

import type { Model } from "../arms.ts";
import type { MetricKey, Words } from "../lang/en.ts";
import type { ArmResult, Identical, Outcome } from "../measure.ts";
import { metricsOf, samplesOf, type MetricChange, type Missing } from "../metrics.ts";
import { originInWords, type RunInfo } from "../report/json.ts";
import type { Proof, ResultArm, ResultBody, ResultMetric } from "../result.ts";
import { summarise, type Change } from "../stats.ts";
import type { WarmUp } from "../turns.ts";

export type Place = Pick<Outcome, "source" | "environment" | "maxModelLen">;

/** What a run is of. */
export function subjectOf(
  { prompts }: RunInfo, { source, environment, maxModelLen }: Place, words: Words,
): Pick<ResultBody, "model" | "environment" | "prompts"> {
  return {
    model: { ...source, maxModelLen }, environment,
    prompts: { origin: plain(originInWords(prompts.origin, words)).trim(), sha256: prompts.sha256, texts: prompts.texts },
  };
}

export function metricsIn(arm: Pick<ArmResult, "iterations">): Partial<Record<MetricKey, ResultMetric>> {
  const samples = samplesOf(arm);
  return Object.fromEntries(metricsOf(arm).map(({ key, ...metric }, i) => [key, { ...metric, samples: samples[i]! }]));
}

/** A metric of an experiment's own definition. `missing`: why there is none though iterations were finished. */
export function metricOf(
  samples: readonly (number | null)[], { unit, better }: Pick<ResultMetric, "unit" | "better">, missing: Missing,
): ResultMetric {
  const summary = summarise(samples);
  return { unit, better, samples, summary, ...(summary === null && { missing: samples.length === 0 ? "noIteration" : missing }) };
}

/** Those that could be computed. */
export function differencesIn(changes: readonly MetricChange[]): Partial<Record<MetricKey, Change>> {
  return Object.fromEntries(changes.flatMap(({ metric: { key }, change }) => (change === null ? [] : [[key, change]])));
}

/** The first arm is what the others are compared with, whatever it is: where only one side ran it stands alone. */
export function roleOf(at: number, isControl: boolean): ResultArm["role"] {
  return at === 0 ? "baseline" : isControl ? "control" : "technique";
}

/**
 * Why nothing may be concluded from an arm of a run, or of a group, that is invalid as a whole: a baseline keeps its figures unless it is
 * all there is.
 */
export function struck(reason: string | null, role: ResultArm["role"], arms: number): string | null {
  return role === "baseline" && arms > 1 ? null : reason;
}

/** Whether texts that must not differ do not. */
export function textsProof(identical: Identical | null, text: string): Proof {
  const holds = identical === null ? null : identical.same === identical.of ? true : identical.required ? false : null;
  return { kind: "lossless", holds, text };
}

/** An arm whose cost in quality is not known. */
export function uncheckedProof(why: string): Proof {
  return { kind: "unchecked", holds: null, text: bare(why) };
}

export function coldStartOf({ weightsMs, pipelinesMs }: Model["loadTimings"], warmUp: WarmUp | null, name: string): ResultArm["coldStart"] {
  return { weightsMs, pipelinesMs, firstMs: warmUp?.arms[name]?.[0] ?? null };
}

/** A row of a table, as one arm has it. */
export type Row = readonly [label: string, value: string | undefined];

/** What there is no value for is left out. */
export function factsIn(rows: readonly Row[], { none }: Words): ResultArm["facts"] {
  return rows.flatMap(([label, value]) => (value === undefined || value === "" || value === none ? [] : [{ label, value: plain(value) }]));
}

/** What to know of a run before any number is read, and why nothing may be concluded from it as a whole. */
export function standingNotes(
  { source, environment }: Place, status: ResultBody["status"], invalid: string | null, words: Words,
): string[] {
  return [
    ...(source.random ? [words.random] : []), ...(environment.adapter.software ? [words.software] : []),
    ...(invalid !== null ? [`${words.invalid}: ${invalid}.`]
      : status === "interrupted" ? [`${words.partial}: ${words.nothingConcluded}.`] : []),
  ];
}

/** How quality was measured, as one figure's explanation: by which protocol, over what, and how much of it. */
export function protocolIn(protocol: string, text: string, tokens: number, windows: number, words: Words): string {
  const { and, quality: say } = words.weights, { inDistribution: labelled } = words.memory;
  return [protocol, text, labelled(say.scored, String(tokens)), labelled(say.windows, String(windows))].join(and);
}

/** What is under every picture of a run. */
export function captionOf({ source, environment: { adapter } }: Place, prompts: number, iterations: number, words: Words): string {
  return words.summary(source.id, adapter.description, adapter.software, prompts, iterations);
}

/** Sentences as they stand without Markdown; the items of a list follow the sentence that leads to it. */
export function plainNotes(notes: readonly string[]): string[] {
  const told: string[] = [];
  for (const note of notes.map(plain)) {
    const before = told.at(-1);
    if (before === undefined || !note.startsWith("- ")) told.push(note);
    else told[told.length - 1] = `${before}${joint(before, note)}${note.slice(2)}`;
  }
  return told;
}

function joint(before: string, after: string): string {
  if (/[：。]$/.test(before)) return "";
  return /[:.]$/.test(before) ? " " : /\p{Script=Han}/u.test(after) ? "；" : "; ";
}

function plain(text: string): string {
  return text.replaceAll("**", "").replaceAll("`", "");
}

/** A sentence to be put into another one: without Markdown and without its full stop. */
export function bare(sentence: string): string {
  return plain(sentence).replace(/[.。]$/, "");
}

/** Warm-up and order by the names that arms have in the result. */
export function renamed(warmUp: WarmUp | null, nameOf: (name: string) => string): WarmUp | null {
  if (warmUp === null) return null;
  return { ...warmUp, arms: Object.fromEntries(Object.entries(warmUp.arms).map(([name, times]) => [nameOf(name), times])) };
}
