/**
 * What an outcome is worth: `ok` only where every value of the cell was seen at work and every identity held, `refused` only for a typed
 * error before anything was computed, and a bug everything else. Works on outcomes alone, also those of an earlier run.
 */

import { DEFAULTS, SIZES, type Cell } from "./axes.ts";
import { keyOf, qualityBase, sameTextAs } from "./cells.ts";
import type { Outcome, Outcomes, Parting } from "./trial.ts";

export type Verdict =
  | { readonly status: "ok"; /** Worth knowing all the same. */ readonly note: string | null }
  | { readonly status: "refused"; readonly at: "load" | "request"; readonly type: string; readonly reason: string }
  | { readonly status: "BUG"; readonly problems: readonly string[] };

/**
 * Texts may part where the two tokens are as good as equally likely: the same sums in another order of rows differ in their last bits. In
 * nats between the two; where something is rounded to codes, a last bit may be a whole step of one.
 */
export const TIE = { floats: 1e-3, codes: 5e-2 } as const;

/**
 * Formats may take so many more or fewer nats per token than f32 in their place, as a share: of 8 bits and more, and where one has 4 bits. The
 * widest seen are 0.3 % and 1.2 %; keys and values that come back from int8 a third too large cost 4 %.
 */
export const QUALITY = { bits8: 0.01, bits4: 0.03 } as const;
/** Least share of the weights that must be held in the format asked for: all but embeddings and head, which quantized models keep in floats. */
const LEAST_HELD = 0.5;
/** KV buffers may take so much more than the blocks: tables, and the newest keys of kivi4. */
const KV_BESIDE = 0.05;

export function judge(cell: Cell, outcomes: Outcomes): Verdict {
  const outcome = outcomes.get(keyOf(cell));
  if (outcome === undefined) return { status: "BUG", problems: ["it was not tried"] };
  if (outcome.state === "failed") return { status: "BUG", problems: [outcome.reason] };
  if (outcome.state === "refused") {
    const { at, type, reason, steps } = outcome;
    if (steps > 0) return { status: "BUG", problems: [`refused only after ${steps} forward passes: ${reason}`] };
    return { status: "refused", at, type, reason };
  }
  const problems = [...idle(cell, outcome, outcomes), ...wrong(cell, outcome, outcomes), ...poor(cell, outcome, outcomes)];
  if (problems.length > 0) return { status: "BUG", problems };
  return { status: "ok", note: outcome.facts.cachedWithoutPress ? NOTHING_SHARED : null };
}

export const NOTHING_SHARED = "the press must see every query of its prompt, so its own requests take nothing out of the prefix cache; "
  + "those without it do";

/** Tokens that both sequences together reserve where the cache is contiguous. */
const RESERVED: Readonly<Record<string, number>> = {
  "contiguous-max": SIZES.prompts.length * SIZES.maxModelLen,
  "contiguous-exact": SIZES.prompts.reduce((sum, prompt) => sum + prompt + SIZES.newTokens, 0),
};

type Ran = Extract<Outcome, { state: "ran" }>;

/** Values that were not at work. */
function idle(cell: Cell, { facts }: Ran, outcomes: Outcomes): string[] {
  const { weights, kv, press, layout, draft } = cell, { held, blockSize, reserved, evicted, kept, drafted, cached } = facts;
  const plain = outcomes.get(keyOf({ ...cell, press: "none", draft: "none" })), kvBytes = plain?.state === "ran" ? plain.facts.kvBytes : null;
  const problems: string[] = [];
  if (!(held >= LEAST_HELD)) problems.push(`weights: ${percent(held)} are held in ${weights}`);
  if (kvBytes === null) problems.push("kv: without press and draft the cell did not run, so the format was not seen");
  else {
    const [ledger, blocks] = kvBytes;
    const fits = blocks > 0 && ledger >= blocks && ledger <= blocks * (1 + KV_BESIDE);
    if (!fits) problems.push(`kv: ${ledger} bytes are taken, but blocks of ${kv} take ${blocks}`);
  }
  const isPaged = layout.startsWith("paged");
  if (isPaged !== blockSize > 1) problems.push(`layout: blocks have ${blockSize} tokens`);
  const wanted = RESERVED[layout];
  if (wanted !== undefined && reserved !== wanted) problems.push(`layout: ${reserved} tokens were reserved where ${layout} reserves ${wanted}`);
  if (layout === "paged-prefix" && !cached.every((count) => count > 0)) {
    problems.push(`layout: ${cached.join(" and ")} tokens of the prompts came out of the prefix cache`);
  }
  if (evicted !== null && !evicted.every((count) => count > 0)) problems.push(`press: ${press} evicted ${evicted.join(" and ")} entries`);
  if (kept !== null && !kept.every((count) => count > 0)) problems.push(`press: ${press} left nothing`);
  if (drafted !== null && !drafted.every((count) => count > 0)) problems.push(`draft: ${draft} drafted ${drafted.join(" and ")} tokens`);
  return problems;
}

/** Texts that are not what they must be. */
function wrong(cell: Cell, { ids, compared, partings, facts: { idleEvicted } }: Ran, outcomes: Outcomes): string[] {
  const problems: string[] = [], stateOf = (other: Cell) => outcomes.get(keyOf(other))?.state;
  const same = [...sameTextAs(cell).map(({ cells }) => cells), ...(cell.press === "none" ? [] : [[{ ...cell, press: "none" }]])];
  const held = same.filter((cells) => cells.some((other) => stateOf(other) === "ran"));
  for (const cells of same) {
    if (held.includes(cells) || cells.every((other) => stateOf(other) === "refused")) continue;
    problems.push(`its text was held against none: ${cells.map(keyOf).join(" and ")} did not run`);
  }
  if (compared !== held.length * SIZES.prompts.length) problems.push(`${compared} texts were compared instead of ${held.length * SIZES.prompts.length}`);
  for (const [prompt, text] of ids.entries()) {
    if (text.length === SIZES.newTokens && text.every((id) => Number.isInteger(id) && id >= 0)) continue;
    problems.push(`prompt ${prompt + 1} got ${text.length} tokens instead of ${SIZES.newTokens}, or some that are no ids`);
  }
  if (idleEvicted?.some((count) => count > 0) === true) problems.push(`the press evicted ${idleEvicted.join(" and ")} entries when it was to evict none`);
  for (const parting of partings) if (!isTie(cell, parting)) problems.push(inWords(parting));
  return problems;
}

export function isTie(cell: Cell, { gap }: Parting): boolean {
  return gap !== null && gap <= (isRounded(cell) ? TIE.codes : TIE.floats);
}

const FLOATS: readonly string[] = ["f32", "f16", "bf16"];
function isRounded({ weights, kv }: Cell): boolean {
  return !FLOATS.includes(kv) || weights === "llm.int8";
}

const SAYS: Readonly<Record<Parting["why"], string>> = {
  draft: "the text is another than without the draft", layout: "the text is another than in another layout",
  "idle press": "with a press that evicts nothing the text is another than without one",
};

function inWords({ why, prompt, token, gap }: Parting): string {
  const apart = gap === null ? "far" : `${gap.toPrecision(2)} nats`;
  return `${SAYS[why]}, from token ${token + 1} of prompt ${prompt + 1} on, where the two tokens are ${apart} apart`;
}

/** Predictions that are too far from those of f32, or so equal to those of the default that the format cannot have been there. */
function poor(cell: Cell, { nll }: Ran, outcomes: Outcomes): string[] {
  if (nll === null) return [];
  if (!Number.isFinite(nll)) return [`the text is predicted at ${nll} nats per token`];
  const problems: string[] = [], more = qualityOf(cell, outcomes);
  const most = hasFourBits(cell) ? QUALITY.bits4 : QUALITY.bits8;
  if (more !== null && Math.abs(more) > most) {
    problems.push(`the text takes ${percent(more)} more nats per token than with f32; ${percent(most)} are allowed`);
  }
  // What a format of 16 bits holds is as large as the default's. Weights of the checkpoints, which are f16, are the same numbers in f32.
  const plain = outcomes.get(keyOf({ ...cell, kv: DEFAULTS.kv }));
  const isPlain = cell.kv !== DEFAULTS.kv && plain?.state === "ran" && plain.nll === nll;
  if (isPlain) problems.push(`kv: predictions are those of ${DEFAULTS.kv} to the last bit`);
  return problems;
}

function hasFourBits({ weights, kv }: Cell): boolean {
  return /(?:nf|fp|int|kivi)4/.test(`${weights} ${kv}`);
}

/** How many more nats per token than with f32 in the place of the cell's formats, as a share; null where that is not to be had. */
export function qualityOf(cell: Cell, outcomes: Outcomes): number | null {
  const base = qualityBase(cell), own = outcomes.get(keyOf(cell)), theirs = base === null ? undefined : outcomes.get(keyOf(base));
  if (own?.state !== "ran" || theirs?.state !== "ran" || own.nll === null || theirs.nll === null) return null;
  return own.nll / theirs.nll - 1;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
