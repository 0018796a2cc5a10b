/**
 * Every press by name: what it does in a line, what it must be shown, which paper it is from, and its parameters with their ranges. Help
 * texts, documentation and the checks of spec.ts are drawn from this one table.
 */

import type { Press } from "../../models/press.ts";
import { adakv } from "./adakv.ts";
import { chunk } from "./chunk.ts";
import { chunkkv } from "./chunkkv.ts";
import { composed } from "./composed.ts";
import { decoding } from "./decoding.ts";
import { expectedAttention } from "./expected_attention.ts";
import { keydiff } from "./keydiff.ts";
import { knorm } from "./knorm.ts";
import { knormSteps } from "./knorm_steps.ts";
import { lagkv } from "./lagkv.ts";
import { observedAttention } from "./observed_attention.ts";
import { perLayer } from "./per_layer.ts";
import { pyramidkv } from "./pyramidkv.ts";
import { random } from "./random.ts";
import { rerotate } from "./rerotate.ts";
import { snapkv } from "./snapkv.ts";
import { streamingLlm } from "./streaming_llm.ts";
import { tova } from "./tova.ts";

/** What a parameter may be. `least` and `most` belong to it; `above` and `below` bound it without belonging to it. */
export type Parameter = { readonly optional?: true; readonly text: string } & (
  | { readonly kind: "integer" | "number"; readonly least?: number; readonly most?: number; readonly above?: number; readonly below?: number }
  | { readonly kind: "boolean" | "press" | "presses" | "layers" | "ratios" | "positions" }
);

export interface PressEntry<Options = never> {
  readonly description: string;
  /** What it reads of each entry or query. */
  readonly needs: string;
  /** With its number at arXiv, where there is one. */
  readonly paper: string;
  /** Beside skipLayers and positions, which every press has. */
  readonly parameters: [Options] extends [never] ? Readonly<Record<string, Parameter>>
    : { readonly [Name in Exclude<keyof Options, Own>]-?: Parameter };
  /** Where, by these parameters, the ratio of the press inside has no effect: what to give it instead. */
  readonly overrides?: (options: Readonly<Record<string, unknown>>) => number | undefined;
  /** skipLayers and positions are its own to carry out. */
  readonly common?: "own";
  readonly make: (options: Options) => Press;
}

/** What every press has, and no entry lists. */
type Own = "skipLayers" | "positions";

/** An entry whose parameters are, name by name, the options of what makes the press. */
function entry<Options>(of: PressEntry<Options>): PressEntry<Options> {
  return of;
}

const ratio: Parameter = { kind: "number", least: 0, below: 1, text: "the share to evict" };
const sinks: Parameter = { kind: "integer", least: 0, optional: true, text: "first tokens that always stay (4)" };
const window: Parameter = { kind: "integer", least: 1, optional: true, text: "last tokens, whose queries vote and which always stay (64)" };
const kernel: Parameter = { kind: "integer", least: 1, optional: true, text: "entries that a score is averaged over, odd (5)" };
const press: Parameter = { kind: "press", text: "the press inside" };
const highest = (ratios: unknown): number => (Array.isArray(ratios) ? Math.max(0, ...ratios.filter((each) => each >= 0 && each < 1)) : 0);
const NONE = "none of its own; what the press inside needs";

export const PRESS_TABLE = {
  knorm: entry({
    description: "keeps the keys of the lowest norms",
    needs: "norms of keys", paper: "Devoto et al. 2024, arXiv 2406.11430", parameters: { ratio }, make: knorm,
  }),
  snapkv: entry({
    description: "keeps what the last tokens attend to, smoothed over neighbours",
    needs: "keys, the last queries", paper: "Li et al. 2024, arXiv 2404.14469",
    parameters: { ratio, window, kernel }, make: snapkv,
  }),
  pyramidkv: entry({
    description: "snapkv with budgets that shrink from the first layer to the last",
    needs: "keys, the last queries", paper: "Cai et al. 2024, arXiv 2406.02069",
    parameters: { ratio, window, kernel, beta: { kind: "number", least: 1, optional: true, text: "how steep the pyramid is (20)" } }, make: pyramidkv,
  }),
  tova: entry({
    description: "keeps what the last token attends to, averaged over all heads",
    needs: "keys, the last query", paper: "Oren et al. 2024, arXiv 2401.06104",
    parameters: { ratio }, make: tova,
  }),
  observed_attention: entry({
    description: "keeps what has got the most attention so far, per token that could give it (H2O)", needs: "attention of all queries, positions",
    paper: "Zhang et al. 2023, arXiv 2306.14048", parameters: { ratio }, make: observedAttention,
  }),
  expected_attention: entry({
    description: "keeps what queries to come are expected to attend to",
    needs: "keys, values, mean and covariance of all queries", paper: "Devoto et al. 2025, arXiv 2510.00636",
    parameters: {
      ratio, sinks,
      futurePositions: { kind: "integer", least: 1, optional: true, text: "positions ahead that are averaged over (512)" },
      covariance: { kind: "boolean", optional: true, text: "use the covariance of queries, not only their mean (true)" },
      valueNorm: { kind: "boolean", optional: true, text: "weigh by the norm of the value (true)" },
      epsilon: { kind: "number", least: 0, optional: true, text: "added to the attention before it is weighed (0)" },
    },
    make: expectedAttention,
  }),
  streaming_llm: entry({
    description: "keeps the first tokens and the newest",
    needs: "nothing", paper: "Xiao et al. 2024, arXiv 2309.17453", parameters: { ratio, sinks }, make: streamingLlm,
  }),
  keydiff: entry({
    description: "keeps keys that are unlike the mean key",
    needs: "keys", paper: "Park et al. 2025, arXiv 2504.15364", parameters: { ratio }, make: keydiff,
  }),
  lagkv: entry({
    description: "keeps what stands out against the tokens that follow it", needs: "keys, values", paper: "Liang et al. 2025, arXiv 2504.04704",
    parameters: {
      ratio, sinks,
      lagSize: { kind: "integer", least: 1, optional: true, text: "tokens of a partition (128)" },
      crossScoring: { kind: "boolean", optional: true, text: "compare scores between partitions, not ranks within them (false)" },
    },
    make: lagkv,
  }),
  random: entry({
    description: "keeps entries at random: what every other press must beat", needs: "nothing", paper: "a negative control",
    parameters: { ratio, seed: { kind: "integer", least: 0, most: 0xffff_ffff, optional: true, text: "seed (0)" } }, make: random,
  }),
  adakv: entry({
    description: "all heads of a layer share one budget", needs: NONE, paper: "Feng et al. 2024, arXiv 2407.11550",
    parameters: { press, alpha: { kind: "number", least: 0, most: 1, optional: true, text: "share of the budget that each head surely keeps (0.2)" } },
    make: adakv,
  }),
  chunk: entry({
    description: "selects in each chunk of the text for itself", needs: NONE, paper: "Corallo and Papotti 2024, doi 10.1162/tacl_a_00716",
    parameters: { press, chunk: { kind: "integer", least: 1, optional: true, text: "entries of a chunk (1024)" } }, make: chunk,
  }),
  chunkkv: entry({
    description: "keeps whole chunks of tokens, the same in all heads", needs: NONE, paper: "Liu et al. 2025, arXiv 2502.00299",
    parameters: { press, chunk: { kind: "integer", least: 1, optional: true, text: "entries of a chunk (20)" } }, make: chunkkv,
  }),
  per_layer: entry({
    description: "a ratio for each layer", needs: NONE, paper: "a wrapper of kvpress",
    parameters: { press, ratios: { kind: "ratios", text: "one for each layer" } }, overrides: ({ ratios }) => highest(ratios), make: perLayer,
  }),
  composed: entry({
    description: "presses one after the other, each on what the one before has left", needs: NONE, paper: "a wrapper of kvpress",
    parameters: { presses: { kind: "presses", text: "two or more" } }, make: composed,
  }),
  rerotate: entry({
    description: "rotates kept keys to the places they have in the cache",
    needs: NONE, paper: "Xiao et al. 2024, arXiv 2309.17453", parameters: { press }, make: rerotate,
  }),
  decoding: entry({
    description: "cuts the cache back to a size every so many new tokens", needs: NONE, paper: "a wrapper of kvpress",
    parameters: {
      press,
      every: { kind: "integer", least: 1, optional: true, text: "new tokens between two acts (512)" },
      target: { kind: "integer", least: 1, optional: true, text: "entries that stay (2048)" },
      prefill: { kind: "boolean", optional: true, text: "act behind the prompt too, by the ratio of the press inside (false)" },
    },
    overrides: ({ prefill }) => (prefill === true ? undefined : 0),
    make: decoding,
  }),
  knorm_steps: entry({
    description: "knorm after every token, once a layer holds so many entries", needs: "norms of keys", paper: "Devoto et al. 2024, arXiv 2406.11430",
    parameters: {
      keepRatio: { kind: "number", above: 0, most: 1, text: "the share that stays" },
      pruneAfter: { kind: "integer", least: 1, optional: true, text: "entries of a layer from which on it acts (512)" },
      chunk: { kind: "integer", least: 1, optional: true, text: "tokens between two looks (1)" },
    },
    common: "own",
    make: knormSteps,
  }),
};

export type PressName = keyof typeof PRESS_TABLE;
export const PRESS_NAMES = Object.keys(PRESS_TABLE) as readonly PressName[];

/** The same entry, where it is not known which one it is. */
export function entryOf(name: PressName): PressEntry {
  return PRESS_TABLE[name] as PressEntry;
}
