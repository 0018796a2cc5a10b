/** Presses by name: every press from plain data and from text, and every mistake with what is allowed. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../../engine/errors.ts";
import { parsePress, pressOf, PRESS_NAMES, PRESS_TABLE, type PressSpec } from "../../../techniques/press/spec.ts";

const SPECS: readonly PressSpec[] = [
  { name: "knorm", ratio: 0.5 },
  { name: "snapkv", ratio: 0.25, window: 32, kernel: 3 },
  { name: "pyramidkv", ratio: 0.5, beta: 10 },
  { name: "tova", ratio: 0.5 },
  { name: "observed_attention", ratio: 0.5 },
  { name: "expected_attention", ratio: 0.5, futurePositions: 16, sinks: 2, covariance: false, valueNorm: false, epsilon: 0.01 },
  { name: "streaming_llm", ratio: 0.875, sinks: 8 },
  { name: "keydiff", ratio: 0 },
  { name: "lagkv", ratio: 0.5, lagSize: 16, sinks: 0, crossScoring: true },
  { name: "random", ratio: 0.9, seed: 7 },
  { name: "adakv", press: { name: "snapkv", ratio: 0.5 }, alpha: 0.1 },
  { name: "chunk", press: { name: "keydiff", ratio: 0.5 }, chunk: 128 },
  { name: "chunkkv", press: { name: "snapkv", ratio: 0.5 } },
  { name: "per_layer", press: { name: "snapkv" }, ratios: [0.1, 0.9] },
  { name: "composed", presses: [{ name: "knorm", ratio: 0.5 }, { name: "adakv", press: { name: "tova", ratio: 0.5 } }] },
  { name: "rerotate", press: { name: "streaming_llm", ratio: 0.5 } },
  { name: "decoding", press: { name: "knorm" }, every: 64, target: 256 },
  { name: "decoding", press: { name: "adakv", press: { name: "knorm", ratio: 0.5 } }, prefill: true, skipLayers: [0] },
  { name: "knorm_steps", keepRatio: 0.9, pruneAfter: 256, skipLayers: [], positions: "cache-length", chunk: 4 },
];

function refused(make: () => unknown, ...words: string[]): void {
  try {
    make();
  } catch (error) {
    assert.instance(error, UsageError);
    for (const word of words) assert.ok((error as Error).message.includes(word), `${JSON.stringify(word)} is not in: ${(error as Error).message}`);
    return;
  }
  assert.unreachable(`nothing was refused: ${words.join(", ")}`);
}

test("every press can be named, and survives JSON", () => {
  assert.equal([...new Set(SPECS.map(({ name }) => name))].sort(), [...PRESS_NAMES].sort());
  for (const spec of SPECS) {
    const press = pressOf(spec);
    const again = pressOf(JSON.parse(JSON.stringify(spec)) as PressSpec);
    assert.is(again.name, press.name);
    assert.is(again.positions, press.positions);
    assert.equal(again.stages.map(({ needs }) => needs), press.stages.map(({ needs }) => needs));
  }
  assert.is(new Set(SPECS.map((spec) => pressOf(spec).name)).size, SPECS.length, "names tell presses apart");
});

test("parameters reach the press", () => {
  assert.is(pressOf(SPECS[1]!).name, "snapkv(0.25, window 32, kernel 3)");
  assert.is(pressOf({ name: "snapkv", ratio: 0.25, window: 32 }).stages[0]!.needs.queries, 32);
  assert.is(pressOf(SPECS[13]!).name, "per_layer(snapkv(window 64, kernel 5), ratios 0.1 0.9)");
  assert.is(pressOf(SPECS[16]!).name, "decoding(knorm, every 64, target 256)");
  assert.is(pressOf({ name: "knorm", ratio: 0.5, skipLayers: [1], positions: "original" }).name, "knorm(0.5) but layers 1");
  assert.is(pressOf({ name: "knorm", ratio: 0.5, positions: "rerotate" }).positions, "rerotate");
  assert.is(pressOf(SPECS[18]!).positions, "cache-length");
});

test("names take hyphens and underscores, capital and small letters", () => {
  for (const name of ["streaming-llm", "streaming_llm", "Streaming-LLM"]) assert.is(pressOf({ name, ratio: 0.5 } as never).name, "streaming_llm(0.5, sinks 4)");
});

test("mistakes are refused with what is nearest and what is allowed", () => {
  refused(() => pressOf({ name: "snapvk", ratio: 0.5 } as never), '"snapvk"', "did you mean snapkv?", "expected_attention");
  refused(() => pressOf({ name: "xyzzyplugh", ratio: 0.5 } as never), "unknown press", "knorm");
  refused(() => pressOf({ ratio: 0.5 } as never), "no name", "snapkv");
  for (const bad of ["snapkv", null, 7, [{ name: "knorm", ratio: 0.5 }]]) refused(() => pressOf(bad as never), "must be an object");
  refused(() => pressOf({ name: "knorm" } as never), "knorm needs ratio", "share to evict");
  for (const ratio of [1, 1.5, -0.1, NaN, Infinity, "0.5"]) refused(() => pressOf({ name: "knorm", ratio } as never), "ratio of knorm", "[0, 1)");
  refused(() => pressOf({ name: "snapkv", ratio: 0.5, windw: 3 } as never), '"windw"', "did you mean window?", "kernel", "skipLayers");
  refused(() => pressOf({ name: "snapkv", ratio: 0.5, window: 0 }), "window of snapkv", "[1, ∞)", "not 0");
  refused(() => pressOf({ name: "snapkv", ratio: 0.5, window: 2.5 }), "an integer");
  refused(() => pressOf({ name: "snapkv", ratio: 0.5, kernel: 4 }), "odd");
  refused(() => pressOf({ name: "expected_attention", ratio: 0.5, valueNorm: 1 } as never), "valueNorm", "true or false");
  refused(() => pressOf({ name: "knorm_steps", keepRatio: 0 }), "keepRatio", "(0, 1]");
  refused(() => pressOf({ name: "per_layer", press: { name: "knorm" }, ratios: [0.5, 1] }), "ratios", "[0, 1)");
  refused(() => pressOf({ name: "knorm", ratio: 0.5, skipLayers: 0 } as never), "list of layers");
  refused(() => pressOf({ name: "knorm", ratio: 0.5, positions: "rotate" } as never), "did you mean rerotate?");
});

test("mistakes inside wrappers say where they are", () => {
  refused(() => pressOf({ name: "adakv" } as never), "adakv needs press");
  refused(() => pressOf({ name: "adakv", press: { name: "snapvk", ratio: 0.5 } } as never), "press.press:", "did you mean snapkv?");
  refused(() => pressOf({ name: "composed", presses: [{ name: "knorm", ratio: 0.5 }, { name: "knorm", ratio: 2 }] }), "press.presses[1]:");
  refused(() => pressOf({ name: "composed", presses: { name: "knorm", ratio: 0.5 } } as never), "list of presses");
  refused(() => pressOf({ name: "decoding", press: { name: "knorm", ratio: 0.5 } }), "no effect here", "leave it out");
  refused(() => pressOf({ name: "decoding", press: { name: "adakv", press: { name: "knorm", ratio: 0.5 } } }), "no effect here");
  refused(() => pressOf({ name: "decoding", press: { name: "knorm" }, prefill: true }), "knorm needs ratio");
  refused(() => pressOf({ name: "per_layer", press: { name: "knorm", ratio: 0.5 }, ratios: [0.5] }), "no effect here");
});

test("text: a name, presses inside it, and parameters; the ratio goes wherever it has an effect", () => {
  assert.equal(parsePress("snapkv", 0.5), { name: "snapkv", ratio: 0.5 });
  assert.equal(parsePress(" Streaming-LLM ( sinks = 2 ) ", 0.25), { name: "streaming_llm", ratio: 0.25, sinks: 2 });
  assert.equal(parsePress("adakv(snapkv(window=32), alpha=.1)", 0.5), { name: "adakv", press: { name: "snapkv", ratio: 0.5, window: 32 }, alpha: 0.1 });
  assert.equal(parsePress("adakv(snapkv(ratio=0.75))", 0.5), { name: "adakv", press: { name: "snapkv", ratio: 0.75 } });
  assert.equal(parsePress("composed(knorm, streaming-llm)", 0.5), { name: "composed", presses: [{ name: "knorm", ratio: 0.5 }, { name: "streaming_llm", ratio: 0.5 }] });
  assert.equal(parsePress("decoding(adakv(knorm))", 0.5), { name: "decoding", press: { name: "adakv", press: { name: "knorm" } } });
  assert.equal(parsePress("decoding(knorm, prefill=true, every=8)", 0.5), { name: "decoding", press: { name: "knorm", ratio: 0.5 }, prefill: true, every: 8 });
  assert.equal(parsePress("per_layer(knorm, ratios=[0, 0.5])", 0.5), { name: "per_layer", press: { name: "knorm" }, ratios: [0, 0.5] });
  assert.equal(parsePress("knorm_steps(skipLayers=[], positions=cache-length)", 0.9), { name: "knorm_steps", keepRatio: 0.1, skipLayers: [], positions: "cache-length" });
  assert.equal(parsePress("knorm(skipLayers=[0,1])", 1e-7), { name: "knorm", ratio: 1e-7, skipLayers: [0, 1] });
  for (const name of PRESS_NAMES) {
    const entry = PRESS_TABLE[name];
    assert.ok(entry.description.length > 10 && entry.needs.length > 0 && entry.paper.length > 0);
    if (!("press" in entry.parameters) && !("presses" in entry.parameters)) assert.is(parsePress(name, 0.5).name, name);
  }
});

test("text that makes no sense is refused where it stops", () => {
  refused(() => parsePress("", 0.5), "a name", "at its end");
  refused(() => parsePress("adakv(snapkv", 0.5), '")"', "at its end");
  refused(() => parsePress("adakv(snapkv))", 0.5), "the end", "character 14");
  refused(() => parsePress("snapkv(window=)", 0.5), "character 15");
  refused(() => parsePress("snapkv(window=3, window=4)", 0.5), "given twice");
  refused(() => parsePress("snapkv window", 0.5), "character 8");
  refused(() => parsePress("adakv(knorm, tova)", 0.5), "presses");
  refused(() => parsePress("composed(knorm)", 0.5), "two or more");
  refused(() => parsePress("snapkv(knorm)", 0.5), 'no parameter "press"');
  refused(() => parsePress("snapkv", 1), "[0, 1)");
  refused(() => parsePress("snapvk", 0.5), "did you mean snapkv?");
  refused(() => parsePress("adakv(".repeat(1000), 0.5), "deep");
});

test.run();
