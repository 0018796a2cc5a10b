/**
 * Where one sequence stands with its press: when it acts next, what it has done, and how far positions have moved. No GPU in here: the
 * scheduler reads it, models/presser.ts does the work and notes it down.
 */

import type { LayerState, Press, PressModel } from "./press.ts";
import type { PressReport } from "./options.ts";

/** What a press did when it acted once. */
export interface PressAct {
  /** [layers, kvHeads] entries left. */
  readonly kept: readonly (readonly number[])[];
  readonly evicted: number;
  readonly freedBytes: number;
  readonly ms: number;
}

export class Pressing {
  readonly press: Press;
  /** Tokens before which nothing is generated. */
  readonly prompt: number;
  #acted = 0;
  #seenAtAct = 0;
  #shift = 0;
  #next: number | null;
  #evicted = 0;
  #freedBytes = 0;
  #ms = 0;
  #kept: readonly (readonly number[])[] = [];

  constructor(press: Press, prompt: number) {
    this.press = press;
    this.prompt = prompt;
    this.#next = this.#after(0, 0);
  }

  /** Tokens through the model at which it acts next; null: never. */
  get next(): number | null { return this.#next; }
  get acted(): number { return this.#acted; }
  /** What to take from a token's place in the text for its position. */
  get shift(): number { return this.#shift; }

  /** The first position whose query, or whose attention to others, the press must be shown before it acts next; Infinity: none. */
  get firstQuery(): number {
    if (this.#next === null) return Infinity;
    return Math.min(...this.press.stages.map(({ needs: { queries, queryStats, attention } }) => (
      queryStats !== undefined || attention === true ? 0 : queries === undefined ? Infinity : Math.max(0, this.#next! - queries)
    )));
  }

  /** Statistics of queries begin here: behind the sinks, or where the press acted last. */
  statsFrom(sinks: number): number {
    return this.#acted === 0 ? sinks : this.#seenAtAct;
  }

  layerState(layer: number, layers: number, kvHeads: number, length: number): LayerState {
    return { prompt: this.prompt, seen: this.#next ?? 0, length, acted: this.#acted, layer, layers, kvHeads };
  }

  /** Throws UsageError where the press could not act on a prompt like this one: better before anything runs. */
  check({ layers, kvHeads, ...model }: PressModel & { readonly layers: number }): void {
    if (this.#next === null) return;
    let length = this.#next;
    for (const stage of this.press.stages) {
      const state = this.layerState(0, layers, kvHeads, length);
      const keep = stage.keep(state);
      if (keep === "marked" || keep < length) stage.params(state, { kvHeads, ...model });
      if (keep !== "marked") length = Math.min(length, keep);
    }
  }

  /** The press has acted, at `next`. */
  did({ kept, evicted, freedBytes, ms }: PressAct): void {
    const seen = this.#next!;
    const length = Math.max(0, ...kept.flat());
    this.#acted++;
    this.#seenAtAct = seen;
    this.#kept = kept;
    this.#evicted += evicted;
    this.#freedBytes += freedBytes;
    this.#ms += ms;
    if (this.press.positions !== "original") this.#shift = seen - length;
    this.#next = this.#after(seen, length);
  }

  /** The sequence was pushed out and is computed anew: the press will do the same again. */
  reset(): void {
    this.#acted = this.#seenAtAct = this.#shift = this.#evicted = this.#freedBytes = this.#ms = 0;
    this.#kept = [];
    this.#next = this.#after(0, 0);
  }

  report(): PressReport {
    return {
      name: this.press.name, events: this.#acted, evicted: this.#evicted, kept: this.#kept, seen: this.#seenAtAct, freedBytes: this.#freedBytes, ms: this.#ms,
    };
  }

  #after(seen: number, length: number): number | null {
    const next = this.press.next({ prompt: this.prompt, seen, length, acted: this.#acted });
    if (next === null) return null;
    // A press that asked to act again on what it has just left would never let the sequence go on.
    const least = this.#acted === 0 ? 1 : seen + 1;
    if (!Number.isInteger(next) || next < seen) throw new Error(`press ${this.press.name}: next() gave ${next} after ${seen} tokens`);
    return Math.max(next, least);
  }
}
