/** What the pictures of speculative decoding show, and their files. A picture that cannot be drawn is a note in the report. */

import { oneLine } from "../cli.ts";
import { en } from "../lang/en.ts";
import { pictureOf } from "../speculation/samples.ts";
import { judgeSpeculation, type CellVerdict, type SpecArmVerdict } from "../speculation/verdict.ts";
import { summarise } from "../stats.ts";
import { drawSpec } from "./chart.ts";
import { wordsOf } from "./json.ts";
import type { PictureNote } from "./press.ts";
import { short, type Span } from "./press_charts.ts";
import type { Specified } from "./press_pictures.ts";
import { speculationSpec, type SpecPicture, type SpecPoint } from "./spec_charts.ts";
import type { SpecRun } from "./spec_json.ts";

type File = readonly [name: string, content: string | Uint8Array];

/** One for each data set, before it is drawn. */
export function speculationSpecs(run: SpecRun): Specified[] {
  const { charts: say } = wordsOf(run).spec;
  return picturesOf(run).map(({ dataset, picture }) => (
    { name: `speculative_comparison_${pictureOf(dataset)}`, shows: say.file(dataset), spec: speculationSpec(picture) }));
}

export async function drawSpeculation(run: SpecRun): Promise<{ note: PictureNote; files: readonly File[] }> {
  try {
    const files: File[] = [], specs = speculationSpecs(run);
    for (const { name, spec } of specs) {
      const { png, svg, spec: text } = await drawSpec(spec);
      files.push([`${name}.png`, png], [`${name}.svg`, svg], [`${name}.vl.json`, text]);
    }
    return { note: { files: specs.map(({ name, shows }) => [`${name}.png`, shows]) }, files };
  } catch (error) {
    return { note: { reason: oneLine(error instanceof Error ? error.message : String(error)) }, files: [] };
  }
}

/** One for each data set. */
export function picturesOf(run: SpecRun): { readonly dataset: string; readonly picture: SpecPicture }[] {
  const { speculation, config } = run, { adapter } = speculation.environment, { cells } = judgeSpeculation(speculation, config, en);
  return [...new Set(cells.map(({ cell }) => cell.dataset))].map((dataset) => {
    const own = cells.filter(({ cell }) => cell.dataset === dataset), iterations = own[0]!.cell.arms[0]!.iterations.length;
    const prompts = speculation.places.filter((place) => place.dataset === dataset).length;
    const isInvalid = own.some(({ invalid }) => invalid !== null);
    const baselines = own.flatMap(({ arms }) => arms.filter(({ arm }) => arm.kind !== "drafted"));
    const plain = summarise(baselines.flatMap(({ throughput }) => throughput?.samples ?? []));
    const picture: SpecPicture = {
      title: `Speculative decoding on ${dataset}: ${speculation.source.id}` +
        `${speculation.status === "complete" ? "" : " · INTERRUPTED"}${isInvalid ? " · INVALID" : ""}`,
      subtitle: [
        `${adapter.description}${adapter.software ? " (software adapter)" : ""}; ${prompts} prompts of ${config.prompt_tokens} + ` +
          `${config.max_tokens} tokens, one at a time, ${config.temperature === 0 ? "greedy" : `temperature ${config.temperature}`}; ` +
          `${iterations} iteration${iterations === 1 ? "" : "s"}, arms in turns` +
          (speculation.loading === "together" ? "" : ", drafts one after the other"),
        "throughput: medians, and from p10 to p90 over iterations; dashed and grey: plain decoding" +
          (plain === null ? "" : `, ${short(plain.median)} tok/s`),
        `dotted: by arithmetic${own.every(({ doubt }) => doubt === null) ? "" : ", only where measured costs fit the run"}; ` +
          "adaptive: K follows costs and acceptance",
      ],
      plain: plain === null ? null : { value: plain.median, low: plain.p10, high: plain.p90 }, drafts: own.map(({ cell }) => cell.draft),
      points: own.flatMap(pointsOf),
    };
    return { dataset, picture };
  });
}

function pointsOf({ cell, arms, doubt }: CellVerdict): SpecPoint[] {
  const [plain] = arms;
  return arms.flatMap(({ arm, invalid, throughput, did }): SpecPoint[] => {
    if (arm.kind !== "drafted" || arm.k === null) return [];
    const span: Span | null = throughput === null ? null : { value: throughput.median, low: throughput.p10, high: throughput.p90 };
    return [{
      draft: cell.draft, k: arm.k, invalid: invalid !== null, throughput: span, acceptance: did?.explanation.rate ?? null,
      predicted: doubt === null ? predictedThroughput(plain!, did?.predicted ?? null) : null,
    }];
  });
}

/** Plain decoding's tokens per second with the time behind the first tokens shortened by `speedUp`. */
function predictedThroughput({ throughput, tpot, arm: { iterations } }: SpecArmVerdict, speedUp: number | null): number | null {
  const requests = iterations[0]?.requests;
  if (speedUp === null || throughput === null || tpot === null || requests === undefined) return null;
  const tokens = requests.reduce((sum, { newTokens }) => sum + newTokens, 0), wallMs = 1000 * tokens / throughput.median;
  const decodeMs = tpot.median * (tokens - requests.length);
  return 1000 * tokens / (wallMs - decodeMs + decodeMs / speedUp);
}
