/** `dawnlm plan` as a shell sees it, without any adapter: the page, the numbers, the verdict and its exit code, and every wrong question. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { PlanReport } from "../../bin/commands/plan.ts";
import { dawnlm, NO_DRIVER, type Ended } from "../support/command.ts";
import { startFakeHub } from "../support/fake_hub.ts";
import { folderOf } from "../support/llm.ts";

/** No driver is found here, so a plan that asked for an adapter would leave with 4. */
const plan = (...args: readonly string[]): Promise<Ended> => dawnlm(["plan", "--adapter", "none", ...args], { env: NO_DRIVER });

async function json(...args: readonly string[]): Promise<PlanReport & { readonly code: number | null }> {
  const { code, stdout, stderr } = await plan(...args, "--json");
  assert.is(stderr, "");
  return { ...JSON.parse(stdout) as PlanReport, code };
}

test("the page: model, limits, a table by category, keys and values of the batch, the verdict last", async () => {
  const { code, stdout, stderr } = await plan("random:qwen2.5-1.5b", "--weights", "nf4", "--kv", "int8", "--context", "8192", "--batch", "16", "--max-binding", "4GiB");
  assert.is(code, 0, stderr);
  assert.is(stderr, "");
  const lines = stdout.split("\n");
  assert.is(lines[0], "random:qwen2.5-1.5b: qwen2, 1,543,714,304 parameters, 28 layers, 2 KV heads of 128");
  assert.match(lines[1]!, /^no adapter, limits assumed: .*4,294,967,296 bytes \(maxBufferSize\).*4,294,967,296 of it/);
  assert.match(stdout, /\n  weights {2,}1,204,312,064  1,148\.5\n    embedding +466,747,392 .* 2\.000 bytes each \(bf16\)\n    layers +737,558,528 .* 0\.563 bytes each \(nf4\)\n/);
  for (const category of ["kv", "activations", "logits", "staging", "total", "highest"]) assert.match(stdout, new RegExp(`\\n  ${category} +[\\d,]+ +[\\d,.]+`), category);
  assert.match(stdout, /\nKeys and values of 16 sequences of 8192 tokens take 1,996,488,704 bytes; the pool \(default\) holds 8 sequences of 8192 tokens\.\n/);
  assert.match(stdout, /\nFits the limits of the adapter\. WebGPU does not tell how much memory there is: .* --memory\.\n  --kv-memory 1904MiB holds 16 sequences of full length at a time\n$/);
});

test("numbers add up, and a budget decides: 0 when it fits, 4 when it does not, with what would help", async () => {
  const args = ["random:qwen2.5-1.5b", "--context", "8192", "--max-binding", "4GiB"];
  const large = await json(...args, "--memory", "24GB");
  assert.is(large.code, 0);
  assert.equal(large.verdict.against, { bytes: 24e9, what: "given with --memory" });
  const { memory, peak, groups } = large.footprint;
  assert.is(memory.total, memory.weights + memory.kv + memory.activations + memory.logits + memory.staging);
  assert.is(groups.reduce((sum, { bytes }) => sum + bytes, 0), memory.weights);
  assert.is(groups.reduce((sum, { parameters }) => sum + parameters, 0), large.model.parameters);
  const exact = await json(...args, "--memory", String(peak.total));
  assert.is(exact.code, 0);
  const short = await json(...args, "--memory", String(peak.total - 1));
  assert.is(short.code, 4);
  assert.is(short.verdict.fits, false);
  assert.match(short.verdict.reasons.join(), new RegExp(`^it needs ${peak.total} bytes at its highest, 1 more than the ${peak.total - 1} given with --memory$`));
  assert.match(short.verdict.advice[0]!, /^--kv-memory \d+MiB with room for 4 sequences of full length makes it fit$/);
  const advised = /--kv-memory (\w+)/.exec(short.verdict.advice[0]!)![1]!;
  assert.is((await json(...args, "--memory", String(peak.total - 1), "--kv-memory", advised)).code, 0, "what is advised helps");
  const page = await plan(...args, "--memory", "2GB");
  assert.is(page.code, 4);
  assert.match(page.stdout, /\nDoes not fit: it needs \d+ bytes at its highest, [^\n]*\.\n  --weights nf4 --kv-memory \d+MiB with room for 3 sequences of full length makes it fit\n/);
  assert.is((await json(...args, "--memory", "0")).verdict.advice.join(), "lower --context and --batch, take a smaller model, or more memory");
});

test("limits of the adapter: reasons in this command's own options", async () => {
  const { code, verdict: { reasons } } = await json("random:qwen2.5-7b", "--weights", "int8", "--kv-memory", "10GB", "--batch", "1000", "--context", "8192", "--max-buffer", "1GiB");
  assert.is(code, 4);
  for (const [i, reason] of [
    /^model\.embed_tokens\.weight takes 1089994752 bytes, more than one buffer can hold on this adapter \(1073741824\): no weight format makes it smaller$/,
    /takes 135790592 bytes in int8, but this adapter binds at most 134217728: load it in floats, which are cut by rows \(and so in 27 more layers\)$/,
    /^lm_head\.weight takes 1089994752 bytes/, /^a KV cache of 10000000000 bytes .*: lower --kv-memory to \d+ or less$/,
    /^the buffer of block tables takes .*: lower --batch or --context$/, /^1000 rows of logits take .*: lower --batch to 216 or less$/, /^the buffer of split attention takes/,
  ].entries()) assert.match(reasons[i] ?? "", reason);
  assert.is(reasons.length, 7, reasons.join("\n"));
  const one = await json("random:qwen2.5-7b", "--context", "131072", "--max-buffer", "2GiB");
  assert.is(one.code, 4);
  assert.match(one.verdict.reasons.join(), /^keys and values of a sequence of 131072 tokens take \d+ bytes, but the pool has \d+, enough for (\d+): lower --context to \1, or take a smaller --kv format$/);
});

test("wrong questions get one line and the exit code of their kind", async () => {
  const cases: readonly (readonly [args: readonly string[], code: number, message: RegExp])[] = [
    [["tiny-nexo"], 2, /^unknown model "tiny-nexo"; did you mean tiny-neox\?/],
    [["random:gpt-5"], 2, /^random:gpt-5 is not a model we have the architecture of/],
    [["tiny-neox", "--context", "2049"], 2, /^--context is 2049, but tiny-neox was made for at most 2048 positions$/],
    [["tiny-neox", "--batch", "0"], 2, /^--batch must be a whole number from 1 to 1024, got 0$/],
    [["tiny-neox", "--context", "1.5"], 2, /^--context must be a whole number from 2, got 1\.5$/],
    [["tiny-neox", "--weights", "q4"], 2, /^--weights must be one of auto, f32, .*, got "q4"$/],
    [["tiny-neox", "--kv", "int3"], 2, /^--kv must be .*, got "int3"$/],
    [["tiny-neox", "--memory", "plenty"], 2, /--memory <bytes>.*plenty.*Expected bytes/],
    [["tiny-neox", "--max-binding", "1KiB"], 2, /^--max-binding must be at least 64 KiB/],
    [["tiny-neox", "--max-binding", "1GB", "--max-buffer", "1MB"], 2, /--max-buffer no less than it/],
    [["tiny-neox", "--adapter", "auto", "--max-buffer", "1GB"], 2, /^--max-binding and --max-buffer have no effect/],
    [["tiny-neox", "--adapter", "auto"], 4, /^no WebGPU adapter found/],
    [["tiny-neox", "--revision", "main"], 2, /only models of the hub have revisions/],
    [[], 2, /^missing required argument 'model'$/],
  ];
  for (const [args, code, message] of cases) {
    if (args.includes("auto") && code === 4 && process.platform !== "linux") continue; // drivers are hidden on Linux only
    const ended = await plan(...args);
    assert.is(ended.code, code, `${args.join(" ")}: ${ended.stderr}`);
    assert.match(ended.stderr, /^dawnlm: [^\n]+\n$/, args.join(" "));
    assert.match(ended.stderr.slice(8, -1), message, args.join(" "));
    assert.is(ended.stdout, "");
  }
});

test("a hub model: config.json is all that is downloaded, a second plan asks nobody, and loading can go on from there", async () => {
  const folder = folderOf("tiny-qwen2");
  const file = (name: string): Buffer => readFileSync(join(folder, name));
  const hub = await startFakeHub({ "config.json": file("config.json"), "tokenizer.json": Buffer.from("{}"), "model.safetensors": Buffer.alloc(100_000) });
  const cache = mkdtempSync(join(tmpdir(), "dawnlm-plan-"));
  const env = { ...NO_DRIVER, HF_ENDPOINT: hub.url, HF_HUB_CACHE: cache, HF_TOKEN: "" };
  const ask = (...args: readonly string[]): Promise<Ended> => dawnlm(["plan", hub.repo, "--adapter", "none", ...args], { env });
  try {
    const first = await ask("--json");
    assert.is(first.code, 0, first.stderr);
    assert.equal(hub.requests.filter(({ path }) => !path.startsWith("/api/")).map(({ path }) => path.split("/").at(-1)), ["config.json"]);
    assert.equal(readdirSync(join(cache, "models--someone--small", "snapshots", hub.commit)), ["config.json"]);
    const { model, notes, footprint: { memory } } = JSON.parse(first.stdout) as PlanReport;
    assert.equal([model.id, model.revision], [hub.repo, hub.commit]);
    assert.match(notes.join(), /^the weights are not on this machine: they are taken to be stored in f16/);
    assert.equal(memory, (await json("tiny-qwen2")).footprint.memory, "as with the weights at hand");
    const asked = hub.requests.length;
    assert.is((await ask("--kv", "int8")).code, 0);
    assert.is(hub.requests.length, asked);
    const load = await dawnlm(["generate", "x", "--model", hub.repo], { env });
    assert.is(load.code, 3, "the weights of this hub are zeros");
    assert.match(load.stderr, /tokenizer|safetensors/);
    assert.ok(hub.requests.some(({ path }) => path.endsWith("/model.safetensors")), "what is missing is downloaded then");
  } finally {
    await hub.close();
    rmSync(cache, { recursive: true });
  }
});

test.run();
