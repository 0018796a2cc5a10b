/** The prefix-cache experiment: only the common text can be found again, no hit is no result, and a hit must not change a text. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { compare } from "../../bench/core/compare.ts";
import { machine } from "../../bench/core/environment.ts";
import { en } from "../../bench/core/lang/en.ts";
import { hitRate, metricsOf } from "../../bench/core/metrics.ts";
import { runSharedPrefix } from "../../bench/core/paged_attention.ts";
import { comparisonJson, statusOf, type Run } from "../../bench/core/report/json.ts";
import { comparisonMarkdown } from "../../bench/core/report/markdown.ts";
import { terminalSummary } from "../../bench/core/report/terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { ContextLengthError } from "../../engine/errors.ts";
import type { LoadOptions } from "../../models/options.ts";
import { fakeLoad, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("shared prefix");

const CONFIG = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", shared_prefix: 70, num_prompts: 4, batch_size: 2, max_tokens: 4, max_model_len: 256, temperature: 0, top_p: 1,
} as ExperimentConfig;

async function run(config: Partial<ExperimentConfig> = {}, fake: FakeOptions = {}): Promise<Run> {
  const complete = { ...CONFIG, ...config } as ExperimentConfig;
  const { outcome, prompts } = await runSharedPrefix(complete, fakeLoad(fake), { signal: new AbortController().signal, onStep: () => {} });
  return { config: complete, configFile: "x.yaml", origins: {}, prompts, outcome, machine: machine(), started: "2026-01-01T00:00:00.000Z" };
}

test("two paged arms, the first of them twice, that differ in the prefix cache alone", async () => {
  const loads: LoadOptions[] = [];
  await run({}, { onLoad: (options) => { loads.push(options); } });
  const [without, again, withCache] = loads.map(({ onProgress: _, kvMemory: __, ...rest }) => rest);
  assert.is(loads.length, 3);
  assert.equal(again, without, "the control is the arm without");
  assert.equal([without!.prefixCache, without!.kvLayout], [false, { name: "paged", blockSize: 16 }]);
  assert.equal(withCache, { ...without, prefixCache: true });
});

test("after warm-up exactly the whole blocks of the common text are found: what follows differs in every iteration", async () => {
  const made = await run();
  const [without, again, withCache] = made.outcome.arms;
  assert.equal([hitRate(without!), hitRate(again!)], [null, null]);
  const requests = withCache!.iterations.flatMap((iteration) => iteration.requests);
  for (const { cachedTokens, promptTokens } of requests) assert.ok(cachedTokens === 64 && promptTokens > 70, `${cachedTokens} of ${promptTokens}`);
  const prompts = requests.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  assert.equal([withCache!.cache.hitTokens, withCache!.cache.queriedTokens], [64 * requests.length, prompts]);
  const percent = `${(6400 * requests.length / prompts).toFixed(1)} %`;
  assert.is(compare(made.outcome, en)!.engagement, `${64 * requests.length} of ${prompts} prompt tokens that were looked up came out of the prefix cache (${percent}; the common text alone is ${percent})`);
  assert.is(made.prompts.texts.length, 6 * 4);
  assert.is(new Set(made.prompts.texts).size, 24);
});

test("the hit rate and TTFT of both arms stand in every report", async () => {
  const made = await run();
  const rate = `${(hitRate(made.outcome.arms[2]!)! * 100).toFixed(1)} %`;
  const markdown = comparisonMarkdown(made)!, terminal = terminalSummary(made);
  for (const text of [markdown, terminal]) {
    assert.ok(text.includes(rate), text);
    assert.match(text, /TTFT: \d+\.\d % lower, better/);
    assert.not.match(text, /NaN|undefined|Infinity|budget/);
  }
  assert.match(markdown, /n\/a \(shared blocks count once, whoever uses them\)/);
  const json = JSON.parse(comparisonJson(made)) as Record<string, any>;
  assert.equal(json["arms"].map((arm: any) => arm.arm), ["paged", "again", "paged-prefix"]);
  assert.is(json["arms"][2].prefixHitRate, hitRate(made.outcome.arms[2]!));
  for (const at of [0, 1]) assert.is("prefixHitRate" in json["arms"][at], false);
  const [a, again, b] = made.outcome.arms.map((arm) => metricsOf(arm)[0]!.summary!.median);
  assert.equal(json["arms"].map((arm: any) => arm.metrics.ttft_ms.median), [a, again, b]);
  assert.ok(Math.abs(again! / a! - 1) < 1e-3, "the control waits as long as the first arm");
  assert.ok(b! < a!);
});

test("no hit: invalid, and nothing is said about speed", async () => {
  const made = await run({}, { forgetful: true });
  assert.is(statusOf(made), "invalid");
  for (const text of [comparisonMarkdown(made)!, terminalSummary(made)]) {
    assert.match(text, /INVALID.*: no prompt token came out of the prefix cache/);
    assert.not.match(text, /\d % (lower|higher)/);
  }
});

test("no room for the common text, a prompt and its continuation is refused with the numbers", async () => {
  const error: unknown = await run({ max_model_len: 120 }).then(() => null, (thrown: unknown) => thrown);
  assert.instance(error, ContextLengthError);
  assert.match((error as Error).message, /^the longest prompt has \d+ tokens; with max_tokens 4 it needs \d+, but a sequence has room for 120/);
});

test.run();
