/** RMSNorm and LayerNorm over the hidden dimension, one kernel; optionally only of the rows whose next token is wanted. */

import { f32, wgsl, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { match } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { BATCH_READ, batchConsts, type Batch } from "./batch.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const NORM = file("./norm.wgsl");
const BIAS = file("./norm_bias.wgsl");
const NO_BIAS = file("./norm_no_bias.wgsl");
const ALL_ROWS = file("./rows_all.wgsl");
const SAMPLED_ROWS = file("./rows_sampled.wgsl");

export interface NormOptions {
  readonly kind: "rms" | "layer";
  readonly eps: number;
  /** Normalise only the batch's sampled rows: row i of y is the row of sample i. */
  readonly sampledOf?: Batch;
}

/**
 * x: [M, C] f32, weight: [C] f32, bias: [C] f32, y: [S, C] f32, C a multiple of 4.
 * RMS: y = x / sqrt(mean(x²) + eps) · weight. Layer: y = (x − mean(x)) / sqrt(var(x) + eps) · weight + bias.
 */
export function norm(recorder: Recorder, operands: { x: Tensor; weight: Tensor; bias?: Tensor; y: Tensor }, { kind, eps, sampledOf }: NormOptions): void {
  const { x, weight, bias, y } = operands;
  const { C } = match("norm", { x: [x, "M", "C"], weight: [weight, "C"], y: [y, "S", "C"], ...(bias && { bias: [bias, "C"] }) });
  const { subgroupSize, family } = recorder.gpu;
  const slots = [bias === undefined ? NO_BIAS : BIAS, ...(sampledOf === undefined ? [ALL_ROWS] : [SAMPLED_ROWS, ...BATCH_READ])];
  const consts = {
    C: C!, EPS: f32(eps), LAYER_NORM: kind === "layer", SUBGROUP: subgroupSize,
    WORKGROUP: family === "software" ? subgroupSize : 256, ...(sampledOf && batchConsts(sampledOf)),
  };
  recorder.run({ source: NORM, slots, consts }, { x, weight, y, ...(bias && { bias }), ...(sampledOf && { batch: sampledOf.tensor }) }, 1, { rowsPer: 1 });
}
