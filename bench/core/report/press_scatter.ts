/**
 * The scatter of a KnormPress run, and what both scatters have in common: names beside their points. What is to the right and at or below
 * zero is where one would want to be; what two equal arms differ by is yellow, so that a point within it is not read as a gain.
 */

import { around, clipped, colour, COLOURS, frame, KIND_NAMES, type Json, type PressPictures } from "./press_charts.ts";

const SIZE = { width: 620, height: 400 };
const TITLES = { x: "TTFT improvement, % less than no press", y: "perplexity, % more than no press" };
const ZERO = { type: "rule", color: "#777777", strokeDash: [4, 3] };

/** TTFT improvement across, change of perplexity upwards. */
export function tradeoffSpec(pictures: PressPictures): Json {
  const { rows, noise: { ttft: noise } } = pictures, pressed = rows.filter(({ kind }) => kind !== "none" && kind !== "again");
  const shown = pressed.flatMap(({ label, kind, ttftImprovement: faster, perplexityChange: worse }) =>
    (faster === null || worse === null ? [] : [{
    arm: clipped(label), kind: KIND_NAMES[kind], x: faster.value, xLow: faster.low, xHigh: faster.high, y: worse.value, yLow: worse.low,
    yHigh: worse.high,
  }]));
  const xDomain = around([...shown.map((one) => ({ value: one.x, low: one.xLow, high: one.xHigh })),
    { value: 0, low: -noise, high: noise }], 5);
  const yDomain = around(shown.map((one) => ({ value: one.y, low: one.yLow, high: one.yHigh })));
  const x = { field: "x", type: "quantitative", title: TITLES.x, scale: { domain: xDomain, nice: false } };
  const y = { field: "y", type: "quantitative", title: TITLES.y, scale: { domain: yDomain, nice: false } };
  const at = (share: readonly [number, number]): Json => ({
    x: { datum: xDomain[0] + share[0] * (xDomain[1] - xDomain[0]), type: "quantitative", title: TITLES.x },
    y: { datum: yDomain[0] + share[1] * (yDomain[1] - yDomain[0]), type: "quantitative", title: TITLES.y },
  });
  const text = (words: string, mark: Json, place: Json): Json => ({
    data: { values: [{ text: words }] }, mark: { type: "text", ...mark }, encoding: { ...place, text: { field: "text" } },
  });
  const labels = placeLabels(shown.map((one) => pixels(one, xDomain, yDomain, SIZE)), SIZE);
  return {
    ...frame(pictures, 74), ...SIZE,
    layer: [
      {
        data: { values: [{ x: noise, x2: xDomain[1], y: 0, y2: yDomain[0] }] }, mark: { type: "rect", color: COLOURS.ideal, opacity: 0.13 },
        encoding: { x, x2: { field: "x2" }, y, y2: { field: "y2" } },
      },
      { data: { values: [{ x: -noise, x2: noise }] }, mark: { type: "rect", color: COLOURS.band, opacity: 0.28 },
        encoding: { x, x2: { field: "x2" } } },
      { data: { values: [{}] }, mark: ZERO, encoding: { x: { datum: 0, type: "quantitative", title: TITLES.x } } },
      { data: { values: [{}] }, mark: ZERO, encoding: { y: { datum: 0, type: "quantitative", title: TITLES.y } } },
      text("ideal region: faster to the first token than noise, perplexity not higher",
        { align: "right", baseline: "bottom", fontSize: 10.5, color: "#00664b" }, at([0.99, 0.01])),
      { data: { values: shown }, mark: { type: "rule", color: COLOURS.ink },
        encoding: { x, y: { ...y, field: "yLow" }, y2: { field: "yHigh" } } },
      { data: { values: shown }, mark: { type: "rule", color: COLOURS.ink },
        encoding: { x: { ...x, field: "xLow" }, x2: { field: "xHigh" }, y } },
      { data: { values: shown }, mark: { type: "point", filled: true, size: 95, opacity: 1 }, encoding: { x, y, color: colour(pressed) } },
      ...labels.map(({ index, dx, dy, align }) => ({
        data: { values: [shown[index]!] }, mark: { type: "text", fontSize: 11, dx, dy, align, baseline: "middle" },
        encoding: { x, y, text: { field: "arm" } },
      })),
      ...(shown.length > 0 ? [] : [text("N/A: no arm has both a change of TTFT and one of perplexity", { fontSize: 12 }, at([0.5, 0.8]))]),
    ],
  };
}

type Domain = readonly [number, number];
export interface Crossed {
  readonly arm: string;
  readonly x: number;
  readonly xLow: number;
  readonly xHigh: number;
  readonly y: number;
  readonly yLow: number;
  readonly yHigh: number;
}

export function pixels({ arm, x: left, xLow, xHigh, y: up, yLow, yHigh }: Crossed, [x0, x1]: Domain, [y0, y1]: Domain,
  size: { readonly width: number; readonly height: number }): LabelPoint {
  const at = (value: number): number => (value - x0) / (x1 - x0) * size.width,
    down = (value: number): number => (y1 - value) / (y1 - y0) * size.height;
  return { arm, left: at(left), top: down(up), across: [at(xLow), at(xHigh)], along: [down(yHigh), down(yLow)] };
}

/** In pixels; `across` and `along` are the ends of its intervals. */
export interface LabelPoint {
  readonly arm: string;
  readonly left: number;
  readonly top: number;
  readonly across: readonly [number, number];
  readonly along: readonly [number, number];
}

/** Pixels from its point. */
export interface PlacedLabel { readonly index: number; readonly dx: number; readonly dy: number; readonly align: "left" | "right" }

/** Where each name covers no point, no interval and no other name, near its own point. */
export function placeLabels(points: readonly LabelPoint[], size: { readonly width: number; readonly height: number }): PlacedLabel[] {
  const taken = points.flatMap(({ left, top, across, along }) => [[left - 6, top - 6, left + 6, top + 6],
    [across[0], top - 1, across[1], top + 1], [left - 1, along[0], left + 1, along[1]]]);
  return points.map(({ arm, left, top }, index) => {
    const width = arm.length * 6.4, choices = [0, 14, -14, 28, -28, 42, -42, 56, -56].flatMap((dy) => ([[9, dy], [-9, dy]] as const));
    const box = ([dx, dy]: readonly [number, number]): number[] => (dx > 0 ? [left + dx, top + dy - 7, left + dx + width, top + dy + 7]
      : [left + dx - width, top + dy - 7, left + dx, top + dy + 7]);
    const isFree = (b: number[]): boolean => b[0]! >= 0 && b[2]! <= size.width && b[1]! >= 0 && b[3]! <= size.height &&
      taken.every((t) => b[2]! < t[0]! || b[0]! > t[2]! || b[3]! < t[1]! || b[1]! > t[3]!);
    const [dx, dy] = choices.find((choice) => isFree(box(choice))) ?? choices[0]!;
    taken.push(box([dx, dy]));
    return { index, dx, dy, align: dx > 0 ? "left" : "right" };
  });
}
