/**
 * spec_decode with a stand-in for the model: which arms run on what, in which order; that an arm whose K never arrived, that drafted
 * nothing or that changed a greedy text is INVALID; that a speed-up counts only beyond what two equal arms differ by, and agrees with
 * arithmetic; and that the reports of both languages say no more.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../engine/errors.ts";
import { machine } from "../../bench/core/environment.ts";
import { en } from "../../bench/core/lang/en.ts";
import { specMarkdown } from "../../bench/core/report/spec.ts";
import { specJson, specStatusOf, type SpecRun } from "../../bench/core/report/spec_json.ts";
import { picturesOf } from "../../bench/core/report/spec_pictures.ts";
import { specSummary } from "../../bench/core/report/spec_terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { runSpeculation } from "../../bench/core/speculation/experiment.ts";
import { partsAt } from "../../bench/core/speculation/divergence.ts";
import { predictedSpeedUp } from "../../bench/core/speculation/predict.ts";
import { judgeSpeculation, type CellVerdict } from "../../bench/core/speculation/verdict.ts";
import { costModel, expectedTokens } from "../../techniques/speculation/cost.ts";
import { fakeSpecLoad, type FakeSpecOptions } from "../support/fake_spec.ts";

const test = suite("spec_decode");
const MACHINE = machine();
const BASE = {
  ...DEFAULTS, technique: "spec_decode", experiment_name: "x", batch_level: "small", temperature: 0, top_p: 1, max_model_len: 512,
    k: "3-5", num_prompts: 3,
  prompt_tokens: 40, max_tokens: 60,
} as unknown as ExperimentConfig;

async function runOf(config: Partial<ExperimentConfig> = {}, fake: FakeSpecOptions = {}, stopAt = Infinity): Promise<SpecRun> {
  const complete = { ...BASE, ...config } as ExperimentConfig, stop = new AbortController();
  let steps = 0;
  const onStep = (): void => { if (++steps === stopAt) stop.abort(); };
  const speculation = await runSpeculation(complete, fakeSpecLoad(fake), { signal: stop.signal, onStep });
  return {
    config: complete, configFile: "x.yaml", origins: { seed: "file" }, prompts: speculation.prompts, machine: MACHINE,
      started: "2026-01-01T00:00:00.000Z", speculation,
  };
}
const cellsOf = ({ speculation, config }: SpecRun): readonly CellVerdict[] => judgeSpeculation(speculation, config, en).cells;
const markdown = (run: SpecRun): string => specMarkdown(run, { files: [["x.png", "a picture"]] }, "x.json");
const invalidArms = (run: SpecRun): string[] => cellsOf(run).flatMap(({ arms }) => arms.flatMap(({ arm, invalid }) =>
  (invalid === null ? [] : [arm.name])));

test("arms: plain decoding twice, every K and the one that adapts, for each draft and data set, in an order drawn by seed", async () => {
  const run = await runOf({ draft: ["tiny-neox-draft", "prompt-lookup"] }), { speculation } = run;
  assert.equal(speculation.cells.map(({ dataset, draft }) => `${dataset} ${draft}`), [
    "pg19-sample tiny-neox-draft", "pg19-sample prompt-lookup", "wikitext-sample tiny-neox-draft", "wikitext-sample prompt-lookup",
  ]);
  for (const { arms } of speculation.cells) {
    assert.equal(arms.map(({ name }) => name), ["plain", "plain again", "K = 3", "K = 4", "K = 5", "adaptive"]);
    for (const { iterations } of arms) assert.equal(iterations.map(({ requests }) => requests.map(({ promptTokens, newTokens }) =>
      promptTokens + newTokens)), Array(5).fill([100, 100, 100]));
  }
  const [first] = speculation.order;
  assert.is(first!.length, 24);
  for (const turn of speculation.order) assert.equal([...turn].sort(), [...first!].sort());
  assert.ok(new Set(speculation.order.map(String)).size > 1);
  assert.equal((await runOf({ draft: ["tiny-neox-draft", "prompt-lookup"] })).speculation.order, speculation.order);
  assert.is(new Set(speculation.places.map(({ source, document, offset }) => `${source} ${document} ${offset}`)).size, 6);
  assert.is(specStatusOf(run), "complete");
});

test("plain decoding asks for no draft, the others for their K", async () => {
  const seen: unknown[] = [], load = fakeSpecLoad();
  await runSpeculation({ ...BASE, k: [4], dataset: "pg19-sample", num_prompts: 1, test_iterations: 1, warmup_iterations: 0 },
    async (name, options) => {
    assert.equal([options.draft, options.prefixCache], [{ model: "tiny-neox-draft" }, false]);
    const llm = await load(name, options);
    return { ...llm, generate: (ids, given) => { seen.push(JSON.stringify(given.draft), given.ignoreEos); return llm.generate(ids,
      given); } };
  }, { signal: new AbortController().signal, onStep: () => undefined });
  assert.equal(seen.filter((one) => typeof one === "string").sort(), ["null", "null", '{"k":"adaptive"}', '{"k":4}'].sort());
  assert.ok(seen.filter((one) => typeof one !== "string").every((one) => one === true));
});

test("measured and predicted agree where the clock charges what the costs say; the verdict says by how much", async () => {
  const run = await runOf({}, { alpha: 0.8 });
  for (const { arms, fastest } of cellsOf(run)) {
    for (const { arm, speedUp, did } of arms.slice(2)) {
      assert.ok(Math.abs(did!.predicted! / (1 + speedUp!.median / 100) - 1) < 0.02, `${arm.name}: ${did!.predicted} ${speedUp!.median}`);
      assert.ok(speedUp!.measurable && did!.explanation.rate! > 0.4 && did!.explanation.alpha!.value > 0.6);
    }
    assert.ok(fastest!.speedUp!.median > 50);
  }
  assert.match(markdown(run),
    /draft `tiny-neox-draft` on `pg19-sample`: speculation helps: [^:]+ decodes [12]\.\d\d × as fast as plain decoding \([12]\.\d\d to [12]\.\d\d\)\./);
  assert.match(markdown(run), /- by arithmetic [12]\.\d\d ×, measured [12]\.\d\d ×/);
  assert.match(markdown(run), /60 of 60 greedy texts are those of plain decoding|180 of 180 greedy texts are those of plain decoding/);
});

test("two equal arms are not told apart, and no speed-up is claimed that is none", async () => {
  for (const cell of cellsOf(await runOf())) assert.is(cell.control.speedUp!.measurable, false);
  const even = await runOf({ k: [3] }, { alpha: 0, c: 0, perRow: 0 }), text = markdown(even);
  assert.match(text, /no measurable difference: the fastest, [^,]+, decodes 1\.00 × as fast/);
  assert.not.match(text, /speculation helps/);
  assert.match(markdown(await runOf({ test_iterations: 2 })), /too few iterations to tell whether speculation helps/);
});

test("where it does not help, the reason is what is to blame", async () => {
  assert.match(markdown(await runOf({}, { alpha: 0.1, perRow: 0.1 })),
    /speculation does not help here: the fastest, [^\n]+\n\n- why: the draft is rejected too often: its first token is accepted with α̂ 0\.\d\d, and at these costs it would take 0\.\d\d/);
  assert.match(markdown(await runOf({}, { alpha: 0.8, c: 1.2 })),
    /why: the draft is too dear: a draft step costs 1\.20 decode steps \(α needed: more than 1: not even a draft that is always right would pay\)/);
  assert.match(markdown(await runOf({}, { alpha: 0.8, perRow: 1 })), /why: verifying is too dear/);
});

test("costs of another time, while the machine was busy, are not made sentences of, nor drawn", async () => {
  const run = await runOf({}, { alpha: 0.2, costsAre: 3 }), text = markdown(run);
  assert.match(text, /a decode step took 6\.00 ms while the costs were measured and 2\.00 ms in the run/);
  assert.not.match(text, /by arithmetic [\d.]+ ×, measured|the best K is|why:/);
  assert.ok(picturesOf(run).every(({ picture }) => picture.points.every(({ predicted }) => predicted === null)));
  assert.ok(picturesOf(await runOf()).every(({ picture }) => picture.points.every(({ predicted }) => predicted! > 0)));
});

test("the K that never arrived: INVALID, whether rounds are longer or shorter than asked for, and nothing is concluded from the arm",
  async () => {
  const run = await runOf({ k: [3, 4, 8] }, { stuckK: 4 }), text = markdown(run);
  assert.equal([specStatusOf(run), invalidArms(run)], ["invalid", ["K = 3", "K = 8", "K = 3", "K = 8"]]);
  assert.match(text,
    /\*\*INVALID\*\* draft `tiny-neox-draft` on `pg19-sample`, K = 3: a round drafted 4 tokens where K is 3: K did not reach the draft\. Nothing is concluded from it\./);
  assert.match(text, /K = 8: only 0 of \d+ rounds of a request drafted K = 8 tokens, and the end of the text can cut no more than 8/);
  assert.ok(cellsOf(run).every(({ fastest }) => fastest!.arm.name === "K = 4" || fastest!.arm.name === "adaptive"));
  assert.match(specSummary(run), /K = 3 INVALID/);
});

test("an arm that drafted nothing is INVALID, and with none left nothing is said about speculation", async () => {
  const run = await runOf({}, { draftsNothing: true });
  assert.equal([specStatusOf(run), invalidArms(run).length], ["invalid", 8]);
  assert.match(markdown(run), /K = 3: nothing was drafted, so this was plain decoding under another name/);
  assert.match(markdown(run), /no arm is valid, so nothing can be said about speculation/);
  const text = await runOf({ draft: ["prompt-lookup"], num_prompts: 1, max_tokens: 12 }, {});
  assert.ok(cellsOf(text).every(({ arms }) => arms.every(({ did }) => did === null || did.stats.draftedAt.length <= 5)),
    "a text proposes less than K, and that is no mistake");
});

test("a greedy text that is not plain decoding's makes its arm INVALID, with the place and the gap of the logits", async () => {
  const run = await runOf({}, { spoilAt: { k: 4, token: 7 } });
  assert.equal([specStatusOf(run), invalidArms(run)], ["invalid", ["K = 4", "K = 4"]]);
  assert.match(markdown(run),
    /K = 4: 15 of 15 greedy texts are not those of plain decoding, which speculation must not change; the first parts at token 8 of prompt 1 \(the two logits are 0\.250 apart\)/);
  assert.equal(run.speculation.cells[0]!.divergences[0], { arm: "K = 4", iteration: 0, prompt: 0, token: 7, differing: 15, of: 15,
    gap: 0.25 });
  const sampled = await runOf({ temperature: 0.8 }, { spoilAt: { k: 4, token: 7 } });
  assert.equal([specStatusOf(sampled), invalidArms(sampled)], ["complete", []]);
  assert.match(markdown(sampled), /texts were sampled: speculation keeps their distribution/);
});

test("drafts in turn where memory holds one: each with its own baseline, and the report says so", async () => {
  const run = await runOf({ draft: ["tiny-neox-draft", "self:nf4"] }, { mostModels: 1 });
  assert.equal([run.speculation.loading, specStatusOf(run), run.speculation.cells.length], ["in-turn", "complete", 4]);
  assert.equal(run.speculation.drafts.map(({ draft, kind }) => [draft, kind]), [["tiny-neox-draft", "model"], ["self:nf4", "self"]]);
  assert.match(markdown(run), /The drafts were loaded one after the other/);
  try {
    await runOf({ draft: ["tiny-neox-draft", "self:nf4"], loading: "together" }, { mostModels: 1 });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /do not fit/);
  }
});

test("a model that was loaded without a draft is refused", async () => {
  try {
    await runOf({}, { forgetsDraft: true });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, UsageError);
    assert.match((error as Error).message, /draft tiny-neox-draft: tiny-neox was loaded without a draft/);
  }
});

test("arithmetic: rounds of one length come to E / (K·c + v); what the end cuts off, and plain steps, count", () => {
  const model = costModel({ decodeMs: 10, draftMs: 1, verifyMs: Array.from({ length: 17 }, () => 10) });
  // 1,000 rounds of 5 at α = .8: 2.460 by the literature, whatever the number of requests.
  const rounds = 1000, tokens = rounds * expectedTokens(0.8, 5);
  assert.is(predictedSpeedUp({ rounds, draftedAt: Array(5).fill(rounds), tokens }, tokens, model)!.toFixed(3), "2.460");
  assert.is(predictedSpeedUp({ rounds: 2, draftedAt: [2, 1], tokens: 4 }, 10, model), 10 / (1.1 + 1.2 + 6));
  assert.is(predictedSpeedUp({ rounds: 0, draftedAt: [], tokens: 0 }, 5, model), 1);
  assert.is(predictedSpeedUp({ rounds: 1, draftedAt: Array(17).fill(1), tokens: 1 }, 5, model), null);
  assert.is(predictedSpeedUp({ rounds: 0, draftedAt: [], tokens: 0 }, 0, model), null);
  assert.equal([partsAt([1, 2, 3], [1, 2, 3]), partsAt([1, 2], [1, 2, 3]), partsAt([1, 9, 3], [1, 2, 3]), partsAt([], [])],
    [null, 2, 1, null]);
});

test("the sources' formula stands beside accepted / drafted, and the difference is what was cut off and never drafted", async () => {
  for (const { arms } of cellsOf(await runOf())) {
    for (const { arm, did } of arms.slice(2, -1)) {
      const { stats, explanation: { source } } = did!;
      assert.ok(Math.abs(source!.value - (stats.accepted - source!.cut) / (stats.drafted + source!.missing)) < 1e-12, arm.name);
      assert.ok(source!.value !== did!.explanation.rate);
    }
  }
});

test("the JSON: every null explained, no NaN; tables as wide as their heads; no English sentence in a Chinese report", async () => {
  const kinds: [Partial<ExperimentConfig>, FakeSpecOptions, number?][] = [
    [{}, {}], [{ draft: ["prompt-lookup"] }, {}], [{ max_tokens: 8, k: [5] }, {}], [{ test_iterations: 1, dataset: "wikitext-sample" },
      {}], [{}, { stuckK: 4 }], [{}, { draftsNothing: true }],
    [{}, { spoilAt: { k: null, token: 3 } }], [{}, { spoilAt: { k: "adaptive", token: 0 } }], [{}, { random: true }],
      [{ temperature: 1 }, { alpha: 0.1 }], [{}, { perRow: 1 }], [{}, { c: 1 }], [{}, {}, 40], [{}, { costsAre: 0.3 }],
    [{ draft: ["self:nf4", "self:int8"], loading: "in-turn" }, {}],
  ];
  for (const [config, fake, stopAt] of kinds) {
    const run = await runOf(config, fake, stopAt);
    for (const lang of ["en", "zh"] as const) {
      const told = { ...run, config: { ...run.config, lang } }, texts = [markdown(told), specSummary(told), specJson(told)];
      for (const text of texts) assert.not.match(text, /NaN|undefined|\[object|Infinity/);
      for (const table of texts[0]!.match(/(?:^\|.*\|\n?)+/gm) ?? []) assert.is(new Set(table.trim().split("\n").map((row) =>
        row.split("|").length)).size, 1, table);
      const prose = texts[0]!.replace(/`[^`]*`/g, "").split("\n").filter((line) => !/^\| (适配器|机器|软件|特性|限制) \|/.test(line)).join("\n");
      if (lang === "zh") assert.equal(prose.match(/[A-Za-z][a-z']+(?:[ ,]+[a-z']{2,})+/g), null);
      else assert.not.match(prose, /[一-鿿]/);
    }
    for (const { picture } of picturesOf(run)) assert.not.match(JSON.stringify(picture), /NaN|Infinity/);
  }
  const json = JSON.parse(specJson(await runOf())) as Record<string, any>;
  assert.equal([json["experiment"], json["status"], json["cells"].length, json["cells"][0].arms.length], ["spec_decode", "complete", 2, 6]);
  assert.equal([json["cells"][0].arms[2].k, json["cells"][0].arms[5].k, typeof json["drafts"][0].costs.decodeMs],
    [3, "adaptive", "number"]);
  assert.equal(["presses", "formats", "batch_size"].filter((key) => key in json["config"]), []);
});

test("stopped: PARTIAL, and nothing is concluded", async () => {
  const run = await runOf({}, {}, 40);
  assert.is(specStatusOf(run), "interrupted");
  assert.match(markdown(run), /\*\*PARTIAL\*\*: the run was interrupted, so nothing is concluded from it/);
  assert.not.match(markdown(run), /speculation helps/);
});

test.run();
