/**
 * What a press buys against what it costs: the most sequences that ran at a time from the same pool, and how much worse the next tokens are
 * predicted. Each press has a colour (Okabe and Ito's), a shape and a line through its ratios; names stand at the points.
 */

import { around, clipped, frame, type Json, type Span } from "./press_charts.ts";
import { pixels, placeLabels } from "./press_scatter.ts";

export interface CapacityPoint {
  readonly press: string;
  readonly label: string;
  readonly invalid: boolean;
  /** Share that is evicted. */
  readonly evicts: number;
  readonly running: Span;
  /** Change of the mean negative log-likelihood against no press on the same tokens, nats, ± one standard error. */
  readonly nll: Span;
}

const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"] as const;
/** Without a press. */
const NONE = "no press", GREY = "#888888";
const SHAPES = ["square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left", "circle"] as const;
const SIZE = { width: 640, height: 420 };
/** Nats that the axis shows at least on either side. */
const LEAST = 0.01;
/** With more points than this the names stand at the ends of the lines alone, and ratios at the others. */
const MOST_NAMES = 12;
/** Pixels up or down within which a ratio is seen to belong to its point. */
const NEAR = 14;

interface CapacityPicture { readonly title: string; readonly subtitle: readonly string[]; readonly points: readonly CapacityPoint[] }

export function capacitySpec({ title, subtitle, points }: CapacityPicture): Json {
  const presses = [...new Set(points.map(({ press }) => press))];
  const isEnd = (point: CapacityPoint): boolean => points.every(({ press, evicts }) => press !== point.press || evicts <= point.evicts);
  const nameOf = (point: CapacityPoint): string => (points.length <= MOST_NAMES || isEnd(point) ? clipped(point.label)
    : String(Number(point.evicts.toPrecision(12))));
  const shown = points.map((point) => ({ ...point, name: nameOf(point) })).map(({ press, name, invalid, evicts, running, nll }) => ({
    arm: `${name}${invalid ? " · INVALID" : ""}`, press: clipped(press), evicts, x: running.value, xLow: running.low, xHigh: running.high,
    y: nll.value, yLow: nll.low, yHigh: nll.high,
  }));
  const xDomain = [0, Math.max(1, ...shown.map(({ xHigh }) => xHigh)) * 1.22] as const,
    yDomain = around(shown.map((one) => ({ value: one.y, low: one.yLow, high: one.yHigh })), LEAST);
  const titles = { x: "sequences at a time from the same pool", y: "ΔNLL against no press, nats per token (± 1 SE)" };
  const x = { field: "x", type: "quantitative", title: titles.x, scale: { domain: xDomain, nice: false },
    axis: { tickMinStep: 1, format: "d" } };
  const y = { field: "y", type: "quantitative", title: titles.y, scale: { domain: yDomain, nice: false } };
  const names = presses.map(clipped), own = presses.filter((press) => press !== NONE);
  const each = (values: readonly string[], none: string): string[] => presses.map(
    (press) => (press === NONE ? none : values[own.indexOf(press) % values.length]!));
  const legend = { orient: "bottom", direction: "horizontal", columns: 4, offset: 12 };
  const colour = { field: "press", type: "nominal", scale: { domain: names, range: each(PALETTE, GREY) }, legend },
    shape = { field: "press", type: "nominal", scale: { domain: names, range: each(SHAPES, "circle") }, legend };
  // A ratio that found no place at its point says nothing; a press is told by its colour wherever its name is.
  const labels = placeLabels(shown.map((one) => pixels(one, xDomain, yDomain, SIZE)), SIZE)
    .filter(({ index, dy }) => Math.abs(dy) <= NEAR || points.length <= MOST_NAMES || isEnd(points[index]!));
  return {
    ...frame({ title, subtitle: [
      ...subtitle, "across: the most in one step, median, least and most over iterations; right and low is good: more sequences for " +
      "less loss; random evicts at random and is what any choice must beat"] }, 84), ...SIZE,
    layer: [
      { data: { values: [{}] }, mark: { type: "rule", color: "#777777", strokeDash: [4, 3] },
        encoding: { y: { datum: 0, type: "quantitative", title: titles.y } } },
      { data: { values: shown }, mark: { type: "line", strokeWidth: 1 }, encoding: { x, y, color: colour, order: { field: "evicts" } } },
      { data: { values: shown }, mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x, y: { ...y, field: "yLow" },
        y2: { field: "yHigh" }, color: colour } },
      { data: { values: shown }, mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x: { ...x, field: "xLow" }, x2: { field: "xHigh" },
        y, color: colour } },
      { data: { values: shown }, mark: { type: "point", filled: true, size: 110, opacity: 1 }, encoding: { x, y, color: colour, shape } },
      ...labels.map(({ index, dx, dy, align }) => ({
        data: { values: [shown[index]!] }, mark: { type: "text", fontSize: 11, dx, dy, align, baseline: "middle" },
        encoding: { x, y, color: colour, text: { field: "arm" } },
      })),
    ],
  };
}
