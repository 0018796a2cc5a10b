/** Named dimensions: letters bind once, and a mistake names the operation, the letter and both values. Views keep their bytes. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { match, numel } from "../../engine/shape.ts";
import { byteLength, reshape, type Tensor } from "../../engine/tensor.ts";

const of = (...shape: number[]): { shape: number[] } => ({ shape });

function refuses(body: () => unknown, message: string): void {
  assert.throws(body, (error: Error) => {
    assert.is(error.message, message);
    return true;
  });
}

test("letters bind to sizes, the same letter to the same size, in every operand", () => {
  const bound = match("rope", { q: [of(5, 8, 64), "T", "H", "D"], k: [of(5, 2, 64), "T", "G", "D"], angles: [of(32, 2), "half", 2] });
  assert.equal(bound, { T: 5, H: 8, D: 64, G: 2, half: 32 });
  assert.equal(match("scalar", { x: [of()] }), {});
});

test("a letter with two values is named with both, and with the operands they stand in", () => {
  refuses(() => match("linear", { x: [of(4, 24), "M", "K"], weight: [of(16, 32), "N", "K"] }),
    "linear: K is 24 in x, but 32 in weight of shape [16, 32]");
  refuses(() => match("square", { x: [of(4, 5), "N", "N"] }), "square: N is 4 in x, but 5 in x of shape [4, 5]");
});

test("a wrong rank and a wrong fixed size say what was expected and found", () => {
  refuses(() => match("norm", { x: [of(4), "M", "C"] }), "norm: x must have shape [M, C], but has [4]");
  refuses(() => match("append", { angles: [of(9, 3), "half", 2] }), "append: angles must have 2 at axis 1, but has 3");
});

test("elements and bytes of a shape; a reshape keeps them or is refused", () => {
  assert.is(numel([]), 1);
  assert.is(numel([3, 0, 4]), 0);
  assert.is(byteLength({ shape: [3, 5], dtype: "bf16" }), 30);
  const tensor = { buffer: null as unknown as GPUBuffer, offset: 256, shape: [6, 4], dtype: "f32", label: "x" } satisfies Tensor;
  assert.equal(reshape(tensor, [2, 12]), { ...tensor, shape: [2, 12] });
  refuses(() => reshape(tensor, [5, 5]), "reshape: x has shape [6, 4], which does not fit [5, 5]");
});

test.run();
