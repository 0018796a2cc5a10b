/** What defines the work of a run, and what does not; and that its hash survives a file. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { differences, protocolOf, sha256Of } from "../../bench/core/protocol.ts";
import { FIELDS, keysOf, TECHNIQUES, type ExperimentConfig, type Key } from "../../bench/core/schema.ts";
import { fakeResult } from "../support/results.ts";

const RUN = fakeResult();
const of = (config: Partial<ExperimentConfig>, body: Partial<typeof RUN> = {}) => protocolOf({ ...RUN.config, ...config }, { ...RUN, ...body });
const changed = (config: Partial<ExperimentConfig>, body: Partial<typeof RUN> = {}) => differences(of({}), of(config, body)).map(({ key }) => key);

test("what is asked of the model is work, how often and where is not", () => {
  assert.equal(changed({ max_tokens: 3, seed: 9, kv: "f32", temperature: 0.5, ratios: [0.3] }), ["max_tokens", "temperature", "seed", "kv", "ratios"]);
  assert.equal(changed({
    experiment_name: "x", batch_level: "large", output_dir: "y", save_results: false, lang: "zh", device: [1], adapter: "2", test_iterations: 99, warmup_iterations: 7,
    model: "/elsewhere/tiny-neox", revision: "main",
  }), []);
});

test("models and texts are what they are, not where they lie", () => {
  assert.equal(changed({}, { model: { ...RUN.model, id: "elsewhere", revision: "abc" } }), []);
  assert.equal(changed({}, { model: { ...RUN.model, fingerprint: "other", maxModelLen: 7 } }), ["model", "max_model_len"]);
  assert.equal(changed({}, { prompts: { ...RUN.prompts, sha256: "other" }, corpus: { name: "persuasion", sha256: "other" } }), ["prompts", "corpus"]);
  assert.equal(changed({ perplexity_text: "elsewhere.txt" }), []);
  assert.equal(changed({}, { corpus: null }), ["corpus"]);
});

test("arms are work by name, group and settings", () => {
  const [first, second, ...rest] = RUN.arms;
  assert.equal(changed({}, { arms: [first!, { ...second!, settings: { press: "other" } }, ...rest] }), ["arms.wikitext-2 none again.settings.press"]);
  assert.equal(differences(of({}), of({}, { arms: [first!, ...rest] })), [
    { key: "arms.wikitext-2 none again", a: { group: "wikitext-2", role: "control", settings: { press: null } }, b: undefined },
  ]);
  assert.equal(changed({}, { arms: [...RUN.arms].reverse() }), []);
});

/** In every protocol, but not as the config has it. */
const OTHERWISE: readonly Key[] = ["prompts", "arms"];

test("of every technique each key is work or is named as none, and other techniques' keys are not looked at", () => {
  const set = Object.fromEntries(Object.keys(FIELDS).map((key) => [key, 1])) as unknown as ExperimentConfig;
  for (const technique of TECHNIQUES) {
    const named = Object.keys(protocolOf({ ...set, technique }, RUN));
    const left = keysOf(technique).filter((key) => !named.includes(key));
    assert.ok(left.every((key) => !/^(max_tokens|prompt_tokens|temperature|top_p|seed|ignore_eos|batch_size|num_prompts|kv|weights|block_size|kv_memory|perplexity_(?!text).*)$/.test(key)), `${technique}: ${left.join()}`);
    for (const key of Object.keys(FIELDS) as Key[]) if (!keysOf(technique).includes(key) && !OTHERWISE.includes(key)) assert.not.ok(named.includes(key), `${technique} ${key}`);
  }
});

test("the hash does not depend on the order of keys, and survives a file", () => {
  const value = { b: [1, { y: -0, x: undefined }], a: { "10": null, "9": "é" } };
  assert.is(sha256Of(value), sha256Of({ a: { "9": "é", "10": null }, b: [1, { y: 0 }] }));
  assert.is(sha256Of(of({})), sha256Of(JSON.parse(JSON.stringify(of({}), null, 2))));
  assert.is.not(sha256Of([1, 2]), sha256Of([2, 1]));
  assert.is.not(sha256Of({ a: null }), sha256Of({}));
});

test("a key that is there with nothing in it differs from one that is not, and lists differ as a whole", () => {
  assert.equal(differences({ a: null, l: [1, 2] }, { l: [1, 3] }), [{ key: "a", a: null, b: undefined }, { key: "l", a: [1, 2], b: [1, 3] }]);
  assert.equal(differences({ a: { b: { c: 1 } } }, { a: { b: { c: 1 } } }), []);
  assert.equal(differences({}, { toString: 1 }), [{ key: "toString", a: undefined, b: 1 }]);
});

test.run();
