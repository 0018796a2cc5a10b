/** What the pictures of the experiments on presses show, and their files. A picture that cannot be drawn is a note in the report. */

import { oneLine } from "../cli.ts";
import { en } from "../lang/en.ts";
import { metricsOf } from "../metrics.ts";
import { ratioText } from "../press/arms.ts";
import type { PressArmResult, PressOutcome } from "../press/experiment.ts";
import { actedOf, changeOf, judgePresses, perplexityChange, runningOf, type Acted, type ArmVerdict } from "../press/verdict.ts";
import type { Change } from "../stats.ts";
import { capacitySpec, type CapacityPoint } from "./press_capacity_chart.ts";
import { drawSpec } from "./chart.ts";
import { wordsOf } from "./json.ts";
import type { PictureNote } from "./press.ts";
import { comprehensiveSpec, summarySpec, tableSpec, type Json, type PressPictures, type PressRow, type Span } from "./press_charts.ts";
import type { PressRun } from "./press_json.ts";
import { tradeoffSpec } from "./press_scatter.ts";

type Files = readonly (readonly [string, string | Uint8Array])[];

const KNORM = { comprehensive: comprehensiveSpec, summary: summarySpec, tradeoff: tradeoffSpec, table: tableSpec } as const;

/** A picture before it is drawn: the stem of its files, what it shows in the words of the run, and its Vega-Lite specification. */
export interface Specified { readonly name: string; readonly shows: string; readonly spec: Json }

export function pressSpecs(run: PressRun): Specified[] {
  const { charts: say } = wordsOf(run).press;
  if (run.config.technique === "KVPress") {
    return [{ name: "kvpress_capacity", shows: say.capacity, spec: capacitySpec(capacityInput(run)) }];
  }
  const input = knormInput(run);
  return (Object.keys(KNORM) as (keyof typeof KNORM)[]).map((name) => (
    { name: `knormpress_${name}`, shows: say[name], spec: KNORM[name](input) }));
}

export async function drawPress(run: PressRun): Promise<{ note: PictureNote; files: Files }> {
  try {
    const files: (readonly [string, string | Uint8Array])[] = [], specs = pressSpecs(run);
    for (const { name, spec } of specs) {
      const { png, svg, spec: text } = await drawSpec(spec);
      files.push([`${name}.png`, png], [`${name}.svg`, svg], [`${name}.vl.json`, text]);
    }
    return { note: { files: specs.map(({ name, shows }) => [`${name}.png`, shows]) }, files };
  } catch (error) {
    return { note: { reason: oneLine(error instanceof Error ? error.message : String(error)) }, files: [] };
  }
}

/** In English whatever the language: the font has Latin letters only. */
function labelOf({ kind, name, keep }: PressArmResult, isKnorm: boolean): string {
  return kind === "none" ? "no press" : kind === "again" ? "no press (A/A)" : isKnorm ? `keep ${ratioText(keep!)}` : name;
}

function subtitleOf({ environment: { adapter }, arms, scored, status }: PressOutcome, what: string): string[] {
  const iterations = arms[0]!.iterations.length;
  const lengths = [scored?.options.context, scored?.options.continuation].filter((value) => value !== undefined).join(", ");
  return [
    `${adapter.description}${adapter.software ? " (software adapter)" : ""}; ${what}; ` +
      `${iterations} iteration${iterations === 1 ? "" : "s"}, arms in turns${status === "complete" ? "" : "; INTERRUPTED"}`,
    scored === null ? "no perplexity was measured"
      : `perplexity: ${scored.options.protocol}(${lengths}), ${scored.windows} windows of ${scored.dataset}, same tokens without a press`,
  ];
}

export function knormInput(run: PressRun): PressPictures {
  const { press, config } = run, verdict = judgePresses(press, config, en);
  const ofNoise = (key: string): number => {
    const found = changeOf({ changes: verdict.control }, key);
    return found === null ? 0 : Math.max(Math.abs(found.low), Math.abs(found.high), found.noise);
  };
  return {
    title: `KnormPress: ${press.source.id}${verdict.invalid === null ? "" : " · INVALID"}`,
    subtitle: [
      ...subtitleOf(press,
        `${press.prompts.texts.length} samples of ${config.prompt_tokens} + ${config.max_tokens} tokens, one at a time, ` +
        `pruned from ${config.prune_after} entries on`),
      "bars: medians with p10 to p90; points: changes with their intervals (94 % or more); yellow: what two equal arms or neighbouring " +
        "iterations differ by",
    ],
    rows: verdict.arms.map((arm) => rowOf(arm, press)), noise: { ttft: ofNoise("ttft_ms"), throughput: ofNoise("output_tokens_per_s"),
      tpot: ofNoise("tpot_ms") },
  };
}

function rowOf({ arm, invalid, changes }: ArmVerdict, { arms }: PressOutcome): PressRow {
  const metrics = metricsOf(arm), acted = actedOf(arm),
    base = arms.find(({ quality }) => quality !== null)?.quality?.quality.basePerplexity.value ?? null;
  const bar = (key: string): Span | null => {
    const summary = metrics.find((metric) => metric.key === key)?.summary ?? null;
    return summary === null ? null : { value: summary.median, low: summary.p10, high: summary.p90 };
  };
  const moved = (key: string, sign: 1 | -1 = 1): Span | null => spanOf(changeOf({ changes }, key), sign);
  const last = arm.iterations.at(-1)?.requests.at(-1);
  return {
    label: labelOf(arm, true), kind: arm.kind !== "press" ? arm.kind : invalid !== null ? "invalid" : arm.keep === 1 ? "null" : "press",
    ttft: bar("ttft_ms"), tpot: bar("tpot_ms"), throughput: bar("output_tokens_per_s"),
    ttftImprovement: moved("ttft_ms", -1), tpotChange: moved("tpot_ms"), throughputChange: moved("output_tokens_per_s"),
    perplexity: arm.kind === "press" ? arm.quality?.quality.perplexity.value ?? null : base, perplexityChange: perplexitySpan(arm),
    kept: last === undefined ? null : leftOf(acted, last.promptTokens + last.newTokens - 1), // the last token is never read
    freedBytes: arm.kind === "press" ? acted?.freedBytes ?? null : 0, peakBytes: arm.peak?.total ?? null,
  };
}

/** Entries of a KV head at the end of a request: what the last act left, and all that was read later. */
function leftOf(acted: Acted | null, read: number): number {
  return acted === null || acted.events === 0 ? read : acted.kept + read - acted.seen;
}

function spanOf(change: Change | null, sign: 1 | -1): Span | null {
  if (change === null) return null;
  const ends = [sign * change.low || 0, sign * change.high || 0] as const; // || 0: no −0
  return { value: sign * change.median || 0, low: Math.min(...ends), high: Math.max(...ends) };
}

function perplexitySpan(arm: PressArmResult): Span | null {
  const moved = perplexityChange(arm);
  return moved === null ? null : { value: moved.percent, low: moved.percent - moved.error, high: moved.percent + moved.error };
}

export function capacityInput(run: PressRun): Parameters<typeof capacitySpec>[0] {
  const { press, config } = run, verdict = judgePresses(press, config, en);
  const points = verdict.arms.flatMap(({ arm, invalid }): CapacityPoint[] => {
    const running = runningOf(arm);
    if (running === null || arm.kind === "again") return [];
    const { logRatio } = arm.quality?.quality ?? { logRatio: null }, error = Math.max(logRatio?.error ?? 0,
      logRatio?.errorOverWindows ?? 0);
    if (arm.kind === "press" && logRatio === null) return [];
    const value = logRatio?.mean ?? 0;
    return [{
      press: arm.press ?? "no press", label: labelOf(arm, false), invalid: invalid !== null, evicts: arm.keep === null ? 0 : 1 - arm.keep,
      running: { value: running.median, low: running.low, high: running.high }, nll: { value, low: value - error, high: value + error },
    }];
  });
  return {
    title: `Sequences at a fixed budget: ${press.source.id}${verdict.invalid === null ? "" : " · INVALID"}`, points,
    subtitle: subtitleOf(
      press, `${config.num_prompts} requests of ${config.prompt_tokens} + ${config.max_tokens} tokens at once; the pool ` +
      `holds ${press.entries} tokens of one sequence`),
  };
}
