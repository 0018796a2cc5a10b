/**
 * The quantization of the host against what bitsandbytes made of the same values: every code, magnitude and nested code to the byte.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { CODE_VALUES, dynamicMap, type BlockwiseMatrix } from "../../engine/encoded.ts";
import { codeBounds, decode, decodeNested, encodeBlockwise, encodeInt8, nestAbsmax } from "../../kernels/reference/quantize.ts";
import { numbersOf, readCases } from "../support/quantized.ts";

const { cases, means, tensors } = await readCases();
const tensor = (name: string) => tensors.get(name) ?? assert.unreachable(`no ${name} among the cases`) as never;
const floats = (name: string): Float32Array => numbersOf(tensor(name));
const bits = (values: Float32Array): Uint32Array => new Uint32Array(values.slice().buffer);

/** Typed arrays of thousands of bytes, with the first difference in words. */
function same(found: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void {
  assert.is(found.length, wanted.length, `${what}: length`);
  for (let i = 0; i < wanted.length; i++) if (found[i] !== wanted[i]) assert.unreachable(`${what}: ${found[i]} at ${i}, bitsandbytes has ${wanted[i]}`);
}

test("the maps are bitsandbytes' own to the last bit", () => {
  same(bits(dynamicMap()), bits(floats("dynamic.map")), "dynamic map");
  for (const type of ["nf4", "fp4"] as const) same(bits(CODE_VALUES[type]), bits(floats(`${type}.map`)), type);
});

test("there is something of every kind among the cases", () => {
  assert.ok(cases.filter(({ type }) => type === "nf4").length >= 15);
  assert.ok(cases.some(({ values }) => values === "ragged") && cases.some(({ values }) => values === "odd-blocks"));
  assert.is(cases.filter(({ type }) => type === "int8").length, 3);
});

for (const { values: name, type, blockSize, offset } of cases) {
  if (type === "int8") continue;
  const prefix = `${name}.${type}.${blockSize}`;
  test(`${type}: ${name} in blocks of ${blockSize}`, () => {
    const values = floats(`${name}.values`);
    const { codes, absmax } = encodeBlockwise(values, type, blockSize);
    same(codes, tensor(`${prefix}.codes`).data, "codes");
    same(bits(absmax), bits(floats(`${prefix}.absmax`)), "absmax");
    if (tensors.has(`${prefix}.decoded`)) {
      const matrix: BlockwiseMatrix = { format: type, rows: 1, columns: values.length, blockSize, codes, absmax };
      same(Float32Array.from(decode(matrix)), floats(`${prefix}.decoded`), "decoded, rounded to f32");
    }
    if (offset === undefined) return;
    const nested = nestAbsmax(absmax, 256);
    assert.is(nested.offset, offset);
    same(nested.codes, tensor(`${prefix}.nested_codes`).data, "nested codes");
    same(bits(nested.nested), bits(floats(`${prefix}.nested_absmax`)), "nested absmax");
    const largest = Math.max(...nested.nested);
    decodeNested(nested).forEach((value, i) => { assert.ok(Math.abs(value - absmax[i]!) <= 0.0071 * largest + 1e-7, `absmax ${i}: ${value} of ${absmax[i]}`); });
  });
}

for (const dtype of ["F32", "F16", "BF16"]) {
  test(`int8 of ${dtype}: rounded to f16 first, ties to even`, () => {
    const { shape: [rows, columns] } = tensor(`int8-${dtype}.values`);
    const values = floats(`int8-${dtype}.values`);
    const { codes, scb } = encodeInt8(values, rows!, columns!);
    same(codes, new Int8Array(tensor(`int8-${dtype}.codes`).data.slice().buffer), "codes");
    same(bits(scb), bits(floats(`int8-${dtype}.scb`)), "scb");
    const decoded = decode({ format: "int8", rows: rows!, columns: columns!, codes, scb });
    decoded.forEach((value, i) => { assert.ok(Math.abs(value - values[i]!) <= scb[Math.floor(i / columns!)]! * (0.5 / 127 + 2 ** -11) + 2 ** -25, `value ${i}`); });
  });
}

test("the mean of magnitudes is torch's to the last bit, whatever their number", () => {
  const values = floats("means.values");
  for (const [count, mean] of Object.entries(means)) assert.is(nestAbsmax(values.subarray(0, Number(count)), 256).offset, mean, `of ${count}`);
});

test("the bounds between codes rise, and a value gets the code next to it", () => {
  for (const type of ["nf4", "fp4"] as const) {
    const { bounds, order } = codeBounds(type);
    assert.is(new Set(order).size, 16);
    bounds.forEach((bound, i) => {
      assert.ok(i === 0 || bound > bounds[i - 1]!);
      assert.ok(CODE_VALUES[type][order[i]!]! <= bound && bound <= CODE_VALUES[type][order[i + 1]!]!);
    });
  }
});

test("int4 is (code − zero) · scale of its group, ragged groups too", () => {
  const matrix = {
    format: "int4", rows: 2, columns: 6, groupSize: 4, codes: Uint8Array.of(0x01, 0x23, 0xf8, 0x98, 0x76, 0x54),
    scales: Float32Array.of(0.5, 2, 1, 0.25), zeros: Uint8Array.of(1, 8, 7, 4),
  } as const;
  assert.equal([...decode(matrix)], [-0.5, 0, 0.5, 1, 14, 0, 2, 1, 0, -1, 0.25, 0]);
});

test.run();
