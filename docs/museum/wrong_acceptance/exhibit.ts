/**
 * Acceptance by the wrong formula, (tokens per step − 1) / K. It takes every step for a round that drafted K tokens. Reading the prompt is
 * no such step, nor is one in which nothing was drafted; a draft may be shorter than K; tokens counted by encoding the decoded text again
 * need not be those that were written; and clamping to 0 … 1 hides what came out impossible.
 */

import { percent } from "../../../bench/core/metrics.ts";
import type { LLM, SpeculationStats } from "../../../index.ts";
import { excerpt, show, withTiny, type Exhibit, type Told } from "../hall.ts";

export interface Options {
  /** Loaded with a draft. */
  readonly llm?: Pick<LLM, "tokenizer" | "generate" | "trace">;
  readonly k?: number;
  /** Where in the novel the prompt begins, its tokens, and new ones. */
  readonly from?: number;
  readonly promptTokens?: number;
  readonly newTokens?: number;
}

export interface Formula extends Told {
  readonly k: number;
  /** Forward passes of the target, and tokens as encoding the text again counts them. */
  readonly steps: number;
  readonly tokens: number;
  /** Clamped to 0 … 1. */
  readonly acceptance: number;
}

/** Acceptance: accepted / drafted. */
export interface Counted extends Told { readonly stats: SpeculationStats; readonly acceptance: number; readonly phantoms: Phantoms }

/**
 * What the formula counts as drafted and rejected, though nobody drafted it, and as not accepted, though it was. In whole numbers it is
 * (accepted − cut − idle + encoded) / (drafted + missing + noRound).
 */
export interface Phantoms {
  /** K · steps: what it divides by. */
  readonly of: number;
  /** Of those: never drafted in rounds that drafted fewer than K, and K for every step that was no round. */
  readonly missing: number;
  readonly noRound: number;
  /** Accepted tokens that the end of the text cut off. */
  readonly cut: number;
  /** Steps that wrote nothing: all but the last of those that read a long prompt. */
  readonly idle: number;
  /** Tokens more than were written, by encoding the text again. */
  readonly encoded: number;
}

/** `written`: new tokens, the first among them. */
export function phantomsOf(
  { rounds, drafted, accepted, tokens }: SpeculationStats, written: number, formula: Pick<Formula, "k" | "steps" | "tokens">,
): Phantoms {
  const { k, steps } = formula, others = steps - rounds;
  return {
    of: k * steps, missing: k * rounds - drafted, noRound: k * others, cut: accepted + rounds - tokens, idle: others - (written - tokens),
    encoded: formula.tokens - written,
  };
}

/** An acceptance must be that of the tokens that were drafted, to the digits that are printed: null, or what else it counts. */
export function gateAcceptance(
  printed: number, { drafted, accepted }: Pick<SpeculationStats, "drafted" | "accepted">,
  { of, missing, noRound, cut, idle, encoded }: Phantoms,
): string | null {
  const rate = drafted === 0 ? null : percent(accepted / drafted);
  if (rate === percent(printed)) return null;
  const counted = rate === null ? "nothing was drafted" : `${accepted} of ${drafted} drafted tokens were accepted, ${rate}`;
  const blamed = [
    [missing, "are missing from rounds that drafted fewer than K"], [noRound, "stand for steps that were no rounds"],
    [cut, "were accepted and cut off at the end of the text"], [idle, "are taken off for steps that wrote nothing"],
    [encoded, "come from encoding the text again"],
  ].flatMap(([count, why]) => (count === 0 ? [] : [`${count} ${why}`]));
  const divides = `the formula divides by ${of} tokens, of which ${drafted} were drafted`;
  return `${counted}, and not ${percent(printed)}: ${divides}; ${blamed.join(", ")}`;
}

export function exhibit(
  { llm: given, k = 10, from = 300, promptTokens = 200, newTokens = 64 }: Options = {},
): Promise<Exhibit<Formula, Counted>> {
  return withTiny(given, { draft: { model: "prompt-lookup", k } }, async (llm): Promise<Exhibit<Formula, Counted>> => {
    const prompt = await excerpt(llm, from, promptTokens);
    let steps = 0;
    const stop = llm.trace.on(({ type }) => { if (type === "prefill" || type === "decode" || type === "speculated") steps++; });
    const { ids, text, stats: { speculation } } = await llm.generate(prompt, { maxNewTokens: newTokens, ignoreEos: true, draft: { k } });
    stop();
    const stats = speculation!, tokens = (await llm.tokenizer.encode(text)).length;

    const acceptance = Math.min(1, Math.max(0, (tokens / steps - 1) / k));
    const { rounds, drafted, accepted, acceptedAt, draftedAt } = stats, rate = drafted === 0 ? 0 : accepted / drafted;
    const phantoms = phantomsOf(stats, ids.length, { k, steps, tokens });
    return {
      misleading: {
        k, steps, tokens, acceptance,
        says: `${tokens} tokens in ${steps} steps: (${(tokens / steps).toFixed(2)} − 1) / ${k} = ${percent(acceptance)} acceptance.\n` +
          `${percent(1 - acceptance)} of what is drafted is thrown away: lower K.`,
      },
      honest: {
        stats, phantoms, acceptance: rate,
        says: `${rounds} rounds drafted ${drafted} tokens, and ${accepted} were accepted: ${percent(rate)}.\n` +
          `The other ${steps - rounds} steps drafted nothing, the one that read the prompt among them.\n` +
          `Accepted by position: ${acceptedAt.map((count, i) => `${count}/${draftedAt[i]}`).join(" ")}.`,
      },
      gate: gateAcceptance(acceptance, stats, phantoms),
    };
  });
}

await show(import.meta.url, "Acceptance by the wrong formula", () => exhibit());
