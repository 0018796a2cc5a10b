/** How kernels copy cache entries as they are, with what is noted beside them: for `gather` (kernels/attention.ts) and `moveKept` (kernels/evict.ts). */

import type { Gpu } from "../engine/gpu.ts";
import { wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { KvView } from "./attention.ts";
import { kvEntryWords } from "./kv_formats.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const COPY = file("./copy_entry.wgsl");
const WORDS = { 1: file("./copy_1.wgsl"), 4: file("./copy_4.wgsl") };
const NOTES = file("./copy_notes.wgsl");
const NO_NOTES = file("./no_copy_notes.wgsl");

/** Slots, constants and resources of `copy_entry`. Keys of kivi4, which have no entries, are left out. */
export function entryCopy({ subgroupSize }: Pick<Gpu, "subgroupSize">, { k, v, kPool, vPool, notes }: Pick<KvView, "k" | "v" | "kPool" | "vPool" | "notes">): {
  readonly slots: readonly WgslFile[]; readonly consts: Consts; readonly tensors: Readonly<Record<string, Tensor>>;
} {
  const [kWords, vWords] = [k.format === "kivi4" ? 0 : kvEntryWords(k), kvEntryWords(v)];
  if ((notes?.words ?? 0) > subgroupSize) throw new Error(`copy: ${notes!.words} words are noted beside an entry, a subgroup copies ${subgroupSize}`);
  const width = kWords % 4 === 0 && vWords % 4 === 0 ? 4 : 1;
  return {
    slots: [COPY, WORDS[width], notes === undefined ? NO_NOTES : NOTES],
    consts: { K_WORDS: kWords / width, V_WORDS: vWords / width, SUBGROUP: subgroupSize, ...(notes && { NOTE_WORDS: notes.words }) },
    tensors: { k_words: kPool, v_words: vPool, ...(notes && { notes: notes.tensor }) },
  };
}
