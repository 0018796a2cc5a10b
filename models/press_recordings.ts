/**
 * The dispatches of presses, recorded once per stage and layer: show the press what it needs, let it score and select, and move the survivors.
 * What differs from one act to the next stands in the buffers of models/press_buffers.ts.
 */

import type { Gpu } from "../engine/gpu.ts";
import { Recorder, type Recording } from "../engine/recorder.ts";
import type { Shape } from "../engine/shape.ts";
import type { Tensor } from "../engine/tensor.ts";
import type { KvView } from "../kernels/attention.ts";
import { denseEntries, denseLengths, denseNotes, moveKept, rerotate } from "../kernels/evict.ts";
import { compact, threshold, thresholdMarked } from "../kernels/select.ts";
import type { ModelConfig } from "./config.ts";
import type { PressOperands, PressStage } from "./press.ts";
import { ofLayer, type pressBuffers } from "./press_buffers.ts";
import type { BufferShape } from "./sizes.ts";

export type Buffers = ReturnType<typeof pressBuffers>;
export type Made<T> = { readonly [K in keyof T]: T[K] extends null ? null : Tensor | Extract<T[K], null> };
/** The buffers of presses, made. */
export interface PressPlace {
  readonly buffers: Buffers;
  readonly always: Made<Buffers["always"]>;
  readonly shown: Made<Buffers["shown"]>;
  readonly captured: Made<Buffers["captured"]>;
}

/** `counted` scores and selects as many as `keep` says, `marked` those that score above 0; `moves` moves the survivors, `rerotates` also turns their keys. */
export type PressPart = "counted" | "marked" | "moves" | "rerotates";

type Body = (recorder: Recorder, scratch: PressOperands["scratch"]) => void;

export class PressRecordings {
  readonly #gpu: Gpu;
  readonly #config: ModelConfig;
  readonly #view: KvView;
  readonly #cosSin: Tensor;
  readonly #place: PressPlace;
  readonly #scratch = new Map<string, Tensor>();
  readonly #made = new Map<PressStage, Partial<Record<PressPart, Promise<readonly Recording[]>>>>();

  constructor(gpu: Gpu, config: ModelConfig, view: KvView, cosSin: Tensor, place: PressPlace) {
    this.#gpu = gpu;
    this.#config = config;
    this.#view = view;
    this.#cosSin = cosSin;
    this.#place = place;
  }

  /** One part of a stage, for each layer. */
  of(stage: PressStage, part: PressPart): Promise<readonly Recording[]> {
    let parts = this.#made.get(stage);
    if (parts === undefined) this.#made.set(stage, parts = {});
    return parts[part] ??= this.#record(stage, part);
  }

  async #record(stage: PressStage, part: PressPart): Promise<readonly Recording[]> {
    const recordings: Recording[] = [];
    for (let layer = 0; layer < this.#config.layers; layer++) {
      const body = part === "counted" || part === "marked" ? this.#scores(stage, layer, part) : this.#moves(layer, part);
      recordings.push(await this.#compile(`press, ${part}, layer ${layer}`, body));
    }
    return recordings;
  }

  #scores(stage: PressStage, layer: number, part: "counted" | "marked"): Body {
    const { shown, always: { slot, queryCount, keep, params } } = this.#place, view = this.#view;
    const { kvHeads, headDim, heads } = this.#config, { needs } = stage;
    const selection = this.#selection(layer), { lengths, scores } = selection;
    const { columns } = this.#place.buffers;
    const operands: Omit<PressOperands, "scratch"> = {
      shape: { heads, kvHeads, headDim }, layer, columns, lengths, scores, params: ofLayer(params, layer, [Math.max(1, stage.paramCount)]),
      keys: needs.keys ? shown.keys! : undefined, values: needs.values ? shown.values! : undefined, norms: needs.norms ? shown.norms! : undefined,
      attention: needs.attention ? shown.attention! : undefined, positions: needs.attention ? shown.positions! : undefined,
      queries: needs.queries === undefined ? undefined : ofLayer(shown.queries!, layer, [needs.queries, heads * headDim]),
      queryStats: needs.queryStats === undefined ? undefined : ofLayer(shown.queryStats!, layer, [heads, 2 * headDim + headDim * headDim]),
      queryCount: needs.queryStats === undefined ? undefined : queryCount,
    };
    return (recorder, scratch) => {
      denseLengths(recorder, { view, slot, out: lengths }, layer);
      if (operands.keys) denseEntries(recorder, { view, slot, which: "k", out: operands.keys }, layer);
      if (operands.values) denseEntries(recorder, { view, slot, which: "v", out: operands.values }, layer);
      const { norms, attention, positions } = operands;
      if (norms || attention) denseNotes(recorder, { view, slot, norms, attention, positions }, layer);
      stage.score(recorder, { ...operands, scratch });
      if (part === "marked") thresholdMarked(recorder, selection);
      else threshold(recorder, { ...selection, keep: ofLayer(keep, layer, [kvHeads]) });
    };
  }

  #moves(layer: number, part: "moves" | "rerotates"): Body {
    const { always: { slot, order, fresh: blocks } } = this.#place, view = this.#view;
    const selection = this.#selection(layer), { cut } = selection;
    const fresh = ofLayer(blocks, layer, [this.#config.kvHeads, view.tableBlocks]);
    return (recorder) => {
      compact(recorder, { ...selection, order });
      moveKept(recorder, { view, slot, order, cut, fresh }, layer);
      if (part === "rerotates") rerotate(recorder, { view, cosSin: this.#cosSin, order, cut, fresh }, layer);
    };
  }

  #selection(layer: number): { readonly scores: Tensor; readonly lengths: Tensor; readonly cut: Tensor } {
    const { always, buffers: { columns } } = this.#place, { kvHeads } = this.#config;
    return {
      scores: ofLayer(always.scores, layer, [kvHeads, columns]), lengths: ofLayer(always.lengths, layer, [kvHeads]), cut: ofLayer(always.cut, layer, [kvHeads, 4]),
    };
  }

  /** Recorded once to learn which scratch tensors are asked for, and once with them. */
  async #compile(label: string, body: Body): Promise<Recording> {
    const asked = new Map<string, BufferShape>();
    const keyOf = (name: string, shape: Shape, dtype: string): string => `${name} ${dtype} ${shape.join()}`;
    body(new Recorder(this.#gpu), (name, shape, dtype) => {
      asked.set(keyOf(name, shape, dtype), { category: "activations", label: `press: ${name}`, shape, dtype });
      return { ...this.#place.always.slot, shape, dtype };
    });
    for (const [key, { category, shape, dtype, label: name }] of asked) {
      if (!this.#scratch.has(key)) this.#scratch.set(key, await this.#gpu.tensor(category, shape, dtype, name));
    }
    const recorder = new Recorder(this.#gpu);
    body(recorder, (name, shape, dtype) => this.#scratch.get(keyOf(name, shape, dtype))!);
    return recorder.finish(label);
  }

  /** Gives the scratch tensors back. */
  close(): void {
    for (const { buffer } of this.#scratch.values()) this.#gpu.destroyBuffer(buffer);
    this.#scratch.clear();
  }
}
