/**
 * The number formats of keys and values without a GPU: bytes against arithmetic, groups that do not fit, and what storing costs: never more
 * than half a step, nothing where nothing is to lose, and NaN where a number is none.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { f16ToNumber, numberToF16 } from "../../engine/dtype.ts";
import { UsageError } from "../../engine/errors.ts";
import { KV_ENTRY_FORMATS, kvBlockWords, kvEncoding, kvEncodings, kvEntryBytes, kvEntryWords, poolShape, type KvEncoding, type KvNumbers } from "../../kernels/kv_formats.ts";
import { decodeKeyBlock, encodeEntry, encodeKeyBlock, stored } from "../../kernels/reference/kv.ts";
import { numbers } from "../support/gpu.ts";

test("bytes of an entry: codes, and scales behind them in whole words", () => {
  const table: readonly (readonly [headDim: number, bytes: Readonly<Record<string, number>>])[] = [
    [8, { f32: 32, f16: 16, bf16: 16, int8: 8 + 4, int4: 4 + 4 }], [16, { f32: 64, f16: 32, bf16: 32, int8: 16 + 4, int4: 8 + 4 }],
    [64, { f32: 256, f16: 128, bf16: 128, int8: 64 + 4, int4: 32 + 8 }], [80, { f32: 320, f16: 160, bf16: 160, int8: 80 + 12, int4: 40 + 20 }],
    [128, { f32: 512, f16: 256, bf16: 256, int8: 128 + 8, int4: 64 + 16 }], [24, { f32: 96, f16: 48, bf16: 48, int8: 24 + 8, int4: 12 + 12 }],
  ];
  for (const [headDim, bytes] of table) {
    for (const format of KV_ENTRY_FORMATS) {
      assert.is(kvEntryBytes(format, headDim), bytes[format], `${format} ${headDim}`);
      const { shape, dtype } = poolShape(kvEncoding(format, headDim), 7);
      assert.is(shape[1] * (dtype === "f32" || dtype === "u32" ? 4 : 2), bytes[format], "a pool has as many for each entry");
    }
  }
  assert.is(kvEntryBytes({ format: "int4", group: 20 }, 80), 40 + 4 * 4);
  assert.is(kvEntryBytes({ format: "int8", group: 20 }, 80), 80 + 4 * 2);
  assert.is(kvEntryBytes({ format: "int8", group: 64 }, 64), 64 + 4, "half a word is left over");
});

test("groups by default: the largest of 32, 16 and 8 that divides head_dim", () => {
  const group = (headDim: number): number => (kvEncoding("int4", headDim) as { group: number }).group;
  assert.equal([8, 16, 24, 32, 48, 64, 80, 96, 128, 256].map(group), [8, 16, 8, 32, 16, 32, 16, 32, 32, 32]);
  assert.equal(kvEncodings({ k: "int8", v: { format: "int4", group: 20 } }, 80), {
    k: { format: "int8", headDim: 80, group: 16 }, v: { format: "int4", headDim: 80, group: 20 },
  });
  assert.equal(kvEncodings("bf16", 64), { k: { format: "bf16", headDim: 64 }, v: { format: "bf16", headDim: 64 } });
});

test("kivi4: keys by blocks, values in int4 unless another format is named", () => {
  assert.equal(kvEncodings("kivi4", 64), { k: { format: "kivi4", headDim: 64 }, v: kvEncoding("int4", 64) });
  assert.equal(kvEncodings({ k: "kivi4", v: "bf16" }, 80), { k: { format: "kivi4", headDim: 80 }, v: kvEncoding("bf16", 80) });
  assert.throws(() => kvEncodings({ k: "f16", v: "kivi4" }, 64), (error: Error) => error instanceof UsageError && /kivi4 is a format of keys/.test(error.message));
  assert.is(4 * kvBlockWords({ format: "kivi4", headDim: 80 }, 16), 16 * 40 + 4 * 80);
  assert.is(kvBlockWords(kvEncoding("int4", 64), 16), 16 * kvEntryWords(kvEncoding("int4", 64)));
});

test("kivi4: each channel of a block by itself, none off by more than half a step, NaN where one is none", () => {
  const [tokens, headDim] = [16, 24];
  const keys = Array.from({ length: tokens }, (_, t) => [...numbers(headDim, t)].map((value, d) => f16ToNumber(numberToF16(10 ** (d % 7 - 4) * value + (d % 3))))).flat();
  const kept = decodeKeyBlock(encodeKeyBlock(keys, headDim), headDim);
  let hardest = 0;
  for (let d = 0; d < headDim; d++) {
    const members = Array.from({ length: tokens }, (_, t) => keys[t * headDim + d]!);
    const [low, high] = [Math.min(...members), Math.max(...members)];
    // Scale and least number are f16 and cover the channel.
    const half = (high - low + 2 ** -10 * Math.abs(low)) / 15 * (1 + 2 ** -10) / 2 + 2 ** -24;
    const worst = members.reduce((most, value, t) => Math.max(most, Math.abs(kept[t * headDim + d]! - value)), 0);
    assert.ok(worst <= half, `channel ${d}: off by ${worst}, half a step is ${half}`);
    hardest = Math.max(hardest, worst / half);
  }
  assert.ok(hardest > 0.9, `the worst is ${hardest} of what is allowed, so the keys were no easy ones`);
  const broken = decodeKeyBlock(encodeKeyBlock(keys.with(5 * headDim + 7, NaN), headDim), headDim);
  broken.forEach((value, i) => assert.is(Number.isNaN(value), i % headDim === 7));
});

test("groups that do not fit are refused with both numbers and what fits", () => {
  for (const [group, headDim] of [[32, 80], [12, 64], [6, 48], [128, 64], [0, 64], [-4, 64], [2.5, 80], [NaN, 64]] as const) {
    const wrong = (): unknown => kvEncoding({ format: "int4", group }, headDim);
    assert.throws(wrong, (error: Error) => error instanceof UsageError && error.message.includes(`int4 in groups of ${group} does not fit a head_dim of ${headDim}`));
  }
  assert.throws(() => kvEntryBytes({ format: "int8", group: 32 }, 80), /multiple of 4 that divides it \(4, 8, 16, 20, 40, 80\)/);
});

/** The step of each group, as the words have it. */
function scalesOf(words: Uint32Array, { format, group, headDim }: KvEncoding & { group: number }): number[] {
  const halves = new Uint16Array(words.slice().buffer);
  return Array.from({ length: headDim / group }, (_, g) => f16ToNumber(halves[format === "int8" ? headDim / 2 + g : headDim / 4 + 2 * g]!));
}

for (const format of ["int8", "int4"] as const) {
  for (const [headDim, group] of [[64, 32], [80, 16], [80, 20], [16, 16], [48, 4]] as const) {
    test(`${format}, head_dim ${headDim} in groups of ${group}: no number is off by more than half a step`, () => {
      const encoding = { format, headDim, group };
      let worst = 0;
      for (const [seed, size] of [[1, 1], [2, 1e-5], [3, 1e4], [4, 1e-3], [5, 30]] as const) {
        for (let shift = -1; shift <= 1; shift++) {
          const dims = numbers(headDim, seed, size).map((value) => value + 3 * shift * size);
          const [scales, kept] = [scalesOf(encodeEntry(dims, encoding), encoding), stored(dims, encoding)];
          dims.forEach((value, d) => {
            const step = scales[Math.floor(d / group)]!;
            worst = Math.max(worst, Math.abs(kept[d]! - value) / step);
            assert.ok(Math.abs(kept[d]! - value) <= (step / 2) * (1 + 2 ** -20), `${value} became ${kept[d]}, a step is ${step}`);
          });
          for (let g = 0; g < headDim / group; g++) {
            const members = [...dims.subarray(g * group, (g + 1) * group)];
            const range = format === "int8" ? Math.max(...members.map(Math.abs)) / 127 : (Math.max(...members) - Math.min(...members)) / 15;
            // A scale may be rounded up by one place of f16, and the least number down by one: 2^-10 of each, or 2^-24 near zero.
            const least = format === "int4" ? 2 ** -10 * Math.abs(Math.min(...members)) / 15 : 0;
            assert.ok(scales[g]! <= range * (1 + 2 ** -10) + least + 2 ** -23, "no step is wider than it must be");
          }
        }
      }
      assert.ok(worst > 0.4, `the worst is ${worst} of a step, so the numbers were no easy ones`);
    });
  }
}

test("zeros and equal numbers: what the scale alone can say", () => {
  for (const format of ["int8", "int4"] as const) {
    const encoding = kvEncoding(format, 32);
    assert.equal([...stored(new Float64Array(32), encoding)], Array(32).fill(0));
    assert.equal([...encodeEntry(new Float64Array(32), encoding)], Array(kvEntryWords(encoding)).fill(0));
    for (const value of [1, -1, 1000.25, -0.37]) {
      // The largest number is 127 scales, which are rounded up to f16; int4 starts from the number itself.
      const allowed = 2 ** (format === "int8" ? -10 : -11) * Math.abs(value);
      for (const kept of stored(new Float64Array(32).fill(value), encoding)) assert.ok(Math.abs(kept - value) <= allowed, `${format}: ${value} became ${kept}`);
    }
  }
  const outlier = new Float64Array(32).fill(0.25).with(7, 100);
  assert.is(stored(outlier, kvEncoding("int8", 32))[7], 127 * f16ToNumber(encodeEntry(outlier, kvEncoding("int8", 32))[8]!));
  assert.ok(Math.abs(stored(outlier, kvEncoding("int4", 32))[0]! - 0.25) < 2 ** -11, "int4 has its least number in f16");
});

test("NaN and infinity make their group NaN and leave the others alone; finite numbers beyond a scale of f16 are cut", () => {
  for (const format of ["int8", "int4"] as const) {
    for (const broken of [NaN, Infinity, -Infinity]) {
      const kept = stored(numbers(64, 1).with(40, broken), { format, headDim: 64, group: 16 });
      kept.forEach((value, d) => assert.is(Number.isNaN(value), d >= 32 && d < 48, `${format} ${broken} at ${d}`));
    }
  }
  const huge = new Float64Array(32).with(3, 3e38).with(4, -3e38);
  const int8 = stored(huge, kvEncoding("int8", 32));
  assert.equal([int8[3], int8[4], int8[5]], [127 * 65504, -127 * 65504, 0]);
  const int4 = stored(huge, kvEncoding("int4", 32));
  assert.equal([int4[3], int4[4]], [14 * 65504, -65504]);
});

test("floats are stored as before: f16 cut at its largest, bf16 to nearest even", () => {
  const one = (value: number, format: KvNumbers): number => stored(new Float64Array(8).fill(value), kvEncoding(format, 8))[0]!;
  assert.equal([one(1e6, "f16"), one(-1e6, "f16"), one(1 + 2 ** -11, "f16"), one(1 + 3 * 2 ** -11, "f16")], [65504, -65504, 1, 1 + 2 ** -9]);
  assert.equal([one(1 + 2 ** -8, "bf16"), one(1 + 3 * 2 ** -8, "bf16"), one(0.1, "f32")], [1, 1 + 2 ** -6, Math.fround(0.1)]);
});

test.run();
