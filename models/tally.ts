/** What a measurement has found out about each scored token: sorted in as it comes from the GPU, and refused where it is not a number. */

import { NonFiniteLogitsError } from "../engine/errors.ts";
import { unpackComparison, unpackSurprise } from "../kernels/nll.ts";
import type { PressReport } from "./options.ts";
import type { ComparedScores, CompletePerplexityOptions, Window } from "./perplexity.ts";

/** Collects the scores of windows, which may come in any order. */
export class Tally implements ComparedScores {
  readonly call: string;
  readonly tokensPerWindow: readonly number[];
  readonly nlls: Float32Array;
  readonly hits: Uint8Array;
  readonly klds: Float32Array;
  readonly baseNlls: Float32Array;
  readonly baseHits: Uint8Array;
  readonly sameTop: Uint8Array;
  readonly presses: PressReport[] = [];
  readonly #windows: readonly Window[];
  /** Where each window's scores begin. */
  readonly #starts: number[] = [];
  readonly #prefix: number;
  readonly #compares: boolean;

  constructor(call: string, windows: readonly Window[], { prefixToken }: CompletePerplexityOptions, compares: boolean) {
    this.call = call;
    this.#windows = windows;
    this.#prefix = prefixToken === null ? 0 : 1;
    this.#compares = compares;
    this.tokensPerWindow = windows.map(({ scored, to }) => to - scored);
    let tokens = 0;
    for (const count of this.tokensPerWindow) {
      this.#starts.push(tokens);
      tokens += count;
    }
    const compared = compares ? tokens : 0;
    this.nlls = new Float32Array(tokens);
    this.hits = new Uint8Array(tokens);
    this.klds = new Float32Array(compared);
    this.baseNlls = new Float32Array(compared);
    this.baseHits = new Uint8Array(compared);
    this.sameTop = new Uint8Array(compared);
  }

  /** Token `at` as scored in a window; the words begin at `offset`. One that the window only reads is left out. */
  take(window: number, at: number, words: Uint32Array, offset: number): void {
    const { scored } = this.#windows[window]!;
    if (at < scored) return;
    const to = this.#starts[window]! + at - scored;
    const { nll, hit, broken } = unpackSurprise(words, offset);
    if (broken) this.#refuse("the model", window, at);
    this.nlls[to] = nll;
    this.hits[to] = Number(hit);
    if (!this.#compares) return;
    const { kld, baseNll, baseHit, sameTop, baseBroken } = unpackComparison(words, offset);
    if (baseBroken) this.#refuse("the base model", window, at);
    this.klds[to] = kld;
    this.baseNlls[to] = baseNll;
    this.baseHits[to] = Number(baseHit);
    this.sameTop[to] = Number(sameTop);
  }

  #refuse(who: string, window: number, at: number): never {
    const place = `token ${at - this.#prefix} of the text (window ${window}, position ${at - this.#windows[window]!.from})`;
    throw new NonFiniteLogitsError(
      `${this.call}: ${who} gave logits that are not finite numbers for ${place}: its weights hold NaN or infinite values, or overflow in this ` +
      `format; check the checkpoint or load it with weights "f32"`,
    );
  }
}
