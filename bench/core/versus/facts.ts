/**
 * What two runs can be told apart by without statistics: where and of what they were made, which arms may be spoken of at all, and what the
 * same work must give again exactly: texts, counts, bytes. Quality too is scored over the same tokens every time; its differences are told
 * with their standard errors.
 */

import { canonical, differences, type Difference } from "../protocol.ts";
import type { Result, ResultArm } from "../result.ts";
import { armOf } from "./speeds.ts";

export type RunName = "A" | "B";

/** An arm of which nothing is said, with the reasons; `missing`: it is not in that run. */
export interface Closed {
  readonly arm: string;
  readonly reasons: readonly { readonly run: RunName; readonly kind: "invalid" | "proof" | "missing"; readonly reason: string }[];
}

export interface Fact {
  readonly arm: string;
  readonly what: string;
  readonly a: string | null;
  readonly b: string | null;
}

export interface Quality {
  readonly arm: string;
  readonly what: "perplexity" | "change" | "kld" | "sameTop";
  readonly a: Measured;
  readonly b: Measured;
  /** `same`: to the last digit; `told`: more than ERRORS standard errors apart; `within` them; `unknown`: without errors. */
  readonly say: "same" | "within" | "told" | "unknown";
}
interface Measured {
  readonly value: number;
  readonly error: number | null;
}

/** Standard errors. A run claims its own from two on; here dozens are compared, but over the same tokens: their errors go together. */
export const ERRORS = 3;

/** Where, when and of what two runs were made, as far as it differs. */
export function circumstances(a: Result, b: Result): Difference[] {
  const of = ({ machine, environment, model, config, started, arms }: Result) => ({
    started, ...machine, ...environment, model: model.id, revision: model.revision,
    iterations: Math.max(0, ...arms.flatMap(({ metrics }) => Object.values(metrics).map(({ samples }) => samples.length))),
    warmup_iterations: config.warmup_iterations, loading: config.loading, experiment_name: config.experiment_name, lang: config.lang,
  });
  return differences(of(a), of(b));
}

/** The same code, as far as a commit tells, on what reports itself as the same machine. */
export function isUnchanged(a: Result, b: Result): boolean {
  return (
    a.machine.commit !== null &&
    a.machine.modified === false &&
    canonical([a.machine, a.environment]) === canonical([b.machine, b.environment])
  );
}

/** The same GPU and processor, whatever runs on them. */
export function isSameMachine(a: Result, b: Result): boolean {
  const of = ({
    machine: { cpu, cores },
    environment: {
      adapter: { vendor, architecture, device, backend, software },
      kernelFamily,
    },
  }: Result): string => canonical([cpu, cores, vendor, architecture, device, backend, software, kernelFamily]);
  return of(a) === of(b);
}

/** Arms of which something may be said in both runs, in the order of A, and the others. */
export function armsOf(a: Result, b: Result): { readonly open: readonly string[]; readonly closed: readonly Closed[] } {
  const names = [...new Set([...a.arms, ...b.arms].map(({ name }) => name))];
  const all = names.map((arm): Closed => ({
    arm,
    reasons: (
      [
        ["A", a],
        ["B", b],
      ] as const
    ).flatMap(([run, result]) => closing(run, armOf(result, arm))),
  }));
  return {
    open: all.filter(({ reasons }) => reasons.length === 0).map(({ arm }) => arm),
    closed: all.filter(({ reasons }) => reasons.length > 0),
  };
}

function closing(run: RunName, arm: ResultArm | undefined): Closed["reasons"] {
  if (arm === undefined) return [{ run, kind: "missing", reason: "" }];
  if (arm.invalid !== null) return [{ run, kind: "invalid", reason: arm.invalid }];
  return arm.proof?.holds === false ? [{ run, kind: "proof", reason: arm.proof.text }] : [];
}

/** A text that names a time or a rate is measured, not the same every time. */
const MEASURED = /\d\s*(?:ns|µs|us|ms|s|min|tok\/s|tokens\/s|[KMGT]?i?B\/s|[MGT]FLOP\/s|毫秒|秒)(?![\p{L}\d])/u;

/** What the same work must give again exactly, and did not. Sentences are compared when both runs wrote them in the same language. */
export function factsOf(a: Result, b: Result, names: readonly string[]): Fact[] {
  const sameWords = a.config.lang === b.config.lang;
  return names.flatMap((arm) => {
    const [from, to] = [armOf(a, arm)!, armOf(b, arm)!].map((one) => exact(one, sameWords)) as [
      Record<string, string>,
      Record<string, string>,
    ];
    return differences(from, to)
      .filter((one) => ![one.a, one.b].some((value) => typeof value === "string" && MEASURED.test(value)))
      .map(({ key, a: before, b: after }) => ({
        arm, what: key, a: (before as string | undefined) ?? null, b: (after as string | undefined) ?? null,
      }));
  });
}

function exact({ proof, engagement, memory, facts }: ResultArm, withWords: boolean): Record<string, string> {
  return {
    ...(proof !== null && { proof: withWords ? `${proof.kind}: ${proof.text}` : proof.kind }),
    ...(withWords && engagement !== null && { engagement }),
    ...Object.fromEntries(Object.entries(memory ?? {}).map(([category, count]) => [`memory ${category}`, `${count} B`])),
    ...(withWords && Object.fromEntries(facts.map(({ label, value }) => [label, value]))),
  };
}

export function qualityOf(a: Result, b: Result, names: readonly string[]): Quality[] {
  return names.flatMap((arm) => {
    const [from, to] = [armOf(a, arm)!.quality, armOf(b, arm)!.quality];
    if (from === null || to === null) return [];
    const change = [from, to].map(({ change: one }) => (one === null ? null : { value: one.percent, error: one.error }));
    const pairs = [
      ["perplexity", from.perplexity, to.perplexity], ["change", change[0], change[1]], ["kld", from.kld, to.kld],
      ["sameTop", from.sameTop, to.sameTop],
    ] as const;
    return pairs.flatMap(([what, before, after]) =>
      before == null || after == null ? [] : [{ arm, what, a: before, b: after, say: apartBy(before, after) }],
    );
  });
}

function apartBy(a: Measured, b: Measured): Quality["say"] {
  if (a.value === b.value) return "same";
  if (a.error === null || b.error === null) return "unknown";
  return Math.abs(b.value - a.value) > ERRORS * Math.hypot(a.error, b.error) ? "told" : "within";
}
