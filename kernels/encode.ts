/**
 * From floats to codes on the GPU, when a model is quantized as it is loaded: pieces of a matrix come as they are stored, and go into
 * their place in a weight. Codes and magnitudes are bitsandbytes' own, byte for byte; kernels/reference/quantize.ts is the twin.
 */

import { f32, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Gpu } from "../engine/gpu.ts";
import { Recorder, submit } from "../engine/recorder.ts";
import { numel } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { codeTable, isBlockwise, isDouble, type HeldFormat } from "./formats.ts";
import { codeBounds } from "./reference/quantize.ts";
import { f32Array, isBeside, layOutScales, readerOf, type Weight } from "./weights.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const BLOCKWISE = file("./encode_blockwise.wgsl");
const ROWS = file("./encode_rows.wgsl");
const EXACT = file("./exact.wgsl");
/** Invocations of a workgroup: some subgroups of any size. */
const WORKGROUP = 64;

/** Weights that a piece holds at most: a grid has 65,535 workgroups, and a piece is one binding. */
export function pieceCapacity({ maxBinding }: Pick<Gpu, "maxBinding">): number {
  return Math.min(16 << 20, Math.floor(maxBinding / 4));
}

/** One matrix on its way into section `section` of a quantized weight. */
export interface Encoding {
  readonly weight: Weight;
  readonly section: number;
  /** f32 [blocks] of a double quantized section, whose magnitudes are quantized later; else they go where the weight has them. */
  readonly absmax?: Tensor | undefined;
  /** u32 [1], zero before: counts values that have no code, since they are not finite. */
  readonly unusable: Tensor;
}

/**
 * Encode one piece. values: [count] in a float format, whole rows of the section from its row `firstRow` on; of a blockwise format the
 * piece begins at a block. Submits; the piece may be overwritten by the queue's next write.
 */
export async function encodePiece(gpu: Gpu, { weight, section, absmax, unusable }: Encoding, values: Tensor, firstRow: number): Promise<void> {
  const { quantized, columns, parts: [part] } = weight;
  const { firstRow: sectionRow, firstColumn, columns: width } = quantized!.sections[section]!;
  const { format, blockSize } = quantized!, across = isBeside(quantized!) ? 2 : 1; // scales of a row of int8
  const blockwise = isBlockwise(format);
  const count = numel(values.shape), first = firstRow * width;
  if (count % width !== 0 || (blockwise && first % blockSize !== 0)) {
    throw new Error(`encode: a piece of ${count} weights from row ${firstRow} of ${part!.tensor.label} is cut inside a row or a block`);
  }
  const last = blockwise ? (isDouble(format) ? 0 : layOutScales(quantized!).blocks[section]!) : section % across;
  const piece = await gpu.tensor("staging", [7], "u32", "piece");
  try {
    gpu.upload(piece.buffer, 0, Uint32Array.of(first / 8, count / 8, width / 8, columns / 8, sectionRow, firstColumn / 8, last));
    const source = readerOf({ rows: count / 8, columns: 8, gated: false, parts: [] }, { tensor: values, first: 0, rows: count / 8 });
    const recorder = new Recorder(gpu);
    const shared = { ...source.tensors, piece, codes: part!.tensor, unusable };
    const consts = { ...source.consts, K: 8, SUBGROUP: gpu.subgroupSize, WORKGROUP };
    if (blockwise) {
      const invocations = Math.ceil(count / blockSize) * Math.min(gpu.subgroupSize, blockSize / 8);
      recorder.run({
        source: BLOCKWISE, slots: [...source.slots, EXACT], consts: { ...consts, ...codesOf(format), BLOCK: blockSize },
      }, { ...shared, absmax: absmax ?? part!.scales! }, Math.ceil(invocations / WORKGROUP));
    } else {
      recorder.run({ source: ROWS, slots: [...source.slots, EXACT], consts: { ...consts, SECTIONS: across } },
        { ...shared, scales: part!.scales! }, Math.ceil(count / width * gpu.subgroupSize / WORKGROUP));
    }
    submit(gpu, await recorder.finish("encode"), { rows: 1, tiles: 0 });
  } finally {
    gpu.destroyBuffer(piece.buffer);
  }
}

/** Where one code ends and the next begins, and the codes in that order, eight to a word. */
function codesOf(format: HeldFormat): Consts {
  const { bounds, order } = codeBounds(codeTable(format));
  const packed = (first: number): number => order.slice(first, first + 8).reduce((word, code, i) => (word | (code << (4 * i))) >>> 0, 0);
  return { BOUNDS: f32Array(bounds), ORDER_LOW: packed(0), ORDER_HIGH: packed(8), LEAST: f32(1e-38), LEAST_RECIPROCAL: f32(1 / Math.fround(1e-38)) };
}
