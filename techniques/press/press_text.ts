/**
 * Presses on a command line: a name, and in brackets presses inside and parameters, `adakv(snapkv(window=32), alpha=0.1)`. Lists are in square
 * brackets. What names and values mean is the business of spec.ts.
 */

import { UsageError } from "../../engine/errors.ts";

/** Deeper than any press that makes sense; keeps a hostile text from exhausting the stack. */
const DEEPEST = 8;
/** A word, a number, a mark, or any character else, which no rule accepts. */
const TOKEN = /[A-Za-z_][\w-]*|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[()[\],=]|\S/g;

/** `text` as the data of a spec. Names, parameters and values are not checked. Throws UsageError with the place where it stops making sense. */
export function parseValue(text: string): Readonly<Record<string, unknown>> {
  const tokens = [...text.matchAll(TOKEN)].map(({ 0: token, index }) => ({ token, at: index }));
  let next = 0;
  const fail = (wanted: string): UsageError => {
    const found = tokens[next];
    const place = found === undefined ? "at its end" : `at character ${found.at + 1}, not ${JSON.stringify(found.token)}`;
    return new UsageError(`press ${JSON.stringify(text)}: ${wanted} was expected ${place}`);
  };
  const accept = (token: string): boolean => tokens[next]?.token === token && ++next > 0;
  const expect = (token: string): void => { if (!accept(token)) throw fail(JSON.stringify(token)); };
  const word = (): string => {
    const token = tokens[next]?.token;
    if (token === undefined || !/^[A-Za-z_]/.test(token)) throw fail("a name");
    next++;
    return token;
  };

  function press(depth: number): Record<string, unknown> {
    if (depth > DEEPEST) throw new UsageError(`press ${JSON.stringify(text.slice(0, 40))}…: presses inside each other more than ${DEEPEST} deep`);
    const name = word();
    if (!accept("(")) return { name };
    const [inside, fields]: [unknown[], Record<string, unknown>] = [[], {}];
    if (!accept(")")) {
      do {
        if (tokens[next + 1]?.token === "=") {
          const field = word();
          expect("=");
          if (Object.hasOwn(fields, field)) throw new UsageError(`press ${JSON.stringify(text)}: ${field} is given twice`);
          fields[field] = value();
        } else inside.push(press(depth + 1));
      } while (accept(","));
      expect(")");
    }
    if (inside.length === 0) return { name, ...fields };
    return { name, ...(inside.length === 1 ? { press: inside[0] } : { presses: inside }), ...fields };
  }

  function value(): unknown {
    if (!accept("[")) return scalar();
    const list: unknown[] = [];
    if (accept("]")) return list;
    do list.push(scalar()); while (accept(","));
    expect("]");
    return list;
  }

  function scalar(): unknown {
    const token = tokens[next]?.token;
    if (token === undefined) throw fail("a value");
    next++;
    if (token === "true" || token === "false") return token === "true";
    if (/^[-+.\d]/.test(token)) return Number(token);
    if (/^[A-Za-z_]/.test(token)) return token;
    next--;
    throw fail("a number, true, false or a word");
  }

  const parsed = press(1);
  if (next < tokens.length) throw fail("the end");
  return parsed;
}
