/**
 * Safetensors files for tests, good and bad, as a table: one row per way a file can be wrong (S1 to S30 of the fault matrix; what needs a
 * file system rather than bytes is in the test itself). Good files are cross-checked with engine/safetensors_writer.ts; the bad ones
 * are put together here by hand, because a writer that could make them would be no writer.
 */

import { readdirSync } from "node:fs";
import type { TensorData } from "../../engine/safetensors_writer.ts";

const utf8 = new TextEncoder();

/** Length, header as it is given, `data` zero bytes or bytes. `claimed` lies about the header's length. */
export function file(header: string | object | Uint8Array, data: number | Uint8Array = 0, claimed?: bigint): Uint8Array {
  const text = header instanceof Uint8Array ? header : utf8.encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = Buffer.concat([new Uint8Array(8), text, typeof data === "number" ? new Uint8Array(data) : data]);
  bytes.writeBigUInt64LE(claimed ?? BigInt(text.byteLength));
  return bytes;
}

/** One header entry. */
export function entry(dtype: unknown, shape: unknown, ...offsets: unknown[]): object {
  return { dtype, shape, data_offsets: offsets };
}

/** Small tensors of several types, with all bits in use. */
export function goodTensors(): TensorData[] {
  const bytes = (n: number, seed: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 37 + seed * 101) & 0xff);
  return [
    { name: "norm.weight", dtype: "F32", shape: [6], data: bytes(24, 1) },
    { name: "embed.weight", dtype: "F16", shape: [5, 3], data: bytes(30, 2) },
    { name: "head.weight", dtype: "BF16", shape: [2, 7], data: bytes(28, 3) },
    { name: "mask", dtype: "BOOL", shape: [3], data: bytes(3, 4) },
    { name: "steps", dtype: "I64", shape: [], data: bytes(8, 5) },
    { name: "empty", dtype: "F32", shape: [4, 0], data: bytes(0, 6) },
    { name: "__proto__", dtype: "U8", shape: [2], data: bytes(2, 7) },
  ];
}

/** Row of the fault matrix; what is wrong, or right, with the file; the file; what the message must say. */
export type FileCase = readonly [row: string, what: string, bytes: Uint8Array, expect: RegExp | "accept"];

const one = entry("F32", [2], 0, 8);
const f32 = (shape: unknown): Uint8Array => file({ a: entry("F32", shape, 0, 8) }, 8);
const offsets = (...pair: unknown[]): Uint8Array => file({ a: entry("F32", [2], ...pair) }, 8);
const raw = (...codes: (number | string)[]): Uint8Array =>
  Uint8Array.from(codes.flatMap((c) => (typeof c === "string" ? [...utf8.encode(c)] : [c])));

/** How many files this process has open; null where that cannot be seen, so that a comparison of before and after holds there too. */
export function openFiles(): number | null {
  return process.platform === "linux" ? readdirSync("/proc/self/fd").length : null;
}

/** `n` tensors that all claim the same bytes. */
export function overlapping(n: number): Uint8Array {
  return file(Object.fromEntries(Array.from({ length: n }, (_, i) => [`model.layers.${i}.weight`, one])), 8);
}

const huge = "x".repeat(1_000_000);
const good = Buffer.from(file({ a: one, b: entry("U8", [3], 8, 11) }, 11));

export const fileCases: readonly FileCase[] = [
  ["S1", "empty file", raw(), /the file is empty/],
  ["S2", "1 byte", raw(1), /1 bytes, too small/],
  ["S2", "7 bytes", raw(0, 0, 0, 0, 0, 0, 0), /7 bytes, too small/],
  ["S3", "length 1000 in a small file", file("{}", 0, 1000n), /should have 1000 bytes, but only 2 follow/],
  ["S3", "length one too long", file("{}", 0, 3n), /should have 3 bytes, but only 2 follow/],
  ["S4", "length 100,000,001", file("{}", 0, 100_000_001n), /header too large: 100000001 bytes/],
  ["S4", "length 2^40", file("{}", 0, 2n ** 40n), /header too large: 1099511627776 bytes/],
  ["S4", "length 2^64 - 1", file("{}", 0, 2n ** 64n - 1n), /header too large: 18446744073709551615 bytes/],
  ["S5", "length 0", file("", 4), /header is empty/],
  ["S6", "header {", file("{"), /not valid JSON; it begins with "\{"/],
  ["S6", "header nul", file("nul"), /not valid JSON; it begins with "nul"/],
  ["S6", "two objects", file("{}{}"), /not valid JSON/],
  ["S6", "padded with NUL", file("{}\0\0"), /not valid JSON/],
  ["S6", "byte order mark", file("\ufeff{}"), /not valid JSON; it begins with "\\ufeff/],
  ["S7", "byte 0xFF", file(raw('{"', 0xff, '":1}')), /not valid UTF-8/],
  ["S7", "overlong slash", file(raw('{"', 0xc0, 0xaf, '":1}')), /not valid UTF-8/],
  ["S7", "half a surrogate", file(raw('{"', 0xed, 0xa0, 0x80, '":1}')), /not valid UTF-8/],
  ["S8", "header []", file("[]"), /must be a JSON object, but is \[\]/],
  ["S8", "header null", file("null"), /must be a JSON object, but is null/],
  ["S8", 'header "x"', file('"x"'), /must be a JSON object, but is "x"/],
  ["S8", "header 1", file("1"), /must be a JSON object, but is 1\./],
  ["S8", "a list 100,000 deep", file("[".repeat(1e5) + "]".repeat(1e5)), /must be a JSON object, but is a nested/],
  ["S9", "white space before and after", file(`\t\n ${JSON.stringify({ a: one })} \r\n  `, 8), "accept"],
  ["S10", "a name twice", file(`{"a":${JSON.stringify(one)},"a":${JSON.stringify(one)}}`, 8), /the key "a" stands twice/],
  ["S10", "a name twice, once escaped", file(`{"a\\u0062":${JSON.stringify(one)},"ab":${JSON.stringify(one)}}`, 8),
    /the key "ab" stands twice/],
  ["S10", "dtype twice", file('{"a":{"dtype":"F32","shape":[2],"dtype":"U8","data_offsets":[0,8]}}', 8), /the key "dtype" stands twice/],
  ["S10", "metadata key twice", file('{"__metadata__":{"k":"1","k":"2"}}'), /the key "k" stands twice/],
  ["S10", "no name twice, though it looks so",
    file('{"__metadata__":{"a":"a","b":"a","\\"a":"{\\"a\\":1,\\"a\\":2}"},' +
      '"a":{"dtype":"U8","a":["a","a",{"a":[{}]}],"shape":[0],"data_offsets":[0,0]}}'),
    "accept"],
  ["S11", "metadata with a number", file({ __metadata__: { n: 1 } }), /__metadata__ must hold strings only, but "n" is 1/],
  ["S11", "metadata with an object", file({ __metadata__: { n: {} } }), /"n" is an object/],
  ["S11", "metadata with a list", file({ __metadata__: { n: ["x"] } }), /"n" is \[x\]/],
  ["S11", "metadata is a list", file({ __metadata__: [] }), /__metadata__ must be an object of strings/],
  ["S11", "metadata is null", file({ __metadata__: null }), /must be an object of strings, but is null/],
  ["S11", "metadata of strings", file({ __metadata__: { format: "pt" }, a: one }, 8), "accept"],
  ["S12", "names of Object.prototype, empty and path-like",
    file('{"__proto__":X,"constructor":X,"toString":X,"":X,"../x":X,"0":X}'.replaceAll("X", JSON.stringify(entry("U8", [0], 0, 0)))),
    "accept"],
  ["S12", "1 MB name", file({ [huge]: one }, 8), "accept"],
  ["S12", "1 MB name in a message", file({ [huge]: entry("F32", [3], 0, 8) }, 8), /tensor "x{80}… \(1000000 characters\)"/],
  ["S12", "control characters in a message", file({ "\u001b[31m\n\u202e\u009b": entry("F32", [3], 0, 8) }, 8),
    /tensor "\\u001b\[31m\\n\\u202e\\u009b"/],
  ["S13", "no dtype", file({ a: { shape: [2], data_offsets: [0, 8] } }, 8), /dtype must be a string, but is nothing/],
  ["S13", "no shape", file({ a: { dtype: "F32", data_offsets: [0, 8] } }, 8), /shape must be a list of sizes, but is nothing/],
  ["S13", "no data_offsets", file({ a: { dtype: "F32", shape: [2] } }, 8), /data_offsets must be two whole numbers/],
  ["S13", "dtype a number", file({ a: entry(32, [2], 0, 8) }, 8), /dtype must be a string, but is 32/],
  ["S13", "shape a number", f32(2), /shape must be a list of sizes, but is 2/],
  ["S13", "offsets a string", file({ a: { dtype: "F32", shape: [2], data_offsets: "0,8" } }, 8), /but is "0,8"/],
  ["S13", "entry a list", file({ a: [] }), /expected an object with dtype, shape and data_offsets, found \[\]/],
  ["S13", "entry null", file({ a: null }), /found null/],
  ["S13", "unknown extra field", file({ a: { ...one, note: { x: [1] } } }, 8), "accept"],
  ["S14", "dtype F128", file({ a: entry("F128", [2], 0, 32) }, 32), /unknown dtype "F128"; the format has BOOL .*BF16.* U64/],
  ["S14", "dtype f32", file({ a: entry("f32", [2], 0, 8) }, 8), /unknown dtype "f32"/],
  ["S14", "dtype constructor", file({ a: entry("constructor", [2], 0, 8) }, 8), /unknown dtype "constructor"/],
  ["S15", "known types that we cannot compute with",
    file({ a: entry("F8_E4M3", [8], 0, 8), b: entry("F4", [2, 4], 8, 12), c: entry("C64", [1], 12, 20), d: entry("F6_E2M3", [4], 20, 23) },
      23),
    "accept"],
  ["S16", "size -1", f32([-1]), /each size of the shape must be a whole number from 0 to 2\^53 - 1, found -1/],
  ["S16", "size 1.5", f32([1.5]), /found 1\.5/],
  ["S16", 'size "2"', f32(["2"]), /found "2"/],
  ["S16", "size 1e400", file('{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}', 8), /found Infinity/],
  ["S16", "size 2^53 + 1", file('{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]}}', 8), /found 9007/],
  ["S17", "shape [2, 2^64 - 2]", file('{"a":{"dtype":"F32","shape":[2,18446744073709551614],"data_offsets":[0,8]}}', 8), /found 1844/],
  ["S17", "shape [2, 2^63 - 1]", file('{"a":{"dtype":"F32","shape":[2,9223372036854775807],"data_offsets":[0,8]}}', 8), /found 9223/],
  ["S17", "product beyond 2^53", f32([2 ** 30, 2 ** 30]), /more elements than can be counted/],
  ["S17", "product beyond the largest double", f32(Array(40).fill(2 ** 50)), /more elements than can be counted/],
  ["S17", "product beyond the largest double, times 0", f32([...Array(40).fill(2 ** 50), 0]), /more elements than can be counted/],
  ["S17", "bits beyond 2^53", f32([2 ** 51]), /more elements than can be counted/],
  ["S18", "begin after end", offsets(8, 0), /end before they begin: \[8, 0\]/],
  ["S18", "negative offset", offsets(-8, 0), /data_offsets must be two whole numbers \[begin, end\], but is \[-8, 0\]/],
  ["S18", "three offsets", offsets(0, 4, 8), /but is \[0, 4, 8\]/],
  ["S18", "one offset", offsets(8), /but is \[8\]/],
  ["S18", "offset 0.5", offsets(0.5, 8), /but is \[0\.5, 8\]/],
  ["S19", "10 tensors on the same bytes", overlapping(10), /overlaps tensor "model\.layers\.\d\.weight" by 8 bytes/],
  ["S19", "two that overlap by one byte", file({ a: one, b: entry("U8", [3], 7, 10) }, 10), /tensor "b": overlaps tensor "a" by 1 /],
  ["S20", "hole before the first", file({ a: entry("F32", [2], 4, 12) }, 12), /leaves a hole of 4 bytes after the header/],
  ["S20", "hole between two", file({ a: one, b: entry("U8", [3], 9, 12) }, 12), /tensor "b": leaves a hole of 1 bytes after tensor "a"/],
  ["S21", "shape too small", file({ a: entry("F32", [2], 0, 12) }, 12), /F32 × \[2\] takes 8 bytes, but data_offsets \[0, 12\] hold 12/],
  ["S21", "shape too large", file({ a: entry("F16", [9], 0, 16) }, 16), /takes 18 bytes, but .* hold 16/],
  ["S22", "truncated by 1 byte", good.subarray(0, -1), /the file is \d+ bytes, but its header needs \d+: download incomplete/],
  ["S22", "truncated in the first tensor", good.subarray(0, -10), /download incomplete/],
  ["S22", "truncated in the header", good.subarray(0, 40), /should have \d+ bytes, but only 32 follow/],
  ["S23", "one byte more", Buffer.concat([good, raw(0)]), /1 bytes at the end belong to nothing/],
  ["S23", "a zip appended", Buffer.concat([good, raw("PK", 3, 4, "…")]), /bytes at the end belong to nothing/],
  ["S24", "F4 with an odd number of elements", file({ a: entry("F4", [3], 0, 2) }, 2), /F4 × \[3\] is 12 bits, which is no whole/],
  ["S25", "shapes [2, 0] and []", file({ a: entry("F32", [2, 0], 0, 0), b: entry("F32", [], 0, 4), c: entry("F16", [0], 4, 4) }, 4),
    "accept"],
  ["S25", "an empty tensor named after the one that begins at the same byte",
    file({ a: entry("F32", [1], 0, 4), b: entry("F32", [0], 0, 0) }, 4),
    "accept"],
  ["S25", "no tensor at all", file("{}"), "accept"],
  ["S26", "data at an odd byte", file(`${JSON.stringify({ a: one })}${" ".repeat(2)}`, 8), "accept"],
  ["S30", "git-lfs pointer", raw(`version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 1234\n`),
    /git-lfs pointer.*git lfs pull/],
  ["S30", "HTML page", raw("\n<!DOCTYPE html><html><head><title>Login</title>"), /looks like an HTML page/],
  ["S30", "XML error", raw('<?xml version="1.0"?><Error><Code>AccessDenied'), /looks like an XML page/],
  ["S30", "JSON error", raw('{"error":"Repository not found"}'), /looks like a JSON text/],
  ["S30", "PyTorch zip", raw("PK", 3, 4, 0, 0, 8, 8, "archive/data.pkl"), /zip archive, perhaps a PyTorch checkpoint: convert/],
  ["S30", "pickle", raw(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a), /Python pickle.*convert/],
  ["S30", "GGUF", raw("GGUF", 3, 0, 0, 0, 1, 0, 0, 0), /GGUF/],
  ["S30", "gzip", raw(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3), /gzip/],
];
