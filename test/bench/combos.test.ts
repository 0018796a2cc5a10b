/**
 * Free combinations without a GPU: what may be said when every technique acted, that each way of not acting closes the gate that is made for
 * it while the other arms are still spoken of, and that a run which was stopped goes on from where it was.
 */

import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { main } from "../../bench/core/run.ts";
import { readResult } from "../../bench/core/result_file.ts";
import type { Result, ResultArm } from "../../bench/core/result.ts";
import { fakeCombosLoad, type FakeCombosOptions } from "../support/fake_combos.ts";
import { fakeEngine } from "../support/fake_engine.ts";

const COMMAND = fileURLToPath(new URL("../support/fake_combos_bench.ts", import.meta.url));
const test = suite("combos");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-combos-")); });
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

const ARMS = `
  plain: {layout: contiguous-max}
  nf4: {layout: contiguous-max, weights: nf4}
  int8: {layout: contiguous-max, kv: int8}
  paging: {layout: paged}
  prefix: {layout: paged-prefix}
  snapkv: {press: snapkv, ratio: 0.5}
  draft: {layout: contiguous-max, draft: tiny-neox-draft, k: 4}
  everything: {weights: nf4, kv: int8, press: snapkv, ratio: 0.5, draft: tiny-neox-draft, k: 4}
`;
const config = (arms: string): string => `
experiment_name: x
technique: combos
batch_level: small
arms: ${arms}
num_prompts: 3
batch_size: 3
prompt_tokens: 40
max_tokens: 24
temperature: 0
top_p: 1
warmup_iterations: 0
test_iterations: 5
perplexity_windows: 4
continuation: 16
max_model_len: 96
`;

interface Ended { readonly code: number; readonly stdout: string; readonly stderr: string }

/** The command in this process. */
async function bench(fake: FakeCombosOptions, args: readonly string[], arms = ARMS): Promise<Ended> {
  const path = join(folder, "x.yaml"), written = { stdout: "", stderr: "" };
  writeFileSync(path, config(arms));
  const own = (["stdout", "stderr"] as const).map((name) => [name, process[name].write] as const);
  for (const [name] of own) process[name].write = ((text: string) => { written[name] += text; return true; }) as typeof process.stdout.write;
  try {
    const code = await main(["--config", path, ...args], fakeEngine(fakeCombosLoad(fake)));
    return { code, ...written };
  } finally {
    for (const [name, write] of own) process[name].write = write;
  }
}

interface Told extends Ended { readonly result: Result; readonly arm: (name: string) => ResultArm }

async function told(fake: FakeCombosOptions = {}, args: readonly string[] = [], arms = ARMS): Promise<Told> {
  const ended = await bench(fake, [...args, "--no-save", "--json"], arms), result = JSON.parse(ended.stdout) as Result;
  return { ...ended, result, arm: (name) => result.arms.find((one) => one.name === name)! };
}

test("when every technique acted, each arm says what it did, and the run leaves with 0", async () => {
  const { code, result, arm } = await told();
  assert.equal([code, result.status, result.experiment], [0, "complete", "combos"]);
  assert.equal(result.arms.map(({ name, role, invalid }) => [name, role, invalid]), [
    ["plain", "baseline", null], ["plain again", "control", null],
    ...["nf4", "int8", "paging", "prefix", "snapkv", "draft", "everything"].map((name) => [name, "technique", null]),
  ]);
  assert.is(arm("plain").engagement, null);
  assert.match(arm("nf4").engagement!, /^weights in nf4$/);
  assert.match(arm("int8").engagement!, /^keys and values in int8, 24\.0 bytes an entry instead of 32\.0$/);
  assert.match(arm("paging").engagement!, /^paged: \d+(\.\d)? % of the reserved cache held no token, in the baseline \d+/);
  assert.match(arm("prefix").engagement!, /^\d+ of 600 prompt tokens came out of the prefix cache$/);
  assert.match(arm("snapkv").engagement!, /^snapkv evicted 20\.0 entries in a request \(median, of all layers and heads together\), 20\.0 of 40\.0 were kept in each, 640 B were given back$/);
  assert.match(arm("draft").engagement!, /^tiny-neox-draft drafted \d+ tokens, of which \d+ were accepted \(\d+(\.\d)? %\); \d\.\d\d tokens a round$/);
  assert.match(arm("everything").engagement!, /^weights in nf4; keys and values in int8.*; snapkv evicted.*; tiny-neox-draft drafted/);
});

test("what may not change a text is shown not to; what may is measured, through the cache that is timed", async () => {
  const { result, arm } = await told();
  assert.equal(["plain again", "paging", "prefix", "draft"].map((name) => arm(name).proof),
    Array(4).fill({ kind: "lossless", holds: true, text: "all 15 texts are those of plain, token for token" }));
  assert.equal([arm("everything").proof!.kind, arm("everything").proof!.holds], ["lossy", true]);
  assert.match(arm("everything").proof!.text, /^all 15 texts are those of the same arm without its draft, token for token; what it costs in quality stands beside it$/);
  assert.equal(result.arms.filter(({ quality }) => quality !== null).map(({ name }) => name), ["nf4", "int8", "snapkv", "everything"]);
  for (const name of ["int8", "snapkv"]) assert.ok(arm(name).quality!.change!.claimed && arm(name).quality!.kld!.value > 0, name);
  assert.ok(arm("snapkv").quality!.change!.percent > 10 * arm("int8").quality!.change!.percent);
  assert.is(arm("snapkv").quality!.protocol, "4 windows of persuasion: 40 tokens are read and compressed as in the timed runs, then 16 are scored");
  assert.equal([result.corpus!.name, result.corpus!.sha256!.length, result.prompts.texts.length], ["persuasion", 64, 3]);
});

test("the whole run is on record: orders, samples, metrics of every arm, the ledger, notes without Markdown", async () => {
  const { result, arm } = await told();
  assert.is(result.order.length, 5);
  for (const turn of result.order) assert.equal([...turn].sort(), result.arms.map(({ name }) => name).sort());
  for (const one of result.arms) {
    assert.is(one.metrics.ttft_ms!.samples.length, 5);
    assert.ok(one.memory!.weights > 0 && one.coldStart !== null);
    assert.is(Object.keys(one.differences).length > 0, one.role !== "baseline");
  }
  assert.ok(arm("everything").facts.some(({ label }) => label === "accepted of drafted"));
  assert.ok(result.notes.some((note) => note.startsWith("Every arm has ")) && result.notes.every((note) => !note.includes("**")));
});

/** Of every arm that closes a gate, the reason; all others are open. */
const BROKEN: readonly [what: string, fake: FakeCombosOptions, reasons: Readonly<Record<string, RegExp>>][] = [
  ["a press that evicts nothing", { idlePress: true },
    { snapkv: /^the press acted 1 time on a request of 40 tokens \+ 24 new and evicted nothing$/, everything: /the press acted 1 time/ }],
  ["a press that is not there while quality is scored", { idleWhenScored: true },
    { snapkv: /^while perplexity was measured the press evicted nothing$/, everything: /while perplexity/ }],
  ["a draft that is given another K", { stuckK: 7 },
    { draft: /^a round drafted 7 tokens where K is 4: K did not reach the draft$/, everything: /drafted 7 tokens/ }],
  ["a draft that is given a smaller K", { stuckK: 1 }, { draft: /K did not reach the draft$/, everything: /K did not reach/ }],
  ["a draft that drafts nothing", { draftsNothing: true },
    { draft: /^nothing was drafted, so this was plain decoding under another name$/, everything: /nothing was drafted/ }],
  ["weights that stay floats", { keepsFloats: true },
    { nf4: /^nf4 holds no matrix as nf4: the technique did not act$/, everything: /^everything holds no matrix as nf4/ }],
  ["entries that stay floats", { keepsEntries: true },
    { int8: /^an entry of the cache takes 32 bytes in int8, 32 in the baseline: quantizing it saved nothing$/ }],
  ["a prefix cache that is never hit", { forgetful: true }, { prefix: /^no prompt token came out of the prefix cache/ }],
  ["paging that wastes as much", { reserved: 96 }, { paging: /: paging saved nothing/ }],
  ["texts that paging changes", { spoilAt: { where: "paged", token: 5 } },
    { paging: /^15 of 15 greedy texts are not those of plain, which they must be; the first parts at token 6 of prompt 1$/,
    prefix: /^15 of 15 greedy texts are not those of plain/ }],
  ["texts that a draft changes", { spoilAt: { where: "draft", token: 0 } },
    { draft: /^15 of 15 .+ not those of plain.+ token 1 of prompt 1$/, everything: /not those of the same arm without its draft/ }],
  ["an arm that writes less", { shortBy: { where: "draft", tokens: 3 } },
    { draft: /^request 1 wrote 21 tokens, in the baseline 24: they did not do the same work/, everything: /wrote 21 tokens/ }],
];

for (const [what, fake, reasons] of BROKEN) {
  test(`${what}: INVALID with the reason, exit code 5, and the others are still spoken of`, async () => {
    const { code, result } = await told(fake);
    assert.equal([code, result.status], [5, "invalid"]);
    for (const { name, invalid } of result.arms) {
      if (reasons[name] === undefined) assert.is(invalid, null, `${name}: ${invalid}`);
      else assert.match(invalid ?? "open", reasons[name], name);
    }
  });
}

test("in the terminal an arm that failed has one sentence, and no figure of it is a claim", async () => {
  const { code, stdout } = await bench({ idlePress: true }, ["--no-save"]);
  assert.is(code, 5);
  const [, sentences] = /\nsnapkv\n((?: {2}- .+\n)+)/.exec(stdout)!;
  assert.match(sentences!, /^ {2}- .*INVALID.+the press acted 1 time on a request of 40 tokens \+ 24 new and evicted nothing.*\n$/);
  assert.match(stdout, /\npaging\n {2}- Lossless: all 15 texts are those of plain, token for token\.\n {2}- Output throughput: /);
  assert.not.match(/│ snapkv .*/.exec(stdout)![0], /[+−]\d+(\.\d+)? %\)/);
});

test("ratio 0 passes as a config and fails as a measurement", async () => {
  const { code, arm } = await told({}, [], "{none: {}, x: {press: snapkv, ratio: 0}, y: {press: snapkv, ratio: 0.5}}");
  assert.is(code, 5);
  assert.match(arm("x").invalid!, /evicted nothing$/);
  assert.is(arm("y").invalid, null);
});

test("a baseline that is quantized itself: other formats need not be smaller than it", async () => {
  const { code, result } = await told({}, [], "{four: {weights: nf4, kv: int4}, eight: {weights: int8, kv: int8}, none: {}}");
  assert.equal([code, result.arms.map(({ invalid }) => invalid)], [0, [null, null, null, null]]);
});

test("sampled texts are not compared, and it says so; so are those of a model that is loaded without its draft refused", async () => {
  const { code, arm } = await told({}, ["--temperature", "0.7"]);
  assert.is(code, 0);
  assert.equal(arm("paging").proof, { kind: "unchecked", holds: null,
    text: "texts were sampled, so they were not compared token for token" });
  const { code: other, stderr } = await bench({ forgetsDraft: true }, ["--no-save"]);
  assert.is(other, 2);
  assert.match(stderr, /arm draft: tiny-neox was loaded without its draft/);
});

test("random weights: no quality is measured, and no lossy arm pretends that it was", async () => {
  const { code, result, arm } = await told({ random: true });
  assert.equal([code, result.corpus, arm("nf4").quality, arm("nf4").proof],
    [0, null, null, { kind: "unchecked", holds: null, text: "its quality was not measured (random weights, or the run was stopped before)" }]);
});

test("Chinese: every sentence of a run, whole and broken", async () => {
  for (const [fake, code] of [[{}, 0], [{ idlePress: true, keepsFloats: true, draftsNothing: true }, 5]] as const) {
    const ended = await bench(fake, ["--no-save", "--lang", "zh"]);
    assert.is(ended.code, code);
    const sentences = ended.stdout.split("\n").filter((line) => /^ {2}- /.test(line));
    assert.ok(sentences.length > 10);
    for (const line of sentences) assert.match(line, /\p{Script=Han}/u);
    assert.match(ended.stdout, /每一组用于键和值的内存都是/);
    assert.not.match(ended.stdout, /\b(the|which|nothing|tokens)\b/);
  }
});

test("as many sequences run together as were asked for, in every arm, with a press and a draft too", async () => {
  for (const batch of [1, 2]) {
    const { result } = await told({}, ["--num-prompts", "5", "--batch-size", String(batch), "--test-iterations", "1"]);
    const most = result.arms.map(({ facts }) => facts.find(({ label }) => label === "most sequences in one step")!.value);
    assert.equal(most, result.arms.map(() => String(batch)));
  }
});

/** As a process of its own, which Ctrl-C reaches. */
function spawned(fake: FakeCombosOptions, args: readonly string[]): Promise<Ended> {
  const child = spawn(process.execPath, [COMMAND, ...args],
    { cwd: folder, env: { ...process.env, FAKE: JSON.stringify(fake) }, stdio: ["ignore", "pipe", "pipe"] });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]!.setEncoding("utf8").on("data", (text: string) => { written[name] += text; });
  }
  return new Promise((resolve) => { child.on("close", (code) => { resolve({ code: code ?? -1, ...written }); }); });
}

const runs = (): string[] => readdirSync(join(folder, "results", "combos", "runs")).map((name) => join("results", "combos", "runs", name));
const read = (run: string): Result => readResult(join(folder, run));

test("a run that was stopped is taken up where it was, as often as it takes, and ends with the samples it had", async () => {
  writeFileSync(join(folder, "x.yaml"), config(ARMS));
  const first = await spawned({ interruptAt: 9 * 2 + 4 }, ["--config", "x.yaml"]);
  assert.is(first.code, 130, first.stderr);
  assert.match(first.stderr, /stopped early; take it up again with: node bench\/run\.ts --resume results\/combos\/runs\/.+\n$/);
  const [run] = runs() as [string], half = read(run);
  assert.equal([half.status, half.order.length], ["interrupted", 3]);
  // An arm that ran before the baseline in the iteration that was cut off has one sample more; nothing is wrong with it.
  assert.equal(half.arms.map(({ invalid }) => invalid), half.arms.map(() => null));
  assert.ok(half.arms.every(({ proof }) => proof === null || proof.holds === null), "texts were not compared yet");
  assert.not.match(first.stdout, /sampled/);
  assert.equal(readdirSync(join(folder, run)).sort(), ["journal.jsonl", "pictures", "report.html", "result.json"]);

  // Stopped again before anything new was measured: what there was is not lost.
  const second = await spawned({ interruptAt: 1 }, ["--resume", run]);
  assert.equal([second.code, readdirSync(join(folder, run)).includes("journal.jsonl")], [130, true], second.stderr);

  const third = await spawned({}, ["--resume", run]), whole = read(run);
  assert.is(third.code, 0, third.stderr);
  assert.equal([whole.status, whole.started, whole.resumed.length, whole.order.length, whole.protocolSha256],
    ["complete", half.started, 2, 5, half.protocolSha256]);
  assert.equal(whole.order.slice(0, 3), half.order);
  for (const [i, arm] of half.arms.entries()) {
    for (const key of ["output_tokens_per_s", "ttft_ms"] as const) {
      const before = arm.metrics[key]!.samples;
      assert.equal(whole.arms[i]!.metrics[key]!.samples.slice(0, before.length), before);
    }
    assert.equal(whole.arms[i]!.quality, arm.quality);
  }
  assert.equal(readdirSync(join(folder, run)).sort(), ["pictures", "report.html", "result.json"]);
});

test("a run that was stopped in its first iteration, and again before it went on, keeps what it measured", async () => {
  writeFileSync(join(folder, "x.yaml"), config(ARMS).replace("warmup_iterations: 0", "warmup_iterations: 1\nwarmup_limit: 1"));
  const first = await spawned({ interruptAt: 9 + 5 }, ["--config", "x.yaml"]);
  assert.is(first.code, 130, first.stderr);
  const [run] = runs() as [string], journal = join(folder, run, "journal.jsonl");
  const samples = (): number => readFileSync(journal, "utf8").split("\n").filter((line) => line.includes('"step":"iteration')).length;
  assert.is(samples(), 4);
  const second = await spawned({ interruptAt: 3 }, ["--resume", run]);
  assert.is(second.code, 130);
  assert.match(second.stderr, /no report was written\ndawnlm: what was measured is kept; take it up again with: node bench\/run\.ts --resume results\/combos\/runs\/.+\n$/);
  assert.is(samples(), 4);
  const third = await spawned({}, ["--resume", run]);
  assert.equal([third.code, read(run).status, read(run).resumed.length], [0, "complete", 2], third.stderr);
});

test("a run is not taken up with another model, other texts, or while it is still running", async () => {
  writeFileSync(join(folder, "text.txt"), "It was the best of times. ".repeat(4000));
  writeFileSync(join(folder, "x.yaml"), `${config(ARMS)}perplexity_text: text.txt\n`);
  await spawned({ interruptAt: 14 }, ["--config", "x.yaml"]);
  const [run] = runs() as [string], journal = join(folder, run, "journal.jsonl"), before = readFileSync(journal, "utf8");
  const other = await spawned({ fingerprint: "ffff" }, ["--resume", run]);
  assert.is(other.code, 2);
  assert.match(other.stderr, /: the model tiny-neox is not what it was when the run began/);
  writeFileSync(join(folder, "text.txt"), "It was the worst of times. ".repeat(4000));
  const changed = await spawned({}, ["--resume", run]);
  assert.is(changed.code, 2, changed.stderr);
  assert.match(changed.stderr, /: perplexity_text is not what it was when the run began/);
  assert.ok(readFileSync(journal, "utf8").startsWith(before), "nothing of what was measured is lost");
  writeFileSync(join(folder, run, ".lock"), `${process.pid} ${hostname()}\n`);
  const busy = await spawned({}, ["--resume", run]);
  assert.is(busy.code, 2);
  assert.match(busy.stderr, /another run \(process \d+ on .+\) is writing/);
});

test.run();
