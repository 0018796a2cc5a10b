/**
 * Texts as documents. WikiText is one stream of lines in which an article begins with ` = Title = ` and its sections with ` = = Section = = `;
 * a line is an article's heading when it has one `=` on either side and blank lines (or an end of the text) around it, so that a formula
 * or a row of a table that looks alike does not cut an article in two. The heading is a part of its document. What stands before the first
 * heading, if it is more than blank lines, is a document without a title.
 */

export interface Document {
  /** Of WikiText the heading, of PG-19 the title of the book; null where there is none. */
  readonly title: string | null;
  readonly text: string;
}

const HEADING = /^ ?= (?!= )(\S|\S.*\S) = ?$/;

/** The title of a line that is a heading of the first level; null for any other line. */
export function headingOf(line: string): string | null {
  const title = HEADING.exec(line)?.[1] ?? null;
  return title === null || title.endsWith(" =") ? null : title;
}

/** Documents of WikiText. Joined they are the text, but for blank lines before the first. */
export function splitWikitext(text: string): Document[] {
  const lines = text.split(/(?<=\n)/), documents: { title: string | null; lines: string[] }[] = [];
  const isBlank = (line: string | undefined): boolean => line === undefined || line.trim() === "";
  lines.forEach((line, i) => {
    const title = isBlank(lines[i - 1]) && isBlank(lines[i + 1]) ? headingOf(line.replace(/\r?\n$/, "")) : null;
    if (title !== null) documents.push({ title, lines: [line] });
    else if (documents.length > 0) documents.at(-1)!.lines.push(line);
    else if (!isBlank(line)) documents.push({ title: null, lines: [line] });
  });
  return documents.map(({ title, lines: own }) => ({ title, text: own.join("") }));
}

/** Lines of WikiText as the hub's parquet files have them, one a row, as one text: a row without a line end gets one. */
export function joinLines(rows: readonly string[]): string {
  return rows.map((row) => (row.endsWith("\n") ? row : `${row}\n`)).join("");
}

/** A local text: documents where it begins with a heading of WikiText, else one. */
export function splitLocal(text: string): Document[] {
  const first = text.split("\n").find((line) => line.trim() !== "") ?? "";
  return headingOf(first.replace(/\r$/, "")) === null ? [{ title: null, text }] : splitWikitext(text);
}
