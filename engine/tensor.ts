/**
 * A tensor is a view of a buffer: where it starts, its shape, what its elements are. It owns nothing; whoever made the buffer
 * (weights, cache, activations) frees it. 16-bit elements are stored two to a u32 word, so no kernel needs `shader-f16` to read them.
 */

import { numel, type Shape } from "./shape.ts";

export const ELEMENT_BYTES = { f32: 4, u32: 4, f16: 2, bf16: 2 } as const;
export type ElementType = keyof typeof ELEMENT_BYTES;

export interface Tensor {
  readonly buffer: GPUBuffer;
  /** Bytes from the start of the buffer; a multiple of the device's storage alignment. */
  readonly offset: number;
  readonly shape: Shape;
  readonly dtype: ElementType;
  readonly label: string;
}

export function byteLength(tensor: Pick<Tensor, "shape" | "dtype">): number {
  return numel(tensor.shape) * ELEMENT_BYTES[tensor.dtype];
}

/** The same bytes under another shape. */
export function reshape(tensor: Tensor, shape: Shape): Tensor {
  if (numel(shape) !== numel(tensor.shape)) {
    throw new Error(`reshape: ${tensor.label} has shape [${tensor.shape.join(", ")}], which does not fit [${shape.join(", ")}]`);
  }
  return { ...tensor, shape };
}
