/** Statistics of a divergence against llama-perplexity's formulas written out, and the flags, texts and reports of the command. No GPU. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { loadOptionsOf, perplexityConfig, perplexityOptionsOf, readText } from "../../bench/core/perplexity/options.ts";
import { qualityOf } from "../../bench/core/quality.ts";
import { near, uniform } from "../support/gpu.ts";

const test = suite("quality");

function made(count: number, seed: number) {
  const random = uniform(seed);
  const draw = (scale: number): Float32Array => Float32Array.from({ length: count }, () => scale * random());
  const toss = (share: number): Uint8Array => Uint8Array.from({ length: count }, () => Number(random() < share));
  const baseNlls = draw(6), noise = draw(0.4);
  return { nlls: baseNlls.map((nll, i) => nll + noise[i]! - 0.1), baseNlls, klds: draw(0.2), sameTop: toss(0.9), hits: toss(0.3), baseHits: toss(0.35) };
}

test("figures and errors as llama-perplexity has them", () => {
  const data = made(200, 1), n = 200;
  const got = qualityOf({ ...data, tokens: n, windows: 4, tokensPerWindow: [50, 50, 60, 40] });
  const mean = (f: (i: number) => number): number => Array.from({ length: n }, (_, i) => f(i)).reduce((a, b) => a + b, 0) / n;
  const covariance = (a: (i: number) => number, b: (i: number) => number): number => (mean((i) => a(i) * b(i)) - mean(a) * mean(b)) / (n - 1);
  const q = (i: number): number => data.nlls[i]!, p = (i: number): number => data.baseNlls[i]!;
  // The error of the ratio there comes from both variances and the covariance.
  const logError = Math.sqrt(covariance(q, q) + covariance(p, p) - 2 * covariance(q, p)), ratio = Math.exp(mean(q) - mean(p));
  const same = mean((i) => data.sameTop[i]!), change = (i: number): number => Math.exp(-q(i)) - Math.exp(-p(i));
  near([
    got.perplexity.value, got.perplexity.error!, got.basePerplexity.value, got.basePerplexity.error!, got.logRatio.mean, got.logRatio.error!, got.ratio.value, got.ratio.error!,
    got.kld.mean, got.kld.error!, got.sameTop.mean, got.sameTop.error!, got.probabilityChange.mean, got.probabilityChange.error!, got.probabilityChange.rms,
  ], [
    Math.exp(mean(q)), Math.exp(mean(q)) * Math.sqrt(covariance(q, q)), Math.exp(mean(p)), Math.exp(mean(p)) * Math.sqrt(covariance(p, p)),
    mean(q) - mean(p), logError, ratio, ratio * logError, mean((i) => data.klds[i]!), Math.sqrt(covariance((i) => data.klds[i]!, (i) => data.klds[i]!)),
    same, Math.sqrt((same * (1 - same)) / (n - 1)), mean(change), Math.sqrt(covariance(change, change)), Math.sqrt(mean((i) => change(i) ** 2)),
  ], { relative: 1e-9 }, "figures");
  const sorted = [...data.klds].sort((a, b) => a - b), at = (place: number): number => sorted[Math.floor(place)]! + (place % 1) * (sorted[Math.ceil(place)]! - sorted[Math.floor(place)]!);
  near([got.kld.median, got.kld.p90, got.kld.p99, got.kld.max], [at(99.5), at(179.1), at(197.01), sorted[199]!], { relative: 1e-9 }, "percentiles");
  assert.equal([got.accuracy.mean, got.baseAccuracy.mean, got.tokens, got.windows], [mean((i) => data.hits[i]!), mean((i) => data.baseHits[i]!), n, 4]);
  assert.ok(got.kld.errorOverWindows! > 0 && got.kld.errorOverWindows !== got.kld.error);
});

test("equal models: a ratio of 1 and a share of 1 without error; one token has figures and no errors", () => {
  const { nlls } = made(20, 2), ones = new Uint8Array(20).fill(1), none = new Float32Array(20);
  const equal = qualityOf({ nlls, baseNlls: nlls, klds: none, sameTop: ones, hits: ones, baseHits: ones, tokens: 20, windows: 2, tokensPerWindow: [10, 10] });
  assert.equal([equal.ratio, equal.sameTop.mean, equal.sameTop.error, equal.kld.mean, equal.kld.max], [{ value: 1, error: 0 }, 1, 0, 0, 0]);
  const one = (value: number): Float32Array => new Float32Array([value]), hit = new Uint8Array([1]);
  const single = qualityOf({ nlls: one(1), baseNlls: one(2), klds: one(0.5), sameTop: hit, hits: hit, baseHits: hit, tokens: 1, windows: 1, tokensPerWindow: [1] });
  assert.equal([single.ratio.error, single.kld.error, single.kld.errorOverWindows, single.kld.p99], [null, null, null, 0.5]);
  assert.throws(() => qualityOf({ nlls: one(1).subarray(1), baseNlls: none, klds: none, sameTop: hit, hits: hit, baseHits: hit, tokens: 0, windows: 0, tokensPerWindow: [] }), /no values/);
});

test("flags: defaults, the library's options, and every problem at once", () => {
  const config = perplexityConfig({});
  assert.equal([config.model, config.weights, config.kv, config.protocol, config.text, config.base, config.json], ["tiny-neox", "auto", "f16", "strided", "persuasion", null, null]);
  assert.equal(perplexityOptionsOf(config), { protocol: "strided" });
  const full = perplexityConfig({ protocol: "hf-strided", context: "64", stride: "32", maxWindows: "3", weights: "nf4", kv: "int8", baseWeights: "f32", kvMemory: "1MiB" });
  assert.equal(perplexityOptionsOf(full), { protocol: "strided", context: 64, stride: 32, maxWindows: 3 });
  assert.equal(loadOptionsOf(full, full), { weights: "nf4", kv: "int8", adapter: "auto", prefixCache: false, kvMemory: 1 << 20 });
  assert.equal(full.base, { weights: "f32", kv: "f32" });
  const wrong = { protocol: "strided", context: "0", weights: "q4", maxWindows: "1.5", baseKv: "f16" };
  assert.throws(() => perplexityConfig(wrong), (error: Error) => {
    const lines = error.message.split("\n");
    return lines.length === 5 && [
      "--protocol: expected one of hf-strided, llama.cpp, lm-eval-rolling, decode, got \"strided\"", "--context: expected", "--weights: expected one of auto, f32",
      "--max-windows: expected", "--base-kv: has no effect without --base-weights",
    ].every((start) => lines.some((line) => line.startsWith(start)));
  });
  assert.throws(() => perplexityConfig({ protocol: "decode", stride: "4" }), /--stride: has no effect under decode/);
  assert.throws(() => perplexityConfig({ context: "8", stride: "9" }), /--stride: is 9, but --context is 8/);
});

test("texts: bundled, a file, and what cannot be read as one", () => {
  const folder = mkdtempSync(join(tmpdir(), "dawnlm-text-"));
  const text = (name: string): string => readText(perplexityConfig({ text: name }));
  try {
    assert.match(text("persuasion"), /Anne/);
    assert.ok(text("sotu").length > 900_000);
    writeFileSync(join(folder, "a.txt"), "Grüße");
    assert.is(text(join(folder, "a.txt")), "Grüße");
    writeFileSync(join(folder, "bad.txt"), Buffer.from([0x41, 0xff, 0xfe]));
    writeFileSync(join(folder, "empty.txt"), " \n");
    for (const [name, why] of [
      [join(folder, "bad.txt"), /bad\.txt: is not UTF-8 text$/], [join(folder, "empty.txt"), /empty\.txt: is empty$/], [folder, /is a folder$/],
      [join(folder, "none.txt"), /no such file; the bundled texts are persuasion and sotu$/],
    ] as const) assert.throws(() => text(name), why);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
