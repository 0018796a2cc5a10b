/**
 * Every experiment in the common shape: differences are those of the verdict and of the report in Markdown, an invalid run strikes its
 * arms, an arm that failed a gate is struck alone, and a run that was stopped has a body too.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { layoutsBody } from "../../bench/core/bodies/layouts.ts";
import { memoryBody } from "../../bench/core/bodies/memory.ts";
import { pressBody } from "../../bench/core/bodies/press.ts";
import { speculationBody, timeOf } from "../../bench/core/bodies/speculation.ts";
import { weightsBody } from "../../bench/core/bodies/weights.ts";
import { compare, type Comparison } from "../../bench/core/compare.ts";
import { en } from "../../bench/core/lang/en.ts";
import { metricsOf, type MetricChange, type Pair } from "../../bench/core/metrics.ts";
import { judgePresses } from "../../bench/core/press/verdict.ts";
import { comparisonJson } from "../../bench/core/report/json.ts";
import { pressJson } from "../../bench/core/report/press_json.ts";
import { specMarkdown } from "../../bench/core/report/spec.ts";
import type { SpecRun } from "../../bench/core/report/spec_json.ts";
import { weightsMarkdown } from "../../bench/core/report/weights.ts";
import type { ResultArm, ResultBody } from "../../bench/core/result.ts";
import { judgeSpeculation } from "../../bench/core/speculation/verdict.ts";
import { CLAIM_ITERATIONS, type Change } from "../../bench/core/stats.ts";
import { judgeRun } from "../../bench/core/weights/verdict.ts";
import { ENTRY_BYTES, type FakeOptions } from "../support/fake_llm.ts";
import {
  CAPACITY, KNORM, LAYOUTS, MEMORY, PRECISION, PREFIX, QUANTIZATION, SPEC, layouts, memory, prefix, presses, sound, speculation, textsIn,
  weights, type Config,
} from "./bodies_runs.ts";

const test = suite("bodies of results");

const arm = ({ arms }: ResultBody, name: string): ResultArm => arms.find((one) => one.name === name)!;
const rolesOf = ({ arms }: ResultBody): string[][] => arms.map(({ name, role }) => [name, role]);
/** Paged against another layout. */
const pairOf = ({ pairs }: Comparison, than: string): Pair => pairs.find(({ from, to }) => from === than && to === "paged")!;
const changesIn = (changes: readonly MetricChange[]): Record<string, Change> =>
  Object.fromEntries(changes.flatMap(({ metric: { key }, change }) => (change === null ? [] : [[key, change]])));

test("layouts: every arm against contiguous-max, the pairs of the verdict to the last digit", async () => {
  const run = await layouts(), body = sound(layoutsBody(run)), verdict = compare(run.outcome, en)!;
  assert.equal(rolesOf(body),
    [["contiguous-max", "baseline"], ["again", "control"], ["contiguous-exact", "technique"], ["paged", "technique"]]);
  assert.equal(arm(body, "again").settings, arm(body, "contiguous-max").settings);
  assert.equal(arm(body, "paged").differences, changesIn(pairOf(verdict, "contiguous-max").changes));
  assert.is(Object.keys(arm(body, "contiguous-exact").differences).length, 10);
  assert.equal(arm(body, "paged").settings, { layout: "paged", block_size: 16, prefix_cache: false, batching: "continuous" });
  assert.is(arm(body, "paged").engagement, verdict.engagement);
  assert.equal(arm(body, "paged").proof, { kind: "lossless", holds: true, text: verdict.correctness });
  assert.ok(body.notes.some((note) => note.startsWith("What the block table costs") || note.includes("cannot be told from this run")));
  assert.ok(arm(body, "paged").facts.some(({ label }) => label === en.rows.waste));
  assert.equal(body.arms[0]!.coldStart, { weightsMs: 5, pipelinesMs: 7, firstMs: run.outcome.warmUp!.arms["contiguous-max"]![0]! });
  assert.equal([body.order, body.yardstick!.yards.length, body.corpus], [run.outcome.order, 5, null]);
  assert.equal((body.detail as { arms: unknown[] }).arms, JSON.parse(comparisonJson(run)).arms);
  const alone = sound(layoutsBody(await layouts({ ...LAYOUTS, method: "optimized" })));
  assert.equal(alone.arms.map(({ name, role, proof }) => [name, role, proof]), [["paged", "baseline", null]]);
  const skipped = sound(layoutsBody(await layouts({ ...LAYOUTS, kv_memory: 48 * ENTRY_BYTES })));
  assert.equal(rolesOf(skipped), [["contiguous-exact", "baseline"], ["paged", "technique"]]);
});

test("layouts: a text that depends on the layout, or paging that saves nothing, strikes all but the baseline", async () => {
  const spoil: FakeOptions["spoil"] = (ids, layout) => (layout === "paged" ? ids.map((id) => id + 1) : ids);
  for (const fake of [{ spoil }, { reserved: 32 }]) {
    const body = sound(layoutsBody(await layouts(LAYOUTS, fake)));
    assert.equal([body.status, body.arms.map(({ invalid }) => invalid !== null)], ["invalid", [false, true, true, true]]);
    assert.ok(body.notes.some((note) => note.startsWith("INVALID: ")) && !body.notes.some((note) => note.includes("budget")));
  }
  const sampled = sound(layoutsBody(await layouts({ ...LAYOUTS, temperature: 1 }, { spoil })));
  assert.equal([sampled.status, arm(sampled, "paged").proof!.holds], ["complete", null], "sampled texts may differ");
});

test("the prefix cache: against paged without one; no hit is invalid", async () => {
  const run = await prefix(), body = sound(layoutsBody(run));
  assert.equal(rolesOf(body), [["paged", "baseline"], ["again", "control"], ["paged-prefix", "technique"]]);
  assert.equal(arm(body, "paged-prefix").differences, changesIn(compare(run.outcome, en)!.pairs[0]!.changes));
  assert.match(arm(body, "paged-prefix").engagement!, /came out of the prefix cache/);
  assert.is(arm(sound(layoutsBody(await prefix(PREFIX, { forgetful: true }))), "paged-prefix").invalid, en.noHit);
});

test("memory: a group for each distribution, in the order they ran", async () => {
  const run = await memory(), body = sound(memoryBody(run));
  assert.equal([...new Set(body.arms.map(({ group }) => group))], ["alpaca", "constant"]);
  assert.equal(body.arms.map(({ role }) => role), [1, 2].flatMap(() => ["baseline", "control", "technique", "technique"]));
  assert.equal([body.order.length, body.yardstick!.yards.length, Object.keys(body.warmUp!.arms).length], [10, 10, 8]);
  for (const { distribution, outcome } of run.memory.cells) {
    const paged = arm(body, `${distribution}: paged`);
    assert.equal(paged.differences, changesIn(pairOf(compare(outcome, en)!, "contiguous-max").changes));
    assert.ok(paged.facts.some(({ label }) => label === "waste by arithmetic"));
  }
  const spoil: FakeOptions["spoil"] = (ids, layout) => (layout === "paged" && ids.length === 32 ? ids.map((id) => id + 1) : ids);
  const wrong = sound(memoryBody(await memory(MEMORY, { spoil })));
  assert.is(wrong.status, "invalid");
  const struck = wrong.arms.filter(({ invalid }) => invalid !== null).map(({ name }) => name);
  assert.equal(struck, ["constant: again", "constant: contiguous-exact", "constant: paged"]);
});

test("weights: the first format again is the control, its interval the floor; the cost in quality is that of the report", async () => {
  const run = await weights({ ...PRECISION, formats: ["f16", "bf16", "nf4"] }), body = sound(weightsBody(run));
  const verdict = judgeRun(run.weights, en);
  assert.equal(body.arms.map(({ name, role, settings }) => [name, role, settings["weights"]]),
    [["f16", "baseline", "f16"], ["again", "control", "f16"], ["bf16", "technique", "bf16"], ["nf4", "technique", "nf4"]]);
  assert.equal(arm(body, "again").differences, changesIn(verdict.control!.changes));
  for (const pair of verdict.pairs) assert.equal(arm(body, pair.to).differences, changesIn(pair.changes));
  const { change, kld, sameTop, perplexity, protocol } = arm(body, "nf4").quality!, { first } = run.weights.arms[3]!.quality!;
  if (typeof first === "string") throw new Error("not measured");
  assert.equal([perplexity.value, change!.percent, kld!.value, sameTop!.value, protocol],
    [run.weights.arms[3]!.quality!.perplexity.value, 100 * (first.ratio.value - 1), first.kld.value, first.topOne.value,
      "hf-strided(16, 16), persuasion, tokens scored: 60, windows: 4"]);
  assert.ok(weightsMarkdown(run, null, "x.json").includes(arm(body, "nf4").proof!.text));
  assert.equal(body.arms.map(({ proof }) => proof?.kind ?? null), [null, "lossless", "lossy", "lossy"]);
  assert.equal([body.pictures.map(({ id }) => id), body.corpus!.name], [["precision_benchmark_2rows"], "persuasion"]);
  assert.is(arm(body, "f16").quality!.change, null);
});

test("weights: quantization by its config; floats that stayed strike all but the baseline; random weights have no quality", async () => {
  const body = sound(weightsBody(await weights(QUANTIZATION)));
  assert.equal(body.arms.map(({ name, settings }) => `${name} ${settings["weights"]}`), ["basic auto", "again auto", "quantized nf4"]);
  assert.equal(arm(body, "quantized").settings["quantization_config"], QUANTIZATION.quantization_config);
  const kept = sound(weightsBody(await weights(QUANTIZATION, { keepsFloats: true })));
  assert.equal([kept.status, kept.arms.map(({ invalid }) => invalid !== null)], ["invalid", [false, true, true]]);
  const alone = sound(weightsBody(await weights({ ...QUANTIZATION, method: "optimized" }, { keepsFloats: true })));
  assert.equal([alone.status, alone.arms.map(({ role, invalid }) => [role, invalid !== null])], ["invalid", [["baseline", true]]]);
  const random = sound(weightsBody(await weights(QUANTIZATION, { random: true })));
  assert.equal([arm(random, "quantized").proof!.kind, arm(random, "quantized").quality], ["unchecked", null]);
  const inTurn = sound(weightsBody(await weights({ ...PRECISION, loading: "in-turn" })));
  assert.equal(inTurn.arms.map(({ role }) => role), ["baseline", "control", "technique", "technique"]);
  assert.is(arm(inTurn, "again").proof!.holds, null);
});

test("presses: differences, engagement and quality of the verdict; an arm that keeps everything is lossless", async () => {
  const run = await presses(KNORM, { slower: (keep) => (keep === 0.5 ? 1.5 : 1) }), body = sound(pressBody(run));
  const verdict = judgePresses(run.press, run.config, en), half = arm(body, "keep 0.5");
  assert.equal(body.arms.map(({ name, role, proof }) => [name, role, proof?.kind ?? null]),
    [["no press", "baseline", null], ["no press again", "control", "lossless"], ["keep 1.0", "technique", "lossless"],
      ["keep 0.5", "technique", "lossy"]]);
  verdict.arms.forEach(({ arm: { name }, changes }) => { assert.equal(arm(body, name).differences, changesIn(changes)); });
  assert.equal([half.differences.tpot_ms!.measurable, Math.round(half.differences.tpot_ms!.median)], [true, 50]);
  assert.match(half.engagement!, /^keep 0\.5 acted \d+ times per request; .* were given back in all$/);
  const { perplexity, change, protocol } = half.quality!, { quality } = run.press.arms[3]!.quality!;
  assert.equal([perplexity, change!.percent], [quality.perplexity, 100 * (quality.ratio.value - 1)]);
  assert.is(protocol, "decode(120), wikitext-sample, pg19-sample, tokens scored: 357, windows: 3");
  assert.equal(arm(body, "no press").quality!.perplexity, quality.basePerplexity);
  assert.equal(half.settings, { press: "knorm", keep_ratio: 0.5, prune_after: 64, skip_layers: [] });
  assert.equal(body.pictures.map(({ id }) => id.replace("knormpress_", "")), ["comprehensive", "summary", "tradeoff", "table"]);
  assert.ok(body.notes.some((note) => note.startsWith("claim: TTFT −87 % to −90 %")));
  assert.equal((body.detail as { order: unknown }).order, JSON.parse(pressJson(run)).order);
});

test("presses at a fixed budget: what ran at a time stands with every press", async () => {
  const body = sound(pressBody(await presses(CAPACITY)));
  assert.equal(arm(body, "snapkv 0.5").settings, { press: "snapkv", ratio: 0.5 });
  assert.ok(arm(body, "snapkv 0.5").facts.some(({ label, value }) => label === "sequences at a time" && value === "6"));
  assert.ok(body.notes.includes("snapkv 0.5: sequences at a time: 6.00 where no press ran 4.00 (1.50 ×)"), body.notes.join("\n"));
  assert.ok(body.notes.some((note) => note.startsWith("knorm 0.5 costs no less perplexity")));
  assert.equal(body.pictures.map(({ id }) => id), ["kvpress_capacity"]);
});

test("presses: one that evicts nothing is struck alone, texts that differ strike every arm but the baseline", async () => {
  const idle = sound(pressBody(await presses(KNORM, { idle: true })));
  assert.equal([idle.status, idle.arms.map(({ invalid }) => invalid !== null)], ["invalid", [false, false, false, true]]);
  const spoilt = sound(pressBody(await presses(KNORM, { spoilAt: 1 })));
  assert.equal(spoilt.arms.map(({ invalid }) => invalid !== null), [false, true, true, true]);
  assert.is(arm(spoilt, "keep 1.0").proof!.holds, false);
});

test("speculation: a group for each draft and data set; throughput is the verdict's, time per token its speed-up turned over", async () => {
  const run = await speculation(), body = sound(speculationBody(run)), { cells } = judgeSpeculation(run.speculation, run.config, en);
  assert.equal([...new Set(body.arms.map(({ group }) => group))],
    ["pg19-sample, tiny-neox-draft", "pg19-sample, prompt-lookup", "wikitext-sample, tiny-neox-draft", "wikitext-sample, prompt-lookup"]);
  for (const { cell: { dataset, draft }, arms } of cells) {
    for (const { arm: { name, kind, iterations }, throughput, tpot, throughputChange, speedUp } of arms) {
      const { metrics, differences, invalid } = arm(body, `${dataset}, ${draft}: ${name}`);
      assert.equal([metrics.output_tokens_per_s!.summary, metrics.tpot_ms!.summary, metrics.ttft_ms!.summary, invalid],
        [throughput, tpot, metricsOf({ iterations })[0]!.summary, null]);
      if (kind === "none") continue;
      assert.equal([differences.output_tokens_per_s, differences.tpot_ms!.measurable], [throughputChange, speedUp!.measurable]);
      assert.ok(Math.abs((1 + differences.tpot_ms!.median / 100) * (1 + speedUp!.median / 100) - 1) < 1e-9);
    }
  }
  const fast = arm(body, "pg19-sample, tiny-neox-draft: K = 4");
  assert.equal(fast.settings, { draft: "tiny-neox-draft", k: 4 });
  assert.is(fast.proof!.text, "10 of 10 greedy texts are those of plain decoding, token for token");
  assert.match(fast.engagement!, /^a round of K = 4 yields [\d.]+ tokens on average and costs [\d.]+ decode steps$/);
  assert.equal(fast.facts.map(({ label }) => label), en.spec.columns.slice(3));
  assert.is(typeof fast.coldStart!.firstMs, "number");
  assert.is(body.order[0]!.length, 20);
  const markdown = specMarkdown(run, null, "x.json").replaceAll("`", "");
  const helped = body.notes.flatMap((note) => /^.*speculation helps: [^(]*\([^)]*\)/.exec(note) ?? []);
  assert.ok(helped.length > 0 && helped.every((note) => markdown.includes(note)), "the report's own sentences");
  assert.equal(body.pictures.map(({ id }) => id), ["speculative_comparison_pg19", "speculative_comparison_wikitext"]);
});

test("speculation: a K that never arrives, or a text of its own, strikes the arm; plain decoding that differs its group", async () => {
  const one: Config = { ...SPEC, draft: ["tiny-neox-draft"], dataset: "pg19-sample" };
  const invalid = (run: SpecRun): string[] =>
    sound(speculationBody(run)).arms.flatMap(({ name, invalid: why }) => (why === null ? [] : [name.replace(/^.*: /, "")]));
  assert.equal(invalid(await speculation(one, { stuckK: 4 })), ["K = 3"]);
  assert.equal(invalid(await speculation(one, { spoilAt: { k: 3, token: 5 } })), ["K = 3"]);
  assert.equal(invalid(await speculation(one, { draftsNothing: true })), ["K = 3", "K = 4", "adaptive"]);
  const run = await speculation(one), parted = { iteration: 1, prompt: 0, token: 2, differing: 1, of: 10, gap: null };
  const divergences = [{ arm: "plain again", ...parted }];
  const cells = run.speculation.cells.map((cell) => ({ ...cell, divergences }));
  assert.equal(invalid({ ...run, speculation: { ...run.speculation, cells } }), ["plain again", "K = 3", "K = 4", "adaptive"]);
});

test("a speed-up told as time: the same claim, whatever the noise", () => {
  const change = (median: number, low: number, high: number, noise: number): Change =>
    ({ median, low, high, noise, measurable: low > noise || high < -noise });
  assert.equal(timeOf(change(25, 25, 25, 0)), { median: -20, low: -20, high: -20, noise: 0, measurable: true });
  for (const told of [
    change(10, 9.6, 11, 9.5), change(10, 9.4, 11, 9.5), change(-10, -11, -9.6, 9.5), change(-10, -11, -9.4, 9.5),
    change(-60, -70, -50, 300),
  ]) {
    const { median, low, high, noise, measurable } = timeOf(told);
    assert.ok(low <= median && median <= high && Number.isFinite(noise));
    assert.equal([measurable, low > noise || high < -noise], [told.measurable, told.measurable]);
  }
});

test("stopped, early or late: a body with what there is, and nothing concluded", async () => {
  for (const stopAt of [1, 3, 9, 14, 19]) {
    for (const body of [
      layoutsBody(await layouts(LAYOUTS, {}, Math.min(stopAt, 17))), layoutsBody(await prefix(PREFIX, {}, Math.min(stopAt, 9))),
      memoryBody(await memory(MEMORY, {}, stopAt)), weightsBody(await weights(PRECISION, {}, stopAt)),
      weightsBody(await weights({ ...PRECISION, loading: "in-turn" }, {}, stopAt)), pressBody(await presses(KNORM, {}, stopAt)),
      pressBody(await presses(CAPACITY, {}, stopAt)), speculationBody(await speculation(SPEC, {}, stopAt)),
    ]) {
      sound(body);
      assert.is(body.status, "interrupted");
      assert.ok(body.notes.some((note) => note.includes(en.nothingConcluded)), body.notes.join("\n"));
    }
  }
});

test("few iterations claim nothing; one token has no time per token, and says why", async () => {
  const body = sound(layoutsBody(await layouts({ ...LAYOUTS, test_iterations: CLAIM_ITERATIONS - 1, max_tokens: 1 })));
  assert.equal([arm(body, "paged").metrics.tpot_ms!.missing, "tpot_ms" in arm(body, "paged").differences], ["oneToken", false]);
  assert.equal(arm(body, "paged").metrics.tpot_ms!.samples, [null, null, null, null], "nulls stay in their places");
  assert.ok(Object.values(arm(body, "paged").differences).every(({ tooFew }) => tooFew === true));
});

test("Chinese: every word of notes, proofs and figures", async () => {
  const lang = { lang: "zh" } as const, bodies = [
    layoutsBody(await layouts({ ...LAYOUTS, ...lang })), layoutsBody(await prefix({ ...PREFIX, ...lang })),
    memoryBody(await memory({ ...MEMORY, ...lang })), weightsBody(await weights({ ...PRECISION, ...lang })),
    pressBody(await presses({ ...KNORM, ...lang })), pressBody(await presses({ ...CAPACITY, ...lang })),
    speculationBody(await speculation({ ...SPEC, ...lang })),
  ];
  for (const body of bodies) {
    for (const text of textsIn(sound(body))) {
      assert.equal(text.replace(/a stand-in|wikitext-sample, pg19-sample/, "").match(/[A-Za-z][a-z']+(?:[ ,]+[a-z']{2,})+/g), null, text);
    }
    for (const { name, group, settings } of body.arms) assert.not.match(name + group + JSON.stringify(settings), /\p{Script=Han}/u);
  }
});

test.run();
