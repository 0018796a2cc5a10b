/**
 * ChunkKV (Liu et al. 2025, arXiv 2502.00299): tokens mean something together, so whole chunks of them stay or go. A chunk scores the mean of its
 * entries over all heads, and all heads of a layer keep the same chunks.
 */

import { UsageError } from "../../engine/errors.ts";
import { wgsl } from "../../engine/kernel.ts";
import type { LayerState, Press, PressStage } from "../../models/press.ts";
import { mark, threshold } from "../../kernels/select.ts";
import { requireCount } from "./prefill.ts";
import { innerOperands, scorerStage, type TraitedPress } from "./traits.ts";

const MEANS = wgsl(new URL("./chunkkv_means.wgsl", import.meta.url));
const SPREAD = wgsl(new URL("./chunkkv_spread.wgsl", import.meta.url));

export interface ChunkKvOptions {
  readonly press: Press;
  /** Entries of a chunk, 20 by default. */
  readonly chunk?: number | undefined;
}

/** Throws UsageError for a press that is no plain scorer, and for a policy that moves positions: layers may differ by the short last chunk. */
export function chunkkv({ press, chunk = 20 }: ChunkKvOptions): TraitedPress {
  requireCount(chunk, 1, "chunkkv: chunk");
  const base = scorerStage(press, "chunkkv");
  if (press.ragged) {
    throw new UsageError(
      `chunkkv cannot wrap ${press.name}: what it keeps differs by layer and is counted in entries, not chunks; give skipLayers to chunkkv itself`,
    );
  }
  if (press.positions !== "original") {
    throw new UsageError(
      `chunkkv cannot wrap ${press.name} with positions ${press.positions}: layers may differ in length by the short last chunk, `
      + "and one position per token serves all layers",
    );
  }
  return { ...press, name: `chunkkv(${press.name}, chunk ${chunk})`, stages: [chunkkvStage(base, chunk)], ragged: true, traits: { selects: true } };
}

/** Of `chunks` chunks as many stay as `base` would keep of that many entries. */
function chunksKept(base: PressStage, layer: LayerState, chunk: number): { chunks: number; kept: number } {
  const chunks = Math.ceil(layer.length / chunk);
  const kept = base.keep({ ...layer, length: chunks });
  if (kept === "marked") throw new UsageError("chunkkv: its scorer must name a number of entries");
  return { chunks, kept: Math.max(1, Math.min(chunks, kept)) };
}

/** Marks with 1 the entries of the best chunks of all heads, and all else with 0. A text shorter than one chunk is left to `base`. */
export function chunkkvStage(base: PressStage, chunk: number): PressStage {
  const keepAt = Math.max(1, base.paramCount);
  return {
    needs: base.needs,
    keep(layer) {
      if (layer.length < chunk) return base.keep(layer);
      const { chunks, kept } = chunksKept(base, layer, chunk);
      return kept >= chunks ? layer.length : "marked";
    },
    // The chunk that is kept last may be any.
    newest: () => 0,
    paramCount: keepAt + 1,
    params(layer, model) {
      const params = new Float32Array(keepAt + 1);
      params.set(base.params(layer, model), 0);
      params[keepAt] = chunksKept(base, layer, chunk).kept;
      return params;
    },
    score(recorder, operands) {
      const { shape: { kvHeads }, columns: longest, lengths, params, scores, scratch } = operands;
      base.score(recorder, innerOperands(operands, "chunkkv", { params: { ...params, shape: [keepAt] } }));
      const columns = Math.ceil(longest / chunk / 64) * 64;
      const consts = { HEADS: kvHeads, LONGEST: longest, CHUNK: chunk };
      const chunks = {
        scores: scratch("chunkkv.means", [1, columns], "f32"), lengths: scratch("chunkkv.chunks", [1], "u32"),
        cut: scratch("chunkkv.cut", [1, 4], "u32"),
      };
      const keep = scratch("chunkkv.keep", [1], "u32");
      recorder.run(
        { source: MEANS, slots: [], consts: { ...consts, KEEP_AT: keepAt } },
        { lengths, params, scores, means: chunks.scores, chunks: chunks.lengths, keep }, 1, { rowsPer: 64 * chunk },
      );
      threshold(recorder, { ...chunks, keep });
      mark(recorder, chunks, { kept: 1, others: 0 });
      recorder.run({ source: SPREAD, slots: [], consts }, { lengths, marks: chunks.scores, scores }, kvHeads, { rowsPer: 64 });
    },
  };
}
