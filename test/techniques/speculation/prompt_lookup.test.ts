/** Prompt lookup against a scan of the whole text. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { promptLookup } from "../../../techniques/speculation/prompt_lookup.ts";
import { uniform } from "../../support/gpu.ts";

/** The definition: the longest n-gram first, then the first place from the left that has something behind it. */
function scan(tokens: readonly number[], k: number, ngram: number): readonly number[] {
  for (let n = ngram; n >= 1; n--) {
    const wanted = tokens.slice(-n);
    if (wanted.length < n) continue;
    for (let start = 0; start + n < tokens.length; start++) {
      if (wanted.every((token, i) => tokens[start + i] === token)) return tokens.slice(start + n, start + n + k);
    }
  }
  return [];
}

test("by hand", () => {
  const lookup = (tokens: readonly number[], k: number, ngram = 3): readonly number[] => promptLookup({ ngram }).propose(tokens, k);
  assert.equal(lookup([1, 2, 3, 4, 5, 1, 2, 3], 3), [4, 5, 1], "behind the match, into the match's own copy");
  assert.equal(lookup([1, 2, 3, 4, 9, 2, 3, 5, 9, 9, 2, 3], 1), [5], "9 2 3 stands only once before, 2 3 twice");
  assert.equal(lookup([1, 2, 3, 4, 7, 2, 3, 5, 9, 9, 2, 3], 1, 2), [4], "of two places the first");
  assert.equal(lookup([7, 7], 5), [7], "the text ends one token behind the match");
  assert.equal(lookup([7, 7, 7, 7], 5), [7], "so also here: 7 7 7 before the last");
  assert.equal(lookup([1, 2, 3], 5), [], "nothing stood before");
  assert.equal(lookup([1], 5), []);
  assert.equal(lookup([], 5), []);
  assert.is(promptLookup().name, "prompt-lookup");
});

test("as a scan does, while a text grows by rounds", () => {
  const random = uniform(7);
  let found = 0;
  for (let text = 0; text < 150; text++) {
    const [vocab, ngram, k] = [2 + Math.floor(random() * (text % 2 === 0 ? 4 : 40)), 1 + (text % 5), 1 + Math.floor(random() * 8)];
    const draft = promptLookup({ ngram });
    const tokens = Array.from({ length: Math.floor(random() * 30) }, () => Math.floor(random() * vocab));
    while (tokens.length < 160) {
      const proposed = draft.propose(tokens, k), expected = scan(tokens, k, ngram);
      assert.equal(proposed, expected, `text ${text} at ${tokens.length}`);
      assert.equal(draft.propose([...tokens], k), expected, "and again");
      assert.ok(proposed.length <= k);
      found += Number(proposed.length > 0);
      for (let more = 1 + Math.floor(random() * 5); more > 0; more--) {
        tokens.push(proposed[0] !== undefined && random() < 0.5 ? proposed[0] : Math.floor(random() * vocab));
      }
    }
  }
  assert.ok(found > 1000);
});

test("large ids, and a text that is not the last one's continuation", () => {
  const draft = promptLookup({ ngram: 2 });
  const large = [151_935, 3, 2 ** 21 - 1, 8, 151_935, 3];
  assert.equal(draft.propose(large, 4), [2 ** 21 - 1, 8, 151_935, 3]);
  assert.equal(draft.propose([5, 6, 5], 4), [6, 5], "shorter");
  assert.equal(draft.propose([9, 6, 1, 9, 6], 4), [1, 9, 6], "longer, with other tokens");
});

test("a call takes time for what is new, not for the text", () => {
  const random = uniform(2), draft = promptLookup();
  const text = Array.from({ length: 60_000 }, () => Math.floor(random() * 30_000));
  const timeOf = (tokens: readonly number[]): number => {
    const start = performance.now();
    draft.propose(tokens, 5);
    return performance.now() - start;
  };
  const first = timeOf(text);
  const rounds = Array.from({ length: 50 }, () => {
    text.push(Math.floor(random() * 30_000), Math.floor(random() * 30_000));
    return timeOf(text);
  }).sort((a, b) => a - b);
  assert.ok(rounds[25]! < first / 20, `${rounds[25]} ms a round, ${first} ms for the text`);
});

test.run();
