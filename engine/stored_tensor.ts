/**
 * Whole small tensors of a checkpoint as typed arrays, checked: for scales, maps and codes that are read at once rather than streamed.
 * Every problem is one ModelFileError that names folder and tensor.
 */

import { convert, type FloatDtype } from "./dtype.ts";
import { ModelFileError } from "./errors.ts";
import { show } from "./files.ts";
import type { TensorSource } from "./quantized_checkpoint.ts";

const FLOATS: Readonly<Record<string, FloatDtype>> = { F32: "f32", F16: "f16", BF16: "bf16" };

export const SAVE_AGAIN = "The checkpoint is damaged or was put together from two: download it or save it again";

/** The error for a tensor that is not as it should be. */
export function wrong(source: TensorSource, tensor: string, problem: string, advice = SAVE_AGAIN): ModelFileError {
  return new ModelFileError(`${source.folder}: tensor ${show(tensor)}: ${problem}. ${advice}`);
}

/** What the header says of a tensor that must be there: one of `dtypes`, and one of the `shapes` where they are given. */
export function expectTensor(
  source: TensorSource, name: string, dtypes: readonly string[], ...shapes: readonly (readonly number[])[]
): { readonly dtype: string; readonly shape: readonly number[]; readonly byteLength: number } {
  const info = source.tensors.get(name);
  if (info === undefined) throw wrong(source, name, "is missing");
  if (!dtypes.includes(info.dtype)) throw wrong(source, name, `expected ${dtypes.join(" or ")}, found ${info.dtype}`);
  if (shapes.length > 0 && !shapes.some((shape) => shape.join() === info.shape.join())) {
    const expected = shapes.map((shape) => `[${shape.join(", ")}]`).join(" or ");
    throw wrong(source, name, `expected shape ${expected}, found [${info.shape.join(", ")}]`);
  }
  return info;
}

/** All bytes of a tensor, in an array of its own. */
export async function bytesOf(source: TensorSource, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(source.tensors.get(name)!.byteLength);
  for await (const { byteOffset, bytes } of source.pieces(name)) all.set(bytes, byteOffset);
  return all;
}

/** The numbers of a float tensor, all finite. */
export async function floatsOf(source: TensorSource, name: string): Promise<Float32Array<ArrayBuffer>> {
  const from = FLOATS[source.tensors.get(name)!.dtype];
  if (from === undefined) throw wrong(source, name, `expected F32, F16 or BF16, found ${source.tensors.get(name)!.dtype}`);
  const values = new Float32Array(convert(await bytesOf(source, name), from, "f32").slice().buffer);
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw wrong(source, name, `value ${at} is ${values[at]}, expected finite numbers`);
  return values;
}
