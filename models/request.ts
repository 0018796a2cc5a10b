/**
 * One request while it runs: its sequence, its text so far, when its tokens came, and who waits for it. The loop in models/generator.ts
 * hands it tokens one by one; it answers with the reason to stop, if there is one.
 */

import { performance } from "node:perf_hooks";
import { StopMatcher, type StreamDecoder } from "../engine/detokenizer.ts";
import type { CompleteGenerateOptions } from "./generate_options.ts";
import type { FinishReason, GenerateResult, Timings, TokenLogprobs } from "./options.ts";
import { Sequence } from "./sequence.ts";

export class Request {
  readonly sequence: Sequence;
  readonly result: Promise<GenerateResult>;
  readonly #arrived = performance.now();
  readonly #arrivals: number[] = [];
  readonly #decoder: StreamDecoder;
  readonly #stops: StopMatcher;
  readonly #eos: readonly number[];
  readonly #onPiece: (piece: { text: string; id: number }) => void;
  readonly #ids: number[] = [];
  readonly #logprobs: TokenLogprobs[] = [];
  #text = "";
  #stopped: FinishReason | null = null;
  #settle!: { resolve: (result: GenerateResult) => void; reject: (error: unknown) => void };

  constructor(
    id: number, prompt: readonly number[], options: CompleteGenerateOptions,
    { decoder, eos, onPiece = () => {} }: { decoder: StreamDecoder; eos: readonly number[]; onPiece?: (piece: { text: string; id: number }) => void },
  ) {
    this.sequence = new Sequence(id, prompt, options);
    this.result = new Promise((resolve, reject) => { this.#settle = { resolve, reject }; });
    this.result.catch(() => {}); // whoever asked for it gets the error; nobody else may be struck by it
    this.#decoder = decoder;
    this.#stops = new StopMatcher(options.stop);
    this.#eos = options.ignoreEos ? [] : eos;
    this.#onPiece = onPiece;
  }

  /** Take the next token. Returns the reason to stop after it; tokens that come later were computed ahead and are dropped. */
  accept(id: number, logprobs: Omit<TokenLogprobs, "id"> | null = null): FinishReason | null {
    if (this.#stopped !== null) return this.#stopped;
    this.#arrivals.push(performance.now());
    this.#ids.push(id);
    if (logprobs !== null) this.#logprobs.push({ id, ...logprobs });
    if (this.#eos.includes(id)) return this.#stopped = "stop";
    const { text, stopped } = this.#stops.push(this.#decoder.push(id));
    this.#emit(text, id);
    return this.#stopped = stopped ? "stop" : null;
  }

  /** Tokens accepted so far. */
  get accepted(): number { return this.#ids.length; }

  /** The sequence is finished: give the result to whoever waits, with the text held back in case a stop string began there. */
  finish(reason: FinishReason): void {
    const { pressing, speculation } = this.sequence;
    this.#emit(this.#stops.push(this.#decoder.flush()).text + this.#stops.flush(), this.#ids.at(-1) ?? -1);
    this.#settle.resolve({
      ids: this.#ids, text: this.#text, promptTokens: this.sequence.prompt.length, finishReason: reason, timings: this.#timings(),
      ...(this.sequence.options.logprobs !== null && { logprobs: this.#logprobs }),
      stats: { preemptions: this.sequence.preemptions, cachedTokens: this.sequence.cachedTokens, ...(pressing !== null && { press: pressing.report() }),
        ...(speculation !== null && { speculation: speculation.stats() }),
      },
    });
  }

  fail(error: unknown): void {
    this.#settle.reject(error);
  }

  #emit(text: string, id: number): void {
    this.#text += text;
    if (text !== "") this.#onPiece({ text, id });
  }

  #timings(): Timings {
    const times = this.#arrivals;
    const total = times.length === 0 ? performance.now() - this.#arrived : times.at(-1)! - this.#arrived;
    const ttft = times.length === 0 ? total : times[0]! - this.#arrived;
    return { ttft, total, tpot: times.length > 1 ? (total - ttft) / (times.length - 1) : null, itl: times.slice(1).map((time, i) => time - times[i]!) };
  }
}
