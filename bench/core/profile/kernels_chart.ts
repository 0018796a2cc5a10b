/**
 * The picture of the kernels: a bar for the decode step and one for the prefill, cut into what they spend their GPU time on. A product of
 * the same shape has the same colour in both, whichever kernel does it. Colours are Okabe and Ito's; pieces stand in the order of the
 * legend and hold their names where there is room, so that little is told by colour alone.
 */

import type { Phase } from "../../../models/step.ts";
import { frame, type Json } from "../report/press_charts.ts";
import type { KernelRow, PhaseKernels } from "./kernels.ts";
import { costOf, PHASES, percent, titleOf } from "./kernels_report.ts";
import { short } from "./models.ts";

/** Fill, and ink on it. */
const PALETTE = [
  ["#0072b2", "white"], ["#e69f00", "#222222"], ["#009e73", "white"], ["#cc79a7", "#222222"], ["#56b4e9", "#222222"],
  ["#d55e00", "white"], ["#f0e442", "#222222"],
] as const;
const REST = "all others", REST_COLOUR = ["#bdbdbd", "#222222"] as const;
const SIZE = { width: 760, bar: 64 };
/** Shares below which a piece holds no words, and has no colour unless its kernel takes more of the other bar. */
const BARE = 0.035, GREY = 0.02;
/** Of a letter in a piece, at most. */
const LETTER = 6.2;
const LINE = 15;

export interface KernelPicture {
  readonly model: string;
  readonly machine: string;
  /** How often it was measured, and when. */
  readonly measured: string;
  readonly prompt: number;
  readonly phases: Readonly<Record<Phase, PhaseKernels>>;
}

/** What has a colour: what takes a large share of either phase. The rest is one piece, at the end. */
export function coloured(phases: KernelPicture["phases"]): string[] {
  const most = new Map<string, number>();
  for (const phase of PHASES) {
    for (const [does, share] of sharesOf(phases[phase].rows)) most.set(does, Math.max(most.get(does) ?? 0, share));
  }
  return [...most].filter(([, share]) => share >= GREY).sort(([, a], [, b]) => b - a).slice(0, PALETTE.length).map(([does]) => does);
}

function sharesOf(rows: readonly KernelRow[]): Map<string, number> {
  const shares = new Map<string, number>();
  for (const { does, share } of rows) shares.set(does, (shares.get(does) ?? 0) + share);
  return shares;
}

export interface Piece {
  readonly bar: string;
  readonly does: string;
  readonly from: number;
  readonly to: number;
  /** Lines of what is written in it. */
  readonly text: readonly string[];
}

/** The pieces of one bar from 0 to 1, in the order of `names`, the rest behind. */
export function piecesOf(bar: string, rows: readonly KernelRow[], names: readonly string[]): Piece[] {
  const shares = sharesOf(rows);
  const rest = [...shares].reduce((sum, [does, share]) => sum + (names.includes(does) ? 0 : share), 0);
  let from = 0;
  return [...names.map((does) => [does, shares.get(does) ?? 0] as const), [REST, rest] as const].flatMap(([does, share]) => {
    if (share === 0) return [];
    const piece = { bar, does, from, to: from + share, text: wordsIn(does, share) };
    from += share;
    return [piece];
  });
}

function wordsIn(does: string, share: number): string[] {
  if (share < BARE) return [];
  const name = does.replace(/^product /, "");
  return name.length * LETTER + 8 <= share * SIZE.width ? [name, percent(share)] : [`${(100 * share).toFixed(0)} %`];
}

export function kernelsSpec({ model, machine, measured, prompt, phases }: KernelPicture): Json {
  const names = coloured(phases);
  const bars = PHASES.map((phase) => {
    const { gpu, passes } = phases[phase];
    return { phase, name: [titleOf(phase, prompt), `GPU: ${time(gpu.median)}${passes > 1 ? ` in ${passes} passes` : ""}`].join("\n") };
  });
  const pieces = bars.flatMap(({ phase, name }) => piecesOf(name, phases[phase].rows, names));
  const shown = [...names, REST].filter((name) => pieces.some(({ does }) => does === name));
  const colourOf = (name: string): readonly [string, string] => PALETTE[names.indexOf(name)] ?? REST_COLOUR;
  const costs = PHASES.flatMap((phase) => costOf(phases[phase])?.gpu ?? []);
  const slower = costs.length > 0 ? `, which takes ${costs.map((cost) => cost.toFixed(2)).join(" and ")} times as long` : "";
  const y = {
    field: "bar", type: "nominal", sort: bars.map(({ name }) => name), title: null,
    axis: { labelExpr: "split(datum.label, '\\n')", labelLimit: 300, labelFontSize: 12, ticks: false, domain: false, labelPadding: 10,
      labelLineHeight: 16, labelOffset: -8 },
  };
  const x = {
    field: "from", type: "quantitative", title: "share of the GPU time of all dispatches", scale: { domain: [0, 1], nice: false },
    axis: { format: ".0%", tickCount: 10 },
  };
  const data = pieces.map((piece) => ({ ...piece, middle: (piece.from + piece.to) / 2, ink: colourOf(piece.does)[1] }));
  return {
    ...frame({ title: `Where ${model} spends its GPU time`, subtitle: [
      machine, measured, `shares among the dispatches, each in a pass of its own${slower}`,
      "at the left: GPU time in the form it always runs in; a product is called by its outputs × inputs",
    ] }, 120),
    width: SIZE.width, height: { step: SIZE.bar + 20 },
    layer: [
      {
        data: { values: data }, mark: { type: "bar", height: SIZE.bar, stroke: "white", strokeWidth: 1.5 },
        encoding: {
          y, x, x2: { field: "to" }, color: {
            field: "does", type: "nominal", sort: shown, scale: { domain: shown, range: shown.map((name) => colourOf(name)[0]) },
            legend: { orient: "bottom", direction: "horizontal", columns: 4, title: null, offset: 14, symbolType: "square", symbolSize: 120,
              symbolStrokeWidth: 0 },
          },
        },
      },
      ...[1, 2].map((lines) => ({
        data: { values: data.filter(({ text }) => text.length === lines) },
        mark: { type: "text", fontSize: 11, lineHeight: LINE, baseline: "middle", dy: -LINE / 2 * (lines - 1) },
        encoding: { y, x: { ...x, field: "middle" }, text: { field: "text" }, color: { field: "ink", type: "nominal", scale: null } },
      })),
    ],
    resolve: { scale: { color: "independent" } },
  };
}

/** From µs. */
function time(micros: number): string {
  return micros >= 1e6 ? `${short(micros / 1e6)} s` : micros >= 1e3 ? `${short(micros / 1e3)} ms` : `${short(micros)} µs`;
}
