/**
 * The page of a run without a browser: every picture stands on honest axes and is drawn in both themes, one that cannot be drawn costs only
 * itself, whatever text a run holds stays text, nothing is fetched, and every label is in the reader's language.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { gateAxes } from "../../bench/core/gates.ts";
import { en } from "../../bench/core/lang/en.ts";
import { zh } from "../../bench/core/lang/zh.ts";
import { embedded, escaped, html, marked } from "../../bench/core/page/html.ts";
import { placeNames } from "../../bench/core/page/labels.ts";
import { pageOf } from "../../bench/core/page/page.ts";
import { picturesOf } from "../../bench/core/page/pictures.ts";
import { drawAll, writePage } from "../../bench/core/page/write.ts";
import { darkOf, svgOf } from "../../bench/core/report/draw.ts";
import type { Picture, Result } from "../../bench/core/result.ts";
import { headlineOf } from "../../bench/core/sentences.ts";
import { FAKE_ARMS, fakeQuality, fakeResult, LOSSY, sweepArms } from "../support/results.ts";

const test = suite("page");
const COMMON = ["differences", "metrics", "pareto", "memory", "samples"];

/** Every object in a value. */
function objects(value: unknown): Record<string, any>[] {
  if (typeof value !== "object" || value === null) return [];
  return [value as Record<string, any>, ...Object.values(value).flatMap(objects)];
}
const idsOf = (result: Result): string[] => picturesOf(result, en).map(({ id }) => id);
const specOf = (result: Result, id: string): unknown => picturesOf(result, en).find((picture) => picture.id === id)!.spec;
const dataOf = (result: Result, id: string): Record<string,
  any>[] => objects(specOf(result, id)).flatMap(({ data }) => (data?.values ?? []) as Record<string, any>[]);

test("every picture of every kind of run passes the gate of axes; bars begin at zero", () => {
  const many = sweepArms(25, ["one"]).map((arm, i) => ({ ...arm, proof: LOSSY, quality: fakeQuality(i === 0 ? null : i * 0.4) }));
  for (const result of [fakeResult(), fakeResult({ arms: sweepArms() }), fakeResult({ arms: many }),
    fakeResult({ arms: FAKE_ARMS.slice(0, 2) }), fakeResult({ iterations: 1 })]) {
    for (const { id, spec, clipped, title, caption, alt } of picturesOf(result, en)) {
      assert.is(clipped, null, id);
      assert.is(gateAxes(spec, en), null);
      assert.ok(title.length > 0 && caption.length > 0 && alt.includes(title) && alt.includes(caption));
      for (const { mark, encoding } of objects(spec).filter((one) => one["mark"]?.type === "bar")) assert.is(encoding.x.scale.domainMin, 0,
        `${id} ${mark.type}`);
    }
  }
});

test("what a run has no figures for is not drawn", () => {
  assert.equal(idsOf(fakeResult()), COMMON);
  assert.equal(idsOf(fakeResult({ arms: sweepArms() })), COMMON.filter((id) => id !== "pareto"), "no quality, no front");
  assert.equal(idsOf(fakeResult({ status: "interrupted" })), ["metrics", "memory", "samples"], "nothing is concluded, nothing compared");
  const bare = fakeResult({ arms: FAKE_ARMS.slice(0, 1) });
  assert.equal(idsOf({ ...bare, arms: bare.arms.map((arm) => ({ ...arm, memory: null, metrics: {} })) }), []);
});

test("an arm that failed a gate has neither bar, difference nor place in the front, but a word", () => {
  const result = fakeResult({ status: "invalid" }), failed = ["knorm 0.0", "broken draft"];
  for (const id of ["differences", "pareto"]) assert.not.ok(dataOf(result, id).some(({ arm }) => failed.includes(arm)), id);
  for (const id of ["metrics", "memory"]) {
    const rows = dataOf(result, id).filter(({ arm }) => failed.includes(arm));
    assert.ok(rows.length > 0 && rows.every(({ text }) => text === "INVALID"), id);
  }
});

test("marks of differences are filled exactly where they are measurable", () => {
  const result = fakeResult(), rows = dataOf(result, "differences").filter(({ kind }) => kind !== undefined);
  const kinds = rows.map(({ kind }) => kind as string),
    expected = result.arms.filter(({ invalid, proof }) => invalid === null && proof?.holds !== false)
    .flatMap(({ role, differences }) => (["output_tokens_per_s", "ttft_ms", "tpot_ms"] as const).filter((key) => role === "technique"
      && differences[key]?.measurable === true));
  assert.is(kinds.filter((kind) => kind !== "none").length, expected.length);
  assert.ok(kinds.includes("better") && kinds.includes("worse") && kinds.includes("none"));
  for (const { noise, minus } of rows) assert.is(minus, -noise);
});

test("a picture that cannot be drawn, or whose bars do not stand on zero, is a note; the others are drawn, in both themes", async () => {
  const own = (id: string, spec: Picture["spec"]): Picture => ({ id, title: `Title ${id}`, caption: "caption", spec });
  const bar = (scale: object): Picture["spec"] => ({ data: { values: [{ a: "x", b: 3 }] }, mark: "bar",
    encoding: { y: { field: "a", type: "nominal" }, x: { field: "b", type: "quantitative", scale } } });
  const result = fakeResult({
    arms: FAKE_ARMS.slice(0, 4),
    pictures: [own("clipped", bar({ domain: [2, 4] })), own("broken", { mark: "nothing like it" }),
      own("far", { ...bar({}), data: { url: "https://example.com/data.json" } }), own("honest", bar({}))],
  });
  const drawn = await drawAll(result, en), byId = new Map(drawn.map((picture) => [picture.id, picture]));
  assert.match(byId.get("clipped")!.note!, /not at zero/);
  assert.match(byId.get("far")!.note!, /must bring its data along/);
  for (const id of ["clipped", "broken", "far"]) assert.ok(byId.get(id)!.svgs === null && byId.get(id)!.note !== null
    && byId.get(id)!.files.length === 0, id);
  for (const id of ["honest", ...COMMON]) {
    const { svgs, files, note } = byId.get(id)!;
    assert.is(note, null, id);
    assert.ok(svgs!.light.startsWith("<svg") && svgs!.dark.startsWith("<svg") && svgs!.light !== svgs!.dark);
    assert.equal(files.map(([path]) => path), [`pictures/${id}.png`, `pictures/${id}.svg`]);
    assert.equal([...(files[0]![1] as Uint8Array).subarray(1, 4)], [0x50, 0x4e, 0x47]);
  }
  const page = pageOf(result, en, { pictures: drawn });
  assert.is((page.match(/could not be drawn/g) ?? []).length, 3);
  assert.is((page.match(/<svg /g) ?? []).length, 2 * (1 + COMMON.length));
});

test("ids of a technique's pictures are safe in a path and take none from the common ones; arms that would be called the same are not",
  () => {
  const picture = (id: string): Picture => ({ id, title: "t", caption: "c", spec: { mark: "point", data: { values: [] } } });
  assert.equal(idsOf(fakeResult({ pictures: [picture("metrics"), picture("../../x y"), picture("加速比")] })).slice(0, 3),
    ["technique-metrics", "-x-y", "加速比"]);
  const twins = fakeResult({ arms: [{ name: "g", group: "g", role: "baseline" }, { name: "g a", group: "g" }, { name: "a", group: "g" }] });
  assert.equal([...new Set(dataOf(twins, "metrics").map(({ arm }) => arm as string))], ["g", "g a", "a"]);
});

test("a dark picture: light words on no ground of its own; data and colours with a hue stay", async () => {
  const spec = {
    background: "white", data: { values: [{ a: "black", b: 1 }] }, mark: { type: "bar", color: "#D55E00" },
    encoding: { y: { field: "a", type: "nominal" }, x: { field: "b", type: "quantitative", axis: { labelColor: "#333" } } },
  };
  const dark = darkOf(spec) as Record<string, any>;
  assert.is(dark["background"], "transparent");
  assert.equal([dark["data"], dark["mark"]], [spec.data, spec.mark]);
  assert.ok(Number.parseInt((dark["encoding"].x.axis.labelColor as string).slice(1, 3), 16) > 180);
  const [light, night] = await Promise.all([svgOf(spec), svgOf(dark)]);
  assert.ok(night.includes(">black<") && !night.includes('fill="#000"') && light.includes('fill="#000"'));
});

test("the page: verdict before all else, no address to load from, and the result in it as it was", async () => {
  const hostile = `<img src=x onerror=alert(1)></script><script>alert(2)</script>\u2028&"'`;
  const arms = [...FAKE_ARMS.slice(0, 3), { name: hostile, group: "wikitext-2", invalid: hostile, engagement: hostile,
    settings: { [hostile]: hostile }, facts: [{ label: hostile, value: hostile }] }];
  const result = fakeResult({ status: "invalid", arms, notes: [hostile],
    prompts: { origin: hostile, sha256: "0".repeat(64), texts: [hostile] }, configFile: hostile });
  const files = await writePage(result, en), page = files.find(([path]) => path === "report.html")![1] as string;
  assert.is(files.length, 1 + 2 * COMMON.length);
  assert.not.match(page, /<img|<script>alert|onerror=alert\(1\)>[^&]*<\/script>/);
  assert.is((page.match(/<\/script>/g) ?? []).length, 2);
  assert.not.match(page.replaceAll(/https?:\/\/www\.w3\.org\/\S+/g, ""), /(?:src|href|url)\s*[=(]\s*["']?(?:https?:|\/\/)/i);
  assert.match(page, /http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;;|http-equiv="Content-Security-Policy" content="default-src 'none';/);
  const json = /<script type="application\/json" id="result">(.*?)<\/script>/s.exec(page)![1]!;
  assert.equal(JSON.parse(json), JSON.parse(JSON.stringify(result)));
  const at = (text: string): number => page.indexOf(escaped(text));
  assert.ok(at(headlineOf(result, en)[0]!.text) > 0 && page.indexOf('id="verdict"') < page.indexOf('id="sentences"')
    && page.indexOf('id="sentences"') < page.indexOf('id="pictures"'));
  for (const id of ["quality", "metrics", "did", "coldStart", "order", "environment", "config", "prompts", "raw"]) assert.match(page,
    new RegExp(`<section id="${id}"`));
  const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.is(new Set(ids).size, ids.length, "an id stands once");
});

test("an interrupted run claims nothing anywhere on the page", () => {
  const marks = /[▲▼] ?<\/span>|class="change (?:better|worse)"/,
    pageFor = (status: Result["status"]): string => pageOf(fakeResult({ status }), en, { pictures: [] });
  assert.match(pageFor("complete"), marks);
  assert.not.match(pageFor("interrupted"), marks);
});

test("every label is in the reader's language", () => {
  const result = fakeResult({ status: "interrupted" }),
    pages = { en: pageOf(result, en, { pictures: [] }), zh: pageOf(result, zh, { pictures: [] }) };
  assert.match(pages.zh, /<html lang="zh-Hans">/);
  assert.not.match(pages.en.replace(/<style>[\s\S]*?<\/style>/, ""), /[\u4e00-\u9fff]/);
  const texts = [...pages.zh.replaceAll(/<(style|script)[\s\S]*?<\/\1>/g,
    "").matchAll(/<(?:h2|h3|th scope="col"|summary|button[^>]*)>([^<]+)</g)].map(([, text]) => text!);
  const names = new Set([...result.arms.flatMap(({ name, group }) => [name, group, name.replace(`${group} `, "")]), "p10", "p90", "n"]);
  assert.ok(texts.length > 60);
  assert.equal(texts.filter((text) => !/[\u4e00-\u9fff]/.test(text) && !/^\d+$/.test(text) && !names.has(text)), []);
  assert.match(pages.zh, /已中断/);
});

test("runs at the edges still make a page: no group, one arm, no metric, nothing warmed up, no yardstick", () => {
  const one = fakeResult({ arms: [{ name: "alone", role: "baseline" }], iterations: 1, warmUp: null, yardstick: null, corpus: null,
    notes: [], resumed: ["2026-01-02T03:06:00.000Z"] });
  const empty = { ...one, arms: one.arms.map((arm) => ({ ...arm, metrics: {}, memory: null, coldStart: null })), order: [] };
  for (const result of [one, empty, { ...one, arms: [] }]) {
    const page = pageOf(result, en, { pictures: [] });
    assert.not.match(page.replaceAll(/<(style|script)[\s\S]*?<\/\1>/g, ""), /undefined|NaN|\[object|Infinity/);
  }
});

test("text is text, templates are templates, and JSON cannot end a script", () => {
  assert.is(html`<b>${"<i>"}${html`<u>${'"'}</u>`}${["a", html`<br>`, null, 3]}</b>`.html, "<b>&lt;i&gt;<u>&quot;</u>a<br>3</b>");
  assert.is(marked("**a** `<b>` *c*").html, "<strong>a</strong> <code>&lt;b&gt;</code> *c*");
  const json = embedded({ a: "</script><!--\u2028&" }).html;
  assert.not.match(json, /[<>&\u2028]/);
  assert.equal(JSON.parse(json), { a: "</script><!--\u2028&" });
});

test("names in a scatter cover no other name and no point", () => {
  const points = Array.from({ length: 12 },
    (_, i) => ({ name: `arm number ${i}`, at: [150 + 3 * i, 120 + (i % 3)] as const, across: [140, 200] as const,
    along: [115, 130] as const }));
  const placed = placeNames(points, [[[0, 0], [330, 250]]], { width: 330, height: 250 }).flatMap((one, i) => {
    if (one === null) return [];
    const wide = points[i]!.name.length * 7, left = one.align === "left" ? one.at[0] : one.at[0] - wide;
    return [[left, one.at[1] - 7, left + wide, one.at[1] + 7] as const];
  });
  assert.ok(placed.length >= 8, `${placed.length} of 12`);
  for (const [i, a] of placed.entries()) {
    assert.ok(a[0] >= 0 && a[2] <= 330 && a[1] >= 0 && a[3] <= 250);
    for (const b of placed.slice(i + 1)) assert.ok(a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1]);
    for (const { at: [x, y] } of points) assert.not.ok(x > a[0] && x < a[2] && y > a[1] && y < a[3]);
  }
});

test.run();
