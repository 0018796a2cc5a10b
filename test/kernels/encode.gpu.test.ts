/** Encoding on the GPU against the scalar twins, byte for byte: every format, from every float format, in pieces, into its place in a weight. */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { convert } from "../../engine/dtype.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { QuantizedFormat } from "../../kernels/formats.ts";
import { nestAbsmax } from "../../kernels/reference/quantize.ts";
import { layOutScales, type Section, type Weight } from "../../kernels/weights.ts";
import { QuantizedLoader } from "../../models/quantized_weights.ts";
import { encoded, decoded, numbers, openFamilies, release, uniform, type FloatFormat } from "../support/gpu.ts";
import { encodedMatrix, quantizedWeight } from "../support/quantized_weight.ts";

const gpus = await openFamilies();
test.after(() => gpus.forEach((one) => one.close()));

/** Weights with what encoders stumble over: zeros, equal values, one outlier, values on and beside the bounds between codes, tiny ones. */
function awkward(count: number, seed: number): Float32Array {
  const values = numbers(count, seed, 0.03), random = uniform(seed + 1);
  for (let start = 0; start < count; start += 64) {
    const kind = Math.floor(random() * 8), block = values.subarray(start, start + 64);
    if (kind === 0) block.fill(0);
    if (kind === 1) block.fill(-0.125);
    if (kind === 2) block[Math.floor(random() * block.length)] = 40;
    if (kind === 3) block.forEach((_, i) => { block[i] = i % 3 === 0 ? 1 : (i - 32) / 64; });
    if (kind === 4) block.forEach((value, i) => { block[i] = value * 1e-6; });
  }
  return values;
}

/** Throws with the first places at which two arrays differ. */
function same(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assert.is(actual.length, expected.length, `${what}: length`);
  const wrong = Array.from(expected, (value, i) => [i, actual[i]!, value] as const).filter(([, got, wanted]) => !Object.is(got, wanted));
  assert.is(wrong.length, 0, `${what}: ${wrong.length} differ, first ${wrong.slice(0, 5).map(([i, got, wanted]) => `[${i}] ${got} for ${wanted}`).join(", ")}`);
}

interface Made { readonly weight: Weight; readonly loader: QuantizedLoader }

/** A weight of sections, encoded on the GPU from `stored` (in `from`), each in pieces of `pieceBytes`. */
async function encodeOnGpu(gpu: Gpu, format: QuantizedFormat, blockSize: number, sections: readonly Section[], stored: readonly Uint8Array[], from: FloatFormat, pieceBytes: number): Promise<Made> {
  const rows = Math.max(...sections.map((section) => section.firstRow + section.rows));
  const columns = Math.max(...sections.map((section) => section.firstColumn + section.columns));
  const loader = new QuantizedLoader(gpu);
  const sources = sections.map((section, i) => ({ name: `matrix ${i}`, shape: [section.rows, section.columns], firstRow: section.firstRow, firstColumn: section.firstColumn }));
  const weight = await loader.allocate({ sources, kind: "matrix", rows, columns, quantizable: true }, { format, blockSize, nestedBlockSize: 256, sections });
  async function* pieces(bytes: Uint8Array) {
    for (let byteOffset = 0; byteOffset < bytes.length; byteOffset += pieceBytes) yield { byteOffset, bytes: bytes.subarray(byteOffset, byteOffset + pieceBytes) };
  }
  for (const [i, bytes] of stored.entries()) await loader.encode(weight, i, `matrix ${i}`, from, pieces(bytes));
  return { weight, loader };
}

const besides: readonly Section[] = [{ firstRow: 0, rows: 40, firstColumn: 0, columns: 96 }, { firstRow: 0, rows: 40, firstColumn: 96, columns: 160 }];
const ragged: readonly Section[] = [{ firstRow: 0, rows: 7, firstColumn: 0, columns: 72 }, { firstRow: 7, rows: 9, firstColumn: 0, columns: 72 }];

for (const format of ["nf4", "fp4", "nf4-double", "int8"] as const) {
  for (const from of ["f32", "f16", "bf16"] as const) {
    test(`${format} from ${from}: codes and scales are the twin's, byte for byte`, async () => {
      for (const gpu of gpus) for (const sections of from === "f32" ? [besides, ragged] : [besides]) {
        const stored = sections.map(({ rows, columns }, i) => encoded(awkward(rows * columns, 7 + i), from));
        const values = stored.map((bytes) => Float32Array.from(decoded(bytes, from)));
        const { weight, loader } = await encodeOnGpu(gpu, format, 64, sections, stored, from, 1600);
        await loader.check("a test");
        const expected = await quantizedWeight(gpu, { format, blockSize: 64, sections }, (section) => values[section]!);
        const bytesOf = async ({ parts: [part] }: Weight) => [await gpu.read(part!.tensor), await gpu.read(part!.scales!)] as const;
        const [[codes, scales], [wantedCodes, wantedScales]] = [await bytesOf(weight), await bytesOf(expected.weight)];
        same(codes, wantedCodes, "codes");
        same(scales, wantedScales, "scales");
        loader.close();
        release(gpu, ...[weight, expected.weight].flatMap(({ parts: [part] }) => [part!.tensor, part!.scales!]));
      }
    });
  }
}

test("blocks of 128 and of 32 weights", async () => {
  for (const gpu of gpus) for (const blockSize of [32, 128]) {
    const sections = [besides[1]!].map((section) => ({ ...section, firstColumn: 0 })), values = awkward(40 * 160, 3);
    const { weight, loader } = await encodeOnGpu(gpu, "nf4", blockSize, sections, [encoded(values, "f32")], "f32", 1 << 20);
    const wanted = encodedMatrix(values, 160, "nf4", blockSize);
    if (wanted.format === "int8" || wanted.format === "int4") throw new Error("nf4 was asked for");
    same(await gpu.read(weight.parts[0]!.tensor), wanted.codes, `codes, blocks of ${blockSize}`);
    same(await gpu.readF32(weight.parts[0]!.scales!), wanted.absmax as Float32Array, `scales, blocks of ${blockSize}`);
    loader.close();
    release(gpu, weight.parts[0]!.tensor, weight.parts[0]!.scales!);
  }
});

test("a matrix of several pieces' room, double quantized as a whole", async () => {
  const [gpu] = gpus as [Gpu];
  const [rows, columns] = [200, 256];
  const values = awkward(rows * columns, 11);
  const sections = [{ firstRow: 0, rows, firstColumn: 0, columns }];
  const { weight, loader } = await encodeOnGpu(gpu, "fp4-double", 64, sections, [convert(encoded(values, "f32"), "f32", "bf16")], "bf16", 4096);
  const wanted = encodedMatrix(Float32Array.from(decoded(encoded(values, "bf16"), "bf16")), columns, "fp4", 64);
  if (wanted.format !== "fp4" || !(wanted.absmax instanceof Float32Array)) throw new Error("fp4 was asked for");
  const nested = nestAbsmax(wanted.absmax, 256);
  const layout = layOutScales(weight.quantized!);
  const scales = await gpu.read(weight.parts[0]!.scales!);
  const words = new Float32Array(scales.buffer, scales.byteOffset, scales.byteLength / 4);
  assert.is(words[0], nested.offset);
  same(words.subarray(4, 260), nested.map, "map");
  same(scales.subarray(1040, 1040 + nested.codes.length), nested.codes, "codes of magnitudes");
  same(words.subarray(layout.nestedFirst, layout.nestedFirst + nested.nested.length), nested.nested, "nested scales");
  loader.close();
  release(gpu, weight.parts[0]!.tensor, weight.parts[0]!.scales!);
});

test("NaN, infinities, and what int8 cannot take as f16 are counted and refused by name", async () => {
  const [gpu] = gpus as [Gpu];
  const sections = [{ firstRow: 0, rows: 8, firstColumn: 0, columns: 64 }];
  for (const [format, bad, count] of [["nf4", [NaN, Infinity], 2], ["int8", [70000, -Infinity, NaN], 3]] as const) {
    const values = numbers(8 * 64, 1);
    bad.forEach((value, i) => { values[100 * i + 5] = value; });
    const { weight, loader } = await encodeOnGpu(gpu, format, 64, sections, [encoded(values, "f32")], "f32", 1 << 20);
    try {
      await loader.check("FOLDER");
      assert.unreachable("a weight without a code was accepted");
    } catch (error) {
      assert.match(String(error), new RegExp(`FOLDER: weights that are NaN or infinite.*: matrix 0: ${count} values\\.`));
    }
    loader.close();
    release(gpu, weight.parts[0]!.tensor, weight.parts[0]!.scales!);
  }
});

test.run();
