// Downloads against a hub of our own on 127.0.0.1 that can be made to fail in all the ways networks do.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { spawn } from "node:child_process";
import {
  existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, utimesSync, writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AbortedError, ModelFileError, UsageError } from "../../engine/errors.ts";
import { resolveHubModel, resolveModel, type ResolvedModel } from "../../engine/hub.ts";
import type { HubSettings } from "../../engine/hub_http.ts";
import { type FakeHub, startFakeHub } from "../support/fake_hub.ts";
import { rejects } from "../support/rejects.ts";

const temporary = mkdtempSync(join(tmpdir(), "dawnlm-hub-"));

const weights = Buffer.from(Uint8Array.from({ length: 200_000 }, (_, i) => (i * 7919) >> 3));
const files: Record<string, Buffer> = {
  "config.json": Buffer.from('{"model_type":"gpt_neox"}'),
  "generation_config.json": Buffer.from("{}"),
  "tokenizer.json": Buffer.from('{"version":"1.0"}'),
  "tokenizer_config.json": Buffer.from("{}"),
  "README.md": Buffer.from("# model"),
  "modeling.py": Buffer.from("import os"),
  "pytorch_model.bin": Buffer.from("pickle"),
  "training_args.bin": Buffer.from("pickle"),
  "tokenizer.model.bin": Buffer.from("pickle"),
  "model.safetensors": weights,
  "onnx/config.json": Buffer.from("{}"),
};
const wanted = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

interface Context { hub: FakeHub; settings: HubSettings }
const download = suite<Context>("download");

download.before.each(async (context) => {
  context.hub = await startFakeHub(files);
  context.settings = {
    endpoint: context.hub.url, token: undefined, cacheDir: mkdtempSync(join(temporary, "cache-")), offline: false,
    timeoutMs: 400, backoffMs: 5,
  };
});
download.after.each(async ({ hub }) => hub.close());
download.after(() => rmSync(temporary, { recursive: true }));

interface Asked { revision?: string; repo?: string; signal?: AbortSignal }
const get = ({ hub, settings }: Context, { revision = "main", repo = hub.repo, signal }: Asked = {}, changed: Partial<HubSettings> = {}) =>
  resolveHubModel({ ...settings, ...changed }, { repo, revision }, { signal });
const snapshotOf = (model: ResolvedModel): string => model.kind === "folder" ? model.folder : assert.unreachable() as never;
const blobsOf = ({ settings }: Context): string[] => {
  const folder = join(settings.cacheDir, "models--someone--small", "blobs");
  return existsSync(folder) ? readdirSync(folder) : [];
};
const fetched = ({ hub }: Context, name: string) => hub.requests.filter(({ path }) => path.endsWith(`/${name}`) && !path.includes("/api/"));
function checkComplete(context: Context, model: ResolvedModel): void {
  assert.equal(readdirSync(snapshotOf(model)).sort(), wanted);
  for (const name of wanted) assert.ok(readFileSync(join(snapshotOf(model), name)).equals(files[name]!), name);
  assert.equal(blobsOf(context).filter((name) => name.includes(".")), [], "nothing incomplete or locked is left");
}

download("brings the files a run needs, as links into blobs, pinned to a commit; then the cache answers alone", async (context) => {
  const seen: { loaded: number; total: number }[] = [];
  const onProgress = (progress: { loaded: number; total: number }) => seen.push(progress);
  const model = await resolveHubModel(context.settings, { repo: "someone/small", revision: "main" }, { onProgress });
  assert.is(model.id, "someone/small");
  assert.is(model.kind === "folder" && model.revision, context.hub.commit);
  checkComplete(context, model);
  const link = join(snapshotOf(model), "model.safetensors");
  assert.ok(lstatSync(link).isSymbolicLink());
  const blob = blobsOf(context).find((name) => name.length === 64)!;
  assert.is(realpathSync(link), realpathSync(join(context.settings.cacheDir, "models--someone--small", "blobs", blob)));
  assert.is(readFileSync(join(context.settings.cacheDir, "models--someone--small", "refs", "main"), "utf8"), context.hub.commit);
  const total = wanted.reduce((sum, name) => sum + files[name]!.length, 0);
  assert.equal(seen.at(-1), { stage: "download", label: "model.safetensors", loaded: total, total });
  assert.equal(seen.map(({ loaded }) => loaded), seen.map(({ loaded }) => loaded).toSorted((a, b) => a - b));

  const before = context.hub.requests.length;
  assert.equal(await get(context), model);
  assert.equal(await get(context, { revision: context.hub.commit }), model);
  assert.equal(await get(context, {}, { offline: true, endpoint: "http://127.0.0.1:1" }), model);
  assert.is(context.hub.requests.length, before);
});

download("resolveModel reads the environment", async ({ hub, settings }) => {
  const { cacheDir } = settings;
  const changed: Record<string, string> = { HF_ENDPOINT: hub.url, HF_HUB_CACHE: cacheDir, HF_HOME: cacheDir, HF_TOKEN: "secret" };
  const saved = Object.keys(changed).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, changed);
  try {
    const model = await resolveModel(`someone/small@${hub.commit}`);
    assert.is(model.id, "someone/small");
    assert.ok(existsSync(join(snapshotOf(model), "config.json")));
    assert.is(hub.requests.some(({ path }) => path.includes("/revision/")), false, "a commit needs no look-up");
  } finally {
    for (const [name, value] of saved) if (value === undefined) delete process.env[name]; else process.env[name] = value;
  }
});

download("goes on where a cut connection stopped", async (context) => {
  context.hub.faults.cut = [50_000, 60_000];
  checkComplete(context, await get(context));
  const ranges = fetched(context, "model.safetensors").filter(({ server }) => server === "store").map(({ range }) => range);
  assert.is(ranges.length, 3);
  assert.is(ranges[0], undefined);
  assert.match(ranges[1]!, /^bytes=[1-9]\d*-$/);
  assert.match(ranges[2]!, /^bytes=[1-9]\d*-$/);
});

download("an incomplete blob is never used, and a later run takes it up", async (context) => {
  context.hub.faults.cut = [50_000, 10, 10, 10, 10];
  await rejects(get(context), ModelFileError, /no answer from http:\/\/127\.0\.0\.1:\d+ after 5 attempts/);
  assert.is(blobsOf(context).filter((name) => name.endsWith(".incomplete")).length, 1);
  await rejects(get(context, {}, { offline: true }), ModelFileError,
    /HF_HUB_OFFLINE is set .* not all of main; missing: model\.safetensors \(or model\.safetensors\.index\.json\)/);
  checkComplete(context, await get(context));
  assert.match(fetched(context, "model.safetensors").at(-1)!.range!, /^bytes=5\d{4}-$/);
});

download("a server without ranges: starts over", async (context) => {
  context.hub.faults.cut = [50_000];
  context.hub.faults.ignoreRange = true;
  checkComplete(context, await get(context));
});

download("a foreign incomplete blob, too long or of other bytes, does no harm", async (context) => {
  const folder = join(context.settings.cacheDir, "models--someone--small", "blobs");
  const model = await get(context);
  const hash = blobsOf(context).find((name) => name.length === 64)!;
  for (const junk of [Buffer.alloc(300_000, 1), Buffer.alloc(1000, 1), Buffer.alloc(weights.length, 1)]) {
    rmSync(join(folder, hash));
    writeFileSync(join(folder, `${hash}.incomplete`), junk);
    checkComplete(context, await get(context));
  }
  assert.ok(model);
});

download("wrong bytes: thrown away and fetched once more; wrong again: refused", async (context) => {
  context.hub.faults.damage = 1;
  checkComplete(context, await get(context));
  rmSync(context.settings.cacheDir, { recursive: true });
  context.hub.faults.damage = 9;
  await rejects(get(context), ModelFileError, /someone\/small: model\.safetensors arrived damaged twice/);
  assert.is(context.hub.faults.damage, 7);
  assert.equal(blobsOf(context).filter((name) => name.length >= 64), []);
});

download("silence is given up after the timeout and tried again", async (context) => {
  context.hub.faults.stall = 1;
  checkComplete(context, await get(context));
  rmSync(context.settings.cacheDir, { recursive: true });
  context.hub.faults.stall = 99;
  await rejects(get(context, {}, { timeoutMs: 60 }), ModelFileError, /after 5 attempts \(silent for 0\.06 s\)/);
});

download("busy and broken servers are asked again, with the pause they name; endless trouble is reported", async (context) => {
  for (const code of [429, 500, 503]) {
    context.hub.faults.status = { code, times: 2 };
    checkComplete(context, await get(context));
    rmSync(context.settings.cacheDir, { recursive: true });
  }
  context.hub.faults.status = { code: 429, headers: { "retry-after": "1" }, times: 1 };
  const started = performance.now();
  await get(context);
  assert.ok(performance.now() - started >= 1000);
  rmSync(context.settings.cacheDir, { recursive: true });
  context.hub.faults.status = { code: 503, times: 99 };
  await rejects(get(context), ModelFileError, /after 5 attempts \(HTTP 503\); try again later/);
  context.hub.faults.status = { code: 429, headers: { "retry-after": "3600" }, times: 99 };
  await rejects(get(context), ModelFileError, /after 1 attempt \(HTTP 429, retry after 3600\)/);
  assert.not.ok(existsSync(context.settings.cacheDir) && blobsOf(context).length > 0);
});

download("401, 403 and 404 are one sentence each, at once", async (context) => {
  context.hub.faults.token = "hf_right";
  await rejects(get(context), ModelFileError, /HTTP 401\): check the name, or set HF_TOKEN/);
  const wrong = await rejects(get(context, {}, { token: "hf_wrong" }), ModelFileError,
    /does not accept the token of HF_TOKEN \(HTTP 401\)/);
  assert.not.match(wrong.message, /hf_wrong/);
  delete context.hub.faults.token;
  context.hub.faults.status = { code: 403, times: 1 };
  await rejects(get(context), ModelFileError, /HTTP 403\): accept the licence at http:\/\/127\.0\.0\.1:\d+\/someone\/small/);
  const before = context.hub.requests.length;
  await rejects(get(context, { repo: "someone/else" }), ModelFileError, /no such model .*HTTP 404.*no folder of that name/);
  await rejects(get(context, { revision: "v9" }), ModelFileError, /has no revision "v9"/);
  assert.is(context.hub.requests.length - before, 2);
});

download("nobody there, a redirect loop, a page instead of data", async (context) => {
  await rejects(get(context, {}, { endpoint: "http://127.0.0.1:1" }), ModelFileError,
    /no answer from http:\/\/127\.0\.0\.1:1 after 5 attempts/);
  context.hub.faults.redirectLoop = true;
  await rejects(get(context), ModelFileError, /after 1 attempt \(redirect count exceeded\)/);
  context.hub.faults.redirectLoop = false;
  context.hub.faults.html = true;
  await rejects(get(context), ModelFileError, /the hub's answer cannot be read/);
});

download("the token goes to the hub and to no other host, whatever its form", async (context) => {
  context.hub.faults.token = "token-of-a-mirror";
  context.hub.faults.nextPage = true;
  checkComplete(context, await get(context, {}, { token: "token-of-a-mirror" }));
  const stored = context.hub.requests.filter(({ server }) => server === "store").map(({ path }) => path);
  assert.equal(stored, ["/next-page", "/model.safetensors"]);
  for (const { server, authorization } of context.hub.requests) {
    assert.is(authorization, server === "hub" ? "Bearer token-of-a-mirror" : undefined);
  }
});

download("a file list that leaves the repository, lies or has no end is refused and nothing is written", async (context) => {
  const entry = { type: "file", path: "x.json", size: 2, oid: "0".repeat(40) };
  const cases: [unknown, RegExp][] = [
    [{ ...entry, path: "../../evil.json" }, /unsafe path "\.\.\/\.\.\/evil\.json"/],
    [{ ...entry, path: "/etc/evil.json" }, /unsafe path/],
    [{ ...entry, path: "a\\..\\evil.json" }, /unsafe path/],
    [{ ...entry, path: "C:evil.json" }, /unsafe path/],
    [{ ...entry, path: "a\0.json" }, /unsafe path/],
    [{ ...entry, path: "" }, /unsafe path/],
    [{ ...entry, path: 7 }, /unsafe path 7/],
    [{ ...entry, oid: "../../evil" }, /the hash "\.\.\/\.\.\/evil"/],
    [{ ...entry, lfs: { oid: "0".repeat(40), size: 2 } }, /the hash/],
    [{ ...entry, size: -1 }, /the size -1/],
  ];
  for (const [extra, message] of cases) {
    context.hub.faults.extraEntries = [extra];
    await rejects(get(context), ModelFileError, message);
  }
  context.hub.faults.extraEntries = Array.from({ length: 10_001 }, (_, i) => ({ ...entry, path: `${i}.txt` }));
  await rejects(get(context), ModelFileError, /more than 10000 entries/);
  context.hub.faults.extraEntries = [{ ...entry, size: 1e15 }];
  await rejects(get(context), UsageError, /needs 1000000\.00 GB, but .* free/);
  assert.equal(blobsOf(context), []);
});

download("a download can be aborted, also while it waits", async (context) => {
  context.hub.faults.stall = 9;
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 100);
  await rejects(get(context, { signal: controller.signal }, { timeoutMs: 60_000 }), AbortedError, /aborted/);
  context.hub.faults.status = { code: 429, headers: { "retry-after": "30" }, times: 99 };
  const started = performance.now();
  const second = new AbortController();
  setTimeout(() => second.abort(), 100);
  await rejects(get(context, { signal: second.signal }), AbortedError, /aborted/);
  assert.ok(performance.now() - started < 60_000);
});

download("two calls and two processes for one model fetch every blob once", async (context) => {
  context.hub.faults.delayMs = 300;
  const script = `
    import { resolveHubModel } from ${JSON.stringify(new URL("../../engine/hub.ts", import.meta.url).href)};
    const model = await resolveHubModel(${JSON.stringify(context.settings)}, { repo: "someone/small", revision: "main" }, {});
    console.log(JSON.stringify(model));`;
  const child = () => new Promise<ResolvedModel>((resolve, reject) => {
    const started = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    started.stdout.on("data", (chunk) => { out += chunk; });
    started.on("close", (code) => code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`child left with ${code}`)));
  });
  context.settings = { ...context.settings, timeoutMs: 5000 };
  const models = await Promise.all([get(context), get(context), child(), child()]);
  for (const model of models) assert.equal(model, models[0]);
  checkComplete(context, models[0]!);
  assert.is(context.hub.requests.filter(({ server }) => server === "store").length, 1);
});

download("the lock of a process that died is taken over", async (context) => {
  await get(context);
  const folder = join(context.settings.cacheDir, "models--someone--small", "blobs");
  const hash = blobsOf(context).find((name) => name.length === 64)!;
  rmSync(join(folder, hash));
  writeFileSync(join(folder, `${hash}.lock`), "1");
  utimesSync(join(folder, `${hash}.lock`), new Date(Date.now() - 60_000), new Date(Date.now() - 60_000));
  checkComplete(context, await get(context));
});

download("a cache that cannot be written to is named", async (context) => {
  const cacheDir = join(context.settings.cacheDir, "file");
  writeFileSync(cacheDir, "x");
  await rejects(get(context, {}, { cacheDir }), UsageError, /the model cache .*file is not a folder .*set HF_HUB_CACHE/);
  assert.equal(context.hub.requests.filter(({ path }) => path.includes("/resolve/")), []);
});

download("offline with nothing cached", async (context) => {
  await rejects(get(context, {}, { offline: true }), ModelFileError, /HF_HUB_OFFLINE is set and the cache .* has nothing of main/);
  await rejects(get(context, { revision: "b".repeat(40) }, { offline: true }), ModelFileError,
    /missing: config\.json, tokenizer\.json, model\.safetensors/);
  assert.is(context.hub.requests.length, 0);
});

download("a snapshot that another tool left half is completed online and used offline if a run can start", async (context) => {
  const folder = join(context.settings.cacheDir, "models--someone--small", "snapshots", context.hub.commit);
  mkdirSync(folder, { recursive: true });
  for (const name of ["config.json", "tokenizer.json", "model.safetensors"]) writeFileSync(join(folder, name), files[name]!);
  const offline = await get(context, { revision: context.hub.commit }, { offline: true });
  assert.is(snapshotOf(offline), folder);
  checkComplete(context, await get(context, { revision: context.hub.commit }));
  assert.equal(fetched(context, "model.safetensors"), []);
});

const shardName = (i: number) => `model-0000${i}-of-00002.safetensors`;
const index = (map: Record<string, unknown>) => Buffer.from(JSON.stringify({ metadata: {}, weight_map: map }));
const { "model.safetensors": _single, ...withoutWeights } = files;

download("sharded: the shards that the index names and no others; missing ones are listed, escapes refused", async (context) => {
  const serve = async (more: Record<string, Buffer>) => {
    await context.hub.close();
    context.hub = await startFakeHub({ ...withoutWeights, ...more });
    context.settings = { ...context.settings, endpoint: context.hub.url, cacheDir: mkdtempSync(join(temporary, "cache-")) };
  };
  const shards = { [shardName(1)]: weights.subarray(0, 1000), [shardName(2)]: weights.subarray(1000, 3000) };
  const good = index({ a: shardName(1), b: shardName(2), c: shardName(1) });
  await serve({ ...shards, "consolidated.safetensors": weights, "model.safetensors.index.json": good });
  const model = await get(context);
  const names = readdirSync(snapshotOf(model));
  assert.ok(names.includes(shardName(1)) && names.includes(shardName(2)) && !names.includes("consolidated.safetensors"));
  rmSync(realpathSync(join(snapshotOf(model), shardName(2))));
  await rejects(get(context, {}, { offline: true }), ModelFileError, new RegExp(`missing: ${shardName(2)}$`));

  const torn = index({ a: "model-x.safetensors", b: "model-y.safetensors", c: shardName(1) });
  await serve({ ...shards, "model.safetensors.index.json": torn });
  await rejects(get(context), ModelFileError, /lacks: model-x\.safetensors, model-y\.safetensors/);
  const relative = ["../../etc/passwd", "a\\..\\b.safetensors", "a/b.safetensors"];
  for (const escape of [...relative, "/abs.safetensors", "C:\\x.safetensors", "\0.safetensors", "", "x.bin", 7]) {
    await serve({ ...shards, "model.safetensors.index.json": index({ a: escape }) });
    await rejects(get(context), ModelFileError, /model\.safetensors\.index\.json: weight_map names/);
  }
  await serve({ "model.safetensors.index.json": Buffer.from('{\n "a": x\n}') });
  await rejects(get(context), ModelFileError, /index\.json: not valid JSON/);
  await serve({ "model.safetensors.index.json": Buffer.from("{}") });
  await rejects(get(context), ModelFileError, /has no weight_map/);
  await serve({});
  await rejects(get(context), ModelFileError, /has neither model\.safetensors nor .* \(only pytorch_model\.bin/);
});

download.run();
