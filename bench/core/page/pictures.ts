/** The pictures that every run has, whatever it measured, and those of its technique; with what a reader who cannot see them is told. */

import { gateAxes } from "../gates.ts";
import type { Words } from "../lang/en.ts";
import type { Picture, ResultBody } from "../result.ts";
import type { Json } from "../report/draw.ts";
import { differencesSpec, memorySpec, metricsSpec } from "./bars.ts";
import { paretoSpec, samplesSpec } from "./scatter.ts";

/** `isOwn`: of the technique, with words that stand in the picture itself. `clipped`: why it may not be shown; null when it may. */
export interface Planned extends Picture { readonly alt: string; readonly isOwn: boolean; readonly clipped: string | null }

/** What a run has no figures for is not planned. Titles and captions are in the language of `words`, words inside a picture are English. */
export function picturesOf(result: Pick<ResultBody, "arms" | "status" | "order" | "yardstick" | "pictures">, words: Words): Planned[] {
  const { pictures: say } = words.page;
  const specs: readonly (readonly [id: string, title: string, caption: string, spec: Json | null])[] = [
    ["differences", say.differences, say.differencesCaption, differencesSpec(result, words)],
    ["metrics", say.metrics, say.metricsCaption, metricsSpec(result, words)],
    ["pareto", say.pareto, say.paretoCaption, paretoSpec(result, words)],
    ["memory", say.memory, say.memoryCaption, memorySpec(result, words)],
    ["samples", say.samples, say.samplesCaption, samplesSpec(result)],
  ];
  const common = specs.flatMap(([id, title, caption, spec]) => (spec === null ? [] : [{ id, title, caption, spec, isOwn: false }]));
  const own = result.pictures.map((picture) => ({ ...picture, id: fileName(picture.id, common.map(({ id }) => id)), isOwn: true }));
  return [...own, ...common].map((picture) => ({
    ...picture, alt: say.alt(picture.title, result.arms.length, picture.caption), clipped: gateAxes(picture.spec, words),
  }));
}

/** An id as a part of a path, and none that a common picture has. */
function fileName(id: string, common: readonly string[]): string {
  const name = id.replaceAll(/[^\p{L}\p{N}_-]+/gu, "-");
  return common.includes(name) ? `technique-${name}` : name;
}
