/** Pictures with a row for every arm: what was measured, what differs from the baseline, and what memory was taken. */

import { en, type MetricKey, type Words } from "../lang/en.ts";
import { bytes } from "../metrics.ts";
import type { ResultBody } from "../result.ts";
import type { Json } from "../report/draw.ts";
import { COLOURS, differenceDomain, frame, gaps, groupsOf, HEIGHT, ROW, rowsAxis, short, signedShort, type Row } from "./frame.ts";

type Run = Pick<ResultBody, "arms" | "status">;

/** What a reader looks for, and which way is better. */
const SHOWN = ["output_tokens_per_s", "ttft_ms", "tpot_ms"] as const satisfies readonly MetricKey[];
const WIDTH = 190, MIB = 2 ** 20;
/** Percent. */
const LEAST_DIFFERENCE = 2;

const titleOf = (key: MetricKey, better: string): string => `${en.metrics[key]} (${better} is better)`;
const keysOf = ({ arms }: Run): (typeof SHOWN)[number][] =>
  SHOWN.filter((key) => arms.some(({ metrics }) => metrics[key]?.summary != null));

/** Medians with p10 to p90, bars from zero; null when no arm has any. */
export function metricsSpec(run: Run, words: Words): Json | null {
  const keys = keysOf(run);
  if (keys.length === 0) return null;
  const groups = groupsOf(run, words).map(({ name, rows }) => ({ name, panels: keys.map((key, i) => metricPanel(rows, key, i === 0)) }));
  return frame(en.page.pictures.metrics,
    ["Medians over iterations, p10 to p90 as a line. Dark grey: baseline; light grey: the baseline a second time (A/A)."], groups);
}

function metricPanel(rows: readonly Row[], key: MetricKey, isFirst: boolean): Json {
  const shown = rows.flatMap(({ arm: { metrics, role }, label, isInvalid }) => {
    const summary = metrics[key]?.summary;
    return summary == null || isInvalid ? []
      : [{ arm: label, role, median: summary.median, p10: summary.p10, p90: summary.p90, text: short(summary.median) }];
  });
  const missing = rows.filter(({ label }) =>
    shown.every(({ arm }) => arm !== label)).map(({ label, isInvalid }) => ({ arm: label, text: isInvalid ? "INVALID" : "n/a" }));
  const { unit, better } = rows.map(({ arm }) => arm.metrics[key]).find((metric) => metric !== undefined) ?? { unit: "", better: "lower" };
  const x = { field: "median", type: "quantitative", title: unit,
    scale: { zero: true, domainMin: 0, domainMax: Math.max(0, ...shown.map(({ p90 }) => p90)) * 1.22 || 1 }, axis: { tickCount: 4 } };
  return {
    width: WIDTH, height: HEIGHT, title: titleOf(key, better), data: { values: shown }, encoding: { y: rowsAxis(rows, isFirst) },
    layer: [
      { mark: { type: "bar", height: ROW * 0.62 }, encoding: { x, color: roleColour } },
      { mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.6 },
        encoding: { x: { field: "p10", type: "quantitative", title: unit }, x2: { field: "p90" } } },
      { mark: { type: "text", align: "left", dx: 5, fontSize: 10.5 },
        encoding: { x: { field: "p90", type: "quantitative", title: unit }, text: { field: "text" } } },
      ...gaps(missing),
    ],
  };
}

const roleColour: Json = {
  field: "role", type: "nominal", legend: null, scale: { domain: ["baseline", "control", "technique"],
    range: [COLOURS.baseline, COLOURS.control, COLOURS.technique] },
};

/** Paired differences with their intervals over the noise floor, which is shaded; null when nothing was compared. */
export function differencesSpec(run: Run, words: Words): Json | null {
  const keys = keysOf(run), all = groupsOf(run,
    words).map(({ name, rows }) => ({ name,
    rows: rows.filter(({ arm, isInvalid }) => !isInvalid && Object.keys(arm.differences).length > 0) }));
  const groups = all.filter(({ rows }) => rows.length > 0);
  if (groups.length === 0 || keys.length === 0 || run.status === "interrupted") return null;
  return frame(en.page.pictures.differences, [
    "Medians of paired differences with their intervals. Shaded: the noise floor. Filled: the whole interval lies beyond it; triangles point up where that is better, down where it is worse.",
    "Hollow circles are no measurable difference.",
  ], groups.map(({ name, rows }) => ({ name, panels: keys.map((key, i) => differencePanel(rows, key, i === 0)) })));
}

function differencePanel(rows: readonly Row[], key: MetricKey, isFirst: boolean): Json {
  const better = rows.map(({ arm }) => arm.metrics[key]?.better).find((one) => one !== undefined) ?? "lower";
  const shown = rows.flatMap(({ arm: { differences, role }, label }) => {
    const change = differences[key];
    if (change === undefined) return [];
    const { median, low, high, noise, measurable } = change, isBetter = median > 0 === (better === "higher");
    return [{ arm: label, median, low, high, noise, minus: -noise,
      kind: !measurable || role === "control" ? "none" : isBetter ? "better" : "worse", text: signedShort(median) }];
  });
  const missing = rows.filter(({ label }) => shown.every(({ arm }) => arm !== label)).map(({ label }) => ({ arm: label, text: "n/a" }));
  const title = "% more than the baseline";
  const domain = differenceDomain(shown.flatMap(({ low, high, noise }) => [low, high, noise, -noise]), LEAST_DIFFERENCE, 0.24);
  const x = (field: string): Json => ({ field, type: "quantitative", title, scale: { domain, nice: false }, axis: { tickCount: 5 } });
  const isClaimed = { filter: "datum.kind !== 'none'" }, isNone = { filter: "datum.kind === 'none'" };
  return {
    width: WIDTH, height: HEIGHT, title: titleOf(key, better), data: { values: shown }, encoding: { y: rowsAxis(rows, isFirst) },
    layer: [
      { mark: { type: "rect", color: COLOURS.band, opacity: 0.32 }, encoding: { x: x("minus"), x2: { field: "noise" } } },
      { data: { values: [{}] }, mark: { type: "rule", color: COLOURS.soft, strokeWidth: 1 },
        encoding: { y: null, x: { datum: 0, type: "quantitative" } } },
      { mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.6 }, encoding: { x: x("low"), x2: { field: "high" } } },
      { transform: [isNone], mark: { type: "point", shape: "circle", size: 60, filled: true, fill: COLOURS.ground, stroke: COLOURS.ink,
        strokeWidth: 1.4, opacity: 1 }, encoding: { x: x("median") } },
      {
        transform: [isClaimed], mark: { type: "point", filled: true, size: 80, opacity: 1 },
        encoding: {
          x: x("median"), color: { field: "kind", type: "nominal", legend: null,
            scale: { domain: ["better", "worse"], range: [COLOURS.better, COLOURS.worse] } },
          shape: { field: "kind", type: "nominal", legend: null,
            scale: { domain: ["better", "worse"], range: ["triangle-up", "triangle-down"] } },
        },
      },
      {
        mark: { type: "text", align: "left", dx: 7, fontSize: 10.5 },
        encoding: { x: x("high"), text: { field: "text" },
          color: { condition: { test: "datum.kind === 'none'", value: COLOURS.soft }, value: COLOURS.ink } },
      },
      ...gaps(missing),
    ],
  };
}

const PARTS = ["weights", "kv", "activations", "logits", "staging"] as const;
/** Ink that can be read on each. */
const ON: Readonly<Record<(typeof PARTS)[number], string>> = { weights: "#fffffe", kv: "#1b1b1a", activations: "#fffffe",
  logits: "#1b1b1a", staging: "#1b1b1a" };

/** The ledger at its highest, stacked by category from zero; null when no arm has one of its own. */
export function memorySpec(run: Run, words: Words): Json | null {
  const groups = groupsOf(run, words).filter(({ rows }) => rows.some(({ arm, isInvalid }) => arm.memory !== null && !isInvalid));
  if (groups.length === 0) return null;
  const most = Math.max(...run.arms.map(({ memory }) => memory?.total ?? 0)) / MIB;
  return frame(en.page.pictures.memory, ["Every byte on the GPU by category, at the highest of the run."],
    groups.map(({ name, rows }, i) => ({ name, panels: [memoryPanel(rows, most, i === 0)] })));
}

function memoryPanel(rows: readonly Row[], most: number, isFirst: boolean): Json {
  const held = rows.filter(({ arm, isInvalid }) => arm.memory !== null && !isInvalid);
  const values = held.flatMap(({ arm: { memory }, label }) => {
    let end = 0;
    return PARTS.map((part, place) => {
      const mib = memory![part] / MIB, start = end;
      end += mib;
      return { arm: label, part: en.rows.categories[part], mib, place, ink: ON[part], middle: start + mib / 2,
        text: mib > 0.09 * most ? short(mib) : "" };
    });
  });
  const missing = rows.filter((row) =>
    !held.includes(row)).map(({ label, isInvalid }) => ({ arm: label, text: isInvalid ? "INVALID" : "n/a" }));
  const scale = { zero: true, domainMin: 0, domainMax: most * 1.16 || 1 };
  const totals = held.map(({ arm: { memory }, label }) => ({ arm: label, total: memory!.total / MIB, text: bytes(memory!.total) }));
  return {
    width: 560, height: HEIGHT, encoding: { y: rowsAxis(rows, true) },
    layer: [
      {
        data: { values }, mark: { type: "bar", height: ROW * 0.66, stroke: COLOURS.ground, strokeWidth: 0.8 },
        encoding: {
          x: { field: "mib", type: "quantitative", title: "MiB", stack: "zero", scale }, order: { field: "place" },
          color: {
            field: "part", type: "nominal", sort: null,
            scale: { domain: PARTS.map((part) => en.rows.categories[part]), range: PARTS.map((part) => COLOURS[part]) },
            legend: isFirst ? { title: null, orient: "top", direction: "horizontal" } : null,
          },
        },
      },
      { data: { values }, mark: { type: "text", fontSize: 10 },
        encoding: { x: { field: "middle", type: "quantitative", title: "MiB" }, text: { field: "text" },
        color: { field: "ink", type: "nominal", scale: null } } },
      { data: { values: totals }, mark: { type: "text", align: "left", dx: 5, fontSize: 10.5 },
        encoding: { x: { field: "total", type: "quantitative", title: "MiB" }, text: { field: "text" } } },
      ...gaps(missing),
    ],
    resolve: { scale: { color: "independent" } },
  };
}
