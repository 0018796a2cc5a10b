/**
 * Stands in for the GPU behind the scheduler: a cache of (position, token) pairs that it writes and reads through mirrored ids and lengths
 * only. Before every sampled token it checks that each table holds what it must, then samples a pure function of the tokens so far.
 * Decode steps run when they are submitted, as on a GPU, and their tokens are committed later. Presses evict what a hash says, and what a
 * sequence samples depends on what they have left, so a sequence that is computed again must be pressed as before.
 */

import * as assert from "uvu/assert";
import { BlockTables, type Gather } from "../../models/block_tables.ts";
import type { CacheTables } from "../../models/cache_tables.ts";
import type { FinishReason } from "../../models/options.ts";
import type { Press } from "../../models/press.ts";
import { Pressing, type PressAct } from "../../models/pressing.ts";
import type { DecodePlan, MixedPlan, Outcome, Scheduler, StepPlan } from "../../models/scheduler.ts";
import { Sequence, type SequenceOptions } from "../../models/sequence.ts";

export const GREEDY: SequenceOptions = {
  maxNewTokens: 8, temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: {}, logprobs: null, press: null,
  seed: 0, ignoreEos: false,
};

/** `family`: sequences of the same family have the same tokens as far as their prompts go. */
export function makeSequence(
  id: number, promptTokens: number, maxNewTokens = 8, { ignoreEos = true, family = id, press = null }: { ignoreEos?: boolean; family?: number; press?: Press | null } = {},
): Sequence {
  const prompt = Array.from({ length: promptTokens }, (_, i) => (family * 31 + i * 7) % 997);
  return new Sequence(id, prompt, { ...GREEDY, maxNewTokens, ignoreEos, press });
}

/** The fake model: next token after `tokens`, when its tables hold those at these positions; the same for any number of tables that hold all. */
function nextToken(tokens: readonly number[], held: readonly (readonly number[])[]): number {
  let gone = 0;
  held.forEach((positions, table) => {
    if (positions.length === tokens.length) return;
    const has = new Set(positions);
    for (let i = 0; i < tokens.length; i++) if (!has.has(i)) gone = (gone * 31 + i * 7 + table + 1) % 1013;
  });
  return tokens.reduce((hash, token) => (hash * 33 + token + 1) % 1009, 7 + gone);
}

/** Indices of the entries that a press which keeps `count` leaves of a table: those whose positions have the highest hash. */
function survivors(held: readonly number[], count: number, seen: number, table: number): number[] {
  const score = (position: number): number => ((position * 7919 + seen * 104_729 + table * 1299 + 1) * 2_654_435_761) % 4_294_967_291;
  return held.map((position, i) => ({ i, score: score(position) })).sort((a, b) => b.score - a.score || a.i - b.i).slice(0, count).map(({ i }) => i).sort((a, b) => a - b);
}

/** What a press leaves of the tables [layers, kvHeads] of a sequence, as indices; null for layers that it leaves alone. */
function pressed(held: readonly (readonly number[])[], { press, next, prompt }: Pressing, layers: number): (number[][] | null)[] {
  const kvHeads = held.length / layers;
  return Array.from({ length: layers }, (_, layer) => {
    const heads = held.slice(layer * kvHeads, (layer + 1) * kvHeads), length = Math.max(...heads.map((head) => head.length));
    const keep = press.stages[0]!.keep({ prompt, seen: next!, length, acted: 0, layer, layers, kvHeads });
    if (keep === "marked") throw new Error("the fake runner does not mark");
    return keep >= length ? null : heads.map((head, h) => survivors(head, Math.min(keep, head.length), next!, layer * kvHeads + h));
  });
}

const isEos = (token: number): boolean => token % 19 === 0;

/** What a sequence must generate, computed alone and with a list of positions for each table as its cache. */
export function expected(sequence: Sequence, maxModelLen: number, layers = 1, kvHeads = 1): { tokens: number[]; reason: FinishReason } {
  const { prompt, options } = sequence, tokens: number[] = [];
  const pressing = options.press === null ? null : new Pressing(options.press, prompt.length);
  const held: number[][] = Array.from({ length: layers * kvHeads }, () => []);
  const read = (): number => {
    const history = [...prompt, ...tokens];
    for (let position = held[0]!.length === 0 ? 0 : Math.max(...held.map((table) => table.at(-1)! + 1)); position < history.length; position++) {
      if (pressing?.next === position) press();
      for (const table of held) table.push(position);
    }
    return nextToken(history, held);
  };
  const press = (): void => {
    pressed(held, pressing!, layers).forEach((heads, layer) => heads?.forEach((kept, head) => {
      const table = layer * kvHeads + head;
      held[table] = kept.map((i) => held[table]![i]!);
    }));
    pressing!.did(actOf(held, layers));
  };
  while (tokens.length < options.maxNewTokens && prompt.length + tokens.length < maxModelLen) {
    tokens.push(read());
    if (isEos(tokens.at(-1)!) && !options.ignoreEos) return { tokens, reason: "stop" };
  }
  return { tokens, reason: "length" };
}

function actOf(held: readonly (readonly unknown[])[], layers: number): PressAct {
  const kvHeads = held.length / layers;
  const kept = Array.from({ length: layers }, (_, layer) => held.slice(layer * kvHeads, (layer + 1) * kvHeads).map(({ length }) => length));
  return { kept, evicted: 0, freedBytes: 0, ms: 0 };
}

function outcome(sequence: Sequence, token: number): Outcome {
  return { token, finish: isEos(token) && !sequence.options.ignoreEos ? "stop" : null };
}

export class FakeRunner {
  readonly tables: CacheTables;
  presses = 0;
  /** Steps whose tokens may be outstanding. */
  depth = 4;
  prefilled = 0;
  readonly #memory: { position: number; token: number }[] = [];
  readonly #ids: Uint32Array;
  readonly #lengths: Uint32Array;

  constructor(tables: CacheTables) {
    this.tables = tables;
    this.#ids = new Uint32Array(tables.ids.length);
    this.#lengths = new Uint32Array(tables.lengths.length);
  }

  /** What KvCache.sync does. */
  sync(): void {
    this.#syncTables();
    const lengths = this.tables.takeDirtyLengths();
    if (lengths) this.#lengths.set(this.tables.lengths.subarray(...lengths), lengths[0]);
    assert.equal(this.#lengths, this.tables.lengths);
    const copies = this.tables instanceof BlockTables ? this.tables.takeCopies() : null;
    if (copies !== null) this.gather(copies);
  }

  mixed(plan: MixedPlan): Outcome[] {
    this.sync();
    const outcomes: Outcome[] = [];
    for (const { sequence, start, count, sample } of plan.parts) {
      assert.is(start, this.tables.position(sequence.slot));
      const history = Array.from({ length: start + count }, (_, i) => sequence.tokenAt(i));
      for (let i = start; i < start + count; i++) this.#write(sequence.slot, i, history[i]!);
      this.prefilled += count;
      if (sample) outcomes.push(outcome(sequence, this.#sample(sequence, history)));
    }
    this.#lengths.set(this.tables.lengths); // a mixed step leaves the lengths to the host
    return outcomes;
  }

  /** The whole of a decode plan. `meanwhile` runs while steps are in flight. Returns how many steps were submitted. */
  decode(scheduler: Scheduler, plan: DecodePlan, meanwhile: () => void = () => {}): number {
    this.sync();
    const rows = plan.sequences.map((sequence) => {
      assert.is(sequence.computed, sequence.tokens - 1);
      const { slot, pressing } = sequence; // as they are now: it may end while steps are in flight
      return { slot, pressing, history: [...sequence.prompt, ...sequence.generated] };
    });
    let submitted = 0;
    const step = (): number[] => {
      this.#syncTables();
      submitted++;
      return rows.map(({ slot, pressing, history }) => {
        this.#write(slot, history.length - 1, history.at(-1)!);
        history.push(this.#sample({ slot, pressing }, history));
        return history.at(-1)!;
      });
    };
    const inFlight = [step()];
    while (inFlight.length > 0) {
      while (inFlight.length < this.depth && scheduler.extend(plan, inFlight.length)) inFlight.push(step());
      meanwhile();
      const tokens = inFlight.shift()!;
      scheduler.commitDecode(plan, tokens.map((token, i) => outcome(plan.sequences[i]!, token)));
    }
    return submitted;
  }

  run(scheduler: Scheduler, plan: StepPlan): void {
    if (plan.kind === "decode") this.decode(scheduler, plan);
    else scheduler.commitMixed(plan, this.mixed(plan));
  }

  /** What Presser.act does, for every sequence whose press is due. `blocked` runs when there is no room, and nobody who could give way. */
  press(scheduler: Scheduler, blocked: () => void = () => { throw new Error("no room for a press"); }): void {
    const tables = this.tables as BlockTables;
    for (const sequence of scheduler.duePresses()) {
      const { pressing, slot } = sequence;
      if (slot < 0) continue;
      this.sync();
      const own = this.#tablesOf(slot), positions = own.map((table) => this.#held(table).map(({ position }) => position));
      const plans = pressed(positions, pressing!, tables.layers).flatMap((kept, layer) => (kept === null ? [] : [{ layer, kept, counts: kept.map(({ length }) => length) }]));
      while (!tables.canShrink(slot, plans)) if (!scheduler.giveWay(sequence)) blocked();
      for (const { layer, kept, counts } of plans) {
        const values = kept.map((indices, head) => indices.map((i) => this.#held(own[layer * tables.kvHeads + head]!)[i]!));
        const fresh = tables.shrink(slot, layer, counts, counts.map(() => 0))!;
        fresh.forEach((blocks, head) => values[head]!.forEach((value, i) => {
          this.#memory[blocks[Math.floor(i / tables.blockSize)]! * tables.blockSize + i % tables.blockSize] = value;
        }));
      }
      this.sync();
      pressing!.did(actOf(own.map((table) => this.#held(table)), tables.layers));
      this.presses++;
    }
  }

  gather({ source, target }: Gather): void {
    const values = Array.from(source, (entry) => this.#memory[entry]!);
    target.forEach((entry, i) => { this.#memory[entry] = values[i]!; });
  }

  #syncTables(): void {
    const ids = this.tables.takeDirtyIds();
    if (ids) this.#ids.set(this.tables.ids.subarray(...ids), ids[0]);
  }

  #tablesOf(slot: number): number[] {
    const count = this.tables.layers * this.tables.kvHeads;
    return Array.from({ length: count }, (_, i) => slot * count + i);
  }

  #entry(table: number, entry: number): number {
    const { tables } = this;
    if (!(tables instanceof BlockTables)) return this.#ids[table]! + entry;
    return this.#ids[table * tables.tableWidth + Math.floor(entry / tables.blockSize)]! * tables.blockSize + entry % tables.blockSize;
  }

  #write(slot: number, position: number, token: number): void {
    for (const table of this.#tablesOf(slot)) {
      this.#memory[this.#entry(table, this.#lengths[table]!)] = { position, token };
      this.#lengths[table]! += 1;
    }
  }

  #held(table: number): { position: number; token: number }[] {
    return Array.from({ length: this.#lengths[table]! }, (_, i) => this.#memory[this.#entry(table, i)]!);
  }

  /** The token after `history`, once every table has been found to hold it: all of it, or with a press some of it in order. */
  #sample({ slot, pressing }: Pick<Sequence, "slot" | "pressing">, history: readonly number[]): number {
    const held = this.#tablesOf(slot).map((table) => {
      const entries = this.#held(table);
      entries.forEach(({ position, token }, i) => {
        assert.is(token, history[position], `table ${table} entry ${i} holds another token than position ${position}`);
        assert.ok(i === 0 || position > entries[i - 1]!.position);
      });
      assert.is(entries.at(-1)!.position, history.length - 1);
      if (pressing === null) assert.is(entries.length, history.length);
      return entries.map(({ position }) => position);
    });
    return nextToken(history, held);
  }
}
