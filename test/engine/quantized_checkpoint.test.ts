/**
 * Checkpoints in codes: every layout read as what it says, and every way in which codes, scales and states can disagree refused with one
 * line that names the tensor.
 */

import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { Checkpoint } from "../../engine/checkpoint.ts";
import { ModelFileError } from "../../engine/errors.ts";
import { openQuantized, type StoredQuantization } from "../../engine/quantized_checkpoint.ts";
import { decode, encodeBlockwise, encodeInt8, nestAbsmax } from "../../kernels/reference/quantize.ts";
import {
  GOLDENS, numbersOf, QUANTIZED_CHECKPOINTS, quantizedFolder, sourceOf, tensorsOfFile, type QuantizedName, type Tensors,
} from "../support/quantized.ts";
import { rejects } from "../support/rejects.ts";

const FOUR: StoredQuantization = { method: "bitsandbytes", bits: 4 };
const EIGHT: StoredQuantization = { method: "bitsandbytes", bits: 8 };
const GPTQ = { method: "gptq", groupSize: 32, zerosLessOne: true, activationOrder: false } as const;
const storedOf = (name: QuantizedName): StoredQuantization =>
  name === "neox-gptq" ? GPTQ : name === "qwen2-gptq-v2" ? { ...GPTQ, groupSize: null, zerosLessOne: false }
    : name === "qwen2-awq" ? { ...GPTQ, method: "awq", zerosLessOne: false } : name.endsWith("int8") ? EIGHT : FOUR;

const tensorsOf = (name: QuantizedName): Promise<Tensors> => tensorsOfFile(join(quantizedFolder(name), "model.safetensors"));
const names = Object.keys(QUANTIZED_CHECKPOINTS) as QuantizedName[];

/** The float checkpoint that transformers quantized. */
async function original(name: QuantizedName): Promise<Tensors> {
  const checkpoint = await Checkpoint.open(join(GOLDENS, QUANTIZED_CHECKPOINTS[name]!));
  try {
    const all: Tensors = new Map();
    for (const file of checkpoint.files) for (const [key, tensor] of await tensorsOfFile(join(checkpoint.folder, file))) all.set(key, tensor);
    return all;
  } finally {
    await checkpoint.close();
  }
}

for (const name of names.filter((one) => QUANTIZED_CHECKPOINTS[one] !== null)) {
  test(`${name}: what transformers saved is what our encoder makes of the floats`, async () => {
    const tensors = await tensorsOf(name);
    const { matrices, owners, read } = await openQuantized(sourceOf(tensors), storedOf(name));
    const floats = await original(name);
    assert.is(matrices.size, name.startsWith("neox") ? 8 : 14);
    for (const [weight, { shape: [rows, columns], format, tensors: parts }] of matrices) {
      assert.equal(floats.get(weight)!.shape, [rows, columns]);
      assert.is(format, name.slice(name.indexOf("-") + 1));
      for (const part of parts) assert.is(owners.get(part), weight);
      const matrix = await read(weight);
      const values = numbersOf(floats.get(weight)!);
      if (matrix.format === "int8") {
        const { codes, scb } = encodeInt8(values, rows, columns);
        assert.equal(matrix, { format: "int8", rows, columns, codes, scb });
      } else if (matrix.format !== "int4") {
        const { codes, absmax } = encodeBlockwise(values, matrix.format, 64);
        assert.equal(matrix, { format: matrix.format, rows, columns, blockSize: 64, codes, absmax: format.endsWith("-double") ? nestAbsmax(absmax, 256) : absmax });
      }
    }
    for (const tensor of tensors.keys()) assert.is(owners.has(tensor), !floats.has(tensor) || matrices.has(tensor), tensor);
  });
}

test("GPTQ and AWQ: codes, zeros and scales of each weight are those of its own row and group", async () => {
  for (const name of ["neox-gptq", "qwen2-gptq-v2", "qwen2-awq"] as const) {
    const tensors = await tensorsOf(name);
    const { matrices, read } = await openQuantized(sourceOf(tensors), storedOf(name));
    assert.is(matrices.size, name.startsWith("neox") ? 8 : 14);
    for (const [weight, { shape: [rows, columns], blockSize }] of matrices) {
      const prefix = weight.slice(0, -"weight".length);
      const words = (part: string): Uint32Array => new Uint32Array(tensors.get(prefix + part)!.data.slice().buffer);
      const [qweight, qzeros, scales] = [words("qweight"), words("qzeros"), numbersOf(tensors.get(`${prefix}scales`)!)];
      const values = decode(await read(weight));
      for (const [row, column] of [[0, 0], [1, 0], [0, 1], [rows - 1, columns - 1], [5, 40], [14, 7], [11, 63]] as const) {
        const group = Math.floor(column / blockSize);
        const place = [0, 4, 1, 5, 2, 6, 3, 7][row % 8]!; // of AWQ
        const code = name === "qwen2-awq" ? (qweight[column * rows / 8 + (row >> 3)]! >>> (4 * place)) & 15
          : (qweight[(column >> 3) * rows + row]! >>> (4 * (column % 8))) & 15;
        const zero = ((qzeros[group * rows / 8 + (row >> 3)]! >>> (4 * (name === "qwen2-awq" ? place : row % 8))) & 15) + (name === "neox-gptq" ? 1 : 0);
        assert.is(values[row * columns + column], (code - zero) * scales[group * rows + row]!, `${name} ${weight} ${row} ${column}`);
      }
    }
  }
});

test("GPTQ of the first format: a zero of 0, stored with borrow, survives", async () => {
  const tensors = await tensorsOf("neox-gptq");
  const zeros = [0, 15, 1, 0, 8, 0, 0, 3];
  const word = (zeros.reduce((sum, zero, i) => sum + BigInt(zero) * 16n ** BigInt(i), 0n) - 0x11111111n) & 0xffffffffn;
  const name = "gpt_neox.layers.0.attention.dense";
  const { data } = tensors.get(`${name}.qzeros`)!;
  new DataView(data.buffer, data.byteOffset).setUint32(0, Number(word), true);
  const { read } = await openQuantized(sourceOf(tensors), GPTQ);
  const matrix = await read(`${name}.weight`);
  assert.equal(matrix.format === "int4" && zeros.map((_, row) => matrix.zeros[2 * row]), zeros);
});

test("only what is stored in codes can be read", async () => {
  const { read } = await openQuantized(sourceOf(await tensorsOf("neox-nf4")), FOUR);
  await rejects(read("embed_out.weight"), RangeError, /embed_out\.weight is not stored quantized/);
});

test("4-bit codes in a wider storage type are the same codes", async () => {
  const tensors = await tensorsOf("neox-nf4");
  const before = await (await openQuantized(sourceOf(tensors), FOUR)).read(DENSE);
  const tensor = tensors.get(DENSE)!;
  tensors.set(DENSE, { ...tensor, dtype: "BF16", shape: [tensor.data.byteLength / 2, 1] }); // bnb_4bit_quant_storage: bfloat16
  assert.equal(await (await openQuantized(sourceOf(tensors), FOUR)).read(DENSE), before);
});

const DENSE = "gpt_neox.layers.0.attention.dense.weight";
const DENSE_PREFIX = DENSE.slice(0, -"weight".length);
const STATE = `${DENSE}.quant_state.bitsandbytes__nf4`;

/** Give a tensor other bytes; its dtype and shape stay unless they are given. */
function put(tensors: Tensors, name: string, data: Uint8Array, shape?: readonly number[]): void {
  const tensor = tensors.get(name)!;
  tensors.set(name, { ...tensor, data, shape: shape ?? tensor.shape });
}

function reshape(tensors: Tensors, name: string, shape: readonly number[], bytesEach: number): void {
  put(tensors, name, tensors.get(name)!.data.slice(0, bytesEach * shape.reduce((product, size) => product * size, 1)), shape);
}

function setState(tensors: Tensors, change: (state: Record<string, unknown>) => unknown): void {
  const state = JSON.parse(new TextDecoder().decode(tensors.get(STATE)!.data)) as Record<string, unknown>;
  const changed = change(state);
  const data = new TextEncoder().encode(typeof changed === "string" ? changed : JSON.stringify(state));
  put(tensors, STATE, data, [data.byteLength]);
}

function setFloat(tensors: Tensors, name: string, index: number, value: number): void {
  const data = tensors.get(name)!.data.slice();
  new DataView(data.buffer).setFloat32(4 * index, value, true);
  put(tensors, name, data);
}

const state = (key: string, value: unknown) => (tensors: Tensors): void => setState(tensors, (json) => { json[key] = value; });

type Bad = readonly [what: string, name: QuantizedName, change: (tensors: Tensors) => void, message: RegExp, stored?: StoredQuantization];
const BAD: readonly Bad[] = [
  ["codes cut off", "neox-nf4", (t) => reshape(t, DENSE, [2047, 1], 1), /dense\.weight": has 2047 bytes of codes, but its state says \[64, 64\], which takes 2048/],
  ["absmax too short", "neox-nf4", (t) => reshape(t, `${DENSE}.absmax`, [63], 4), /absmax": expected shape \[64\], found \[63\]/],
  ["absmax of the wrong type", "neox-nf4", (t) => t.set(`${DENSE}.absmax`, { ...t.get(`${DENSE}.absmax`)!, dtype: "U8", data: new Uint8Array(64) }), /absmax": expected F32 or F16 or BF16, found U8/],
  ["absmax not nested as the state says", "neox-nf4-double", (t) => t.set(`${DENSE}.absmax`, { ...t.get(`${DENSE}.absmax`)!, dtype: "F32", data: new Uint8Array(256) }), /absmax": expected U8, found F32/],
  ["absmax missing", "neox-nf4", (t) => t.delete(`${DENSE}.absmax`), /absmax": is missing/],
  ["quant_map missing", "neox-nf4", (t) => t.delete(`${DENSE}.quant_map`), /quant_map": is missing/],
  ["codes missing", "neox-nf4", (t) => t.delete(DENSE), /dense\.weight": is missing/],
  ["state missing", "neox-nf4", (t) => t.delete(STATE), /its matrix has no state: "gpt_neox.*bitsandbytes__nf4" \(or fp4\) is missing/],
  ["all but the codes missing", "neox-nf4", (t) => { for (const name of [...t.keys()]) if (name.startsWith(`${DENSE}.`)) t.delete(name); }, /holds codes \(U8\), but .*bitsandbytes__nf4" is missing/],
  ["two states", "neox-nf4", (t) => setState(t, () => { t.set(STATE.replace("nf4", "fp4"), { ...t.get(STATE)!, name: STATE.replace("nf4", "fp4") }); }), /quant_type of the state: expected "fp4", as the tensor's name says, found "nf4"/],
  ["state no JSON", "neox-nf4", (t) => setState(t, () => "{shape: 1}"), /the state is not valid JSON/],
  ["state a list", "neox-nf4", (t) => setState(t, () => "[]"), /the state must be a JSON object, but is \[\]/],
  ["a key twice", "neox-nf4", (t) => setState(t, () => '{"shape": [1], "shape": [2]}'), /the key "shape" stands twice in the state/],
  ["a huge state", "neox-nf4", (t) => setState(t, () => `{"a": "${"x".repeat(20_000)}"}`), /expected a short JSON text/],
  ["NaN in the state", "neox-nf4-double", (t) => setState(t, (json) => JSON.stringify(json).replace(/"nested_offset":[^,}]*/, '"nested_offset":NaN')), /the state is not valid JSON/],
  ["an unknown key", "neox-nf4", state("rotation", 4), /the state has a key "rotation", which bitsandbytes does not write/],
  ["an unknown type", "neox-nf4", state("quant_type", "nf3"), /quant_type of the state: expected "nf4" or "fp4", found "nf3"\. Take the original checkpoint/],
  ["an unknown block size", "neox-nf4", state("blocksize", 48), /blocksize of the state: expected one of 32, 64, .*, found 48/],
  ["another block size", "neox-nf4", state("blocksize", 128), /absmax": expected shape \[32\], found \[64\]/],
  ["a shape of one size", "neox-nf4", state("shape", [4096]), /shape of the state: expected \[rows, columns\], found \[4096\]/],
  ["a negative size", "neox-nf4", state("shape", [-64, -64]), /expected \[rows, columns\], found \[-64, -64\]/],
  ["a shape beyond all bounds", "neox-nf4", state("shape", [2 ** 40, 2 ** 40]), /expected \[rows, columns\], found/],
  ["another shape", "neox-nf4", state("shape", [64, 128]), /has 2048 bytes of codes, but its state says \[64, 128\], which takes 4096/],
  ["nested parts without a nested state", "neox-nf4-double", (t) => setState(t, (json) => { delete json.nested_blocksize; delete json.nested_offset; }), /absmax": expected F32 or F16 or BF16, found U8/],
  ["no offset", "neox-nf4-double", (t) => setState(t, (json) => { delete json.nested_offset; }), /nested_offset of the state: expected a finite number, found nothing/],
  ["another nested block size", "neox-nf4-double", state("nested_blocksize", 32), /nested_absmax": expected shape \[2\], found \[1\]/],
  ["nested map too short", "neox-nf4-double", (t) => reshape(t, `${DENSE}.nested_quant_map`, [255], 4), /nested_quant_map": expected shape \[256\], found \[255\]/],
  ["another nested map", "neox-nf4-double", (t) => setFloat(t, `${DENSE}.nested_quant_map`, 9, -0.9), /nested_quant_map": value 9 is -0\.8999\d*, but the map of double quantization has -0\.8\d+ there/],
  ["another map", "neox-nf4", (t) => setFloat(t, `${DENSE}.quant_map`, 3, -0.4), /quant_map": value 3 is -0\.4\d*, but the map of nf4 has -0\.3949/],
  ["the map of the other type", "neox-fp4", (t) => setFloat(t, `${DENSE}.quant_map`, 1, 0.25), /quant_map": value 1 is 0\.25, but the map of fp4 has 0\.0052/],
  ["NaN in absmax", "neox-nf4", (t) => setFloat(t, `${DENSE}.absmax`, 7, NaN), /absmax": value 7 is NaN, expected finite numbers/],
  ["negative absmax", "neox-nf4", (t) => setFloat(t, `${DENSE}.absmax`, 7, -1), /absmax": value 7 is -1, expected a largest magnitude/],
  ["infinite nested absmax", "neox-nf4-double", (t) => setFloat(t, `${DENSE}.nested_absmax`, 0, Infinity), /nested_absmax": value 0 is Infinity/],
  ["8 bits where config.json says 4", "neox-int8", () => {}, /SCB": belongs to a matrix of 8 bits, but config\.json says load_in_4bit/, FOUR],
  ["4 bits where config.json says 8", "neox-nf4", () => {}, /belongs to a matrix of 4 bits, but config\.json says load_in_8bit/, EIGHT],
  ["SCB too short", "neox-int8", (t) => reshape(t, `${DENSE_PREFIX}SCB`, [63], 4), /SCB": expected shape \[64\], found \[63\]/],
  ["SCB missing", "neox-int8", (t) => { t.delete(`${DENSE_PREFIX}SCB`); t.delete(`${DENSE_PREFIX}weight_format`); }, /holds codes \(I8\), but "gpt_neox\.layers\.0\.attention\.dense\.SCB" is missing/],
  ["weight_format alone", "neox-int8", (t) => t.delete(`${DENSE_PREFIX}SCB`), /holds codes \(I8\), but "gpt_neox\.layers\.0\.attention\.dense\.SCB" is missing/],
  ["infinite SCB", "neox-int8", (t) => setFloat(t, `${DENSE_PREFIX}SCB`, 2, Infinity), /SCB": value 2 is Infinity, expected finite numbers/],
  ["negative SCB", "neox-int8", (t) => setFloat(t, `${DENSE_PREFIX}SCB`, 2, -3), /SCB": row 2 is -3, expected a largest magnitude/],
  ["int8 codes as floats", "neox-int8", (t) => t.set(DENSE, { ...t.get(DENSE)!, dtype: "F16", shape: [64, 32] }), /dense\.weight": expected I8, found F16/],
  ["col_turing", "neox-int8", (t) => put(t, `${DENSE_PREFIX}weight_format`, Uint8Array.of(2)), /weight_format": the codes are laid out as col_turing, expected row-major\. Load the model with a bitsandbytes before/],
  ["an unknown weight_format", "neox-int8", (t) => put(t, `${DENSE_PREFIX}weight_format`, Uint8Array.of(9)), /laid out as format 9, expected row-major/],
  ["nothing quantized", "neox-nf4", (t) => { for (const name of [...t.keys()]) if (!name.endsWith("norm.weight")) t.delete(name); }, /config\.json says that the weights are quantized \(bitsandbytes\), but no tensor is/],
  ["another group size", "neox-gptq", () => {}, /qzeros": expected shape \[1, 8\], found \[2, 8\]/, { ...GPTQ, groupSize: 64 }],
  ["scales missing", "neox-gptq", (t) => t.delete(`${DENSE_PREFIX}scales`), /scales": is missing/],
  ["scales too few", "neox-gptq", (t) => reshape(t, `${DENSE_PREFIX}scales`, [2, 63], 2), /scales": expected shape \[2, 64\], found \[2, 63\]/],
  ["NaN in scales", "neox-gptq", (t) => put(t, `${DENSE_PREFIX}scales`, t.get(`${DENSE_PREFIX}scales`)!.data.map((byte, i) => (i < 2 ? 0xff : byte))), /scales": value 0 is NaN/],
  ["qweight as floats", "neox-gptq", (t) => t.set(`${DENSE_PREFIX}qweight`, { ...t.get(`${DENSE_PREFIX}qweight`)!, dtype: "F32" }), /qweight": expected I32 or U32, found F32/],
  ["qzeros alone", "neox-gptq", (t) => t.delete(`${DENSE_PREFIX}qweight`), /(?:qzeros|g_idx)": there is no qweight beside it/],
  ["g_idx out of range", "neox-gptq", (t) => put(t, `${DENSE_PREFIX}g_idx`, t.get(`${DENSE_PREFIX}g_idx`)!.data.map((byte, i) => (i === 8 ? 7 : byte))), /g_idx": input 2 is in group 7, but there are 2 groups of 32/],
  ["activation order", "neox-gptq", (t) => put(t, `${DENSE_PREFIX}g_idx`, t.get(`${DENSE_PREFIX}g_idx`)!.data.map((byte, i) => (i === 8 ? 1 : byte))), /g_idx": input 2 is in group 1: the groups are scattered over the row \(activation order, desc_act\).*Take a version/],
  ["activation order without g_idx", "neox-gptq", (t) => t.delete(`${DENSE_PREFIX}g_idx`), /g_idx": is missing, but config\.json says desc_act/, { ...GPTQ, activationOrder: true }],
  ["rows of AWQ that its zeros do not have", "qwen2-awq", (t) => reshape(t, "model.layers.0.self_attn.q_proj.qweight", [64, 7], 4), /qzeros": expected shape \[2, 7\], found \[2, 8\]/],
];

for (const [what, name, change, message, stored = storedOf(name)] of BAD) {
  test(`refused: ${what}`, async () => {
    const tensors = await tensorsOf(name);
    change(tensors);
    const readAll = async (): Promise<void> => {
      const { matrices, read } = await openQuantized(sourceOf(tensors, "some/folder"), stored);
      for (const matrix of matrices.keys()) await read(matrix);
    };
    const error = await rejects(readAll(), ModelFileError, message, what);
    assert.match(error.message, /^some\/folder: /);
  });
}

test("desc_act with groups in order is no activation order", async () => {
  const { matrices } = await openQuantized(sourceOf(await tensorsOf("neox-gptq")), { ...GPTQ, activationOrder: true });
  assert.is(matrices.size, 8);
});

test.run();
