/** How many tokens are drafted per round, as configs and command lines write it: a number, a list, or a range such as "3-10". */

import { MAX_DRAFTED } from "../../../kernels/accept.ts";

/** Ascending; null where it is none of these, names a K twice, or one that is not from 1 to MAX_DRAFTED. */
export function draftLengths(k: string | number | readonly number[]): readonly number[] | null {
  const lengths = typeof k === "string" ? k.split(",").flatMap(rangeOf) : typeof k === "number" ? [k] : [...k];
  const isGood = (one: number): boolean => Number.isInteger(one) && one >= 1 && one <= MAX_DRAFTED;
  return lengths.length > 0 && new Set(lengths).size === lengths.length && lengths.every(isGood) ? lengths.sort((a, b) => a - b) : null;
}

/** NaN for what is not a range. */
function rangeOf(text: string): number[] {
  const [, from, to] = /^\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?$/.exec(text) ?? [];
  if (from === undefined) return [NaN];
  const first = Number(from), count = Number(to ?? from) - first + 1;
  return count < 1 ? [NaN] : Array.from({ length: count }, (_, i) => first + i);
}
