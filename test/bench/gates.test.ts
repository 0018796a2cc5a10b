/** Every gate open and closed, with what it says in both languages. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  gateAxes, gateDraft, gateEntries, gatePaging, gatePrefix, gatePress, gateSmaller, gateWeights, gateWork,
} from "../../bench/core/gates.ts";
import { LANGUAGES } from "../../bench/core/lang/words.ts";
import type { SpeculationStats } from "../../models/draft.ts";
import type { PressReport } from "../../models/options.ts";

const { en, zh } = LANGUAGES;
const test = suite("gates");

/** Closed in both languages, for the reason that is told. */
function closed(gate: (words: typeof en) => string | null, english: RegExp, chinese: RegExp): void {
  assert.match(gate(en) ?? "open", english);
  assert.match(gate(zh) ?? "open", chinese);
}
function open(gate: (words: typeof en) => string | null): void {
  assert.equal([gate(en), gate(zh)], [null, null]);
}

const report = (evicted: number, events = 1): PressReport => ({
  name: "snapkv", events, evicted, kept: [[10]], seen: 20, freedBytes: 0, ms: 1,
});
const request = (own: PressReport | null, promptTokens = 100, newTokens = 8) => ({ promptTokens, newTokens, report: own });

test("a press must evict something in every request, and while quality is scored", () => {
  open((words) => gatePress([request(report(5)), request(report(1))], {}, words));
  open((words) => gatePress([request(report(5))], { scored: report(3), pruneAfter: 512 }, words));
  closed((words) => gatePress([request(report(5)), request(report(0, 3))], {}, words),
    /^the press acted 3 times on a request of 100 tokens \+ 8 new and evicted nothing$/, /^压缩执行了 3 次.*100.*8.*没有淘汰任何条目$/);
  closed((words) => gatePress([request(null)], {}, words), /acted 0 times/, /执行了 0 次/);
  closed((words) => gatePress([request(report(5))], { scored: report(0) }, words),
    /^while perplexity was measured the press evicted nothing$/, /^测量困惑度时没有淘汰任何条目$/);
  closed((words) => gatePress([request(report(5))], { scored: null }, words), /while perplexity/, /测量困惑度/);
});

test("a press that acts from a length on says when the sample was shorter, and only then", () => {
  closed((words) => gatePress([request(null)], { pruneAfter: 109 }, words),
    /^the sample has 100 tokens \+ 8 new, fewer than prune_after 109: nothing was pruned$/, /少于 prune_after 109/);
  closed((words) => gatePress([request(report(0, 2))], { pruneAfter: 108 }, words), /acted 2 times/, /执行了 2 次/);
});

const drafted = (draftedAt: readonly number[], rounds = Math.max(0, ...draftedAt)): SpeculationStats => ({
  draft: "d", rounds, drafted: draftedAt.reduce((sum, one) => sum + one,
    0), accepted: 0, draftedAt, acceptedAt: [], tokens: rounds, draftMs: 1, verifyMs: 1, hostMs: 0,
});

test("a draft must draft, never more than K, and K itself but where the text ends", () => {
  const three = (kind: "model" | "text" | "self", ...requests: (SpeculationStats | null)[]) => (words: typeof en) => gateDraft(requests,
    { k: 3, kind }, words);
  open(three("model", drafted([10, 10, 10])));
  open(three("model", drafted([10, 8, 7]))); // three rounds at the end were cut
  closed(three("model", drafted([10, 8, 6])), /6 .*10 .*3.*K did not reach the draft$/, /10 轮中只有 6 轮.*K = 3.*K 没有传到草稿$/);
  closed(three("self", drafted([10, 10])), /K did not reach/, /K 没有传到/);
  closed(three("model", drafted([5, 5, 5, 5])), /^a round drafted 4 tokens where K is 3: K did not reach the draft$/,
    /^K 为 3，却有一轮起草了 4 个词元/);
  closed(three("text", drafted([1, 1, 1, 1])), /drafted 4 tokens/, /起草了 4 个/);
  closed(three("model", drafted([9, 9, 9]), null), /^nothing was drafted, so this was plain decoding under another name$/, /^没有起草任何词元/);
  closed(three("model", drafted([9, 9, 9]), drafted([])), /nothing was drafted/, /没有起草/);
});

test("a draft out of the text may find less or nothing in one request, but not in all; a K that adapts is not held to any", () => {
  open((words) => gateDraft([drafted([4, 2]), drafted([])], { k: 5, kind: "text" }, words));
  closed((words) => gateDraft([drafted([]), drafted([])], { k: 5, kind: "text" }, words), /nothing was drafted/, /没有起草/);
  open((words) => gateDraft([drafted([4, 1, 1, 1, 1, 1, 1, 1])], { k: null, kind: "model" }, words));
  closed((words) => gateDraft([], { k: 3, kind: "model" }, words), /nothing was drafted/, /没有起草/);
});

test("weights must be held as asked and take fewer bytes", () => {
  const held = (format: "nf4" | "f16", matrices = 2) => [{ format: "f32" as const, matrices: 1, weights: 10, bytes: 40 },
    { format, matrices, weights: 100, bytes: 60 }];
  open((words) => gateWeights(held("nf4"), "nf4", "four", words));
  closed((words) => gateWeights(held("f16"), "nf4", "four", words), /^four holds no matrix as nf4: the technique did not act$/,
    /^four没有任何矩阵存为 nf4/);
  closed((words) => gateWeights(held("nf4", 0), "nf4", "four", words), /holds no matrix/, /没有任何矩阵/);
  open((words) => gateSmaller("nf4", 1024, 4096, "four", words));
  open((words) => gateSmaller("f32", 4096, 1024, "floats", words));
  closed((words) => gateSmaller("nf4", 4096, 4096, "four", words),
    /^the weights of four take 4\.00 KiB, those of the basic arm 4\.00 KiB: quantization saved nothing$/, /量化没有节省任何空间$/);
});

test("a cache must be smaller, hit, or waste less", () => {
  open((words) => gateEntries("int8", 36, 64, words));
  closed((words) => gateEntries("int8", 64, 64, words),
    /^an entry of the cache takes 64 bytes in int8, 64 in the baseline: quantizing it saved nothing$/, /^int8 的缓存条目占 64 字节/);
  open((words) => gatePrefix(1, words));
  closed((words) => gatePrefix(0, words), /^no prompt token came out of the prefix cache/, /^没有任何提示词词元命中前缀缓存/);
  open((words) => gatePaging(0.1, 0.2, "paged", words));
  for (const [paged, contiguous] of [[0.2, 0.2], [0.3, 0.2], [null, 0.2], [0.1, null]] as const) {
    closed((words) => gatePaging(paged, contiguous, "paged: 20 %", words), /^paged: 20 %: paging saved nothing/, /^paged: 20 %：分页没有节省任何空间/);
  }
});

test("arms must have done the same work", () => {
  const done = (promptTokens: number, newTokens: number) => ({ promptTokens, newTokens });
  open((words) => gateWork([done(5, 3), done(6, 3)], [done(5, 3), done(6, 3)], words));
  closed((words) => gateWork([done(5, 3)], [done(5, 3), done(6, 3)], words),
    /^it ran 1 requests, its baseline 2: they did not do the same work$/, /^它运行了 1 个请求，基线运行了 2 个/);
  closed((words) => gateWork([done(5, 3), done(7, 3)], [done(5, 3), done(6, 3)], words),
    /^request 2 has a prompt of 7 tokens, in the baseline 6/, /^第 2 个请求的提示有 7 个 token，基线为 6 个/);
  closed((words) => gateWork([done(5, 2)], [done(5, 3)], words), /^request 1 wrote 2 tokens, in the baseline 3: .*ignore_eos true\)$/,
    /^第 1 个请求写了 2 个 token，基线写了 3 个.*ignore_eos true）$/);
});

const bars = (scale: object | null, axis = "y", mark: unknown = "bar") => ({ mark,
  encoding: { [axis]: { field: "ms", type: "quantitative", title: "TTFT ms", ...(scale !== null && { scale }) } } });

test("bars stand on zero; points and lines need not", () => {
  for (const scale of [null, {}, { zero: true }, { domain: [0, 10] }, { domain: [-5, 5] },
    { domainMin: 0 }]) open((words) => gateAxes(bars(scale), words));
  for (const axis of ["x", "y"]) {
    closed((words) => gateAxes(bars({ zero: false }, axis), words), /^the bars of "TTFT ms" begin at another place, not at zero/,
      /^“TTFT ms” 的柱形从 别处 开始/);
    closed((words) => gateAxes(bars({ domain: [95, 105] }, axis), words), /begin at 95, not at zero/, /从 95 开始/);
    closed((words) => gateAxes(bars({ domainMin: 0.5 }, axis, { type: "bar", color: "red" }), words), /begin at 0\.5/, /从 0\.5 开始/);
  }
  for (const mark of ["point", { type: "line" }]) open((words) => gateAxes(bars({ domain: [95, 105] }, "y", mark), words));
  open((words) => gateAxes({ mark: "bar", encoding: { y: { field: "arm", type: "nominal", scale: { domain: ["a"] } } } }, words));
});

test("clipped bars are found in layers, rows, columns, facets and what they inherit", () => {
  const good = bars(null), bad = bars({ domain: [3, 9] });
  for (const spec of [
    { layer: [good, bad] }, { hconcat: [good, { vconcat: [good, { concat: [bad] }] }] }, { facet: { field: "arm" },
      spec: { layer: [good, bad] } },
    { repeat: ["a"], spec: bad }, { encoding: bad.encoding, layer: [{ mark: "rule" }, { mark: "bar" }] },
  ]) {
    closed((words) => gateAxes(spec, words), /begin at 3/, /从 3 开始/);
  }
  open((words) => gateAxes({ hconcat: [good, { layer: [good, bars({ domain: [3, 9] }, "y", "line")] }] }, words));
  open((words) => gateAxes({ encoding: bad.encoding, layer: [{ mark: "rule" }, { mark: "bar", encoding: good.encoding }] }, words));
});

test.run();
