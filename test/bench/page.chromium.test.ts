/**
 * The page of a run in a browser, opened from disk with the network off: the verdict comes first, pictures are drawn in both themes, nothing
 * is wider than a phone, hostile names stay text, and the result can be taken away as it went in. Needs Chromium or Chrome (the CHROMIUM
 * variable, or one that is installed) and playwright-core; is skipped by name without.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { en } from "../../bench/core/lang/en.ts";
import { zh } from "../../bench/core/lang/zh.ts";
import { pageOf } from "../../bench/core/page/page.ts";
import { drawAll } from "../../bench/core/page/write.ts";
import { headlineOf } from "../../bench/core/sentences.ts";
import { FAKE_ARMS, fakeResult } from "../support/results.ts";

const HOSTILE = `<img src=x onerror="window.hacked = 1">`, BREAKOUT = `</script><script>window.hacked = 2</script>\u2028"'&<b>`;

/** Arms of both groups, one with mark-up for its name, and mark-up wherever a run takes words from outside. */
const RESULT = fakeResult({
  status: "invalid", arms: [...FAKE_ARMS.filter((_, i) => i % 7 < 5),
    { name: HOSTILE, group: FAKE_ARMS[0]!.group!, settings: { name: HOSTILE }, engagement: BREAKOUT,
    facts: [{ label: HOSTILE, value: BREAKOUT }] }],
  notes: [`A note with ${HOSTILE} and ${BREAKOUT}`], prompts: { origin: HOSTILE, sha256: "0".repeat(64), texts: [HOSTILE, BREAKOUT] },
  detail: { text: BREAKOUT },
});
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome.exe", "msedge.exe"];
const PLACES = ["/usr/bin/chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium", "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe"];

function findBrowser(): string | null {
  const named = process.env["CHROMIUM"];
  if (named !== undefined && named !== "") return named;
  const found = (process.env["PATH"] ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return [...found, ...PLACES].find((path) => existsSync(path)) ?? null;
}

const playwright = await import("playwright-core").catch(() => null), executable = findBrowser();
const missing = playwright === null ? "playwright-core is not installed" : executable === null
  ? "no Chromium or Chrome found; set CHROMIUM to one" : null;

const test = suite("page in Chromium"), folder = mkdtempSync(join(tmpdir(), "dawnlm-page-")),
  files = { en: join(folder, "en.html"), zh: join(folder, "zh.html") };
let browser: Browser;

test.before(async () => {
  if (missing !== null) return;
  const pictures = await drawAll(RESULT, en);
  assert.equal(pictures.map(({ note }) => note).filter((note) => note !== null), []);
  writeFileSync(files.en, pageOf(RESULT, en, { pictures }));
  writeFileSync(files.zh, pageOf(RESULT, zh, { pictures }));
  // Without --no-sandbox Chromium does not start as root, as in a container.
  browser = await playwright!.chromium.launch({ executablePath: executable!, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
});
test.after(async () => {
  await (browser as Browser | undefined)?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Opened { readonly page: Page; readonly problems: string[]; readonly close: () => Promise<void> }

async function open(lang: "en" | "zh", theme: "light" | "dark", width: number): Promise<Opened> {
  const context = await browser.newContext({ colorScheme: theme, viewport: { width, height: 900 }, offline: true, acceptDownloads: true });
  const page = await context.newPage(), problems: string[] = [], own = pathToFileURL(files[lang]).href;
  page.on("console", (message) => { if (message.type() === "error"
    || message.type() === "warning") problems.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => { problems.push(`error: ${error.message}`); });
  page.on("request", (request) => { if (request.url() !== own) problems.push(`request: ${request.url().slice(0, 80)}`); });
  await page.goto(own);
  return { page, problems, close: () => context.close() };
}

const widths = (page: Page): Promise<[number, number]> =>
  page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]");
/** Sizes of all pictures of a theme as they are laid out: nothing of one that is hidden. */
const sizes = (page: Page, theme: string): Promise<[number, number][]> =>
  page.evaluate(`[...document.querySelectorAll("figure svg.${theme}")].map((svg) => { const { width, height } = svg.getBoundingClientRect(); return [width, height]; })`);

const unless = missing === null ? test : test.skip, why = missing === null ? "" : ` (skipped: ${missing})`;

for (const [lang, theme] of [["en", "light"], ["zh", "dark"]] as const) {
  unless(`${lang}, ${theme}: the verdict first, every picture in its theme, no request, no error, no overflow on a phone or a wide screen${why}`, async () => {
    const words = { en, zh }[lang], { page, problems, close } = await open(lang, theme, 1600);
    const shown = await page.locator("main").innerText(), [first] = headlineOf(RESULT, words);
    assert.ok(first!.text.startsWith(words.invalid));
    assert.ok(shown.includes(first!.text) && shown.indexOf(first!.text) < 200, shown.slice(0, 300));
    assert.ok((await page.locator(".lead").boundingBox())!.y < 450);
    assert.is(await page.locator("html").getAttribute("lang"), { en: "en", zh: "zh-Hans" }[lang]);
    const visible = await sizes(page, theme), hidden = await sizes(page, theme === "light" ? "dark" : "light");
    assert.ok(visible.length >= 5);
    assert.is(visible.length, await page.locator("figure").count());
    for (const [width, height] of visible) assert.ok(width > 300 && height > 100, `${width} × ${height}`);
    for (const [width] of hidden) assert.is(width, 0);
    const background = await page.evaluate<string>("getComputedStyle(document.body).backgroundColor"), [level] = /\d+/.exec(background)!;
    assert.ok(theme === "light" ? Number(level) > 200 : Number(level) < 60, background);
    for (const width of [1600, 400]) {
      await page.setViewportSize({ width, height: 900 });
      const [content, room] = await widths(page);
      assert.ok(content <= room, `${content} px in ${room}`);
    }
    assert.equal(problems, []);
    await close();
  });
}

unless(`names, prompts and notes stay text, whatever they hold${why}`, async () => {
  const { page, problems, close } = await open("en", "light", 1000);
  assert.is(await page.evaluate("window.hacked"), undefined);
  assert.is(await page.locator("main img, main b b").count(), 0);
  assert.ok((await page.locator("#verdict table").innerText()).includes(HOSTILE));
  assert.equal(problems, []);
  await close();
});

unless(`by keyboard: past the navigation, and what backs a sentence opens; on paper everything is open and light${why}`, async () => {
  const { page, close } = await open("en", "dark", 1000);
  await page.keyboard.press("Tab");
  assert.is(await page.evaluate("document.activeElement.className"), "skip");
  const backing = page.locator("#verdict .backing").first();
  assert.not.ok(await backing.isVisible());
  await page.locator("#verdict summary").first().focus();
  await page.keyboard.press("Enter");
  assert.ok(await backing.isVisible());
  await page.emulateMedia({ media: "print" });
  await page.evaluate("dispatchEvent(new Event('beforeprint'))");
  assert.is(await page.locator("details:not([open])").count(), 0);
  assert.ok((await sizes(page, "light")).every(([width]) => width > 0));
  await page.evaluate("dispatchEvent(new Event('afterprint'))");
  assert.ok((await page.locator("details:not([open])").count()) > 5);
  await close();
});

unless(`the download is the result, as it went in${why}`, async () => {
  const { page, problems, close } = await open("zh", "light", 1000), waiting = page.waitForEvent("download");
  await page.locator("#download").click();
  const download = await waiting, file = await download.path();
  assert.match(download.suggestedFilename(), /^KVPress-fake-2026-01-02T030405\.json$/);
  assert.equal(JSON.parse(readFileSync(file, "utf8")), JSON.parse(JSON.stringify(RESULT)));
  assert.equal(problems.filter((problem) => !problem.startsWith("request: blob:")), []);
  await close();
});

test.run();
