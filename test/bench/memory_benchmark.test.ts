/**
 * The memory benchmark on a stand-in whose cache is counted exactly: what is measured must be what arithmetic says, memory alone must limit
 * how many run, and the reports must judge the paper's claims by these numbers and no others.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ArmName } from "../../bench/core/arms.ts";
import { machine } from "../../bench/core/environment.ts";
import type { ArmResult } from "../../bench/core/measure.ts";
import { runMemoryBenchmark, type MemoryCell } from "../../bench/core/memory_benchmark.ts";
import { memoryUse } from "../../bench/core/metrics.ts";
import { memoryJson, memoryStatusOf, type MemoryRun } from "../../bench/core/report/json.ts";
import { memoryMarkdown } from "../../bench/core/report/memory.ts";
import { memorySummary } from "../../bench/core/report/terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { ContextLengthError } from "../../engine/errors.ts";
import type { LoadOptions } from "../../models/options.ts";
import { sequencesThatFit } from "../../techniques/paged_attention/index.ts";
import { ENTRY_BYTES, fakeLoad, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("memory benchmark");
const MACHINE = machine();

const CONFIG = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", benchmark_memory: true, num_prompts: 24, batch_size: 2, max_model_len: 256, block_size: 8,
  temperature: 0, top_p: 1, warmup_iterations: 1, test_iterations: 2,
} as ExperimentConfig;

async function run(config: Partial<ExperimentConfig> = {}, fake: FakeOptions = {}, stop = new AbortController(), stopAt = Infinity): Promise<MemoryRun> {
  const complete = { ...CONFIG, ...config } as ExperimentConfig;
  let steps = 0;
  const memory = await runMemoryBenchmark(complete, fakeLoad(fake), { signal: stop.signal, onStep: () => { if (++steps === stopAt) stop.abort(); } });
  return { config: complete, configFile: "x.yaml", origins: {}, prompts: memory.prompts, memory, machine: MACHINE, started: "2026-01-01T00:00:00.000Z" };
}
const armOf = ({ outcome }: MemoryCell, name: ArmName): ArmResult => outcome.arms.find((arm) => arm.name === name)!;

test("all arms get the same bytes, and continuous ones a limit that only memory can reach", async () => {
  const loads: LoadOptions[] = [];
  await run({}, { onLoad: (options) => { loads.push(options); } });
  assert.equal(loads.map(({ kvMemory, maxSequences, prefixCache }) => [kvMemory, maxSequences, prefixCache]),
    [[undefined, 2, false], ...Array.from({ length: 3 }, () => [2 * 256 * ENTRY_BYTES, 24, false])]);
});

test("what is measured is what arithmetic says, for every arm and distribution", async () => {
  const { memory: { cells } } = await run();
  assert.equal(cells.map(({ distribution }) => distribution), ["sharegpt", "alpaca", "uniform", "constant"]);
  for (const cell of cells) {
    for (const arm of cell.outcome.arms) {
      if (arm.cache.preemptions > 0) continue; // recomputed texts live through their lengths twice
      assert.ok(Math.abs(memoryUse(arm).waste! - cell.expectedWaste[arm.name]!) < 1e-9, `${cell.distribution}, ${arm.name}: ${memoryUse(arm).waste} and ${cell.expectedWaste[arm.name]}`);
    }
    assert.is(armOf(cell, "contiguous-max").cache.preemptions + armOf(cell, "contiguous-exact").cache.preemptions, 0);
  }
  assert.ok(cells.some((cell) => armOf(cell, "paged").cache.preemptions === 0), "at least one was compared");
});

test("static batches hold what the budget holds at the maximum; the others run more at a time, and never more than fits", async () => {
  const { memory: { cells, budgetTokens } } = await run();
  assert.is(budgetTokens, 512);
  for (const cell of cells) {
    assert.equal([armOf(cell, "contiguous-max").fits, armOf(cell, "contiguous-max").cache.peakRunning], [2, 2]);
    for (const name of ["contiguous-exact", "paged"] as const) {
      const arm = armOf(cell, name);
      assert.is(arm.fits, sequencesThatFit(arm.layout, cell.lengths.map(({ prompt, output }) => prompt + output), 256, 512));
      assert.ok(arm.cache.peakRunning > 2 && arm.cache.peakReserved <= 512, `${cell.distribution}, ${name}: ${arm.cache.peakRunning}`);
    }
    const lengths = cell.lengths.map(({ output }) => output);
    for (const { iterations } of cell.outcome.arms) for (const { requests } of iterations) assert.equal(requests.map(({ newTokens }) => newTokens), lengths);
    assert.equal([cell.outcome.identical!.same, cell.outcome.identical!.required], [24, true]);
  }
});

test("a budget that does not hold one sequence of the maximum: contiguous-max fits none, is not run, and the report says so", async () => {
  const made = await run({ kv_memory: 200 * ENTRY_BYTES, distributions: ["constant"] });
  const [cell] = made.memory.cells;
  assert.equal(cell!.outcome.skipped, [{ name: "contiguous-max", needs: 256, holds: 200 }]);
  assert.equal(cell!.outcome.arms.map(({ name }) => name), ["contiguous-exact", "paged"]);
  assert.is(memoryStatusOf(made), "complete");
  for (const text of [memoryMarkdown(made), memorySummary(made)]) assert.match(text, /contiguous-max: none\. One sequence reserves 256 tokens, the budget holds 200; it was not run/);
});

test("a budget that does not hold one of the requests is refused with both numbers, before anything runs", async () => {
  const error: unknown = await run({ kv_memory: 40 * ENTRY_BYTES, distributions: ["constant"] }).then(() => null, (thrown: unknown) => thrown);
  assert.instance(error, ContextLengthError);
  assert.match((error as Error).message, /^contiguous-exact: the longest request, 32 tokens of prompt and 32 new ones, needs a cache of 64 tokens, but kv_memory holds 40: raise kv_memory, or lower max_model_len$/);
});

test("distributions that are named are run, in their order", async () => {
  const { memory } = await run({ distributions: ["constant", "alpaca"] });
  assert.equal(memory.cells.map(({ distribution }) => distribution), ["constant", "alpaca"]);
});

test("the reports: every arm of every distribution, both claims judged by the numbers, nothing that is not a number", async () => {
  const made = await run({ test_iterations: 5 });
  const markdown = memoryMarkdown(made), terminal = memorySummary(made);
  for (const text of [markdown, terminal]) {
    assert.not.match(text, /NaN|Infinity|undefined|\[object/);
    for (const name of ["ShareGPT-like", "Alpaca-like", "uniform", "constant"]) assert.ok(text.split(name).length > 4, name);
  }
  const rows = markdown.split("\n").filter((line) => /^\| (ShareGPT-like|Alpaca-like|uniform|constant) \| (contiguous|again|paged)/.test(line));
  assert.is(rows.length, 16);
  const claims = markdown.split("\n").filter((line) => /range \| [\d.]+ % \| (holds|does not hold) \| [\d.]+ % \| (holds|does not hold) \|$/.test(line));
  assert.is(claims.length, 4);
  made.memory.cells.forEach((cell, i) => {
    const [useful, waste] = [1 - memoryUse(armOf(cell, "contiguous-max")).waste!, memoryUse(armOf(cell, "paged")).waste!];
    assert.ok(claims[i]!.includes(`${(useful * 100).toFixed(1)} %`) && claims[i]!.includes(useful < 0.204 ? "below" : useful > 0.382 ? "above" : "within"), claims[i]);
    const judged = [cell.expectedWaste.paged!, waste].map((share) => `${(share * 100).toFixed(1)} % | ${share < 0.04 ? "holds" : "does not hold"} |`);
    assert.ok(claims[i]!.endsWith(`| ${judged.join(" ")}`), claims[i]);
  });
  assert.match(markdown, /All lengths are synthetic/);
  const json = JSON.parse(memoryJson(made)) as Record<string, any>;
  assert.equal([json["status"], json["budgetTokens"], json["cells"].length, json["cells"][0].arms.length], ["complete", 512, 4, 4]);
  assert.equal(json["cells"][0].lengths, made.memory.cells[0]!.lengths);
  assert.is(json["cells"][0].arms[0].iterations.length, 5);
  assert.is(json["prompts"].texts.length, 4 * 24);
});

test("one iteration claims nothing about speed; five may", async () => {
  assert.match(memoryMarkdown(await run({ test_iterations: 1 })), /- output throughput: too few iterations to tell/);
  assert.not.match(memoryMarkdown(await run({ test_iterations: 5 })), /output throughput: too few/);
});

test("a text that depends on the layout makes its distribution, and the run, invalid", async () => {
  const made = await run({ distributions: ["constant"] }, { spoil: (ids, layout) => (layout === "paged" ? ids.map((id) => id + 1) : ids) });
  assert.is(memoryStatusOf(made), "invalid");
  assert.match(memoryMarkdown(made), /\*\*INVALID\*\*: constant: greedy texts must not depend/);
  assert.match(memorySummary(made), /INVALID: constant: greedy texts/);
  assert.not.match(memoryMarkdown(made), /with the memory it frees/);
});

test("stopped in the second distribution: the first stays, nothing is concluded, later ones are not begun", async () => {
  const made = await run({ warmup_iterations: 0, test_iterations: 1 }, { stepMs: 0 }, new AbortController(), 6);
  assert.is(memoryStatusOf(made), "interrupted");
  assert.is(made.memory.cells.length, 2);
  for (const text of [memoryMarkdown(made), memorySummary(made)]) {
    assert.match(text, /the run was interrupted, so nothing is concluded from it/);
    assert.not.match(text, /with the memory it frees|NaN|undefined/);
  }
});

test.run();
