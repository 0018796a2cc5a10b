/**
 * The pictures of speculative decoding: both axes on zero, a mark for every K, drafts told apart without colour, N/A and INVALID where
 * there is no value.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { drawSpec } from "../../bench/core/report/chart.ts";
import { nameOf, speculationSpec, type SpecPicture, type SpecPoint } from "../../bench/core/report/spec_charts.ts";

const test = suite("pictures of speculation");
const point = (draft: string, k: SpecPoint["k"], value: number, other: Partial<SpecPoint> = {}): SpecPoint => ({
  draft, k, invalid: false, throughput: { value, low: value - 2, high: value + 3 }, acceptance: 0.5, predicted: value + 1, ...other,
});
const LONG = `someone-with-a-long-name/${"x".repeat(60)}-160m`;
const DRAFTS = ["tiny-neox-draft", "prompt-lookup", LONG];
const POINTS = DRAFTS.flatMap((draft, i) => ([3, 4, 5, 10, "adaptive"] as const).map((k, at) => point(draft, k, 40 + 10 * i - 3 * at)))
  .filter(({ draft, k }) => !(draft === "prompt-lookup" && k === 10))
  .map((one) => (one.draft === LONG && one.k === 4 ? { ...one, invalid: true } : one));
const picture = (other: Partial<SpecPicture> = {}): SpecPicture => ({
  title: "A title", subtitle: ["one"], plain: { value: 50, low: 49, high: 51 }, drafts: DRAFTS, points: POINTS, ...other,
});

function objects(value: unknown): Record<string, any>[] {
  if (typeof value !== "object" || value === null) return [];
  return [value as Record<string, any>, ...Object.values(value).flatMap(objects)];
}

test("two panels; both axes begin at zero and hold everything; every K that any draft has stands in order", () => {
  const { hconcat } = speculationSpec(picture()) as { hconcat: Record<string, any>[] };
  assert.is(hconcat.length, 2);
  for (const [i, panel] of hconcat.entries()) {
    const domains = objects(panel).flatMap(({ scale }) => (typeof scale?.domain?.[0] === "number" ? [scale.domain as [number, number]]
      : []));
    assert.ok(domains.length > 0 && domains.every(([low, high]) => low === 0 && high >= (i === 0 ? 63 : 100)), JSON.stringify(domains));
    for (const { sort } of objects(panel).filter(({ field }) => field === "k")) assert.equal(sort, ["3", "4", "5", "10", "adaptive"]);
  }
});

test("lines join the K that are fixed, never the one that adapts, and no INVALID arm", () => {
  const { hconcat } = speculationSpec(picture()) as { hconcat: Record<string, any>[] };
  for (const { data } of objects(hconcat).filter(({ mark }) =>
    mark?.type === "line")) assert.ok(data.values.every(({ k }: { k: string }) => k !== "adaptive"));
  const solid = objects(hconcat[0]).find(({ mark }) => mark?.type === "line" && mark.strokeDash === undefined)!;
  assert.not.ok(solid["data"].values.some(({ draft, k }: { draft: string; k: string }) => draft === nameOf(LONG) && k === "4"));
  const hollow = objects(hconcat[0]).find(({ mark }) => mark?.type === "point" && mark.filled === false)!;
  assert.equal(hollow["data"].values.map(({ draft, k }: { draft: string; k: string }) => [draft, k]), [[nameOf(LONG), "4"]]);
});

test("drafts differ in colour and in shape, and their names fit the legend by their ends", () => {
  const scales = objects(speculationSpec(picture())).flatMap(({ color, shape }) => [color?.scale?.range,
    shape?.scale?.range]).filter((range) => range !== undefined);
  for (const range of scales) assert.is(new Set(range).size, 3);
  assert.equal([nameOf(LONG).length, nameOf(LONG).endsWith("-160m"), nameOf("short")], [40, true, "short"]);
});

test("drawn with everything, with one point, and with nothing; a missing value is no zero and no NaN", async () => {
  const one = picture({ drafts: ["a"], points: [point("a", 5, 10)] });
  const none = picture({ plain: null, points: POINTS.map((each) => ({ ...each, throughput: null, acceptance: null, predicted: null })) });
  const empty = picture({ points: [], drafts: [] });
  const kinds = [[picture(), /INVALID/], [one, />Throughput</], [none, /N\/A: nothing was measured/], [empty, /N\/A/]] as const;
  for (const [shown, words] of kinds) {
    const { png, svg, spec } = await drawSpec(speculationSpec(shown));
    assert.equal([...png.subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)));
    assert.not.match(svg, /NaN|>undefined</);
    assert.not.match(spec, /NaN|Infinity/);
    assert.match(svg, words);
    assert.ok(svg.includes(">A title<"));
  }
});

test.run();
