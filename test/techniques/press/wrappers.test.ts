/** Wrappers without a GPU: what they keep, how they are named, which pairs they refuse and why. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../../engine/errors.ts";
import { adakv } from "../../../techniques/press/adakv.ts";
import { chunk } from "../../../techniques/press/chunk.ts";
import { chunkkv } from "../../../techniques/press/chunkkv.ts";
import { composed } from "../../../techniques/press/composed.ts";
import { decoding } from "../../../techniques/press/decoding.ts";
import { keydiff } from "../../../techniques/press/keydiff.ts";
import { knorm } from "../../../techniques/press/knorm.ts";
import { knormSteps } from "../../../techniques/press/knorm_steps.ts";
import { perLayer, withSkippedLayers } from "../../../techniques/press/per_layer.ts";
import { pyramidkv } from "../../../techniques/press/pyramidkv.ts";
import { rerotate, withPositions } from "../../../techniques/press/rerotate.ts";
import { snapkv } from "../../../techniques/press/snapkv.ts";
import { tova } from "../../../techniques/press/tova.ts";
import { layerOf } from "../../support/fake_stage.ts";

const MODEL = { layers: 3, kvHeads: 2, heads: 4, headDim: 8 };
const half = knorm({ ratio: 0.5 });

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

test("per_layer has a ratio for each layer, and a model with another number of layers is refused", () => {
  const press = perLayer({ press: half, ratios: [0, 0.5, 0.9] });
  assert.is(press.name, "per_layer(knorm, ratios 0 0.5 0.9)");
  assert.equal([0, 1, 2].map((layer) => press.stages[0]!.keep(layerOf(100, { layer, layers: 3 }))), [100, 50, 10]);
  assert.ok(press.ragged);
  press.check(MODEL);
  refused(() => press.check({ ...MODEL, layers: 4 }), "3 ratios", "4 layers");
  refused(() => perLayer({ press: half, ratios: [0.5, 1] }), "layer 1", "below 1");
  refused(() => perLayer({ press: half, ratios: [] }), "one ratio for each layer");
  refused(() => perLayer({ press: pyramidkv({ ratio: 0.5 }), ratios: [0.5] }), "pyramidkv", "differ already");
});

test("skipped layers are left alone, and there must be such layers and others", () => {
  const press = withSkippedLayers(half, [2, 0]);
  assert.is(press.name, "knorm(0.5) but layers 0 2");
  assert.equal([0, 1, 2].map((layer) => press.stages[0]!.keep(layerOf(100, { layer }))), [100, 50, 100]);
  assert.ok(press.ragged);
  assert.is(withSkippedLayers(half, []), half);
  press.check(MODEL);
  refused(() => press.check({ ...MODEL, layers: 2 }), "layer 2", "0 to 1");
  refused(() => withSkippedLayers(half, [0, 1, 2]).check(MODEL), "all 3 layers");
  refused(() => withSkippedLayers(half, [-1]), "at least 0");
  const both = withSkippedLayers(adakv({ press: half }), [1]);
  assert.is(both.stages[0]!.keep(layerOf(100, { layer: 1 })), 100);
  assert.is(both.stages[0]!.keep(layerOf(100, { layer: 0 })), "marked");
});

test("composed has the stages of all, acts once, and asks each whether the prompt is long enough", () => {
  const press = composed({ presses: [snapkv({ ratio: 0.5 }), half] });
  assert.is(press.name, "composed(snapkv(0.5, window 64, kernel 5), knorm(0.5))");
  assert.is(press.stages.length, 2);
  assert.not.ok(press.ragged);
  assert.is(press.next({ prompt: 100, seen: 0, length: 0, acted: 0 }), 100);
  assert.is(press.next({ prompt: 100, seen: 100, length: 25, acted: 1 }), null);
  refused(() => composed({ presses: [half, snapkv({ ratio: 0.5 })] }).next({ prompt: 64, seen: 0, length: 0, acted: 0 }), "64");
  refused(() => composed({ presses: [half] }), "two or more");
  refused(() => composed({ presses: [adakv({ press: half }), half] }), "put it last");
  assert.ok(composed({ presses: [half, adakv({ press: half })] }).ragged);
  refused(() => composed({ presses: [half, decoding({ press: half })] }), "times of its own");
  refused(() => composed({ presses: [half, rerotate({ press: half })] }), "put rerotate around composed");
  const checked = composed({ presses: [half, perLayer({ press: half, ratios: [0.5] })] });
  refused(() => checked.check(MODEL), "1 ratios");
});

test("positions move where all tables are equally long, and nowhere else", () => {
  assert.is(rerotate({ press: half }).positions, "rerotate");
  assert.is(rerotate({ press: half }).name, "rerotate(knorm(0.5))");
  assert.is(withPositions(half, "cache-length").name, "knorm(0.5) with positions cache-length");
  assert.is(withPositions(half, "original"), half);
  assert.is(rerotate({ press: decoding({ press: half }) }).positions, "rerotate");
  assert.is(rerotate({ press: chunk({ press: half }) }).positions, "rerotate");
  const uneven = [
    adakv({ press: half }), pyramidkv({ ratio: 0.5 }), perLayer({ press: half, ratios: [0.1] }), withSkippedLayers(half, [0]), chunkkv({ press: half }),
    knormSteps({ keepRatio: 0.9 }), decoding({ press: adakv({ press: half }) }),
  ];
  for (const press of uneven) {
    refused(() => rerotate({ press }), press.name, "one position per token serves all layers and heads");
    refused(() => withPositions(press, "cache-length"), press.name, "one position per token");
  }
  for (const wrap of [adakv, chunkkv]) refused(() => wrap({ press: rerotate({ press: half }) }), "positions rerotate");
  refused(() => withSkippedLayers(rerotate({ press: half }), [0]), "positions are rerotate");
  refused(() => perLayer({ press: rerotate({ press: half }), ratios: [0.5] }), "positions are rerotate");
  refused(() => withPositions(rerotate({ press: half }), "cache-length"), "already");
  refused(() => withPositions(half, "rerotated" as never), "did you mean rerotate?", "cache-length");
});

test("wrappers take plain scorers, and say what to do instead", () => {
  for (const [name, wrap] of [["adakv", adakv], ["chunk", chunk], ["chunkkv", chunkkv]] as const) {
    refused(() => wrap({ press: adakv({ press: half }) }), `${name} cannot wrap adakv(`, "a press that only scores");
    refused(() => wrap({ press: decoding({ press: half }) }), `${name} cannot wrap decoding(`, "the other way");
    refused(() => wrap({ press: composed({ presses: [half, half] }) }), name);
  }
  refused(() => perLayer({ press: knormSteps({ keepRatio: 0.5 }), ratios: [0.5] }), "times of its own");
  refused(() => chunk({ press: snapkv({ ratio: 0.5 }) }), "queries of every chunk", "chunkkv can wrap it");
  refused(() => chunk({ press: tova({ ratio: 0.5 }) }), "those of the last tokens");
  refused(() => chunk({ press: half, chunk: 0 }), "at least 1");
  refused(() => chunkkv({ press: pyramidkv({ ratio: 0.5 }) }), "differs by layer");
  refused(() => adakv({ press: half, alpha: 1.5 }), "[0, 1]", "1.5");
  assert.is(adakv({ press: perLayer({ press: half, ratios: [0.5] }) }).ragged, true);
});

test("decoding takes scorers and adakv around them", () => {
  const press = decoding({ press: snapkv({ ratio: 0.5 }), target: 100 });
  assert.is(press.name, "decoding(snapkv(window 64, kernel 5), every 512, target 100)");
  assert.is(press.stages[0]!.keep(layerOf(300, { acted: 0 })), 100);
  assert.is(press.stages[0]!.keep(layerOf(80, { acted: 0 })), 80);
  assert.is(decoding({ press: adakv({ press: keydiff({ ratio: 0.5 }) }) }).name, "decoding(adakv(keydiff, alpha 0.2), every 512, target 2048)");
  assert.is(decoding({ press: half, prefill: true }).name, "decoding(knorm(0.5), every 512, target 2048, prefill)");
  refused(() => decoding({ press: snapkv({ ratio: 0.5 }), prefill: true }).next({ prompt: 10, seen: 0, length: 0, acted: 0 }), "10");
  refused(() => decoding({ press: chunkkv({ press: half }) }), "chooses by itself");
  refused(() => decoding({ press: pyramidkv({ ratio: 0.5 }) }), "one target");
  refused(() => decoding({ press: withSkippedLayers(half, [0]) }), "skipLayers to decoding itself");
  refused(() => decoding({ press: adakv({ press: pyramidkv({ ratio: 0.5 }) }) }), "chooses by itself");
  refused(() => decoding({ press: half, every: 0 }), "every", "at least 1");
  refused(() => decoding({ press: half, target: 0.5 }), "target");
});

test("ratio 0 leaves every layer alone, under every wrapper", () => {
  const none = knorm({ ratio: 0 });
  for (const press of [none, adakv({ press: none }), chunk({ press: none, chunk: 7 }), chunkkv({ press: none }), perLayer({ press: none, ratios: [0, 0] }), rerotate({ press: none })]) {
    for (const length of [1, 6, 20, 99]) assert.is(press.stages[0]!.keep(layerOf(length)), length, `${press.name}, ${length} entries`);
  }
});

test("knorm_steps: shares and sizes out of range", () => {
  for (const keepRatio of [0, -0.1, 1.1, NaN]) refused(() => knormSteps({ keepRatio }), "(0, 1]");
  refused(() => knormSteps({ keepRatio: 0.5, pruneAfter: 0 }), "pruneAfter");
  refused(() => knormSteps({ keepRatio: 0.5, skipLayers: [1.5] }), "skipLayers");
  refused(() => knormSteps({ keepRatio: 0.5, positions: "rerotate" }), "skipLayers 0");
  assert.is(knormSteps({ keepRatio: 0.5, skipLayers: [], positions: "rerotate" }).positions, "rerotate");
  refused(() => knormSteps({ keepRatio: 0.5, skipLayers: [0, 7] }).check(MODEL), "layer 7");
});

test.run();
