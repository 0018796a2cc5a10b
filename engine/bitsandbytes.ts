/**
 * The layout in which bitsandbytes saves its matrices (functional.py `QuantState`, nn/modules.py `Linear8bitLt`). Four bits: `P.weight`
 * has the codes, two a byte; beside it stand `P.weight.absmax`, `P.weight.quant_map`, for double quantization `P.weight.nested_absmax`
 * and `P.weight.nested_quant_map`, and a JSON text with shape and block size, `P.weight.quant_state.bitsandbytes__nf4`. Eight bits:
 * `P.weight` in int8, `P.SCB` with the largest magnitude of each row, `P.weight_format`, which must be 0 (row-major).
 */

import { CODE_VALUES, dynamicMap, type BlockwiseMatrix, type Int8Matrix, type NestedAbsmax } from "./encoded.ts";
import { show } from "./files.ts";
import { parseJsonObject } from "./safetensors_header.ts";
import type { Layout, TensorSource } from "./quantized_checkpoint.ts";
import { bytesOf, expectTensor, floatsOf, SAVE_AGAIN, wrong } from "./stored_tensor.ts";

const STATE = ".quant_state.bitsandbytes__";
const BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096];
/** Beside `P.weight`. */
const PARTS = ["absmax", "quant_map", "nested_absmax", "nested_quant_map"];
const STATE_KEYS = ["quant_type", "blocksize", "dtype", "shape", "nested_blocksize", "nested_dtype", "nested_offset"];
/** `weight_format` of older versions, for Tensor Cores of one generation each. */
const INT8_LAYOUTS = ["row", "col32", "col_turing", "col_ampere"];
const FLOATS = ["F32", "F16", "BF16"];

type Entry = Layout extends ReadonlyMap<string, infer E> ? E : never;

/** All matrices of the file. Throws ModelFileError. */
export async function bitsandbytesLayout(source: TensorSource, bits: 4 | 8): Promise<Layout> {
  const layout = new Map<string, Entry>();
  for (const tensor of source.tensors.keys()) {
    const at = tensor.indexOf(STATE);
    const isScb = tensor.endsWith(".SCB");
    if (at < 0 && !isScb) continue;
    if (isScb !== (bits === 8)) {
      throw wrong(source, tensor, `belongs to a matrix of ${isScb ? 8 : 4} bits, but config.json says load_in_${bits}bit`);
    }
    const entry = isScb ? await int8Entry(source, tensor) : await blockwiseEntry(source, tensor, at);
    if (layout.has(entry.name)) throw wrong(source, tensor, `${show(entry.name)} has two states`);
    layout.set(entry.name, entry);
  }
  refuseOrphans(source, new Set([...layout.values()].flatMap(({ tensors }) => tensors)));
  return layout;
}

/** Codes without a state, and parts of a state without its JSON. */
function refuseOrphans(source: TensorSource, owned: ReadonlySet<string>): void {
  for (const [tensor, { dtype }] of source.tensors) {
    if (owned.has(tensor)) continue;
    if (PARTS.some((part) => tensor.endsWith(`.weight.${part}`))) {
      const weight = tensor.slice(0, tensor.lastIndexOf("."));
      throw wrong(source, tensor, `its matrix has no state: ${show(`${weight}${STATE}nf4`)} (or fp4) is missing`);
    }
    if (tensor.endsWith(".weight_format")) throw wrong(source, tensor, "there is no SCB beside it");
    if (tensor.endsWith(".weight") && (dtype === "U8" || dtype === "I8")) {
      const missing = dtype === "I8" ? `${tensor.slice(0, -"weight".length)}SCB` : `${tensor}${STATE}nf4`;
      throw wrong(source, tensor, `holds codes (${dtype}), but ${show(missing)} is missing`);
    }
  }
}

async function int8Entry(source: TensorSource, scbName: string): Promise<Entry> {
  const prefix = scbName.slice(0, -"SCB".length);
  const name = `${prefix}weight`;
  const { shape } = expectTensor(source, name, ["I8"]);
  const [rows, columns] = shape;
  if (shape.length !== 2 || !rows || !columns) throw wrong(source, name, `expected the shape of a matrix, found [${shape.join(", ")}]`);
  expectTensor(source, scbName, FLOATS, [rows]);
  const formatName = `${prefix}weight_format`;
  const hasFormat = source.tensors.has(formatName);
  if (hasFormat) {
    expectTensor(source, formatName, ["U8"], [], [1]);
    const [format = 0] = await bytesOf(source, formatName);
    if (format !== 0) {
      throw wrong(source, formatName, `the codes are laid out as ${INT8_LAYOUTS[format] ?? `format ${format}`}, expected row-major`,
        "Load the model with a bitsandbytes before 0.45 and save it again with a newer one, or take the original checkpoint");
    }
  }
  const read = async (): Promise<Int8Matrix> => {
    const scb = await floatsOf(source, scbName);
    const negative = scb.findIndex((value) => value < 0);
    if (negative >= 0) throw wrong(source, scbName, `row ${negative} is ${scb[negative]}, expected a largest magnitude`);
    return { format: "int8", rows, columns, codes: new Int8Array((await bytesOf(source, name)).buffer), scb };
  };
  const tensors = [name, scbName, ...(hasFormat ? [formatName] : [])];
  return { name, format: "int8", shape: [rows, columns], blockSize: columns, nestedBlockSize: 0, tensors, read };
}

interface State {
  readonly type: "nf4" | "fp4";
  readonly rows: number;
  readonly columns: number;
  readonly blockSize: number;
  readonly nested: Nested | null;
}
interface Nested { readonly blockSize: number; readonly offset: number }

async function blockwiseEntry(source: TensorSource, stateName: string, at: number): Promise<Entry> {
  const name = stateName.slice(0, at);
  const { type, rows, columns, blockSize, nested } = await readState(source, stateName, stateName.slice(at + STATE.length));
  const count = rows * columns;
  const blocks = Math.ceil(count / blockSize);
  const bytes = Math.ceil(count / 2);
  const codes = source.tensors.get(name);
  if (codes === undefined) throw wrong(source, name, "is missing");
  // Any dtype will do: bnb_4bit_quant_storage only renames the bytes.
  if (codes.byteLength !== bytes) {
    throw wrong(source, name, `has ${codes.byteLength} bytes of codes, but its state says [${rows}, ${columns}], which takes ${bytes}`);
  }
  expectTensor(source, `${name}.absmax`, nested === null ? FLOATS : ["U8"], [blocks]);
  expectTensor(source, `${name}.quant_map`, FLOATS, [16]);
  for (const part of PARTS.slice(2)) {
    if (nested === null && source.tensors.has(`${name}.${part}`)) {
      throw wrong(source, `${name}.${part}`, "is there, but the state of its matrix speaks of no double quantization");
    }
  }
  if (nested !== null) {
    expectTensor(source, `${name}.nested_absmax`, FLOATS, [Math.ceil(blocks / nested.blockSize)]);
    expectTensor(source, `${name}.nested_quant_map`, FLOATS, [256]);
  }
  const read = async (): Promise<BlockwiseMatrix> => {
    await expectMap(source, `${name}.quant_map`, CODE_VALUES[type], type);
    const absmax = nested === null ? await magnitudesOf(source, `${name}.absmax`) : await nestedOf(source, name, nested);
    return { format: type, rows, columns, blockSize, codes: await bytesOf(source, name), absmax };
  };
  const tensors = [name, ...PARTS.slice(0, nested === null ? 2 : 4).map((part) => `${name}.${part}`), stateName];
  return {
    name, format: nested === null ? type : `${type}-double`, shape: [rows, columns], blockSize, nestedBlockSize: nested?.blockSize ?? 0,
    tensors, read,
  };
}

/** The JSON text of a 4-bit matrix, every key checked. */
async function readState(source: TensorSource, stateName: string, suffix: string): Promise<State> {
  const { byteLength } = expectTensor(source, stateName, ["U8"]);
  if (byteLength > 10_000) throw wrong(source, stateName, `has ${byteLength} bytes, expected a short JSON text`);
  const json = parseJsonObject(await bytesOf(source, stateName), `${source.folder}: tensor ${show(stateName)}`, "state");
  const refuse = (key: string, expected: string, advice = SAVE_AGAIN): Error =>
    wrong(source, stateName, `${key} of the state: expected ${expected}, found ${show(json[key])}`, advice);
  const unknown = Object.keys(json).find((key) => !STATE_KEYS.includes(key));
  if (unknown !== undefined) throw wrong(source, stateName, `the state has a key ${show(unknown)}, which bitsandbytes does not write`);
  const { quant_type: type, blocksize: blockSize, shape } = json;
  if (type !== "nf4" && type !== "fp4") throw refuse("quant_type", '"nf4" or "fp4"', "Take the original checkpoint");
  if (type !== suffix) throw refuse("quant_type", `${show(suffix)}, as the tensor's name says`);
  if (typeof blockSize !== "number" || !BLOCK_SIZES.includes(blockSize)) throw refuse("blocksize", `one of ${BLOCK_SIZES.join(", ")}`);
  const sizes = Array.isArray(shape) ? shape as unknown[] : [];
  const [rows, columns] = sizes;
  const isSize = (size: unknown): size is number => Number.isSafeInteger(size) && (size as number) > 0;
  if (sizes.length !== 2 || !isSize(rows) || !isSize(columns) || !isSize(rows * columns)) throw refuse("shape", "[rows, columns]");
  const { nested_blocksize: nestedBlockSize, nested_offset: offset } = json;
  if (nestedBlockSize === undefined && offset === undefined) return { type, rows, columns, blockSize, nested: null };
  if (typeof nestedBlockSize !== "number" || !BLOCK_SIZES.includes(nestedBlockSize)) {
    throw refuse("nested_blocksize", `one of ${BLOCK_SIZES.join(", ")}`);
  }
  if (typeof offset !== "number" || !Number.isFinite(offset)) throw refuse("nested_offset", "a finite number");
  return { type, rows, columns, blockSize, nested: { blockSize: nestedBlockSize, offset } };
}

async function nestedOf(source: TensorSource, name: string, { blockSize, offset }: Nested): Promise<NestedAbsmax> {
  const map = await expectMap(source, `${name}.nested_quant_map`, dynamicMap(), "double quantization");
  const nested = await magnitudesOf(source, `${name}.nested_absmax`);
  return { codes: await bytesOf(source, `${name}.absmax`), nested, blockSize, map, offset };
}

/** Versions of torch may differ in a last digit; anything more is another map. */
async function expectMap(source: TensorSource, name: string, known: Float32Array, what: string): Promise<Float32Array> {
  const map = await floatsOf(source, name);
  const at = map.findIndex((value, i) => Math.abs(value - known[i]!) > 1e-6 * Math.abs(known[i]!));
  if (at >= 0) throw wrong(source, name, `value ${at} is ${map[at]}, but the map of ${what} has ${known[at]} there`);
  return map;
}

async function magnitudesOf(source: TensorSource, name: string): Promise<Float32Array> {
  const values = await floatsOf(source, name);
  const at = values.findIndex((value) => value < 0);
  if (at >= 0) throw wrong(source, name, `value ${at} is ${values[at]}, expected a largest magnitude`);
  return values;
}
