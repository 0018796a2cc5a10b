/** What can be said of kernels without a device: bindings are read off the source, literals keep their value, files are found. */

import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { bindingsOf, f32, wgsl } from "../../engine/kernel.ts";

test("bindings come in index order, with name and access, over line breaks and from slots", () => {
  const text = `
    @group(0) @binding(9) var<storage, read> batch: array<u32>;
    @group(0)
      @binding(1) var<storage,read_write> y : array<vec4f>; // y
    var<workgroup> shared_value: array<f32, 4>;
    @group(0) @binding(0) var<storage, read> x: array<Sampling>;`;
  assert.equal(bindingsOf(text), [
    { name: "x", index: 0, writable: false }, { name: "y", index: 1, writable: true }, { name: "batch", index: 9, writable: false },
  ]);
});

test("an f32 literal reads back as the same f32, and is WGSL: it has a point or an exponent", () => {
  for (const value of [0, 1, -2, 1e-5, 1e-6, 0.1, 3.4028234663852886e38, 1e21, 2 ** -149]) {
    assert.match(f32(value), /^f32\(-?\d+(\.\d+)?(e[+-]\d+)?\)$/);
  }
  assert.is(f32(1), "f32(1.0)");
  assert.is(f32(1e-5), "f32(0.000009999999747378752)");
  fc.assert(fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
    const literal = /^f32\((.*)\)$/.exec(f32(value))![1]!;
    assert.match(literal, /[.e]/);
    assert.is(Math.fround(Number(literal)), value === 0 ? 0 : value);
  }));
});

test("a WGSL file is known by its name and its text", () => {
  const file = wgsl(new URL("../../kernels/norm.wgsl", import.meta.url));
  assert.is(file.name, "norm.wgsl");
  assert.match(file.text, /@compute/);
});

test.run();
