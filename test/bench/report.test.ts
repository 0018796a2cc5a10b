/**
 * Reports of every kind of run read back as a machine would: the JSON has no null without a reason, the Markdown no NaN and only tables
 * whose rows fit their heads, and neither says more than the run showed.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import type { ArmResult } from "../../bench/core/measure.ts";
import { runPagedAttention } from "../../bench/core/paged_attention.ts";
import { armJson, type Run } from "../../bench/core/report/json.ts";
import { armMarkdown, comparisonMarkdown } from "../../bench/core/report/markdown.ts";
import { table } from "../../bench/core/report/parts.ts";
import { terminalSummary } from "../../bench/core/report/terminal.ts";
import type { Prompts } from "../../bench/core/prompts.ts";
import { DEFAULTS, keysOf, type ExperimentConfig } from "../../bench/core/schema.ts";
import { fakeLoad, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("report");
const MACHINE = machine();

async function runOf(config: Partial<ExperimentConfig> = {}, fake: FakeOptions = {}, stopAt = Infinity): Promise<Run> {
  const complete = {
    ...DEFAULTS, experiment_name: "x", batch_level: "small", num_prompts: 3, batch_size: 2, max_tokens: 4, max_model_len: 64, warmup_limit: 1, ...config,
  } as ExperimentConfig;
  const prompts: Prompts = { texts: ["a bb | ccc", "dddd", "ee f"], origin: { kind: "file", path: "a|test" }, sha256: "f".repeat(64) };
  const stop = new AbortController();
  let steps = 0;
  const onStep = (): void => { if (++steps === stopAt) stop.abort(); };
  const outcome = await runPagedAttention(complete, prompts, fakeLoad(fake), { signal: stop.signal, onStep });
  return { config: complete, configFile: "x.yaml", origins: { seed: "file" }, prompts, outcome, machine: MACHINE, started: "2026-01-01T00:00:00.000Z" };
}

const KINDS: readonly (readonly [name: string, run: () => Promise<Run>])[] = [
  ["a complete run", () => runOf()],
  ["one token", () => runOf({ max_tokens: 1 })],
  ["one iteration", () => runOf({ test_iterations: 1, warmup_iterations: 0 })],
  ["one arm", () => runOf({ method: "basic" })],
  ["random weights", () => runOf({}, { random: true })],
  ["an invalid run", () => runOf({}, { reserved: 64 })],
  ["a run that was stopped", () => runOf({}, {}, 8)], // after warm-up and three of the four arms
  ["a run that was stopped before the second arm", () => runOf({ warmup_iterations: 0 }, {}, 2)],
  ["the same with another order", () => runOf({ warmup_iterations: 0, seed: 1 }, {}, 2)],
];

/** The control has no report of its own. */
const reportedArms = ({ outcome: { arms } }: Run): ArmResult[] => arms.filter(({ name }) => name !== "again");

/** Where nulls stand in a JSON value, by dotted path. */
function nulls(value: unknown, path = ""): string[] {
  if (value === null) return [path];
  if (typeof value !== "object") return [];
  return Object.entries(value as object).flatMap(([key, child]) => nulls(child, path === "" ? key : `${path}.${key}`));
}

/** Nulls that mean "there is none", and are no metric. */
const NONE = /^(model\.(revision|note)|environment\.(commit|modified)|comparison|skipped|comparison\.(invalid|texts|texts\.firstDifference))$/;

/** Numbers that JSON cannot hold, which JSON.stringify would turn into null. */
function notFinite(value: unknown, path = ""): string[] {
  if (typeof value === "number") return Number.isFinite(value) ? [] : [path];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, child]) => notFinite(child, `${path}.${key}`));
}

/** Every table of a Markdown text as rows of cells; throws when a row does not fit its head. */
function tables(markdown: string): string[][][] {
  return (markdown.match(/(?:^\|.*\|\n?)+/gm) ?? []).map((text) => {
    const rows = text.trim().split("\n").map((row) => row.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim()));
    assert.ok(rows[1]!.every((cell) => /^---:?$/.test(cell)), rows[1]!.join());
    for (const row of rows) assert.is(row.length, rows[0]!.length, row.join(" | "));
    return rows;
  });
}

for (const [name, make] of KINDS) {
  test(`${name}: every null has a reason, no number is anything else than a number, every table is whole`, async () => {
    const run = await make();
    assert.equal(notFinite(run.outcome), []);
    for (const arm of reportedArms(run)) {
      const json = JSON.parse(armJson(run, arm)) as Record<string, any>;
      for (const path of nulls(json).filter((path) => !NONE.test(path))) {
        const isTpotOfOneToken = run.config.max_tokens === 1 && /^iterations\.\d+\.requests\.\d+\.tpot$/.test(path);
        const holder = path.split(".").slice(0, -1).reduce((value, key) => value[key], json);
        if (/^cache\.bytes\.waste/.test(path)) assert.is(holder.wasteReason, "no forward pass was run");
        else if (!isTpotOfOneToken) assert.ok(path.endsWith(".value") && /\w/.test(holder.reason ?? ""), `${path} is null without a reason`);
      }
    }
    const comparison = comparisonMarkdown(run);
    for (const text of [...reportedArms(run).map((arm) => armMarkdown(run, arm)), ...(comparison === null ? [] : [comparison]), terminalSummary(run)]) {
      assert.not.match(text, /NaN|Infinity|undefined|\[object/);
    }
    for (const arm of reportedArms(run)) assert.is(tables(armMarkdown(run, arm)).length, 5);
    if (comparison !== null) assert.is(tables(comparison).length, 4 + run.outcome.arms.length);
  });
}

test("the whole configuration stands in the report, in the order of the schema, with where it came from", async () => {
  const run = await runOf({ prompts_file: "a|b.txt" });
  const rows = tables(comparisonMarkdown(run)!)[2]!;
  assert.equal(rows.slice(2).map(([key]) => key), keysOf("PagedAttention").filter((key) => key !== "prompts"));
  const row = (key: string): string[] => rows.find(([first]) => first === key)!;
  assert.equal([row("seed"), row("device"), row("prompts_file")], [["seed", "`0`", "file"], ["device", "not set", ""], ["prompts_file", '`"a\\|b.txt"`', ""]]);
});

const CLAIM = /\d % (lower|higher)/;

test("an interrupted run is partial, not invalid, and claims nothing", async () => {
  for (const [, make] of KINDS.slice(-3)) {
    const text = comparisonMarkdown(await make())!;
    assert.match(text, /Status: \*\*interrupted\*\*/);
    assert.match(text, /\*\*PARTIAL\*\*/);
    assert.not.match(text, /INVALID|saved nothing/);
    assert.not.match(text, CLAIM);
  }
});

test("an invalid run claims nothing", async () => {
  const text = comparisonMarkdown(await runOf({}, { reserved: 64 }))!;
  assert.match(text, /\*\*INVALID\*\*/);
  assert.not.match(text, CLAIM);
});

test("too few iterations: nothing is claimed, and why", async () => {
  for (const test_iterations of [1, 4]) {
    const run = await runOf({ test_iterations });
    assert.match(comparisonMarkdown(run)!, /- TTFT: too few iterations to tell \(/);
    assert.match(terminalSummary(run), /too few iterations to tell/);
    assert.not.match(comparisonMarkdown(run)!, CLAIM);
  }
  assert.not.match(comparisonMarkdown(await runOf({ test_iterations: 5 }))!, /too few iterations/);
});

test("the comparison says what its arms are, which came first, and how long the prompts were", async () => {
  const run = await runOf({ test_iterations: 2 });
  const text = comparisonMarkdown(run)!, order = (i: number): string => run.outcome.order[i]!.map((name) => (name === "again" ? "again (A/A)" : name)).join(", ");
  assert.match(text, /^- Basic \(contiguous-max\): .+\n- again \(A\/A\): .+\n- contiguous-exact: .+\n- Optimized \(paged\): .+$/m);
  assert.ok(text.includes(`by iteration: 1 ${order(0)}; 2 ${order(1)}.`));
  assert.match(text, /Prompts: 3 of 1 to 4 tokens from a\|test/);
});

test("with one token the comparison says why TPOT is missing", async () => {
  const text = comparisonMarkdown(await runOf({ max_tokens: 1 }))!;
  assert.match(text, /- TPOT: cannot be compared \(needs at least two new tokens per request\)/);
  assert.match(text, /\| TPOT \| ms \| n\/a \| n\/a \| n\/a \| n\/a \| needs at least two new tokens per request \| needs at least two new tokens per request \|/);
});

test("random weights are named as such wherever a number stands", async () => {
  const run = await runOf({}, { random: true });
  for (const text of [...reportedArms(run).map((arm) => armMarkdown(run, arm)), comparisonMarkdown(run)!]) assert.match(text, /Seeded random weights/);
  assert.match(terminalSummary(run), /Random weights: the text means nothing/);
});

test("a bar in a cell does not end it", () => {
  assert.is(table(["a|b", "c"], [["1|2", "3"]]), "| a\\|b | c |\n| --- | ---: |\n| 1\\|2 | 3 |");
  assert.equal(tables(table(["a|b", "c"], [["1|2", "3"]])).length, 1);
});

test.run();
