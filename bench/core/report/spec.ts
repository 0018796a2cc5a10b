/** The report on speculative decoding in Markdown. */

import type { Words } from "../lang/en.ts";
import { bytes, number, percent } from "../metrics.ts";
import type { SpecArmResult } from "../speculation/measure.ts";
import { judgeSpeculation, type CellVerdict, type SpecArmVerdict, type SpecVerdict } from "../speculation/verdict.ts";
import { CLAIM_ITERATIONS, type Change } from "../stats.ts";
import { wordsOf } from "./json.ts";
import { configuration, document, environment, notes, numberOr, rawSamples, table } from "./parts.ts";
import { pictureParts, type PictureNote } from "./press.ts";
import { placeOf, specStatusOf, type SpecRun } from "./spec_json.ts";

export function armLabel({ kind, k }: Pick<SpecArmResult, "kind" | "k">, { spec: { arms: say } }: Words): string {
  return kind !== "drafted" ? say[kind] : k === "adaptive" ? say.adaptive : say.k(String(k));
}

export function cellLabel({ cell }: Pick<CellVerdict, "cell">, { spec: say }: Words): string {
  return say.cell(`\`${cell.draft}\``, `\`${cell.dataset}\``);
}

export function specMarkdown(run: SpecRun, pictures: PictureNote, json: string): string {
  const words = wordsOf(run), { heads, spec: say } = words, { speculation, config } = run;
  const verdict = judgeSpeculation(speculation, config, words), datasets = [...new Set(verdict.cells.map(({ cell }) => cell.dataset))];
  return document(say.title(config.batch_level, config.experiment_name), [
    ["", [
      ...notes(placeOf(speculation), specStatusOf(run), words), ...introduction(run),
    ]],
    [heads.verdict, [...conclusions(run, verdict), words.correctness(verdict.correctness)]],
    [say.heads.charts, pictureParts(pictures, words)],
    ...datasets.map((dataset): [string, string[]] => [say.heads.table(`\`${dataset}\``), [
      ...verdict.cells.filter(({ cell }) => cell.dataset === dataset)
        .flatMap((cell) => [cellLabel(cell, words), table(say.columns, cell.arms.map((arm) => armRow(arm, words)))]),
      say.columnsAre,
    ]]),
    ["", [words.changesAre(CLAIM_ITERATIONS)]],
    [say.heads.costs, [costTable(verdict, words), say.costsAre]],
    [say.heads.positions, [positionTable(verdict, words), say.positionsAre].filter((part) => part !== "")],
    [say.heads.source, [...sourceTables(verdict, words), say.sourceIs]],
    [say.heads.time, timeTables(verdict, words)],
    [heads.configuration, [configuration(run, [])]],
    [heads.environment, [
      environment(run, placeOf(speculation)), ...coldStarts(run),
    ]],
    [heads.raw, [
      ...verdict.cells.flatMap((one) => one.cell.arms.map((arm) =>
        `${say.rawOf(cellLabel(one, words), armLabel(arm, words))}\n\n${rawSamples(arm, words)}`)),
      words.weights.fileNote(json),
    ]],
  ]);
}

/** What was run, in sentences. */
export function introduction({ speculation, config }: SpecRun): string[] {
  const { spec: say } = wordsOf({ config }), { places, drafts, loading } = speculation;
  const prompts = places.length / Math.max(1, new Set(places.map(({ dataset }) => dataset)).size);
  return [
    say.samples(String(prompts), String(config.prompt_tokens), String(config.max_tokens)), say.oneModel,
    ...(drafts.length < 2 ? [] : [loading === "together" ? say.together : say.inTurn]),
  ];
}

/** What every draft took before the first token, and its memory. */
export function coldStarts({ speculation, config }: SpecRun): string[] {
  const { spec: say } = wordsOf({ config });
  return speculation.drafts.map(({ draft, loadTimings: { weightsMs, pipelinesMs }, memory }) =>
    say.coldStart(`\`${draft}\``, number(weightsMs), number(pipelinesMs), bytes(memory.total)));
}

/** Sentences about what speculation gained, or why there are none. */
export function conclusions(run: SpecRun, { cells }: SpecVerdict): string[] {
  const words = wordsOf(run);
  if (run.speculation.status !== "complete") return [`**${words.partial}**: ${words.nothingConcluded}.`];
  return cells.flatMap((cell) => cellConclusions(cell, words));
}

function cellConclusions(one: CellVerdict, words: Words): string[] {
  const { spec: say } = words, { verdict } = say, { arms, fastest, invalid } = one, cell = cellLabel(one, words);
  if (invalid !== null) return [say.invalidCell(cell, invalid)];
  const wrong = arms.flatMap(({ arm, invalid: reason }) => (reason === null ? [] : [say.invalidArm(cell, armLabel(arm, words), reason)]));
  if (fastest === null || fastest.speedUp === null) return [...wrong, verdict.none(cell)];
  const { speedUp } = fastest, name = armLabel(fastest.arm, words);
  if (speedUp.tooFew === true) return [...wrong, verdict.tooFew(cell)];
  const kind = !speedUp.measurable ? "same" : speedUp.median > 0 ? "helps" : "helpsNot";
  const found = verdict[kind](cell, name, ratio(speedUp.median), ratios(speedUp, words));
  const why = kind === "helpsNot" && one.doubt === null ? causeInWords(one, words) : [];
  return [...wrong, found, ...[...why, ...arithmetic(one, fastest, words)].map((line) => `- ${line}`)];
}

/** What the rounds of the fastest arm yield and cost, what that comes to, and which K would be best. */
function arithmetic({ outlook, model, doubt }: CellVerdict, { arm, did, speedUp }: SpecArmVerdict, words: Words): string[] {
  const { verdict } = words.spec;
  if (did === null || model === null) return [];
  if (doubt !== null) return [verdict.doubt(number(doubt.costsMs), number(doubt.runMs))];
  const { counted, meanLength } = did.explanation, best = outlook?.best ?? null, alpha = outlook?.alpha ?? null;
  return [
    ...(counted === null || meanLength === null ? []
      : [verdict.round(armLabel(arm, words), meanLength.toFixed(2), counted.cost.toFixed(2))]),
    ...(did.predicted === null ? [] : [verdict.predicted(did.predicted.toFixed(2), ratio(speedUp!.median))]),
    ...(best === null || alpha === null ? []
      : [(best.speedUp > 1 ? verdict.best : verdict.noBest)(String(best.k), best.speedUp.toFixed(2), alpha.value.toFixed(2))]),
  ];
}

/** What is to blame for a speed-up that is none; empty when that cannot be told. */
function causeInWords({ cause, fastest, outlook }: CellVerdict, words: Words): string[] {
  const { causes, unreachable } = words.spec.verdict, did = fastest?.did ?? null;
  if (cause === null || did === null) return [];
  const { explanation: { costs, k, alpha, leastAlpha }, predicted } = did;
  const needed = leastAlpha === null ? unreachable : leastAlpha.toFixed(2);
  const fixed = (value: number | undefined): string => value?.toFixed(2) ?? words.none;
  const say = {
    "nothing-drafted": () => causes["nothing-drafted"](), noise: () => causes.noise(),
    acceptance: () => causes.acceptance(fixed(alpha?.value), needed),
    "draft-cost": () => causes["draft-cost"](fixed(costs.c), needed), "verify-cost": () => causes["verify-cost"](fixed(costs.v[k]), needed),
    length: () => causes.length(String(outlook?.best?.k ?? words.none)), overhead: () => causes.overhead(fixed(predicted ?? undefined)),
  };
  return [say[cause]()];
}

/** Percent more → times as much. */
export function ratio(percentMore: number): string {
  return (1 + percentMore / 100).toFixed(2);
}

function ratios({ low, high }: Change, words: Words): string {
  return low === high ? ratio(low) : words.range(ratio(low), ratio(high));
}

export function armRow({ arm, invalid, throughput, tpot, speedUp, did }: SpecArmVerdict, words: Words): string[] {
  const { spec: say, none } = words, { explanation = null, stats = null, predicted = null } = did ?? {};
  const perRound = (count: number): string => (stats === null || stats.rounds === 0 ? none : (count / stats.rounds).toFixed(2));
  const { rate = null, alpha = null, source = null } = explanation ?? {};
  return [
    `${armLabel(arm, words)}${invalid === null ? "" : ` **${words.invalid}**`}`,
    numberOr(throughput?.median, words), numberOr(tpot?.median, words),
    speedUp === null ? arm.kind === "none" ? say.timesAlone("1") : none
      : `${speedUp.measurable ? "" : "≈ "}${say.times(ratio(speedUp.median), ratios(speedUp, words))}`,
    predicted === null ? none : say.timesAlone(predicted.toFixed(2)), perRound(stats?.tokens ?? 0),
    rate === null ? none : percent(rate), shareInWords(alpha, words),
    perRound(stats?.accepted ?? 0), source === null || arm.k === "adaptive" ? none : percent(source.value),
  ];
}

function shareInWords(share: { readonly value: number; readonly low: number; readonly high: number } | null, words: Words): string {
  return share === null ? words.none : words.spec.share(percent(share.value), percent(share.low), percent(share.high));
}

const SHOWN_V = [1, 3, 5, 8, 10, 16];

function costTable({ cells }: SpecVerdict, words: Words): string {
  const { spec: say, none } = words;
  const drafts = cells.filter((one, i) => cells.findIndex(({ draft }) => draft.draft === one.draft.draft) === i);
  return table(say.costColumns, drafts.map(({ draft: { draft, costs }, model, outlook }) => [
    `\`${draft}\``, numberOr(costs?.decodeMs, words), numberOr(costs?.draftMs, words), numberOr(model?.c, words),
    ...SHOWN_V.map((k) => numberOr(model?.v[k], words)),
    outlook === null ? none : outlook.leastAlpha === null ? say.verdict.unreachable : outlook.leastAlpha.toFixed(2),
  ]));
}

function positionTable({ cells }: SpecVerdict, words: Words): string {
  const rows = cells.flatMap((one) => (one.outlook === null ? [] : [{ label: cellLabel(one, words), rates: one.outlook.byPosition }]));
  const most = Math.max(0, ...rows.map(({ rates }) => rates.length));
  if (most === 0) return "";
  return table(["", ...Array.from({ length: most }, (_, i) => words.spec.positionColumns(String(i + 1)))], rows.map(({ label, rates }) =>
    [label, ...Array.from({ length: most }, (_, i) => (rates[i] === undefined ? words.none : percent(rates[i].rate)))]));
}

function sourceTables({ cells }: SpecVerdict, words: Words): string[] {
  const { spec: say, none } = words;
  return cells.flatMap((one) => {
    const rows = one.arms.flatMap(({ arm, did }) => {
      const { source = null, rate = null } = did?.explanation ?? {};
      if (source === null || typeof arm.k !== "number") return [];
      const shares = [source.value, rate].map((share) => (share === null ? none : percent(share)));
      return [[armLabel(arm, words), ...shares, String(source.cut), String(source.missing), percent(source.ofAlpha)]];
    });
    return rows.length === 0 ? [] : [cellLabel(one, words), table(say.sourceColumns, rows)];
  });
}

function timeTables({ cells }: SpecVerdict, words: Words): string[] {
  return cells.flatMap((one) => {
    const rows = one.arms.flatMap(({ arm, did }) => {
      if (did === null || did.times.rounds === 0) return [];
      const { rounds, draftMs, verifyMs, hostMs } = did.times;
      return [[armLabel(arm, words), String(rounds), ...[draftMs, verifyMs, hostMs].map((ms) => number(ms / rounds))]];
    });
    return rows.length === 0 ? [] : [cellLabel(one, words), table(words.spec.timeColumns, rows)];
  });
}
