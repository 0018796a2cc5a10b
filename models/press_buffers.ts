/** The buffers that presses work in, before they are made: models/presser.ts makes them, and a plan counts them. */

import { numel, type Shape } from "../engine/shape.ts";
import { noteWords } from "../kernels/kv_notes.ts";
import type { ModelConfig } from "./config.ts";
import type { ShownNeeds } from "./press.ts";
import type { BufferShape } from "./sizes.ts";

export interface PressSizes {
  readonly slots: number;
  readonly maxModelLen: number;
  readonly tableBlocks: number;
  /** Entries of the pools. */
  readonly entries: number;
  /** Rows of a pass at most. */
  readonly rows: number;
}

/** A binding may begin at every 256 bytes: what is of one layer is padded to as many words. */
const ALIGNED = 64;
export const aligned = (words: number): number => Math.ceil(words / ALIGNED) * ALIGNED;

/** Words of a control row (kernels/capture.ts). */
export const CONTROL_WORDS = 8;

/** Null: not needed. First dimension `layers` where each layer has its own. */
export function pressBuffers({ layers, heads, kvHeads, headDim }: ModelConfig, needs: ShownNeeds, { slots, maxModelLen, tableBlocks, entries, rows }: PressSizes) {
  const columns = aligned(maxModelLen);
  const floats = (label: string, ...shape: Shape): BufferShape => ({ category: "activations", label: `press: ${label}`, shape, dtype: "f32" });
  const words = (label: string, ...shape: Shape): BufferShape => ({ ...floats(label, ...shape), dtype: "u32" });
  const perEntry = (label: string, wanted: boolean, make = floats): BufferShape | null => (wanted ? make(label, kvHeads, columns) : null);
  const dense = (label: string, wanted: boolean): BufferShape | null => (wanted ? floats(label, kvHeads, headDim, columns) : null);
  const ring = Math.ceil(needs.queries / 8) * 8, queryWords = heads * headDim, statsWords = heads * (2 * headDim + headDim * headDim);
  const notes = noteWords(needs).words;
  return {
    columns, ring,
    always: {
      slot: words("slot", 1), lengths: words("lengths", layers, aligned(kvHeads)), keep: words("keep", layers, aligned(kvHeads)),
      scores: floats("scores", layers, kvHeads, columns), cut: words("cut", layers, aligned(4 * kvHeads)), order: words("order", kvHeads, columns),
      fresh: words("fresh blocks", layers, aligned(kvHeads * tableBlocks)), params: floats("parameters", layers, aligned(needs.paramCount)),
      control: words("control", slots, CONTROL_WORDS), queryCount: words("query count", 1),
    },
    shown: {
      keys: dense("keys", needs.keys), values: dense("values", needs.values), norms: perEntry("norms", needs.norms),
      attention: perEntry("attention", needs.attention), positions: perEntry("positions", needs.attention, words),
      queries: needs.queries > 0 ? floats("queries", layers, aligned(needs.queries * queryWords)) : null,
      queryStats: needs.queryStats ? floats("query statistics", layers, aligned(statsWords)) : null,
    },
    captured: {
      queries: ring > 0 ? floats("captured queries", layers, aligned(slots * ring * queryWords)) : null,
      queryStats: needs.queryStats ? floats("captured query statistics", layers, aligned(slots * statsWords)) : null,
      observed: needs.attention ? floats("observed rows", rows, heads, 2) : null,
    },
    notes: notes > 0 ? { category: "kv", label: "notes beside entries", shape: [entries, notes], dtype: "u32" } satisfies BufferShape : null,
  };
}

/** One layer's part of a tensor whose first dimension is the layer, as `shape`. */
export function ofLayer<T extends { readonly offset: number; readonly shape: Shape }>(tensor: T, layer: number, shape: Shape): T {
  return { ...tensor, offset: tensor.offset + layer * numel(tensor.shape.slice(1)) * 4, shape };
}
