/**
 * Selection against its twin, exactly: cuts, indices and marks, head by head and together, over lengths around the widths of subgroups and
 * workgroups and scores that tie, are extreme, or are no numbers. What lies behind a head's length is neither counted nor written.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import type { Recorder } from "../../engine/recorder.ts";
import * as twin from "../../kernels/reference/select.ts";
import { compact, mark, threshold, thresholdMarked, type Selection } from "../../kernels/select.ts";
import { dispatch, numbers, openFamilies, put, release, shuffled, take, takeU32 } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const COLUMNS = 5056;
const LENGTHS = [0, 1, 7, 8, 9, 63, 64, 65, 2048, 5000, 5056];
const H = LENGTHS.length;
const MOST = 3.4028234663852886e38;
const UNTOUCHED = 0xdeadbeef; // as test/support/gpu.ts fills what holds no values

/** Scores of a head of `length` entries. */
const SCORES: Readonly<Record<string, (length: number, head: number) => Float32Array>> = {
  "as a model gives them": (length, head) => numbers(length, 7 + head),
  "all different": (length, head) => Float32Array.from(shuffled(length, head), (i) => (i - length / 2) / 3),
  "all equal": (length) => new Float32Array(length).fill(-1.5),
  "zeros of both signs": (length) => Float32Array.from({ length }, (_, i) => (i % 3 === 0 ? 0 : i % 3 === 1 ? -0 : i % 7 === 2 ? 1e-45 : -1e-45)),
  "extreme": (length, head) => Float32Array.from(numbers(length, head), (value, i) => [value, MOST, -MOST, Infinity, -Infinity, 2 ** -140][i % 6]!),
  "broken here and there": (length, head) => Float32Array.from(numbers(length, head), (value, i) => (i % 4 === 1 ? NaN : value)),
  "all broken": (length) => new Float32Array(length).fill(NaN),
};

/** Shares of a head to keep, and numbers that are more than there is. */
const KEEPS: readonly ((length: number, head: number) => number)[] = [
  (length) => Math.floor(length / 2), () => 0, (length) => length, () => 1, (length) => Math.max(0, length - 1), (length, head) => (head % 2 === 0 ? length + 9 : 5),
];

async function put2d(gpu: Gpu, heads: readonly Float32Array[]): Promise<Selection> {
  const scores = new Float32Array(H * COLUMNS).fill(MOST); // behind a head's length: what would be kept first if it were looked at
  heads.forEach((head, h) => scores.set(head, h * COLUMNS));
  return {
    scores: await put(gpu, [H, COLUMNS], scores, "f32", "scores"), lengths: await put(gpu, [H], heads.map(({ length }) => length), "u32", "lengths"),
    cut: await put(gpu, [H, 4], null, "u32", "cut"),
  };
}

/** Choose and compact; what the kernels found. */
async function select(
  gpu: Gpu, heads: readonly Float32Array[], choose: (recorder: Recorder, selection: Selection) => void,
): Promise<{ cuts: number[][]; order: Uint32Array }> {
  const selection = await put2d(gpu, heads), order = await put(gpu, [H, COLUMNS], null, "u32", "order");
  await dispatch(gpu, (recorder) => {
    choose(recorder, selection);
    compact(recorder, { ...selection, order });
  });
  const words = await takeU32(gpu, selection.cut);
  const found = { cuts: heads.map((_, h) => [...words.subarray(4 * h, 4 * h + 4)]), order: await takeU32(gpu, order) };
  await take(gpu, selection.lengths);
  release(gpu, ...Object.values(selection), order);
  return found;
}

function same({ cuts, order }: { cuts: number[][]; order: Uint32Array }, heads: readonly Float32Array[], expected: readonly twin.Cut[], what: string): void {
  assert.equal(cuts, expected, what);
  heads.forEach((scores, h) => {
    const indices = twin.compact(scores, expected[h]!);
    assert.is(indices.length, expected[h]![2], `${what}, head ${h}: the cut says how many are kept`);
    const row = order.subarray(h * COLUMNS, (h + 1) * COLUMNS);
    assert.equal([...row.subarray(0, indices.length)], indices, `${what}, head ${h}`);
    assert.ok(row.subarray(indices.length).every((word) => word === UNTOUCHED), `${what}, head ${h}: written behind what is kept`);
  });
}

for (const gpu of gpus) {
  for (const [name, of] of Object.entries(SCORES)) {
    const heads = LENGTHS.map(of);

    test(`threshold and compact, ${gpu.family}: each head's highest, scores ${name}`, async () => {
      for (const [i, share] of KEEPS.entries()) {
        const keep = LENGTHS.map(share), dtype = i === 0 ? "f32" : "u32";
        const tensor = await put(gpu, [H], keep, dtype, "keep");
        const found = await select(gpu, heads, (recorder, selection) => threshold(recorder, { ...selection, keep: tensor }));
        same(found, heads, twin.threshold(heads, keep), `keep ${keep.join(" ")}`);
        found.cuts.forEach(([, , kept], h) => assert.is(kept, Math.min(keep[h]!, LENGTHS[h]!)));
        release(gpu, tensor);
      }
    });

    test(`threshold and compact, ${gpu.family}: the highest of all heads together, scores ${name}`, async () => {
      const all = LENGTHS.reduce((sum, length) => sum + length, 0);
      for (const keep of [Math.floor(all / 2), 0, 3, all - 1, all, all + 100]) {
        const tensor = await put(gpu, [1], [keep], "u32", "keep");
        const found = await select(gpu, heads, (recorder, selection) => threshold(recorder, { ...selection, keep: tensor }, { together: true }));
        same(found, heads, twin.thresholdTogether(heads, keep), `keep ${keep} of ${all}`);
        assert.is(found.cuts.reduce((sum, [, , kept]) => sum + kept!, 0), Math.min(keep, all));
        release(gpu, tensor);
      }
    });

    test(`thresholdMarked and compact, ${gpu.family}: what is above zero, scores ${name}`, async () => {
      same(await select(gpu, heads, thresholdMarked), heads, twin.thresholdMarked(heads), "marked");
    });
  }

  for (const marks of [{ kept: MOST, others: null }, { kept: 1, others: -0.5 }]) {
    test(`mark, ${gpu.family}: kept scores become ${marks.kept}, others ${marks.others ?? "stay"}, those behind a head's length too`, async () => {
      for (const name of ["as a model gives them", "all equal", "broken here and there"]) {
        const heads = LENGTHS.map(SCORES[name]!), keep = LENGTHS.map((length) => Math.ceil(length / 3));
        const selection = await put2d(gpu, heads), tensor = await put(gpu, [H], keep, "u32", "keep");
        await dispatch(gpu, (recorder) => {
          threshold(recorder, { ...selection, keep: tensor });
          mark(recorder, selection, marks);
        });
        const scores = new Float32Array((await take(gpu, selection.scores)).buffer);
        twin.threshold(heads, keep).forEach((cut, h) => {
          const expected = new Float32Array(COLUMNS).fill(MOST);
          expected.set(twin.mark(heads[h]!, cut, marks));
          assert.equal([...scores.subarray(h * COLUMNS, (h + 1) * COLUMNS)], [...expected], `${name}, head ${h}`);
        });
        release(gpu, ...Object.values(selection), tensor);
      }
    });
  }

  test(`select, ${gpu.family}: shapes that do not fit are refused by name`, async () => {
    const selection = await put2d(gpu, LENGTHS.map(() => new Float32Array()));
    const keep = await put(gpu, [1], [1], "u32", "keep"), odd = await put(gpu, [H, 6], null, "f32", "odd");
    const refused = (record: (recorder: Recorder) => void, message: RegExp): Promise<void> =>
      dispatch(gpu, record).then(() => assert.unreachable("was taken"), (error: Error) => assert.match(error.message, message));
    await refused((recorder) => threshold(recorder, { ...selection, keep }), /threshold: keep must have 11 at axis 0, but has 1/);
    await refused((recorder) => thresholdMarked(recorder, { ...selection, scores: odd }), /thresholdMarked: scores have 6 columns, which must be a multiple of 4/);
    await refused((recorder) => compact(recorder, { ...selection, order: odd }), /compact: order must have 5056 at axis 1, but has 6/);
    release(gpu, ...Object.values(selection), keep, odd);
  });
}

test.run();
