/**
 * Measure one model at batch 1, as llama-bench's pp and tg rows do, and at several requests at a time. One request gives both rows: the
 * time to its first token is the prefill of N tokens (with one sampling more than llama-bench's), and what follows is decoding behind N
 * tokens of context. Repetitions of all kinds take turns, so that a machine which is busy for a while strikes all of them.
 */

import { AbortedError, ContextLengthError } from "../../../engine/errors.ts";
import type { GenerateOptions, GenerateResult, LLM } from "../../../index.ts";
import { randomTokens, type Vocabulary } from "../load/workload.ts";
import { seeded, shuffled, summarise, type Summary } from "../stats.ts";
import { countCalls, hostTime, timeTurns, type HostTime } from "./host.ts";
import type { ProfileConfig } from "./options.ts";
import type { ThreadClock } from "./thread_clock.ts";

/** What the profile needs of an LLM. */
export type Profiled = Vocabulary & Pick<LLM, "dispatchesPerDecode"> & {
  generate(ids: readonly number[], options: GenerateOptions): Promise<GenerateResult>;
};

export interface Profile {
  readonly status: "complete" | "interrupted";
  /** Tokens per second, one value for each repetition; null when none was finished. */
  readonly prefill: Summary | null;
  readonly decode: Summary | null;
  readonly concurrency: readonly Together[];
  readonly host: {
    readonly perToken: Summary | null;
    /** µs of the turns before the first token has come in; what falls in the turn that brings it is left out. */
    readonly perPrefill: Summary | null;
    readonly repetitions: readonly HostTime[];
    /** How often Dawn looked for finished work. */
    readonly pollsPerToken: Summary | null;
    /** Whether times are CPU time of this thread; else wall time. */
    readonly isCpu: boolean;
  };
  /** Of a decode step, as the engine states them. */
  readonly dispatches: number;
  /** Calls to WebGPU for one more decoded token, by name. */
  readonly callsPerStep: Readonly<Record<string, number>>;
}

/** The same requests, so many at a time: output tokens per second from the first sending to the last completion. */
export interface Together { readonly atATime: number; readonly requests: number; readonly tokensPerSecond: Summary | null }

export interface MeasureOptions {
  readonly clock: ThreadClock;
  readonly signal: AbortSignal;
  readonly onStep: (label: string, done: number, total: number) => void;
}

export async function measure(llm: Profiled, config: ProfileConfig, { clock, signal, onStep }: MeasureOptions): Promise<Profile> {
  const { prompt, new: count, repetitions, concurrency, seed } = config;
  // One token more than is decoded: the first one is the prefill's.
  if (prompt + count + 1 > llm.maxModelLen) {
    throw new ContextLengthError(
      `--prompt ${prompt} and --new ${count} need ${prompt + count + 1} tokens, but a sequence has room for ${llm.maxModelLen}: ` +
      "lower them or raise --max-model-len",
    );
  }
  const token = randomTokens(llm, seed);
  const generate = (maxNewTokens: number): Promise<GenerateResult> =>
    llm.generate(Array.from({ length: prompt }, token), { maxNewTokens, ignoreEos: true, signal });
  const random = seeded(seed);
  const prefill: number[] = [], decode: number[] = [], host: HostTime[] = [], reading: number[] = [], polls: number[] = [];
  const together = concurrency.map((atATime) => ({ atATime, rates: [] as number[] }));
  const requests = concurrency.reduce((most, atATime) => Math.max(most, atATime), 1);
  const total = repetitions * (2 + together.length);
  let done = 0, status: Profile["status"] = "complete";
  let callsPerStep: Readonly<Record<string, number>> = {};
  try {
    await generate(count + 1);
    const calls = [(await countCalls(() => generate(1))).calls, (await countCalls(() => generate(count + 1))).calls] as const;
    callsPerStep = Object.fromEntries([...calls[1]].map(([name, times]) => [name, (times - (calls[0].get(name) ?? 0)) / count]));
    for (let i = 0; i < repetitions; i++) {
      const turn = shuffled([
        async (): Promise<void> => {
          const { timings: { ttft, total: all } } = await generate(count + 1);
          prefill.push((prompt / ttft) * 1000);
          decode.push((count / (all - ttft)) * 1000);
        },
        async (): Promise<void> => {
          const began = performance.now();
          const { result: { timings }, turns, polls: looks } = await timeTurns(clock, () => generate(count + 1));
          const time = hostTime(turns, began + timings.ttft, began + timings.total, count);
          if (time !== null) host.push(time);
          const before = hostTime(turns, began, began + timings.ttft, 1);
          if (before !== null) reading.push(before.perToken);
          polls.push(looks / (count + 1));
        },
        ...together.map(({ atATime, rates }) => async (): Promise<void> => {
          const began = performance.now();
          await inTurns(requests, atATime, () => generate(count + 1));
          rates.push((requests * (count + 1) * 1000) / (performance.now() - began));
        }),
      ], random);
      for (const body of turn) {
        onStep(`repetition ${i + 1} of ${repetitions}`, done++, total);
        await body();
      }
    }
  } catch (error) {
    if (!(error instanceof AbortedError && signal.aborted)) throw error;
    status = "interrupted";
  }
  onStep("done", total, total);
  return {
    status, prefill: summarise(prefill), decode: summarise(decode), dispatches: await llm.dispatchesPerDecode(1), callsPerStep,
    concurrency: together.map(({ atATime, rates }) => ({ atATime, requests, tokensPerSecond: summarise(rates) })),
    host: { perToken: summarise(host.map(({ perToken }) => perToken)), perPrefill: summarise(reading), repetitions: host, pollsPerToken: summarise(polls), isCpu: clock.isCpu },
  };
}

/** Run `count` tasks, at most `atATime` at the same time. */
async function inTurns(count: number, atATime: number, task: () => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(count, atATime) }, async () => {
    while (next++ < count) await task();
  }));
}
