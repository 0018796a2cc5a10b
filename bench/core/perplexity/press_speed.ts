/**
 * Speed of generation behind a long prompt, with each press and without: the same prompt, as many new tokens, an arm after the other in an
 * order drawn anew for every repetition, after a warm-up of each. No press runs twice in every repetition: how far it is from itself is
 * what a difference between two arms must be more than.
 */

import { UsageError } from "../../../engine/errors.ts";
import type { GenerateResult, PressReport } from "../../../models/options.ts";
import { seeded, shuffled, summarise, type Summary } from "../stats.ts";
import { PLAIN_ARM, type Arm } from "./press_arms.ts";
import type { Pressable, Watch } from "./press_measure.ts";
import type { SpeedConfig } from "./press_options.ts";

export interface Speed {
  /** New tokens per second of the whole request, and of the time behind the first token; null for a single token. */
  readonly tokensPerSecond: Summary;
  readonly decodeTokensPerSecond: Summary | null;
  /** Milliseconds to the first token, and of the acts of the press in the whole request. */
  readonly ttft: Summary;
  readonly pressMs: Summary | null;
  readonly newTokens: readonly number[];
  /** Of the first repetition. */
  readonly press: PressReport | null;
  readonly text: string;
}

export interface Speeds {
  readonly promptTokens: number;
  readonly of: ReadonlyMap<Arm, Speed>;
  /** No press, the second time. */
  readonly again: Speed;
  readonly order: readonly (readonly string[])[];
  readonly refused: ReadonlyMap<Arm, string>;
}

const WARM_UP_TOKENS = 4;

/** With `lenient` a press that the library refuses is left out instead of ending the run. Throws UsageError when there is no prompt. */
export async function measureSpeed(
  llm: Pressable, ids: readonly number[], config: SpeedConfig, limit: number, pressed: readonly Arm[], { signal, onStep }: Watch,
  lenient: boolean, notes: string[],
): Promise<Speeds> {
  const { maxNewTokens, minNewTokens, repetitions } = config;
  const prompt = ids.slice(0, limit - maxNewTokens);
  if (prompt.length === 0)
    throw new UsageError(`--max-new-tokens ${maxNewTokens} leaves no prompt within the ${limit} tokens that there are`);
  if (prompt.length < limit - maxNewTokens) notes.push(`the text has ${ids.length} tokens: the prompt of the speed part is all of it`);
  const generate = ({ press }: Arm, count: number): Promise<GenerateResult> =>
    llm.generate(prompt, { maxNewTokens: count, ignoreEos: true, press, signal });

  const again: Arm = { ...PLAIN_ARM, name: `${PLAIN_ARM.name} again` };
  const arms: Arm[] = [PLAIN_ARM, again], refused = new Map<Arm, string>();
  for (const [i, arm] of [PLAIN_ARM, ...pressed].entries()) {
    onStep(`warm-up: ${arm.name}`, i, pressed.length + 1);
    try {
      await generate(arm, Math.min(WARM_UP_TOKENS, maxNewTokens));
      if (arm !== PLAIN_ARM) arms.push(arm);
    } catch (error) {
      if (!(error instanceof UsageError) || !lenient || arm === PLAIN_ARM) throw error;
      refused.set(arm, error.message);
    }
  }
  const runs = new Map<Arm, GenerateResult[]>(arms.map((arm) => [arm, []]));
  const random = seeded(0), order: Arm[][] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    order.push(shuffled(arms, random));
    for (const [i, arm] of order.at(-1)!.entries()) {
      onStep(`speed: ${arm.name}`, repetition * arms.length + i, repetitions * arms.length);
      runs.get(arm)!.push(await generate(arm, maxNewTokens));
    }
  }
  const of = new Map([...runs].map(([arm, results]) => [arm, speedOf(results, minNewTokens, llm.config.eosTokenIds)]));
  return {
    promptTokens: prompt.length, of, again: of.get(again)!, refused,
    order: order.map((arms) => arms.map(({ name, ratio }) => (ratio === null ? name : `${name} ${ratio}`))),
  };
}

/** Tokens that count: up to and with the first end of text behind the `least` first ones. */
export function countedTokens(ids: readonly number[], least: number, eosTokenIds: readonly number[]): number {
  const end = ids.findIndex((id, i) => i >= least && eosTokenIds.includes(id));
  return end < 0 ? ids.length : end + 1;
}

export function speedOf(results: readonly GenerateResult[], minNewTokens: number, eosTokenIds: readonly number[]): Speed {
  const counts = results.map(({ ids }) => countedTokens(ids, minNewTokens, eosTokenIds));
  const decodeMs = results.map(({ timings }, i) => timings.itl.slice(0, counts[i]! - 1).reduce((sum, ms) => sum + ms, 0));
  const first = results[0]!.stats.press ?? null;
  return {
    tokensPerSecond: summarise(results.map(({ timings }, i) => (1000 * counts[i]!) / (timings.ttft + decodeMs[i]!)))!,
    decodeTokensPerSecond: summarise(
      counts.map((count, i) => (count > 1 && decodeMs[i]! > 0 ? (1000 * (count - 1)) / decodeMs[i]! : null))),
    ttft: summarise(results.map(({ timings }) => timings.ttft))!,
    pressMs: summarise(results.map(({ stats }) => stats.press?.ms ?? null)), newTokens: counts, press: first, text: results[0]!.text,
  };
}
