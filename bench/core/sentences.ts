/**
 * What may be said of a run, sentence by sentence, each with the gate that lets it through and its figures. Nothing is said of an arm that
 * failed a gate but that it did; what it cost in quality comes before what it gained in speed; a difference is told only where the whole
 * interval lies beyond what equal arms differ by. Experiments measure; page and terminal print these sentences and no others.
 */

import type { MetricKey, Words } from "./lang/en.ts";
import { bytes, number, percent, signed } from "./metrics.ts";
import { baselineOf, type ResultArm, type ResultBody, type ResultQuality } from "./result.ts";
import type { Change } from "./stats.ts";

/** `backing` names the gate and its figures. */
export interface Sentence { readonly text: string; readonly backing: string }

export interface ArmSentences {
  readonly arm: string;
  readonly group: string;
  /** Why nothing may be concluded from it; null when something may. */
  readonly invalid: string | null;
  readonly sentences: readonly Sentence[];
}

type Run = Pick<ResultBody, "status" | "arms">;

/** What readers look for first, in this order. */
const TOLD = ["output_tokens_per_s", "ttft_ms", "tpot_ms"] as const satisfies readonly MetricKey[];
/** Fewer percent of memory than this are not worth a headline. */
const WORTH_TELLING = 1;

/** The name of an arm among those of its group: without what they all begin with. */
export function labelOf({ name, group }: Pick<ResultArm, "name" | "group">): string {
  const rest = group !== "" && name.startsWith(group) ? name.slice(group.length).replace(/^[\s:/·,–-]+/u, "") : name;
  return rest === "" ? name : rest;
}

/**
 * Why nothing may be concluded from an arm: its own fault, that of what it is measured against, or that of the whole run; null when
 * something may.
 */
export function invalidOf(run: Run, arm: ResultArm, words: Words): string | null {
  const own = faultOf(arm);
  if (own !== null) return own;
  const pair = arm.role === "technique" ? run.arms.filter(({ group, role }) => group === arm.group && role !== "technique") : [];
  for (const other of pair) {
    const fault = faultOf(other);
    if (fault !== null) return words.page.baselineFailed(labelOf(other), fault);
  }
  return run.status === "invalid" && run.arms.every((one) => faultOf(one) === null) ? words.page.wholeRun : null;
}

function faultOf({ invalid, proof }: ResultArm): string | null {
  return invalid ?? (proof?.holds === false ? proof.text : null);
}

/** What may be said of every arm, in the order of the arms. */
export function verdictOf(run: Run, words: Words): ArmSentences[] {
  return run.arms.map((arm) => {
    const invalid = invalidOf(run, arm, words);
    return { arm: arm.name, group: arm.group, invalid, sentences: sentencesOf(run, arm, invalid, words) };
  });
}

function sentencesOf(run: Run, arm: ResultArm, invalid: string | null, words: Words): Sentence[] {
  const { page: say } = words, base = baselineOf(run, arm);
  if (invalid !== null) return [{ text: say.invalidArm(words.invalid, labelOf(arm), invalid), backing: say.gateFailed }];
  if (run.status === "interrupted") return [{ text: say.unfinishedArm(labelOf(arm)), backing: say.gateInterrupted(iterationsOf(arm)) }];
  if (arm.role === "baseline") return [{ text: say.isBaseline(labelOf(arm)), backing: arm.proof?.text ?? say.nothingCompared }];
  const speed = TOLD.map((key) => differenceOf(run, arm, key, words)).filter((sentence) => sentence !== null);
  return [...proofOf(arm, words), ...qualityOf(arm, base, words), ...speed, ...memoryOf(arm, base, words)];
}

function iterationsOf({ metrics }: ResultArm): number {
  return Math.max(0, ...Object.values(metrics).map(({ samples }) => samples.filter((sample) => sample !== null).length));
}

function proofOf({ proof, quality }: ResultArm, { page: say }: Words): Sentence[] {
  if (proof === null || proof.kind === "unchecked") {
    return quality === null ? [{ text: proof === null ? say.unchecked : say.uncheckedFor(proof.text), backing: say.gateUnchecked }] : [];
  }
  if (proof.kind === "lossy") return quality === null ? [{ text: say.qualityUnknown(proof.text), backing: say.gateUnchecked }] : [];
  return [proof.holds === null ? { text: say.equalityUnknown(proof.text), backing: say.gateUnchecked }
    : { text: say.lossless(proof.text), backing: say.gateLossless }];
}

function qualityOf({ quality }: ResultArm, base: ResultArm | null, { page: say }: Words): Sentence[] {
  if (quality === null) return [];
  const { change, kld, sameTop, protocol, perplexity } = quality, sentences: Sentence[] = [], than = base === null ? "" : labelOf(base);
  if (change !== null) {
    const size = withError({ value: Math.abs(change.percent), error: change.error }), signedSize = signedError(change);
    const from = base?.quality === null || base === null ? "" : `${number(base.quality.perplexity.value)} → `;
    const figures = say.perplexities(`${from}${number(perplexity.value)}`, signedSize);
    sentences.push(change.claimed
      ? { text: change.percent > 0 ? say.perplexityMore(size, than) : say.perplexityLess(size, than),
        backing: say.gateQuality(figures, protocol) }
      : { text: say.perplexitySame(signedSize), backing: say.gateQualityClosed(figures, protocol) });
  }
  if (kld !== null) sentences.push({ text: say.kld(withError(kld)), backing: say.protocol(protocol) });
  if (sameTop !== null) sentences.push({ text: say.sameTop(withError(sameTop, 100)), backing: say.protocol(protocol) });
  return sentences;
}

/** With as many digits as the error leaves a meaning. */
export function withError({ value, error }: NonNullable<ResultQuality["kld"]>, times = 1): string {
  if (error === null || !(error > 0)) return number(value * times);
  const digits = Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(error * times))));
  return `${(value * times).toFixed(digits)} ± ${(error * times).toFixed(digits)}`;
}

/** A change of perplexity in percent, with its sign. */
export function signedError({ percent: value, error }: NonNullable<ResultQuality["change"]>): string {
  return `${value >= 0 ? "+" : "−"}${withError({ value: Math.abs(value), error })}`;
}

/** A difference with its sign, but none before what rounds to zero. */
export function signedPercent(value: number): string {
  return signed(Math.abs(value) < 0.05 ? 0 : value).replace(/^\+(0\.0 )/, "±$1");
}

/** One metric against the baseline's; null where neither arm has a value of it. */
function differenceOf(run: Run, arm: ResultArm, key: MetricKey, words: Words): Sentence | null {
  const { page: say } = words, base = baselineOf(run, arm), found = arm.differences[key], own = arm.metrics[key];
  const name = words.metrics[key].replace(/^./u, (letter) => letter.toUpperCase());
  if (base === null || own === undefined) return null;
  if (found === undefined) {
    const missing = own.missing ?? base.metrics[key]?.missing;
    return { text: say.notGiven(name, missing === undefined ? words.none : words.missing[missing]), backing: say.nothingCompared };
  }
  const backing = backingOf(run, arm, key, words);
  if (arm.role === "control") return { text: say.controlDiffers(name, range(found)), backing };
  if (!found.measurable) return { text: say.same(name, found.tooFew === true ? words.tooFew : words.noDifference), backing };
  const more = found.median > 0, size = percent(Math.abs(found.median) / 100);
  if (key === "output_tokens_per_s") return { text: more ? say.faster(labelOf(arm), size, labelOf(base))
    : say.slower(labelOf(arm), size, labelOf(base)), backing };
  if (key === "ttft_ms") return { text: more ? say.firstLater(size) : say.firstEarlier(size), backing };
  return { text: more ? say.tokenLonger(size) : say.tokenShorter(size), backing };
}

const range = ({ low, high }: Change): string => `${signedPercent(low)} … ${signedPercent(high)}`;

/**
 * The figures behind what is said of a metric: medians, the paired change with its interval, and the noise floor with where it comes
 * from.
 */
export function backingOf(run: Run, arm: ResultArm, key: MetricKey, { page: say, ...words }: Words): string {
  const base = baselineOf(run, arm), found = arm.differences[key], own = arm.metrics[key], from = base?.metrics[key];
  if (found === undefined || own === undefined || from === undefined || own.summary === null || from.summary === null) return words.none;
  const pairs = own.samples.filter((sample, i) => sample !== null && (from.samples[i] ?? 0) !== 0).length;
  const medians = say.medians(`${number(own.summary.median)} ${own.unit}`, `${number(from.summary.median)} ${own.unit}`);
  const figures = say.paired(pairs, signedPercent(found.median), range(found), floorOf(run, arm, key, found, say));
  const gate = arm.role === "control" ? say.gateControl : found.measurable ? say.gateOpen : found.tooFew === true ? say.gateTooFew
    : say.gateClosed;
  return say.backed(medians, figures, gate);
}

/** The larger of two: what equal arms differed by, or what an arm differs from itself from iteration to iteration. */
function floorOf({ arms }: Run, { group, role }: ResultArm, key: MetricKey, { noise }: Change, say: Words["page"]): string {
  const equal = role === "control" ? undefined : arms.find((arm) => arm.group === group && arm.role === "control")?.differences[key];
  const isEqualArms = equal !== undefined && Math.max(Math.abs(equal.low), Math.abs(equal.high)) >= noise * 0.999;
  return isEqualArms ? say.floorEqualArms(percent(noise / 100)) : say.floorOwn(percent(noise / 100));
}

function memoryOf({ memory }: ResultArm, base: ResultArm | null, { page: say, ...words }: Words): Sentence[] {
  if (memory === null || base === null || base.memory === null) return [];
  const less = base.memory.total - memory.total, share = percent(Math.abs(less) / base.memory.total);
  const names = words.rows.categories, own = memory, other = base.memory;
  const parts = (Object.keys(names) as (keyof typeof names)[]).map((key) =>
    `${names[key]} ${bytes(other[key])} → ${bytes(own[key])}`).join(", ");
  const text = less === 0 ? say.memorySame(bytes(own.total), labelOf(base))
    : less > 0 ? say.memoryLess(bytes(own.total), bytes(less), share, labelOf(base))
      : say.memoryMore(bytes(own.total), bytes(-less), share, labelOf(base));
  return [{ text, backing: say.gateLedger(parts) }];
}

/**
 * One to four sentences for the top of a page or terminal: what is wrong with the run first, then who is fastest, and who takes least
 * memory.
 */
export function headlineOf(run: Run, words: Words): Sentence[] {
  const { page: say } = words, faults = run.arms.flatMap((arm) => {
    const invalid = invalidOf(run, arm, words);
    return invalid === null ? [] : [{ name: arm.name, invalid }];
  });
  const sentences: Sentence[] = [];
  if (run.status === "interrupted") sentences.push({ text: say.interruptedRun(words.interrupted),
    backing: say.gateInterrupted(Math.max(0, ...run.arms.map(iterationsOf))) });
  if (faults.length > 0) {
    sentences.push({
      text: faults.length === 1 ? say.oneInvalid(words.invalid, faults[0]!.name, faults[0]!.invalid)
        : say.someInvalid(words.invalid, faults.length, run.arms.length),
      backing: faults.map(({ name, invalid }) => `${name}: ${invalid}`).join("\n"),
    });
  } else if (run.status === "invalid") sentences.push({ text: say.invalidRun(words.invalid), backing: say.gateFailed });
  if (run.status === "interrupted") return sentences;
  const groups = [...new Set(run.arms.map(({ group }) => group))];
  const told = groups.map((group) => groupOf(run, group, words));
  return [...sentences, ...joined(told.flatMap(({ speed }) => speed)), ...joined(told.flatMap(({ memory }) => memory))];
}

/** One paragraph of several groups, each on a line of its own. */
function joined(sentences: readonly Sentence[]): Sentence[] {
  return sentences.length === 0 ? []
    : [{ text: sentences.map(({ text }) => text).join("\n"), backing: sentences.map(({ backing }) => backing).join("\n") }];
}

function groupOf(run: Run, group: string, words: Words): { speed: Sentence[]; memory: Sentence[] } {
  const { page: say } = words, key = TOLD[0];
  const valid = run.arms.filter((arm) => arm.group === group && arm.role === "technique" && invalidOf(run, arm, words) === null);
  const told = (text: string, backing: string): Sentence => ({ text: group === "" ? text : say.inGroup(group, text),
    backing: group === "" ? backing : say.inGroup(group, backing) });
  const timed = valid.flatMap((arm) => {
    const change = arm.differences[key];
    return change === undefined ? [] : [{ arm, change, backing: backingOf(run, arm, key, words) }];
  });
  const claimed = timed.filter(({ change }) => change.measurable);
  const best = claimed.filter(({ change }) => change.median > 0).sort((a, b) => b.change.median - a.change.median)[0];
  const base = run.arms.find((arm) => arm.group === group && arm.role === "baseline");
  const lightest = valid.flatMap((arm) => (arm.memory === null ? [] : [{ arm, total: arm.memory.total }])).sort((a, b) =>
    a.total - b.total)[0];
  const saved = lightest === undefined || base?.memory == null ? 0 : (1 - lightest.total / base.memory.total) * 100;
  const memory = lightest === undefined || saved < WORTH_TELLING ? []
    : [told(say.lightest(labelOf(lightest.arm), percent(saved / 100), labelOf(base!), costOf(lightest.arm, words)),
      say.gateLedger(`${bytes(base!.memory!.total)} → ${bytes(lightest.total)}`))];
  const [only] = timed;
  if (base === undefined || only === undefined) {
    const isAlone = run.arms.every((arm) => arm.group !== group || arm.role !== "technique");
    return { speed: valid.length > 0 ? [] : [told(isAlone ? say.alone : say.noneValid, say.nothingCompared)], memory };
  }
  if (best !== undefined) return { speed: [told(say.fastest(labelOf(best.arm), percent(best.change.median / 100), labelOf(base),
    costOf(best.arm, words)), best.backing)], memory };
  if (timed.length > 1) return { speed: [told(say.noneFaster(timed.length, labelOf(base), claimed.length),
    timed.map(({ arm, backing }) => `${labelOf(arm)}: ${backing}`).join("\n"))], memory };
  const { arm, change: { measurable, tooFew, median }, backing } = only;
  const text = measurable ? say.onlySlower(labelOf(arm), percent(-median / 100), labelOf(base))
    : say.onlySame(labelOf(arm), labelOf(base), tooFew === true ? words.tooFew : words.noDifference);
  return { speed: [told(text, backing)], memory };
}

/** What it costs in quality, said in the same breath as what it gains. */
function costOf({ proof, quality }: ResultArm, { page: say }: Words): string {
  if (quality?.change != null && proof?.kind !== "lossless") {
    const change = signedError(quality.change);
    return quality.change.claimed ? say.costs(change) : say.costsNothing(change);
  }
  return proof?.kind === "lossless" && proof.holds === true ? say.sameTexts : say.costUnknown;
}
