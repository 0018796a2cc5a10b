/** The report on sequences at a fixed budget, in Markdown, and its figures. */

import { sentence } from "../compare.ts";
import type { Words } from "../lang/en.ts";
import { bytes, metricsOf, number } from "../metrics.ts";
import { CONTROL_PRESS } from "../press/arms.ts";
import { actedOf, judgePresses, perplexityChange, runningOf, type ArmVerdict, type PressVerdict } from "../press/verdict.ts";
import { wordsOf } from "./json.ts";
import { document, notes, numberOr, table } from "./parts.ts";
import {
  commonSections, introduction, invalidArms, labelOf, pictureParts, pplSentences, qualityCells, stopped, type PictureNote,
} from "./press.ts";
import { placeOf, pressStatusOf, type PressRun } from "./press_json.ts";

export function capacityMarkdown(run: PressRun, pictures: PictureNote, json: string): string {
  const words = wordsOf(run), { heads, press: say } = words, { press, config } = run;
  const verdict = judgePresses(press, config, words);
  return document(say.capacity(config.batch_level, config.experiment_name), [
    ["", [...notes(placeOf(press), pressStatusOf(run), words), ...introduction(run)]],
    [heads.verdict, [...capacityConclusions(run, verdict), words.correctness(verdict.correctness)]],
    [say.heads.admitted, [table(say.capacityColumns, capacityRows(run)), say.capacityColumnsAre]],
    [say.heads.charts, pictureParts(pictures, words)],
    ...commonSections(run, verdict, json),
  ]);
}

export function capacityRows(run: PressRun): string[][] {
  const words = wordsOf(run), { press } = run;
  return press.arms.map((arm) => {
    const metrics = metricsOf(arm), of = (key: string): string => numberOr(metrics.find((metric) => metric.key === key)!.summary?.median,
      words), acted = actedOf(arm), running = runningOf(arm);
    const passes = arm.iterations.reduce((sum, { cache }) => sum + cache.passes, 0),
      sequences = arm.iterations.reduce((sum, { cache }) => sum + cache.meanRunning * cache.passes, 0);
    return [
      labelOf(arm, run, words), numberRunning(running, words.none), passes === 0 ? words.none : number(sequences / passes),
      of("output_tokens_per_s"), of("ttft_ms"),
      String(arm.iterations.reduce((sum, { preemptions }) => sum + preemptions, 0)), acted === null || acted.events === 0 ? words.none
        : number(acted.kept),
      acted === null ? words.none : bytes(acted.freedBytes), ...qualityCells(arm, press, words),
    ];
  });
}

function numberRunning(running: ReturnType<typeof runningOf>, none: string): string {
  return running === null ? none : running.low === running.high ? String(running.low)
    : `${running.median} (${running.low}–${running.high})`;
}

/** What each press admits, and costs, against no press; and which choose no better than chance. */
export function capacityConclusions(run: PressRun, verdict: PressVerdict): string[] {
  const words = wordsOf(run), { press: say } = words;
  const before = stopped(run, verdict);
  if (before !== null) return before;
  const pressed = verdict.arms.filter(({ arm }) => arm.kind === "press"), valid = pressed.filter(({ invalid }) => invalid === null);
  return [
    ...invalidArms(run, pressed), ...(valid.some(({ arm }) => arm.keep! < 1) ? [] : [say.noneValid]),
    ...valid.flatMap((one) => {
      const { arm } = one, label = labelOf(arm, run, words);
      return [
        arm.keep === 1 ? say.nullArm(label) : say.against(label), `- ${ranInWords(one, verdict, words)}`,
        ...one.changes.filter(({ metric }) => metric.key === "output_tokens_per_s").map((change) => `- ${sentence(change, words)}`),
        ...pplSentences(arm, words).map((text) => `- ${text}`),
        ...againstChance(one, verdict, run).map((text) => `- ${text}`),
      ];
    }),
  ];
}

/** How many sequences a press let run at a time, against both arms without one: what those differ by is no difference. */
export function ranInWords({ arm }: ArmVerdict, { arms: [none, again] }: PressVerdict, { press: say }: Words): string {
  const running = runningOf(arm)!, floor = [none!, again!].map((one) => runningOf(one.arm)!), from = floor[0]!.median;
  const stands = running.low > Math.max(...floor.map(({ high }) => high)) || running.high < Math.min(...floor.map(({ low }) => low));
  return stands ? say.ran(number(running.median), number(from), (running.median / from).toFixed(2))
    : say.ranSame(number(running.median), number(from));
}

/** When a press costs as much as evicting at random of the same share, where that can be spoken of; empty when it does not. */
export function againstChance({ arm }: ArmVerdict, { arms }: PressVerdict, run: PressRun): string[] {
  const random = arms.find(({ arm: other, invalid }) => invalid === null && other.press === CONTROL_PRESS && other.keep === arm.keep)?.arm;
  if (random === undefined || arm.press === CONTROL_PRESS) return [];
  const own = perplexityChange(arm), other = perplexityChange(random), words = wordsOf(run);
  if (own === null || other === null || own.percent < other.percent || arm.keep === 1) return [];
  const text = (percent: number): string => `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(2)} %`;
  return [words.press.noBetterThanRandom(labelOf(arm, run, words), labelOf(random, run, words), text(own.percent), text(other.percent))];
}
