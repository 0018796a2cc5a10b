/** Documents of WikiText, PG-19 and local texts; the hub's parquet files come from a server on 127.0.0.1. */

import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { headingOf, joinLines, splitLocal, splitWikitext } from "../../bench/core/datasets/documents.ts";
import { loadSample } from "../../bench/core/datasets/load.ts";
import { readTexts } from "../../bench/core/datasets/parquet.ts";
import { ModelFileError, UsageError } from "../../engine/errors.ts";
import type { HubSettings } from "../../engine/hub_http.ts";
import { startFakeHub } from "../support/fake_hub.ts";
import { rejects } from "../support/rejects.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-datasets-"));
const test = suite("data sets");
test.after(() => { rmSync(folder, { recursive: true }); });

const LINES = [
  "", " = Robert Boulter = \n", "", " Robert Boulter is an actor . \n", "", " = = Career = = \n", "", " A = B = C \n", " = 1 = \n", " of the table \n", "",
  " = Hurricane = X = \n", "", " Wind . \n",
];
const ARTICLES = [
  { title: "Robert Boulter", text: LINES.slice(1, 11).map((line) => line || "\n").join("") }, { title: "Hurricane = X", text: LINES.slice(11).map((line) => line || "\n").join("") },
];

function parquet(texts: readonly (string | null)[], { titles, zstd = false }: { titles?: string[]; zstd?: boolean } = {}): Buffer {
  return Buffer.from(parquetWriteBuffer({
    columnData: [...(titles ? [{ name: "short_book_title", data: titles, type: "STRING" as const }] : []), { name: "text", data: [...texts], type: "STRING" as const }], rowGroupSize: 5,
    ...(zstd && { codec: "ZSTD" as const, compressors: { ZSTD: (data: Uint8Array) => new Uint8Array(zstdCompressSync(data)) } }),
  }));
}

test("headings of the first level part WikiText, and nothing that only looks like one", () => {
  assert.equal([" = A = ", "= a b =", " = = B = = ", " = = = C = = = ", "A = B = C", " = ", " = = ", " = D = = ", " = x"].map(headingOf), ["A", "a b", null, null, null, null, null, null, null]);
  const text = joinLines(LINES);
  assert.equal(splitWikitext(text), ARTICLES);
  assert.equal(splitWikitext(text).map((document) => document.text).join(""), text.slice(1), "all but the blank line in front");
  assert.equal(splitWikitext("before\n\n = A = \n"), [{ title: null, text: "before\n\n" }, { title: "A", text: " = A = \n" }]);
  assert.equal(splitWikitext("\n \n"), []);
  assert.equal(splitLocal("A novel\n\n = Not a heading here = \n\nmore"), [{ title: null, text: "A novel\n\n = Not a heading here = \n\nmore" }]);
  assert.equal(splitLocal("\r\n = A = \r\n\r\nx\r\n").map(({ title }) => title), ["A"]);
});

test("the bundled texts stand in for both data sets", async () => {
  const book = await loadSample({ dataset: "pg19-sample", subset: null, index: 0 });
  const whole = readFileSync(new URL("../../assets/texts/persuasion.txt", import.meta.url), "utf8");
  assert.equal({ ...book, text: book.text === whole }, {
    dataset: "pg19-sample", subset: null, source: "persuasion.txt", index: 0, documents: 1, title: null, text: true, sha256: createHash("sha256").update(whole).digest("hex"),
  });
  const address = await loadSample({ dataset: "wikitext-sample", subset: null, index: 18 });
  assert.equal([address.title, address.documents, address.text.startsWith(" = 2012_barack_obama_d = \n\n")], ["2012_barack_obama_d", 19, true]);
  await rejects(loadSample({ dataset: "wikitext-sample", subset: null, index: 19 }), UsageError, /--sample-idx 19: wikitext-sample has 19 documents, counted from 0/);
  await rejects(loadSample({ dataset: "pg19-sample", subset: "wikitext-2-v1", index: 0 }), UsageError, /--subset: pg19-sample has none/);
});

test("WikiText and PG-19 as the hub has them: parquet in snappy, in several row groups and parts", async () => {
  const hub = await startFakeHub({
    "wikitext-2-raw-v1/test-00000-of-00002.parquet": parquet(LINES.slice(0, 7)), "wikitext-2-raw-v1/test-00001-of-00002.parquet": parquet(LINES.slice(7)),
    "wikitext-103-v1/test-00000-of-00001.parquet": parquet(["", " = Other = \n", "", " <unk> \n"]),
  }, "Salesforce/wikitext");
  const books = await startFakeHub({ "data/test-00000-of-00001-29a571947c0b5ccc.parquet": parquet(["Once.", "Twice."], { titles: ["One", "Two"] }) }, "emozilla/pg19-test");
  const at = (endpoint: string): HubSettings => ({ endpoint, token: undefined, cacheDir: mkdtempSync(join(folder, "cache-")), offline: false, timeoutMs: 400, backoffMs: 1 });
  try {
    const settings = at(hub.url), ask = (index: number, subset: string | null = null) => loadSample({ dataset: "wikitext", subset, index }, { settings });
    for (const [index, article] of ARTICLES.entries()) {
      assert.equal(await ask(index), {
        ...article, dataset: "wikitext", subset: "wikitext-2-raw-v1", source: `Salesforce/wikitext@${hub.commit} wikitext-2-raw-v1/test`, index, documents: 2,
        sha256: createHash("sha256").update(article.text).digest("hex"),
      });
    }
    assert.equal((await ask(0, "wikitext-103-v1")).text, " = Other = \n\n <unk> \n");
    await rejects(ask(0, "wikitext-103-v2"), UsageError, /unknown subset "wikitext-103-v2" of wikitext; did you mean wikitext-103-v1\?/);
    await rejects(ask(0, "wikitext-2-v1"), ModelFileError, /has no folder wikitext-2-v1 .*--dataset wikitext-sample, which is bundled/);
    const second = await loadSample({ dataset: "pg19", subset: null, index: 1 }, { settings: at(books.url) });
    assert.equal([second.title, second.text, second.documents], ["Two", "Twice.", 2]);
  } finally {
    await Promise.all([hub.close(), books.close()]);
  }
  const nobody = { ...at("http://127.0.0.1:1") };
  await rejects(loadSample({ dataset: "pg19", subset: null, index: 0 }, { settings: nobody }), ModelFileError,
    /^emozilla\/pg19-test: no answer from http:\/\/127\.0\.0\.1:1 .*Without a network take --dataset pg19-sample, which is bundled$/);
  await rejects(loadSample({ dataset: "wikitext", subset: null, index: 0 }, { settings: { ...nobody, offline: true } }), ModelFileError,
    /HF_HUB_OFFLINE is set .*--dataset wikitext-sample/);
});

test("local files: text, WikiText, parquet in zstd; what cannot be read is named", async () => {
  const write = (name: string, content: string | Buffer): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const ask = (dataset: string, index = 0) => loadSample({ dataset, subset: null, index });
  assert.equal((await ask(write("a.txt", "Anne.\n"))).text, "Anne.\n");
  assert.equal((await ask(write("wiki.test.tokens", joinLines(LINES)), 1)).text, ARTICLES[1]!.text);
  assert.equal((await ask(write("rows.parquet", parquet(["a", "b", "déjà vu"], { zstd: true })), 2)).text, "déjà vu");
  await rejects(readTexts(write("null.parquet", parquet(["a", null]))), ModelFileError, /"text" of row 1 is no text/);
  await rejects(readTexts(join(folder, "rows.parquet"), "body"), ModelFileError, /has no column "body" \(its columns are text\)/);
  await rejects(ask(write("torn.parquet", parquet(["a"]).subarray(0, 40))), ModelFileError, /torn\.parquet: cannot be read as parquet/);
  await rejects(ask(join(folder, "none.parquet")), ModelFileError, /none\.parquet: cannot be read as parquet: ENOENT/);
  await rejects(ask("wikitxt"), UsageError, /--dataset wikitxt: no such file, and no data set of that name; did you mean wikitext\?/);
  await rejects(ask(folder), UsageError, /is a folder/);
  await rejects(ask(write("latin1.txt", Buffer.from([0x41, 0xe9, 0x42]))), UsageError, /is not UTF-8 text/);
  await rejects(ask(write("empty.txt", " \n")), UsageError, /is empty/);
});

test.run();
