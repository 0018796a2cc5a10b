/**
 * Stands in for an LLM that speculates, in tests of the benchmark: the stand-in of fake_llm.ts, whose texts are those of plain decoding,
 * with rounds played by a seeded coin of known acceptance and a clock that charges each of them what drafting and verifying are said to
 * cost.
 */

import type { GenerateOptions, GenerateResult } from "../../index.ts";
import type { SpeculationCosts, SpeculationStats } from "../../models/draft.ts";
import type { Load } from "../../bench/core/arms.ts";
import type { SpeculativeModel } from "../../bench/core/speculation/arms.ts";
import { seeded } from "../../bench/core/stats.ts";
import { draftKindOf } from "../../techniques/speculation/spec.ts";
import { DECODE_MS, fakeLoad, type FakeOptions } from "./fake_llm.ts";

export interface FakeSpecOptions extends FakeOptions {
  /** Chance that a drafted token is accepted if those before it were. Default 0.8. */
  readonly alpha?: number;
  /** In decode steps: a draft step (default 0.1), and what each row more adds to a verify (default 0.05). */
  readonly c?: number;
  readonly perRow?: number;
  /** Costs are told as so many times what they are. */
  readonly costsAre?: number;
  /** Tokens per round whatever is asked for: the K that never arrives. */
  readonly stuckK?: number;
  readonly draftsNothing?: boolean;
  /** Another token at this place of every text with this K; of plain decoding: null. */
  readonly spoilAt?: { readonly k: number | "adaptive" | null; readonly token: number };
  /** Loads without a draft whatever is asked for. */
  readonly forgetsDraft?: boolean;
}

/** Share of the time of a request by which equal runs differ. */
const RESTLESS = 0.002;
const ROWS = 17, ADAPTS_TO = 4;

export function fakeSpecLoad(fake: FakeSpecOptions = {}): Load {
  const { alpha = 0.8, c = 0.1, perRow = 0.05, costsAre = 1 } = fake, load = fakeLoad(fake), costMs = costsAre * DECODE_MS;
  const verify = (k: number): number => 1 + perRow * k;
  const costs: SpeculationCosts = {
    decodeMs: costMs, draftMs: c * costMs, verifyMs: Array.from({ length: ROWS }, (_, i) => verify(i) * costMs), context: 64,
  };
  return async (name, options): Promise<SpeculativeModel> => {
    const model = await load(name, options), asked = options.draft, kind = asked === undefined ? "model" : draftKindOf(asked);
    let calls = 0;

    /** The rounds of a request for `count` tokens: what was drafted and accepted, and how many decode steps they took. */
    const play = (k: number, count: number, random: () => number): { stats: SpeculationStats; steps: number } => {
      const draftedAt: number[] = [], acceptedAt: number[] = [];
      let rounds = 0, tokens = 0, steps = 0;
      for (let left = count - 1; left > 0;) {
        // A text proposes something in half of the rounds, and not always as much as it may.
        const proposes = kind !== "text" ? k : random() < 0.5 ? 0 : Math.max(1, Math.floor(random() * (k + 1)));
        const drafted = fake.draftsNothing === true ? 0 : Math.min(proposes, left - 1);
        let accepted = 0;
        while (accepted < drafted && random() < alpha) accepted++;
        left -= accepted + 1;
        if (drafted === 0) {
          steps++;
          continue;
        }
        steps += (kind === "text" ? 0 : c * drafted) + verify(drafted);
        rounds++;
        tokens += accepted + 1;
        for (let i = 0; i < drafted; i++) {
          draftedAt[i] = (draftedAt[i] ?? 0) + 1;
          acceptedAt[i] = (acceptedAt[i] ?? 0) + Number(i < accepted);
        }
      }
      const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);
      const counts = { rounds, drafted: sum(draftedAt), accepted: sum(acceptedAt), draftedAt, acceptedAt, tokens };
      return { steps, stats: { draft: asked?.model ?? "", ...counts, draftMs: rounds, verifyMs: 2 * rounds, hostMs: rounds / 10 } };
    };

    const generate = async (prompt: readonly number[], { draft, ...rest }: GenerateOptions): Promise<GenerateResult> => {
      const result = await model.generate(prompt, rest), count = result.ids.length, wanted = draft === null ? null : draft?.k ?? 5;
      const random = seeded(prompt.length + (rest.seed ?? 0) + 7 * count + (wanted === "adaptive" ? 99 : wanted ?? 0));
      const restless = 1 + RESTLESS * Math.sin(1.7 * calls++), spoilt = fake.spoilAt?.k === wanted ? fake.spoilAt.token : null;
      const ids = result.ids.map((id, at) => (at === spoilt ? id + 1 : id));
      const played = wanted === null ? null : play(fake.stuckK ?? (wanted === "adaptive" ? ADAPTS_TO : wanted), count, random);
      const asksLogprobs = rest.logprobs !== undefined, { ttft } = result.timings;
      const decode = (played?.steps ?? count - 1) * DECODE_MS * restless;
      const best = { id: ids.at(-1)!, logprob: -0.5 }, told = { ...best, rank: 0, top: [best, { id: best.id + 1, logprob: -0.75 }] };
      return {
        ...result, ids, timings: { ttft, total: ttft + decode, tpot: count > 1 ? decode / (count - 1) : null,
          itl: Array.from({ length: count - 1 }, () => decode / (count - 1)) },
        stats: { ...result.stats, ...(played !== null && { speculation: played.stats }) },
        ...(asksLogprobs && { logprobs: ids.map((id, at) => (at === count - 1 ? told : { id, logprob: -1, rank: 0, top: [] })) }),
      };
    };
    const drafting = asked === undefined || fake.forgetsDraft === true ? null : { name: asked.model, kind };
    const told = kind === "text" ? { ...costs, draftMs: 0 } : costs;
    return { ...model, draft: drafting, generate, speculationCosts: () => Promise.resolve(told) };
  };
}
