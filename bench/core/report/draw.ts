/**
 * From a Vega-Lite specification with its data to a picture: SVG, PNG and, for a dark page, the same SVG with its greys turned over. Nothing
 * is fetched: a specification that names an address instead of its data is not drawn. Words are in a font that comes along, so that a PNG
 * looks the same on every machine; it has Latin letters only.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

export type Json = Readonly<Record<string, unknown>>;

export interface Chart { readonly png: Uint8Array; readonly svg: string; readonly spec: string }

export const FONT = "Inter";
/** Pixels per unit of the picture. */
const SCALE = 2;

/**
 * A picture of any Vega-Lite specification with its data, in the font that comes along. Throws when a package that draws is missing, or
 * when it cannot draw.
 */
export async function drawSpec(spec: Json): Promise<Chart> {
  const svg = await svgOf(spec), { Resvg } = await import("@resvg/resvg-js");
  const fonts = ["400Regular/Inter_400Regular.ttf", "600SemiBold/Inter_600SemiBold.ttf", "700Bold/Inter_700Bold.ttf"];
  const { resolve } = createRequire(import.meta.url);
  const font = { loadSystemFonts: false, fontFiles: fonts.map((file) => resolve(`@expo-google-fonts/inter/${file}`)),
    defaultFontFamily: FONT };
  for (const file of font.fontFiles) readFileSync(file); // a font that is not there would only leave the words out
  return { svg, png: new Resvg(svg, { font, fitTo: { mode: "zoom", value: SCALE } }).render().asPng(),
    spec: `${JSON.stringify(spec, null, 2)}\n` };
}

/** The SVG alone. Throws as drawSpec does. */
export async function svgOf(spec: Json): Promise<string> {
  const [{ View, parse, Warn, loader, logger }, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  const compiled = compile(spec as unknown as Parameters<typeof compile>[0], { logger: logger(Warn) }).spec, offline = loader();
  const named = compiled.data?.find((data) => "url" in data);
  if (named !== undefined) throw new Error(`a picture must bring its data along, but names ${JSON.stringify("url" in named ? named.url
    : null)}`);
  offline.load = (uri) => Promise.reject(new Error(`a picture loads nothing, but names ${uri}`));
  const view = new View(parse(compiled), { renderer: "none", logger: logger(Warn), loader: offline });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

const DARK = { ink: "#e6e6e3", soft: "#a9a9a4", grid: "#35352f", line: "#6b6b66" };
const DARK_CONFIG = {
  axis: { labelColor: DARK.ink, titleColor: DARK.ink, domainColor: DARK.line, tickColor: DARK.line, gridColor: DARK.grid },
  legend: { labelColor: DARK.ink, titleColor: DARK.ink }, header: { labelColor: DARK.ink, titleColor: DARK.ink },
  title: { color: DARK.ink, subtitleColor: DARK.soft },
  text: { color: DARK.ink }, rule: { color: DARK.ink }, tick: { color: DARK.ink },
};

/** Colours that are too dim on a dark ground, and what stands for them there. */
const BRIGHTER: Readonly<Record<string, string>> = { "#0072b2": "#3d9be0", "#00664b": "#3fc495" };

/**
 * The same picture for a dark page: no ground of its own, greys turned over (dark is light), other colours as they are. Data are left
 * alone.
 */
export function darkOf(spec: Json): Json {
  const turned = turn(spec) as Json, config = merged((turned["config"] ?? {}) as Json, DARK_CONFIG);
  return { ...turned, background: "transparent",
    config: { ...config, view: { stroke: DARK.line, ...(config["view"] as Json | undefined) } } };
}

function turn(value: unknown, key = ""): unknown {
  if (typeof value === "string") return key === "title" || key === "text" || key === "field" ? value : turnGrey(value);
  if (Array.isArray(value)) return value.map((one) => turn(one, key));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, child]) =>
    [name, name === "data" || name === "domain" ? child : turn(child, name)]));
}

/** Of colours without a hue ("#333", "#333333", "black", "white") the opposite; whatever else comes back as it is. */
function turnGrey(colour: string): string {
  const brighter = BRIGHTER[colour.toLowerCase()];
  if (brighter !== undefined) return brighter;
  const named: Readonly<Record<string, string>> = { black: "#000000", white: "#ffffff" };
  const long = (named[colour] ?? colour).replace(/^#([0-9a-f])([0-9a-f])([0-9a-f])$/i, "#$1$1$2$2$3$3");
  const match = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(long);
  if (match === null) return colour;
  const parts = match.slice(1).map((hex) => Number.parseInt(hex, 16));
  if (Math.max(...parts) - Math.min(...parts) > 12) return colour;
  const level = Math.round(24 + (255 - parts[0]!) / 255 * (238 - 24)).toString(16).padStart(2, "0");
  return `#${level.repeat(3)}`;
}

/** `over` goes before `under`, but only where it says something. */
function merged(under: Json, over: Json): Json {
  const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);
  return { ...under, ...Object.fromEntries(Object.entries(over).map(([key, value]) =>
    [key, isObject(value) && isObject(under[key]) ? merged(under[key], value) : value])) };
}
