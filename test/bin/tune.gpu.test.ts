/** `dawnlm tune` end to end: every product of a model is searched, winners are kept, and the model still says what it said. */

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM } from "../../index.ts";
import type { TuneReport } from "../../kernels/tune.ts";
import { dawnlm } from "../support/command.ts";
import { folderOf } from "../support/llm.ts";

const cache = mkdtempSync(join(tmpdir(), "dawnlm-tune-"));
test.after(() => { rmSync(cache, { recursive: true }); });
// The driver's own cache of compiled shaders stays where it is.
const env = { XDG_CACHE_HOME: cache, MESA_SHADER_CACHE_DIR: process.env["MESA_SHADER_CACHE_DIR"] ?? (process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache")) };

test("tune: a report of every product, and a file of winners", async () => {
  const { code, stdout, stderr } = await dawnlm(["tune", "--model", folderOf("qwen2-mqa"), "--adapter", "software", "--budget", "4", "--json"], { env });
  assert.is(code, 0, stderr);
  const { results, file } = JSON.parse(stdout) as TuneReport;
  assert.ok(results.length >= 8, `${results.length} products`);
  for (const { timed, rejected, shape } of results) {
    assert.equal(rejected, [], JSON.stringify(shape));
    assert.ok(timed >= 0);
  }
  assert.ok(results.some(({ winner, ms, staticMs }) => winner !== null && ms! > 0 && staticMs! >= ms!));
  assert.ok(file!.startsWith(cache));
  assert.equal(readdirSync(join(cache, "dawnlm", "tuning")).length, 1);
});

test("tune: without an effect on what is said; a search that is over at once changes nothing; a bad budget is refused", async () => {
  const options = { maxModelLen: 128, maxSequences: 2 } as const;
  const said = async (llm: LLM): Promise<readonly number[]> => {
    const { ids } = await llm.generate([1, 2, 3], { maxNewTokens: 12, ignoreEos: true });
    await llm.close();
    return ids;
  };
  const expected = await said(await LLM.load(folderOf("qwen2-mqa"), options));
  const before = process.env["XDG_CACHE_HOME"];
  process.env["XDG_CACHE_HOME"] = cache;
  try {
    for (const budgetMs of [1, 1500]) assert.equal(await said(await LLM.load(folderOf("qwen2-mqa"), { ...options, tune: { budgetMs } })), expected, `${budgetMs} ms`);
  } finally {
    if (before === undefined) delete process.env["XDG_CACHE_HOME"];
    else process.env["XDG_CACHE_HOME"] = before;
  }
  const { code, stderr } = await dawnlm(["tune", "--budget", "-3"]);
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: tune must be \{ budgetMs/);
});

test.run();
