/**
 * The roofline (Williams et al. 2009): every kernel by the operations it does for a byte it must move, and by those it does in a second,
 * under the two roofs of the device. A kernel on the slope is as fast as memory, one under the flat roof as arithmetic allows. A class of
 * kernels has a colour and a shape of its own, so that neither print nor colour-blindness hides it.
 */

import { CLASSES, type KernelClass } from "./case.ts";
import { short } from "../profile/models.ts";
import type { Outcome } from "./measure.ts";
import { ratesOf } from "./report.ts";
import type { Roof } from "./work.ts";

type Json = Readonly<Record<string, unknown>>;

/** Colours of Okabe and Ito (2008). */
const LOOKS: Readonly<Record<KernelClass, readonly [colour: string, shape: string]>> = {
  product: ["#0072B2", "circle"], attention: ["#D55E00", "square"], cache: ["#009E73", "triangle-up"], row: ["#E69F00", "diamond"],
  vocabulary: ["#CC79A7", "triangle-down"], press: ["#56B4E9", "cross"], loading: ["#000000", "triangle-right"],
};
const SIZE = { width: 800, height: 480 };
const INK = "#333333";

interface RooflineInput { readonly title: string; readonly subtitle: readonly string[]; readonly outcomes: readonly Outcome[]; readonly roof: Roof | null }

interface Point { readonly kernel: string; readonly class: KernelClass; readonly intensity: number; readonly gigaflops: number; readonly share: number }

/** Those that do arithmetic; a copy has no place on an axis of operations. */
export function pointsOf(outcomes: readonly Outcome[], roof: Roof | null): Point[] {
  return outcomes.flatMap((outcome) => {
    const rates = ratesOf(outcome, roof), { kernel, class: of, work, format, kv } = outcome.case;
    if (rates === null || work.flops === 0) return [];
    const label = [kernel.replaceAll("_", " "), format ?? kv].filter((part) => part !== null).join(" ");
    return [{ kernel: label, class: of, intensity: work.flops / work.bytes, gigaflops: rates.gigaflops, share: rates.percentOfRoof ?? 0 }];
  });
}

/** A Vega-Lite specification with its data. Null where there is nothing to draw. */
export function rooflineSpec({ title, subtitle, outcomes, roof }: RooflineInput): Json | null {
  const points = pointsOf(outcomes, roof);
  if (points.length === 0) return null;
  const [xs, ys] = [points.map(({ intensity }) => intensity), points.map(({ gigaflops }) => gigaflops)];
  const ridge = roof && roof.gigaflops / roof.gigabytesPerSecond;
  const x = decades([...xs, ...(ridge === null ? [] : [ridge * 1.5])]), y = decades([...ys, ...(roof === null ? [] : [roof.gigaflops * 1.5])]);
  const classes = CLASSES.filter((each) => points.some((point) => point.class === each));
  const at = (field: string, name: string, domain: readonly [number, number]): Json => ({
    field, type: "quantitative", title: name, scale: { type: "log", domain, nice: false, clamp: true },
    axis: { grid: true, gridColor: "#e4e4e4", values: powers(domain), format: "~g" },
  });
  const encoding = { x: at("intensity", "operations per byte that must be moved", x), y: at("gigaflops", "GFLOP/s (median)", y) };
  const legend = { title: null, orient: "bottom", direction: "horizontal", symbolSize: 110, labelFontSize: 12, columnPadding: 18, symbolOpacity: 1 };
  const names = placed(points, roof, x, y);
  const lost = outcomes.filter(({ status, case: { work } }) => status === "measured" && work.flops === 0).length;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: "white", padding: 16, ...SIZE,
    title: { text: title, subtitle: [...subtitle, ...(lost > 0 ? [`Not here: ${lost} cases that only move bytes and do no arithmetic (see the table).`] : [])], anchor: "start", frame: "bounds", fontSize: 17, subtitleFontSize: 11.5, subtitleLineHeight: 16, offset: 14 },
    config: { font: "Inter", axis: { labelFontSize: 11.5, titleFontSize: 12, titleFontWeight: 600, titlePadding: 10 }, view: { stroke: "#cccccc" } },
    layer: [
      ...(roof === null ? [] : roofLayers(roof, x, y, encoding)),
      {
        data: { values: points }, mark: { type: "point", filled: true, size: 75, opacity: 0.9, stroke: "white", strokeWidth: 0.8 },
        encoding: {
          ...encoding,
          color: { field: "class", type: "nominal", sort: classes, scale: { domain: classes, range: classes.map((each) => LOOKS[each][0]) }, legend },
          shape: { field: "class", type: "nominal", sort: classes, scale: { domain: classes, range: classes.map((each) => LOOKS[each][1]) }, legend },
        },
      },
      ...names.map(({ point, dx, dy, align }) => ({
        data: { values: [point] }, mark: { type: "text", fontSize: 10.5, dx, dy, align, baseline: "middle", color: INK },
        encoding: { x: encoding.x, y: encoding.y, text: { field: "kernel" } },
      })),
    ],
  };
}

/** From the power of ten below all to the one above. */
function decades(values: readonly number[]): [number, number] {
  const logs = values.map(Math.log10);
  return [10 ** Math.floor(Math.min(...logs) - 0.05), 10 ** Math.ceil(Math.max(...logs) + 0.05)];
}

function powers([low, high]: readonly [number, number]): number[] {
  const first = Math.round(Math.log10(low));
  return Array.from({ length: Math.round(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
}

function roofLayers({ gigabytesPerSecond: slope, gigaflops: flat }: Roof, x: readonly [number, number], y: readonly [number, number], encoding: Json): Json[] {
  const [left, right] = x, ridge = flat / slope, from = Math.max(left, y[0] / slope);
  // As steep as the line is on paper: one decade up for one decade across.
  const angle = -Math.atan2(SIZE.height / Math.log10(y[1] / y[0]), SIZE.width / Math.log10(x[1] / x[0])) * (180 / Math.PI);
  const along = from * (ridge / from) ** 0.1;
  const memory = [{ intensity: from, gigaflops: from * slope }, { intensity: ridge, gigaflops: flat }];
  const arithmetic = [{ intensity: ridge, gigaflops: flat }, { intensity: right, gigaflops: flat }];
  const line = (values: readonly Json[], strokeDash: readonly number[]): Json => ({ data: { values }, mark: { type: "line", color: INK, strokeWidth: 2, strokeDash, clip: true }, encoding });
  const text = (intensity: number, gigaflops: number, label: string, mark: Json): Json => ({
    data: { values: [{ intensity, gigaflops, label }] }, mark: { type: "text", fontSize: 12, fontWeight: 600, color: INK, ...mark },
    encoding: { ...encoding, text: { field: "label" } },
  });
  return [
    line(memory, []), line(arithmetic, [7, 4]),
    text(right, flat, `arithmetic: ${short(flat)} GFLOP/s`, { align: "right", dx: -8, dy: -10 }),
    text(along, along * slope, `memory: ${short(slope)} GB/s`, { align: "left", baseline: "bottom", angle, dy: -4 }),
  ];
}

type Box = readonly [left: number, top: number, right: number, bottom: number];

/** One name for each kernel and format, at the fastest of its points, where it covers no point, no other name and no roof; where there is no such place, none. */
function placed(points: readonly Point[], roof: Roof | null, x: readonly [number, number], y: readonly [number, number]): { point: Point; dx: number; dy: number; align: string }[] {
  const across = (value: number, [low, high]: readonly [number, number]): number => Math.log10(value / low) / Math.log10(high / low);
  const pixel = (intensity: number, gigaflops: number): readonly [number, number] => [across(intensity, x) * SIZE.width, (1 - across(gigaflops, y)) * SIZE.height];
  const taken: Box[] = points.map(({ intensity, gigaflops }): Box => {
    const [px, py] = pixel(intensity, gigaflops);
    return [px - 5, py - 5, px + 5, py + 5];
  });
  if (roof !== null) {
    for (let i = 0; i <= 300; i++) {
      const intensity = x[0] * (x[1] / x[0]) ** (i / 300);
      const [px, py] = pixel(intensity, Math.min(roof.gigaflops, intensity * roof.gigabytesPerSecond));
      // Above the line stand the names of the roofs.
      taken.push([px - 3, py - 18, px + 3, py + 3]);
    }
  }
  const best = new Map<string, Point>();
  for (const point of points) if (point.share >= (best.get(point.kernel)?.share ?? -1)) best.set(point.kernel, point);
  const [rights, lefts] = [1, -1].map((side) => [0, -11, 11].map((dy) => ({ dx: side * 9, dy }))) as [{ dx: number; dy: number }[], { dx: number; dy: number }[]];
  return [...best.values()].flatMap((point) => {
    const [px, py] = pixel(point.intensity, point.gigaflops), width = point.kernel.length * 5.7;
    for (const { dx, dy } of rights.flatMap((right, i) => [right, lefts[i]!])) {
      const box: Box = dx > 0 ? [px + dx, py + dy - 6, px + dx + width, py + dy + 6] : [px + dx - width, py + dy - 6, px + dx, py + dy + 6];
      const inside = box[0] >= 2 && box[2] <= SIZE.width - 2 && box[1] >= 2 && box[3] <= SIZE.height - 2;
      if (!inside || taken.some(([l, t, r, b]) => box[0] < r && box[2] > l && box[1] < b && box[3] > t)) continue;
      taken.push(box);
      return [{ point, dx, dy, align: dx > 0 ? "left" : "right" }];
    }
    return [];
  });
}
