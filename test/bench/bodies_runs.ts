/**
 * Small runs of every experiment with stand-ins for the model, and what must hold of the body of any of them: each arm named once and
 * measured against one baseline, nothing lost on the way through JSON, no Markdown and nothing that is not a number in what it says.
 */

import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import { gateAxes } from "../../bench/core/gates.ts";
import { en } from "../../bench/core/lang/en.ts";
import { runMemoryBenchmark } from "../../bench/core/memory_benchmark.ts";
import { runPagedAttention, runSharedPrefix } from "../../bench/core/paged_attention.ts";
import { runPresses } from "../../bench/core/press/experiment.ts";
import type { MemoryRun, Run, RunInfo } from "../../bench/core/report/json.ts";
import type { PressRun } from "../../bench/core/report/press_json.ts";
import type { SpecRun } from "../../bench/core/report/spec_json.ts";
import type { WeightsRun } from "../../bench/core/report/weights_json.ts";
import { baselineOf, type ResultBody } from "../../bench/core/result.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { runSpeculation } from "../../bench/core/speculation/experiment.ts";
import type { Hooks } from "../../bench/core/turns.ts";
import { runWeights } from "../../bench/core/weights/experiment.ts";
import { ENTRY_BYTES, fakeLoad, type FakeOptions } from "../support/fake_llm.ts";
import { fakePressLoad, type FakePressOptions } from "../support/fake_press.ts";
import { fakeSpecLoad, type FakeSpecOptions } from "../support/fake_spec.ts";

export type Config = Partial<ExperimentConfig>;

const MACHINE = machine(), TEXTS = ["a bb ccc", "dddd", "ee f"];
const PROMPTS = { texts: TEXTS, origin: { kind: "given" as const }, sha256: "f".repeat(64) };
const BASE = { ...DEFAULTS, experiment_name: "x", batch_level: "small", temperature: 0, top_p: 1 } as unknown as ExperimentConfig;
export const LAYOUTS: Config = { num_prompts: 3, batch_size: 2, max_tokens: 4, max_model_len: 64 };
export const PREFIX: Config = { ...LAYOUTS, shared_prefix: 70, max_model_len: 256 };
export const MEMORY: Config = {
  benchmark_memory: true, num_prompts: 12, batch_size: 2, max_model_len: 256, block_size: 8, distributions: ["alpaca", "constant"],
};
export const PRECISION: Config = { ...LAYOUTS, technique: "precision", perplexity_context: 16, perplexity_windows: 4 };
export const QUANTIZATION: Config = {
  ...PRECISION, technique: "量化", quantization_config: { load_in_4bit: true, bnb_4bit_quant_type: "nf4" },
};
export const KNORM: Config = {
  technique: "KnormPress", max_model_len: 512, keep_ratios: [1, 0.5], prune_after: 64, skip_layers: [], num_wikitext_samples: 2,
  num_pg19_samples: 1, prompt_tokens: 80, max_tokens: 40,
};
export const CAPACITY: Config = {
  technique: "KVPress", max_model_len: 256, kv_memory: 512 * ENTRY_BYTES, num_prompts: 12, prompt_tokens: 100, max_tokens: 28,
  continuation: 50, perplexity_windows: 4, presses: ["snapkv", "knorm"], ratios: [0, 0.5],
};
export const SPEC: Config = {
  technique: "spec_decode", max_model_len: 512, k: "3-4", num_prompts: 2, prompt_tokens: 40, max_tokens: 60,
  draft: ["tiny-neox-draft", "prompt-lookup"],
};

/** Stops at the step of this number. */
function hooksOf(stopAt: number): Hooks {
  const stop = new AbortController();
  let steps = 0;
  const yardstick = { work: "software 1", measure: () => Promise.resolve({ computeMs: 1, memoryMs: 2, hostMs: 3 }) };
  return { signal: stop.signal, onStep: () => { if (++steps === stopAt) stop.abort(); }, yardstick };
}
const infoOf = (config: Config): RunInfo => ({
  config: { ...BASE, ...config } as ExperimentConfig, configFile: "x.yaml", origins: {}, prompts: PROMPTS, machine: MACHINE,
  started: "2026-01-01T00:00:00.000Z",
});

export async function layouts(config: Config = LAYOUTS, fake: FakeOptions = {}, stopAt = Infinity): Promise<Run> {
  const info = infoOf(config);
  return { ...info, outcome: await runPagedAttention(info.config, PROMPTS, fakeLoad(fake), hooksOf(stopAt)) };
}
export async function prefix(config: Config = PREFIX, fake: FakeOptions = {}, stopAt = Infinity): Promise<Run> {
  const info = infoOf(config);
  return { ...info, ...await runSharedPrefix(info.config, fakeLoad(fake), hooksOf(stopAt)) };
}
export async function memory(config: Config = MEMORY, fake: FakeOptions = {}, stopAt = Infinity): Promise<MemoryRun> {
  const info = infoOf(config);
  return { ...info, memory: await runMemoryBenchmark(info.config, fakeLoad(fake), hooksOf(stopAt)) };
}
export async function weights(config: Config = PRECISION, fake: FakeOptions = {}, stopAt = Infinity): Promise<WeightsRun> {
  const info = infoOf(config);
  return { ...info, weights: await runWeights(info.config, PROMPTS, fakeLoad(fake), hooksOf(stopAt)) };
}
export async function presses(config: Config = KNORM, fake: FakePressOptions = {}, stopAt = Infinity): Promise<PressRun> {
  const info = infoOf(config), press = await runPresses(info.config, fakePressLoad(fake), hooksOf(stopAt));
  return { ...info, prompts: press.prompts, press };
}
export async function speculation(config: Config = SPEC, fake: FakeSpecOptions = {}, stopAt = Infinity): Promise<SpecRun> {
  const info = infoOf(config), outcome = await runSpeculation(info.config, fakeSpecLoad(fake), hooksOf(stopAt));
  return { ...info, prompts: outcome.prompts, speculation: outcome };
}

/** Everything that is written in a language. */
export const textsIn = ({ arms, notes, pictures }: ResultBody): string[] => [
  ...notes, ...pictures.flatMap(({ title, caption }) => [title, caption]), ...arms.flatMap(({ invalid, engagement, proof, facts }) =>
    [invalid ?? "", engagement ?? "", proof?.text ?? "", ...facts.flatMap(({ label, value }) => [label, value])]),
];

/** What holds of every body. */
export function sound(body: ResultBody): ResultBody {
  const { arms, order, warmUp, yardstick, pictures } = body, names = arms.map(({ name }) => name);
  const groups = new Set(arms.map(({ group }) => group));
  assert.is(new Set(names).size, names.length, String(names));
  for (const group of groups) assert.is(arms.filter((one) => one.group === group && one.role === "baseline").length, 1, group);
  assert.ok(order.flat().every((name) => names.includes(name)), `${order.flat()} of ${names}`);
  assert.ok(Object.keys(warmUp?.arms ?? {}).every((name) => names.includes(name)));
  assert.ok(yardstick!.yards.every(({ computeMs }) => computeMs === 1));
  for (const one of arms) {
    const base = baselineOf(body, one);
    assert.is(base === null, one.role === "baseline");
    if (one.role === "baseline") assert.equal([one.differences, one.engagement, one.proof], [{}, null, null]);
    for (const [key, { samples, summary, missing }] of Object.entries(one.metrics)) {
      assert.equal(summary?.samples ?? [], samples.filter((sample) => sample !== null), key);
      assert.is(summary === null, missing !== undefined, key);
    }
    for (const { label, value } of one.facts) assert.ok(label !== "" && value !== "" && value !== en.none, label);
    if (one.proof?.holds === false) assert.is.not(one.invalid, null, "what changed a text is struck");
  }
  if (body.status !== "interrupted") assert.is(body.status === "invalid", arms.some(({ invalid }) => invalid !== null));
  assert.is(new Set(pictures.map(({ id }) => id)).size, pictures.length);
  for (const { spec, title, caption } of pictures) assert.equal([gateAxes(spec, en), title === "", caption === ""], [null, false, false]);
  for (const text of textsIn(body)) assert.not.match(text, /\*\*|`|^- |NaN|undefined|Infinity|\[object/);
  const json = JSON.stringify(body);
  assert.equal(JSON.parse(json), body, "JSON loses nothing: no NaN, no Infinity, no key without a value");
  return body;
}
