/**
 * The pictures of speculative decoding, under the names that their sources gave them: left throughput against K, right acceptance. Both
 * axes stand on zero. A draft is told by its colour and by its shape (colours of Okabe and Ito); plain decoding is a line with a band of
 * what its runs differ by, so that noise does not look like a gain. Where K adapts there is no K to stand at, so it stands beside the
 * others, unjoined. Words are English in every language (chart.ts says why).
 */

import { frame, type Json, type Span } from "./press_charts.ts";

export interface SpecPoint {
  readonly draft: string;
  readonly k: number | "adaptive";
  readonly invalid: boolean;
  readonly throughput: Span | null;
  /** accepted / drafted, from 0 to 1. */
  readonly acceptance: number | null;
  /** Tokens per second by arithmetic. */
  readonly predicted: number | null;
}

export interface SpecPicture {
  readonly title: string;
  readonly subtitle: readonly string[];
  /** Plain decoding, all its runs; null when none was finished. */
  readonly plain: Span | null;
  /** In the order of the legend. */
  readonly drafts: readonly string[];
  readonly points: readonly SpecPoint[];
}

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000", "#8a7500"] as const;
const SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left", "cross"] as const;
const INK = "#333333", PLAIN = "#777777";
const SIZE = { width: 400, height: 300 };
/** So that the uppermost label lies within the panel, as it does in the other one. */
const MOST_PERCENT = 105;
/** Letters of a draft's name in the legend. */
const NAME = 40;

export function speculationSpec(picture: SpecPicture): Json {
  const hconcat = [throughputPanel(picture), acceptancePanel(picture)];
  return { ...frame(picture, 106), hconcat, spacing: 44, resolve: { legend: { color: "shared", shape: "shared" } } };
}

/** The end of a long name tells more than its beginning, which is a folder or an owner. */
export function nameOf(draft: string): string {
  return draft.length > NAME ? `…${draft.slice(1 - NAME)}` : draft;
}

/** Every K that any draft was asked for, in order, and at last the one that adapts. */
function lengths(points: readonly SpecPoint[]): string[] {
  const fixed = [...new Set(points.flatMap(({ k }) => (typeof k === "number" ? [k] : [])))].sort((a, b) => a - b).map(String);
  return points.some(({ k }) => k === "adaptive") ? [...fixed, "adaptive"] : fixed;
}

function x({ points }: SpecPicture): Json {
  const domain = lengths(points);
  return { field: "k", type: "ordinal", sort: domain, scale: { domain }, title: "K, tokens drafted per round", axis: { labelAngle: 0 } };
}

/** One colour and one shape for each draft, in one legend for both panels. */
function drafted({ drafts }: SpecPicture): { readonly color: Json; readonly shape: Json } {
  const domain = drafts.map(nameOf), legend = { orient: "bottom", direction: "horizontal", columns: 3, offset: 12, symbolSize: 90 };
  const of = (range: readonly string[]): Json =>
    ({ field: "draft", type: "nominal", scale: { domain, range: domain.map((_, i) => range[i % range.length]!) }, legend });
  return { color: of(COLOURS), shape: of(SHAPES) };
}

const NOTHING: Json = {
  data: { values: [{ text: "N/A: nothing was measured" }] }, mark: { type: "text", fontSize: 12, color: INK },
  encoding: { text: { field: "text" } },
};

interface Row extends Span {
  readonly draft: string; readonly k: string; readonly text: string;
  /** By a line with its neighbours. */
  readonly joined: boolean;
  readonly invalid: boolean;
}

function rows(picture: SpecPicture, of: (point: SpecPoint) => Span | null): Row[] {
  return picture.points.flatMap((point) => {
    const span = of(point);
    if (span === null) return [];
    const { draft, k, invalid } = point;
    return [{ draft: nameOf(draft), k: String(k), joined: k !== "adaptive", invalid, ...span, text: "INVALID" }];
  });
}

/** Lines through the fixed K of each draft, error bars, and marks: full ones, or hollow where the arm is INVALID. */
function lines(picture: SpecPicture, found: readonly Row[], y: Json): Json[] {
  const { color, shape } = drafted(picture), good = found.filter(({ invalid }) => !invalid), bad = found.filter(({ invalid }) => invalid);
  const at = { x: x(picture), y }, ranges = found.filter(({ low, high }) => low < high);
  return [
    { data: { values: good.filter(({ joined }) => joined) }, mark: { type: "line", strokeWidth: 1.8 }, encoding: { ...at, color } },
    {
      data: { values: ranges }, mark: { type: "rule", strokeWidth: 1.4 },
      encoding: { x: x(picture), y: { ...y, field: "low" }, y2: { field: "high" }, color },
    },
    { data: { values: good }, mark: { type: "point", filled: true, size: 80, opacity: 1 }, encoding: { ...at, color, shape } },
    { data: { values: bad }, mark: { type: "point", filled: false, size: 90, strokeWidth: 1.6 }, encoding: { ...at, color, shape } },
    {
      data: { values: bad }, mark: { type: "text", angle: 270, align: "left", dx: 9, fontSize: 8.5, color: INK },
      encoding: { ...at, text: { field: "text" } },
    },
    ...(found.length > 0 ? [] : [NOTHING]),
  ];
}

function throughputPanel(picture: SpecPicture): Json {
  const { plain, points } = picture, found = rows(picture, ({ throughput }) => throughput), unit = "output tokens per second";
  const predicted = points.flatMap(({ draft, k, predicted: value }) =>
    (value === null ? [] : [{ draft: nameOf(draft), k: String(k), value, joined: k !== "adaptive" }]));
  const most = Math.max(plain?.high ?? 0, ...found.map(({ high }) => high), ...predicted.map(({ value }) => value)) * 1.14 || 1;
  const scale = { domain: [0, most], nice: false, zero: true };
  const y = { field: "value", type: "quantitative", title: unit, scale, axis: { format: "~s" } };
  const baseline = plain === null ? [] : [
    {
      data: { values: [plain] }, mark: { type: "rect", color: PLAIN, opacity: 0.25 },
      encoding: { y: { ...y, field: "low" }, y2: { field: "high" } },
    },
    {
      data: { values: [{}] }, mark: { type: "rule", color: PLAIN, strokeWidth: 1.8, strokeDash: [7, 3] },
      encoding: { y: { datum: plain.value, type: "quantitative", title: unit } },
    },
  ];
  return {
    ...SIZE, title: "Throughput",
    layer: [
      ...baseline,
      {
        data: { values: predicted.filter(({ joined }) => joined) },
        mark: { type: "line", strokeWidth: 1.2, strokeDash: [2, 3], opacity: 0.8 },
        encoding: { x: x(picture), y, color: drafted(picture).color },
      },
      ...lines(picture, found, y),
    ],
  };
}

function acceptancePanel(picture: SpecPicture): Json {
  const alone = (value: number): Span => ({ value, low: value, high: value });
  const found = rows(picture, ({ acceptance }) => (acceptance === null ? null : alone(100 * acceptance)));
  const scale = { domain: [0, MOST_PERCENT], nice: false, zero: true };
  const y = { field: "value", type: "quantitative", title: "accepted / drafted, %", scale };
  return { ...SIZE, title: "Acceptance", layer: lines(picture, found, y) };
}
