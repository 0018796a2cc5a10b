// Models by every kind of name, and the settings of the Hugging Face tools. Downloads are in hub_download.test.ts.
import { test } from "uvu";
import * as assert from "uvu/assert";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { UsageError } from "../../engine/errors.ts";
import { resolveModel } from "../../engine/hub.ts";
import { hubSettings } from "../../engine/hub_http.ts";
import { editDistance, nearest } from "../../engine/nearest.ts";
import { rejects } from "../support/rejects.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-hub-"));
test.after(() => rmSync(temporary, { recursive: true }));

test("local folders, bundled names and random weights", async () => {
  const folder = mkdtempSync(join(temporary, "model-"));
  assert.equal(await resolveModel(folder), { kind: "folder", folder, id: basename(folder), revision: null });
  const bundled = await resolveModel("tiny-neox");
  assert.ok(bundled.kind === "folder" && existsSync(join(bundled.folder, "model.safetensors")));
  assert.is(bundled.id, "tiny-neox");
  assert.equal(await resolveModel("random:pythia-70m"), { kind: "random", name: "pythia-70m", id: "random:pythia-70m" });
});

test("a spec that is none of them is refused with the nearest name and the four forms", async () => {
  const file = join(temporary, "weights.safetensors");
  writeFileSync(file, "x");
  await rejects(resolveModel("tiny-neo"), UsageError,
    /unknown model "tiny-neo"; did you mean tiny-neox\? A model is .*folder, .*bundled.* random:NAME .* owner\/name\[@revision\]$/);
  for (const path of ["./nowhere", "/nowhere/at/all", "~/model", "a/b/c", "C:\\models\\x", "..\\x"]) {
    await rejects(resolveModel(path), UsageError, /there is no folder/);
  }
  for (const wrong of ["", "a/..", "../../x--y/z", "own er/name", "-x/y", "zzzzzzzzzzzzzzzzzz"]) {
    await rejects(resolveModel(wrong), UsageError, /random:NAME/);
  }
  await rejects(resolveModel(file), UsageError, /is a file; give the folder/);
  await rejects(resolveModel("random:"), UsageError, /needs the name of an architecture/);
  await rejects(resolveModel("tiny-neox", { revision: "main" }), UsageError, /only models of the hub have revisions/);
  await rejects(resolveModel("a/b@v1", { revision: "v2" }), UsageError, /names revision "v1", but the option revision says "v2"/);
  for (const revision of ["../x", "a//b", "x y", "..", "refs/../../x"]) {
    await rejects(resolveModel("a/b", { revision }), UsageError, /is not a commit, branch or tag/);
  }
});

test("nearest names", () => {
  assert.is(editDistance("kitten", "sitting"), 3);
  assert.is(editDistance("", "abc"), 3);
  assert.equal(nearest("tiny-qwen", ["tiny-neox", "tiny-qwen2"]), ["tiny-qwen2"]);
  assert.equal(nearest("something else", ["tiny-neox"]), []);
});

test("settings come from the variables of the Hugging Face tools, in their order", async () => {
  const home = mkdtempSync(join(temporary, "home-"));
  writeFileSync(join(home, "token"), "hf_fromfile\n");
  const all = { HF_HUB_CACHE: "/1", HUGGINGFACE_HUB_CACHE: "/2", HF_HOME: home, XDG_CACHE_HOME: "/4" };
  assert.is((await hubSettings(all)).cacheDir, "/1");
  assert.is((await hubSettings({ ...all, HF_HUB_CACHE: "" })).cacheDir, "/2");
  assert.is((await hubSettings({ HF_HOME: home, XDG_CACHE_HOME: "/4" })).cacheDir, join(home, "hub"));
  assert.is((await hubSettings({ XDG_CACHE_HOME: "/4" })).cacheDir, "/4/huggingface/hub");
  assert.match((await hubSettings({})).cacheDir, /\.cache\/huggingface\/hub$/);
  assert.is((await hubSettings({ HF_HOME: home })).token, "hf_fromfile");
  assert.is((await hubSettings({ HF_HOME: home, HF_TOKEN: "mine" })).token, "mine");
  assert.is((await hubSettings({ HF_HOME: join(home, "none") })).token, undefined);
  assert.is((await hubSettings({ HF_ENDPOINT: "http://mirror/x/" })).endpoint, "http://mirror/x");
  assert.is((await hubSettings({})).endpoint, "https://huggingface.co");
  for (const on of ["1", "TRUE", "yes", "ON"]) assert.is((await hubSettings({ HF_HUB_OFFLINE: on })).offline, true);
  assert.is((await hubSettings({ HF_HUB_OFFLINE: "0" })).offline, false);
  await rejects(hubSettings({ HF_ENDPOINT: "mirror" }), UsageError, /HF_ENDPOINT is "mirror"/);
  await rejects(hubSettings({ HF_HUB_DOWNLOAD_TIMEOUT: "soon" }), UsageError, /expected seconds/);
  const error = await rejects(hubSettings({ HF_TOKEN: "sec\nret" }), UsageError, /token/);
  assert.not.match(error.message, /sec/);
});

test.run();
