/** Windows against the definitions written out token by token, statistics against numbers worked out by hand, and what is refused. No GPU. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { ContextLengthError, UsageError } from "../../engine/errors.ts";
import {
  checkSameVocabulary, completePerplexityOptions, meanOf, perplexityOf, PROTOCOLS, protocolName, textPerplexityOf, windowsOf, type CompletePerplexityOptions,
} from "../../models/perplexity.ts";
import type { PerplexityOptions } from "../../models/options.ts";
import { rejects } from "../support/rejects.ts";

const CONFIG = { bosTokenId: 3, eosTokenIds: [7, 8], vocabSize: 10 };
const complete = (options: PerplexityOptions, config = CONFIG): CompletePerplexityOptions => completePerplexityOptions("perplexity", options, config, 1000);
const windows = (count: number, options: PerplexityOptions): string => windowsOf("perplexity", count, complete(options))
  .map(({ from, scored, to }) => `${from} ${scored} ${to}`).join(", ");

test("strided: windows of L every S, each token once but the first, the last window cut", () => {
  assert.is(windows(10, { context: 4, stride: 2 }), "0 1 4, 2 4 6, 4 6 8, 6 8 10");
  assert.is(windows(11, { context: 4, stride: 3 }), "0 1 4, 3 4 7, 6 7 10, 9 10 11");
  assert.is(windows(8, { context: 4 }), "0 1 4, 4 5 8"); // disjoint: the first of each window is only read
  assert.is(windows(9, { context: 4 }), "0 1 4, 4 5 8"); // a last window of one token scores nothing
  assert.is(windows(4, { context: 4, stride: 1 }), "0 1 4");
  for (const [count, context, stride] of [[57, 8, 3], [64, 16, 1], [33, 5, 4]] as const) {
    const scored = windowsOf("perplexity", count, complete({ context, stride })).flatMap(({ scored, to }) => Array.from({ length: to - scored }, (_, i) => scored + i));
    assert.equal(scored, Array.from({ length: count - 1 }, (_, i) => 1 + i));
  }
});

test("llama.cpp: whole windows, scored behind the token in the middle", () => {
  // llama-perplexity counts n_ctx − n_ctx / 2 − 1 tokens of each of ⌊tokens / n_ctx⌋ chunks.
  assert.is(windows(20, { protocol: "llama.cpp", context: 8 }), "0 5 8, 8 13 16");
  assert.is(windows(15, { protocol: "llama.cpp", context: 5 }), "0 3 5, 5 8 10, 10 13 15");
});

test("lm-eval-rolling: every token once, from the prefix on; the last window is filled up with earlier tokens", () => {
  // Positions count the prefix: token t of the text is t + 1.
  assert.is(windows(8, { protocol: "lm-eval-rolling", context: 4 }), "0 1 5, 4 5 9");
  assert.is(windows(10, { protocol: "lm-eval-rolling", context: 4 }), "0 1 5, 4 5 9, 6 9 11");
  assert.is(windows(3, { protocol: "lm-eval-rolling", context: 4 }), "0 1 4");
  assert.is(windows(1, { protocol: "lm-eval-rolling", context: 4 }), "0 1 2");
  assert.is(complete({ protocol: "lm-eval-rolling" }).prefixToken, 3);
  assert.is(complete({ protocol: "lm-eval-rolling" }, { ...CONFIG, bosTokenId: null } as never).prefixToken, 7);
  assert.is(complete({ protocol: "lm-eval-rolling", prefixToken: 0 }).prefixToken, 0);
  assert.is(complete({ protocol: "decode" }).prefixToken, null);
});

test("decode: as strided without overlap; maxWindows takes the first", () => {
  assert.is(windows(11, { protocol: "decode", context: 4 }), "0 1 4, 4 5 8, 8 9 11");
  assert.is(windows(11, { protocol: "decode", context: 4, maxWindows: 2 }), "0 1 4, 4 5 8");
  assert.is(windows(100, { protocol: "llama.cpp", context: 8, maxWindows: 1 }), "0 5 8");
});

test("defaults and names", () => {
  const { protocol, context, stride, maxWindows } = complete({});
  assert.equal([protocol, context, stride, maxWindows], ["strided", 512, 512, Infinity]);
  assert.is(completePerplexityOptions("perplexity", {}, CONFIG, 64).context, 64);
  assert.equal([{ protocol, context, stride }, { protocol: "llama.cpp", context: 8 } as const].map(protocolName), ["hf-strided(512, 512)", "llama.cpp(8)"]);
});

test("what cannot be measured is refused, in one line that says why", () => {
  const cases: [unknown, RegExp, (typeof UsageError)?][] = [
    [{ protocol: "hf" }, /^perplexity: protocol must be one of strided, llama\.cpp, lm-eval-rolling, decode, prefill-continue, got "hf"$/],
    [{ context: 1001 }, /context is 1001, but maxModelLen is 1000: lower context/, ContextLengthError],
    [{ context: 1 }, /context must be a whole number from 2 \(protocol strided\), got 1/],
    [{ protocol: "llama.cpp", context: 2 }, /context must be a whole number from 3 \(protocol llama\.cpp\), got 2/],
    [{ context: 8.5 }, /context must be a whole number/], [{ context: "8" }, /context must be a whole number/], [{ context: NaN }, /context must be a whole number/],
    [{ context: 8, stride: 9 }, /stride is 9, but context is 8: tokens between the windows would never be scored/],
    [{ stride: 0 }, /stride must be a whole number from 1 .*, got 0/],
    [{ protocol: "decode", stride: 4 }, /stride has no effect under protocol decode/],
    [{ prefixToken: 1 }, /prefixToken has no effect under protocol strided/],
    [{ protocol: "lm-eval-rolling", prefixToken: 10 }, /prefixToken 10 is not an id from 0 to 9/],
    [{ maxWindows: 0 }, /maxWindows must be a whole number from 1 .*, got 0/],
    [{ continuation: 3 }, /continuation has no effect under protocol strided: leave it out, or take protocol prefill-continue/],
    [{ protocol: "prefill-continue", continuation: 0 }, /continuation must be a whole number from 1 .*, got 0/],
    [{ protocol: "prefill-continue", context: 900, continuation: 101 }, /context and continuation are 900 \+ 101, but maxModelLen is 1000/, ContextLengthError],
    [{ windows: 3 }, /unknown option windows/], [{ contxt: 3 }, /unknown option contxt; did you mean context\?/],
    [{ signal: 1 }, /signal must be an AbortSignal/], [{ onProgress: 1 }, /onProgress must be a function/], [null, /options must be an object/],
  ];
  for (const [options, message, type = UsageError] of cases) {
    assert.throws(() => complete(options as PerplexityOptions), (error: Error) => error instanceof type && message.test(error.message) && !error.message.includes("\n"), JSON.stringify(options));
  }
  assert.throws(() => complete({ protocol: "lm-eval-rolling" }, { ...CONFIG, bosTokenId: null, eosTokenIds: [] } as never), /neither a BOS nor an EOS token/);
  for (const protocol of PROTOCOLS.filter((name) => name !== "lm-eval-rolling")) {
    assert.throws(() => windows(7, { protocol, context: 8 }), /^perplexity: 7 tokens are fewer than one window of 8: give a longer text or lower context$|fewer/);
  }
});

test("means and their errors, by hand", () => {
  const { mean, error, errorOverWindows } = meanOf([1, 2, 3, 6], [2, 2]);
  assert.is(mean, 3);
  assert.ok(Math.abs(error! - Math.sqrt((4 + 1 + 0 + 9) / 4 / 3)) < 1e-12); // llama.cpp: √((E[x²] − E[x]²) / (n − 1))
  assert.ok(Math.abs(errorOverWindows! - Math.sqrt(2 * (9 + 9)) / 4) < 1e-12); // deviations of the windows: −3 and 3
  // Windows of one token each: the same error twice.
  const alone = meanOf([1, 2, 3, 6], [1, 1, 1, 1]);
  assert.ok(Math.abs(alone.error! - alone.errorOverWindows!) < 1e-12);
  assert.equal(meanOf([5], [1]), { mean: 5, error: null, errorOverWindows: null });
  assert.throws(() => meanOf([], []), /no values/);
  assert.throws(() => meanOf([1, 2], [1]), /2 values, but windows of 1/);
});

test("the result of a measurement: weighted by tokens, the error of the perplexity by the delta method", () => {
  const scores = { nlls: new Float32Array([1, 2, 3, 6]), hits: new Uint8Array([1, 0, 0, 0]), tokensPerWindow: [3, 1], presses: [] };
  const result = perplexityOf(scores, complete({ context: 4, stride: 1 }));
  assert.equal([result.tokens, result.windows, result.meanNll, result.accuracy, result.context, result.stride], [4, 2, 3, 0.25, 4, 1]);
  assert.ok(Math.abs(result.perplexity - Math.exp(3)) < 1e-12 && Math.abs(result.perplexityError! - Math.exp(3) * result.standardError!) < 1e-12);
});

test("words are counted as lm-eval counts them, bytes as UTF-8", () => {
  const text = " a é\n\nb ", nlls = new Float32Array([2, 4]);
  const { words, bytes, wordPerplexity, bytePerplexity, bitsPerByte } = textPerplexityOf(nlls, text);
  assert.equal([words, bytes], [5, 9]); // re.split gives an empty word before and after
  assert.ok(Math.abs(wordPerplexity - Math.exp(6 / 5)) < 1e-12 && Math.abs(bytePerplexity - Math.exp(6 / 9)) < 1e-12);
  assert.ok(Math.abs(2 ** bitsPerByte - bytePerplexity) < 1e-12);
});

test("models whose token ids mean different things are not compared, and both are named", async () => {
  const model = (id: string, vocabSize: number, letter: string, kind: "tokenizer.json" | "none" = "tokenizer.json") => ({
    config: { vocabSize }, source: { id }, tokenizer: { kind, decode: async (ids: readonly number[]) => ids.map((token) => `${letter}${token}`).join("") },
  });
  await rejects(checkSameVocabulary("divergence", model("A", 4, "x"), model("B", 5, "x")), UsageError, /^divergence: A and B cannot be compared: their vocabularies have 4 and 5 tokens$/);
  await rejects(checkSameVocabulary("divergence", model("A", 4, "x"), model("B", 4, "y")), UsageError, /A and B cannot be compared: the same token ids are different text/);
  await checkSameVocabulary("divergence", model("A", 4, "x"), model("B", 4, "x"));
  await checkSameVocabulary("divergence", model("A", 4, "x"), model("B", 4, "y", "none"));
});

test.run();
