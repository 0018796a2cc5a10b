/** Tables of a page about its arms: the verdict at a glance, every metric, quality, what each arm did, warm-up and raw samples. */

import type { MetricKey, Words } from "../lang/en.ts";
import { bytes, number } from "../metrics.ts";
import { baselineOf, type Result, type ResultArm } from "../result.ts";
import { backingOf, invalidOf, labelOf, signedError, signedPercent, withError } from "../sentences.ts";
import { details, html, marked, table, type Html, type Part } from "./html.ts";

const GLANCE = ["output_tokens_per_s", "ttft_ms", "tpot_ms"] as const satisfies readonly MetricKey[];

/** Signs beside colours; who listens to the page hears words instead. */
const MARKS = { better: html`<span aria-hidden="true">▲</span>`, worse: html`<span aria-hidden="true">▼</span>` };

/** Rows of all arms, with a head for every group where there are several. */
function byGroup(result: Result, rowsOf: (arm: ResultArm) => readonly (readonly Part[])[]): (readonly Part[])[] {
  const groups = [...new Set(result.arms.map(({ group }) => group))];
  return groups.flatMap((group) => {
    const rows = result.arms.filter((arm) => arm.group === group).flatMap(rowsOf);
    return groups.length === 1 || rows.length === 0 ? rows : [[group], ...rows];
  });
}

/** What a reader in a hurry wants to know of every arm. */
export function glanceTable(result: Result, words: Words): Html {
  const { page: say } = words;
  const keys = GLANCE.filter((key) => result.arms.some(({ metrics }) => metrics[key] !== undefined));
  const unitOf = (key: MetricKey): string => result.arms.map(({ metrics }) => metrics[key]?.unit).find((unit) => unit !== undefined) ?? "";
  const columns = [say.columns.arm, say.columns.state, say.columns.quality, ...keys.map((key) => `${words.metrics[key]}, ${unitOf(key)}`),
    say.columns.memory];
  const rows = byGroup(result, (arm) => {
    const invalid = invalidOf(result, arm, words);
    const role = arm.role === "technique" ? null : html` <span class="role">${say.roles[arm.role]}</span>`;
    const name = html`<span class="name">${labelOf(arm)}</span>${role}`;
    const state = invalid !== null ? html`<span class="badge invalid">${words.invalid}</span>`
      : result.status === "interrupted" ? html`<span class="badge interrupted">${words.statuses.interrupted}</span>`
        : html`<span class="badge valid">${say.valid}</span>`;
    if (invalid !== null) return [[name, state, html`<span class="why">${invalid}</span>`, ...keys.map(() => "—"), "—"]];
    return [[name, state, qualityCell(result, arm, words), ...keys.map((key) => glanceCell(result, arm, key, words)),
      memoryCell(result, arm, words)]];
  });
  return html`<div class="glance">${table(say.sections.verdict, columns, rows)}<p class="legend">${say.legend}</p></div>`;
}

function glanceCell(result: Result, arm: ResultArm, key: MetricKey, words: Words): Html {
  const metric = arm.metrics[key], { page: say } = words;
  if (metric?.summary == null) {
    return html`<span class="none" title="${metric?.missing === undefined ? words.none : words.missing[metric.missing]}">${words.none}</span>`;
  }
  const change = arm.role === "baseline" ? html`<span class="change">${say.reference}</span>` : changeOf(result, arm, key, words);
  return html`<span class="figure">${number(metric.summary.median)}</span>${change}`;
}

/** A difference; with a mark only where it may be claimed. */
function changeOf(result: Result, arm: ResultArm, key: MetricKey, words: Words): Html {
  const change = arm.differences[key], { marks } = words.page;
  if (change === undefined || result.status === "interrupted") return html`<span class="change none">${words.none}</span>`;
  const backing = backingOf(result, arm, key, words), size = signedPercent(change.median);
  if (!change.measurable || arm.role === "control") return html`<span class="change same" title="${backing}">${size}</span>`;
  const kind = change.median > 0 === (arm.metrics[key]?.better === "higher") ? "better" : "worse";
  return html`<span class="change ${kind}" title="${backing}">${MARKS[kind]} ${size}<span class="only-read"> ${marks[kind]}</span></span>`;
}

function qualityCell({ status }: Result, { proof, quality, role }: ResultArm, { page: say }: Words): Part {
  if (quality?.change != null) {
    const { percent, claimed } = quality.change, text = say.perplexityShort(signedError(quality.change)), kind = percent > 0 ? "worse" : "better";
    if (!claimed || status === "interrupted") return html`<span class="change same">${text}</span>`;
    return html`<span class="change ${kind}">${MARKS[kind]} ${text}<span class="only-read"> ${say.marks[kind]}</span></span>`;
  }
  if (role === "baseline") return html`<span class="change">${say.reference}</span>`;
  return proof?.kind === "lossless" && proof.holds === true ? html`<span class="change">${say.sameTextsShort}</span>`
    : html`<span class="none">${say.notMeasured}</span>`;
}

function memoryCell(result: Result, arm: ResultArm, words: Words): Part {
  const base = baselineOf(result, arm);
  if (arm.memory === null) return html`<span class="none">${words.none}</span>`;
  const share = base?.memory == null ? null : (arm.memory.total / base.memory.total - 1) * 100;
  const kind = share === null || Math.abs(share) < 0.05 || result.status === "interrupted" ? "same" : share < 0 ? "better" : "worse";
  const change = share === null ? words.page.reference : html`${kind === "same" ? null : MARKS[kind]} ${signedPercent(share)}`;
  return html`<span class="figure">${bytes(arm.memory.total)}</span><span class="change ${kind}">${change}</span>`;
}

/** Every metric of every arm, by metric. */
export function metricTables(result: Result, words: Words): Html {
  const { page: say } = words, all = new Set<MetricKey>([...GLANCE, ...(Object.keys(words.metrics) as MetricKey[])]);
  const keys = [...all].filter((key) => result.arms.some(({ metrics }) => metrics[key] !== undefined));
  const columns = [say.columns.arm, words.median, "p10", "p90", words.min, words.max, "n", words.unit, say.columns.change];
  const rowOf = (arm: ResultArm, key: MetricKey): readonly (readonly Part[])[] => {
    const metric = arm.metrics[key], isInvalid = invalidOf(result, arm, words) !== null;
    if (metric === undefined) return [];
    const name = isInvalid ? html`${labelOf(arm)} <span class="badge invalid">${words.invalid}</span>` : labelOf(arm);
    if (metric.summary === null) {
      const why = html`<span class="none">${metric.missing === undefined ? words.none : words.missing[metric.missing]}</span>`;
      return [[name, why, "", "", "", "", "0", metric.unit, ""]];
    }
    const { median, p10, p90, min, max, samples } = metric.summary;
    const change = arm.role === "baseline" || isInvalid ? "" : changeOf(result, arm, key, words);
    return [[name, ...[median, p10, p90, min, max].map(number), String(samples.length), metric.unit, change]];
  };
  const tables = keys.map((key, i) =>
    details(words.metrics[key], table(words.metrics[key], columns, byGroup(result, (arm) => rowOf(arm, key))), { open: i === 0, kind: "metric" }));
  return html`${tables}<p class="note">${words.definitions} ${words.overIterations} ${say.metricsNote}</p>`;
}

/** Null when no arm has any. */
export function qualityTable(result: Result, words: Words): Html | null {
  const { page: say } = words, { qualityColumns: columns } = say;
  if (result.arms.every(({ quality }) => quality === null)) return null;
  const heads = [say.columns.arm, columns.perplexity, columns.change, columns.kld, columns.same, columns.protocol];
  const corpus = result.corpus === null ? null
    : html`<p class="note">${say.corpus(result.corpus.name, result.corpus.sha256 ?? say.unknown)}</p>`;
  return html`${table(say.sections.quality, heads, byGroup(result, (arm) => {
    if (arm.quality === null) return [];
    const { perplexity, change, kld, sameTop, protocol } = arm.quality, isInvalid = invalidOf(result, arm, words) !== null;
    return [[
      labelOf(arm), withError(perplexity), isInvalid ? html`<span class="badge invalid">${words.invalid}</span>` : change === null
        ? say.reference : qualityCell(result, arm, words),
      kld === null ? words.none : withError(kld), sameTop === null ? words.none : `${withError(sameTop, 100)} %`,
      html`<span class="prose">${protocol}</span>`,
    ]];
  }))}${corpus}`;
}

export function didTable(result: Result, words: Words): Html {
  const { columns } = words.page, prose = (text: Part): Html => html`<span class="prose">${text}</span>`;
  return table(words.page.sections.did, [columns.arm, columns.settings, columns.did, columns.proof, columns.facts],
    byGroup(result, (arm) => [[
    labelOf(arm), Object.entries(arm.settings).map(([key, value]) => html`<code>${key}: ${JSON.stringify(value)}</code> `),
    prose(arm.engagement ?? "—"), prose(arm.proof?.text ?? "—"),
    prose(arm.facts.map(({ label, value }) => html`${label}: <b>${value}</b><br>`)),
  ]]));
}

export function coldStartTable(result: Result, words: Words): Html {
  const { page: say } = words, { coldColumns: columns } = say,
    ms = (value: number | null): string => (value === null ? words.none : number(value));
  const rows = byGroup(result, ({ coldStart, ...arm }) => (coldStart === null ? [] : [[
    labelOf(arm), ms(coldStart.weightsMs), ms(coldStart.pipelinesMs), ms(coldStart.firstMs),
    (result.warmUp?.arms[arm.name] ?? []).map(number).join(", "),
  ]]));
  const warmUp = result.warmUp === null ? null : html`<p>${say.warmUp(result.warmUp.rounds, result.warmUp.settled)}</p>`;
  return html`${warmUp}<p class="note">${say.coldNote}</p>${rows.length === 0 ? null
    : table(say.sections.coldStart, [say.columns.arm, columns.weights, columns.pipelines, columns.first, columns.rounds], rows)}`;
}

export function orderTable({ order, yardstick, arms }: Result, words: Words): Html {
  const { page: say } = words, most = Math.max(0, ...order.map(({ length }) => length));
  const nameOf = new Map(arms.map((arm) => [arm.name, new Set(arms.map(({ group }) => group)).size === 1 ? labelOf(arm) : arm.name]));
  const heads = ["", ...Array.from({ length: most }, (_, i) => String(i + 1))];
  const turns = details(say.sections.order,
    table(say.sections.order, heads,
    order.map((names, i) => [say.iteration(i + 1), ...heads.slice(1).map((_, k) => nameOf.get(names[k] ?? "") ?? names[k] ?? "")])));
  const yards = yardstick === null ? null
    : html`<p>${say.yardstick(yardstick.work)}</p>${table(say.sections.order, ["", say.yards.compute, say.yards.memory, say.yards.host],
    yardstick.yards.map(({ computeMs, memoryMs, hostMs }, i) =>
      [say.iteration(i + 1), ...[computeMs, memoryMs, hostMs].map((ms) => ms.toFixed(2))]))}`;
  return html`<p class="note">${say.orderNote}</p>${turns}${yards}`;
}

export function samplesTable(result: Result, words: Words): Html {
  const { page: say } = words, most = Math.max(0,
    ...result.arms.flatMap(({ metrics }) => Object.values(metrics).map(({ samples }) => samples.length)));
  const columns = [say.columns.arm, say.columns.metric, words.unit, ...Array.from({ length: most }, (_, i) => say.iteration(i + 1))];
  const rows = byGroup(result, (arm) => Object.entries(arm.metrics).map(([key, { unit, samples }]) => [
    labelOf(arm), words.metrics[key as MetricKey], unit,
    ...Array.from({ length: most }, (_, i) => (samples[i] == null ? "—" : String(Number(samples[i].toPrecision(6))))),
  ]));
  return details(say.showSamples, table(say.columns.samples, columns, rows));
}

export function notesList({ notes }: Result): Html | null {
  return notes.length === 0 ? null : html`<ul class="notes">${notes.map((note) => html`<li>${marked(note)}</li>`)}</ul>`;
}
