/**
 * The closed form of expected attention against what it stands for: queries drawn from the distribution, and a plain attention where
 * nothing is left to expect.
 */

import { test } from "uvu";
import * as assert from "uvu/assert";
import { meanRotation } from "../../../techniques/press/expected_attention.ts";
import { averageRotation, expectedAttentionScores, expectedLogit, queryMoments } from "../../../techniques/press/reference.ts";
import { near, numbers, uniform } from "../../support/gpu.ts";
import { sumsOf } from "./dense_layer.ts";

const D = 6;
const FREQUENCIES = [1, 0.3]; // dimensions 0 to 3 rotate, 4 and 5 stay

/** Normal numbers by Box and Muller. */
function normals(seed: number): () => number {
  const random = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** As the model rotates a query at `position`. */
function rotated(query: ArrayLike<number>, position: number): number[] {
  const half = FREQUENCIES.length;
  return Array.from(query, (value, d) => {
    if (d >= 2 * half) return value;
    const angle = position * FREQUENCIES[d % half]!;
    const other = d < half ? -query[d + half]! : query[d - half]!;
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

test("expected attention: at one position the closed form is the mean of exp(q · k / √d) over normal queries", () => {
  const factor = Float64Array.from(numbers(D * D, 5, 0.5), (value) => Math.max(-0.7, Math.min(0.7, value))), average = Float64Array.from(numbers(D, 6, 0.6));
  const covariance = Float64Array.from({ length: D * D }, (_, i) => (
    Array.from({ length: D }, (_, j) => factor[Math.floor(i / D) * D + j]! * factor[i % D * D + j]!).reduce((a, b) => a + b)));
  const normal = normals(7), count = 100_000;
  for (const seed of [1, 2, 3]) {
    const key = Float64Array.from(numbers(D, seed, 0.8), (value) => Math.max(-2, Math.min(2, value)));
    let [sum, squares] = [0, 0];
    for (let i = 0; i < count; i++) {
      const noise = Array.from({ length: D }, normal);
      const query = rotated(Array.from(average, (value, d) => noise.reduce((a, each, j) => a + factor[d * D + j]! * each, value)), 37);
      const weight = Math.exp(query.reduce((a, value, d) => a + value * key[d]!, 0) / Math.sqrt(D));
      sum += weight;
      squares += weight * weight;
    }
    const mean = sum / count, error = Math.sqrt((squares / count - mean * mean) / count);
    const closed = Math.exp(expectedLogit(key, averageRotation(37, 1, FREQUENCIES, D), average, covariance));
    assert.ok(Math.abs(closed - mean) < 4 * error, `${closed} against ${mean} ± ${error}`);
    // The covariance is more than noise here.
    assert.ok(Math.abs(Math.exp(expectedLogit(key, averageRotation(37, 1, FREQUENCIES, D), average, null)) - mean) > 8 * error);
  }
});

test("expected attention: mean and covariance come out of the sums", () => {
  const queries = numbers(50 * 2 * D, 3), words = 2 * D + D * D;
  const sums = sumsOf(queries, { heads: 2, headDim: D });
  for (const head of [0, 1]) {
    const of = Array.from({ length: 50 }, (_, q) => Array.from({ length: D }, (_, d) => queries[(q * 2 + head) * D + d]!));
    const mean = of[0]!.map((_, d) => of.reduce((sum, query) => sum + query[d]!, 0) / 50);
    const covariance = Float64Array.from({ length: D * D }, (_, i) => (
      of.reduce((sum, query) => sum + (query[Math.floor(i / D)]! - mean[Math.floor(i / D)]!) * (query[i % D]! - mean[i % D]!), 0) / 50));
    const moments = queryMoments(sums.subarray(head * words, (head + 1) * words), 50, D);
    near(moments.mean, mean, { absolute: 1e-5 }, "mean");
    near(moments.covariance, covariance, { absolute: 1e-4, relative: 1e-5 }, "covariance");
  }
});

test("expected attention: the mean only, one position ahead, is the attention of the rotated mean query", () => {
  const [heads, kvHeads, columns, n, seen] = [2, 1, 64, 40, 90];
  const keys = numbers(kvHeads * D * columns, 8), queries = numbers(30 * heads * D, 9);
  const [got] = expectedAttentionScores(
    { heads, kvHeads, headDim: D, columns, lengths: [n], keys, values: keys, queries: [] },
    { queryStats: sumsOf(queries, { heads, headDim: D }), queryCount: 30, seen, frequencies: FREQUENCIES, futurePositions: 1, sinks: 0, covariance: false, valueNorm: false, epsilon: 0 },
  );
  const wanted = new Float64Array(n);
  for (let head = 0; head < heads; head++) {
    const mean = Array.from({ length: D }, (_, d) => Array.from({ length: 30 }, (_, q) => queries[(q * heads + head) * D + d]!).reduce((a, b) => a + b) / 30);
    const query = rotated(mean, seen);
    const weights = Array.from({ length: n }, (_, entry) => Math.exp(query.reduce((sum, value, d) => sum + value * keys[d * columns + entry]!, 0) / Math.sqrt(D)));
    const sum = weights.reduce((a, b) => a + b);
    weights.forEach((weight, entry) => { wanted[entry]! += weight / sum / heads; });
  }
  near(got!, wanted, { relative: 1e-4 }, "weights");
});

test("expected attention: the parameters are the mean rotation", () => {
  const params = meanRotation(1000, 512, { frequencies: FREQUENCIES });
  const rotation = averageRotation(1000, 512, FREQUENCIES, D);
  assert.is(params[0], 2);
  const half = (params.length - 1) / 2;
  near([params[1]!, params[2]!], [rotation[0]![0]!, rotation[1]![1]!], { absolute: 1e-7 }, "cos");
  near([params[1 + half]!, params[2 + half]!], [rotation[2]![0]!, rotation[3]![1]!], { absolute: 1e-7 }, "sin");
});

test.run();
