/**
 * KV compression in the common shape. An arm that evicts costs quality, measured under its press; one that keeps everything, and no press
 * again, must write what no press writes.
 */

import type { Mean } from "../../../models/perplexity.ts";
import type { Words } from "../lang/en.ts";
import type { PressArmResult } from "../press/experiment.ts";
import { actedOf, judgePresses, perplexityChange, type ArmVerdict, type PressVerdict } from "../press/verdict.ts";
import { wordsOf } from "../report/json.ts";
import {
  didInWords, didRows, heldAgainst, introduction, knormRows, labelOf, pplSentences, qualityParts, stopped,
} from "../report/press.ts";
import { againstChance, capacityRows, ranInWords } from "../report/press_capacity.ts";
import { pressDetail, pressStatusOf, type PressRun } from "../report/press_json.ts";
import { pressSpecs } from "../report/press_pictures.ts";
import type { Proof, ResultArm, ResultBody, ResultQuality } from "../result.ts";
import {
  bare, captionOf, coldStartOf, differencesIn, factsIn, metricsIn, plainNotes, protocolIn, roleOf, standingNotes, struck, subjectOf,
  uncheckedProof, type Row,
} from "./parts.ts";

export function pressBody(run: PressRun): ResultBody {
  const words = wordsOf(run), { press, config } = run, { warmUp, yardstick, order, scored } = press;
  const verdict = judgePresses(press, config, words), status = pressStatusOf(run), facts = factsOf(run, words);
  const caption = captionOf(press, press.prompts.texts.length, press.arms[0]!.iterations.length, words);
  return {
    status, order, warmUp, yardstick, ...subjectOf(run, press, words),
    corpus: scored === null ? null : { name: scored.dataset, sha256: scored.sha256 },
    arms: verdict.arms.map(({ arm, invalid, changes }, at): ResultArm => {
      const role = roleOf(at, arm.kind === "again");
      return {
        name: arm.name, group: "", role, settings: settingsOf(run, arm),
        invalid: struck(verdict.invalid, role, verdict.arms.length) ?? invalid, engagement: engagementOf(run, arm, words),
        proof: proofOf(run, arm, verdict, words), quality: qualityOf(run, arm, words), metrics: metricsIn(arm),
        differences: differencesIn(changes), memory: arm.peak, facts: facts[at]!,
        coldStart: coldStartOf(press.loadTimings, warmUp, arm.name),
      };
    }),
    notes: plainNotes([...standingNotes(press, status, verdict.invalid, words), ...introduction(run), ...notesOf(run, verdict, words)]),
    pictures: pressSpecs(run).map(({ name: id, shows: title, spec }) => ({ id, title, caption, spec })), detail: pressDetail(run),
  };
}

function settingsOf({ config }: PressRun, { press, keep }: PressArmResult): ResultArm["settings"] {
  if (press === null || keep === null) return { press: null };
  if (config.technique === "KVPress") return { press, ratio: Number((1 - keep).toPrecision(12)) };
  return { press, keep_ratio: keep, prune_after: config.prune_after, skip_layers: config.skip_layers };
}

function engagementOf(run: PressRun, arm: PressArmResult, words: Words): string | null {
  const acted = arm.kind === "press" ? actedOf(arm) : null;
  return acted === null ? null : bare(didInWords(labelOf(arm, run, words), arm.keep === 1, acted, words));
}

function proofOf({ press, config }: PressRun, arm: PressArmResult, { correctness, invalid }: PressVerdict, words: Words): Proof | null {
  const { quality: say } = words.press;
  if (arm.kind === "none") return null;
  if (arm.kind === "again" || arm.keep === 1) {
    const isCompared = config.temperature === 0 && correctness !== words.notCompared;
    return { kind: "lossless", holds: isCompared ? invalid === null : null, text: correctness };
  }
  const [told] = pplSentences(arm, words);
  return told === undefined ? uncheckedProof(press.source.random ? say.random : say.none) : { kind: "lossy", holds: true, text: told };
}

/** What every press was held against is no press in the same LLM, whose perplexity stands with each of them. */
function qualityOf({ press: { arms, scored } }: PressRun, arm: PressArmResult, words: Words): ResultQuality | null {
  const own = (arm.kind === "none" ? arms.find(({ quality }) => quality !== null)?.quality : arm.quality)?.quality;
  if (own === undefined || scored === null) return null;
  const { options: { protocol, context, continuation }, dataset } = scored, isPressed = arm.kind === "press";
  const name = `${protocol}(${[context, continuation].filter((value) => value !== undefined).join(", ")})`;
  return {
    perplexity: isPressed ? own.perplexity : own.basePerplexity, protocol: protocolIn(name, dataset, own.tokens, own.windows, words),
    change: isPressed ? perplexityChange(arm) : null, kld: isPressed ? figure(own.kld) : null,
    sameTop: isPressed ? figure(own.sameTop) : null,
  };
}

/** With the larger of its two errors, as the reports have it. */
function figure({ mean, error, errorOverWindows }: Mean): { readonly value: number; readonly error: number | null } {
  return { value: mean, error: error === null && errorOverWindows === null ? null : Math.max(error ?? 0, errorOverWindows ?? 0) };
}

/** Of every arm, in their order: what in the reports' tables is neither a metric nor memory nor quality. */
function factsOf(run: PressRun, words: Words): ResultArm["facts"][] {
  const { press: { knormColumns, capacityColumns, didColumns }, memory: { inDistribution: labelled } } = words, did = didRows(run);
  const own = run.config.technique === "KnormPress"
    ? knormRows(run).map((row): Row[] => [[labelled(words.metrics.ttft_ms, knormColumns[2]!), row[2]], ...cells(knormColumns, row, [5, 6])])
    : capacityRows(run).map((row): Row[] => [
      ...cells(capacityColumns, row, [1]), [labelled(capacityColumns[1]!, capacityColumns[2]!), row[2]],
      ...cells(capacityColumns, row, [5, 6, 7]),
    ]);
  return own.map((rows, at) => {
    const row = did[at]!;
    return factsIn([...rows, ...cells(didColumns, row, [1, 2, 3, 4, 5, 6]), heldIn(didColumns, row, words)], words);
  });
}

/** What the blocks held after the prompt, at the end and at most: three columns whose heads are read together. */
function heldIn(columns: readonly string[], row: readonly string[], { none, weights: { and } }: Words): Row {
  const held = row.slice(7);
  return [columns.slice(7).join(and), held.every((cell) => cell === none) ? none : held.join(and)];
}

function cells(columns: readonly string[], row: readonly string[], shown: readonly number[]): Row[] {
  return shown.map((column) => [columns[column]!, row[column]]);
}

function notesOf(run: PressRun, verdict: PressVerdict, words: Words): string[] {
  const { press: say } = words, isKnorm = run.config.technique === "KnormPress", isStopped = stopped(run, verdict) !== null;
  const valid = verdict.arms.filter(({ arm, invalid }) => arm.kind === "press" && invalid === null);
  const about = ({ arm }: ArmVerdict, text: string): string => words.memory.inDistribution(labelOf(arm, run, words), text);
  return [
    ...(isStopped || valid.some(({ arm }) => arm.keep! < 1) ? [] : [say.noneValid]), words.correctness(verdict.correctness),
    ...qualityParts(run.press, words),
    ...(isStopped || isKnorm ? []
      : valid.flatMap((one) => [about(one, ranInWords(one, verdict, words)), ...againstChance(one, verdict, run)])),
    ...(isKnorm && !isStopped ? claimsOf(run, verdict, words) : []),
  ];
}

function claimsOf(run: PressRun, verdict: PressVerdict, words: Words): string[] {
  const { intro, columns } = words.press.claims, { rows, reasons } = heldAgainst(run, verdict);
  const told = rows.flatMap((row) => row.map((cell, i) => `${i === 0 ? "" : "- "}${words.memory.inDistribution(columns[i]!, cell)}`));
  return [intro, ...told, ...reasons];
}
