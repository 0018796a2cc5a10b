/**
 * The press that perplexity never saw. A press acts behind the pass that reads the prompt; perplexity of a single pass is over before that,
 * so it is the same for every ratio to the last digit, and is read as "lossless". And the press that had nothing to do: the texts are
 * shorter than the length from which it acts.
 */

import { UsageError } from "../../../engine/errors.ts";
import { gatePress } from "../../../bench/core/gates.ts";
import { en } from "../../../bench/core/lang/en.ts";
import type { LLM, PressReport } from "../../../index.ts";
import { excerpt, show, withTiny, type Exhibit, type Told } from "../hall.ts";

export interface Options {
  readonly llm?: Pick<LLM, "tokenizer" | "generate" | "perplexity">;
  /** Shares to evict. */
  readonly ratios?: readonly number[];
  /** Tokens that are read before the press acts, tokens that are predicted then, and how often. */
  readonly context?: number;
  readonly continuation?: number;
  readonly windows?: number;
  /** Of the text that is too short: its tokens, new ones, and from how many on the press acts. */
  readonly promptTokens?: number;
  readonly newTokens?: number;
  readonly pruneAfter?: number;
}

export interface Row { readonly ratio: number; readonly perplexity: number; readonly evicted: number }
/** Of 0 first: nothing is evicted. */
export interface Blind extends Told { readonly rows: readonly Row[] }
export interface Seeing extends Told {
  readonly rows: readonly Row[];
  /** Token by token, under a press that acts after every one of them: without it first. */
  readonly steps: readonly Row[];
  /** What the press did in the text that was too short, and what the gate says to it. */
  readonly short: { readonly report: PressReport | null; readonly gate: string | null };
}

const STEPS_RATIO = 0.5;

export function exhibit({
  llm: given, ratios = [0, 0.5, 0.9], context = 256, continuation = 64, windows = 4, promptTokens = 111, newTokens = 100, pruneAfter = 512,
}: Options = {}): Promise<Exhibit<Blind, Seeing>> {
  return withTiny(given, {}, async (llm): Promise<Exhibit<Blind, Seeing>> => {
    const ids = await excerpt(llm, 0, windows * (context + continuation)), prompt = ids.slice(0, context);
    const knorm = (ratio: number) => (ratio === 0 ? null : { name: "knorm", ratio } as const);

    const blind: Row[] = [];
    for (const ratio of ratios) {
      const { stats } = await llm.generate(prompt, { maxNewTokens: 2, ignoreEos: true, press: knorm(ratio), draft: null });
      const { perplexity } = await llm.perplexity(ids, { context, press: null }); // a pass of its own: no hook of the press is in it
      blind.push({ ratio, perplexity, evicted: stats.press?.evicted ?? 0 });
    }

    const seeing: Row[] = [];
    for (const ratio of ratios) {
      const { perplexity, press } = await llm.perplexity(ids, { protocol: "prefill-continue", context, continuation, press: knorm(ratio) });
      seeing.push({ ratio, perplexity, evicted: press?.evicted ?? 0 });
    }
    const steps: Row[] = [];
    for (const ratio of [0, STEPS_RATIO]) {
      const pressed = ratio === 0 ? null : { name: "knorm_steps", keepRatio: 1 - ratio, pruneAfter: context / 4 } as const;
      const { perplexity, press } = await llm.perplexity(ids.slice(0, context), { protocol: "decode", context, press: pressed });
      steps.push({ ratio, perplexity, evicted: press?.evicted ?? 0 });
    }
    const refused = await refusalOf(() => llm.perplexity(ids, { context, press: knorm(ratios.at(-1)!) }));

    const text = prompt.slice(0, promptTokens), pruned = { keepRatio: 0.5, pruneAfter };
    const { stats: { press: report = null } } = await llm.generate(text, { maxNewTokens: newTokens, ignoreEos: true, draft: null, ...pruned });
    const short = { report, gate: gatePress([{ promptTokens: text.length, newTokens, report }], { pruneAfter }, en) };
    return {
      misleading: { rows: blind, says: `${table(blind)}\nThe press costs no quality at any ratio: it is lossless.` },
      honest: {
        rows: seeing, steps, short,
        says: `${table(seeing)}\nThe same tokens, ${continuation} behind every ${context}, predicted from what the press has left ` +
          "(prefill-continue). " +
          "The first table was made by passes that were over before any press acts.\n" +
          `${table(steps)}\nToken by token (decode), pruned whenever ${context / 4} entries are reached.`,
      },
      gate: refused === null || short.gate === null ? null
        : `to a single pass under a press: ${refused}\nto texts that are too short: ${short.gate}`,
    };
  });
}

/** Why it is refused; null when it is not. */
async function refusalOf(measure: () => Promise<unknown>): Promise<string | null> {
  try {
    await measure();
    return null;
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}

function table(rows: readonly Row[]): string {
  const inWords = ({ ratio, perplexity, evicted }: Row): string =>
    `evicting ${ratio.toFixed(1)}: perplexity ${perplexity.toFixed(4)}, ${evicted} entries evicted`;
  return rows.map(inWords).join("\n");
}

await show(import.meta.url, "The press that perplexity never saw", () => exhibit());
