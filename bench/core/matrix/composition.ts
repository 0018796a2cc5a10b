/**
 * The matrix as plain data that is small enough to lie beside the document: of every pair of values one short code, reasons and problems by
 * number, and the figures that the document quotes. docs/composition.md is drawn from docs/composition.json and from nothing else.
 */

import type { AdapterDescription } from "../../../engine/gpu.ts";
import type { Machine } from "../environment.ts";
import { AXES, DEFAULTS, pressText, SIZES, VALUES, type Axis, type Cell } from "./axes.ts";
import { cellAt, cellsOf, keyOf, pairsOf, type Pair } from "./cells.ts";
import { isTie, judge, qualityOf, type Verdict } from "./judge.ts";
import type { Outcomes } from "./trial.ts";

export const SCHEMA_VERSION = 1;

export interface Composition {
  readonly schemaVersion: typeof SCHEMA_VERSION;
  readonly dawnlm: string;
  readonly packages: Readonly<Record<string, string>>;
  readonly sizes: unknown;
  readonly defaults: Cell;
  /** The values of the axes that were tried. */
  readonly axes: Readonly<Partial<Record<Axis, readonly string[]>>>;
  /** Each press with its parameters. */
  readonly presses: Readonly<Record<string, string>>;
  readonly models: readonly ModelComposition[];
}

export interface ModelComposition {
  readonly model: string;
  readonly adapter: string;
  readonly seconds: number;
  /** Cells, each once; a cell of defaults is in many tables. */
  readonly counts: { readonly ok: number; readonly refused: number; readonly bug: number };
  /** Texts held against another, token by token, and those that parted at a tie, with the widest of them. */
  readonly compared: number;
  readonly ties: readonly { readonly cell: string; readonly gap: number }[];
  /** Nats per token of a format by itself against f32, as a share more; and the most of any cell. */
  readonly quality: Readonly<Record<string, number>>;
  readonly worst: { readonly cell: string; readonly share: number } | null;
  /** What the codes of the tables stand for: r1 is the first reason, n1 the first note, b1 the first bug. */
  readonly reasons: readonly string[];
  readonly notes: readonly string[];
  readonly bugs: readonly string[];
  /** By `rows × columns`: a line for each row, codes in the order of the columns: ok, n…, r…, b…. */
  readonly pairs: Readonly<Record<string, readonly string[]>>;
}

export interface TriedModel {
  readonly model: string;
  readonly adapter: AdapterDescription | null;
  readonly seconds: number;
  readonly outcomes: Outcomes;
}

export function pairName([rows, columns]: Pair): string {
  return `${rows} × ${columns}`;
}

export function compositionOf(
  models: readonly TriedModel[], axes: readonly Axis[], { dawnlm, packages }: Pick<Machine, "dawnlm" | "packages">,
): Composition {
  const ordered = AXES.filter((axis) => axes.includes(axis));
  return {
    schemaVersion: SCHEMA_VERSION, dawnlm, packages, sizes: SIZES, defaults: DEFAULTS,
    axes: Object.fromEntries(ordered.map((axis) => [axis, VALUES[axis]])),
    presses: ordered.includes("press") ? Object.fromEntries(VALUES.press.filter((name) => name !== "none").map((name) => [name, pressText(name)])) : {},
    models: models.map((tried) => modelOf(tried, ordered)),
  };
}

function modelOf({ model, adapter, seconds, outcomes }: TriedModel, axes: readonly Axis[]): ModelComposition {
  const cells = cellsOf(axes), verdicts = new Map(cells.map((cell) => [keyOf(cell), judge(cell, outcomes)]));
  const reasons: string[] = [], notes: string[] = [], bugs: string[] = [];
  const numbered = (letter: string, list: string[], text: string): string => {
    if (!list.includes(text)) list.push(text);
    return `${letter}${list.indexOf(text) + 1}`;
  };
  const codeOf = (cell: Cell): string => {
    const verdict = verdicts.get(keyOf(cell))!;
    switch (verdict.status) {
      case "ok": return verdict.note === null ? "ok" : numbered("n", notes, verdict.note);
      case "refused": return numbered("r", reasons, `${verdict.type} at ${verdict.at}: ${verdict.reason}`);
      case "BUG": return numbered("b", bugs, `${keyOf(cell)}: ${verdict.problems.join("; ")}`);
    }
  };
  const pairs = Object.fromEntries(pairsOf(axes).map((pair) => [pairName(pair), VALUES[pair[0]].map((row) => (
    VALUES[pair[1]].map((column) => codeOf(cellAt({ [pair[0]]: row, [pair[1]]: column }))).join(" ")
  ))]));
  const count = (status: Verdict["status"]): number => [...verdicts.values()].filter((verdict) => verdict.status === status).length;
  const ran = cells.flatMap((cell) => {
    const outcome = outcomes.get(keyOf(cell));
    return outcome?.state === "ran" ? [{ cell, outcome }] : [];
  });
  const ties = ran.flatMap(({ cell, outcome: { partings } }) => (
    partings.filter((parting) => isTie(cell, parting)).map(({ gap }) => ({ cell: keyOf(cell), gap: gap! }))
  ));
  const shares = ran.flatMap(({ cell }) => {
    const share = qualityOf(cell, outcomes);
    return share === null ? [] : [{ cell: keyOf(cell), share }];
  });
  const alone = (["weights", "kv"] as const).flatMap((axis) => (axes.includes(axis) ? VALUES[axis].flatMap((value) => {
    const share = qualityOf(cellAt({ [axis]: value }), outcomes);
    return share === null || value === "f32" ? [] : [[`${axis} ${value}`, share] as const];
  }) : []));
  return {
    model, seconds: Math.round(seconds),
    adapter: adapter === null ? "none" : `${adapter.description || adapter.device || adapter.vendor} (${adapter.backend})`,
    counts: { ok: count("ok"), refused: count("refused"), bug: count("BUG") },
    compared: ran.reduce((sum, { outcome }) => sum + outcome.compared, 0), ties, quality: Object.fromEntries(alone),
    worst: shares.reduce<{ cell: string; share: number } | null>((most, one) => (most === null || one.share > most.share ? one : most), null),
    reasons, notes, bugs, pairs,
  };
}

export function hasBug({ models }: Composition): boolean {
  return models.some(({ counts }) => counts.bug > 0);
}

/** One value a line where lists of codes stand, so that a change of one cell is a change of one line. */
export function compositionJson(composition: Composition): string {
  return `${JSON.stringify(composition, null, 1)}\n`;
}
