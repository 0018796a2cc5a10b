/**
 * What the engine did, as one typed stream of events: scheduler, cache and loader report here, and metrics, engagement proofs and
 * pictures are drawn from it. Free when nobody listens: `emit` takes a function and does not call it then.
 */

export type TraceEvent =
  | { readonly type: "prefill"; readonly sequences: readonly number[]; readonly rows: number }
  | { readonly type: "decode"; readonly sequences: readonly number[] }
  | { readonly type: "admitted"; readonly sequence: number; readonly promptTokens: number }
  | { readonly type: "preempted"; readonly count: number; readonly total: number }
  | { readonly type: "finished"; readonly sequence: number; readonly reason: string; readonly tokens: number }
  | { readonly type: "speculated"; readonly sequence: number; readonly drafted: number; readonly accepted: number }
  /** A press has acted: `kept` and `evicted` entries of single KV heads of single layers. */
  | {
    readonly type: "pressed"; readonly slot: number; readonly press: string; readonly seen: number; readonly kept: number; readonly evicted: number;
    readonly freedBlocks: number;
  }
  | { readonly type: "kept"; readonly slot: number; readonly layer: number; readonly kept: number; readonly freedBlocks: number };

/** What scheduler, cache, presses and drafts do, as one stream of events. Free while nobody listens. */
export class Trace {
  #listeners = new Set<(event: TraceEvent) => void>();

  /** Listen; the returned function stops listening. */
  on(listener: (event: TraceEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => { this.#listeners.delete(listener); };
  }

  emit(event: () => TraceEvent): void {
    if (this.#listeners.size === 0) return;
    const happened = event();
    for (const listener of this.#listeners) listener(happened);
  }
}
