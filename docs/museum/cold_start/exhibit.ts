/**
 * The cold-start TTFT. The baseline is measured first, in a process that has neither read its weights nor compiled its kernels; the
 * "technique" afterwards, warm. Here the technique is nothing at all: both arms send the same request to the same model.
 */

import { LLM } from "../../../index.ts";
import { median } from "../../../engine/median.ts";
import { doubtOf, sentence } from "../../../bench/core/compare.ts";
import { en } from "../../../bench/core/lang/en.ts";
import { signed } from "../../../bench/core/metrics.ts";
import { change, type Change } from "../../../bench/core/stats.ts";
import { takeTurns, type WarmUp } from "../../../bench/core/turns.ts";
import { excerpt, ms, QUIETLY, show, TINY, type Exhibit, type Told } from "../hall.ts";

/** Answers requests; what it needs for that it gets when the first one comes. */
export interface Service {
  /** Milliseconds from a request to its first token. */
  firstToken(): Promise<number>;
  close(): Promise<void>;
}

export interface Options {
  /** A service that has not been used yet. */
  readonly open?: () => Service;
  readonly iterations?: number;
  readonly seed?: number;
}

/** Milliseconds, and the change in percent. */
export interface ColdStart extends Told { readonly baseline: number; readonly technique: number; readonly change: number }

export interface Warm extends Told {
  /** Nothing at all against the baseline, and the baseline against itself. */
  readonly technique: Change;
  readonly control: Change;
  readonly warmUp: WarmUp;
}

const PROMPT_TOKENS = 200;

/** As engines are started by scripts: the model is there when it is first asked for. */
function lazyService(): Service {
  let loading: Promise<LLM> | null = null;
  return {
    async firstToken() {
      const asked = performance.now();
      const llm = await (loading ??= LLM.load("tiny-neox", TINY));
      const prompt = await excerpt(llm, 0, PROMPT_TOKENS), before = performance.now() - asked;
      const { timings } = await llm.generate(prompt, { maxNewTokens: 1, ignoreEos: true });
      return before + timings.ttft;
    },
    async close() { await (await loading)?.close(); },
  };
}

export async function exhibit({ open = lazyService, iterations = 15, seed = 1 }: Options = {}): Promise<Exhibit<ColdStart, Warm>> {
  const misleading = await using(open(), async (service): Promise<ColdStart> => {
    const baseline = await service.firstToken();
    const technique = median([await service.firstToken(), await service.firstToken(), await service.firstToken()]);
    const percent = (technique / baseline - 1) * 100;
    const says = `TTFT: ${ms(baseline)} before, ${ms(technique)} with the technique: ${signed(percent)}.`;
    return { baseline, technique, change: percent, says };
  });
  const { samples, warmUp } = await using(open(), (service) => takeTurns({
    arms: ["baseline", "baseline again", "nothing at all"], nameOf: (arm) => arm, once: () => service.firstToken(), msOf: (time) => time,
  }, { seed, warmup_iterations: 3, warmup_limit: 12, test_iterations: iterations }, QUIETLY));
  const [first, again, nothing] = [...samples.values()] as [readonly number[], readonly number[], readonly number[]];
  const control = change(first, again)!, technique = change(first, nothing, Math.max(Math.abs(control.low), Math.abs(control.high)))!;
  const says = sentence({ metric: { key: "ttft_ms", better: "lower" }, change: technique }, en);
  const cold = Math.max(...Object.values(warmUp.arms).map(([time]) => time!));
  return {
    misleading,
    honest: {
      technique, control, warmUp,
      says: `The technique is nothing at all. A first request took ${ms(cold)}, and whichever arm sends it looks slow: ` +
        "it pays for reading weights and compiling kernels.\n" +
        `After ${warmUp.rounds} rounds of warm-up (${warmUp.settled ? "settled" : "not settled"}), in seeded random order: ` +
        `baseline ${ms(median(first))}, nothing at all ${ms(median(nothing))};\n` +
        `the baseline against itself differs by ${signed(control.low)} to ${signed(control.high)}.`,
    },
    gate: doubtOf(technique, en) === null ? null : says,
  };
}

async function using<T>(service: Service, body: (service: Service) => Promise<T>): Promise<T> {
  try {
    return await body(service);
  } finally {
    await service.close();
  }
}

await show(import.meta.url, "The cold-start TTFT", () => exhibit());
