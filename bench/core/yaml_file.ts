/**
 * A YAML file as a mapping whose keys know where they stand. Everything the library only warns about (unknown tags) or accepts by
 * default (bad UTF-8) is an error here; aliases cannot blow up, and nothing is coerced.
 */

import { readFileSync, statSync } from "node:fs";
import { isMap, isScalar, LineCounter, parseDocument, visit, type Document, type YAMLMap } from "yaml";
import { UsageError } from "../../engine/errors.ts";

const MAX_BYTES = 1 << 20;
const MAX_ALIASES = 100;
/** Some checks compare every key with every other; a config has about 25. */
const MAX_KEYS = 200;
const MAX_MESSAGE = 200;
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
  const problems: readonly Fault[] = [...document.errors, ...document.warnings, ...oldVersion(document, text)];
  if (problems.some(({ message }) => /call stack|stack overflow/i.test(message))) throw tooDeep(path);
  refuse(problems, text, place);
  if (!isMap(document.contents)) {
    throw new UsageError(`${path}:1:1  expected a mapping of keys and values, found ${document.contents === null ? "nothing" : isScalar(document.contents) ? "a single value" : "a list"}`);
  }
  const { items } = document.contents;
  if (items.length > MAX_KEYS) throw new UsageError(`${path}: has ${items.length} keys; a config has at most ${MAX_KEYS}`);
  refuse(keyFaults(document), text, place);
  const pairOf = (key: string) => items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key);
  return {
    path,
    values: toValues(document, place),
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

interface Fault { readonly message: string; readonly pos: readonly [number, ...number[]] }

/** Throws UsageError when there is any fault. */
function refuse(faults: readonly Fault[], text: string, place: (offset: number) => string): void {
  if (faults.length === 0) return;
  const line = ({ message, pos: [at] }: Fault): string => `${place(at)}  ${cut(message, MAX_MESSAGE)}${snippet(text, at)}`;
  const shown = faults.slice(0, MAX_PROBLEMS).map(line);
  throw new UsageError([...shown, ...(faults.length > MAX_PROBLEMS ? [`… and ${faults.length - MAX_PROBLEMS} more`] : [])].join("\n"));
}

/** YAML 1.1 reads `no` as false, `012` as 10 and `1:30` as 90. */
function oldVersion(document: Document, text: string): Fault[] {
  const { explicit, version } = document.directives?.yaml ?? {};
  if (explicit !== true || version === "1.2") return [];
  return [{ message: `YAML ${version} is not read, only 1.2; take this line out`, pos: [text.search(/^%YAML/m)] }];
}

/** Keys that stand twice, and keys that are no words. The library would compare every key with every other: minutes for a large file. */
function keyFaults(document: Document): Fault[] {
  const faults: Fault[] = [];
  visit(document, {
    Map: (_, { items, range }: YAMLMap) => {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        const pos: Fault["pos"] = [(key as { range?: [number, number, number] | null } | null)?.range?.[0] ?? range?.[0] ?? 0];
        const isWord = isScalar(key) && key.value !== null && !/[\0-\x1f\x7f]/.test(String(key.value));
        if (!isWord) faults.push({ message: "A key must be a plain word", pos });
        else if (seen.has(key.value)) faults.push({ message: "Map keys must be unique", pos });
        else seen.add(key.value);
      }
    },
  });
  return faults;
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
    return parseDocument(text, { uniqueKeys: false, merge: true, strict: true, lineCounter, prettyErrors: false });
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
  return line === "" ? "" : `: ${cut(line, 60)}`;
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** Aliases and merges are followed here, and only here do they fail: at an alias without an anchor, else at the first that there is. */
function toValues(document: Document, place: (offset: number) => string): Record<string, unknown> {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) as Record<string, unknown>;
  } catch (error) {
    let first: number | undefined, unresolved: number | undefined;
    visit(document, {
      Alias: (_, alias) => {
        first ??= alias.range?.[0];
        if (alias.resolve(document) === undefined) unresolved ??= alias.range?.[0];
      },
      Pair: (_, { key }) => {
        if (isScalar(key) && typeof key.value === "symbol") first ??= key.range?.[0];
      },
    });
    throw new UsageError(`${place(unresolved ?? first ?? 0)}  ${(error as Error).message}`);
  }
}
