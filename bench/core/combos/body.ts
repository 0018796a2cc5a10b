/**
 * What a run of combinations tells. Every technique that an arm sets must have acted, each by its own gate; the arm must have done the same
 * work as the baseline; and its texts must be the ones they have to be. Only then is it spoken of.
 */

import { isFloat } from "../../../kernels/formats.ts";
import { together } from "../../../techniques/speculation/explain.ts";
import { gateDraft, gateEntries, gatePaging, gatePrefix, gatePress, gateSmaller, gateWeights, gateWork } from "../gates.ts";
import type { Words } from "../lang/en.ts";
import { LANGUAGES } from "../lang/words.ts";
import type { Iteration, RequestSample } from "../measure.ts";
import { bytes, changesBetween, number, percent, type MetricChange } from "../metrics.ts";
import type { RunInfo } from "../report/json.ts";
import type { Proof, ResultArm, ResultBody, ResultQuality, Status } from "../result.ts";
import { CLAIM_ERRORS, quantile } from "../stats.ts";
import { coldStartOf, differencesIn, metricsIn, plainNotes, standingNotes, subjectOf } from "../bodies/parts.ts";
import type { CombosOutcome, ComboResult } from "./experiment.ts";

export interface CombosRun extends RunInfo { readonly combos: CombosOutcome }

export function combosBody(run: CombosRun): ResultBody {
  const { config, combos } = run, words = LANGUAGES[config.lang], { combos: say } = words, [base, again] = combos.arms as readonly [ComboResult, ComboResult, ...ComboResult[]];
  const control = changesBetween(base, again), arms = combos.arms.map((one) => armOf(one, base, one === again ? undefined : control, run, words));
  const status: Status = combos.status !== "complete" ? combos.status : arms.some(({ invalid }) => invalid !== null) ? "invalid" : "complete";
  const { scored } = combos;
  return {
    status, arms, order: combos.order, warmUp: combos.warmUp, yardstick: combos.yardstick, ...subjectOf(run, combos, words),
    corpus: scored === null ? null : { name: scored.dataset, sha256: scored.sha256 },
    notes: plainNotes([
      ...standingNotes(combos, status, null, words), say.budget(bytes(combos.budget)),
      ...(arms.some(({ settings }) => settings["press"] !== undefined) ? [say.pressNeedsPages] : []),
    ]),
    pictures: [],
    detail: {
      budgetBytes: combos.budget, scored,
      arms: combos.arms.map(({ arm, iterations, cache, held, weightBytes, entryBytes, quality, equal }) =>
        ({ name: arm.name, iterations, cache, held, weightBytes, entryBytes, quality, texts: equal })),
    },
  };
}

function armOf(one: ComboResult, base: ComboResult, control: readonly MetricChange[] | undefined, { config, combos: { status, scored, warmUp } }: CombosRun, words: Words): ResultArm {
  const { arm, iterations, quality, peak } = one, isTechnique = arm.role === "technique";
  const proof = one === base ? null : proofOf(one, status, words), closed = isTechnique && iterations.length > 0 ? closedOf(one, base, config, words) : null;
  return {
    name: arm.name, group: "", role: arm.role, settings: arm.settings, memory: peak,
    invalid: closed ?? (proof?.holds === false ? proof.text : null), engagement: isTechnique && iterations.length > 0 ? didOf(one, base, words) : null, proof,
    quality: quality === null || scored === null ? null : qualityOf(quality.quality, words.combos.protocol(scored.windows, scored.context, scored.continuation, scored.dataset)),
    metrics: metricsIn(one), differences: one === base ? {} : differencesIn(changesBetween(base, one, control)), facts: factsOf(one, words),
    coldStart: coldStartOf(one.loadTimings, warmUp, arm.name),
  };
}

/** The first gate that is closed, in words. */
function closedOf(
  { arm, iterations, cache, held, weightBytes, entryBytes, heldEntryBytes, quality, draft }: ComboResult, base: ComboResult, config: CombosRun["config"], words: Words,
): string | null {
  const { weights, kv, layout, press, draft: asked, k } = arm.settings, baseSettings = base.arm.settings, requests = iterations.flatMap((iteration) => iteration.requests);
  // What is quantized must take less than numbers that are not; int8 beside a baseline in nf4 may well take more.
  const isQuantized = weights !== undefined && weights !== "auto" && !isFloat(weights) && base.held.every(({ format }) => isFloat(format));
  const isPacked = kv !== undefined && !isPlain(kv) && isPlain(baseSettings.kv ?? config.kv);
  const isOwnLayout = layout !== undefined && layout !== baseSettings.layout;
  // A run may stop between the two.
  const both = Math.min(iterations.length, base.iterations.length), requestsOf = (one: readonly Iteration[]): RequestSample[] => one.slice(0, both).flatMap((iteration) => iteration.requests);
  return gateWork(requestsOf(iterations), requestsOf(base.iterations), words)
    ?? (weights === undefined || weights === "auto" ? null : gateWeights(held, weights, arm.name, words))
    // The ledger holds the weights of a draft too.
    ?? (isQuantized && asked === undefined ? gateSmaller(weights, weightBytes, base.weightBytes, arm.name, words) : null)
    ?? (isPacked ? gateEntries(kv, heldEntryBytes ?? entryBytes, base.heldEntryBytes ?? base.entryBytes, words) : null)
    ?? (isOwnLayout && layout === "paged-prefix" ? gatePrefix(cache.hitTokens, words) : null)
    ?? (isOwnLayout && layout === "paged" && baseSettings.layout === "contiguous-max" && press === undefined
      ? gatePaging(wasteOf(cache), wasteOf(base.cache), wasted(layout, cache, base.cache, words), words) : null)
    ?? (press === undefined ? null : gatePress(requests.map(({ press: report, ...rest }) => ({ ...rest, report: report ?? null })),
      { scored: quality === null ? undefined : quality.press }, words))
    ?? (asked === undefined ? null : gateDraft(requests.map(({ speculation }) => speculation ?? null), { k: typeof k === "number" ? k : k === "adaptive" ? null : 5, kind: draft!.kind }, words));
}

function isPlain(kv: string): boolean {
  return kv === "f32" || kv === "f16" || kv === "bf16";
}

function wasteOf({ meanReserved, meanLive }: ComboResult["cache"]): number | null {
  return meanReserved === 0 ? null : 1 - meanLive / meanReserved;
}

function wasted(layout: string, own: ComboResult["cache"], base: ComboResult["cache"], { combos: say, none }: Words): string {
  const shown = (share: number | null): string => (share === null ? none : percent(share));
  return say.wasted(layout, shown(wasteOf(own)), shown(wasteOf(base)));
}

function median(values: readonly number[]): number {
  return quantile(values, 0.5) ?? 0;
}

/** What an arm's techniques did, one clause each. */
function didOf({ arm, iterations, cache, held, entryBytes }: ComboResult, base: ComboResult, words: Words): string {
  const { combos: say } = words, { weights, kv, layout, press } = arm.settings, requests = iterations.flatMap((iteration) => iteration.requests);
  const reports = requests.flatMap(({ press: report }) => report ?? []), rounds = (iterations[0]?.requests ?? []).flatMap(({ speculation }) => speculation ?? []);
  const parts: string[] = [];
  if (weights !== undefined) parts.push(say.holds([...new Set(held.map(({ format }) => format))].join(", ")));
  if (kv !== undefined) parts.push(say.entries(kv, number(entryBytes), number(base.entryBytes)));
  if (layout !== undefined && layout !== base.arm.settings.layout) parts.push(layout === "paged-prefix" ? say.hits(cache.hitTokens, cache.queriedTokens) : wasted(layout, cache, base.cache, words));
  if (press !== undefined && reports.length > 0) {
    const of = (value: (report: (typeof reports)[number]) => number): number => median(reports.map(value));
    parts.push(say.pressed(press, number(of(({ evicted }) => evicted)), number(of(({ kept }) => median(kept.flat()))), number(of(({ seen }) => seen)), bytes(of(({ freedBytes }) => freedBytes))));
  }
  if (rounds.length > 0) {
    const { draft, drafted, accepted, rounds: count } = together(rounds);
    parts.push(say.drafted(draft, drafted, accepted, percent(drafted === 0 ? 0 : accepted / drafted), (1 + accepted / Math.max(1, count)).toFixed(2)));
  }
  return parts.length === 0 ? say.nothing : parts.join("; ");
}

function proofOf({ arm, equal, quality }: ComboResult, status: CombosOutcome["status"], { combos: say }: Words): Proof {
  const kind = arm.settings.weights === undefined && arm.settings.kv === undefined && arm.settings.press === undefined ? "lossless" : "lossy";
  if (equal !== null) {
    const { same, of, as, firstDifference } = equal, name = as ?? say.ownWithoutDraft;
    if (firstDifference !== null) return { kind, holds: false, text: say.differ(of - same, of, name, firstDifference.prompt + 1, firstDifference.token + 1) };
    return { kind, holds: true, text: kind === "lossy" ? `${say.equal(of, name)}; ${say.lossy}` : say.equal(of, name) };
  }
  if (kind === "lossy") return { kind: quality === null ? "unchecked" : kind, holds: null, text: quality === null ? say.noQuality : say.lossy };
  return { kind: "unchecked", holds: null, text: status === "complete" ? say.sampled : say.notCompared };
}

function qualityOf({ perplexity, ratio, logRatio, kld, sameTop }: NonNullable<ComboResult["quality"]>["quality"], protocol: string): ResultQuality {
  const error = 100 * ratio.value * Math.max(logRatio.error ?? 0, logRatio.errorOverWindows ?? 0), by = 100 * (ratio.value - 1);
  return {
    perplexity, change: { percent: by, error, claimed: Math.abs(by) > CLAIM_ERRORS * error }, kld: { value: kld.mean, error: kld.error },
    sameTop: { value: sameTop.mean, error: sameTop.error }, protocol,
  };
}

function factsOf({ cache, entryBytes, iterations, weightBytes }: ComboResult, { combos: { facts: say } }: Words): ResultArm["facts"] {
  const first = iterations[0]?.requests ?? [], reports = first.flatMap(({ press }) => press ?? []), rounds = first.flatMap(({ speculation }) => speculation ?? []);
  const all = rounds.length === 0 ? null : together(rounds);
  return [
    { label: say.weights, value: bytes(weightBytes) }, { label: say.kvTaken, value: bytes(cache.peakReserved * entryBytes) },
    { label: say.kvMean, value: bytes(cache.meanReserved * entryBytes) }, { label: say.running, value: String(cache.peakRunning) },
    ...(cache.preemptions > 0 ? [{ label: say.preemptions, value: String(cache.preemptions) }] : []),
    ...(reports.length === 0 ? [] : [{ label: say.kept, value: `${number(median(reports.flatMap(({ kept }) => kept.flat())))} / ${number(median(reports.map(({ seen }) => seen)))}` }]),
    ...(all === null ? [] : [
      { label: say.acceptance, value: percent(all.drafted === 0 ? 0 : all.accepted / all.drafted) },
      { label: say.length, value: (1 + all.accepted / Math.max(1, all.rounds)).toFixed(2) },
    ]),
  ];
}
