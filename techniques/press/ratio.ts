/**
 * How many entries a ratio leaves, without the traps of binary fractions: 100 · (1 − 0.9) is 9.999…98 in doubles, and truncation makes 9 of
 * it. A ratio here is the decimal that its shortest notation writes, so 0.9 is 9/10, and what follows is done in integers.
 */

import { UsageError } from "../../engine/errors.ts";

/** numerator / denominator, both exact; the denominator is above 0. */
export interface Rational { readonly numerator: bigint; readonly denominator: bigint }

/** The decimal that JavaScript prints for `value`; finite numbers only. */
export function decimalOf(value: number): Rational {
  const [digits, exponent] = String(value).split("e") as [string, string?];
  const [whole, fraction = ""] = digits.split(".") as [string, string?];
  const power = Number(exponent ?? 0) - fraction.length;
  const mantissa = BigInt(whole + fraction);
  return power >= 0 ? { numerator: mantissa * 10n ** BigInt(power), denominator: 1n } : { numerator: mantissa, denominator: 10n ** BigInt(-power) };
}

/** The share to evict: throws UsageError, which begins with `what`, outside [0, 1). */
export function checkRatio(ratio: number, what: string): void {
  if (typeof ratio !== "number" || !(ratio >= 0 && ratio < 1)) {
    throw new UsageError(`${what} is the share of entries to evict, at least 0 and below 1, not ${String(ratio)}`);
  }
}

/** ⌊length · (1 − ratio)⌋, at least 1 (0 only of nothing); ratio in [0, 1). */
export function keptOf(length: number, ratio: number): number {
  const { numerator, denominator } = decimalOf(ratio);
  return Math.min(length, Math.max(1, Number(BigInt(length) * (denominator - numerator) / denominator)));
}

/** ⌈length · keepRatio⌉; keepRatio in (0, 1]. */
export function keptCeil(length: number, keepRatio: number): number {
  const { numerator, denominator } = decimalOf(keepRatio);
  return Math.min(length, Number((BigInt(length) * numerator + denominator - 1n) / denominator));
}

/** The nearest integer, halves to the even one. */
export function roundHalfEven({ numerator, denominator }: Rational): number {
  const floor = numerator >= 0n ? numerator / denominator : -((-numerator + denominator - 1n) / denominator);
  const twice = 2n * (numerator - floor * denominator);
  const up = twice > denominator || (twice === denominator && floor % 2n !== 0n);
  return Number(up ? floor + 1n : floor);
}
