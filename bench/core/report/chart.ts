/**
 * The picture of a precision run: two rows of three panels. Bars stand on zero; where differences are too small for that, the axis is a
 * difference and says so. It is drawn as a Vega-Lite specification, which is kept beside the picture so that it can be drawn again. Its
 * words are English in every language: the font it brings along, so that it looks the same on every machine, has Latin letters only.
 */

import { drawSpec, FONT, type Chart, type Json } from "./draw.ts";

export { drawSpec } from "./draw.ts";

/** A value with the ends of its error bar. */
export interface Bar { readonly value: number; readonly low: number; readonly high: number }

/** One arm of the run; null where it has no value. */
export interface ChartRow {
  readonly label: string;
  /** The first arm a second time: how far two equal arms lie apart. */
  readonly isControl: boolean;
  readonly throughput: Bar | null;
  readonly tpot: Bar | null;
  readonly ttft: Bar | null;
  /** Perplexity relative to the reference, in percent more, ± one standard error. */
  readonly perplexityDelta: Bar | null;
  readonly perplexity: number | null;
  /** Bytes at the peak, and of them weights. */
  readonly memory: number;
  readonly weights: number;
}

export interface ChartInput { readonly title: string; readonly subtitle: readonly string[]; readonly reference: string; readonly rows: readonly ChartRow[] }

const MIB = 2 ** 20;
const PANEL = { width: 300, height: 230 };
const COLOURS = { bar: "#4c78a8", control: "#b8cbe0", line: "#333333", frontier: "#e45756" };
/** Percent. */
const LEAST_DELTA = 0.1;

/** A Vega-Lite specification with its data. */
export function chartSpec({ title, subtitle, reference, rows }: ChartInput): Json {
  const order = rows.map(({ label }) => label);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: "white", padding: 14,
    title: { text: title, subtitle, frame: "bounds", fontSize: 17, subtitleFontSize: 11, subtitleLineHeight: 15, anchor: "start", offset: 14 },
    config: {
      font: FONT, axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 600, gridColor: "#e8e8e8" },
      title: { fontSize: 13, fontWeight: 600, frame: "group", offset: 16 },
    },
    columns: 3, bounds: "full",
    concat: [
      panel("Throughput", "output tokens per second", order, rows, ({ throughput }) => throughput),
      panel("TPOT", "milliseconds per output token", order, rows, ({ tpot }) => tpot),
      panel("TTFT", "milliseconds to first token", order, rows, ({ ttft }) => ttft),
      perplexityPanel(order, rows, reference), memoryPanel(order, rows), paretoPanel(rows, reference),
    ],
    spacing: 30,
  };
}

/** Labels lie flat while they fit. */
function xAxis(order: readonly string[]): Json {
  return { field: "arm", type: "nominal", sort: order, title: null, axis: { labelAngle: isTight(order) ? -40 : 0, labelLimit: 120 } };
}

function isTight(order: readonly string[]): boolean {
  return order.length * Math.max(...order.map(({ length }) => length)) * 7 > PANEL.width;
}

/** Three digits, as a label on a bar. */
function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A perplexity as a label. */
function digits(value: number): string {
  return value >= 1000 ? value.toFixed(0) : value >= 100 ? value.toFixed(1) : value.toFixed(2);
}

const COLOUR: Json = { field: "control", type: "nominal", scale: { domain: ["arm", "control"], range: [COLOURS.bar, COLOURS.control] }, legend: null };

/** From zero, with room for labels above the highest. */
function fromZero(values: readonly number[], room = 1.1): Json {
  return { zero: true, nice: true, domainMin: 0, domainMax: Math.max(0, ...values) * room || 1 };
}

/** Bars from zero, error bars from p10 to p90, the median at the foot. */
function panel(title: string, unit: string, order: readonly string[], rows: readonly ChartRow[], of: (row: ChartRow) => Bar | null): Json {
  const values = rows.flatMap((row) => {
    const bar = of(row);
    return bar === null ? [] : [{ arm: row.label, control: row.isControl ? "control" : "arm", ...bar, text: short(bar.value) }];
  });
  const y = { field: "value", type: "quantitative", title: unit, scale: fromZero(values.map(({ high }) => high)) };
  return {
    ...PANEL, title, data: { values }, encoding: { x: xAxis(order) },
    layer: [
      { mark: { type: "bar", width: { band: 0.7 } }, encoding: { y, color: COLOUR } },
      { mark: { type: "rule", color: COLOURS.line, strokeWidth: 1.5 }, encoding: { y: { field: "low", type: "quantitative", title: unit }, y2: { field: "high" } } },
      {
        mark: { type: "text", dy: -7, fontSize: isTight(order) ? 9 : 10.5 },
        encoding: { y: { datum: 0, type: "quantitative" }, text: { field: "text" }, color: { condition: { test: "datum.control === 'control'", value: COLOURS.line }, value: "white" } },
      },
    ],
  };
}

function perplexityPanel(order: readonly string[], rows: readonly ChartRow[], reference: string): Json {
  const values = rows.flatMap(({ label, isControl, perplexity, perplexityDelta: delta }) =>
    perplexity === null || delta === null ? [] : [{ arm: label, control: isControl ? "control" : "arm", ...delta, text: digits(perplexity) }]);
  const unit = `% above ${reference} (± 1 standard error)`;
  const y = { field: "value", type: "quantitative", title: unit, scale: { domain: deltaDomain(values) } };
  return {
    ...PANEL, title: "Perplexity (figures) and its difference", data: { values }, encoding: { x: xAxis(order) },
    layer: [
      { mark: { type: "rule", color: "#999999", strokeDash: [4, 3] }, encoding: { x: null, y: { datum: 0, type: "quantitative" } } },
      { mark: { type: "rule", color: COLOURS.line, strokeWidth: 1.5 }, encoding: { y: { field: "low", type: "quantitative", title: unit }, y2: { field: "high" } } },
      { mark: { type: "point", filled: true, size: 70, opacity: 1 }, encoding: { y, color: COLOUR } },
      { mark: { type: "text", dy: -9, fontSize: 9.5 }, encoding: { y: { field: "high", type: "quantitative", title: unit }, text: { field: "text" } } },
    ],
  };
}

/** Percents around zero, no narrower than LEAST_DELTA to either side, so that rounding errors do not fill the panel, with room for labels. */
function deltaDomain(bars: readonly Bar[]): readonly [number, number] {
  const low = Math.min(-LEAST_DELTA, ...bars.map((bar) => bar.low)), high = Math.max(LEAST_DELTA, ...bars.map((bar) => bar.high));
  const room = 0.1 * (high - low);
  return [low - room, high + room];
}

/** Weights below, everything else above: what a format cannot change stays visible. */
function memoryPanel(order: readonly string[], rows: readonly ChartRow[]): Json {
  const values = rows.flatMap(({ label, memory, weights }) => [
    { arm: label, part: "weights", mib: weights / MIB, place: 0 }, { arm: label, part: "everything else", mib: (memory - weights) / MIB, place: 1 },
  ]);
  return {
    ...PANEL, title: "Peak GPU memory", encoding: { x: xAxis(order) },
    layer: [
      {
        data: { values }, mark: { type: "bar", width: { band: 0.7 } },
        encoding: {
          y: { field: "mib", type: "quantitative", title: "MiB", stack: "zero", scale: fromZero(rows.map(({ memory }) => memory / MIB), 1.3) }, order: { field: "place" },
          color: {
            field: "part", type: "nominal", sort: ["weights", "everything else"], scale: { domain: ["weights", "everything else"], range: ["#59a14f", "#bdbdbd"] },
            legend: { title: null, orient: "top-right", direction: "horizontal", offset: 4, labelFontSize: 10, symbolSize: 60 },
          },
        },
      },
      {
        data: { values: rows.map(({ label, memory }) => ({ arm: label, total: memory / MIB, text: short(memory / MIB) })) },
        mark: { type: "text", dy: -7, fontSize: 10 }, encoding: { y: { field: "total", type: "quantitative", title: "MiB" }, text: { field: "text" } },
      },
    ],
    resolve: { scale: { color: "independent" } },
  };
}

/** Memory of the weights against perplexity; a line joins the arms that none beats in both. */
function paretoPanel(rows: readonly ChartRow[], reference: string): Json {
  const points = rows.flatMap(({ label, isControl, weights, perplexityDelta: delta }) =>
    isControl || delta === null ? [] : [{ arm: label, mib: weights / MIB, ...delta }]);
  const frontier = paretoOf(points);
  const x = { field: "mib", type: "quantitative", title: "MiB of weights", scale: { zero: true, nice: true } };
  const unit = `perplexity, % above ${reference}`;
  const y = { field: "value", type: "quantitative", title: unit, scale: { domain: deltaDomain(points) } };
  const labels = placed(points, frontier);
  return {
    ...PANEL, title: "Pareto: less is better in both",
    layer: [
      { data: { values: frontier }, mark: { type: "line", color: COLOURS.frontier, strokeDash: [5, 3] }, encoding: { x, y, order: { field: "mib" } } },
      { data: { values: points }, mark: { type: "rule", color: COLOURS.line }, encoding: { x, y: { field: "low", type: "quantitative", title: unit }, y2: { field: "high" } } },
      { data: { values: points }, mark: { type: "point", filled: true, size: 70, opacity: 1, color: COLOURS.bar }, encoding: { x, y } },
      ...labels.map(({ point, dx, dy, align }) => ({ data: { values: [point] }, mark: { type: "text", fontSize: 10, dx, dy, align }, encoding: { x, y, text: { field: "arm" } } })),
    ],
  };
}

interface Point { readonly arm: string; readonly mib: number; readonly value: number; readonly low: number; readonly high: number }

/** The arms that no other beats in memory and perplexity, by memory. */
export function paretoOf<P extends { readonly mib: number; readonly value: number }>(points: readonly P[]): P[] {
  const isBeaten = (one: P): boolean => points.some((other) => other.mib <= one.mib && other.value <= one.value && (other.mib < one.mib || other.value < one.value));
  return points.filter((point) => !isBeaten(point)).sort((a, b) => a.mib - b.mib);
}

/** Each name where it covers no other name and not the frontier: to the right of its point, or above, below or left of it. */
function placed(points: readonly Point[], frontier: readonly Point[]): { point: Point; dx: number; dy: number; align: string }[] {
  const most = Math.max(...points.map(({ mib }) => mib)) * 1.1 || 1;
  const [low, high] = deltaDomain(points);
  const at = ({ mib, value }: Point): readonly [number, number] => [mib / most * PANEL.width, (high - value) / (high - low || 1) * PANEL.height];
  const taken: (readonly [number, number, number, number])[] = points.map((point) => {
    const [x, y] = at(point);
    return [x - 5, y - 5, x + 5, y + 5];
  });
  for (const [i, to] of frontier.slice(1).entries()) {
    const [x0, y0] = at(frontier[i]!), [x1, y1] = at(to), steps = Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 4);
    for (let k = 0; k <= steps; k++) {
      const x = x0 + (x1 - x0) * k / steps, y = y0 + (y1 - y0) * k / steps;
      taken.push([x - 1, y - 1, x + 1, y + 1]);
    }
  }
  return points.map((point) => {
    const [x, y] = at(point), width = point.arm.length * 6;
    const choices = [[8, 0], [8, -12], [8, 12], [-8, 0], [-8, -12], [-8, 12], [8, -24], [8, 24], [-8, -24], [-8, 24], [8, -36], [-8, -36], [8, 36], [-8, 36]] as const;
    const boxOf = ([dx, dy]: readonly [number, number]): readonly [number, number, number, number] =>
      dx > 0 ? [x + dx, y + dy - 6, x + dx + width, y + dy + 6] : [x + dx - width, y + dy - 6, x + dx, y + dy + 6];
    const isFree = ([left, top, right, bottom]: readonly [number, number, number, number]): boolean =>
      left >= -10 && right <= PANEL.width + 20 && top >= -12 && bottom <= PANEL.height - 2 &&
      taken.every(([l, t, r, b]) => right < l || left > r || bottom < t || top > b);
    const choice = choices.find((one) => isFree(boxOf(one))) ?? choices[0];
    taken.push(boxOf(choice));
    return { point, dx: choice[0], dy: choice[1], align: choice[0] > 0 ? "left" : "right" };
  });
}

/** Throws when a package that draws is missing, or when it cannot draw. */
export function drawChart(input: ChartInput): Promise<Chart> {
  return drawSpec(chartSpec(input));
}
