/**
 * The page that a run leaves: one file that opens from disk and asks no network for anything. What may be concluded comes first, every
 * sentence with what backs it; then pictures, tables, where and how it was measured, and the whole result, to be taken away as JSON. It is
 * read on a phone, on a wide screen, on paper, by day and by night, and without JavaScript but for the download.
 */

import { readFileSync } from "node:fs";
import { LANGUAGES } from "../lang/words.ts";
import type { Words } from "../lang/en.ts";
import type { Result } from "../result.ts";
import { headlineOf, labelOf, verdictOf, type ArmSentences, type Sentence } from "../sentences.ts";
import { configTable, environmentTable, promptsList } from "./about.ts";
import { details, embedded, html, raw, scrolling, type Html, type Part } from "./html.ts";
import { coldStartTable, didTable, glanceTable, metricTables, notesList, orderTable, qualityTable, samplesTable } from "./tables.ts";

/** A picture as a page shows it, or why it could not be drawn. SVGs for light and for dark ground. */
export interface Drawn {
  readonly id: string;
  readonly title: string;
  readonly caption: string;
  readonly alt: string;
  readonly svgs: { readonly light: string; readonly dark: string } | null;
  readonly note: string | null;
}

const asset = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8");
/** Nothing may be loaded, whatever a text on the page says. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
/** Up to so many arms, what may be said of each stands open. */
const OPEN_ARMS = 8;

type Section = readonly [id: keyof Words["page"]["sections"], content: Html | null];

export function pageOf(result: Result, words: Words, { pictures }: { readonly pictures: readonly Drawn[] }): string {
  const { page: say } = words;
  const sections: readonly Section[] = [
    ["sentences", armCards(result, words)],
    ["pictures", pictures.length === 0 ? null : html`${pictures.map((picture) => figure(picture, words))}`],
    ["quality", qualityTable(result, words)],
    ["metrics", metricTables(result, words)],
    ["did", didTable(result, words)],
    ["coldStart", coldStartTable(result, words)],
    ["order", orderTable(result, words)],
    ["environment", environmentTable(result, words)],
    ["config", configTable(result, words)],
    ["prompts", promptsList(result, words)],
    ["raw", rawData(result, words)],
  ];
  const shown = sections.filter(([, content]) => content !== null);
  const links = (["verdict", ...shown.map(([id]) => id)] as const).map((id) => html`<li><a href="#${id}">${say.sections[id]}</a></li>`);
  const title = `${result.config.experiment_name} · ${result.experiment}`;
  return `<!doctype html>\n${html`<html lang="${languageOf(words)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dawnlm ${result.machine.dawnlm}">
<title>${title}</title>
<style>${raw(asset("page.css"))}</style>
</head>
<body>
<a class="skip" href="#verdict">${say.skip}</a>
<div class="sheet">
<nav aria-label="${say.contents}"><ol>${links}</ol></nav>
<main>
<header>
<p class="kicker">${result.experiment} · ${result.config.batch_level}</p>
<h1>${result.config.experiment_name}</h1>
</header>
<section id="verdict" aria-labelledby="h-verdict">
<h2 id="h-verdict" class="only-read">${say.sections.verdict}</h2>
${verdict(result, words)}
</section>
${shown.map(([id, content]) =>
  html`<section id="${id}" aria-labelledby="h-${id}"><h2 id="h-${id}">${say.sections[id]}</h2>${content}</section>\n`)}
<footer><p>${say.by(result.machine.dawnlm)} · ${result.started}</p></footer>
</main>
</div>
<script type="application/json" id="result">${embedded(result)}</script>
<script>${raw(asset("page.js"))}</script>
</body>
</html>`.html}\n`;
}

function rawData(result: Result, words: Words): Html {
  const button = html`<button type="button" id="download" data-name="${fileName(result)}">${words.page.download}</button>`;
  return html`<p class="note">${words.page.rawNote}</p><p>${button}</p>${samplesTable(result, words)}`;
}

function languageOf(words: Words): string {
  return { en: "en", zh: "zh-Hans" }[LANGUAGES.zh === words ? "zh" : "en"];
}

const fileName = ({ experiment, config, started }: Result): string =>
  `${experiment}-${config.experiment_name}-${started.slice(0, 19).replaceAll(":", "")}.json`;

/** Status, headline, what was measured where, and all arms at a glance. */
function verdict(result: Result, words: Words): Html {
  const { page: say } = words, verdicts = verdictOf(result, words), failed = verdicts.filter(({ invalid }) => invalid !== null).length;
  const state = result.status === "complete" && failed > 0 ? "invalid" : result.status, [first, ...rest] = headlineOf(result, words);
  const { adapter } = result.environment,
    iterations = Math.max(0, ...result.arms.flatMap(({ metrics }) => Object.values(metrics).map(({ samples }) => samples.length)));
  const counts: Part = result.status === "interrupted" ? null : html`<span>${say.counts(verdicts.length - failed, failed)}</span>`;
  const where = words.summary(result.model.id, adapter.description || adapter.device, adapter.software, result.prompts.texts.length, iterations);
  return html`<div class="headline ${state}">
<p class="status"><span class="badge ${state}">${words.statuses[result.status]}</span> ${counts}</p>
${first === undefined ? null : sentence(first, words, "lead")}${rest.map((one) => sentence(one, words))}
<p class="where">${where}</p>
${notesList(result)}
</div>
${glanceTable(result, words)}`;
}

function sentence({ text, backing }: Sentence, { page: say }: Words, kind = ""): Html {
  const whole = (words: string): string => words.replaceAll(/ (?=[%±])|(?<=±) /g, "\u00a0"); // no line begins with a sign
  return details(whole(text), html`<p class="backing"><b>${say.backing}</b> ${whole(backing)}</p>`, { kind: `sentence ${kind}` });
}

function armCards(result: Result, words: Words): Html {
  const verdicts = verdictOf(result, words), groups = [...new Set(verdicts.map(({ group }) => group))];
  const cardOf = ({ arm, group, sentences, invalid }: ArmSentences): Html => {
    const badge: Part = invalid === null ? null : html` <span class="badge invalid">${words.invalid}</span>`;
    return details(html`<span class="name">${labelOf({ name: arm, group })}</span>${badge}`, html`${sentences.map((one) => sentence(one, words))}`,
      { open: verdicts.length <= OPEN_ARMS || invalid !== null, kind: "card" });
  };
  return html`${groups.map((group) => {
    const head: Part = groups.length === 1 ? null : html`<h3>${group}</h3>`;
    return html`${head}<div class="cards">${verdicts.filter((one) => one.group === group).map(cardOf)}</div>`;
  })}`;
}

function figure({ id, title, caption, alt, svgs, note }: Drawn, { page: say }: Words): Html {
  const name = `picture-${id.replaceAll(/[^\p{L}\p{N}_-]/gu, "-")}`;
  const content = svgs === null ? html`<p class="missing">${say.noPicture(note ?? say.unknown)}</p>`
    : scrolling(title, html`${inline(svgs.light, `${name}-l`, alt, "light")}${inline(svgs.dark, `${name}-d`, alt, "dark")}`, "picture");
  return html`<figure id="${name}"><h3>${title}</h3>${content}<figcaption>${caption}</figcaption></figure>`;
}

/** An SVG as a part of the page: as wide as there is room, with names of its own, so that those of another picture are not meant. */
function inline(svg: string, prefix: string, alt: string, theme: "light" | "dark"): Html {
  const [open = "", width = "0"] = /<svg\b[^>]*? width="([\d.]+)"[^>]*>/.exec(svg) ?? [], box = /viewBox="[^"]*"/.exec(open)?.[0] ?? "";
  const body = svg.slice(svg.indexOf(open) + open.length)
    .replaceAll(/\bid="([^"]+)"/g, `id="${prefix}-$1"`).replaceAll(/url\(#([^)]+)\)/g, `url(#${prefix}-$1)`).replaceAll(/(href=")#/g, `$1#${prefix}-`);
  const size = html`${raw(box)} style="--natural: ${width}px"`;
  return html`<svg xmlns="http://www.w3.org/2000/svg" class="drawn ${theme}" ${size} role="img" aria-label="${alt}">${raw(body)}`;
}
