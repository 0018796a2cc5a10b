// Files of a data set, against a hub of our own on 127.0.0.1.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { lstatSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ModelFileError } from "../../engine/errors.ts";
import { resolveDataset, type DatasetFiles } from "../../engine/hub_dataset.ts";
import type { HubSettings } from "../../engine/hub_http.ts";
import { type FakeHub, startFakeHub } from "../support/fake_hub.ts";
import { rejects } from "../support/rejects.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-hub-dataset-"));
const part = (i: number): Buffer => Buffer.alloc(3000 + i, i);
const files = {
  "README.md": Buffer.from("# data"), "a-v1/train-00000-of-00001.parquet": part(9), "a-v1/test-00000-of-00002.parquet": part(1),
  "a-v1/test-00001-of-00002.parquet": part(2), "a-v1/test-loader.py": Buffer.from("import os"), "data/test-00000-of-00001-29a571947c0b5ccc.parquet": part(3),
  "torn/test-00000-of-00002.parquet": part(4),
};
const wanted: DatasetFiles = { repo: "someone/texts", revision: "main", folder: "a-v1", split: "test" };

interface Context { hub: FakeHub; settings: HubSettings }
const test = suite<Context>("hub data sets");
test.before.each(async (context) => {
  context.hub = await startFakeHub(files, "someone/texts");
  context.settings = {
    endpoint: context.hub.url, token: undefined, cacheDir: mkdtempSync(join(temporary, "cache-")), offline: false, timeoutMs: 400, backoffMs: 5,
  };
});
test.after.each(async ({ hub }) => hub.close());
test.after(() => rmSync(temporary, { recursive: true }));

test("the parts of a split in order, nothing else, in the standard cache; again and offline without a request", async ({ hub, settings }) => {
  const seen: number[] = [];
  const { paths, revision } = await resolveDataset(settings, wanted, { onProgress: ({ loaded }) => { seen.push(loaded); } });
  const folder = join(settings.cacheDir, "datasets--someone--texts", "snapshots", hub.commit, "a-v1");
  assert.equal({ paths, revision }, { paths: [0, 1].map((i) => join(folder, `test-0000${i}-of-00002.parquet`)), revision: hub.commit });
  assert.equal(paths.map((path) => readFileSync(path)), [part(1), part(2)]);
  assert.ok(paths.every((path) => lstatSync(path).isSymbolicLink()));
  assert.is(seen.at(-1), 6003);
  assert.is(hub.requests.some(({ path }) => /train|loader/.test(path) && !path.includes("/api/")), false);

  const before = hub.requests.length;
  assert.equal(await resolveDataset(settings, wanted), { paths, revision });
  assert.equal(await resolveDataset({ ...settings, offline: true, endpoint: "http://127.0.0.1:1" }, { ...wanted, revision }), { paths, revision });
  assert.is(hub.requests.length, before);
  rmSync(paths[1]!);
  await rejects(resolveDataset({ ...settings, offline: true }, wanted), ModelFileError, /HF_HUB_OFFLINE is set and the cache .* has no a-v1\/test of it/);
  assert.equal(await resolveDataset(settings, wanted), { paths, revision }, "a part that is missing is fetched again");
});

test("names with a hash behind the number; parts, folders and repositories that are not there", async ({ settings }) => {
  const { paths } = await resolveDataset(settings, { ...wanted, folder: "data" });
  assert.equal(paths.map((path) => readFileSync(path)), [part(3)]);
  await rejects(resolveDataset(settings, { ...wanted, folder: "torn" }), ModelFileError, /torn has no whole set of test-NNNNN-of-NNNNN\.parquet/);
  await rejects(resolveDataset(settings, { ...wanted, split: "validation" }), ModelFileError, /a-v1 has no whole set of validation-/);
  await rejects(resolveDataset(settings, { ...wanted, folder: "b-v1" }), ModelFileError, /someone\/texts: has no folder b-v1 \(HTTP 404\); see http:.*\/datasets\/someone\/texts\/tree\/main/);
  await rejects(resolveDataset(settings, { ...wanted, repo: "someone/else" }), ModelFileError, /someone\/else: no such data set at http:\S+ \(HTTP 404\)$/);
  await rejects(resolveDataset({ ...settings, endpoint: "http://127.0.0.1:1" }, { ...wanted, repo: "x/y" }), ModelFileError, /no answer from http:\/\/127\.0\.0\.1:1/);
});

test.run();
