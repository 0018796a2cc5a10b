/** The pictures of presses: bars on zero, differences around zero with what is noise, N/A where there is no value, names that do not cover each other. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { drawSpec } from "../../bench/core/report/chart.ts";
import { capacitySpec, type CapacityPoint } from "../../bench/core/report/press_capacity_chart.ts";
import { comprehensiveSpec, short, summarySpec, tableSpec, type PressPictures, type PressRow } from "../../bench/core/report/press_charts.ts";
import { placeLabels, tradeoffSpec } from "../../bench/core/report/press_scatter.ts";

const test = suite("pictures of presses");
const span = (value: number, by = Math.abs(value) * 0.1) => ({ value, low: value - by, high: value + by });
const row = (label: string, kind: PressRow["kind"], i: number, other: Partial<PressRow> = {}): PressRow => ({
  label, kind, ttft: span(300 + i), tpot: span(4 - 0.1 * i), throughput: span(150 + i), ttftImprovement: kind === "none" ? null : span(-i, 1), tpotChange: kind === "none" ? null : span(-2 * i),
  throughputChange: kind === "none" ? null : span(i, 1), perplexity: 60 + i, perplexityChange: kind === "press" || kind === "null" ? span(i, 0.3) : null, kept: 700 - 50 * i, freedBytes: 1000 * i, peakBytes: 2e8, ...other,
});
const NONE = { tpot: null, ttftImprovement: null, perplexity: null, perplexityChange: null, kept: null, freedBytes: null, peakBytes: null } as const;
const ROWS = [row("no press", "none", 0), row("no press (A/A)", "again", 0), row("keep 1.0", "null", 0), row("keep 0.9", "press", 1), row("keep 0.5", "invalid", 2, NONE)];
const pictures = (rows: readonly PressRow[] = ROWS): PressPictures => ({ title: "A title", subtitle: ["one"], rows, noise: { ttft: 2, throughput: 1, tpot: 1 } });
const SPECS = { comprehensiveSpec, summarySpec, tradeoffSpec, tableSpec };

function objects(value: unknown): Record<string, any>[] {
  if (typeof value !== "object" || value === null) return [];
  return [value as Record<string, any>, ...Object.values(value).flatMap(objects)];
}

test("six panels; bars begin at zero; differences hold zero and the noise of the two equal arms", () => {
  const { concat, columns } = comprehensiveSpec(pictures()) as { concat: Record<string, any>[]; columns: number };
  assert.equal([columns, concat.map(({ title }) => title)], [3, ["TTFT", "TPOT", "Throughput", "TTFT improvement", "Throughput change", "Perplexity (figures) and its change"]]);
  const domains = (panel: unknown): [number, number][] => objects(panel).flatMap(({ scale }) => (typeof scale?.domain?.[0] === "number" ? [scale.domain] : []));
  for (const panel of concat.slice(0, 3)) assert.ok(domains(panel).every(([low, high]) => low === 0 && high > 0));
  for (const panel of concat.slice(3)) assert.ok(domains(panel).every(([low, high]) => low < 0 && high > 0));
  assert.ok(domains(concat[3]).every(([low, high]) => low <= -2 && high >= 2));
  for (const bars of objects(summarySpec(pictures())).filter(({ mark }) => mark?.type === "bar")) assert.is(bars["encoding"].x.scale.domain[0], 0);
});

test("what was not measured is N/A in every picture, never NaN and never a zero", () => {
  for (const spec of Object.values(SPECS)) assert.not.match(JSON.stringify(spec(pictures())), /NaN|Infinity|undefined/);
  const texts = (spec: unknown, arm: string): unknown[] => objects(spec).filter((value) => value["arm"] === arm && "text" in value && !("value" in value)).map(({ text }) => text);
  assert.equal([...new Set(texts(comprehensiveSpec(pictures()), "keep 0.5"))], ["N/A"]);
  assert.ok(texts(summarySpec(pictures()), "keep 0.5").includes("N/A"));
  assert.ok(objects(tableSpec(pictures())).some(({ text }) => text === "N/A"));
  assert.not.ok(objects(tradeoffSpec(pictures())).some(({ arm }) => arm === "keep 0.5"));
});

test("numbers as short as a bar is wide, with a true minus", () => {
  assert.equal([0, 3.14159, 31.4159, 314.159, -2.5, 12345, 1234567, -4.2e9].map(short), ["0.00", "3.14", "31.4", "314", "−2.50", "12.3k", "1.23M", "−4.20G"]);
});

test("names cover neither points nor each other", () => {
  const points = Array.from({ length: 6 }, (_, i) => ({ arm: `keep 0.${i}`, left: 200 + i * 4, top: 150 + i * 3, across: [190, 230] as const, along: [140, 175] as const }));
  const boxes = placeLabels(points, { width: 600, height: 400 }).map(({ index, dx, dy }) => {
    const { left, top, arm } = points[index]!, width = arm.length * 6.4;
    return dx > 0 ? [left + dx, top + dy - 7, left + dx + width, top + dy + 7] : [left + dx - width, top + dy - 7, left + dx, top + dy + 7];
  });
  for (const [i, a] of boxes.entries()) for (const b of boxes.slice(i + 1)) assert.ok(a[2]! < b[0]! || a[0]! > b[2]! || a[3]! < b[1]! || a[1]! > b[3]!, `${a} ${b}`);
});

test("drawn with one arm, with many, with long names and with huge, negative and missing values", async () => {
  const wild = [
    ...ROWS, row(`adakv(${"x".repeat(60)}) 0.875`, "press", 3, { throughputChange: span(-93, 2), perplexityChange: span(12345, 600), perplexity: 7654321 }), row("keep 0.3", "press", 4, { tpot: span(4.2e6) }),
    row("keep 0.2", "press", 5, { ttftImprovement: span(-900, 100) }),
  ];
  for (const rows of [ROWS.slice(0, 1), ROWS.slice(0, 2), wild]) {
    for (const [name, spec] of Object.entries(SPECS)) {
      const { png, svg } = await drawSpec(spec(pictures(rows)));
      assert.equal([...png.subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)), name);
      assert.not.match(svg, /NaN|>undefined</, name);
      assert.ok(svg.includes(">A title<"), name);
    }
  }
});

test("capacity: a point for each arm with its intervals, from zero sequences on", async () => {
  const point = (press: string, evicts: number, running: number, nll: number): CapacityPoint => ({ press, label: `${press} ${evicts}`, invalid: press === "knorm", evicts, running: { value: running, low: running - 1, high: running }, nll: span(nll) });
  const points = [{ ...point("no press", 0, 4, 0), label: "no press" }, ...["snapkv", "knorm", "random", "tova", "keydiff", "lagkv", "a", "b", "c"].flatMap((press, i) => [point(press, 0.5, 6, 0.01 * i - 0.01), point(press, 0.75, 9, 0.04 * i)])];
  const spec = capacitySpec({ title: "A title", subtitle: ["one"], points });
  for (const { scale } of objects(spec).filter(({ field, scale: own }) => field === "x" && own !== undefined)) assert.is(scale.domain[0], 0);
  const { png, svg } = await drawSpec(spec);
  assert.ok(png.length > 10_000 && !/NaN/.test(svg));
  assert.match(svg, /knorm 0\.75 · INVALID/);
  assert.ok((await drawSpec(capacitySpec({ title: "t", subtitle: [], points: [] }))).png.length > 1000);
});

test.run();
