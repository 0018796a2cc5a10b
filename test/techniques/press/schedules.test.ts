/** When decoding and knorm_steps act, against a simulation that goes token by token and looks at the lengths themselves. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Press } from "../../../models/press.ts";
import { adakv } from "../../../techniques/press/adakv.ts";
import { decoding } from "../../../techniques/press/decoding.ts";
import { knormSteps } from "../../../techniques/press/knorm_steps.ts";
import { keptCeil, keptOf } from "../../../techniques/press/ratio.ts";
import { fakePress, layerOf } from "../../support/fake_stage.ts";

interface Act { readonly at: number; readonly lengths: readonly number[] }

/**
 * A sequence with one length per layer, driven as the engine drives it: `next` is asked at the start and after each act, the press acts
 * exactly then. At every token between, `next` must give the same answer.
 */
function drive(press: Press, prompt: number, end: number, layers = 2): Act[] {
  const lengths = new Array<number>(layers).fill(0);
  const acts: Act[] = [];
  let next = press.next({ prompt, seen: 0, length: 0, acted: 0 });
  for (let seen = 1; seen <= end; seen++) {
    for (let layer = 0; layer < layers; layer++) lengths[layer]!++;
    assert.is(press.next({ prompt, seen, length: Math.max(...lengths), acted: acts.length }), next, `asked again after ${seen} tokens`);
    if (seen !== next) continue;
    for (const [layer, length] of lengths.entries()) {
      const kept = press.stages[0]!.keep(layerOf(length, { prompt, seen, acted: acts.length, layer, layers }));
      if (kept === "marked") throw new Error("these presses name a number");
      assert.ok(kept >= 1 && kept <= length);
      lengths[layer] = kept;
    }
    acts.push({ at: seen, lengths: [...lengths] });
    next = press.next({ prompt, seen, length: Math.max(...lengths), acted: acts.length });
    assert.ok(next !== null && next > seen, `after the act at ${seen} it asked for ${next}`);
  }
  return acts;
}

const half = (length: number): number => keptOf(length, 0.5);

test("decoding acts every so many new tokens where a layer holds more than the target, down to exactly that", () => {
  for (const every of [1, 7, 64]) {
    for (const target of [1, 20, 100]) {
      for (const prompt of [1, 20, 21, 150]) {
        const expected: Act[] = [];
        let length = prompt;
        for (let written = 1; prompt + written <= 400; written++) {
          length++;
          if (written % every !== 0 || length <= target) continue;
          length = target;
          expected.push({ at: prompt + written, lengths: [target, target] });
        }
        assert.equal(drive(decoding({ press: fakePress({ keep: half }), every, target }), prompt, 400), expected, `every ${every}, target ${target}, prompt ${prompt}`);
      }
    }
  }
});

test("decoding with prefill acts behind the prompt by the ratio, then to the target", () => {
  const press = decoding({ press: fakePress({ keep: half }), every: 10, target: 30, prefill: true });
  const acts = drive(press, 100, 150);
  assert.equal(acts, [100, 110, 120, 130, 140, 150].map((at, i) => ({ at, lengths: new Array(2).fill(i === 0 ? 50 : 30) })));
  // Times go by the cache as if nothing had been evicted; a layer that holds no more than the target is left alone.
  assert.equal(drive(press, 40, 70), [[40, 20], [50, 30], [60, 30], [70, 30]].map(([at, length]) => ({ at, lengths: [length, length] })));
});

test("decoding around adakv gives its target to it; prefill still goes by the ratio", () => {
  const inner = adakv({ press: fakePress({ keep: half }) });
  const press = decoding({ press: inner, every: 10, target: 30, prefill: true });
  const model = { heads: 6, kvHeads: 3, headDim: 8, frequencies: [] };
  assert.equal([...press.stages[0]!.params(layerOf(100), model)], [0, 150, 10]);
  assert.equal([...press.stages[0]!.params(layerOf(60, { acted: 1 }), model)], [0, 90, 6]);
  assert.is(press.stages[0]!.keep(layerOf(30, { acted: 1 })), 30);
  assert.is(press.stages[0]!.keep(layerOf(60, { acted: 1 })), "marked");
  assert.ok(press.ragged);
});

test("knorm_steps acts after every token once a layer holds pruneAfter entries, and skipped layers grow", () => {
  for (const keepRatio of [0.1, 0.5, 0.9, 0.97]) {
    for (const pruneAfter of [1, 10, 50]) {
      for (const prompt of [1, 49, 50, 51, 200]) {
        for (const chunk of [1, 8]) {
          const expected: Act[] = [];
          let length = prompt;
          for (let written = 0; prompt + written <= 300; written++) {
            if (written > 0) length++;
            if (written % chunk !== 0 || length < pruneAfter) continue;
            length = keptCeil(length, keepRatio);
            expected.push({ at: prompt + written, lengths: [prompt + written, length] });
          }
          const press = knormSteps({ keepRatio, pruneAfter, skipLayers: [0], chunk });
          assert.equal(drive(press, prompt, 300), expected, `keepRatio ${keepRatio}, pruneAfter ${pruneAfter}, prompt ${prompt}, chunk ${chunk}`);
        }
      }
    }
  }
});

test("knorm_steps that keeps everything acts once", () => {
  const press = knormSteps({ keepRatio: 1, pruneAfter: 50, skipLayers: [] });
  assert.is(press.next({ prompt: 20, seen: 0, length: 0, acted: 0 }), 50);
  assert.is(press.next({ prompt: 20, seen: 50, length: 50, acted: 1 }), null);
});

test("knorm_steps: the length saws between keepRatio · pruneAfter and pruneAfter, however long the text", () => {
  const acts = drive(knormSteps({ keepRatio: 0.9, pruneAfter: 100, skipLayers: [] }), 20, 2000, 1);
  assert.is(acts[0]!.at, 100);
  assert.ok(acts.every(({ at, lengths }, i) => lengths[0] === 90 && at === 100 + 10 * i));
  // Behind a long prompt it acts after every token until it is down there.
  const long = drive(knormSteps({ keepRatio: 0.9, pruneAfter: 100, skipLayers: [] }), 1000, 1100, 1);
  assert.equal(long.slice(0, 3), [{ at: 1000, lengths: [900] }, { at: 1001, lengths: [811] }, { at: 1002, lengths: [731] }]);
});

test("next never comes back to what has been: not where more has been read than was planned", () => {
  const step = knormSteps({ keepRatio: 0.9, pruneAfter: 100, skipLayers: [], chunk: 8 });
  assert.is(step.next({ prompt: 20, seen: 150, length: 150, acted: 0 }), 156);
  assert.is(step.next({ prompt: 20, seen: 156, length: 141, acted: 1 }), 164);
  const often = decoding({ press: fakePress({ keep: half }), every: 8, target: 100 });
  assert.is(often.next({ prompt: 20, seen: 156, length: 156, acted: 0 }), 156);
  assert.is(often.next({ prompt: 20, seen: 156, length: 100, acted: 1 }), 164);
});

test.run();
