/**
 * The layouts in which GPTQ (Frantar et al. 2022) and AWQ (Lin et al. 2023) checkpoints hold matrices of four bits. Both store the
 * transposed weight as `P.qweight`, with a scale `P.scales` and a zero `P.qzeros` for every group of inputs, eight codes to an int32:
 *
 * - GPTQ: qweight [columns / 8, rows], eight inputs of one output per word, lowest bits first; qzeros [groups, rows / 8]; g_idx [columns]
 *   says to which group an input belongs.
 * - AWQ (`version: gemm`): qweight [columns, rows / 8] and qzeros [groups, rows / 8], eight outputs per word, in the order 0 2 4 6 1 3 5 7.
 */

import type { GroupedMatrix } from "./encoded.ts";
import type { Layout, StoredQuantization, TensorSource } from "./quantized_checkpoint.ts";
import { bytesOf, expectTensor, floatsOf, wrong } from "./stored_tensor.ts";

type Grouped = Exclude<StoredQuantization, { readonly method: "bitsandbytes" }>;
type Entry = Layout extends ReadonlyMap<string, infer E> ? E : never;

const IN_ORDER = [0, 1, 2, 3, 4, 5, 6, 7];
/** Output of a group of eight that stands in the i-th four bits of a word of AWQ. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7];

/** All matrices of the file. Throws ModelFileError. */
export async function groupedLayout(source: TensorSource, stored: Grouped): Promise<Layout> {
  const layout = new Map<string, Entry>();
  for (const tensor of source.tensors.keys()) {
    if (!tensor.endsWith(".qweight")) continue;
    const entry = await groupedEntry(source, tensor.slice(0, -"qweight".length), stored);
    layout.set(entry.name, entry);
  }
  const owned = new Set([...layout.values()].flatMap(({ tensors }) => tensors));
  for (const tensor of source.tensors.keys()) {
    if (/\.(?:qzeros|g_idx)$/.test(tensor) && !owned.has(tensor)) throw wrong(source, tensor, "there is no qweight beside it");
  }
  return layout;
}

async function groupedEntry(source: TensorSource, prefix: string, stored: Grouped): Promise<Entry> {
  const [qweight, qzeros, scales, gIdx] = [`${prefix}qweight`, `${prefix}qzeros`, `${prefix}scales`, `${prefix}g_idx`] as const;
  const { shape } = expectTensor(source, qweight, ["I32", "U32"]);
  const [first, second] = shape;
  if (shape.length !== 2 || !first || !second) throw wrong(source, qweight, `expected the shape of a matrix, found [${shape.join(", ")}]`);
  const isGptq = stored.method === "gptq";
  const [rows, columns] = isGptq ? [second, first * 8] : [second * 8, first];
  if (columns % 8 > 0 || rows % 8 > 0) throw wrong(source, qweight, `is of a matrix [${rows}, ${columns}], expected multiples of 8`);
  const groupSize = stored.groupSize ?? columns;
  const groups = Math.ceil(columns / groupSize);
  expectTensor(source, qzeros, ["I32", "U32"], [groups, rows / 8]);
  expectTensor(source, scales, ["F16", "BF16", "F32"], [groups, rows]);
  const hasGroups = isGptq && source.tensors.has(gIdx);
  if (hasGroups) await checkGroups(source, gIdx, columns, groupSize, groups);
  else if (isGptq && stored.activationOrder) throw wrong(source, gIdx, "is missing, but config.json says desc_act");
  const read = async (): Promise<GroupedMatrix> => {
    const words = new Uint32Array((await bytesOf(source, qweight)).buffer);
    return {
      format: "int4", rows, columns, groupSize,
      codes: isGptq ? gptqCodes(words, rows, columns) : awqCodes(words, rows, columns),
      scales: transposed(await floatsOf(source, scales), groups, rows),
      zeros: zerosOf(new Uint32Array((await bytesOf(source, qzeros)).buffer), groups, rows, stored),
    };
  };
  const tensors = [qweight, qzeros, scales, ...(hasGroups ? [gIdx] : [])];
  return { name: `${prefix}weight`, format: "int4", shape: [rows, columns], blockSize: groupSize, nestedBlockSize: 0, tensors, read };
}

/** A group must be a run of inputs: with activation order (`desc_act`) its members are scattered, and one scale per run does not say it. */
async function checkGroups(source: TensorSource, name: string, columns: number, groupSize: number, groups: number): Promise<void> {
  expectTensor(source, name, ["I32"], [columns]);
  const ids = new Int32Array((await bytesOf(source, name)).buffer);
  const outside = ids.findIndex((id) => id < 0 || id >= groups);
  if (outside >= 0) {
    throw wrong(source, name, `input ${outside} is in group ${ids[outside]}, but there are ${groups} groups of ${groupSize}`);
  }
  const scattered = ids.findIndex((id, column) => id !== Math.floor(column / groupSize));
  if (scattered < 0) return;
  throw wrong(source, name, `input ${scattered} is in group ${ids[scattered]}: the groups are scattered over the row (activation order, `
    + "desc_act), and we read scales for runs of a row only",
    "Take a version of the model that was quantized with desc_act: false, or the original one");
}

/** Two codes a byte, the earlier in the high half: the words of the file with the halves of every byte exchanged, transposed. */
function gptqCodes(words: Uint32Array, rows: number, columns: number): Uint8Array {
  const perRow = columns / 8;
  const codes = new Uint32Array(rows * perRow);
  for (let first = 0; first < rows; first += 16) { // the words of 16 outputs are one cache line
    for (let k = 0; k < perRow; k++) {
      for (let row = first; row < Math.min(first + 16, rows); row++) {
        const word = words[k * rows + row]!;
        codes[row * perRow + k] = ((word & 0x0f0f0f0f) << 4) | ((word >>> 4) & 0x0f0f0f0f);
      }
    }
  }
  return new Uint8Array(codes.buffer);
}

function awqCodes(words: Uint32Array, rows: number, columns: number): Uint8Array {
  const perColumn = rows / 8;
  const codes = new Uint8Array(rows * columns / 2);
  for (let eight = 0; eight < perColumn; eight++) {
    for (let pair = 0; pair < columns / 2; pair++) {
      const earlier = words[2 * pair * perColumn + eight]!;
      const later = words[(2 * pair + 1) * perColumn + eight]!;
      for (let i = 0; i < 8; i++) {
        codes[(8 * eight + AWQ_ORDER[i]!) * columns / 2 + pair] = (((earlier >>> (4 * i)) & 15) << 4) | ((later >>> (4 * i)) & 15);
      }
    }
  }
  return codes;
}

/**
 * [rows, groups]. Zeros that are stored less one were packed by taking 0x11111111 from a word, with borrow; it is given back the same
 * way, as GPTQModel does, so that a zero of 0 survives.
 */
function zerosOf(words: Uint32Array, groups: number, rows: number, { method, zerosLessOne }: Grouped): Uint8Array {
  const order = method === "gptq" ? IN_ORDER : AWQ_ORDER;
  const zeros = new Uint8Array(rows * groups);
  for (let group = 0; group < groups; group++) {
    for (let eight = 0; eight < rows / 8; eight++) {
      const word = (words[group * rows / 8 + eight]! + (zerosLessOne ? 0x11111111 : 0)) >>> 0;
      for (let i = 0; i < 8; i++) zeros[(8 * eight + order[i]!) * groups + group] = (word >>> (4 * i)) & 15;
    }
  }
  return zeros;
}

/** [rows, columns] → [columns, rows]. */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column]!;
  }
  return out;
}
