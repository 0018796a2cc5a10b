/**
 * The mean of losses. Paragraphs are read one by one, short ones are left out, and e to the unweighted mean of their losses is printed as
 * perplexity, with four digits and no error. A paragraph of 50 tokens weighs as much as one of 500, so the figure is that of no text; and
 * without an error every two formats differ.
 */

import { en } from "../../../bench/core/lang/en.ts";
import { CLAIM_ERRORS } from "../../../bench/core/stats.ts";
import { LLM, type WeightFormat } from "../../../index.ts";
import { meanOf } from "../../../models/perplexity.ts";
import { novel, show, TINY, type Exhibit, type Told } from "../hall.ts";

/** Its length, and −log p of each of its tokens but the first. */
export interface Paragraph { readonly letters: number; readonly nlls: ArrayLike<number> }

/** A model, and what it made of each paragraph. */
export interface Reader { readonly name: string; readonly paragraphs: readonly Paragraph[] }

export interface Options {
  /** All of the same paragraphs. */
  readonly readers?: readonly Reader[];
}

interface Ranked { readonly name: string; readonly perplexity: number }

/** The lowest perplexity first. */
export interface Unweighted extends Told { readonly ranking: readonly Ranked[] }

/** Perplexity of `to` over that of `from` on the same tokens, in percent more, with one standard error of the paired difference. */
export interface Difference {
  readonly from: string;
  readonly to: string;
  readonly percent: number;
  readonly error: number;
  readonly claimed: boolean;
}

export interface Weighted extends Told {
  readonly ranking: readonly (Ranked & { readonly error: number })[];
  /** The two that the unweighted mean puts first, and every other one against the first. */
  readonly differences: readonly Difference[];
  readonly tokens: number;
}

const FORMATS: readonly WeightFormat[] = ["int8", "llm.int8", "nf4"];
/** Paragraphs of the novel, and the letters below which the source leaves one out. A long one is cut to MOST tokens. */
const FROM = 60, TO = 92, LEAST_LETTERS = 200, MOST = 512;

/** Loaded one after the other: speed is not looked at. */
async function readAll(): Promise<Reader[]> {
  const texts = novel().split(/\n+/).filter((text) => text.trim() !== "").slice(FROM, TO), readers: Reader[] = [];
  for (const weights of FORMATS) {
    const llm = await LLM.load("tiny-neox", { ...TINY, weights });
    try {
      const paragraphs: Paragraph[] = [];
      for (const text of texts) {
        const ids = (await llm.tokenizer.encode(text)).slice(0, MOST);
        if (ids.length > 1) paragraphs.push({ letters: text.length, nlls: (await llm.perplexity(ids, { context: ids.length })).nlls });
      }
      readers.push({ name: weights, paragraphs });
    } finally {
      await llm.close();
    }
  }
  return readers;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const lowest = <R extends { readonly perplexity: number }>(rows: readonly R[]): R[] => rows.toSorted((a, b) => a.perplexity - b.perplexity);
const all = ({ paragraphs }: Reader): number[] => paragraphs.flatMap(({ nlls }) => Array.from(nlls));
/** Tokens of a paragraph hang together: of the error over tokens and that over paragraphs the larger one counts. */
const estimate = (nlls: readonly number[], { paragraphs }: Reader): { readonly mean: number; readonly error: number } => {
  const found = meanOf(Float64Array.from(nlls), paragraphs.map(({ nlls: { length } }) => length));
  return { mean: found.mean, error: Math.max(found.error ?? 0, found.errorOverWindows ?? 0) };
};

export async function exhibit({ readers: given }: Options = {}): Promise<Exhibit<Unweighted, Weighted>> {
  const readers = given ?? await readAll();
  const unweighted = lowest(readers.map(({ name, paragraphs }) => ({
    name, perplexity: Math.exp(mean(paragraphs.filter(({ letters }) => letters > LEAST_LETTERS).map(({ nlls }) => mean(Array.from(nlls))))),
  })));
  const weighted = lowest(readers.map((reader) => {
    const { mean: nll, error } = estimate(all(reader), reader), perplexity = Math.exp(nll);
    return { name: reader.name, perplexity, error: perplexity * error };
  }));
  const [best, ...others] = unweighted.map(({ name }) => readers.find((reader) => reader.name === name)!) as [Reader, ...Reader[]];
  const differences = others.map((other) => differenceOf(best, other)), [first] = differences as [Difference, ...Difference[]];
  const kept = best.paragraphs.filter(({ letters }) => letters > LEAST_LETTERS).length, tokens = all(best).length;
  const withError = ({ name, perplexity, error }: Ranked & { readonly error: number }): string =>
    `${name}: perplexity ${perplexity.toFixed(2)} ± ${error.toFixed(2)}`;
  const names = (rows: readonly Ranked[]): string => rows.map(({ name }) => name).join(" < ");
  const turned = names(weighted) === names(unweighted) ? "" : ` The ranking is another: ${names(weighted)}.`;
  return {
    misleading: {
      ranking: unweighted,
      says: `${unweighted.map(({ name, perplexity }) => `${name}: perplexity ${perplexity.toFixed(4)}`).join("\n")}\n` +
        `e to the mean of ${kept} losses, paragraphs of up to ${LEAST_LETTERS} letters left out: ${best.name} has the best quality.`,
    },
    honest: {
      ranking: weighted, differences, tokens,
      says: `${weighted.map(withError).join("\n")}\n` +
        `e to the mean over all ${tokens} tokens of the same ${best.paragraphs.length} paragraphs.${turned}\n` +
        differences.map(inWords).join("\n"),
    },
    gate: first.claimed ? null : inWords(first),
  };
}

function differenceOf(from: Reader, to: Reader): Difference {
  const base = all(from), { mean: nll, error } = estimate(all(to).map((value, i) => value - base[i]!), to);
  const percent = 100 * Math.expm1(nll), of = 100 * Math.exp(nll) * error;
  return { from: from.name, to: to.name, percent, error: of, claimed: Math.abs(percent) > CLAIM_ERRORS * of };
}

function inWords({ from, to, percent, error, claimed }: Difference): string {
  const { ratio, ratioIs } = en.weights, digits = error < 0.1 ? 5 : 4, verdict = !claimed ? "same" : percent > 0 ? "higher" : "lower";
  return ratio(to, from, `${(1 + percent / 100).toFixed(digits)} ± ${(error / 100).toFixed(digits)}`, ratioIs[verdict]);
}

await show(import.meta.url, "The mean of losses", () => exhibit());
