/**
 * Flags with values: each is read by a rule that says what it takes, and whatever is wrong with a command line is told all at once, a
 * line each. The load generator and the profile share it.
 */

import { InvalidArgumentError } from "commander";
import { UsageError } from "../../../engine/errors.ts";

/** What a flag takes: `read` gives undefined for a text that it does not take, which `words` then says in "expected …". */
export interface Rule<T> { readonly words: string; readonly read: (text: string) => T | undefined }

/** A decimal number as written: no hexadecimal, no `Infinity`, nothing that only begins like a number. */
function decimal(text: string): number | undefined {
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) && Number.isFinite(Number(text)) ? Number(text) : undefined;
}

export function whole(min: number, max = Number.MAX_SAFE_INTEGER): Rule<number> {
  return {
    words: `a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? "" : ` to ${max}`}`,
    read: (text) => {
      const value = decimal(text);
      return value !== undefined && Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined;
    },
  };
}

/** From `min` to `max`; with `open`, more than `min`; with `openMax`, less than `max`. */
export function real(min: number, { max = Number.MAX_VALUE, open = false, openMax = false } = {}): Rule<number> {
  const end = max === Number.MAX_VALUE ? "" : `${open ? ", " : " "}${openMax ? "below" : "to"} ${max}`;
  return {
    words: `a number ${open ? "above" : "from"} ${min}${end}`,
    read: (text) => {
      const value = decimal(text);
      if (value === undefined || (open ? value <= min : value < min) || (openMax ? value >= max : value > max)) return undefined;
      return value;
    },
  };
}

export function choice<const T extends string>(...names: readonly T[]): Rule<T> {
  return { words: `one of ${names.join(", ")}`, read: (text) => names.find((name) => name === text) };
}

export const anyText: Rule<string> = { words: "a text", read: (text) => (text.trim() === "" ? undefined : text) };

/** Several, separated by commas, each once. */
export function list<T>(rule: Rule<T>, several: string): Rule<readonly T[]> {
  return {
    words: several,
    read: (text) => {
      const values = text.split(",").map((item) => rule.read(item.trim()));
      return values.includes(undefined) || new Set(values).size < values.length ? undefined : (values as T[]);
    },
  };
}

const UNITS: Readonly<Record<string, number>> = { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30 };

export const memory: Rule<number> = {
  words: "bytes, or a number with KB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024)",
  read: (text) => {
    const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text) ?? [];
    const bytes = Math.floor(Number(number) * (UNITS[unit.toLowerCase()] ?? NaN));
    return Number.isSafeInteger(bytes) && bytes >= 1 ? bytes : undefined;
  },
};

/** For commander: the text itself, once. */
export const once = (text: string, earlier: string | undefined): string => {
  if (earlier !== undefined) throw new InvalidArgumentError("It was given twice.");
  return text;
};

/** `numPrompts` as the command line spells it. */
export function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/**
 * The values of the flags that were given, read by their rules; absent ones stay absent. What cannot be read goes to `problems`, and what
 * has no rule is not looked at.
 */
export function readFlags<R extends Readonly<Record<string, Rule<unknown>>>>(
  rules: R, flags: Readonly<Record<string, unknown>>, problems: string[],
): { [K in keyof R]?: R[K] extends Rule<infer T> ? T : never } {
  const values: Record<string, unknown> = {};
  for (const [name, { words, read }] of Object.entries(rules)) {
    const given = flags[name];
    if (given === undefined) continue;
    const text = Array.isArray(given) ? given.join(" ") : String(given);
    const value = read(text);
    if (value === undefined) problems.push(`${flagOf(name)}: expected ${words}, got "${text}"`);
    else values[name] = value;
  }
  return values as { [K in keyof R]?: R[K] extends Rule<infer T> ? T : never };
}

/** Throws UsageError with a line for each problem. */
export function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw new UsageError(problems.join("\n"));
}
