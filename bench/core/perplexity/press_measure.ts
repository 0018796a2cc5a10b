/**
 * A model on a text under presses: what each does to the prediction of the same tokens, and to the speed of generation. A press that
 * evicted nothing, though it was told to, makes its row invalid, whatever its figures are: they would be those of no press under another
 * name.
 */

import { UsageError } from "../../../engine/errors.ts";
import type { LLM } from "../../../index.ts";
import type { DivergenceResult, GenerateOptions, GenerateResult, PerplexityOptions, PerplexityResult,
  PressReport } from "../../../models/options.ts";
import { meanOf, type Mean } from "../../../models/perplexity.ts";
import { qualityOf, type Quality } from "../quality.ts";
import { CONTROL, PLAIN_ARM, type Arm } from "./press_arms.ts";
import type { PressConfig, QualityConfig } from "./press_options.ts";
import { measureSpeed, type Speed } from "./press_speed.ts";

/** What a measurement needs of an LLM; tests give a stand-in. */
export interface Pressable extends Pick<LLM, "source" | "environment" | "maxModelLen" | "memory" | "close"> {
  readonly config: Pick<LLM["config"], "eosTokenIds">;
  readonly tokenizer: { encode(text: string): readonly number[] | Promise<readonly number[]> };
  perplexity(ids: readonly number[], options: PerplexityOptions): Promise<PerplexityResult>;
  divergence(base: Pressable, ids: readonly number[], options: PerplexityOptions): Promise<DivergenceResult>;
  generate(ids: readonly number[], options: GenerateOptions): Promise<GenerateResult>;
}

export interface Row {
  readonly arm: Arm;
  /** Why the figures of this row mean nothing; null where they do. */
  readonly invalid: string | null;
  /** Whether it evicted anything, in every part that it took part in; null without a press. */
  readonly engaged: boolean | null;
  /** Under the press, beside no press on the same tokens; null where it took no part. */
  readonly quality: { readonly result: DivergenceResult; readonly quality: Quality } | null;
  readonly speed: Speed | null;
  /** −log p less that of `random` at the same ratio, token by token; null where there is no such row. */
  readonly againstRandom: Mean | null;
}

export interface Measured {
  /** No press first, then by perplexity, and those that mean nothing last. */
  readonly rows: readonly Row[];
  /** Without a press, by the protocol of the run; null under --speed-only. */
  readonly plain: Pick<PerplexityResult, "protocol" | "context" | "stride" | "nlls" | "tokens" | "windows" | "tokensPerWindow"> | null;
  /** Windows that the text has under the protocol. */
  readonly windowsOfText: number | null;
  readonly speed: { readonly promptTokens: number; readonly order: readonly (readonly string[])[]; readonly again: Speed } | null;
  readonly notes: readonly string[];
}

export interface Watch { readonly signal: AbortSignal; readonly onStep: (label: string, done: number, total: number) => void }

export async function measure(llm: Pressable, ids: readonly number[], config: PressConfig, arms: readonly Arm[],
  watch: Watch): Promise<Measured> {
  const limit = Math.min(config.contextLimit, llm.maxModelLen), notes: string[] = [];
  const quality = config.quality === null ? null : await measureQuality(llm, ids, config, config.quality, limit, arms, watch, notes);
  const refused = new Map([...quality?.refused ?? []].map(([arm, why]) => [arm, `quality: ${why}`]));
  const left = arms.filter((arm) => !refused.has(arm)), lenient = config.press === "all";
  const speed = config.speed === null ? null : await measureSpeed(llm, ids, config.speed, limit, left, watch, lenient, notes);
  for (const [arm, why] of speed?.refused ?? []) refused.set(arm, `speed: ${why}`);
  const rows = arms.map((arm): Row => {
    const result = quality?.results.get(arm) ?? null, timed = speed?.of.get(arm) ?? null;
    const idle = [
      ...(result === null ? []
        : [{ part: "quality", why: whyIdle(result.press, config.steps, result.context, result.protocol === "decode") }]),
      ...(timed === null ? [] : [{ part: "speed", why: whyIdle(timed.press ?? undefined, config.steps, speed!.promptTokens) }]),
    ].filter(({ why }) => why !== null);
    const invalid = refused.get(arm) ?? (idle.length === 0 || arm.mayIdle ? null
      : idle.map(({ part, why }) => `${part}: ${why}`).join("; "));
    return {
      arm, invalid, engaged: idle.length === 0 && !refused.has(arm), quality: result && { result, quality: qualityOf(result) },
      speed: timed,
      againstRandom: againstRandom(arm, arms, quality?.results),
    };
  });
  const first: Row = { arm: PLAIN_ARM, invalid: null, engaged: null, quality: null, speed: speed?.of.get(PLAIN_ARM) ?? null,
    againstRandom: null };
  const badness = ({ invalid, quality: of }: Row): number => (invalid !== null ? Infinity : of?.quality.perplexity.value ?? 0);
  return {
    rows: [first, ...rows.toSorted((a, b) => (badness(a) === badness(b) ? 0 : badness(a) - badness(b)))],
    plain: quality?.plain ?? null, windowsOfText: quality?.windowsOfText ?? null,
    speed: speed && { promptTokens: speed.promptTokens, order: speed.order, again: speed.again }, notes,
  };
}

interface Qualities {
  readonly plain: NonNullable<Measured["plain"]>;
  readonly results: ReadonlyMap<Arm, DivergenceResult>;
  readonly refused: ReadonlyMap<Arm, string>;
  readonly windowsOfText: number;
}

async function measureQuality(
  llm: Pressable, ids: readonly number[], config: PressConfig, asked: QualityConfig, limit: number, arms: readonly Arm[],
  { signal, onStep }: Watch, notes: string[],
): Promise<Qualities> {
  const { context, continuation } = windowOf(ids.length, asked, limit, notes);
  const { protocol, stride, maxWindows } = asked;
  const pressed = asked.applyPress ? arms : [], total = Math.max(1, pressed.length);
  const optionsOf = ({ name, press }: Arm, i: number): PerplexityOptions => ({
    protocol, context, ...(continuation !== null && { continuation }), ...(stride !== null && { stride }), maxWindows, press, signal,
    onProgress: (done, of) => { onStep(`perplexity: ${name}`, i * of + done, total * of); },
  });
  const results = new Map<Arm, DivergenceResult>(), refused = new Map<Arm, string>();
  for (const [i, arm] of pressed.entries()) {
    try {
      results.set(arm, await llm.divergence(llm, ids, optionsOf(arm, i)));
    } catch (error) {
      if (!(error instanceof UsageError) || config.press !== "all") throw error;
      refused.set(arm, error.message);
    }
  }
  const [beside] = results.values();
  const plain = beside === undefined ? await llm.perplexity(ids, optionsOf(PLAIN_ARM, 0)) : { ...beside, nlls: beside.baseNlls };
  const windows = ids.length / (stride ?? context + (continuation ?? 0)), isCut = protocol === "llama.cpp"
    || protocol === "prefill-continue";
  return { plain, results, refused, windowsOfText: isCut ? Math.floor(windows) : Math.ceil(windows) };
}

/**
 * C and T (null where a protocol has none): as asked for; else what a text of `count` tokens and `limit` allow, said aloud. Throws
 * UsageError.
 */
function windowOf(
  count: number, { protocol, context, continuation, applyPress }: QualityConfig, limit: number, notes: string[],
): { context: number; continuation: number | null } {
  const most = Math.min(count, limit);
  if (most < 3) throw new UsageError(`the text has ${count} tokens, too few to predict any`);
  if (protocol !== "prefill-continue") return { context: context ?? Math.min(applyPress ? 512 : limit, most), continuation: null };
  const T = continuation ?? Math.min(128, Math.max(1, Math.floor(most / 5)));
  const C = context ?? Math.min(512, most - T);
  if (C < 1 || C + T > most) {
    const bound = count <= limit ? `the text has ${count}` : `--context-limit and the model allow ${limit}`;
    throw new UsageError(`context ${C} and continuation ${T} are ${C + T} tokens, but ${bound}`);
  }
  if ((context === null && C < 512) || (continuation === null && T < 128)) {
    notes.push(`the window is cut to ${C} tokens of context and ${T} of continuation: ${most} is all there is`);
  }
  return { context: C, continuation: T };
}

/**
 * Why nothing, or everything, was evicted; null when it was neither. `context`: tokens that there were to evict from. `isDecode`: of a
 * window that is read token by token, whose first token is the prompt.
 */
export function whyIdle(report: PressReport | undefined, steps: PressConfig["steps"], context: number, isDecode = false): string | null {
  if (report === undefined) return "the press was not there: nothing was evicted";
  const { evicted, events, kept, seen } = report;
  if (evicted > 0) {
    const isEmpty = kept.flat().every((count) => count === 0);
    return isEmpty ? `it left nothing of ${seen} tokens in any head: what follows is predicted from nothing` : null;
  }
  if (steps !== null && context < steps.pruneAfter) {
    return `the context has ${context} tokens, fewer than prune_after ${steps.pruneAfter}: nothing was pruned`;
  }
  if (events === 0) return `it never acted in ${context} tokens: nothing was evicted`;
  const hint = isDecode ? " (under decode the prompt is one token; for a press that acts once take prefill-continue)" : "";
  return `it acted and evicted nothing of ${Math.round(seen)} token${Math.round(seen) === 1 ? "" : "s"}${hint}`;
}

function againstRandom(arm: Arm, arms: readonly Arm[], results: ReadonlyMap<Arm, DivergenceResult> | undefined): Mean | null {
  const control = arms.find(({ name, ratio }) => name === CONTROL && ratio === arm.ratio);
  const [own, random] = [results?.get(arm), control && results?.get(control)];
  if (own === undefined || random === undefined || control === arm) return null;
  return meanOf(own.nlls.map((nll, i) => nll - random.nlls[i]!), own.tokensPerWindow);
}
