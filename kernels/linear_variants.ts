/**
 * The ways to make a matrix product, as data: which kernel and with which sizes. Static rules choose by shape and family; a timed search
 * (tune.ts) may find better ones, which are held here per device. A variant that a device cannot run, or that a product cannot use, is
 * never chosen.
 */

import type { Gpu, KernelFamily } from "../engine/gpu.ts";
import { SUBGROUP_MATRIX, wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { GridY } from "../engine/recorder.ts";
import type { HeldFormat } from "./formats.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const SOURCES = {
  matvec: file("./matvec.wgsl"), matvec_broadcast: file("./matvec_broadcast.wgsl"),
  matmul_broadcast: file("./matmul_broadcast.wgsl"), matmul_tiled: file("./matmul_tiled.wgsl"),
  matmul_matrix: file("./matmul_matrix.wgsl"),
} as const;
const MATRIX_UNITS = { subgroup: file("./matrix/subgroup.wgsl"), plain: file("./matrix/plain.wgsl") } as const;

/** How many rows of activations a recording is for. */
export const ROWS_CLASSES = ["one", "few", "several", "many"] as const;
export type RowsClass = (typeof ROWS_CLASSES)[number];

/** One row, up to 4, up to 8, or more. */
export function rowsClass(rows: number): RowsClass {
  return rows === 1 ? "one" : rows <= 4 ? "few" : rows <= 8 ? "several" : "many";
}

/** What a variant is chosen by: the product without its numbers. N counts outputs, so a gated weight has 2·N rows. */
export interface LinearShape {
  readonly rows: RowsClass;
  readonly N: number;
  readonly K: number;
  readonly gated: boolean;
  readonly normed: boolean;
  readonly format: HeldFormat;
}

/** Lanes along K; `rows` rows of W per subgroup, for `batch` rows of X. `splitK` subgroups share a row, `unroll` loads go ahead. */
export interface Matvec { readonly kernel: "matvec"; readonly rows: number; readonly workgroup: number; readonly unroll: number; readonly splitK: number; readonly batch: number }
/** Lanes along N, each with four rows of W. */
export interface MatvecBroadcast { readonly kernel: "matvec_broadcast"; readonly subgroups: number }
/** `rows` rows of X by four columns per lane, one subgroup per workgroup. */
export interface MatmulBroadcast { readonly kernel: "matmul_broadcast"; readonly rows: number }
/** Tiles of m × n through workgroup memory, `thread` × 8 sums per invocation, `depth` k per stage. */
export interface MatmulTiled { readonly kernel: "matmul_tiled"; readonly m: number; readonly n: number; readonly depth: number; readonly thread: number; readonly buffers: number }
/**
 * Tiles of m × n on matrix units, in f16 with sums in f32: taken only where a search has found it right on that very device. `plain`
 * units are arithmetic that stands in for them, to test the kernel around them.
 */
export interface MatmulMatrix { readonly kernel: "matmul_matrix"; readonly m: number; readonly n: number; readonly units: keyof typeof MATRIX_UNITS }
export type Variant = Matvec | MatvecBroadcast | MatmulBroadcast | MatmulTiled | MatmulMatrix;

/** What of a device decides which variants it can run. */
export interface DeviceTraits {
  readonly family: KernelFamily;
  readonly subgroupSize: number;
  readonly maxInvocations: number;
  readonly workgroupBytes: number;
  readonly f16: boolean;
  /** Subgroups multiply 16 × 16 × 16 matrices of f16 with sums in f32. */
  readonly matrices: boolean;
}

interface MatrixConfig { readonly componentType: string; readonly resultComponentType: string; readonly M: number; readonly N: number; readonly K: number }

export function traitsOf({ family, subgroupSize, device: { limits, features, adapterInfo } }: Gpu): DeviceTraits {
  const { subgroupMatrixConfigs = [] } = adapterInfo as GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<MatrixConfig> };
  const config = [...subgroupMatrixConfigs].some(({ componentType, resultComponentType, M, N, K }) =>
    componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16);
  const f16 = features.has("shader-f16");
  return {
    family, subgroupSize, maxInvocations: limits.maxComputeInvocationsPerWorkgroup, workgroupBytes: limits.maxComputeWorkgroupStorageSize,
    f16, matrices: config && f16 && features.has("chromium-experimental-subgroup-matrix" as GPUFeatureName),
  };
}

/** Rows of X that a class holds at most, as far as a matrix-vector kernel is concerned. */
const BATCH = { one: 1, few: 4, several: 8 } as const;
const VEC4 = 16;

const outputsOf = (rows: number, gated: boolean): number => (gated ? rows / 2 : rows);

function invocations(variant: Variant, { subgroupSize }: DeviceTraits): number {
  switch (variant.kernel) {
    case "matvec": return variant.workgroup;
    case "matvec_broadcast": return variant.subgroups * subgroupSize;
    case "matmul_broadcast": return subgroupSize;
    case "matmul_tiled": return (variant.n / 8) * (variant.m / variant.thread);
    case "matmul_matrix": return 4 * subgroupSize;
  }
}

function workgroupBytes(variant: Variant, { gated, normed }: LinearShape, { subgroupSize }: DeviceTraits): number {
  switch (variant.kernel) {
    case "matvec": {
      const cells = (variant.workgroup / subgroupSize) * outputsOf(variant.rows, gated) * variant.batch;
      return variant.splitK > 1 ? cells * VEC4 : VEC4;
    }
    case "matmul_tiled": return variant.buffers * variant.depth * ((variant.m + variant.n) / 4 + 2) * VEC4;
    case "matmul_matrix": { // 32 k and padding of both tiles in f16, moments, results
      return 80 * (variant.m + variant.n) + 4 * (gated ? 512 : 256) * 4 + (normed ? 32 * variant.m : 16);
    }
    default: return 0;
  }
}

/** Whether `variant` can make this product on such a device. `split`: output at which the product parts in two (a multiple of 64). */
export function fits(variant: Variant, shape: LinearShape, traits: DeviceTraits, split?: number): boolean {
  const { rows, gated, normed, format } = shape;
  if (invocations(variant, traits) > traits.maxInvocations || workgroupBytes(variant, shape, traits) > traits.workgroupBytes) return false;
  switch (variant.kernel) {
    case "matvec":
      return rows !== "many" && variant.batch === BATCH[rows] && (!gated || variant.rows > 1) &&
        variant.workgroup % (traits.subgroupSize * variant.splitK) === 0;
    case "matvec_broadcast": return rows === "one" && traits.subgroupSize >= 8;
    case "matmul_broadcast": return rows !== "one" && traits.subgroupSize >= 8 && 4 * traits.subgroupSize <= 64;
    // Outputs of one tile share a gain, and so must lie on one side of the split.
    case "matmul_tiled": return rows === "many" && (!normed || split === undefined || split % variant.n === 0);
    case "matmul_matrix":
      return rows === "many" && (!normed || split === undefined || split % variant.n === 0) && format !== "f32" &&
        (variant.units === "plain" ? traits.f16 : traits.matrices) &&
        variant.m % Math.max(32, traits.subgroupSize) === 0 && variant.n % Math.max(gated ? 64 : 32, traits.subgroupSize) === 0;
  }
}

/** Workgroups that keep a large GPU busy: about two for each of its processors. */
const BUSY = 256;

/**
 * The rule without timings. `M`: rows that the buffers have room for. On GPUs a matrix-vector product takes fewer rows per subgroup
 * where K is long enough to keep it reading, splits K where outputs are few, and has at least four loads under way; a matrix product
 * takes the largest tile of which there are enough to go round.
 */
export function staticVariant(shape: LinearShape, traits: DeviceTraits, M: number, split?: number): Variant {
  const { rows, N, K, gated } = shape;
  if (traits.family === "software") {
    return rows === "one" ? { kernel: "matvec_broadcast", subgroups: 1 } : { kernel: "matmul_broadcast", rows: rows === "few" ? 4 : 8 };
  }
  if (rows === "many") {
    const tiles: readonly MatmulTiled[] = [
      { kernel: "matmul_tiled", m: 128, n: 128, depth: 16, thread: 8, buffers: 2 },
      { kernel: "matmul_tiled", m: 64, n: 128, depth: 16, thread: 8, buffers: 2 },
      { kernel: "matmul_tiled", m: 64, n: 64, depth: 16, thread: 4, buffers: 2 },
    ];
    const enough = ({ m, n }: MatmulTiled): boolean => Math.ceil(M / m) * Math.ceil(N / outputsOf(n, gated)) >= BUSY;
    return tiles.find((tile) => fits(tile, shape, traits, split) && enough(tile)) ?? tiles.at(-1)!;
  }
  const wanted = K >= 4096 && rows === "one" ? 2 : 4;
  const subgroups = Math.max(1, 128 / traits.subgroupSize);
  const groups = (splitK: number): number => Math.ceil(N / (outputsOf(wanted, gated) * (subgroups / splitK)));
  // Parts of less than 512 k are read in one step or two, and adding up would cost more than they gain.
  const splitK = [1, 2].find((parts) => groups(parts) >= BUSY || K / (2 * parts) < 512 || subgroups % (2 * parts) !== 0) ?? 4;
  return { kernel: "matvec", rows: wanted, workgroup: subgroups * traits.subgroupSize, unroll: 4 / wanted, splitK, batch: BATCH[rows] };
}

/** A variant as the launcher needs it: kernel, its constants, and its grid for N outputs and room for M rows. */
export interface Launch { readonly source: WgslFile; readonly slots?: readonly WgslFile[]; readonly enables?: readonly string[]; readonly consts: Consts; readonly scalarGain: boolean; readonly x: number; readonly y: GridY }

export function launchOf(variant: Variant, { N, gated }: LinearShape, { subgroupSize }: DeviceTraits, M: number): Launch {
  const source = SOURCES[variant.kernel];
  switch (variant.kernel) {
    case "matvec": {
      const { rows: ROWS, workgroup: WORKGROUP, unroll: UNROLL, splitK: SPLIT_K, batch: BATCH } = variant;
      const perWorkgroup = outputsOf(ROWS, gated) * (WORKGROUP / subgroupSize / SPLIT_K);
      const y: GridY = BATCH === 1 ? 1 : { rowsPer: BATCH };
      return { source, consts: { WORKGROUP, ROWS, UNROLL, SPLIT_K, BATCH }, scalarGain: false, x: Math.ceil(N / perWorkgroup), y };
    }
    case "matvec_broadcast": {
      const WORKGROUP = variant.subgroups * subgroupSize;
      return { source, consts: { WORKGROUP }, scalarGain: true, x: Math.ceil(N / (outputsOf(4, gated) * WORKGROUP)), y: 1 };
    }
    case "matmul_broadcast": {
      const { rows: ROWS } = variant;
      return { source, consts: { ROWS }, scalarGain: true, x: Math.ceil(N / (outputsOf(4, gated) * subgroupSize)), y: { rowsPer: ROWS } };
    }
    case "matmul_tiled": {
      const { m, n, depth: DEPTH, thread: THREAD_M, buffers: BUFFERS } = variant;
      const consts = { M, TILE_M: m, TILE_N: n, DEPTH, THREAD_M, BUFFERS };
      return { source, consts, scalarGain: false, x: Math.ceil(N / outputsOf(n, gated)), y: { rowsPer: m } };
    }
    case "matmul_matrix": {
      const { m, n, units } = variant;
      const consts = { M, TILE_M: m, TILE_N: n };
      const enables = ["f16", ...(units === "subgroup" ? [SUBGROUP_MATRIX] : [])];
      return { source, slots: [MATRIX_UNITS[units]], enables, consts, scalarGain: false, x: Math.ceil(N / outputsOf(n, gated)), y: { rowsPer: m } };
    }
  }
}

/** Every variant worth timing for a shape; those that do not fit the device are left out. */
export function candidates(shape: LinearShape, traits: DeviceTraits): Variant[] {
  const all: Variant[] = [];
  if (traits.family === "software") {
    for (const subgroups of [1, 2, 4]) all.push({ kernel: "matvec_broadcast", subgroups });
    for (const rows of [4, 8]) all.push({ kernel: "matmul_broadcast", rows });
  } else {
    for (const rows of [1, 2, 4, 8]) {
      for (const workgroup of [32, 64, 128, 256]) {
        for (const unroll of [1, 2, 4]) {
          for (const splitK of [1, 2, 4]) {
            // Less than two loads under way cannot hide memory, more than sixteen leave no registers for the sums.
            if (shape.rows === "many" || rows * unroll < 2 || rows * unroll > 16 || rows * BATCH[shape.rows] > 32) continue;
            all.push({ kernel: "matvec", rows, workgroup, unroll, splitK, batch: BATCH[shape.rows] });
          }
        }
      }
    }
    for (const [m, n] of [[64, 64], [64, 128], [128, 128]] as const) {
      for (const depth of [16, 32]) for (const thread of [4, 8]) for (const buffers of [1, 2]) all.push({ kernel: "matmul_tiled", m, n, depth, thread, buffers });
      all.push({ kernel: "matmul_matrix", m, n, units: "subgroup" });
    }
  }
  return all.filter((variant) => fits(variant, shape, traits));
}

/** One line for reports and cache keys. */
export function shapeKey({ rows, N, K, gated, normed, format }: LinearShape): string {
  return [rows, `${gated ? "2x" : ""}${N}x${K}`, format, ...(normed ? ["normed"] : [])].join(" ");
}

const tuned = new WeakMap<Gpu, Map<string, Variant>>();
const asked = new WeakMap<Gpu, Map<string, LinearShape>>();

/** Every shape that a variant was chosen for on this device: what a search should look at. */
export function askedShapes(gpu: Gpu): readonly LinearShape[] {
  return [...asked.get(gpu)?.values() ?? []];
}

/** Winners of a timed search on this very device, by `shapeKey`. `linear` takes them before its rules. */
export function tunedVariants(gpu: Gpu): Map<string, Variant> {
  let variants = tuned.get(gpu);
  if (variants === undefined) tuned.set(gpu, variants = new Map());
  return variants;
}

/** What `linear` uses: the winner of a search where there is one that fits, else the rule. */
export function chooseVariant(gpu: Gpu, shape: LinearShape, M: number, split?: number): Variant {
  const traits = traitsOf(gpu), key = shapeKey(shape);
  if (!asked.has(gpu)) asked.set(gpu, new Map());
  asked.get(gpu)!.set(key, shape);
  const winner = tuned.get(gpu)?.get(key);
  return winner !== undefined && fits(winner, shape, traits, split) ? winner : staticVariant(shape, traits, M, split);
}
