/**
 * What may be concluded from a run of speculation. An arm counts only if it drafted what it was asked to draft and, greedily, wrote what
 * plain decoding writes, token for token. A speed-up counts when the iterations agree on it and it is larger than what two equal arms may
 * differ by.
 */

import { costModel, type CostModel } from "../../../techniques/speculation/cost.ts";
import { explain, together, type Explanation } from "../../../techniques/speculation/explain.ts";
import { verdictOf, type Verdict } from "../../../techniques/speculation/verdict.ts";
import type { SpeculationStats } from "../../../models/draft.ts";
import { gateDraft } from "../gates.ts";
import type { Words } from "../lang/en.ts";
import { change, summarise, type Change, type Summary } from "../stats.ts";
import type { ExperimentConfig } from "../schema.ts";
import type { DraftPart, SpecCell, SpecOutcome } from "./experiment.ts";
import type { SpecArmResult, SpecIteration, SpecRequest } from "./measure.ts";
import { predictedSpeedUp } from "./predict.ts";

export interface SpecArmVerdict {
  readonly arm: SpecArmResult;
  /** Why nothing can be concluded from this arm. */
  readonly invalid: string | null;
  /** Output tokens per second, and milliseconds per token behind the first, over all requests of an iteration. */
  readonly throughput: Summary | null;
  readonly tpot: Summary | null;
  /** Against plain decoding, in percent more; null of plain decoding itself. `speedUp`: of tokens behind the first ones. */
  readonly throughputChange: Change | null;
  readonly speedUp: Change | null;
  /** Null without a draft. */
  readonly did: Did | null;
}

export interface Did {
  /**
   * Of the requests of one iteration together: the same seeds make the same rounds in each, and what is counted twice is no more evidence.
   */
  readonly stats: SpeculationStats;
  /** Of all iterations; times are those alone that differ. */
  readonly times: Pick<SpeculationStats, "rounds" | "draftMs" | "verifyMs" | "hostMs">;
  readonly explanation: Explanation;
  /** Times faster than plain decoding, by arithmetic. */
  readonly predicted: number | null;
}

type Changes = Pick<SpecArmVerdict, "throughputChange" | "speedUp">;

export interface CellVerdict {
  readonly cell: SpecCell;
  readonly draft: DraftPart;
  /** Why nothing can be concluded from any arm of it. */
  readonly invalid: string | null;
  readonly arms: readonly SpecArmVerdict[];
  /** The two equal arms. */
  readonly control: Changes;
  readonly model: CostModel | null;
  /** A decode step as the costs have it, and as it was in the run, where they are too far apart for predictions; else null. */
  readonly doubt: { readonly costsMs: number; readonly runMs: number } | null;
  /** Of all rounds of all valid arms, so with the best estimate of α; null without any. */
  readonly outlook: Explanation | null;
  /** Of the valid arms, the one with the largest speed-up, and what is to blame where it is none. */
  readonly fastest: SpecArmVerdict | null;
  readonly cause: Verdict["cause"];
}

/** Costs are measured once, before the run. Where a decode step took so many times as long in one as in the other, they say nothing of it. */
const DOUBT = 1.5;

export interface SpecVerdict {
  readonly cells: readonly CellVerdict[];
  readonly correctness: string;
  /** Of any arm or cell. */
  readonly isInvalid: boolean;
}

type Value = (iteration: SpecIteration) => number | null;
const sumOf = ({ requests }: SpecIteration, value: (request: SpecRequest) => number): number =>
  requests.reduce((sum, request) => sum + value(request), 0);
/** Requests run one at a time, so their latencies add up to the time of the iteration. */
export const throughputOf: Value = (iteration) => {
  const ms = sumOf(iteration, ({ latency }) => latency);
  return ms > 0 ? 1000 * sumOf(iteration, ({ newTokens }) => newTokens) / ms : null;
};
/** Time behind the first tokens over the tokens behind them, all requests together. */
export const tpotOf: Value = (iteration) => {
  const tokens = sumOf(iteration, ({ newTokens }) => newTokens - 1), ms = sumOf(iteration, ({ latency, ttft }) => latency - ttft);
  return tokens > 0 && ms > 0 ? ms / tokens : null;
};

export function judgeSpeculation(outcome: SpecOutcome, config: ExperimentConfig, words: Words): SpecVerdict {
  const cells = outcome.cells.map((cell) => judgeCell(cell, outcome, config, words));
  const isInvalid = cells.some(({ invalid, arms }) => invalid !== null || arms.some((arm) => arm.invalid !== null));
  return { cells, isInvalid, correctness: correctnessOf(outcome, config, words) };
}

function judgeCell(cell: SpecCell, outcome: SpecOutcome, config: ExperimentConfig, words: Words): CellVerdict {
  const draft = outcome.drafts.find((one) => one.draft === cell.draft)!, model = draft.costs === null ? null : costModel(draft.costs);
  const [none, again] = cell.arms as readonly [SpecArmResult, SpecArmResult, ...SpecArmResult[]];
  const control = changesOf(none, again), ofPlain = (arm: SpecArmResult): boolean => cell.divergences.some((one) => one.arm === arm.name);
  const arms = cell.arms.map((arm): SpecArmVerdict => ({
    arm, throughput: summarise(arm.iterations.map(throughputOf)), tpot: summarise(arm.iterations.map(tpotOf)),
    ...(arm === none ? { throughputChange: null, speedUp: null } : arm === again ? control : changesOf(none, arm, control)),
    invalid: arm.kind !== "drafted" || arm.iterations.length === 0 ? null : notEngaged(arm, draft, words) ?? differs(arm, cell, words),
    did: arm.kind === "drafted" ? didOf(arm, draft) : null,
  }));
  const valid = arms.filter(({ arm, invalid, speedUp }) => arm.kind === "drafted" && invalid === null && speedUp !== null);
  const faster = (one: SpecArmVerdict, than: SpecArmVerdict): boolean => one.speedUp!.median > than.speedUp!.median;
  const fastest = valid.reduce<SpecArmVerdict | null>((best, one) => (best === null || faster(one, best) ? one : best), null);
  const all = valid.flatMap(({ arm }) => statsOf(arm.iterations.slice(0, 1)));
  return {
    cell, draft, arms, control, model, doubt: doubtOf(arms, draft), fastest, cause: causeOf(fastest, draft),
    outlook: all.length === 0 || draft.costs === null ? null : explain(together(all), { costs: draft.costs }),
    invalid: ofPlain(none) || ofPlain(again) || plainDiffers(cell, outcome, config) ? words.spec.plainDiffers : null,
  };
}

/** Speed-up: plain decoding's time per token over the arm's. With `control`, no less counts than what that holds. */
function changesOf(from: SpecArmResult, to: SpecArmResult, control?: Changes): Changes {
  const floor = (found: Change | null | undefined): number => (found == null ? 0 : Math.max(Math.abs(found.low), Math.abs(found.high)));
  return {
    throughputChange: change(from.iterations.map(throughputOf), to.iterations.map(throughputOf), floor(control?.throughputChange)),
    speedUp: change(to.iterations.map(tpotOf), from.iterations.map(tpotOf), floor(control?.speedUp)),
  };
}

function statsOf(iterations: readonly SpecIteration[]): SpeculationStats[] {
  return iterations.flatMap(({ requests }) => requests.flatMap(({ speculation }) => speculation ?? []));
}

function didOf(arm: SpecArmResult, { costs }: DraftPart): Did | null {
  const [first] = arm.iterations, own = first === undefined ? [] : statsOf([first]);
  if (first === undefined || own.length === 0 || costs === null) return null;
  const stats = together(own), { rounds, draftMs, verifyMs, hostMs } = together(statsOf(arm.iterations)), { requests } = first;
  const decoded = requests.reduce((sum, { newTokens, speculation }) => sum + (speculation === null ? 0 : newTokens - 1), 0);
  return {
    stats, times: { rounds, draftMs, verifyMs, hostMs }, predicted: predictedSpeedUp(stats, decoded, costModel(costs)),
    explanation: explain(stats, { costs, ...(typeof arm.k === "number" && { k: arm.k }) }),
  };
}

function doubtOf(arms: readonly SpecArmVerdict[], { costs }: DraftPart): CellVerdict["doubt"] {
  const run = summarise(arms.flatMap(({ arm, tpot }) => (arm.kind === "drafted" || tpot === null ? [] : tpot.samples)));
  if (run === null || costs === null) return null;
  const { decodeMs: costsMs } = costs, runMs = run.median;
  return costsMs > DOUBT * runMs || runMs > DOUBT * costsMs ? { costsMs, runMs } : null;
}

/** What is to blame when even the fastest arm is no faster. */
function causeOf(fastest: SpecArmVerdict | null, { costs }: DraftPart): Verdict["cause"] {
  const did = fastest?.did ?? null;
  if (fastest === null || fastest.speedUp === null || did === null || costs === null) return null;
  const measured = { plainTpot: 1 + fastest.speedUp.median / 100, tpot: 1, noise: fastest.speedUp.noise / 100 };
  return verdictOf(explain(did.stats, { costs, measured, ...(typeof fastest.arm.k === "number" && { k: fastest.arm.k }) })).cause;
}

/** Why an arm did not speculate as it was asked to, in words. */
function notEngaged({ k, iterations }: SpecArmResult, { kind }: DraftPart, words: Words): string | null {
  const requests = iterations.flatMap(({ requests: all }) => all.map(({ speculation }) => speculation));
  return gateDraft(requests, { k: typeof k === "number" ? k : null, kind }, words);
}

function differs({ name }: SpecArmResult, { divergences }: SpecCell, { spec: say }: Words): string | null {
  const found = divergences.find(({ arm }) => arm === name);
  return found === undefined ? null : say.textsDiffer(String(found.differing), String(found.of), String(found.prompt + 1),
    String(found.token + 1), say.gap(found.gap === null ? null : found.gap.toPrecision(3)));
}

/** Whether plain decoding wrote something else beside another draft: the target would not be the same. */
function plainDiffers({ dataset, arms: [own] }: SpecCell, { cells }: SpecOutcome, { temperature }: ExperimentConfig): boolean {
  const [first] = cells.find((cell) => cell.dataset === dataset)!.arms;
  return temperature === 0 && own!.texts.length > 0 && first!.texts.length > 0 && String(own!.texts[0]) !== String(first!.texts[0]);
}

function correctnessOf({ cells, status }: SpecOutcome, { temperature }: ExperimentConfig, words: Words): string {
  if (temperature !== 0) return words.spec.sampled;
  if (status !== "complete") return words.notCompared;
  const of = cells.flatMap(({ arms }) => arms.flatMap(({ texts }) => texts.flat())).length;
  const differing = cells.flatMap(({ divergences }) => divergences).reduce((sum, one) => sum + one.differing, 0);
  return words.spec.texts(String(of - differing), String(of));
}
