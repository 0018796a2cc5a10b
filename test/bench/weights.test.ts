/**
 * Quantization and precision with a stand-in for the model: which arms run in which format, together or in turn, what is compared with
 * what, what makes a run invalid, and that reports in both languages say no more than was measured.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import { en } from "../../bench/core/lang/en.ts";
import { weightsArmMarkdown, weightsMarkdown } from "../../bench/core/report/weights.ts";
import { weightsArmJson, weightsJson, weightsStatusOf, type WeightsRun } from "../../bench/core/report/weights_json.ts";
import { chartInput } from "../../bench/core/report/weights_chart.ts";
import { weightsSummary } from "../../bench/core/report/weights_terminal.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { runWeights } from "../../bench/core/weights/experiment.ts";
import { judgeRun } from "../../bench/core/weights/verdict.ts";
import { OutOfMemoryError } from "../../engine/errors.ts";
import type { LoadOptions } from "../../models/options.ts";
import { fakeLoad, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("quantization and precision");
const MACHINE = machine();
const BASE = {
  ...DEFAULTS, experiment_name: "x", batch_level: "small", num_prompts: 3, batch_size: 2, max_tokens: 4, max_model_len: 64, temperature: 0, top_p: 1,
  perplexity_context: 16, perplexity_windows: 4,
} as ExperimentConfig;
const PRECISION: Partial<ExperimentConfig> = { technique: "precision" };
const QUANTIZATION: Partial<ExperimentConfig> = { technique: "量化", quantization_config: { load_in_4bit: true, bnb_4bit_quant_type: "nf4" } };
const TEXTS = ["a bb ccc", "dddd", "ee f"];

async function runOf(config: Partial<ExperimentConfig>, fake: FakeOptions = {}, stopAt = Infinity): Promise<{ run: WeightsRun; loads: LoadOptions[]; steps: string[] }> {
  const complete = { ...BASE, ...config } as ExperimentConfig;
  const loads: LoadOptions[] = [], steps: string[] = [];
  const stop = new AbortController();
  const onStep = (label: string): void => { if (steps.push(label) === stopAt) stop.abort(); };
  const weights = await runWeights(complete, { texts: TEXTS }, fakeLoad({ ...fake, onLoad: (options) => { loads.push(options); } }), { signal: stop.signal, onStep });
  const prompts = { texts: TEXTS, origin: { kind: "given" as const }, sha256: "f".repeat(64) };
  return { loads, steps, run: { config: complete, configFile: "x.yaml", origins: { seed: "file" }, prompts, machine: MACHINE, started: "2026-01-01T00:00:00.000Z", weights } };
}
const names = (run: WeightsRun): string[] => run.weights.arms.map(({ name }) => name);
const loaded = (loads: readonly LoadOptions[]): unknown[] => loads.map(({ weights }) => weights);
const all = (run: WeightsRun): string[] => [
  weightsMarkdown(run, { file: "x.png" }, "x.json"), weightsSummary(run), ...run.weights.arms.map((arm) => weightsArmMarkdown(run, arm)),
];

test("precision: one arm for each format, the first one twice, all with the same cache", async () => {
  const { run, loads } = await runOf(PRECISION);
  assert.equal(loaded(loads), ["f32", "f32", "f16", "bf16"]);
  assert.equal(names(run), ["f32", "again", "f16", "bf16"]);
  assert.is(new Set(loads.slice(1).map(({ kvMemory }) => kvMemory)).size, 1);
  assert.ok(loads.every(({ prefixCache, kvLayout }) => prefixCache === false && kvLayout?.name === "paged"));
  assert.equal([run.weights.loading, weightsStatusOf(run), run.weights.outcome.order.length], ["together", "complete", 5]);
  assert.ok(run.weights.outcome.order.every((turn) => [...turn].sort().join() === "again,bf16,f16,f32"));
});

test("quantization: basic, again and quantized; a method runs its side alone", async () => {
  const { run, loads } = await runOf(QUANTIZATION);
  assert.equal(names(run), ["basic", "again", "quantized"]);
  assert.equal(loaded(loads), ["auto", "auto", undefined, "f32"], "f32 is loaded for quality alone");
  assert.equal(loads[2]!.quantizationConfig, QUANTIZATION.quantization_config);
  assert.equal(loaded((await runOf({ ...QUANTIZATION, weights: "f32" })).loads), ["f32", "f32", undefined], "unless it is there already");
  assert.equal(loaded((await runOf({ technique: "量化", quantize_to: "int8" })).loads)[2], "int8");
  assert.equal(names((await runOf({ ...QUANTIZATION, method: "optimized" })).run), ["quantized"]);
  const { run: basic } = await runOf({ technique: "量化", method: "basic" });
  assert.equal([names(basic), weightsStatusOf(basic)], [["basic"], "complete"]);
});

test("quality: perplexity of every arm; divergence against the first and against f32, once where they are the same", async () => {
  const { run: { weights: { arms: precision } } } = await runOf(PRECISION);
  assert.equal(precision.map(({ quality }) => [quality!.first, quality!.f32].map((one) => (typeof one === "string" ? one : "measured"))),
    [["itself", "itself"], ["notMeasured", "notMeasured"], ["measured", "measured"], ["measured", "measured"]]);
  const f16 = precision[2]!.quality!.f32, bf16 = precision[3]!.quality!.f32;
  if (typeof f16 === "string" || typeof bf16 === "string") throw new Error("not measured");
  assert.is(f16.kld.value, 0);
  assert.ok(bf16.kld.value > 0 && bf16.kld.value < 1e-4);
  assert.ok(Math.abs(bf16.ratio.value - precision[3]!.quality!.perplexity.value / precision[0]!.quality!.perplexity.value) < 1e-6, "the ratio is that of the perplexities");
  const { run: { weights: { arms: [basic, , quantized] } } } = await runOf(QUANTIZATION);
  assert.equal([basic!.quality!.first, typeof basic!.quality!.f32], ["itself", "object"]);
  assert.equal([typeof quantized!.quality!.first, typeof quantized!.quality!.f32], ["object", "object"]);
});

test("no perplexity: not asked for, or of random weights, and both are told", async () => {
  const { run, loads } = await runOf({ ...PRECISION, perplexity_windows: 0 });
  assert.equal([run.weights.corpus, run.weights.arms[0]!.quality, loads.length], [null, null, 4]);
  assert.match(weightsMarkdown(run, null, "x.json"), /No perplexity was measured: it was not asked for/);
  const { run: random } = await runOf(QUANTIZATION, { random: true });
  assert.is(random.weights.corpus, null);
  assert.match(weightsMarkdown(random, null, "x.json"), /No perplexity was measured: the weights are random/);
});

test("not all fit: one after the other in a drawn order, each judged beside its references, and it is told", async () => {
  const { run, loads } = await runOf(PRECISION, { mostModels: 3 });
  assert.is(run.weights.loading, "in-turn");
  assert.equal(names(run), ["f32", "again", "f16", "bf16"]);
  assert.equal(run.weights.outcome.order.map((turn) => [...turn].sort()), [["again", "bf16", "f16", "f32"]]);
  assert.match(weightsMarkdown(run, null, "x.json"), /loaded one after the other/);
  assert.ok(loads.length > 4 + 3);
  assert.is(typeof run.weights.arms[3]!.quality!.f32, "object");
  const { run: alone } = await runOf(PRECISION, { mostModels: 1 });
  assert.is(alone.weights.arms[3]!.quality!.f32, "noRoom");
  assert.match(weightsMarkdown(alone, null, "x.json"), /no memory for the other model beside it/);
  assert.is((await runOf({ ...PRECISION, loading: "in-turn" })).run.weights.loading, "in-turn");
  try {
    await runOf({ ...PRECISION, loading: "together" }, { mostModels: 3 });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, OutOfMemoryError);
    assert.match((error as Error).message, /give --loading in-turn/);
  }
});

test("weights that stay in floats: INVALID, no conclusion", async () => {
  for (const config of [QUANTIZATION, { ...PRECISION, formats: ["f16", "nf4"] as const }]) {
    const { run } = await runOf(config, { keepsFloats: true });
    assert.is(weightsStatusOf(run), "invalid");
    const [markdown, summary] = all(run);
    assert.match(markdown!, /\*\*INVALID\*\*: (quantized \(nf4\)|nf4) holds no matrix as nf4: the technique did not act\./);
    assert.not.match(markdown!, /higher, better|lower, better/);
    assert.match(summary!, /INVALID/);
  }
});

test("two equal arms that write different greedy texts make the run invalid; other formats may write what they like", async () => {
  let calls = 0;
  const { run } = await runOf(PRECISION, { spoil: (ids) => ids.map((id) => id + calls++) });
  assert.is(weightsStatusOf(run), "invalid");
  assert.match(weightsMarkdown(run, null, "x.json"), /INVALID\*\*: two equal arms wrote \d of 3 greedy texts differently/);
});

test("differences of speed count only beyond what two equal arms differ by", async () => {
  const { run } = await runOf(PRECISION);
  const verdict = judgeRun(run.weights, en);
  assert.is(verdict.control!.to, "again");
  for (const { changes } of verdict.pairs) assert.ok(changes.every(({ change }) => change === null || !change.measurable), "the stand-in is as fast in every format");
  const slower = (arm: number, iteration: number): number => [1, 1 + iteration / 20, 1.1, 1.5][arm]!;
  const arms = run.weights.outcome.arms.map((arm, i) => ({
    ...arm,
    iterations: arm.iterations.map((iteration, k) => ({ ...iteration, requests: iteration.requests.map((request) => ({ ...request, ttft: request.ttft * slower(i, k) })) })),
  }));
  const changed = judgeRun({ ...run.weights, outcome: { ...run.weights.outcome, arms } }, en);
  const ttft = (to: string) => changed.pairs.find((pair) => pair.to === to)!.changes.find(({ metric }) => metric.key === "ttft_ms")!.change!;
  assert.equal([ttft("f16").measurable, ttft("bf16").measurable], [false, true], "10 % is within the 20 % of the control, 50 % is not");
});

test("the table: bytes per weight, the ledger, quality and speeds, a row for each format", async () => {
  const { run } = await runOf({ ...PRECISION, formats: ["f32", "int8", "nf4"] });
  const table = /\| weights as [^]*?\n\n/.exec(weightsMarkdown(run, null, "x.json"))![0].trim().split("\n").slice(2).map((line) => line.slice(2, -2).split(" | "));
  assert.equal(table.map((cells) => cells.slice(0, 3)), [["f32", "4.0000", "1.95 KiB"], ["int8", "1.1000", "550 B"], ["nf4", "0.6000", "300 B"]]);
  assert.equal([table[0]![5], table[0]![6], table[0]![7]], ["0", "100 %", "1"]);
  assert.match(table[2]![5]!, /^\d+\.\d{3} ± \d+\.\d{3}$/);
  assert.match(table[2]![7]!, /^≈ 1\.00$/);
});

test("every row of every table fits its head", async () => {
  for (const config of [{ ...PRECISION, formats: ["f16", "f32", "llm.int8", "fp4-double"] as const }, QUANTIZATION, { ...PRECISION, perplexity_windows: 0 }]) {
    for (const text of all((await runOf(config)).run)) {
      for (const table of text.match(/(?:^\|.*\|\n?)+/gm) ?? []) {
        const widths = table.trim().split("\n").map((row) => row.split("|").length);
        assert.is(new Set(widths).size, 1, table);
      }
    }
  }
});

test("LLM.int8() tells what it kept out of the integers", async () => {
  const { run } = await runOf({ ...PRECISION, formats: ["f16", "llm.int8"] });
  assert.equal(run.weights.arms.map(({ outliers }) => outliers), [null, null, { elements: 12, columns: 3 }]);
  assert.match(weightsMarkdown(run, null, "x.json"), /llm\.int8: 12 activations reached the threshold and were multiplied at full precision with their columns, of which there are 3/);
});

test("stopped while it is judged, or while it is timed: no conclusion", async () => {
  const { run: early } = await runOf(PRECISION, {}, 3);
  assert.equal([early.weights.outcome.status, early.weights.outcome.arms.every(({ iterations }) => iterations.length === 0)], ["interrupted", true]);
  const { run: late, steps } = await runOf({ ...PRECISION, warmup_iterations: 0 }, {}, 14);
  assert.match(steps[13]!, /iteration/);
  assert.is(late.weights.outcome.status, "interrupted");
  assert.match(weightsMarkdown(late, null, "x.json"), /\*\*PARTIAL\*\*: the run was interrupted/);
});

test("the JSON: every number finite, every null explained, the config without keys of other techniques", async () => {
  const { run } = await runOf(QUANTIZATION);
  const json = JSON.parse(weightsJson(run)) as Record<string, any>;
  assert.equal([json["schemaVersion"], json["experiment"], json["status"], json["loading"], json["arms"].length], [2, "量化", "complete", "together", 3]);
  assert.equal(["benchmark_memory", "formats"].filter((key) => key in json["config"]), []);
  assert.equal(json["config"].quantization_config, QUANTIZATION.quantization_config);
  assert.equal(json["arms"][2].weights.held, [{ format: "nf4", matrices: 5, weights: 500, bytes: 300 }]);
  assert.match(json["arms"][2].weights.expectedBytes.reason, /not known from the config/);
  assert.ok(Math.abs(json["comparison"].control.changesPercent.ttft_ms.median) < 10);
  assert.equal([json["perplexityOf"].name, json["perplexityOf"].options.context], ["persuasion", 16]);
  const one = JSON.parse(weightsArmJson(run, run.weights.arms[0]!)) as Record<string, any>;
  assert.equal([one["arm"], one["format"], one["quality"].againstFirst.reason], ["basic", "f16", "itself"]);
  for (const text of [...all(run), weightsJson(run)]) assert.not.match(text, /NaN|undefined|\[object|Infinity/);
});

test("what a quantization_config asks for and is done otherwise is told", async () => {
  const { run } = await runOf({ technique: "量化", quantization_config: { load_in_4bit: true, bnb_4bit_quant_type: "nf4", bnb_4bit_compute_dtype: "float16" } });
  assert.match(weightsMarkdown(run, null, "x.json"), /- `bnb_4bit_compute_dtype float16: activations and sums are float32 here/);
  assert.is(JSON.parse(weightsJson(run)).notes.length, 1);
});

test("the chart's rows: the control is marked, its difference is that of the first arm", async () => {
  const { run } = await runOf({ ...PRECISION, formats: ["f32", "nf4"] });
  const { rows } = chartInput(run);
  assert.equal(rows.map(({ label, isControl }) => [label, isControl]), [["f32", false], ["f32 again", true], ["nf4", false]]);
  assert.equal(rows.slice(0, 2).map(({ perplexityDelta }) => perplexityDelta), [{ value: 0, low: 0, high: 0 }, { value: 0, low: 0, high: 0 }]);
  const { low, value, high } = rows[2]!.perplexityDelta!;
  assert.ok(low <= value && value <= high);
});

test.run();
