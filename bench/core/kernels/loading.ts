/** What runs once, when a model is loaded: floats to codes, and the random weights of `random:` models. */

import { bf16ToNumber, f16ToNumber } from "../../../engine/dtype.ts";
import { encodePiece, pieceCapacity } from "../../../kernels/encode.ts";
import { BLOCK_SIZE, codeTable, isBlockwise, NESTED_BLOCK_SIZE, type WeightFormat } from "../../../kernels/formats.ts";
import { encodeBlockwise, encodeInt8 } from "../../../kernels/reference/quantize.ts";
import { normals } from "../../../kernels/reference/random.ts";
import { RANDOM_SCALE, randomNormal } from "../../../kernels/random.ts";
import type { Weight } from "../../../kernels/weights.ts";
import type { Ask, KernelCase, KernelDefinition, Prepared, Shape } from "./case.ts";
import { against, againstAll, numbers, sampled, together } from "./numbers.ts";
import { productShapes } from "./shapes.ts";
import { storedBytes } from "./weights.ts";
import * as work from "./work.ts";
import type { Workbench } from "./workbench.ts";

/** Double quantization goes through the same kernel, and its second step on the host. */
const CODES = ["int8", "nf4", "fp4"] as const satisfies readonly WeightFormat[];
const FLOATS = ["f32", "f16", "bf16"] as const;
const SEED = 7;

const shapesOf = (ask: Ask): readonly Shape[] => ask.shapes ?? productShapes(ask);

export const LOADING: readonly KernelDefinition[] = [
  {
    name: "encode", class: "loading", sources: ["encode_blockwise.wgsl", "encode_rows.wgsl"],
    what: "f32 weights to codes and scales, in one piece", shape: "outputs x inputs", batch: "not used", batches: [1, 1], multiple: 8,
    formats: CODES, kv: null, variants: false,
    cases: (ask) => shapesOf(ask).filter(({ rows, columns }) => rows * columns <= pieceCapacity({ maxBinding: 2 ** 31 }) && columns % 8 === 0)
      .slice(0, ask.quick ? 1 : Infinity).flatMap((shape) => CODES.filter((format) => ask.formats?.includes(format) ?? true).map((format) => encoding(shape, format))),
  },
  {
    name: "random", class: "loading", sources: ["random.wgsl"], what: "seeded normal numbers", shape: "outputs x inputs", batch: "not used",
    batches: [1, 1], multiple: 8, formats: FLOATS, kv: null, variants: false,
    cases: (ask) => shapesOf(ask).slice(0, ask.quick ? 1 : Infinity).flatMap((shape) => FLOATS.filter((format) => ask.formats?.includes(format) ?? (!ask.quick || format === "f16")).map((format) => filling(shape, format))),
  },
];

function encoding(shape: Shape, format: (typeof CODES)[number]): KernelCase {
  const { rows: N, columns: K } = shape, blockwise = isBlockwise(format);
  return {
    kernel: "encode", class: "loading", format, kv: null, variant: null, chosen: true, shape, batch: 1,
    work: work.encoding(format, 4, N, K), binding: N * K * 4,
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const source = numbers(N * K, 41, 0.05);
      const values = await bench.shared(`floats ${N}x${K}`, () => bench.floats([N * K], source, "floats to encode"));
      const codes = await bench.tensor([N, (K * (blockwise ? 4 : 8)) / 32], "u32", "codes", "weights");
      const scales = await bench.tensor([blockwise ? Math.ceil((N * K) / BLOCK_SIZE) : N], "f32", "scales", "weights");
      const weight: Weight = {
        rows: N, columns: K, gated: false, parts: [{ tensor: codes, scales, first: 0, rows: N }],
        quantized: { format, blockSize: blockwise ? BLOCK_SIZE : K, nestedBlockSize: NESTED_BLOCK_SIZE, sections: [{ firstRow: 0, rows: N, firstColumn: 0, columns: K }] },
      };
      const unusable = await bench.words([1], new Uint32Array(1), "unusable");
      return {
        copies: 1, footprint: N * K * 4, extent: { rows: 1, tiles: 0 },
        run: () => encodePiece(bench.gpu, { weight, section: 0, unusable }, values, 0),
        spoil: () => bench.gpu.upload(scales.buffer, 0, new Float32Array(scales.shape[0]!).fill(NaN)),
        compare: async () => {
          const [got, magnitudes] = [await bench.gpu.read(codes), await bench.gpu.readF32(scales)];
          if (blockwise) {
            const wanted = encodeBlockwise(source, codeTable(format), BLOCK_SIZE);
            return together(againstAll(got, wanted.codes, 0, "byte of codes", N * K), againstAll(magnitudes, wanted.absmax, 0, "magnitude", N * K));
          }
          const wanted = encodeInt8(source, N, K);
          return together(againstAll(new Int8Array(got.buffer, got.byteOffset, got.byteLength), wanted.codes, 0, "code", K), againstAll(magnitudes, wanted.scb, 0, "magnitude", N));
        },
      };
    },
  };
}

function filling(shape: Shape, format: (typeof FLOATS)[number]): KernelCase {
  const { rows: N, columns: K } = shape, each = format === "f32" ? 4 : 2;
  return {
    kernel: "random", class: "loading", format, kv: null, variant: null, chosen: true, shape, batch: 1, work: work.random(each, N * K),
    binding: storedBytes(format, N, K),
    prepare: async (bench: Workbench): Promise<Prepared> => {
      const weight = await bench.tensor([N, K], format, "random weight", "weights");
      return {
        copies: 1, footprint: N * K * each, extent: { rows: 1, tiles: 0 },
        record: (recorder) => randomNormal(recorder, weight, { seed: SEED, scale: RANDOM_SCALE }),
        spoil: () => bench.gpu.upload(weight.buffer, 0, new Uint8Array(N * K * each).fill(0xff)), // NaN in every format
        compare: async () => {
          const bytes = await bench.gpu.read(weight), halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
          const words = new Float32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / 4));
          const at = (i: number): number => (format === "f32" ? words[i]! : format === "f16" ? f16ToNumber(halves[i]!) : bf16ToNumber(halves[i]!));
          const looked = sampled(N * K, 4096);
          const expected = (i: number): number => (format === "f32" ? normals(i, SEED, RANDOM_SCALE)[0] : normals(Math.floor(i / 2), SEED, RANDOM_SCALE)[i % 2]!);
          const error = format === "f32" ? 1e-5 : format === "f16" ? 2 ** -10 : 2 ** -7;
          return against(looked.map(at), looked.map((_, i) => i), (i) => ({ value: expected(looked[i]!), error: 2e-5 * RANDOM_SCALE + error * Math.abs(expected(looked[i]!)) }), N * K, (i) => `number ${looked[i]}`);
        },
      };
    },
  };
}
