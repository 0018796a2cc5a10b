/** Seeded random weights made on the GPU (`random:` models). */

import { f32, wgsl, type WgslFile } from "../engine/kernel.ts";
import type { Recorder } from "../engine/recorder.ts";
import { byteLength, type Tensor } from "../engine/tensor.ts";

const file = (name: string): WgslFile => wgsl(new URL(name, import.meta.url));
const RANDOM = file("./random.wgsl");
const PACK = { f32: file("./formats/pack_f32.wgsl"), f16: file("./formats/pack_f16.wgsl"), bf16: file("./formats/pack_bf16.wgsl") } as const;

/** What transformers initialises matrices with. */
export const RANDOM_SCALE = 0.02;

/** weight ← normal(0, scale²) in its own format; the same seed gives the same numbers. */
export function randomNormal(recorder: Recorder, weight: Tensor, { seed, scale }: { seed: number; scale: number }): void {
  const words = Math.ceil(byteLength(weight) / 4);
  const groups = Math.ceil(words / 64);
  recorder.run({
    source: RANDOM, slots: [PACK[weight.dtype as keyof typeof PACK]], consts: { WORDS: words, SEED: seed >>> 0, SCALE: f32(scale) },
  }, { words: weight }, Math.min(groups, 65_535), Math.ceil(groups / 65_535));
}
