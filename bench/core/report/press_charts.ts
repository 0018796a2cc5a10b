/**
 * The pictures of a KnormPress run (press_scatter.ts has the fourth), under the names that its sources gave them. Bars stand on zero; what
 * is a difference has zero in its axis and a band for what two equal arms differ by, so that noise does not look like a finding. Each is a
 * Vega-Lite specification, kept beside the picture. Colours are those of Okabe and Ito, which most colour-blind people can tell apart, and
 * nothing is told by colour alone. Words are English in every language (chart.ts says why).
 */

/** A value with the ends of its interval. */
export interface Span { readonly value: number; readonly low: number; readonly high: number }

/** One arm; null where it has no value. Changes are in percent of no press. */
export interface PressRow {
  readonly label: string;
  readonly kind: "none" | "again" | "null" | "press" | "invalid";
  readonly ttft: Span | null;
  readonly tpot: Span | null;
  readonly throughput: Span | null;
  /** Positive is faster. */
  readonly ttftImprovement: Span | null;
  readonly tpotChange: Span | null;
  readonly throughputChange: Span | null;
  readonly perplexity: number | null;
  readonly perplexityChange: Span | null;
  /** Entries of a KV head at the end of a request, on average over layers. */
  readonly kept: number | null;
  readonly freedBytes: number | null;
  readonly peakBytes: number | null;
}

export interface PressPictures {
  readonly title: string;
  readonly subtitle: readonly string[];
  readonly rows: readonly PressRow[];
  /** Percent on either side of zero within which two equal arms lay. */
  readonly noise: { readonly ttft: number; readonly throughput: number; readonly tpot: number };
}

export type Json = Readonly<Record<string, unknown>>;

export const COLOURS = { none: "#999999", again: "#cccccc", null: "#56b4e9", press: "#0072b2", invalid: "#d55e00", ink: "#333333",
  band: "#f0e442", ideal: "#009e73" } as const;
const KINDS = ["none", "again", "null", "press", "invalid"] as const;
export const KIND_NAMES: Readonly<Record<PressRow["kind"], string>> = {
  none: "no press", again: "no press again (A/A)", null: "acts, keeps everything", press: "press", invalid: "INVALID: evicted nothing",
};
const MIB = 2 ** 20;
/** Percent that a difference axis shows at least on either side. */
const LEAST = 1;

/**
 * `letters`: as long as a line above the picture may be; a longer one would make the picture wider than its panels, since text is taken to
 * be wider than it turns out.
 */
export function frame({ title, subtitle }: Pick<PressPictures, "title" | "subtitle">, letters: number): Json {
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json", background: "white", padding: 14,
    title: { text: title, subtitle: subtitle.flatMap((line) => wrapped(line, letters)), frame: "bounds", fontSize: 17, subtitleFontSize: 11,
      subtitleLineHeight: 15, anchor: "start", offset: 14 },
    config: {
      font: "Inter", axis: { labelFontSize: 11, titleFontSize: 11, titleFontWeight: 600, gridColor: "#e8e8e8" },
      title: { fontSize: 13, fontWeight: 600, frame: "group", offset: 16 }, legend: { labelFontSize: 11, labelLimit: 300, title: null },
    },
  };
}

function wrapped(line: string, letters: number): string[] {
  const lines = [""];
  for (const word of line.split(" ")) {
    if (lines.at(-1) !== "" && `${lines.at(-1)!} ${word}`.length > letters) lines.push(word);
    else lines[lines.length - 1] = `${lines.at(-1)!} ${word}`.trimStart();
  }
  return lines;
}

/** Three digits, and no more letters than a bar is wide: 12345678 is 12.3M. */
export function short(value: number): string {
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]] as const) if (size >= unit)
    return `${(value / (suffix === "k" ? 1e3 : unit)).toPrecision(3)}${suffix}`.replace("-", "−");
  return (size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2)).replace("-", "−");
}

/** A name no longer than a column. */
export function clipped(name: string): string {
  return name.length > 34 ? `${name.slice(0, 33)}…` : name;
}

export function signedShort(value: number): string {
  return `${value >= 0 ? "+" : ""}${short(value)}`;
}

/** Around zero, with room for labels. */
export function around(spans: readonly Span[], least: number = LEAST): readonly [number, number] {
  const low = Math.min(-least, ...spans.map((span) => span.low)), high = Math.max(least, ...spans.map((span) => span.high));
  const room = 0.12 * (high - low);
  return [low - room, high + room];
}

/** `rows`: of the whole picture, so that its panels share one scale and one legend. */
export function colour(rows: readonly PressRow[]): Json {
  const kinds = KINDS.filter((kind) => rows.some((row) => row.kind === kind));
  return {
    field: "kind", type: "nominal", scale: { domain: kinds.map((kind) => KIND_NAMES[kind]), range: kinds.map((kind) => COLOURS[kind]) },
    legend: { orient: "bottom", direction: "horizontal", columns: 5, offset: 12 },
  };
}

function x(rows: readonly PressRow[], width: number): Json {
  const longest = Math.max(...rows.map(({ label }) => label.length));
  return { field: "arm", type: "nominal", sort: rows.map(({ label }) => label), title: null,
    axis: { labelAngle: rows.length * longest * 7 > width ? -40 : 0, labelLimit: 170 } };
}

const PANEL = { width: 300, height: 210 };

function points(rows: readonly PressRow[], of: (row: PressRow) => Span | null, text: (span: Span, row: PressRow) => string) {
  return rows.map((row) => {
    const span = of(row);
    return { arm: row.label, kind: KIND_NAMES[row.kind], ...(span === null ? { text: "N/A" } : { ...span, text: text(span, row) }) };
  });
}

/** Says N/A where an arm has no value. */
function missing(values: readonly Json[], title: string): Json {
  return {
    data: { values: values.filter((value) => !("value" in value)) }, mark: { type: "text", fontSize: 10, color: COLOURS.ink, dy: -6 },
    encoding: { y: { datum: 0, type: "quantitative", title }, text: { field: "text" } },
  };
}

/** Bars from zero with error bars, the figure above. */
function bars(title: string, unit: string, rows: readonly PressRow[], of: (row: PressRow) => Span | null): Json {
  const values = points(rows, of, ({ value }) => short(value));
  const most = Math.max(0, ...rows.flatMap((row) => of(row)?.high ?? [])) * 1.18 || 1;
  const scale = { domain: [0, most], nice: false, zero: true };
  return {
    ...PANEL, title, encoding: { x: x(rows, PANEL.width) },
    layer: [
      {
        data: { values: values.filter((value) => "value" in value) }, mark: { type: "bar", width: { band: 0.7 } },
        encoding: { y: { field: "value", type: "quantitative", title: unit, scale, axis: { format: "~s" } }, color: colour(rows) },
      },
      { data: { values: values.filter((value) => "value" in value) }, mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.5 },
        encoding: { y: { field: "low", type: "quantitative", title: unit }, y2: { field: "high" } } },
      {
        data: { values: values.filter((value) => "value" in value) }, mark: { type: "text", dy: -7, fontSize: rows.length > 6 ? 8.5 : 10 },
        encoding: { y: { field: "high", type: "quantitative", title: unit }, text: { field: "text" } },
      },
      missing(values, unit),
    ],
  };
}

/** Points with intervals around zero, and the band of noise. */
function differences(
  title: string, unit: string, all: readonly PressRow[], rows: readonly PressRow[], of: (row: PressRow) => Span | null, noise: number,
  text: (span: Span, row: PressRow) => string = ({ value }) => signedShort(value),
): Json {
  const values = points(rows, of, text), domain = around([...rows.flatMap((row) => of(row) ?? []), { value: 0, low: -noise, high: noise }]);
  const y = { field: "value", type: "quantitative", title: unit, scale: { domain, nice: false }, axis: { format: "~s" } };
  const found = values.filter((value) => "value" in value);
  return {
    ...PANEL, title, encoding: { x: x(rows, PANEL.width) },
    layer: [
      ...(noise === 0 ? []
        : [{ data: { values: [{}] }, mark: { type: "rect", color: COLOURS.band, opacity: 0.28 },
        encoding: { x: null, y: { datum: -noise, type: "quantitative", title: unit }, y2: { datum: noise } } }]),
      { data: { values: [{}] }, mark: { type: "rule", color: "#777777", strokeDash: [4, 3] },
        encoding: { x: null, y: { datum: 0, type: "quantitative", title: unit } } },
      { data: { values: found }, mark: { type: "rule", color: COLOURS.ink, strokeWidth: 1.5 },
        encoding: { y: { field: "low", type: "quantitative", title: unit }, y2: { field: "high" } } },
      { data: { values: found }, mark: { type: "point", filled: true, size: 75, opacity: 1 }, encoding: { y, color: colour(all) } },
      { data: { values: found }, mark: { type: "text", dy: -9, fontSize: rows.length > 6 ? 8.5 : 9.5 },
        encoding: { y: { field: "high", type: "quantitative", title: unit }, text: { field: "text" } } },
      missing(values, unit),
    ],
  };
}

export function comprehensiveSpec(pictures: PressPictures): Json {
  const { rows, noise } = pictures, others = rows.filter(({ kind }) => kind !== "none");
  return {
    ...frame(pictures, 118), columns: 3, bounds: "full", spacing: 30,
    concat: [
      bars("TTFT", "ms to first token", rows, ({ ttft }) => ttft), bars("TPOT", "ms per output token", rows, ({ tpot }) => tpot),
      bars("Throughput", "output tokens per s", rows, ({ throughput }) => throughput),
      differences("TTFT improvement", "% less than no press", rows, others, ({ ttftImprovement }) => ttftImprovement, noise.ttft),
      differences("Throughput change", "% against no press", rows, others, ({ throughputChange }) => throughputChange, noise.throughput),
      differences("Perplexity (figures) and its change", "% change (± 1 SE)", rows, rows.filter(({ kind }) => kind !== "again"),
        perplexityOf, 0, (_, { perplexity }) => (perplexity === null ? "N/A" : short(perplexity))),
    ],
  };
}

/** No press has no change from itself. */
function perplexityOf({ kind, perplexity, perplexityChange }: PressRow): Span | null {
  return kind === "none" && perplexity !== null ? { value: 0, low: 0, high: 0 } : perplexityChange;
}

const METRICS = [["TTFT", ({ ttft }: PressRow) => ttft?.value], ["TPOT", ({ tpot }: PressRow) => tpot?.value],
  ["throughput", ({ throughput }: PressRow) => throughput?.value],
  ["perplexity", ({ perplexity }: PressRow) => perplexity ?? undefined],
  ["entries at the end", ({ kept }: PressRow) => kept ?? undefined]] as const;

/** Every figure in percent of no press: of medians, so they may differ a little from the median of the changes. Bars from zero. */
export function summarySpec(pictures: PressPictures): Json {
  const { rows } = pictures, base = rows.find(({ kind }) => kind === "none");
  const shown = rows.filter(({ kind }) => kind !== "none");
  const values = METRICS.flatMap(([metric, of]) => shown.map((row) => {
    const own = of(row), from = base === undefined ? undefined : of(base), percent = own === undefined || from === undefined || from === 0
      ? null : 100 * own / from;
    return { metric, arm: row.label, kind: KIND_NAMES[row.kind], ...(percent === null ? { text: "N/A" }
      : { value: percent, at: Math.max(100, percent), text: `${short(percent)} %` }) };
  }));
  const order = shown.map(({ label }) => label), found = values.filter((value) => "value" in value);
  const y = { field: "arm", type: "nominal", sort: order, title: null, axis: { labelLimit: 220 } };
  const panel = ([metric]: (typeof METRICS)[number], first: boolean): Json => {
    const own = values.filter((value) => value.metric === metric), there = found.filter((value) => value.metric === metric);
    const most = Math.max(120, ...there.flatMap((value) => ("value" in value ? value.value : []))) * 1.3;
    return {
      width: 190, height: Math.max(60, 30 * shown.length),
      title: `${metric}${metric === "throughput" ? ": more is better" : metric === "entries at the end" ? "" : ": less is better"}`,
      encoding: { y: first ? y : { ...y, axis: null } },
      layer: [
        {
          data: { values: there }, mark: { type: "bar", height: { band: 0.7 } },
          encoding: { x: { field: "value", type: "quantitative", title: "% of no press", scale: { domain: [0, most], nice: false },
            axis: { format: "~s", tickCount: 4 } }, color: colour(shown) },
        },
        { data: { values: [{}] }, mark: { type: "rule", color: COLOURS.ink, strokeDash: [4, 3] },
          encoding: { x: { datum: 100, type: "quantitative", title: "% of no press" }, y: null } },
        { data: { values: there }, mark: { type: "text", align: "left", dx: 5, fontSize: 10 },
          encoding: { x: { field: "at", type: "quantitative", title: "% of no press" }, text: { field: "text" } } },
        { data: { values: own.filter((value) => !("value" in value)) }, mark: { type: "text", align: "left", dx: 5, fontSize: 10 },
          encoding: { x: { datum: 0, type: "quantitative", title: "% of no press" }, text: { field: "text" } } },
      ],
    };
  };
  return { ...frame(pictures, 130), hconcat: METRICS.map((metric, i) => panel(metric, i === 0)), spacing: 16 };
}

/** Exact values, a row for each arm. */
export function tableSpec(pictures: PressPictures): Json {
  const { rows } = pictures, none = "N/A";
  const fixed = (value: number | null | undefined, digits: number): string =>
    (value == null ? none : Math.abs(value) >= 1e7 ? value.toExponential(3) : value.toFixed(digits)).replace("-", "−");
  const change = (span: Span | null): string =>
    (span === null ? none : `${span.value >= 0 ? "+" : ""}${fixed(span.value, 1)} (${fixed(span.low, 1)} to ${fixed(span.high, 1)})`);
  const columns: readonly (readonly [string, (row: PressRow) => string])[] = [
    ["arm", ({ label, kind }) => `${clipped(label)}${kind === "invalid" ? " · INVALID" : ""}`],
    ["TTFT ms", ({ ttft }) => fixed(ttft?.value, 2)],
    ["change %", ({ ttftImprovement: span }) => change(span === null ? null
    : { value: -span.value || 0, low: -span.high || 0, high: -span.low || 0 })],
    ["TPOT ms", ({ tpot }) => fixed(tpot?.value, 3)], ["change %", ({ tpotChange }) => change(tpotChange)],
    ["tok/s", ({ throughput }) => fixed(throughput?.value, 2)], ["change %", ({ throughputChange }) => change(throughputChange)],
    ["PPL", ({ perplexity }) => fixed(perplexity, 3)], ["change %", ({ perplexityChange }) => change(perplexityChange)],
    ["entries", ({ kept }) => fixed(kept, 1)], ["freed KiB", ({ freedBytes }) => fixed(freedBytes === null ? null : freedBytes / 1024, 1)],
    ["peak MiB", ({ peakBytes }) => fixed(peakBytes === null ? null : peakBytes / MIB, 2)],
  ];
  const cells = columns.map(([head, of]) => [head, ...rows.map(of)]);
  const widths = cells.map((column) => Math.max(...column.map((text) => text.length)) * 6.6 + 18);
  const starts = widths.map((_, i) => widths.slice(0, i).reduce((sum, width) => sum + width, 0)),
    width = widths.reduce((sum, each) => sum + each, 0);
  const values = cells.flatMap((column, i) => column.map((text, row) => (
    { text, row, x: i === 0 ? starts[i]! + 8 : starts[i]! + widths[i]! - 8, isFirst: i === 0, isHead: row === 0 }
  )));
  const place = { x: { field: "x", type: "quantitative", axis: null, scale: { domain: [0, width], nice: false } },
    y: { field: "row", type: "ordinal", axis: null } };
  return {
    ...frame(pictures, Math.max(60, width / 8.8)), width, height: 26 * (rows.length + 1),
    layer: [
      { data: { values: rows.flatMap((_, i) => (i % 2 === 0 ? [{ row: i + 1, left: 0, right: width }] : [])) },
        mark: { type: "bar", color: "#f3f6f9", height: { band: 1 } }, encoding: { y: place.y, x: { ...place.x, field: "left" },
        x2: { field: "right" } } },
      ...([[true, true], [true, false], [false, true], [false, false]] as const).map(([isFirst, isHead]) => ({
        data: { values: values.filter((value) => value.isFirst === isFirst && value.isHead === isHead) },
        mark: { type: "text", align: isFirst ? "left" : "right", fontSize: 11, fontWeight: isHead ? 600 : 400, color: COLOURS.ink },
        encoding: { ...place, text: { field: "text" } },
      })),
    ],
    view: { stroke: null },
  };
}
