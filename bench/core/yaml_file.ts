/**
 * A YAML file as a mapping whose keys know where they stand. Everything the library only warns about (unknown tags) or accepts by
 * default (bad UTF-8) is an error here; aliases cannot blow up, and nothing is coerced.
 */

import { readFileSync, statSync } from "node:fs";
import { isMap, isScalar, LineCounter, parseDocument, visit, type Document } from "yaml";
import { UsageError } from "../../engine/errors.ts";

const MAX_BYTES = 1 << 20;
const MAX_ALIASES = 100;
/** One mistake can upset a parser many times; more than this helps nobody. */
const MAX_PROBLEMS = 10;

/** Counted from 1. */
export interface Position { readonly line: number; readonly col: number }

export interface YamlFile {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
  /** Where a top-level key, or its value, begins; null when the file has no such key of its own (it came by a merge, say). */
  position(key: string, of: "key" | "value"): Position | null;
  /** A scalar value as it stands in the file: a number too large to hold exactly is shown as it was written. */
  written(key: string): string | null;
}

/** Read and parse. Throws UsageError with every problem of the file, one on a line, each with line and column. */
export function readYamlFile(path: string): YamlFile {
  const lines = new LineCounter();
  const text = readText(path);
  const document = parse(text, path, lines);
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  const problems = [...document.errors, ...document.warnings];
  if (problems.some(({ message }) => /call stack|stack overflow/i.test(message))) throw tooDeep(path);
  if (problems.length > 0) {
    const shown = problems.slice(0, MAX_PROBLEMS).map(({ message, pos }) => `${place(pos[0])}  ${message}${snippet(text, pos[0])}`);
    throw new UsageError([...shown, ...(problems.length > MAX_PROBLEMS ? [`… and ${problems.length - MAX_PROBLEMS} more`] : [])].join("\n"));
  }
  if (!isMap(document.contents)) {
    throw new UsageError(`${path}:1:1  expected a mapping of keys and values, found ${document.contents === null ? "nothing" : isScalar(document.contents) ? "a single value" : "a list"}`);
  }
  const { items } = document.contents;
  const pairOf = (key: string) => items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key);
  return {
    path,
    values: toValues(document, path, place),
    position: (key, of) => {
      const node = pairOf(key)?.[of] as { range?: [number, number, number] | null } | null | undefined;
      return node?.range == null ? null : lines.linePos(node.range[0]);
    },
    written: (key) => {
      const value = pairOf(key)?.value;
      return isScalar(value) && typeof value.source === "string" ? value.source : null;
    },
  };
}

function readText(path: string): string {
  let bytes: Buffer;
  try {
    const info = statSync(path);
    if (!info.isFile()) throw new UsageError(`${path}: is not a file`);
    if (info.size > MAX_BYTES) throw new UsageError(`${path}: is ${info.size} bytes; a config is at most ${MAX_BYTES}`);
    bytes = readFileSync(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError(`${path}: ${code === "ENOENT" ? "no such file" : code === "EACCES" ? "may not be read" : String(code)}`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError(`${path}: is not UTF-8 text`);
  }
}

function parse(text: string, path: string, lineCounter: LineCounter): Document {
  try {
    return parseDocument(text, { uniqueKeys: true, merge: true, strict: true, lineCounter, prettyErrors: false });
  } catch (error) {
    throw error instanceof RangeError ? tooDeep(path) : new UsageError(`${path}: cannot be parsed: ${String(error)}`);
  }
}

function tooDeep(path: string): UsageError {
  return new UsageError(`${path}: is nested too deeply for a config, which is one flat mapping`);
}

/** The line a problem is on, cut to what fits a terminal; nothing when it is blank. */
function snippet(text: string, offset: number): string {
  const start = text.lastIndexOf("\n", offset - 1) + 1;
  const line = text.slice(start).split(/\r?\n/, 1)[0]!.trim();
  return line === "" ? "" : `: ${line.length > 60 ? `${line.slice(0, 60)}…` : line}`;
}

/** Aliases are followed here, and only here do they fail. */
function toValues(document: Document, path: string, place: (offset: number) => string): Record<string, unknown> {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) as Record<string, unknown>;
  } catch (error) {
    let at = path;
    visit(document, {
      Alias: (_, alias) => {
        if (alias.range == null || alias.resolve(document) !== undefined) return undefined;
        at = place(alias.range[0]);
        return visit.BREAK;
      },
    });
    throw new UsageError(`${at}  ${(error as Error).message}`);
  }
}
