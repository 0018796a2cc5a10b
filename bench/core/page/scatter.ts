/**
 * Pictures without rows: quality against speed and memory with the arms that none beats, and samples in the order in which they were
 * taken.
 */

import { median } from "../../../engine/median.ts";
import type { Yard } from "../../../engine/yardstick.ts";
import { en, type MetricKey, type Words } from "../lang/en.ts";
import { paretoOf } from "../report/chart.ts";
import type { Json } from "../report/draw.ts";
import type { ResultArm, ResultBody } from "../result.ts";
import { COLOURS, differenceDomain, frame, groupsOf, type Row } from "./frame.ts";
import { placeNames } from "./labels.ts";

const SIZE = { width: 330, height: 250 }, WIDE = { width: 250, height: 210 }, MIB = 2 ** 20;
const SPEED: MetricKey = "output_tokens_per_s";

interface Point { arm: string; kind: string; x: number; low: number; high: number; y: number; error: number; from: number; to: number;
  [key: string]: unknown }

/** Perplexity (or KLD) against throughput and against memory, all as differences from the baseline; null where quality was not measured. */
export function paretoSpec(run: Pick<ResultBody, "arms" | "status">, words: Words): Json | null {
  if (run.status === "interrupted") return null;
  const hasChange = run.arms.some(({ quality }) => quality?.change != null), hasKld = run.arms.some(({ quality }) => quality?.kld != null);
  if (!hasChange && !hasKld) return null;
  const quality = hasChange ? ["perplexity,", "% more than the baseline"] : ["KLD from the baseline,", "nats per token"];
  const groups = groupsOf(run, words).flatMap(({ name, rows }) => {
    const base = rows.find(({ arm }) => arm.role === "baseline");
    if (base === undefined || base.isInvalid) return [];
    const speed = pointsOf(rows, hasChange,
      ({ differences, role }) => (role === "baseline" ? { value: 0, low: 0, high: 0 } : spread(differences[SPEED])));
    const memory = pointsOf(rows, hasChange,
      ({ memory: own }) => (own === null || base.arm.memory === null ? null : same((own.total - base.arm.memory.total) / MIB)));
    const panels = [
      ...(speed.length > 1 ? [paretoPanel(speed, "output throughput, % more than the baseline", quality, 1)] : []),
      ...(memory.length > 1 && memory.some(({ x }) => x !== 0)
        ? [paretoPanel(memory, "peak GPU memory, MiB more than the baseline", quality, -1)] : []),
    ];
    return panels.length === 0 ? [] : [{ name, panels }];
  });
  return groups.length === 0 ? null : frame(en.page.pictures.pareto, [
    "Lower is better in quality; right is better in throughput, left in memory. The line joins the arms that none beats in both. Square: baseline.",
    "Diamonds are lossless: they write the baseline's texts and are drawn at zero. Lines are intervals, and one standard error of quality.",
  ], groups, true);
}

const same = (value: number): { value: number; low: number; high: number } => ({ value, low: value, high: value });
const spread = (change: ResultArm["differences"][MetricKey]): ReturnType<typeof same> | null => (change === undefined ? null
  : { value: change.median, low: change.low, high: change.high });

function pointsOf(rows: readonly Row[], hasChange: boolean, across: (arm: ResultArm) => ReturnType<typeof same> | null): Point[] {
  return rows.flatMap(({ arm, label, isInvalid }) => {
    const found = isInvalid || arm.role === "control" ? null : across(arm), up = found === null ? null : upOf(arm, hasChange);
    if (found === null || up === null) return [];
    const isLossless = arm.proof?.kind === "lossless" && arm.proof.holds === true;
    return [{
      arm: label, kind: arm.role === "baseline" ? "baseline" : isLossless ? "lossless" : "lossy", x: found.value, low: found.low,
      high: found.high,
      y: up.value, error: up.error, from: up.value - up.error, to: up.value + up.error,
    }];
  });
}

function upOf({ role, proof, quality }: ResultArm, hasChange: boolean): { value: number; error: number } | null {
  if (role === "baseline") return { value: 0, error: 0 };
  if (hasChange && quality?.change != null) return { value: quality.change.percent, error: quality.change.error };
  if (!hasChange && quality?.kld != null) return { value: quality.kld.value, error: quality.kld.error ?? 0 };
  return proof?.kind === "lossless" && proof.holds === true ? { value: 0, error: 0 } : null;
}

/** `sign`: 1 where more of x is better, −1 where less is. */
function paretoPanel(points: readonly Point[], across: string, up: readonly string[], sign: 1 | -1): Json {
  const xDomain = differenceDomain(points.flatMap(({ low, high }) => [low, high]), 1, 0.24),
    yDomain = differenceDomain(points.flatMap(({ from, to }) => [from, to]), 0.02, 0.1);
  const x = (field: string): Json => ({ field, type: "quantitative", title: across, scale: { domain: xDomain, nice: false },
    axis: { tickCount: 6 } });
  const y = (field: string): Json => ({ field, type: "quantitative", title: up, scale: { domain: yDomain, nice: false },
    axis: { tickCount: 6 } });
  const front = paretoOf(points.map((point) => ({ ...point, mib: -sign * point.x, value: point.y })));
  const left = (value: number): number => (value - xDomain[0]) / (xDomain[1] - xDomain[0]) * SIZE.width,
    top = (value: number): number => (yDomain[1] - value) / (yDomain[1] - yDomain[0]) * SIZE.height;
  const names = placeNames(points.map(({ arm, x: own, low, high, y: up, from, to }) => ({
    name: arm, at: [left(own), top(up)], across: [left(low), left(high)], along: [top(to), top(from)],
  })), [front.map((point) => [left(point.x), top(point.y)])], SIZE);
  const labels = points.flatMap((point, i) => {
    const name = names[i] ?? null;
    if (name === null) return [];
    const at = { textX: xDomain[0] + name.at[0] / SIZE.width * (xDomain[1] - xDomain[0]),
      textY: yDomain[1] - name.at[1] / SIZE.height * (yDomain[1] - yDomain[0]) };
    return [{ arm: point.arm, x: point.x, y: point.y, ...at, align: name.align, isFar: name.isFar }];
  });
  const zero = { type: "rule", color: COLOURS.soft, strokeDash: [3, 3], strokeWidth: 1 };
  return {
    ...SIZE, data: { values: points },
    layer: [
      { data: { values: [{}] }, mark: zero, encoding: { x: { datum: 0, type: "quantitative", title: across } } },
      { data: { values: [{}] }, mark: zero, encoding: { y: { datum: 0, type: "quantitative", title: up } } },
      { data: { values: front }, mark: { type: "line", color: COLOURS.worse, strokeWidth: 1.6, strokeDash: [6, 3] },
        encoding: { x: x("x"), y: y("y"), order: { field: "x" } } },
      { data: { values: labels.filter(({ isFar }) => isFar) }, mark: { type: "rule", color: COLOURS.control, strokeWidth: 0.8 },
        encoding: { x: x("x"), x2: { field: "textX" }, y: y("y"), y2: { field: "textY" } } },
      { mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.1 }, encoding: { x: x("low"), x2: { field: "high" }, y: y("y") } },
      { mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.1 }, encoding: { x: x("x"), y: y("from"), y2: { field: "to" } } },
      {
        mark: { type: "point", filled: true, size: 85, opacity: 1 },
        encoding: {
          x: x("x"), y: y("y"),
          color: { field: "kind", type: "nominal", legend: null,
            scale: { domain: ["baseline", "lossless", "lossy"], range: [COLOURS.baseline, COLOURS.activations, COLOURS.technique] } },
          shape: { field: "kind", type: "nominal", legend: null,
            scale: { domain: ["baseline", "lossless", "lossy"], range: ["square", "diamond", "circle"] } },
        },
      },
      ...(["left", "right"] as const).flatMap((align) => [{ stroke: COLOURS.ground, strokeWidth: 4, opacity: 0.85 }, {}].map((halo) => ({
        data: { values: labels.filter((label) => label.align === align) },
        mark: { type: "text", fontSize: 11, align, baseline: "middle", ...halo },
        encoding: { x: x("textX"), y: y("textY"), text: { field: "arm" } },
      }))),
    ],
  };
}

interface Deviation { readonly arm: string; readonly role: string; readonly iteration: number; readonly place: number | null;
  readonly percent: number }

/**
 * Every sample as a difference from the median of its arm, by iteration and by place in the iteration, beside the yardstick; null without
 * samples.
 */
export function samplesSpec({ arms, order, yardstick }: Pick<ResultBody, "arms" | "order" | "yardstick">): Json | null {
  const key = ([SPEED, "ttft_ms", "latency_ms"] as const).find((one) => arms.some(({ metrics }) => metrics[one]?.summary != null));
  if (key === undefined) return null;
  const deviations = arms.flatMap(({ name, role, metrics }): Deviation[] => {
    const metric = metrics[key];
    if (metric?.summary == null || metric.summary.median === 0) return [];
    const { median: middle } = metric.summary;
    return metric.samples.flatMap((sample, i) => {
      const place = order[i]?.indexOf(name) ?? -1;
      return sample === null ? [] : [{ arm: name, role, iteration: i + 1, place: place < 0 ? null : place + 1,
        percent: (sample / middle - 1) * 100 }];
    });
  });
  const yards = yardstick === null ? [] : yardsOf(yardstick.yards);
  const domain = differenceDomain([...deviations, ...yards].map(({ percent }) => percent), 2);
  const title = [en.metrics[key], "% from the arm's own median"];
  const placed = deviations.filter(({ place }) => place !== null);
  const panels = [
    linesPanel(deviations, "By iteration", title, domain),
    ...(placed.length === 0 ? [] : [placesPanel(placed, "By place in the iteration", domain)]),
    ...(yards.length === 0 ? [] : [yardsPanel(yards, domain)]),
  ];
  return frame(en.page.pictures.samples,
    ["Black: baseline; dashed: the baseline a second time; thin blue: all other arms. Right: the same small work on the machine, before each iteration."], [{ name: "", panels }], true);
}

const ITERATION: Json = { field: "iteration", type: "quantitative", title: "iteration", scale: { zero: false, nice: false },
  axis: { tickMinStep: 1, format: "d", tickCount: 6 } };
const percentAxis = (title: readonly string[] | null, domain: readonly number[]): Json => ({ field: "percent", type: "quantitative", title,
  scale: { domain, nice: false }, axis: { tickCount: 6 } });

function linesPanel(values: readonly Deviation[], title: string, up: readonly string[], domain: readonly number[]): Json {
  const y = percentAxis(up, domain), of = (roles: string): Json[] => [{ filter: `datum.role === '${roles}'` }];
  const line = (role: string, mark: Json): Json => ({ transform: of(role),
    mark: { type: "line", point: { filled: true, size: 14, ...(mark["point"] as Json) }, ...mark },
    encoding: { x: ITERATION, y, detail: { field: "arm" } } });
  return {
    ...WIDE, title, data: { values },
    layer: [
      line("technique", { color: COLOURS.technique, strokeWidth: 1, opacity: 0.55, point: { color: COLOURS.technique, size: 12 } }),
      line("control", { color: COLOURS.ink, strokeWidth: 1.8, strokeDash: [5, 3], point: { color: COLOURS.ink, size: 18 } }),
      line("baseline", { color: COLOURS.ink, strokeWidth: 2.2, point: { color: COLOURS.ink, size: 22 } }),
    ],
  };
}

function placesPanel(values: readonly Deviation[], title: string, domain: readonly number[]): Json {
  const places = [...new Set(values.map(({ place }) => place!))].sort((a, b) => a - b);
  const medians = places.map((place) => ({ place,
    percent: median(values.filter((one) => one.place === place).map(({ percent }) => percent)) }));
  const x = { field: "place", type: "quantitative", title: "place in the iteration", scale: { zero: false, nice: false, padding: 6 },
    axis: { tickMinStep: 1, format: "d", tickCount: 6 } };
  return {
    ...WIDE, title,
    layer: [
      { data: { values }, mark: { type: "point", filled: true, size: 16, color: COLOURS.technique, opacity: 0.5 },
        encoding: { x, y: percentAxis(null, domain) } },
      { data: { values: medians }, mark: { type: "line", color: COLOURS.worse, strokeWidth: 2.2 },
        encoding: { x, y: percentAxis(null, domain) } },
    ],
  };
}

interface Yarded { readonly iteration: number; readonly what: string; readonly percent: number }

function yardsOf(yards: readonly Yard[]): Yarded[] {
  const kinds = [["GPU arithmetic", "computeMs"], ["GPU memory", "memoryMs"], ["host", "hostMs"]] as const;
  return kinds.flatMap(([what, key]) => {
    const middle = yards.length === 0 ? 0 : median(yards.map((yard) => yard[key]));
    return middle === 0 ? [] : yards.map((yard, i) => ({ iteration: i + 1, what, percent: (yard[key] / middle - 1) * 100 }));
  });
}

function yardsPanel(values: readonly Yarded[], domain: readonly number[]): Json {
  const names = [...new Set(values.map(({ what }) => what))];
  return {
    ...WIDE, title: "The machine itself (more is slower)", data: { values }, mark: { type: "line", strokeWidth: 1.3 },
    encoding: {
      x: ITERATION, y: percentAxis(null, domain),
      color: { field: "what", type: "nominal", scale: { domain: names, range: [COLOURS.technique, COLOURS.kv, COLOURS.activations] },
        legend: { title: null, orient: "bottom" } },
      strokeDash: { field: "what", type: "nominal", scale: { domain: names, range: [[1, 0], [6, 3], [2, 2]] },
        legend: { title: null, orient: "bottom" } },
    },
  };
}
