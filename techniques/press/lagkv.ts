/**
 * What stands out against the tokens that follow it stays (Liang et al. 2025, arXiv 2504.04704): each partition of the text is measured by
 * the ranges of the next one. It needs no attention and no query.
 */

import { f32, wgsl } from "../../engine/kernel.ts";
import type { Press, PressStage } from "../../models/press.ts";
import { keepOf, perEntry, prefillPress, requireCount, RISE } from "./prefill.ts";

const file = (name: string) => wgsl(new URL(name, import.meta.url));
const PARTITIONS = file("./lagkv_partitions.wgsl");
const RANGES = file("./lagkv_ranges.wgsl");
const DEVIATIONS = file("./lagkv_deviations.wgsl");
const SHARES = file("./lagkv_shares.wgsl");
const SCORE = file("./lagkv.wgsl");

/** Parameters of lagkv beside its ratio. */
export interface LagKvOptions {
  /** First tokens that always stay, 4 by default. */
  readonly sinks?: number | undefined;
  /** Tokens of a partition, 128 by default. */
  readonly lagSize?: number | undefined;
  /** Compare scores between partitions and not ranks within them; false by default. */
  readonly crossScoring?: boolean | undefined;
}

/**
 * Behind the sinks stand partitions of `lagSize` entries. Of every one but the last: σ = the standard deviation over the dimensions
 * (unbiased) of (x − min) / (max − min), min and max of that dimension in the next partition; a share = softmax of σ over the partition;
 * score = the mean of the shares of key and value, and without crossScoring its rank in the partition / lagSize. Sinks, last partition and
 * rest score 1, rising a little towards the newest, with the sinks above. With fewer than sinks + 2 · lagSize entries, score = place behind
 * the sinks / their number. A dimension that is constant in the next partition says nothing and counts as 0 (kvpress divides by 0 there).
 * `ratio`: see `lagkv`, 0 by default.
 */
export function lagkvStage({ ratio = 0, sinks = 4, lagSize = 128, crossScoring = false }: LagKvOptions & { readonly ratio?: number | undefined } = {}): PressStage {
  requireCount(sinks, 0, "lagkv: sinks");
  requireCount(lagSize, 1, "lagkv: lagSize");
  return {
    needs: { keys: true, values: true },
    keep: keepOf(ratio),
    newest: (kept) => Math.max(0, Math.min(lagSize, kept - sinks)),
    paramCount: 0,
    params: () => new Float32Array(0),
    score(recorder, operands) {
      const { shape: { kvHeads, headDim }, columns, lengths, scores, scratch } = operands;
      const [keys, values] = [operands.keys!, operands.values!];
      const partitions = Math.max(1, Math.ceil(columns / lagSize));
      const ranges = scratch("lagkv.ranges", [kvHeads, partitions, headDim, 4], "f32");
      const deviations = scratch("lagkv.deviations", [kvHeads, columns, 2], "f32");
      const shares = scratch("lagkv.shares", [kvHeads, columns], "f32");
      const consts = { HEAD_DIM: headDim, SINKS: sinks, LAG: lagSize, PARTITIONS: partitions };
      const slots = [PARTITIONS];
      const lanes = { SUBGROUP: recorder.gpu.subgroupSize };
      recorder.run({ source: RANGES, slots, consts: { COLUMNS: columns, ...consts, ...lanes } }, { lengths, keys, values, ranges }, kvHeads, { rowsPer: lagSize });
      perEntry(recorder, operands, { source: DEVIATIONS, slots, consts }, { keys, values, ranges, deviations });
      perEntry(recorder, operands, { source: SHARES, slots, consts }, { deviations, shares });
      perEntry(recorder, operands, { source: SCORE, slots, consts: { ...consts, CROSS: crossScoring, RISE: f32(RISE) } }, { shares, scores });
    },
  };
}

/** `ratio`: the share of entries to evict, in [0, 1). */
export function lagkv({ ratio, ...options }: LagKvOptions & { readonly ratio: number }): Press {
  const { sinks = 4, lagSize = 128, crossScoring = false } = options;
  return prefillPress("lagkv", ratio, lagkvStage({ ratio, sinks, lagSize, crossScoring }), { parameters: { sinks, lagSize, "cross scoring": crossScoring } });
}
