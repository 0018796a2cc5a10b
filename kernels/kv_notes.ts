/**
 * What is written down beside every entry of the cache for presses that want it (models/press.ts): numbers by entry, as blocks are, so
 * they stay with entries that are shared or moved. A cache without presses has none.
 */

import type { Tensor } from "../engine/tensor.ts";

/** Words by entry; null: not written down. */
export interface NoteWords {
  readonly words: number;
  /** f32 ‖k‖ of the key as it is stored. */
  readonly norm: number | null;
  /** f32: the attention that the entry has got so far, from all queries and all heads of its group; the word behind it is its position (u32). */
  readonly attention: number | null;
}

/** tensor: u32 [entries, words]. */
export interface KvNotes extends NoteWords { readonly tensor: Tensor }

export function noteWords({ norms, attention }: { readonly norms: boolean; readonly attention: boolean }): NoteWords {
  return { words: (norms ? 1 : 0) + (attention ? 2 : 0), norm: norms ? 0 : null, attention: attention ? (norms ? 1 : 0) : null };
}
