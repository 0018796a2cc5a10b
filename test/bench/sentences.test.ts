/**
 * The sentences of a verdict: nothing of an arm that failed a gate but that it did, quality before speed, a difference only where it is
 * measurable, each with the figures that let it through, in both languages.
 */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { en } from "../../bench/core/lang/en.ts";
import { zh } from "../../bench/core/lang/zh.ts";
import type { Result, ResultArm } from "../../bench/core/result.ts";
import { headlineOf, invalidOf, labelOf, verdictOf, withError } from "../../bench/core/sentences.ts";
import { FAKE_ARMS, fakeQuality, fakeResult, LOSSLESS, LOSSY, sweepArms, type FakeArm } from "../support/results.ts";

const test = suite("sentences");
const DIFFERS = /faster|slower|earlier|later|longer|less time/;

const textsOf = (result: Result, name: string, words = en): string[] =>
  verdictOf(result, words).find(({ arm }) => arm === name)!.sentences.map(({ text }) => text);
/** A group of its own: baseline, control and the arms given. */
const group = (...arms: readonly FakeArm[]): FakeArm[] =>
  [{ name: "none", role: "baseline", quality: fakeQuality(null) }, { name: "none again", role: "control", proof: LOSSLESS }, ...arms];
const withArm = (result: Result, name: string, change: Partial<ResultArm>): Result => ({ ...result,
  arms: result.arms.map((arm) => (arm.name === name ? { ...arm, ...change } : arm)) });

test("an arm that failed a gate, or wrote another text, gets one sentence and no figure of speed", () => {
  const result = fakeResult({ status: "invalid" });
  for (const [name, why] of [["wikitext-2 knorm 0.0", "nothing was evicted"], ["wikitext-2 broken draft", "3 of 28 texts"]] as const) {
    for (const words of [en, zh]) {
      const texts = textsOf(result, name, words);
      assert.is(texts.length, 1);
      assert.ok(texts[0]!.startsWith(words.invalid) && texts[0]!.includes(why), texts[0]);
    }
    assert.not.match(textsOf(result, name)[0]!, DIFFERS);
  }
});

test("without a baseline that holds there is nothing to say of its group, but of the others there is", () => {
  for (const role of ["baseline", "control"] as const) {
    const base = FAKE_ARMS.find((arm) => arm.role === role && arm.group === "wikitext-2")!;
    const result = withArm(fakeResult(), base.name, { invalid: "it ran 3 requests" });
    for (const { arm, group: own, invalid, sentences } of verdictOf(result, en)) {
      const isTold = own === "pg-19" || (arm !== base.name && result.arms.find(({ name }) => name === arm)!.role !== "technique");
      assert.is(invalid === null, isTold, arm);
      if (!isTold) assert.is(sentences.length, 1);
    }
  }
});

test("a run that is invalid as a whole says nothing of any arm; an interrupted one concludes nothing", () => {
  const arms = group({ name: "fast", speed: 2, proof: LOSSLESS });
  const invalid = fakeResult({ arms, status: "invalid" }), stopped = fakeResult({ arms, status: "interrupted", iterations: 6 });
  for (const result of [invalid, stopped]) {
    const [first, ...rest] = headlineOf(result, en);
    assert.match(first!.text, result === invalid ? /^INVALID/ : /^INTERRUPTED/);
    assert.not.match([first, ...rest].map((one) => one!.text).join(" "), DIFFERS);
    for (const { sentences } of verdictOf(result, en)) {
      assert.is(sentences.length, 1);
      assert.not.match(sentences[0]!.text, DIFFERS);
    }
  }
  assert.match(verdictOf(stopped, en)[2]!.sentences[0]!.backing, /after 6 measured iterations/);
});

test("a difference is told exactly where it is measurable, whatever the seed, the noise and the truth", () => {
  let told = 0, untold = 0;
  for (let seed = 1; seed <= 12; seed++) {
    for (const speed of [0.9, 1, 1.01, 1.04, 1.3]) {
      const result = fakeResult({ seed, noise: 0.02, arms: group({ name: "arm", speed, proof: LOSSLESS }) }), [, , arm] = result.arms;
      const texts = textsOf(result, "arm");
      const claimed = (["output_tokens_per_s", "ttft_ms", "tpot_ms"] as const).filter((key) => arm!.differences[key]!.measurable).length;
      assert.is(texts.filter((text) => DIFFERS.test(text)).length, claimed, texts.join("\n"));
      assert.is(texts.filter((text) => text.includes(en.noDifference)).length, 3 - claimed);
      told += claimed;
      untold += 3 - claimed;
    }
  }
  assert.ok(told > 20 && untold > 50, `${told}, ${untold}`);
});

test("too few iterations are said to be too few; a metric that is missing says why", () => {
  const result = fakeResult({ iterations: 4, arms: group({ name: "arm", speed: 2, proof: LOSSLESS, missing: { tpot_ms: "oneToken" } }) });
  const texts = textsOf(result, "arm");
  assert.is(texts.filter((text) => text.includes(en.tooFew)).length, 2);
  assert.ok(texts.some((text) => text.startsWith("TPOT") && text.includes(en.missing.oneToken)));
  assert.not.match(texts.join(" "), DIFFERS);
  assert.match(headlineOf(result, en)[0]!.text, /too few iterations/);
});

test("quality comes before speed: equality of a lossless arm, perplexity with its error of a lossy one, and that it was not measured",
  () => {
  const result = fakeResult({
    arms: group(
      { name: "lossless", speed: 1.3, proof: LOSSLESS }, { name: "lossy", speed: 1.3, proof: LOSSY, quality: fakeQuality(1.9) },
        { name: "free", speed: 1.3, proof: LOSSY, quality: fakeQuality(0.5) },
      { name: "better", speed: 1.3, proof: LOSSY, quality: fakeQuality(-3) }, { name: "unmeasured", speed: 1.3, proof: LOSSY },
        { name: "unchecked", speed: 1.3 },
    ),
  });
  const first: Readonly<Record<string, RegExp>> = {
    lossless: /^Lossless: all 28 greedy texts/, lossy: /^Perplexity is 1\.90 ± 0\.40 % higher than that of none/,
    free: /^Perplexity: no measurable difference \(\+0\.50 ± 0\.40 %\)/,
    better: /^Perplexity is 3\.00 ± 0\.40 % lower/, unmeasured: /^What it costs in quality was not measured/,
    unchecked: /^Neither its texts nor its quality/,
  };
  for (const [name, pattern] of Object.entries(first)) {
    const texts = textsOf(result, name), speed = texts.findIndex((text) => DIFFERS.test(text));
    assert.match(texts[0]!, pattern);
    assert.ok(speed > 0, name);
    assert.ok(texts.slice(speed).every((text) => !/erplexity|KLD|likeliest|Lossless/.test(text)), name);
  }
});

test("what backs a difference: medians, pairs, the interval and where the noise floor comes from", () => {
  const result = fakeResult({ arms: group({ name: "arm", speed: 1.3, proof: LOSSLESS }) }), arm = result.arms[2]!,
    change = arm.differences.output_tokens_per_s!;
  const { text, backing } = verdictOf(result, en)[2]!.sentences.find((one) => DIFFERS.test(one.text))!;
  assert.is(text, `arm is ${change.median.toFixed(1)} % faster than none (output throughput).`);
  for (const part of ["median of 7 paired iterations", `+${change.low.toFixed(1)} %`, `+${change.high.toFixed(1)} %`,
    `noise floor ${change.noise.toFixed(1)} %`, "Gate open"]) assert.ok(backing.includes(part), `${part}: ${backing}`);
  const equal = result.arms[1]!.differences.output_tokens_per_s!,
    isEqualArms = Math.max(Math.abs(equal.low), Math.abs(equal.high)) === change.noise;
  assert.is(backing.includes("A/A"), isEqualArms);
});

test("the baseline against itself is a floor, never faster or slower, however far apart the two lie", () => {
  const result = fakeResult({ arms: [{ name: "none", role: "baseline" },
    { name: "none again", role: "control", speed: 1.5, proof: LOSSLESS }] });
  assert.ok(result.arms[1]!.differences.output_tokens_per_s!.measurable);
  assert.not.match(textsOf(result, "none again").join(" "), DIFFERS);
  assert.not.match(headlineOf(result, en).map(({ text }) => text).join(" "), DIFFERS);
});

test("memory is arithmetic, and says so", () => {
  const result = fakeResult({ arms: group({ name: "less", proof: LOSSLESS, kv: 0.5 }, { name: "more", proof: LOSSLESS, kv: 2 }) });
  assert.ok(textsOf(result, "less").some((text) =>
    /154\.5 MiB .* 12\.0 MiB \(7\.2 %\) less than none \(arithmetic of the ledger\)/.test(text)));
  assert.ok(textsOf(result, "more").some((text) => /24\.0 MiB \(14\.4 %\) more/.test(text)));
  assert.not.match(textsOf(withArm(result, "less", { memory: null }), "less").join(" "), /MiB/);
});

test("the headline: the fastest valid arm of every group with what it costs, or that none is faster", () => {
  const sweep = headlineOf(fakeResult({ arms: sweepArms() }), en);
  assert.is(sweep.length, 1);
  assert.match(sweep[0]!.text, /wikitext-2: draft-70m K=5 is fastest, \d\d\.\d % faster than plain, with the same texts\.\npg-19: draft-70m K=/);
  const broken = fakeResult({ arms: sweepArms(), status: "invalid" });
  const [first, second] = headlineOf(withArm(broken, "wikitext-2 draft-70m K=5", { invalid: "nothing was drafted" }), en);
  assert.match(first!.text, /^INVALID: wikitext-2 draft-70m K=5 \(nothing was drafted\)/);
  assert.match(second!.text, /wikitext-2: draft-70m K=(?!5)\d is fastest/);
  const slow = headlineOf(fakeResult({ arms: group({ name: "a", speed: 0.7 }, { name: "b", speed: 0.9 }, { name: "c" }) }), en);
  assert.match(slow[0]!.text, /^None of 3 valid arms is measurably faster than none \(2 measurably slower\)\.$/);
  assert.match(headlineOf(fakeResult({ arms: group({ name: "a", speed: 0.7 }) }), en)[0]!.text, /^a is \d\d\.\d % slower than none\.$/);
  assert.match(headlineOf(fakeResult({ arms: group({ name: "a" }) }), en)[0]!.text,
    /^a against none: no measurable difference in output throughput\.$/);
  assert.match(headlineOf(fakeResult({ arms: group({ name: "a", speed: 1.5, proof: LOSSY }) }), en)[0]!.text, /its quality not measured/);
  assert.equal(headlineOf(fakeResult({ arms: [{ name: "alone", role: "baseline" }] }), en).map(({ text }) => text), [en.page.alone]);
});

test("Chinese says as much as English, of every arm", () => {
  const result = fakeResult({ status: "invalid" });
  assert.equal(verdictOf(result, zh).map(({ sentences }) => sentences.length),
    verdictOf(result, en).map(({ sentences }) => sentences.length));
  assert.is(headlineOf(result, zh).length, headlineOf(result, en).length);
  for (const { text, backing } of verdictOf(result, zh).flatMap(({ sentences }) => sentences)) assert.ok(/[\u4e00-\u9fff]/.test(text)
    && /[\u4e00-\u9fff]/.test(backing), text);
});

test("names within a group, figures with as many digits as their error", () => {
  assert.equal([["a: b", "a"], ["a · b", "a"], ["b", "a"], ["a", "a"],
    ["a b", ""]].map(([name, of]) => labelOf({ name: name!, group: of! })), ["b", "b", "b", "a", "a b"]);
  assert.equal([[0.1077, 0.002], [31.4, 1.2], [5, null], [0.5, 0]].map(([value, error]) => withError({ value: value!, error: error! })),
    ["0.1077 ± 0.0020", "31.4 ± 1.2", "5.00", "0.50"]);
  assert.is(invalidOf(fakeResult(), fakeResult().arms[2]!, en), null);
});

test.run();
