/** KVPress with a stand-in for the model: sequences at a fixed budget, the negative control, and what a press must beat to be believed. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import { changesBetween } from "../../bench/core/metrics.ts";
import { en } from "../../bench/core/lang/en.ts";
import { runPresses } from "../../bench/core/press/experiment.ts";
import { judgePresses, runningOf } from "../../bench/core/press/verdict.ts";
import { capacityMarkdown } from "../../bench/core/report/press_capacity.ts";
import { pressJson, pressStatusOf, type PressRun } from "../../bench/core/report/press_json.ts";
import { capacityInput } from "../../bench/core/report/press_pictures.ts";
import { pressSummary } from "../../bench/core/report/press_terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { ENTRY_BYTES } from "../support/fake_llm.ts";
import { fakePressLoad, type FakePressOptions } from "../support/fake_press.ts";

const test = suite("KVPress");
const MACHINE = machine();
const BASE = {
  ...DEFAULTS, technique: "KVPress", experiment_name: "x", batch_level: "small", temperature: 0, top_p: 1, max_model_len: 256, kv_memory: 512 * ENTRY_BYTES, num_prompts: 12,
  prompt_tokens: 100, max_tokens: 28, continuation: 50, perplexity_windows: 4, presses: ["snapkv", "knorm"], ratios: [0, 0.5],
} as unknown as ExperimentConfig;

async function runOf(config: Partial<ExperimentConfig> = {}, fake: FakePressOptions = {}, stopAt = Infinity): Promise<PressRun> {
  const complete = { ...BASE, ...config } as ExperimentConfig, stop = new AbortController();
  let steps = 0;
  const press = await runPresses(complete, fakePressLoad(fake), { signal: stop.signal, onStep: () => { if (++steps === stopAt) stop.abort(); } });
  return { config: complete, configFile: "x.yaml", origins: { seed: "file" }, prompts: press.prompts, machine: MACHINE, started: "2026-01-01T00:00:00.000Z", press };
}
const markdown = (run: PressRun): string => capacityMarkdown(run, { reason: "no font" }, "x.json");

test("random is always among the presses, once; each at every ratio", async () => {
  assert.equal((await runOf()).press.arms.map(({ name }) => name), ["no press", "no press again", "snapkv 0.0", "snapkv 0.5", "knorm 0.0", "knorm 0.5", "random 0.0", "random 0.5"]);
  assert.equal((await runOf({ presses: ["random"], ratios: [0.25] })).press.arms.map(({ name }) => name), ["no press", "no press again", "random 0.25"]);
});

test("sequences at a time: what the freed blocks admit, against no press and its double", async () => {
  const run = await runOf(), text = markdown(run);
  assert.is(pressStatusOf(run), "complete");
  // 512 entries: of 100 + 28 tokens 4, of 50 + 28 tokens 6.
  assert.equal(run.press.arms.map((arm) => runningOf(arm)!.median), [4, 4, 4, 6, 4, 6, 4, 6]);
  assert.match(text, /snapkv 0\.5 against no press:\n\n- sequences at a time: 6\.00 where no press ran 4\.00 \(1\.50 ×\)/);
  assert.match(text, /snapkv 0\.0 against no press \(the press acts once and keeps everything: what it costs to have one\):\n\n- sequences at a time: 4\.00, no press 4\.00: no measurable difference/);
  assert.match(text, /\| snapkv 0\.5 \| 6 \| [\d.]+ \|/);
  assert.match(text, /Protocol `prefill-continue\(100, 50\)` over 4 windows of `persuasion`/);
});

test("a press that costs more than evicting at random is told, one that costs less is not", async () => {
  const text = markdown(await runOf());
  assert.match(text, /knorm 0\.5 costs no less perplexity \(\+2\d\.\d\d %\) than random 0\.5 \(\+1\d\.\d\d %\)/);
  assert.not.match(text, /snapkv 0\.5 costs no less/);
});

test("nothing evicted, or exactly what random left: INVALID", async () => {
  const idle = await runOf({ ratios: [0.5] }, { idle: true });
  assert.is(pressStatusOf(idle), "invalid");
  assert.match(markdown(idle), /\*\*INVALID\*\* snapkv 0\.5: the press acted 1 time on a request of 100 tokens \+ 28 new and evicted nothing/);
  const run = await runOf({ ratios: [0.5] }), [, , snapkv, , random] = run.press.arms;
  const same = { ...run, press: { ...run.press, arms: run.press.arms.map((arm) => (arm === snapkv ? { ...arm, quality: random!.quality } : arm)) } };
  assert.is(pressStatusOf(same), "invalid");
  assert.match(markdown(same), /\*\*INVALID\*\* snapkv 0\.5: predictions under `snapkv 0\.5` are those under `random 0\.5` to the last digit, so it has chosen nothing/);
  assert.match(markdown(same), /knorm 0\.5 against no press:/, "the others are spoken of");
});

test("throughput is compared iteration by iteration, beyond the two equal arms", async () => {
  const run = await runOf(), [none, again, , half] = run.press.arms;
  const times = (arm: typeof none, wallMs: number): typeof none => ({ ...arm!, iterations: arm!.iterations.map((iteration) => ({ ...iteration, wallMs })) });
  const control = changesBetween(times(none, 100)!, times(again, 104)!);
  const speed = (to: typeof none) => changesBetween(times(none, 100)!, to!, control).find(({ metric }) => metric.key === "output_tokens_per_s")!.change!;
  assert.equal([speed(times(half, 103)).measurable, speed(times(half, 80)).measurable, Math.round(speed(times(half, 80)).median)], [false, true, 25]);
});

test("the picture's points: no press at zero, each press once for each ratio, the double left out", async () => {
  const { points } = capacityInput(await runOf());
  assert.equal(points.map(({ label }) => label), ["no press", "snapkv 0.0", "snapkv 0.5", "knorm 0.0", "knorm 0.5", "random 0.0", "random 0.5"]);
  assert.equal([points[0]!.nll, points[0]!.running.value, points[2]!.running.value], [{ value: 0, low: 0, high: 0 }, 4, 6]);
  assert.ok(points[4]!.nll.value > points[6]!.nll.value && points[6]!.nll.value > points[2]!.nll.value);
});

test("reports in both languages: tables fit, nothing is NaN, Chinese is Chinese", async () => {
  for (const run of [await runOf(), await runOf({}, { random: true }), await runOf({}, {}, 12), await runOf({}, { idle: true })]) {
    for (const lang of ["en", "zh"] as const) {
      const told = { ...run, config: { ...run.config, lang } }, text = markdown(told);
      for (const one of [text, pressSummary(told), pressJson(told)]) assert.not.match(one, /NaN|undefined|\[object|Infinity/);
      for (const table of text.match(/(?:^\|.*\|\n?)+/gm) ?? []) assert.is(new Set(table.trim().split("\n").map((row) => row.split("|").length)).size, 1, table);
      const prose = text.replace(/`[^`]*`/g, "").replace("no font", "").split("\n").filter((line) => !/^\| (适配器|机器|软件|特性|限制) \|/.test(line)).join("\n");
      if (lang === "zh") assert.equal(prose.match(/[A-Za-z][a-z']+(?:[ ,]+[a-z']{2,})+/g), null);
      else assert.not.match(prose, /[\u4e00-\u9fff]/);
    }
  }
  assert.is(judgePresses((await runOf()).press, BASE, en).control.length, 10);
});

test.run();
