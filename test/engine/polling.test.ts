/** Dawn's looks are put off while a software adapter is waited for; nothing and nobody else is. */

import { setImmediate as turn } from "node:timers/promises"; // not the global one, which is what is tested
import { promisify } from "node:util";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { asPoll, waited } from "../../engine/polling.ts";

/** How many turns of the event loop pass until `callback` of the global setImmediate runs; a native function stands for Dawn's look. */
async function turnsUntil(kind: "ours" | "native" | "marked"): Promise<number> {
  let turns = 0, done = false;
  const finish = (): void => { done = true; };
  const callback = { ours: finish, native: finish.bind(null), marked: asPoll(() => { done = true; }) }[kind];
  globalThis.setImmediate(callback);
  while (!done) {
    turns++;
    await turn();
  }
  return turns;
}

test("without patience nothing is replaced", async () => {
  const { setImmediate: before } = globalThis;
  assert.is(await waited(Promise.resolve(3), false), 3);
  assert.is(globalThis.setImmediate, before);
});

test("with patience: looks wait for a timer, other callbacks do not, and afterwards all is as before", async () => {
  let finish = (_: number): void => {};
  const pending = waited(new Promise<number>((resolve) => { finish = resolve; }), true);
  assert.ok(await turnsUntil("ours") < 10);
  const started = performance.now();
  await turnsUntil("native");
  await turnsUntil("marked");
  assert.ok(performance.now() - started >= 1, "two timers of a millisecond");
  assert.is(await promisify(setImmediate)("kept"), "kept", "util.promisify has its own version");
  finish(7);
  assert.is(await pending, 7);
  assert.ok(await turnsUntil("native") < 10);
  const failing = waited(Promise.reject(new Error("lost")), true);
  await failing.then(() => assert.unreachable(), (error: Error) => { assert.is(error.message, "lost"); });
  assert.ok(await turnsUntil("marked") < 10, "a failure ends the waiting too");
});

test.run();
