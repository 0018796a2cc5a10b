/**
 * The number types we compute with, and exact conversions between the float ones on the host. Conversions work on bits in integer
 * registers, round to nearest with ties to even, and keep the sign of zero, subnormals, infinities and the upper bits of a NaN (made
 * quiet when narrowed). They are written out because `Float16Array` is younger than the oldest Node we run on, and nothing has a
 * bfloat16. Byte order is that of the host; safetensors and WebGPU are little-endian, as is every machine that Dawn runs on.
 */

/** Bytes of one element. */
export const DTYPE_BYTES = { f32: 4, f16: 2, bf16: 2, u32: 4, i32: 4, u8: 1, i8: 1 } as const;
export type Dtype = keyof typeof DTYPE_BYTES;
export type FloatDtype = "f32" | "f16" | "bf16";

const SOURCE_BYTES = { ...DTYPE_BYTES, f64: 8 } as const;

/** Adds up over calls of `convert`: how many finite values became infinite because they are beyond the range of the target. */
export interface ConversionCount { overflows: number }

const F16_INFINITY = 0x7c00;
const BF16_INFINITY = 0x7f80;
const F32_INFINITY = 0x7f800000;

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** The bits of f32(`value`). */
function bitsOf(value: number): number {
  scratchFloat[0] = value;
  return scratchBits[0]!;
}

function floatOf(bits: number): number {
  scratchBits[0] = bits;
  return scratchFloat[0]!;
}

/**
 * f32 bits of a double, rounded to odd: cut off, then the last bit set if anything was lost. The lost part can then no longer be taken
 * for an exact tie, so rounding once more to 16 bits gives what one rounding of the double would have given.
 */
function roundToOdd(value: number): number {
  const near = Math.fround(value);
  const bits = bitsOf(near);
  if (near === value || value !== value) return bits;
  return (Math.abs(near) > Math.abs(value) ? bits - 1 : bits) | 1;
}

/** f16 bits from f32 bits. */
function f16FromF32Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff);
  if (magnitude >= 0x477ff000) return sign | F16_INFINITY; // 65520, half a step above the largest f16, and everything beyond
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Below 2^-14 an f16 counts steps of 2^-24; the significand is in steps of 2^(exponent - 150).
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const significand = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((significand + (1 << (shift - 1)) - 1 + ((significand >>> shift) & 1)) >>> shift);
}

/** bf16 bits from f32 bits. */
function bf16FromF32Bits(bits: number): number {
  if ((bits & 0x7fffffff) > F32_INFINITY) return ((bits >>> 16) & 0xffff) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** f32 bits from f16 bits; every f16 is an f32. */
function f32BitsFromF16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 31) return (sign | F32_INFINITY | (fraction << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  return (sign | bitsOf(fraction * 2 ** -24)) >>> 0;
}

/** The value of f16 bits. */
export function f16ToNumber(bits: number): number { return floatOf(f32BitsFromF16(bits)); }
/** The value of bf16 bits. */
export function bf16ToNumber(bits: number): number { return floatOf((bits << 16) >>> 0); }
/** The f16 bits nearest to a double, ties to even. */
export function numberToF16(value: number): number { return f16FromF32Bits(roundToOdd(value)); }
/** The bf16 bits nearest to a double, ties to even. */
export function numberToBf16(value: number): number { return bf16FromF32Bits(roundToOdd(value)); }

/** A function of 16 bits as a table, made when first asked for: one load per element instead of the arithmetic. */
function tabulated<T extends Uint16Array | Uint32Array>(table: () => T, of: (bits: number) => number): () => T {
  let made: T | undefined;
  return () => {
    if (made === undefined) {
      made = table();
      for (let bits = 0; bits < 65536; bits++) made[bits] = of(bits);
    }
    return made;
  };
}
const f32BitsOfF16 = tabulated(() => new Uint32Array(65536), f32BitsFromF16);
const bf16OfF16 = tabulated(() => new Uint16Array(65536), (bits) => bf16FromF32Bits(f32BitsFromF16(bits)));
const f16OfBf16 = tabulated(() => new Uint16Array(65536), (bits) => f16FromF32Bits((bits << 16) >>> 0));

/**
 * Convert a run of elements. Returns the converted part of `out` (which must be as long as needed or longer, aligned to its elements,
 * and must not overlap `bytes`) or a new array. `bytes` may lie at any alignment. Finite values that become infinite are added to
 * `count`. Throws a plain Error on a ragged length or an unusable `out`: those are mistakes of the caller, not of a file.
 */
export function convert(
  bytes: Uint8Array, from: FloatDtype | "f64", to: FloatDtype, out?: Uint8Array, count?: ConversionCount,
): Uint8Array {
  const n = bytes.byteLength / SOURCE_BYTES[from];
  if (!Number.isInteger(n)) throw new Error(`convert: ${bytes.byteLength} bytes are no whole number of ${from} elements`);
  const needed = n * DTYPE_BYTES[to];
  if (out !== undefined && (out.byteLength < needed || out.byteOffset % DTYPE_BYTES[to] !== 0)) {
    throw new Error(`convert: out needs ${needed} bytes aligned to ${to}, but has ${out.byteLength} at offset ${out.byteOffset}`);
  }
  const target = out === undefined ? new Uint8Array(needed) : out.subarray(0, needed);
  if (from === to) {
    target.set(bytes);
    return target;
  }
  const source = bytes.byteOffset % SOURCE_BYTES[from] === 0 ? bytes : bytes.slice();
  const read = [source.buffer, source.byteOffset, n] as const;
  const write = [target.buffer, target.byteOffset, n] as const;
  let overflows = 0;
  if (to === "f32") {
    if (from === "f16") lookUp(new Uint16Array(...read), f32BitsOfF16(), new Uint32Array(...write));
    else if (from === "bf16") widenBf16(new Uint16Array(...read), new Uint32Array(...write));
    else overflows = narrowToF32(new Float64Array(...read), new Float32Array(...write));
  } else {
    const result = new Uint16Array(...write);
    if (from === "f16") lookUp(new Uint16Array(...read), bf16OfF16(), result);
    else if (from === "bf16") {
      const bits = new Uint16Array(...read);
      lookUp(bits, f16OfBf16(), result);
      overflows = infinities(result, F16_INFINITY);
      if (overflows > 0) overflows -= infinities(bits, BF16_INFINITY);
    } else if (from === "f32") {
      const bits = new Uint32Array(...read);
      overflows = to === "f16" ? narrowToF16(bits, result) : narrowToBf16(bits, result);
    } else overflows = narrowF64(new Float64Array(...read), to, result);
  }
  if (count !== undefined) count.overflows += overflows;
  return target;
}

function lookUp(source: Uint16Array, table: Uint16Array | Uint32Array, target: Uint16Array | Uint32Array): void {
  for (let i = 0; i < source.length; i++) target[i] = table[source[i]!]!;
}

function widenBf16(source: Uint16Array, target: Uint32Array): void {
  for (let i = 0; i < source.length; i++) target[i] = source[i]! << 16;
}

/** How many of the 16-bit floats in `bits` are infinite. */
function infinities(bits: Uint16Array, infinity: number): number {
  let found = 0;
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & 0x7fff) === infinity) found++;
  return found;
}

// The four loops below return the number of overflows. Each is a loop of its own so that the engine compiles it for one pair of types.

function narrowToF16(source: Uint32Array, target: Uint16Array): number {
  let overflows = 0;
  for (let i = 0; i < source.length; i++) {
    const bits = source[i]!;
    const half = f16FromF32Bits(bits);
    if ((half & 0x7fff) === F16_INFINITY && (bits & 0x7fffffff) !== F32_INFINITY) overflows++;
    target[i] = half;
  }
  return overflows;
}

function narrowToBf16(source: Uint32Array, target: Uint16Array): number {
  let overflows = 0;
  for (let i = 0; i < source.length; i++) {
    const bits = source[i]!;
    const half = bf16FromF32Bits(bits);
    if ((half & 0x7fff) === BF16_INFINITY && (bits & 0x7fffffff) !== F32_INFINITY) overflows++;
    target[i] = half;
  }
  return overflows;
}

function narrowToF32(source: Float64Array, target: Float32Array): number {
  let overflows = 0;
  for (let i = 0; i < source.length; i++) {
    const value = source[i]!;
    target[i] = value;
    if (Math.abs(target[i]!) === Infinity && Math.abs(value) !== Infinity) overflows++;
  }
  return overflows;
}

function narrowF64(source: Float64Array, to: "f16" | "bf16", target: Uint16Array): number {
  const round = to === "f16" ? f16FromF32Bits : bf16FromF32Bits;
  const infinity = to === "f16" ? F16_INFINITY : BF16_INFINITY;
  let overflows = 0;
  for (let i = 0; i < source.length; i++) {
    const value = source[i]!;
    const half = round(roundToOdd(value));
    if ((half & 0x7fff) === infinity && Math.abs(value) !== Infinity) overflows++;
    target[i] = half;
  }
  return overflows;
}
