/** The report on KnormPress in Markdown, and what both reports on presses have in common. */

import { doubtOf, rangeOf, sentence } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import { bytes, metricsOf, number, percent, signed } from "../metrics.ts";
import { ratioText } from "../press/arms.ts";
import type { PressArmResult, PressOutcome } from "../press/experiment.ts";
import { actedOf, changeOf, judgePresses, perplexityChange, type ArmVerdict, type PressVerdict } from "../press/verdict.ts";
import { CLAIM_ERRORS, CLAIM_ITERATIONS, type Change } from "../stats.ts";
import { wordsOf, type RunInfo } from "./json.ts";
import { changeCell } from "./markdown.ts";
import { configuration, document, environment, notes, numberOr, rawSamples, table } from "./parts.ts";
import { placeOf, pressStatusOf, type PressRun } from "./press_json.ts";

/** What became of the pictures: files with what they show, or why there are none. */
export type PictureNote = { readonly files: readonly (readonly [file: string, shows: string])[] } | { readonly reason: string } | null;

export function labelOf({ kind, press, keep }: Pick<PressArmResult, "kind" | "press" | "keep">, { config }: Pick<RunInfo, "config">,
  { press: { arms: say } }: Words): string {
  if (kind !== "press") return say[kind];
  return config.technique === "KnormPress" ? say.keep(ratioText(keep!)) : say.press(press!, ratioText(Number((1 - keep!).toPrecision(12))));
}

export function knormMarkdown(run: PressRun, pictures: PictureNote, json: string): string {
  const words = wordsOf(run), { heads, press: say } = words, { press, config } = run;
  const verdict = judgePresses(press, config, words);
  return document(say.knorm(config.batch_level, config.experiment_name), [
    ["", [...notes(placeOf(press), pressStatusOf(run), words), ...introduction(run)]],
    [heads.verdict, [...knormConclusions(run, verdict), words.correctness(verdict.correctness)]],
    [say.heads.table, [table(say.knormColumns, knormRows(run)), say.knormColumnsAre]],
    [say.heads.charts, pictureParts(pictures, words)],
    [say.heads.did, [didTable(run), say.didColumnsAre]],
    [say.heads.claims, claims(run, verdict)],
    ...commonSections(run, verdict, json),
  ]);
}

export function pictureParts(pictures: PictureNote, { press: say }: Words): string[] {
  return pictures === null ? [] : "reason" in pictures ? [say.noChart(pictures.reason)]
    : pictures.files.map(([file, shows]) => `![${shows}](${file})`);
}

/** What was run, in sentences. */
export function introduction({ press, config }: PressRun): string[] {
  const { press: say } = wordsOf({ config });
  if (config.technique === "KVPress") {
    return [
      say.requests(config.num_prompts, config.prompt_tokens, config.max_tokens, bytes(press.budget), press.entries), say.control, say.oneModel,
    ];
  }
  const layers = config.skip_layers.length === 0 ? say.noLayers : config.skip_layers.join(", ");
  return [say.samples(press.prompts.texts.length, config.prompt_tokens, config.max_tokens, config.prune_after, layers), say.oneModel];
}

/** Metrics with their changes, quality, configuration, environment and raw samples. */
export function commonSections(run: PressRun, { arms }: PressVerdict, json: string): [string, string[]][] {
  const words = wordsOf(run), { heads, press: say } = words, { press } = run;
  const names = press.arms.map((arm) => labelOf(arm, run, words)), metrics = metricsOf(press.arms[0]!), all = press.arms.map(metricsOf);
  const shown = metrics.filter(({ key }) => CHANGES.includes(key)).map(({ key }) => key);
  return [
    [heads.metrics, [
      table(["", words.unit, ...names],
        metrics.map(({ key, unit }, i) => [words.metrics[key], unit, ...all.map((own) => numberOr(own[i]!.summary?.median, words))])),
      table(["", ...shown.map((key) => words.metrics[key])], arms.slice(1).map((arm) =>
        [words.against(labelOf(arm.arm, run, words), say.arms.none),
          ...arm.changes.filter(({ metric }) => CHANGES.includes(metric.key)).map((one) => changeCell(one, words))])),
      words.changesAre(CLAIM_ITERATIONS), words.definitions,
    ]],
    [say.heads.quality, qualityParts(press, words)],
    [heads.configuration, [configuration(run, [])]],
    [heads.environment, [environment(run, placeOf(press)), words.coldStart(number(press.loadTimings.weightsMs),
      number(press.loadTimings.pipelinesMs))]],
    [heads.raw, [
      ...press.arms.map((arm, i) => `${names[i]}\n\n${rawSamples(arm, words)}`),
      words.raw.order(press.order.map(
        (turn, i) => `${i + 1} ${turn.map((name) => names[press.arms.findIndex((arm) => arm.name === name)]!).join(", ")}`).join("; ")),
        words.weights.fileNote(json),
    ]],
  ];
}

const CHANGES: readonly string[] = ["ttft_ms", "tpot_ms", "itl_p50_ms", "latency_ms", "output_tokens_per_s"];
const SPOKEN: readonly string[] = ["ttft_ms", "tpot_ms", "output_tokens_per_s"];

export function qualityParts({ scored, source }: PressOutcome, { press: { quality: say } }: Words): string[] {
  if (scored === null) return [source.random ? say.random : say.none];
  const { options: { protocol, context, continuation }, windows, dataset } = scored;
  return [protocol === "decode" ? say.decode(context, windows, `\`${dataset}\``)
    : say["prefill-continue"](context, continuation ?? 0, windows, `\`${dataset}\``), say.same];
}

/** Sentences about what the presses did, cost and saved, or why there are none. */
export function knormConclusions(run: PressRun, verdict: PressVerdict): string[] {
  const words = wordsOf(run), { press: say } = words;
  const before = stopped(run, verdict);
  if (before !== null) return before;
  const pressed = verdict.arms.filter(({ arm }) => arm.kind === "press"), valid = pressed.filter(({ invalid }) => invalid === null);
  return [
    ...invalidArms(run, pressed), ...(valid.some(({ arm }) => arm.keep! < 1) ? [] : [say.noneValid]),
    ...valid.flatMap((one) => {
      const label = labelOf(one.arm, run, words), isNull = one.arm.keep === 1, acted = actedOf(one.arm);
      return [
        isNull ? say.nullArm(label) : say.against(label), ...(acted === null ? [] : [`- ${didInWords(label, isNull, acted, words)}`]),
        ...one.changes.filter(({ metric }) => SPOKEN.includes(metric.key)).map((change) => `- ${sentence(change, words)}`),
        ...pplSentences(one.arm, words).map((text) => `- ${text}`),
      ];
    }),
  ];
}

/** Why nothing is concluded at all; null when something may be. */
export function stopped(run: PressRun, verdict: PressVerdict): string[] | null {
  const words = wordsOf(run);
  if (verdict.invalid !== null) return [`**${words.invalid}**: ${verdict.invalid}.`];
  return run.press.status === "complete" ? null : [`**${words.partial}**: ${words.nothingConcluded}.`];
}

export function invalidArms(run: PressRun, arms: readonly ArmVerdict[]): string[] {
  const words = wordsOf(run);
  return arms.flatMap(({ arm, invalid }) => (invalid === null ? [] : [words.press.invalidArm(labelOf(arm, run, words), invalid)]));
}

/** What a press did to a request. */
export function didInWords(label: string, isNull: boolean, { events, kept, seen, freedBytes }: NonNullable<ReturnType<typeof actedOf>>,
  { press: say }: Words): string {
  return isNull ? say.nullDid(label, String(events)) : say.did(label, String(events), number(kept), String(seen), bytes(freedBytes));
}

export function pplSentences(arm: PressArmResult, { press: say }: Words): string[] {
  const moved = perplexityChange(arm);
  if (moved === null) return [];
  const { kld, sameTop } = arm.quality!.quality, verdict = !moved.claimed ? "same" : moved.percent > 0 ? "higher" : "lower";
  return [say.ppl(`${signed(moved.percent)} ± ${moved.error.toFixed(1)} %`, say.pplIs[verdict], kld.mean.toExponential(2),
    percent(sameTop.mean))];
}

/** Perplexity, its change, KLD and same top token of an arm; those of no press from what a press was compared with. */
export function qualityCells(arm: PressArmResult, { arms }: PressOutcome, words: Words): string[] {
  const { none } = words, base = arms.find(({ quality }) => quality !== null)?.quality?.quality.basePerplexity;
  if (arm.kind === "none") return [base === undefined ? none : `${base.value.toFixed(2)} ± ${(base.error ?? 0).toFixed(2)}`, "0", "0",
    "100 %"];
  const moved = perplexityChange(arm);
  if (moved === null) return [none, none, none, none];
  const { perplexity, kld, sameTop } = arm.quality!.quality,
    error = (of: { error: number | null; errorOverWindows: number | null }): number => Math.max(of.error ?? 0, of.errorOverWindows ?? 0);
  return [
    `${perplexity.value.toFixed(2)} ± ${(perplexity.error ?? 0).toFixed(2)}`,
    `${moved.claimed ? "" : "≈ "}${signed(moved.percent)} ± ${moved.error.toFixed(1)} %`,
    `${(1e3 * kld.mean).toFixed(2)} ± ${(1e3 * error(kld)).toFixed(2)}`,
    `${(100 * sameTop.mean).toFixed(1)} ± ${(100 * error(sameTop)).toFixed(1)} %`,
  ];
}

export function knormRows(run: PressRun): string[][] {
  const words = wordsOf(run), { press } = run;
  return press.arms.map((arm) => {
    const metrics = metricsOf(arm), of = (key: string): string => numberOr(metrics.find((metric) => metric.key === key)!.summary?.median,
      words), acted = actedOf(arm);
    return [
      labelOf(arm, run, words), of("ttft_ms"), arm.kind === "press" ? numberOr(arm.firstPressMs, words) : "0", of("tpot_ms"),
      of("output_tokens_per_s"),
      acted === null ? words.none : acted.events === 0 ? words.none : number(acted.kept), acted === null ? words.none
        : bytes(acted.freedBytes),
      arm.peak === null ? words.none : bytes(arm.peak.total), ...qualityCells(arm, press, words),
    ];
  });
}

function didTable(run: PressRun): string {
  return table(wordsOf(run).press.didColumns, didRows(run));
}

/** Acts, their time, what was left in each layer and what the blocks held over time: a row for each arm. */
export function didRows(run: PressRun): string[][] {
  const words = wordsOf(run);
  return run.press.arms.map((arm) => {
    const acted = actedOf(arm), { held } = arm;
    const after = held.findIndex(({ tokens }) => tokens >= run.press.promptTokens),
      at = (i: number): string => (held[i] === undefined ? words.none : number(held[i].held));
    return [
      labelOf(arm, run, words),
      ...(acted === null ? Array.from({ length: 6 }, () => words.none) : [
        String(acted.events), number(acted.ms), percent(acted.share), acted.events === 0 ? words.none : number(acted.ms / acted.events),
        String(acted.evicted), acted.layers.map(number).join(" ") || words.none,
      ]),
      at(after < 0 ? held.length : after + 1), at(held.length - 1), held.length === 0 ? words.none
        : number(Math.max(...held.map((point) => point.held))),
    ];
  });
}

/** Percent between which a change must lie, beyond noise, for the claims to be those of the sources. */
const TTFT_CLAIM: Range = [-Infinity, -80], THROUGHPUT_CLAIM: Range = [-10, -7];
type Range = readonly [low: number, high: number];
/** Percent within which a perplexity with its error must lie to have been shown to be unchanged. */
const UNCHANGED = 0.5;

const confirms = ({ measurable, median }: Change, [low, high]: Range): boolean => measurable && median >= low && median <= high;

/** A change that can be told from none is what it is; of any other, everything within its interval or within noise of it may be true. */
function refutes({ measurable, median, low, high, noise }: Change, [least, most]: Range): boolean {
  if (measurable) return median < least || median > most;
  return Math.min(low, median - noise) > most || Math.max(high, median + noise) < least;
}

/** What the sources print beside what was measured; how each figure arises where it is not found. */
export function claims(run: PressRun, verdict: PressVerdict): string[] {
  const { claims: say } = wordsOf(run).press, { rows, reasons } = heldAgainst(run, verdict);
  return [say.intro, table(say.columns, rows, "text"), ...reasons];
}

/** A row for each claim: what it says, what was measured, and whether it is so. */
export function heldAgainst(run: PressRun, verdict: PressVerdict): {
  readonly rows: readonly (readonly [claim: string, measured: string, answer: string])[]; readonly reasons: readonly string[] } {
  const words = wordsOf(run), { claims: say } = words.press;
  const valid = stopped(run, verdict) !== null ? []
    : verdict.arms.filter(({ arm, invalid }) => arm.kind === "press" && arm.keep! < 1 && invalid === null);
  const cells = (each: (one: ArmVerdict) => string): string =>
    valid.map((one) => say.ratioIs(labelOf(one.arm, run, words), each(one))).join("; ") || words.none;
  const change = (key: string) => (one: ArmVerdict): string => {
    const found = changeOf(one, key);
    return found === null ? words.none : `${signed(found.median)} (${doubtOf(found, words) ?? rangeOf(found, words)})`;
  };
  const answer = (key: string, claim: Range): string => {
    const changes = valid.map((one) => changeOf(one, key)).filter((found) => found !== null);
    if (changes.length === 0) return say.unclear;
    return changes.every((found) => confirms(found, claim)) ? say.yes : changes.some((found) => refutes(found, claim)) ? say.no
      : say.unresolved;
  };
  const ttft = answer("ttft_ms", TTFT_CLAIM), speed = answer("output_tokens_per_s", THROUGHPUT_CLAIM);
  const moves = valid.map(({ arm }) => perplexityChange(arm)).filter((moved) => moved !== null);
  const ppl = moves.length === 0 ? say.unclear : moves.some(({ claimed }) => claimed) ? say.no
    : moves.every(({ percent: by, error }) => Math.abs(by) + CLAIM_ERRORS * error < UNCHANGED) ? say.yes : say.unresolved;
  return {
    rows: [
      [say.ttft, cells(change("ttft_ms")), ttft], [say.throughput, cells(change("output_tokens_per_s")), speed],
      [say.ppl, cells(({ arm }) => { const moved = perplexityChange(arm); return moved === null ? words.none
        : `${signed(moved.percent)} ± ${moved.error.toFixed(1)} %`; }), ppl],
    ],
    reasons: [...(ttft === say.yes ? [] : [say.whyTtft]), ...(speed === say.yes ? [] : [say.whyThroughput]),
      ...(ppl === say.yes ? [] : [say.whyPpl])],
  };
}
