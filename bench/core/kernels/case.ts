/**
 * What a kernel microbenchmark is made of, as data: a definition says which kernels it covers, what its shapes mean and which cases there
 * are; a case says what it must move and compute at least, and can be prepared on a device: operands made, ready to be recorded, checked
 * against the scalar twin and timed. Nothing here touches a GPU.
 */

import type { Extent, Recorder } from "../../../engine/recorder.ts";
import type { DeviceTraits, LinearShape, Variant } from "../../../kernels/linear_variants.ts";
import type { ModelConfig } from "../../../index.ts";
import type { Workbench } from "./workbench.ts";

/** What kernels do, for the colours of the picture. */
export const CLASSES = ["product", "attention", "cache", "row", "vocabulary", "press", "loading"] as const;
export type KernelClass = (typeof CLASSES)[number];

/** What any implementation must move between memory and processor, and compute, for one call. The formulas stand in work.ts. */
export interface Work { readonly bytes: number; readonly flops: number }

/** Rows and columns as `KernelDefinition.shape` says, and whose they are: "pythia-70m qkv", or "--shape". */
export interface Shape { readonly rows: number; readonly columns: number; readonly origin: string; /** Of attention: where heads share keys. */ readonly heads?: HeadCounts }
export interface HeadCounts { readonly heads: number; readonly kvHeads: number; readonly headDim: number; readonly rotaryDims: number; readonly headNorm: boolean; readonly fused: "neox" | "qwen" }

/** A model whose layer gives shapes. */
export interface ShapedModel { readonly name: string; readonly config: ModelConfig }

/** What was asked for; null: whatever the definition has. */
export interface Ask {
  readonly formats: readonly string[] | null;
  readonly kv: readonly string[] | null;
  readonly shapes: readonly Shape[] | null;
  readonly rows: readonly number[] | null;
  /** Part of a variant's name. */
  readonly variant: string | null;
  /** One model, the formats that matter most, and the variant that the engine takes. */
  readonly quick: boolean;
  readonly models: readonly ShapedModel[];
  readonly traits: DeviceTraits;
  /** Whether the adapter is a program: steps are then smaller. */
  readonly software: boolean;
  /** Variant in use for a product, where that is not the rule's. */
  readonly chosen?: (shape: LinearShape, M: number) => Variant;
}

/** How a result compares with the twin. `wrong`: the first output that is off, or null. */
export interface Verdict { readonly wrong: string | null; readonly looked: number; readonly of: number }

/** A case with its operands on the device. */
export interface Prepared {
  /** Calls that touch different memory, to be gone through in turn. */
  readonly copies: number;
  /** Bytes that all copies touch together, so that one can tell whether a cache holds them. */
  readonly footprint: number;
  readonly extent: Extent;
  /** Append one call on copy `copy`. Absent where a kernel cannot be recorded by itself: then `run` is. */
  readonly record?: (recorder: Recorder, copy: number) => void;
  /** Do one call and wait for it. */
  readonly run?: () => Promise<void>;
  /** Write over the outputs what no kernel writes. */
  readonly spoil: () => void;
  /** Compare what one call on copy 0 left with the twin. */
  readonly compare: () => Promise<Verdict>;
}

export interface KernelCase {
  readonly kernel: string;
  readonly class: KernelClass;
  /** Of weights, where there are any. */
  readonly format: string | null;
  /** Of cache entries. */
  readonly kv: string | null;
  readonly variant: string | null;
  /** It is what the engine would take here. */
  readonly chosen: boolean;
  readonly shape: Shape;
  /** Rows of the batch. */
  readonly batch: number;
  readonly work: Work;
  /** Largest operand in bytes: an adapter whose bindings are smaller leaves the case out. */
  readonly binding: number;
  readonly prepare: (bench: Workbench) => Promise<Prepared>;
}

export interface KernelDefinition {
  readonly name: string;
  readonly class: KernelClass;
  /** WGSL files with an entry point that its cases run. */
  readonly sources: readonly string[];
  /** One line for --list. */
  readonly what: string;
  /** What ROWSxCOLS of --shape mean, and what --rows is. */
  readonly shape: string;
  readonly batch: string;
  /** Fewest and most rows of a batch. */
  readonly batches: readonly [fewest: number, most: number];
  /** Rows of the batch are among those of the shape, and so no more. */
  readonly within?: boolean;
  /** Columns come in multiples of this. */
  readonly multiple: number;
  readonly formats: readonly string[] | null;
  readonly kv: readonly string[] | null;
  /** Whether --variant can choose. */
  readonly variants: boolean;
  readonly cases: (ask: Ask) => KernelCase[];
}

/** A case in one line, unique among all. */
export function caseName({ kernel, format, kv, variant, shape, batch }: KernelCase): string {
  return [kernel, `${shape.rows}x${shape.columns}`, `rows ${batch}`, ...[format, kv && `kv ${kv}`, variant].filter((part) => part !== null)].join(" ");
}

/** A variant as it is written in tables: its kernel and its numbers. */
export function variantName({ kernel, ...sizes }: Variant): string {
  return [kernel, ...Object.entries(sizes).map(([name, value]) => `${name}=${value}`)].join(" ");
}

/** Cases that are named alike, once: models share shapes. Their origins are put together. */
export function distinct(cases: readonly KernelCase[]): KernelCase[] {
  const byName = new Map<string, KernelCase>();
  for (const each of cases) {
    const earlier = byName.get(caseName(each));
    const origins = new Set([...earlier?.shape.origin.split(", ") ?? [], each.shape.origin]);
    byName.set(caseName(each), earlier === undefined ? each : { ...earlier, shape: { ...earlier.shape, origin: [...origins].join(", ") } });
  }
  return [...byName.values()];
}
