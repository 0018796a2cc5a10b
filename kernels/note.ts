/**
 * How kernels come by the notes beside cache entries (kernels/kv_notes.ts): those that append write them through the slot `note`, which
 * without notes does nothing; kernels/capture.ts adds to them. They cost a kernel one storage buffer more, and adapters have few.
 */

import { GpuError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import { wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { KvView } from "./attention.ts";
import type { KvNotes } from "./kv_notes.ts";

const NOTE = wgsl(new URL("./note.wgsl", import.meta.url));
const NO_NOTE = wgsl(new URL("./no_note.wgsl", import.meta.url));

/** What a kernel is given beside its own. */
export interface Noting { readonly slots: readonly WgslFile[]; readonly consts: Consts; readonly tensors: Readonly<Record<string, Tensor>> }

/**
 * What a kernel that appends and already binds `tensors` takes beside them to write notes. Throws GpuError where the adapter cannot bind
 * one buffer more.
 */
export function noting(gpu: Gpu, { notes, k }: Pick<KvView, "notes" | "k">, tensors: Readonly<Record<string, Tensor>>): Noting {
  if (notes === undefined) return { slots: [NO_NOTE], consts: {}, tensors };
  if (k.format === "kivi4") throw new Error("append: keys of kivi4 lie in blocks and have no notes");
  const all = { ...tensors, notes: notes.tensor };
  checkBuffers(gpu, Object.keys(all).length);
  return { slots: [NOTE], consts: noteConsts(notes), tensors: all };
}

/** Where in the words of an entry what is noted stands; zero for what is not. */
export function noteConsts({ words, norm, attention }: Omit<KvNotes, "tensor">): Consts {
  return { NOTE_WORDS: words, NOTES_NORM: norm !== null, NOTE_NORM: norm ?? 0, NOTES_ATTENTION: attention !== null, NOTE_ATTENTION: attention ?? 0 };
}

/** Throws GpuError where the adapter does not bind as many storage buffers to a kernel as one that touches notes needs. */
export function checkBuffers({ device, adapter }: Pick<Gpu, "device" | "adapter">, needed: number): void {
  const limit = device.limits.maxStorageBuffersPerShaderStage;
  if (needed <= limit) return;
  throw new GpuError(
    `press: a kernel that keeps notes beside cache entries binds ${needed} storage buffers, ` +
    `but adapter ${adapter.description || adapter.device} allows ${limit}: ` +
    "take a press that needs neither key norms nor attention, or choose another adapter with --adapter",
  );
}
