/**
 * The K that never arrived. A sweep over K sets it where nobody looks, and the drafter drafts with its default every time: one measurement,
 * repeated. Divided by the K that was meant, it even makes a plausible curve.
 */

import { gateDraft } from "../../../bench/core/gates.ts";
import { en } from "../../../bench/core/lang/en.ts";
import { percent } from "../../../bench/core/metrics.ts";
import type { GenerateOptions, GenerateResult, SpeculationStats } from "../../../index.ts";
import { excerpt, show, withTiny, type Exhibit, type Told } from "../hall.ts";

export interface Drafting {
  readonly tokenizer: { encode(text: string): readonly number[] | Promise<readonly number[]> };
  generate(prompt: readonly number[], options: GenerateOptions): Promise<Pick<GenerateResult, "stats">>;
}

export interface Options {
  /** Loaded with a draft of `loadedK` tokens. */
  readonly llm?: Drafting;
  readonly ks?: readonly number[];
  readonly promptTokens?: number;
  readonly newTokens?: number;
}

export interface Row { readonly k: number; readonly stats: SpeculationStats; readonly acceptance: number }
/** Acceptance: (tokens per round − 1) / K. */
export interface Lost extends Told { readonly rows: readonly Row[] }
/** Acceptance: accepted / drafted. */
export interface Arrived extends Told {
  readonly rows: readonly Row[];
  /** What the gate says to each K of the lost sweep, and to each of this one. */
  readonly lost: readonly (string | null)[];
  readonly arrived: readonly (string | null)[];
}

const LOADED_K = 5;

export function exhibit(
  { llm: given, ks = [3, 4, 5, 6, 8, 10], promptTokens = 64, newTokens = 64 }: Options = {},
): Promise<Exhibit<Lost, Arrived>> {
  return withTiny(given, { draft: { model: "tiny-neox-draft", k: LOADED_K } }, async (llm): Promise<Exhibit<Lost, Arrived>> => {
    const prompt = await excerpt(llm, 0, promptTokens), plain: GenerateOptions = { maxNewTokens: newTokens, ignoreEos: true };
    const statsOf = async (options: GenerateOptions): Promise<SpeculationStats> => (await llm.generate(prompt, options)).stats.speculation!;

    const lost: Row[] = [];
    for (const k of ks) {
      const targetSettings = { ...plain, numAssistantTokens: k };
      const stats = await statsOf(readBy(targetSettings));
      lost.push({ k, stats, acceptance: (stats.tokens / stats.rounds - 1) / k });
    }
    const arrived: Row[] = [];
    for (const k of ks) {
      const stats = await statsOf({ ...plain, draft: { k } });
      arrived.push({ k, stats, acceptance: stats.accepted / stats.drafted });
    }
    const gates = (rows: readonly Row[]): (string | null)[] => rows.map(({ k, stats }) => gateDraft([stats], { k, kind: "model" }, en));
    const closed = gates(lost), [first] = lost as [Row, ...Row[]], last = lost.at(-1)!, same = first.stats;
    const isClosed = (reason: string | null): boolean => reason !== null, said = (i: number): string => `K = ${ks[i]}: ${closed[i]}`;
    const [at, high] = [closed.findIndex(isClosed), closed.findLastIndex(isClosed)];
    const counts = ({ k, stats, acceptance }: Row): string =>
      `K = ${k}: accepted ${stats.accepted} of ${stats.drafted} drafted, ${percent(acceptance)}; up to ${stats.draftedAt.length} a round`;
    return {
      misleading: {
        rows: lost,
        says: `${lost.map(({ k, acceptance }) => `K = ${k}: acceptance ${percent(acceptance)}`).join("\n")}\n` +
          `Acceptance falls from ${percent(first.acceptance)} to ${percent(last.acceptance)} as drafts get longer: K = ${first.k} is best.`,
      },
      honest: {
        rows: arrived, lost: closed, arrived: gates(arrived),
        says: `Every one of these runs drafted up to ${same.draftedAt.length} tokens a round, ${same.drafted} in ${same.rounds} rounds: ` +
          `it is one run, divided by ${ks.length} numbers.\n${arrived.map(counts).join("\n")}`,
      },
      gate: at < 0 ? null : at === high ? said(at) : `${said(at)}\n${said(high)}`,
    };
  });
}

/** What is read of the target's settings. The number of drafted tokens is looked up in the draft's, where nobody has written it. */
function readBy({ maxNewTokens, ignoreEos }: GenerateOptions): GenerateOptions {
  return { maxNewTokens: maxNewTokens!, ignoreEos: ignoreEos! };
}

await show(import.meta.url, "The K that never arrived", () => exhibit());
