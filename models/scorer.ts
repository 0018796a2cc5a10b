/** The dispatch that scores samples against the tokens that follow, with its buffers (kernels/nll.ts): what measurements run behind each forward pass. */

import type { Dtype } from "../engine/dtype.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Category } from "../engine/memory.ts";
import { Recorder, type Recording } from "../engine/recorder.ts";
import type { Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import { advance } from "../kernels/attention.ts";
import { nll, NLL_WORDS } from "../kernels/nll.ts";
import type { KvCache } from "./kv_cache.ts";
import type { Runner } from "./runner.ts";

/** Batches of scores on the GPU at a time: how often the host waits for the device. */
export const STEPS = 32;
/** Bytes of another model's logits that may wait in host memory for their upload. */
const UPLOADS = 32 << 20;

interface Buffers { readonly targets: Tensor; readonly out: Tensor; readonly base: Tensor | undefined }

/** The dispatch that scores samples, and its buffers: made for one measurement, closed after it. */
export class Scorer {
  readonly behind: Recording;
  readonly #gpu: Gpu;
  readonly #buffers: Buffers;

  /** `decode`: it ends a decode step, in which each sequence goes on with its target. */
  static async create({ gpu, cache, runner }: { readonly gpu: Gpu; readonly cache: KvCache; readonly runner: Runner }, { against, decode }: { against: boolean; decode: boolean }): Promise<Scorer> {
    const { logits, batch } = runner.scored;
    const [samples, vocab] = logits.shape as [number, number];
    const made: Tensor[] = [];
    const make = async (category: Category, shape: Shape, dtype: Dtype, label: string): Promise<Tensor> => {
      const tensor = await gpu.tensor(category, shape, dtype, label);
      made.push(tensor);
      return tensor;
    };
    try {
      const targets = await make("activations", [STEPS, samples], "u32", "targets");
      const out = await make("logits", [STEPS, samples, against ? NLL_WORDS.against : NLL_WORDS.alone], "u32", "scores");
      const base = against ? await make("logits", [samples, vocab], "f32", "base logits") : undefined;
      const recorder = new Recorder(gpu);
      nll(recorder, { logits, targets, out, batch, base }, { feedback: decode });
      if (decode) advance(recorder, { view: cache.view, batch });
      return new Scorer(gpu, await recorder.finish("score"), { targets, out, base });
    } catch (error) {
      for (const { buffer } of made) gpu.destroyBuffer(buffer);
      throw error;
    }
  }

  private constructor(gpu: Gpu, behind: Recording, buffers: Buffers) {
    this.#gpu = gpu;
    this.behind = behind;
    this.#buffers = buffers;
  }

  /** The ids that samples are scored for in the next steps, at most STEPS; nothing submitted before may still need those of before. */
  expect(steps: readonly (readonly number[])[]): void {
    const width = this.#buffers.targets.shape[1]!;
    const words = new Uint32Array(steps.length * width);
    steps.forEach((ids, step) => { words.set(ids, step * width); });
    this.#gpu.upload(this.#buffers.targets.buffer, 0, words);
  }

  /** Where the base's logits of the samples of the next step stand. */
  get base(): Tensor { return this.#buffers.base!; }

  /** Another model's logits, for `base`. */
  async against(logits: Float32Array): Promise<void> {
    this.#gpu.upload(this.#buffers.base!.buffer, 0, logits);
    await this.#gpu.flush(UPLOADS);
  }

  /** What the steps found, step by step; `word(step, sample)` is where a sample's words begin. */
  async read(steps: number): Promise<{ words: Uint32Array; word: (step: number, sample: number) => number }> {
    const [, samples, width] = this.#buffers.out.shape as [number, number, number];
    const words = await this.#gpu.readU32({ ...this.#buffers.out, shape: [steps, samples, width] });
    return { words, word: (step, sample) => (step * samples + sample) * width };
  }

  close(): void {
    for (const tensor of Object.values(this.#buffers)) if (tensor !== undefined) this.#gpu.destroyBuffer(tensor.buffer);
  }
}
