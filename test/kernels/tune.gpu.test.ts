/**
 * The timed search: what it finds is right and is used, what is wrong is never timed, and what it keeps on disk is believed only as far as
 * it can be true. Times themselves are not tested.
 */

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../../engine/gpu.ts";
import { linear } from "../../kernels/linear.ts";
import { chooseVariant, shapeKey, staticVariant, traitsOf, tunedVariants, type LinearShape, type Variant } from "../../kernels/linear_variants.ts";
import { loadTuning, tune } from "../../kernels/tune.ts";
import { readTuning, tuningFile, tuningFolder, writeTuning } from "../../kernels/tuning_cache.ts";

const gpu = await Gpu.open({ family: "software" });
const folder = await mkdtemp(join(tmpdir(), "dawnlm-tuning-"));
test.after(async () => {
  gpu.close();
  await rm(folder, { recursive: true });
});
test.before.each(() => tunedVariants(gpu).clear());

const ONE: LinearShape = { rows: "one", N: 72, K: 64, gated: true, normed: true, format: "f16" };
const MANY: LinearShape = { rows: "many", N: 40, K: 64, gated: false, normed: false, format: "bf16" };
const [SINGLE, DOUBLE]: readonly Variant[] = [{ kernel: "matvec_broadcast", subgroups: 1 }, { kernel: "matvec_broadcast", subgroups: 2 }];
const SMALL = { folder: null, cacheBytes: 1 << 12 } as const;

/** `linear`, but for one variant something else is launched. */
const spoiled = (victim: Variant, instead: typeof linear): typeof linear => (recorder, operands, options) =>
  (JSON.stringify(options.variant) === JSON.stringify(victim) ? instead : linear)(recorder, operands, options);

test("tune: times right variants, takes the fastest into use and gives all memory back", async () => {
  const { results, clock, file } = await tune(gpu, [ONE, MANY, ONE], SMALL);
  assert.is(results.length, 2, "a shape asked for twice is searched once");
  assert.is(clock, "wall");
  assert.is(file, null);
  for (const { shape, winner, ms, staticMs, timed, rejected } of results) {
    assert.equal(rejected, []);
    assert.ok(timed >= 1 && winner !== null && ms! > 0 && staticMs! >= ms!);
    assert.equal(tunedVariants(gpu).get(shapeKey(shape)), winner);
    assert.equal(chooseVariant(gpu, shape, 8), winner);
  }
  assert.is(gpu.ledger.report().total, 0);
});

test("tune: a wrong candidate is rejected with the output that shows it, though it would be the fastest", async () => {
  const off: typeof linear = (recorder, operands, options) => linear(recorder, operands, { ...options, activation: "gelu", activationFrom: MANY.N - 1 });
  const [victim, other]: readonly Variant[] = [{ kernel: "matmul_broadcast", rows: 8 }, { kernel: "matmul_broadcast", rows: 4 }];
  const { results: [result] } = await tune(gpu, [MANY], { ...SMALL, candidates: () => [victim!, other!], launch: spoiled(victim!, off) });
  assert.equal(result!.rejected.map(({ variant }) => variant), [victim]);
  assert.match(result!.rejected[0]!.reason, /output 39 of row \d+ is/);
  assert.equal(result!.winner, other);
  assert.equal(chooseVariant(gpu, MANY, 8), other);
  const skipping: typeof linear = (recorder, operands, options) => {
    // Only the first of the tile's rows: the others stay NaN.
    linear(recorder, { ...operands, y: { ...operands.y, shape: [8, MANY.N] }, x: { ...operands.x, shape: [8, MANY.K] } }, { ...options, rows: "one", variant: SINGLE! });
  };
  const { results: [second] } = await tune(gpu, [MANY], { ...SMALL, candidates: () => [victim!], launch: spoiled(victim!, skipping) });
  assert.is(second!.winner, null, "nothing right, nothing chosen");
  assert.match(second!.rejected[0]!.reason, /output 0 of row 1 is NaN/);
  assert.is(gpu.ledger.report().total, 0);
});

test("tune: a candidate that cannot be launched is rejected, and the search goes on", async () => {
  const failing: typeof linear = () => { throw new Error("matvec_broadcast.wgsl does not compile: …"); };
  const { results: [result] } = await tune(gpu, [ONE], { ...SMALL, candidates: () => [DOUBLE!, SINGLE!], launch: spoiled(DOUBLE!, failing) });
  assert.equal(result!.winner, SINGLE);
  assert.equal(result!.rejected, [{ variant: DOUBLE, reason: "matvec_broadcast.wgsl does not compile: …" }]);
});

test("tune: without time nothing is tried and nothing chosen", async () => {
  const { results } = await tune(gpu, [ONE, MANY], { ...SMALL, budgetMs: 0 });
  assert.equal(results.map(({ winner, timed, cutShort }) => ({ winner, timed, cutShort })), [{ winner: null, timed: 0, cutShort: true }, { winner: null, timed: 0, cutShort: true }]);
  assert.equal(chooseVariant(gpu, ONE, 8), staticVariant(ONE, traitsOf(gpu), 8));
});

test("loadTuning: winners come back in another process's words, for this device only", async () => {
  assert.equal(await loadTuning(gpu, folder), { count: 0, note: null });
  const { file } = await tune(gpu, [ONE], { ...SMALL, folder, candidates: () => [DOUBLE!] });
  assert.is(file, tuningFile(gpu, folder));
  await writeTuning(gpu, [{ shape: MANY, variant: { kernel: "matmul_broadcast", rows: 4 }, ms: 1 }], folder); // adds to what is there
  tunedVariants(gpu).clear();
  assert.equal(await loadTuning(gpu, folder), { count: 2, note: null });
  assert.equal(chooseVariant(gpu, ONE, 8), DOUBLE);
  assert.equal(chooseVariant(gpu, MANY, 8), { kernel: "matmul_broadcast", rows: 4 });
  assert.equal(await readdir(folder), [file!.split("/").at(-1)], "one file, and no temporary one beside it");
  const other = { ...gpu, device: gpu.device, adapter: { ...gpu.adapter, description: "another driver" }, subgroupSize: 8, family: "software" } as unknown as Gpu;
  assert.is.not(tuningFile(other, folder), file);
  assert.equal(await readTuning(other, folder), { tuned: [], note: null });
});

test("loadTuning: a file that is damaged, foreign or absurd is left alone with a note", async () => {
  const path = await writeTuning(gpu, [{ shape: ONE, variant: DOUBLE!, ms: 1 }], folder);
  const whole = await readFile(path, "utf8");
  const edited = (change: (content: Record<string, unknown>) => void): string => {
    const content = JSON.parse(whole) as Record<string, unknown>;
    change(content);
    return JSON.stringify(content);
  };
  const shape = ONE;
  const faults: readonly (readonly [string, RegExp])[] = [
    [whole.slice(0, whole.length / 2), /no JSON/], ["", /no JSON/], ["null", /no tuning file/], ["[1]", /no tuning file/], ['{"tuned":3}', /no tuning file/],
    [edited((content) => { content["package"] = "99.0.0"; }), /dawnlm 99\.0\.0 wrote it/], [edited((content) => { content["format"] = 7; }), /wrote it/],
    [edited((content) => { content["device"] = { vendor: "another" }; }), /another device or driver/],
    [edited((content) => { content["tuned"] = [{ shape, variant: { kernel: "matvec_broadcast", subgroups: 99 }, ms: 1 }, { shape, variant: DOUBLE, ms: "1" }, { shape: { ...shape, N: -1 }, variant: DOUBLE, ms: 1 }, 5]; }), /4 of its entries/],
    [edited((content) => { content["tuned"] = [{ shape, variant: { kernel: "matmul_matrix", m: 64, n: 64, units: "plain" }, ms: 1 }]; }), /1 of its entries/],
  ];
  for (const [text, reason] of faults) {
    await writeFile(path, text);
    const { count, note } = await loadTuning(gpu, folder);
    assert.is(count, 0);
    assert.match(note!, reason);
    assert.ok(note!.includes(path));
  }
  assert.equal(chooseVariant(gpu, ONE, 8), staticVariant(ONE, traitsOf(gpu), 8), "and the rules stand");
  await writeTuning(gpu, [{ shape: ONE, variant: SINGLE!, ms: 2 }], folder);
  assert.equal(await loadTuning(gpu, folder), { count: 1, note: null }, "the next search writes a good one over it");
});

test("tuningFolder: XDG_CACHE_HOME, else ~/.cache", () => {
  assert.is(tuningFolder({ XDG_CACHE_HOME: "/somewhere" }), "/somewhere/dawnlm/tuning");
  assert.match(tuningFolder({}), /\.cache\/dawnlm\/tuning$/);
});

test.run();
