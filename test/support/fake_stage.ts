/**
 * A scorer whose scores a test chooses, and a layer for it without a cache: norms are whatever the test puts there, and the scores are made of
 * them by one small kernel. Wrappers of presses are tested around it, kernels and all.
 */

import { wgsl } from "../../engine/kernel.ts";
import type { Gpu } from "../../engine/gpu.ts";
import type { Tensor } from "../../engine/tensor.ts";
import type { LayerState, Press, PressOperands, PressStage } from "../../models/press.ts";
import { dispatch, put, release, takeF32 } from "./gpu.ts";

const KERNEL = wgsl(new URL("./fake_stage.wgsl", import.meta.url));

export interface FakeOptions {
  readonly keep: (length: number, layer: LayerState) => number;
  /** Scores are distances from the head's mean, so that an entry's score depends on all of them. */
  readonly mean?: boolean;
  /** Scores change their sign where the length that `params` is told is odd. */
  readonly signed?: boolean;
  readonly newest?: (kept: number) => number;
}

export function fakeStage({ keep, mean = false, signed = false, newest = (kept) => kept }: FakeOptions): PressStage {
  return {
    needs: { norms: true }, keep: (layer) => Math.min(layer.length, keep(layer.length, layer)), newest, paramCount: 1,
    params: ({ length }) => Float32Array.of(signed ? length % 2 : 0),
    score(recorder, { shape: { kvHeads }, columns, lengths, params, norms, scores }) {
      if (params.shape[0] !== 1) throw new Error(`the fake scorer has 1 parameter, but was given ${params.shape[0]}`);
      recorder.run({ source: KERNEL, slots: [], consts: { COLUMNS: columns, MEAN: mean } }, { lengths, params, norms: norms!, scores }, kvHeads, { rowsPer: 64 });
    },
  };
}

export function fakePress(options: FakeOptions & Partial<Press>): Press {
  return {
    name: "fake(0.5)", positions: "original", stages: [fakeStage(options)], ragged: false, next: ({ prompt, seen, acted }) => (acted === 0 ? Math.max(prompt, seen) : null),
    check: () => {}, ...options,
  };
}

/** The scalar twin of fake_stage.wgsl, for one head. */
export function fakeScores(norms: readonly number[], { mean = false, negated = false }: { mean?: boolean; negated?: boolean } = {}): number[] {
  const average = norms.reduce((sum, norm) => sum + norm, 0) / norms.length;
  return norms.map((norm) => (mean ? Math.abs(norm - average) : norm) * (negated ? -1 : 1));
}

export function layerOf(length: number, changes: Partial<LayerState> = {}): LayerState {
  return { prompt: length, seen: length, length, acted: 0, layer: 0, layers: 2, kvHeads: 3, ...changes };
}

const SHAPE = { heads: 6, kvHeads: 3, headDim: 8 };
const MODEL = { ...SHAPE, frequencies: [1, 0.1] };

/** Run a stage over `norms[head]`, with room for `columns` entries; gives the scores of each head. Scores and notes behind a head are guarded. */
export async function scoresOf(gpu: Gpu, stage: PressStage, norms: readonly (readonly number[])[], columns: number, state: Partial<LayerState> = {}): Promise<number[][]> {
  const [kvHeads, lengths] = [norms.length, norms.map(({ length }) => length)];
  const longest = Math.max(...lengths);
  const layer = layerOf(longest, { kvHeads, ...state });
  const dense = (fill: number): number[] => norms.flatMap((head) => [...head, ...new Array<number>(columns - head.length).fill(fill)]);
  const made = {
    lengths: await put(gpu, [kvHeads], lengths, "u32", "lengths"),
    params: await put(gpu, [Math.max(1, stage.paramCount)], Float32Array.of(...stage.params(layer, MODEL), ...(stage.paramCount === 0 ? [0] : [])), "f32", "params"),
    norms: await put(gpu, [kvHeads, columns], dense(1e9), "f32", "norms"),
    scores: await put(gpu, [kvHeads, columns], dense(-77), "f32", "scores"),
  };
  const scratch = new Map<string, Tensor>();
  const operands: PressOperands = {
    shape: { ...SHAPE, kvHeads, heads: 2 * kvHeads }, layer: 0, columns, ...made,
    scratch(name, shape, dtype) {
      const key = `${name} ${shape.join(" ")} ${dtype}`;
      if (!scratch.has(key)) {
        const size = Math.max(4, 4 * shape.reduce((product, each) => product * each, 1));
        const buffer = gpu.device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST, label: name });
        // What an earlier layer left there must not matter.
        gpu.upload(buffer, 0, new Uint32Array(size / 4).fill(0x7f7f7f7f));
        scratch.set(key, { buffer, offset: 0, shape, dtype, label: name });
      }
      return scratch.get(key)!;
    },
  };
  await dispatch(gpu, (recorder) => stage.score(recorder, operands), { rows: longest });
  const whole = await takeF32(gpu, made.scores);
  release(gpu, ...Object.values(made));
  for (const { buffer } of scratch.values()) buffer.destroy();
  for (const [head, length] of lengths.entries()) {
    const behind = whole.subarray(head * columns + length, (head + 1) * columns).findIndex((score) => score !== -77);
    if (behind >= 0) throw new Error(`head ${head}: a score was written ${behind + 1} behind its ${length} entries`);
  }
  return lengths.map((length, head) => [...whole.subarray(head * columns, head * columns + length)]);
}

/** Indices of the `keep` highest scores, of equal ones the first, ascending. */
export function best(scores: readonly number[], keep: number): number[] {
  return scores.map((score, index) => [score, index] as const).sort(([a, i], [b, j]) => b - a || i - j).slice(0, keep).map(([, index]) => index).sort((a, b) => a - b);
}

/** Indices of the entries that are marked. */
export function marked(scores: readonly number[]): number[] {
  for (const score of scores) if (score !== 0 && score !== 1) throw new Error(`a mark is ${score}`);
  return scores.flatMap((score, index) => (score > 0 ? [index] : []));
}
