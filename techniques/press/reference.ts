/**
 * The scores of every press as plain loops in double precision, over the same dense arrays that the kernels read: what the kernels are
 * tested against, and the shortest way to see what a press does. Protected entries rise towards the newest as in the kernels (`RISE`).
 */

import { RISE } from "./prefill.ts";

/** As PressOperands has it, on the host; H KV heads. */
export interface DenseLayer {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly columns: number;
  /** [H]. */
  readonly lengths: ArrayLike<number>;
  /** [H, headDim, columns]. */
  readonly keys: ArrayLike<number>;
  readonly values: ArrayLike<number>;
  /** [window, heads, headDim], rotated. */
  readonly queries: ArrayLike<number>;
}

/** [H][length of the head]. */
export type Scores = readonly Float64Array[];

/** `score` of every entry of every head. */
function each({ lengths }: Pick<DenseLayer, "lengths">, score: (head: number, entry: number) => number): Float64Array[] {
  return Array.from(lengths, (n, head) => Float64Array.from({ length: n }, (_, entry) => score(head, entry)));
}

/** Dimension by dimension. */
function column({ headDim, columns }: DenseLayer, of: ArrayLike<number>, head: number, entry: number): Float64Array {
  return Float64Array.from({ length: headDim }, (_, d) => of[(head * headDim + d) * columns + entry]!);
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!; return sum; };
const norm = (a: ArrayLike<number>): number => Math.sqrt(dot(a, a));
const mean = (a: ArrayLike<number>): number => { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i]!; return sum / a.length; };

function softmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = logits.map((logit) => Math.exp(logit - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

export function knormScores(layer: Pick<DenseLayer, "lengths" | "columns">, norms: ArrayLike<number>): Scores {
  return each(layer, (head, entry) => -norms[head * layer.columns + entry]!);
}

export function randomScores(dense: Pick<DenseLayer, "lengths">, { seed, layer, acted }: { seed: number; layer: number; acted: number }): Scores {
  return each(dense, (head, entry) => {
    const [x, y, z, w] = [entry, head, layer, seed + Math.imul(acted, 0x9e3779b9)].map((value) => (Math.imul(value, 1664525) + 1013904223) | 0) as [number, number, number, number];
    const v = { x, y, z, w };
    const mix = (): void => {
      v.x += Math.imul(v.y, v.w); v.x |= 0;
      v.y += Math.imul(v.z, v.x); v.y |= 0;
      v.z += Math.imul(v.x, v.y); v.z |= 0;
      v.w += Math.imul(v.y, v.z); v.w |= 0;
    };
    mix();
    for (const name of ["x", "y", "z", "w"] as const) v[name] ^= v[name] >>> 16;
    mix();
    return (v.x >>> 8) / 2 ** 24;
  });
}

export function streamingLlmScores(layer: Pick<DenseLayer, "lengths">, { sinks }: { sinks: number }): Scores {
  return each(layer, (head, entry) => (entry < sinks ? layer.lengths[head]! + sinks - entry : entry));
}

export function observedAttentionScores(
  layer: Pick<DenseLayer, "lengths" | "columns" | "heads" | "kvHeads">, { attention, positions, seen }: { attention: ArrayLike<number>; positions: ArrayLike<number>; seen: number },
): Scores {
  return each(layer, (head, entry) => {
    const at = head * layer.columns + entry;
    return attention[at]! / (layer.heads / layer.kvHeads * (seen - positions[at]!));
  });
}

export function keydiffScores(layer: DenseLayer): Scores {
  return Array.from(layer.lengths, (n, head) => {
    const keys = Array.from({ length: n }, (_, entry) => column(layer, layer.keys, head, entry));
    const anchor = Float64Array.from({ length: layer.headDim }, (_, d) => mean(keys.map((key) => key[d]! / Math.max(norm(key), 1e-12))));
    return Float64Array.from(keys, (key) => -dot(key, anchor) / Math.max(norm(key), 1e-12) / Math.max(norm(anchor), 1e-8));
  });
}

/** The newest or the first so many entries 1 above all others of the layer. */
function protectedScores(scores: readonly Float64Array[], { first = 0, newest = 0 }: { first?: number; newest?: number }): Scores {
  const others = scores.flatMap((row) => [...row.subarray(first, Math.max(first, row.length - newest))]);
  const above = 1 + (others.length === 0 ? 0 : others.reduce((a, b) => Math.max(a, b)));
  return scores.map((row) => row.map((score, entry) => {
    const start = Math.max(0, row.length - newest);
    return entry < first ? above : entry >= start ? above + RISE * (entry - start) : score;
  }));
}

/** softmax(q · k / √d) of query w of a window, over the entries that it sees; 0 for the others. */
function windowWeights(layer: DenseLayer, window: number, head: number, w: number): Float64Array {
  const { heads, kvHeads, headDim } = layer, kvHead = Math.floor(head / (heads / kvHeads)), n = layer.lengths[kvHead]!;
  const at = (w * heads + head) * headDim;
  const query = Float64Array.from({ length: headDim }, (_, d) => layer.queries[at + d]!);
  const seen = n - window + w + 1;
  if (seen <= 0) return new Float64Array(n);
  const weights = new Float64Array(n);
  weights.set(softmax(Float64Array.from({ length: seen }, (_, entry) => dot(query, column(layer, layer.keys, kvHead, entry)) / Math.sqrt(headDim))));
  return weights;
}

/** snapkv's, pyramidkv's and, with a window and a kernel of 1 over all heads, tova's. */
export function windowScores(layer: DenseLayer, { window, kernel, allHeads }: { window: number; kernel: number; allHeads: boolean }): Scores {
  const group = layer.heads / layer.kvHeads;
  const voted = Array.from(layer.lengths, (n, kvHead) => {
    const all = Array.from({ length: group * window }, (_, i) => windowWeights(layer, window, kvHead * group + Math.floor(i / window), i % window));
    return Float64Array.from({ length: Math.max(0, n - window) }, (_, entry) => mean(all.map((weights) => weights[entry]!)));
  });
  const pooled = voted.map((row) => row.map((_, entry) => {
    let sum = 0;
    for (let i = entry - (kernel - 1) / 2; i <= entry + (kernel - 1) / 2; i++) sum += row[i] ?? 0;
    return sum / kernel;
  }));
  const scores = each(layer, (head, entry) => {
    if (!allHeads) return pooled[head]![entry] ?? 0;
    const having = pooled.filter((row) => entry < row.length);
    return having.length === 0 ? 0 : mean(having.map((row) => row[entry]!));
  });
  return protectedScores(scores, { newest: window });
}

/**
 * Mean and covariance (biased) of the queries of a head, from their sums: [2·headDim + headDim²] as `PressOperands.queryStats` has them.
 */
export function queryMoments(sums: ArrayLike<number>, count: number, headDim: number): { mean: Float64Array; covariance: Float64Array } {
  const centre = Float64Array.from({ length: headDim }, (_, d) => sums[headDim + d]! / count);
  return {
    mean: centre.map((value, d) => value + sums[d]!),
    covariance: Float64Array.from({ length: headDim ** 2 }, (_, i) => sums[2 * headDim + i]! / count - centre[Math.floor(i / headDim)]! * centre[i % headDim]!),
  };
}

/** R, [headDim][headDim]: the rotation averaged over positions first … first + count − 1; dimensions without a frequency stay. */
export function averageRotation(first: number, count: number, frequencies: readonly number[], headDim: number): Float64Array[] {
  const half = frequencies.length;
  const rotation = Array.from({ length: headDim }, (_, row) => Float64Array.from({ length: headDim }, (_, d) => (row === d && row >= 2 * half ? 1 : 0)));
  for (const [i, frequency] of frequencies.entries()) {
    for (let position = first; position < first + count; position++) {
      const [cos, sin] = [Math.cos(position * frequency) / count, Math.sin(position * frequency) / count];
      rotation[i]![i]! += cos;
      rotation[i + half]![i + half]! += cos;
      rotation[i]![i + half]! -= sin;
      rotation[i + half]![i]! += sin;
    }
  }
  return rotation;
}

/**
 * log E[exp(q · k / √d)] of q = R x with x normal: (R μ) · k / √d + kᵀ R Σ Rᵀ k / 2 d. Without a covariance the second term is left out.
 */
export function expectedLogit(key: Float64Array, rotation: readonly Float64Array[], average: ArrayLike<number>, covariance: ArrayLike<number> | null): number {
  const d = key.length;
  const turned = Float64Array.from({ length: d }, (_, j) => rotation.reduce((sum, row, i) => sum + row[j]! * key[i]!, 0)); // Rᵀ k
  const spread = covariance === null ? 0 : turned.reduce((sum, a, i) => sum + a * turned.reduce((row, b, j) => row + covariance[i * d + j]! * b, 0), 0);
  return dot(turned, average) / Math.sqrt(d) + spread / (2 * d);
}

export interface ExpectedAttentionInput {
  readonly queryStats: ArrayLike<number>;
  readonly queryCount: number;
  readonly seen: number;
  readonly frequencies: readonly number[];
  readonly futurePositions: number;
  readonly sinks: number;
  readonly covariance: boolean;
  readonly valueNorm: boolean;
  readonly epsilon: number;
}

export function expectedAttentionScores(layer: DenseLayer, input: ExpectedAttentionInput): Scores {
  const { heads, kvHeads, headDim } = layer, group = heads / kvHeads, { sinks } = input;
  const rotation = averageRotation(input.seen, input.futurePositions, input.frequencies, headDim);
  const words = 2 * headDim + headDim ** 2;
  const weights = Array.from({ length: heads }, (_, head) => {
    const kvHead = Math.floor(head / group), n = layer.lengths[kvHead]!;
    const sums = Float64Array.from({ length: words }, (_, i) => input.queryStats[head * words + i]!);
    const moments = queryMoments(sums, input.queryCount, headDim);
    return softmax(Float64Array.from({ length: Math.max(0, n - sinks) }, (_, i) => (
      expectedLogit(column(layer, layer.keys, kvHead, sinks + i), rotation, moments.mean, input.covariance ? moments.covariance : null))));
  });
  return protectedScores(each(layer, (kvHead, entry) => {
    if (entry < sinks) return 0;
    const attention = mean(weights.slice(kvHead * group, (kvHead + 1) * group).map((row) => row[entry - sinks]!));
    return input.valueNorm ? (attention + input.epsilon) * norm(column(layer, layer.values, kvHead, entry)) : attention;
  }), { first: sinks });
}

/** lagkv's shares of each measured partition, [H][partitions][lagSize]; kvpress' score with crossScoring. */
export function lagkvShares(layer: DenseLayer, { sinks, lagSize }: { sinks: number; lagSize: number }): Float64Array[][] {
  return Array.from(layer.lengths, (n, head) => {
    const measured = Math.max(0, Math.floor((n - sinks) / lagSize) - 1);
    return Array.from({ length: measured }, (_, partition) => {
      const first = sinks + partition * lagSize;
      const [ofKeys, ofValues] = [layer.keys, layer.values].map((of) => {
        const entries = (start: number): Float64Array[] => Array.from({ length: lagSize }, (_, i) => column(layer, of, head, start + i));
        const [own, next] = [entries(first), entries(first + lagSize)];
        const ranges = Array.from({ length: layer.headDim }, (_, d) => {
          const values = next.map((entry) => entry[d]!);
          return { least: Math.min(...values), width: Math.max(...values) - Math.min(...values) };
        });
        return softmax(Float64Array.from(own, (entry) => {
          const scaled = entry.map((value, d) => (ranges[d]!.width === 0 ? 0 : (value - ranges[d]!.least) / ranges[d]!.width));
          const centre = mean(scaled);
          return Math.sqrt(scaled.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (layer.headDim - 1));
        }));
      }) as [Float64Array, Float64Array];
      return ofKeys.map((share, i) => (share + ofValues[i]!) / 2);
    });
  });
}

export function lagkvScores(layer: DenseLayer, { sinks, lagSize, crossScoring }: { sinks: number; lagSize: number; crossScoring: boolean }): Scores {
  const shares = lagkvShares(layer, { sinks, lagSize });
  return each(layer, (head, entry) => {
    const n = layer.lengths[head]!, partitions = shares[head]!, tail = sinks + partitions.length * lagSize;
    if (entry < sinks) return 1 + RISE * Math.max(0, n - tail);
    if (partitions.length === 0) return (entry - sinks) / (n - sinks);
    if (entry >= tail) return 1 + RISE * (entry - tail);
    const partition = partitions[Math.floor((entry - sinks) / lagSize)]!, own = (entry - sinks) % lagSize;
    if (crossScoring) return partition[own]!;
    return partition.reduce((below, share, i) => below + (share < partition[own]! || (share === partition[own]! && i < own) ? 1 : 0), 0) / lagSize;
  });
}
