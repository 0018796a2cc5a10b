/**
 * HTML from templates in which whatever is put in is text, unless it came out of such a template itself: a prompt or the name of an arm can
 * hold any mark-up and nothing of it runs.
 */

export interface Html { readonly html: string }
export type Part = Html | string | number | null | readonly Part[];

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);

/** As it stands: only for what this page has made itself, such as a style sheet or a drawn SVG. */
export const raw = (markup: string): Html => ({ html: markup });

export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return raw(strings.reduce((all, string, i) => `${all}${show(parts[i - 1] ?? null)}${string}`));
}

function show(part: Part): string {
  if (part === null) return "";
  if (typeof part === "string" || typeof part === "number") return escaped(String(part));
  return "html" in part ? part.html : part.map(show).join("");
}

/** Text in which a report marks **stress** and `code`. */
export function marked(text: string): Html {
  return raw(escaped(text).replaceAll(/\*\*(.+?)\*\*/g, "<strong>$1</strong>").replaceAll(/`(.+?)`/g, "<code>$1</code>"));
}

/**
 * JSON that may stand inside a script element: no end tag, no comment and no line separator in it can be seen by the parser of the page.
 */
export function embedded(value: unknown): Html {
  const hidden = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return raw(JSON.stringify(value).replaceAll(/[<>&\u2028\u2029]/g, hidden));
}

/** Scrolls by itself where it is wider than the page, and can be reached by keyboard for that. */
export function scrolling(label: string, content: Html, kind = ""): Html {
  return html`<div class="scroll ${kind}" tabindex="0" role="region" aria-label="${label}">${content}</div>`;
}

/** A table; rows whose first cell spans all of it are heads of groups. */
export function table(label: string, columns: readonly Part[], rows: readonly (readonly Part[])[]): Html {
  const cells = (row: readonly Part[]): Html => row.length === 1 && columns.length > 1
    ? html`<tr class="group"><th scope="rowgroup" colspan="${columns.length}">${row[0]!}</th></tr>`
    : html`<tr><th scope="row">${row[0]!}</th>${row.slice(1).map((cell) => html`<td>${cell}</td>`)}</tr>`;
  return scrolling(label, html`<table><thead><tr>${columns.map((column) =>
    html`<th scope="col">${column}</th>`)}</tr></thead><tbody>${rows.map(cells)}</tbody></table>`);
}

export function details(summary: Part, content: Part, { open = false, kind = "" }: { readonly open?: boolean;
  readonly kind?: string } = {}): Html {
  return html`<details class="${kind}"${open ? raw(" open") : null}><summary>${summary}</summary>${content}</details>`;
}
