/** nll against its twin: surprise, flags and divergence, alone and beside a base, in both families; steps of a ring, and what feedback writes. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { BATCH_HEADER, batchWords, layOutBatch } from "../../kernels/batch.ts";
import { nll, NLL_WORDS, unpackComparison, unpackSurprise, type Comparison, type Surprise } from "../../kernels/nll.ts";
import * as twin from "../../kernels/reference/nll.ts";
import { dispatch, near, numbers, openFamilies, put, release, takeU32, uniform } from "../support/gpu.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

const [ROWS, STEPS, SAMPLES, STEP] = [24, 5, 16, 13];
const UNTOUCHED = 77;

interface Case { readonly logits: Float32Array; readonly base?: Float32Array; readonly targets: readonly number[] }

/** Run step STEP over one sample per target. */
async function run(gpu: Gpu, { logits, base, targets }: Case, feedback: boolean): Promise<{ words: Uint32Array; batch: Uint32Array }> {
  const count = targets.length, vocab = logits.length / count, width = base === undefined ? NLL_WORDS.alone : NLL_WORDS.against;
  const padded = (values: Float32Array): Float32Array => { const all = new Float32Array(SAMPLES * vocab); all.set(values); return all; };
  // Sample i is row 2 i of the batch.
  const rows = Array.from({ length: ROWS }, (_, i) => ({ id: 1, position: 100 + i, sequence: i, offset: 0 }));
  const words = layOutBatch(ROWS, rows, 1, targets.map((_, i) => 2 * i)).words.with(0, STEP);
  const ring = new Uint32Array(STEPS * SAMPLES);
  ring.set(targets, (STEP % STEPS) * SAMPLES);
  const tensors = {
    logits: await put(gpu, [SAMPLES, vocab], padded(logits)), targets: await put(gpu, [STEPS, SAMPLES], ring, "u32"),
    out: await put(gpu, [STEPS, SAMPLES, width], new Uint32Array(STEPS * SAMPLES * width).fill(UNTOUCHED), "u32", "out"),
    ...(base && { base: await put(gpu, [SAMPLES, vocab], padded(base)) }),
  };
  const batch = await put(gpu, [batchWords(ROWS)], words, "u32");
  await dispatch(gpu, (recorder) => { nll(recorder, { ...tensors, batch: { tensor: batch, rows: ROWS } }, { feedback }); }, { rows: count });
  const first = (STEP % STEPS) * SAMPLES * width, all = await takeU32(gpu, tensors.out);
  const result = { words: all.slice(first, first + count * width), batch: await takeU32(gpu, batch) };
  assert.ok(all.fill(UNTOUCHED, first, first + count * width).every((word) => word === UNTOUCHED), "another step's or sample's words were written");
  assert.is(result.batch[0], STEP);
  release(gpu, batch, ...Object.values(tensors));
  return result;
}

/** Rows that each are hard in their own way. */
function hard(vocab: number): { logits: Float32Array; base: Float32Array; targets: number[]; broken: readonly number[] } {
  const count = 12, random = uniform(vocab);
  const logits = numbers(count * vocab, vocab, 2);
  const base = logits.map((value) => value + 0.3 * (random() - 0.5));
  const targets = Array.from({ length: count }, () => Math.floor(random() * vocab));
  const of = (row: number, all = logits): Float32Array => all.subarray(row * vocab, (row + 1) * vocab);
  of(1, base).set(of(1)); // equal: divergence 0
  of(2, base).set(of(2).map((value) => value + 7)); // equal but for a constant
  of(3, base).set(of(3).map((value, i) => value + 1e-4 * Math.sin(i))); // a divergence of about 1e-9
  of(4).fill(-4); // all tie
  targets[4] = 0;
  of(5).forEach((value, i, all) => { all[i] = value + 5000; }); // exp would overflow
  of(6).fill(-60).fill(10, vocab - 1); // sure, and the truth lies elsewhere
  targets[6] = 0;
  of(7, base).fill(-30).fill(10, 0, 1); // p and q far apart: for the large vocabulary a divergence above 88
  targets[8] = of(8).reduce((best, value, i, all) => (value > all[best]! ? i : best), 0);
  of(9)[vocab - 1] = NaN;
  of(10)[0] = Infinity;
  of(11, base)[0] = -Infinity;
  return { logits, base, targets, broken: [9, 10] };
}

for (const gpu of gpus) {
  for (const vocab of gpu.family === "gpu" && gpu.adapter.software ? [5003] : [2, 5003]) {
    test(`nll, ${gpu.family}: as the twin has it, vocabulary ${vocab}`, async () => {
      const { logits, base, targets, broken } = hard(vocab);
      const row = (all: Float32Array, i: number): Float32Array => all.subarray(i * vocab, (i + 1) * vocab);
      const alone = await run(gpu, { logits, targets }, false);
      const against = await run(gpu, { logits, base, targets }, true);
      const got: { alone: Surprise; against: Comparison; expected: Comparison }[] = targets.map((target, i) => ({
        alone: unpackSurprise(alone.words, i * NLL_WORDS.alone), against: unpackComparison(against.words, i * NLL_WORDS.against),
        expected: twin.compare(row(logits, i), row(base, i), target),
      }));
      assert.equal(got.flatMap((each, i) => (each.alone.broken ? [i] : [])), broken);
      assert.equal(got.flatMap(({ against: { broken, baseBroken } }, i) => (broken ? [`${i}`] : baseBroken ? [`base ${i}`] : [])), [...broken.map(String), "base 11"]);
      got.slice(0, 9).forEach(({ alone, against, expected }, i) => {
        const tolerance = { absolute: i === 5 ? 6e-4 : 4e-6, relative: 1e-6 }; // logits near 5000 are good to 5e-4
        near([alone.nll, against.nll, against.baseNll], [expected.nll, expected.nll, expected.baseNll], tolerance, `sample ${i}`);
        assert.equal([alone.hit, against.hit, against.baseHit, against.sameTop], [expected.hit, expected.hit, expected.baseHit, expected.sameTop], `sample ${i}`);
        if (i !== 5) near([against.kld], [expected.kld], { absolute: 1e-12, relative: i === 3 ? 1e-2 : 2e-5 }, `divergence of sample ${i}`);
      });
      assert.is(got[1]!.against.kld, 0);
      assert.ok(got[2]!.against.kld < 1e-12 && got[6]!.alone.nll > 69 && got[7]!.against.kld > 1, "what the hard rows are there for");
      // With feedback each sampled row goes on with its target; the others, and everything without it, stays.
      for (const [batch, moved] of [[alone.batch, false], [against.batch, true]] as const) {
        for (let i = 0; i < ROWS; i++) {
          const sampled = moved && i % 2 === 0 && i / 2 < targets.length;
          assert.is(batch[BATCH_HEADER + i], sampled ? targets[i / 2] : 1, `id of row ${i}`);
          assert.is(batch[BATCH_HEADER + ROWS + i], 100 + i + (sampled ? 1 : 0), `position of row ${i}`);
        }
      }
    });
  }
}

test.run();
