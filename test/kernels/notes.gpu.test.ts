/**
 * Notes beside cache entries: what append and appendAndAttend write down of the entries they make, and that everything else is as without
 * notes, to the bit: the other entries' notes, the pools, queries and attention.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { GpuError } from "../../engine/errors.ts";
import type { Gpu } from "../../engine/gpu.ts";
import { Recorder } from "../../engine/recorder.ts";
import { append, appendAndAttend, partialsShape, type KvView } from "../../kernels/attention.ts";
import { batchWords, layOutBatch } from "../../kernels/batch.ts";
import type { KvChoice } from "../../kernels/kv_formats.ts";
import { noteWords } from "../../kernels/kv_notes.ts";
import { entryOf, tableOf } from "../../kernels/reference/attention.ts";
import { noteAppended } from "../../kernels/reference/capture.ts";
import { cosSinOf, kvInWords, neoxLayout, qwenLayout, readPool, testCache } from "../support/cache.ts";
import { dispatch, near, numbers, openFamilies, put, release, take, takeU32 } from "../support/gpu.ts";

interface Case {
  readonly step: "prefill" | "decode" | "split decode";
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly format: KvChoice;
  readonly headNorm?: true;
  readonly noted: { readonly norms: boolean; readonly attention: boolean };
}

const CASES: readonly Case[] = [
  { step: "prefill", heads: 3, kvHeads: 3, headDim: 80, format: "f16", noted: { norms: true, attention: true } },
  { step: "prefill", heads: 4, kvHeads: 2, headDim: 48, format: { k: "int4", v: "bf16" }, headNorm: true, noted: { norms: true, attention: false } },
  { step: "prefill", heads: 2, kvHeads: 1, headDim: 8, format: "f32", noted: { norms: false, attention: true } },
  { step: "decode", heads: 2, kvHeads: 2, headDim: 80, format: "int8", noted: { norms: true, attention: false } },
  { step: "split decode", heads: 4, kvHeads: 2, headDim: 16, format: "f16", headNorm: true, noted: { norms: true, attention: true } },
];

/** Of each sequence: entries before the step, by KV head, and rows in it; positions are those of a text of which some was evicted. */
const STEPS = {
  prefill: [[[0, 0, 0], 18], [[13, 30, 2], 5], [[15, 16, 31], 1]],
  decode: [[[0, 0], 1], [[14, 3], 1], [[16, 47], 1]],
  "split decode": [[[0, 0], 1], [[90, 3], 1], [[63, 95], 1]],
} as const;
const POSITIONS = 256;
const LAYER = 1;

const gpus = await openFamilies();
test.after(() => gpus.forEach((gpu) => gpu.close()));

/** Run the step with notes and without: every buffer's bytes, and the notes. */
async function run(gpu: Gpu, { step, format, headNorm: normed, noted, ...shape }: Case, withNotes: boolean) {
  const { heads, kvHeads, headDim } = shape;
  const rows = STEPS[step].flatMap(([before, count], sequence) =>
    Array.from({ length: count }, (_, offset) => ({ id: 0, position: 3 * before[0] + sequence + offset, sequence, offset })));
  const lengths = Uint32Array.from(STEPS[step].flatMap(([before]) => [...Array<number>(kvHeads).fill(0), ...before.slice(0, kvHeads)]));
  const cache = await testCache(gpu, { format, layers: 2, kvHeads, headDim, blockSize: 16, tableBlocks: 7, owned: lengths, lengths, seed: headDim });
  const [entries] = cache.view.kPool.shape as readonly [number];
  const words = noteWords(noted);
  const untouched = Uint32Array.from({ length: entries * words.words }, (_, i) => 0x7fc0_0000 + i);
  const notes = { ...words, tensor: await put(gpu, [entries, words.words], untouched, "u32", "notes") };
  const view: KvView = { ...cache.view, ...(withNotes && { notes }) };

  const layout = heads === kvHeads ? neoxLayout(shape) : qwenLayout(shape);
  const [half, capacity] = [headDim === 80 ? 10 : headDim / 2, rows.length + 2];
  const tensors = {
    qkv: await put(gpu, [capacity, layout.width], numbers(capacity * layout.width, headDim, 0.7)),
    cosSin: await put(gpu, [POSITIONS, half, 2], cosSinOf(POSITIONS, half)),
  };
  const headNorm = normed && { weights: await put(gpu, [2, headDim], numbers(2 * headDim, 9)), eps: 1e-6 };
  const { words: laidOut, tiles } = layOutBatch(capacity, rows, 1, []);
  const batch = { tensor: await put(gpu, [batchWords(capacity)], laidOut, "u32"), rows: capacity };
  const out = await put(gpu, [capacity, heads * headDim], null);
  const partials = await put(gpu, partialsShape(shape, capacity, 3), null);
  const operands = { projection: { ...tensors, layout, headNorm }, view, batch };
  await dispatch(gpu, (recorder) => {
    if (step === "prefill") append(recorder, { ...operands, q: out }, shape, LAYER);
    else appendAndAttend(recorder, { ...operands, out, splits: step === "decode" ? null : { count: 3, keys: 32, partials } }, shape, LAYER);
  }, { rows: rows.length, tiles });

  const outcome = {
    bytes: await Promise.all([out, view.kPool, view.vPool].map(async (tensor) => Buffer.from(await take(gpu, tensor)))),
    notes: await takeU32(gpu, notes.tensor), untouched, words, rows, twin: cache.twin, keys: await readPool(gpu, view.kPool, cache.view.k),
  };
  release(gpu, out, partials, notes.tensor, batch.tensor, ...Object.values(tensors), ...(headNorm ? [headNorm.weights] : []), ...cache.tensors);
  return outcome;
}

/** What a note of `words` says, apart: bits that must be the same, and norms. */
function apart(notes: Uint32Array, { words, norm }: { words: number; norm: number | null }): { bits: Uint32Array; norms: Float32Array } {
  const isNorm = (_: number, i: number): boolean => i % words === norm;
  return { bits: notes.filter((value, i) => !isNorm(value, i)), norms: new Float32Array(notes.filter(isNorm).buffer) };
}

for (const gpu of gpus) {
  for (const each of CASES) {
    const { step, headDim, format, noted } = each;
    const what = [noted.norms && "norms", noted.attention && "attention"].filter(Boolean).join(" and ");
    test(`notes, ${gpu.family}: ${what} at ${step}, head_dim ${headDim}, ${kvInWords(format)}`, async () => {
      const [got, plain] = [await run(gpu, each, true), await run(gpu, each, false)];
      got.bytes.forEach((bytes, i) => assert.ok(bytes.equals(plain.bytes[i]!), `${["out", "keys", "values"][i]!} with notes and without`));
      near(plain.notes, plain.untouched, {}, "notes of a view without notes");

      const expected = got.untouched.slice();
      for (const { position, sequence, offset } of got.rows) {
        for (let head = 0; head < each.kvHeads; head++) {
          const table = tableOf(got.twin, sequence, LAYER, head);
          const entry = entryOf(got.twin, table, Number(got.twin.lengths[table]) + offset);
          noteAppended(expected, got.words, entry, got.keys.subarray(entry * headDim, (entry + 1) * headDim), position);
        }
      }
      const [device, twin] = [apart(got.notes, got.words), apart(expected, got.words)];
      near(device.bits, twin.bits, {}, "words that are not norms");
      near(device.norms, twin.norms, { relative: headDim * 2 ** -24 }, "norms");
      assert.is(expected.filter((word, i) => word !== got.untouched[i]).length, got.rows.length * each.kvHeads * got.words.words, "every word of a new note is new");
    });
  }
}

test("notes: an adapter that binds too few buffers is refused with what to do, and keys in kivi4 have none", async () => {
  const [gpu] = gpus as [Gpu];
  const each = CASES.at(-1)!;
  const { heads, kvHeads, headDim } = each;
  const lengths = new Uint32Array(2 * kvHeads);
  const cache = await testCache(gpu, { format: "f16", layers: 2, kvHeads, headDim, blockSize: 16, tableBlocks: 1, owned: lengths, lengths, seed: 1 });
  const some = async (...shape: number[]) => put(gpu, shape, null);
  const notes = { ...noteWords(each.noted), tensor: await put(gpu, [cache.view.kPool.shape[0]!, 3], null, "u32") };
  const layout = qwenLayout(each);
  const projection = { qkv: await some(8, layout.width), layout, cosSin: await some(8, headDim / 2, 2), headNorm: { weights: await some(2, headDim), eps: 1e-6 } };
  const operands = { projection, out: await some(8, heads * headDim), batch: { tensor: await put(gpu, [batchWords(8)], null, "u32"), rows: 8 } };
  const splits = { count: 3, keys: 32, partials: await some(...partialsShape(each, 8, 3)) };
  /** The same Gpu, but for how many buffers its device binds. */
  const limited = (maxStorageBuffersPerShaderStage: number): Gpu => new Proxy(gpu, {
    get: (target, name) => (name === "device" ? { limits: { maxStorageBuffersPerShaderStage } } : Reflect.get(target, name, target)),
  });
  const launch = (on: Gpu, view: KvView) => (): void => appendAndAttend(new Recorder(on), { ...operands, splits, view }, each, LAYER);
  assert.throws(launch(limited(11), { ...cache.view, notes }), (error: unknown) =>
    error instanceof GpuError && /press: .* binds 12 storage buffers, but adapter .* allows 11: take a press .*--adapter/.test(error.message));
  launch(limited(12), { ...cache.view, notes })();
  launch(limited(10), cache.view)();
  assert.throws(launch(gpu, { ...cache.view, notes, k: { format: "kivi4", headDim } }), /kivi4 .* no notes/);
});

test.run();
