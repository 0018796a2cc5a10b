/** Scalar twins of the selection of entries (kernels/select.ts): by sorting, where the kernels count. */

type Numbers = ArrayLike<number>;

/** A cut of one head: threshold, how many of the scores equal to it are kept, scores kept in all, 0. */
export type Cut = [threshold: number, equal: number, kept: number, zero: 0];

/** A score as an unsigned integer: of a greater score a greater one, of NaN 0; 0 and −0 are equal. */
export function orderOf(score: number): number {
  if (Number.isNaN(score)) return 0;
  const bits = new Uint32Array(Float32Array.of(score === 0 ? 0 : score).buffer)[0]!;
  return (bits >>> 31 === 1 ? ~bits : bits | 0x8000_0000) >>> 0;
}

/** Cuts that keep the keep[h] highest scores of each head, lower indices first among equals. */
export function threshold(heads: readonly Numbers[], keep: readonly number[]): Cut[] {
  return heads.map((scores, head) => thresholdTogether([scores], keep[head]!)[0]!);
}

/** Cuts that keep the `keep` highest scores of all heads, lower heads and then lower indices first among equals. */
export function thresholdTogether(heads: readonly Numbers[], keep: number): Cut[] {
  const all = heads.flatMap((scores, head) => Array.from(scores, (score) => ({ head, order: orderOf(score) })));
  const kept = all.sort((a, b) => b.order - a.order).slice(0, keep); // the sort is stable
  const threshold = kept.at(-1)?.order ?? 0xffff_ffff;
  return heads.map((_, head) => {
    const own = kept.filter((entry) => entry.head === head);
    return [threshold, own.filter(({ order }) => order === threshold).length, own.length, 0];
  });
}

/** Cuts that keep the scores above 0. */
export function thresholdMarked(heads: readonly Numbers[]): Cut[] {
  return heads.map((scores) => [orderOf(0), 0, Array.from(scores).filter((score) => score > 0).length, 0]);
}

/** Indices of what a cut keeps of a head, ascending. */
export function compact(scores: Numbers, [threshold, equal]: Cut): number[] {
  let left = equal;
  return Array.from(scores, orderOf).flatMap((order, index) => (order > threshold || (order === threshold && left-- > 0) ? [index] : []));
}

/** The scores once those that a cut keeps are `kept`, and the others `others`, or as they were. */
export function mark(scores: Numbers, cut: Cut, { kept, others }: { kept: number; others: number | null }): Float32Array {
  const indices = new Set(compact(scores, cut));
  return Float32Array.from(scores, (score, index) => (indices.has(index) ? kept : others ?? score));
}
