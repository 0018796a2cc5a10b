/**
 * Presses in the real engine against kvpress (fixtures/press has the script that made the goldens, in double): every head of every layer of
 * tiny-qwen2 must keep what kvpress keeps of the same text, and tokens that follow must have its logits.
 */

import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Pressing } from "../../../models/pressing.ts";
import { pressOf, type PressSpec } from "../../../techniques/press/spec.ts";
import { entriesOf, withEngine, type Engine } from "../../support/engine.ts";
import { folderOf, relativeError } from "../../support/llm.ts";

interface Case {
  readonly spec: PressSpec;
  readonly position: number;
  readonly kept: number[][][];
  /** [layer, head, entry, entry]: pairs of which either may be kept, so close are their scores in double. */
  readonly close: number[][];
  readonly argmax: number[];
  readonly logits: number[][];
}
interface Golden { readonly ids: number[]; readonly following: number[]; readonly columns: number; readonly cases: Case[] }
const golden = JSON.parse(readFileSync(new URL("../../fixtures/press/kvpress_tiny_qwen2.json", import.meta.url), "utf8")) as Golden;

/** Read `ids` in chunks of 64 rows, as the press wants to be shown them. */
async function read({ cache, runner, presser, tables }: Engine, slot: number, pressing: Pressing, ids: readonly number[]): Promise<void> {
  presser.watch(slot, pressing);
  for (let start = 0; start < ids.length; start += 64) {
    const chunk = ids.slice(start, start + 64);
    assert.ok(tables.reserve(slot, chunk.length));
    await cache.sync();
    runner.writeBatch("prefill", chunk.map((id, offset) => ({ id, position: start + offset, sequence: slot, offset })), [], []);
    await runner.forward(chunk.length, presser.captures([{ pressing }]));
    tables.advance(slot, chunk.length);
  }
}

/** What may be kept where each of `swaps` is one or the other. */
function choices(kept: readonly number[], swaps: readonly (readonly [number, number])[]): number[][] {
  return swaps.reduce<number[][]>((sets, [a, b]) => sets.flatMap((set) => {
    const [has, lacks] = set.includes(a) ? [a, b] : [b, a];
    return set.includes(lacks) || !set.includes(has) ? [set] : [set, set.map((i) => (i === has ? lacks : i)).sort((x, y) => x - y)];
  }), [[...kept]]);
}

async function follow({ cache, runner, tables, config }: Engine, slot: number, position: number, ids: readonly number[]): Promise<Float32Array[]> {
  assert.ok(tables.reserve(slot, ids.length));
  await cache.sync();
  runner.writeBatch("prefill", ids.map((id, offset) => ({ id, position: position + offset, sequence: slot, offset })), ids.map((_, row) => row), []);
  await runner.forward(ids.length);
  const logits = await runner.readLogits(ids.length);
  tables.advance(slot, ids.length);
  return ids.map((_, row) => logits.subarray(row * config.vocabSize, (row + 1) * config.vocabSize));
}

test("what kvpress keeps is kept, and the logits that follow are its", async () => {
  await withEngine({ folder: folderOf("tiny-qwen2"), weights: "f32", maxModelLen: 320 }, async (engine) => {
    const { tables, presser, config: { layers, kvHeads } } = engine;
    for (const each of golden.cases) await presser.provide(pressOf(each.spec));
    for (const each of golden.cases) {
      const { spec, position, kept, close, argmax, logits } = each, press = pressOf(spec), where = press.name;
      presser.check(press);
      const slot = tables.open(320)!, pressing = new Pressing(press, golden.ids.length);
      await read(engine, slot, pressing, golden.ids);
      const heads = Array.from({ length: layers * kvHeads }, (_, table) => [Math.floor(table / kvHeads), table % kvHeads] as const);
      let swapped = false;
      const before: Awaited<ReturnType<typeof entriesOf>>[] = [];
      for (const [layer, head] of heads) before.push(await entriesOf(engine, slot, layer, head));
      await presser.act(slot, pressing, () => false);
      for (const [table, [layer, head]] of heads.entries()) {
        const left = await entriesOf(engine, slot, layer, head);
        // What the first of two presses takes of two equal entries, the second goes on with.
        if (press.stages.length > 1 && close.some(([l, h]) => l === layer && h === head)) {
          swapped = true;
          continue;
        }
        const swaps = close.filter(([l, h]) => l === layer && h === head).map(([, , a, b]) => [a!, b!] as const);
        const expected = choices(kept[layer]![head]!, swaps).map((indices) => indices.map((i) => before[table]![i]!));
        // A value of the first layer may come twice, with its token; keys are told apart by their positions, unless they are rotated anew.
        const same = (entries: typeof left): boolean => entries.length === left.length && entries.every(({ k, v }, i) =>
          v.join() === left[i]!.v.join() && (press.positions === "rerotate" || k.join() === left[i]!.k.join()));
        assert.ok(expected.some(same), `${where} layer ${layer} head ${head}`);
        if (!same(expected[0]!)) swapped = true;
      }
      tables.check();
      const report = pressing.report();
      assert.equal(report.kept, kept.map((heads) => heads.map(({ length }) => length)), where);
      assert.is(report.evicted, kept.flat().reduce((sum, { length }) => sum + golden.ids.length - length, 0));
      const rows = await follow(engine, slot, position, golden.following);
      rows.forEach((row, i) => {
        const error = relativeError(row.subarray(0, golden.columns), Float32Array.from(logits[i]!));
        assert.ok(error < (swapped ? 0.05 : 2e-4), `${where}: logits of token ${i} are off by ${error}`);
        assert.is(row.indexOf(Math.max(...row)), argmax[i], where);
      });
      tables.close(slot);
      assert.is(tables.pool.used, 0);
    }
  });
});

test.run();
