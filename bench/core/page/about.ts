/** Sections of a page about the run itself: where it took place, how it was configured, and on what texts. */

import type { Words } from "../lang/en.ts";
import { bytes } from "../metrics.ts";
import type { Result } from "../result.ts";
import { keysOf } from "../schema.ts";
import { details, html, table, type Html, type Part } from "./html.ts";

export function environmentTable(result: Result, words: Words): Html {
  const { environment: { adapter, features, limits, kernelFamily, subgroupSize }, machine, model } = result,
    { environment: say, page } = words;
  const rows: readonly (readonly Part[])[] = [
    [say.started, result.resumed.length === 0 ? `${result.started} – ${result.ended}`
      : `${result.started} – ${result.ended} (${page.resumed(result.resumed.join(", "))})`],
    [say.model, `${model.id}${model.revision === null ? ""
      : ` @ ${model.revision}`}; ${say.fingerprint(model.fingerprint.slice(0, 16), model.maxModelLen)}`],
    [say.adapter, `${adapter.description}; ${[adapter.vendor, adapter.architecture, adapter.device,
      adapter.backend].filter(Boolean).join(", ")}${adapter.software ? `; ${words.softwareShort}` : ""}`],
    [say.kernels, say.family(kernelFamily, subgroupSize)],
    [say.features, features.join(", ")],
    [say.machine, `${machine.cpu}, ${say.cores(machine.cores)}, ${bytes(machine.memoryBytes)}; ${machine.os}`],
    [say.software, `dawnlm ${machine.dawnlm}${machine.commit === null ? ""
      : ` (${machine.commit.slice(0, 12)}${machine.modified === true ? `, ${say.modified}` : ""})`}, Node ${machine.node},
      ${Object.entries(machine.packages).map(([name, version]) => `${name} ${version}`).join(", ")}`],
  ];
  const wide = rows.map(([label, text]) => [label!, html`<span class="prose">${text!}</span>`]);
  return html`${table(page.sections.environment, ["", words.value], wide)}${details(page.showLimits,
    table(say.limits, [words.key, words.value], Object.entries(limits).map(([key, value]) => [key, String(value)])))}`;
}

export function configTable(result: Result, words: Words): Html {
  const { config, configOrigins: origins } = result, { page: say } = words;
  const originOf = (key: string): string => {
    const origin = origins[key] ?? "default", follows = /^follows (.+)$/.exec(origin);
    return follows === null ? words.origins[origin] ?? origin : words.follows(follows[1]!);
  };
  const shown = (value: unknown): Part => (value === undefined ? words.notSet
    : html`<code>${typeof value === "string" ? value : JSON.stringify(value)}</code>`);
  const rows = keysOf(result.experiment).map((key) => [key, shown(config[key]), originOf(key)]);
  const protocol = table(say.sections.config, [words.key, words.value],
    Object.entries(result.protocol).map(([key, value]) => [key, html`<code class="long">${JSON.stringify(value)}</code>`]));
  return html`<p class="note">${say.configNote(result.configFile)}</p>${table(say.sections.config, [words.key, words.value, words.from],
    rows)}${details(say.protocolNote(`${result.protocolSha256.slice(0, 16)}…`), protocol)}`;
}

export function promptsList({ prompts: { origin, sha256, texts } }: Result, { page: say }: Words): Html {
  return html`<p class="note">${say.promptsNote(texts.length, origin, `${sha256.slice(0, 16)}…`)}</p>${details(say.showPrompts,
    html`<ol class="prompts">${texts.map((text) => html`<li><pre>${text}</pre></li>`)}</ol>`)}`;
}
