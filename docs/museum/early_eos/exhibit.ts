/**
 * EOS stops one arm early. Texts are sampled without a seed, as a chat model's are, and end where they end; whoever happens to write less
 * is done sooner, and is called faster. Per token it looks slower, since reading the prompt is spread over fewer tokens. Here the technique
 * is another seed.
 */

import { sentence } from "../../../bench/core/compare.ts";
import { gateWork, type Done } from "../../../bench/core/gates.ts";
import { en } from "../../../bench/core/lang/en.ts";
import { signed } from "../../../bench/core/metrics.ts";
import { change, type Change } from "../../../bench/core/stats.ts";
import { takeTurns } from "../../../bench/core/turns.ts";
import type { GenerateOptions, GenerateResult, LLM } from "../../../index.ts";
import { excerpt, ms, QUIETLY, show, withTiny, type Exhibit, type Told } from "../hall.ts";

type Answer = Pick<GenerateResult, "ids" | "promptTokens" | "timings">;

export interface Options {
  /** Answers a request of one of the two arms. */
  readonly answer?: (arm: "baseline" | "technique", prompt: number, ignoreEos: boolean) => Promise<Answer>;
  readonly prompts?: number;
  readonly iterations?: number;
}

/** What an arm did and took in all its requests together. */
interface Sum { readonly done: readonly Done[]; readonly tokens: number; readonly ms: number }

export interface Early extends Told {
  readonly baseline: Sum;
  readonly technique: Sum;
  /** Time per request and tokens per second against the baseline's, in percent. */
  readonly latency: number;
  readonly throughput: number;
}

export interface FixedWork extends Told {
  readonly latency: Change;
  /** What the work gate says to it. */
  readonly gate: string | null;
}

const PROMPT_TOKENS = 32, NEW_TOKENS = 32;
/** As in the wild: all runs of one arm, then all of the other. */
const RUNS = 5;
/** Added to the logit of the end: the bundled model has read novels and hardly ever ends, a chat model does after every answer. */
const EAGER = 7;
/** Chosen, of a dozen, because their texts differ most in length: a pair that somebody would publish. */
const SEEDS = { baseline: 70, technique: 60 };

export async function exhibit({ answer: given, prompts = 4, iterations = 7 }: Options = {}): Promise<Exhibit<Early, FixedWork>> {
  if (given !== undefined) return compare(given, prompts, iterations);
  return withTiny<LLM, Exhibit<Early, FixedWork>>(undefined, {}, async (llm) => {
    const text = await excerpt(llm, 0, prompts * PROMPT_TOKENS), end = llm.config.eosTokenIds[0]!;
    const sampled: GenerateOptions = { maxNewTokens: NEW_TOKENS, temperature: 0.8, topP: 0.95, logitBias: { [end]: EAGER } };
    return compare((arm, prompt, ignoreEos) => llm.generate(text.slice(prompt * PROMPT_TOKENS, (prompt + 1) * PROMPT_TOKENS),
      { ...sampled, ignoreEos, seed: SEEDS[arm] + prompt }), prompts, iterations);
  });
}

async function compare(answer: NonNullable<Options["answer"]>, prompts: number, iterations: number): Promise<Exhibit<Early, FixedWork>> {
  const run = async (arm: "baseline" | "technique", ignoreEos: boolean): Promise<Sum> => {
    const answers: Answer[] = [];
    for (let prompt = 0; prompt < prompts; prompt++) answers.push(await answer(arm, prompt, ignoreEos));
    return {
      done: answers.map(({ promptTokens, ids }) => ({ promptTokens, newTokens: ids.length })),
      tokens: answers.reduce((sum, { ids }) => sum + ids.length, 0), ms: answers.reduce((sum, { timings }) => sum + timings.total, 0),
    };
  };
  await run("baseline", false); // warm: the cold start is another exhibit
  const before: Sum[] = [], after: Sum[] = [];
  for (let i = 0; i < RUNS; i++) before.push(await run("baseline", false));
  for (let i = 0; i < RUNS; i++) after.push(await run("technique", false));
  const baseline = middling(before), technique = middling(after);
  const perMs = ({ tokens, ms }: Sum): number => tokens / ms;
  const latency = (technique.ms / baseline.ms - 1) * 100, throughput = (perMs(technique) / perMs(baseline) - 1) * 100;

  const { samples } = await takeTurns<"baseline" | "technique" | "baseline again", Sum>({
    arms: ["baseline", "technique", "baseline again"], nameOf: (arm) => arm, msOf: (sum) => sum.ms,
    once: (arm) => run(arm === "technique" ? "technique" : "baseline", true),
  }, { seed: 1, warmup_iterations: 1, warmup_limit: 3, test_iterations: iterations }, QUIETLY);
  const [from, to, again] = [...samples.values()] as [readonly Sum[], readonly Sum[], readonly Sum[]];
  const times = (sums: readonly Sum[]): number[] => sums.map((sum) => sum.ms), control = change(times(from), times(again))!;
  const fixed = change(times(from), times(to), Math.max(Math.abs(control.low), Math.abs(control.high)))!;
  const written = ({ done }: Sum): string => done.map(({ newTokens }) => newTokens).join(", ");
  const verdict = (percent: number, isFaster: boolean): string => `${signed(percent)}: ${isFaster ? "faster" : "slower"}`;
  return {
    misleading: {
      baseline, technique, latency, throughput,
      says: `Time per request: ${ms(baseline.ms / prompts)} before, ${ms(technique.ms / prompts)} with the technique, ` +
        `${verdict(latency, latency < 0)}.\nOutput tokens per second, from the same run: ${verdict(throughput, throughput > 0)}.`,
    },
    honest: {
      latency: fixed, gate: gateWork(from.flatMap(({ done }) => done), to.flatMap(({ done }) => done), en),
      says: `The technique is another seed. The baseline wrote ${written(baseline)} tokens, the technique ${written(technique)}.\n` +
        `With EOS ignored both write ${written(to[0]!)}. ` +
        `${sentence({ metric: { key: "latency_ms", better: "lower" }, change: fixed }, en)}.`,
    },
    gate: gateWork(technique.done, baseline.done, en),
  };
}

/** Of an odd number of runs the one with the median time. */
function middling(sums: readonly Sum[]): Sum {
  return sums.toSorted((a, b) => a.ms - b.ms)[sums.length >> 1]!;
}

await show(import.meta.url, "EOS stops one arm early", () => exhibit());
