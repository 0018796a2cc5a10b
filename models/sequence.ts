/**
 * One request: its prompt, what has been generated so far, and how much of both has keys and values in the cache. No GPU and no text;
 * the scheduler (scheduler.ts) is the only writer of the mutable fields.
 */

import { UsageError } from "../engine/errors.ts";
import type { CompleteGenerateOptions } from "./generate_options.ts";
import type { FinishReason } from "./options.ts";
import type { PrefixNode } from "./prefix_cache.ts";
import { Pressing } from "./pressing.ts";
import type { Speculation } from "./speculation.ts";

export type SequenceStatus = "waiting" | "running" | "finished";

/** What the scheduler and the sampler need of the options of a request. */
export type SequenceOptions = Omit<CompleteGenerateOptions, "signal" | "stop">;

export class Sequence {
  readonly id: number;
  readonly prompt: readonly number[];
  readonly options: SequenceOptions;
  readonly generated: number[] = [];
  /** Row of the block tables; -1 while the sequence holds no cache. */
  slot = -1;
  /** Leading tokens that have been through the model: the position of the next one. Not the cache length once a press has run. */
  computed = 0;
  /** The last of its blocks that the prefix cache knows, and how many those are. */
  prefixNode: PrefixNode | null = null;
  prefixBlocks = 0;
  /** Prompt tokens that came out of the prefix cache. */
  cachedTokens = 0;
  /** Holds a slot since the last plan: who keeps things by slot must fill them in, and set it to false. */
  admitted = false;
  status: SequenceStatus = "waiting";
  finishReason: FinishReason | null = null;
  /** Times it was pushed out of the cache. */
  preemptions = 0;
  /** What becomes of its cache on the way; null: nothing. */
  readonly pressing: Pressing | null;
  /** What is drafted for it; null: nothing. */
  speculation: Speculation | null = null;

  /** Throws UsageError for an empty prompt: the first new token needs one to follow. */
  constructor(id: number, prompt: readonly number[], options: SequenceOptions) {
    if (prompt.length === 0) throw new UsageError("the prompt has no tokens: give at least one token to continue from");
    this.id = id;
    this.prompt = prompt;
    this.options = options;
    this.pressing = options.press === null ? null : new Pressing(options.press, prompt.length);
  }

  /** Prompt and generated tokens together. */
  get tokens(): number { return this.prompt.length + this.generated.length; }

  /** What the sampler keeps of it by slot: penalties or biases. */
  get adjusted(): boolean {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.options;
    return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0 || Object.keys(logitBias).length > 0;
  }

  /** The position that RoPE gives the i-th token: its place in the text, unless a press has moved what came before together. */
  positionOf(i: number): number {
    return i - (this.pressing?.shift ?? 0);
  }

  /** The i-th token of prompt and continuation. Throws past the end. */
  tokenAt(i: number): number {
    const token = i < this.prompt.length ? this.prompt[i] : this.generated[i - this.prompt.length];
    if (token === undefined) throw new Error(`sequence ${this.id} has ${this.tokens} tokens, none at ${i}`);
    return token;
  }
}
