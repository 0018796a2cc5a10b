/**
 * Both languages say everything: the same keys with the same kinds of values, every argument used in both, and a Chinese report of any kind
 * in which no English sentence is left.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { machine } from "../../bench/core/environment.ts";
import { en } from "../../bench/core/lang/en.ts";
import { LANGUAGES } from "../../bench/core/lang/words.ts";
import { zh } from "../../bench/core/lang/zh.ts";
import { runMemoryBenchmark } from "../../bench/core/memory_benchmark.ts";
import { runPagedAttention, runSharedPrefix } from "../../bench/core/paged_attention.ts";
import { armJson, comparisonJson, memoryJson, type RunInfo } from "../../bench/core/report/json.ts";
import { armMarkdown, comparisonMarkdown } from "../../bench/core/report/markdown.ts";
import { memoryMarkdown } from "../../bench/core/report/memory.ts";
import { memorySummary, terminalSummary } from "../../bench/core/report/terminal.ts";
import { weightsArmMarkdown, weightsMarkdown } from "../../bench/core/report/weights.ts";
import { weightsJson } from "../../bench/core/report/weights_json.ts";
import { weightsSummary } from "../../bench/core/report/weights_terminal.ts";
import { runWeights } from "../../bench/core/weights/experiment.ts";
import { DEFAULTS, type ExperimentConfig } from "../../bench/core/schema.ts";
import { ENTRY_BYTES, fakeLoad, type FakeOptions } from "../support/fake_llm.ts";

const test = suite("languages");
const CJK = /[\u4e00-\u9fff]/;

/** Every leaf by its dotted path. */
function leaves(value: unknown, path = ""): [path: string, leaf: unknown][] {
  if (typeof value !== "object" || value === null) return [[path, value]];
  return Object.entries(value).flatMap(([key, child]) => leaves(child, path === "" ? key : `${path}.${key}`));
}
const ENGLISH = new Map(leaves(en)), CHINESE = new Map(leaves(zh));

test("the same keys, each of the same kind, none empty", () => {
  assert.equal([...CHINESE.keys()], [...ENGLISH.keys()]);
  for (const [path, leaf] of ENGLISH) {
    const other = CHINESE.get(path);
    assert.is(typeof other, typeof leaf, path);
    if (typeof leaf === "function") assert.ok((other as () => string).length <= leaf.length, path);
    else assert.ok(typeof other === "string" && other.trim() !== "", path);
  }
});

/** Arguments that can be found again in what is made of them. */
const marks = (count: number): unknown[] => Array.from({ length: count }, (_, i) => `«${i}»`);

test("what is said in one language with its arguments is said in the other with the same ones", () => {
  for (const [path, leaf] of ENGLISH) {
    if (typeof leaf !== "function") continue;
    const said = [leaf, CHINESE.get(path) as typeof leaf].map((say) => {
      const text = String((say as (...args: unknown[]) => string)(...marks(say.length)));
      return [...new Set(text.match(/«\d»/g) ?? [])].sort();
    });
    assert.equal(said[1], said[0], path);
  }
});

/** What is the same everywhere: a file name of the first source, units, and what only puts its arguments side by side. */
const isSymbol = (path: string, text: string): boolean => /(^|\.)files\.comparison$/.test(path) || /^(weights\.)?arms\.(?!basic|again|quantized)/.test(path) || /^(tok\/s|TTFT ms|[«»\d：，（）]+)$/.test(text);

test("every Chinese entry is Chinese, and no English one is", () => {
  for (const [path, leaf] of CHINESE) {
    const text = typeof leaf === "function" ? String((leaf as (...args: unknown[]) => string)(...marks(leaf.length))) : String(leaf);
    assert.ok(CJK.test(text) || isSymbol(path, text), `${path}: ${text}`);
  }
  for (const [path, leaf] of ENGLISH) assert.not.match(String(leaf), CJK, path);
});

const CONFIG = {
  ...DEFAULTS, lang: "zh", experiment_name: "x", batch_level: "small", num_prompts: 6, batch_size: 3, max_tokens: 8, max_model_len: 128, temperature: 0, top_p: 1, test_iterations: 5,
} as ExperimentConfig;
const TEXTS = Array.from({ length: 6 }, (_, i) => Array.from({ length: 20 + i }, (_, k) => "x".repeat(1 + (i * k) % 5)).join(" "));

/** Every report of one run, and its terminal text, in the language of the config. */
async function reports(config: Partial<ExperimentConfig>, fake: FakeOptions = {}, stopAt = Infinity): Promise<string[]> {
  const complete = { ...CONFIG, ...config } as ExperimentConfig;
  const stop = new AbortController();
  let steps = 0;
  const hooks = { signal: stop.signal, onStep: () => { if (++steps === stopAt) stop.abort(); } };
  const info: RunInfo = {
    config: complete, configFile: "x.yaml", origins: { seed: "file", top_p: "follows temperature" }, prompts: { texts: TEXTS, origin: { kind: "given" }, sha256: "f".repeat(64) },
    machine: machine(), started: "2026-01-01T00:00:00.000Z",
  };
  if (complete.technique !== "PagedAttention") {
    const weights = await runWeights({ ...complete, perplexity_context: 16, perplexity_windows: complete.perplexity_windows === 0 ? 0 : 3 }, { texts: TEXTS }, fakeLoad(fake), hooks);
    const run = { ...info, weights };
    return [
      weightsMarkdown(run, complete.lang === "zh" ? { file: "x.png" } : { reason: "no font" }, "x.json"), weightsSummary(run), sentences(weightsJson(run)),
      ...weights.arms.map((arm) => weightsArmMarkdown(run, arm)),
    ];
  }
  if (complete.benchmark_memory) {
    const memory = await runMemoryBenchmark(complete, fakeLoad(fake), hooks);
    const run = { ...info, memory, prompts: memory.prompts };
    return [memoryMarkdown(run), memorySummary(run), sentences(memoryJson(run))];
  }
  if (complete.shared_prefix !== undefined) {
    const { outcome, prompts } = await runSharedPrefix(complete, fakeLoad(fake), hooks);
    const run = { ...info, outcome, prompts };
    return [comparisonMarkdown(run)!, terminalSummary(run), sentences(comparisonJson(run))];
  }
  const outcome = await runPagedAttention(complete, { texts: TEXTS }, fakeLoad(fake), hooks);
  const run = { ...info, outcome };
  const comparison = comparisonMarkdown(run);
  return [...outcome.arms.filter(({ name }) => name !== "again").flatMap((arm) => [armMarkdown(run, arm), sentences(armJson(run, arm))]), ...(comparison === null ? [] : [comparison]), terminalSummary(run)];
}

/** What is prose in a JSON report, a line each. */
function sentences(json: string): string {
  const prose: string[] = [];
  JSON.parse(json, (key, value) => {
    if (["engagement", "correctness", "invalid", "note", "reason", "wasteReason", "origin"].includes(key) && typeof value === "string") prose.push(value);
    return value as unknown;
  });
  return prose.join("\n");
}

/** Runs of English words, without code and names of formats, and without the rows that name the machine. */
function english(text: string): string[] {
  const prose = text.replace(/`[^`]*`|(?:nf4|fp4)-double|llm\.int8/g, "").split("\n").filter((line) => !/^\| (适配器|机器|软件|特性|限制) \|/.test(line)).join("\n");
  return prose.match(/[A-Za-z][a-z']+(?:[ ,]+[a-z']{2,})+/g) ?? [];
}

const NF4 = { load_in_4bit: true, bnb_4bit_quant_type: "nf4" };

/** Other tokens every time. */
function differing(): (ids: number[]) => number[] {
  let calls = 0;
  return (ids) => ids.map((id) => id + calls++);
}

const KINDS: readonly (readonly [string, Partial<ExperimentConfig>, FakeOptions, number?])[] = [
  ["a complete run", {}, {}], ["random weights", {}, { random: true }], ["one arm", { method: "optimized" }, {}], ["one token", { max_tokens: 1 }, {}],
  ["too few iterations", { test_iterations: 1 }, {}], ["a run that shows nothing", {}, { reserved: 64 }],
  ["texts that differ", {}, { spoil: (ids, layout) => (layout === "paged" ? ids.map((id) => id + 1) : ids) }], ["texts that may differ", { temperature: 0.8 }, { spoil: (ids, layout) => (layout === "paged" ? ids.map((id) => id + 1) : ids) }],
  ["an interrupted run", {}, {}, 8], ["a run stopped before every arm ran", { warmup_iterations: 0 }, {}, 2],
  ["a pool that is too small", { kv_memory: 60 * ENTRY_BYTES, max_tokens: 12 }, {}], ["preemption", { kv_memory: 64 * ENTRY_BYTES, block_size: 4, max_tokens: 20 }, {}],
  ["a shared prefix", { shared_prefix: 32, max_model_len: 256 }, {}], ["a shared prefix without a hit", { shared_prefix: 32, max_model_len: 256 }, { forgetful: true }],
  ["the memory benchmark", { benchmark_memory: true, max_tokens: 100 }, {}], ["the same, stopped", { benchmark_memory: true }, {}, 24],
  ["the same in little memory", { benchmark_memory: true, kv_memory: 100 * ENTRY_BYTES, distributions: ["alpaca", "constant"] }, {}],
  ["precision", { technique: "precision" }, {}], ["precision of every format", { technique: "precision", formats: ["f16", "f32", "llm.int8", "nf4-double"] }, {}],
  ["precision, loaded in turn", { technique: "precision" }, { mostModels: 1 }], ["precision, stopped", { technique: "precision", warmup_iterations: 0 }, {}, 16],
  ["precision without perplexity", { technique: "precision", perplexity_windows: 0 }, {}],
  ["quantization", { technique: "量化", quantization_config: NF4 }, {}], ["quantization that did not act", { technique: "量化", quantization_config: NF4 }, { keepsFloats: true }],
  ["quantization of random weights", { technique: "量化", quantization_config: NF4 }, { random: true }],
  ["two equal arms that differ", { technique: "precision" }, { spoil: differing() }],
];

for (const [name, config, fake, stopAt] of KINDS) {
  test(`${name}: no English sentence in a Chinese report, and none that is not English in an English one`, async () => {
    const all = await reports(config, fake, stopAt);
    for (const text of all) {
      assert.equal(english(text), []);
      assert.not.match(text, /undefined|NaN|\[object/);
      assert.ok(text === "" || CJK.test(text), text);
    }
    for (const text of await reports({ ...config, lang: "en" }, fake, stopAt)) assert.not.match(text.replace(/`[^`]*`/g, ""), CJK); // 量化 is a name in the configuration
  });
}

test("the check finds English where there is some", async () => {
  const [markdown] = await reports({ lang: "en" });
  assert.ok(english(markdown!).length > 10);
});

test("both languages are there under their names", () => {
  assert.equal(LANGUAGES, { en, zh });
});

test.run();
