/**
 * Stands in for an LLM that does everything at once, in tests of free combinations: the server of fake_llm.ts with entries as large as
 * their format makes them, presses that evict, drafts that play rounds, and quality that gets worse with what is lost. Every technique can
 * be broken on its own, as a bug would break it.
 */

import { checkAborted } from "../../models/perplexity.ts";
import type { CacheStats, GenerateOptions, GenerateResult, LoadOptions } from "../../index.ts";
import type { SpeculationStats } from "../../models/draft.ts";
import type { PressReport } from "../../models/options.ts";
import type { Load, Model } from "../../bench/core/arms.ts";
import type { SpeculativeModel } from "../../bench/core/speculation/arms.ts";
import { draftKindOf } from "../../techniques/speculation/spec.ts";
import { ENTRY_BYTES, fakeLoad, type FakeOptions } from "./fake_llm.ts";

export interface FakeCombosOptions extends FakeOptions {
  /** Presses act and evict nothing; or evict nothing while a text is scored. */
  readonly idlePress?: boolean;
  readonly idleWhenScored?: boolean;
  /** Tokens per round whatever K is. */
  readonly stuckK?: number;
  readonly draftsNothing?: boolean;
  readonly forgetsDraft?: boolean;
  /** Keys and values stay in f16 whatever is asked for. */
  readonly keepsEntries?: boolean;
  /** Requests of this layout, or with a draft, write another token at this place; or this many tokens fewer. */
  readonly spoilAt?: { readonly where: "paged" | "contiguous" | "draft"; readonly token: number };
  readonly shortBy?: { readonly where: "paged" | "contiguous" | "draft"; readonly tokens: number };
  /** Tells the process to stop, as Ctrl-C does, when so many batches were begun. */
  readonly interruptAt?: number;
  /** The fingerprint of the model's files. */
  readonly fingerprint?: string;
}

interface Named { readonly name: string; readonly ratio: number }

/** Of the f16 that the server counts in. */
const SHARE: Readonly<Record<string, number>> = { f32: 2, f16: 1, bf16: 1, int8: 0.75, int4: 0.5 };
/** Nats per token: of an int8 cache, and of a press that evicts everything. */
const KV_LOSS = 0.01, PRESS_LOSS = 0.4;
const ALPHA = 3; // of so many drafted tokens, one is refused

let batches = 0;

function reportOf({ name, ratio }: Named, prompt: number, idle: boolean): PressReport {
  const kept = idle ? prompt : Math.floor(prompt * (1 - ratio)), evicted = prompt - kept;
  return { name, events: 1, evicted, kept: [[kept]], seen: prompt, freedBytes: evicted * ENTRY_BYTES, ms: 0.25 };
}

/** The rounds of a request for `count` tokens. */
function play(draft: string, k: number, count: number, fake: FakeCombosOptions): SpeculationStats {
  const draftedAt: number[] = [], acceptedAt: number[] = [];
  let rounds = 0, tokens = 0;
  for (let left = count - 1, drawn = 0; left > 0;) {
    const drafted = fake.draftsNothing === true ? 0 : Math.min(k, left - 1);
    let accepted = 0;
    while (accepted < drafted && ++drawn % ALPHA > 0) accepted++;
    left -= accepted + 1;
    if (drafted === 0) continue;
    rounds++;
    tokens += accepted + 1;
    for (let i = 0; i < drafted; i++) {
      draftedAt[i] = (draftedAt[i] ?? 0) + 1;
      acceptedAt[i] = (acceptedAt[i] ?? 0) + Number(i < accepted);
    }
  }
  const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);
  return { draft, rounds, drafted: sum(draftedAt), accepted: sum(acceptedAt), draftedAt, acceptedAt, tokens, draftMs: 1, verifyMs: 2,
    hostMs: 0.5 };
}

export function fakeCombosLoad(fake: FakeCombosOptions = {}): Load {
  const load = fakeLoad(fake);
  return async (name, options: LoadOptions): Promise<SpeculativeModel> => {
    const share = fake.keepsEntries === true || typeof options.kv !== "string" ? 1 : SHARE[options.kv]!, layout = options.kvLayout?.name ?? "contiguous";
    // The server counts every entry as one of f16: for others it is given as many more or fewer bytes.
    const model = await load(name, { ...options, ...(options.kvMemory !== undefined && { kvMemory: options.kvMemory / share }) });
    const { blocksTotal, blockSize } = model.cacheStats(), kv = blocksTotal * blockSize * ENTRY_BYTES * share;
    const kind = options.draft === undefined ? "model" : draftKindOf(options.draft);
    const draft = options.draft === undefined || fake.forgetsDraft === true ? null : { name: options.draft.model, kind };

    const generateBatch = async (
      prompts: readonly (readonly number[])[], { press, draft: asked, ...rest }: GenerateOptions,
    ): Promise<GenerateResult[]> => {
      if (++batches === fake.interruptAt) process.kill(process.pid, "SIGINT");
      // A signal is told in a turn of the loop of its own.
      await new Promise((resolve) => { setTimeout(resolve, batches === fake.interruptAt ? 50 : 0); });
      checkAborted("generateBatch", rest.signal);
      const isDrafted = draft !== null && asked !== null && asked !== undefined;
      const isAt = (where: string | undefined): boolean => where === layout || (where === "draft" && isDrafted);
      const results = await model.generateBatch(prompts,
        { ...rest, maxNewTokens: rest.maxNewTokens! - (isAt(fake.shortBy?.where) ? fake.shortBy!.tokens : 0) });
      const named = (press ?? null) as Named | null, k = asked?.k;
      return results.map((result, i): GenerateResult => ({
        ...result,
        ids: result.ids.map((id, at) => (isAt(fake.spoilAt?.where) && at === fake.spoilAt!.token ? id + 1 : id)),
        stats: {
          ...result.stats,
          ...(named !== null && { press: reportOf(named, prompts[i]!.length, fake.idlePress === true) }),
          ...(isDrafted && { speculation: play(draft.name, fake.stuckK ?? (typeof k === "number" ? k : 4), result.ids.length, fake) }),
        },
      }));
    };

    const divergence: Model["divergence"] = async (base, ids, { press, ...rest }) => {
      const result = await model.divergence(base, ids, rest), named = (press ?? null) as Named | null;
      const report = named === null ? undefined : reportOf(named, rest.context!, fake.idlePress === true || fake.idleWhenScored === true);
      const loss = (share < 1 ? KV_LOSS : 0) + (report === undefined ? 0 : PRESS_LOSS * report.evicted / rest.context!);
      return {
        ...result, nlls: result.nlls.map((nll, i) => nll + loss * (1 + 0.5 * Math.cos(3 * i))), klds: result.klds.map((kld) => kld + loss),
        ...(report !== undefined && { press: report, kept: report.kept }),
      };
    };

    const memory: Model["memory"] = () => {
      const { peak, ...now } = model.memory();
      const swap = (bytes: typeof peak): typeof peak => ({ ...bytes, kv, total: bytes.total - bytes.kv + kv });
      return { ...swap(now), peak: swap(peak) };
    };
    const cacheStats = (): CacheStats => model.cacheStats();
    const source = fake.fingerprint === undefined ? model.source : { ...model.source, fingerprint: fake.fingerprint };
    return { ...model, source, draft, memory, cacheStats, generateBatch, divergence,
      speculationCosts: () => Promise.reject(new Error("not measured here")) };
  };
}
