/**
 * The composition matrix against the library as it is: what docs/composition.json calls refused is refused for that reason, before a shader is
 * compiled, and a few of the cells that it calls ok run again, with all that makes them ok.
 */

import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AXES, MODELS, VALUES, type Cell } from "../../bench/core/matrix/axes.ts";
import { cellAt, keyOf, pairsOf } from "../../bench/core/matrix/cells.ts";
import { pairName, type Composition } from "../../bench/core/matrix/composition.ts";
import { judge } from "../../bench/core/matrix/judge.ts";
import { runMatrix } from "../../bench/core/matrix/run.ts";
import type { Outcomes } from "../../bench/core/matrix/trial.ts";
import { Gpu } from "../../engine/gpu.ts";
import { LLM } from "../../index.ts";
import { countCalls, withGpus, withoutWarmUp } from "../support/llm.ts";

const test = suite("the composition matrix on the bundled models");
test.after(withoutWarmUp());
const ROOT = new URL("../../", import.meta.url);
const composition = JSON.parse(readFileSync(new URL("docs/composition.json", ROOT), "utf8")) as Composition;
const TEXT = readFileSync(new URL("assets/texts/persuasion.txt", ROOT), "utf8").slice(3000, 9000);

async function outcomesOf(model: string, cells: readonly Cell[], onLoaded: () => void = () => {}): Promise<Outcomes> {
  const { outcomes, status } = await runMatrix(model, cells, { text: TEXT, adapter: "auto", before: new Map() }, {
    onStep: () => {}, onGroup: () => {}, signal: new AbortController().signal,
    load: async (name, options) => {
      const llm = await LLM.load(name, options);
      onLoaded();
      return llm;
    },
  });
  assert.is(status, "complete");
  return outcomes;
}

/** Refused cells of a model with their reasons, as the document has them. */
function refusedOf(model: string): Map<string, { cell: Cell; reason: string }> {
  const { pairs, reasons } = composition.models.find((one) => one.model === model)!;
  return new Map(pairsOf(AXES).flatMap((pair) => pairs[pairName(pair)]!.flatMap((line, row) => line.split(" ").flatMap((code, column) => {
    if (!code.startsWith("r")) return [];
    const cell = cellAt({ [pair[0]]: VALUES[pair[0]][row]!, [pair[1]]: VALUES[pair[1]][column]! });
    return [[keyOf(cell), { cell, reason: reasons[Number(code.slice(1)) - 1]! }] as const];
  }))));
}

for (const model of MODELS) {
  test(`${model}: refused as ever, and no shader was compiled for it`, async () => {
    const refused = refusedOf(model);
    assert.ok(refused.size > 0);
    // Of each device that was opened: modules so far, and when the LLM on it was loaded, which takes one for the weights of some models.
    const modules: (() => number)[] = [], loaded: number[] = [];
    await withGpus({}, async () => {
      const outcomes = await outcomesOf(model, [...refused.values()].map(({ cell }) => cell), () => { loaded.push(modules.at(-1)!()); });
      const found = [...refused.values()].map(({ cell, reason }) => {
        const verdict = judge(cell, outcomes);
        return [keyOf(cell), reason, verdict.status === "refused" ? `${verdict.type} at ${verdict.at}: ${verdict.reason}` : JSON.stringify(verdict)];
      });
      assert.equal(found.filter(([, documented, now]) => documented !== now), []);
    }, (gpu: Gpu) => {
      const asked = countCalls(gpu);
      modules.push(() => asked.calls.get("createShaderModule") ?? 0);
    });
    assert.equal(modules.map((count) => count()), loaded, "what is refused at load opens no device, and what is refused at a request compiles nothing");
  });
}

test("tiny-neox: a press and a prefix cache are ok again", async () => {
  const cells = [{}, { press: "streaming_llm" }, { layout: "paged-prefix" }].map((changes) => cellAt(changes));
  const outcomes = await outcomesOf("tiny-neox", cells);
  assert.equal(cells.map((cell) => judge(cell, outcomes)), cells.map(() => ({ status: "ok", note: null })));
  const compared = cells.map((cell) => outcomes.get(keyOf(cell))!).map((outcome) => (outcome.state === "ran" ? outcome.compared : null));
  assert.equal(compared, [0, 2, 2], "the idle press with none, the prefix cache with paged");
});

test.run();
