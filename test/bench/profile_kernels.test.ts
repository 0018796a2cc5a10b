/** Kernels of a decode step and a prefill: what is made of their times, in numbers, words and a picture. On a made-up model. No GPU. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AbortedError } from "../../engine/errors.ts";
import { Trace } from "../../engine/trace.ts";
import { columns } from "../../bench/core/profile/columns.ts";
import { floorOf } from "../../bench/core/profile/floors.ts";
import { weightsRead } from "../../bench/core/profile/kernel_work.ts";
import { measureKernels, NO_TIMESTAMPS, phaseOf, type KernelProfile, type KernelProfiled, type Reading, type Repetition } from "../../bench/core/profile/kernels.ts";
import { coloured, kernelsSpec, piecesOf } from "../../bench/core/profile/kernels_chart.ts";
import { costOf, hostOf, kernelLines, kernelsJson } from "../../bench/core/profile/kernels_report.ts";
import { profileConfig } from "../../bench/core/profile/options.ts";
import { statusOf, type ProfileRun } from "../../bench/core/profile/report.ts";
import { drawSpec } from "../../bench/core/report/chart.ts";
import { summarise } from "../../bench/core/stats.ts";
import type { GenerateOptions, GenerateResult } from "../../index.ts";
import type { Grain, TimedDispatch, TimedPass } from "../../models/llm.ts";
import { parseConfig } from "../../models/config.ts";

const test = suite("profile of kernels");

/** C = 16, I = 32, V = 10, 2 layers, 2 heads of 8, 1 KV head: products of 32×16, 16×16, 32×16 gated and 16×32. */
const QWEN = parseConfig({
  model_type: "qwen2", vocab_size: 10, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, tie_word_embeddings: false,
}, "test");
const CONFIG = profileConfig({ prompt: "5", repetitions: "3", weights: "f16", kv: "f32" }, []);

type Kind = readonly [kernel: string, consts: TimedDispatch["consts"], recording: string, rows: number, micros: number];
const product = (kernel: string, N: number, K: number, gated: boolean, rows: number, micros: number, recording = "layers, decode, one"): Kind =>
  [`${kernel}.wgsl`, { N, K, GATED: gated }, recording, rows, micros];

/** One dispatch after the other, 1 µs apart; `times` scales them. */
function passOf(kinds: readonly Kind[], times = 1): TimedPass {
  let at = 0;
  const dispatches = kinds.map(([kernel, consts, recording, rows, micros]) => {
    const begin = at;
    at += micros * 1000 * times + 1000;
    return { kernel, consts, recording, rows, begin, end: at - 1000 };
  });
  return { nanoseconds: at - 1000, dispatches };
}

function layers(kernel: string, rows: number, prefill: boolean): Kind[] {
  const recording = prefill ? "layers, prefill, few" : "layers, decode, one";
  const layer = [
    product(kernel, 32, 16, false, rows, 10, recording), ...(prefill ? [["append.wgsl", { PITCH: 3 }, recording, rows, 2] as Kind] : []),
    ["attention.wgsl", { D: 8 }, recording, rows, 6] as Kind, product(kernel, 16, 16, false, rows, 5, recording),
    product(kernel, 32, 16, true, rows, 20, recording), product(kernel, 16, 32, false, rows, 9, recording),
  ];
  return [["embed.wgsl", { N: 10, K: 16 }, recording, rows, 1], ...layer, ...layer];
}
const HEAD: readonly Kind[] = [["norm.wgsl", {}, "head, one", 1, 1], product("matvec", 10, 16, false, 1, 4, "head, one"), ["sample.wgsl", {}, "tail", 1, 3]];
const DECODE = [...layers("matvec", 1, false), ...HEAD];
/** Two chunks: 3 rows, then 2, and the head behind those. */
const PREFILL = [layers("matmul", 3, true), [...layers("matmul", 2, true), ...HEAD]];

/** Prefill in two chunks and a decode step, as the engine reports them. */
function fakeLlm({ timestamps = true, spoil = false, lost = 0, abort = Infinity, stop = () => {} } = {}): KernelProfiled & { readonly asked: (Grain | null)[] } {
  const trace = new Trace(), asked: (Grain | null)[] = [];
  let grain: Grain | null = null, requests = 0;
  const generate = async (ids: readonly number[], { maxNewTokens, signal }: GenerateOptions): Promise<GenerateResult> => {
    assert.equal([ids.length, maxNewTokens], [5, 2]);
    if (++requests > abort) stop();
    if (signal?.aborted) throw new AbortedError();
    asked.push(grain);
    for (const rows of [3, 2]) trace.emit(() => ({ type: "prefill", sequences: [0], rows }));
    trace.emit(() => ({ type: "decode", sequences: [0] }));
    return { ids: [ids[0]!, spoil && grain !== null ? 1 : 2], timings: { ttft: 0.5, total: 0.75 } } as unknown as GenerateResult;
  };
  return {
    config: QWEN, tokenizer: { vocabSize: 10, encode: () => [] }, maxModelLen: 64, trace, asked, generate, dispatchesPerDecode: async () => DECODE.length,
    timed: async (asks, work) => {
      if (!timestamps) return null;
      grain = asks;
      const result = await work();
      grain = null;
      if (result === undefined) return { result, passes: [] };
      const passes = [...PREFILL, DECODE].map((kinds) => passOf(kinds)).slice(lost);
      return { result, passes: asks === "dispatch" ? passes : passes.map(({ nanoseconds }) => ({ nanoseconds: nanoseconds / 2, dispatches: [] })) };
    },
  };
}

const never = (): { signal: AbortSignal; onStep: () => void } => ({ signal: new AbortController().signal, onStep: () => {} });
const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
const HOST = { perToken: summarise([30, 40, 50]), perPrefill: summarise([70]), repetitions: [], pollsPerToken: null, isCpu: true };
const runOf = (kernels: KernelProfile, software = false): ProfileRun => ({
  kernels, config: CONFIG, profile: { status: "complete", decode: summarise([5000]), host: HOST }, environment: { adapter: { software } },
}) as unknown as ProfileRun;

test("every dispatch is counted once, products by shape, with the work of the floors", async () => {
  const { status, reason, phases } = await measureKernels(fakeLlm(), CONFIG, never());
  assert.equal([status, reason], ["complete", null]);
  const { decode, prefill } = phases!;
  assert.equal([decode.passes, decode.dispatches, prefill.passes, prefill.dispatches], [1, DECODE.length, 2, PREFILL.flat().length]);
  assert.equal(decode.rows.map(({ kernel, dispatches, micros }) => [kernel, dispatches, micros.median, micros.samples.length]), [
    ["matvec 32×16, gated", 2, 40, 3], ["matvec 32×16", 2, 20, 3], ["matvec 16×32", 2, 18, 3], ["attention", 2, 12, 3], ["matvec 16×16", 2, 10, 3],
    ["matvec 10×16, head", 1, 4, 3], ["sample", 1, 3, 3], ["embed", 1, 1, 3], ["norm", 1, 1, 3],
  ]);
  assert.ok(Math.abs(total(decode.rows.map(({ share }) => share)) - 1) < 1e-12);
  assert.is(decode.rows[0]!.share, 40 / 109);
  assert.equal(prefill.rows.filter(({ does }) => does.startsWith("product")).map(({ kernel, does }) => kernel.replace(/^\w+ /, "product ") === does), [true, true, true, true, true]);
  // What the rows move and compute is the floor, but for the vectors, and the rows of the embedding.
  const floor = floorOf(QWEN, { weights: "f16", kv: "f32", context: 5, prompt: 5 });
  const sum = (of: "bytes" | "flops", rows: typeof decode.rows): number => total(rows.map(({ work }) => work?.[of] ?? 0));
  assert.is(sum("flops", decode.rows), floor.decode.flops);
  assert.is(sum("flops", prefill.rows), floor.prefill.flops);
  assert.is(sum("bytes", decode.rows), 2 * (floor.layerParameters + floor.headParameters) + floor.decode.kvBytes);
  assert.is(sum("bytes", prefill.rows), 2 * (2 * floor.layerParameters + floor.headParameters) + floor.prefill.kvBytes); // weights once a chunk
  assert.equal([weightsRead({ consts: { N: 10, K: 16 } }), weightsRead({ consts: { N: 4, K: 8, GATED: true } })], [null, 64]);
});

test("gaps, the GPU's time in one pass, the host's share, and what timing costs", async () => {
  const { phases } = await measureKernels(fakeLlm(), CONFIG, never());
  const { decode, prefill } = phases!, gaps = DECODE.length - 1;
  assert.equal([decode.timed.sum.median, decode.timed.between.median, decode.gpu.median, decode.wall.median], [109, gaps, (109 + gaps) / 2, 250]);
  assert.equal([decode.host.median, prefill.wall.median, prefill.timed.between.median], [250 - (109 + gaps) / 2, 500, PREFILL.flat().length - 2]);
  const run = runOf({ status: "complete", reason: null, phases });
  assert.equal(hostOf("decode", decode, run.profile), { share: decode.host.median / 250, cpu: HOST.perToken, steady: 200 });
  assert.equal([hostOf("prefill", prefill, run.profile).cpu, hostOf("prefill", prefill, run.profile).steady], [HOST.perPrefill, null]);
  assert.equal(costOf(decode), { gpu: 2, wall: 1 });
  assert.is(costOf({ ...decode, gpu: summarise([0])! }), null);
});

test("a row's time is the median of its own repetitions; a GPU that took longer than the wall leaves the host no share", () => {
  const reading = (times: number, wall: number): Reading => ({ passes: { prefill: [], decode: [passOf(DECODE, times)] }, wall: { prefill: 0, decode: wall } });
  const repetition = (apart: number, whole: number, wall: number): Repetition => ({ apart: reading(apart, 1), whole: reading(whole, 1), untimed: reading(1, wall) });
  const phase = phaseOf("decode", [repetition(1, 1, 0.2), repetition(5, 1, 0.3), repetition(2, 4, 0.2)], QWEN, CONFIG);
  assert.equal(phase.rows[0]!.micros.samples, [40, 200, 80]);
  assert.is(phase.rows[0]!.micros.median, 80);
  assert.ok(phase.host.min < 0 && phase.host.median > 0);
  const { profile } = runOf({ status: "complete", reason: null, phases: { decode: phase, prefill: phase } });
  assert.is(hostOf("decode", phase, profile).share, null);
  assert.match(kernelLines({ status: "complete", reason: null, phases: { decode: phase, prefill: phase } }, runOf({ status: "complete", reason: null, phases: null })).join("\n"), /no more than the noise/);
});

test("the three forms take turns after a round of warm-up, on the same prompt", async () => {
  const llm = fakeLlm();
  await measureKernels(llm, CONFIG, never());
  assert.is(llm.asked.length, 3 * 4);
  const rounds = [0, 3, 6, 9].map((from) => llm.asked.slice(from, from + 3));
  for (const round of rounds) assert.equal(new Set(round), new Set([null, "pass", "dispatch"]));
  assert.ok(new Set(rounds.map(String)).size > 1, "always in the same order");
});

test("other tokens, or a pass that was not timed, are errors and no result", async () => {
  await measureKernels(fakeLlm({ spoil: true }), CONFIG, never()).then(() => assert.unreachable(), ({ message }: Error) => assert.match(message, /gave other tokens when it was timed: \d [12]; /));
  await measureKernels(fakeLlm({ lost: 1 }), CONFIG, never()).then(() => assert.unreachable(), ({ message }: Error) => assert.match(message, /3 forward passes ran, but 2 were timed/));
});

test("without timestamp queries there is one line that says so", async () => {
  const llm = fakeLlm({ timestamps: false }), kernels = await measureKernels(llm, CONFIG, never());
  assert.is(llm.asked.length, 0, "requests that nobody could time");
  assert.equal(kernels, { status: "complete", reason: NO_TIMESTAMPS, phases: null });
  assert.equal(kernelLines(kernels, runOf(kernels)), [`Kernels: ${NO_TIMESTAMPS}`]);
  assert.equal(kernelsJson(kernels, runOf(kernels)), { status: "complete", value: null, reason: NO_TIMESTAMPS });
});

test("an abort keeps the repetitions that are whole", async () => {
  for (const [abort, count] of [[7, 1], [2, 0]] as const) {
    const stop = new AbortController();
    const kernels = await measureKernels(fakeLlm({ abort, stop: () => { stop.abort(); } }), CONFIG, { signal: stop.signal, onStep: () => {} });
    assert.equal([kernels.status, kernels.phases?.decode.wall.samples.length ?? 0], ["interrupted", count]);
    assert.is(statusOf({ ...runOf(kernels), kernels }), "interrupted");
  }
});

test("the text has both tables, and says what a software adapter's time is; the JSON has every sample", async () => {
  const kernels = await measureKernels(fakeLlm(), CONFIG, never());
  const text = kernelLines(kernels, runOf(kernels, true)).join("\n");
  assert.match(text, /^decode step behind 5 tokens +dispatches +µs +min +max +share +MB +GB\/s +GFLOP\/s\n {2}matvec 32×16, gated +2 +40\.0 +40\.0 +40\.0 +36\.7 % +0\.00410 +0\.102 +0\.102\n/);
  assert.match(text, /\nprefill of 5 tokens, in 2 chunks [^]*GPU time as it always runs, 2 passes[^]*CPU time of this thread before the first token +70\.0/);
  assert.match(text, /host's share: wall less GPU +\d[^\n]* %\nCPU time of this thread, a token in steady decoding +40\.0 +30\.0 +50\.0\nwall time, a token in steady decoding +200\n/);
  assert.match(text, /Timing every dispatch made it 2\.00 x as long on the GPU and 1\.00 x on the wall: take no sum of rows for its time/);
  assert.match(text, /software adapter: its GPU time is CPU time of the same cores/);
  assert.not.match(text, /NaN|Infinity|undefined/);
  assert.not.match(kernelLines(kernels, runOf(kernels)).join("\n"), /software adapter/);
  const json = JSON.parse(JSON.stringify(kernelsJson(kernels, runOf(kernels))));
  assert.equal([json.decode.rows.length, json.decode.rows[0].micros.samples, json.prefill.microseconds.wall.samples, json.decode.timingCost], [9, [40, 40, 40], [500, 500, 500], { gpu: 2, wall: 1 }]);
  assert.equal(columns([["a", "bb", "c"], ["long"], ["x", "1"]]), ["a     bb  c", "long", "x      1"]);
});

test("the picture's pieces fill each bar, the same product has one colour in both, and words are in it", async () => {
  const { phases } = await measureKernels(fakeLlm(), CONFIG, never());
  const names = coloured(phases!);
  assert.ok(names.length <= 7 && names[0] === "product 32×16, gated" && !names.includes("norm"), names.join());
  for (const { rows } of Object.values(phases!)) {
    const pieces = piecesOf("bar", rows, names);
    pieces.forEach(({ from, to }, i) => { assert.ok(to > from && (i === 0 ? from === 0 : from === pieces[i - 1]!.to)); });
    assert.ok(Math.abs(pieces.at(-1)!.to - 1) < 1e-12 && pieces.at(-1)!.does === "all others");
  }
  const many = Array.from({ length: 30 }, (_, i) => ({ ...phases!.decode.rows[0]!, kernel: `k${i}`, does: `kernel number ${i}`, share: 1 / 30 }));
  assert.is(coloured({ decode: { ...phases!.decode, rows: many }, prefill: phases!.prefill }).length, 7);
  const { svg, png } = await drawSpec(kernelsSpec({ model: "a model", machine: "a machine", measured: "once", prompt: 5, phases: phases! }));
  for (const words of ["Where a model spends its GPU time", "prefill of 5 tokens", "product 32×16, gated", "all others", "once", "shares among the dispatches", "2.00 and 2.00 times as long"]) assert.ok(svg.includes(words), words);
  assert.ok(png.length > 10_000 && !/NaN|undefined/.test(svg));
});

test("--kernels is one of the flags, and means nothing to --floors", () => {
  assert.equal([profileConfig({ kernels: true }, ["kernels"]).kernels, profileConfig({}, []).kernels], [true, false]);
  assert.throws(() => profileConfig({ floors: true, kernels: true }, ["floors", "kernels"]), /so --kernels would have no effect/);
});

test.run();
