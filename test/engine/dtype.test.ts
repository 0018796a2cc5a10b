/**
 * Conversions between f32, f16, bf16 and f64 against a second derivation: the values of all 65536 patterns by the formula of the format,
 * and for every pair of neighbours the midpoint and the numbers just beside it, where rounding is decided.
 */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  DTYPE_BYTES, bf16ToNumber, convert, f16ToNumber, numberToBf16, numberToF16, type FloatDtype,
} from "../../engine/dtype.ts";

/** sign · 2^(e - bias) · 1.fraction, from the definition of IEEE 754. */
function valueOf(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> 15 ? -1 : 1;
  const exponent = (bits & 0x7fff) >>> fractionBits;
  const fraction = (bits & ((1 << fractionBits) - 1)) / (1 << fractionBits);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === (1 << exponentBits) - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

/** The neighbours of a positive f32 or f64. */
function neighbours(value: number, type: "f32" | "f64"): [number, number] {
  if (type === "f32") {
    const [at] = new Uint32Array(new Float32Array([value]).buffer) as unknown as [number];
    return [...new Float32Array(new Uint32Array([at - 1, at + 1]).buffer)] as [number, number];
  }
  const [at] = new BigUint64Array(new Float64Array([value]).buffer) as unknown as [bigint];
  return [...new Float64Array(new BigUint64Array([at - 1n, at + 1n]).buffer)] as [number, number];
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const u16 = (bytes: Uint8Array): Uint16Array => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
const f32 = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const all16 = Uint16Array.from({ length: 65536 }, (_, i) => i);

const formats = [
  { to: "f16", exponentBits: 5, fractionBits: 10, toNumber: f16ToNumber, fromNumber: numberToF16, infinity: 0x7c00 },
  { to: "bf16", exponentBits: 8, fractionBits: 7, toNumber: bf16ToNumber, fromNumber: numberToBf16, infinity: 0x7f80 },
] as const;

for (const { to, exponentBits, fractionBits, toNumber, fromNumber, infinity } of formats) {
  test(`${to}: all 65536 patterns have the value of the definition and come back to the same bits`, () => {
    const wide = f32(convert(bytesOf(all16), to, "f32"));
    const back = u16(convert(bytesOf(wide), "f32", to));
    for (let bits = 0; bits < 65536; bits++) {
      const expected = valueOf(bits, exponentBits, fractionBits);
      const found = [toNumber(bits), wide[bits]];
      assert.ok(found.every((value) => Object.is(value, expected)), `${bits}: ${found}, expected ${expected}`);
      if (Number.isNaN(expected)) {
        // A NaN keeps its sign and becomes quiet; it never turns into an infinity.
        assert.is(back[bits]! & 0x8000, bits & 0x8000);
        assert.ok((back[bits]! & 0x7fff) > infinity);
        assert.ok((fromNumber(expected) & 0x7fff) > infinity);
      } else {
        assert.is(back[bits], bits);
        assert.is(fromNumber(expected), bits);
      }
    }
  });

  test(`${to}: midpoints go to the even neighbour, numbers beside them to the nearer one`, () => {
    const cases: { value: number; bits: number }[] = [];
    for (let low = 0; low < infinity; low++) {
      const a = valueOf(low, exponentBits, fractionBits);
      // Above the largest finite number the next step would be the infinity.
      const b = low + 1 === infinity ? 2 * a - valueOf(low - 1, exponentBits, fractionBits) : valueOf(low + 1, exponentBits, fractionBits);
      const middle = (a + b) / 2;
      cases.push({ value: middle, bits: low + (low & 1) });
      for (const type of ["f32", "f64"] as const) {
        const [below, above] = neighbours(middle, type);
        cases.push({ value: below, bits: low }, { value: above, bits: low + 1 });
      }
    }
    for (const sign of [1, -1]) {
      const values = Float64Array.from(cases, ({ value }) => sign * value);
      const expected = Uint16Array.from(cases, ({ bits }) => (sign < 0 ? bits | 0x8000 : bits));
      values.forEach((value, i) => assert.is(fromNumber(value), expected[i], `${value}`));
      assert.equal(u16(convert(bytesOf(values), "f64", to)), expected);
      // bf16 midpoints below 2^-133 and numbers beside them are no f32.
      const exact = [...values.keys()].filter((i) => Math.fround(values[i]!) === values[i]);
      assert.ok(exact.length > cases.length / 2);
      const narrow = Float32Array.from(exact, (i) => values[i]!);
      assert.equal(u16(convert(bytesOf(narrow), "f32", to)), Uint16Array.from(exact, (i) => expected[i]!));
    }
  });
}

test("a NaN whose only bits are cut off stays a NaN", () => {
  const bits = Uint32Array.of(0x7f800001, 0xff800001, 0x7f801fff, 0x7fffffff);
  for (const { to, infinity } of formats) {
    for (const half of u16(convert(bytesOf(bits), "f32", to))) assert.ok((half & 0x7fff) > infinity);
  }
});

test("f16 and bf16 convert into each other as through f32", () => {
  for (const [from, to] of [["f16", "bf16"], ["bf16", "f16"]] as const) {
    assert.equal(convert(bytesOf(all16), from, to), convert(convert(bytesOf(all16), from, "f32"), "f32", to));
  }
});

test("f64 to f32 rounds as the language does", () => {
  const values = new Float64Array([0, -0, 0.1, -1e-46, 1e39, Infinity, -Infinity, NaN, 16777217, 2 ** -150]);
  const count = { overflows: 0 };
  const result = f32(convert(bytesOf(values), "f64", "f32", undefined, count));
  values.forEach((value, i) => assert.ok(Object.is(result[i], Math.fround(value))));
  assert.is(count.overflows, 1);
});

test("values beyond the range of the target are counted, infinities and NaN that were there are not", () => {
  const values = Float32Array.of(65504, 65519.996, 65520, -65520, 1e30, Infinity, -Infinity, NaN, 3.3e38, 3.4e38);
  const count = { overflows: 0 };
  const half = u16(convert(bytesOf(values), "f32", "f16", undefined, count));
  assert.equal([...half.subarray(0, 5)], [0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x7c00]);
  assert.is(count.overflows, 5);
  const brain = convert(bytesOf(values), "f32", "bf16", undefined, count);
  assert.is(u16(brain)[9], 0x7f80);
  assert.is(count.overflows, 6); // 3.4e38 is an f32, but above the middle of the last step of bf16
  convert(brain, "bf16", "f16", undefined, count);
  assert.is(count.overflows, 12); // as bf16 the first four are ±65536; then 1e30 and 3.3e38; 3.4e38 is infinite by now
  convert(bytesOf(Float64Array.of(1e300, Infinity, 65519.9, 1e5)), "f64", "f16", undefined, count);
  assert.is(count.overflows, 14);
  convert(bytesOf(all16), "f16", "bf16", undefined, count);
  assert.is(count.overflows, 14);
});

test("any bits at any alignment convert as one by one, into a longer buffer too", () => {
  const pair = fc.constantFrom<["f32" | "f16" | "bf16" | "f64", FloatDtype]>(
    ["f32", "f16"], ["f32", "bf16"], ["f16", "f32"], ["bf16", "f32"], ["f64", "f16"], ["f64", "bf16"], ["f32", "f32"], ["bf16", "bf16"],
  );
  fc.assert(fc.property(pair, fc.uint8Array({ maxLength: 96 }), fc.nat(8), ([from, to], bits, shift) => {
    const size = from === "f64" ? 8 : DTYPE_BYTES[from];
    const n = Math.floor(bits.byteLength / size);
    const shifted = new Uint8Array(shift + n * size);
    shifted.set(bits.subarray(0, n * size), shift);
    const source = shifted.subarray(shift);
    const out = new Uint8Array(n * DTYPE_BYTES[to] + 12).fill(0xaa);
    const result = convert(source, from, to, out);
    assert.is(result.buffer, out.buffer);
    assert.is(result.byteLength, n * DTYPE_BYTES[to]);
    assert.ok(out.subarray(result.byteLength).every((byte) => byte === 0xaa));
    for (let i = 0; i < n; i++) {
      const alone = convert(source.slice(i * size, (i + 1) * size), from, to);
      assert.equal(result.slice(i * DTYPE_BYTES[to], (i + 1) * DTYPE_BYTES[to]), alone);
    }
  }), { numRuns: 500 });
});

test("a ragged length and an unusable target are refused", () => {
  assert.throws(() => convert(new Uint8Array(6), "f32", "f16"), /6 bytes are no whole number of f32/);
  assert.throws(() => convert(new Uint8Array(8), "f32", "f16", new Uint8Array(3)), /out needs 4 bytes aligned to f16, but has 3/);
  assert.throws(() => convert(new Uint8Array(4), "f16", "f32", new Uint8Array(9).subarray(1)), /at offset 1/);
  assert.is(convert(new Uint8Array(0), "f32", "f16").byteLength, 0);
});

test("16 million elements convert as arrays, not one by one", () => {
  const source = new Uint8Array(2 ** 26).fill(0x3c);
  const started = performance.now();
  const out = convert(source, "f32", "f16");
  assert.is(out.byteLength, 2 ** 25);
  assert.ok(performance.now() - started < 30_000, `took ${performance.now() - started} ms`);
});

test.run();
