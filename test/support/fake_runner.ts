/**
 * Stands in for the GPU behind the scheduler: a cache of (position, token) pairs that it writes and reads through mirrored ids and lengths
 * only. Before every sampled token it checks that each table holds what it must, then samples a pure function of the tokens so far.
 * Decode steps run when they are submitted, as on a GPU, and their tokens are committed later.
 */

import * as assert from "uvu/assert";
import { BlockTables, type Gather } from "../../models/block_tables.ts";
import type { CacheTables } from "../../models/cache_tables.ts";
import type { FinishReason } from "../../models/options.ts";
import type { DecodePlan, MixedPlan, Outcome, Scheduler, StepPlan } from "../../models/scheduler.ts";
import { Sequence, type SequenceOptions } from "../../models/sequence.ts";

export const GREEDY: SequenceOptions = {
  maxNewTokens: 8, temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: {}, logprobs: null,
  seed: 0, ignoreEos: false,
};

/** `family`: sequences of the same family have the same tokens as far as their prompts go. */
export function makeSequence(id: number, promptTokens: number, maxNewTokens = 8, { ignoreEos = true, family = id }: { ignoreEos?: boolean; family?: number } = {}): Sequence {
  const prompt = Array.from({ length: promptTokens }, (_, i) => (family * 31 + i * 7) % 997);
  return new Sequence(id, prompt, { ...GREEDY, maxNewTokens, ignoreEos });
}

/** The fake model: next token after `tokens`. */
function nextToken(tokens: readonly number[]): number {
  return tokens.reduce((hash, token) => (hash * 33 + token + 1) % 1009, 7);
}

const isEos = (token: number): boolean => token % 19 === 0;

/** What a sequence must generate, computed alone and without a cache. */
export function expected(sequence: Sequence, maxModelLen: number): { tokens: number[]; reason: FinishReason } {
  const tokens: number[] = [];
  while (tokens.length < sequence.options.maxNewTokens && sequence.prompt.length + tokens.length < maxModelLen) {
    tokens.push(nextToken([...sequence.prompt, ...tokens]));
    if (isEos(tokens.at(-1)!) && !sequence.options.ignoreEos) return { tokens, reason: "stop" };
  }
  return { tokens, reason: "length" };
}

function outcome(sequence: Sequence, token: number): Outcome {
  return { token, finish: isEos(token) && !sequence.options.ignoreEos ? "stop" : null };
}

export class FakeRunner {
  readonly tables: CacheTables;
  /** Runs after the prompt of a sequence is in the cache: the place of a press. */
  readonly press: ((sequence: Sequence) => void) | undefined;
  /** Steps whose tokens may be outstanding. */
  depth = 4;
  prefilled = 0;
  readonly #memory: { position: number; token: number }[] = [];
  readonly #ids: Uint32Array;
  readonly #lengths: Uint32Array;

  constructor(tables: CacheTables, press?: (sequence: Sequence, runner: FakeRunner) => void) {
    this.tables = tables;
    this.press = press && ((sequence) => press(sequence, this));
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
      if (sample) outcomes.push(outcome(sequence, this.#sample(sequence.slot, history)));
    }
    this.#lengths.set(this.tables.lengths); // a mixed step leaves the lengths to the host
    return outcomes;
  }

  /** The whole of a decode plan. `meanwhile` runs while steps are in flight. Returns how many steps were submitted. */
  decode(scheduler: Scheduler, plan: DecodePlan, meanwhile: () => void = () => {}): number {
    this.sync();
    const rows = plan.sequences.map((sequence) => {
      assert.is(sequence.computed, sequence.tokens - 1);
      return { slot: sequence.slot, history: [...sequence.prompt, ...sequence.generated] };
    });
    let submitted = 0;
    const step = (): number[] => {
      this.#syncTables();
      submitted++;
      return rows.map(({ slot, history }) => {
        this.#write(slot, history.length - 1, history.at(-1)!);
        history.push(this.#sample(slot, history));
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
    else {
      scheduler.commitMixed(plan, this.mixed(plan));
      this.pressAll(plan);
    }
  }

  pressAll(plan: MixedPlan): void {
    for (const { sequence, count, sample } of plan.parts) if (sample && count > 1 && sequence.status === "running") this.press?.(sequence);
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

  /** The token after `history`, once every table has been found to hold it: all of it, or with a press some of it in order. */
  #sample(slot: number, history: readonly number[]): number {
    for (const table of this.#tablesOf(slot)) {
      const entries = Array.from({ length: this.#lengths[table]! }, (_, i) => this.#memory[this.#entry(table, i)]!);
      entries.forEach(({ position, token }, i) => {
        assert.is(token, history[position], `table ${table} entry ${i} holds another token than position ${position}`);
        assert.ok(i === 0 || position > entries[i - 1]!.position);
      });
      assert.is(entries.at(-1)!.position, history.length - 1);
      if (this.press === undefined) assert.is(entries.length, history.length);
    }
    return nextToken(history);
  }
}
