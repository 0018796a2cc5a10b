/** What the command line refuses, and how: one line, the right exit code, the nearest name, nothing on standard output. No GPU is used. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Command } from "commander";
import { describeFailure, normaliseArgv, oneLine, withoutControls } from "../../bench/core/cli.ts";
import { addModelOptions, parseBytes, parseNumber } from "../../bin/model_options.ts";
import { GpuError, ModelFileError, UsageError } from "../../engine/errors.ts";
import { dawnlm, NO_DRIVER } from "../support/command.ts";

const generate = (...args: string[]) => dawnlm(["generate", ...args]);

const REFUSED: readonly [name: string, args: string[], message: RegExp][] = [
  ["unknown command", ["genrate", "x"], /unknown command 'genrate' \(Did you mean generate\?\)/],
  ["unknown option", ["generate", "x", "--max-tokenz", "3"], /unknown option '--max-tokenz' \(Did you mean --max-tokens\?\)/],
  ["option without a value", ["generate", "x", "--seed"], /option '--seed <number>' argument missing/],
  ["text for a number", ["generate", "x", "--max-tokens", "ten"], /--max-tokens <count>' argument 'ten' is invalid\. Expected a number/],
  ["out of range, in the command's own words", ["generate", "x", "--top_p", "2"], /: --top-p must be a number above 0 to 1, got 2$/],
  ["negative", ["generate", "x", "--temperature", "-1"], /: --temperature must be a number from 0 to 100, got -1$/],
  ["beyond any integer", ["generate", "x", "--seed", "9007199254740993"], /: --seed must be a whole number from 0 to 4294967295/],
  ["several at once", ["generate", "x", "--top-k", "1.5", "--max-model-len", "1"], /--max-model-len must be a whole number from 2, got 1/],
  ["no effect", ["generate", "x", "--top-k", "5"], /--top-k, --top-p and --min-p have no effect at temperature 0/],
  ["a penalty out of range", ["generate", "x", "--presence-penalty", "5"], /: --presence-penalty must be a number from -2 to 2, got 5$/],
  ["a bias that is none", ["generate", "x", "--logit-bias", "apple"], /'apple' is invalid\. Expected a token id, = and a number/],
  ["logprobs that nobody would see", ["generate", "x", "--logprobs", "3"], /--logprobs has no effect without --json/],
  ["too many logprobs", ["generate", "x", "--json", "--logprobs", "30"], /: --logprobs must be a whole number from 0 to 20, got 30$/],
  ["not one of the choices", ["generate", "x", "--kv", "int9"], /'int9' is invalid\. Allowed choices are f32, f16, bf16/],
  ["bytes in no unit", ["generate", "x", "--kv-memory", "5 potatoes"], /powers of 1024/],
  ["a prompt without quotes", ["generate", "two", "words"], /too many arguments for 'generate'.*put the prompt in quotes/],
  ["no prompt", ["generate"], /the prompt is empty/],
  ["unknown model", ["generate", "x", "--model", "tiny-nex"], /unknown model "tiny-nex"; did you mean tiny-neox\?/],
  ["unknown architecture", ["generate", "x", "--model", "random:pythia-71m"], /did you mean .*pythia-70m/],
  ["no such folder", ["chat", "--model", "./no/such/folder"], /there is no folder \.\/no\/such\/folder/],
  ["a revision of what has none", ["generate", "x", "--revision", "main"], /revision "main" has no meaning for "tiny-neox"/],
];

for (const [name, args, message] of REFUSED) {
  test(`refused: ${name}`, async () => {
    const { code, stdout, stderr } = await dawnlm(args);
    assert.is(code, 2, stderr);
    assert.match(stderr, /^dawnlm: [^\n]+\n$/);
    assert.match(stderr.trimEnd(), message);
    assert.is(stdout, "");
  });
}

test("standard input must be text", async () => {
  const { code, stderr } = await dawnlm(["generate", "-"], { stdin: Uint8Array.of(0x41, 0xff, 0xfe) });
  assert.is(code, 2);
  assert.is(stderr, "dawnlm: the prompt on standard input is not UTF-8 text\n");
});

test("help and version are answers, no command is a mistake", async () => {
  const help = await dawnlm(["generate", "--help"]);
  assert.is(help.code, 0);
  for (const option of ["--model", "--max-tokens", "--temperature", "--top-p", "--top-k", "--seed", "--stop", "--weights", "--kv", "--kv-memory",
    "--max-model-len", "--adapter", "--ignore-eos", "--min-p", "--repetition-penalty", "--logit-bias", "--logprobs", "--json", "--revision", "--debug"]) assert.match(help.stdout, `${option} `);
  const version = await dawnlm(["--version"]);
  assert.is(version.code, 0);
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
  const nothing = await dawnlm([]);
  assert.is(nothing.code, 2);
  assert.match(nothing.stderr, /Usage: dawnlm/);
});

test("--debug shows where an error came from", async () => {
  const { code, stderr } = await generate("x", "--model", "tiny-nex", "--debug");
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: unknown model/);
  assert.match(stderr, /\n\s+at .*hub\.ts/);
});

const noDriverTest = process.platform === "linux" ? test : test.skip;
noDriverTest("no driver: generate leaves with 4 and the package to install (Linux)", async () => {
  const { code, stdout, stderr } = await dawnlm(["generate", "x"], { env: NO_DRIVER });
  assert.is(code, 4, stderr);
  assert.match(stderr, /^dawnlm: no WebGPU adapter found: [^\n]*mesa-vulkan-drivers[^\n]*\n$/);
  assert.is(stdout, "");
});

noDriverTest("no driver: doctor tells all the rest, the fix last, and keeps secrets (Linux)", async () => {
  const env = {
    ...NO_DRIVER, HF_TOKEN: "hf_verysecret", HF_ENDPOINT: "http://user:password@hub.example", HF_HUB_OFFLINE: "1", HF_HOME: "/tmp/somewhere",
  };
  const text = await dawnlm(["doctor"], { env });
  assert.is(text.code, 4, text.stderr);
  assert.is(text.stderr, "");
  assert.match(text.stdout, /Node +\d+\.\d+\.\d+ \(Node ≥ 22\.18 is needed: ok\)/);
  assert.match(text.stdout, /token +set\n/);
  assert.match(text.stdout, /cache +\/tmp\/somewhere\/hub\n/);
  assert.match(text.stdout, /\nMissing\n  a WebGPU adapter[^\n]*\n(    [^\n]+\n)+$/);
  const json = await dawnlm(["doctor", "--json"], { env });
  assert.is(json.code, 4);
  const report = JSON.parse(json.stdout);
  assert.equal(report.adapters, []);
  assert.is(report.kernels, null);
  assert.is(report.probe, null);
  assert.equal(report.hub, {
    cache: "/tmp/somewhere/hub", offline: true, token: "set",
    variables: { HF_HOME: "/tmp/somewhere", HF_ENDPOINT: "http://hub.example", HF_HUB_OFFLINE: "1" },
  });
  assert.ok(report.missing[0].fix.length > 0);
  for (const { stdout } of [text, json]) assert.not.match(stdout, /verysecret|password/);
});

noDriverTest("doctor: settings that cannot be used are named with the fix (Linux)", async () => {
  const { stdout } = await dawnlm(["doctor", "--json"], { env: { ...NO_DRIVER, HF_ENDPOINT: "ftp://hub.example" } });
  const { missing, hub } = JSON.parse(stdout);
  assert.is(hub.cache, null);
  assert.ok(missing.some(({ what }: { what: string }) => /HF_ENDPOINT is "ftp:\/\/hub\.example"/.test(what)));
});

test("underscores and hyphens are alike in names of options and nowhere else", () => {
  const program = new Command("dawnlm").option("--debug");
  addModelOptions(program.command("generate").argument("[prompt]"));
  const same = (argv: string[], expected: string[]) => assert.equal(normaliseArgv(argv, program), expected);
  same(["generate", "--max_tokens", "3", "--top_p=0.5", "a_b"], ["generate", "--max-tokens", "3", "--top-p=0.5", "a_b"]);
  same(["--stop", "--max_tokens", "--stop=--top_p"], ["--stop", "--max_tokens", "--stop=--top_p"]);
  same(["-m", "--top_k", "--", "--max_tokens"], ["-m", "--top_k", "--", "--max_tokens"]);
  same(["--ignore_eos", "--unknown_option"], ["--ignore-eos", "--unknown_option"]);
});

test("bytes and numbers as people write them", () => {
  const bytes: [string, number][] = [
    ["0", 0], ["1000000", 1e6], ["512MiB", 512 * 2 ** 20], ["1GB", 1e9], ["1.5 gib", 1.5 * 2 ** 30], ["10b", 10], ["0.1kb", 100],
  ];
  for (const [text, value] of bytes) assert.is(parseBytes(text), value, text);
  for (const text of ["", "MiB", "-1", "1M", "1e9", "0x10", "1 2", "1GBs", "∞"]) assert.throws(() => parseBytes(text), /Expected bytes/, text);
  for (const [text, value] of [["1", 1], ["-2.5", -2.5], [".5", 0.5], ["1e-3", 0.001], ["+4", 4]] as const) assert.is(parseNumber(text), value);
  for (const text of ["", " ", "1 ", "0x10", "1_000", "NaN", "Infinity", "1e", "."]) assert.throws(() => parseNumber(text), /Expected a number/, text);
});

test("errors become one line and their exit code", () => {
  assert.equal(describeFailure(new ModelFileError("a.json: broken")), { message: "a.json: broken", exitCode: 3 });
  const several = new UsageError("no adapter; this machine has\n  0: a\n  1: b");
  assert.equal(describeFailure(several), { message: "no adapter; this machine has 0: a; 1: b", exitCode: 2 });
  const named = new GpuError("lower kvMemory, maxModelLen or the weight format");
  assert.is(describeFailure(named).message, "lower --kv-memory, --max-model-len or the weight format");
  const internal = describeFailure(new TypeError("x is undefined\nand more"));
  assert.is(internal.exitCode, 1);
  assert.match(internal.message, /^internal error: x is undefined; run with --debug/);
  assert.is(describeFailure("thrown text").exitCode, 1);
  const noWebgpu = Object.assign(new Error("Cannot find package 'webgpu' imported from /x"), { code: "ERR_MODULE_NOT_FOUND" });
  assert.is(describeFailure(noWebgpu).exitCode, 4);
});

test("text of a model cannot steer the terminal", () => {
  assert.is(withoutControls("a\x1b[31mb\r\x07\x7f\x9b"), "a␛[31mb␍␇␡␡");
  assert.is(withoutControls("tabs\tand\nlines, naïve 北京 🙂"), "tabs\tand\nlines, naïve 北京 🙂");
  assert.is(oneLine("a\x1b\n\n b \n c"), "a␛ b; c");
});

test.run();
