/**
 * Fewer cases than the full product of several axes, but every two values of any two axes meet in one of them (a covering array of
 * strength two, built greedily). Nearly all faults show when two particular values meet; each case costs the compiling of a pipeline.
 */

export type Axes = Readonly<Record<string, readonly unknown[]>>;
export type Case<A extends Axes> = { [K in keyof A]: A[K][number] };

/** Cases that cover all pairs of values of `axes`. Deterministic; the axis with most values first gives fewest cases. */
export function pairs<A extends Axes>(axes: A): Case<A>[] {
  const names = Object.keys(axes);
  const key = (i: number, a: number, j: number, b: number): string => (i < j ? `${i}:${a} ${j}:${b}` : `${j}:${b} ${i}:${a}`);
  const missing = new Map<string, readonly [number, number, number, number]>();
  const each = (i: number): number[] => axes[names[i]!]!.map((_, a) => a);
  for (let i = 0; i < names.length; i++) {
    for (let j = i + 1; j < names.length; j++) for (const a of each(i)) for (const b of each(j)) missing.set(key(i, a, j, b), [i, a, j, b]);
  }
  const cases: Case<A>[] = [];
  while (missing.size > 0) {
    const [i, a, j, b] = missing.values().next().value!;
    const chosen = new Map([[i, a], [j, b]]);
    for (let axis = 0; axis < names.length; axis++) {
      if (chosen.has(axis)) continue;
      const gain = (value: number): number => [...chosen].filter(([other, picked]) => missing.has(key(axis, value, other, picked))).length;
      // Turn the order from case to case, so that values that gain nothing take turns as well.
      const turn = cases.length % axes[names[axis]!]!.length;
      const values = [...each(axis).slice(turn), ...each(axis).slice(0, turn)];
      chosen.set(axis, values.reduce((best, value) => (gain(value) > gain(best) ? value : best)));
    }
    for (const [axis, value] of chosen) {
      for (const [other, picked] of chosen) if (axis < other) missing.delete(key(axis, value, other, picked));
    }
    cases.push(Object.fromEntries(names.map((name, axis) => [name, axes[name]![chosen.get(axis)!]])) as Case<A>);
  }
  return cases;
}
