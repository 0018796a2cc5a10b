/**
 * Every way in which a config can be wrong (Y1 to Y16): each refused with file, line, column and what was expected, all at once, and
 * never with a stack trace. Then which source of a value wins.
 */

import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../engine/errors.ts";
import { presetConfig } from "../../models/presets.ts";
import { loadConfig, type ConfigRequest, type LoadedConfig } from "../../bench/core/config.ts";

const folder = mkdtempSync(join(tmpdir(), "dawnlm-config-"));
const test = suite("config");
test.after(() => { rmSync(folder, { recursive: true }); });

/** Load a file of this text. */
function load(text: string | Uint8Array, request: Omit<ConfigRequest, "config" | "flags"> & { flags?: ConfigRequest["flags"] } = {}): LoadedConfig {
  const config = join(folder, "x.yaml");
  writeFileSync(config, text);
  return loadConfig({ flags: {}, ...request, config });
}

/** The lines of the refusal, without the folder's name. */
function refusal(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    assert.instance(error, UsageError, String((error as Error).stack));
    assert.is((error as UsageError).exitCode, 2);
    return (error as Error).message.replaceAll(`${folder}/`, "").split("\n");
  }
  return assert.unreachable("it was accepted") as never;
}
const refused = (text: string | Uint8Array, request = {}): string[] => refusal(() => load(text, request));

const GOOD = "experiment_name: x\n";
const WRONG_FLAGS = {
  max_tokens: 0, temperature: -1, top_p: 1.5, batch_size: "two", num_prompts: 1e9, test_iterations: 0, warmup_iterations: -1, output_dir: "../up",
  experiment_name: "a/b", seed: 2 ** 53 + 2, max_model_len: 1,
};

test("Y1, Y2: tab indent and an unclosed list show line, column and the line itself", () => {
  assert.match(refused("a:\n\t- 1\n")[0]!, /^x\.yaml:2:1 {2}Tabs are not allowed as indentation: - 1$/);
  assert.match(refused("model: [1, 2\nseed: 3\n")[0]!, /^x\.yaml:\d+:\d+ {2}.+/);
});

test("Y3: a key that stands twice", () => {
  assert.match(refused("seed: 1\nseed: 2\n")[0]!, /^x\.yaml:2:1 {2}Map keys must be unique/);
});

test("Y4: an alias bomb is refused at once", () => {
  const levels = ["a", "b", "c", "d", "e", "f"];
  const bomb = levels.map((name, i) => `${name}: &${name} [${Array(9).fill(i === 0 ? "x" : `*${levels[i - 1]}`).join(", ")}]`).join("\n");
  const started = performance.now();
  assert.match(refused(bomb)[0]!, /Excessive alias count/);
  assert.ok(performance.now() - started < 10_000);
});

test("Y5: an unknown tag", () => {
  assert.match(refused('experiment_name: !!js/function "x"\n')[0]!, /^x\.yaml:1:18 {2}Unresolved tag: tag:yaml\.org,2002:js\/function/);
});

test("Y6: __proto__ and constructor are unknown keys and pollute nothing", () => {
  const lines = refused(`${GOOD}__proto__: {polluted: 1}\nconstructor: 1\n`);
  assert.match(lines[0]!, /^x\.yaml:2:1 {2}__proto__: unknown key/);
  assert.match(lines[1]!, /^x\.yaml:3:1 {2}constructor: unknown key/);
  assert.is(({} as Record<string, unknown>)["polluted"], undefined);
});

test("Y7: words, dates, infinities and strings are no numbers, and numbers no words", () => {
  const lines = refused("experiment_name: 5\nmax_tokens: 1_000\ntemperature: .inf\ntop_p: .nan\nseed: 2026-01-01\nbatch_size: 1.5\nsave_results: no\nignore_eos: 1\n");
  assert.is(lines.length, 8);
  assert.match(lines[0]!, /^x\.yaml:1:18 {2}experiment_name: expected a name .+, got 5 \(number\)$/);
  assert.match(lines[1]!, /^x\.yaml:2:13 {2}max_tokens: expected a whole number from 1 to 65536, got "1_000" \(string\)$/);
  assert.match(lines[2]!, /temperature: expected a number from 0 to 100, got \.inf \(number\)$/);
  assert.match(lines[3]!, /top_p: expected a number above 0 to 1, got \.nan \(number\)$/);
  assert.match(lines[4]!, /seed: .+ got "2026-01-01" \(string\)$/);
  assert.match(lines[5]!, /batch_size: .+ got 1\.5 \(number\)$/);
  assert.match(lines[6]!, /save_results: expected true or false, got "no" \(string\)$/);
  assert.match(lines[7]!, /ignore_eos: expected true or false, got 1 \(number\)$/);
});

test("Y7: 1e3 and 0x10 are the numbers that YAML says they are", () => {
  const { config } = load(`${GOOD}num_prompts: 1e3\nmax_tokens: 0x10\n`);
  assert.equal([config.num_prompts, config.max_tokens], [1000, 16]);
});

test("Y8: two documents", () => {
  assert.match(refused("seed: 1\n---\nseed: 2\n")[0]!, /^x\.yaml:2:1 {2}/);
});

test("Y9: an empty file, a scalar, a list", () => {
  assert.equal(["", "# nothing\n", "hello\n", "- a\n"].map((text) => refused(text)[0]), [
    "x.yaml:1:1  expected a mapping of keys and values, found nothing", "x.yaml:1:1  expected a mapping of keys and values, found nothing",
    "x.yaml:1:1  expected a mapping of keys and values, found a single value", "x.yaml:1:1  expected a mapping of keys and values, found a list",
  ]);
});

test("Y10: << merges, and the file's own keys win", () => {
  const { config } = load(`${GOOD}<<: {max_tokens: 7, seed: 8}\nseed: 9\n`);
  assert.equal([config.max_tokens, config.seed], [7, 9]);
});

test("Y11: an alias without an anchor shows where it is", () => {
  assert.match(refused(`${GOOD}model: *nowhere\n`)[0]!, /^x\.yaml:2:8 {2}Unresolved alias .+nowhere/);
});

test("Y12: a seed that a number cannot hold exactly is refused and shown as it was written", () => {
  assert.match(refused(`${GOOD}seed: 9007199254740993\n`)[0]!, /^x\.yaml:2:7 {2}seed: expected a whole number from 0 to 4294967295, got 9007199254740993 \(number\)$/);
});

test("Y13: deep nesting is one short line", () => {
  for (const text of [`a: ${"[".repeat(5000)}`, `a: ${"[".repeat(5000)}${"]".repeat(5000)}`]) {
    const lines = refused(text);
    assert.is(lines.length, 1);
    assert.match(lines[0]!, /^x\.yaml: is nested too deeply/);
  }
});

test("Y14: bad UTF-8 is refused; a byte-order mark and CRLF are fine", () => {
  assert.match(refused(Buffer.from([...Buffer.from("model: "), 0xff, 0xfe, 0x0a]))[0]!, /^x\.yaml: is not UTF-8 text$/);
  assert.is(load("\ufeffexperiment_name: x\r\nseed: 4\r\n").config.seed, 4);
});

test("Y14: control characters in a name are refused and cannot reach the terminal", () => {
  const [line] = refused('experiment_name: "a\\u001b[31m"\n');
  assert.match(line!, /^x\.yaml:1:18 {2}experiment_name: .+got "a\\u001b\[31m" \(string\)$/);
});

test("Y15: everything wrong is told at once, in the order of the file, with the nearest names", () => {
  const lines = refused([
    "experiment_name: x", "batch_sise: 4", "batch_level: smal", "max_tokens: -3", "top_p: 0", "temperature: -1", "seed: sixteen", "prompts: []",
    "device: [0, 1]", "kv: int7", "method: optimised", "quantization_config: {load_in_8bit: true}", "block_size: 0", "model: null",
  ].join("\n"));
  assert.is(lines.length, 13);
  const expected = [
    "2:1  batch_sise: unknown key; did you mean batch_size?",
    '3:14  batch_level: expected small, medium or large, got "smal" (string); did you mean small?',
    "4:13  max_tokens: expected a whole number from 1 to 65536, got -3 (number)",
    "5:8  top_p: expected a number above 0 to 1, got 0 (number)",
    "6:14  temperature: expected a number from 0 to 100, got -1 (number)",
    '7:7  seed: expected a whole number from 0 to 4294967295, got "sixteen" (string)',
    "8:10  prompts: expected a list of texts, got [] (list)",
    "9:9  device: expected a list with one adapter index, such as [0] (one device runs at a time), got [0,1] (list)",
    '10:5  kv: expected one of f32, f16, bf16, int8, int4, got "int7" (string)',
    '11:9  method: expected basic, optimized or both, got "optimised" (string); did you mean optimized?',
    "12:1  quantization_config: has no effect on PagedAttention",
    "13:13  block_size: expected a whole number of tokens from 1 to 4096, got 0 (number)",
    "14:8  model: expected a folder",
  ];
  expected.forEach((start, i) => { assert.ok(lines[i]!.startsWith(`x.yaml:${start}`), `${lines[i]} for ${start}`); });
});

test("Y15: keys that do not go together are told with those that are wrong by themselves", () => {
  const lines = refused("experiment_name: x\ntemperature: 0\ntop_p: 0.9\nseed: -1\nnum_prompts: 3\nbatch_size: 4\nmax_tokens: 100\nmax_model_len: 100\n");
  assert.equal(lines.map((line) => line.replace(/: .*/, "")), ["x.yaml:3:8  top_p", "x.yaml:4:7  seed", "x.yaml:6:13  batch_size", "x.yaml:7:13  max_tokens"]);
  assert.match(lines[0]!, /has no effect at temperature 0/);
});

test("Y15: more contradictions within one file", () => {
  const only = (text: string): string => { const lines = refused(GOOD + text); assert.is(lines.length, 1, lines.join("\n")); return lines[0]!; };
  assert.match(only("prompts: [a]\nprompts_file: b\n"), /^x\.yaml:3:15 {2}prompts_file: prompts and prompts_file both/);
  assert.match(only("device: [0]\nadapter: software\n"), /^x\.yaml:2:9 {2}device: device and adapter both/);
  assert.match(only("prompts: [a, b]\nnum_prompts: 3\nbatch_size: 1\n"), /num_prompts: 3 is more than the 2 prompts given/);
  assert.match(only("prompts: [a, b]\nnum_prompts: 1\nbatch_size: 1\n"), /num_prompts: 1 leaves some of the 2 prompts without effect/);
  assert.match(only("max_tokens: 10\nmax_model_len: 20\nblock_size: 32\n"), /block_size: 32 is more than max_model_len \(20\)/);
  assert.match(only("method: basic\nblock_size: 32\n"), /block_size: has no effect on method basic/);
});

test("Y15: experiments that need other keys, or none of them", () => {
  const only = (text: string): string => { const lines = refused(GOOD + text); assert.is(lines.length, 1, lines.join("\n")); return lines[0]!; };
  assert.match(only("benchmark_memory: true\nshared_prefix: 64\n"), /^x\.yaml:3:16 {2}shared_prefix: benchmark_memory and shared_prefix are two experiments; keep one$/);
  assert.match(only("benchmark_memory: true\nmax_tokens: 20\n"), /max_tokens: has no effect with benchmark_memory, which draws the lengths of its texts/);
  assert.match(only("benchmark_memory: true\nignore_eos: false\n"), /ignore_eos: .+set it to true/);
  assert.match(only("benchmark_memory: true\nmethod: basic\n"), /method: has no effect with benchmark_memory, which compares all three layouts/);
  assert.match(only("shared_prefix: 64\nmethod: optimized\n"), /method: has no effect with shared_prefix, which compares paged with and without a prefix cache/);
  assert.match(only("shared_prefix: 64\nprompts: [a]\n"), /prompts: has no effect with shared_prefix, which takes its prompts from the bundled texts/);
  assert.match(only("benchmark_memory: true\nprompts_file: a\n"), /prompts_file: has no effect with benchmark_memory/);
  assert.match(only("distributions: [alpaca]\n"), /distributions: has no effect without benchmark_memory/);
  assert.match(only("benchmark_memory: true\ndistributions: [alpaca, alpaca]\n"), /distributions: expected a list of some of sharegpt, alpaca, uniform, constant, each once/);
  assert.match(only("benchmark_memory: true\ndistributions: [chat]\n"), /distributions: expected a list of some of/);
  assert.match(only("shared_prefix: 15\n"), /shared_prefix: 15 is less than block_size \(16\): only whole blocks are shared/);
  assert.match(only("shared_prefix: 400\nmax_model_len: 500\nmax_tokens: 100\n"), /shared_prefix: 400 and max_tokens \(100\) leave no room for a prompt in max_model_len \(500\)/);
  assert.match(only("shared_prefix: 0\n"), /shared_prefix: expected a whole number of tokens from 1, got 0/);
  assert.match(only("benchmark_memory: 1\n"), /benchmark_memory: expected true or false, got 1 \(number\)/);
  assert.match(only("lang: cn\n"), /lang: expected en or zh, got "cn" \(string\)/);
});

test("a flag for an experiment makes what the file says for another give way", () => {
  const file = `${GOOD}max_tokens: 48\ntest_iterations: 5\nmethod: basic\nprompts: [a]\nnum_prompts: 1\nbatch_size: 1\n`;
  const { config, origins } = load(file, { flags: { benchmark_memory: true } });
  assert.equal([config.benchmark_memory, config.max_tokens, config.test_iterations, config.method, config.prompts], [true, 100, 1, "both", undefined]);
  assert.equal([origins["max_tokens"], origins["test_iterations"], origins["method"]], ["follows benchmark_memory", "follows benchmark_memory", "follows benchmark_memory"]);
  assert.is(load(file, { flags: { benchmark_memory: true, test_iterations: 7 } }).config.test_iterations, 7);
  assert.is(load(`${GOOD}benchmark_memory: true\ntest_iterations: 3\n`).config.test_iterations, 3);
  assert.equal(refused(file, { flags: { benchmark_memory: true, max_tokens: 9 } }), ["--max-tokens: has no effect with benchmark_memory, which draws the lengths of its texts; take it out"]);
  const other = load(`${GOOD}benchmark_memory: true\ndistributions: [alpaca]\n`, { flags: { shared_prefix: 32 } }).config;
  assert.equal([other.benchmark_memory, other.distributions, other.shared_prefix], [false, undefined, 32]);
  const back = load(`${GOOD}shared_prefix: 32\n`, { flags: { benchmark_memory: true } }).config;
  assert.equal([back.benchmark_memory, back.shared_prefix], [true, undefined]);
});

test("every file under configs parses, and its name, level and model go together", () => {
  const root = join(import.meta.dirname, "../../configs/PagedAttention");
  const files = readdirSync(root).sort();
  assert.ok(files.length >= 9, files.join());
  const models = new Set<string>(), names = new Set<string>();
  for (const file of files) {
    const { config } = loadConfig({ config: join(root, file), flags: {} });
    models.add(config.model);
    if (!/_default\.yaml$/.test(file)) assert.ok(!names.has(config.experiment_name) && config.experiment_name !== "default", `${file} would write over another's reports`);
    names.add(config.experiment_name);
    if (config.model.startsWith("random:")) presetConfig(config.model.slice("random:".length));
  }
  for (const model of ["tiny-neox", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "EleutherAI/pythia-1.4b", "random:qwen2.5-1.5b", "random:pythia-2.8b"]) assert.ok(models.has(model), model);
});

/** The first source's own keys and values; its device [4] is an index like any other. */
const FIRST_SOURCE = `experiment_name: default
technique: PagedAttention
batch_level: medium
model: deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B
device: [4]
max_tokens: 100
temperature: 0.8
top_p: 0.95
batch_size: 4
num_prompts: 10
warmup_iterations: 3
test_iterations: 5
save_results: true
`;
const QUANTIZATION = `quantization_config:
  load_in_8bit: true
  load_in_4bit: false
  bnb_4bit_compute_dtype: float16
  bnb_4bit_use_double_quant: true
  bnb_4bit_quant_type: nf4
`;

test("Y15: the first source's config is read as it is; its quantization_config would do nothing here and is refused with the reason", () => {
  const { config } = load(FIRST_SOURCE);
  assert.equal([config.device, config.warmup_iterations, config.num_prompts], [[4], 3, 10]);
  assert.equal(refused(FIRST_SOURCE + QUANTIZATION), [
    "x.yaml:14:1  quantization_config: has no effect on PagedAttention, which compares cache layouts of one unquantized model; take it out",
  ]);
});

test("Y15: every flag that is wrong is told by its own name, all at once", () => {
  const lines = refused(GOOD, { flags: WRONG_FLAGS });
  assert.equal(lines.map((line) => line.split(":")[0]).sort(), Object.keys(WRONG_FLAGS).map((key) => `--${key.replaceAll("_", "-")}`).sort());
  for (const line of lines) assert.match(line, /^--[a-z-]+: expected .+, got .+ \(\w+\)/);
});

test("Y15: a file without a name for the experiment", () => {
  assert.match(refused("seed: 1\n")[0]!, /experiment_name: is missing, expected a name/);
});

test("Y16: missing file, folder, unreadable file, huge file", () => {
  const at = (name: string): string[] => refusal(() => loadConfig({ config: join(folder, name), flags: {} }));
  assert.equal(at("none.yaml"), ["none.yaml: no such file"]);
  mkdirSync(join(folder, "sub"));
  assert.equal(at("sub"), ["sub: is not a file"]);
  writeFileSync(join(folder, "huge.yaml"), "");
  truncateSync(join(folder, "huge.yaml"), 2 ** 31);
  assert.equal(at("huge.yaml"), ["huge.yaml: is 2147483648 bytes; a config is at most 1048576"]);
});

(process.platform === "win32" ? test.skip : test)("Y16: an unreadable file", () => {
  const file = join(folder, "secret.yaml");
  writeFileSync(file, GOOD);
  chmodSync(file, 0);
  chmodSync(folder, 0o755);
  const isRoot = process.getuid!() === 0;
  if (isRoot) process.seteuid!(65534); // root reads everything, so be somebody else for a moment
  try {
    assert.equal(refusal(() => loadConfig({ config: file, flags: {} })), ["secret.yaml: may not be read"]);
  } finally {
    if (isRoot) process.seteuid!(0);
  }
});

test("R5: names and folders cannot climb", () => {
  for (const name of ["../x", "a/b", "..", ".hidden", "a\\b", "", "a".repeat(51)]) {
    assert.match(refused(`experiment_name: ${JSON.stringify(name)}\n`)[0]!, /experiment_name: expected a name/, name);
  }
  for (const path of ["../x", "a/../../b", "..\\x", ".."]) {
    assert.match(refused(`${GOOD}output_dir: ${JSON.stringify(path)}\n`)[0]!, /output_dir: expected a folder, written without '\.\.'/, path);
  }
  // With what comes before and after it, the longest name must fit into the 255 bytes of a file name.
  const longest = "𠀀".repeat(50);
  assert.ok(Buffer.byteLength(`comparison_experiment_medium_${load(`experiment_name: ${longest}\n`).config.experiment_name}.md.9999999.tmp`) <= 255);
  assert.is(load("experiment_name: 准确性_test-1.2\noutput_dir: /tmp/a..b\n").config.experiment_name, "准确性_test-1.2");
});

test("flags win over the file, the file over defaults, and each value knows where it came from", () => {
  const { config, origins } = load(`${GOOD}max_tokens: 7\nseed: 8\n`, { flags: { seed: 9 } });
  assert.equal([config.max_tokens, config.seed, config.kv], [7, 9, "f16"]);
  assert.equal([origins["max_tokens"], origins["seed"], origins["kv"]], ["file", "flag", "default"]);
});

test("a wrong flag is named as a flag, after the file's problems", () => {
  assert.equal(refused(`${GOOD}seed: -1\n`, { flags: { max_tokens: "abc" } }), [
    "x.yaml:2:7  seed: expected a whole number from 0 to 4294967295, got -1 (number)",
    '--max-tokens: expected a whole number from 1 to 65536, got "abc" (string)',
  ]);
});

test("what a stronger source says makes the weaker give way, and that is on record", () => {
  const file = `${GOOD}temperature: 0.8\ntop_p: 0.9\nnum_prompts: 8\nbatch_size: 4\nprompts_file: p.txt\nadapter: software\nblock_size: 32\n`;
  const { config, origins } = load(file, { flags: { temperature: 0, prompts: ["a", "b"], device: [1], method: "basic" } });
  assert.equal([config.top_p, config.num_prompts, config.batch_size, config.prompts_file, config.adapter, config.block_size], [1, 2, 2, undefined, undefined, 16]);
  assert.equal([origins["top_p"], origins["num_prompts"], origins["batch_size"]], ["follows temperature", "follows prompts", "follows num_prompts"]);
  assert.is(Object.hasOwn(config, "prompts_file"), false);
});

test("a default gives way to the file", () => {
  const { config } = load(`${GOOD}temperature: 0\nnum_prompts: 2\n`);
  assert.equal([config.top_p, config.batch_size], [1, 2]);
});

test("two flags that contradict each other are refused", () => {
  assert.match(refused(GOOD, { flags: { temperature: 0, top_p: 0.5 } })[0]!, /^--top-p: has no effect at temperature 0/);
  assert.match(refused(GOOD, { flags: { num_prompts: 2, batch_size: 3 } })[0]!, /^--batch-size: 3 is more than num_prompts \(2\)/);
});

test("technique and batch level find their default file, which is good, from any folder", () => {
  const here = process.cwd();
  process.chdir(folder);
  try {
    for (const batchLevel of ["small", "medium", "large"]) {
      const { config, file } = loadConfig({ technique: "pagedattention", batchLevel, flags: {} });
      assert.is(config.batch_level, batchLevel);
      assert.match(file, new RegExp(`configs/PagedAttention/pagedattention_${batchLevel}_default\\.yaml$`));
    }
    assert.is(loadConfig({ flags: {} }).config.batch_level, "medium");
  } finally {
    process.chdir(here);
  }
});

test("an unknown technique or level, and a technique that the file is not about", () => {
  assert.equal(refusal(() => loadConfig({ technique: "PagedAtention", flags: {} })), ['--technique: expected PagedAttention, 量化 (or quantization), precision, KnormPress, KVPress, spec_decode or combos, got "PagedAtention"; did you mean PagedAttention?']);
  assert.equal(refusal(() => loadConfig({ batchLevel: "smal", flags: {} })), ['--batch-level: expected small, medium or large, got "smal"; did you mean small?']);
  assert.match(refused(`${GOOD}technique: PagedAttention\n`, { technique: "KVPress" })[0]!, /--technique KVPress does not fit this file/);
});

test.run();
