/**
 * The control arm of the layouts: the first arm a second time, in a model of its own. What the two differ by is the least that counts as a
 * difference; it stands in every table, but has no report of its own, since it says nothing that the first arm does not.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Load } from "../../bench/core/arms.ts";
import { compare } from "../../bench/core/compare.ts";
import { machine } from "../../bench/core/environment.ts";
import { experimentOf } from "../../bench/core/experiments.ts";
import { en } from "../../bench/core/lang/en.ts";
import { LANGUAGES } from "../../bench/core/lang/words.ts";
import type { ArmResult, Outcome } from "../../bench/core/measure.ts";
import { runMemoryBenchmark } from "../../bench/core/memory_benchmark.ts";
import { pairOf } from "../../bench/core/metrics.ts";
import { runPagedAttention, runSharedPrefix } from "../../bench/core/paged_attention.ts";
import { armJson, comparisonJson, type Run } from "../../bench/core/report/json.ts";
import { comparisonMarkdown } from "../../bench/core/report/markdown.ts";
import { terminalSummary } from "../../bench/core/report/terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import type { Change } from "../../bench/core/stats.ts";
import { fakeLoad } from "../support/fake_llm.ts";

const test = suite("the control arm of the layouts");

const CONFIG = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", num_prompts: 5, batch_size: 2, max_tokens: 4, max_model_len: 64, temperature: 0, top_p: 1,
  warmup_limit: 1,
} as ExperimentConfig;
const PREFIX: ExperimentConfig = { ...CONFIG, shared_prefix: 70, max_model_len: 256, num_prompts: 4 };
const TEXTS = ["a bb ccc", "dddd", "ee f", "ggg hh i jj", "k"];
const HOOKS = { signal: new AbortController().signal, onStep: () => {} };
const INFO = {
  config: CONFIG, configFile: "x.yaml", origins: {}, prompts: { texts: TEXTS, origin: { kind: "given" } as const, sha256: "f".repeat(64) },
  started: "2026-01-01T00:00:00.000Z",
};

const reported = (outcome: Outcome): Run => ({ ...INFO, outcome, machine: machine() });
const prefixRun = async (): Promise<Run> => ({ ...INFO, config: PREFIX, ...await runSharedPrefix(PREFIX, fakeLoad(), HOOKS), machine: machine() });

test("a comparison of all layouts, and one of the prefix cache, has its first arm twice; the memory benchmark too; one arm alone does not", async () => {
  const both = await runPagedAttention(CONFIG, { texts: TEXTS }, fakeLoad(), HOOKS);
  assert.equal(both.arms.map(({ name, layout, batch }) => [name, layout.name, batch]), [
    ["contiguous-max", "contiguous", 2], ["again", "contiguous", 2], ["contiguous-exact", "contiguous", null], ["paged", "paged", null],
  ]);
  for (const [method, name] of [["basic", "contiguous-max"], ["optimized", "paged"]] as const) {
    assert.equal((await runPagedAttention({ ...CONFIG, method }, { texts: TEXTS }, fakeLoad(), HOOKS)).arms.map((arm) => arm.name), [name]);
  }
  assert.equal((await prefixRun()).outcome.arms.map(({ name, layout }) => [name, layout.name]), [
    ["paged", "paged"], ["again", "paged"], ["paged-prefix", "paged"],
  ]);
  const { cells } = await runMemoryBenchmark({ ...CONFIG, benchmark_memory: true, distributions: ["constant"] }, fakeLoad(), HOOKS);
  assert.equal(cells[0]!.outcome.arms.map(({ name }) => name), ["contiguous-max", "again", "contiguous-exact", "paged"]);
});

/** All requests in one batch, so that every call is an iteration: the i-th of an arm takes `slower[arm][i]` times as long as it would. */
function uneven(slower: Readonly<Record<string, readonly number[]>>): Promise<Outcome> {
  const inner = fakeLoad();
  let loads = 0;
  const load: Load = async (model, options) => {
    const llm = await inner(model, options), times = slower[["contiguous-max", "again", "contiguous-exact", "paged"][loads++]!];
    let calls = 0;
    return {
      ...llm,
      generateBatch: async (prompts, generate) => {
        const results = await llm.generateBatch(prompts, generate), by = times?.[calls++] ?? 1;
        return results.map((result) => {
          const { ttft, total, tpot, itl } = result.timings;
          const timings = { ttft: ttft * by, total: total * by, tpot: tpot === null ? null : tpot * by, itl: itl.map((gap) => gap * by) };
          return { ...result, timings };
        });
      },
    };
  };
  return runPagedAttention({ ...CONFIG, num_prompts: 2, warmup_iterations: 0 }, { texts: TEXTS.slice(0, 2) }, load, HOOKS);
}
const always = (by: number): number[] => Array.from({ length: CONFIG.test_iterations }, () => by);

test("what two equal arms differ by is the least that counts, of every pair and in either direction", async () => {
  const SIMULATED = ["tpot_ms", "itl_p50_ms"]; // of the others a real clock is a part
  for (const [again, paged, floor, isMeasurable] of [
    [always(1), always(1.25), 0, true], // the control agrees: a quarter more is told
    [always(1.3), always(1.25), 30, false], // it does not: the same quarter is noise
    [always(0.7), always(1.25), 30, false], // nor when it was faster
    [always(1.3), always(1.5), 30, true],
    [always(0.7), always(0.5), 30, true],
    [[1, 1.1, 1.2, 1.1, 1.3], always(1.25), 30, false], // its whole interval counts, not its middle
    [[0.6, 1, 1.1, 1.1, 1.1], always(1.25), 40, false], // and the end that is further from zero
  ] as const) {
    const { pairs } = compare(await uneven({ again, paged }), en)!;
    assert.equal(pairs.map(({ from, to }) => [from, to]), [["contiguous-max", "paged"], ["contiguous-exact", "paged"]]);
    for (const { from, changes } of pairs) {
      const told = `${again.join(" ")} and ${paged[0]}, from ${from}`;
      for (const { metric: { key }, change } of changes.filter((one) => SIMULATED.includes(one.metric.key))) {
        assert.ok(Math.abs(change!.noise - floor) < 1e-6, `${told}: the noise of ${key} is ${change!.noise}`);
        assert.is(change!.measurable, isMeasurable, `${told}: ${key}`);
        assert.ok(Math.abs(change!.median - (paged[0]! - 1) * 100) < 1e-6, `${told}: the control moves the floor, not the difference`);
      }
    }
  }
});

test("the floor that the control sets takes the sentence out of every report", async () => {
  const [calm, restless] = [await uneven({ paged: always(1.25) }), await uneven({ again: always(1.3), paged: always(1.25) })].map(reported);
  assert.match(comparisonMarkdown(calm!)!, /- TPOT: 25\.0 % higher, worse \(\+25\.0 %\)/);
  assert.match(terminalSummary(calm!), /│ TPOT .+│ +\+25\.0 % │ +\+25\.0 % │\n/);
  assert.match(comparisonMarkdown(restless!)!, /- TPOT: no measurable difference \(\+25\.0 % over the iterations\)/);
  assert.match(terminalSummary(restless!), /│ TPOT .+│ +no measurable difference │ +no measurable difference │\n/);
  const noise = (run: Run): number[] => {
    const { comparison } = JSON.parse(armJson(run, run.outcome.arms.find(({ name }) => name === "paged")!));
    return comparison.pairs.map((pair: any) => Math.round(pair.changesPercent.tpot_ms.noise));
  };
  assert.equal([calm!, restless!].map(noise), [[0, 0], [30, 30]]);
});

test("the prefix cache is held against its control too", async () => {
  const { outcome, ...rest } = await prefixRun();
  const twice = (arm: ArmResult): ArmResult => ({
    ...arm, iterations: arm.iterations.map(({ requests, ...rest }) => ({ ...rest, requests: requests.map((request) => ({ ...request, ttft: request.ttft * 2 })) })),
  });
  const ttft = (of: Outcome): Change => compare(of, en)!.pairs[0]!.changes.find(({ metric: { key } }) => key === "ttft_ms")!.change!;
  const restless = { ...outcome, arms: outcome.arms.map((arm) => (arm.name === "again" ? twice(arm) : arm)) };
  assert.ok(ttft(outcome).noise < 30 && ttft(outcome).measurable);
  const { low, high } = pairOf(restless.arms[0]!, restless.arms[1]!).changes.find(({ metric: { key } }) => key === "ttft_ms")!.change!;
  assert.is(ttft(restless).noise, Math.max(Math.abs(low), Math.abs(high)));
  assert.ok(ttft(restless).noise > 90, `${ttft(restless).noise}`);
  assert.is(ttft(restless).measurable, false);
  assert.match(comparisonMarkdown({ ...rest, outcome: restless })!, /- TTFT: no measurable difference/);
});

test("greedy texts in which two equal arms differ make the run invalid too", async () => {
  const inner = fakeLoad();
  let loads = 0;
  const outcome = await runPagedAttention(CONFIG, { texts: TEXTS }, async (model, options) => {
    const llm = await inner(model, options);
    if (loads++ !== 1) return llm;
    const generateBatch: typeof llm.generateBatch = async (prompts, generate) =>
      (await llm.generateBatch(prompts, generate)).map((result) => ({ ...result, ids: result.ids.map((id) => id + 1) }));
    return { ...llm, generateBatch };
  }, HOOKS);
  assert.equal([outcome.identical!.same, outcome.identical!.required], [0, true]);
  assert.match(compare(outcome, en)!.invalid!, /0 of 5 texts are the same/);
});

/** Heads of all tables of a Markdown text. */
const headsOf = (markdown: string): string[][] =>
  [...markdown.matchAll(/(?<=\n\n)\|(.+)\|\n\| ---/g)].map(([, head]) => head!.split("|").map((cell) => cell.trim()));

test("it stands in every table of a comparison under its name, and its raw samples and its turns beside those of the others", async () => {
  const layouts = reported(await runPagedAttention(CONFIG, { texts: TEXTS }, fakeLoad(), HOOKS));
  for (const [run, first, others] of [[layouts, "contiguous-max", ["contiguous-exact", "paged"]], [await prefixRun(), "paged", ["paged + prefix cache"]]] as const) {
    const text = comparisonMarkdown(run)!, arms = [first, "again (A/A)", ...others], [metrics, memory] = headsOf(text);
    assert.equal(metrics!.slice(2, 2 + arms.length), arms);
    assert.equal(memory!.slice(1), arms);
    assert.ok(metrics!.slice(2 + arms.length).every((column) => column.includes(" against ") && !column.includes("A/A")), "it is no side of a pair");
    assert.match(text, /^- again \(A\/A\): the first layout a second time/m);
    assert.match(text, /\n\nagain \(A\/A\)\n\n\| iteration \|/);
    const order = /^Order of the arms, by iteration: (.+)$/m.exec(text)![1]!;
    assert.is(order.match(/again \(A\/A\)/g)?.length, CONFIG.test_iterations);
    assert.match(terminalSummary(run), new RegExp(`│ unit +│ +${first} │ +again \\(A/A\\) │`));
    for (const one of [text, terminalSummary(run)]) assert.not.match(one, /NaN|undefined|Infinity/);
    assert.not.match(text, /again \(A\/A\): \d+ sequences/, "what fits the budget is said once");
  }
});

test("no report of its own is written for it, in either language; its samples stand in the result", async () => {
  for (const lang of ["en", "zh"] as const) {
    const { files: { arms, comparison, prefix } } = LANGUAGES[lang], config = { ...CONFIG, lang };
    const written = (await experimentOf(config)({ ...INFO, config }, fakeLoad(), HOOKS))!;
    const names = (["contiguous-max", "contiguous-exact", "paged"] as const).flatMap((name) => [`${arms[name]}.md`, `${arms[name]}.json`]);
    assert.equal(written.files.map(([name]) => name).sort(), [...names, `${comparison("small", "x")}.md`].sort());
    for (const [, content] of written.files) assert.not.match(String(content), /NaN|undefined|Infinity/);
    assert.equal(written.body.arms.map(({ name, role, metrics }) => [name, role, metrics["ttft_ms"]!.samples.length]), [
      ["contiguous-max", "baseline", 5], ["again", "control", 5], ["contiguous-exact", "technique", 5], ["paged", "technique", 5],
    ]);
    const shared = { ...PREFIX, lang };
    const prefixed = (await experimentOf(shared)({ ...INFO, config: shared }, fakeLoad(), HOOKS))!;
    assert.equal(prefixed.files.map(([name]) => name).sort(), [`${prefix("small", "x")}.json`, `${prefix("small", "x")}.md`]);
    assert.equal(prefixed.body.arms.map(({ role }) => role), ["baseline", "control", "technique"]);
  }
  assert.equal(JSON.parse(comparisonJson(await prefixRun())).arms.map(({ arm }: { arm: string }) => arm), ["paged", "again", "paged-prefix"]);
});

test.run();
