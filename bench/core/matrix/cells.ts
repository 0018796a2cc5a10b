/**
 * Which cells there are, in which order they run, and which other cell each is held against. A cell differs from the defaults in at most two
 * axes. What is loaded together is one group: presses are per request, so all presses of one load share it.
 */

import { AXES, DEFAULTS, VALUES, type Axis, type Cell } from "./axes.ts";

export interface Group {
  readonly load: Omit<Cell, "press">;
  /** `none` first, where it is among them. */
  readonly cells: readonly Cell[];
}

/** Two axes of the table, in the order of AXES: rows and columns. */
export type Pair = readonly [rows: Axis, columns: Axis];

export function pairsOf(axes: readonly Axis[]): Pair[] {
  const ordered = AXES.filter((axis) => axes.includes(axis));
  return ordered.flatMap((a, i) => ordered.slice(i + 1).map((b): Pair => (a === "press" ? [a, b] : b === "press" ? [b, a] : [a, b])));
}

export function keyOf(cell: Cell): string {
  return AXES.map((axis) => cell[axis]).join(" · ");
}

export function cellAt(changes: Partial<Cell>): Cell {
  return { ...DEFAULTS, ...changes };
}

/** Every pair of values of two of the axes, each cell once. */
export function cellsOf(axes: readonly Axis[]): Cell[] {
  const cells = new Map<string, Cell>();
  for (const [a, b] of pairsOf(axes)) {
    for (const x of VALUES[a]) {
      for (const y of VALUES[b]) {
        const cell = cellAt({ [a]: x, [b]: y });
        cells.set(keyOf(cell), cell);
      }
    }
  }
  return [...cells.values()];
}

/** Cells that other cells are held against come before them: no draft before drafts, paged and contiguous-max before the other layouts. */
const FIRST: readonly string[] = ["none", DEFAULTS.layout, "contiguous-max"];

export function groupsOf(cells: readonly Cell[]): Group[] {
  const place = (axis: Axis, value: string): number => {
    const at = FIRST.indexOf(value);
    return at >= 0 ? at - FIRST.length : VALUES[axis].indexOf(value);
  };
  const order = (a: Cell, b: Cell): number => {
    for (const axis of ["draft", "layout", "weights", "kv", "press"] as const) {
      const difference = place(axis, a[axis]) - place(axis, b[axis]);
      if (difference !== 0) return difference;
    }
    return 0;
  };
  const byLoad = Map.groupBy([...cells].sort(order), (cell) => keyOf({ ...cell, press: "" }));
  return [...byLoad.values()].map((group) => {
    const { press: _, ...load } = group[0]!;
    return { load, cells: group };
  });
}

/** Why two cells must write the same text. */
export type Identity = "draft" | "layout";

/**
 * The cells whose greedy texts this one must repeat: without its draft, and with its cache in contiguous-max (which itself is held against
 * paged) or, where that cannot be, in paged; of several the first that ran.
 */
export function sameTextAs(cell: Cell): { readonly why: Identity; readonly cells: readonly Cell[] }[] {
  const { draft, layout } = cell;
  const layouts = layout === DEFAULTS.layout ? [] : layout === "contiguous-max" ? [DEFAULTS.layout] : ["contiguous-max", DEFAULTS.layout];
  return [
    ...(draft === "none" ? [] : [{ why: "draft" as const, cells: [{ ...cell, draft: "none" }] }]),
    ...(layouts.length === 0 ? [] : [{ why: "layout" as const, cells: layouts.map((one) => ({ ...cell, layout: one })) }]),
  ];
}

/** The cell whose predictions are the measure of this one's: with f32 in the place of its formats, and of f32 what is the default; null: itself. */
export function qualityBase(cell: Cell): Cell | null {
  const instead = (axis: "weights" | "kv"): string => (cell[axis] === DEFAULTS[axis] || cell[axis] === "f32" ? DEFAULTS[axis] : "f32");
  const base = { ...cell, weights: instead("weights"), kv: instead("kv") };
  return keyOf(base) === keyOf(cell) ? null : base;
}
