/** The composition matrix without a GPU: which cells there are and in which order, what is judged a bug, what the tables say, and the command. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AXES, DEFAULTS, MODELS, pressesOf, pressText, VALUES, type Axis, type Cell } from "../../bench/core/matrix/axes.ts";
import { cellAt, cellsOf, groupsOf, keyOf, pairsOf, qualityBase, sameTextAs } from "../../bench/core/matrix/cells.ts";
import { main } from "../../bench/core/matrix/command.ts";
import { compositionJson, compositionOf, hasBug, type Composition } from "../../bench/core/matrix/composition.ts";
import { judge, NOTHING_SHARED, type Verdict } from "../../bench/core/matrix/judge.ts";
import { matrixDocument, matrixText } from "../../bench/core/matrix/render.ts";
import { runMatrix } from "../../bench/core/matrix/run.ts";
import type { Outcomes } from "../../bench/core/matrix/trial.ts";
import { KV_FORMATS } from "../../kernels/kv_formats.ts";
import { WEIGHT_FORMATS } from "../../kernels/formats.ts";
import { PRESS_NAMES } from "../../techniques/press/spec.ts";
import { LAYOUT_ARMS } from "../../bench/core/arms.ts";
import { fakeTried, type FakeMatrix } from "./matrix_fake.ts";

const test = suite("the composition matrix");
const folder = mkdtempSync(join(tmpdir(), "dawnlm-matrix-"));
test.after(() => { rmSync(folder, { recursive: true }); });

const FROM_DOCS = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");
const MACHINE = { dawnlm: "1.2.3", packages: { webgpu: "4.5.6" } };

async function tried(cells: readonly Cell[], fake: FakeMatrix = {}, before: Outcomes = new Map(), abortAt = Infinity) {
  const stop = new AbortController(), steps: string[] = [], saved: number[] = [];
  const run = await runMatrix("stand-in", cells, { text: "words", adapter: "auto", before }, {
    load: fakeTried(fake), signal: stop.signal, onGroup: ({ outcomes }) => { saved.push(outcomes.size); }, ...(fake.spoil === "never ends" && { longestMs: 20 }),
    onStep: (label, done) => {
      steps.push(label);
      if (done >= abortAt) stop.abort();
    },
  });
  return { ...run, steps, saved };
}

/** The verdict on one cell when it and all that it is held against have run. */
async function verdictOf(cell: Cell, fake: FakeMatrix): Promise<Verdict> {
  const axes = AXES.filter((axis) => cell[axis] !== DEFAULTS[axis]), pair = axes.length > 1 ? axes : ([...axes, ...AXES.filter((axis) => !axes.includes(axis))].slice(0, 2));
  const { outcomes } = await tried(cellsOf(pair), fake);
  return judge(cell, outcomes);
}

async function problemsOf(cell: Cell, fake: FakeMatrix): Promise<string> {
  const verdict = await verdictOf(cell, fake);
  assert.is(verdict.status, "BUG", `${keyOf(cell)}, ${fake.spoil}: ${JSON.stringify(verdict)}`);
  return verdict.status === "BUG" ? verdict.problems.join("; ") : "";
}

test("every two values of different axes, each cell once, and whatever a cell is held against runs before it", () => {
  const cells = cellsOf(AXES), keys = new Set(cells.map(keyOf));
  assert.is(keys.size, cells.length);
  for (const [a, b] of pairsOf(AXES)) for (const x of VALUES[a]) for (const y of VALUES[b]) assert.ok(keys.has(keyOf(cellAt({ [a]: x, [b]: y }))), `${x}, ${y}`);
  assert.is(pairsOf(AXES).length, 10);
  const order = groupsOf(cells).flatMap((group) => group.cells.map(keyOf));
  assert.is(order.length, cells.length);
  for (const cell of cells) {
    const at = order.indexOf(keyOf(cell));
    for (const other of sameTextAs(cell).flatMap(({ cells }) => cells)) assert.ok(order.indexOf(keyOf(other)) < at && keys.has(keyOf(other)), `${keyOf(cell)} before ${keyOf(other)}`);
    if (cell.press !== "none") assert.ok(order.indexOf(keyOf({ ...cell, press: "none" })) < at);
    const base = qualityBase(cell);
    assert.ok(base === null ? cell.weights === DEFAULTS.weights && cell.kv === DEFAULTS.kv : keys.has(keyOf(base)), keyOf(cell));
  }
  const groups = groupsOf(cells);
  assert.is(new Set(groups.map(({ load }) => keyOf({ ...load, press: "" }))).size, groups.length);
  assert.ok(groups.length < cells.length / 3, `${groups.length} loads for ${cells.length} cells`);
});

test("each press of the matrix acts by its own parameters, and has a twin that evicts nothing", () => {
  for (const name of VALUES.press.slice(1)) {
    const { acting, idle } = pressesOf(name)!;
    assert.is.not(acting.name, idle.name);
    const at = acting.next({ prompt: 97, seen: 97, length: 97, acted: 0 })!;
    const keeps = (press: typeof acting): (number | "marked")[] => press.stages.map((stage) => stage.keep({ prompt: 97, seen: at, length: at, acted: 0, layer: 1, layers: 4, kvHeads: 2 }));
    assert.ok(keeps(acting).some((kept) => kept === "marked" || kept < at), name);
    assert.ok(at < 97 + 24, `${name} acts at ${at}`);
  }
});

test("one load for all presses; a refused load refuses them all, a crash costs the cell and a new load", async () => {
  const loads: string[] = [], cells = cellsOf(["kv", "press"]);
  const { outcomes, status, saved } = await tried(cells, { onLoad: ({ kv }) => { loads.push(JSON.stringify(kv)); } });
  assert.equal([status, outcomes.size, loads.length, saved.length, saved.at(-1)], ["complete", cells.length, VALUES.kv.length, VALUES.kv.length, cells.length]);

  let [opened, closed] = [0, 0];
  const broken = await tried(cellsOf(["press", "layout"]).filter(({ layout }) => layout === "paged"), {
    spoil: "crashes", where: (_, press) => press?.name.startsWith("tova") === true, onLoad: () => { opened++; }, onClose: () => { closed++; },
  });
  const states = [...broken.outcomes.values()].map(({ state }) => state);
  assert.equal([opened, closed, states.filter((state) => state === "failed").length, states.filter((state) => state === "ran").length], [2, 2, 1, VALUES.press.length - 1]);
  assert.match(await problemsOf(cellAt({ press: "tova" }), { spoil: "crashes" }), /TypeError: undefined is not a buffer/);

  assert.match(await problemsOf(cellAt({ press: "tova" }), { spoil: "never ends", where: (_, press) => press?.name.startsWith("tova") === true }), /Error: no end after 0\.02 s/);

  const refused = judge(cellAt({ kv: "kivi4", layout: "contiguous-max" }), (await tried(cellsOf(["kv", "layout"]))).outcomes);
  assert.equal(refused, { status: "refused", at: "load", type: "UsageError", reason: "kv: kivi4 needs blocks" });
});

test("an interrupted run keeps its groups and goes on where it stopped", async () => {
  const cells = cellsOf(["weights", "kv"]), first = await tried(cells, {}, new Map(), 20);
  assert.is(first.status, "interrupted");
  assert.ok(first.outcomes.size >= 19 && first.outcomes.size < cells.length, String(first.outcomes.size));
  const rest = await tried(cells, {}, first.outcomes);
  assert.equal([rest.status, rest.outcomes.size, rest.steps.length], ["complete", cells.length, cells.length - first.outcomes.size + 1]);
  assert.equal([...rest.outcomes].sort(), [...(await tried(cells)).outcomes].sort());
});

test("ok only where everything was seen at work and every text is the one it must be", async () => {
  const { outcomes } = await tried(cellsOf(AXES));
  const composition = compositionOf([{ model: "stand-in", adapter: null, seconds: 1, outcomes }], AXES, MACHINE);
  assert.equal([composition.models[0]!.bugs, hasBug(composition)], [[], false]);
  assert.equal(judge(cellAt({ press: "expected_attention", layout: "paged-prefix" }), outcomes), { status: "ok", note: NOTHING_SHARED });

  const drafted = cellAt({ weights: "nf4", draft: "prompt-lookup" }), prefix = cellAt({ kv: "int8", layout: "paged-prefix" }), pressed = cellAt({ kv: "int8", press: "knorm" });
  assert.match(await problemsOf(cellAt({ weights: "nf4", kv: "int8" }), { spoil: "keeps floats" }), /weights: 0\.0 % are held in nf4/);
  assert.match(await problemsOf(cellAt({ weights: "nf4", kv: "int8" }), { spoil: "keeps kv" }), /kv: \d+ bytes are taken, but blocks of int8 take \d+/);
  assert.match(await problemsOf(pressed, { spoil: "evicts nothing" }), /press: knorm evicted 0 and 0 entries/);
  assert.match(await problemsOf(drafted, { spoil: "drafts nothing" }), /draft: prompt-lookup drafted 0 and 0 tokens/);
  assert.match(await problemsOf(prefix, { spoil: "shares nothing" }), /0 and 0 tokens of the prompts came out of the prefix cache/);
  assert.match(await problemsOf(cellAt({ weights: "nf4", layout: "contiguous-exact" }), { spoil: "reserves all" }), /320 tokens were reserved where contiguous-exact reserves 218/);
  assert.match(await problemsOf(drafted, { spoil: "draft changes text" }), /another than without the draft, from token 6 of prompt 1 on, where the two tokens are 2\.0 nats apart/);
  assert.match(await problemsOf(prefix, { spoil: "prefix changes text" }), /another than in another layout, from token 6 of prompt 1 on/);
  assert.match(await problemsOf(pressed, { spoil: "idle press changes text" }), /with a press that evicts nothing the text is another than without one/);
  assert.match(await problemsOf(cellAt({ weights: "nf4", kv: "int8" }), { spoil: "predicts badly", where: ({ weights }) => weights === "nf4" }), /takes 2\d\.\d % more nats per token than with f32; 3\.0 % are allowed/);
  assert.match(await problemsOf(pressed, { spoil: "predicts NaN" }), /predicted at NaN nats/);
  assert.match(await problemsOf(cellAt({ press: "knorm", layout: "contiguous-max" }), { spoil: "refuses late" }), /refused only after 1 forward passes/);
  assert.is((await verdictOf(drafted, { spoil: "close call" })).status, "ok", "a tie is none of the draft's doing");
  assert.equal(judge(pressed, new Map()), { status: "BUG", problems: ["it was not tried"] });
  const alone = new Map(outcomes);
  alone.set(keyOf(cellAt({ weights: "nf4" })), { state: "failed", reason: "Error: a crash" });
  assert.match(JSON.stringify(judge(drafted, alone)), /held against none: nf4 · f16 · none · paged · none did not run/);
  const bits = new Map(outcomes), own = outcomes.get(keyOf(cellAt({ kv: "bf16" })))!, plain = outcomes.get(keyOf(cellAt({})))!;
  if (own.state === "ran" && plain.state === "ran") bits.set(keyOf(cellAt({ kv: "bf16" })), { ...own, nll: plain.nll });
  assert.match(JSON.stringify(judge(cellAt({ kv: "bf16" }), bits)), /predictions are those of f16 to the last bit/);
});

test("tables: reasons by number, both outcomes where models differ, and the document from its data alone", async () => {
  const axes: Axis[] = ["kv", "layout"], good = (await tried(cellsOf(axes))).outcomes, bad = (await tried(cellsOf(axes), { spoil: "shares nothing", where: ({ kv }) => kv === "int4" })).outcomes;
  const composition = compositionOf([{ model: "one", adapter: null, seconds: 61, outcomes: good }, { model: "two", adapter: null, seconds: 1, outcomes: bad }], axes, MACHINE);
  assert.equal(composition.models.map(({ counts }) => counts), [{ ok: 26, refused: 2, bug: 0 }, { ok: 25, refused: 2, bug: 1 }]);
  const text = matrixText(composition);
  assert.match(text, /\| kv ↓ layout → \| contiguous-max \| contiguous-exact \| paged \| paged-prefix \|/);
  assert.match(text, /\| `int4` \| ok \| ok \| ok \| ok \/ \*\*BUG\*\* \(1\) \|\n\| `kivi4` \| – \(2\) \| – \(2\) \| ok \| ok \|/);
  assert.match(text, /1\. two, f16 · int4 · none · paged-prefix · none: layout: 0 and 0 tokens[^\n]*\n2\. UsageError at load: kv: kivi4 needs blocks\n/);
  assert.match(text, /one: 26 ok, 2 refused, 0 bugs\ntwo: 25 ok, 2 refused, 1 bug\n/);
  const again = JSON.parse(compositionJson(composition)) as Composition;
  assert.is(matrixDocument(again), matrixDocument(composition));
  assert.match(matrixDocument(again), /^# What goes together\n\nThis page is generated by `node bench\/matrix\.ts --write docs\/composition\.md`[^]*1 of 56 combinations are bugs\./);
});

test("docs/composition.md is what its data say, and they name every format, press and layout of today", () => {
  const composition = JSON.parse(FROM_DOCS("composition.json")) as Composition;
  assert.is(FROM_DOCS("composition.md"), matrixDocument(composition), "run its command again; the page is not written by hand");
  assert.equal(composition.axes, VALUES);
  assert.equal(composition.axes.weights, [...WEIGHT_FORMATS]);
  assert.equal(composition.axes.kv!.slice(0, KV_FORMATS.length), [...KV_FORMATS]);
  assert.equal(composition.axes.press, ["none", ...PRESS_NAMES]);
  assert.equal(composition.axes.layout, [...LAYOUT_ARMS]);
  assert.equal(Object.entries(composition.presses), PRESS_NAMES.map((name) => [name, pressText(name)]));
  assert.equal(composition.models.map(({ model }) => model), [...MODELS]);
  const cells = cellsOf(AXES).length;
  for (const { model, counts: { ok, refused, bug } } of composition.models) assert.equal([model, ok + refused, bug], [model, cells, 0]);
});

async function command(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const seen = { out: "", err: "" }, originals = [process.stdout, process.stderr].map((stream) => stream.write);
  process.stdout.write = ((chunk: string) => { seen.out += chunk; return true; }) as typeof process.stdout.write;
  process.stderr.write = ((chunk: string) => { seen.err += chunk; return true; }) as typeof process.stderr.write;
  try {
    return { code: await main(["--output-dir", folder, ...argv], fakeTried(spoiled)), ...seen };
  } finally {
    [process.stdout.write, process.stderr.write] = originals as [typeof process.stdout.write, typeof process.stderr.write];
  }
}
let spoiled: FakeMatrix = {};

test("the command: tables or JSON, exit code 5 for a bug, --resume, --write, and mistakes before anything is loaded", async () => {
  const one = await command("--model", "tiny-neox", "--axes", "kv,layout");
  assert.is(one.err, "tiny-neox: 28 of 28 combinations to try, loads: 28, minutes on two cores: 1 to 2\n");
  assert.equal([one.code, /tiny-neox: 26 ok, 2 refused, 0 bugs\n$/.test(one.out)], [0, true], one.err + one.out);
  const loads: unknown[] = [];
  spoiled = { onLoad: (options) => { loads.push(options); } };
  const resumed = await command("--model", "tiny-neox", "--axes", "kv,layout", "--resume");
  assert.equal([resumed.code, resumed.out, loads], [0, one.out, []]);

  const path = join(folder, "matrix-tiny-neox", "outcomes.json"), saved = readFileSync(path, "utf8");
  for (const [content, why] of [["{", /cannot be read/], ["{}", /is no file of outcomes/], [saved.replace(/"protocol":"\[/, '"protocol":"[0,'), /are not those of today/],
    [saved.replace(/"commit":[^,]*/, '"commit":"abc"'), /it is of commit abc/]] as const) {
    writeFileSync(path, content);
    const refused = await command("--model", "tiny-neox", "--axes", "kv,layout", "--resume");
    assert.equal([refused.code, why.test(refused.err), /run without --resume/.test(refused.err), loads], [2, true, true, []], refused.err);
  }

  spoiled = { spoil: "drafts nothing" };
  const bad = await command("--axes", "layout,draft", "--json", "--no-save");
  assert.is(bad.code, 5);
  assert.equal((JSON.parse(bad.out) as Composition).models.map(({ counts }) => counts), MODELS.map(() => ({ ok: 4, refused: 0, bug: 16 })));

  spoiled = {};
  const whole = await command("--no-save", "--write", join(folder, "page.md"));
  assert.is(whole.code, 0, whole.err);
  assert.is(readFileSync(join(folder, "page.md"), "utf8"), matrixDocument(JSON.parse(readFileSync(join(folder, "page.json"), "utf8")) as Composition));

  const wrong = await command("--axes", "kv", "--model", "gpt2", "--write", "page.txt");
  assert.equal([wrong.code, wrong.err.trimEnd().split("\n").length], [2, 4], wrong.err);
  assert.match(wrong.err, /--model: expected one or both of tiny-neox, tiny-qwen2[^]*--axes: expected two or more of weights, kv, press, layout, draft[^]*--write: expected the name of a Markdown file/);
});

test.run();
