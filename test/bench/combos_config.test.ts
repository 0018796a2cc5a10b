/** What a config of free combinations can have wrong, and what its arms come to when nothing is. */

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { comboArms, lossyKey, planOf } from "../../bench/core/combos/arms.ts";
import { load, refused } from "../support/bench_config.ts";

const test = suite("combos config");
/** The first lines of a config; its arms begin in line 6, column 7. */
const HEAD = "experiment_name: x\ntechnique: combos\nmax_tokens: 8\ntemperature: 0\ntop_p: 1\n";
const withArms = (arms: string, rest = ""): string => `${HEAD}arms: ${arms}\n${rest}`;
const wrong = (arms: string, rest = ""): string[] => refused(withArms(arms, rest)).split("\n");

test("each mistake of an arm, with its name and what to do", () => {
  const cases: [settings: string, message: RegExp][] = [
    ["{weigths: nf4}", /^x: unknown setting weigths; did you mean weights\?$/],
    ["{zzz: 1}", /^x: unknown setting zzz; an arm may set weights, kv, layout, press, ratio, draft, k$/],
    ["{weights: nf5}", /^x: weights: expected auto, f32, .+, got "nf5" \(string\)$/],
    ["{kv: int2}", /^x: kv: expected one of f32, .+, got "int2"/],
    ["{layout: contiguous}", /^x: layout: expected contiguous-max, contiguous-exact, paged or paged-prefix, got "contiguous"/],
    ["{layout: contiguous-max, press: snapkv}", /^x: a press gives blocks back, which a contiguous-max cache does not have: set layout to paged$/],
    ["{layout: contiguous-exact, press: snapkv}", /which a contiguous-exact cache/],
    ["{ratio: 0.5}", /^x: ratio has no effect without a press; take it out or name one$/],
    ["{k: 4}", /^x: k has no effect without a draft; take it out or name one$/],
    ["{draft: prompt-lookup, k: 0}", /^x: k: expected tokens per round, a whole number from 1, or adaptive, got 0 \(number\)$/],
    ["{draft: prompt-lookup, k: 17}", /^x: k: expected .+ got 17/],
    ["{press: snapkv, ratio: 1}", /^x: ratio: expected the share to evict, from 0 to below 1, got 1/],
    ["{press: snapvk}", /^x: press "snapvk" \(string\): .*snapkv/],
    ["{press: 'adakv(snapkv'}", /^x: press "adakv\(snapkv" \(string\): .+/],
    ["{draft: 'self:nf5'}", /^x: draft "self:nf5" \(string\): .*nf4/],
    ["{press: 5}", /^x: press: expected a press, such as snapkv or adakv\(snapkv\), got 5 \(number\)$/],
  ];
  for (const [settings, message] of cases) {
    const [line, ...others] = wrong(`{none: {}, x: ${settings}}`);
    assert.equal(others, [], settings);
    assert.is(line!.slice(0, 18), "x.yaml:6:7  arms: ", line);
    assert.match(line!.slice(18), message);
  }
});

test("fewer than two arms, none at all, and what is no mapping", () => {
  for (const arms of ["{none: {}}", "{}", "[none, nf4]", "{none: {}, nf4: }", "{none: {}, 'a/b': {}}"]) {
    assert.match(wrong(arms)[0]!, /^x\.yaml:6:7 {2}arms: expected a mapping of 2 to 32 names to what each arm sets, the baseline first, such as \{none: \{\}, nf4: \{weights: nf4\}\}, got /, arms);
  }
  assert.match(refused(HEAD), /arms: is missing, expected a mapping of 2 to 32 names/);
});

test("names that would change what is compared: digits, and that of the control", () => {
  assert.match(wrong("{none: {}, '4': {weights: nf4}}")[0]!, /arms: 4: digits alone are no name of an arm; add a word$/);
  assert.match(wrong("{none: {}, none again: {weights: nf4}}")[0]!,
    /arms: none again: is the name of the first arm's second run; take another$/);
  assert.match(wrong("{snap: {press: snapkv}, none: {}}")[0]!,
    /arms: snap: the first arm is what the quality of the others is measured against, so it may evict nothing/);
});

test("quality that is switched off is refused where something may be lost, and only there", () => {
  for (const settings of ["{weights: nf4}", "{kv: int8}", "{press: snapkv}"]) {
    assert.match(wrong(`{none: {}, x: ${settings}}`, "perplexity_windows: 0\n")[0]!,
      /^x\.yaml:7:21 {2}perplexity_windows: 0 leaves out what quantizing and evicting cost in quality/);
  }
  assert.is(load(withArms("{none: {}, x: {draft: prompt-lookup}}", "perplexity_windows: 0\n")).config.perplexity_windows, 0);
});

test("different work, and prompts that do not fit, are refused", () => {
  assert.match(wrong("{none: {}, x: {}}", "ignore_eos: false\n")[0]!,
    /^x\.yaml:7:13 {2}ignore_eos: the arms would write texts of different lengths/);
  const lines = wrong("{none: {}, x: {}}", "prompt_tokens: 60\ncontinuation: 10\nmax_model_len: 64\n");
  assert.equal(lines, ["x.yaml:7:16  prompt_tokens: 60 and max_tokens (8) are more than max_model_len (64)",
    "x.yaml:7:16  prompt_tokens: 60 and continuation (10) are more than max_model_len (64)"]);
});

test("everything wrong is told at once, in the order of the file", () => {
  const lines = wrong("{none: {}, a: {weigths: nf4, ratio: 2}, b: {k: 3}}", "ignore_eos: false\nseed: x\npresses: [snapkv]\n");
  assert.equal(lines.map((line) => line.split(": ")[0]), [
    "x.yaml:6:7  arms", "x.yaml:6:7  arms", "x.yaml:6:7  arms", "x.yaml:7:13  ignore_eos", "x.yaml:8:7  seed", "x.yaml:9:1  presses",
  ]);
  assert.match(lines[0]!, /a: unknown setting weigths/);
  assert.match(lines[1]!, /a: ratio: expected/);
  assert.match(lines[2]!, /b: k has no effect/);
});

const CONFIG = load(withArms(`
  plain: {layout: contiguous-max}
  nf4: {layout: contiguous-max, weights: nf4}
  paging: {}
  press: {press: snapkv}
  half: {layout: paged, press: snapkv, ratio: 0.5}
  draft: {layout: contiguous-max, draft: prompt-lookup}
  adaptive: {layout: contiguous-max, draft: prompt-lookup, k: adaptive}`)).config;

test("the first arm is the baseline and runs twice, the second time as the control", () => {
  const arms = comboArms(CONFIG);
  assert.equal(arms.map(({ name, role }) => [name, role]), [
    ["plain", "baseline"], ["plain again", "control"],
    ...["nf4", "paging", "press", "half", "draft", "adaptive"].map((name) => [name, "technique"]),
  ]);
  assert.equal(arms[1]!.request, arms[0]!.request);
});

test("what is left out is as for all: half evicted, five drafted; presses and K go with a request, the rest with loading", () => {
  const arms = new Map(comboArms(CONFIG).map((arm) => [arm.name, arm]));
  const keyOf = (name: string): string => planOf(arms.get(name)!, CONFIG).key;
  assert.equal([arms.get("plain")!.request, arms.get("draft")!.request, arms.get("adaptive")!.request],
    [{ press: null, draft: null }, { press: null, draft: { k: 5 } }, { press: null, draft: { k: "adaptive" } }]);
  assert.equal(arms.get("press")!.request, arms.get("half")!.request);
  assert.ok(arms.get("press")!.request.press !== null);
  assert.equal([keyOf("plain") === keyOf("plain again"), keyOf("paging") === keyOf("press"), keyOf("press") === keyOf("half"),
    keyOf("draft") === keyOf("adaptive")], [true, true, true, true]);
  assert.is(new Set([...arms.keys()].map(keyOf)).size, 4);
});

test("texts must be equal where weights, entries and press are, wherever the cache lies and whatever drafts", () => {
  const keys = new Map(comboArms(CONFIG).map((arm) => [arm.name, lossyKey(arm, CONFIG)]));
  for (const name of ["plain again", "paging", "draft", "adaptive"]) assert.is(keys.get(name), keys.get("plain"));
  assert.is(keys.get("press"), keys.get("half"));
  assert.is(new Set(keys.values()).size, 3);
});

test.run();
