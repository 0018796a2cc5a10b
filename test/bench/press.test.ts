/**
 * KnormPress with a stand-in for the model: which arms run on what, in which order; that a press that evicted nothing is INVALID and nothing is
 * concluded from it; that differences count only beyond what two equal arms differ by; and that the reports of both languages say no more.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import { en } from "../../bench/core/lang/en.ts";
import { runPresses } from "../../bench/core/press/experiment.ts";
import { actedOf, changeOf, judgePresses } from "../../bench/core/press/verdict.ts";
import { knormMarkdown } from "../../bench/core/report/press.ts";
import { pressJson, pressStatusOf, type PressRun } from "../../bench/core/report/press_json.ts";
import { knormInput } from "../../bench/core/report/press_pictures.ts";
import { pressSummary } from "../../bench/core/report/press_terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { UsageError } from "../../engine/errors.ts";
import { fakePressLoad, type FakePressOptions } from "../support/fake_press.ts";

const COMMAND = fileURLToPath(new URL("../support/fake_press_bench.ts", import.meta.url)), ROOT = fileURLToPath(new URL("../..", import.meta.url));
const test = suite("KnormPress");
const MACHINE = machine();
const BASE = {
  ...DEFAULTS, technique: "KnormPress", experiment_name: "x", batch_level: "small", temperature: 0, top_p: 1, max_model_len: 512, keep_ratios: [1, 0.9, 0.5], prune_after: 64,
  skip_layers: [], num_wikitext_samples: 2, num_pg19_samples: 1, prompt_tokens: 80, max_tokens: 40,
} as unknown as ExperimentConfig;

async function runOf(config: Partial<ExperimentConfig> = {}, fake: FakePressOptions = {}, stopAt = Infinity): Promise<{ run: PressRun; steps: string[] }> {
  const complete = { ...BASE, ...config } as ExperimentConfig, steps: string[] = [], stop = new AbortController();
  const onStep = (label: string): void => { if (steps.push(label) === stopAt) stop.abort(); };
  const press = await runPresses(complete, fakePressLoad(fake), { signal: stop.signal, onStep });
  return { steps, run: { config: complete, configFile: "x.yaml", origins: { seed: "file" }, prompts: press.prompts, machine: MACHINE, started: "2026-01-01T00:00:00.000Z", press } };
}
const verdictOf = ({ press, config }: PressRun) => judgePresses(press, config, en);
const markdown = (run: PressRun): string => knormMarkdown(run, { files: [["x.png", "a picture"]] }, "x.json");

test("arms: no press twice and one for each ratio, every one in every iteration, in an order drawn by seed", async () => {
  const { run } = await runOf();
  assert.equal(run.press.arms.map(({ name }) => name), ["no press", "no press again", "keep 1.0", "keep 0.9", "keep 0.5"]);
  assert.is(run.press.order.length, 5);
  for (const turn of run.press.order) assert.equal([...turn].sort(), run.press.arms.map(({ name }) => name).sort());
  assert.ok(new Set(run.press.order.map(String)).size > 1);
  assert.equal((await runOf()).run.press.order, run.press.order);
  for (const { iterations } of run.press.arms) assert.equal(iterations.map(({ requests }) => requests.length), [3, 3, 3, 3, 3]);
});

test("samples: the length that was asked for, from different places of both texts, and what follows them is scored", async () => {
  const { press } = (await runOf()).run;
  assert.equal(press.places.map(({ source }) => source), ["sotu_heldout.txt", "sotu_heldout.txt", "persuasion.txt"]);
  assert.is(new Set(press.places.map(({ source, document, offset }) => `${source} ${document} ${offset}`)).size, 3);
  assert.equal([...new Set(press.arms.flatMap(({ iterations }) => iterations.flatMap(({ requests }) => requests.map(({ promptTokens, newTokens }) => `${promptTokens}+${newTokens}`))))], ["80+40"]);
  assert.equal([press.scored!.options, press.scored!.windows], [{ protocol: "decode", context: 120 }, 3]);
});

test("a press that acted is told with what it left; the press that keeps everything costs no quality", async () => {
  const { run } = await runOf(), text = markdown(run), [, , all, some, half] = run.press.arms;
  assert.is(pressStatusOf(run), "complete");
  assert.equal([actedOf(all!)!.evicted, all!.quality!.quality.kld.mean, all!.quality!.quality.ratio.value], [0, 0, 1]);
  assert.ok(actedOf(half!)!.evicted > actedOf(some!)!.evicted / 2 && actedOf(half!)!.freedBytes > 0);
  assert.match(text, /- keep 0\.5 acted \d+ times per request; the last act left \d+(\.\d)? entries per KV head of \d+ tokens read, and [\d.]+ KiB were given back in all/);
  assert.match(text, /- keep 1\.0 acted 40 times per request and evicted nothing, as it should/);
  assert.match(text, /perplexity \+10\.\d % ± 0\.\d % against no press on the same tokens, higher, worse/);
});

test("samples shorter than prune_after: INVALID, with the numbers, and no conclusion", async () => {
  const { run } = await runOf({ prompt_tokens: 111, max_tokens: 100, prune_after: 512 });
  assert.is(pressStatusOf(run), "invalid");
  const text = markdown(run);
  for (const name of ["keep 0.9", "keep 0.5"]) {
    assert.ok(text.includes(`**INVALID** ${name}: the sample has 111 tokens + 100 new, fewer than prune_after 512: nothing was pruned. Nothing is concluded from it.`), text);
    assert.not.ok(text.includes(`${name} against no press:`));
  }
  assert.match(text, /no arm evicted anything, so nothing can be said about compression/);
  assert.match(text, /\| TTFT −87 % to −90 % \| n\/a \| cannot be told: no valid arm \|/);
  assert.match(text, /How an unchanged perplexity arises: .*nothing was ever pruned/);
  assert.match(pressSummary(run), /INVALID keep 0\.9: the sample has 111 tokens/);
});

test("a press that says it acts and evicts nothing is INVALID, in the requests or in what was scored", async () => {
  const { run } = await runOf({}, { idle: true });
  assert.match(markdown(run), /\*\*INVALID\*\* keep 0\.5: the press acted 40 times on a request of 80 tokens \+ 40 new and evicted nothing/);
  const { run: scored } = await runOf({}, { idleWhenScored: true });
  assert.equal([pressStatusOf(scored), verdictOf(scored).arms.map(({ invalid }) => invalid !== null)], ["invalid", [false, false, false, true, true]]);
  assert.match(markdown(scored), /while perplexity was measured the press evicted nothing/);
});

test("arms that evict nothing must write the same: else nothing is concluded from any arm", async () => {
  const { run } = await runOf({}, { spoilAt: 1 });
  assert.is(pressStatusOf(run), "invalid");
  const text = markdown(run);
  assert.match(text, /\*\*INVALID\*\*: arms that evict nothing wrote 3 of 3 greedy texts differently/);
  assert.not.match(text, /against no press:\n/);
  assert.is(pressStatusOf((await runOf({}, { spoilAt: 0.5 })).run), "complete", "one that evicts may write what it likes");
});

test("differences of speed count only beyond what two equal arms differ by", async () => {
  const { run } = await runOf();
  for (const one of verdictOf(run).arms.slice(1)) assert.is(changeOf(one, "tpot_ms")!.measurable, false, "the stand-in is as fast in every arm");
  const { run: slow } = await runOf({}, { slower: (keep) => (keep === 0.5 ? 1.5 : 1) });
  const half = verdictOf(slow).arms[4]!;
  assert.equal([changeOf(half, "tpot_ms")!.measurable, Math.round(changeOf(half, "tpot_ms")!.median)], [true, 50]);
  assert.match(markdown(slow), /TPOT: 50\.0 % higher, worse/);
  const again = { ...slow, press: { ...slow.press, arms: slow.press.arms.map((arm, i) => (i !== 1 ? arm : {
    ...arm, iterations: arm.iterations.map((iteration, k) => ({ ...iteration, requests: iteration.requests.map((request) => ({ ...request, tpot: request.tpot! * (k === 2 ? 1.8 : 1) })) })),
  })) } };
  assert.is(changeOf(verdictOf(again).arms[4]!, "tpot_ms")!.measurable, false, "within the 80 % that the two equal arms once differed");
});

test("the sources' claims are held against what was measured, each for itself", async () => {
  const { run } = await runOf({ keep_ratios: [0.9] }, { slower: (keep) => (keep === 0.9 ? 0.1 : 1) });
  const text = markdown(run);
  assert.match(text, /\| TTFT −87 % to −90 % \| keep 0\.9: −90\.0 % \(−90\.0 %\) \| yes \|/);
  assert.not.match(text, /How −87 % arises/);
  assert.match(text, /\| perplexity unchanged \(75\.03 at every ratio\) \| keep 0\.9: \+2\.\d % ± 0\.\d % \| no \|/);
  assert.match(text, /How an unchanged perplexity arises/);
});

test("a claim that noise hides is neither found nor refuted", async () => {
  const { run } = await runOf({ keep_ratios: [0.9] });
  const timed = (wallMs: (arm: number, iteration: number) => number): PressRun => ({ ...run, press: { ...run.press, arms: run.press.arms.map(
    (arm, i) => ({ ...arm, iterations: arm.iterations.map((iteration, k) => ({ ...iteration, wallMs: wallMs(i, k) })) }),
  ) } });
  assert.match(markdown(timed(() => 1000)), /\| throughput −8 % to −9 % \| [^|]+ \| no \|/);
  assert.match(markdown(timed((arm) => (arm === 2 ? 1090 : 1000))), /\| throughput −8 % to −9 % \| [^|]+ \| yes \|/);
  const hidden = timed((arm, iteration) => (arm === 1 && iteration === 2 ? 1800 : 1000));
  assert.match(markdown(hidden), /\| throughput −8 % to −9 % \| [^|]+ \| cannot be told: the errors are larger than the change \|/);
});

test("stopped while it is judged or timed: no conclusion", async () => {
  const { run } = await runOf({}, {}, 15);
  assert.equal([run.press.status, pressStatusOf(run)], ["interrupted", "interrupted"]);
  assert.match(markdown(run), /\*\*PARTIAL\*\*: the run was interrupted/);
  const { run: early } = await runOf({}, {}, 2);
  assert.ok(early.press.arms.every(({ iterations }) => iterations.length === 0));
});

test("layers that the model has not, or all of them", async () => {
  for (const [skip_layers, message] of [[[1], /there is no layer 1; the model has 1/], [[0], /names all 1 layers/]] as const) {
    try {
      await runOf({ skip_layers });
      assert.unreachable();
    } catch (error) {
      assert.instance(error, UsageError);
      assert.match((error as Error).message, message);
    }
  }
});

test("texts that hold fewer stretches than asked for are refused", async () => {
  try {
    await runOf({ num_pg19_samples: 1000, num_wikitext_samples: 0 });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /^pg19-sample holds \d+ stretches of 120 tokens, but 1000 are asked for/);
  }
});

test("the JSON: every null explained, no NaN; rows of every table fit their heads; N/A in the pictures", async () => {
  for (const { run } of [await runOf(), await runOf({ max_tokens: 1 }), await runOf({}, { random: true }), await runOf({ keep_ratios: [1], test_iterations: 1 }), await runOf({}, {}, 15)]) {
    for (const lang of ["en", "zh"] as const) {
      const told = { ...run, config: { ...run.config, lang } }, texts = [markdown(told), pressSummary(told), pressJson(told)];
      for (const text of texts) assert.not.match(text, /NaN|undefined|\[object|Infinity/);
      for (const table of texts[0]!.match(/(?:^\|.*\|\n?)+/gm) ?? []) assert.is(new Set(table.trim().split("\n").map((row) => row.split("|").length)).size, 1, table);
      if (lang === "zh") assert.equal(texts[0]!.replace(/`[^`]*`/g, "").split("\n").filter((line) => !/^\| (适配器|机器|软件|特性|限制) \|/.test(line)).join("\n").match(/[A-Za-z][a-z']+(?:[ ,]+[a-z']{2,})+/g), null);
    }
    for (const row of knormInput(run).rows) for (const value of Object.values(row)) assert.not.ok(typeof value === "number" && !Number.isFinite(value));
  }
  const json = JSON.parse(pressJson((await runOf()).run)) as Record<string, any>;
  assert.equal([json["experiment"], json["status"], json["arms"].length, json["arms"][4].acted.events > 0, json["arms"][0].quality], ["KnormPress", "complete", 5, true, null]);
  assert.equal(["presses", "formats", "batch_size"].filter((key) => key in json["config"]), []);
});

test("the command: reports and four pictures; exit code 5 where nothing was pruned", () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-press-"));
  try {
    const bench = (...args: string[]) => spawnSync(process.execPath, [COMMAND, "--technique", "KnormPress", "--batch_level", "small", "--skip_layers", "", "--max-model-len", "1024", "--output-dir", folder, ...args], { cwd: ROOT, encoding: "utf8" });
    const { status, stdout, stderr } = bench("--keep_ratios", "1.0,0.5", "--prune_after", "64", "--prompt_tokens", "80");
    assert.is(status, 0, stderr);
    assert.match(stdout, /knormpress_experiment_small_quick\.md/);
    const pictures = ["comprehensive", "summary", "table", "tradeoff"].flatMap((name) => ["png", "svg", "vl.json"].map((end) => `knormpress_${name}.${end}`));
    assert.equal(readdirSync(join(folder, "KnormPress")).sort(), [...pictures, "knormpress_experiment_small_quick.json", "knormpress_experiment_small_quick.md", "runs"].sort());
    for (const name of pictures.filter((file) => file.endsWith(".png"))) assert.is(readFileSync(join(folder, "KnormPress", name)).toString("latin1", 1, 4), "PNG");
    const invalid = bench("--prompt-tokens", "111", "--max-tokens", "100", "--lang", "zh");
    assert.is(invalid.status, 5, invalid.stderr);
    assert.match(invalid.stdout, /无效 保留 0\.9：样本有 111 个词元，加 100 个新词元，少于 prune_after 512/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
