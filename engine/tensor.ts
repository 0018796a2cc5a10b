/**
 * A tensor is a view of a buffer: where it starts, its shape, what its elements are. It owns nothing; whoever made the buffer
 * (weights, cache, activations) frees it. 16-bit elements are stored two to a u32 word, so no kernel needs `shader-f16` to read them.
 */

import { DTYPE_BYTES, type Dtype } from "./dtype.ts";
import { numel, type Shape } from "./shape.ts";

/** Numbers on the GPU: a stretch of a buffer, in row-major order. It owns nothing. */
export interface Tensor {
  readonly buffer: GPUBuffer;
  /** Bytes from the start of the buffer; a multiple of the device's storage alignment. */
  readonly offset: number;
  readonly shape: Shape;
  readonly dtype: Dtype;
  readonly label: string;
}

export function byteLength(tensor: Pick<Tensor, "shape" | "dtype">): number {
  return numel(tensor.shape) * DTYPE_BYTES[tensor.dtype];
}

/** The same bytes under another shape. */
export function reshape(tensor: Tensor, shape: Shape): Tensor {
  if (numel(shape) !== numel(tensor.shape)) {
    throw new Error(`reshape: ${tensor.label} has shape [${tensor.shape.join(", ")}], which does not fit [${shape.join(", ")}]`);
  }
  return { ...tensor, shape };
}
