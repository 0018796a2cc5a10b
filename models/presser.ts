/**
 * Presses a sequence: shows the press what it needs, lets it score, selects, and moves the survivors into fresh blocks, all on the GPU. The
 * host knows how many entries each head keeps, not which; it decides about blocks layer by layer, so that a layer's fresh blocks may be
 * those that the layer before has just left. Runs while no step is in flight: block tables and lengths are the host's then.
 */

import { OutOfMemoryError, UsageError } from "../engine/errors.ts";
import type { Gpu } from "../engine/gpu.ts";
import type { Recording } from "../engine/recorder.ts";
import type { Tensor } from "../engine/tensor.ts";
import { noteWords } from "../kernels/kv_notes.ts";
import { BlockTables } from "./block_tables.ts";
import type { KvCache } from "./kv_cache.ts";
import type { ModelConfig } from "./config.ts";
import { needsOf, NO_NEEDS, type LayerState, type Press, type PressModel, type PressStage, type ShownNeeds } from "./press.ts";
import { CONTROL_WORDS, ofLayer, pressBuffers } from "./press_buffers.ts";
import { PressRecordings, type Made, type PressPlace } from "./press_recordings.ts";
import type { PressAct, Pressing } from "./pressing.ts";
import { frequenciesOf } from "./rope.ts";
import type { Runner } from "./runner.ts";
import type { BufferShape } from "./sizes.ts";
import type { Capture } from "./step.ts";

export class Presser {
  readonly #gpu: Gpu;
  readonly #config: ModelConfig;
  readonly #model: PressModel;
  readonly #cache: KvCache;
  readonly #runner: Runner;
  readonly #slots: number;
  readonly #maxModelLen: number;
  #needs: ShownNeeds = NO_NEEDS;
  #place: PressPlace | null = null;
  #recordings: PressRecordings | null = null;
  /** Slots whose control row is not zero. */
  readonly #watched = new Set<number>();

  constructor(gpu: Gpu, config: ModelConfig, cache: KvCache, runner: Runner, { slots, maxModelLen }: { slots: number; maxModelLen: number }) {
    this.#gpu = gpu;
    this.#config = config;
    this.#model = { heads: config.heads, kvHeads: config.kvHeads, headDim: config.headDim, frequencies: frequenciesOf(config) };
    this.#cache = cache;
    this.#runner = runner;
    this.#slots = slots;
    this.#maxModelLen = maxModelLen;
  }

  /** Throws UsageError for a cache that cannot give single entries back, and for a press that does not fit the model. */
  check(press: Press): void {
    const { tables, view } = this.#cache;
    if (!(tables instanceof BlockTables)) {
      throw new UsageError(`press ${press.name}: a contiguous cache cannot give memory back: take kvLayout { name: "paged", blockSize: 16 }`);
    }
    if (view.k.format === "kivi4") {
      throw new UsageError(`press ${press.name}: kivi4 quantizes keys by blocks, and tokens that an eviction leaves of several blocks fit into none: take another kv format for keys`);
    }
    if (press.ragged && press.positions !== "original") {
      throw new UsageError(`press ${press.name}: heads and layers keep different numbers of entries, so there is no one position for the next token: ` +
        `take positions "original", or a press that keeps as many everywhere`);
    }
    const sinks = new Set(press.stages.flatMap(({ needs: { queryStats } }) => (queryStats === undefined ? [] : [queryStats.sinks])));
    if (sinks.size > 1) throw new UsageError(`press ${press.name}: its stages want statistics of queries behind different sinks (${[...sinks].join(", ")})`);
    press.check(this.#config);
  }

  /** Throws UsageError where the press of a sequence cannot act on it when its time comes. */
  checkPrompt(pressing: Pressing): void {
    pressing.check({ ...this.#model, layers: this.#config.layers });
  }

  /** Whether `provide` has anything to make for the press. It must not while sequences run. */
  provides(press: Press): boolean {
    return this.#place !== null && JSON.stringify(needsOf(press, this.#needs)) === JSON.stringify(this.#needs);
  }

  /** Make what the press needs. True where entries written so far lack notes that it wants: nobody may start behind them. */
  async provide(press: Press): Promise<boolean> {
    if (this.provides(press)) return false;
    const before = this.#needs, needs = needsOf(press, before);
    this.close();
    this.#needs = needs;
    const tables = this.#cache.tables as BlockTables;
    const buffers = pressBuffers(this.#config, needs, {
      slots: this.#slots, maxModelLen: this.#maxModelLen, tableBlocks: tables.maxBlocksPerTable, entries: tables.total * tables.blockSize, rows: this.#runner.rows,
    });
    const { always, shown, captured, notes } = buffers;
    this.#place = { buffers, always: await this.#makeAll(always), shown: await this.#makeAll(shown), captured: await this.#makeAll(captured) };
    this.#gpu.upload(this.#place.always.control.buffer, 0, new Uint32Array(this.#slots * CONTROL_WORDS));
    this.#watched.clear();
    const noted = before.norms !== needs.norms || before.attention !== needs.attention;
    if (noted) this.#cache.setNotes(notes === null ? null : { tensor: await this.#make(notes), ...noteWords(needs) });
    this.#recordings = new PressRecordings(this.#gpu, this.#config, this.#cache.view, this.#runner.cosSin, this.#place);
    this.#runner.capture = this.#captureOf(this.#place);
    this.#runner.forget();
    return noted;
  }

  /** Whether steps of these sequences must be captured for their presses. */
  captures(sequences: readonly { readonly pressing: Pressing | null }[]): boolean {
    return sequences.some(({ pressing }) => pressing !== null && pressing.firstQuery < Infinity);
  }

  /** Say what of the sequence in `slot` is to be captured until its press acts next; null: nothing. */
  watch(slot: number, pressing: Pressing | null): void {
    if (this.#place === null) return;
    const row = new Uint32Array(CONTROL_WORDS);
    if (pressing !== null && pressing.next !== null) {
      const queries = Math.max(0, ...pressing.press.stages.map(({ needs }) => needs.queries ?? 0));
      const at = pressing.next - pressing.shift;
      if (queries > 0) row.set([Math.max(0, at - queries), Math.min(at, queries)], 0);
      const stats = pressing.press.stages.find(({ needs }) => needs.queryStats !== undefined)?.needs.queryStats;
      if (stats !== undefined) row.set([Math.min(at, pressing.statsFrom(stats.sinks) - pressing.shift), at], 2);
      row[4] = pressing.press.stages.some(({ needs }) => needs.attention === true) ? 1 : 0;
    }
    const wanted = row.some((word) => word !== 0);
    if (!wanted && !this.#watched.has(slot)) return;
    this.#gpu.upload(this.#place.always.control.buffer, slot * CONTROL_WORDS * 4, row);
    if (wanted) this.#watched.add(slot);
    else this.#watched.delete(slot);
  }

  /**
   * Let the press act on the sequence in `slot`. `giveWay` frees blocks of somebody else when there are too few to move into, or says that
   * there is nobody. Throws OutOfMemoryError then. `pressing` has been told when this returns. A sequence that ends meanwhile, and gives its slot
   * back, is left as it is.
   */
  async act(slot: number, pressing: Pressing, giveWay: () => boolean): Promise<void> {
    const tables = this.#cache.tables as BlockTables;
    const { press } = pressing;
    const started = performance.now(), before = tables.entriesOf(slot), blocks = blocksHeld(tables, slot);
    await this.#cache.sync(); // the host has counted the last rows of the prompt, the GPU not yet
    for (const stage of press.stages) if (tables.isOpen(slot)) await this.#run(slot, pressing, stage, giveWay);
    await this.#gpu.sync();
    if (!tables.isOpen(slot)) return;
    const { layers, kvHeads } = tables;
    const kept = Array.from({ length: layers }, (_, layer) => Array.from({ length: kvHeads }, (_, head) => tables.lengthOf(slot, layer, head)));
    const freedBlocks = blocks - blocksHeld(tables, slot);
    const act: PressAct = { kept, evicted: before - tables.entriesOf(slot), freedBytes: freedBlocks * this.#cache.blockBytes, ms: performance.now() - started };
    this.#gpu.trace.emit(() => ({ type: "pressed", slot, press: press.name, seen: pressing.next!, kept: tables.entriesOf(slot), evicted: act.evicted, freedBlocks }));
    pressing.did(act);
    this.watch(slot, pressing);
  }

  async #run(slot: number, pressing: Pressing, stage: PressStage, giveWay: () => boolean): Promise<void> {
    const place = this.#place!, { always } = place;
    const tables = this.#cache.tables as BlockTables;
    const { layers, kvHeads } = tables;
    const plans: { layer: number; state: LayerState; lengths: number[]; counts: number[]; marked: boolean }[] = [];
    for (let layer = 0; layer < layers; layer++) {
      const lengths = Array.from({ length: kvHeads }, (_, head) => tables.lengthOf(slot, layer, head));
      const length = Math.max(...lengths), state = pressing.layerState(layer, layers, kvHeads, length);
      const keep = stage.keep(state);
      if (keep === "marked") plans.push({ layer, state, lengths, counts: [], marked: true });
      else if (!Number.isInteger(keep) || keep < 0) throw new Error(`press ${pressing.press.name}: keep() gave ${String(keep)} for layer ${layer}`);
      else if (keep < length) plans.push({ layer, state, lengths, counts: lengths.map((count) => Math.min(count, keep)), marked: false });
    }
    if (plans.length === 0) return;
    const longest = Math.max(...plans.map(({ state }) => state.length));
    const recordings = this.#recordings!, turns = pressing.press.positions === "rerotate";
    const [counted, marked, moves] = await Promise.all([
      plans.some((plan) => !plan.marked) ? recordings.of(stage, "counted") : null, plans.some((plan) => plan.marked) ? recordings.of(stage, "marked") : null,
      recordings.of(stage, turns ? "rerotates" : "moves"),
    ]);
    if (!tables.isOpen(slot)) return;

    this.#gpu.upload(always.slot.buffer, always.slot.offset, Uint32Array.of(slot));
    this.#gpu.upload(always.queryCount.buffer, always.queryCount.offset, Uint32Array.of(this.#queriesSeen(pressing, stage)));
    this.#uploadRows(always.keep, plans.map(({ layer, counts }) => [layer, Uint32Array.from(counts)]));
    this.#uploadRows(always.params, plans.map(({ layer, state }) => [layer, stage.params(state, this.#model)]));
    this.#submit(plans.map((plan) => (plan.marked ? marked! : counted!)[plan.layer]!), longest, (encoder) => {
      this.#showCaptured(encoder, slot, pressing, stage);
    });

    if (plans.some(({ marked }) => marked)) {
      const cut = await this.#gpu.readU32(always.cut), stride = always.cut.shape[1]!;
      for (const plan of plans) if (plan.marked) plan.counts = plan.lengths.map((_, head) => cut[plan.layer * stride + 4 * head + 2]!);
    }
    if (!tables.isOpen(slot)) return;
    while (!tables.canShrink(slot, plans)) {
      if (giveWay()) continue;
      throw new OutOfMemoryError(`press ${pressing.press.name}: the KV cache has no blocks for the entries that it keeps: raise kvMemory`);
    }
    const fresh = plans.map(({ layer, counts }): [number, Uint32Array] => {
      const blocks = tables.shrink(slot, layer, counts, counts.map((count) => Math.min(count, stage.newest(count))));
      if (blocks === null) throw new Error("the pool had room for the survivors of a press, and has none");
      const words = new Uint32Array(kvHeads * tables.maxBlocksPerTable);
      blocks.forEach((ids, head) => { words.set(ids, head * tables.maxBlocksPerTable); });
      return [layer, words];
    });
    this.#uploadRows(always.fresh, fresh);
    this.#submit(plans.map(({ layer }) => moves[layer]!), longest);
    await this.#cache.sync();
  }

  /** Tokens in the statistics of queries. */
  #queriesSeen(pressing: Pressing, { needs: { queryStats } }: PressStage): number {
    return queryStats === undefined ? 0 : Math.max(0, pressing.next! - pressing.statsFrom(queryStats.sinks));
  }

  /** Copy what was captured of this sequence to where the press reads it. */
  #showCaptured(encoder: GPUCommandEncoder, slot: number, pressing: Pressing, { needs }: PressStage): void {
    const { shown, captured, buffers: { ring } } = this.#place!;
    const { layers, heads, headDim } = this.#config;
    const copy = (source: Tensor, sourceWord: number, target: Tensor, targetWord: number, words: number): void => {
      encoder.copyBufferToBuffer(source.buffer, source.offset + sourceWord * 4, target.buffer, target.offset + targetWord * 4, words * 4);
    };
    for (let layer = 0; layer < layers; layer++) {
      if (needs.queries !== undefined) {
        const from = captured.queries!, to = shown.queries!, width = heads * headDim;
        const base = layer * from.shape[1]! + slot * ring * width, at = layer * to.shape[1]!;
        const end = pressing.next! - pressing.shift;
        if (pressing.shift > 0 && end < needs.queries) {
          throw new UsageError(`press ${pressing.press.name}: it needs the last ${needs.queries} queries, but positions begin anew after each act: let it act less often`);
        }
        // Rows lie in a ring by their position; the first of a sequence shorter than the window mean nothing.
        for (let i = Math.max(0, needs.queries - end); i < needs.queries;) {
          const row = (end - needs.queries + i) % ring, run = Math.min(ring - row, needs.queries - i);
          copy(from, base + row * width, to, at + i * width, run * width);
          i += run;
        }
      }
      if (needs.queryStats !== undefined) {
        const from = captured.queryStats!, to = shown.queryStats!, words = heads * (2 * headDim + headDim * headDim);
        copy(from, layer * from.shape[1]! + slot * words, to, layer * to.shape[1]!, words);
      }
    }
  }

  #submit(recordings: readonly Recording[], longest: number, before?: (encoder: GPUCommandEncoder) => void): void {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: "press" });
    before?.(encoder);
    const pass = encoder.beginComputePass({ label: "press" });
    for (const recording of recordings) recording.encode(pass, { rows: longest, tiles: 0 });
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  #uploadRows(tensor: Tensor, rows: readonly (readonly [layer: number, values: Uint32Array | Float32Array])[]): void {
    for (const [layer, values] of rows) if (values.length > 0) this.#gpu.upload(tensor.buffer, tensor.offset + layer * tensor.shape[1]! * 4, values);
  }

  #captureOf({ always: { control }, captured: { queries, queryStats, observed }, buffers: { ring } }: PressPlace): Capture | null {
    if (queries === null && queryStats === null && observed === null) return null;
    const { heads, headDim } = this.#config;
    return {
      control, observed,
      queries: queries && ((layer) => ofLayer(queries, layer, [this.#slots, ring, heads * headDim])),
      queryStats: queryStats && ((layer) => ofLayer(queryStats, layer, [this.#slots, heads, 2 * headDim + headDim * headDim])),
    };
  }

  #make({ category, shape, dtype, label }: BufferShape): Promise<Tensor> {
    return this.#gpu.tensor(category, shape, dtype, label);
  }

  async #makeAll<T extends Readonly<Record<string, BufferShape | null>>>(shapes: T): Promise<Made<T>> {
    const made: Record<string, Tensor | null> = {};
    for (const [name, shape] of Object.entries(shapes)) made[name] = shape === null ? null : await this.#make(shape);
    return made as Made<T>;
  }

  /** Gives everything back but the notes, which are the cache's. */
  close(): void {
    const place = this.#place;
    if (place === null) return;
    const groups: readonly Readonly<Record<string, Tensor | null>>[] = [place.always, place.shown, place.captured];
    for (const tensor of groups.flatMap((group) => Object.values(group))) if (tensor !== null) this.#gpu.destroyBuffer(tensor.buffer);
    this.#recordings?.close();
    this.#recordings = null;
    this.#place = null;
  }
}

/** Blocks that hold entries of a slot: what is reserved behind them is not counted. */
function blocksHeld(tables: BlockTables, slot: number): number {
  let blocks = 0;
  for (let layer = 0; layer < tables.layers; layer++) {
    for (let head = 0; head < tables.kvHeads; head++) blocks += Math.ceil(tables.lengthOf(slot, layer, head) / tables.blockSize);
  }
  return blocks;
}
