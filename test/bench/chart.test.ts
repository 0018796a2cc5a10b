/**
 * The chart of a precision run: bars stand on zero, a difference says what it is a difference to, what was not measured is a gap, words are
 * really in the picture, and the frontier holds just the arms that none beats.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chartSpec, drawChart, paretoOf, type ChartInput, type ChartRow } from "../../bench/core/report/chart.ts";

const test = suite("chart");
const bar = (value: number) => ({ value, low: value * 0.9, high: value * 1.1 });
const row = (label: string, speed: number, delta: number, mib: number): ChartRow => ({
  label, isControl: label.endsWith("again"), throughput: bar(speed), tpot: bar(1000 / speed), ttft: bar(20), perplexity: 60 + delta,
  perplexityDelta: bar(delta), memory: (mib + 4) * 2 ** 20, weights: mib * 2 ** 20,
});
const ROWS = [row("f32", 100, 0, 12), row("f32 again", 104, 0, 12), row("f16", 190, 0.01, 6), row("nf4", 150, 0.8, 2)];
const input = (rows: readonly ChartRow[] = ROWS, title = "A title"): ChartInput => ({ title, subtitle: ["one", "two"], reference: "f32", rows });

/** Every object in a value. */
function objects(value: unknown): Record<string, any>[] {
  if (typeof value !== "object" || value === null) return [];
  return [value as Record<string, any>, ...Object.values(value).flatMap(objects)];
}
const panels = (rows?: readonly ChartRow[]): Record<string, any>[] => (chartSpec(input(rows)) as { concat: Record<string, any>[] }).concat;

test("two rows of three panels; bars begin at zero and the perplexity's axis names its reference", () => {
  assert.is((chartSpec(input()) as { columns: number }).columns, 3);
  assert.equal(panels().map(({ title }) => title.split(/[ :]/)[0]), ["Throughput", "TPOT", "TTFT", "Perplexity", "Peak", "Pareto"]);
  for (const panel of panels()) {
    for (const { mark, encoding } of objects(panel).filter(({ mark }) => mark?.type === "bar")) assert.equal([mark.type, encoding.y.scale.domainMin, encoding.y.scale.zero], ["bar", 0, true]);
  }
  const [, , , perplexity, , pareto] = panels();
  for (const panel of [perplexity, pareto]) assert.ok(objects(panel).some(({ title }) => typeof title === "string" && /% above f32/.test(title)));
});

test("differences that are rounding do not fill the panel", () => {
  const tiny = ROWS.map((one) => ({ ...one, perplexityDelta: { value: 1e-5, low: 0, high: 2e-5 } }));
  const domains = objects(panels(tiny)[3]).flatMap(({ scale }) => (scale?.domain === undefined || typeof scale.domain[0] !== "number" ? [] : [scale.domain]));
  assert.ok(domains.length > 0);
  for (const [low, high] of domains) assert.ok(low <= -0.1 && high >= 0.1);
});

test("what was not measured is a gap, not a zero", () => {
  const none = { ...ROWS[3]!, throughput: null, perplexityDelta: null, perplexity: null };
  const arms = (panel: Record<string, any> | undefined): string[] => [...new Set(objects(panel).filter(({ arm }) => arm !== undefined).map(({ arm }) => arm as string))];
  const all = panels([...ROWS.slice(0, 3), none]);
  assert.equal(arms(all[0]), ["f32", "f32 again", "f16"]);
  assert.equal(arms(all[3]), ["f32", "f32 again", "f16"]);
  assert.equal(arms(all[4]), ["f32", "f32 again", "f16", "nf4"]);
});

test("the frontier: an arm that another beats in one and equals in the other is not on it; the control is no point", () => {
  assert.equal(paretoOf([{ mib: 2, value: 3 }, { mib: 2, value: 4 }, { mib: 5, value: 1 }, { mib: 6, value: 1 }, { mib: 9, value: 0 }]),
    [{ mib: 2, value: 3 }, { mib: 5, value: 1 }, { mib: 9, value: 0 }]);
  assert.not.ok(objects(panels()[5]).some(({ arm }) => arm === "f32 again"));
});

test("a PNG of twice the size with words in it, an SVG, and the specification that made them", async () => {
  const { png, svg, spec } = await drawChart(input());
  const view = new DataView(png.buffer, png.byteOffset);
  assert.equal([...png.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  const [, width, height] = /<svg[^>]* width="([\d.]+)" height="([\d.]+)"/.exec(svg)!;
  assert.ok(Math.abs(view.getUint32(16) - 2 * Number(width)) <= 2 && Math.abs(view.getUint32(20) - 2 * Number(height)) <= 2);
  for (const word of ["A title", "Throughput", "f32 again", "nf4", "MiB of weights"]) assert.ok(svg.includes(`>${word}<`), word);
  assert.is(JSON.parse(spec).concat.length, 6);
  const other = await drawChart(input(ROWS, "Z title"));
  assert.ok(Buffer.compare(png, other.png) !== 0, "a font that is not found would leave the words out");
});

test("a chart of a single arm, and of arms without any perplexity", async () => {
  assert.ok((await drawChart(input(ROWS.slice(0, 1)))).png.length > 1000);
  assert.ok((await drawChart(input(ROWS.map((one) => ({ ...one, perplexity: null, perplexityDelta: null }))))).png.length > 1000);
});

test.run();
