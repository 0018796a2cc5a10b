/** What happens to the sums of a product before they are stored: bias, activation, gate, residual, and the way to one output or two. */

import { wgsl, type WgslFile } from "../engine/kernel.ts";

const file = (name: string): WgslFile => wgsl(new URL(`./output/${name}.wgsl`, import.meta.url));
const STORE = [file("store"), file("activation")];
const ONE_OUTPUT = file("one");
const TWO_OUTPUTS = file("two");
const BIAS = file("bias");
const NO_BIAS = file("no_bias");

export const ACTIVATIONS = { none: 0, gelu: 1, gelu_tanh: 2 } as const;
export type Activation = keyof typeof ACTIVATIONS;

/** Outputs that one workgroup makes at most: where two products in one dispatch may part. */
export const SPLIT_STEP = 64;

/** Slots of a product's end. `second`: it goes to two outputs. */
export function epilogue({ bias, second }: { readonly bias: boolean; readonly second: boolean }): WgslFile[] {
  return [bias ? BIAS : NO_BIAS, ...STORE, second ? TWO_OUTPUTS : ONE_OUTPUT];
}
