/** The report on sequences at a fixed budget, in Markdown, and its figures. */

import { sentence } from "../compare.ts";
import { bytes, metricsOf, number } from "../metrics.ts";
import { CONTROL_PRESS } from "../press/arms.ts";
import { actedOf, judgePresses, perplexityChange, runningOf, type ArmVerdict, type PressVerdict } from "../press/verdict.ts";
import { wordsOf } from "./json.ts";
import { document, notes, numberOr, table } from "./parts.ts";
import { commonSections, invalidArms, labelOf, pictureParts, pplSentences, qualityCells, stopped, type PictureNote } from "./press.ts";
import { placeOf, pressStatusOf, type PressRun } from "./press_json.ts";

export function capacityMarkdown(run: PressRun, pictures: PictureNote, json: string): string {
  const words = wordsOf(run), { heads, press: say } = words, { press, config } = run;
  const verdict = judgePresses(press, config, words);
  return document(say.capacity(config.batch_level, config.experiment_name), [
    ["", [
      ...notes(placeOf(press), pressStatusOf(run), words), say.requests(config.num_prompts, config.prompt_tokens, config.max_tokens,
        bytes(press.budget), press.entries), say.control, say.oneModel,
    ]],
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
  const [none, again] = verdict.arms as readonly [ArmVerdict, ArmVerdict, ...ArmVerdict[]];
  const pressed = verdict.arms.filter(({ arm }) => arm.kind === "press"), valid = pressed.filter(({ invalid }) => invalid === null);
  const floor = [none, again].map(({ arm }) => runningOf(arm)!), low = Math.min(...floor.map((one) => one.low)),
    high = Math.max(...floor.map((one) => one.high));
  return [
    ...invalidArms(run, pressed), ...(valid.some(({ arm }) => arm.keep! < 1) ? [] : [say.noneValid]),
    ...valid.flatMap((one) => {
      const { arm } = one, label = labelOf(arm, run, words), running = runningOf(arm)!, from = floor[0]!.median;
      const stands = running.low > high || running.high < low;
      const random = valid.find(({ arm: other }) => other.press === CONTROL_PRESS && other.keep === arm.keep);
      return [
        arm.keep === 1 ? say.nullArm(label) : say.against(label),
        `- ${stands ? say.ran(number(running.median), number(from), (running.median / from).toFixed(2))
          : say.ranSame(number(running.median), number(from))}`,
        ...one.changes.filter(({ metric }) => metric.key === "output_tokens_per_s").map((change) => `- ${sentence(change, words)}`),
        ...pplSentences(arm, words).map((text) => `- ${text}`),
        ...(random === undefined || arm.press === CONTROL_PRESS ? [] : worseThan(one, random, run).map((text) => `- ${text}`)),
      ];
    }),
  ];
}

/** When a press costs as much as evicting at random of the same share. */
function worseThan({ arm }: ArmVerdict, { arm: random }: ArmVerdict, run: PressRun): string[] {
  const own = perplexityChange(arm), other = perplexityChange(random), words = wordsOf(run);
  if (own === null || other === null || own.percent < other.percent || arm.keep === 1) return [];
  const text = (percent: number): string => `${percent >= 0 ? "+" : "−"}${Math.abs(percent).toFixed(2)} %`;
  return [words.press.noBetterThanRandom(labelOf(arm, run, words), labelOf(random, run, words), text(own.percent), text(other.percent))];
}
