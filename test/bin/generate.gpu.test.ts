/** `dawnlm generate` on the real device: its text is the library's text, whichever way the prompt comes and however the run ends. */

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { LLM } from "../../index.ts";
import { dawnlm, LAUNCHER } from "../support/command.ts";

const PROMPT = "Anne Elliot was";
const AWKWARD = "Größe, naïve 北京 🙂\tand --not-an-option";
let llm: LLM;
test.before(async () => { llm = await LLM.load("tiny-neox"); });
test.after(() => llm.close());

test("greedy text and the line about it", async () => {
  const expected = await llm.generate(PROMPT, { maxNewTokens: 40 });
  const { code, stdout, stderr } = await dawnlm(["generate", PROMPT, "--max-tokens", "40"]);
  assert.is(code, 0, stderr);
  assert.is(stdout, `${expected.text}\n`);
  assert.match(stderr, /^40 tokens after a prompt of 8, the first after \d+ ms, then [\d.]+ tokens\/s; on [^\n]+\n$/);
  assert.ok(stderr.includes(llm.environment.adapter.description));
  assert.is(stderr.includes("software adapter"), llm.environment.adapter.software);
});

test("--json is one object with everything about the run", async () => {
  const expected = await llm.generate(PROMPT, { maxNewTokens: 12 });
  const { code, stdout, stderr } = await dawnlm(["generate", PROMPT, "--max_tokens=12", "--json", "--kv-memory", "8MiB", "--max-model-len", "256"]);
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  assert.match(stdout, /^\{[^\n]*\}\n$/);
  const { text, ids, promptTokens, finishReason, timings, memory, source, adapter, kernelFamily } = JSON.parse(stdout);
  assert.equal({ text, ids, promptTokens, finishReason }, { text: expected.text, ids: expected.ids, promptTokens: 8, finishReason: "length" });
  assert.equal(Object.keys(timings), ["ttft", "total", "tpot", "itl"]);
  assert.ok(timings.ttft > 0 && timings.total >= timings.ttft && timings.itl.length === 11);
  assert.ok(memory.weights > 0 && memory.total >= memory.weights + memory.kv && memory.peak.total >= memory.total);
  assert.ok(memory.kv <= 9 * 2 ** 20, `--kv-memory 8MiB took ${memory.kv} bytes`);
  assert.equal(source, llm.source);
  assert.equal(adapter, llm.environment.adapter);
  assert.is(kernelFamily, llm.environment.kernelFamily);
});

test("a prompt from standard input loses one final newline; any characters arrive as they are", async () => {
  const expected = await llm.generate(AWKWARD, { maxNewTokens: 8 });
  const piped = await dawnlm(["generate", "--max-tokens", "8"], { stdin: `${AWKWARD}\n` });
  assert.is(piped.stdout, `${expected.text}\n`, piped.stderr);
  const argument = await dawnlm(["generate", "--max-tokens", "8", "--", AWKWARD]);
  assert.is(argument.stdout, `${expected.text}\n`, argument.stderr);
});

test("--stop ends before the text and leaves no part of it", async () => {
  const whole = await llm.generate(PROMPT, { maxNewTokens: 40 });
  const words = whole.text.split(" ").filter((word) => word !== "");
  const stop = `${words[3]} ${words[4]}`;
  const { code, stdout, stderr } = await dawnlm(["generate", PROMPT, "--max-tokens", "40", "--stop", "never said", "--stop", stop]);
  assert.is(code, 0, stderr);
  assert.is(stdout, `${whole.text.slice(0, whole.text.indexOf(stop))}\n`);
});

test("a seed gives its text again, another seed another", async () => {
  const sampling = ["--temperature", "1", "--top-k", "50", "--top-p", "0.95"];
  const run = async (seed: string) => (await dawnlm(["generate", PROMPT, "--max-tokens", "24", ...sampling, "--seed", seed])).stdout;
  const expected = await llm.generate(PROMPT, { maxNewTokens: 24, temperature: 1, topK: 50, topP: 0.95, seed: 7 });
  assert.is(await run("7"), `${expected.text}\n`);
  assert.is.not(await run("8"), `${expected.text}\n`);
});

test("penalties, biases and log-probabilities reach the sampler", async () => {
  const options = { maxNewTokens: 12, repetitionPenalty: 1.3, frequencyPenalty: 0.2, logitBias: { 5: 1.5, 7: -Infinity }, logprobs: 2 };
  const expected = await llm.generate(PROMPT, options);
  const { code, stdout, stderr } = await dawnlm(["generate", PROMPT, "--json", "--max-tokens", "12", "--repetition-penalty", "1.3", "--frequency-penalty", "0.2",
    "--logit-bias", "5=1.5", "--logit-bias", "7=-inf", "--logprobs", "2"]);
  assert.is(code, 0, stderr);
  const { ids, logprobs } = JSON.parse(stdout) as { ids: number[]; logprobs: { id: number; top: unknown[] }[] };
  assert.equal(ids, expected.ids);
  assert.equal(logprobs.map(({ id, top }) => [id, top.length]), ids.map((id) => [id, 2]));
});

test("random weights are called that", async () => {
  const { code, stderr } = await dawnlm(["generate", "x", "--model", "random:pythia-14m", "--max-tokens", "2", "--max-model-len", "64"]);
  assert.is(code, 0, stderr);
  assert.match(stderr, /random weights: the text means nothing\n$/);
});

test("a prompt longer than the context is refused with both numbers", async () => {
  const { code, stdout, stderr } = await dawnlm(["generate", "word ".repeat(50), "--max-model-len", "32"]);
  assert.is(code, 2, stderr);
  assert.match(stderr, /^dawnlm: [^\n]*\b\d{2,} tokens[^\n]*--max-model-len is 32[^\n]*\n$/);
  assert.is(stdout, "");
});

test("an adapter that is not there: the list of those that are", async () => {
  const { code, stderr } = await dawnlm(["generate", "x", "--adapter", "nonsense"]);
  assert.is(code, 2);
  assert.match(stderr, /^dawnlm: no adapter "nonsense"; this machine has: 0 [^\n]+\n$/);
});

test("Ctrl-C ends the text and leaves with 130, SIGTERM with 143", async () => {
  const long = ["generate", PROMPT, "--max-tokens", "2000", "--ignore-eos"];
  const interrupted = await dawnlm(long, { signalOnOutput: "SIGINT" });
  assert.is(interrupted.code, 130, interrupted.stderr);
  assert.is(interrupted.stderr, "");
  const whole = await llm.generate(PROMPT, { maxNewTokens: 300, ignoreEos: true });
  assert.ok(interrupted.stdout.length > 1 && interrupted.stdout.endsWith("\n"));
  assert.is(interrupted.stdout.slice(0, -1).slice(0, 200), whole.text.slice(0, Math.min(200, interrupted.stdout.length - 1)));
  const terminated = await dawnlm(long, { signalOnOutput: "SIGTERM" });
  assert.is(terminated.code, 143, terminated.stderr);
  assert.is(terminated.stderr, "");
});

const unixTest = process.platform === "win32" ? test.skip : test;
unixTest("a reader that goes away ends the run quietly (needs a Unix shell)", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-pipe-"));
  try {
    const errors = join(folder, "stderr");
    const script = '"$0" "$1" generate "$2" --max-tokens 1500 --ignore-eos 2>>"$3" | head -c 10; exit ${PIPESTATUS[0]}';
    const { stdout } = await promisify(execFile)("bash", ["-c", script, process.execPath, LAUNCHER, PROMPT, errors]);
    const { text } = await llm.generate(PROMPT, { maxNewTokens: 10 });
    assert.is(stdout, text.slice(0, 10));
    assert.is(readFileSync(errors, "utf8"), "");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

const linuxTest = process.platform === "linux" ? test : test.skip;
linuxTest("a full disk is told (Linux)", async () => {
  const { code, stderr } = await dawnlm(["generate", PROMPT, "--max-tokens", "4"], { stdout: "/dev/full" });
  assert.is(code, 1);
  assert.is(stderr, "dawnlm: standard output cannot be written (ENOSPC)\n");
});

test.run();
