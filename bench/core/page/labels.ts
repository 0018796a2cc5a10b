/**
 * Where the names of points stand in a scatter: near their points, on nothing else, with a thin line to the point where that is a little
 * way off.
 */

type Spot = readonly [x: number, y: number];

/** In pixels from the top left; `width` of the whole picture's inside. */
export interface Size { readonly width: number; readonly height: number }

export interface NamedPoint {
  readonly name: string;
  readonly at: Spot;
  /** Ends of its intervals. */
  readonly across: Spot;
  readonly along: Spot;
}

/** `at`: where the text begins or, aligned right, ends. `isFar`: a line to the point helps. Null where there is no room. */
export type Placed = { readonly at: Spot; readonly align: "left" | "right"; readonly isFar: boolean } | null;

type Box = readonly [left: number, top: number, right: number, bottom: number];

const LETTER = 7, HALF = 7, GAP = 9, STEP = 13, STEPS = 9;

/** Names of `points` in their order; none over a point, an interval, a line of `lines` or another name. */
export function placeNames(points: readonly NamedPoint[], lines: readonly (readonly Spot[])[], { width, height }: Size): Placed[] {
  const taken: Box[] = [
    ...points.flatMap(({ at: [x, y], across, along }): Box[] =>
      [[x - 6, y - 6, x + 6, y + 6], [across[0], y - 1, across[1], y + 1], [x - 1, along[0], x + 1, along[1]]]),
    ...lines.flatMap((line) => line.slice(1).flatMap((to, i) => between(line[i]!, to))),
  ];
  const choices = Array.from({ length: STEPS },
    (_, k) => k).flatMap((k) => [-1, 1].slice(k === 0 ? 1 : 0).flatMap((sign) => [GAP, -GAP, GAP + 26,
    -GAP - 26].map((dx) => [dx, sign * k * STEP] as const)))
    .sort((a, b) => Math.hypot(...a) - Math.hypot(...b));
  return points.map(({ name, at: [x, y] }): Placed => {
    const wide = name.length * LETTER;
    const boxOf = (dx: number, dy: number): Box => (dx > 0 ? [x + dx, y + dy - HALF, x + dx + wide, y + dy + HALF]
      : [x + dx - wide, y + dy - HALF, x + dx, y + dy + HALF]);
    const free = choices.find(([dx, dy]) => {
      const box = boxOf(dx, dy);
      return box[0] >= 0 && box[2] <= width && box[1] >= 0 && box[3] <= height
        && taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
    });
    if (free === undefined) return null;
    const [dx, dy] = free;
    taken.push(boxOf(dx, dy));
    return { at: [x + dx, y + dy], align: dx > 0 ? "left" : "right", isFar: Math.hypot(dx, dy) > 1.8 * GAP };
  });
}

/** Small boxes along a line. */
function between([x0, y0]: Spot, [x1, y1]: Spot): Box[] {
  const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 6));
  return Array.from({ length: steps }, (_, k): Box => {
    const x = x0 + (x1 - x0) * k / steps, y = y0 + (y1 - y0) * k / steps;
    return [x - 1, y - 1, x + 1, y + 1];
  });
}
