/**
 * Selection in each chunk of the text for itself (as FINCH does: Corallo and Papotti 2024, doi 10.1162/tacl_a_00716), so that what is kept is
 * spread over the whole text. Each chunk is scored as if it were the whole sequence: its keys, values and notes are copied out, and the scorer
 * sees the chunks as so many KV heads. The last, shorter chunk has a call of its own, since numbers that depend on the length differ there.
 */

import { UsageError } from "../../engine/errors.ts";
import { wgsl, type Consts, type WgslFile } from "../../engine/kernel.ts";
import type { GridY, Recorder } from "../../engine/recorder.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { LayerState, Press, PressOperands, PressStage } from "../../models/press.ts";
import { mark, threshold } from "../../kernels/select.ts";
import { requireCount } from "./prefill.ts";
import { innerOperands, scorerStage, type TraitedPress } from "./traits.ts";

const PLACE = wgsl(new URL("./chunk_place.wgsl", import.meta.url));
const LENGTHS = wgsl(new URL("./chunk_lengths.wgsl", import.meta.url));
const CUT = wgsl(new URL("./chunk_cut.wgsl", import.meta.url));
const JOIN = wgsl(new URL("./chunk_join.wgsl", import.meta.url));
/** Columns come in so many, and tensors may begin at so many f32 of another. */
const ALIGNED = 64;
const aligned = (count: number): number => Math.ceil(count / ALIGNED) * ALIGNED;

export interface ChunkOptions {
  readonly press: Press;
  /** Entries of a chunk, 1024 by default. */
  readonly chunk?: number | undefined;
}

/** Throws UsageError for a press that is no plain scorer or whose queries cannot be cut into chunks. */
export function chunk({ press, chunk: size = 1024 }: ChunkOptions): TraitedPress {
  requireCount(size, 1, "chunk: chunk");
  const base = scorerStage(press, "chunk");
  if (base.needs.queries !== undefined || base.needs.queryStats !== undefined) {
    const known = base.needs.queries !== undefined ? "those of the last tokens" : "their sums over the whole text";
    throw new UsageError(
      `chunk cannot wrap ${press.name}: it would need the queries of every chunk, and only ${known} are kept; `
      + `${press.ragged ? "" : "chunkkv can wrap it, and "}chunk can wrap presses that read keys, values or attention, such as knorm, keydiff or lagkv`,
    );
  }
  return { ...press, name: `chunk(${press.name}, chunk ${size})`, stages: [chunkStage(base, size)], traits: { selects: true } };
}

/** How many entries `base` keeps of each full chunk, and of the rest behind them. */
function keptOf(base: PressStage, layer: LayerState, size: number): { full: number; rest: number } {
  const of = (length: number): number => {
    if (length === 0) return 0;
    const kept = base.keep({ ...layer, length });
    if (kept === "marked") throw new Error("chunk: its scorer must name a number of entries");
    return Math.max(1, Math.min(length, kept));
  };
  return { full: of(size), rest: of(layer.length % size) };
}

/** Marks with 1 what `base` keeps of each chunk of `size` entries, and all else with 0. All heads of a layer must be equally long. */
export function chunkStage(base: PressStage, size: number): PressStage {
  const restAt = aligned(Math.max(1, base.paramCount));
  const keepAt = 2 * restAt;
  return {
    needs: base.needs,
    keep(layer) {
      const { full, rest } = keptOf(base, layer, size);
      return Math.floor(layer.length / size) * full + rest;
    },
    // The last chunk may be a single entry: more is not sure.
    newest: () => base.newest(1),
    paramCount: keepAt + 2,
    params(layer, model) {
      const params = new Float32Array(keepAt + 2);
      const { full, rest } = keptOf(base, layer, size);
      params.set(base.params({ ...layer, length: size }, model), 0);
      params.set(base.params({ ...layer, length: layer.length % size || size }, model), restAt);
      params.set([full, rest], keepAt);
      return params;
    },
    score: (recorder, operands) => { scoreChunks(recorder, operands, base, size, restAt, keepAt); },
  };
}

function scoreChunks(recorder: Recorder, operands: PressOperands, base: PressStage, size: number, restAt: number, keepAt: number): void {
  const { shape, columns: longest, lengths, params, scores } = operands;
  const heads = shape.kvHeads;
  // Chunk c of head h is row c · heads + h; behind the full chunks stand the rests.
  const chunks = Math.floor(longest / size);
  const rows = (chunks + 1) * heads;
  const columns = aligned(size);
  const scratch = (name: string, tensor: readonly number[], dtype: "f32" | "u32"): Tensor => operands.scratch(`chunk.${name}`, tensor, dtype);
  const consts = { HEADS: heads, CHUNK: size, CHUNKS: chunks, LONGEST: longest, COLUMNS: columns };
  const run = (source: WgslFile, more: Consts, tensors: Readonly<Record<string, Tensor>>, x: number, y: GridY): void => {
    recorder.run({ source, slots: [PLACE], consts: { ...consts, ...more } }, { lengths, ...tensors }, x, y);
  };

  const [cutLengths, restLengths, keep] = [scratch("lengths", [rows], "u32"), scratch("rest", [heads], "u32"), scratch("keep", [rows], "u32")];
  run(LENGTHS, { KEEP_AT: keepAt }, { params, cut_lengths: cutLengths, rest_lengths: restLengths, keep }, Math.ceil(rows / ALIGNED), 1);
  const cutOut = (name: string, whole: Tensor | undefined, each: number): Tensor | undefined => {
    if (whole === undefined) return undefined;
    const parts = scratch(name, each === 1 ? [rows, columns] : [rows, each, columns], whole.dtype === "u32" ? "u32" : "f32");
    run(CUT, { EACH: each }, { whole, parts }, heads * each, { rowsPer: ALIGNED });
    return parts;
  };
  const parts = {
    keys: cutOut("keys", operands.keys, shape.headDim), values: cutOut("values", operands.values, shape.headDim),
    norms: cutOut("norms", operands.norms, 1), attention: cutOut("attention", operands.attention, 1),
    positions: cutOut("positions", operands.positions, 1),
  };
  const partScores = scratch("scores", [rows, columns], "f32");

  const scorePart = (name: string, first: number, count: number, partLengths: Tensor, paramsAt: number): void => {
    const slice = (tensor: Tensor | undefined): Tensor | undefined => tensor && sliceRows(tensor, first, count);
    base.score(recorder, innerOperands(operands, `chunk.${name}`, {
      shape: { headDim: shape.headDim, kvHeads: count, heads: count * (shape.heads / heads) }, columns, lengths: partLengths,
      params: { ...params, offset: params.offset + 4 * paramsAt, shape: [Math.max(1, base.paramCount)] }, scores: slice(partScores)!,
      keys: slice(parts.keys), values: slice(parts.values),
      norms: slice(parts.norms), attention: slice(parts.attention), positions: slice(parts.positions),
    }));
  };
  if (chunks > 0) scorePart("full", 0, chunks * heads, { ...cutLengths, shape: [chunks * heads] }, 0);
  scorePart("rest", chunks * heads, heads, restLengths, restAt);

  const selection = { scores: partScores, lengths: cutLengths, cut: scratch("cut", [rows, 4], "u32") };
  threshold(recorder, { ...selection, keep });
  mark(recorder, selection, { kept: 1, others: 0 });
  run(JOIN, {}, { parts: partScores, whole: scores }, heads, { rowsPer: ALIGNED });
}

/** Rows first … first + count − 1 of a tensor; its rows must be a multiple of 256 bytes long. */
function sliceRows(tensor: Tensor, first: number, count: number): Tensor {
  const [, ...rest] = tensor.shape;
  return { ...tensor, offset: tensor.offset + 4 * first * rest.reduce((product, each) => product * each, 1), shape: [count, ...rest] };
}
