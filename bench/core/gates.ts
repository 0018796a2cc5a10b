/**
 * The gates between a measurement and a sentence about it. A technique that did not act leaves nothing to conclude: an arm that fails a
 * gate is INVALID, nothing is said of it, and the exit code is not 0. Each gate takes what the engine itself reports and gives the reason
 * in words, or null where the arm may be spoken of. Whether a difference may be told is another gate: `change` of stats.ts.
 */

import { isFloat, type HeldFormat } from "../../kernels/formats.ts";
import type { SpeculationStats } from "../../models/draft.ts";
import type { PressReport } from "../../models/options.ts";
import type { HeldWeights } from "../../models/weights.ts";
import type { Words } from "./lang/en.ts";
import { bytes } from "./metrics.ts";

/** A request, as far as gates look at it. */
export interface Done { readonly promptTokens: number; readonly newTokens: number }

export interface Pressed extends Done { readonly report: PressReport | null }

/**
 * A press that should evict must have evicted something in every request, and while quality was scored. `pruneAfter`: of presses that act
 * from that many entries on. `scored`: its report of the scoring; undefined where nothing was scored.
 */
export function gatePress(
  requests: readonly Pressed[], { pruneAfter, scored }: { readonly pruneAfter?: number | undefined; readonly scored?: PressReport | null | undefined },
  { press: say }: Words,
): string | null {
  for (const { promptTokens, newTokens, report } of requests) {
    if ((report?.evicted ?? 0) > 0) continue;
    if (pruneAfter !== undefined && promptTokens + newTokens < pruneAfter) return say.tooShort(promptTokens, newTokens, pruneAfter);
    return say.notEvicted(report?.events ?? 0, promptTokens, newTokens);
  }
  return scored === undefined || (scored?.evicted ?? 0) > 0 ? null : say.notScored;
}

/**
 * Something must have been drafted, never more than K, and K itself in every round that the text has room for. A draft that looks into the
 * text (`text`) may propose less than K, or nothing, but never more. `k`: null where it adapts. `requests`: null of one without a draft.
 */
export function gateDraft(requests: readonly (SpeculationStats | null)[], { k, kind }: { readonly k: number | null; readonly kind: "model" | "text" | "self" },
  { spec: say }: Words): string | null {
  let drafted = 0;
  for (const stats of requests) {
    if (stats === null || (kind !== "text" && stats.drafted === 0)) return say.draftedNothing;
    const { rounds, draftedAt } = stats;
    drafted += stats.drafted;
    if (k === null) continue;
    if (draftedAt.length > k) return say.draftedMore(String(draftedAt.length), String(k));
    // Where k tokens or fewer are left there is no room for a whole round, and each yields one at least: no more than k rounds are cut.
    const whole = draftedAt[k - 1] ?? 0;
    if (kind !== "text" && rounds - whole > k) return say.draftedLess(String(whole), String(rounds), String(k));
  }
  return drafted === 0 ? say.draftedNothing : null;
}

/** Some matrix must be held in the format that was asked for. `label` names the arm. */
export function gateWeights(held: readonly HeldWeights[], asked: string, label: string, { weights: say }: Words): string | null {
  return held.some(({ format, matrices }) => format === asked && matrices > 0) ? null : say.notHeld(label, asked);
}

/** Quantized weights must take fewer bytes than those they are compared with. */
export function gateSmaller(asked: string, own: number, basic: number, label: string, { weights: say }: Words): string | null {
  return isFloat(asked as HeldFormat) || own < basic ? null : say.savesNothing(label, bytes(own), bytes(basic));
}

/** A prefix cache must have been hit. */
export function gatePrefix(hitTokens: number, words: Words): string | null {
  return hitTokens > 0 ? null : words.noHit;
}

/** A paged cache must waste less of what it reserves than the contiguous one does; null shares are not known. */
export function gatePaging(paged: number | null, contiguous: number | null, engagement: string, words: Words): string | null {
  return paged !== null && contiguous !== null && paged < contiguous ? null : words.savedNothing(engagement);
}

/** Entries of a quantized cache must take fewer bytes than those they are compared with. */
export function gateEntries(format: string, own: number, basic: number, { gates: say }: Words): string | null {
  return own < basic ? null : say.entriesNoSmaller(format, own, basic);
}

/**
 * All arms must have done the same work: prompts of the same tokens and as many new ones, in every iteration. An end-of-text token that
 * stops one arm early makes it look fast. `of`, `other`: requests of two arms in the same order.
 */
export function gateWork(of: readonly Done[], other: readonly Done[], { gates: say }: Words): string | null {
  if (of.length !== other.length) return say.otherRequests(of.length, other.length);
  const at = of.findIndex(({ promptTokens, newTokens }, i) => promptTokens !== other[i]!.promptTokens || newTokens !== other[i]!.newTokens);
  if (at < 0) return null;
  const [own, base] = [of[at]!, other[at]!];
  return own.promptTokens !== base.promptTokens ? say.otherPrompt(at + 1, own.promptTokens, base.promptTokens) : say.otherLength(at + 1, own.newTokens, base.newTokens);
}

/** Bars must stand on zero: a bar on a clipped axis shows a ratio that is not there. Looks through all views of a Vega-Lite specification. */
export function gateAxes(spec: Readonly<Record<string, unknown>>, { gates: say }: Words): string | null {
  for (const view of viewsOf(spec)) {
    const mark = typeof view.mark === "string" ? view.mark : view.mark?.type;
    if (mark !== "bar") continue;
    for (const axis of ["x", "y"] as const) {
      const encoding = view.encoding?.[axis];
      if (encoding?.type !== "quantitative" || encoding.bin !== undefined) continue;
      const { type, zero, domain, domainMin } = encoding.scale ?? {}, base = view.encoding?.[`${axis}2`];
      const low = base?.datum ?? domainMin ?? domain?.[0];
      // On a logarithmic scale there is no zero to stand on.
      if (type === "log" || zero === false || (typeof low === "number" && low > 0)) return say.clipped(encoding.title ?? encoding.field ?? axis, typeof low === "number" ? Number(low.toPrecision(4)) : null);
    }
  }
  return null;
}

interface View {
  readonly mark?: string | { readonly type?: string };
  readonly encoding?: Readonly<Record<string, {
    readonly type?: string; readonly bin?: unknown; readonly title?: string; readonly field?: string; readonly datum?: unknown;
    readonly scale?: { readonly type?: string; readonly zero?: boolean; readonly domain?: readonly unknown[]; readonly domainMin?: number };
  } | undefined>>;
}

/** Every unit view, with the encoding that it inherits. */
function viewsOf(spec: Readonly<Record<string, unknown>>, inherited: View["encoding"] = {}): View[] {
  const encoding = { ...inherited, ...(spec["encoding"] as View["encoding"]) };
  const parts = ["layer", "concat", "hconcat", "vconcat"].flatMap((key) => (spec[key] as Readonly<Record<string, unknown>>[] | undefined) ?? []);
  const nested = spec["spec"] as Readonly<Record<string, unknown>> | undefined;
  const children = [...parts, ...(nested === undefined ? [] : [nested])].flatMap((part) => viewsOf(part, encoding));
  return "mark" in spec ? [{ ...(spec as View), encoding }, ...children] : children;
}
