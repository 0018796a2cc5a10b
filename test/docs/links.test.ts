/** Every relative link of every page leads to a file, and to a heading where it names one; every config that a page names is there. */

import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "./guide.ts";
import { anchorsOf, linksOf, pages } from "./pages.ts";

const all = pages();

/** What is wrong with a link of a page; null: nothing. */
function wrong(from: string, link: string): string | null {
  if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return null; // elsewhere
  const [path = "", anchor] = decodeURI(link).split("#") as [string, string?];
  const target = path === "" ? join(ROOT, from) : resolve(ROOT, dirname(from), path);
  if (!existsSync(target)) return `${from}: ${link} leads nowhere`;
  const page = all.find((each) => join(ROOT, each.path) === target);
  if (anchor === undefined || page === undefined || anchorsOf(page.text).includes(anchor)) return null;
  return `${from}: ${link} names no heading of ${page.path}`;
}

test("links of all pages", () => {
  assert.ok(all.length > 8, `${all.length} pages`);
  const links = all.flatMap(({ path, text }) => linksOf(text).map((link) => [path, link] as const));
  assert.ok(links.some(([, link]) => link.startsWith("../")));
  assert.equal(links.map(([path, link]) => wrong(path, link)).filter((problem) => problem !== null), []);
});

test("a link that leads nowhere, or to no heading, is seen; code is no link", () => {
  assert.match(wrong("docs/README.md", "../nothing.md")!, /leads nowhere/);
  assert.match(wrong("techniques/press/README.md", "#no-such-heading")!, /names no heading/);
  assert.is(wrong("techniques/press/README.md", "#the-waist-score-keep-n-gather"), null);
  assert.is(wrong("README.md", "https://example.org/nothing"), null);
  assert.equal(linksOf("[a](b.md#c) `[d](e)` ![f](<g.png> \"h\")\n```\n[i](j)\n```\n    [k](l)\n"), ["b.md#c", "g.png"]);
});

test("configs that pages name", () => {
  const configs = /\bconfigs?\/[^\s`"')\]]+\.ya?ml\b/g;
  const named = all.flatMap(({ path, text }) => [...text.matchAll(configs)].map(([file]) => [path, file] as const));
  assert.ok(named.length > 10);
  assert.equal(named.filter(([, file]) => !existsSync(join(ROOT, file))).map(([path, file]) => `${path}: ${file}`), []);
});

test.run();
