/**
 * Checked reading of single values from a JSON configuration file. A wrong value is noted, not thrown, and replaced by one that keeps later
 * checks quiet, so that one reading of a file finds all its problems.
 */
import { readFile, stat } from "node:fs/promises";
import { ModelFileError } from "../engine/errors.ts";

export type Json = Readonly<Record<string, unknown>>;

/** Takes down one problem: `field: expected …, found …`. */
export type Note = (field: string, expected: string, found: unknown) => void;

/** Published files have a few KB; classifiers with label tables some hundred. */
const MAX_BYTES = 2 ** 20;

/** The value of a quantity that has several spellings; those present (not null) must agree. undefined when none is. */
export function oneOf(spellings: Json, note: Note): { field: string; value: unknown } | undefined {
  const [first, ...others] = Object.entries(spellings).filter(([, value]) => value != null);
  if (first === undefined) return undefined;
  const [field, value] = first;
  for (const [otherField, other] of others) if (other !== value) note(otherField, `${show(value)}, as ${field} says`, other);
  return { field, value };
}

/** NaN marks a value that has been noted as wrong: checks built on it stay silent, so no problem is reported twice. */
export function integer(field: string, value: unknown, min: number, max: number, note: Note, multipleOf = 1): number {
  if (typeof value === "number" && Number.isInteger(value) && !(value < min) && !(value > max) && value % multipleOf === 0) return value;
  const kind = multipleOf === 1 ? "an integer" : `a multiple of ${multipleOf} (kernels load ${multipleOf} weights at a time)`;
  note(field, `${kind} from ${min} to ${max}`, value);
  return NaN;
}

export function number(field: string, value: unknown, max: number, note: Note): number {
  if (typeof value === "number" && value > 0 && value <= max) return value;
  note(field, `a number above 0, at most ${max}`, value);
  return NaN;
}

export function flag(json: Json, field: string, note: Note): boolean {
  const value = json[field];
  if (typeof value !== "boolean") note(field, "true or false", value);
  return value === true;
}

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function show(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

/** The parsed file, or undefined when there is none. Throws ModelFileError for one that is too large, unreadable or not JSON. */
export async function readJson(file: string): Promise<unknown> {
  try {
    const { size } = await stat(file);
    if (size > MAX_BYTES) throw new ModelFileError(`${file}: expected at most ${MAX_BYTES} bytes of configuration, found ${size}`);
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    if (error instanceof ModelFileError) throw error;
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    const problem = error instanceof SyntaxError ? `expected JSON, found ${error.message.replaceAll(/\s+/g, " ")}`
      : `cannot be read: ${(error as Error).message}`;
    throw new ModelFileError(`${file}: ${problem}`, { cause: error });
  }
}
