/** `node bench/perplexity.ts` under presses, with stand-ins for the model and the presses: flags, table, file, what makes a row invalid. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { main } from "../../bench/core/perplexity/command.ts";
import type { Spec } from "../../bench/core/perplexity/press_arms.ts";
import { whyIdle, type Pressable } from "../../bench/core/perplexity/press_measure.ts";
import { verdictOf } from "../../bench/core/perplexity/press_report.ts";
import { countedTokens, speedOf } from "../../bench/core/perplexity/press_speed.ts";
import { UsageError } from "../../engine/errors.ts";
import type { DivergenceResult, GenerateOptions, GenerateResult, LoadOptions, PerplexityOptions, PerplexityResult, PressReport } from "../../index.ts";
import { meanOf, perplexityOf } from "../../models/perplexity.ts";
import type { Press } from "../../models/press.ts";

const test = suite("bench/perplexity.ts under presses");
let folder: string;
test.before.each(() => { folder = mkdtempSync(join(tmpdir(), "dawnlm-presses-")); });
test.after.each(() => { rmSync(folder, { recursive: true, force: true }); });

/** Nats per token that the press costs at ratio 1; those that need attention; one that the model refuses. */
const COSTS: Readonly<Record<string, number>> = { knorm: 0.2, random: 0.11, snapkv: 0.01, observed_attention: 0.02, tova: 0.05 };

const stage = (name: string): Press["stages"][number] => ({
  needs: name === "observed_attention" ? { attention: true } : {}, keep: () => 1, newest: () => 0, paramCount: 1, params: () => new Float32Array(1), score: () => {},
});

function make(spec: Spec): Press {
  const { name, ...parameters } = spec;
  const inside = (parameters["press"] as Spec | undefined)?.name ?? name;
  if (name === "tova" && parameters["positions"] === "rerotate") throw new UsageError("positions rerotate cannot go with tova");
  return { name: `${name}(${JSON.stringify(parameters)})`, positions: (parameters["positions"] as Press["positions"] | undefined) ?? "original", stages: [stage(inside)], ragged: false, next: () => null, check: () => {} };
}

function parse(text: string, ratio: number): Spec {
  const [, wrapper, inside] = /^(\w+)(?:\((\w+)\))?$/.exec(text) ?? [];
  if (wrapper === undefined || !((inside ?? wrapper) in COSTS)) throw new UsageError(`unknown press ${text}, did you mean knorm?`);
  return inside === undefined ? { name: wrapper, ratio } : wrapper === "decoding" ? { name: wrapper, press: { name: inside } } : { name: wrapper, press: { name: inside, ratio } };
}

interface Fake { readonly onLoad?: (options: LoadOptions) => void; readonly calls?: { prompt: number; options: GenerateOptions }[]; readonly scored?: PerplexityOptions[]; readonly idle?: boolean; readonly refuses?: string }

function standIn(options: LoadOptions, fake: Fake): Pressable {
  const MEMORY = { weights: 1, kv: 2, activations: 3, logits: 4, staging: 5, total: 15 };
  const effectOf = (press: Press | null): { cost: number; ratio: number } => {
    if (press === null) return { cost: 0, ratio: 0 };
    const [, name, json] = /^(\w+)\((.*)\)$/.exec(press.name)!;
    const spec = { name, ...JSON.parse(json!) } as Record<string, any>, ratio = (spec["ratio"] ?? spec["press"]?.ratio ?? (spec["keepRatio"] === undefined ? 0.5 : 1 - spec["keepRatio"])) as number;
    if (fake.refuses === name) throw new UsageError(`${name}: a window of 64 is longer than the prompt`);
    return { cost: COSTS[spec["press"]?.name ?? name!] ?? 0.3, ratio };
  };
  const report = (press: Press | null, seen: number, windows: number): { press?: PressReport } => {
    if (press === null) return {};
    const { ratio } = effectOf(press), steps = /^knorm_steps/.test(press.name), evicted = fake.idle === true || (steps && seen < 512) ? 0 : Math.floor(seen * ratio);
    const events = steps && evicted === 0 ? 0 : 1;
    return { press: { name: press.name, events, evicted: 8 * windows * evicted, kept: events === 0 ? [] : [[seen - evicted, seen - evicted], [seen - evicted, seen - evicted]], seen, freedBytes: 64 * windows * evicted, ms: 7 } };
  };
  const score = (ids: readonly number[], { protocol = "strided", context = 512, continuation = 0, maxWindows = 99, press = null }: PerplexityOptions) => {
    fake.scored?.push({ protocol, context, continuation, maxWindows, press });
    const step = context + continuation, windows = Math.min(maxWindows, Math.floor(ids.length / step)), each = protocol === "prefill-continue" ? continuation : context - 1;
    const { cost, ratio } = effectOf(press as Press | null), tokensPerWindow = Array.from({ length: windows }, () => each);
    const base = Float32Array.from({ length: windows * each }, (_, i) => 3 + Math.sin(i)), shift = (i: number): number => cost * ratio * (1 + 0.1 * Math.sin(3 * i));
    const hits = new Uint8Array(base.length);
    return { protocol, context, stride: step, base, nlls: base.map((nll, i) => nll + shift(i)), klds: base.map((_, i) => shift(i) / 2), hits, tokensPerWindow, ...report(press as Press | null, context, windows) };
  };
  return {
    config: { eosTokenIds: [0] }, tokenizer: { encode: (text) => text.split(/\s+/).map((word) => word.length) }, maxModelLen: options.maxModelLen ?? 2048,
    source: { id: "stand-in", revision: null, random: false, fingerprint: "0123" },
    environment: { adapter: { vendor: "", architecture: "", device: "", description: "no device", backend: "none", software: true }, features: [], limits: { maxBufferSize: 1 }, kernelFamily: "software", subgroupSize: 8 },
    memory: () => ({ ...MEMORY, peak: MEMORY }), close: () => Promise.resolve(),
    perplexity: (ids, asked): Promise<PerplexityResult> => {
      const { nlls, hits, tokensPerWindow, context, stride, protocol } = score(ids, asked);
      return Promise.resolve({ ...perplexityOf({ nlls, hits, tokensPerWindow, presses: [] }, { protocol, context, stride, maxWindows: 1, prefixToken: null, signal: undefined, onProgress: () => {} } as any), protocol, context, stride });
    },
    divergence: async (_, ids, asked): Promise<DivergenceResult> => {
      const { base, nlls, klds, hits, tokensPerWindow, ...rest } = score(ids, asked);
      return { ...rest, nlls, baseNlls: base, klds, sameTop: hits.map(() => 1), hits, baseHits: hits, tokens: nlls.length, windows: tokensPerWindow.length, tokensPerWindow };
    },
    generate: async (ids, asked): Promise<GenerateResult> => {
      fake.calls?.push({ prompt: ids.length, options: asked });
      const count = asked.maxNewTokens!, itl = Array.from({ length: count - 1 }, () => 2), press = asked.press as Press | null;
      return {
        ids: Array.from({ length: count }, (_, i) => (i === 5 ? 0 : 1)), text: "x", promptTokens: ids.length, finishReason: "length", timings: { ttft: 10, total: 10 + 2 * itl.length, itl, tpot: 2 },
        stats: { preemptions: 0, cachedTokens: 0, ...report(press, ids.length, 1) },
      };
    },
  };
}

async function bench(args: readonly string[], fake: Fake = {}): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: "", stderr: "" }, originals = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const name of ["stdout", "stderr"] as const) process[name].write = ((text: string) => { written[name] += text; return true; }) as typeof process.stdout.write;
  try {
    const all = Object.keys(COSTS);
    const code = await main(args.includes("--json") ? args : [...args, "--output-dir", join(folder, "results")], { load: (_, options) => { fake.onLoad?.(options); return Promise.resolve(standIn(options, fake)); }, names: { all, parse, make } });
    return { code, ...written };
  } finally {
    for (const name of ["stdout", "stderr"] as const) process[name].write = originals[name];
  }
}

const results = (): string[] => readdirSync(join(folder, "results/perplexity"));
const json = (): any => JSON.parse(readFileSync(join(folder, "results/perplexity", results()[0]!), "utf8"));
const lineOf = (stdout: string, name: string): string => stdout.split("\n").find((line) => line.startsWith(`│ ${name} `))!;

test("all presses: no press first, then by perplexity, random always beside, and who did not beat it", async () => {
  const scored: PerplexityOptions[] = [], loads: LoadOptions[] = [], calls: { prompt: number; options: GenerateOptions }[] = [];
  const { code, stdout, stderr } = await bench(["--dataset", "pg19-sample", "--press", "all", "--ppl_apply_press", "--max_new_tokens=8", "--compression_ratio", "0.25,0.5"], { scored, calls, onLoad: (options) => loads.push(options) });
  assert.is(code, 0, stderr);
  const names = stdout.split("\n").flatMap((line) => /^│ (\w+) +│ +(0\.\d+)? *│/.exec(line)?.slice(1, 3).filter((part) => part !== undefined).join(" ") ?? []);
  assert.equal(names, ["no_press", ...[
    ["snapkv", 0.25, 0.01], ["snapkv", 0.5, 0.01], ["observed_attention", 0.25, 0.02], ["observed_attention", 0.5, 0.02], ["tova", 0.25, 0.05], ["tova", 0.5, 0.05], ["random", 0.25, 0.11], ["random", 0.5, 0.11], ["knorm", 0.25, 0.2], ["knorm", 0.5, 0.2],
  ].toSorted((a, b) => (a[1] as number) * (a[2] as number) - (b[1] as number) * (b[2] as number)).map(([name, ratio]) => `${name} ${ratio}`)]);
  assert.match(stdout, /quality: prefill-continue\(512, 128\): 2048 tokens in 16 of \d+ windows; PPL is under each press/);
  assert.match(stdout, /text: pg19-sample, document 0 of 1, \d+ tokens, SHA-256 [0-9a-f]{16}…/);
  assert.match(stdout, /did NOT beat it, and did worse: knorm 0\.25 \(\+0\.02\d+ ± [^)]*\), knorm 0\.5 \(/);
  assert.match(stdout, /  beat it: snapkv 0\.25 \(−0\.0[^]*note: --context-limit 4096 is cut to 2048, the longest that tiny-neox allows/);
  assert.match(lineOf(stdout, "knorm"), /knorm +│ +0\.25 │.*│ 75\.00 % of 512 │ +8\.0 KiB │ +\d+\.\d │ +10\.0 │ +7\.0 │/);
  assert.is(loads[0]!.maxModelLen, 2048);
  assert.is(loads[0]!.prefixCache, false);
  assert.ok(scored.every(({ protocol, context, continuation, maxWindows }) => protocol === "prefill-continue" && context === 512 && continuation === 128 && maxWindows === 16));
  assert.ok(calls.every(({ prompt, options: { ignoreEos } }) => prompt === 2040 && ignoreEos === true));
  assert.is(calls.length, 11 + 3 * 12, "a warm-up of each, then three repetitions of each and of no press again");

  const read = json();
  assert.equal(results(), ["perplexity_tiny-neox_pg19-sample_all_0.25-0.5_prefill-continue.json"]);
  assert.equal([read.schemaVersion, read.experiment, read.status, read.protocol.name, read.protocol.underPress], [1, "perplexity-under-presses", "complete", "prefill-continue(512, 128)", true]);
  assert.equal([read.corpus.dataset, read.corpus.source, read.corpus.sha256.length, read.corpus.text], ["pg19-sample", "persuasion.txt", 64, undefined]);
  const knorm = read.rows.find(({ press, ratio }: any) => press === "knorm" && ratio === 0.5);
  assert.equal([knorm.engaged, knorm.status, knorm.quality.press.kept, knorm.quality.perToken.nlls.length, knorm.quality.freedBytesPerWindow], [true, "complete", [[256, 256], [256, 256]], 2048, 64 * 256]);
  assert.equal([knorm.spec, knorm.againstRandom.verdict, knorm.speed.tokensPerSecond.samples.length], [{ name: "knorm", ratio: 0.5 }, "worse", 3]);
  assert.ok(Math.abs(read.noPress.perplexity - Math.exp(meanOf(read.noPress.nlls, read.noPress.tokensPerWindow).mean)) < 1e-9);
  assert.is(read.speed.order.length, 3);
  assert.equal(read.speed.order[0].toSorted(), read.speed.order[2].toSorted());
});

test("without --ppl-apply-press PPL is the plain one, and a line says so", async () => {
  const scored: PerplexityOptions[] = [];
  const { code, stdout } = await bench(["--press", "snapkv", "--max-new-tokens", "6", "--min-new-tokens", "2", "--speed-decode-only", "--repetitions", "1", "--context-limit", "100"], { scored });
  assert.is(code, 0);
  assert.match(stdout, /quality: hf-strided\(100, 100\): [^\n]*; PPL is the plain one, which no press took part in \(--ppl-apply-press measures it under the presses\)/);
  assert.equal(scored.map(({ protocol, press }) => [protocol, press]), [["strided", null]]);
  assert.match(lineOf(stdout, "snapkv"), /│ +– │ 50\.00 % of 94 │ +2\.9 KiB │ +500\.0 │ +10\.0 │ +7\.0 │/);
  assert.equal(json().rows[1].speed.newTokens, [6]);
  const { stdout: none } = await bench(["--dataset", "wikitext-sample", "--sample-idx", "3", "--max-new-tokens", "0"]);
  assert.match(none, /document 3 of 19, "1833_andrew_jackson_d"/);
  assert.not.match(none, /plain one|speed:|tok\/s/);
});

test("a press that evicted nothing makes its row INVALID and the exit code 5; ratio 0 may", async () => {
  const idle = await bench(["--press", "snapkv", "--ppl-apply-press", "--max-new-tokens", "4"], { idle: true });
  assert.is(idle.code, 5);
  assert.match(idle.stdout, /│ INVALID │[^]*INVALID snapkv 0\.5: quality: it acted and evicted nothing of 512 tokens; speed: it acted and evicted nothing of 2044 tokens/);
  assert.equal([json().status, json().rows[1].engaged], ["invalid", false]);
  assert.is((await bench(["--press", "snapkv", "--ppl-apply-press", "--max-new-tokens", "0", "--compression-ratio", "0"])).code, 0);
  const short = join(folder, "short.txt");
  writeFileSync(short, Array.from({ length: 300 }, () => "word").join(" "));
  const steps = await bench(["--dataset", short, "--keep_ratio", "0.9", "--ppl_apply_press", "--max_new_tokens", "0"]);
  assert.is(steps.code, 5);
  assert.match(steps.stdout, /INVALID knorm: quality: the context has 300 tokens, fewer than prune_after 512: nothing was pruned/);
  const empty: PressReport = { name: "x", events: 1, evicted: 36, kept: [[0, 0], [0, 0]], seen: 9, freedBytes: 1, ms: 1 };
  assert.match(whyIdle(empty, null, 9)!, /it left nothing of 9 tokens in any head/);
  assert.is(whyIdle({ ...empty, kept: [[0, 1], [0, 0]] }, null, 9), null);
  assert.match(whyIdle({ ...empty, evicted: 0, kept: [[1]], seen: 1 }, null, 96, true)!, /evicted nothing of 1 token \(under decode the prompt is one token;/);
  assert.is(whyIdle(undefined, null, 9), "the press was not there: nothing was evicted");
});

test("windows that a short text or a small limit allow, said aloud; what cannot be is refused", async () => {
  const short = join(folder, "short.txt");
  writeFileSync(short, Array.from({ length: 300 }, () => "word").join(" "));
  const common = ["--dataset", short, "--press", "knorm", "--ppl-apply-press", "--max-new-tokens", "10"];
  const { code, stdout } = await bench(common);
  assert.is(code, 0);
  assert.match(stdout, /prefill-continue\(240, 60\)[^]*note: the window is cut to 240 tokens of context and 60 of continuation: 300 is all there is[^]*note: the text has 300 tokens: the prompt of the speed part is all of it/);
  const refused = await bench([...common, "--context", "250", "--continuation", "60"]);
  assert.equal([refused.code, refused.stderr], [2, "dawnlm: context 250 and continuation 60 are 310 tokens, but the text has 300\n"]);
});

test("all goes on without a press that the model or the flags refuse, and says so; one that was named ends the run", async () => {
  const without = await bench(["--press", "all", "--ppl-apply-press", "--max-new-tokens", "0", "--positions", "rerotate", "--attn-implementation", "flash_attention_2"], { refuses: "snapkv" });
  assert.is(without.code, 5);
  assert.match(without.stdout, /INVALID snapkv 0\.5: quality: snapkv: a window of 64 is longer than the prompt/);
  assert.match(without.stdout, /note: observed_attention is left out: --attn-implementation flash_attention_2: observed_attention needs attention weights, and this is a layout that cannot give them/);
  assert.match(without.stdout, /note: tova is left out: positions rerotate cannot go with tova/);
  const named = await bench(["--press", "observed_attention", "--attn_implementation", "flash_attention_2"]);
  assert.equal([named.code, /a layout that cannot give them: take eager/.test(named.stderr)], [2, true]);
  const inside = await bench(["--press", "adakv(observed_attention)", "--attn_implementation", "flash_attention_2"]);
  assert.is(inside.code, 2);
  const eager = await bench(["--press", "adakv(snapkv)", "--attn-implementation", "eager", "--max-new-tokens", "2"]);
  assert.match(eager.stdout, /│ adakv\(snapkv\) │ +0\.5 │[^]*note: --attn-implementation eager changes nothing: there is one attention here/);
  assert.equal([(await bench(["--press", "snapkv", "--ppl-apply-press"], { refuses: "snapkv" })).code, (await bench(["--press", "knrom"])).code], [2, 2]);
});

test("flags that contradict each other, a line each", async () => {
  const cases: [string[], RegExp][] = [
    [["--press", "knorm", "--ppl-apply-press", "--protocol", "llama.cpp"], /--protocol: llama\.cpp reads a window in one forward pass, which cannot see a press: .*Take prefill-continue or decode/],
    [["--press", "knorm", "--compression-ratio", "1"], /--compression-ratio: expected shares to evict, each a number from 0 below 1, separated by commas, got "1"/],
    [["--press", "knorm", "--compression-ratio", "-0.5"], /--compression-ratio: expected/],
    [["--ppl-apply-press"], /--ppl-apply-press: has no effect with --press no_press: name a press, or all/],
    [["--press", "snapkv", "--keep-ratio", "0.9"], /--keep-ratio: prunes by norms after every token, as knorm; snapkv cannot/],
    [["--keep-ratio", "0.9", "--ppl-apply-press", "--protocol", "prefill-continue"], /--protocol: --keep-ratio prunes after every token/],
    [["--press", "knorm", "--prune-after", "9"], /--prune-after: has no effect without --keep-ratio/],
    [["--press", "knorm", "--base-weights", "f32"], /--base-weights: compares number formats/],
    [["--speed-only", "--max-new-tokens", "0"], /--speed-only: leaves nothing to do/],
    [["--max-new-tokens", "9", "--min-new-tokens", "10"], /--min-new-tokens: is 10, but --max-new-tokens is 9/],
    [["--context-limit", "100"], /--max-new-tokens: is 200, which leaves no prompt within --context-limit 100/],
    [["--dataset", "pg19-sample", "--text", "sotu"], /--text: is what --dataset names, too/],
    [["--press", "decoding(knorm)", "--compression-ratio", "0.5"], /--compression-ratio: has no effect on decoding\(knorm\)/],
    [["--json", join(folder, "x.json"), "--output-dir", folder], /--output-dir: has no effect with --json/],
    [["--attn-implementation", "flash"], /--attn-implementation: expected one of eager, sdpa, flash_attention_2/],
    [["--max-new-tokens", "3000"], /--max-new-tokens 3000 leaves no prompt within the 2048 tokens that tiny-neox allows/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await bench(args);
    assert.equal([code, stderr.split("\n").length], [2, 2], `${args.join(" ")}: ${stderr}`);
    assert.match(stderr, message);
  }
});

test("an end of text ends the count from min_new_tokens on, and the time with it", () => {
  assert.equal([countedTokens([1, 0, 1, 0, 1], 0, [0]), countedTokens([1, 0, 1, 0, 1], 2, [0]), countedTokens([1, 0, 1, 0, 1], 4, [0]), countedTokens([], 0, [0])], [2, 4, 5, 0]);
  const result = { ids: [1, 1, 0, 1, 1], timings: { ttft: 10, itl: [1, 2, 3, 4] }, stats: {}, text: "" } as unknown as GenerateResult;
  const { tokensPerSecond, decodeTokensPerSecond, newTokens } = speedOf([result], 1, [0]);
  assert.equal([tokensPerSecond.median, decodeTokensPerSecond!.median, newTokens], [3000 / 13, 2000 / 3, [3]]);
  assert.is(speedOf([{ ...result, ids: [1], timings: { ttft: 10, itl: [], tpot: null, total: 10 } }], 1, [0]).decodeTokensPerSecond, null);
});

test("beaten is what is better by more than two standard errors", () => {
  const of = (mean: number, error: number | null, errorOverWindows: number | null) => verdictOf({ mean, error, errorOverWindows });
  assert.equal([of(-0.3, 0.01, 0.1), of(-0.3, 0.01, 0.2), of(0.3, 0.01, 0.1), of(-0.3, 0.1, null), of(-0.3, null, null)], ["beat", "open", "worse", "beat", "open"]);
});

test.run();
