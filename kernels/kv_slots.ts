/**
 * The WGSL that reads and writes entries of the cache, by format and kernel family (kernels/kv/*.wgsl). A format's files say kv_ and KV_; they
 * are taken once with k_ for keys and once with v_ for values, so that either may have any format and no kernel knows which.
 */

import { wgsl, type Consts, type WgslFile } from "../engine/kernel.ts";
import { kvEntryWords, type KvEncoding, type KvEntryEncoding } from "./kv_formats.ts";

const file = (name: string): WgslFile => wgsl(new URL(`./kv/${name}.wgsl`, import.meta.url));
const POOLS = { read: file("pools_read"), write: file("pools_write") };
const HALF = file("half");
const CODECS = { f32: file("f32"), f16: file("f16"), bf16: file("bf16"), int8: file("int8"), int4: file("int4") };
const CODEC_PUTS = { int8: file("int8_put"), int4: file("int4_put") };
/** How floats lie in elements of the pool. A GPU's kernels read eight dimensions of 16 bits at once. */
const QUADS = { read: file("quads"), put: file("quads_put") };
const PAIRS = { read: file("pairs"), put: file("pairs_put") };
const GROUPS = { read: file("groups"), put: file("groups_put") };

const KIVI = { read: file("kivi"), settle: file("kivi_settle"), places: file("kivi_places"), decode: file("kivi_decode"), prefill: file("kivi_prefill"), prefillPut: file("kivi_prefill_put") };
const AT_ENTRY = file("at_entry");
const KEYS_WRITE = file("keys_write");

type Family = "software" | "gpu";

function filesOf({ format }: KvEncoding, family: Family, use: "read" | "write"): readonly WgslFile[] {
  if (format === "kivi4") return [CODECS.f16, KIVI.read, ...(use === "write" ? [PAIRS.put, KIVI.settle] : [])];
  if (format === "int8" || format === "int4") return [CODECS[format], GROUPS.read, ...(use === "write" ? [CODEC_PUTS[format], GROUPS.put] : [])];
  const elements = family === "gpu" && format !== "f32" ? PAIRS : QUADS;
  return [CODECS[format], elements.read, ...(use === "write" ? [elements.put] : [])];
}

const instances = new Map<string, WgslFile>();

/** A format's file for keys or for values. */
function instance({ name, text }: WgslFile, side: "k" | "v"): WgslFile {
  const key = `${side} ${name}`;
  let made = instances.get(key);
  if (made === undefined) {
    made = { name, text: text.replace(/\bkv_/g, `${side}_`).replace(/\bKV_/g, `${side.toUpperCase()}_`) };
    instances.set(key, made);
  }
  return made;
}

/**
 * Slots and constants of kernels that read entries, and `write` them too. Reading: `k_read8` and `v_read8` of the family `gpu`; of
 * `software`, where lanes share more, `k_next4` for dimensions in order and `v_shared4` with what `v_scales` gave. Writing: `k_put` and
 * `v_put`, by a whole subgroup. `key_place` says where a key is read, `own_place` where a row's own goes, and `key_appended` follows that.
 */
export function kvSlots({ k, v }: { readonly k: KvEncoding; readonly v: KvEntryEncoding }, family: Family, use: "read" | "write", phase: "prefill" | "decode"): {
  readonly slots: readonly WgslFile[]; readonly consts: Consts;
} {
  const sides = [["k", k], ["v", v]] as const;
  const files = sides.flatMap(([side, encoding]) => filesOf(encoding, family, use).map((each) => instance(each, side)));
  const consts = sides.flatMap(([side, encoding]) => {
    const name = side.toUpperCase();
    return "group" in encoding ? [[`${name}_WORDS`, kvEntryWords(encoding)], [`${name}_GROUP`, encoding.group]] : [];
  });
  const encodes = use === "write" && (consts.length > 0 || k.format === "kivi4");
  return { slots: [POOLS[use], ...(encodes ? [HALF] : []), ...files, ...placesOf(k, use, phase)], consts: Object.fromEntries(consts) };
}

function placesOf({ format }: KvEncoding, use: "read" | "write", phase: "prefill" | "decode"): readonly WgslFile[] {
  if (format !== "kivi4") return [AT_ENTRY];
  return [KIVI.places, KIVI[phase], ...(phase === "prefill" && use === "write" ? [KIVI.prefillPut] : [])];
}

/** Slots of kernels that write the pool of kivi4 keys alone. */
export const KIVI_KEYS: readonly WgslFile[] = [KEYS_WRITE, ...[CODECS.f16, KIVI.read].map((each) => instance(each, "k"))];
export const KIVI_SETTLE: readonly WgslFile[] = [...KIVI_KEYS, HALF, instance(KIVI.settle, "k"), KIVI.prefill];
