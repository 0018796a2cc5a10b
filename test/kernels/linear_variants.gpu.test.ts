/**
 * Every way to make a matrix product against its twin, on this adapter where it can run; the static rules; and the kernel for matrix units
 * compiled for the units themselves by Dawn's null backend, which has every feature and does no work.
 */

import { create, globals } from "webgpu";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../../engine/gpu.ts";
import { PipelineCache } from "../../engine/kernel.ts";
import { quietly } from "../../engine/quiet.ts";
import { Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { linear } from "../../kernels/linear.ts";
import { candidates, fits, staticVariant, traitsOf, type DeviceTraits, type LinearShape, type Variant } from "../../kernels/linear_variants.ts";
import { FORMATS, openFamilies } from "../support/gpu.ts";
import { pairs } from "../support/pairs.ts";
import { checkLinear, EPILOGUES, nameOf, possible, type Sizes } from "./linear_case.ts";

const gpus = await openFamilies();
const [software, gpu] = gpus as [Gpu, Gpu];
test.after(() => gpus.forEach((one) => one.close()));

const shapeOf = ({ epilogue, weight: { N }, K, recording, norm, format }: Sizes): LinearShape =>
  ({ rows: recording.as, N, K, gated: EPILOGUES[epilogue]!.gated === true, normed: norm !== "none", format });

/** A test, or a skip by name where this adapter cannot run the variant. */
function checked(on: Gpu, variant: Variant, sizes: Sizes): void {
  const { kernel, ...values } = variant;
  const title = `linear by ${kernel} ${Object.entries(values).map(([name, value]) => `${name} ${value}`).join(" ")}: ${nameOf(sizes)}`;
  if (fits(variant, shapeOf(sizes), traitsOf(on), sizes.weight.second)) test(title, () => checkLinear(on, sizes, variant));
  else test.skip(`${title} (this adapter has too little workgroup memory, or no f16)`);
}

const PLACES = [{ x: 0, y: 0, wider: 0 }, { x: 8, y: 5, wider: 16 }];
const ROWS = [
  { batch: 1, recording: { as: "one", capacity: 1, steps: [1] } },
  { batch: 4, recording: { as: "few", capacity: 8, steps: [2, 3, 4] } },
  { batch: 8, recording: { as: "several", capacity: 8, steps: [5, 7, 8] } },
] as const;

for (const { rows, workgroup, unroll, splitK, row: { batch, recording }, ...rest } of pairs({
  workgroup: [32, 64, 128, 256], rows: [1, 2, 4, 8], unroll: [1, 2, 4], splitK: [1, 2, 4], row: ROWS, epilogue: ["plain", "gated", "bias, residual"],
  norm: ["none", "rms", "layer"] as const, format: FORMATS, size: [{ N: 67, K: 264 }, { N: 17, K: 72 }],
})) {
  const sizes: Sizes = { ...rest, recording, weight: { N: rest.size.N }, K: rest.size.K, place: PLACES[rest.size.N % 2]! };
  // What no search tries: a gated row alone, more sums than registers, and what takes a software adapter seconds to compile.
  if (!possible(sizes) || (rows === 1 && sizes.epilogue === "gated") || rows * batch > 16 || rows * unroll > 8) continue;
  checked(gpu, { kernel: "matvec", rows, workgroup, unroll, splitK, batch }, sizes);
}

const MANY = { as: "many", capacity: 136, steps: [129, 65, 33, 17, 9] } as const;
const TILES = [
  { m: 64, n: 64, depth: 16, thread: 8, buffers: 2 }, { m: 64, n: 64, depth: 32, thread: 4, buffers: 1 },
  { m: 64, n: 128, depth: 32, thread: 8, buffers: 1 }, { m: 128, n: 128, depth: 16, thread: 8, buffers: 1 },
  { m: 128, n: 128, depth: 16, thread: 8, buffers: 2 }, { m: 64, n: 128, depth: 16, thread: 4, buffers: 2 },
];
const FINISHES = [
  { epilogue: "gated", norm: "none", format: "f16" }, { epilogue: "bias, residual", norm: "rms", format: "f16" },
  { epilogue: "gated", norm: "rms", format: "bf16" }, { epilogue: "bias, gelu", norm: "layer", format: "f32" },
] as const;
TILES.forEach((tile, i) => {
  checked(gpu, { kernel: "matmul_tiled", ...tile }, { ...FINISHES[[0, 1, 2, 0, 3, 3][i]!]!, recording: MANY, weight: { N: 141 }, K: 72, place: PLACES[i % 2]! });
});
// Small tiles, since a software adapter takes half a minute to compile larger ones; what they are made of is the same.
[{ m: 64, n: 32 }, { m: 32, n: 64 }].forEach((tile, i) => {
  checked(gpu, { kernel: "matmul_matrix", ...tile, units: "plain" }, {
    epilogue: ["bias, residual", "gated"][i]!, norm: (["layer", "rms"] as const)[i]!, format: (["f16", "bf16"] as const)[i]!,
    recording: MANY, weight: { N: 141 }, K: 72, place: PLACES[i]!,
  });
});

for (const [i, subgroups] of [2, 4].entries()) {
  checked(software, { kernel: "matvec_broadcast", subgroups }, {
    epilogue: ["gated", "bias, residual"][i]!, norm: "rms", format: "f16", recording: ROWS[0].recording, weight: { N: 141 }, K: 72, place: PLACES[i]!,
  });
}

const DEVICE: DeviceTraits = { family: "gpu", subgroupSize: 32, maxInvocations: 1024, workgroupBytes: 49152, f16: true, matrices: true };
const shape = (rows: LinearShape["rows"], N: number, K: number): LinearShape => ({ rows, N, K, gated: false, normed: false, format: "f16" });

test("static rules: long rows take two rows per subgroup, few outputs split K, and tiles are as large as there are enough of them", () => {
  const chosen = (rows: LinearShape["rows"], N: number, K: number, M = 1): Variant => staticVariant(shape(rows, N, K), DEVICE, M);
  assert.equal(chosen("one", 12288, 4096), { kernel: "matvec", rows: 2, workgroup: 128, unroll: 2, splitK: 1, batch: 1 });
  assert.equal(chosen("one", 1024, 2048), { kernel: "matvec", rows: 4, workgroup: 128, unroll: 1, splitK: 4, batch: 1 });
  assert.equal(chosen("several", 152064, 896), { kernel: "matvec", rows: 4, workgroup: 128, unroll: 1, splitK: 1, batch: 8 });
  assert.equal(chosen("many", 4096, 4096, 4096), { kernel: "matmul_tiled", m: 128, n: 128, depth: 16, thread: 8, buffers: 2 });
  assert.equal(chosen("many", 4096, 4096, 512), { kernel: "matmul_tiled", m: 64, n: 128, depth: 16, thread: 8, buffers: 2 });
  assert.equal(chosen("many", 1152, 896, 64), { kernel: "matmul_tiled", m: 64, n: 64, depth: 16, thread: 4, buffers: 2 });
});

test("every rule's choice fits the device, and is among the candidates of a search; matrix units are never chosen by a rule", () => {
  for (const traits of [DEVICE, { ...DEVICE, subgroupSize: 8, workgroupBytes: 32768 }, traitsOf(software), traitsOf(gpu)]) {
    for (const rows of ["one", "few", "several", "many"] as const) {
      for (const N of [1, 128, 896, 4096, 152064]) for (const K of [8, 896, 4096, 12288]) for (const gated of [false, true]) for (const split of [undefined, 64]) {
        const wanted = { ...shape(rows, N, K), gated, normed: split !== undefined };
        const variant = staticVariant(wanted, traits, 512, split);
        assert.ok(fits(variant, wanted, traits, split), `${JSON.stringify(variant)} for ${JSON.stringify(wanted)}`);
        assert.not.equal(variant.kernel, "matmul_matrix");
        assert.ok(candidates(wanted, traits).some((one) => JSON.stringify(one) === JSON.stringify(variant)), `${JSON.stringify(variant)} is searched`);
      }
    }
  }
});

test("variants do not fit where they would be wrong: a tile across two norms, f32 weights on matrix units, a class with more rows", () => {
  const normed = { ...shape("many", 256, 512), normed: true };
  const wide: Variant = { kernel: "matmul_tiled", m: 64, n: 128, depth: 16, thread: 8, buffers: 2 };
  assert.equal([64, 128, undefined].map((split) => fits(wide, normed, DEVICE, split)), [false, true, true]);
  const matrix: Variant = { kernel: "matmul_matrix", m: 64, n: 64, units: "subgroup" };
  assert.equal((["f16", "bf16", "f32"] as const).map((format) => fits(matrix, { ...normed, format }, DEVICE)), [true, true, false]);
  assert.not.ok(fits(matrix, normed, { ...DEVICE, matrices: false }));
  const four: Variant = { kernel: "matvec", rows: 4, workgroup: 128, unroll: 1, splitK: 1, batch: 4 };
  assert.equal((["one", "few", "several", "many"] as const).map((rows) => fits(four, shape(rows, 64, 64), DEVICE)), [false, true, false, false]);
});

/** A device of Dawn's null backend in the clothes of a Gpu: shaders are compiled and checked, nothing runs. */
async function nullGpu(): Promise<Gpu> {
  Object.assign(globalThis, globals);
  const instance = quietly(() => create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]));
  Object.assign(globalThis, { dawnlmNullInstance: instance }); // collected while its device lives, it takes the process with it
  const adapter = (await instance.requestAdapter())!;
  const features = ["chromium-experimental-subgroup-matrix", "subgroups", "shader-f16", "subgroup-size-control"] as unknown as GPUFeatureName[];
  const fake = { device: await adapter.requestDevice({ requiredFeatures: features }), fixedSubgroups: false, subgroupSize: 32, family: "gpu", check: () => {} };
  return Object.assign(fake, { pipelines: new PipelineCache(fake as unknown as Gpu) }) as unknown as Gpu;
}

test("matrix units: every variant compiles for the units themselves, in each format, gated, normed and with a residual", async () => {
  const device = await nullGpu();
  const tensor = (dtype: Tensor["dtype"], ...dims: number[]): Tensor =>
    ({ buffer: null as unknown as GPUBuffer, offset: 0, shape: dims, dtype, label: "unused" });
  const [M, N, K] = [72, 130, 264];
  const outcomes: string[] = [];
  for (const variant of candidates(shape("many", N, K), DEVICE).filter(({ kernel }) => kernel === "matmul_matrix")) {
    for (const format of ["f16", "bf16"] as const) {
      for (const [gated, normed] of [[false, false], [false, true], [true, true], [true, false]] as const) {
        const weight = { rows: N, columns: K, gated, parts: [{ tensor: tensor(format, gated ? 2 * N : N, K), first: 0, rows: N }] };
        const compiled: Promise<unknown>[] = [];
        const pipelines = { get: (...args: Parameters<PipelineCache["get"]>) => {
          const pipeline = device.pipelines.get(...args);
          compiled.push(pipeline.compiled);
          return pipeline;
        } };
        const norm = normed ? { kind: "rms", gain: tensor("f32", K), eps: 1e-5 } as const : undefined;
        const recorder = new Recorder({ ...device, device: device.device, pipelines } as unknown as Gpu);
        linear(recorder, { x: tensor("f32", M, K), y: tensor("f32", M, N), weight, norm }, { rows: "many", variant, residual: !gated });
        const [outcome] = await Promise.allSettled(compiled);
        outcomes.push(outcome!.status === "fulfilled" ? "compiled" : String((outcome as PromiseRejectedResult).reason));
      }
    }
  }
  device.device.destroy();
  // The null backend has the least workgroup memory there is; nothing else may stand in the way. Shaders are checked before pipelines.
  const faults = outcomes.filter((outcome) => outcome !== "compiled" && !/workgroup storage \(\d+ bytes\) is larger than the maximum allowed \(16384/.test(outcome));
  assert.equal(faults, []);
  assert.is(outcomes.length, 3 * 2 * 4);
  assert.ok(outcomes.includes("compiled"));
});

test.run();
