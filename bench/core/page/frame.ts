/**
 * What all pictures of a page have in common: colours that the colour-blind can tell apart (Okabe and Ito 2008) and that differ in grey
 * print too, a second cue beside every colour, one row for every arm, and small multiples by group. Bars stand on zero; where the
 * question is a difference, the axis is one and says from what.
 */

import { FONT, type Json } from "../report/draw.ts";
import { invalidOf, labelOf } from "../sentences.ts";
import type { Words } from "../lang/en.ts";
import type { ResultArm, ResultBody } from "../result.ts";

/** Weights are a blue of their own, which stays dark on dark ground: light figures stand on it. */
export const COLOURS = {
  ink: "#333333", soft: "#777777", band: "#9a9a9a", ground: "#ffffff", baseline: "#555555", control: "#b4b4b4", technique: "#0072B2",
  better: "#0072B2", worse: "#D55E00",
  weights: "#0072B1", kv: "#E69F00", activations: "#009E73", logits: "#CC79A7", staging: "#56B4E9",
} as const;
/** Pixels of an arm's row, and the most that its name takes. */
export const ROW = 22;
const NAME_WIDTH = 320;

export interface Row {
  readonly arm: ResultArm;
  /** Its name in the picture. */
  readonly label: string;
  readonly isInvalid: boolean;
}

export interface Group { readonly name: string; readonly rows: readonly Row[] }

/** Arms by group, in the order of the run; by their whole names where two would be called the same without the group. */
export function groupsOf(result: Pick<ResultBody, "arms" | "status">, words: Words): Group[] {
  return [...new Set(result.arms.map(({ group }) => group))].map((name) => {
    const arms = result.arms.filter(({ group }) => group === name), isUnique = new Set(arms.map(labelOf)).size === arms.length;
    return {
      name, rows: arms.map((arm) => ({ arm, label: printable(isUnique ? labelOf(arm) : arm.name),
        isInvalid: invalidOf(result, arm, words) !== null })),
    };
  });
}

/** Vega's expressions do not take line separators, even in strings. */
const printable = (name: string): string => name.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, " ");

/** The frame of a whole picture: panels of a group side by side, groups below one another. `apart`: every panel has axes of its own. */
export function frame(title: string, subtitle: readonly string[],
  groups: readonly { readonly name: string; readonly panels: readonly Json[] }[], apart = false): Json {
  const [only] = groups;
  const columns = (panels: readonly Json[]): Json => ({ hconcat: panels, spacing: apart ? 26 : 18, bounds: apart ? "full" : "flush",
    ...(apart && { resolve: { scale: { color: "independent", strokeDash: "independent" },
    legend: { color: "independent", strokeDash: "independent" } } }) });
  const body = groups.length === 1 && only !== undefined ? columns(only.panels) : {
    vconcat: groups.map(({ name, panels }) => ({ ...columns(panels),
      title: { text: name, anchor: "start", fontSize: 14, fontWeight: 700, offset: 10 } })), spacing: 30,
  };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: "white", padding: 12,
    title: { text: title, subtitle, frame: "bounds", anchor: "start", fontSize: 17, subtitleFontSize: 11, subtitleLineHeight: 15,
      offset: 18 },
    config: {
      font: FONT, aria: false, axis: { labelFontSize: 11.5, titleFontSize: 11.5, titleFontWeight: 600, gridColor: "#e8e8e8",
        domainColor: "#999999", tickColor: "#999999" },
      legend: { labelFontSize: 11.5, titleFontSize: 11.5, symbolSize: 90 },
      title: { fontSize: 13, fontWeight: 600, anchor: "start", offset: 8 }, view: { stroke: null },
    },
    ...body,
  };
}

/** One row for every arm; names stand left of the first panel only. */
export function rowsAxis(rows: readonly Row[], isFirst: boolean): Json {
  const order = rows.map(({ label }) => label);
  return {
    field: "arm", type: "nominal", sort: order, scale: { domain: order }, title: null,
    axis: isFirst ? { labelLimit: NAME_WIDTH, labelPadding: 6, ticks: false, domain: false, grid: false }
      : { labels: false, ticks: false, domain: false, grid: false },
  };
}

export const HEIGHT: Json = { step: ROW };

/** Words where a row has no figure: at zero, so that nobody takes them for one. */
export function gaps(rows: readonly { readonly arm: string; readonly text: string }[]): Json[] {
  return rows.length === 0 ? [] : [{
    data: { values: rows }, mark: { type: "text", align: "left", dx: 4, fontSize: 10.5, fontStyle: "italic", color: COLOURS.soft },
    encoding: { x: { datum: 0, type: "quantitative" }, text: { field: "text" } },
  }];
}

/** Three digits, as a label. */
export function short(value: number): string {
  const size = Math.abs(value);
  return size >= 1e5 ? value.toExponential(2) : size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function signedShort(value: number, unit = ""): string {
  const text = Math.abs(value).toFixed(Math.abs(value) >= 100 ? 0 : 1);
  return `${Number(text) === 0 ? "±" : value > 0 ? "+" : "−"}${text}${unit}`;
}

/**
 * Ends of an axis of differences: zero is on it, it is no narrower than `least` to either side, and there is room for labels at its
 * right.
 */
export function differenceDomain(ends: readonly number[], least: number, room = 0.04): [number, number] {
  const low = Math.min(-least, ...ends), high = Math.max(least, ...ends);
  return [low - 0.04 * (high - low), high + room * (high - low)];
}
