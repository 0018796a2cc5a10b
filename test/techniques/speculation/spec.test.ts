/** Drafts as plain data: what is completed, what is refused and with which words. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../../engine/errors.ts";
import { WEIGHT_FORMATS } from "../../../kernels/formats.ts";
import type { DraftOptions } from "../../../models/draft.ts";
import { checkK, draftKindOf, draftOptionsOf, DRAFTS, selfFormatOf } from "../../../techniques/speculation/spec.ts";

function refused(make: () => unknown, ...words: readonly string[]): void {
  try {
    make();
  } catch (error) {
    assert.instance(error, UsageError);
    const { message } = error as Error;
    for (const word of words) assert.ok(message.includes(word), `${JSON.stringify(word)} is not in: ${message}`);
    return;
  }
  assert.unreachable(`nothing was refused: ${words.join(", ")}`);
}

test("completed", () => {
  assert.equal(draftOptionsOf({ model: "tiny-neox-draft" }), { model: "tiny-neox-draft", k: 5 });
  const whole = { model: "EleutherAI/pythia-70m", k: "adaptive", weights: "int8" } as const;
  assert.equal(draftOptionsOf(whole), whole);
  assert.equal(draftOptionsOf({ model: "prompt-lookup", k: 16 }), { model: "prompt-lookup", k: 16, ngram: 3 });
  assert.equal(draftOptionsOf({ model: "Prompt_Lookup", ngram: 1 }), { model: "prompt-lookup", k: 5, ngram: 1 });
  assert.equal(draftOptionsOf({ model: "SELF:NF4", k: 1 }), { model: "self:nf4", k: 1 });
  assert.equal(draftOptionsOf({ model: "./Prompt_Lookup" }), { model: "./Prompt_Lookup", k: 5 }, "paths keep their spelling");
  for (const options of [{ model: "prompt-lookup", k: 3 }, { model: "self:int8" }, { model: "a/b", weights: "f16" }] as const) {
    assert.equal(draftOptionsOf(draftOptionsOf(options)), draftOptionsOf(options), "once is enough");
  }
});

test("kinds", () => {
  const kinds = { "prompt-lookup": "text", "self:nf4": "self", "tiny-neox-draft": "model", "/models/self:nf4": "model" };
  for (const [model, kind] of Object.entries(kinds)) assert.is(draftKindOf({ model }), kind);
  for (const format of WEIGHT_FORMATS) assert.is(selfFormatOf(draftOptionsOf({ model: `self:${format}` })), format);
  assert.is(selfFormatOf({ model: "prompt-lookup" }), null);
});

test("refused, with what is allowed", () => {
  for (const k of [0, -1, 17, 1.5, NaN, Infinity, "5", null]) {
    refused(() => draftOptionsOf({ model: "a", k } as DraftOptions), "draft: k must be a whole number from 1 to 16", String(k));
  }
  refused(() => draftOptionsOf({ model: "a", k: 0 }), "draft: null");
  refused(() => draftOptionsOf({ model: "a", k: "adaptve" } as unknown as DraftOptions), "did you mean adaptive?");
  refused(() => draftOptionsOf({ model: "self:nf5" }), '"self:nf5" names no format of weights', "did you mean nf4?", "self:int8");
  for (const model of ["self", "self:"]) refused(() => draftOptionsOf({ model }), "names no format", "self:nf4");
  for (const ngram of [0, -2, 1.5, 17, "3"]) {
    refused(() => draftOptionsOf({ model: "prompt-lookup", ngram } as DraftOptions), "ngram must be a whole number from 1 to 16");
  }
  refused(() => draftOptionsOf({ model: "prompt-lookup", weights: "nf4" }), "weights has no effect with prompt-lookup");
  refused(() => draftOptionsOf({ model: "self:nf4", weights: "nf4" }), "weights has no effect with self:nf4");
  refused(() => draftOptionsOf({ model: "tiny-neox-draft", ngram: 2 }), "ngram has no effect with tiny-neox-draft");
  refused(() => draftOptionsOf({ model: "a", weights: "nf5" } as unknown as DraftOptions), "weights must be one of auto", "mean nf4?");
  refused(() => draftOptionsOf({ model: "a", ngrm: 2 } as DraftOptions), '"ngrm"', "did you mean ngram?");
  for (const model of [undefined, "", "  ", 7, null]) {
    refused(() => draftOptionsOf({ model } as unknown as DraftOptions), "needs a model", "prompt-lookup");
  }
  for (const options of [null, undefined, "prompt-lookup", ["prompt-lookup"]]) {
    refused(() => draftOptionsOf(options as unknown as DraftOptions), "draft must be an object");
  }
  const wrong = { model: "prompt-lookup", k: 99, ngram: 0, weights: "f16", size: 1 } as DraftOptions;
  refused(() => draftOptionsOf(wrong), "k must be", "ngram must be", "weights has no effect", '"size"');
});

test("a K by itself", () => {
  for (const k of [1, 16, "adaptive"]) checkK(k);
  refused(() => checkK(17, "generate: draft"), "generate: draft: k must be", "17");
});

test("what the models are told", () => {
  const costs = { decodeMs: 10, draftMs: 1, verifyMs: new Array<number>(17).fill(10), context: 128 };
  assert.is(DRAFTS.check({ model: "tiny-neox-draft" }).k, 5);
  assert.is(DRAFTS.text({ model: "self:nf4" }), null);
  assert.is(DRAFTS.text({ model: "tiny-neox-draft" }), null);
  const make = DRAFTS.text(DRAFTS.check({ model: "prompt-lookup", ngram: 2 }))!;
  assert.is.not(make(), make(), "each request has its own");
  assert.equal(make().propose([1, 2, 3, 1, 2], 2), [3, 1]);
  assert.is(DRAFTS.length(7, null).next(16), 7);
  const adaptive = DRAFTS.length("adaptive", costs);
  assert.ok(adaptive.next(16) >= 1);
  for (let i = 0; i < 100; i++) adaptive.learn({ drafted: 16, accepted: 16, ms: 1 });
  assert.is(adaptive.next(16), 16);
  assert.throws(() => DRAFTS.length("adaptive", null), /needs the costs/);
});

test.run();
