/**
 * The clipped axis. Bars begin at 0.95 of the smallest value, so their lengths, which is what one sees, show a ratio that is not there. The
 * same perplexities twice: on such an axis, and as bars that stand on zero beside the differences with their errors.
 */

import { writeFileSync } from "node:fs";
import { gateAxes } from "../../../bench/core/gates.ts";
import { en } from "../../../bench/core/lang/en.ts";
import { CLAIM_ERRORS } from "../../../bench/core/stats.ts";
import { qualityOf } from "../../../bench/core/quality.ts";
import { drawSpec, type Chart } from "../../../bench/core/report/draw.ts";
import { LLM, type WeightFormat } from "../../../index.ts";
import { excerpt, show, TINY, type Exhibit, type Told } from "../hall.ts";

/** Perplexity, and that over the first bar's in percent more, with one standard error of the paired difference. */
export interface Bar { readonly label: string; readonly value: number; readonly percent: number; readonly error: number }

export interface Options { readonly bars?: readonly Bar[] }

export interface Drawn extends Told {
  readonly spec: Spec;
  readonly chart: Chart;
  /** The highest bar over the lowest, as they are drawn. */
  readonly ratio: number;
}

type Spec = Readonly<Record<string, unknown>>;

const FORMATS: readonly WeightFormat[] = ["int8", "nf4", "fp4"];
const CONTEXT = 512, WINDOWS = 4;
const BLUE = "#4c78a8", INK = "#333333";

async function measure(): Promise<Bar[]> {
  const base = await LLM.load("tiny-neox", { ...TINY, weights: "f32" });
  try {
    const ids = await excerpt(base, 0, CONTEXT * WINDOWS), bars: Bar[] = [];
    for (const weights of FORMATS) {
      const llm = await LLM.load("tiny-neox", { ...TINY, weights });
      try {
        const { perplexity, basePerplexity, ratio, logRatio } = qualityOf(await llm.divergence(base, ids, { context: CONTEXT }));
        if (bars.length === 0) bars.push({ label: "f32", value: basePerplexity.value, percent: 0, error: 0 });
        const error = 100 * ratio.value * Math.max(logRatio.error ?? 0, logRatio.errorOverWindows ?? 0);
        bars.push({ label: weights, value: perplexity.value, percent: 100 * (ratio.value - 1), error });
      } finally {
        await llm.close();
      }
    }
    return bars;
  } finally {
    await base.close();
  }
}

const around = (title: string, subtitle: string): Spec => ({
  $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: "white", padding: 12,
  title: { text: title, subtitle, anchor: "start", fontSize: 15, subtitleFontSize: 11, offset: 12 },
  config: { font: "Inter", axis: { labelFontSize: 11, titleFontSize: 11, gridColor: "#e8e8e8", labelAngle: 0 }, view: { stroke: null } },
});

/** Bars from `low` on. */
const barsOn = (bars: readonly Bar[], scale: Spec, low = 0): Spec => ({
  width: 280, height: 220, data: { values: bars },
  mark: { type: "bar", color: BLUE },
  encoding: {
    x: { field: "label", type: "nominal", sort: null, title: "weights", scale: { paddingInner: 0.35 } },
    y: { field: "value", type: "quantitative", title: "perplexity", scale }, y2: { datum: low },
  },
});

export function clippedSpec(bars: readonly Bar[]): Spec {
  const values = bars.map(({ value }) => value), rounded = (value: number): number => Number(value.toPrecision(4));
  const domain = [rounded(0.95 * Math.min(...values)), rounded(1.05 * Math.max(...values))] as const;
  const clipped = barsOn(bars, { domain, nice: false, zero: false }, domain[0]);
  return { ...around("Perplexity by weight format", "axis from 0.95 min to 1.05 max"), ...clipped };
}

export function honestSpec(bars: readonly Bar[]): Spec {
  const others = bars.slice(1).map(({ label, percent, error }) => ({
    label, percent, low: percent - CLAIM_ERRORS * error, high: percent + CLAIM_ERRORS * error,
  }));
  const x = { field: "label", type: "nominal", sort: null, title: "weights" }, title = `more than ${bars[0]!.label}, percent`;
  const differences = {
    width: 280, height: 220, data: { values: others },
    layer: [
      { mark: { type: "rule", color: INK }, data: { values: [{ zero: 0 }] }, encoding: { y: { datum: 0, type: "quantitative" } } },
      {
        mark: { type: "rule", color: BLUE, size: 2 },
        encoding: { x, y: { field: "low", type: "quantitative", title }, y2: { field: "high" } },
      },
      {
        mark: { type: "point", color: BLUE, filled: true, size: 70, opacity: 1 },
        encoding: { x, y: { field: "percent", type: "quantitative" } },
      },
    ],
  };
  const drawn = { spacing: 36, hconcat: [barsOn(bars, { zero: true }), differences] };
  return { ...around("Perplexity by weight format", `on zero; and the differences, ± ${CLAIM_ERRORS} standard errors`), ...drawn };
}

/** The highest bar over the lowest, in the picture itself. */
export function drawnRatio({ svg }: Chart): number {
  const bars = svg.matchAll(/<path [^>]*aria-roledescription="bar"[^>]*\sd="M[-\d.]+,[-\d.]+h[-\d.]+v([-\d.]+)/g);
  const heights = [...bars].map(([, height]) => Math.abs(Number(height)));
  return Math.max(...heights) / Math.min(...heights);
}

export async function exhibit({ bars: given }: Options = {}): Promise<Exhibit<Drawn, Drawn>> {
  const bars = given ?? await measure(), specs = { clipped: clippedSpec(bars), honest: honestSpec(bars) };
  const [clipped, honest] = [await drawSpec(specs.clipped), await drawSpec(specs.honest)];
  const [low, high] = [bars.reduce((a, b) => (b.value < a.value ? b : a)), bars.reduce((a, b) => (b.value > a.value ? b : a))];
  const ratios = { clipped: drawnRatio(clipped), honest: drawnRatio(honest) }, gate = gateAxes(specs.clipped, en);
  const seen = (ratio: number): string => `the bar of ${high.label} is ${ratio.toFixed(2)} × as high as that of ${low.label}`;
  const differs = ({ label, percent, error }: Bar): string =>
    `${label}: ${percent < 0 ? "−" : ""}${Math.abs(percent).toFixed(2)} ± ${error.toFixed(2)} % more than ${bars[0]!.label}`;
  return {
    misleading: {
      spec: specs.clipped, chart: clipped, ratio: ratios.clipped,
      says: `In the picture ${seen(ratios.clipped)}: ${high.label} ruins the model.`,
    },
    honest: {
      spec: specs.honest, chart: honest, ratio: ratios.honest,
      says: `${bars.map(({ label, value }) => `${label} ${value.toFixed(2)}`).join(", ")}: on an axis from zero ${seen(ratios.honest)}.\n` +
        bars.slice(1).map(differs).join("\n"),
    },
    gate: gateAxes(specs.honest, en) === null ? gate : null, // a gate that closes on both tells nothing
  };
}

await show(import.meta.url, "The clipped axis", async () => {
  const found = await exhibit();
  for (const [name, { chart }] of [["clipped", found.misleading], ["honest", found.honest]] as const) {
    writeFileSync(new URL(`${name}.png`, import.meta.url), chart.png);
    writeFileSync(new URL(`${name}.svg`, import.meta.url), chart.svg);
  }
  return found;
});
